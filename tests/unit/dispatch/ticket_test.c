/* SPDX-License-Identifier: Apache-2.0 */
/* Tickets: there and back, and nothing that was changed, cut or made for something else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/dispatch/claim.h"
#include "broker/dispatch/ticket.h"

#include <stdlib.h>

static const uint8_t secret[RECEIPT_SECRET_BYTES] = {7};

static struct buffer sample(void)
{
    struct ticket ticket = {.lease_id = 5,
                            .node_id = 3,
                            .id = UINT64_MAX,
                            .request_id = "00000000-0000-4000-8000-000000000001"};
    struct buffer out = {0};
    ticket_encode(&out, secret, SLICE_LITERAL("f"), &ticket);
    return out;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct buffer bytes = sample();
    struct ticket ticket;
    assert_true(ticket_is(buffer_slice(&bytes)));
    assert_true(ticket_decode(buffer_slice(&bytes), secret, SLICE_LITERAL("f"), &ticket));
    assert_int_equal(ticket.lease_id, 5);
    assert_int_equal(ticket.node_id, 3);
    assert_int_equal(ticket.id, UINT64_MAX);
    assert_string_equal(ticket.request_id, "00000000-0000-4000-8000-000000000001");
    assert_false(ticket_decode(buffer_slice(&bytes), secret, SLICE_LITERAL("g"), &ticket));
    buffer_free(&bytes);
}

static void test_nothing_else(void **state)
{
    (void)state;
    struct buffer bytes = sample();
    struct ticket ticket;
    struct claim claim;
    for (size_t i = 0; i < bytes.length; i++) {
        assert_false(ticket_decode(slice_make(bytes.data, i), secret, SLICE_LITERAL("f"), &ticket));
        bytes.data[i] ^= 1;
        assert_false(ticket_decode(buffer_slice(&bytes), secret, SLICE_LITERAL("f"), &ticket));
        bytes.data[i] ^= 1;
    }
    assert_false(claim_decode(buffer_slice(&bytes), secret, SLICE_LITERAL("f"), &claim));
    buffer_free(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
