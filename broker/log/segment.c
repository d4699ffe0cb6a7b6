/* SPDX-License-Identifier: Apache-2.0 */
/* The segments in memory: which there are, where their frames begin, who needs them.
 *
 * Per entry the log keeps eight bytes, the offset of its frame and the number of its first block,
 * and per block of 4 KiB of the payload two, how many bodies in it are held: so a rewrite
 * (rewrite.c) knows what to leave out without asking. Segments stand in an array by first index;
 * finding one is a binary search, with a short cut for the last, where most of the work is.
 *
 * I1  The last segment is never removed here: appends go to it, and it says what index comes next.
 * I2  A segment goes only when its entries are done with, no body in it is held, and no operation
 * or read uses it. Each of the places where one of these ends calls segment_consider.
 * I3  Frames are placed in the order of their indexes, and nobody asks where one stands that is not
 * placed: it is not durable, so it is not read; and the writer seals or cuts a segment only when
 * all of its frames are placed. */
#include "broker/log/internal.h"
#include "proto/base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct segment *segment_new(uint64_t id, uint64_t first_index, uint32_t size)
{
    struct segment *segment = calloc(1, sizeof *segment);
    ASSERT(segment != NULL);
    ASSERT(first_index > 0);
    segment->head = (struct segment_head){.id = id, .first_index = first_index};
    segment->end = SEGMENT_HEAD_BYTES;
    segment->size = size;
    segment->file_bytes = size;
    segment->fd = -1;
    return segment;
}

void segment_free(struct segment *segment)
{
    if (segment->fd >= 0)
        close(segment->fd);
    free(segment->offsets);
    free(segment->blocks_at);
    free(segment->numbers);
    free(segment->live);
    free(segment);
}

void segment_name(uint64_t first_index, char out[NAME_BYTES])
{
    snprintf(out, NAME_BYTES, "%020" PRIu64 ".seg", first_index);
}

uint64_t segment_name_parse(const char *name)
{
    char expected[NAME_BYTES];
    uint64_t first_index = strtoull(name, NULL, 10);
    segment_name(first_index, expected);
    return strcmp(name, expected) == 0 ? first_index : 0;
}

uint64_t segment_last(const struct segment *segment)
{
    if (segment->head.last_index > 0)
        return segment->head.last_index;
    return segment->head.first_index + segment->count - 1;
}

static void *grow(void *array, uint32_t count, size_t size)
{
    void *grown = reallocarray(array, count, size);
    ASSERT(grown != NULL);
    return grown;
}

void segment_add_blocks(struct segment *segment, uint32_t slot, uint32_t blocks)
{
    uint32_t need = segment->block_count + blocks;
    if (need > segment->block_capacity) {
        uint32_t doubled = segment->block_capacity * 2;
        segment->block_capacity = need > doubled ? need : doubled;
        segment->live = grow(segment->live, segment->block_capacity, sizeof *segment->live);
    }
    if (blocks > 0)
        memset(segment->live + segment->block_count, 0, blocks * sizeof *segment->live);
    segment->blocks_at[slot] = segment->block_count;
    segment->block_count = need;
}

void segment_add_frame(struct segment *segment, uint32_t length)
{
    if (segment->count == segment->capacity) {
        segment->capacity = segment->capacity < 64 ? 64 : segment->capacity * 2;
        segment->offsets = grow(segment->offsets, segment->capacity, sizeof *segment->offsets);
        segment->blocks_at =
            grow(segment->blocks_at, segment->capacity, sizeof *segment->blocks_at);
    }
    segment_add_blocks(segment, segment->count, frame_block_count(length));
    segment->count++;
    segment->reserved += frame_bytes(length);
    ASSERT((uint64_t)segment->end + segment->reserved <= segment->size);
}

uint32_t segment_slot_bytes(const struct segment *segment, uint32_t slot)
{
    uint32_t next = slot + 1 < segment->placed ? segment->offsets[slot + 1] : segment->end;
    ASSERT(slot < segment->placed);
    return next - segment->offsets[slot];
}

uint32_t segment_slot_blocks(const struct segment *segment, uint32_t slot)
{
    uint32_t next = slot + 1 < segment->count ? segment->blocks_at[slot + 1] : segment->block_count;
    return next - segment->blocks_at[slot];
}

/* It must not change between a hold and its release, but for what segment_place_frame does about
 * it. In a rewritten segment blocks are missing, so it is an upper bound there: else it would be
 * rewritten again and again. */
