/* SPDX-License-Identifier: Apache-2.0 */
/* Synchronous invocations through a node that does not lead: two dispatchers on one shard,
 * connected by real transports. World's own dispatcher is not used. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/dispatch/world.h"

#include "broker/peer/tcp.h"

struct side {
    struct peers *peers;
    struct dispatch *dispatch;
    bool closed;
};

struct pair {
    struct world *world;
    struct dispatch *unused;
    struct side leader, other; /* nodes 1 and 2 */
};

struct answer {
    struct invocation invocation;
    bool yes;
    enum status status;
    Millrace__Outcome outcome;
    char payload[256];
};

static void on_answer(struct invocation *invocation, enum status status,
                      const Millrace__Result *result)
{
    struct answer *answer = invocation->data;
    assert_false(answer->yes);
    answer->yes = true;
    answer->status = status;
    if (result == NULL)
        return;
    answer->outcome = result->outcome;
    snprintf(answer->payload, sizeof answer->payload, "%.*s", (int)result->payload.len,
             (const char *)result->payload.data);
}

static void invoke(struct dispatch *dispatch, struct answer *answer, struct slice payload)
{
    *answer = (struct answer){.invocation = {.function_name = SLICE_LITERAL("f"),
                                             .payload = payload,
                                             .client_context = SLICE_LITERAL("{\"a\":1}"),
                                             .done = on_answer,
                                             .data = answer}};
    uint8_t id[UUID_BYTES];
    uuid_random(id);
    uuid_text(id, answer->invocation.request_id);
    dispatch_invoke(dispatch, &answer->invocation);
    assert_false(answer->yes);
}

static void side_open(struct pair *pair, struct side *side, uint64_t node_id)
{
    struct peers_tcp_options options = {
        .loop = &pair->world->loop, .node_id = node_id, .host = "127.0.0.1"};
    assert_int_equal(peers_tcp_open(&side->peers, &options), STATUS_OK);
    side->dispatch = world_dispatch_open(pair->world, side->peers);
}

static void side_closed(void *data)
{
    ((struct side *)data)->closed = true;
}

static void side_close_dispatch(struct pair *pair, struct side *side)
{
    side->closed = false;
    dispatch_close(side->dispatch, side_closed, side);
    until(pair->world, side->closed);
    side->dispatch = NULL;
}

static void side_close_peers(struct pair *pair, struct side *side)
{
    side->closed = false;
    peers_tcp_close(side->peers, side_closed, side);
    until(pair->world, side->closed);
    side->peers = NULL;
}

static void meet(struct pair *pair)
{
    char address[32];
    snprintf(address, sizeof address, "127.0.0.1:%u", peers_tcp_port(pair->leader.peers));
    peers_set_address(pair->other.peers, 1, address);
    until(pair->world, peers_connected(pair->other.peers, 1));
}

static int setup(void **state)
{
    struct pair *pair = calloc(1, sizeof *pair);
    void *world = NULL;
    world_setup(&world);
    pair->world = world;
    pair->unused = pair->world->dispatch;
    dispatch_set_ready(pair->unused, false);
    side_open(pair, &pair->leader, 1);
    side_open(pair, &pair->other, 2);
    dispatch_set_ready(pair->leader.dispatch, true);
    pair->world->dispatch = pair->leader.dispatch; /* for workers */
    meet(pair);
    dispatch_set_leader(pair->other.dispatch, 1, NULL);
    world_function_new(pair->world, "f");
    dispatch_catalog_changed(pair->leader.dispatch);
    *state = pair;
    return 0;
}

static int teardown(void **state)
{
    struct pair *pair = *state;
    struct side *sides[] = {&pair->leader, &pair->other};
    for (size_t i = 0; i < ARRAY_COUNT(sides); i++)
        if (sides[i]->dispatch != NULL)
            side_close_dispatch(pair, sides[i]);
    for (size_t i = 0; i < ARRAY_COUNT(sides); i++)
        if (sides[i]->peers != NULL)
            side_close_peers(pair, sides[i]);
    pair->world->dispatch = pair->unused;
    void *world = pair->world;
    world_teardown(&world);
    free(pair);
    return 0;
}

