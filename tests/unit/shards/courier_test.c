/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that go from one shard to another, with real shards on one node: each arrives once,
 * whatever is stopped when. What chance finds: tests/sim/outbox; several nodes: tests/cluster. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/core/record.h"
#include "proto/base/assert.h"
#include "tests/unit/shards/bench.h"

#include <fcntl.h>

#define PATIENCE_MS 60000u
#define MESSAGES    1500u
#define GROUPS      7u

/* Where queues are among four shards (tests/unit/core/snapshot_test.c). */
#define SOURCE "q1"          /* 2 */
#define DEAD   "orders.fifo" /* 3; it may be of either type here */

/* A bench with two queues, and the last answer. */
struct post {
    struct bench *bench;
    uint64_t queue_id; /* of SOURCE */
    uint64_t dead_id;  /* of DEAD */
    struct core_result result;
    struct core_message messages[10];
    bool done;
    enum status status;
};

static int post_open(void **state)
{
    struct post *p = calloc(1, sizeof *p);
    ASSERT(p != NULL);
    set_up((void **)&p->bench);
    open_ready(p->bench);
    *state = p;
    return 0;
}

static int post_close(void **state)
{
    struct post *p = *state;
    stop(p->bench);
    tear_down((void **)&p->bench);
    free(p);
    return 0;
}

static void post_restart(struct post *p)
{
    stop(p->bench);
    open_ready(p->bench);
}

/* ---- calls ---- */

static void on_done(struct shard_call *call, enum status status, const struct core_result *results,
                    uint32_t count)
{
    struct post *p = call->data;
    p->done = true;
    p->status = status;
    if (status != STATUS_OK)
        return;
    p->result = results[count - 1];
    ASSERT(p->result.message_count <= 10);
    for (uint32_t i = 0; i < p->result.message_count; i++)
        p->messages[i] = p->result.messages[i];
}

static struct core_result run_call(struct post *p, struct shard *shard, struct shard_call *call)
{
    call->done = on_done;
    call->data = p;
    p->done = false;
    shard_call(shard, call);
    while (!p->done)
        uv_run(&p->bench->loop, UV_RUN_ONCE);
    assert_int_equal(p->status, STATUS_OK);
    return p->result;
}

static struct core_result call_one(struct post *p, struct shard *shard,
                                   const struct command *command)
{
    struct shard_call call = {0};
    shard_call_add(&call, command);
    return run_call(p, shard, &call);
}

static uint64_t create(struct post *p, const char *name, bool fifo, const char *dead_letter)
{
    struct command command = {.type = COMMAND_QUEUE_CREATE};
    command.queue_create.name = slice_of(name);
    command.queue_create.settings =
        (struct queue_settings){.message_bytes_max = 262144,
                                .retention_s = 345600,
                                .visibility_s = 30,
                                .fifo = fifo,
                                .receive_count_max = dead_letter != NULL ? 1 : 0,
                                .dead_letter = slice_of(dead_letter != NULL ? dead_letter : "")};
    struct shard *shard = shards_of_name(p->bench->shards, command.queue_create.name);
    return call_one(p, shard, &command).queue_id;
}

static struct core_result receive(struct post *p, uint64_t queue_id, uint32_t visibility_s)
{
    struct command command = {.type = COMMAND_RECEIVE};
    command.receive = (struct command_receive){queue_id, 10, visibility_s, 0, {0}};
    return call_one(p, shards_of_queue(p->bench->shards, queue_id), &command);
}

/* Numbers 0 to count less one, in GROUPS groups. */
static void send_all(struct post *p, uint32_t count)
{
    struct shard_call call = {.grows = true};
    struct buffer bytes = {0};
    for (uint32_t i = 0; i < count; i++) {
        char text[2][16];
        struct command command = {.type = COMMAND_SEND};
        snprintf(text[0], sizeof text[0], "%u", i);
        snprintf(text[1], sizeof text[1], "%u", i % GROUPS);
        struct record record = {.body = slice_of(text[0]),
                                .dedup_id = slice_of(text[0]),
                                .group_id = slice_of(text[1])};
        buffer_clear(&bytes);
        record_encode(&bytes, &record);
        command.send = (struct command_send){p->queue_id, 0, buffer_slice(&bytes)};
        shard_call_add(&call, &command);
    }
    buffer_free(&bytes);
    run_call(p, shards_of_queue(p->bench->shards, p->queue_id), &call);
}

static void turn(struct post *p, uint64_t begun_ms)
{
    uv_run(&p->bench->loop, UV_RUN_ONCE);
    assert_true(uv_now(&p->bench->loop) - begun_ms < PATIENCE_MS);
}

static struct queue_view view(struct post *p, uint64_t queue_id)
{
    struct queue_view out;
    assert_true(
        core_queue_by_id(shard_core(shards_of_queue(p->bench->shards, queue_id)), queue_id, &out));
    return out;
}