uint32_t segment_block_cost(const struct segment *segment, uint32_t slot)
{
    uint32_t blocks = segment_slot_blocks(segment, slot);
    if (slot >= segment->placed || blocks == 0)
        return FRAME_BLOCK_BYTES;
    uint32_t bytes = segment_slot_bytes(segment, slot);
    if (segment->numbers == NULL)
        return bytes / blocks;
    return blocks == 1 || bytes < FRAME_BLOCK_BYTES ? bytes : FRAME_BLOCK_BYTES;
}

void segment_place_frame(struct segment *segment, uint64_t index, uint32_t length, uint32_t offset,
                         uint32_t bytes)
{
    uint64_t slot = index - segment->head.first_index;
    segment->reserved -= frame_bytes(length);
    if (slot >= segment->count)
        return; /* it was cut off in the meantime */
    ASSERT(slot == segment->placed && offset == segment->end);
    const uint16_t *live = segment->live + segment->blocks_at[slot];
    uint32_t blocks = segment_slot_blocks(segment, (uint32_t)slot);
    uint32_t held = 0;
    for (uint32_t i = 0; i < blocks; i++)
        held += live[i] > 0 ? 1 : 0;
    segment->live_bytes -= (uint64_t)held * segment_block_cost(segment, (uint32_t)slot);
    segment->offsets[slot] = offset;
    segment->end = offset + bytes;
    segment->placed++;
    segment->live_bytes += (uint64_t)held * segment_block_cost(segment, (uint32_t)slot);
}

void segment_cut(struct segment *segment, uint32_t count)
{
    ASSERT(segment->numbers == NULL); /* done with, so not to be truncated */
    ASSERT(count < segment->count);
    segment->count = count;
    segment->block_count = segment->blocks_at[count];
    if (segment->placed <= count)
        return;
    segment->placed = count;
    segment->end = segment->offsets[count];
}

void segment_footer(const struct segment *segment, struct buffer *out)
{
    struct frame_place *places = calloc(segment->count, sizeof *places);
    ASSERT(places != NULL);
    ASSERT(segment->numbers == NULL && segment->placed == segment->count);
    for (uint32_t i = 0; i < segment->count; i++)
        places[i] = (struct frame_place){segment->offsets[i], segment_slot_blocks(segment, i)};
    segment_footer_encode(out, &segment->head, places, segment->count, segment->end);
    free(places);
}

void segment_take_places(struct segment *segment, const struct frame_place *places, uint32_t count,
                         uint32_t end)
{
    segment->count = segment->capacity = segment->placed = count;
    segment->end = segment->size = end;
    segment->offsets = grow(segment->offsets, count + 1, sizeof *segment->offsets);
    segment->blocks_at = grow(segment->blocks_at, count + 1, sizeof *segment->blocks_at);
    for (uint32_t i = 0; i < count; i++) {
        segment->offsets[i] = places[i].offset;
        segment_add_blocks(segment, i, places[i].blocks);
    }
}

bool segment_slot(const struct segment *segment, uint64_t index, uint32_t *slot)
{
    uint64_t number = index - segment->head.first_index;
    uint32_t low = 0;
    if (index < segment->head.first_index || index > segment_last(segment))
        return false;
    *slot = (uint32_t)number;
    if (segment->numbers == NULL)
        return number < segment->count;
    for (uint32_t high = segment->count; low < high;) {
        uint32_t middle = low + (high - low) / 2;
        if (segment->numbers[middle] < number)
            low = middle + 1;
        else
            high = middle;
    }
    *slot = low;
    return low < segment->count && segment->numbers[low] == number;
}

/* ---- who holds what ---- */

struct range {
    uint16_t *live; /* of the first block */
    uint32_t count;
    uint32_t cost; /* of a block */
};

/* range_of: the blocks that a body touches; false if it is not there, or not whole. */
static bool range_of(const struct segment *segment, struct body_ref ref, struct range *out)
{
    uint32_t slot;
    if (!segment_slot(segment, ref.index, &slot))
        return false;
    uint32_t blocks = segment_slot_blocks(segment, slot);
    uint64_t end = ((uint64_t)ref.offset + ref.length + FRAME_BLOCK_BYTES - 1) / FRAME_BLOCK_BYTES;
    uint32_t first = ref.offset / FRAME_BLOCK_BYTES;
    if (end > blocks || first > end)
        return false;
    out->live = segment->live + segment->blocks_at[slot] + first;
    out->count = (uint32_t)end - first;
    out->cost = segment_block_cost(segment, slot);
    for (uint32_t i = 0; i < out->count; i++) {
        if (out->live[i] == BLOCK_GONE)
            return false;
    }
    return true;
}

