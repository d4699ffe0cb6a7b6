/* SPDX-License-Identifier: Apache-2.0 */
/* Reading bodies where they stand.
 *
 * A body is a range of a payload. What is read is the frame's header with its checksum table, and
 * the 4 KiB blocks that the range touches, or in a packed frame the units (unit.h) around them;
 * they are unpacked and verified before a byte is handed out. Messages that were sent together are
 * mostly received together, so the header and the run of blocks read last are kept for the next
 * body, and a run reads ahead as far as the following bodies want. On the loop the last few runs
 * are kept: a receive from a FIFO queue takes a message here and there of an entry, one of each
 * group, and the next receive takes those between.
 *
 * On the loop (log_read_now) only what the page cache holds is read, with RWF_NOWAIT; everything
 * else is done in the pool. Segments that a read needs count it as a user from its begin to its
 * end.
 *
 * I1  What is in a window was verified, and is as good as what is in the file: bytes of a durable
 * entry never change, and a segment id with an index never stands for another entry, since nothing
 * is appended to what was cut (log.c).
 * I2  Where blocks stand is another matter: a rewritten segment keeps its id, and its frames have
 * other headers. So when the file is another one, what was read of it is forgotten. */
#include "broker/log/internal.h"
#include "broker/log/unit.h"
#include "proto/base/assert.h"

#include <errno.h>
#include <stdlib.h>

#define RUN_BYTES_MAX   (256u << 10)
#define KEPT_BYTES_MAX  (1u << 20) /* of a large body, by log_read_now */
#define WINDOWS         24u        /* of log_read_now: the units of an entry of 300 KB */
#define LARGE_BYTES     UNIT_BYTES /* longer bodies share the first window */
#define HEAD_BYTES_GOOD 512u       /* header and table of a payload of up to 468 KiB */

/* What was read last; what is searched by stands in front. */
struct window {
    uint64_t index; /* of the frame in `head`; 0 = none */
    uint64_t segment_id;
    uint64_t used;      /* in shelf.reads */
    uint32_t blocks_at; /* offset in the payload */
    bool nowait;
    struct buffer blocks;
    struct buffer head;
    struct frame frame;
    struct buffer *stored; /* as it is in the file, while it is unpacked */
};

/* What log_read_now read last. */
struct shelf {
    struct window windows[WINDOWS];
    struct buffer stored;
    uint32_t last; /* the window that was read from last: mostly the next body is there too */
    uint64_t reads;
};

static enum status from_read(int error, size_t got, size_t wanted)
{
    if (error == EAGAIN || error == EOPNOTSUPP)
        return STATUS_BUSY;
    if (error != 0)
        return STATUS_IO_ERROR;
    return got < wanted ? STATUS_CORRUPT : STATUS_OK;
}

static enum status read_into(struct window *w, const struct read_step *step, struct buffer *out,
                             size_t length, size_t needed, uint64_t offset)
{
    size_t got;
    buffer_clear(out);
    int error = disk_read(step->fd, buffer_reserve(out, length), length, offset, w->nowait, &got);
    /* RWF_NOWAIT may give the first part and then EAGAIN; that part may be enough. */
    bool enough = error == EAGAIN && got >= needed;
    buffer_added(out, got);
    return from_read(enough ? 0 : error, got, needed);
}

static enum status load_head(struct window *w, const struct read_step *step, uint64_t index)
{
    w->index = 0;
    w->blocks.length = 0;
    enum status status =
        read_into(w, step, &w->head, HEAD_BYTES_GOOD, FRAME_HEAD_BYTES, step->frame_at);
    if (status != STATUS_OK)
        return status;
    uint32_t bytes = frame_peek_bytes(buffer_slice(&w->head));
    if (bytes > w->head.length)
        status = read_into(w, step, &w->head, bytes, bytes, step->frame_at);
    if (status != STATUS_OK)
        return status;
    if (!frame_head_decode(buffer_slice(&w->head), step->segment_id, &w->frame) ||
        w->frame.index != index)
        return STATUS_CORRUPT;
    w->index = index;
    w->segment_id = step->segment_id;
    return STATUS_OK;
}

