/* SPDX-License-Identifier: Apache-2.0 */
/* Which snapshots there are. Two are kept: should the newest turn out to be damaged, the one before
 * it serves as well, as long as the log reaches back to it (the owner calls log_prefix_done with no
 * more than log_snapshot_older for that reason). With neither, the node refuses to start: a state
 * that is rebuilt from half a log would be wrong without anyone noticing.
 *
 * A snapshot of a state that lives in memory is made and written by a forked child
 * (snapshot_child.c); if there can be none, it is made at once, and written from the pool. In both
 * cases it is the pool that gives the file its name, once all of it is on disk. */
#include "broker/log/internal.h"
#include "broker/log/snapshot_child.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void remember(struct log *log, uint64_t index)
{
    if (log->snapshot_count == SNAPSHOTS_READ_MAX) {
        memmove(log->snapshots, log->snapshots + 1,
                (SNAPSHOTS_READ_MAX - 1) * sizeof log->snapshots[0]);
        log->snapshot_count--;
    }
    log->snapshots[log->snapshot_count++] = index;
}

enum status snapshots_list(struct log *log, const char **error)
{
    struct buffer names = {0};
    size_t count = 0;
    int code = disk_names(log->snapshots_fd, &names, &count);
    const char *name = (const char *)names.data;
    for (size_t i = 0; i < count && code == 0; i++, name += strlen(name) + 1) {
        if (snapshot_name_parse(name) > 0)
            remember(log, snapshot_name_parse(name));
        else if (strcmp(name, "new.tmp") == 0)
            unlinkat(log->snapshots_fd, name, 0);
    }
    buffer_free(&names);
    if (code == 0)
        return STATUS_OK;
    *error = refusal("%s/snapshots: %s", log->dir, strerror(code));
    return status_from_errno(code);
}

uint64_t log_snapshot_index(const struct log *log)
{
    return log->snapshot_count > 0 ? log->snapshots[log->snapshot_count - 1] : 0;
}

uint64_t log_snapshot_older(const struct log *log)
{
    return log->snapshot_count > 1 ? log->snapshots[log->snapshot_count - 2] : 0;
}

/* ---- writing ---- */

/* wait_for_child: its status explains a missing report. */
static int wait_for_child(struct log_snapshot_put *put)
{
    while (waitpid(put->pid, &put->ended, 0) < 0 && errno == EINTR)
        continue;
    return put->error;
}

static int write_image(const struct log_disk *disk, int fd, struct log_snapshot_put *put)
{
    int error = disk_write_bytes(disk, fd, buffer_slice(&put->image), 0);
    return error != 0 ? error : disk_sync_whole(disk, fd);
}

static int write_parts(const struct log_disk *disk, int fd, struct log_snapshot_put *put)
{
    struct snapshot_sink sink;
    snapshot_begin(&sink, disk, fd, &put->snapshot);
    for (size_t i = 0; i < put->part_count; i++)
        snapshot_add(&sink, put->parts[i]);
    int error = snapshot_end(&sink);
    put->raw_bytes = sink.raw_bytes;
    put->file_bytes = sink.at;
    return error;
}

static int write_here(struct log_snapshot_put *put)
{
    const struct log *log = put->log;
    int fd = snapshot_create(log->snapshots_fd);
    if (fd < 0)
        return errno;
    int error =
        put->make != NULL ? write_image(log->disk, fd, put) : write_parts(log->disk, fd, put);
    close(fd);
    return error;
}

/* remove_old: here in the pool, since freeing the blocks takes a while; nobody but a put changes
 * the list of snapshots while there is one. */
static void remove_old(const struct log *log, uint64_t index)
{
    size_t kept = log_snapshot_index(log) == index ? SNAPSHOTS_KEPT : SNAPSHOTS_KEPT - 1;
    for (size_t i = 0; i + kept < log->snapshot_count; i++) {
        char name[SNAPSHOT_NAME_BYTES];
        snapshot_name(log->snapshots[i], name);
        unlinkat(log->snapshots_fd, name, 0);
    }
}

