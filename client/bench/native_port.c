/* SPDX-License-Identifier: Apache-2.0 */
/* The native port: every call of the bench as one call on a channel. */
#include "client/bench/port.h"
#include "client/channel.h"
#include "proto/base/assert.h"

#include <stdio.h>
#include <stdlib.h>

#define CONNECT_MS   5000
#define VISIBLE_NAME "ApproximateNumberOfMessages"

struct native_port {
    struct port port;
    struct mr_channel *channel;
};

static const struct slice entry_ids[PORT_BATCH_MAX] = {
    {(const uint8_t *)"0", 1}, {(const uint8_t *)"1", 1}, {(const uint8_t *)"2", 1},
    {(const uint8_t *)"3", 1}, {(const uint8_t *)"4", 1}, {(const uint8_t *)"5", 1},
    {(const uint8_t *)"6", 1}, {(const uint8_t *)"7", 1}, {(const uint8_t *)"8", 1},
    {(const uint8_t *)"9", 1},
};

/* ---- answers ---- */

static void explain(struct port_call *call, struct slice code, struct slice message)
{
    snprintf(call->why, sizeof call->why, "%.*s: %.*s", SLICE_ARGS(code), SLICE_ARGS(message));
}

static void take_failed(struct port_call *call, const struct sqs_list *failed)
{
    const struct sqs_failed_entry *entries = failed->items;
    for (uint32_t i = 0; i < failed->count; i++) {
        unsigned at = entries[i].id.length == 1 ? (unsigned)(entries[i].id.data[0] - '0') : 0;
        if (at < call->count)
            call->failed |= 1u << at;
        explain(call, entries[i].code, entries[i].message);
    }
}

static void take_messages(struct port_call *call, const struct sqs_receive_message_result *result)
{
    const struct sqs_message *messages = result->messages.items;
    call->count = result->messages.count < PORT_BATCH_MAX ? result->messages.count : PORT_BATCH_MAX;
    for (uint32_t i = 0; i < call->count; i++)
        call->items[i] =
            (struct port_item){.body = messages[i].body, .handle = messages[i].receipt_handle};
}

static void take_count(struct port_call *call, const struct sqs_queue_attributes_result *result)
{
    const struct sqs_pair *pairs = result->attributes.items;
    for (uint32_t i = 0; i < result->attributes.count; i++) {
        char text[24];
        if (!slice_is(pairs[i].key, VISIBLE_NAME))
            continue;
        snprintf(text, sizeof text, "%.*s", SLICE_ARGS(pairs[i].value));
        call->visible = strtoull(text, NULL, 10);
    }
}

static void take_result(struct port_call *call, const void *result)
{
    switch (call->kind) {
    case PORT_SEND:
        if (call->count > 1)
            take_failed(call, &((const struct sqs_send_message_batch_result *)result)->failed);
        break;
    case PORT_DELETE:
        if (call->count > 1)
            take_failed(call, &((const struct sqs_delete_message_batch_result *)result)->failed);
        break;
    case PORT_RECEIVE:
        take_messages(call, result);
        break;
    case PORT_COUNT:
        take_count(call, result);
        break;
    case PORT_CREATE:
    case PORT_DESTROY:
        break;
    }
}

static void on_answer(void *data, const struct mr_answer *answer)
{
    struct port_call *call = data;
    call->failed = 0;
    switch (answer->status) {
    case STATUS_OK:
        call->end = PORT_DONE;
        take_result(call, answer->result);
        break;
    case STATUS_CLOSED:
    case STATUS_CORRUPT:
        call->end = PORT_UNKNOWN;
        snprintf(call->why, sizeof call->why, "%s", status_text(answer->status));
        break;
    default:
        /* 503 also says that an outcome is unknown, when leadership was lost. */
        call->end = answer->status == STATUS_UNAVAILABLE && answer->code.data != NULL
                        ? PORT_UNKNOWN
                        : PORT_REFUSED;
        explain(call, slice_of(status_text(answer->status)), answer->message);
    }
    call->done(call);
}

/* ---- calls ---- */

static void send(struct mr_channel *channel, struct port_call *call)
{
    if (call->count == 1) {
        struct sqs_send_message_input input = {
            .queue_url = slice_of(call->queue),
            .body = call->items[0].body,
            .group_id = call->items[0].group_id,
            .deduplication_id = call->items[0].deduplication_id,
        };
        mr_channel_call(channel, SQS_ACTION_SendMessage, &input, on_answer, call);
        return;
    }
    struct sqs_send_entry entries[PORT_BATCH_MAX];
    for (uint32_t i = 0; i < call->count; i++)
        entries[i] = (struct sqs_send_entry){.id = entry_ids[i],
                                             .body = call->items[i].body,
                                             .group_id = call->items[i].group_id,
                                             .deduplication_id = call->items[i].deduplication_id};
    struct sqs_send_message_batch_input input = {.queue_url = slice_of(call->queue),
                                                 .entries = {entries, call->count, true}};
    mr_channel_call(channel, SQS_ACTION_SendMessageBatch, &input, on_answer, call);
}

