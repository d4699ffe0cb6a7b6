/* SPDX-License-Identifier: Apache-2.0 */
/* Giving disk back when little of a segment is still held.
 *
 * A slow queue shares its entries with a fast one, so a segment that is dead but for one message in
 * a thousand would stay for as long as that message. When the blocks of 4 KiB that hold a body are
 * less than a quarter of a sealed segment whose entries are done with, it is rewritten without the
 * others (sparse.c), under its own name.
 *
 *     on the loop   plan: which blocks stay. The others count as gone from here on
 *     in the pool   copy them into rewrite.tmp, checking every checksum; sync
 *     the writer    SWITCH: sync what released the others; rename; sync the folder
 *     on the loop   the fresh segment takes the old one's place. Reads that began before go on in
 *                   the old file, which is gone when the last of them has ended
 *
 * One at a time, and after each a pause that keeps the bytes read and written below
 * log_options.rewrite_rate. A failure before the switch changes nothing: trace and try again later.
 * A damaged block is never copied: the segment then stays as it is, for its other messages.
 *
 * Packed frames stay packed: their units are copied as they are, but verified.
 *
 * I1  The file under the segment's name is at every moment a whole one, the old or the new.
 * I2  What is rewritten is needed by no snapshot's replay (log_prefix_done), so only bodies are
 * read from it. I3  A rewrite leaves at most about a quarter, so a segment is rewritten a few times
 * at most. */
#include "broker/log/internal.h"
#include "broker/log/unit.h"
#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#define WORTH_PART       4u /* rewrite below one 4th */
#define SYNC_EVERY_BYTES (1u << 20)
#define RETRY_MS         10000u

struct planned {
    uint32_t slot; /* in the old segment */
    uint32_t number;
    uint32_t from; /* offset in the old file */
    uint32_t blocks;
    uint32_t map_at; /* in `maps` */
    uint32_t offset; /* out: in the new file */
};

struct rewrite {
    uv_work_t work;
    struct log *log;
    struct segment *segment;
    struct segment_head head;
    struct planned *plan;
    uint32_t count;
    struct buffer maps;
    /* while copying */
    int from_fd;
    int fd;
    uint64_t written;
    uint64_t read;
    uint64_t unsynced;
    struct buffer in;
    struct buffer unpacked; /* one unit */
    struct buffer out;      /* not yet written */
    struct buffer footer;
    /* out */
    uint32_t end;
    uint64_t file_bytes;
    int error;
    bool damaged;
};

static void rewrite_free(struct rewrite *r)
{
    buffer_free(&r->maps);
    buffer_free(&r->in);
    buffer_free(&r->unpacked);
    buffer_free(&r->out);
    buffer_free(&r->footer);
    free(r->plan);
    free(r);
}

/* ---- in the pool ---- */

static int flush(struct rewrite *r)
{
    int error = disk_write_bytes(r->log->disk, r->fd, buffer_slice(&r->out), r->written);
    r->written += r->out.length;
    r->unsynced += r->out.length;
    buffer_clear(&r->out);
    if (error != 0 || r->unsynced < SYNC_EVERY_BYTES)
        return error;
    r->unsynced = 0;
    return disk_sync(r->log->disk, r->fd); /* in small steps: the log's own syncs wait for it */
}

static int read_at(struct rewrite *r, struct buffer *out, uint64_t offset, size_t length)
{
    size_t got;
    buffer_clear(out);
    int error = disk_read(r->from_fd, buffer_reserve(out, length), length, offset, false, &got);
    buffer_added(out, got);
    r->read += got;
    return error;
}

static int found_damage(struct rewrite *r)
{
    r->damaged = true;
    return EIO;
}

/* copy_run: the blocks [first, end), which stand together in the old file. */
static int copy_run(struct rewrite *r, const struct planned *p, const uint8_t *head,
                    const struct frame *frame, uint32_t first, uint32_t end)
{
    uint64_t start = (uint64_t)first * FRAME_BLOCK_BYTES;
    uint64_t stop = (uint64_t)end * FRAME_BLOCK_BYTES;
    size_t length = (size_t)((stop < frame->length ? stop : frame->length) - start);
    int error = read_at(r, &r->in, (uint64_t)p->from + frame_block_at(head, frame, first), length);
    if (error != 0)
        return error;
    if (r->in.length < length ||
        !frame_blocks_match(head, frame->length, first, buffer_slice(&r->in)))
        return found_damage(r);
    buffer_add_slice(&r->out, buffer_slice(&r->in));
    return r->out.length >= SYNC_EVERY_BYTES ? flush(r) : 0;
}

