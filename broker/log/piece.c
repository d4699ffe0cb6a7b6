/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes by which bodies go from node to node. See piece.h and sparse.c. */
#include "broker/log/piece.h"

#define NO_SEGMENT UINT64_C(0)

static uint32_t align8(uint32_t n)
{
    return (n + 7u) & ~7u;
}

void piece_add_head(struct buffer *out, const uint8_t *head, const struct frame *from,
                    const uint8_t *map)
{
    const struct frame as = {.length = from->length, .sparse = true};
    uint32_t head_bytes = frame_head_size(&as);
    sparse_head_encode(head, &as, NO_SEGMENT, map, buffer_reserve(out, head_bytes));
    buffer_added(out, head_bytes);
}

void piece_pad(struct buffer *out)
{
    size_t odd = out->length % 8;
    buffer_add(out, "\0\0\0\0\0\0\0", odd > 0 ? 8 - odd : 0);
}

static uint32_t block_bytes(uint32_t length, uint32_t block)
{
    uint32_t left = length - block * FRAME_BLOCK_BYTES;
    return left < FRAME_BLOCK_BYTES ? left : FRAME_BLOCK_BYTES;
}

/* check_blocks: all that the map names, against the table; also fills in first and last. */
static bool check_blocks(struct piece_frame *piece)
{
    uint32_t blocks = frame_block_count(piece->frame.length);
    struct slice rest = piece->blocks;
    piece->first = piece->last = blocks;
    for (uint32_t i = 0; i < blocks; i++) {
        if (!sparse_bit(piece->map, i))
            continue;
        struct slice block = {rest.data, block_bytes(piece->frame.length, i)};
        if (!frame_blocks_match(piece->head, piece->frame.length, i, block))
            return false;
        piece->first = piece->first < i ? piece->first : i;
        piece->last = i;
        rest = slice_sub(rest, block.length);
    }
    return rest.length == 0;
}

/* tail_is_clear: bits of the map that stand for no block. */
static bool tail_is_clear(const uint8_t *map, uint32_t blocks)
{
    return blocks % 8 == 0 || map[blocks / 8] >> blocks % 8 == 0;
}

bool piece_next(struct slice *in, struct piece_frame *out)
{
    if (!frame_head_decode(*in, NO_SEGMENT, &out->frame) || !out->frame.sparse ||
        out->frame.packed || out->frame.index == 0)
        return false;
    uint32_t blocks = frame_block_count(out->frame.length);
    uint32_t head_bytes = sparse_head_bytes(out->frame.length);
    out->head = in->data;
    out->map = in->data + FRAME_HEAD_BYTES + 4 * (size_t)blocks;
    if (!tail_is_clear(out->map, blocks))
        return false;
    uint32_t end = frame_block_at(out->head, &out->frame, blocks);
    if (in->length < align8(end))
        return false;
    out->blocks = slice_make(in->data + head_bytes, end - head_bytes);
    *in = slice_sub(*in, align8(end));
    return check_blocks(out);
}