static void receive(struct mr_channel *channel, struct port_call *call)
{
    struct sqs_receive_message_input input = {
        .queue_url = slice_of(call->queue),
        .messages_max = {(int32_t)call->count, true},
        .wait_s = {(int32_t)call->wait_s, true},
        .attempt_id = call->attempt_id,
    };
    mr_channel_call(channel, SQS_ACTION_ReceiveMessage, &input, on_answer, call);
}

static void delete (struct mr_channel *channel, struct port_call *call)
{
    if (call->count == 1) {
        struct sqs_delete_message_input input = {.queue_url = slice_of(call->queue),
                                                 .receipt_handle = call->items[0].handle};
        mr_channel_call(channel, SQS_ACTION_DeleteMessage, &input, on_answer, call);
        return;
    }
    struct sqs_delete_entry entries[PORT_BATCH_MAX];
    for (uint32_t i = 0; i < call->count; i++)
        entries[i] = (struct sqs_delete_entry){entry_ids[i], call->items[i].handle};
    struct sqs_delete_message_batch_input input = {.queue_url = slice_of(call->queue),
                                                   .entries = {entries, call->count, true}};
    mr_channel_call(channel, SQS_ACTION_DeleteMessageBatch, &input, on_answer, call);
}

static void create(struct mr_channel *channel, struct port_call *call)
{
    struct sqs_pair fifo = {SLICE_LITERAL("FifoQueue"), SLICE_LITERAL("true")};
    struct sqs_create_queue_input input = {.queue_name = slice_of(call->queue),
                                           .attributes = {&fifo, call->fifo, call->fifo}};
    mr_channel_call(channel, SQS_ACTION_CreateQueue, &input, on_answer, call);
}

static void destroy(struct mr_channel *channel, struct port_call *call)
{
    struct sqs_queue_input input = {.queue_url = slice_of(call->queue)};
    mr_channel_call(channel, SQS_ACTION_DeleteQueue, &input, on_answer, call);
}

static void count(struct mr_channel *channel, struct port_call *call)
{
    struct slice name = SLICE_LITERAL(VISIBLE_NAME);
    struct sqs_get_queue_attributes_input input = {.queue_url = slice_of(call->queue),
                                                   .names = {&name, 1, true}};
    mr_channel_call(channel, SQS_ACTION_GetQueueAttributes, &input, on_answer, call);
}

static void (*const calls[])(struct mr_channel *channel, struct port_call *call) = {
    [PORT_CREATE] = create, [PORT_DESTROY] = destroy, [PORT_COUNT] = count,
    [PORT_SEND] = send,     [PORT_RECEIVE] = receive, [PORT_DELETE] = delete,
};

static void native_call(struct port *port, struct port_call *call)
{
    struct native_port *native = (struct native_port *)(void *)port;
    calls[call->kind](native->channel, call);
}

static uint32_t native_run(struct port *port, uint32_t timeout_ms)
{
    return mr_channel_run(((struct native_port *)(void *)port)->channel, timeout_ms);
}

static int native_fd(const struct port *port)
{
    return mr_channel_fd(((const struct native_port *)(const void *)port)->channel);
}

static void native_close(struct port *port)
{
    struct native_port *native = (struct native_port *)(void *)port;
    mr_channel_close(native->channel);
    free(native);
}

static const struct port_ops ops = {native_call, native_run, native_fd, native_close};

_Static_assert(PORT_WHY_BYTES == MR_WHY_BYTES, "a channel's reason is a port's");

enum status port_native(struct port **out, const char *brokers, const struct port_access *access,
                        char why[PORT_WHY_BYTES])
{
    struct mr_channel_options options = {.brokers = brokers,
                                         .timeout_ms = CONNECT_MS,
                                         .access_key_id = access->access_key_id,
                                         .secret_access_key = access->secret_access_key,
                                         .region = access->region,
                                         .ca_file = access->ca_file,
                                         .certificate_file = access->certificate_file,
                                         .key_file = access->key_file};
    struct native_port *native = calloc(1, sizeof *native);
    ASSERT(native != NULL);
    native->port.ops = &ops;
    *out = NULL;
    enum status status = mr_channel_open(&native->channel, &options, why);
    if (status != STATUS_OK) {
        free(native);
        return status;
    }
    *out = &native->port;
    return STATUS_OK;
}
