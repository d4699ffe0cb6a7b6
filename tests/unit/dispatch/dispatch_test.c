/* SPDX-License-Identifier: Apache-2.0 */
/* The dispatcher end to end: a real shard, real links, workers played by the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/dispatch/world.h"

#include <jansson.h>

static const uint8_t uuid[UUID_BYTES] = {1, 2, 3};
static const struct mapping_config plain = {.enabled = true, .batch_size = 10};

static const char *assigned_text(const struct worker *worker, unsigned i, char *out, size_t room)
{
    const ProtobufCBinaryData *payload = &worker->assigned[i]->payload;
    assert_true(payload->len < room);
    memcpy(out, payload->data, payload->len);
    out[payload->len] = '\0';
    return out;
}

/* The message id of the `n`th record of a batch. */
static void assigned_id(const struct worker *worker, unsigned i, size_t n,
                        char out[UUID_TEXT_LENGTH + 1])
{
    const ProtobufCBinaryData *payload = &worker->assigned[i]->payload;
    json_t *root = json_loadb((const char *)payload->data, payload->len, 0, NULL);
    const json_t *record = json_array_get(json_object_get(root, "Records"), n);
    const char *id = json_string_value(json_object_get(record, "messageId"));
    assert_non_null(id);
    assert_int_equal(strlen(id), UUID_TEXT_LENGTH);
    memcpy(out, id, UUID_TEXT_LENGTH + 1);
    json_decref(root);
}

/* A queue with a mapping to function "f". */
static uint64_t mapped_queue(struct world *world, struct mapping_config config)
{
    uint64_t queue = world_queue_new(world, "orders");
    world_function_new(world, "f");
    world_mapping_put(world, uuid, "f", "orders", 0, config);
    return queue;
}

/* ---- batches ---- */

static void test_success_deletes_and_is_counted_once(void **state)
{
    struct world *world = *state;
    struct worker worker;
    char text[4096];
    uint64_t queue = mapped_queue(world, plain);
    world_send(world, queue, "one");
    world_send(world, queue, "two");
    worker_join(world, &worker, "w", 4);
    until(world, worker.assigned_count == 1);
    const Millrace__Assign *assign = worker.assigned[0];
    assert_string_equal(assign->function->name, "f");
    assert_string_equal(assign->function->arn, "arn:aws:lambda:us-east-1:000000000000:function:f");
    assert_string_equal(assign->function->handler, "app.handler");
    assert_int_equal(assign->function->timeout_ms, 3000);
    assert_int_equal(assign->function->code_bytes, strlen(CODE_FIRST CODE_SECOND));
    assert_int_equal(strlen(assign->request_id), UUID_TEXT_LENGTH);
    assert_memory_equal(assign->trace_id, "Root=1-", 7);
    assigned_text(&worker, 0, text, sizeof text);
    assert_non_null(strstr(text, "\"body\":\"one\""));
    assert_non_null(strstr(text, "\"body\":\"two\""));
    assert_int_equal(world_queue(world, queue).in_flight, 2);
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_OK, "null");
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_OK, "null"); /* late: ignored */
    until(world, world_usage(world, "f").invocations > 0);
    world_settle(world, 100);
    struct usage usage = world_usage(world, "f");
    assert_int_equal(usage.invocations, 1);
    assert_int_equal(usage.errors, 0);
    assert_int_equal(usage.cold_starts, 1);
    assert_int_equal(usage.billed_ms, 2);
    assert_int_equal(usage.billed_mb_ms, 256);
    assert_int_equal(world_queue(world, queue).in_flight, 0);
    assert_int_equal(world_queue(world, queue).visible, 0);
    struct dispatch_mapping_view view;
    dispatch_mapping(world->dispatch, uuid, &view);
    assert_string_equal(view.last_result, "OK");
    assert_int_equal(view.running, 0);
    world_settle(world, 300); /* a tick */
    dispatch_mapping(world->dispatch, uuid, &view);
    assert_int_equal(view.concurrency_target, 0);
    worker_leave(&worker);
}

static void test_failure_leaves_the_batch_until_its_visibility_timeout(void **state)
{
    struct world *world = *state;
    struct worker worker;
    uint64_t queue = mapped_queue(world, plain);
    world_send(world, queue, "poison");
    worker_join(world, &worker, "w", 4);
    until(world, worker.assigned_count == 1);
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_TIMEOUT, "{}");
    until(world, world_usage(world, "f").invocations == 1);
    assert_int_equal(world_usage(world, "f").errors, 1);
    assert_int_equal(world_usage(world, "f").timeouts, 1);
    world_settle(world, 300);
    assert_int_equal(world_queue(world, queue).in_flight, 1);
    assert_int_equal(worker.assigned_count, 1); /* not run again at once */
    worker_leave(&worker);
}

