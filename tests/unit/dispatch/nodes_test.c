/* SPDX-License-Identifier: Apache-2.0 */
/* Two nodes on one loop: one leads the catalog, and its dispatcher works on a queue whose shard the
 * other one leads. Leases, bodies and results go through the log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/dispatch/nodes.h"

static int setup(void **state)
{
    return nodes_setup(state, NODES);
}

static uint64_t mapping_put(struct world *world, uint64_t version, bool enabled)
{
    const uint8_t uuid[UUID_BYTES] = {1, 2, 3};
    struct mapping_config config = {.enabled = enabled, .batch_size = 10};
    return world_mapping_put(world, uuid, "f", "orders", version, config);
}

/* A queue in the shard that the other node leads, with a mapping to "f". */
static uint64_t mapped_queue(struct world *world, bool enabled)
{
    uint64_t queue = world_queue_new(world, "orders");
    assert_int_equal(shard_of_queue_id(queue), 1);
    world_function_new(world, "f");
    world_queue_new(world, "/async/f");
    mapping_put(world, 0, enabled);
    return queue;
}

static void test_a_queue_whose_shard_is_led_elsewhere(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    struct worker worker;
    uint64_t queue = mapped_queue(world, true);
    worker_join(world, &worker, "w", 4);
    until(world, shard_leads(shard_on(nodes, 1, 1)) && !shard_leads(shard_on(nodes, 0, 1)));
    for (unsigned i = 0; i < 5; i++) {
        unsigned readies = world->readies;
        world_send(world, queue, "one");
        until(world, worker.assigned_count == i + 1);
        assert_true(world->readies > readies); /* nobody had to look */
        worker_answer(&worker, i, MILLRACE__OUTCOME__OUTCOME_OK, "null");
        until(world, world_queue(world, queue).deleted_total == i + 1);
    }
    assert_int_equal(world_usage(world, "f").invocations, 5);
    assert_int_equal(world_queue(world, queue).received_total, 5);
    assert_true(shard_leads(shard_on(nodes, 1, 1)));
    worker_leave(&worker);
}

/* The queue's shard gets another leader while a batch runs. */
static void test_its_leader_changes_under_a_batch(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    struct worker worker;
    uint64_t queue = mapped_queue(world, true);
    worker_join(world, &worker, "w", 4);
    for (unsigned i = 0; i < 4; i++) {
        world_send(world, queue, "one");
        until(world, worker.assigned_count == i + 1);
        lead(nodes, i % 2, 1);
        worker_answer(&worker, i, MILLRACE__OUTCOME__OUTCOME_OK, "null");
        until(world, world_queue(world, queue).deleted_total == i + 1);
    }
    assert_int_equal(world_usage(world, "f").invocations, 4);
    assert_int_equal(world_queue(world, queue).received_total, 4);
    worker_leave(&worker);
}

/* What a result means is not forgotten while the shard has no leader, for longer than a call waits.
 */
static void test_a_result_outlives_a_time_without_a_leader(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    struct worker worker;
    uint64_t queue = mapped_queue(world, false);
    struct mapping_view mapping;
    size_t position = 0;
    assert_true(core_mapping_next(shard_core(world->shard), &position, &mapping));
    uint64_t version = mapping_put(world, mapping.version, true);
    worker_join(world, &worker, "w", 4);
    world_send(world, queue, "one");
    until(world, worker.assigned_count == 1);
    mapping_put(world, version, false); /* or it would be run again, for its lease runs out */
    shards_end(nodes, 1);
    until(world, nodes->world[1]->closed);
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_OK, "null");
    live(world, &worker, CALL_WAITS_MS);
    shards_begin(nodes, 1);
    until(world, world_queue(world, queue).deleted_total == 1);
    assert_int_equal(world_usage(world, "f").invocations, 1);
    worker_leave(&worker);
}

/* ---- claims ---- */

/* A replica that does not lead may lag, so a claim that it does not know is believed until it has
 * caught up; then it is known that nobody holds these leases. */
static void test_a_claim_that_turns_out_wrong(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    struct worker worker;
    struct dispatch_function_view view;
    uint64_t queue = mapped_queue(world, true);
    struct claim_message message = {.lease = {.seq = 1, .receive_count = 1}};
    struct claim claim = {.lease_id = 77,
                          .uuid = {1, 2, 3},
                          .queue_id = queue,
                          .leased_ms = shard_now_ms(world->shard),
                          .visibility_s = 30,
                          .count = 1,
                          .messages = &message};
    worker_join(world, &worker, "w", 4);
    assert_false(shard_leads(shard_on(nodes, 0, 1)));
    worker_claims(&worker, world, claim);
    until(world, worker.cancelled_count == 1);
    dispatch_function(world->dispatch, SLICE_LITERAL("f"), &view);
    assert_int_equal(view.running, 1); /* taken over, until the worker says that it has stopped */
    Millrace__Result result = MILLRACE__RESULT__INIT;
    result.lease_id = 77;
    result.outcome = MILLRACE__OUTCOME__OUTCOME_CRASH;
    worker_say(&worker, MILLRACE__TYPE__TYPE_RESULT, &result.base);
    until(world, (dispatch_function(world->dispatch, SLICE_LITERAL("f"), &view), !view.running));
    lead(nodes, 0, 1); /* here it is known at once */
    claim.lease_id = 78;
    worker_claims(&worker, world, claim);
    until(world, worker.cancelled_count == 2);
    dispatch_function(world->dispatch, SLICE_LITERAL("f"), &view);
    assert_int_equal(view.running, 0);
    worker_leave(&worker);
}

/* Leased at the other node, shown while the log may still be on its way here. */
static void test_a_claim_that_turns_out_right(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    struct worker worker;
    uint64_t queue = mapped_queue(world, false); /* nobody else leases */
    world_send(world, queue, "one");
    struct command receive = {.type = COMMAND_RECEIVE,
                              .receive = {.queue_id = queue, .max = 1, .visibility_s = 10}};
    struct claim_message message = {.lease = {.seq = 1, .receive_count = 1}};
    struct claim claim = {.lease_id = 77,
                          .uuid = {1, 2, 3},
                          .queue_id = queue,
                          .leased_ms = shard_now_ms(world->shard),
                          .visibility_s = 30,
                          .count = 1,
                          .messages = &message};
    worker_join(world, &worker, "w", 4);
    struct done done = {0};
    struct shard_call call = {.done = world_called, .data = &done};
    shard_call_add(&call, &receive);
    shard_call(shard_on(nodes, 1, 1), &call);
    until(world, done.yes);
    worker_claims(&worker, world, claim);
    world_settle(world, 300);
    assert_int_equal(worker.cancelled_count, 0);
    Millrace__Result result = MILLRACE__RESULT__INIT;
    result.lease_id = 77;
    result.payload = (ProtobufCBinaryData){4, (uint8_t *)(uintptr_t) "null"};
    worker_say(&worker, MILLRACE__TYPE__TYPE_RESULT, &result.base);
    until(world, world_queue(world, queue).deleted_total == 1);
    assert_int_equal(world_usage(world, "f").invocations, 1);
    worker_leave(&worker);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, nodes_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_queue_whose_shard_is_led_elsewhere),
        TEST(test_its_leader_changes_under_a_batch),
        TEST(test_a_result_outlives_a_time_without_a_leader),
        TEST(test_a_claim_that_turns_out_wrong),
        TEST(test_a_claim_that_turns_out_right),
    };
    return cmocka_run_group_tests_name("dispatch nodes", tests, NULL, NULL);
}
