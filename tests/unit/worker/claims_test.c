/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker remembers for the next broker: what runs, what has ended meanwhile, and for how
 * long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/claims.h"

#include "proto/base/assert.h"

#include <stdlib.h>
#include <string.h>

struct seen {
    unsigned running, results;
    uint64_t lease_ids[8];
    uint64_t elapsed_ms;
    size_t payload_bytes;
    unsigned fail_after; /* messages that are taken; 0: all */
};

static bool take(void *data, uint16_t type, const ProtobufCMessage *message)
{
    struct seen *seen = data;
    if (seen->fail_after > 0 && seen->running + seen->results >= seen->fail_after)
        return false;
    if (type == MILLRACE__TYPE__TYPE_RUNNING) {
        const Millrace__Running *running = (const Millrace__Running *)message;
        assert_string_equal(running->function, "f");
        assert_int_equal(running->revision, 3);
        assert_int_equal(running->claim.len, 5);
        assert_memory_equal(running->claim.data, "claim", 5);
        seen->lease_ids[seen->running++] = running->lease_id;
        seen->elapsed_ms = running->elapsed_ms;
    } else {
        const Millrace__Result *result = (const Millrace__Result *)message;
        assert_int_equal(type, MILLRACE__TYPE__TYPE_RESULT);
        assert_int_equal(result->lease_id, seen->lease_ids[seen->running - 1]); /* right behind */
        seen->payload_bytes = result->payload.len;
        seen->results++;
    }
    return true;
}

static void add(struct claims *claims, uint64_t lease_id, const char *claim)
{
    Millrace__Function function = MILLRACE__FUNCTION__INIT;
    Millrace__Assign order = MILLRACE__ASSIGN__INIT;
    function.name = (char *)(uintptr_t) "f";
    function.revision = 3;
    order.function = &function;
    order.lease_id = lease_id;
    order.claim = (ProtobufCBinaryData){strlen(claim), (uint8_t *)(uintptr_t)claim};
    claims_add(claims, &order, 1000);
}

static bool keep(struct claims *claims, uint64_t lease_id, size_t bytes, uint64_t now_ms)
{
    Millrace__Result result = MILLRACE__RESULT__INIT;
    uint8_t *payload = calloc(1, bytes + 1);
    result.lease_id = lease_id;
    result.payload = (ProtobufCBinaryData){bytes, payload};
    bool kept = claims_keep(claims, &result, now_ms);
    free(payload);
    return kept;
}

static struct seen show(struct claims *claims, uint64_t now_ms)
{
    struct seen seen = {0};
    claims_show(claims, now_ms, take, &seen);
    return seen;
}

static void test_what_runs_is_shown_again_and_again(void **state)
{
    (void)state;
    struct claims *claims = claims_new();
    add(claims, 1, "claim");
    add(claims, 1, "claim");
    add(claims, 2, ""); /* nobody else could use it */
    assert_true(claims_has(claims, 1));
    assert_false(claims_has(claims, 2));
    assert_int_equal(show(claims, 1500).running, 1);
    struct seen seen = show(claims, 61000);
    assert_int_equal(seen.running, 1);
    assert_int_equal(seen.results, 0);
    assert_int_equal(seen.elapsed_ms, 60000);
    claims_sent(claims, 1);
    assert_int_equal(show(claims, 61000).running, 0);
    claims_free(claims);
}

static void test_a_result_is_kept_and_shown_once(void **state)
{
    (void)state;
    struct claims *claims = claims_new();
    add(claims, 1, "claim");
    add(claims, 2, "claim");
    assert_true(keep(claims, 1, 100, 2000));
    assert_false(keep(claims, 1, 100, 2000));
    assert_false(keep(claims, 7, 100, 2000));
    struct seen seen = show(claims, 3000);
    assert_int_equal(seen.running, 2);
    assert_int_equal(seen.results, 1);
    assert_int_equal(seen.payload_bytes, 100);
    assert_int_equal(show(claims, 3000).running, 1);
    claims_free(claims);
}

static void test_a_session_that_breaks_keeps_it(void **state)
{
    (void)state;
    struct claims *claims = claims_new();
    add(claims, 1, "claim");
    assert_true(keep(claims, 1, 100, 2000));
    struct seen seen = {.fail_after = 1}; /* the claim went out, its result did not */
    claims_show(claims, 2500, take, &seen);
    seen = show(claims, 2500);
    assert_int_equal(seen.results, 1);
    claims_free(claims);
}

static void test_bounds(void **state)
{
    (void)state;
    struct claims *claims = claims_new();
    add(claims, 1, "claim");
    add(claims, 2, "claim");
    assert_true(keep(claims, 1, CLAIMS_RESULT_BYTES_MAX - 1000, 2000));
    assert_false(keep(claims, 2, 2000, 2000)); /* and is forgotten: nobody will get its result */
    assert_false(claims_has(claims, 2));
    assert_int_equal(show(claims, 2000 + CLAIMS_KEEP_MS + 1).running, 0);
    add(claims, 3, "claim");
    assert_true(keep(claims, 3, CLAIMS_RESULT_BYTES_MAX - 1000, 30000)); /* there is room again */
    claims_free(claims);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_runs_is_shown_again_and_again),
        cmocka_unit_test(test_a_result_is_kept_and_shown_once),
        cmocka_unit_test(test_a_session_that_breaks_keeps_it),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
