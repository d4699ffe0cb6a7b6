/* SPDX-License-Identifier: Apache-2.0 */
/* What may be asked of the bench, and what it defaults to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/bench/bench.h"

#include <string.h>

static struct bench_plan good_plan(const char *mode)
{
    return (struct bench_plan){.mode = mode,
                               .protocol = "native",
                               .brokers = "127.0.0.1:1",
                               .endpoint = "http://127.0.0.1:1",
                               .size = 1024,
                               .inflight = 256,
                               .batch = 1};
}

static void every_mode_has_defaults(void **state)
{
    (void)state;
    for (size_t i = 0; i < bench_mode_count; i++) {
        struct bench_plan plan = good_plan(bench_modes[i].name);
        assert_null(bench_plan_check(&plan));
        assert_true(plan.messages > 0 || plan.seconds > 0);
        assert_true(plan.queues > 0);
        assert_true(plan.receivers > 0);
        assert_int_equal(plan.rate > 0,
                         strcmp(plan.mode, "latency") == 0 || strcmp(plan.mode, "failover") == 0);
    }
}

static void receives_go_with_what_is_in_flight(void **state)
{
    (void)state;
    static const uint64_t rows[][2] = {{1, 16}, {256, 25}, {1024, 102}, {8000, 128}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bench_plan plan = good_plan("cycle");
        plan.inflight = rows[i][0];
        assert_null(bench_plan_check(&plan));
        assert_int_equal(plan.receivers, rows[i][1]);
    }
}

static void refused(struct bench_plan plan, const char *option)
{
    const char *wrong = bench_plan_check(&plan);
    assert_non_null(wrong);
    if (strstr(wrong, option) == NULL)
        fail_msg("'%s' does not name %s", wrong, option);
}

static void what_makes_no_sense_is_refused_by_name(void **state)
{
    (void)state;
    struct bench_plan plan = good_plan("melt");
    refused(plan, "--mode");
    plan = good_plan("cycle");
    plan.protocol = "smtp";
    refused(plan, "--protocol");
    plan = good_plan("cycle");
    plan.size = 47;
    refused(plan, "--size");
    plan.size = 262144;
    plan.batch = 5;
    refused(plan, "--size");
    plan = good_plan("cycle");
    plan.inflight = 0;
    refused(plan, "--inflight");
    plan = good_plan("cycle");
    plan.batch = 11;
    refused(plan, "--batch");
    plan = good_plan("cycle");
    plan.groups = 3;
    refused(plan, "--groups");
    plan = good_plan("cycle");
    plan.kill_pid = 5;
    refused(plan, "--kill-pid");
    plan = good_plan("failover");
    plan.kill_pid = 5;
    plan.messages = 100;
    refused(plan, "--kill-pid");
    plan = good_plan("drain");
    plan.seconds = 5;
    refused(plan, "--messages");
    plan = good_plan("cycle");
    plan.server_pids = "nobody";
    refused(plan, "--server-pids");
    plan = good_plan("cycle");
    plan.inflight = 16384;
    refused(plan, "--inflight");
}

static void a_queue_has_a_receiver_of_its_own_natively(void **state)
{
    (void)state;
    struct bench_plan plan = good_plan("queues");
    plan.queues = 500;
    assert_null(bench_plan_check(&plan));
    assert_int_equal(plan.receivers, 500);
    plan = good_plan("queues");
    plan.protocol = "http";
    plan.queues = 500;
    assert_null(bench_plan_check(&plan));
    assert_int_equal(plan.receivers, 25); /* for 256 in flight */
}

/* Nobody listens at port 1: an error, not a crash or a hang. */
static void a_broker_that_is_not_there(void **state)
{
    (void)state;
    char why[256];
    struct bench_plan plan = good_plan("cycle");
    assert_null(bench_plan_check(&plan));
    assert_null(bench_run(&plan, NULL, why));
    assert_non_null(strstr(why, "127.0.0.1:1"));
    plan.brokers = "nonsense";
    assert_null(bench_run(&plan, NULL, why));
    plan.protocol = "http";
    assert_null(bench_run(&plan, NULL, why));
    assert_non_null(strstr(why, "http://127.0.0.1:1"));
    plan.endpoint = "ftp://127.0.0.1:1";
    assert_null(bench_run(&plan, NULL, why));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mode_has_defaults),
        cmocka_unit_test(receives_go_with_what_is_in_flight),
        cmocka_unit_test(what_makes_no_sense_is_refused_by_name),
        cmocka_unit_test(a_queue_has_a_receiver_of_its_own_natively),
        cmocka_unit_test(a_broker_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
