/* SPDX-License-Identifier: Apache-2.0 */
/* Two dispatchers on one shard, of which one leads at a time: batches that workers run when the
 * leader changes are taken over, not run again; and nothing is held by a worker that has gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/dispatch/world.h"

static const uint8_t uuid[UUID_BYTES] = {1, 2, 3};
static const struct mapping_config plain = {.enabled = true, .batch_size = 10};

static uint64_t mapped_queue(struct world *world)
{
    uint64_t queue = world_queue_new(world, "orders");
    world_function_new(world, "f");
    world_mapping_put(world, uuid, "f", "orders", 0, plain);
    return queue;
}

/* Another dispatcher leads from now on; the old one is returned, and knows where the new one is. */
static struct dispatch *change_leader(struct world *world)
{
    struct dispatch *old = world->dispatch;
    char address[32];
    world->dispatch = world_dispatch_open(world, NULL);
    snprintf(address, sizeof address, "127.0.0.1:%u", dispatch_rpc_port(world->dispatch));
    dispatch_set_ready(old, false);
    dispatch_set_ready(world->dispatch, true);
    dispatch_set_leader(old, 2, address);
    return old;
}

static void close_old(struct world *world, struct dispatch *old)
{
    struct dispatch *now = world->dispatch;
    world->closed = false;
    dispatch_close(old, world_closed, world);
    until(world, world->closed);
    world->closed = false;
    world->dispatch = now;
}

/* `worker` shows what it was assigned as its `i`th, by whatever broker. */
static void worker_show(struct worker *worker, const Millrace__Assign *assign)
{
    Millrace__Running running = MILLRACE__RUNNING__INIT;
    running.lease_id = assign->lease_id;
    running.function = assign->function->name;
    running.revision = assign->function->revision;
    running.claim = assign->claim;
    running.elapsed_ms = 10;
    worker_say(worker, MILLRACE__TYPE__TYPE_RUNNING, &running.base);
}

static void worker_tell(struct worker *worker, uint64_t lease_id, Millrace__Outcome outcome)
{
    Millrace__Result result = MILLRACE__RESULT__INIT;
    result.lease_id = lease_id;
    result.outcome = outcome;
    result.payload = (ProtobufCBinaryData){4, (uint8_t *)(uintptr_t) "null"};
    result.billed_ms = 2;
    worker_say(worker, MILLRACE__TYPE__TYPE_RESULT, &result.base);
}

static void test_workers_are_sent_to_the_leader(void **state)
{
    struct world *world = *state;
    struct worker welcomed, late;
    char address[32];
    worker_join(world, &welcomed, "w", 4);
    struct dispatch *old = change_leader(world);
    snprintf(address, sizeof address, "127.0.0.1:%u", dispatch_rpc_port(world->dispatch));
    until(world, welcomed.ended);
    assert_true(welcomed.refused);
    assert_string_equal(welcomed.leader, address);
    struct dispatch *now = world->dispatch;
    world->dispatch = old;
    worker_dial(world, &late);
    world->dispatch = now;
    worker_hello(&late, "late", 4, 1);
    until(world, late.ended);
    assert_string_equal(late.leader, address);
    worker_leave(&welcomed);
    worker_leave(&late);
    close_old(world, old);
}

/* While nobody is known to lead a worker waits, and is told when it is known. */
static void test_a_worker_waits_for_a_leader(void **state)
{
    struct world *world = *state;
    struct worker worker;
    dispatch_set_ready(world->dispatch, false);
    worker_dial(world, &worker);
    worker_hello(&worker, "w", 4, 1);
    world_settle(world, 200);
    assert_false(worker.welcomed || worker.refused);
    dispatch_set_leader(world->dispatch, 2, "elsewhere:9325");
    until(world, worker.ended);
    assert_string_equal(worker.leader, "elsewhere:9325");
    worker_leave(&worker);
}

static void test_a_batch_is_taken_over(void **state)
{
    struct world *world = *state;
    struct worker first, second;
    uint64_t queue = mapped_queue(world);
    worker_join(world, &first, "w", 4);
    world_send(world, queue, "one");
    until(world, first.assigned_count == 1);
    assert_true(first.assigned[0]->claim.len > 0);
    struct dispatch *old = change_leader(world);
    until(world, first.ended);
    worker_join(world, &second, "w", 4);
    worker_show(&second, first.assigned[0]);
    world_settle(world, 300);
    assert_int_equal(world_queue(world, queue).in_flight, 1); /* not given back, not handed out */
    assert_int_equal(second.assigned_count, 0);
    assert_int_equal(second.cancelled_count, 0);
    struct dispatch_function_view view;
    dispatch_function(world->dispatch, SLICE_LITERAL("f"), &view);
    assert_int_equal(view.running, 1);
    worker_tell(&second, first.assigned[0]->lease_id, MILLRACE__OUTCOME__OUTCOME_OK);
    until(world, world_queue(world, queue).deleted_total == 1);
    until(world, world_usage(world, "f").invocations == 1);
    assert_int_equal(world_queue(world, queue).received_total, 1);
    worker_leave(&first);
    worker_leave(&second);
    close_old(world, old);
}

/* It ended while there was no session: the result comes right behind. */
static void test_an_ended_batch_is_taken_over(void **state)
{
    struct world *world = *state;
    struct worker first, second;
    uint64_t queue = mapped_queue(world);
    worker_join(world, &first, "w", 4);
    world_send(world, queue, "one");
    until(world, first.assigned_count == 1);
    struct dispatch *old = change_leader(world);
    until(world, first.ended);
    worker_join(world, &second, "w", 4);
    worker_show(&second, first.assigned[0]);
    worker_tell(&second, first.assigned[0]->lease_id, MILLRACE__OUTCOME__OUTCOME_OK);
    until(world, world_queue(world, queue).deleted_total == 1);
    assert_int_equal(world_queue(world, queue).received_total, 1);
    worker_leave(&first);
    worker_leave(&second);
    close_old(world, old);
}

