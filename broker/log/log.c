/* SPDX-License-Identifier: Apache-2.0 */
/* The log as its owner sees it: opening, appending, truncating, holding.
 *
 * The loop decides the moment they are appended which entries stand in which segment; the writer
 * carries that out in the same order, and says where in it each has come to stand, which depends on
 * how far it could be packed. So the state in memory always describes the log as it will be when
 * the queue is empty, but for the offsets of what is still to be written, and log_durable_index
 * says how much of it is on disk.
 *
 *     DIR/meta-1, meta-2      term and vote (meta.c)
 *     DIR/segments/N.seg      entries from N on (frame.c, writer.c, recover.c)
 *     DIR/segments/spare-N    files to be used again
 *     DIR/snapshots/N.snap    state after entry N (snapshot_file.c, snapshot_store.c)
 *     DIR/backup              links for a backup that is being read (backup.c)
 *     DIR/incoming-N, install what another node sends, until it is taken over (incoming.c,
 * install.c)
 *
 * I1  Once there has been an entry there is a segment, also after everything was truncated: it says
 *     which index comes next.
 * I2  A segment's frames carry the indexes first_index, first_index + 1, ... without a gap, unless
 *     it was rewritten (rewrite.c).
 * I3  The unbroken run at the end (log_first_index) has no rewritten segment in it. */
#include "broker/core/types.h"
#include "broker/log/internal.h"
#include "broker/log/owed.h"
#include "broker/log/staging.h"
#include "broker/log/unit.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* ---- opening and closing ---- */

static void free_log(struct log *log)
{
    for (size_t i = 0; i < log->segment_count; i++)
        segment_free(log->segments[i]);
    free(log->segments);
    packer_free(&log->packer);
    buffer_free(&log->packed);
    shelf_drop(log->shelf);
    if (log->snapshots_fd >= 0)
        close(log->snapshots_fd);
    if (log->segments_fd >= 0)
        close(log->segments_fd);
    if (log->dir_fd >= 0)
        close(log->dir_fd);
    free(log->dir);
    free(log);
}

static enum status refuse_errno(const struct log *log, const char *what, int code,
                                const char **error)
{
    *error = refusal("%s%s: %s", log->dir, what, strerror(code));
    return status_from_errno(code);
}