static int copy_blocks(struct rewrite *r, const struct planned *p, const uint8_t *head,
                       const struct frame *frame)
{
    const uint8_t *map = r->maps.data + p->map_at;
    for (uint32_t first = 0; first < p->blocks;) {
        uint32_t end = first;
        /* Runs are bounded, so that the memory for a huge entry is. */
        while (end < p->blocks && sparse_bit(map, end) &&
               end - first < SYNC_EVERY_BYTES / FRAME_BLOCK_BYTES)
            end++;
        int error = end > first ? copy_run(r, p, head, frame, first, end) : 0;
        if (error != 0)
            return error;
        first = end > first ? end : first + 1;
    }
    return 0;
}

static bool unit_is_wanted(const struct planned *p, const uint8_t *map, uint32_t unit)
{
    bool any = false;
    for (uint32_t i = unit * UNIT_BLOCKS; i < p->blocks && i < (unit + 1) * UNIT_BLOCKS; i++)
        any |= sparse_bit(map, i);
    return any;
}

/* copy_unit: as it stands in the old file, which is what its checksums are verified for. */
static int copy_unit(struct rewrite *r, const struct planned *p, const uint8_t *head,
                     const struct frame *frame, uint32_t unit)
{
    uint32_t stored = unit_stored(head, frame, unit);
    uint32_t length = unit_bytes(frame->length, unit);
    int error = read_at(r, &r->in, (uint64_t)p->from + unit_at(head, frame, unit), stored);
    if (error != 0)
        return error;
    uint8_t *out = (buffer_clear(&r->unpacked), buffer_reserve(&r->unpacked, length));
    if (r->in.length < stored || stored == 0 ||
        !unit_unpack(frame, unit, buffer_slice(&r->in), out) ||
        !frame_blocks_match(head, frame->length, unit * UNIT_BLOCKS, slice_make(out, length)))
        return found_damage(r);
    buffer_add_slice(&r->out, buffer_slice(&r->in));
    return r->out.length >= SYNC_EVERY_BYTES ? flush(r) : 0;
}

static int copy_units(struct rewrite *r, const struct planned *p, const uint8_t *head,
                      const struct frame *frame)
{
    const uint8_t *map = r->maps.data + p->map_at;
    int error = 0;
    for (uint32_t i = 0; i < unit_count(frame->length) && error == 0; i++) {
        if (unit_is_wanted(p, map, i))
            error = copy_unit(r, p, head, frame, i);
    }
    return error;
}

static void pad(struct rewrite *r)
{
    size_t odd = (r->written + r->out.length) % 8;
    buffer_add(&r->out, "\0\0\0\0\0\0\0", odd > 0 ? 8 - odd : 0);
}

/* put_head: false when the plan does not fit the frame. */
static bool put_head(struct rewrite *r, const struct planned *p, const uint8_t *head,
                     const struct frame *frame)
{
    const uint8_t *map = r->maps.data + p->map_at;
    uint32_t left = 0;
    for (uint32_t i = 0; i < p->blocks; i++) {
        if (!sparse_bit(map, i))
            continue;
        left++;
        if (!frame_block_there(head, frame, i))
            return false;
    }
    if (left == p->blocks) { /* so it is not sparse either */
        buffer_add(&r->out, head, frame_head_size(frame));
        return true;
    }
    const struct frame as = {.length = frame->length, .sparse = true, .packed = frame->packed};
    uint32_t head_bytes = frame_head_size(&as);
    sparse_head_encode(head, &as, r->head.id, map, buffer_reserve(&r->out, head_bytes));
    buffer_added(&r->out, head_bytes);
    return true;
}

