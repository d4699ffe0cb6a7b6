/* SPDX-License-Identifier: Apache-2.0 */
/* The control law's promises, on chosen and on random inputs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/dispatch/scaling.h"

static uint64_t random_state = 20261123;

static uint64_t random_below(uint64_t bound)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (random_state >> 33) % bound;
}

static uint32_t target_once(uint64_t visible, uint32_t running, uint32_t batch_size, uint32_t max)
{
    struct scaling scaling;
    scaling_init(&scaling, batch_size);
    struct scaling_input input = {.now_ms = 1000,
                                  .visible = visible,
                                  .running = running,
                                  .batch_size = batch_size,
                                  .concurrency_max = max};
    return scaling_target(&scaling, &input);
}

static void test_nothing_to_do_is_no_concurrency(void **state)
{
    (void)state;
    assert_int_equal(target_once(0, 0, 10, 0), 0);
    assert_int_equal(target_once(0, 0, 1, 5), 0);
}

static void test_little_work_is_simply_run(void **state)
{
    (void)state;
    assert_int_equal(target_once(1, 0, 10, 0), 1);
    assert_int_equal(target_once(40, 0, 10, 0), 4);
    assert_int_equal(target_once(4, 0, 1, 0), 4);
    assert_int_equal(target_once(1, 3, 1, 0), 4); /* on top of what runs */
}

static void test_maximum_concurrency_caps(void **state)
{
    (void)state;
    assert_int_equal(target_once(100000, 0, 1, 2), 2);
    assert_int_equal(target_once(100000, 7, 1, 2), 2); /* lowered meanwhile: start no more */
}

/* A burst of hundreds of messages: enough for any small fleet at once. */
static void test_burst_grows_at_once(void **state)
{
    (void)state;
    assert_true(target_once(500, 0, 1, 0) >= 100);
    assert_true(target_once(500, 0, 10, 0) >= 16);
}

static void test_late_messages_raise_the_target(void **state)
{
    (void)state;
    struct scaling scaling;
    scaling_init(&scaling, 10);
    struct scaling_input input = {.now_ms = 1000, .visible = 1000, .batch_size = 10};
    uint32_t fresh = scaling_target(&scaling, &input);
    input.oldest_age_ms = 4000;
    input.now_ms = 1250;
    uint32_t late = scaling_target(&scaling, &input);
    assert_true(late > fresh);
}

/* A steady stream: 100 messages a second that take 2 s each, one by one, need 200 at least. */
static void test_follows_arrivals(void **state)
{
    (void)state;
    struct scaling scaling;
    scaling_init(&scaling, 1);
    struct scaling_input input = {.now_ms = 1000, .batch_size = 1, .running = 100};
    for (unsigned i = 0; i < 60; i++)
        scaling_batch_done(&scaling, 2.0, 1);
    uint32_t target = 0;
    for (unsigned second = 0; second < 300; second++) {
        input.now_ms += 1000;
        input.sent_total += 100;
        input.visible = 200;
        target = scaling_target(&scaling, &input);
    }
    assert_true(target >= 200);
    input.visible = 0;
    input.running = 0;
    input.now_ms += 250;
    assert_int_equal(scaling_target(&scaling, &input), 0); /* whatever it has learnt */
}

static void test_fast_functions_need_few(void **state)
{
    (void)state;
    struct scaling scaling;
    scaling_init(&scaling, 10);
    for (unsigned i = 0; i < 60; i++)
        scaling_batch_done(&scaling, 0.01, 10);
    struct scaling_input input = {.now_ms = 1000, .visible = 1000, .batch_size = 10};
    assert_true(scaling_target(&scaling, &input) <= 8);
}

/* I1, I2, I3 on a long random history, with hostile extremes. */
static void test_never_more_than_work(void **state)
{
    (void)state;
    struct scaling scaling;
    scaling_init(&scaling, 7);
    struct scaling_input input = {.now_ms = 1};
    for (unsigned i = 0; i < 200000; i++) {
        input.now_ms += random_below(2000);
        input.visible = random_below(10) == 0 ? UINT64_MAX : random_below(3000);
        input.oldest_age_ms = random_below(4) == 0 ? random_below(1u << 30) : 0;
        input.sent_total = random_below(50) == 0 ? 0 : input.sent_total + random_below(500);
        input.running = (uint32_t)random_below(300);
        input.batch_size = 1 + (uint32_t)random_below(20);
        input.concurrency_max = random_below(2) == 0 ? 0 : (uint32_t)random_below(100);
        if (random_below(3) == 0)
            scaling_batch_done(&scaling, (double)random_below(10000) / 1000.0,
                               (uint32_t)random_below(21));
        double work = (double)input.visible / input.batch_size + 1.0;
        uint32_t target = scaling_target(&scaling, &input);
        assert_true(target <= input.running + work);
        assert_true(input.concurrency_max == 0 || target <= input.concurrency_max);
        assert_true(input.visible > 0 || target <= input.running);
        assert_true(target <= 1000000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_to_do_is_no_concurrency),
        cmocka_unit_test(test_little_work_is_simply_run),
        cmocka_unit_test(test_maximum_concurrency_caps),
        cmocka_unit_test(test_burst_grows_at_once),
        cmocka_unit_test(test_late_messages_raise_the_target),
        cmocka_unit_test(test_follows_arrivals),
        cmocka_unit_test(test_fast_functions_need_few),
        cmocka_unit_test(test_never_more_than_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
