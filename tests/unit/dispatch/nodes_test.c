/* SPDX-License-Identifier: Apache-2.0 */
/* Two nodes on one loop: one leads the catalog, and its dispatcher works on a queue whose shard the
 * other one leads. Leases, bodies and results go through the log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/dispatch/world.h"

#include "broker/dispatch/claim.h"
#include "broker/peer/tcp.h"

#define NODES         2u
#define CALL_WAITS_MS 11000u /* a call for a leader, and a little (broker/replication) */

/* The first world has the loop. */
struct nodes {
    struct world *world[NODES];
    struct peers *peers[NODES];
    char addresses[NODES][32];
    struct shard_member members[NODES];
    bool closed;
};

static void on_changed(struct shard_change *change, enum status status)
{
    *(enum status *)change->data = status;
}

static struct shard *shard_on(const struct nodes *nodes, unsigned node, uint32_t id)
{
    return shards_at(nodes->world[node]->shards, id);
}

/* Let `node` (0 or 1) lead shard `id`. */
static void lead(struct nodes *nodes, unsigned node, uint32_t id)
{
    while (!shard_leads(shard_on(nodes, node, id))) {
        enum status status = STATUS_BUSY;
        struct shard_change change = {.done = on_changed, .data = &status};
        until(nodes->world[0],
              shard_leads(shard_on(nodes, node, id)) || shard_leads(shard_on(nodes, 1 - node, id)));
        if (shard_leads(shard_on(nodes, node, id)))
            break;
        shard_transfer(shard_on(nodes, 1 - node, id), &change, node + 1);
        until(nodes->world[0], status != STATUS_BUSY);
        world_settle(nodes->world[0], 100);
    }
}

static void shards_begin(struct nodes *nodes, unsigned node)
{
    world_shards_open(nodes->world[node], (struct shards_options){.loop = &nodes->world[0]->loop,
                                                                  .node_id = node + 1,
                                                                  .address = nodes->addresses[node],
                                                                  .peers = nodes->peers[node],
                                                                  .members = nodes->members,
                                                                  .member_count = NODES,
                                                                  .queue_shards = 1});
}

static void shards_end(struct nodes *nodes, unsigned node)
{
    nodes->world[node]->closed = false;
    shards_close(nodes->world[node]->shards, world_closed, nodes->world[node]);
}

static void nodes_open(struct nodes *nodes)
{
    for (unsigned i = 0; i < NODES; i++) {
        struct peers_tcp_options options = {
            .loop = &nodes->world[0]->loop, .node_id = i + 1, .host = "127.0.0.1"};
        assert_int_equal(peers_tcp_open(&nodes->peers[i], &options), STATUS_OK);
        snprintf(nodes->addresses[i], sizeof nodes->addresses[i], "127.0.0.1:%u",
                 peers_tcp_port(nodes->peers[i]));
        nodes->members[i] = (struct shard_member){i + 1, nodes->addresses[i]};
    }
    peers_set_address(nodes->peers[0], 2, nodes->addresses[1]);
    peers_set_address(nodes->peers[1], 1, nodes->addresses[0]);
    for (unsigned i = 0; i < NODES; i++)
        shards_begin(nodes, i);
}

static int setup(void **state)
{
    struct nodes *nodes = calloc(1, sizeof *nodes);
    for (unsigned i = 0; i < NODES; i++) {
        nodes->world[i] = calloc(1, sizeof *nodes->world[i]);
        world_dir_make(nodes->world[i]);
    }
    struct world *world = nodes->world[0];
    uv_loop_init(&world->loop);
    uv_timer_init(&world->loop, &world->waker);
    uv_timer_start(&world->waker, world_wake, 20, 20);
    nodes_open(nodes);
    until(world, shards_ready(world->shards) && shards_ready(nodes->world[1]->shards));
    lead(nodes, 0, 0);
    lead(nodes, 1, 1);
    world->dispatch = world_dispatch_open(world, nodes->peers[0]);
    dispatch_set_ready(world->dispatch, true);
    *state = nodes;
    return 0;
}

static void on_closed(void *data)
{
    ((struct nodes *)data)->closed = true;
}

/* Both at the same time: one alone has no majority to end its calls with. */
static int teardown(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    dispatch_close(world->dispatch, world_closed, world);
    until(world, world->closed);
    for (unsigned i = 0; i < NODES; i++)
        shards_end(nodes, i);
    until(world, world->closed && nodes->world[1]->closed);
    for (unsigned i = 0; i < NODES; i++) {
        nodes->closed = false;
        peers_tcp_close(nodes->peers[i], on_closed, nodes);
        until(world, nodes->closed);
    }
    uv_close((uv_handle_t *)&world->waker, NULL);
    uv_run(&world->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&world->loop), 0);
    for (unsigned i = 0; i < NODES; i++) {
        nftw(nodes->world[i]->dir, world_remove, 16, FTW_DEPTH | FTW_PHYS);
        free(nodes->world[i]);
    }
    free(nodes);
    return 0;
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

/* Let time pass for a worker that lives. */
static void live(struct world *world, struct worker *worker, unsigned ms)
{
    Millrace__Heartbeat beat = MILLRACE__HEARTBEAT__INIT;
    for (unsigned i = 0; i < ms / 500; i++) {
        worker_say(worker, MILLRACE__TYPE__TYPE_HEARTBEAT, &beat.base);
        world_settle(world, 500);
    }
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

static void worker_claims(struct worker *worker, struct world *world, struct claim claim)
{
    uint8_t cluster_id[UUID_BYTES];
    uint8_t secret[RECEIPT_SECRET_BYTES];
    struct buffer bytes = {0};
    Millrace__Running running = MILLRACE__RUNNING__INIT;
    assert_true(core_bootstrapped(shard_core(world->shard), cluster_id, secret));
    claim_encode(&bytes, secret, SLICE_LITERAL("f"), &claim);
    running.lease_id = claim.lease_id;
    running.function = (char *)(uintptr_t) "f";
    running.revision = 1;
    running.claim = (ProtobufCBinaryData){bytes.length, bytes.data};
    worker_say(worker, MILLRACE__TYPE__TYPE_RUNNING, &running.base);
    buffer_free(&bytes);
}

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
