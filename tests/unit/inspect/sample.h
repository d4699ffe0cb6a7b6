/* SPDX-License-Identifier: Apache-2.0 */
/* A data directory with one of everything: a shard with two queues ("orders", "slow"), two
 * snapshots, sealed, rewritten and open segments. Made by a real shard, so the contents are what a
 * broker writes; the ids, times and the cluster's secret in it differ from run to run. */
#ifndef TESTS_UNIT_INSPECT_SAMPLE_H
#define TESTS_UNIT_INSPECT_SAMPLE_H

#include "broker/core/record.h"
#include "broker/replication/shard.h"
#include "proto/base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define SAMPLE_SLOW_COUNT 6u /* messages that stay in "slow" */

struct sample {
    uv_loop_t loop;
    struct shard *shard;
    bool done;
    struct core_result result;
    struct core_message messages[16];
};

static inline void sample_on_called(struct shard_call *call, enum status status,
                                    const struct core_result *results, uint32_t count)
{
    struct sample *s = call->data;
    ASSERT(status == STATUS_OK);
    s->result = results[count - 1];
    ASSERT(s->result.message_count <= ARRAY_COUNT(s->messages));
    if (s->result.message_count > 0)
        memcpy(s->messages, s->result.messages, s->result.message_count * sizeof s->messages[0]);
    s->done = true;
}

static inline void sample_run(struct sample *s, struct shard_call *call)
{
    s->done = false;
    shard_call(s->shard, call);
    while (!s->done)
        uv_run(&s->loop, UV_RUN_ONCE);
    ASSERT(s->result.code == CORE_OK);
}

static inline void sample_call(struct sample *s, const struct command *command)
{
    struct shard_call call = {.done = sample_on_called, .data = s};
    shard_call_add(&call, command);
    sample_run(s, &call);
}

static inline uint64_t sample_queue(struct sample *s, const char *name)
{
    struct command command = {.type = COMMAND_QUEUE_CREATE};
    command.queue_create.name = slice_of(name);
    command.queue_create.settings = (struct queue_settings){
        .message_bytes_max = 262144, .retention_s = 1209600, .visibility_s = 43200};
    command.queue_create.tags = SLICE_LITERAL("{}");
    sample_call(s, &command);
    return s->result.queue_id;
}

/* sample_body: of the nth message to a queue, so that a test can tell what it must be. */
static inline void sample_body(struct buffer *out, const char *queue, uint32_t n, uint32_t length)
{
    buffer_printf(out, "%s-%u:", queue, n);
    while (out->length < length)
        buffer_add_byte(out, (uint8_t)('a' + (n + out->length * out->length) % 23));
}

static inline void sample_add(struct shard_call *call, uint64_t queue_id, const char *queue,
                              uint32_t n, uint32_t length)
{
    struct buffer body = {0};
    struct buffer bytes = {0};
    struct record record = {0};
    struct command command = {.type = COMMAND_SEND};
    sample_body(&body, queue, n, length);
    record.body = buffer_slice(&body);
    record.message_id[0] = (uint8_t)n;
    record_encode(&bytes, &record);
    command.send.queue_id = queue_id;
    command.send.delay_s = CORE_DEFAULT;
    command.send.record = buffer_slice(&bytes);
    shard_call_add(call, &command);
    buffer_free(&body);
    buffer_free(&bytes);
}

static inline void sample_send(struct sample *s, uint64_t queue_id, const char *queue, uint32_t n,
                               uint32_t length)
{
    struct shard_call call = {.done = sample_on_called, .data = s, .grows = true};
    sample_add(&call, queue_id, queue, n, length);
    sample_run(s, &call);
}

/* sample_send_among: one message for `slow` among many for another queue, in one entry. */
static inline void sample_send_among(struct sample *s, uint64_t slow, uint32_t n, uint64_t orders)
{
    struct shard_call call = {.done = sample_on_called, .data = s, .grows = true};
    for (uint32_t i = 0; i < 10; i++) {
        if (i == 5)
            sample_add(&call, slow, "slow", n, 300);
        sample_add(&call, orders, "orders", 2000 + i, 900);
    }
    sample_run(s, &call);
}

/* sample_drain: receive and delete everything that is visible. */
static inline void sample_drain(struct sample *s, uint64_t queue_id)
{
    for (uint32_t count = 1; count > 0;) {
        struct core_message messages[16];
        struct command receive = {.type = COMMAND_RECEIVE};
        receive.receive.queue_id = queue_id;
        receive.receive.max = 10;
        receive.receive.visibility_s = CORE_DEFAULT;
        sample_call(s, &receive);
        count = s->result.message_count;
        memcpy(messages, s->messages, sizeof messages);
        for (uint32_t i = 0; i < count; i++) {
            struct command command = {.type = COMMAND_DELETE};
            command.delete.queue_id = queue_id;
            command.delete.lease = (struct core_lease){messages[i].seq, messages[i].receive_count};
            sample_call(s, &command);
        }
    }
}

static inline void sample_on_closed(void *data)
{
    (void)data;
}

/* sample_make: DIR/shard-0; DIR exists and is empty. */
static inline void sample_make(const char *dir)
{
    struct sample s = {0};
    char shard_dir[256];
    const char *error = NULL;
    snprintf(shard_dir, sizeof shard_dir, "%s/shard-0", dir);
    uv_loop_init(&s.loop);
    struct shard_options options = {.loop = &s.loop,
                                    .dir = shard_dir,
                                    .node_id = 1,
                                    .address = "127.0.0.1:9326",
                                    .segment_bytes = 20480,
                                    .snapshot_bytes = 30000,
                                    .disk_reserve_bytes = 1};
    if (shard_open(&s.shard, &options, &error) != STATUS_OK) {
        fprintf(stderr, "%s\n", error);
        abort();
    }
    while (!shard_ready(s.shard))
        uv_run(&s.loop, UV_RUN_ONCE);
    uint64_t orders = sample_queue(&s, "orders");
    uint64_t slow = sample_queue(&s, "slow");
    for (uint32_t n = 0; n < 180; n++) {
        if (n % 20 == 10 && n / 20 < SAMPLE_SLOW_COUNT)
            sample_send_among(&s, slow, n / 20, orders);
        sample_send(&s, orders, "orders", n, 900);
        if (n % 10 == 9)
            sample_drain(&s, orders);
    }
    sample_send(&s, orders, "orders", 1000, 5000); /* across blocks */
    sample_send(&s, orders, "orders", 1001, 10);
    struct command receive = {.type = COMMAND_RECEIVE};
    receive.receive.queue_id = orders;
    receive.receive.max = 1;
    receive.receive.visibility_s = CORE_DEFAULT;
    sample_call(&s, &receive);
    ASSERT(s.result.message_count == 1);
    shard_close(s.shard, sample_on_closed, NULL);
    uv_run(&s.loop, UV_RUN_DEFAULT);
    int left = uv_loop_close(&s.loop);
    ASSERT(left == 0);
}

#endif
