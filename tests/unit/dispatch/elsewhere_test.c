/* SPDX-License-Identifier: Apache-2.0 */
/* Two nodes on one loop: the first leads the catalog and has the dispatcher, and no replica of the
 * queue shard, which is on the second alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/dispatch/nodes.h"

#include "broker/shards/door.h"
#include "broker/shards/tallies.h"

static const uint8_t uuid[UUID_BYTES] = {1, 2, 3};

static int setup(void **state)
{
    int code = nodes_setup(state, 1);
    struct nodes *nodes = *state;
    assert_null(shard_on(nodes, 0, 1));
    assert_true(shard_leads(shard_on(nodes, 1, 1)));
    nodes->world[0]->far = nodes->world[1]->shards;
    return code;
}

static uint64_t mapped_queue(struct world *world, bool fifo, struct mapping_config config)
{
    uint64_t queue = world_queue_make(world, "orders", fifo);
    assert_int_equal(shard_of_queue_id(queue), 1);
    world_queue_new(world, "/async/f");
    world_function_new(world, "f");
    world_mapping_put(world, uuid, "f", "orders", 0, config);
    return queue;
}

static const struct mapping_config plain = {.enabled = true, .batch_size = 10};

static void on_fetched(void *data)
{
    *(bool *)data = true;
}

/* What the function used, as the first node finds out. */
static struct usage usage(struct world *world)
{
    bool done = false;
    if (tallies_fetch(world->shards, on_fetched, &done))
        until(world, done);
    return world_usage(world, "f");
}

static bool has(const struct worker *worker, unsigned i, const char *text)
{
    const ProtobufCBinaryData *payload = &worker->assigned[i]->payload;
    return memmem(payload->data, payload->len, text, strlen(text)) != NULL;
}

static uint64_t now_ms(const struct world *world)
{
    uv_update_time((uv_loop_t *)(uintptr_t)&world->loop);
    return uv_now(&world->loop);
}

static void test_messages_come_with_their_bodies_and_go(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    struct worker worker;
    uint64_t queue = mapped_queue(world, false, plain);
    worker_join(world, &worker, "w", 4);
    for (unsigned i = 0; i < 8; i++) {
        char body[16];
        snprintf(body, sizeof body, "body-%u", i);
        world_send(world, queue, body);
        until(world, worker.assigned_count == i + 1);
        assert_true(has(&worker, i, body));
        worker_answer(&worker, i, MILLRACE__OUTCOME__OUTCOME_OK, "null");
        until(world, world_queue(world, queue).deleted_total == i + 1);
    }
    assert_int_equal(world_queue(world, queue).received_total, 8);
    assert_int_equal(usage(world).invocations, 8);
    assert_int_equal(usage(world).billed_ms, 16);
    worker_leave(&worker);
}

/* Records that are on the disk only come through a pool thread of the other node. */
static void test_a_backlog_in_batches(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    struct worker worker;
    struct mapping_config config = {.enabled = true, .batch_size = 5};
    uint64_t queue = mapped_queue(world, false, config);
    for (unsigned i = 0; i < 23; i++)
        world_send(world, queue, "one of many");
    worker_join(world, &worker, "w", 3);
    for (unsigned i = 0; world_queue(world, queue).deleted_total < 23;) {
        until(world, worker.assigned_count > i || world_queue(world, queue).deleted_total == 23);
        if (worker.assigned_count > i)
            worker_answer(&worker, i++, MILLRACE__OUTCOME__OUTCOME_OK, "null");
    }
    assert_int_equal(world_queue(world, queue).received_total, 23);
    assert_int_equal(usage(world).invocations, worker.assigned_count);
    worker_leave(&worker);
}

