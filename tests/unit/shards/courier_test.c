/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that go from one shard to another, with real shards on one node: each arrives once,
 * whatever is stopped when. What chance finds: tests/sim/outbox; several nodes: tests/cluster. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/core/record.h"
#include "broker/shards/shards.h"
#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DEADLINE_MS 60000u
#define MESSAGES    1500u
#define GROUPS      7u

/* Where queues are among four shards (tests/unit/core/snapshot_test.c). */
#define SOURCE "q1"          /* 2 */
#define DEAD   "orders.fifo" /* 3; it may be of either type here */

struct bench {
    uv_loop_t loop;
    char dir[64];
    struct shards *shards;
    bool begun;
    bool closed;
    uint64_t queue_id; /* of SOURCE */
    uint64_t dead_id;  /* of DEAD */
    struct core_result result;
    struct core_message messages[10];
    bool done;
    enum status status;
};

static void on_leading(void *data, struct shard *shard, bool leads)
{
    (void)data, (void)shard, (void)leads;
}

static void on_nothing(void *data)
{
    (void)data;
}

static void on_queue(void *data, uint64_t queue_id)
{
    (void)data, (void)queue_id;
}

static void on_begun(void *data)
{
    ((struct bench *)data)->begun = true;
}

static void on_closed(void *data)
{
    ((struct bench *)data)->closed = true;
}

static void stop(struct bench *b)
{
    b->closed = false;
    shards_close(b->shards, on_closed, b);
    while (!b->closed)
        uv_run(&b->loop, UV_RUN_ONCE);
}

static void start(struct bench *b)
{
    const char *error = NULL;
    const char *folder = NULL;
    struct shards_options options = {.loop = &b->loop,
                                     .data_dir = b->dir,
                                     .node_id = 1,
                                     .address = "127.0.0.1:9326",
                                     .begun = b->begun,
                                     .disk_reserve_bytes = 1,
                                     .queue_shards = 4,
                                     .events = {.leading_changed = on_leading,
                                                .catalog_changed = on_nothing,
                                                .queue_ready = on_queue,
                                                .begun = on_begun,
                                                .failed = on_nothing,
                                                .data = b}};
    assert_int_equal(shards_open(&b->shards, &options, &error, &folder), STATUS_OK);
    while (!shards_ready(b->shards))
        uv_run(&b->loop, UV_RUN_ONCE);
}

static int remove_path(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info, (void)type, (void)ftw;
    return remove(path);
}

static int set_up(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    trace_configure(TRACE_ERROR, false);
    snprintf(b->dir, sizeof b->dir, "/tmp/millrace-courier-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    assert_int_equal(uv_loop_init(&b->loop), 0);
    start(b);
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *b = *state;
    stop(b);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    nftw(b->dir, remove_path, 8, FTW_DEPTH | FTW_PHYS);
    free(b);
    return 0;
}

/* ---- calls ---- */

static void on_done(struct shard_call *call, enum status status, const struct core_result *results,
                    uint32_t count)
{
    struct bench *b = call->data;
    b->done = true;
    b->status = status;
    if (status != STATUS_OK)
        return;
    b->result = results[count - 1];
    ASSERT(b->result.message_count <= 10);
    for (uint32_t i = 0; i < b->result.message_count; i++)
        b->messages[i] = b->result.messages[i];
}

static struct core_result run_call(struct bench *b, struct shard *shard, struct shard_call *call)
{
    call->done = on_done;
    call->data = b;
    b->done = false;
    shard_call(shard, call);
    while (!b->done)
        uv_run(&b->loop, UV_RUN_ONCE);
    assert_int_equal(b->status, STATUS_OK);
    return b->result;
}

static struct core_result call_one(struct bench *b, struct shard *shard,
                                   const struct command *command)
{
    struct shard_call call = {0};
    shard_call_add(&call, command);
    return run_call(b, shard, &call);
}

static uint64_t create(struct bench *b, const char *name, bool fifo, const char *dead_letter)
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
    struct shard *shard = shards_of_name(b->shards, command.queue_create.name);
    return call_one(b, shard, &command).queue_id;
}

static struct core_result receive(struct bench *b, uint64_t queue_id, uint32_t visibility_s)
{
    struct command command = {.type = COMMAND_RECEIVE};
    command.receive = (struct command_receive){queue_id, 10, visibility_s, 0, {0}};
    return call_one(b, shards_of_queue(b->shards, queue_id), &command);
}

/* Numbers 0 to count less one, in GROUPS groups. */
static void send_all(struct bench *b, uint32_t count)
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
        command.send = (struct command_send){b->queue_id, 0, buffer_slice(&bytes)};
        shard_call_add(&call, &command);
    }
    buffer_free(&bytes);
    run_call(b, shards_of_queue(b->shards, b->queue_id), &call);
}