static void test_partial_failure_keeps_the_named_items(void **state)
{
    struct world *world = *state;
    struct worker worker;
    struct mapping_config config = plain;
    char id[UUID_TEXT_LENGTH + 1];
    char answer[256];
    config.report_item_failures = true;
    uint64_t queue = mapped_queue(world, config);
    for (unsigned i = 0; i < 3; i++)
        world_send(world, queue, "x");
    worker_join(world, &worker, "w", 4);
    until(world, worker.assigned_count == 1);
    assigned_id(&worker, 0, 1, id);
    snprintf(answer, sizeof answer, "{\"batchItemFailures\":[{\"itemIdentifier\":\"%s\"}]}", id);
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_OK, answer);
    until(world, world_usage(world, "f").invocations == 1);
    assert_int_equal(world_queue(world, queue).in_flight, 1);
    assert_int_equal(world_usage(world, "f").errors, 0);
    worker_leave(&worker);
}

/* What follows a failed message in its group stays with it; other groups are not held up. */
static void test_partial_failure_keeps_the_order_of_groups(void **state)
{
    struct world *world = *state;
    struct worker worker;
    struct mapping_config config = plain;
    char id[UUID_TEXT_LENGTH + 1];
    char answer[256];
    char event[8192];
    config.report_item_failures = true;
    uint64_t queue = world_queue_make(world, "orders", true);
    world_function_new(world, "f");
    for (unsigned i = 0; i < 3; i++) {
        world_send_group(world, queue, (const char *[]){"a0", "a1", "a2"}[i], "a");
        world_send_group(world, queue, (const char *[]){"b0", "b1", "b2"}[i], "b");
    }
    world_mapping_put(world, uuid, "f", "orders", 0, config);
    worker_join(world, &worker, "w", 4);
    until(world, worker.assigned_count == 1);
    assigned_text(&worker, 0, event, sizeof event);
    assert_non_null(strstr(event, "\"MessageGroupId\":\"b\""));
    char *second = strstr(event, "\"body\":\"a1\"");
    assert_non_null(second);
    *second = '\0';
    for (char *at = event; (at = strstr(at, "\"messageId\":\"")) != NULL; at++)
        memcpy(id, at + strlen("\"messageId\":\""), UUID_TEXT_LENGTH);
    id[UUID_TEXT_LENGTH] = '\0';
    snprintf(answer, sizeof answer, "{\"batchItemFailures\":[{\"itemIdentifier\":\"%s\"}]}", id);
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_OK, answer);
    until(world, world_usage(world, "f").invocations == 1);
    assert_int_equal(world_queue(world, queue).in_flight, 2); /* a1 and a2 */
    assert_int_equal(world_queue(world, queue).visible, 0);
    worker_leave(&worker);
}

/* Messages that wait for their group are visible, but asking for them again and again is no use. */
static void test_a_group_in_flight_is_not_asked_for(void **state)
{
    struct world *world = *state;
    struct worker worker;
    struct shard_stats before;
    struct shard_stats after;
    struct mapping_config config = plain;
    config.batch_size = 1;
    uint64_t queue = world_queue_make(world, "orders", true);
    world_function_new(world, "f");
    world_mapping_put(world, uuid, "f", "orders", 0, config);
    world_send_group(world, queue, "1", "g");
    world_send_group(world, queue, "2", "g");
    worker_join(world, &worker, "w", 4);
    until(world, worker.assigned_count == 1);
    world_settle(world, 300);
    shard_stats(world->shard, &before);
    world_settle(world, 1000);
    shard_stats(world->shard, &after);
    assert_true(after.commands - before.commands < 10);
    assert_int_equal(worker.assigned_count, 1);
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_OK, "null");
    until(world, worker.assigned_count == 2);
    worker_answer(&worker, 1, MILLRACE__OUTCOME__OUTCOME_OK, "null");
    until(world, world_usage(world, "f").invocations == 2);
    worker_leave(&worker);
}

static void test_partial_failure_that_is_nonsense_keeps_all(void **state)
{
    struct world *world = *state;
    struct worker worker;
    struct mapping_config config = plain;
    config.report_item_failures = true;
    uint64_t queue = mapped_queue(world, config);
    world_send(world, queue, "x");
    world_send(world, queue, "y");
    worker_join(world, &worker, "w", 4);
    until(world, worker.assigned_count == 1);
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_OK,
                  "{\"batchItemFailures\":[{\"itemIdentifier\":\"nobody\"}]}");
    until(world, world_usage(world, "f").invocations == 1);
    assert_int_equal(world_queue(world, queue).in_flight, 2);
    worker_leave(&worker);
}