static void test_a_fifo_queue_keeps_its_order(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    struct worker worker;
    struct mapping_config config = {.enabled = true, .batch_size = 1};
    uint64_t queue = mapped_queue(world, true, config);
    worker_join(world, &worker, "w", 4);
    for (unsigned i = 0; i < 6; i++) {
        char body[16];
        snprintf(body, sizeof body, "body-%u", i);
        world_send_group(world, queue, body, "g");
    }
    for (unsigned i = 0; i < 6; i++) {
        char body[16];
        snprintf(body, sizeof body, "body-%u", i);
        until(world, worker.assigned_count == i + 1);
        assert_true(has(&worker, i, body));
        world_settle(world, 100);
        assert_int_equal(worker.assigned_count, i + 1); /* the next one waits for it */
        worker_answer(&worker, i, MILLRACE__OUTCOME__OUTCOME_OK, "null");
    }
    until(world, world_queue(world, queue).deleted_total == 6);
    worker_leave(&worker);
}

static void test_what_a_lost_worker_had_is_given_back(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    struct worker worker;
    struct worker other;
    uint64_t queue = mapped_queue(world, false, plain);
    worker_join(world, &worker, "w", 4);
    world_send(world, queue, "one");
    until(world, worker.assigned_count == 1);
    worker_leave(&worker);
    until(world, world_queue(world, queue).visible == 1); /* long before the lease ends */
    worker_join(world, &other, "v", 4);
    until(world, other.assigned_count == 1);
    worker_answer(&other, 0, MILLRACE__OUTCOME__OUTCOME_OK, "null");
    until(world, world_queue(world, queue).deleted_total == 1);
    assert_int_equal(usage(world).invocations, 1);
    worker_leave(&other);
}

/* The one node that has the shard is away for longer than a call waits. */
static void test_a_result_outlives_a_time_without_a_replica(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    struct worker worker;
    uint64_t queue = mapped_queue(world, false, plain);
    worker_join(world, &worker, "w", 4);
    world_send(world, queue, "one");
    until(world, worker.assigned_count == 1);
    world->far = NULL;
    shards_end(nodes, 1);
    until(world, nodes->world[1]->closed);
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_OK, "null");
    live(world, &worker, CALL_WAITS_MS);
    shards_begin(nodes, 1);
    world->far = nodes->world[1]->shards;
    until(world, shard_on(nodes, 1, 1) != NULL && shard_ready(shard_on(nodes, 1, 1)));
    until(world, world_queue(world, queue).deleted_total == 1);
    assert_int_equal(usage(world).invocations, 1);
    worker_leave(&worker);
}

/* A message in a dead-letter queue with a mapping, from a queue that the first node has never heard
 * of; the dead-letter queue's id. */
static uint64_t a_dead_letter(struct nodes *nodes)
{
    struct world *world = nodes->world[0];
    struct shard *shard = shard_on(nodes, 1, 1);
    struct command command = {.type = COMMAND_QUEUE_CREATE};
    async_queue_settings(&command.queue_create.settings);
    command.queue_create.name = SLICE_LITERAL("source");
    command.queue_create.tags = SLICE_LITERAL("{}");
    command.queue_create.settings.receive_count_max = 1;
    command.queue_create.settings.dead_letter = SLICE_LITERAL("orders");
    uint64_t dead = mapped_queue(world, false, plain);
    uint64_t source = world_call_at(world, shard, &command).queue_id;
    world_send(world, source, "poison");
    command = (struct command){.type = COMMAND_RECEIVE, .receive = {.queue_id = source, .max = 1}};
    assert_int_equal(world_call_at(world, shard, &command).message_count, 1);
    assert_int_equal(world_call_at(world, shard, &command).message_count, 0);
    return dead;
}

/* The event names the queue that the message came from. */
static void test_the_queue_that_a_message_was_redriven_from(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    struct worker worker;
    a_dead_letter(nodes);
    worker_join(world, &worker, "w", 4);
    until(world, worker.assigned_count == 1);
    assert_true(has(&worker, 0, "poison"));
    assert_true(has(&worker, 0,
                    "\"DeadLetterQueueSourceArn\":\"arn:aws:sqs:us-east-1:000000000000:source\""));
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_OK, "null");
    worker_leave(&worker);
}

