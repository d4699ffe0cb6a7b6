/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a rewritten segment.
 *
 * A sealed segment in which little is still held is rewritten (rewrite.c): what nobody holds is
 * left out, whole frames and single blocks of frames. What is left keeps its index, its place in
 * the payload and its checksums, so that references stay good and no byte is trusted anew. The
 * file keeps its name and its segment id; its header says up to which index it stands, since that
 * can no longer be counted.
 *
 *     SPARSE FRAME: a frame header with flag 1, then
 *     40        4n  CRC-32C of each 4096-byte block of the payload, also of those that are gone
 *     40 + 4n   m   bitmap: bit b % 8 of byte b / 8 is set when block b is left; m = (n + 7) / 8
 *               ... to a multiple of 8, then the blocks that are left, to a multiple of 8
 * The header's checksum covers all that. A frame of which nothing is gone stays as it was. In one
 * that is packed, too, the sizes of the units stand before the bitmap, and units are left, not
 * blocks (unit.c).
 *
 *     FOOTER: one row per frame, then zeros to a multiple of 8, then the trailer (frame.c)
 *     0   4  index less the segment's first index
 *     4   4  file offset of the frame
 *     8   4  length of the whole payload
 *     12  m  bitmap as in the frame; all ones for a frame that is not sparse
 *
 * I1  A rewritten segment is sealed from the start: it comes into being by one rename. */
#include "broker/log/sparse.h"
#include "broker/log/unit.h"

#include "proto/base/assert.h"
#include "proto/base/bytes.h"

#define ROW_BYTES 12u

static uint32_t align8(uint32_t n)
{
    return (n + 7u) & ~7u;
}

uint32_t sparse_map_bytes(uint32_t blocks)
{
    return (blocks + 7) / 8;
}

uint32_t sparse_head_bytes(uint32_t length)
{
    const struct frame frame = {.length = length, .sparse = true};
    return frame_head_size(&frame);
}

/* map_offset: where the bitmap stands in a header: behind the checksums and the sizes of units. */
static uint32_t map_offset(const struct frame *frame)
{
    return FRAME_HEAD_BYTES + 4 * frame_block_count(frame->length) +
           (frame->packed ? 2 * unit_count(frame->length) : 0);
}

void sparse_head_encode(const uint8_t *head, const struct frame *as, uint64_t segment_id,
                        const uint8_t *map, uint8_t *out)
{
    uint32_t head_bytes = frame_head_size(as);
    uint32_t map_at = map_offset(as);
    ASSERT(as->sparse);
    memset(out, 0, head_bytes);
    memcpy(out, head, map_at);
    bytes_put_u16(out + 34, FRAME_FLAG_SPARSE | (as->packed ? FRAME_FLAG_PACKED : 0));
    memcpy(out + map_at, map, sparse_map_bytes(frame_block_count(as->length)));
    frame_seal_head(out, head_bytes, segment_id);
}

static const uint8_t *map_of(const uint8_t *head, const struct frame *frame)
{
    return head + map_offset(frame);
}

bool frame_block_there(const uint8_t *head, const struct frame *frame, uint32_t block)
{
    if (block >= frame_block_count(frame->length))
        return false;
    return !frame->sparse || sparse_bit(map_of(head, frame), block);
}

static uint32_t bytes_before(const struct frame *frame, uint32_t stored, bool last)
{
    uint32_t short_by = frame_block_count(frame->length) * FRAME_BLOCK_BYTES - frame->length;
    return stored * FRAME_BLOCK_BYTES - (last ? short_by : 0);
}

uint32_t frame_block_at(const uint8_t *head, const struct frame *frame, uint32_t block)
{
    uint32_t blocks = frame_block_count(frame->length);
    uint32_t stored = 0;
    bool last = block == blocks && blocks > 0 && frame_block_there(head, frame, blocks - 1);
    ASSERT(block <= blocks && !frame->packed);
    if (!frame->sparse)
        return frame_head_bytes(frame->length) + bytes_before(frame, block, last);
    for (uint32_t i = 0; i < block; i++)
        stored += sparse_bit(map_of(head, frame), i) ? 1 : 0;
    return sparse_head_bytes(frame->length) + bytes_before(frame, stored, last);
}

