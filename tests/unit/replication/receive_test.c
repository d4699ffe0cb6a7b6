/* SPDX-License-Identifier: Apache-2.0 */
/* Receives at a shard: how those that wait are served, cancelled and ended, and what they cost. */
#include "tests/unit/replication/bench.h"

struct late_receive {
    struct bench *b;
    struct shard_receive receive;
    struct answer answer;
    uint64_t queue_id;
};

static void receive_in_timer(uv_timer_t *timer)
{
    struct late_receive *late = timer->data;
    start_receive(late->b, &late->receive, &late->answer, late->queue_id, 0, CORE_DEFAULT);
}

/* A long poll of another queue ends in the very turn in which a timer begins a receive: what is
 * visible must be found all the same. */
static void a_receive_begun_in_a_timer_is_looked_at(void **state)
{
    struct bench *b = *state;
    struct shard_receive other;
    struct answer other_answer;
    struct late_receive late = {.b = b};
    uv_timer_t timer;
    open_shard(b);
    uint64_t empty = make_queue(b, "empty");
    late.queue_id = make_queue(b, "orders");
    send_text(b, late.queue_id, "one");
    start_receive(b, &other, &other_answer, empty, 60, CORE_DEFAULT);
    for (int i = 0; i < 5; i++)
        uv_run(&b->loop, UV_RUN_NOWAIT); /* its timer is set */
    timer.data = &late;
    uv_timer_init(&b->loop, &timer);
    uv_update_time(&b->loop);
    uv_timer_start(&timer, receive_in_timer, 20, 0);
    usleep(150000); /* both are due at once, ours first */
    wait_for(b, &other_answer.done);
    wait_for(b, &late.answer.done);
    assert_int_equal(other_answer.result.message_count, 0);
    assert_int_equal(late.answer.result.message_count, 1);
    uv_close((uv_handle_t *)&timer, NULL);
    close_shard(b);
}

static void serves_a_waiting_receive_in_the_same_entry(void **state)
{
    struct bench *b = *state;
    struct shard_receive receive;
    struct answer answer;
    struct shard_stats before;
    struct shard_stats after;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    start_receive(b, &receive, &answer, queue_id, 20000, CORE_DEFAULT);
    for (int i = 0; i < 3; i++)
        uv_run(&b->loop, UV_RUN_NOWAIT);
    assert_false(answer.done);
    shard_stats(b->shard, &before);
    assert_int_equal(before.waiting, 1);
    send_text(b, queue_id, "hello");
    assert_true(answer.done);
    assert_int_equal(answer.result.message_count, 1);
    assert_body(b, answer.messages[0].body, "hello");
    shard_stats(b->shard, &after);
    assert_int_equal(after.entries - before.entries, 1);
    assert_int_equal(after.commands - before.commands, 2);
    assert_int_equal(after.waiting, 0);
    close_shard(b);
}

static void delete_received(struct bench *b, uint64_t queue_id, const struct answer *received,
                            uint32_t count)
{
    struct shard_call call = {.done = on_called};
    struct answer answer = {0};
    call.data = &answer;
    for (uint32_t i = 0; i < count; i++) {
        const struct core_message *message = &received->messages[i];
        struct command command = {
            .type = COMMAND_DELETE,
            .delete = {.queue_id = queue_id, .lease = {message->seq, message->receive_count}}};
        shard_call_add(&call, &command);
    }
    shard_call(b->shard, &call);
    wait_for(b, &answer.done);
    assert_int_equal(answer.result.code, CORE_OK);
}

/* What the calls since `before` cost. */
static void assert_cost(struct bench *b, struct shard_stats *before, uint64_t entries,
                        uint64_t commands)
{
    struct shard_stats after;
    shard_stats(b->shard, &after);
    assert_int_equal(after.entries - before->entries, entries);
    assert_int_equal(after.commands - before->commands, commands);
    *before = after;
}

/* The group's next messages come with the commit of the last delete that they were waiting for, to
 * one receive: what is held up costs no others a place in an entry. */