/* Nobody tells where the message is from, and the dispatcher closes while its batch waits for that:
 * the message is given back at once, not when a call for a leader would end. */
static void test_closing_waits_for_no_names(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    struct worker worker;
    uint64_t dead = a_dead_letter(nodes);
    look_serve_end(nodes->away[1]);
    worker_join(world, &worker, "w", 4);
    until(world, world_queue(world, dead).in_flight == 1);
    world_settle(world, 200);
    assert_int_equal(worker.assigned_count, 0);
    uint64_t begun_ms = now_ms(world);
    dispatch_close(world->dispatch, world_closed, world);
    until(world, world->closed);
    uint64_t took_ms = now_ms(world) - begun_ms;
    worker_leave(&worker);
    look_serve(nodes->away[1], nodes->world[1]->shards);
    world->closed = false;
    world->dispatch = world_dispatch_open(world, nodes->peers[0]);
    assert_true(took_ms < CALL_WAITS_MS / 2);
    assert_int_equal(world_queue(world, dead).visible, 1);
}

static void test_what_a_function_used_goes_with_it(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    struct worker worker;
    struct usage left;
    uint64_t queue = mapped_queue(world, false, plain);
    uint64_t id = core_function_id(shard_core(world->shard), SLICE_LITERAL("f"));
    worker_join(world, &worker, "w", 4);
    world_send(world, queue, "one");
    until(world, worker.assigned_count == 1);
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_OK, "null");
    const struct core *core = shard_core(shard_on(nodes, 1, 1));
    until(world, core_tally(core, id, &left));
    struct command command = {.type = COMMAND_FUNCTION_DELETE,
                              .function_delete = {.name = SLICE_LITERAL("f")}};
    world_call(world, &command);
    until(world, !core_tally(core, id, &left));
    worker_leave(&worker);
}

/* ---- claims ---- */

static struct claim claim_of(struct world *world, uint64_t queue, struct claim_message *message)
{
    return (struct claim){.lease_id = 77,
                          .uuid = {1, 2, 3},
                          .queue_id = queue,
                          .leased_ms = shard_now_ms(world->shard),
                          .visibility_s = 30,
                          .count = 1,
                          .messages = message};
}

static void test_a_claim_that_turns_out_wrong(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    struct worker worker;
    uint64_t queue = mapped_queue(world, false, plain);
    struct claim_message message = {.lease = {.seq = 1, .receive_count = 1}};
    worker_join(world, &worker, "w", 4);
    worker_claims(&worker, world, claim_of(world, queue, &message));
    until(world, worker.cancelled_count == 1);
    worker_leave(&worker);
}

/* What was given back is not the worker's any more, though nobody has had it since. */
static void test_a_claim_of_what_was_given_back(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    struct worker worker;
    struct mapping_config off = {.enabled = false, .batch_size = 10};
    uint64_t queue = mapped_queue(world, false, off);
    world_send(world, queue, "one");
    struct command command = {.type = COMMAND_RECEIVE,
                              .receive = {.queue_id = queue, .max = 1, .visibility_s = 10}};
    struct claim_message message = {.lease = {.seq = 1, .receive_count = 1}};
    assert_int_equal(world_call_at(world, shard_on(nodes, 1, 1), &command).message_count, 1);
    command = (struct command){.type = COMMAND_CHANGE_VISIBILITY,
                               .change_visibility = {.queue_id = queue, .lease = {1, 1}}};
    assert_int_equal(world_call_at(world, shard_on(nodes, 1, 1), &command).code, CORE_OK);
    worker_join(world, &worker, "w", 4);
    worker_claims(&worker, world, claim_of(world, queue, &message));
    until(world, worker.cancelled_count == 1);
    assert_int_equal(world_queue(world, queue).visible, 1);
    worker_leave(&worker);
}