static int copy_frame(struct rewrite *r, struct planned *p)
{
    struct buffer head = {0};
    struct frame frame;
    p->offset = (uint32_t)(r->written + r->out.length);
    const struct frame longest = {
        .length = p->blocks * FRAME_BLOCK_BYTES, .sparse = true, .packed = true};
    int error = read_at(r, &head, p->from, frame_head_size(&longest));
    if (error == 0 &&
        (!frame_head_decode(buffer_slice(&head), r->head.id, &frame) ||
         frame.index != r->head.first_index + p->number ||
         frame_block_count(frame.length) != p->blocks || !put_head(r, p, head.data, &frame)))
        error = found_damage(r);
    if (error == 0)
        error = (frame.packed ? copy_units : copy_blocks)(r, p, head.data, &frame);
    pad(r);
    if (error == 0) {
        struct kept_frame row = {p->number, p->offset, frame.length, r->maps.data + p->map_at};
        sparse_footer_add(&r->footer, &row);
    }
    buffer_free(&head);
    return error;
}

static int copy_all(struct rewrite *r)
{
    uint8_t head[SEGMENT_HEAD_BYTES];
    segment_head_encode(&r->head, head);
    buffer_add(&r->out, head, sizeof head);
    for (uint32_t i = 0; i < r->count; i++) {
        int error = copy_frame(r, &r->plan[i]);
        if (error != 0)
            return error;
    }
    r->end = (uint32_t)(r->written + r->out.length);
    sparse_footer_finish(&r->footer, &r->head, r->count, r->end);
    buffer_add_slice(&r->out, buffer_slice(&r->footer));
    r->file_bytes = r->end + r->footer.length;
    int error = flush(r);
    return error != 0 ? error : disk_sync_whole(r->log->disk, r->fd);
}