static void deletes_that_free_a_group_serve_a_waiting_receive(void **state)
{
    struct bench *b = *state;
    struct shard_receive receives[3];
    struct answer answers[3];
    struct shard_stats stats;
    open_shard(b);
    uint64_t queue_id = make_fifo_queue(b, "orders.fifo");
    send_to_group(b, queue_id, "g", "one");
    send_to_group(b, queue_id, "g", "two");
    struct answer first = receive_now(b, queue_id, 0, CORE_DEFAULT);
    assert_int_equal(first.result.message_count, 2);
    for (int i = 0; i < 3; i++)
        start_receive(b, &receives[i], &answers[i], queue_id, 20000, CORE_DEFAULT);
    for (int i = 0; i < 3; i++)
        uv_run(&b->loop, UV_RUN_NOWAIT);
    shard_stats(b->shard, &stats);
    assert_int_equal(stats.waiting, 3);
    send_to_group(b, queue_id, "g", "three"); /* held up */
    send_to_group(b, queue_id, "g", "four");
    assert_cost(b, &stats, 2, 2);
    delete_received(b, queue_id, &first, 1); /* the other is in flight still */
    assert_cost(b, &stats, 1, 1);
    assert_false(answers[0].done);
    first.messages[0] = first.messages[1];
    delete_received(b, queue_id, &first, 1);
    assert_cost(b, &stats, 1, 2);
    assert_true(answers[0].done);
    assert_int_equal(answers[0].result.message_count, 2);
    assert_body(b, answers[0].messages[0].body, "three");
    send_to_group(b, queue_id, "other", "five"); /* nothing stands before it */
    assert_cost(b, &stats, 1, 2);
    assert_true(answers[1].done);
    delete_received(b, queue_id, &answers[0], 2); /* nothing is left: the third goes on waiting */
    assert_cost(b, &stats, 1, 2);
    assert_false(answers[2].done);
    core_check(shard_core(b->shard));
    close_shard(b);
}

static void an_empty_receive_costs_no_entry(void **state)
{
    struct bench *b = *state;
    struct shard_stats before;
    struct shard_stats after;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    shard_stats(b->shard, &before);
    struct answer answer = receive_now(b, queue_id, 0, CORE_DEFAULT);
    assert_int_equal(answer.status, STATUS_OK);
    assert_int_equal(answer.result.code, CORE_OK);
    assert_int_equal(answer.result.message_count, 0);
    answer = receive_now(b, queue_id, 30, CORE_DEFAULT); /* waits, and ends empty */
    assert_int_equal(answer.status, STATUS_OK);
    assert_int_equal(answer.result.message_count, 0);
    answer = receive_now(b, 999, 30, CORE_DEFAULT);
    assert_int_equal(answer.result.code, CORE_NO_QUEUE);
    shard_stats(b->shard, &after);
    assert_int_equal(after.entries, before.entries);
    close_shard(b);
}

static void waiting_receives_are_served_in_order(void **state)
{
    struct bench *b = *state;
    struct shard_receive receives[3];
    struct answer answers[3];
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    for (int i = 0; i < 3; i++)
        start_receive(b, &receives[i], &answers[i], queue_id, 20000, CORE_DEFAULT);
    for (int i = 0; i < 3; i++) {
        send_text(b, queue_id, "x");
        assert_true(answers[i].done);
        assert_int_equal(answers[i].result.message_count, 1);
        for (int k = i + 1; k < 3; k++)
            assert_false(answers[k].done);
    }
    close_shard(b);
}