static void test_a_claim_that_turns_out_right(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    struct worker worker;
    struct mapping_config off = {.enabled = false, .batch_size = 10};
    uint64_t queue = mapped_queue(world, false, off);
    world_send(world, queue, "one");
    struct command receive = {.type = COMMAND_RECEIVE,
                              .receive = {.queue_id = queue, .max = 1, .visibility_s = 10}};
    struct claim_message message = {.lease = {.seq = 1, .receive_count = 1}};
    assert_int_equal(world_call_at(world, shard_on(nodes, 1, 1), &receive).message_count, 1);
    worker_join(world, &worker, "w", 4);
    worker_claims(&worker, world, claim_of(world, queue, &message));
    world_settle(world, 300);
    assert_int_equal(worker.cancelled_count, 0);
    Millrace__Result result = MILLRACE__RESULT__INIT;
    result.lease_id = 77;
    result.payload = (ProtobufCBinaryData){4, (uint8_t *)(uintptr_t) "null"};
    worker_say(&worker, MILLRACE__TYPE__TYPE_RESULT, &result.base);
    until(world, world_queue(world, queue).deleted_total == 1);
    assert_int_equal(usage(world).invocations, 1);
    worker_leave(&worker);
}

/* ---- the doors themselves ---- */

struct received {
    struct door_receive receive;
    bool done;
    enum status status;
};

static void on_door_received(struct door_receive *receive, enum status status)
{
    struct received *received = receive->data;
    received->done = true;
    received->status = status;
}

static void begin_receive(struct world *world, struct received *received, uint64_t queue,
                          uint32_t wait_ms)
{
    received->receive =
        (struct door_receive){.command = {.queue_id = queue, .max = 10, .visibility_s = 30},
                              .wait_ms = wait_ms,
                              .done = on_door_received,
                              .data = received};
    door_receive(world->shards, 1, &received->receive);
}

static void test_a_receive_that_waits_elsewhere(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    struct received received = {0};
    uint64_t queue = world_queue_new(world, "orders");
    begin_receive(world, &received, queue, 10000);
    world_settle(world, 200);
    assert_false(received.done);
    world_send(world, queue, "at last");
    until(world, received.done);
    assert_int_equal(received.status, STATUS_OK);
    assert_int_equal(received.receive.count, 1);
    assert_int_equal(received.receive.refs[0].length, received.receive.records.length);
    assert_non_null(
        memmem(received.receive.records.data, received.receive.records.length, "at last", 7));
    assert_int_equal(world_queue(world, queue).in_flight, 1);
    door_receive_free(&received.receive);
}

static void test_a_cancelled_receive_takes_nothing(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    struct received received = {0};
    uint64_t queue = world_queue_new(world, "orders");
    begin_receive(world, &received, queue, 10000);
    world_settle(world, 200);
    door_receive_cancel(&received.receive);
    until(world, received.done);
    assert_int_equal(received.status, STATUS_CANCELLED);
    world_send(world, queue, "nobody waits");
    world_settle(world, 200);
    assert_int_equal(world_queue(world, queue).visible, 1);
    received = (struct received){0};
    begin_receive(world, &received, queue, 0);
    while (world_queue(world, queue).in_flight == 0)
        uv_run(&world->loop, UV_RUN_NOWAIT);
    assert_false(received.done); /* it is leased, and the answer on its way */
    door_receive_cancel(&received.receive);
    until(world, received.done);
    assert_int_equal(received.status, STATUS_CANCELLED);
    until(world, world_queue(world, queue).visible == 1); /* D3: not after 30 s */
}

static struct done call_door(struct world *world, const void *commands, size_t bytes,
                             uint32_t count)
{
    struct done done = {0};
    struct door_call call = {.call = {.count = count, .done = world_called, .data = &done}};
    buffer_add(&call.call.commands, commands, bytes);
    door_call(world->shards, 1, &call);
    until(world, done.yes);
    return done;
}