static void test_a_lost_worker_gives_its_batch_back_at_once(void **state)
{
    struct world *world = *state;
    struct worker first;
    struct worker second;
    char text[4096];
    uint64_t queue = mapped_queue(world, plain);
    world_send(world, queue, "precious");
    worker_join(world, &first, "w1", 1);
    until(world, first.assigned_count == 1);
    worker_leave(&first);
    worker_join(world, &second, "w2", 1);
    until(world, second.assigned_count == 1); /* long before the 30 s of the lease are over */
    assigned_text(&second, 0, text, sizeof text);
    assert_non_null(strstr(text, "precious"));
    assert_non_null(strstr(text, "\"ApproximateReceiveCount\":\"2\""));
    worker_answer(&second, 0, MILLRACE__OUTCOME__OUTCOME_OK, "null");
    until(world, world_queue(world, queue).in_flight == 0);
    assert_int_equal(world_queue(world, queue).visible, 0);
    assert_int_equal(world_usage(world, "f").invocations, 1);
    worker_leave(&second);
}

static void test_rejected_work_is_tried_again(void **state)
{
    struct world *world = *state;
    struct worker worker;
    uint64_t queue = mapped_queue(world, plain);
    world_send(world, queue, "x");
    worker_join(world, &worker, "w", 1);
    until(world, worker.assigned_count == 1);
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_REJECTED, "");
    until(world, worker.assigned_count == 2);
    assert_int_equal(world_usage(world, "f").invocations, 0); /* nothing ran */
    worker_answer(&worker, 1, MILLRACE__OUTCOME__OUTCOME_OK, "");
    until(world, world_usage(world, "f").invocations == 1);
    assert_int_equal(world_queue(world, queue).in_flight, 0);
    worker_leave(&worker);
}

/* A burst fills every slot, and not one more; each answer lets one more start. */
static void test_a_burst_uses_every_slot(void **state)
{
    struct world *world = *state;
    struct worker worker;
    struct mapping_config config = plain;
    config.batch_size = 1;
    uint64_t queue = mapped_queue(world, config);
    for (unsigned i = 0; i < 30; i++)
        world_send(world, queue, "x");
    worker_join(world, &worker, "w", 8);
    until(world, worker.assigned_count == 8);
    world_settle(world, 300);
    assert_int_equal(worker.assigned_count, 8);
    assert_int_equal(world_queue(world, queue).in_flight, 8); /* nothing is leased ahead */
    for (unsigned i = 0; i < 30; i++) {
        until(world, worker.assigned_count > i);
        worker_answer(&worker, i, MILLRACE__OUTCOME__OUTCOME_OK, "");
    }
    until(world, world_usage(world, "f").invocations == 30);
    assert_int_equal(world_queue(world, queue).in_flight, 0);
    assert_int_equal(world_queue(world, queue).visible, 0);
    struct dispatch_function_view view;
    dispatch_function(world->dispatch, SLICE_LITERAL("f"), &view);
    assert_int_equal(view.running_peak, 8);
    assert_int_equal(view.running, 0);
    worker_leave(&worker);
}

static void test_maximum_concurrency_and_disabling(void **state)
{
    struct world *world = *state;
    struct worker worker;
    struct mapping_config config = {.enabled = true, .batch_size = 1, .concurrency_max = 2};
    uint64_t queue = world_queue_new(world, "orders");
    world_function_new(world, "f");
    uint64_t version = world_mapping_put(world, uuid, "f", "orders", 0, config);
    for (unsigned i = 0; i < 10; i++)
        world_send(world, queue, "x");
    worker_join(world, &worker, "w", 8);
    until(world, worker.assigned_count == 2);
    world_settle(world, 300);
    assert_int_equal(worker.assigned_count, 2);
    config.enabled = false;
    world_mapping_put(world, uuid, "f", "orders", version, config);
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_OK, "");
    worker_answer(&worker, 1, MILLRACE__OUTCOME__OUTCOME_OK, ""); /* what runs still counts */
    until(world, world_usage(world, "f").invocations == 2);
    world_settle(world, 300);
    assert_int_equal(worker.assigned_count, 2); /* nothing new */
    assert_int_equal(world_queue(world, queue).visible, 8);
    worker_leave(&worker);
}

static void test_a_batching_window_waits_for_a_full_batch(void **state)
{
    struct world *world = *state;
    struct worker worker;
    struct mapping_config config = {.enabled = true, .batch_size = 3, .batching_window_s = 300};
    uint64_t queue = mapped_queue(world, config);
    worker_join(world, &worker, "w", 4);
    world_send(world, queue, "1");
    world_send(world, queue, "2");
    world_settle(world, 300);
    assert_int_equal(worker.assigned_count, 0);
    world_send(world, queue, "3");
    until(world, worker.assigned_count == 1);
    worker_leave(&worker);
}

static void test_a_deleted_function_gets_nothing_more(void **state)
{
    struct world *world = *state;
    struct worker worker;
    uint64_t queue = mapped_queue(world, plain);
    world_send(world, queue, "x");
    worker_join(world, &worker, "w", 4);
    until(world, worker.assigned_count == 1);
    struct command command = {.type = COMMAND_FUNCTION_DELETE,
                              .function_delete = {.name = SLICE_LITERAL("f")}};
    assert_int_equal(world_call(world, &command).code, CORE_OK);
    world_send(world, queue, "y");
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_OK, ""); /* finishes all the same */
    until(world, world_queue(world, queue).in_flight == 0);
    world_settle(world, 300);
    assert_int_equal(worker.assigned_count, 1);
    assert_int_equal(world_queue(world, queue).visible, 1);
    worker_leave(&worker);
}

