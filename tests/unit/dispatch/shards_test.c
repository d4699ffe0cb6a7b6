/* SPDX-License-Identifier: Apache-2.0 */
/* A dispatcher whose queues are in two shards, and its functions in the catalog: every batch is
 * leased, settled and counted where its queue is, and nothing is counted for the wrong function. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/dispatch/world.h"

#define SHARDS 2u

static const struct mapping_config plain = {.enabled = true, .batch_size = 10};

static int setup(void **state)
{
    return world_setup_shards(state, SHARDS);
}

/* A queue that `shard` holds; its name is written to `name`. */
static uint64_t queue_in(struct world *world, uint32_t shard, bool fifo, char name[32])
{
    unsigned n = 0;
    do
        snprintf(name, 32, "orders-%u", n++);
    while (shard_of_queue_name(slice_of(name), SHARDS) != shard);
    uint64_t queue = world_queue_make(world, name, fifo);
    assert_int_equal(shard_of_queue_id(queue), shard);
    return queue;
}

/* With its queue of events; the API makes both in one call. */
static void function_new(struct world *world, const char *name)
{
    char events[32];
    snprintf(events, sizeof events, "/async/%s", name);
    world_queue_new(world, events);
    world_function_new(world, name);
}

static void function_delete(struct world *world, const char *name)
{
    struct command command = {.type = COMMAND_FUNCTION_DELETE,
                              .function_delete = {.name = slice_of(name)}};
    assert_int_equal(world_call(world, &command).code, CORE_OK);
}

/* A queue in `shard` that `function` works on; `kind` makes the mapping's uuid. */
static uint64_t mapped(struct world *world, const char *function, uint32_t shard, uint8_t kind)
{
    char name[32];
    const uint8_t uuid[UUID_BYTES] = {kind};
    uint64_t queue = queue_in(world, shard, false, name);
    world_mapping_put(world, uuid, function, name, 0, plain);
    return queue;
}

static uint64_t tallied(struct world *world, uint32_t shard, uint64_t function_id)
{
    struct usage usage = {0};
    const struct core *core = shard_core(shards_at(world->shards, shard));
    return core_tally(core, function_id, &usage) ? usage.invocations : 0;
}

static uint64_t function_id(struct world *world, const char *name)
{
    return core_function_id(shard_core(world->shard), slice_of(name));
}

static void test_queues_of_two_shards_and_the_catalog(void **state)
{
    struct world *world = *state;
    struct worker worker;
    struct function_view view;
    function_new(world, "f");
    uint64_t first = mapped(world, "f", 1, 1);
    uint64_t second = mapped(world, "f", 2, 2);
    struct queue_view events;
    assert_true(core_queue_by_name(shard_core(world->shard), SLICE_LITERAL("/async/f"), &events));
    worker_join(world, &worker, "w", 4);
    world_send(world, first, "one");
    world_send(world, second, "two");
    world_send(world, events.queue_id, "{}");
    until(world, worker.assigned_count == 3);
    for (unsigned i = 0; i < 3; i++)
        worker_answer(&worker, i, MILLRACE__OUTCOME__OUTCOME_OK, "null");
    until(world, world_usage(world, "f").invocations == 3);
    assert_int_equal(world_queue(world, first).deleted_total, 1);
    assert_int_equal(world_queue(world, second).deleted_total, 1);
    assert_int_equal(world_queue(world, events.queue_id).deleted_total, 1);
    assert_int_equal(tallied(world, 1, function_id(world, "f")), 1);
    assert_int_equal(tallied(world, 2, function_id(world, "f")), 1);
    assert_true(core_function_get(shard_core(world->shard), SLICE_LITERAL("f"), &view));
    assert_int_equal(view.usage.invocations, 1);
    assert_int_equal(world_usage(world, "f").billed_ms, 6);
    worker_leave(&worker);
}

/* The run is counted if and only if its deletes are done: they are one entry. */
static void test_deletes_and_usage_are_one_entry(void **state)
{
    struct world *world = *state;
    struct worker worker;
    struct shard_stats before, after, catalog_before, catalog_after;
    function_new(world, "f");
    uint64_t queue = mapped(world, "f", 2, 1);
    struct shard *shard = shards_of_queue(world->shards, queue);
    worker_join(world, &worker, "w", 4);
    world_send(world, queue, "one");
    until(world, worker.assigned_count == 1);
    shard_stats(shard, &before);
    shard_stats(world->shard, &catalog_before);
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_OK, "null");
    until(world, world_queue(world, queue).deleted_total == 1);
    assert_int_equal(tallied(world, 2, function_id(world, "f")), 1);
    world_settle(world, 100);
    shard_stats(shard, &after);
    shard_stats(world->shard, &catalog_after);
    assert_int_equal(after.entries, before.entries + 1);
    assert_int_equal(after.commands, before.commands + 2);
    assert_int_equal(catalog_after.entries, catalog_before.entries);
    worker_leave(&worker);
}