static void turn(struct bench *b, uint64_t begun_ms)
{
    uv_run(&b->loop, UV_RUN_ONCE);
    assert_true(uv_now(&b->loop) - begun_ms < DEADLINE_MS);
}

static struct queue_view view(struct bench *b, uint64_t queue_id)
{
    struct queue_view out;
    assert_true(core_queue_by_id(shard_core(shards_of_queue(b->shards, queue_id)), queue_id, &out));
    return out;
}

static uint64_t under_way(struct bench *b)
{
    uint64_t count = 0;
    for (uint32_t from = 0; from < shards_count(b->shards); from++) {
        for (uint32_t to = 0; to <= 4; to++)
            count += core_outbox_count(shard_core(shards_at(b->shards, from)), to);
    }
    return count;
}

static void wait_arrived(struct bench *b)
{
    uint64_t begun_ms = uv_now(&b->loop);
    while (under_way(b) > 0)
        turn(b, begun_ms);
}

/* Receive all of SOURCE once; the receive after that redrives. */
static void exhaust(struct bench *b)
{
    while (receive(b, b->queue_id, 0).message_count > 0)
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

static uint32_t number_of(struct bench *b, const struct core_message *message, char *group)
{
    struct reading reading = {.read = {.refs = &message->body, .count = 1, .done = on_read}};
    struct record record;
    reading.read.data = &reading;
    shard_read(shards_of_queue(b->shards, b->dead_id), &reading.read);
    while (!reading.done)
        uv_run(&b->loop, UV_RUN_ONCE);
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
static void check_dead(struct bench *b, uint32_t count, bool fifo)
{
    static bool seen[MESSAGES];
    uint32_t next[GROUPS] = {0};
    uint32_t total = 0;
    memset(seen, 0, sizeof seen);
    for (struct core_result result = receive(b, b->dead_id, 600); result.message_count > 0;
         result = receive(b, b->dead_id, 600)) {
        struct core_message messages[10];
        struct shard_call call = {0};
        memcpy(messages, b->messages, sizeof messages);
        for (uint32_t i = 0; i < result.message_count; i++) {
            char group;
            uint32_t number = number_of(b, &messages[i], &group);
            struct command command = {.type = COMMAND_DELETE};
            assert_true(number < count);
            assert_false(seen[number]);
            seen[number] = true;
            total++;
            assert_int_equal(messages[i].received_before, 1);
            assert_int_equal(messages[i].source_queue_id, b->queue_id);
            assert_true(!fifo || number >= next[group - '0']);
            next[group - '0'] = number + 1;
            command.delete.queue_id = b->dead_id;
            command.delete.lease = (struct core_lease){messages[i].seq, messages[i].receive_count};
            shard_call_add(&call, &command);
        }
        run_call(b, shards_of_queue(b->shards, b->dead_id), &call);
    }
    assert_int_equal(total, count);
}

/* ---- tests ---- */

static void redrive_all(struct bench *b, bool fifo)
{
    b->queue_id = create(b, SOURCE, fifo, DEAD);
    b->dead_id = create(b, DEAD, fifo, NULL);
    send_all(b, MESSAGES);
    exhaust(b);
}

static void test_all_arrive(void **state)
{
    struct bench *b = *state;
    redrive_all(b, false);
    wait_arrived(b);
    assert_int_equal(view(b, b->dead_id).visible, MESSAGES);
    assert_int_equal(view(b, b->queue_id).visible, 0);
    check_dead(b, MESSAGES, false);
}

static void test_fifo_arrives_in_order(void **state)
{
    struct bench *b = *state;
    redrive_all(b, true);
    wait_arrived(b);
    check_dead(b, MESSAGES, true);
}

/* All leave at once; stopped at another moment each time, with the batch here or there. */
static void test_stops_on_the_way(void **state)
{
    struct bench *b = *state;
    b->queue_id = create(b, SOURCE, false, DEAD);
    b->dead_id = create(b, DEAD, false, NULL);
    send_all(b, MESSAGES);
    uint64_t begun_ms = uv_now(&b->loop);
    while (receive(b, b->queue_id, 3).message_count > 0)
        ;
    while (view(b, b->queue_id).in_flight > 0)
        turn(b, begun_ms);
    assert_int_equal(receive(b, b->queue_id, 3).message_count, 0);
    assert_true(under_way(b) > MESSAGES / 2);
    for (int turns = 0; under_way(b) > 0; turns++) {
        for (int i = 0; i < turns % 9; i++)
            uv_run(&b->loop, UV_RUN_NOWAIT);
        stop(b);
        start(b);
        if (turns == 20)
            wait_arrived(b);
    }
    check_dead(b, MESSAGES, false);
}

/* Receive from SOURCE `count` times; the largest receive count that was seen. */
static uint32_t receive_often(struct bench *b, int count)
{
    uint32_t most = 0;
    for (int i = 0; i < count; i++) {
        struct core_result result = receive(b, b->queue_id, 0);
        for (uint32_t j = 0; j < result.message_count; j++)
            most = b->messages[j].receive_count > most ? b->messages[j].receive_count : most;
        wait_arrived(b);
    }
    return most;
}

/* No such queue: they come back and are delivered; once it is there, they go. */
static void test_what_is_refused_comes_back(void **state)
{
    struct bench *b = *state;
    b->queue_id = create(b, SOURCE, true, DEAD);
    send_all(b, 30);
    assert_true(receive_often(b, 20) > 2);
    assert_int_equal(view(b, b->queue_id).visible, 30);
    b->dead_id = create(b, DEAD, false, NULL); /* of the other type */
    uint32_t most = receive_often(b, 20);
    assert_true(most > 4);
    assert_int_equal(view(b, b->queue_id).visible, 30);
    assert_int_equal(view(b, b->dead_id).visible, 0);
    struct command command = {.type = COMMAND_QUEUE_DELETE, .queue_delete = {b->dead_id}};
    call_one(b, shards_of_queue(b->shards, b->dead_id), &command);
    b->dead_id = create(b, DEAD, true, NULL);
    exhaust(b);
    wait_arrived(b);
    assert_int_equal(view(b, b->queue_id).visible, 0);
    assert_int_equal(view(b, b->dead_id).visible, 30);
}

static void test_a_move_and_back(void **state)
{
    struct bench *b = *state;
    struct move_view move;
    redrive_all(b, false);
    wait_arrived(b);
    struct command command = {.type = COMMAND_MOVE_START, .move_start = {{7}, b->dead_id, 0, 0}};
    assert_int_equal(call_one(b, shards_of_queue(b->shards, b->dead_id), &command).code, CORE_OK);
    uint64_t begun_ms = uv_now(&b->loop);
    do {
        size_t position = 0;
        turn(b, begun_ms);
        assert_true(core_move_next(shard_core(shards_of_queue(b->shards, b->dead_id)), b->dead_id,
                                   &position, &move));
    } while (move.status == MOVE_RUNNING);
    assert_int_equal(move.status, MOVE_COMPLETED);
    assert_int_equal(move.moved, MESSAGES);
    assert_int_equal(view(b, b->queue_id).visible, MESSAGES);
    assert_int_equal(view(b, b->dead_id).visible, 0);
}

/* damage: one byte of the text in the log of SOURCE's shard. */
static void damage(struct bench *b, const char *text)
{
    char path[160];
    static char bytes[1 << 20];
    snprintf(path, sizeof path, "%s/shard-2/segments/00000000000000000001.seg", b->dir);
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
    struct bench *b = *state;
    struct command command = {.type = COMMAND_SEND};
    struct buffer bytes = {0};
    b->queue_id = create(b, SOURCE, false, DEAD);
    for (int i = 0; i < 3; i++) {
        char text[] = "somewhat unlikely 0";
        static uint8_t filling[8192]; /* a block of its own for the checksum */
        struct record record = {.trace_header = slice_make(filling, sizeof filling)};
        text[sizeof text - 2] = (char)('0' + i);
        record.sender_id = slice_of(text);
        record.body = slice_make(filling, sizeof filling);
        buffer_clear(&bytes);
        record_encode(&bytes, &record);
        command.send = (struct command_send){b->queue_id, 0, buffer_slice(&bytes)};
        call_one(b, shards_of_queue(b->shards, b->queue_id), &command);
    }
    buffer_free(&bytes);
    receive(b, b->queue_id, 0);
    receive(b, b->queue_id, 0);
    stop(b);
    start(b); /* what was written is no longer in memory */
    damage(b, "somewhat unlikely 1");
    b->dead_id = create(b, DEAD, false, NULL);
    uint64_t begun_ms = uv_now(&b->loop);
    while (view(b, b->dead_id).visible < 2) {
        receive(b, b->queue_id, 0);
        turn(b, begun_ms);
    }
    wait_arrived(b);
    assert_int_equal(view(b, b->queue_id).visible + view(b, b->queue_id).in_flight, 1);
    assert_int_equal(view(b, b->dead_id).visible, 2);
}

#define BENCH_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_all_arrive),       BENCH_TEST(test_fifo_arrives_in_order),
        BENCH_TEST(test_stops_on_the_way), BENCH_TEST(test_what_is_refused_comes_back),
        BENCH_TEST(test_a_move_and_back),  BENCH_TEST(test_a_body_that_cannot_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
