/* SPDX-License-Identifier: Apache-2.0 */
/* SendMessage and SendMessageBatch. Each message becomes a record (broker/core/record.h) in a SEND
 * command; the answer comes after the commit. All messages of a batch are in one call, so they are
 * stored together. */
#include "broker/api/sqs/batch.h"
#include "broker/api/sqs/message.h"
#include "proto/base/assert.h"

#define BATCH_BYTES_MAX 1048576

struct sent_message {
    uint64_t bytes; /* as SQS counts them */
    struct sqs_send_result_entry result;
};

struct sending {
    struct batch batch;
    bool fifo;
    uint64_t queue_id;
    struct sent_message *messages; /* one for each entry of the batch */
};

static void messages_new(struct sqs_call *call, struct sending *sending)
{
    sending->messages = arena_alloc(&call->arena, sending->batch.count * sizeof *sending->messages);
}

static struct slice trace_md5(struct sqs_call *call, struct slice trace_header)
{
    if (trace_header.length == 0)
        return (struct slice){0};
    struct record_attribute attribute = {.name = SLICE_LITERAL("AWSTraceHeader"),
                                         .type = SLICE_LITERAL("String"),
                                         .kind = RECORD_STRING,
                                         .value = trace_header};
    uint8_t md5[MD5_BYTES];
    record_attributes_md5(&attribute, 1, md5);
    return sqs_hex(call, md5, sizeof md5);
}

static void describe(struct sqs_call *call, const struct record *record,
                     struct sqs_send_result_entry *out)
{
    out->message_id = sqs_uuid(call, record->message_id);
    if (!record->no_md5)
        out->md5_body = sqs_hex(call, record->md5_body, MD5_BYTES);
    if (record->attribute_count > 0)
        out->md5_attributes = sqs_hex(call, record->md5_attributes, MD5_BYTES);
    out->md5_system_attributes = trace_md5(call, record->trace_header);
}

static void add_message(struct sqs_call *call, const struct queue_view *queue,
                        struct sending *sending, uint32_t i, const struct outgoing *out)
{
    struct batch_entry *entry = &sending->batch.entries[i];
    struct record record;
    if (!outgoing_check(call, out, &queue->settings, &record, &entry->error))
        return;
    uuid_random(record.message_id);
    record.no_md5 = call->carrier->no_md5;
    record.md5_known = call->md5 != NULL;
    if (record.md5_known)
        memcpy(record.md5_body, call->md5[i], MD5_BYTES);
    struct command command = {.type = COMMAND_SEND,
                              .send = {.queue_id = queue->queue_id,
                                       .delay_s = out->delay_s.given && !sending->fifo
                                                      ? (uint32_t)out->delay_s.value
                                                      : CORE_DEFAULT}};
    batch_add_send(call, &sending->batch, i, &command, &record);
    struct sent_message *message = &sending->messages[i];
    describe(call, &record, &message->result);
    message->result.id = entry->id;
    message->bytes = outgoing_bytes(out);
    sending->queue_id = queue->queue_id;
}

static void reply_single(struct sqs_call *call, const struct sending *sending)
{
    const struct batch_entry *entry = &sending->batch.entries[0];
    const struct sqs_send_result_entry *sent = &sending->messages[0].result;
    struct sqs_send_message_result result = {
        .md5_body = sent->md5_body,
        .md5_attributes = sent->md5_attributes,
        .md5_system_attributes = sent->md5_system_attributes,
        .message_id = sent->message_id,
        .sequence_number = sent->sequence_number,
    };
    if (entry->error.code != SQS_OK)
        sqs_fail(call, entry->error);
    else
        sqs_reply(call, &result);
}

static void reply_batch(struct sqs_call *call, const struct sending *sending)
{
    struct sqs_send_message_batch_result result = {0};
    struct sqs_send_result_entry *good =
        arena_alloc(&call->arena, sending->batch.count * sizeof *good);
    result.successful = (struct sqs_list){good, 0, true};
    for (uint32_t i = 0; i < sending->batch.count; i++) {
        if (sending->batch.entries[i].error.code == SQS_OK)
            good[result.successful.count++] = sending->messages[i].result;
    }
    batch_failed(call, &sending->batch, &result.failed);
    sqs_reply(call, &result);
}

static void reply(struct sqs_call *call, const struct sending *sending)
{
    if (sending->batch.single)
        reply_single(call, sending);
    else
        reply_batch(call, sending);
}

/* What only the core knows: the number of the message in its queue, or that it was sent before:
 * then the answer names the first one. */
static void describe_fifo(struct sqs_call *call, const struct core_result *result,
                          struct sqs_send_result_entry *out)
{
    if (result->duplicate)
        out->message_id = sqs_uuid(call, result->message_id);
    out->sequence_number = sqs_sequence_number(call, result->seq);
}