static void run_rewrite(uv_work_t *work)
{
    struct rewrite *r = CONTAINER_OF(work, struct rewrite, work);
    int dir_fd = r->log->segments_fd;
    r->fd = openat(dir_fd, REWRITE_NAME, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (r->fd < 0) {
        r->error = errno;
        return;
    }
    r->error = copy_all(r);
    close(r->fd);
    if (r->error != 0)
        unlinkat(dir_fd, REWRITE_NAME, 0);
}

int rewrite_switch(struct log *log, const struct segment *segment)
{
    char name[NAME_BYTES];
    segment_name(segment->head.first_index, name);
    int error = disk_rename(log->disk, log->segments_fd, REWRITE_NAME, log->segments_fd, name);
    return error != 0 ? error : disk_sync_whole(log->disk, log->segments_fd);
}

/* ---- planning ---- */

static bool is_live(const struct segment *segment, uint32_t slot, uint32_t block)
{
    uint16_t live = segment->live[segment->blocks_at[slot] + block];
    return live != 0 && live != BLOCK_GONE;
}

/* plan_frame: blocks in which nothing is held are gone from now on. */
static void plan_frame(struct rewrite *r, uint32_t slot)
{
    struct segment *segment = r->segment;
    uint32_t blocks = segment_slot_blocks(segment, slot);
    size_t map_at = r->maps.length;
    uint32_t map_bytes = sparse_map_bytes(blocks);
    uint8_t *map = memset(buffer_reserve(&r->maps, map_bytes + 1), 0, map_bytes + 1);
    bool any = false;
    for (uint32_t i = 0; i < blocks; i++) {
        if (is_live(segment, slot, i)) {
            map[i / 8] |= (uint8_t)(1u << i % 8);
            any = true;
        } else {
            segment->live[segment->blocks_at[slot] + i] = BLOCK_GONE;
        }
    }
    if (!any)
        return;
    buffer_added(&r->maps, map_bytes);
    r->plan[r->count++] = (struct planned){
        .slot = slot,
        .number = segment->numbers != NULL ? segment->numbers[slot] : slot,
        .from = segment->offsets[slot],
        .blocks = blocks,
        .map_at = (uint32_t)map_at,
    };
}

static struct rewrite *plan(struct log *log, struct segment *segment)
{
    struct rewrite *r = calloc(1, sizeof *r);
    ASSERT(r != NULL);
    r->log = log;
    r->segment = segment;
    r->head = segment->head;
    r->head.last_index = segment_last(segment);
    r->from_fd = segment->fd;
    r->plan = calloc(segment->count, sizeof *r->plan);
    ASSERT(r->plan != NULL);
    for (uint32_t slot = 0; slot < segment->count; slot++)
        plan_frame(r, slot);
    return r;
}

/* ---- on the loop ---- */

static void on_pace(uv_timer_t *timer)
{
    rewrite_consider(timer->data, NULL);
}

static void pause_for(struct log *log, uint64_t ms)
{
    if (log->pace_open && log->closed == NULL)
        uv_timer_start(&log->pace, on_pace, ms, 0);
}

static uint64_t pause_after(const struct rewrite *r)
{
    uint64_t rate = r->log->options.rewrite_rate;
    return (r->read + r->written) * 1000 / (rate > 0 ? rate : LOG_REWRITE_RATE_DEFAULT);
}

/* make_fresh: the segment as it is in the new file; what is held is filled in at the switch. */
static struct segment *make_fresh(const struct rewrite *r)
{
    struct segment *fresh = segment_new(r->head.id, r->head.first_index, r->end);
    fresh->head = r->head;
    fresh->count = fresh->capacity = fresh->placed = r->count;
    fresh->end = r->end;
    fresh->file_bytes = r->file_bytes;
    fresh->sealed = true;
    fresh->offsets = calloc(r->count, sizeof *fresh->offsets);
    fresh->numbers = calloc(r->count, sizeof *fresh->numbers);
    fresh->blocks_at = calloc(r->count, sizeof *fresh->blocks_at);
    ASSERT(fresh->offsets != NULL);
    ASSERT(fresh->numbers != NULL);
    ASSERT(fresh->blocks_at != NULL);
    for (uint32_t i = 0; i < r->count; i++) {
        fresh->offsets[i] = r->plan[i].offset;
        fresh->numbers[i] = r->plan[i].number;
        segment_add_blocks(fresh, i, r->plan[i].blocks);
    }
    return fresh;
}

static void abandon(struct rewrite *r)
{
    struct log *log = r->log;
    if (r->error != 0) {
        r->segment->damaged |= r->damaged;
        trace_warn("log", "rewrite-failed", "dir=\"%s\" first_index=%" PRIu64 " error=\"%s\"",
                   log->dir, r->head.first_index,
                   r->damaged ? "an entry does not match its checksum" : strerror(r->error));
        pause_for(log, r->damaged ? pause_after(r) : RETRY_MS);
    } else {
        unlinkat(log->segments_fd, REWRITE_NAME, 0); /* all was released meanwhile, or closing */
        pause_for(log, pause_after(r));
    }
    log->rewrite = NULL;
}

static void after_rewrite(uv_work_t *work, int status)
{
    struct rewrite *r = CONTAINER_OF(work, struct rewrite, work);
    struct log *log = r->log;
    struct segment *segment = r->segment;
    (void)status; /* never cancelled */
    segment->users--;
    if (r->error != 0 || segment->holds == 0 || log->closed != NULL || log->failed) {
        abandon(r);
        rewrite_free(r);
        segment_consider(log, segment);
        log_maybe_closed(log);
        return;
    }
    writer_add(log, (struct op){.type = OP_SWITCH, .segment = segment, .fresh = make_fresh(r)});
    writer_kick(log);
}

static void carry_over(struct segment *fresh, const struct segment *old, const struct rewrite *r)
{
    fresh->holds = old->holds;
    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t blocks = r->plan[i].blocks;
        uint32_t cost = segment_block_cost(fresh, i);
        for (uint32_t b = 0; b < blocks; b++) {
            bool left = sparse_bit(r->maps.data + r->plan[i].map_at, b);
            uint16_t live = old->live[old->blocks_at[r->plan[i].slot] + b];
            fresh->live[fresh->blocks_at[i] + b] = left ? live : BLOCK_GONE;
            fresh->live_bytes += left && live > 0 ? cost : 0;
        }
    }
}