static void run_put(uv_work_t *work)
{
    struct log_snapshot_put *put = CONTAINER_OF(work, struct log_snapshot_put, work);
    const struct log *log = put->log;
    int error = put->pid > 0 ? wait_for_child(put) : write_here(put);
    if (error == 0)
        error = snapshot_publish(log->disk, log->snapshots_fd, put->snapshot.index);
    if (error == 0)
        remove_old(log, put->snapshot.index);
    else
        snapshot_discard(log->snapshots_fd);
    put->error = error;
}

static void forget_old(struct log *log)
{
    while (log->snapshot_count > SNAPSHOTS_KEPT) {
        log->snapshot_count--;
        memmove(log->snapshots, log->snapshots + 1, log->snapshot_count * sizeof log->snapshots[0]);
    }
}

static void note_put(struct log *log, const struct log_snapshot_put *put)
{
    log->puts++;
    log->put_bytes += put->file_bytes;
    if (log_snapshot_index(log) != put->snapshot.index)
        remember(log, put->snapshot.index);
    forget_old(log);
}

static void after_put(uv_work_t *work, int status)
{
    struct log_snapshot_put *put = CONTAINER_OF(work, struct log_snapshot_put, work);
    struct log *log = put->log;
    (void)status; /* never cancelled */
    log->putting = NULL;
    if (put->error == 0)
        note_put(log, put);
    else if (put->pid > 0 && WIFSIGNALED(put->ended) && log->closed == NULL)
        trace_warn("log", "snapshot-child-killed", "dir=\"%s\" signal=%d", log->dir,
                   WTERMSIG(put->ended));
    buffer_free(&put->image);
    put->done(put, put->error == 0 ? STATUS_OK : status_from_errno(put->error));
    incoming_proceed(log);
    log_maybe_closed(log);
}

static void queue_put(struct log_snapshot_put *put)
{
    int error = uv_queue_work(put->log->options.loop, &put->work, run_put, after_put);
    ASSERT(error == 0);
}

/* ---- by a child ---- */

/* The child's end is waited for in the pool: freeing its memory takes it a while. */
static void on_poll_closed(uv_handle_t *handle)
{
    struct log_snapshot_put *put = CONTAINER_OF(handle, struct log_snapshot_put, poll);
    close(put->fd);
    queue_put(put);
}

static void on_report(uv_poll_t *poll, int status, int events)
{
    struct log_snapshot_put *put = CONTAINER_OF(poll, struct log_snapshot_put, poll);
    struct snapshot_report report;
    (void)status;
    (void)events;
    ssize_t got = read(put->fd, &report, sizeof report);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    bool whole = got == (ssize_t)sizeof report; /* else it has died */
    put->error = whole ? report.error : EIO;
    put->raw_bytes = whole ? report.raw_bytes : 0;
    put->file_bytes = whole ? report.file_bytes : 0;
    uv_close((uv_handle_t *)poll, on_poll_closed);
}

static int start_child(struct log_snapshot_put *put)
{
    struct log *log = put->log;
    struct snapshot_child child;
    uint64_t begun_ns = clock_monotonic_ns();
    int error = snapshot_child_start(&child, log->disk, log->snapshots_fd, &put->snapshot,
                                     put->make, put->make_data);
    if (error != 0)
        return error;
    put->fork_ns = clock_monotonic_ns() - begun_ns;
    if (put->fork_ns > log->fork_ns_max)
        log->fork_ns_max = put->fork_ns;
    put->pid = child.pid;
    put->fd = child.fd;
    error = uv_poll_init(log->options.loop, &put->poll, put->fd);
    ASSERT(error == 0);
    error = uv_poll_start(&put->poll, UV_READABLE, on_report);
    ASSERT(error == 0);
    return 0;
}

void snapshots_stop(struct log *log)
{
    struct log_snapshot_put *put = log->putting;
    if (put != NULL && put->pid > 0 && !uv_is_closing((uv_handle_t *)&put->poll))
        kill(put->pid, SIGKILL); /* not waited for yet, so the number is still its own */
}

/* ---- without one ---- */

static void grow_to(struct buffer *image, size_t length)
{
    if (length <= image->length)
        return;
    memset(buffer_reserve(image, length - image->length), 0, length - image->length);
    buffer_added(image, length - image->length);
}