/* What an earlier function of the name used is not the new one's, also when its run ends late; and
 * it is forgotten. */
static void test_a_new_function_begins_with_nothing(void **state)
{
    struct world *world = *state;
    struct worker worker;
    function_new(world, "f");
    uint64_t old_id = function_id(world, "f");
    uint64_t queue = mapped(world, "f", 1, 1);
    uint64_t other = mapped(world, "f", 2, 2);
    worker_join(world, &worker, "w", 4);
    world_send(world, queue, "one");
    until(world, worker.assigned_count == 1);
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_OK, "null");
    until(world, world_usage(world, "f").invocations == 1);
    world_send(world, other, "late");
    until(world, worker.assigned_count == 2);
    function_delete(world, "f");
    function_new(world, "f");
    assert_int_not_equal(function_id(world, "f"), old_id);
    assert_int_equal(world_usage(world, "f").invocations, 0);
    world_settle(world, 100);
    worker_answer(&worker, 1, MILLRACE__OUTCOME__OUTCOME_OK, "null");
    until(world, world_queue(world, other).deleted_total == 1);
    until(world, tallied(world, 1, old_id) == 0);
    world_settle(world, 100);
    assert_int_equal(tallied(world, 2, old_id), 0);
    assert_int_equal(world_usage(world, "f").invocations, 0);
    worker_leave(&worker);
}

static void tally(struct world *world, uint32_t shard, uint64_t id)
{
    struct command add = {.type = COMMAND_USAGE_ADD,
                          .usage_add = {.function_id = id, .delta = {.invocations = 1}}};
    world_call_at(world, shards_at(world->shards, shard), &add);
}

/* Also one that came after a sweep, as a late entry of another node could, and one of a function
 * that the catalog has never heard of, since it was restored as it was before. */
static void test_only_tallies_of_what_is_gone_are_dropped(void **state)
{
    struct world *world = *state;
    struct shard_stats before, after;
    function_new(world, "f");
    uint64_t gone = function_id(world, "f");
    function_delete(world, "f");
    function_new(world, "g");
    uint64_t there = function_id(world, "g");
    for (uint32_t shard = 1; shard <= SHARDS; shard++) {
        tally(world, shard, gone);
        tally(world, shard, there);
        tally(world, shard, there + 1000);
    }
    until(world, tallied(world, 1, gone) == 0 && tallied(world, 2, gone) == 0);
    tally(world, 2, gone);
    until(world, tallied(world, 2, gone) == 0);
    assert_int_equal(tallied(world, 1, there + 1000), 0);
    assert_int_equal(tallied(world, 2, there + 1000), 0);
    assert_int_equal(tallied(world, 1, there), 1);
    assert_int_equal(world_usage(world, "g").invocations, 2);
    shard_stats(world->shard, &before);
    world_settle(world, 6000); /* longer than a sweep is away: nothing is to be done */
    shard_stats(world->shard, &after);
    assert_int_equal(after.entries, before.entries);
}

static void test_a_fifo_queue_keeps_its_order(void **state)
{
    struct world *world = *state;
    struct worker worker;
    char name[32];
    char body[8];
    const uint8_t uuid[UUID_BYTES] = {9};
    function_new(world, "f");
    uint64_t queue = queue_in(world, 2, true, name);
    struct mapping_config one = {.enabled = true, .batch_size = 1};
    world_mapping_put(world, uuid, "f", name, 0, one);
    worker_join(world, &worker, "w", 4);
    for (unsigned i = 0; i < 5; i++) {
        snprintf(body, sizeof body, "n%u", i);
        world_send_group(world, queue, body, "g");
    }
    for (unsigned i = 0; i < 5; i++) {
        until(world, worker.assigned_count == i + 1);
        snprintf(body, sizeof body, "\"n%u\"", i);
        assert_non_null(memmem(worker.assigned[i]->payload.data, worker.assigned[i]->payload.len,
                               body, strlen(body)));
        worker_answer(&worker, i, MILLRACE__OUTCOME__OUTCOME_OK, "null");
    }
    until(world, world_queue(world, queue).deleted_total == 5);
    worker_leave(&worker);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_queues_of_two_shards_and_the_catalog),
        TEST(test_deletes_and_usage_are_one_entry),
        TEST(test_a_new_function_begins_with_nothing),
        TEST(test_only_tallies_of_what_is_gone_are_dropped),
        TEST(test_a_fifo_queue_keeps_its_order),
    };
    return cmocka_run_group_tests_name("dispatch shards", tests, NULL, NULL);
}
