/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as a segment file: scanning and reading its footer never reads outside, and
 * whatever scan finds can be decoded again. The first 16 bytes are the header's fields, so that
 * inputs need not guess a checksum to get further; frames are stamped likewise at the offsets that
 * the input names, so that damaged, stale and repeated frames all come up. */
#include "broker/log/sparse.h"
#include "proto/base/assert.h"
#include "proto/base/bytes.h"

#include <stdlib.h>

#define FILE_BYTES_MAX (1u << 16)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* stamp: lay frames over `file` as the recipe says: u16 offset / 8, u16 length, u8 index, u8
 * synced. */
static void stamp(struct slice recipe, uint8_t *file, size_t length,
                  const struct segment_head *head)
{
    struct cursor in = cursor_of(recipe);
    for (int i = 0; i < 16; i++) {
        size_t offset = SEGMENT_HEAD_BYTES + (size_t)cursor_u16(&in) * 8;
        struct frame frame = {.length = cursor_u16(&in) % 9000u, .term = 1, .type = 1};
        frame.index = head->first_index + cursor_u8(&in);
        frame.synced_index = cursor_u8(&in);
        if (in.bad || offset + frame_bytes(frame.length) > length)
            return;
        uint8_t *at = file + offset;
        frame_head_encode(&frame, head->id, at + frame_head_bytes(frame.length), at);
    }
}

/* read_sparse: as a rewritten segment, and its frames as sparse ones. */
static void read_sparse(struct slice file, struct segment_head head)
{
    uint32_t count;
    uint32_t end;
    head.last_index = head.first_index + 1000;
    struct slice trailer = slice_sub(file, file.length - SEGMENT_TRAILER_BYTES);
    uint8_t *bytes = (uint8_t *)(uintptr_t)trailer.data;
    if (!sparse_trailer_decode(trailer, file.length, &count, &end))
        return;
    struct slice footer = slice_sub(file, end);
    struct slice table = {footer.data, footer.length - SEGMENT_TRAILER_BYTES};
    bytes_put_u64(bytes + 8, head.first_index); /* no need to guess these either */
    bytes_put_u32(bytes + 32, footer_crc(&head, table, bytes));
    struct kept_frame *frames = calloc(count, sizeof *frames);
    ASSERT(frames != NULL);
    if (sparse_footer_decode(footer, &head, count, end, frames)) {
        for (uint32_t i = 0; i < count; i++) {
            struct frame frame;
            ASSERT(frames[i].offset < end);
            if (!frame_head_decode(slice_sub(file, frames[i].offset), head.id, &frame))
                continue;
            const uint8_t *at = file.data + frames[i].offset;
            uint32_t blocks = frame_block_count(frame.length);
            ASSERT(frame_block_at(at, &frame, 0) <= frame_block_at(at, &frame, blocks));
        }
    }
    free(frames);
}

static void read_footer(struct slice file, const struct segment_head *head)
{
    uint32_t count;
    uint32_t end;
    if (file.length < SEGMENT_TRAILER_BYTES ||
        !segment_trailer_decode(slice_sub(file, file.length - SEGMENT_TRAILER_BYTES), file.length,
                                &count, &end))
        return;
    uint32_t *offsets = calloc(count, sizeof *offsets);
    ASSERT(offsets != NULL);
    if (segment_footer_decode(slice_sub(file, end), head, count, end, offsets))
        ASSERT(offsets[count - 1] < end);
    free(offsets);
}

static void scan(struct slice file, const struct segment_head *head)
{
    struct buffer offsets = {0};
    uint32_t end;
    bool torn;
    enum status status = segment_scan(file, head, &offsets, &end, &torn);
    ASSERT(status == STATUS_OK || status == STATUS_CORRUPT);
    for (size_t i = 0; i < offsets.length / sizeof(uint32_t); i++) {
        uint32_t at;
        struct frame frame;
        memcpy(&at, offsets.data + i * sizeof at, sizeof at);
        ASSERT(at < end);
        ASSERT(frame_head_decode(slice_sub(file, at), head->id, &frame));
        ASSERT(frame.index == head->first_index + i);
    }
    buffer_free(&offsets);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct segment_head head;
    if (segment_head_decode(slice_make(data, size), &head))
        scan(slice_make(data, size), &head);
    if (size < 128 || size > FILE_BYTES_MAX)
        return 0;
    uint8_t *file = malloc(size);
    ASSERT(file != NULL);
    memcpy(file, data, size);
    head.id = bytes_get_u64(data);
    head.first_index = 1 + (bytes_get_u64(data + 8) >> 8);
    segment_head_encode(&head, file);
    stamp(slice_make(data + 16, 112), file, size, &head);
    scan(slice_make(file, size), &head);
    read_footer(slice_make(file, size), &head);
    read_sparse(slice_make(file, size), head);
    free(file);
    return 0;
}