/* ---- footer ---- */

void sparse_footer_add(struct buffer *footer, const struct kept_frame *frame)
{
    buffer_add_u32(footer, frame->number);
    buffer_add_u32(footer, frame->offset);
    buffer_add_u32(footer, frame->length);
    buffer_add(footer, frame->map, sparse_map_bytes(frame_block_count(frame->length)));
}

void sparse_footer_finish(struct buffer *footer, const struct segment_head *head, uint32_t count,
                          uint32_t end)
{
    static const uint8_t zeros[SEGMENT_TRAILER_BYTES] = {0};
    const struct segment_trailer trailer = {.count = count, .end = end};
    ASSERT(head->last_index > 0);
    buffer_add(footer, zeros, align8((uint32_t)footer->length) - footer->length);
    size_t table_bytes = footer->length;
    buffer_add(footer, zeros, sizeof zeros);
    footer_trailer_encode(footer->data + table_bytes, head, slice_make(footer->data, table_bytes),
                          &trailer);
}

bool sparse_trailer_decode(struct slice in, uint64_t file_bytes, struct segment_trailer *out)
{
    if (in.length != SEGMENT_TRAILER_BYTES || bytes_get_u32(in.data) != FOOTER_MAGIC)
        return false;
    uint64_t frames = bytes_get_u32(in.data + 4);
    uint64_t frames_end = bytes_get_u64(in.data + 16);
    if (frames == 0 || frames_end < SEGMENT_HEAD_BYTES || file_bytes > UINT32_MAX ||
        frames_end > file_bytes - SEGMENT_TRAILER_BYTES ||
        frames > (file_bytes - SEGMENT_TRAILER_BYTES - frames_end) / ROW_BYTES)
        return false;
    *out = (struct segment_trailer){.count = (uint32_t)frames, .end = (uint32_t)frames_end};
    return true;
}

/* read_row: `at` is where the frame may begin, and then where the next may. */
static bool read_row(struct cursor *in, uint64_t *at, uint32_t end, struct kept_frame *out)
{
    out->number = cursor_u32(in);
    out->offset = cursor_u32(in);
    out->length = cursor_u32(in);
    if (in->bad || out->length > FRAME_PAYLOAD_MAX || out->offset < *at)
        return false;
    out->map = cursor_take(in, sparse_map_bytes(frame_block_count(out->length))).data;
    *at = (uint64_t)out->offset + frame_head_bytes(out->length);
    return !in->bad && *at <= end;
}

bool sparse_footer_decode(struct slice in, const struct segment_head *head, uint32_t count,
                          uint32_t end, struct kept_frame *frames)
{
    if (in.length < SEGMENT_TRAILER_BYTES)
        return false;
    struct slice table = {in.data, in.length - SEGMENT_TRAILER_BYTES};
    const uint8_t *trailer = in.data + table.length;
    if (bytes_get_u64(trailer + 8) != head->first_index || head->last_index == 0 ||
        bytes_get_u32(trailer + 32) != footer_crc(head, table, trailer))
        return false;
    struct cursor rows = cursor_of(table);
    uint64_t at = SEGMENT_HEAD_BYTES;
    for (uint32_t i = 0; i < count; i++) {
        bool good = read_row(&rows, &at, end, &frames[i]) &&
                    (i == 0 ? frames[i].offset == SEGMENT_HEAD_BYTES
                            : frames[i].number > frames[i - 1].number) &&
                    frames[i].number <= head->last_index - head->first_index;
        if (!good)
            return false;
    }
    return cursor_left(&rows) < 8;
}
