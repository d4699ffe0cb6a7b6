/* SPDX-License-Identifier: Apache-2.0 */
/* The one place where segment files change. The loop decides what shall be where and queues
 * operations; a job takes all that are queued and does them in order in the log's own thread
 * (write_thread.h); when it has ended, the loop tells the callers and starts the next. So one write
 * and one sync are under way at a time, and whatever arrives meanwhile shares the next ones (group
 * commit).
 *
 *     OPEN    a spare file (or a new one) gets a header and its name
 *     WRITE   one frame, packed if that pays (packer.h); neighbours go into one pwritev
 *     SEAL    sync the frames, append the footer, cut the file to its length, sync
 *     CUT     shorten a segment: entries were truncated
 *     REMOVE  unlink a segment, or keep it as a spare; what else there is to do follows (removal.c)
 *     SWITCH  let the rewritten file take the segment's name (rewrite.c)
 *     INSTALL move the files that came from another node to where they belong (install.c)
 *
 * I1  A segment's file is sealed before the next one exists, so only the last may be unsealed.
 * I2  A file under a segment's name has a synced header: it is written and synced as a spare and
 * then renamed, and the folder is synced before the first frame is answered for. I3  A recycled
 * file's old name is gone from the folder for good before its bytes change. I4  Nothing is tried
 * twice. The first error is the process's last (log_fatal): after a failed sync the kernel may have
 * dropped the pages, and a second one would lie.
 * I5  Bodies go only when what released them is on disk: a node may apply an entry that the others
 * have committed before its own copy is synced. Entries are queued before they are applied, so it
 * is enough to sync what was written before.
 * I6  The thread decides where in its segment a frame comes to stand: behind the one before. The
 * loop is told when the job has ended, and then knows every offset; so what needs them, SEAL and
 * CUT, is never in a job behind a WRITE, and gets its offset and its footer when its job is taken.
 */
#include "broker/log/internal.h"
#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define RUN_FRAMES_MAX 256u
#define NEW_FILE_NAME  "new.tmp"
#define PAGE_BYTES     4096u
#define ZEROS_BYTES    (64u << 10)
#define PIECE_BYTES    (256u << 10) /* of zeros behind a small write */
#define SMALL_BYTES    (PIECE_BYTES / 8)

/* ---- in the thread ---- */

static int close_after(int fd, int error)
{
    close(fd);
    return error;
}

static int open_by_name(struct log *log, const struct segment *segment, int *fd)
{
    char name[NAME_BYTES];
    segment_name(segment->head.first_index, name);
    *fd = openat(log->segments_fd, name, O_RDWR | O_CLOEXEC);
    return *fd >= 0 ? 0 : errno;
}

static int set_size(int fd, uint64_t bytes)
{
    if (ftruncate(fd, (off_t)bytes) != 0)
        return errno;
    return posix_fallocate(fd, 0, (off_t)bytes);
}

/* bytes_in: of a spare, written when it was a segment. */
static uint32_t bytes_in(int fd)
{
    struct stat about;
    bool known = fstat(fd, &about) == 0 && about.st_size >= 0;
    return known && (uint64_t)about.st_size <= UINT32_MAX ? (uint32_t)about.st_size : 0;
}