/* ---- asynchronous events ---- */

static void test_async_success_and_first_retry(void **state)
{
    struct world *world = *state;
    struct worker worker;
    char text[256];
    world_function_new(world, "f");
    uint64_t queue = world_queue_new(world, "/async/f");
    worker_join(world, &worker, "w", 4);
    world_send(world, queue, "{\"n\":1}");
    until(world, worker.assigned_count == 1);
    assert_string_equal(assigned_text(&worker, 0, text, sizeof text), "{\"n\":1}");
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_OK, "");
    until(world, world_usage(world, "f").invocations == 1);
    assert_int_equal(world_queue(world, queue).in_flight, 0);
    world_send(world, queue, "{\"n\":2}");
    until(world, worker.assigned_count == 2);
    worker_answer(&worker, 1, MILLRACE__OUTCOME__OUTCOME_HANDLED, "{}");
    until(world, world_usage(world, "f").errors == 1);
    assert_int_equal(world_queue(world, queue).in_flight, 1);
    uint64_t due = core_next_deadline_ms(shard_core(world->shard));
    uint64_t now = clock_now_ms();
    assert_true(due > now + 50000 && due <= now + 60000); /* a minute */
    worker_leave(&worker);
}

static void lease_and_show(struct shard_receive *receive, enum status status,
                           const struct core_result *result)
{
    struct done *done = receive->data;
    assert_int_equal(status, STATUS_OK);
    assert_int_equal(result->message_count, 1);
    done->result.seq = result->messages[0].seq;
    done->result.version = result->messages[0].receive_count;
    done->yes = true;
}

/* Use up one attempt, as a worker that was lost would. */
static void attempt_and_lose(struct world *world, uint64_t queue)
{
    struct done done = {0};
    struct shard_receive receive = {
        .command = {.queue_id = queue, .max = 1, .visibility_s = CORE_DEFAULT},
        .done = lease_and_show,
        .data = &done};
    shard_receive(world->shard, &receive);
    until(world, done.yes);
    struct command command = {
        .type = COMMAND_CHANGE_VISIBILITY,
        .change_visibility = {.queue_id = queue,
                              .lease = {done.result.seq, (uint32_t)done.result.version}}};
    assert_int_equal(world_call(world, &command).code, CORE_OK);
}

static void test_async_is_dropped_after_the_third_attempt(void **state)
{
    struct world *world = *state;
    struct worker worker;
    world_function_new(world, "f");
    uint64_t queue = world_queue_new(world, "/async/f");
    world_send(world, queue, "{}");
    attempt_and_lose(world, queue);
    attempt_and_lose(world, queue);
    worker_join(world, &worker, "w", 4);
    until(world, worker.assigned_count == 1);
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_CRASH, "{}");
    until(world, world_usage(world, "f").errors == 1);
    assert_int_equal(world_queue(world, queue).in_flight, 0);
    assert_int_equal(world_queue(world, queue).visible, 0);
    worker_leave(&worker);
}

/* ---- synchronous invocations ---- */

struct answer {
    struct invocation invocation;
    bool yes;
    enum status status;
    Millrace__Outcome outcome;
    char payload[256];
};

static void answered(struct invocation *invocation, enum status status,
                     const Millrace__Result *result)
{
    struct answer *answer = invocation->data;
    assert_false(answer->yes);
    answer->yes = true;
    answer->status = status;
    assert_true((status == STATUS_OK) == (result != NULL));
    if (result == NULL)
        return;
    answer->outcome = result->outcome;
    assert_true(result->payload.len < sizeof answer->payload);
    memcpy(answer->payload, result->payload.data, result->payload.len);
}

static void invoke(struct world *world, struct answer *answer, const char *function)
{
    *answer = (struct answer){0};
    answer->invocation = (struct invocation){.function_name = slice_of(function),
                                             .payload = SLICE_LITERAL("{\"a\":1}"),
                                             .client_context = SLICE_LITERAL("ctx"),
                                             .done = answered,
                                             .data = answer};
    memcpy(answer->invocation.request_id, "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
           UUID_TEXT_LENGTH + 1);
    dispatch_invoke(world->dispatch, &answer->invocation);
    assert_false(answer->yes); /* never before the call returned */
}

