/* SPDX-License-Identifier: Apache-2.0 */
/* A shard over the real file system and the real Raft library: what it answers, what it keeps, how
 * waiting receives are served. Time is real for leases and waits, in tenths of a second. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/core/record.h"
#include "broker/log/log.h"
#include "broker/replication/shard.h"
#include "proto/base/clock.h"

#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct bench {
    uv_loop_t loop;
    char dir[128];
    char shard_dir[160];
    struct shard *shard;
    struct shard_options options;
    bool ready;
    int ready_queue_count;
    bool closed;
};

static void on_ready(void *data, bool ready)
{
    ((struct bench *)data)->ready = ready;
}

static void on_queue_ready(void *data, uint64_t queue_id)
{
    (void)queue_id;
    ((struct bench *)data)->ready_queue_count++;
}

static void on_closed(void *data)
{
    ((struct bench *)data)->closed = true;
}

static enum status try_open(struct bench *b, const char **error)
{
    b->options.loop = &b->loop;
    b->options.dir = b->shard_dir;
    b->options.address = "127.0.0.1:9326";
    b->options.disk_reserve_bytes =
        b->options.disk_reserve_bytes > 0 ? b->options.disk_reserve_bytes : 1;
    b->options.leading_changed = on_ready;
    b->options.queue_ready = on_queue_ready;
    b->options.data = b;
    return shard_open(&b->shard, &b->options, error);
}

/* load_shard: as far as the disk goes: its leader's first entry, and with it time, is still to
 * come. */
static void load_shard(struct bench *b)
{
    const char *error = NULL;
    enum status status = try_open(b, &error);
    if (status != STATUS_OK)
        fail_msg("%s: %s", status_name(status), error);
    assert_false(shard_ready(b->shard));
}

static void wait_ready(struct bench *b)
{
    while (!b->ready)
        uv_run(&b->loop, UV_RUN_ONCE);
}

static void open_shard(struct bench *b)
{
    load_shard(b);
    wait_ready(b);
}

static void close_shard(struct bench *b)
{
    b->closed = b->ready = false;
    shard_close(b->shard, on_closed, b);
    assert_int_equal(uv_run(&b->loop, UV_RUN_DEFAULT), 0);
    assert_true(b->closed);
}