/* It may repeat an earlier one, which only the core knows; others that wait are left alone. */
static void a_receive_with_an_attempt_is_asked_once(void **state)
{
    struct bench *b = *state;
    struct shard_receive receives[3];
    struct answer answers[3] = {0};
    struct shard_stats stats;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    shard_stats(b->shard, &stats);
    uint64_t entries = stats.entries;
    start_receive(b, &receives[0], &answers[0], queue_id, 20000, CORE_DEFAULT);
    for (int i = 1; i < 3; i++) {
        receives[i] = (struct shard_receive){
            .command = {queue_id, 10, CORE_DEFAULT, 0, .attempt_id = SLICE_LITERAL("try")},
            .wait_ms = i == 1 ? 20000 : 0,
            .done = on_receive,
            .data = &answers[i]};
        shard_receive(b->shard, &receives[i]);
    }
    wait_for(b, &answers[2].done);
    assert_int_equal(answers[2].result.message_count, 0);
    while (receives[1].proposed)
        uv_run(&b->loop, UV_RUN_ONCE);
    for (int i = 0; i < 5; i++)
        uv_run(&b->loop, UV_RUN_NOWAIT);
    shard_stats(b->shard, &stats);
    assert_in_range(stats.entries, entries + 1, entries + 2);
    assert_int_equal(stats.waiting, 2);
    for (int i = 0; i < 2; i++)
        send_text(b, queue_id, "x");
    assert_true(answers[0].done && answers[1].done);
    assert_int_equal(answers[0].result.message_count + answers[1].result.message_count, 2);
    close_shard(b);
}

static void a_deleted_queue_ends_its_waits(void **state)
{
    struct bench *b = *state;
    struct shard_receive receive;
    struct answer answer;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    start_receive(b, &receive, &answer, queue_id, 20000, CORE_DEFAULT);
    struct command command = {.type = COMMAND_QUEUE_DELETE};
    command.queue_delete.queue_id = queue_id;
    call_one(b, &command);
    wait_for(b, &answer.done);
    assert_int_equal(answer.result.code, CORE_NO_QUEUE);
    close_shard(b);
}

/* A receive that was proposed and has not ended. Both may be in one turn of the loop, when the disk
 * is faster than this thread: then with another message. */
static void start_on_its_way(struct bench *b, struct shard_receive *receive, struct answer *answer,
                             uint64_t queue_id, const char *text)
{
    for (;;) {
        send_text(b, queue_id, text);
        start_receive(b, receive, answer, queue_id, 0, CORE_DEFAULT);
        while (!receive->proposed && !answer->done)
            uv_run(&b->loop, UV_RUN_NOWAIT);
        if (!answer->done)
            return;
        delete_received(b, queue_id, answer, 1);
    }
}

static void cancelling_gives_back(void **state)
{
    struct bench *b = *state;
    struct shard_receive receive;
    struct answer answer;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    /* parked */
    start_receive(b, &receive, &answer, queue_id, 20000, CORE_DEFAULT);
    uv_run(&b->loop, UV_RUN_NOWAIT);
    shard_receive_cancel(b->shard, &receive);
    assert_false(answer.done);
    wait_for(b, &answer.done);
    assert_int_equal(answer.status, STATUS_CANCELLED);
    /* on its way */
    start_on_its_way(b, &receive, &answer, queue_id, "back");
    shard_receive_cancel(b->shard, &receive);
    wait_for(b, &answer.done);
    assert_int_equal(answer.status, STATUS_CANCELLED);
    struct answer got = receive_now(b, queue_id, 5000, CORE_DEFAULT);
    assert_int_equal(got.result.message_count, 1);
    assert_body(b, got.messages[0].body, "back");
    assert_int_equal(got.messages[0].receive_count, 2);
    close_shard(b);
}

static void leases_run_out_by_themselves(void **state)
{
    struct bench *b = *state;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    send_text(b, queue_id, "again");
    struct answer first = receive_now(b, queue_id, 0, 1);
    assert_int_equal(first.result.message_count, 1);
    struct answer second = receive_now(b, queue_id, 10000, 1);
    assert_int_equal(second.result.message_count, 1);
    assert_int_equal(second.messages[0].receive_count, 2);
    close_shard(b);
}

#define CROWD      120000 /* SQS's limit of messages in flight */
#define CROWD_STEP 10000

static void on_crowd(struct shard_call *call, enum status status, const struct core_result *results,
                     uint32_t count)
{
    assert_int_equal(status, STATUS_OK);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(results[i].code, CORE_OK);
    *(uint32_t *)call->data = results[count - 1].message_count;
}