static enum status open_folders(struct log *log, const char **error)
{
    if (mkdir(log->dir, 0700) != 0 && errno != EEXIST)
        return refuse_errno(log, "", errno, error);
    log->dir_fd = open(log->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (log->dir_fd < 0)
        return refuse_errno(log, "", errno, error);
    int code = disk_make_dir(log->disk, log->dir_fd, "segments", &log->segments_fd);
    if (code != 0)
        return refuse_errno(log, "/segments", code, error);
    log->owed_index = owed_load(log->dir_fd);
    code = disk_make_dir(log->disk, log->dir_fd, "snapshots", &log->snapshots_fd);
    return code == 0 ? STATUS_OK : refuse_errno(log, "/snapshots", code, error);
}

static enum status check_owner(struct log *log, const char **error)
{
    const struct log_options *options = &log->options;
    if (log->meta.node_id != options->node_id) {
        *error = refusal("%s belongs to node %" PRIu64 ", and this is node %" PRIu64
                         ": give this node its own data directory, or the right --node-id",
                         log->dir, log->meta.node_id, options->node_id);
        return STATUS_INVALID;
    }
    if (log->meta.shard_id != options->shard_id) {
        *error = refusal("%s belongs to shard %" PRIu64 ", not to shard %" PRIu64
                         ": the folders were mixed up",
                         log->dir, log->meta.shard_id, options->shard_id);
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

static enum status open_meta(struct log *log, const char **error)
{
    enum status status = meta_load(log->dir_fd, &log->meta);
    /* The first write of all was torn, or failed: nothing was voted or stored before it. */
    if (status == STATUS_CORRUPT && meta_is_first(log->dir_fd) && log->segment_count == 0 &&
        log->snapshot_count == 0)
        status = STATUS_OK;
    if (status == STATUS_UNSUPPORTED)
        *error = refusal("%s was written by a later version of this program", log->dir);
    else if (status != STATUS_OK)
        *error = refusal("%s: neither meta-1 nor meta-2 is readable and whole, so this node's term "
                         "and vote are unknown. Restore one from a copy, or replace this node",
                         log->dir);
    if (status == STATUS_OK && log->meta.sequence > 0)
        status = check_owner(log, error);
    if (status == STATUS_OK && log->meta.sequence > 0 && log->meta.format < META_FORMAT) {
        /* Before anything is written that an older program would take for a torn write. */
        int code = meta_store(log->disk, log->dir_fd, &log->meta);
        return code == 0 ? STATUS_OK : refuse_errno(log, "/meta-1", code, error);
    }
    if (status != STATUS_OK || log->meta.sequence > 0)
        return status;
    if (log->segment_count > 0 || log->snapshot_count > 0) {
        *error = refusal("%s has entries, but meta-1 and meta-2 are missing, so this node's term "
                         "and vote are unknown. Restore one from a copy, or replace this node",
                         log->dir);
        return STATUS_CORRUPT;
    }
    log->meta =
        (struct log_meta){.node_id = log->options.node_id, .shard_id = log->options.shard_id};
    int code = meta_store(log->disk, log->dir_fd, &log->meta);
    return code == 0 ? STATUS_OK : refuse_errno(log, "/meta-1", code, error);
}

int log_sync_last(const struct log *log)
{
    char name[NAME_BYTES];
    const struct segment *last = segments_last(log);
    if (last == NULL)
        return 0;
    segment_name(last->head.first_index, name);
    return disk_sync_name(log->disk, log->segments_fd, name);
}

/* make_durable: what a process wrote and did not sync before it ended may be in the kernel's memory
 * only, and a power failure would still take it away. It was read, and is believed and built upon
 * from here on, so it has to be on disk first. (Segments before the last were synced before the
 * next one was made.) */
static enum status make_durable(struct log *log, const char **error)
{
    int code = disk_sync_parent(log->disk, log->dir);
    if (code == 0)
        code = log_sync_last(log);
    if (code == 0)
        code = meta_sync(log->disk, log->dir_fd);
    if (code == 0)
        code = disk_sync_whole(log->disk, log->segments_fd);
    if (code == 0)
        code = disk_sync_whole(log->disk, log->snapshots_fd);
    if (code == 0)
        code = disk_sync_whole(log->disk, log->dir_fd);
    return code == 0 ? STATUS_OK : refuse_errno(log, "", code, error);
}

static enum status recover(struct log *log, const char **error)
{
    enum status status = open_folders(log, error);
    if (status == STATUS_OK)
        folder_remove(log->dir_fd, BACKUP_NAME); /* a crash left it */
    if (status == STATUS_OK)
        status = install_recover(log, error);
    if (status == STATUS_OK)
        status = snapshots_list(log, error);
    if (status == STATUS_OK)
        status = recover_segments(log, error);
    if (status == STATUS_OK)
        status = open_meta(log, error);
    /* What stands before the unbroken run can serve no replay. */
    log->done_index = log_first_index(log) - 1;
    if (status == STATUS_OK)
        status = make_durable(log, error);
    return status;
}

enum status log_open(struct log **out, const struct log_options *options, const char **error)
{
    struct log *log = calloc(1, sizeof *log);
    ASSERT(log != NULL);
    log->options = *options;
    if (log->options.segment_bytes == 0)
        log->options.segment_bytes = LOG_SEGMENT_BYTES_DEFAULT;
    ASSERT(log->options.segment_bytes >= LOG_SEGMENT_BYTES_MIN);
    ASSERT(log->options.segment_bytes <= LOG_SEGMENT_BYTES_MAX);
    log->disk = options->disk != NULL ? options->disk : &log_disk_real;
    log->dir = strdup(options->dir);
    ASSERT(log->dir != NULL);
    log->options.dir = log->dir;
    log->dir_fd = log->segments_fd = log->snapshots_fd = -1;
    log->next_index = 1;
    log->cut_floor = UINT64_MAX;
    enum status status = recover(log, error);
    if (status != STATUS_OK) {
        free_log(log);
        return status;
    }
    *out = log;
    return STATUS_OK;
}

static void on_thread_closed(void *data)
{
    struct log *log = data;
    log->thread = NULL;
    log->thread_closing = false;
    log_maybe_closed(log);
}

void log_maybe_closed(struct log *log)
{
    bool busy = log->writing || log->in_callbacks || log->removal != NULL || log->shrinks > 0 ||
                log->putting != NULL || log->reads > 0 || log->queue.first != NULL ||
                log->rewrite != NULL || log->pace_open || log->incoming != NULL ||
                log->incoming_ends > 0 || log->exports > 0;
    if (log->closed == NULL || busy || log->thread_closing)
        return;
    if (log->thread != NULL) {
        log->thread_closing = true;
        write_thread_close(log->thread, on_thread_closed, log);
        return;
    }
    void (*closed)(void *data) = log->closed;
    void *data = log->closed_data;
    free_log(log);
    closed(data);
}

void log_close(struct log *log, void (*closed)(void *data), void *data)
{
    ASSERT(log->closed == NULL);
    log->closed = closed;
    log->closed_data = data;
    log->reclaim = false; /* what is queued is enough work */
    rewrite_close(log);
    snapshots_stop(log);
    incoming_close(log);
    writer_kick(log);
    log_maybe_closed(log);
}

/* ---- term and vote ---- */

uint64_t log_term(const struct log *log)
{
    return log->meta.term;
}

uint64_t log_vote(const struct log *log)
{
    return log->meta.vote;
}

static enum status store_meta(struct log *log, uint64_t term, uint64_t vote)
{
    struct log_meta meta = log->meta;
    meta.term = term;
    meta.vote = vote;
    int code = log->failed ? EIO : meta_store(log->disk, log->dir_fd, &meta);
    if (code == 0) {
        log->meta = meta;
        return STATUS_OK;
    }
    if (!log->failed)
        log_fatal(log,
                  refusal("storing the term or vote in %s failed: %s", log->dir, strerror(code)));
    return STATUS_IO_ERROR;
}

enum status log_set_term(struct log *log, uint64_t term)
{
    return store_meta(log, term, 0);
}

enum status log_set_vote(struct log *log, uint64_t node_id)
{
    return store_meta(log, log->meta.term, node_id);
}

/* ---- entries ---- */

uint64_t log_last_index(const struct log *log)
{
    return log->next_index - 1;
}

uint64_t log_first_index(const struct log *log)
{
    uint64_t first = log->next_index;
    for (size_t i = log->segment_count; i > 0; i--) {
        const struct segment *segment = log->segments[i - 1];
        if (segment_last(segment) + 1 != first || segment->numbers != NULL)
            break;
        first = segment->head.first_index;
    }
    return first;
}

uint64_t log_durable_index(const struct log *log)
{
    return log->durable_index;
}

static void open_next(struct log *log, uint64_t need)
{
    uint64_t id;
    uint64_t size = log->options.segment_bytes;
    clock_random(&id, sizeof id);
    if (size < SEGMENT_HEAD_BYTES + need)
        size = SEGMENT_HEAD_BYTES + need;
    ASSERT(size <= UINT32_MAX);
    struct segment *segment = segment_new(id, log->next_index, (uint32_t)size);
    struct op op = {.type = OP_OPEN, .segment = segment};
    if (log->spare_count > 0)
        memcpy(op.spare, log->spares[--log->spare_count], NAME_BYTES);
    segments_add(log, segment);
    writer_add(log, op);
}

static void seal(struct log *log, struct segment *segment)
{
    ASSERT(!segment->sealed);
    ASSERT(segment->count > 0);
    segment->sealed = true;
    writer_add(log, (struct op){.type = OP_SEAL, .segment = segment});
}

/* room_for: the segment that takes the next frame. */
static struct segment *room_for(struct log *log, uint32_t bytes)
{
    struct segment *last = segments_last(log);
    if (last != NULL && !last->sealed && (uint64_t)last->end + last->reserved + bytes <= last->size)
        return last;
    /* An empty one that is too small grows: there may not be two with the same first index. */
    if (last != NULL && last->count == 0) {
        last->size = last->end + bytes;
        last->file_bytes = last->size;
        return last;
    }
    if (last != NULL && !last->sealed)
        seal(log, last);
    open_next(log, bytes);
    return segments_last(log);
}

static void append_one(struct log *log, const struct log_entry *entry, struct log_append *append)
{
    ASSERT(entry->index == log->next_index);
    ASSERT(entry->payload.length <= FRAME_PAYLOAD_MAX);
    uint32_t length = (uint32_t)entry->payload.length;
    struct segment *segment = room_for(log, frame_bytes(length));
    struct op op = {.type = OP_WRITE, .segment = segment, .entry = *entry, .append = append};
    segment_add_frame(segment, length);
    log->next_index++;
    writer_add(log, op);
}

void log_append(struct log *log, struct log_append *append, const struct log_entry *entries,
                size_t count)
{
    ASSERT(count > 0);
    ASSERT(log->incoming == NULL);
    for (size_t i = 0; i < count; i++)
        append_one(log, &entries[i], i + 1 == count ? append : NULL);
    writer_kick(log);
}

enum status log_append_now(struct log *log, const struct log_entry *entries, size_t count)
{
    ASSERT(log->queue.first == NULL);
    for (size_t i = 0; i < count; i++)
        append_one(log, &entries[i], NULL);
    return writer_run_now(log);
}

/* drop_tail: remove whole segments that begin at `index` or later. */
static void drop_tail(struct log *log, uint64_t index, bool replace)
{
    for (struct segment *last; (last = segments_last(log)) != NULL;) {
        if (last->head.first_index < index)
            break;
        ASSERT(last->holds == 0);
        segments_remove(log, last);
        struct op op = {.type = OP_REMOVE, .segment = last, .file = -1};
        op.replaced = replace && last->head.first_index == index;
        writer_add(log, op);
        if (op.replaced) {
            log->next_index = index;
            open_next(log, 0);
        }
        if (op.replaced)
            break;
    }
}

static void cut(struct log *log, uint64_t index, bool replace)
{
    drop_tail(log, index, replace);
    struct segment *last = segments_last(log);
    struct op op = {.type = OP_CUT, .entry = {.index = index}};
    if (last != NULL && index <= segment_last(last)) {
        segment_cut(last, (uint32_t)(index - last->head.first_index));
        last->sealed = false;
        op.segment = last;
    }
    writer_add(log, op);
    log->cuts++;
    log->cut_floor = index < log->cut_floor ? index : log->cut_floor;
    if (log->durable_index >= index)
        log->durable_index = index - 1;
    if (last != NULL && !last->sealed && last->count > 0)
        seal(log, last);
    log->next_index = index;
}

void log_cut(struct log *log, uint64_t index)
{
    cut(log, index, false);
}

void log_truncate(struct log *log, uint64_t index)
{
    ASSERT(index > 0);
    ASSERT(log->incoming == NULL);
    if (index >= log->next_index)
        return;
    /* A segment that is dropped whole gives its name to the next one, in one step: what stands
     * before it may be a snapshot that was taken over, and then it alone says where the log ends.
     */
    cut(log, index, true);
    if (log->segment_count == 0) /* I1 */
        open_next(log, 0);
    writer_kick(log);
}

void log_prefix_done(struct log *log, uint64_t index)
{
    if (index <= log->done_index)
        return;
    log->done_index = index;
    removal_consider(log);
    rewrite_consider(log, NULL);
}

void log_hold(struct log *log, struct body_ref ref)
{
    struct segment *segment = segments_find(log, ref.index);
    if (segment != NULL && segment_hold(segment, ref))
        return;
    log->missing++;
    log->missing_index = ref.index;
}

void log_release(struct log *log, struct body_ref ref)
{
    struct segment *segment = segments_find(log, ref.index);
    if (segment == NULL || !segment_release(segment, ref)) {
        ASSERT(log->missing > 0);
        log->missing--;
        return;
    }
    if (segment->holds == 0)
        segment_consider(log, segment);
    else
        rewrite_consider(log, segment);
}

uint64_t log_missing(const struct log *log, uint64_t *index)
{
    *index = log->missing_index;
    return log->missing;
}

uint64_t log_owed_index(const struct log *log)
{
    return log->owed_index;
}

void log_reclaim_begin(struct log *log)
{
    log->reclaim = true;
    rewrite_open(log);
    removal_consider(log);
    rewrite_consider(log, NULL);
}

/* ---- loading ---- */

struct loading {
    struct log *log;
    void (*visit)(void *data, const struct log_entry *entry);
    void *data;
    struct buffer bytes;
    struct buffer scratch;
};

static bool visit_frame(struct loading *l, const struct segment *segment, uint32_t n, uint32_t base)
{
    struct slice at = slice_sub(buffer_slice(&l->bytes), segment->offsets[n] - base);
    struct slice payload;
    struct frame frame;
    if (!frame_head_decode(at, segment->head.id, &frame) || frame.sparse ||
        frame.index != segment->head.first_index + n ||
        !frame_payload(at, &frame, &l->scratch, &payload))
        return false;
    struct log_entry entry = {frame.index, frame.term, frame.type, payload};
    l->visit(l->data, &entry);
    return true;
}

static enum status load_segment(struct loading *l, struct segment *segment, uint64_t from,
                                const char **error)
{
    char name[NAME_BYTES];
    uint32_t n =
        from > segment->head.first_index ? (uint32_t)(from - segment->head.first_index) : 0;
    ASSERT(segment->numbers == NULL); /* I3 */
    uint32_t base = segment->offsets[n];
    size_t length = segment->end - base;
    size_t got = 0;
    segment_name(segment->head.first_index, name);
    int code = segment_open_file(l->log, segment);
    buffer_clear(&l->bytes);
    if (code == 0)
        code = disk_read(segment->fd, buffer_reserve(&l->bytes, length), length, base, false, &got);
    if (code != 0) {
        *error = refusal("%s/segments/%s: %s", l->log->dir, name, strerror(code));
        return status_from_errno(code);
    }
    buffer_added(&l->bytes, got);
    for (; n < segment->count; n++) {
        if (segment->offsets[n] - base < got && visit_frame(l, segment, n, base))
            continue;
        *error = refusal("%s/segments/%s is damaged at byte %u: entry %" PRIu64 " does not match "
                         "its checksum. Restore the file from a copy, or replace this node",
                         l->log->dir, name, segment->offsets[n], segment->head.first_index + n);
        return STATUS_CORRUPT;
    }
    return STATUS_OK;
}

enum status log_load(struct log *log, uint64_t from,
                     void (*visit)(void *data, const struct log_entry *entry), void *data,
                     const char **error)
{
    struct loading l = {.log = log, .visit = visit, .data = data};
    enum status status = STATUS_OK;
    ASSERT(from >= log_first_index(log));
    for (size_t i = 0; i < log->segment_count && status == STATUS_OK; i++) {
        struct segment *segment = log->segments[i];
        if (segment->count > 0 && segment_last(segment) >= from)
            status = load_segment(&l, segment, from, error);
    }
    buffer_free(&l.bytes);
    buffer_free(&l.scratch);
    return status;
}

/* ---- seeing inside ---- */

void log_stats(const struct log *log, struct log_stats *out)
{
    *out =
        (struct log_stats){.bytes_written = log->bytes_written,
                           .bytes_saved = log->bytes_saved,
                           .syncs = log->syncs,
                           .segments = log->segment_count,
                           .rewrites = log->rewrites,
                           .bytes_rewritten = log->bytes_rewritten,
                           .bytes_on_disk = (uint64_t)log->spare_count * log->options.segment_bytes,
                           .snapshots = log->puts,
                           .snapshot_bytes_written = log->put_bytes,
                           .snapshot_fork_ns_max = log->fork_ns_max,
                           .snapshot_pid = log->putting != NULL ? log->putting->pid : 0};
    for (size_t i = 0; i < log->segment_count; i++) {
        out->bytes_on_disk += log->segments[i]->file_bytes;
        out->holds += log->segments[i]->holds;
        out->live_bytes += log->segments[i]->live_bytes;
    }
}

enum status log_disk_free(const struct log *log, uint64_t *out)
{
    struct statvfs info;
    if (fstatvfs(log->dir_fd, &info) != 0)
        return status_from_errno(errno);
    *out = (uint64_t)info.f_bavail * info.f_frsize;
    return STATUS_OK;
}