static void test_invoke(void **state)
{
    struct world *world = *state;
    struct worker worker;
    struct answer answer;
    char text[256];
    world_function_new(world, "f");
    worker_join(world, &worker, "w", 1);
    invoke(world, &answer, "f");
    until(world, worker.assigned_count == 1);
    assert_string_equal(assigned_text(&worker, 0, text, sizeof text), "{\"a\":1}");
    assert_string_equal(worker.assigned[0]->request_id, "6ba7b810-9dad-41d1-80b4-00c04fd430c8");
    assert_string_equal(worker.assigned[0]->client_context, "ctx");
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_HANDLED, "{\"errorType\":\"X\"}");
    until(world, answer.yes);
    assert_int_equal(answer.status, STATUS_OK);
    assert_int_equal(answer.outcome, MILLRACE__OUTCOME__OUTCOME_HANDLED);
    assert_string_equal(answer.payload, "{\"errorType\":\"X\"}");
    until(world, world_usage(world, "f").errors == 1);
    invoke(world, &answer, "nobody");
    until(world, answer.yes);
    assert_int_equal(answer.status, STATUS_NOT_FOUND);
    worker_leave(&worker);
}

static void test_invocations_wait_their_turn(void **state)
{
    struct world *world = *state;
    struct worker worker;
    struct answer answers[3];
    struct dispatch_function_view view;
    world_function_new(world, "f");
    worker_join(world, &worker, "w", 1);
    for (unsigned i = 0; i < 3; i++)
        invoke(world, &answers[i], "f");
    until(world, worker.assigned_count == 1);
    dispatch_function(world->dispatch, SLICE_LITERAL("f"), &view);
    assert_int_equal(view.running, 1);
    assert_int_equal(view.waiting, 2);
    for (unsigned i = 0; i < 3; i++) {
        until(world, worker.assigned_count == i + 1);
        assert_false(answers[i].yes);
        worker_answer(&worker, i, MILLRACE__OUTCOME__OUTCOME_OK, "1");
        until(world, answers[i].yes);
    }
    worker_leave(&worker);
}

static void test_a_lost_worker_is_an_error_not_a_second_run(void **state)
{
    struct world *world = *state;
    struct worker first;
    struct worker second;
    struct answer answer;
    world_function_new(world, "f");
    worker_join(world, &first, "w1", 1);
    invoke(world, &answer, "f");
    until(world, first.assigned_count == 1);
    worker_join(world, &second, "w2", 1);
    worker_leave(&first);
    until(world, answer.yes);
    assert_int_equal(answer.status, STATUS_OK);
    assert_int_equal(answer.outcome, MILLRACE__OUTCOME__OUTCOME_CRASH);
    assert_non_null(strstr(answer.payload, "Runtime.WorkerLost"));
    world_settle(world, 100);
    assert_int_equal(second.assigned_count, 0);
    worker_leave(&second);
}

static void test_rejected_invocation_waits_again(void **state)
{
    struct world *world = *state;
    struct worker worker;
    struct answer answer;
    world_function_new(world, "f");
    worker_join(world, &worker, "w", 1);
    invoke(world, &answer, "f");
    until(world, worker.assigned_count == 1);
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_REJECTED, "");
    until(world, worker.assigned_count == 2);
    assert_false(answer.yes);
    worker_answer(&worker, 1, MILLRACE__OUTCOME__OUTCOME_OK, "2");
    until(world, answer.yes);
    assert_string_equal(answer.payload, "2");
    worker_leave(&worker);
}

static void test_cancel(void **state)
{
    struct world *world = *state;
    struct worker worker;
    struct answer running;
    struct answer waiting;
    world_function_new(world, "f");
    worker_join(world, &worker, "w", 1);
    invoke(world, &running, "f");
    until(world, worker.assigned_count == 1);
    invoke(world, &waiting, "f");
    dispatch_invoke_cancel(world->dispatch, &waiting.invocation);
    dispatch_invoke_cancel(world->dispatch, &waiting.invocation); /* twice is harmless */
    assert_false(waiting.yes);
    until(world, waiting.yes);
    assert_int_equal(waiting.status, STATUS_CANCELLED);
    dispatch_invoke_cancel(world->dispatch, &running.invocation);
    dispatch_invoke_cancel(world->dispatch, &running.invocation);
    assert_false(running.yes);
    until(world, running.yes);
    assert_int_equal(running.status, STATUS_CANCELLED);
    until(world, worker.cancelled_count == 1);
    worker_answer(&worker, 0, MILLRACE__OUTCOME__OUTCOME_CRASH, "{}");
    until(world, world_usage(world, "f").invocations == 1); /* it did run */
    worker_leave(&worker);
}

/* The line of waiting callers has an end; who is refused is counted as throttled. */
static void test_too_many_callers_are_throttled(void **state)
{
    enum { CALLERS = 1010, LINE = 1000 };
    struct world *world = *state;
    struct answer *answers = calloc(CALLERS, sizeof *answers);
    world_function_new(world, "f");
    for (unsigned i = 0; i < CALLERS; i++)
        invoke(world, &answers[i], "f");
    until(world, answers[CALLERS - 1].yes);
    for (unsigned i = 0; i < CALLERS; i++) {
        assert_true(answers[i].yes == (i >= LINE));
        assert_true(i < LINE || answers[i].status == STATUS_BUSY);
    }
    until(world, world_usage(world, "f").throttles == CALLERS - LINE);
    for (unsigned i = 0; i < LINE; i++)
        dispatch_invoke_cancel(world->dispatch, &answers[i].invocation);
    until(world, answers[0].yes && answers[LINE - 1].yes);
    assert_int_equal(world_usage(world, "f").invocations, 0);
    free(answers);
}

