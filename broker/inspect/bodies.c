/* SPDX-License-Identifier: Apache-2.0 */
/* Is every message that the state refers to still in some segment? While a snapshot that is older
 * than the log is replayed, references to what has gone since come and go, so only the balance at
 * the end counts; the log does the same at start (log_missing). */
#include "broker/inspect/internal.h"
#include "proto/base/assert.h"

#include <stdlib.h>

#define NO_MAP UINT32_MAX

struct body_frame {
    uint64_t index;
    uint32_t blocks;
    uint32_t map_at; /* NO_MAP: all are there */
};

static void add_one(struct bodies *bodies, const struct segment_file *file, uint32_t slot)
{
    struct body_frame row = {segment_file_index(file, slot), file->places[slot].blocks, NO_MAP};
    struct slice at = slice_sub(buffer_slice(&file->bytes), file->places[slot].offset);
    struct frame frame;
    if (file->numbers != NULL && frame_head_decode(at, file->head.id, &frame)) {
        row.blocks = frame_block_count(frame.length);
        row.map_at = (uint32_t)bodies->maps.length;
        for (uint32_t i = 0; i < row.blocks; i++)
            buffer_add_byte(&bodies->maps, frame_block_there(at.data, &frame, i) ? 1 : 0);
    }
    buffer_add(&bodies->frames, &row, sizeof row);
}

void bodies_add(struct bodies *bodies, const struct segment_file *file, uint64_t last)
{
    for (uint32_t slot = 0; slot < file->count; slot++) {
        if (segment_file_index(file, slot) <= last)
            add_one(bodies, file, slot);
    }
}

static int by_index(const void *key, const void *row)
{
    uint64_t index = *(const uint64_t *)key;
    uint64_t other = ((const struct body_frame *)row)->index;
    return index < other ? -1 : index > other;
}

static bool is_there(const struct bodies *bodies, struct body_ref ref)
{
    size_t count = bodies->frames.length / sizeof(struct body_frame);
    const struct body_frame *row =
        count == 0 ? NULL : bsearch(&ref.index, bodies->frames.data, count, sizeof *row, by_index);
    uint64_t end = ((uint64_t)ref.offset + ref.length + FRAME_BLOCK_BYTES - 1) / FRAME_BLOCK_BYTES;
    if (row == NULL || end > row->blocks)
        return false;
    for (uint64_t i = ref.offset / FRAME_BLOCK_BYTES; row->map_at != NO_MAP && i < end; i++) {
        if (bodies->maps.data[row->map_at + i] == 0)
            return false;
    }
    return true;
}

void bodies_hold(void *data, struct body_ref ref)
{
    struct bodies *bodies = data;
    bodies->held++;
    bodies->held_bytes += ref.length;
    if (is_there(bodies, ref))
        return;
    bodies->missing++;
    bodies->missing_index = ref.index;
}

void bodies_release(void *data, struct body_ref ref)
{
    struct bodies *bodies = data;
    bodies->held--;
    bodies->held_bytes -= ref.length;
    if (!is_there(bodies, ref))
        bodies->missing--;
}

void bodies_free(struct bodies *bodies)
{
    buffer_free(&bodies->frames);
    buffer_free(&bodies->maps);
    *bodies = (struct bodies){0};
}
