/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of bodies from another node. Once as they are; once as frames that are laid out as the
 * input says, with every checksum right, and then changed in places that it names, with the
 * checksum of the header put right again or not: so that impossible lengths and maps get past it.
 * What decodes must say what the bytes say; what was not changed must decode. */
#include "broker/log/piece.h"
#include "broker/log/plan.h"
#include "proto/base/assert.h"
#include "proto/base/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* decode_all: how many frames; -1 when one is refused. */
static int decode_all(struct slice in)
{
    struct piece_frame piece;
    int count = 0;
    while (in.length > 0) {
        size_t before = in.length;
        if (!piece_next(&in, &piece))
            return -1;
        ASSERT(in.length < before);
        uint32_t blocks = frame_block_count(piece.frame.length);
        uint32_t there = 0;
        for (uint32_t i = 0; i < blocks; i++)
            there += sparse_bit(piece.map, i) ? 1 : 0;
        ASSERT(there == 0 ? piece.first == blocks : piece.first <= piece.last);
        ASSERT(piece.blocks.length <= (size_t)there * FRAME_BLOCK_BYTES);
        ASSERT((there == 0) == (piece.blocks.length == 0));
        ASSERT(there == 0 || piece.last < blocks);
        count++;
    }
    return count;
}

/* add_frame: u16 length of the payload and a byte of its map; false when the input is used up. */
static bool add_frame(struct cursor *in, uint64_t index, struct buffer *out)
{
    static uint8_t payload[65536];
    uint32_t length = cursor_u16(in);
    uint8_t map[3] = {cursor_u8(in), cursor_u8(in), 0};
    struct frame frame = {.index = index, .term = 1, .length = length, .type = 1};
    struct buffer head = {0};
    if (in->bad)
        return false;
    uint32_t blocks = frame_block_count(length);
    for (uint32_t i = blocks; i < 24; i++)
        map[i / 8] = (uint8_t)(map[i / 8] & ~(1u << i % 8));
    memset(payload, (int)index, length);
    frame_head_encode(&frame, 99, payload, NULL, buffer_reserve(&head, frame_head_bytes(length)));
    piece_add_head(out, head.data, &frame, map);
    for (uint32_t i = 0; i < blocks; i++) {
        uint32_t left = length - i * FRAME_BLOCK_BYTES;
        if (sparse_bit(map, i))
            buffer_add(out, payload, left < FRAME_BLOCK_BYTES ? left : FRAME_BLOCK_BYTES);
    }
    piece_pad(out);
    buffer_free(&head);
    return true;
}

static void change(struct cursor *in, struct buffer *bytes)
{
    for (int i = 0; i < 4 && bytes->length > 0; i++) {
        size_t at = cursor_u16(in) % bytes->length;
        uint8_t bits = cursor_u8(in);
        bool seal = cursor_u8(in) % 2 == 0;
        bytes->data[at] ^= bits;
        uint32_t head_bytes = frame_peek_bytes(buffer_slice(bytes));
        if (seal && head_bytes > 0 && head_bytes <= bytes->length)
            frame_seal_head(bytes->data, head_bytes, 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cursor in = cursor_of(slice_make(data, size));
    struct install_plan plan;
    struct buffer bytes = {0};
    int count = 0;
    decode_all(slice_make(data, size));
    if (plan_decode(slice_make(data, size), &plan))
        ASSERT(plan.index > plan.keep_index);
    int frames = cursor_u8(&in) % 4;
    while (count < frames && add_frame(&in, 1 + (uint64_t)count, &bytes))
        count++;
    ASSERT(decode_all(buffer_slice(&bytes)) == count);
    change(&in, &bytes);
    decode_all(buffer_slice(&bytes));
    buffer_free(&bytes);
    return 0;
}