static void test_no_worker_can_run_it(void **state)
{
    struct world *world = *state;
    struct answer answer;
    world_function_new(world, "f");
    invoke(world, &answer, "f");
    until(world, answer.yes);
    assert_int_equal(answer.status, STATUS_UNAVAILABLE);
}

/* ---- sessions ---- */

static void ask_code(struct world *world, struct worker *worker, const uint8_t *sha256,
                     uint64_t offset)
{
    Millrace__CodeRequest request = MILLRACE__CODE_REQUEST__INIT;
    request.sha256 = (ProtobufCBinaryData){SHA256_BYTES, (uint8_t *)(uintptr_t)sha256};
    request.offset = offset;
    if (worker->piece != NULL)
        millrace__code_piece__free_unpacked(worker->piece, NULL);
    worker->piece = NULL;
    worker_say(worker, MILLRACE__TYPE__TYPE_CODE_REQUEST, &request.base);
    until(world, worker->piece != NULL);
}

static void expect_piece(const struct worker *worker, const char *expected)
{
    assert_false(worker->piece->missing);
    assert_int_equal(worker->piece->total_bytes, strlen(CODE_FIRST CODE_SECOND));
    assert_int_equal(worker->piece->data.len, strlen(expected));
    assert_memory_equal(worker->piece->data.data, expected, strlen(expected));
}

static void test_code_is_served_in_pieces(void **state)
{
    struct world *world = *state;
    struct worker worker;
    uint8_t sha256[SHA256_BYTES];
    world_function_new(world, "f");
    digest_sha256(SLICE_LITERAL(CODE_FIRST CODE_SECOND), sha256);
    worker_join(world, &worker, "w", 1);
    ask_code(world, &worker, sha256, 0);
    expect_piece(&worker, CODE_FIRST);
    ask_code(world, &worker, sha256, strlen(CODE_FIRST));
    expect_piece(&worker, CODE_SECOND);
    ask_code(world, &worker, sha256, strlen(CODE_FIRST) + 3);
    expect_piece(&worker, &CODE_SECOND[3]);
    ask_code(world, &worker, sha256, strlen(CODE_FIRST CODE_SECOND));
    assert_true(worker.piece->missing);
    ask_code(world, &worker, sha256, UINT64_MAX);
    assert_true(worker.piece->missing);
    sha256[0] ^= 1;
    ask_code(world, &worker, sha256, 0);
    assert_true(worker.piece->missing);
    worker_leave(&worker);
}

static unsigned workers_seen(struct world *world)
{
    struct dispatch_worker_view view;
    unsigned count = 0;
    for (size_t position = 0; dispatch_worker_next(world->dispatch, &position, &view);)
        count++;
    return count;
}

static void test_hostile_workers_are_sent_away(void **state)
{
    struct world *world = *state;
    struct worker worker;
    Millrace__Heartbeat heartbeat = MILLRACE__HEARTBEAT__INIT;
    worker_dial(world, &worker);
    worker_say(&worker, MILLRACE__TYPE__TYPE_HEARTBEAT, &heartbeat.base); /* before its greeting */
    until(world, worker.ended);
    worker_dial(world, &worker);
    worker_hello(&worker, "w", 4, 2); /* another protocol */
    until(world, worker.ended);
    assert_true(worker.refused);
    worker_dial(world, &worker);
    worker_hello(&worker, "w", 0, 1); /* no slots */
    until(world, worker.ended);
    worker_join(world, &worker, "w", 4);
    worker_hello(&worker, "w", 4, 1); /* twice */
    until(world, worker.ended);
    worker_join(world, &worker, "w", 4);
    Millrace__CodeRequest request = MILLRACE__CODE_REQUEST__INIT;
    worker_say(&worker, MILLRACE__TYPE__TYPE_CODE_REQUEST, &request.base); /* no digest */
    until(world, worker.ended);
    worker_join(world, &worker, "w", 4);
    worker_say(&worker, 999, &heartbeat.base); /* unknown types are skipped */
    Millrace__Result result = MILLRACE__RESULT__INIT;
    result.lease_id = 12345;
    worker_say(&worker, MILLRACE__TYPE__TYPE_RESULT, &result.base); /* unknown lease */
    world_settle(world, 100);
    assert_false(worker.ended);
    assert_int_equal(workers_seen(world), 1);
    worker_leave(&worker);
}