static int run_open(struct job *job, struct op *op)
{
    struct log *log = job->log;
    struct segment *segment = op->segment;
    const char *from = op->spare[0] != '\0' ? op->spare : NEW_FILE_NAME;
    char name[NAME_BYTES];
    uint8_t head[SEGMENT_HEAD_BYTES];
    job->doing = "creating a segment";
    segment->fd = openat(log->segments_fd, from, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (segment->fd < 0)
        return errno;
    segment_head_encode(&segment->head, head);
    segment_name(segment->head.first_index, name);
    segment->filled = bytes_in(segment->fd);
    int error = set_size(segment->fd, segment->size);
    if (error == 0)
        error = disk_write_bytes(log->disk, segment->fd, slice_make(head, sizeof head), 0);
    if (error == 0)
        error = disk_sync_whole(log->disk, segment->fd);
    if (error == 0)
        error = disk_rename(log->disk, log->segments_fd, from, log->segments_fd, name);
    job->syncs += 2;
    return error != 0 ? error : disk_sync_whole(log->disk, log->segments_fd);
}

/* Frames that follow each other in one segment, on their way into one pwritev. */
struct run {
    struct iovec parts[3 * RUN_FRAMES_MAX + PIECE_BYTES / ZEROS_BYTES + 1];
    int used;
    struct buffer heads;
};

static void run_add(struct run *run, const uint8_t *bytes, size_t length)
{
    if (length > 0)
        run->parts[run->used++] = (struct iovec){(void *)(uintptr_t)bytes, length};
}

/* pack: the payload as it will stand in the file. */
static struct slice pack(struct log *log, struct slice payload, uint16_t units[UNITS_MAX])
{
    if (log->options.unpacked || !packer_wants(&log->packer, (uint32_t)payload.length))
        return payload;
    uint8_t *out = log->packed.data + log->packed.length;
    uint32_t bytes = packer_pack(&log->packer, payload, units, out);
    buffer_added(&log->packed, bytes);
    return bytes > 0 ? slice_make(out, bytes) : payload;
}

static void add_frame(struct job *job, struct run *run, struct op *op)
{
    static const uint8_t padding[8] = {0};
    uint16_t units[UNITS_MAX];
    struct slice payload = op->entry.payload;
    struct slice stored = pack(job->log, payload, units);
    struct frame frame = {.index = op->entry.index,
                          .term = op->entry.term,
                          .synced_index = job->synced_index,
                          .length = (uint32_t)payload.length,
                          .type = op->entry.type,
                          .packed = stored.length < payload.length};
    uint32_t head_bytes = frame_head_size(&frame);
    uint8_t *head = run->heads.data + run->heads.length;
    frame_head_encode(&frame, op->segment->head.id, payload.data, frame.packed ? units : NULL,
                      head);
    buffer_added(&run->heads, head_bytes);
    run_add(run, head, head_bytes);
    run_add(run, stored.data, stored.length);
    run_add(run, padding, stored.length % 8 > 0 ? 8 - stored.length % 8 : 0);
    op->offset = job->into_at;
    op->bytes = head_bytes + ((uint32_t)stored.length + 7u) / 8u * 8u;
    job->into_at += op->bytes;
    job->bytes += op->bytes;
    job->saved += frame_bytes(frame.length) - op->bytes;
}

/* make_room: so that nothing moves while the run is put together. */
static void make_room(struct log *log, struct run *run, const struct op *op, uint32_t count)
{
    size_t heads = 0;
    size_t payloads = 0;
    for (; count > 0; count--, op = op->next) {
        struct frame frame = {.length = (uint32_t)op->entry.payload.length, .packed = true};
        heads += frame_head_size(&frame);
        payloads += frame.length <= UNITS_PAYLOAD_MAX ? frame.length : 0;
    }
    buffer_reserve(&run->heads, heads);
    buffer_clear(&log->packed);
    if (!log->options.unpacked)
        buffer_reserve(&log->packed, payloads);
}

static uint32_t round_up(uint32_t at, uint32_t to)
{
    return at + (to - at % to) % to;
}

/* add_zeros: behind the last frame, to the end of its page; so none has to be read first, where a
 * recycled file is no longer in memory. And where small writes reach blocks that were never
 * written, far beyond: a sync of such blocks costs twice the time, for the extents change as well,
 * and now the next writes find blocks that were. Big ones would only write their bytes twice. */
static void add_zeros(const struct job *job, struct run *run, uint32_t begin)
{
    static const uint8_t zeros[ZEROS_BYTES];
    struct segment *segment = job->into;
    uint32_t end = job->into_at;
    bool ahead = end > segment->filled && end - begin <= SMALL_BYTES;
    uint32_t to = round_up(end, ahead ? PIECE_BYTES : PAGE_BYTES);
    to = to < segment->size ? to : segment->size;
    for (uint32_t at = end; at < to; at += ZEROS_BYTES)
        run_add(run, zeros, to - at < ZEROS_BYTES ? to - at : ZEROS_BYTES);
    segment->filled = to > segment->filled ? to : segment->filled;
}

/* write_run: `count` frames that follow each other in one segment. */
static int write_run(struct job *job, struct op *op, uint32_t count)
{
    struct run run = {.used = 0};
    struct segment *segment = op->segment;
    if (job->into != segment) {
        job->into = segment;
        job->into_at = op->offset;
    }
    uint32_t offset = job->into_at;
    make_room(job->log, &run, op, count);
    for (; count > 0; count--, op = op->next)
        add_frame(job, &run, op);
    add_zeros(job, &run, offset);
    int error = disk_write(job->log->disk, segment->fd, run.parts, run.used, offset);
    job->dirty = segment;
    buffer_free(&run.heads);
    return error;
}

static bool follows(const struct op *a, const struct op *b)
{
    return b != NULL && b->type == OP_WRITE && b->segment == a->segment;
}

static int run_write(struct job *job, struct op **at)
{
    uint32_t count = 1;
    struct op *last = *at;
    job->doing = "writing entries";
    for (; count < RUN_FRAMES_MAX && follows(last, last->next); count++)
        last = last->next;
    int error = write_run(job, *at, count);
    *at = last->next;
    return error;
}

static int run_sync(struct job *job)
{
    if (job->dirty == NULL)
        return 0;
    job->doing = "syncing entries";
    job->syncs++;
    int error = disk_sync(job->log->disk, job->dirty->fd);
    job->dirty = NULL;
    return error;
}

static int run_seal(struct job *job, struct op *op)
{
    int fd;
    struct slice footer = buffer_slice(&op->footer);
    int error = run_sync(job);
    job->doing = "sealing a segment";
    if (error == 0)
        error = open_by_name(job->log, op->segment, &fd);
    if (error != 0)
        return error;
    error = disk_write_bytes(job->log->disk, fd, footer, op->offset);
    if (error == 0 && ftruncate(fd, (off_t)(op->offset + footer.length)) != 0)
        error = errno;
    if (error == 0)
        error = disk_sync_whole(job->log->disk, fd);
    job->syncs++;
    return close_after(fd, error);
}

static int run_cut(struct job *job, struct op *op)
{
    int fd;
    if (job->synced_index >= op->entry.index)
        job->synced_index = op->entry.index - 1;
    if (op->segment == NULL)
        return 0;
    job->doing = "truncating a segment";
    int error = open_by_name(job->log, op->segment, &fd);
    if (error != 0)
        return error;
    if (ftruncate(fd, (off_t)op->offset) != 0)
        error = errno;
    job->syncs++;
    return close_after(fd, error != 0 ? error : disk_sync_whole(job->log->disk, fd));
}

/* linked: a backup has it, too: it must not be written to. */
static bool linked(int dir_fd, const char *name)
{
    struct stat about;
    return fstatat(dir_fd, name, &about, 0) != 0 || about.st_nlink > 1;
}

/* let_name_go: false in *unlinked: it is a spare now. The file stays open, for freeing its blocks
 * takes long: that is for whoever closes it (removal.c). */
static int let_name_go(struct job *job, struct op *op)
{
    int dir_fd = job->log->segments_fd;
    char name[NAME_BYTES];
    segment_name(op->segment->head.first_index, name);
    op->unlinked = op->spare[0] == '\0' || linked(dir_fd, name);
    if (!op->unlinked)
        return disk_rename(job->log->disk, dir_fd, name, dir_fd, op->spare);
    if (op->segment->fd < 0)
        op->file = openat(dir_fd, name, O_RDWR | O_CLOEXEC);
    return unlinkat(dir_fd, name, 0) == 0 ? 0 : errno;
}

static int run_remove(struct job *job, struct op *op)
{
    if (job->dirty == op->segment)
        job->dirty = NULL;
    int error = run_sync(job); /* I5 */
    if (error != 0 || op->replaced)
        return error;
    job->doing = "removing a segment";
    error = let_name_go(job, op);
    if (error != 0 || op->at_leisure)
        return error;
    job->syncs++;
    return disk_sync_whole(job->log->disk, job->log->segments_fd);
}

static int run_switch(struct job *job, struct op *op)
{
    int error = run_sync(job); /* I5 */
    job->doing = "switching to a rewritten segment";
    job->syncs++;
    return error != 0 ? error : rewrite_switch(job->log, op->segment);
}

static int run_install(struct job *job, struct op *op)
{
    (void)op;
    int error = run_sync(job);
    job->doing = "taking over a snapshot";
    job->syncs += 4;
    return error != 0 ? error : install_move(job->log);
}

static int (*const runners[OP_TYPE_COUNT])(struct job *job, struct op *op) = {
    [OP_OPEN] = run_open,     [OP_SEAL] = run_seal,     [OP_CUT] = run_cut,
    [OP_REMOVE] = run_remove, [OP_SWITCH] = run_switch, [OP_INSTALL] = run_install,
};

static void run_job(struct write_task *task)
{
    struct job *job = CONTAINER_OF(task, struct job, task);
    struct op *op = job->ops.first;
    while (op != NULL && job->error == 0) {
        if (op->type == OP_WRITE) {
            job->error = run_write(job, &op);
        } else {
            job->error = runners[op->type](job, op);
            op = op->next;
        }
    }
    if (job->error == 0)
        job->error = run_sync(job);
}

/* ---- on the loop ---- */

void log_fatal(struct log *log, const char *sentence)
{
    log->failed = true;
    if (log->options.fatal != NULL) {
        log->options.fatal(log->options.fatal_data, sentence);
        return;
    }
    trace_error("log", "stopping", "reason=\"%s\"", sentence);
    _exit(LOG_EXIT_CODE);
}

static void complete_open(struct log *log, struct op *op)
{
    (void)log;
    (void)op;
}

static void complete_write(struct log *log, struct op *op)
{
    /* What was written before a cut that is still to come is not what will be there. */
    if (!log->failed)
        segment_place_frame(op->segment, op->entry.index, (uint32_t)op->entry.payload.length,
                            op->offset, op->bytes);
    if (!log->failed && op->entry.index < log->cut_floor)
        log->durable_index = op->entry.index;
    if (op->append != NULL)
        op->append->done(op->append, log->failed ? STATUS_IO_ERROR : STATUS_OK);
}

static void complete_seal(struct log *log, struct op *op)
{
    op->segment->file_bytes = op->offset + op->footer.length;
    if (op->segment->fd >= 0)
        log->open_files++; /* from now on it may be closed to make room */
    buffer_free(&op->footer);
}

static void complete_cut(struct log *log, struct op *op)
{
    if (log->durable_index >= op->entry.index)
        log->durable_index = op->entry.index - 1;
    if (--log->cuts == 0)
        log->cut_floor = UINT64_MAX;
}

static void complete_remove(struct log *log, struct op *op)
{
    struct segment *segment = op->segment;
    segment->retired = true; /* a read of what an installed snapshot drops may go on in it */
    if (op->file >= 0) {
        segment->fd = op->file;
        log->open_files += segment->sealed ? 1 : 0;
    }
    segment->nameless = op->unlinked && !op->at_leisure && !log->failed;
    if (op->at_leisure)
        removal_goes_on(log, op);
}

static void complete_install(struct log *log, struct op *op)
{
    incoming_installed(log, op->incoming);
}

static void (*const completers[OP_TYPE_COUNT])(struct log *log, struct op *op) = {
    [OP_OPEN] = complete_open,       [OP_WRITE] = complete_write,   [OP_SEAL] = complete_seal,
    [OP_CUT] = complete_cut,         [OP_REMOVE] = complete_remove, [OP_SWITCH] = rewrite_switched,
    [OP_INSTALL] = complete_install,
};

static void complete_ops(struct log *log, struct op_list *ops)
{
    bool nested = log->in_callbacks;
    log->in_callbacks = true;
    for (struct op *op = ops->first; op != NULL;) {
        struct op *next = op->next;
        completers[op->type](log, op);
        if (op->segment != NULL) {
            op->segment->users--;
            segment_consider(log, op->segment);
        }
        free(op);
        op = next;
    }
    *ops = (struct op_list){0};
    log->in_callbacks = nested;
}

static void end_job(struct log *log, struct job *job)
{
    log->bytes_written += job->bytes;
    log->bytes_saved += job->saved;
    log->syncs += job->syncs;
    if (job->error != 0 && !log->failed)
        log_fatal(log, refusal("%s in %s failed: %s. What was not yet answered may be lost; "
                               "check the disk, then start the node again",
                               job->doing, log->dir, strerror(job->error)));
    complete_ops(log, &job->ops);
    free(job);
}

static void after_job(struct write_task *task)
{
    struct job *job = CONTAINER_OF(task, struct job, task);
    struct log *log = job->log;
    log->in_callbacks = true;
    end_job(log, job);
    log->in_callbacks = false;
    log->writing = false;
    writer_kick(log);
    incoming_proceed(log);
    log_maybe_closed(log);
}

/* take_ops: as many as one job may have (I6). */
static struct op_list take_ops(struct op_list *queue)
{
    struct op_list taken = *queue;
    size_t bytes = 0;
    bool written = false;
    for (struct op *op = queue->first, *before = NULL; op != NULL; before = op, op = op->next) {
        bool too_much = bytes >= JOB_BYTES_MAX;
        bool needs_places = op->type == OP_SEAL || op->type == OP_CUT;
        if (too_much || (written && needs_places)) {
            before->next = NULL;
            taken.last = before;
            queue->first = op;
            return taken;
        }
        bytes += op->entry.payload.length;
        written |= op->type == OP_WRITE;
    }
    *queue = (struct op_list){0};
    return taken;
}

/* settle: what the loop knows now that nothing is being written. */
static void settle(const struct op_list *ops)
{
    for (struct op *op = ops->first; op != NULL; op = op->next) {
        if (op->type == OP_SEAL)
            segment_footer(op->segment, &op->footer);
        if (op->type == OP_SEAL || (op->type == OP_CUT && op->segment != NULL) ||
            op->type == OP_WRITE)
            op->offset = op->segment->end;
    }
}

static struct job *take_job(struct log *log)
{
    struct job *job = calloc(1, sizeof *job);
    ASSERT(job != NULL);
    job->task = (struct write_task){run_job, after_job};
    job->log = log;
    job->synced_index = log->durable_index;
    job->ops = take_ops(&log->queue);
    if (!log->failed)
        settle(&job->ops);
    return job;
}

void writer_add(struct log *log, struct op op)
{
    struct op *copy = malloc(sizeof *copy);
    ASSERT(copy != NULL);
    *copy = op;
    copy->next = NULL;
    if (copy->segment != NULL)
        copy->segment->users++;
    if (log->queue.last != NULL)
        log->queue.last->next = copy;
    else
        log->queue.first = copy;
    log->queue.last = copy;
}

static void fail_queue(struct log *log)
{
    struct op_list ops = log->queue;
    log->queue = (struct op_list){0};
    complete_ops(log, &ops);
}

void writer_kick(struct log *log)
{
    if (log->writing || log->in_callbacks || log->queue.first == NULL)
        return;
    struct job *job = take_job(log);
    log->writing = true;
    if (log->failed)
        job->error = EIO; /* nothing is written after an error; the callers are told on the loop */
    if (log->thread == NULL)
        log->thread = write_thread_open(log->options.loop);
    write_thread_give(log->thread, &job->task);
}

enum status writer_run_now(struct log *log)
{
    ASSERT(!log->writing);
    while (log->queue.first != NULL && !log->failed) {
        struct job *job = take_job(log);
        log->in_callbacks = true;
        run_job(&job->task);
        end_job(log, job);
        log->in_callbacks = false;
    }
    fail_queue(log);
    return log->failed ? STATUS_IO_ERROR : STATUS_OK;
}