/* blocks_end: the first block behind `first` that is not wanted for bytes before `to`, or is gone.
 */
static uint32_t blocks_end(const struct window *w, uint32_t first, uint32_t to)
{
    uint32_t end = (to + FRAME_BLOCK_BYTES - 1) / FRAME_BLOCK_BYTES;
    uint32_t block = first;
    if (!w->frame.sparse)
        return end;
    while (block < end && frame_block_there(w->head.data, &w->frame, block))
        block++;
    return block;
}

/* load_stored: blocks [first, end) of a frame that is not packed. */
static enum status load_stored(struct window *w, const struct read_step *step, uint32_t first,
                               uint32_t end)
{
    uint64_t start = (uint64_t)first * FRAME_BLOCK_BYTES;
    uint64_t stop = (uint64_t)end * FRAME_BLOCK_BYTES;
    size_t length = (size_t)((stop < w->frame.length ? stop : w->frame.length) - start);
    uint64_t at = (uint64_t)step->frame_at + frame_block_at(w->head.data, &w->frame, first);
    w->blocks_at = (uint32_t)start;
    return read_into(w, step, &w->blocks, length, length, at);
}

/* unpack_units: what was read, behind each other to the blocks. */
static enum status unpack_units(struct window *w, uint32_t first, uint32_t end)
{
    struct slice rest = buffer_slice(w->stored);
    for (uint32_t i = first; i < end; i++) {
        uint32_t stored = unit_stored(w->head.data, &w->frame, i);
        uint32_t length = unit_bytes(w->frame.length, i);
        uint8_t *out = buffer_reserve(&w->blocks, length);
        if (!unit_unpack(&w->frame, i, slice_make(rest.data, stored), out))
            return STATUS_CORRUPT;
        buffer_added(&w->blocks, length);
        rest = slice_sub(rest, stored);
    }
    return STATUS_OK;
}

/* load_units: those around blocks [first, end). Blocks that are gone may come along with their
 * unit; they are not kept. */
static enum status load_units(struct window *w, const struct read_step *step, uint32_t first,
                              uint32_t end)
{
    uint32_t unit = first / UNIT_BLOCKS;
    uint32_t units_end = (end + UNIT_BLOCKS - 1) / UNIT_BLOCKS;
    uint32_t from = unit_at(w->head.data, &w->frame, unit);
    size_t length = unit_at(w->head.data, &w->frame, units_end) - from;
    enum status status =
        read_into(w, step, w->stored, length, length, (uint64_t)step->frame_at + from);
    if (status == STATUS_OK)
        status = unpack_units(w, unit, units_end);
    w->blocks_at = unit * UNIT_BYTES;
    if (status != STATUS_OK || !w->frame.sparse)
        return status;
    size_t before = (size_t)first * FRAME_BLOCK_BYTES - w->blocks_at;
    size_t stop = (size_t)end * FRAME_BLOCK_BYTES - w->blocks_at;
    w->blocks.length = (stop < w->blocks.length ? stop : w->blocks.length) - before;
    memmove(w->blocks.data, w->blocks.data + before, w->blocks.length);
    w->blocks_at += (uint32_t)before;
    return STATUS_OK;
}

/* load_blocks: the blocks around [from, to), verified; fewer where some are gone. */
static enum status load_blocks(struct window *w, const struct read_step *step, uint32_t from,
                               uint32_t to)
{
    uint32_t first = from / FRAME_BLOCK_BYTES;
    uint32_t end = blocks_end(w, first, to);
    enum status status = end > first ? STATUS_OK : STATUS_CORRUPT; /* gone */
    buffer_clear(&w->blocks);
    if (status == STATUS_OK)
        status = (w->frame.packed ? load_units : load_stored)(w, step, first, end);
    if (status == STATUS_OK &&
        !frame_blocks_match(w->head.data, w->frame.length, w->blocks_at / FRAME_BLOCK_BYTES,
                            buffer_slice(&w->blocks)))
        status = STATUS_CORRUPT;
    if (status != STATUS_OK)
        buffer_clear(&w->blocks);
    return status;
}

