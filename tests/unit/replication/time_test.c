/* SPDX-License-Identifier: Apache-2.0 */
/* R6: cluster time goes on whatever the clocks of the nodes do. With
 * -Wl,--wrap=clock_now_ms,--wrap=clock_steady_ms the test holds both clocks; the nodes of this
 * process share them, so the node that it plays (script.h) says what another machine's would. */
#include "tests/unit/replication/script.h"

uint64_t __wrap_clock_now_ms(void);    /* NOLINT: the linker's names */
uint64_t __wrap_clock_steady_ms(void); /* NOLINT */

static const struct shard_options plain;
static uint64_t wall_ms;
static uint64_t steady_ms;

uint64_t __wrap_clock_now_ms(void)
{
    return wall_ms;
}

uint64_t __wrap_clock_steady_ms(void)
{
    return steady_ms;
}

/* pass: so much real time, in steps; how far cluster time went. The wall clock goes along. */
static int64_t pass(struct script *s, uint64_t ms)
{
    uint64_t before = shard_now_ms(shard_of(s));
    for (uint64_t at = 0; at < ms; at += 1000) {
        uint64_t last = shard_now_ms(shard_of(s));
        steady_ms += 1000;
        wall_ms += 1000;
        assert_true(shard_now_ms(shard_of(s)) >= last);
    }
    return (int64_t)(shard_now_ms(shard_of(s)) - before);
}

static struct script *begin(void)
{
    wall_ms = 1700000000000;
    steady_ms = 5000000;
    return script_new(&plain);
}

/* hear: the leader, node 2 in term 2, says what its clock shows. */
static void hear(struct script *s, uint64_t now_ms)
{
    struct wire wire = {.type = WIRE_APPEND, .term = 2, .a = 1, .b = 1, .c = 0, .d = now_ms};
    say(s, 2, &wire, (struct slice){0});
}

static const int64_t jumps[] = {3600000, -3600000, 86400000, -86400000};

static void a_leader_slews(void **state)
{
    (void)state;
    struct script *s = begin();
    lead(s);
    uint64_t at = shard_now_ms(shard_of(s));
    assert_true(at <= wall_ms);
    for (size_t i = 0; i < ARRAY_COUNT(jumps); i++) {
        at = shard_now_ms(shard_of(s));
        wall_ms += (uint64_t)jumps[i];
        assert_int_equal(shard_now_ms(shard_of(s)), at);
        int64_t passed = pass(s, 1000000);
        assert_true(passed <= 1000000 + 500);
        assert_true(passed >= 1000000 - 500);
        assert_true(jumps[i] < 0 || passed > 1000000 - 1);
    }
    script_free(s);
}

static void a_follower_does_not_look_at_its_wall_clock(void **state)
{
    (void)state;
    struct script *s = begin();
    hear(s, 1600000000000);
    assert_int_equal(shard_now_ms(shard_of(s)), 1600000000000 - 1);
    for (size_t i = 0; i < ARRAY_COUNT(jumps); i++) {
        wall_ms += (uint64_t)jumps[i];
        assert_int_equal(pass(s, 10000), 10000);
    }
    script_free(s);
}

/* What is heard late is not believed: the largest offset is the one that took the least time. */
static void a_message_that_took_long_does_not_hold_time_back(void **state)
{
    (void)state;
    struct script *s = begin();
    hear(s, 1600000000000);
    assert_int_equal(pass(s, 1000), 1000);
    hear(s, 1600000000400);
    assert_in_range(shard_now_ms(shard_of(s)), 1600000000998, 1600000000999);
    script_free(s);
}

/* A wall clock that is a day ahead, or behind: its node goes on from what the last leader said. */
static void time_goes_on_when_another_leads(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(jumps); i++) {
        struct script *s = begin();
        uint64_t at = wall_ms;
        hear(s, at);
        wall_ms += (uint64_t)jumps[i];
        lead(s);
        assert_in_range(shard_now_ms(shard_of(s)), at - 2, at);
        int64_t passed = pass(s, 2000000);
        assert_true(passed <= 2000000 + 1000);
        assert_true(passed >= 2000000 - 1000);
        assert_true((passed > 2000000) == (jumps[i] > 0));
        script_free(s);
    }
}

/* The next process goes on with what this one knew, whatever the wall clock shows by then. */
static void time_outlives_the_process(void **state)
{
    (void)state;
    struct script *s = begin();
    hear(s, 1600000000000);
    stop_node(s->c, SHARD_NODE);
    steady_ms += 5000;
    wall_ms += 86400000;
    start_node(s->c, SHARD_NODE);
    assert_int_equal(shard_now_ms(shard_of(s)), 1600000004999);
    lead(s);
    assert_in_range(shard_now_ms(shard_of(s)), 1600000004998, 1600000004999);
    script_free(s);
}

/* vote: node 3 grants its vote, and knows the clock of that term's leader. */
static void vote(struct script *s, uint64_t term, uint64_t now_ms)
{
    struct wire wire = {.type = WIRE_VOTED, .term = 2, .a = term, .c = wall_ms, .d = now_ms};
    say(s, 3, &wire, (struct slice){0});
}

/* Of two leaders' clocks the later one's counts, though it is behind. */
static void the_clock_of_the_latest_leader_counts(void **state)
{
    (void)state;
    struct script *s = begin();
    hear(s, 1600000010000);
    vote(s, 1, 1600000020000);
    assert_int_equal(shard_now_ms(shard_of(s)), 1600000009999);
    vote(s, 3, 1600000001000);
    assert_int_equal(shard_now_ms(shard_of(s)), 1600000000999);
    vote(s, 2, 1600000020000);
    assert_int_equal(shard_now_ms(shard_of(s)), 1600000000999);
    vote(s, 3, 1600000002000);
    assert_int_equal(shard_now_ms(shard_of(s)), 1600000001999);
    script_free(s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leader_slews),
        cmocka_unit_test(a_follower_does_not_look_at_its_wall_clock),
        cmocka_unit_test(a_message_that_took_long_does_not_hold_time_back),
        cmocka_unit_test(time_goes_on_when_another_leads),
        cmocka_unit_test(time_outlives_the_process),
        cmocka_unit_test(the_clock_of_the_latest_leader_counts),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
