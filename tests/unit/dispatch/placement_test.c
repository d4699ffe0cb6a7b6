/* SPDX-License-Identifier: Apache-2.0 */
/* Placement: who gets the next assignment, and that nobody gets too much. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/dispatch/placement.h"

#define MIB ((uint64_t)1 << 20)

static const char *const runtimes[] = {"python3.11", "provided.al2023"};

static struct room_need need_of(const char *function, uint64_t revision, uint64_t mib)
{
    return (struct room_need){slice_of(function), revision, SLICE_LITERAL("python3.11"), mib * MIB};
}

static void test_runtime_and_size_decide_what_is_possible(void **state)
{
    (void)state;
    struct room room;
    room_init(&room, 4, 1024 * MIB, runtimes, 2);
    struct room_need need = need_of("f", 1, 128);
    assert_true(room_possible(&room, &need));
    need.runtime = SLICE_LITERAL("nodejs20.x");
    assert_false(room_possible(&room, &need));
    assert_int_equal(room_score(&room, &need), 0);
    need = need_of("f", 1, 2048);
    assert_false(room_possible(&room, &need));
}

static void test_warm_beats_free_slots(void **state)
{
    (void)state;
    struct room small;
    struct room large;
    struct room_need need = need_of("f", 2, 128);
    room_init(&small, 2, 1024 * MIB, runtimes, 2);
    room_init(&large, 64, 8192 * MIB, runtimes, 2);
    assert_true(room_score(&large, &need) > room_score(&small, &need));
    room_report(&small, 1, 512 * MIB);
    room_warm_add(&small, SLICE_LITERAL("f"), 1, 3); /* another revision */
    assert_true(room_score(&large, &need) > room_score(&small, &need));
    room_warm_add(&small, SLICE_LITERAL("f"), 2, 1);
    assert_true(room_score(&small, &need) > room_score(&large, &need));
    room_take(&small, &need); /* its only idle one, and its only slot */
    assert_int_equal(room_score(&small, &need), 0);
}

/* A report that was sent before our assignments arrived must not let us assign twice. */
static void test_stale_report_does_not_overassign(void **state)
{
    (void)state;
    struct room room;
    struct room_need need = need_of("f", 1, 128);
    room_init(&room, 3, 4096 * MIB, runtimes, 2);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(room_fits(&room, &need));
        room_take(&room, &need);
        room_report(&room, 3, 4096 * MIB); /* "I have nothing" */
    }
    assert_false(room_fits(&room, &need));
    assert_int_equal(room_slots(&room), 0);
}

static void test_report_of_less_is_believed(void **state)
{
    (void)state;
    struct room room;
    struct room_need need = need_of("f", 1, 512);
    room_init(&room, 8, 4096 * MIB, runtimes, 2);
    room_report(&room, 0, 4096 * MIB);
    assert_false(room_fits(&room, &need));
    room_report(&room, 8, 256 * MIB);
    assert_false(room_fits(&room, &need));
    room_warm_add(&room, SLICE_LITERAL("f"), 1, 1); /* its memory is taken already */
    assert_true(room_fits(&room, &need));
}

static void test_memory_runs_out_before_slots(void **state)
{
    (void)state;
    struct room room;
    struct room_need need = need_of("f", 1, 400);
    unsigned taken = 0;
    room_init(&room, 100, 1000 * MIB, runtimes, 2);
    for (; taken < 100 && room_fits(&room, &need); taken++)
        room_take(&room, &need);
    assert_int_equal(taken, 2);
    room_give(&room, &need, false);
    assert_true(room_fits(&room, &need));
}

static void test_gives_restore_what_takes_took(void **state)
{
    (void)state;
    struct room room;
    struct room_need need = need_of("f", 1, 128);
    room_init(&room, 4, 1024 * MIB, runtimes, 2);
    for (unsigned i = 0; i < 4; i++)
        room_take(&room, &need);
    assert_false(room_fits(&room, &need));
    for (unsigned i = 0; i < 4; i++)
        room_give(&room, &need, i % 2 == 0);
    assert_int_equal(room.taken, 0);
    assert_int_equal(room.memory_taken, 0);
    assert_int_equal(room_slots(&room), 4);
    assert_int_equal(room.warm[0].idle, 2);
}

static void test_too_many_kinds_of_idle_are_forgotten(void **state)
{
    (void)state;
    struct room room;
    char long_name[100];
    memset(long_name, 'x', sizeof long_name);
    room_init(&room, 4, 1024 * MIB, runtimes, 2);
    room_warm_add(&room, slice_make(long_name, sizeof long_name), 1, 1);
    assert_int_equal(room.warm_count, 0);
    for (uint64_t i = 0; i < 10 * ROOM_WARM_MAX; i++)
        room_warm_add(&room, SLICE_LITERAL("f"), i, UINT32_MAX);
    assert_int_equal(room.warm_count, ROOM_WARM_MAX);
    room_warm_add(&room, SLICE_LITERAL("f"), 0, 5);
    assert_int_equal(room.warm[0].idle, UINT32_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runtime_and_size_decide_what_is_possible),
        cmocka_unit_test(test_warm_beats_free_slots),
        cmocka_unit_test(test_stale_report_does_not_overassign),
        cmocka_unit_test(test_report_of_less_is_believed),
        cmocka_unit_test(test_memory_runs_out_before_slots),
        cmocka_unit_test(test_gives_restore_what_takes_took),
        cmocka_unit_test(test_too_many_kinds_of_idle_are_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
