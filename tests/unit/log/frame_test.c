/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of frames and footers: the example of docs/format.md, the ends of ranges, and every
 * single flipped bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/log/frame.h"
#include "broker/log/meta.h"
#include "broker/log/sparse.h"
#include "proto/base/bytes.h"

#include <stdlib.h>

static void the_documented_example(void **state)
{
    static const uint8_t expected[48] = {
        0x4d, 0x52, 0x46, 0x52, 5,    0,    0,    0,    1,    0,    0,    0,    0, 0, 0, 0,
        1,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0, 0, 0, 0,
        1,    0,    0,    0,    0xe5, 0x09, 0x30, 0xeb, 0x4c, 0xbb, 0x71, 0x9a, 0, 0, 0, 0};
    (void)state;
    uint8_t out[48];
    struct frame frame = {.index = 1, .term = 1, .length = 5, .type = 1};
    assert_int_equal(frame_head_bytes(5), 48);
    assert_int_equal(frame_bytes(5), 56);
    frame_head_encode(&frame, 0, (const uint8_t *)"hello", NULL, out);
    assert_memory_equal(out, expected, sizeof expected);
}

static void every_flipped_bit_is_found(void **state)
{
    (void)state;
    enum { LENGTH = 5000 };
    uint8_t payload[LENGTH];
    struct frame frame = {.index = 9, .term = 2, .synced_index = 8, .length = LENGTH, .type = 1};
    struct frame out;
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i * 13);
    size_t head_bytes = frame_head_bytes(LENGTH);
    uint8_t *head = malloc(head_bytes);
    frame_head_encode(&frame, 77, payload, NULL, head);
    struct slice whole = {head, head_bytes};
    assert_true(frame_head_decode(whole, 77, &out));
    assert_int_equal(out.synced_index, 8);
    assert_false(frame_head_decode(whole, 78, &out)); /* another use of the file */
    assert_false(frame_head_decode(slice_make(head, head_bytes - 1), 77, &out));
    for (size_t bit = 0; bit < head_bytes * 8; bit++) {
        head[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(frame_head_decode(whole, 77, &out));
        head[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(frame_blocks_match(head, LENGTH, 0, slice_make(payload, LENGTH)));
    assert_true(frame_blocks_match(head, LENGTH, 1, slice_make(payload + 4096, LENGTH - 4096)));
    assert_false(frame_blocks_match(head, LENGTH, 0, slice_make(payload, LENGTH - 1)));
    assert_false(frame_blocks_match(head, LENGTH, 1, slice_make(payload, LENGTH)));
    payload[4999] ^= 1;
    assert_true(frame_blocks_match(head, LENGTH, 0, slice_make(payload, 4096)));
    assert_false(frame_blocks_match(head, LENGTH, 0, slice_make(payload, LENGTH)));
    free(head);
}

static void footers_hold_their_places(void **state)
{
    (void)state;
    struct segment_head head = {5, 100, 0};
    const struct frame_place places[3] = {{SEGMENT_HEAD_BYTES, 1}, {128, 9}, {512, 0}};
    struct frame_place out[3];
    struct segment_trailer what;
    struct buffer footer = {0};
    segment_footer_encode(&footer, &head, places, 3, 600);
    struct slice all = buffer_slice(&footer);
    struct slice trailer = slice_sub(all, all.length - SEGMENT_TRAILER_BYTES);
    assert_true(segment_trailer_decode(trailer, 600 + all.length, &what));
    assert_int_equal(what.count, 3);
    assert_int_equal(what.end, 600);
    assert_false(segment_trailer_decode(trailer, 601 + all.length, &what));
    assert_true(segment_footer_decode(all, &head, &what, out));
    assert_memory_equal(out, places, sizeof out);
    for (size_t bit = 0; bit < (all.length - 4) * 8; bit++) { /* but the 4 zeros at the end */
        footer.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(segment_trailer_decode(trailer, 600 + all.length, &what) &&
                     segment_footer_decode(all, &head, &what, out));
        footer.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buffer_free(&footer);
}

/* Of format 1: offsets only, since the size of a frame told its blocks. */
static void footers_of_format_1_are_read(void **state)
{
    (void)state;
    struct segment_head head = {5, 100, 0};
    uint8_t footer[16 + SEGMENT_TRAILER_BYTES] = {0};
    struct frame_place out[3];
    struct segment_trailer what;
    uint32_t second = SEGMENT_HEAD_BYTES + frame_bytes(5000);
    uint32_t third = second + frame_bytes(0);
    uint32_t end = third + frame_bytes(4096);
    const struct segment_trailer trailer = {3, end, FOOTER_ROWS_OFFSETS};
    bytes_put_u32(footer, SEGMENT_HEAD_BYTES);
    bytes_put_u32(footer + 4, second);
    bytes_put_u32(footer + 8, third);
    footer_trailer_encode(footer + 16, &head, slice_make(footer, 16), &trailer);
    assert_true(segment_trailer_decode(slice_make(footer + 16, SEGMENT_TRAILER_BYTES),
                                       end + sizeof footer, &what));
    assert_true(segment_footer_decode(slice_make(footer, sizeof footer), &head, &what, out));
    assert_int_equal(out[0].blocks, 2);
    assert_int_equal(out[1].offset, second);
    assert_int_equal(out[1].blocks, 0);
    assert_int_equal(out[2].blocks, 1);
}

static void sizes_tell_the_count_of_blocks(void **state)
{
    (void)state;
    for (uint32_t length = 0; length < 300000; length++)
        assert_int_equal(frame_blocks_in(frame_bytes(length)), frame_block_count(length));
    for (uint32_t length = FRAME_PAYLOAD_MAX - 9000; length <= FRAME_PAYLOAD_MAX; length++)
        assert_int_equal(frame_blocks_in(frame_bytes(length)), frame_block_count(length));
}

/* docs/format.md, "Rewritten segments": of three blocks the middle one is gone. */
static void sparse_frames_hold_their_blocks(void **state)
{
    (void)state;
    enum { LENGTH = 10000 };
    uint8_t payload[LENGTH];
    uint8_t head[56];
    uint8_t out[56];
    const uint8_t map = 5;
    struct frame frame = {.index = 9, .term = 2, .synced_index = 8, .length = LENGTH, .type = 1};
    struct frame read;
    struct frame as = {.length = LENGTH, .sparse = true};
    memset(payload, 'x', sizeof payload);
    assert_int_equal(frame_head_bytes(LENGTH), 56);
    assert_int_equal(sparse_head_bytes(LENGTH), 56);
    frame_head_encode(&frame, 77, payload, NULL, head);
    sparse_head_encode(head, &as, 77, &map, out);
    assert_int_equal(out[34], FRAME_FLAG_SPARSE);
    assert_int_equal(out[52], 5);
    assert_memory_equal(out + 40, head + 40, 12);
    struct slice whole = {out, sizeof out};
    assert_true(frame_head_decode(whole, 77, &read));
    assert_true(read.sparse);
    assert_int_equal(read.index, 9);
    assert_true(frame_block_there(out, &read, 0));
    assert_false(frame_block_there(out, &read, 1));
    assert_true(frame_block_there(out, &read, 2));
    assert_false(frame_block_there(out, &read, 3));
    assert_int_equal(frame_block_at(out, &read, 0), 56);
    assert_int_equal(frame_block_at(out, &read, 2), 56 + 4096);
    assert_int_equal(frame_block_at(out, &read, 3), 56 + 4096 + LENGTH - 8192);
    assert_int_equal(frame_block_at(head, &frame, 3), 56 + LENGTH);
    for (size_t bit = 0; bit < sizeof out * 8; bit++) {
        out[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(frame_head_decode(whole, 77, &read));
        out[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void rewritten_footers_hold_their_rows(void **state)
{
    (void)state;
    struct segment_head head = {5, 100, 120};
    const uint8_t maps[2] = {5, 1};
    struct kept_frame rows[2] = {{3, SEGMENT_HEAD_BYTES, 10000, &maps[0]}, {20, 0, 100, &maps[1]}};
    struct kept_frame out[2];
    struct buffer footer = {0};
    struct segment_trailer what;
    rows[1].offset = SEGMENT_HEAD_BYTES + 56 + 4096 + 1808;
    uint32_t stop = rows[1].offset + frame_bytes(100);
    sparse_footer_add(&footer, &rows[0]);
    sparse_footer_add(&footer, &rows[1]);
    sparse_footer_finish(&footer, &head, 2, stop);
    struct slice all = buffer_slice(&footer);
    struct slice trailer = slice_sub(all, all.length - SEGMENT_TRAILER_BYTES);
    assert_true(sparse_trailer_decode(trailer, stop + all.length, &what));
    assert_int_equal(what.count, 2);
    assert_int_equal(what.end, stop);
    assert_true(sparse_footer_decode(all, &head, 2, stop, out));
    assert_int_equal(out[1].number, 20);
    assert_int_equal(out[1].offset, rows[1].offset);
    assert_int_equal(out[0].map[0], 5);
    for (size_t bit = 0; bit < (all.length - 4) * 8; bit++) { /* but the 4 zeros at the end */
        footer.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(sparse_trailer_decode(trailer, stop + all.length, &what) && what.count == 2 &&
                     sparse_footer_decode(all, &head, what.count, what.end, out));
        footer.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    head.last_index = 119; /* then row 20 is outside */
    assert_false(sparse_footer_decode(all, &head, 2, stop, out));
    buffer_free(&footer);
}

static void meta_files_hold_their_values(void **state)
{
    (void)state;
    const struct log_meta meta = {3, 0, 12, 2, 9, META_FORMAT};
    struct log_meta out;
    uint8_t bytes[META_BYTES];
    meta_encode(&meta, bytes);
    assert_true(meta_decode(slice_make(bytes, sizeof bytes), &out));
    assert_int_equal(out.node_id, meta.node_id);
    assert_int_equal(out.term, meta.term);
    assert_int_equal(out.vote, meta.vote);
    assert_int_equal(out.sequence, meta.sequence);
    assert_int_equal(out.format, META_FORMAT);
    assert_false(meta_decode(slice_make(bytes, sizeof bytes - 1), &out));
    for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(meta_decode(slice_make(bytes, sizeof bytes), &out));
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_documented_example),
        cmocka_unit_test(every_flipped_bit_is_found),
        cmocka_unit_test(footers_hold_their_places),
        cmocka_unit_test(footers_of_format_1_are_read),
        cmocka_unit_test(sizes_tell_the_count_of_blocks),
        cmocka_unit_test(sparse_frames_hold_their_blocks),
        cmocka_unit_test(rewritten_footers_hold_their_rows),
        cmocka_unit_test(meta_files_hold_their_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
