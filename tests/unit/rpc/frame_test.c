/* SPDX-License-Identifier: Apache-2.0 */
/* Frames: what is encoded is decoded, and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/assert.h"
#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"
#include "proto/rpc/link.h"

static void encode_heartbeat(struct buffer *out, uint64_t sequence)
{
    Millrace__Heartbeat message = MILLRACE__HEARTBEAT__INIT;
    message.sequence = sequence;
    frame_encode(out, MILLRACE__TYPE__TYPE_HEARTBEAT, &message.base);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct buffer out = {0};
    encode_heartbeat(&out, 300);
    encode_heartbeat(&out, 0); /* an empty payload */
    uint16_t type;
    struct slice payload;
    size_t used;
    struct slice in = buffer_slice(&out);
    assert_int_equal(frame_decode(in, &type, &payload, &used), STATUS_OK);
    assert_int_equal(type, MILLRACE__TYPE__TYPE_HEARTBEAT);
    assert_int_equal(used, 12 + 3);
    static const uint8_t expected[] = {0x08, 0xac, 0x02};
    assert_memory_equal(payload.data, expected, 3);
    in = slice_sub(in, used);
    assert_int_equal(frame_decode(in, &type, &payload, &used), STATUS_OK);
    assert_int_equal(payload.length, 0);
    assert_int_equal(used, in.length);
    buffer_free(&out);
}

/* The bytes themselves, so that an accidental change of the format does not pass. */
static void test_golden(void **state)
{
    (void)state;
    struct buffer out = {0};
    encode_heartbeat(&out, 300);
    uint8_t expected[] = {3, 0, 0, 0, 7, 0, 1, 0, 0, 0, 0, 0, 0x08, 0xac, 0x02};
    bytes_put_u32(expected + 8, crc32c(0, slice_make(expected + 12, 3)));
    assert_int_equal(out.length, sizeof expected);
    assert_memory_equal(out.data, expected, sizeof expected);
    buffer_free(&out);
}

static void test_prefixes_need_more(void **state)
{
    (void)state;
    struct buffer out = {0};
    encode_heartbeat(&out, UINT64_MAX);
    for (size_t length = 0; length < out.length; length++) {
        uint16_t type = 99;
        struct slice payload = {NULL, 0};
        size_t used = 99;
        assert_int_equal(frame_decode(slice_make(out.data, length), &type, &payload, &used),
                         STATUS_NOT_FOUND);
        assert_int_equal(type, 99);
        assert_int_equal(used, 99);
    }
    buffer_free(&out);
}

static void test_damage_is_refused(void **state)
{
    (void)state;
    struct buffer out = {0};
    encode_heartbeat(&out, UINT64_MAX);
    for (size_t bit = 0; bit < out.length * 8; bit++) {
        bool in_type = bit / 8 == 4 || bit / 8 == 5; /* not guarded: unknown types are ignored */
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        uint16_t type;
        struct slice payload;
        size_t used;
        enum status status = frame_decode(buffer_slice(&out), &type, &payload, &used);
        assert_int_equal(status == STATUS_OK, in_type);
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buffer_free(&out);
}

static void test_length_limit(void **state)
{
    (void)state;
    uint8_t header[FRAME_HEADER_BYTES] = {0, 0, 0, 0, 7, 0, 1, 0};
    uint16_t type;
    struct slice payload;
    size_t used;
    struct slice in = slice_make(header, sizeof header);
    bytes_put_u32(header, FRAME_BYTES_MAX);
    assert_int_equal(frame_decode(in, &type, &payload, &used), STATUS_NOT_FOUND);
    bytes_put_u32(header, FRAME_BYTES_MAX + 1);
    assert_int_equal(frame_decode(in, &type, &payload, &used), STATUS_TOO_LARGE);
    bytes_put_u32(header, UINT32_MAX);
    assert_int_equal(frame_decode(in, &type, &payload, &used), STATUS_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),         cmocka_unit_test(test_golden),
        cmocka_unit_test(test_prefixes_need_more), cmocka_unit_test(test_damage_is_refused),
        cmocka_unit_test(test_length_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