static ssize_t memory_write(void *data, int fd, const struct iovec *parts, int count, off_t offset)
{
    struct buffer *image = data;
    size_t at = (size_t)offset;
    (void)fd;
    for (int i = 0; i < count; at += parts[i++].iov_len) {
        grow_to(image, at + parts[i].iov_len);
        memcpy(image->data + at, parts[i].iov_base, parts[i].iov_len);
    }
    return (ssize_t)(at - (size_t)offset);
}

static int memory_sync(void *data, int fd, bool whole)
{
    (void)data;
    (void)fd;
    (void)whole;
    return 0;
}

/* make_image: the file, in memory. */
static void make_image(struct log_snapshot_put *put)
{
    struct log_disk memory = {&put->image, memory_write, memory_sync, NULL};
    struct snapshot_sink sink;
    snapshot_begin(&sink, &memory, -1, &put->snapshot);
    put->make(put->make_data, &sink);
    int error = snapshot_end(&sink);
    ASSERT(error == 0); /* no disk took part */
    put->raw_bytes = sink.raw_bytes;
    put->file_bytes = sink.at;
}

void log_snapshot_put(struct log *log, struct log_snapshot_put *put)
{
    ASSERT(log->putting == NULL);
    ASSERT(log->incoming == NULL);
    ASSERT(put->snapshot.index >= log_snapshot_index(log));
    put->log = log;
    put->pid = 0;
    put->error = 0;
    put->image = (struct buffer){0};
    log->putting = put;
    int error = put->make != NULL ? start_child(put) : ENOTSUP;
    if (error == 0)
        return;
    if (put->make != NULL) {
        trace_warn("log", "snapshot-without-child",
                   "dir=\"%s\" error=\"%s\" effect=\"answers wait while it is made\"", log->dir,
                   strerror(error));
        make_image(put);
    }
    queue_put(put);
}

/* ---- reading ---- */

static enum status load_one(struct log *log, uint64_t index, struct log_snapshot *out)
{
    char name[SNAPSHOT_NAME_BYTES];
    struct buffer file = {0};
    snapshot_name(index, name);
    int code = disk_read_file(log->snapshots_fd, name, &file);
    enum status status =
        code != 0 ? status_from_errno(code) : snapshot_decode(buffer_slice(&file), out);
    buffer_free(&file);
    if (status == STATUS_OK && out->index != index) {
        log_snapshot_free(out);
        status = STATUS_CORRUPT;
    }
    if (status != STATUS_OK)
        trace_error("log", "bad-snapshot", "file=\"%s/snapshots/%s\" error=\"%s\"", log->dir, name,
                    status_text(status));
    return status;
}

/* reaches: does the log go on right behind `index`? */
static bool reaches(const struct log *log, uint64_t index)
{
    return log_first_index(log) <= index + 1 && log_last_index(log) >= index;
}

/* forget_after: a damaged snapshot must not count as one of the two that are kept. */
static void forget_after(struct log *log, size_t count)
{
    while (log->snapshot_count > count) {
        char name[SNAPSHOT_NAME_BYTES];
        char bad[SNAPSHOT_NAME_BYTES + 8];
        snapshot_name(log->snapshots[--log->snapshot_count], name);
        snprintf(bad, sizeof bad, "%s.bad", name);
        renameat(log->snapshots_fd, name, log->snapshots_fd, bad);
    }
}

enum status log_snapshot_load(struct log *log, struct log_snapshot *out, const char **error)
{
    *out = (struct log_snapshot){0};
    for (size_t i = log->snapshot_count; i > 0; i--) {
        uint64_t index = log->snapshots[i - 1];
        if (!reaches(log, index))
            break;
        if (load_one(log, index, out) == STATUS_OK) {
            forget_after(log, i);
            return STATUS_OK;
        }
    }
    bool whole = log_first_index(log) == 1 && log_last_index(log) > 0;
    if (whole || (log->snapshot_count == 0 && log_last_index(log) == 0)) {
        forget_after(log, 0);
        return STATUS_OK;
    }
    *error = refusal("%s: the entries on disk are %" PRIu64 " to %" PRIu64
                     ", and no good snapshot leads up to them (the newest is of entry %" PRIu64
                     "). Segments or snapshots are missing or damaged: restore them from a copy, "
                     "or replace this node",
                     log->dir, log_first_index(log), log_last_index(log), log_snapshot_index(log));
    return STATUS_CORRUPT;
}