void rewrite_switched(struct log *log, struct op *op)
{
    struct rewrite *r = log->rewrite;
    struct segment *old = op->segment;
    ASSERT(r->segment == old);
    if (log->failed) {
        segment_free(op->fresh);
    } else {
        carry_over(op->fresh, old, r);
        segments_replace(log, old, op->fresh);
        shelf_forget(log->shelf, old->head.id);
        old->retired = old->nameless = true;
        log->rewrites++;
        log->bytes_rewritten += r->written;
        trace_debug("log", "rewritten",
                    "dir=\"%s\" first_index=%" PRIu64 " from=%" PRIu64 " to=%" PRIu64, log->dir,
                    r->head.first_index, old->file_bytes, r->file_bytes);
    }
    pause_for(log, pause_after(r));
    log->rewrite = NULL;
    rewrite_free(r);
    if (old->retired)
        segment_consider(log, op->fresh); /* perhaps all was released meanwhile */
}

static bool is_worth(const struct log *log, const struct segment *segment)
{
    return segment->sealed && segment->placed == segment->count && !segment->damaged &&
           segment != segments_last(log) && segment_last(segment) <= log->done_index &&
           segment->holds > 0 &&
           segment->live_bytes * WORTH_PART < segment->end - SEGMENT_HEAD_BYTES;
}

static struct segment *find_worst(const struct log *log)
{
    struct segment *worst = NULL;
    for (size_t i = 0; i < log->segment_count; i++) {
        struct segment *segment = log->segments[i];
        if (is_worth(log, segment) &&
            (worst == NULL || segment->end - segment->live_bytes > worst->end - worst->live_bytes))
            worst = segment;
    }
    return worst;
}

void rewrite_consider(struct log *log, struct segment *segment)
{
    if (!log->reclaim || log->rewrite != NULL || log->failed || !log->pace_open ||
        uv_is_active((uv_handle_t *)&log->pace))
        return;
    if (segment == NULL)
        segment = find_worst(log);
    if (segment == NULL || !is_worth(log, segment))
        return;
    if (segment_open_file(log, segment) != 0) {
        pause_for(log, RETRY_MS);
        return;
    }
    struct rewrite *r = plan(log, segment);
    segment->users++; /* so that its file stays open */
    log->rewrite = r;
    int error = uv_queue_work(log->options.loop, &r->work, run_rewrite, after_rewrite);
    ASSERT(error == 0);
}

void rewrite_open(struct log *log)
{
    if (log->pace_open)
        return;
    uv_timer_init(log->options.loop, &log->pace);
    uv_unref((uv_handle_t *)&log->pace);
    log->pace.data = log;
    log->pace_open = true;
}

static void on_pace_closed(uv_handle_t *handle)
{
    struct log *log = handle->data;
    log->pace_open = false;
    log_maybe_closed(log);
}

void rewrite_close(struct log *log)
{
    if (log->pace_open)
        uv_close((uv_handle_t *)&log->pace, on_pace_closed);
}

/* ---- recovery ---- */

bool rewrite_take_footer(struct segment *segment, struct slice footer, uint32_t count, uint32_t end)
{
    struct kept_frame *frames = calloc(count, sizeof *frames);
    ASSERT(frames != NULL);
    if (!sparse_footer_decode(footer, &segment->head, count, end, frames)) {
        free(frames);
        return false;
    }
    segment->offsets = calloc(count, sizeof *segment->offsets);
    segment->numbers = calloc(count, sizeof *segment->numbers);
    segment->blocks_at = calloc(count, sizeof *segment->blocks_at);
    ASSERT(segment->offsets != NULL);
    ASSERT(segment->numbers != NULL);
    ASSERT(segment->blocks_at != NULL);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t blocks = frame_block_count(frames[i].length);
        segment->offsets[i] = frames[i].offset;
        segment->numbers[i] = frames[i].number;
        segment_add_blocks(segment, i, blocks);
        for (uint32_t b = 0; b < blocks; b++)
            segment->live[segment->blocks_at[i] + b] =
                sparse_bit(frames[i].map, b) ? 0 : BLOCK_GONE;
    }
    segment->count = segment->capacity = segment->placed = count;
    segment->end = segment->size = end;
    free(frames);
    return true;
}