static uint64_t under_way(struct post *p)
{
    uint64_t count = 0;
    for (uint32_t from = 0; from < shards_total(p->bench->shards); from++) {
        for (uint32_t to = 0; to <= 4; to++)
            count += core_outbox_count(shard_core(shards_at(p->bench->shards, from)), to);
    }
    return count;
}

static void wait_arrived(struct post *p)
{
    uint64_t begun_ms = uv_now(&p->bench->loop);
    while (under_way(p) > 0)
        turn(p, begun_ms);
}

/* Receive all of SOURCE once; the receive after that redrives. */
static void exhaust(struct post *p)
{
    while (receive(p, p->queue_id, 0).message_count > 0)
        ;
}

/* ---- looking at what arrived ---- */

struct reading {
    struct shard_read read;
    bool done;
    enum status status;
};

static void on_read(struct shard_read *read, enum status status)
{
    struct reading *reading = read->data;
    reading->done = true;
    reading->status = status;
}

static uint32_t number_of(struct post *p, const struct core_message *message, char *group)
{
    struct reading reading = {.read = {.refs = &message->body, .count = 1, .done = on_read}};
    struct record record;
    reading.read.data = &reading;
    shard_read(shards_of_queue(p->bench->shards, p->dead_id), &reading.read);
    while (!reading.done)
        uv_run(&p->bench->loop, UV_RUN_ONCE);
    assert_int_equal(reading.status, STATUS_OK);
    assert_int_equal(record_decode(buffer_slice(&reading.read.out), &record), STATUS_OK);
    *group = (char)record.group_id.data[0];
    uint32_t number = 0;
    for (size_t i = 0; i < record.body.length; i++)
        number = number * 10 + (uint32_t)(record.body.data[i] - '0');
    buffer_free(&reading.read.out);
    return number;
}

/* Each of `count` messages is in DEAD once; FIFO: those of a group in order. */
static void check_dead(struct post *p, uint32_t count, bool fifo)
{
    static bool seen[MESSAGES];
    uint32_t next[GROUPS] = {0};
    uint32_t total = 0;
    memset(seen, 0, sizeof seen);
    for (struct core_result result = receive(p, p->dead_id, 600); result.message_count > 0;
         result = receive(p, p->dead_id, 600)) {
        struct core_message messages[10];
        struct shard_call call = {0};
        memcpy(messages, p->messages, sizeof messages);
        for (uint32_t i = 0; i < result.message_count; i++) {
            char group;
            uint32_t number = number_of(p, &messages[i], &group);
            struct command command = {.type = COMMAND_DELETE};
            assert_true(number < count);
            assert_false(seen[number]);
            seen[number] = true;
            total++;
            assert_int_equal(messages[i].received_before, 1);
            assert_int_equal(messages[i].source_queue_id, p->queue_id);
            assert_true(!fifo || number >= next[group - '0']);
            next[group - '0'] = number + 1;
            command.delete.queue_id = p->dead_id;
            command.delete.lease = (struct core_lease){messages[i].seq, messages[i].receive_count};
            shard_call_add(&call, &command);
        }
        run_call(p, shards_of_queue(p->bench->shards, p->dead_id), &call);
    }
    assert_int_equal(total, count);
}

/* ---- tests ---- */

static void redrive_all(struct post *p, bool fifo)
{
    p->queue_id = create(p, SOURCE, fifo, DEAD);
    p->dead_id = create(p, DEAD, fifo, NULL);
    send_all(p, MESSAGES);
    exhaust(p);
}

static void test_all_arrive(void **state)
{
    struct post *p = *state;
    redrive_all(p, false);
    wait_arrived(p);
    assert_int_equal(view(p, p->dead_id).visible, MESSAGES);
    assert_int_equal(view(p, p->queue_id).visible, 0);
    check_dead(p, MESSAGES, false);
}

static void test_fifo_arrives_in_order(void **state)
{
    struct post *p = *state;
    redrive_all(p, true);
    wait_arrived(p);
    check_dead(p, MESSAGES, true);
}

/* All leave at once; stopped at another moment each time, with the batch here or there. */
static void test_stops_on_the_way(void **state)
{
    struct post *p = *state;
    p->queue_id = create(p, SOURCE, false, DEAD);
    p->dead_id = create(p, DEAD, false, NULL);
    send_all(p, MESSAGES);
    uint64_t begun_ms = uv_now(&p->bench->loop);
    while (receive(p, p->queue_id, 3).message_count > 0)
        ;
    while (view(p, p->queue_id).in_flight > 0)
        turn(p, begun_ms);
    assert_int_equal(receive(p, p->queue_id, 3).message_count, 0);
    assert_true(under_way(p) > MESSAGES / 2);
    for (int turns = 0; under_way(p) > 0; turns++) {
        for (int i = 0; i < turns % 9; i++)
            uv_run(&p->bench->loop, UV_RUN_NOWAIT);
        post_restart(p);
        if (turns == 20)
            wait_arrived(p);
    }
    check_dead(p, MESSAGES, false);
}