/* wanted_end: how far to read for `refs[0]` and those behind it in the same frame. */
static uint32_t wanted_end(const struct body_ref *refs, size_t count)
{
    uint32_t end = refs[0].offset + refs[0].length;
    for (size_t i = 1; i < count && refs[i].index == refs[0].index; i++) {
        uint64_t next = (uint64_t)refs[i].offset + refs[i].length;
        if (refs[i].offset < refs[0].offset || next > (uint64_t)refs[0].offset + RUN_BYTES_MAX)
            break;
        end = next > end ? (uint32_t)next : end;
    }
    return end;
}

static bool in_window(const struct window *w, struct body_ref ref)
{
    return ref.offset >= w->blocks_at &&
           (uint64_t)ref.offset + ref.length <= (uint64_t)w->blocks_at + w->blocks.length;
}

static enum status read_body(struct window *w, const struct read_step *step,
                             const struct body_ref *refs, size_t count, struct buffer *out)
{
    struct body_ref ref = refs[0];
    enum status status = STATUS_OK;
    if (w->index != ref.index || w->segment_id != step->segment_id)
        status = load_head(w, step, ref.index);
    if (status != STATUS_OK || ref.length == 0)
        return status;
    if ((uint64_t)ref.offset + ref.length > w->frame.length)
        return STATUS_CORRUPT;
    if (!in_window(w, ref)) {
        uint32_t end = wanted_end(refs, count);
        status = load_blocks(w, step, ref.offset, end < w->frame.length ? end : w->frame.length);
    }
    if (status == STATUS_OK && !in_window(w, ref))
        status = STATUS_CORRUPT;
    if (status == STATUS_OK)
        buffer_add(out, w->blocks.data + (ref.offset - w->blocks_at), ref.length);
    return status;
}

static void window_free(struct window *w)
{
    buffer_free(&w->head);
    buffer_free(&w->blocks);
    w->index = 0;
}

void shelf_drop(struct shelf *shelf)
{
    if (shelf == NULL)
        return;
    for (uint32_t i = 0; i < WINDOWS; i++)
        window_free(&shelf->windows[i]);
    buffer_free(&shelf->stored);
    free(shelf);
}

void shelf_forget(struct shelf *shelf, uint64_t segment_id)
{
    for (uint32_t i = 0; shelf != NULL && i < WINDOWS; i++) {
        if (shelf->windows[i].segment_id == segment_id)
            window_free(&shelf->windows[i]);
    }
}

void read_step_begin(struct log *log, uint64_t index, struct read_step *step)
{
    uint32_t slot;
    *step = (struct read_step){.segment = segments_find(log, index), .fd = -1};
    if (step->segment == NULL || index > log->durable_index ||
        !segment_slot(step->segment, index, &slot) || slot >= step->segment->placed) {
        step->segment = NULL;
        return;
    }
    step->error = segment_open_file(log, step->segment);
    step->fd = step->segment->fd;
    step->segment_id = step->segment->head.id;
    step->frame_at = step->segment->offsets[slot];
    step->segment->users++;
}

void read_step_end(struct log *log, struct read_step *step)
{
    if (step->segment == NULL)
        return;
    step->segment->users--;
    segment_consider(log, step->segment);
}

static struct shelf *the_shelf(struct log *log)
{
    if (log->shelf != NULL)
        return log->shelf;
    struct shelf *shelf = calloc(1, sizeof *shelf);
    ASSERT(shelf != NULL);
    for (uint32_t i = 0; i < WINDOWS; i++) {
        shelf->windows[i].nowait = true;
        shelf->windows[i].stored = &shelf->stored;
    }
    return log->shelf = shelf;
}