static void test_the_leader_runs_it(void **state)
{
    struct pair *pair = *state;
    struct worker worker;
    struct answer answer;
    worker_join(pair->world, &worker, "w", 4);
    invoke(pair->other.dispatch, &answer, SLICE_LITERAL("{\"x\":2}"));
    until(pair->world, worker.assigned_count == 1);
    assert_string_equal(worker.assigned[0]->request_id, answer.invocation.request_id);
    assert_string_equal(worker.assigned[0]->client_context, "{\"a\":1}");
    assert_int_equal(worker.assigned[0]->payload.len, 7);
    assert_int_equal(worker.assigned[0]->claim.len, 0); /* nobody else could use its result */
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_HANDLED, "\"answer\"");
    until(pair->world, answer.yes);
    assert_int_equal(answer.status, STATUS_OK);
    assert_int_equal(answer.outcome, MILLRACE__OUTCOME__OUTCOME_HANDLED);
    assert_string_equal(answer.payload, "\"answer\"");
    until(pair->world, world_usage(pair->world, "f").invocations == 1);
    worker_leave(&worker);
}

static void test_large_payloads(void **state)
{
    struct pair *pair = *state;
    struct worker worker;
    struct answer answers[5]; /* together more than may be unsent to a node */
    size_t bytes = 6u << 20;
    uint8_t *payload = malloc(bytes);
    memset(payload, ' ', bytes);
    worker_join(pair->world, &worker, "w", 8);
    for (size_t i = 0; i < ARRAY_COUNT(answers); i++)
        invoke(pair->other.dispatch, &answers[i], slice_make(payload, bytes));
    until(pair->world, worker.assigned_count == ARRAY_COUNT(answers));
    for (unsigned i = 0; i < ARRAY_COUNT(answers); i++) {
        assert_int_equal(worker.assigned[i]->payload.len, bytes);
        worker_answer(&worker, i, MILLRACE__OUTCOME__OUTCOME_OK, "1");
    }
    for (size_t i = 0; i < ARRAY_COUNT(answers); i++)
        until(pair->world, answers[i].yes && answers[i].status == STATUS_OK);
    free(payload);
    worker_leave(&worker);
}

static void test_refusals_come_back(void **state)
{
    struct pair *pair = *state;
    struct answer answer;
    invoke(pair->other.dispatch, &answer, SLICE_LITERAL("{}"));
    until(pair->world, answer.yes); /* after INVOKE_NO_WORKER_MS */
    assert_int_equal(answer.status, STATUS_UNAVAILABLE);
}

static void test_cancel(void **state)
{
    struct pair *pair = *state;
    struct worker worker;
    struct answer answer;
    worker_join(pair->world, &worker, "w", 4);
    invoke(pair->other.dispatch, &answer, SLICE_LITERAL("{}"));
    until(pair->world, worker.assigned_count == 1);
    dispatch_invoke_cancel(pair->other.dispatch, &answer.invocation);
    assert_false(answer.yes);
    until(pair->world, answer.yes && worker.cancelled_count == 1);
    assert_int_equal(answer.status, STATUS_CANCELLED);
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_CRASH, "{}");
    world_settle(pair->world, 50);
    worker_leave(&worker);
}

/* The leader's node goes away: what it was running may have run. */
static void test_a_lost_leader_is_an_error(void **state)
{
    struct pair *pair = *state;
    struct worker worker;
    struct answer answer;
    worker_join(pair->world, &worker, "w", 4);
    invoke(pair->other.dispatch, &answer, SLICE_LITERAL("{}"));
    until(pair->world, worker.assigned_count == 1);
    peers_set_address(pair->other.peers, 1, NULL);
    until(pair->world, answer.yes);
    assert_int_equal(answer.status, STATUS_OK);
    assert_int_equal(answer.outcome, MILLRACE__OUTCOME__OUTCOME_CRASH);
    assert_non_null(strstr(answer.payload, "WorkerLost"));
    until(pair->world, worker.cancelled_count == 1); /* nobody can get the answer */
    worker_leave(&worker);
}