/* Receive from SOURCE `count` times; the largest receive count that was seen. */
static uint32_t receive_often(struct post *p, int count)
{
    uint32_t most = 0;
    for (int i = 0; i < count; i++) {
        struct core_result result = receive(p, p->queue_id, 0);
        for (uint32_t j = 0; j < result.message_count; j++)
            most = p->messages[j].receive_count > most ? p->messages[j].receive_count : most;
        wait_arrived(p);
    }
    return most;
}

/* No such queue: they come back and are delivered; once it is there, they go. */
static void test_what_is_refused_comes_back(void **state)
{
    struct post *p = *state;
    p->queue_id = create(p, SOURCE, true, DEAD);
    send_all(p, 30);
    assert_true(receive_often(p, 20) > 2);
    assert_int_equal(view(p, p->queue_id).visible, 30);
    p->dead_id = create(p, DEAD, false, NULL); /* of the other type */
    uint32_t most = receive_often(p, 20);
    assert_true(most > 4);
    assert_int_equal(view(p, p->queue_id).visible, 30);
    assert_int_equal(view(p, p->dead_id).visible, 0);
    struct command command = {.type = COMMAND_QUEUE_DELETE, .queue_delete = {p->dead_id}};
    call_one(p, shards_of_queue(p->bench->shards, p->dead_id), &command);
    p->dead_id = create(p, DEAD, true, NULL);
    exhaust(p);
    wait_arrived(p);
    assert_int_equal(view(p, p->queue_id).visible, 0);
    assert_int_equal(view(p, p->dead_id).visible, 30);
}

static void test_a_move_and_back(void **state)
{
    struct post *p = *state;
    struct move_view move;
    redrive_all(p, false);
    wait_arrived(p);
    struct command command = {.type = COMMAND_MOVE_START, .move_start = {{7}, p->dead_id, 0, 0}};
    assert_int_equal(call_one(p, shards_of_queue(p->bench->shards, p->dead_id), &command).code,
                     CORE_OK);
    uint64_t begun_ms = uv_now(&p->bench->loop);
    do {
        size_t position = 0;
        turn(p, begun_ms);
        assert_true(core_move_next(shard_core(shards_of_queue(p->bench->shards, p->dead_id)),
                                   p->dead_id, &position, &move));
    } while (move.status == MOVE_RUNNING);
    assert_int_equal(move.status, MOVE_COMPLETED);
    assert_int_equal(move.moved, MESSAGES);
    assert_int_equal(view(p, p->queue_id).visible, MESSAGES);
    assert_int_equal(view(p, p->dead_id).visible, 0);
}

/* damage: one byte of the text in the log of SOURCE's shard. */
static void damage(struct post *p, const char *text)
{
    char path[160];
    static char bytes[1 << 20];
    snprintf(path, sizeof path, "%s/shard-2/segments/00000000000000000001.seg", p->bench->dir);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    ssize_t length = pread(fd, bytes, sizeof bytes, 0);
    assert_true(length > 0);
    const char *at = memmem(bytes, (size_t)length, text, strlen(text));
    assert_non_null(at);
    assert_int_equal(pwrite(fd, "!", 1, at - bytes), 1);
    close(fd);
}

/* One body is damaged: its message comes back, the others arrive. */
static void test_a_body_that_cannot_be_read(void **state)
{
    struct post *p = *state;
    struct command command = {.type = COMMAND_SEND};
    struct buffer bytes = {0};
    p->queue_id = create(p, SOURCE, false, DEAD);
    for (int i = 0; i < 3; i++) {
        char text[] = "somewhat unlikely 0";
        static uint8_t filling[8192]; /* a block of its own for the checksum */
        struct record record = {.trace_header = slice_make(filling, sizeof filling)};
        text[sizeof text - 2] = (char)('0' + i);
        record.sender_id = slice_of(text);
        record.body = slice_make(filling, sizeof filling);
        buffer_clear(&bytes);
        record_encode(&bytes, &record);
        command.send = (struct command_send){p->queue_id, 0, buffer_slice(&bytes)};
        call_one(p, shards_of_queue(p->bench->shards, p->queue_id), &command);
    }
    buffer_free(&bytes);
    receive(p, p->queue_id, 0);
    receive(p, p->queue_id, 0);
    post_restart(p); /* what was written is no longer in memory */
    damage(p, "somewhat unlikely 1");
    p->dead_id = create(p, DEAD, false, NULL);
    uint64_t begun_ms = uv_now(&p->bench->loop);
    while (view(p, p->dead_id).visible < 2) {
        receive(p, p->queue_id, 0);
        turn(p, begun_ms);
    }
    wait_arrived(p);
    assert_int_equal(view(p, p->queue_id).visible + view(p, p->queue_id).in_flight, 1);
    assert_int_equal(view(p, p->dead_id).visible, 2);
}

#define POST_TEST(name) cmocka_unit_test_setup_teardown(name, post_open, post_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        POST_TEST(test_all_arrive),       POST_TEST(test_fifo_arrives_in_order),
        POST_TEST(test_stops_on_the_way), POST_TEST(test_what_is_refused_comes_back),
        POST_TEST(test_a_move_and_back),  POST_TEST(test_a_body_that_cannot_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