/* A worker that was lost to its broker has lost its batch, also when it comes back. */
static void test_what_was_given_back_is_not_taken_over(void **state)
{
    struct world *world = *state;
    struct worker first, second;
    uint64_t queue = mapped_queue(world);
    worker_join(world, &first, "w", 1);
    world_send(world, queue, "one");
    until(world, first.assigned_count == 1);
    link_close(first.link);
    until(world, first.ended);
    worker_join(world, &second, "w", 1);
    worker_show(&second, first.assigned[0]);
    until(world, second.cancelled_count == 1);
    until(world, second.assigned_count == 1); /* again, under a lease of its own */
    worker_tell(&second, first.assigned[0]->lease_id, MILLRACE__OUTCOME__OUTCOME_OK);
    world_settle(world, 200);
    assert_int_equal(world_queue(world, queue).deleted_total, 0);
    worker_answer(&second, 0, MILLRACE__OUTCOME__OUTCOME_OK, "null");
    until(world, world_queue(world, queue).deleted_total == 1);
    worker_leave(&first);
    worker_leave(&second);
}

/* A claim that says something else than a broker wrote is worth nothing. */
static void test_forged_claims(void **state)
{
    struct world *world = *state;
    struct worker first, second;
    uint64_t queue = mapped_queue(world);
    world_function_new(world, "g");
    worker_join(world, &first, "w", 4);
    world_send(world, queue, "one");
    until(world, first.assigned_count == 1);
    Millrace__Assign *assign = first.assigned[0];
    struct dispatch *old = change_leader(world);
    until(world, first.ended);
    worker_join(world, &second, "w", 4);
    assign->lease_id++;
    worker_show(&second, assign);
    until(world, second.cancelled_count == 1);
    assign->lease_id--;
    assign->claim.data[30] ^= 1;
    worker_show(&second, assign);
    until(world, second.cancelled_count == 2);
    assign->claim.data[30] ^= 1;
    char *name = assign->function->name;
    assign->function->name = (char *)(uintptr_t) "g";
    worker_show(&second, assign);
    until(world, second.cancelled_count == 3);
    assign->function->name = name;
    size_t length = assign->claim.len;
    assign->claim.len = 10;
    worker_show(&second, assign);
    until(world, second.cancelled_count == 4);
    assign->claim.len = length;
    worker_show(&second, assign);
    worker_show(&second, assign); /* twice: it is known */
    until(world, second.cancelled_count == 5);
    worker_tell(&second, assign->lease_id, MILLRACE__OUTCOME__OUTCOME_OK);
    until(world, world_queue(world, queue).deleted_total == 1);
    worker_leave(&first);
    worker_leave(&second);
    close_old(world, old);
}

/* Let time pass for a worker that lives, until the queue has a visible message, or `ms` are over.
 */
static void live(struct world *world, struct worker *worker, uint64_t queue, unsigned ms)
{
    Millrace__Heartbeat beat = MILLRACE__HEARTBEAT__INIT;
    for (unsigned i = 0; i < ms / 500 && (queue == 0 || world_queue(world, queue).visible == 0);
         i++) {
        worker_say(worker, MILLRACE__TYPE__TYPE_HEARTBEAT, &beat.base);
        world_settle(world, 500);
    }
}

/* Leases are short, and kept alive while the worker lives: one that goes together with its leader
 * holds its messages for LEASE_S (10 s) only, one that runs long keeps them, and what has failed
 * stays hidden until the visibility timeout all the same. This test has to wait for that. */
static void test_leases_are_short_and_renewed(void **state)
{
    struct world *world = *state;
    struct worker lost, living, other;
    uint64_t queue = mapped_queue(world);
    worker_join(world, &lost, "lost", 1);
    world_send(world, queue, "one");
    until(world, lost.assigned_count == 1);
    worker_join(world, &living, "living", 1);
    world_send(world, queue, "two");
    until(world, living.assigned_count == 1);
    struct dispatch *old = change_leader(world);
    until(world, lost.ended && living.ended); /* the one never comes back */
    worker_join(world, &other, "living", 1);
    worker_show(&other, living.assigned[0]);
    live(world, &other, queue, 15000);
    assert_int_equal(world_queue(world, queue).visible, 1);
    live(world, &other, 0, 3000);
    assert_int_equal(world_queue(world, queue).visible, 1);
    assert_int_equal(world_queue(world, queue).in_flight, 1);
    worker_tell(&other, living.assigned[0]->lease_id, MILLRACE__OUTCOME__OUTCOME_HANDLED);
    until(world, other.assigned_count == 1); /* the lost one's message */
    assert_int_equal(world_queue(world, queue).in_flight, 2);
    worker_answer(&other, 0, MILLRACE__OUTCOME__OUTCOME_OK, "null");
    until(world, world_queue(world, queue).deleted_total == 1);
    assert_int_equal(world_queue(world, queue).in_flight, 1); /* the failed one */
    worker_leave(&lost);
    worker_leave(&living);
    worker_leave(&other);
    close_old(world, old);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_workers_are_sent_to_the_leader),
        TEST(test_a_worker_waits_for_a_leader),
        TEST(test_a_batch_is_taken_over),
        TEST(test_an_ended_batch_is_taken_over),
        TEST(test_what_was_given_back_is_not_taken_over),
        TEST(test_forged_claims),
        TEST(test_leases_are_short_and_renewed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