/* What a worker calls itself ends up in JSON and in metrics, which have to stay valid. */
static void test_a_hostile_name_is_made_plain(void **state)
{
    struct world *world = *state;
    struct worker worker;
    struct dispatch_worker_view view;
    size_t position = 0;
    worker_join(world, &worker, "w\xff\n\xc3", 4);
    assert_true(dispatch_worker_next(world->dispatch, &position, &view));
    assert_string_equal(view.worker_id, "w???");
    worker_leave(&worker);
}

/* A stranger cannot make the broker hold a large frame: its header alone ends the link. */
static void test_a_greeting_is_short(void **state)
{
    struct world *world = *state;
    struct worker worker;
    struct buffer id = {0};
    memset(buffer_reserve(&id, 70000), 'x', 70000);
    buffer_added(&id, 70000);
    Millrace__Hello hello = MILLRACE__HELLO__INIT;
    hello.protocol = 1;
    hello.concurrency_max = 1;
    hello.worker_id = (char *)(uintptr_t) "w";
    hello.host = (char *)(uintptr_t)buffer_c_string(&id);
    worker_dial(world, &worker);
    worker_say(&worker, MILLRACE__TYPE__TYPE_HELLO, &hello.base);
    until(world, worker.ended);
    assert_false(worker.welcomed);
    buffer_free(&id);
    worker_leave(&worker);
}

static void test_impossible_results_are_not_believed(void **state)
{
    struct world *world = *state;
    struct worker worker;
    struct answer answer;
    Millrace__Result result = MILLRACE__RESULT__INIT;
    world_function_new(world, "f");
    worker_join(world, &worker, "w", 4);
    invoke(world, &answer, "f");
    until(world, worker.assigned_count == 1);
    result.lease_id = worker.assigned[0]->lease_id;
    result.duration_us = result.billed_ms = UINT64_MAX / 256;
    result.payload = (ProtobufCBinaryData){2, (uint8_t *)(uintptr_t) "{}"};
    worker_say(&worker, MILLRACE__TYPE__TYPE_RESULT, &result.base);
    until(world, answer.yes && world_usage(world, "f").invocations == 1);
    assert_true(world_usage(world, "f").billed_ms < 60000);
    assert_true(world_usage(world, "f").duration_us < 60000000);
    struct buffer big = {0};
    memset(buffer_reserve(&big, 7u << 20), 'x', 7u << 20);
    result.payload = (ProtobufCBinaryData){7u << 20, big.data};
    worker_say(&worker, MILLRACE__TYPE__TYPE_RESULT, &result.base);
    until(world, worker.ended);
    buffer_free(&big);
    worker_leave(&worker);
}

static void test_a_worker_that_reconnects_replaces_itself(void **state)
{
    struct world *world = *state;
    struct worker first;
    struct worker second;
    worker_join(world, &first, "same", 4);
    worker_join(world, &second, "same", 4);
    until(world, first.ended);
    assert_int_equal(workers_seen(world), 1);
    worker_leave(&first);
    worker_leave(&second);
}

static void test_a_draining_worker_gets_nothing(void **state)
{
    struct world *world = *state;
    struct worker worker;
    Millrace__Drain drain = MILLRACE__DRAIN__INIT;
    uint64_t queue = mapped_queue(world, plain);
    worker_join(world, &worker, "w", 4);
    worker_say(&worker, MILLRACE__TYPE__TYPE_DRAIN, &drain.base);
    world_settle(world, 100);
    world_send(world, queue, "x");
    world_settle(world, 300);
    assert_int_equal(worker.assigned_count, 0);
    assert_int_equal(world_queue(world, queue).visible, 1);
    worker_leave(&worker);
}

/* It keeps its connection open but says nothing: three heartbeats later its work is given back. */
static void test_a_silent_worker_loses_its_work(void **state)
{
    struct world *world = *state;
    struct worker silent;
    uint64_t queue = mapped_queue(world, plain);
    world_send(world, queue, "x");
    worker_join(world, &silent, "w", 4);
    until(world, silent.assigned_count == 1);
    assert_int_equal(world_queue(world, queue).in_flight, 1);
    until(world, world_queue(world, queue).visible == 1);
    until(world, silent.ended);
    assert_int_equal(workers_seen(world), 0);
    worker_leave(&silent);
}

/* The worker that room was reserved on goes while the messages are being leased. */
static void test_a_worker_that_leaves_during_the_lease(void **state)
{
    struct world *world = *state;
    struct worker first;
    struct worker second;
    uint64_t queue = mapped_queue(world, plain);
    worker_join(world, &first, "w1", 4);
    for (unsigned i = 0; i < 10; i++)
        world_send(world, queue, "x");
    worker_leave(&first);
    worker_join(world, &second, "w2", 4);
    for (unsigned i = 0;
         world_queue(world, queue).visible > 0 || world_queue(world, queue).in_flight > 0; i++) {
        until(world, second.assigned_count > i);
        worker_answer(&second, i, MILLRACE__OUTCOME__OUTCOME_OK, "");
        world_settle(world, 50);
    }
    worker_leave(&second);
}