static void test_a_call_says_what_the_shard_says(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    uint64_t queue = world_queue_new(world, "orders");
    struct command command = {.type = COMMAND_DELETE,
                              .delete = {.queue_id = queue, .lease = {1, 1}, .exact = true}};
    struct buffer bytes = {0};
    command_encode(&bytes, &command);
    struct done done = call_door(world, bytes.data, bytes.length, 1);
    assert_int_equal(done.status, STATUS_OK);
    assert_int_equal(done.result.code, CORE_NO_MESSAGE);
    assert_int_equal(call_door(world, bytes.data, bytes.length, 2).status, STATUS_INVALID);
    assert_int_equal(call_door(world, "nonsense", 8, 1).status, STATUS_INVALID);
    buffer_free(&bytes);
}

struct glanced {
    struct door_glance glance;
    bool done;
    uint32_t count;
    struct glance_news news;
};

static void on_glanced(struct door_glance *glance, enum status status,
                       const struct glance_news *news, uint32_t count)
{
    struct glanced *glanced = glance->data;
    assert_int_equal(status, STATUS_OK);
    glanced->done = true;
    glanced->count = count;
    if (count > 0)
        glanced->news = news[0];
}

static void ask(struct world *world, struct glanced *glanced, uint64_t mark, uint32_t hold_ms)
{
    struct glance_item item = {.mark = mark, .name = SLICE_LITERAL("orders")};
    *glanced = (struct glanced){.glance = {.count = 1, .done = on_glanced, .data = glanced}};
    glance_question_begin(&glanced->glance.request, hold_ms);
    glance_question_add(&glanced->glance.request, &item);
    door_glance(world->shards, 1, &glanced->glance);
}

static void test_a_glance_stands_until_there_is_news(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    struct glanced glanced;
    ask(world, &glanced, 0, 5000);
    until(world, glanced.done);
    assert_int_equal(glanced.count, 1);
    assert_false(glanced.news.glance.there); /* which is news, too */
    ask(world, &glanced, glanced.news.glance.mark, 5000);
    world_settle(world, 200);
    assert_false(glanced.done);
    uint64_t queue = world_queue_new(world, "orders");
    until(world, glanced.done);
    assert_true(glanced.news.glance.there);
    assert_int_equal(glanced.news.glance.queue_id, queue);
    ask(world, &glanced, glanced.news.glance.mark, 5000);
    world_settle(world, 200);
    assert_false(glanced.done);
    world_send(world, queue, "one");
    until(world, glanced.done);
    assert_int_equal(glanced.news.glance.visible, 1);
    uint64_t asked_ms = now_ms(world);
    ask(world, &glanced, glanced.news.glance.mark, 300);
    until(world, glanced.done);
    assert_int_equal(glanced.count, 0); /* nothing happened */
    assert_true(now_ms(world) - asked_ms >= 300);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, nodes_teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(test_messages_come_with_their_bodies_and_go),
        TEST(test_a_backlog_in_batches),
        TEST(test_a_fifo_queue_keeps_its_order),
        TEST(test_what_a_lost_worker_had_is_given_back),
        TEST(test_a_result_outlives_a_time_without_a_replica),
        TEST(test_the_queue_that_a_message_was_redriven_from),
        TEST(test_closing_waits_for_no_names),
        TEST(test_what_a_function_used_goes_with_it),
        TEST(test_a_claim_that_turns_out_wrong),
        TEST(test_a_claim_of_what_was_given_back),
        TEST(test_a_claim_that_turns_out_right),
        TEST(test_a_receive_that_waits_elsewhere),
        TEST(test_a_cancelled_receive_takes_nothing),
        TEST(test_a_call_says_what_the_shard_says),
        TEST(test_a_glance_stands_until_there_is_news),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("dispatch elsewhere", tests, NULL, NULL);
}
