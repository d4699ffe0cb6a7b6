/* SPDX-License-Identifier: Apache-2.0 */
/* Receipt handles: round trip, and every way to forge one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/dispatch/receipt.h"

#include <string.h>

static const uint8_t secret[RECEIPT_SECRET_BYTES] = "0123456789abcdef0123456789abcde";
static const struct core_lease lease = {0x1122334455667788, 7};

static void test_round_trip(void **state)
{
    (void)state;
    struct buffer text = {0};
    uint64_t queue_id = 0;
    struct core_lease got = {0, 0};
    receipt_encode(&text, secret, 42, lease);
    assert_int_equal(text.length, RECEIPT_TEXT_LENGTH);
    assert_true(receipt_decode(buffer_slice(&text), secret, &queue_id, &got));
    assert_int_equal(queue_id, 42);
    assert_int_equal(got.seq, lease.seq);
    assert_int_equal(got.receive_count, 7);
    buffer_free(&text);
}

static void test_another_secret_is_refused(void **state)
{
    (void)state;
    uint8_t other[RECEIPT_SECRET_BYTES];
    struct buffer text = {0};
    uint64_t queue_id = 5;
    struct core_lease got = {6, 7};
    memcpy(other, secret, sizeof other);
    other[31] ^= 1;
    receipt_encode(&text, secret, 42, lease);
    assert_false(receipt_decode(buffer_slice(&text), other, &queue_id, &got));
    assert_int_equal(queue_id, 5); /* unchanged */
    assert_int_equal(got.seq, 6);
    buffer_free(&text);
}

/* Changing any character, or the length, must not give another valid handle. */
static void test_every_change_is_refused(void **state)
{
    (void)state;
    struct buffer text = {0};
    uint64_t queue_id;
    struct core_lease got;
    receipt_encode(&text, secret, 42, lease);
    for (size_t i = 0; i < text.length; i++) {
        uint8_t before = text.data[i];
        text.data[i] = before == 'A' ? 'B' : 'A';
        assert_false(receipt_decode(buffer_slice(&text), secret, &queue_id, &got));
        text.data[i] = 0xff;
        assert_false(receipt_decode(buffer_slice(&text), secret, &queue_id, &got));
        text.data[i] = before;
    }
    for (size_t length = 0; length < text.length; length++)
        assert_false(receipt_decode(slice_make(text.data, length), secret, &queue_id, &got));
    buffer_add_byte(&text, 'A');
    assert_false(receipt_decode(buffer_slice(&text), secret, &queue_id, &got));
    buffer_free(&text);
}

/* What brokers of other versions of a cluster make and read. */
static void test_the_same_in_every_version(void **state)
{
    (void)state;
    struct buffer text = {0};
    receipt_encode(&text, secret, 42, lease);
    assert_true(
        slice_is(buffer_slice(&text), "ASoAAAAAAAAAiHdmVUQzIhEHAAAAg4hQ4j6801tIaN+n8YX1yg=="));
    buffer_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_the_same_in_every_version),
        cmocka_unit_test(test_another_secret_is_refused),
        cmocka_unit_test(test_every_change_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