/* So many commands in one call; how many messages the last one gave. */
static uint32_t call_crowd(struct bench *b, const struct command *command, uint32_t count)
{
    uint32_t messages = UINT32_MAX;
    struct shard_call call = {.done = on_crowd, .data = &messages};
    for (uint32_t i = 0; i < count; i++)
        shard_call_add(&call, command);
    shard_call(b->shard, &call);
    while (messages == UINT32_MAX)
        uv_run(&b->loop, UV_RUN_ONCE);
    return messages;
}

/* A long poll that has found that too many are in flight, and waits. */
static void start_limited(struct bench *b, struct shard_receive *receive, struct answer *answer,
                          uint64_t queue_id)
{
    struct shard_stats stats;
    shard_stats(b->shard, &stats);
    uint64_t before = stats.entries;
    start_receive(b, receive, answer, queue_id, 20000, CORE_DEFAULT);
    while (stats.entries == before || receive->proposed) { /* it may come and go in one turn */
        uv_run(&b->loop, UV_RUN_ONCE);
        shard_stats(b->shard, &stats);
    }
    assert_false(answer->done);
}

static void too_many_in_flight_is_for_short_polls(void **state)
{
    struct bench *b = *state;
    struct buffer record = {0};
    struct shard_receive receives[2];
    struct answer answers[2];
    b->options.segment_bytes = 16u << 20;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    struct command send = send_of(queue_id, a_record(&record, "x"));
    struct command lease = {.type = COMMAND_RECEIVE,
                            .receive = {queue_id, CROWD_STEP, CORE_DEFAULT, 0, {0}}};
    for (int i = 0; i < CROWD / CROWD_STEP; i++) {
        call_crowd(b, &send, CROWD_STEP);
        assert_int_equal(call_crowd(b, &lease, 1), CROWD_STEP);
    }
    call_crowd(b, &send, 2);
    assert_int_equal(receive_now(b, queue_id, 0, CORE_DEFAULT).result.code, CORE_LIMIT);
    struct answer waited = receive_now(b, queue_id, 100, CORE_DEFAULT);
    assert_int_equal(waited.result.code, CORE_OK);
    assert_int_equal(waited.result.message_count, 0);
    /* One that waits hears of a deletion; another, beside it, is told at once. */
    start_limited(b, &receives[0], &answers[0], queue_id);
    assert_int_equal(receive_now(b, queue_id, 0, CORE_DEFAULT).result.code, CORE_LIMIT);
    assert_false(answers[0].done);
    struct command delete = {.type = COMMAND_DELETE, .delete = {queue_id, {1, 1}, true}};
    assert_int_equal(call_one(b, &delete).result.code, CORE_OK);
    wait_for(b, &answers[0].done);
    assert_int_equal(answers[0].result.message_count, 1);
    /* After a purge there is nothing that is too much. */
    start_limited(b, &receives[1], &answers[1], queue_id);
    assert_int_equal(receive_now(b, queue_id, 0, CORE_DEFAULT).result.code, CORE_LIMIT);
    struct command purge = {.type = COMMAND_QUEUE_PURGE, .queue_purge = {queue_id}};
    assert_int_equal(call_one(b, &purge).result.code, CORE_OK);
    assert_int_equal(receive_now(b, queue_id, 0, CORE_DEFAULT).result.code, CORE_OK);
    send_text(b, queue_id, "new");
    wait_for(b, &answers[1].done);
    assert_int_equal(answers[1].result.message_count, 1);
    buffer_free(&record);
    close_shard(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SHARD_TEST(a_receive_begun_in_a_timer_is_looked_at),
        SHARD_TEST(serves_a_waiting_receive_in_the_same_entry),
        SHARD_TEST(deletes_that_free_a_group_serve_a_waiting_receive),
        SHARD_TEST(an_empty_receive_costs_no_entry),
        SHARD_TEST(waiting_receives_are_served_in_order),
        SHARD_TEST(a_receive_with_an_attempt_is_asked_once),
        SHARD_TEST(a_deleted_queue_ends_its_waits),
        SHARD_TEST(cancelling_gives_back),
        SHARD_TEST(leases_run_out_by_themselves),
        SHARD_TEST(too_many_in_flight_is_for_short_polls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