static int setup(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    const char *base = getenv("TMPDIR");
    snprintf(b->dir, sizeof b->dir, "%s/millrace-shard-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(b->dir) == NULL)
        return -1;
    snprintf(b->shard_dir, sizeof b->shard_dir, "%s/shard-0", b->dir);
    uv_loop_init(&b->loop);
    b->options.node_id = 1;
    b->options.segment_bytes = 64u << 10;
    *state = b;
    return 0;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    struct bench *b = *state;
    assert_int_equal(uv_loop_close(&b->loop), 0);
    nftw(b->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(b);
    return 0;
}

/* ---- calls that wait for their answer ---- */

struct answer {
    bool done;
    enum status status;
    struct core_result result; /* of the last command; messages copied */
    struct core_message messages[16];
    uint32_t count;
};

static void keep(struct answer *answer, enum status status, const struct core_result *result,
                 uint32_t count)
{
    answer->done = true;
    answer->status = status;
    answer->count = count;
    if (result == NULL)
        return;
    answer->result = *result;
    assert_true(result->message_count <= 16);
    if (result->message_count > 0)
        memcpy(answer->messages, result->messages,
               result->message_count * sizeof answer->messages[0]);
}

static void on_called(struct shard_call *call, enum status status,
                      const struct core_result *results, uint32_t count)
{
    keep(call->data, status, count > 0 ? &results[count - 1] : NULL, count);
}

static void start(struct bench *b, struct shard_call *call, const struct command *command,
                  struct answer *answer)
{
    *call = (struct shard_call){.done = on_called, .data = answer};
    *answer = (struct answer){0};
    shard_call_add(call, command);
    call->grows = command->type == COMMAND_SEND;
    shard_call(b->shard, call);
    assert_false(answer->done);
}

static void wait_for(struct bench *b, const bool *done)
{
    while (!*done)
        uv_run(&b->loop, UV_RUN_ONCE);
}

static struct answer call_one(struct bench *b, const struct command *command)
{
    struct shard_call call;
    struct answer answer;
    start(b, &call, command, &answer);
    wait_for(b, &answer.done);
    return answer;
}

static uint64_t make_queue_with(struct bench *b, const char *name, struct queue_settings settings)
{
    struct command command = {.type = COMMAND_QUEUE_CREATE};
    command.queue_create.name = slice_of(name);
    command.queue_create.settings = settings;
    struct answer answer = call_one(b, &command);
    assert_int_equal(answer.status, STATUS_OK);
    assert_int_equal(answer.result.code, CORE_OK);
    return answer.result.queue_id;
}

static uint64_t make_queue(struct bench *b, const char *name)
{
    return make_queue_with(b, name,
                           (struct queue_settings){.message_bytes_max = 262144,
                                                   .retention_s = 3600,
                                                   .visibility_s = 30});
}

static uint64_t make_fifo_queue(struct bench *b, const char *name)
{
    return make_queue_with(
        b, name,
        (struct queue_settings){
            .message_bytes_max = 262144, .retention_s = 3600, .visibility_s = 30, .fifo = true});
}

static struct command send_of(uint64_t queue_id, struct slice record)
{
    struct command command = {.type = COMMAND_SEND};
    command.send = (struct command_send){queue_id, CORE_DEFAULT, record};
    return command;
}

/* a_record: a real one, as the core may look into it. */
static struct slice a_record(struct buffer *out, const char *body)
{
    struct record record = {.body = slice_of(body)};
    buffer_clear(out);
    record_encode(out, &record);
    return buffer_slice(out);
}

static void send_text(struct bench *b, uint64_t queue_id, const char *text)
{
    struct buffer record = {0};
    struct command command = send_of(queue_id, a_record(&record, text));
    struct answer answer = call_one(b, &command);
    assert_int_equal(answer.status, STATUS_OK);
    assert_int_equal(answer.result.code, CORE_OK);
    buffer_free(&record);
}

/* To a FIFO queue; the body is the id for deduplication too. */
static void send_to_group(struct bench *b, uint64_t queue_id, const char *group, const char *text)
{
    struct buffer bytes = {0};
    struct record record = {
        .body = slice_of(text), .group_id = slice_of(group), .dedup_id = slice_of(text)};
    record_encode(&bytes, &record);
    struct command command = send_of(queue_id, buffer_slice(&bytes));
    struct answer answer = call_one(b, &command);
    assert_int_equal(answer.result.code, CORE_OK);
    buffer_free(&bytes);
}

static void on_receive(struct shard_receive *receive, enum status status,
                       const struct core_result *result)
{
    keep(receive->data, status, result, result != NULL ? 1 : 0);
}

static void start_receive(struct bench *b, struct shard_receive *receive, struct answer *answer,
                          uint64_t queue_id, uint32_t wait_ms, uint32_t visibility_s)
{
    *answer = (struct answer){0};
    *receive = (struct shard_receive){.command = {queue_id, 10, visibility_s, 0},
                                      .wait_ms = wait_ms,
                                      .done = on_receive,
                                      .data = answer};
    shard_receive(b->shard, receive);
    assert_false(answer->done);
}

static struct answer receive_now(struct bench *b, uint64_t queue_id, uint32_t wait_ms,
                                 uint32_t visibility_s)
{
    struct shard_receive receive;
    struct answer answer;
    start_receive(b, &receive, &answer, queue_id, wait_ms, visibility_s);
    wait_for(b, &answer.done);
    return answer;
}

static void assert_body(struct bench *b, struct body_ref ref, const char *text)
{
    struct buffer out = {0};
    struct record record;
    assert_true(shard_read_now(b->shard, ref, &out));
    assert_int_equal(record_decode(buffer_slice(&out), &record), STATUS_OK);
    assert_true(slice_is(record.body, text));
    buffer_free(&out);
}

/* ---- tests ---- */

static void sends_and_receives(void **state)
{
    struct bench *b = *state;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    send_text(b, queue_id, "one");
    send_text(b, queue_id, "two");
    assert_true(b->ready_queue_count > 0);
    struct answer got = receive_now(b, queue_id, 0, CORE_DEFAULT);
    assert_int_equal(got.result.message_count, 2);
    assert_body(b, got.messages[0].body, "one");
    assert_body(b, got.messages[1].body, "two");
    core_check(shard_core(b->shard));
    close_shard(b);
}

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

static void on_read(struct shard_read *read, enum status status)
{
    assert_int_equal(status, STATUS_OK);
    *(bool *)read->data = true;
}

static void keeps_everything_across_a_restart(void **state)
{
    struct bench *b = *state;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    for (int i = 0; i < 20; i++)
        send_text(b, queue_id, "something to keep");
    receive_now(b, queue_id, 0, CORE_DEFAULT);
    uint64_t digest = core_digest(shard_core(b->shard));
    uint64_t now_ms = core_now_ms(shard_core(b->shard));
    uint8_t before[2][32];
    uint8_t id[UUID_BYTES];
    assert_true(core_bootstrapped(shard_core(b->shard), id, before[0]));
    close_shard(b);

    load_shard(b);
    assert_int_equal(core_now_ms(shard_core(b->shard)), now_ms);
    assert_int_equal(core_digest(shard_core(b->shard)), digest);
    wait_ready(b);
    assert_true(core_bootstrapped(shard_core(b->shard), id, before[1]));
    assert_memory_equal(before[0], before[1], 32);
    core_check(shard_core(b->shard));

    struct answer got = receive_now(b, queue_id, 0, CORE_DEFAULT);
    assert_int_equal(got.result.message_count, 10);
    struct body_ref refs[10];
    for (int i = 0; i < 10; i++)
        refs[i] = got.messages[i].body;
    bool done = false;
    struct shard_read read = {.refs = refs, .count = 10, .done = on_read, .data = &done};
    shard_read(b->shard, &read);
    wait_for(b, &done);
    assert_int_equal(read.out.length, 10 * refs[0].length);
    buffer_free(&read.out);
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
    send_text(b, queue_id, "back");
    start_receive(b, &receive, &answer, queue_id, 0, CORE_DEFAULT);
    while (!receive.proposed)
        uv_run(&b->loop, UV_RUN_NOWAIT);
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
    start_receive(b, receive, answer, queue_id, 20000, CORE_DEFAULT);
    while (!receive->proposed)
        uv_run(&b->loop, UV_RUN_ONCE);
    while (receive->proposed)
        uv_run(&b->loop, UV_RUN_ONCE);
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

static void groups_calls_and_refuses_bad_ones(void **state)
{
    struct bench *b = *state;
    struct shard_call calls[50];
    struct answer answers[50];
    struct buffer record = {0};
    struct shard_stats before;
    struct shard_stats after;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    struct command command = send_of(queue_id, a_record(&record, "x"));
    shard_stats(b->shard, &before);
    for (int i = 0; i < 50; i++)
        start(b, &calls[i], &command, &answers[i]);
    for (int i = 0; i < 50; i++)
        wait_for(b, &answers[i].done);
    shard_stats(b->shard, &after);
    assert_int_equal(after.entries - before.entries, 1);
    assert_int_equal(after.commands - before.commands, 50);

    struct answer answer = {0};
    struct shard_call bad = {.done = on_called, .data = &answer, .count = 1};
    buffer_add_text(&bad.commands, "nonsense");
    shard_call(b->shard, &bad);
    assert_false(answer.done);
    wait_for(b, &answer.done);
    assert_int_equal(answer.status, STATUS_INVALID);
    assert_int_equal(answer.count, 0);
    buffer_free(&record);
    close_shard(b);
}

static void results_of_several_commands_stay_apart(void **state)
{
    struct bench *b = *state;
    struct buffer record = {0};
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    struct command send = send_of(queue_id, a_record(&record, "only"));
    struct command receive = {.type = COMMAND_RECEIVE};
    receive.receive = (struct command_receive){queue_id, 10, CORE_DEFAULT, 0, {0}};
    struct answer answer = {0};
    struct shard_call call = {.done = on_called, .data = &answer};
    shard_call_add(&call, &send);
    shard_call_add(&call, &receive);
    shard_call(b->shard, &call);
    wait_for(b, &answer.done);
    assert_int_equal(answer.count, 2);
    assert_int_equal(answer.result.message_count, 1);
    assert_body(b, answer.messages[0].body, "only");
    buffer_free(&record);
    close_shard(b);
}

static void closing_ends_what_is_under_way(void **state)
{
    struct bench *b = *state;
    struct shard_call call;
    struct answer called;
    struct shard_receive receive;
    struct answer received;
    struct buffer record = {0};
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    start_receive(b, &receive, &received, queue_id, 20000, CORE_DEFAULT);
    struct command command = send_of(queue_id, a_record(&record, "x"));
    start(b, &call, &command, &called);
    close_shard(b);
    assert_true(called.done);
    assert_int_equal(called.status, STATUS_CLOSED);
    assert_true(received.done);
    assert_int_equal(received.status, STATUS_CLOSED);
    buffer_free(&record);
}

static void refuses_another_nodes_folder(void **state)
{
    struct bench *b = *state;
    const char *error = NULL;
    open_shard(b);
    close_shard(b);
    b->options.node_id = 2;
    assert_int_equal(try_open(b, &error), STATUS_INVALID);
    assert_non_null(strstr(error, "belongs to node 1"));
}

static void refuses_sends_when_the_disk_is_low(void **state)
{
    struct bench *b = *state;
    struct buffer record = {0};
    b->options.disk_reserve_bytes = UINT64_MAX;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    struct command command = send_of(queue_id, a_record(&record, "x"));
    struct answer answer = call_one(b, &command);
    assert_int_equal(answer.status, STATUS_DISK_FULL);
    answer = receive_now(b, queue_id, 0, CORE_DEFAULT);
    assert_int_equal(answer.status, STATUS_OK);
    buffer_free(&record);
    close_shard(b);
}

static void delete_all(struct bench *b, uint64_t queue_id)
{
    for (;;) {
        struct answer got = receive_now(b, queue_id, 0, CORE_DEFAULT);
        if (got.result.message_count == 0)
            return;
        for (uint32_t i = 0; i < got.result.message_count; i++) {
            struct command command = {.type = COMMAND_DELETE};
            command.delete = (struct command_delete){
                queue_id, {got.messages[i].seq, got.messages[i].receive_count}, false};
            assert_int_equal(call_one(b, &command).result.code, CORE_OK);
        }
    }
}

/* Snapshots every 64 KiB of log: segments go when their messages have gone, bodies of those that
 * stay are found again behind gaps, and the state is the same after a restart. */
static void snapshots_and_frees_segments(void **state)
{
    struct bench *b = *state;
    struct shard_stats full;
    struct shard_stats after;
    char text[2048];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    b->options.snapshot_bytes = 64u << 10;
    b->options.unpacked = true; /* so that there is something to free */
    open_shard(b);
    uint64_t kept = make_queue(b, "kept");
    uint64_t passing = make_queue(b, "passing");
    send_text(b, kept, "an old one");
    for (int i = 0; i < 300; i++)
        send_text(b, passing, text);
    shard_stats(b->shard, &full);
    assert_true(full.snapshot_index > 0);
    assert_true(full.log_segments > 8);
    delete_all(b, passing);
    for (int i = 0; i < 300; i++) { /* so that snapshots are taken after the deletes */
        send_text(b, passing, text);
        delete_all(b, passing);
    }
    shard_stats(b->shard, &after);
    assert_true(after.log_segments < full.log_segments);
    uint64_t digest = core_digest(shard_core(b->shard));
    close_shard(b);

    load_shard(b);
    assert_int_equal(core_digest(shard_core(b->shard)), digest);
    wait_ready(b);
    core_check(shard_core(b->shard));
    struct answer got = receive_now(b, kept, 0, CORE_DEFAULT);
    assert_int_equal(got.result.message_count, 1);
    assert_body(b, got.messages[0].body, "an old one");
    close_shard(b);
}

/* Of a small state, those that follow within ten seconds are spaced further. */
static void snapshots_are_spaced(void **state)
{
    struct bench *b = *state;
    struct shard_stats stats;
    char text[2048];
    int count = 0;
    memset(text, 's', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    b->options.snapshot_bytes = 16u << 10;
    b->options.snapshot_spaced_bytes = 128u << 10;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    uint64_t begun_ms = uv_now(&b->loop);
    uint64_t index = 0;
    for (int i = 0; i < 200; i++) {
        send_text(b, queue_id, text);
        shard_stats(b->shard, &stats);
        count += stats.snapshot_index > index ? 1 : 0;
        index = stats.snapshot_index;
    }
    assert_in_range(count, 1, 200 * sizeof text / (16u << 10) + 1);
    if (uv_now(&b->loop) - begun_ms < 10000)
        assert_true(count <= 5);
    close_shard(b);
}

/* kill_snapshots: end every child that writes a snapshot, while messages are sent. */
static int kill_snapshots(struct bench *b, uint64_t queue_id, const char *text, int sends)
{
    int killed = 0;
    for (int i = 0; i < sends; i++) {
        struct shard_stats stats;
        send_text(b, queue_id, text);
        shard_stats(b->shard, &stats);
        if (stats.snapshot_pid > 0 && kill(stats.snapshot_pid, SIGKILL) == 0)
            killed++;
    }
    return killed;
}

/* Snapshots that are killed are taken again, and nothing is lost; what is restored from one that
 * was written under load, and the log behind it, is the same state. */
static void killed_snapshots_do_no_harm(void **state)
{
    struct bench *b = *state;
    struct shard_stats stats;
    struct shard_stats killed;
    char text[2048];
    memset(text, 'b', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    b->options.snapshot_bytes = 64u << 10;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    assert_true(kill_snapshots(b, queue_id, text, 600) > 1);
    shard_stats(b->shard, &killed);
    /* Now one may live. Its index tells it from one that ended before it could be killed. */
    int sends = 0;
    do {
        send_text(b, queue_id, text);
        shard_stats(b->shard, &stats);
    } while (stats.snapshot_index <= killed.last_index && ++sends < 20000);
    assert_true(stats.snapshot_index > killed.last_index);
    receive_now(b, queue_id, 0, CORE_DEFAULT);
    uint64_t digest = core_digest(shard_core(b->shard));
    close_shard(b);
    load_shard(b);
    assert_int_equal(core_digest(shard_core(b->shard)), digest);
    wait_ready(b);
    core_check(shard_core(b->shard));
    shard_stats(b->shard, &stats);
    assert_true(stats.snapshot_index > 0);
    /* It is a snapshot and a log to go on with. */
    for (int i = 0; i < 300; i++)
        send_text(b, queue_id, text);
    digest = core_digest(shard_core(b->shard));
    close_shard(b);
    load_shard(b);
    assert_int_equal(core_digest(shard_core(b->shard)), digest);
    wait_ready(b);
    close_shard(b);
}

/* Large payloads do not stay in memory, except for the latest 8 MiB, and can be read all the same.
 */
static void applied_entries_leave_memory(void **state)
{
    struct bench *b = *state;
    struct shard_stats stats;
    const size_t length = 200000;
    char *text = malloc(length + 1);
    memset(text, 'c', length);
    text[length] = '\0';
    b->options.snapshot_bytes = UINT32_MAX; /* never */
    b->options.segment_bytes = 4u << 20;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "large");
    for (int i = 0; i < 100; i++)
        send_text(b, queue_id, text);
    shard_stats(b->shard, &stats);
    assert_true(stats.unstored_log_bytes > 100 * length);
    assert_true(stats.unstored_memory_bytes < (8u << 20) + 5 * length);
    assert_int_equal(stats.snapshots, 0);
    struct answer got = receive_now(b, queue_id, 0, CORE_DEFAULT);
    assert_int_equal(got.result.message_count, 10);
    assert_body(b, got.messages[9].body, text);
    close_shard(b);
    open_shard(b); /* all of it is replayed */
    assert_int_equal(receive_now(b, queue_id, 0, CORE_DEFAULT).result.message_count, 10);
    close_shard(b);
    free(text);
}

int main(void)
{
#define SHARD_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        SHARD_TEST(sends_and_receives),
        SHARD_TEST(a_receive_begun_in_a_timer_is_looked_at),
        SHARD_TEST(keeps_everything_across_a_restart),
        SHARD_TEST(serves_a_waiting_receive_in_the_same_entry),
        SHARD_TEST(deletes_that_free_a_group_serve_a_waiting_receive),
        SHARD_TEST(an_empty_receive_costs_no_entry),
        SHARD_TEST(waiting_receives_are_served_in_order),
        SHARD_TEST(a_receive_with_an_attempt_is_asked_once),
        SHARD_TEST(a_deleted_queue_ends_its_waits),
        SHARD_TEST(cancelling_gives_back),
        SHARD_TEST(leases_run_out_by_themselves),
        SHARD_TEST(too_many_in_flight_is_for_short_polls),
        SHARD_TEST(groups_calls_and_refuses_bad_ones),
        SHARD_TEST(results_of_several_commands_stay_apart),
        SHARD_TEST(closing_ends_what_is_under_way),
        SHARD_TEST(refuses_another_nodes_folder),
        SHARD_TEST(refuses_sends_when_the_disk_is_low),
        SHARD_TEST(snapshots_and_frees_segments),
        SHARD_TEST(snapshots_are_spaced),
        SHARD_TEST(killed_snapshots_do_no_harm),
        SHARD_TEST(applied_entries_leave_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