bool segment_hold(struct segment *segment, struct body_ref ref)
{
    struct range range;
    if (!range_of(segment, ref, &range))
        return false;
    segment->holds++;
    for (uint32_t i = 0; i < range.count; i++) {
        if (range.live[i] == 0)
            segment->live_bytes += range.cost;
        if (range.live[i] != BLOCK_STUCK)
            range.live[i]++;
    }
    return true;
}

bool segment_release(struct segment *segment, struct body_ref ref)
{
    struct range range;
    if (!range_of(segment, ref, &range))
        return false;
    ASSERT(segment->holds > 0);
    segment->holds--;
    for (uint32_t i = 0; i < range.count; i++) {
        if (range.live[i] == BLOCK_STUCK)
            continue;
        ASSERT(range.live[i] > 0);
        if (--range.live[i] == 0)
            segment->live_bytes -= range.cost;
    }
    return true;
}

void segments_hold_nothing(struct log *log)
{
    for (size_t i = 0; i < log->segment_count; i++) {
        struct segment *segment = log->segments[i];
        for (uint32_t b = 0; b < segment->block_count; b++)
            segment->live[b] = segment->live[b] == BLOCK_GONE ? BLOCK_GONE : 0;
        segment->holds = 0;
        segment->live_bytes = 0;
    }
    log->missing = 0;
}

/* ---- all of them ---- */

void segments_add(struct log *log, struct segment *segment)
{
    struct segment *last = segments_last(log);
    ASSERT(last == NULL || last->head.first_index < segment->head.first_index);
    if (log->segment_count == log->segment_capacity) {
        log->segment_capacity = log->segment_capacity < 16 ? 16 : log->segment_capacity * 2;
        log->segments = realloc(log->segments, log->segment_capacity * sizeof *log->segments);
        ASSERT(log->segments != NULL);
    }
    log->segments[log->segment_count++] = segment;
}

/* upper_bound: how many segments begin at `index` or before. */
static size_t upper_bound(const struct log *log, uint64_t index)
{
    size_t low = 0;
    size_t high = log->segment_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (log->segments[middle]->head.first_index <= index)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void segments_remove(struct log *log, struct segment *segment)
{
    size_t at = upper_bound(log, segment->head.first_index);
    ASSERT(at > 0 && log->segments[at - 1] == segment);
    memmove(&log->segments[at - 1], &log->segments[at],
            (log->segment_count - at) * sizeof *log->segments);
    log->segment_count--;
}

void segments_replace(struct log *log, struct segment *old, struct segment *fresh)
{
    size_t at = upper_bound(log, old->head.first_index);
    ASSERT(at > 0 && log->segments[at - 1] == old);
    ASSERT(fresh->head.first_index == old->head.first_index);
    log->segments[at - 1] = fresh;
}

struct segment *segments_last(const struct log *log)
{
    return log->segment_count > 0 ? log->segments[log->segment_count - 1] : NULL;
}

struct segment *segments_find(const struct log *log, uint64_t index)
{
    struct segment *segment = segments_last(log);
    if (segment == NULL || index < segment->head.first_index) {
        size_t at = upper_bound(log, index);
        segment = at > 0 ? log->segments[at - 1] : NULL;
    }
    return segment != NULL && segment->count > 0 && index <= segment_last(segment) ? segment : NULL;
}

/* close_one_file: the sealed one that was not read for longest and is not in use. */
static void close_one_file(struct log *log)
{
    struct segment *oldest = NULL;
    for (size_t i = 0; i < log->segment_count; i++) {
        struct segment *segment = log->segments[i];
        /* In this order: while it is used its file may be the writer's. */
        bool idle = segment->users == 0 && segment->sealed && segment->fd >= 0;
        if (idle && (oldest == NULL || segment->last_used < oldest->last_used))
            oldest = segment;
    }
    if (oldest == NULL)
        return;
    close(oldest->fd);
    oldest->fd = -1;
    log->open_files--;
}

int segment_open_file(struct log *log, struct segment *segment)
{
    char name[NAME_BYTES];
    segment->last_used = ++log->read_clock;
    if (segment->fd >= 0)
        return 0;
    ASSERT(segment->sealed);
    if (log->open_files >= OPEN_FILES_MAX)
        close_one_file(log);
    segment_name(segment->head.first_index, name);
    segment->fd = openat(log->segments_fd, name, O_RDWR | O_CLOEXEC); /* to be cut at its end */
    if (segment->fd < 0)
        return errno;
    log->open_files++;
    return 0;
}
