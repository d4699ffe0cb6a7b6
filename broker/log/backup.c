/* SPDX-License-Identifier: Apache-2.0 */
/* Which files a backup consists of. Snapshots are linked before segments: what is being removed in
 * the pool meanwhile is needed by no snapshot that is there now.
 *
 * The last segment in it is cut behind the last entry: what follows may be half written. So its
 * footer is left out, if it has one, and a start scans it like any last segment. */
#include "broker/log/backup.h"
#include "broker/log/internal.h"
#include "broker/log/staging.h"
#include "proto/base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct log_backup {
    struct log *log;
    int fd; /* of the folder with the links */
    uint64_t index;
    uint64_t term;
    struct log_backup_file *files;
    size_t count;
    uint32_t reads; /* under way */
    bool ended;
};

/* ---- beginning ---- */

/* add: link a file of `folder` and note it; all of it counts if `bytes` is 0. */
static int add(struct log_backup *backup, int folder_fd, const char *folder, const char *name,
               uint64_t bytes)
{
    struct stat about;
    if (linkat(folder_fd, name, backup->fd, name, 0) != 0 ||
        fstatat(backup->fd, name, &about, 0) != 0)
        return errno;
    struct log_backup_file *file = &backup->files[backup->count++];
    snprintf(file->name, sizeof file->name, "%s/%s", folder, name);
    file->bytes = bytes > 0 ? bytes : (uint64_t)about.st_size;
    return file->bytes <= (uint64_t)about.st_size ? 0 : EIO;
}

static int add_snapshot(struct log_backup *backup)
{
    char name[SNAPSHOT_NAME_BYTES];
    uint64_t index = log_snapshot_index(backup->log);
    if (index == 0)
        return 0;
    snapshot_name(index, name);
    return add(backup, backup->log->snapshots_fd, "snapshots", name, 0);
}

/* bytes_until: of this segment, up to and with entry `index`; 0: all of it. */
static uint64_t bytes_until(const struct segment *segment, uint64_t index)
{
    uint32_t slot;
    if (segment->numbers != NULL || segment_last(segment) < index)
        return segment->sealed ? 0 : segment->end;
    if (index < segment->head.first_index || !segment_slot(segment, index, &slot))
        return SEGMENT_HEAD_BYTES;
    return (uint64_t)segment->offsets[slot] + segment_slot_bytes(segment, slot);
}

/* add_segments: the one behind the last entry only where it alone says which index comes next:
 * after a snapshot of another node was taken over. */
static int add_segments(struct log_backup *backup)
{
    struct log *log = backup->log;
    const struct segment *holder = segments_find(log, backup->index);
    bool next_wanted = holder == NULL || holder->numbers != NULL;
    char name[NAME_BYTES];
    int error = 0;
    for (size_t i = 0; i < log->segment_count && error == 0; i++) {
        const struct segment *segment = log->segments[i];
        uint64_t first = segment->head.first_index;
        if (first > backup->index && (!next_wanted || first > backup->index + 1))
            continue;
        segment_name(first, name);
        error =
            add(backup, log->segments_fd, "segments", name, bytes_until(segment, backup->index));
    }
    return error;
}

static void remove_links(struct log_backup *backup)
{
    if (backup->fd >= 0)
        close(backup->fd);
    folder_remove(backup->log->dir_fd, BACKUP_NAME);
}

static void backup_free(struct log_backup *backup)
{
    struct log *log = backup->log;
    remove_links(backup);
    free(backup->files);
    free(backup);
    log->backing_up = false;
    log->exports--;
    log_maybe_closed(log);
}

static int fill(struct log_backup *backup)
{
    struct log *log = backup->log;
    folder_remove(log->dir_fd, BACKUP_NAME);
    int error = mkdirat(log->dir_fd, BACKUP_NAME, 0700) == 0 ? 0 : errno;
    if (error == 0) {
        backup->fd = openat(log->dir_fd, BACKUP_NAME, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        error = backup->fd >= 0 ? 0 : errno;
    }
    if (error == 0)
        error = add_snapshot(backup);
    return error != 0 ? error : add_segments(backup);
}

enum status log_backup_begin(struct log *log, uint64_t index, struct log_backup **out)
{
    if (log->backing_up)
        return STATUS_EXISTS;
    if (index == 0)
        return STATUS_NOT_FOUND;
    if (index > log->durable_index || index < log_snapshot_index(log) || log->incoming != NULL ||
        log->cuts > 0)
        return STATUS_BUSY;
    struct log_backup *backup = calloc(1, sizeof *backup);
    ASSERT(backup != NULL);
    *backup = (struct log_backup){.log = log, .fd = -1, .index = index, .term = log->meta.term};
    backup->files = calloc(log->segment_count + 1, sizeof *backup->files);
    ASSERT(backup->files != NULL);
    log->exports++;
    log->backing_up = true;
    int error = fill(backup);
    if (error != 0) {
        backup_free(backup);
        return error == ENOENT ? STATUS_BUSY : status_from_errno(error);
    }
    *out = backup;
    return STATUS_OK;
}

void log_backup_view(const struct log_backup *backup, struct log_backup_view *out)
{
    *out = (struct log_backup_view){backup->index, backup->term, backup->files, backup->count};
}

/* ---- reading ---- */

static void run_read(uv_work_t *work)
{
    struct log_backup_read *read = CONTAINER_OF(work, struct log_backup_read, work);
    const char *name = strchr(read->backup->files[read->file].name, '/') + 1;
    size_t got = 0;
    int fd = openat(read->backup->fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        read->error = errno;
        return;
    }
    buffer_clear(&read->out);
    read->error = disk_read(fd, buffer_reserve(&read->out, read->length), read->length,
                            read->offset, false, &got);
    buffer_added(&read->out, got);
    if (read->error == 0 && got < read->length)
        read->error = EIO;
    close(fd);
}

static void after_read(uv_work_t *work, int status)
{
    struct log_backup_read *read = CONTAINER_OF(work, struct log_backup_read, work);
    struct log_backup *backup = read->backup;
    (void)status; /* never cancelled */
    read->done(read, read->error == 0 ? STATUS_OK : STATUS_IO_ERROR);
    backup->reads--;
    if (backup->ended && backup->reads == 0)
        backup_free(backup);
}

void log_backup_read(struct log_backup *backup, struct log_backup_read *read)
{
    ASSERT(!backup->ended && read->file < backup->count);
    uint64_t bytes = backup->files[read->file].bytes;
    uint64_t left = read->offset < bytes ? bytes - read->offset : 0;
    read->length = read->length < LOG_BACKUP_READ_MAX ? read->length : LOG_BACKUP_READ_MAX;
    read->length = read->length < left ? read->length : (size_t)left;
    read->backup = backup;
    read->error = 0;
    backup->reads++;
    int rv = uv_queue_work(backup->log->options.loop, &read->work, run_read, after_read);
    ASSERT(rv == 0);
}

void log_backup_end(struct log_backup *backup)
{
    ASSERT(!backup->ended);
    backup->ended = true;
    if (backup->reads == 0)
        backup_free(backup);
}