static void count_sent(struct sqs_call *call, const struct sending *sending, uint32_t i)
{
    struct queue_counts *counts = api_queue_counts(call->api, sending->queue_id);
    counts->sent++;
    counts->sent_bytes += sending->messages[i].bytes;
}

static void on_sent(struct sqs_call *call, const struct core_result *results, uint32_t count)
{
    struct sending *sending = call->state;
    for (uint32_t i = 0; i < sending->batch.count; i++) {
        struct batch_entry *entry = &sending->batch.entries[i];
        if (entry->error.code != SQS_OK)
            continue;
        ASSERT(entry->command < count);
        if (results[entry->command].code == CORE_NO_QUEUE) { /* deleted meanwhile: so are all */
            sqs_fail_core(call, CORE_NO_QUEUE);
            return;
        }
        if (results[entry->command].code != CORE_OK)
            entry->error.code = sqs_core_error(results[entry->command].code);
        else if (sending->fifo)
            describe_fifo(call, &results[entry->command], &sending->messages[i].result);
        if (results[entry->command].code == CORE_OK && !results[entry->command].duplicate)
            count_sent(call, sending, i);
    }
    reply(call, sending);
}

static void propose(struct sqs_call *call, struct sending *sending)
{
    call->state = sending;
    call->proposal.grows = true;
    if (call->proposal.count == 0)
        reply(call, sending);
    else
        sqs_propose(call, on_sent);
}

void handle_send_message(struct sqs_call *call)
{
    const struct sqs_send_message_input *input = call->input;
    struct queue_view queue;
    if (!sqs_queue(call, input->queue_url, &queue))
        return;
    struct outgoing out = {input->body,
                           input->delay_s,
                           &input->attributes,
                           &input->system_attributes,
                           input->group_id,
                           input->deduplication_id,
                           false};
    struct sending *sending = arena_alloc(&call->arena, sizeof *sending);
    struct sqs_error error = {0};
    sending->fifo = queue.settings.fifo;
    if (sending->fifo && out.body.length > 0 &&
        !outgoing_check_ids(call, &out, &queue.settings, SQS_ERROR_MISSING_PARAMETER, &error)) {
        sqs_fail(call, error);
        return;
    }
    batch_single(call, &sending->batch);
    messages_new(call, sending);
    add_message(call, &queue, sending, 0, &out);
    propose(call, sending);
}

static struct outgoing outgoing_of(const struct sqs_send_entry *entry)
{
    return (struct outgoing){
        entry->body,     entry->delay_s,          &entry->attributes, &entry->system_attributes,
        entry->group_id, entry->deduplication_id, .in_batch = true};
}

/* What refuses a batch as a whole. False: the call was answered. */
static bool check_entries(struct sqs_call *call, const struct queue_view *queue,
                          const struct sqs_list *list)
{
    const struct sqs_send_entry *entries = list->items;
    struct sqs_error error = {0};
    uint64_t total = 0;
    for (uint32_t i = 0; i < list->count && error.code == SQS_OK; i++) {
        struct outgoing out = outgoing_of(&entries[i]);
        total += outgoing_bytes(&out);
        if (queue->settings.fifo &&
            !outgoing_check_ids(call, &out, &queue->settings, SQS_ERROR_INVALID_PARAMETER, &error))
            break;
    }
    if (error.code == SQS_OK && total > BATCH_BYTES_MAX)
        error = sqs_error_make(call, SQS_ERROR_BATCH_TOO_LONG,
                               "Batch requests cannot be longer than %d bytes. You have sent %llu "
                               "bytes.",
                               BATCH_BYTES_MAX, (unsigned long long)total);
    if (error.code != SQS_OK)
        sqs_fail(call, error);
    return error.code == SQS_OK;
}

void handle_send_message_batch(struct sqs_call *call)
{
    const struct sqs_send_message_batch_input *input = call->input;
    const struct sqs_send_entry *entries = input->entries.items;
    struct queue_view queue;
    if (!sqs_queue(call, input->queue_url, &queue))
        return;
    struct sending *sending = arena_alloc(&call->arena, sizeof *sending);
    if (!batch_begin(call, &input->entries, sizeof *entries, "SendMessageBatchRequestEntry",
                     &sending->batch))
        return;
    messages_new(call, sending);
    sending->fifo = queue.settings.fifo;
    if (!check_entries(call, &queue, &input->entries))
        return;
    for (uint32_t i = 0; i < input->entries.count; i++) {
        struct outgoing out = outgoing_of(&entries[i]);
        add_message(call, &queue, sending, i, &out);
    }
    propose(call, sending);
}
