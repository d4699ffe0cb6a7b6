/* SPDX-License-Identifier: Apache-2.0 */
/* One shard that leads alone, over the real file system and the real Raft library; calls to it that
 * wait for their answers. Time is real for leases and waits, in tenths of a second. */
#ifndef TESTS_UNIT_REPLICATION_BENCH_H
#define TESTS_UNIT_REPLICATION_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/core/record.h"
#include "broker/replication/shard.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
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

static inline void on_ready(void *data, bool ready)
{
    ((struct bench *)data)->ready = ready;
}

static inline void on_queue_ready(void *data, uint64_t queue_id)
{
    (void)queue_id;
    ((struct bench *)data)->ready_queue_count++;
}

static inline void on_closed(void *data)
{
    ((struct bench *)data)->closed = true;
}

static inline enum status try_open(struct bench *b, const char **error)
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
static inline void load_shard(struct bench *b)
{
    const char *error = NULL;
    enum status status = try_open(b, &error);
    if (status != STATUS_OK)
        fail_msg("%s: %s", status_name(status), error);
    assert_false(shard_ready(b->shard));
}

static inline void wait_leading(struct bench *b)
{
    while (!b->ready)
        uv_run(&b->loop, UV_RUN_ONCE);
}

static inline void open_shard(struct bench *b)
{
    load_shard(b);
    wait_leading(b);
}

static inline void close_shard(struct bench *b)
{
    b->closed = b->ready = false;
    shard_close(b->shard, on_closed, b);
    assert_int_equal(uv_run(&b->loop, UV_RUN_DEFAULT), 0);
    assert_true(b->closed);
}

static inline int setup(void **state)
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

static inline int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline int teardown(void **state)
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

static inline void keep(struct answer *answer, enum status status, const struct core_result *result,
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

static inline void on_called(struct shard_call *call, enum status status,
                             const struct core_result *results, uint32_t count)
{
    keep(call->data, status, count > 0 ? &results[count - 1] : NULL, count);
}

static inline void start(struct bench *b, struct shard_call *call, const struct command *command,
                         struct answer *answer)
{
    *call = (struct shard_call){.done = on_called, .data = answer};
    *answer = (struct answer){0};
    shard_call_add(call, command);
    call->grows = command->type == COMMAND_SEND;
    shard_call(b->shard, call);
    assert_false(answer->done);
}

static inline void wait_for(struct bench *b, const bool *done)
{
    while (!*done)
        uv_run(&b->loop, UV_RUN_ONCE);
}

static inline struct answer call_one(struct bench *b, const struct command *command)
{
    struct shard_call call;
    struct answer answer;
    start(b, &call, command, &answer);
    wait_for(b, &answer.done);
    return answer;
}

static inline uint64_t make_queue_with(struct bench *b, const char *name,
                                       struct queue_settings settings)
{
    struct command command = {.type = COMMAND_QUEUE_CREATE};
    command.queue_create.name = slice_of(name);
    command.queue_create.settings = settings;
    struct answer answer = call_one(b, &command);
    assert_int_equal(answer.status, STATUS_OK);
    assert_int_equal(answer.result.code, CORE_OK);
    return answer.result.queue_id;
}

static inline uint64_t make_queue(struct bench *b, const char *name)
{
    return make_queue_with(b, name,
                           (struct queue_settings){.message_bytes_max = 262144,
                                                   .retention_s = 3600,
                                                   .visibility_s = 30});
}

static inline uint64_t make_fifo_queue(struct bench *b, const char *name)
{
    return make_queue_with(
        b, name,
        (struct queue_settings){
            .message_bytes_max = 262144, .retention_s = 3600, .visibility_s = 30, .fifo = true});
}

static inline struct command send_of(uint64_t queue_id, struct slice record)
{
    struct command command = {.type = COMMAND_SEND};
    command.send = (struct command_send){queue_id, CORE_DEFAULT, record};
    return command;
}

/* a_record: a real one, as the core may look into it. */
static inline struct slice a_record(struct buffer *out, const char *body)
{
    struct record record = {.body = slice_of(body)};
    buffer_clear(out);
    record_encode(out, &record);
    return buffer_slice(out);
}

static inline void send_text(struct bench *b, uint64_t queue_id, const char *text)
{
    struct buffer record = {0};
    struct command command = send_of(queue_id, a_record(&record, text));
    struct answer answer = call_one(b, &command);
    assert_int_equal(answer.status, STATUS_OK);
    assert_int_equal(answer.result.code, CORE_OK);
    buffer_free(&record);
}

/* To a FIFO queue; the body is the id for deduplication too. */
static inline void send_to_group(struct bench *b, uint64_t queue_id, const char *group,
                                 const char *text)
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

static inline void on_receive(struct shard_receive *receive, enum status status,
                              const struct core_result *result)
{
    keep(receive->data, status, result, result != NULL ? 1 : 0);
}

static inline void start_receive(struct bench *b, struct shard_receive *receive,
                                 struct answer *answer, uint64_t queue_id, uint32_t wait_ms,
                                 uint32_t visibility_s)
{
    *answer = (struct answer){0};
    *receive = (struct shard_receive){.command = {queue_id, 10, visibility_s, 0},
                                      .wait_ms = wait_ms,
                                      .done = on_receive,
                                      .data = answer};
    shard_receive(b->shard, receive);
    assert_false(answer->done);
}

static inline struct answer receive_now(struct bench *b, uint64_t queue_id, uint32_t wait_ms,
                                        uint32_t visibility_s)
{
    struct shard_receive receive;
    struct answer answer;
    start_receive(b, &receive, &answer, queue_id, wait_ms, visibility_s);
    wait_for(b, &answer.done);
    return answer;
}

static inline void assert_body(struct bench *b, struct body_ref ref, const char *text)
{
    struct buffer out = {0};
    struct record record;
    assert_true(shard_read_now(b->shard, ref, &out));
    assert_int_equal(record_decode(buffer_slice(&out), &record), STATUS_OK);
    assert_true(slice_is(record.body, text));
    buffer_free(&out);
}

#define SHARD_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
