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
    frame_head_encode(&frame, 0, (const uint8_t *)"hello", out);
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
    frame_head_encode(&frame, 77, payload, head);
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

static void footers_hold_their_offsets(void **state)
{
    (void)state;
    struct segment_head head = {5, 100};
    const uint32_t offsets[3] = {SEGMENT_HEAD_BYTES, 128, 512};
    uint32_t out[3];
    uint32_t count;
    uint32_t end;
    struct buffer footer = {0};
    segment_footer_encode(&footer, &head, offsets, 3, 600);
    struct slice all = buffer_slice(&footer);
    struct slice trailer = slice_sub(all, all.length - SEGMENT_TRAILER_BYTES);
    assert_true(segment_trailer_decode(trailer, 600 + all.length, &count, &end));
    assert_int_equal(count, 3);
    assert_int_equal(end, 600);
    assert_false(segment_trailer_decode(trailer, 601 + all.length, &count, &end));
    assert_true(segment_footer_decode(all, &head, 3, 600, out));
    assert_memory_equal(out, offsets, sizeof out);
    for (size_t bit = 0; bit < (all.length - 4) * 8; bit++) { /* but the 4 zeros at the end */
        footer.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(segment_trailer_decode(trailer, 600 + all.length, &count, &end) &&
                     segment_footer_decode(all, &head, count, end, out));
        footer.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buffer_free(&footer);
}

static void meta_files_hold_their_values(void **state)
{
    (void)state;
    const struct log_meta meta = {3, 0, 12, 2, 9};
    struct log_meta out;
    uint8_t bytes[META_BYTES];
    meta_encode(&meta, bytes);
    assert_true(meta_decode(slice_make(bytes, sizeof bytes), &out));
    assert_memory_equal(&out, &meta, sizeof out);
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
        cmocka_unit_test(footers_hold_their_offsets),
        cmocka_unit_test(meta_files_hold_their_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