/* A queue of the same name is found again, and so is a mapping that points elsewhere. */
static void test_queues_come_and_go(void **state)
{
    struct world *world = *state;
    struct worker worker;
    uint64_t queue = world_queue_new(world, "orders");
    uint64_t other = world_queue_new(world, "other");
    world_function_new(world, "f");
    uint64_t version = world_mapping_put(world, uuid, "f", "orders", 0, plain);
    worker_join(world, &worker, "w", 4);
    struct command command = {.type = COMMAND_QUEUE_DELETE, .queue_delete = {.queue_id = queue}};
    assert_int_equal(world_call(world, &command).code, CORE_OK);
    world_settle(world, 300);
    queue = world_queue_new(world, "orders");
    world_send(world, queue, "x");
    until(world, worker.assigned_count == 1);
    world_mapping_put(world, uuid, "f", "other", version, plain);
    world_send(world, other, "y");
    until(world, worker.assigned_count == 2);
    world_send(world, queue, "z");
    world_settle(world, 300);
    assert_int_equal(worker.assigned_count, 2);
    worker_leave(&worker);
}

/* Work of every kind is under way when the dispatcher closes: all of it comes home. */
static void test_closing_with_work_under_way(void **state)
{
    struct world *world = *state;
    struct worker worker;
    struct answer running;
    struct answer waiting;
    uint64_t queue = mapped_queue(world, plain);
    worker_join(world, &worker, "w", 2);
    world_send(world, queue, "x");
    until(world, worker.assigned_count == 1);
    invoke(world, &running, "f");
    until(world, worker.assigned_count == 2);
    invoke(world, &waiting, "f");
    dispatch_close(world->dispatch, world_closed, world);
    until(world, world->closed);
    assert_true(running.yes && waiting.yes);
    assert_int_equal(running.outcome, MILLRACE__OUTCOME__OUTCOME_CRASH);
    assert_int_equal(waiting.status, STATUS_UNAVAILABLE);
    assert_int_equal(world_queue(world, queue).visible, 1); /* given back */
    until(world, worker.ended);
    worker_leave(&worker);
    world->closed = false; /* what the teardown wants to close */
    struct dispatch_options options = {.loop = &world->loop,
                                       .shards = world->shards,
                                       .rpc_host = "127.0.0.1",
                                       .endpoint = "",
                                       .region = "us-east-1",
                                       .account_id = "000000000000",
                                       .version = "test"};
    assert_int_equal(dispatch_open(&world->dispatch, &options), STATUS_OK);
}

#define WORLD_TEST(function) cmocka_unit_test_setup_teardown(function, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(test_success_deletes_and_is_counted_once),
        WORLD_TEST(test_failure_leaves_the_batch_until_its_visibility_timeout),
        WORLD_TEST(test_partial_failure_keeps_the_named_items),
        WORLD_TEST(test_partial_failure_keeps_the_order_of_groups),
        WORLD_TEST(test_a_group_in_flight_is_not_asked_for),
        WORLD_TEST(test_partial_failure_that_is_nonsense_keeps_all),
        WORLD_TEST(test_a_lost_worker_gives_its_batch_back_at_once),
        WORLD_TEST(test_rejected_work_is_tried_again),
        WORLD_TEST(test_a_burst_uses_every_slot),
        WORLD_TEST(test_maximum_concurrency_and_disabling),
        WORLD_TEST(test_a_batching_window_waits_for_a_full_batch),
        WORLD_TEST(test_a_deleted_function_gets_nothing_more),
        WORLD_TEST(test_async_success_and_first_retry),
        WORLD_TEST(test_async_is_dropped_after_the_third_attempt),
        WORLD_TEST(test_invoke),
        WORLD_TEST(test_invocations_wait_their_turn),
        WORLD_TEST(test_a_lost_worker_is_an_error_not_a_second_run),
        WORLD_TEST(test_rejected_invocation_waits_again),
        WORLD_TEST(test_cancel),
        WORLD_TEST(test_no_worker_can_run_it),
        WORLD_TEST(test_too_many_callers_are_throttled),
        WORLD_TEST(test_code_is_served_in_pieces),
        WORLD_TEST(test_hostile_workers_are_sent_away),
        WORLD_TEST(test_a_hostile_name_is_made_plain),
        WORLD_TEST(test_a_greeting_is_short),
        WORLD_TEST(test_impossible_results_are_not_believed),
        WORLD_TEST(test_a_worker_that_reconnects_replaces_itself),
        WORLD_TEST(test_a_draining_worker_gets_nothing),
        WORLD_TEST(test_a_silent_worker_loses_its_work),
        WORLD_TEST(test_a_worker_that_leaves_during_the_lease),
        WORLD_TEST(test_queues_come_and_go),
        WORLD_TEST(test_closing_with_work_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
