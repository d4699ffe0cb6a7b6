/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as a segment file: scanning and reading its footer never reads outside, and
 * whatever scan finds can be decoded again. The first 16 bytes are the header's fields, so that
 * inputs need not guess a checksum to get further; frames are stamped likewise at the offsets that
 * the input names, so that damaged, stale and repeated frames all come up. */
#include "broker/log/sparse.h"
#include "broker/log/unit.h"
#include "proto/base/assert.h"
#include "proto/base/bytes.h"

#include <stdlib.h>

#define FILE_BYTES_MAX (1u << 16)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* stamp: lay frames over `file` as the recipe says: u16 offset / 8, u16 length, u8 index, u8
 * synced. A length of 9000 and more makes it a packed one, over whatever units stand there. */
static void stamp(struct slice recipe, uint8_t *file, size_t length,
                  const struct segment_head *head)
{
    struct cursor in = cursor_of(recipe);
    for (int i = 0; i < 16; i++) {
        size_t offset = SEGMENT_HEAD_BYTES + (size_t)cursor_u16(&in) * 8;
        uint32_t length_word = cursor_u16(&in);
        struct frame frame = {.length = length_word % 9000u, .term = 1, .type = 1};
        uint16_t unit = (uint16_t)(frame.length > 0 ? 1 + length_word % frame.length : 1);
        frame.packed = length_word >= 9000 && frame.length > 0;
        frame.index = head->first_index + cursor_u8(&in);
        frame.synced_index = cursor_u8(&in);
        if (in.bad || offset + frame_bytes(frame.length) + 8 > length)
            return;
        uint8_t *at = file + offset;
        frame_head_encode(&frame, head->id, at + frame_head_size(&frame),
                          frame.packed ? &unit : NULL, at);
    }
}

/* read_sparse: as a rewritten segment, and its frames as sparse ones. */
static void read_sparse(struct slice file, struct segment_head head)
{
    struct segment_trailer what;
    head.last_index = head.first_index + 1000;
    struct slice trailer = slice_sub(file, file.length - SEGMENT_TRAILER_BYTES);
    uint8_t *bytes = (uint8_t *)(uintptr_t)trailer.data;
    if (!sparse_trailer_decode(trailer, file.length, &what))
        return;
    uint32_t count = what.count;
    uint32_t end = what.end;
    struct slice footer = slice_sub(file, end);
    struct buffer scratch = {0};
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
            struct slice at = slice_sub(file, frames[i].offset);
            struct slice payload;
            ASSERT(frame_head_size(&frame) <= frame_payload_end(at.data, &frame));
            if (frame_payload(at, &frame, &scratch, &payload))
                ASSERT(payload.length == (frame.sparse ? 0 : frame.length));
        }
    }
    buffer_free(&scratch);
    free(frames);
}

static void read_footer(struct slice file, const struct segment_head *head)
{
    struct segment_trailer what;
    if (file.length < SEGMENT_TRAILER_BYTES ||
        !segment_trailer_decode(slice_sub(file, file.length - SEGMENT_TRAILER_BYTES), file.length,
                                &what))
        return;
    struct slice footer = slice_sub(file, what.end);
    struct slice table = {footer.data, footer.length - SEGMENT_TRAILER_BYTES};
    uint8_t *trailer = (uint8_t *)(uintptr_t)(table.data + table.length);
    bytes_put_u64(trailer + 8, head->first_index);
    bytes_put_u32(trailer + 32, footer_crc(head, table, trailer));
    struct frame_place *places = calloc(what.count, sizeof *places);
    ASSERT(places != NULL);
    if (segment_footer_decode(footer, head, &what, places)) {
        ASSERT(places[what.count - 1].offset < what.end);
        for (uint32_t i = 0; i < what.count; i++)
            ASSERT(places[i].blocks <= what.end / 4);
    }
    free(places);
}

static void scan(struct slice file, const struct segment_head *head)
{
    struct buffer places = {0};
    uint32_t end;
    bool torn;
    enum status status = segment_scan(file, head, &places, &end, &torn);
    ASSERT(status == STATUS_OK || status == STATUS_CORRUPT);
    for (size_t i = 0; i < places.length / sizeof(struct frame_place); i++) {
        struct frame_place at;
        struct frame frame;
        memcpy(&at, places.data + i * sizeof at, sizeof at);
        ASSERT(at.offset < end);
        ASSERT(frame_head_decode(slice_sub(file, at.offset), head->id, &frame));
        ASSERT(frame.index == head->first_index + i);
        ASSERT(at.blocks == frame_block_count(frame.length));
    }
    buffer_free(&places);
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