/* While nobody leads it waits, and then runs wherever the leader is: there, or here. */
static void test_it_waits_for_a_leader(void **state)
{
    struct pair *pair = *state;
    struct worker worker;
    struct answer there, here;
    dispatch_set_ready(pair->leader.dispatch, false);
    dispatch_set_leader(pair->other.dispatch, 0, NULL);
    invoke(pair->other.dispatch, &there, SLICE_LITERAL("1"));
    world_settle(pair->world, 300);
    assert_false(there.yes);
    dispatch_set_leader(pair->other.dispatch, 1, NULL); /* it does not know yet that it leads */
    world_settle(pair->world, 300);
    assert_false(there.yes);
    dispatch_set_ready(pair->leader.dispatch, true);
    worker_join(pair->world, &worker, "w", 1);
    until(pair->world, worker.assigned_count == 1);
    invoke(pair->leader.dispatch, &here, SLICE_LITERAL("2")); /* no room: it waits */
    dispatch_set_ready(pair->leader.dispatch, false);
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_OK, "1");
    until(pair->world, there.yes); /* its result came to who had begun it */
    assert_int_equal(there.status, STATUS_OK);
    dispatch_set_ready(pair->other.dispatch, true);
    dispatch_set_leader(pair->leader.dispatch, 2, "127.0.0.1:1");
    until(pair->world, worker.ended);
    worker_leave(&worker);
    pair->world->dispatch = pair->other.dispatch;
    dispatch_catalog_changed(pair->other.dispatch);
    worker_join(pair->world, &worker, "w", 1);
    until(pair->world, worker.assigned_count == 1);
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_OK, "2");
    until(pair->world, here.yes);
    assert_int_equal(here.status, STATUS_OK);
    worker_leave(&worker);
}

static void test_no_leader_for_too_long(void **state)
{
    struct pair *pair = *state;
    struct answer answer;
    dispatch_set_leader(pair->other.dispatch, 0, NULL);
    invoke(pair->other.dispatch, &answer, SLICE_LITERAL("{}"));
    until(pair->world, answer.yes);
    assert_int_equal(answer.status, STATUS_UNAVAILABLE);
}

static void test_closing_ends_them(void **state)
{
    struct pair *pair = *state;
    struct worker worker;
    struct answer sent, waiting;
    worker_join(pair->world, &worker, "w", 4);
    invoke(pair->other.dispatch, &sent, SLICE_LITERAL("{}"));
    until(pair->world, worker.assigned_count == 1);
    dispatch_set_leader(pair->other.dispatch, 0, NULL);
    invoke(pair->other.dispatch, &waiting, SLICE_LITERAL("{}"));
    side_close_dispatch(pair, &pair->other);
    assert_true(sent.yes && waiting.yes);
    assert_int_equal(sent.status, STATUS_OK); /* a crash: it may have run */
    assert_int_equal(waiting.status, STATUS_UNAVAILABLE);
    worker_leave(&worker);
}

/* Foreign bytes on the channel. */
static void sent_noise(struct peer_send *send, enum status status)
{
    (void)status;
    *(bool *)send->data = true;
}

static void test_noise(void **state)
{
    struct pair *pair = *state;
    static const struct slice noise[] = {
        SLICE_LITERAL(""),
        SLICE_LITERAL("\1"),
        SLICE_LITERAL("\1\1\0\0\0\0\0\0\0\377\377\377\377"),
        SLICE_LITERAL("\2\7\0\0\0\0\0\0\0"),
        SLICE_LITERAL("\3\7\0\0\0\0\0\0\0"),
        SLICE_LITERAL("\3\7\0\0\0\0\0\0\0\377"),
        SLICE_LITERAL("\11\7\0\0\0\0\0\0\0"),
    };
    for (size_t i = 0; i < ARRAY_COUNT(noise); i++) {
        bool done = false;
        struct iovec part = {(void *)(uintptr_t)noise[i].data, noise[i].length};
        struct peer_send send = {
            .parts = &part, .part_count = 1, .done = sent_noise, .data = &done};
        peers_send(pair->other.peers, 1, PEER_CHANNEL_DISPATCH, &send);
        until(pair->world, done);
    }
    world_settle(pair->world, 100);
    assert_true(peers_connected(pair->other.peers, 1));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_leader_runs_it),
        TEST(test_large_payloads),
        TEST(test_refusals_come_back),
        TEST(test_cancel),
        TEST(test_a_lost_leader_is_an_error),
        TEST(test_it_waits_for_a_leader),
        TEST(test_no_leader_for_too_long),
        TEST(test_closing_ends_them),
        TEST(test_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