static void copy_head(struct window *to, const struct window *from)
{
    to->index = from->index;
    to->segment_id = from->segment_id;
    to->frame = from->frame;
    to->blocks.length = 0;
    buffer_clear(&to->head);
    buffer_add_slice(&to->head, buffer_slice(&from->head));
}

static bool has_body(const struct window *w, const struct read_step *step, struct body_ref ref)
{
    return w->index == ref.index && w->segment_id == step->segment_id && in_window(w, ref);
}

/* window_for: the one that has the body; else the one that was used longest ago, with the header of
 * its frame if another one has that. */
static struct window *window_for(struct shelf *shelf, const struct read_step *step,
                                 struct body_ref ref)
{
    if (ref.length > LARGE_BYTES)
        return &shelf->windows[0];
    if (has_body(&shelf->windows[shelf->last], step, ref))
        return &shelf->windows[shelf->last];
    struct window *oldest = &shelf->windows[1];
    const struct window *head = NULL;
    for (uint32_t i = 1; i < WINDOWS; i++) {
        struct window *w = &shelf->windows[i];
        if (has_body(w, step, ref))
            return w;
        if (w->index == ref.index && w->segment_id == step->segment_id)
            head = w;
        oldest = w->used < oldest->used ? w : oldest;
    }
    if (head != NULL && head != oldest)
        copy_head(oldest, head);
    return oldest;
}

static bool read_now(struct shelf *shelf, const struct read_step *step, struct body_ref ref,
                     struct buffer *out)
{
    struct window *w = window_for(shelf, step, ref);
    w->used = ++shelf->reads;
    shelf->last = (uint32_t)(w - shelf->windows);
    bool done = read_body(w, step, &ref, 1, out) == STATUS_OK;
    if (w->head.capacity + w->blocks.capacity + shelf->stored.capacity > KEPT_BYTES_MAX) {
        window_free(w);
        buffer_free(&shelf->stored);
    }
    return done;
}

bool log_read_now(struct log *log, struct body_ref ref, struct buffer *out)
{
    struct read_step step;
    bool done = false;
    read_step_begin(log, ref.index, &step);
    if (step.segment != NULL && step.error == 0)
        done = read_now(the_shelf(log), &step, ref, out);
    read_step_end(log, &step);
    return done;
}

enum status read_step_status(const struct read_step *step)
{
    if (step->segment == NULL)
        return STATUS_CORRUPT;
    if (step->error == EMFILE || step->error == ENFILE)
        return STATUS_BUSY;
    return step->error == 0 ? STATUS_OK : STATUS_IO_ERROR;
}

static void run_read(uv_work_t *work)
{
    struct log_read *read = CONTAINER_OF(work, struct log_read, work);
    struct buffer stored = {0};
    struct window w = {.nowait = false, .stored = &stored};
    for (size_t i = 0; i < read->count && read->status == STATUS_OK; i++) {
        read->status = read_step_status(&read->steps[i]);
        if (read->status == STATUS_OK)
            read->status =
                read_body(&w, &read->steps[i], read->refs + i, read->count - i, &read->out);
    }
    window_free(&w);
    buffer_free(&stored);
}

static void after_read(uv_work_t *work, int status)
{
    struct log_read *read = CONTAINER_OF(work, struct log_read, work);
    struct log *log = read->log;
    (void)status; /* never cancelled */
    for (size_t i = 0; i < read->count; i++)
        read_step_end(log, &read->steps[i]);
    free(read->steps);
    log->reads--;
    read->done(read, read->status);
    log_maybe_closed(log);
}

void log_read(struct log *log, struct log_read *read)
{
    read->log = log;
    read->status = STATUS_OK;
    read->steps = calloc(read->count + 1, sizeof *read->steps);
    ASSERT(read->steps != NULL);
    for (size_t i = 0; i < read->count; i++)
        read_step_begin(log, read->refs[i].index, &read->steps[i]);
    log->reads++;
    int error = uv_queue_work(log->options.loop, &read->work, run_read, after_read);
    ASSERT(error == 0);
}
