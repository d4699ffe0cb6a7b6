/* SPDX-License-Identifier: Apache-2.0 */
/* Deleting messages and changing their visibility, one or up to ten at once. A receipt handle names
 * one lease of one message; it is checked against forgery before anything is proposed, and must be
 * of the queue that was asked for. Deleting what is gone already is a success; changing the
 * visibility of what is gone, or not leased, is not. On a FIFO queue neither works with a lease
 * that has ended. All extensions of a lease together end 12 hours after the receive. */
#include "broker/api/sqs/batch.h"
#include "proto/base/assert.h"

#define VISIBILITY_MAX_S 43200

struct settling {
    struct batch batch;
    struct slice handles[SQS_BATCH_MAX];
    int32_t seconds[SQS_BATCH_MAX]; /* of visibility */
};

static bool read_handle(struct sqs_call *call, const struct queue_view *queue, struct slice handle,
                        struct core_lease *lease, struct sqs_error *error)
{
    uint64_t queue_id;
    if (receipt_decode(handle, call->secret, &queue_id, lease) && queue_id == queue->queue_id)
        return true;
    *error = sqs_error_make(call, SQS_ERROR_RECEIPT_INVALID,
                            "The input receipt handle \"%s\" is not a valid receipt handle.",
                            sqs_quote(call, handle));
    return false;
}

static void reply(struct sqs_call *call, const struct settling *settling)
{
    const struct batch *batch = &settling->batch;
    if (batch->single) {
        if (batch->entries[0].error.code != SQS_OK)
            sqs_fail(call, batch->entries[0].error);
        else
            sqs_reply(call, NULL);
        return;
    }
    /* The two batches' results have the same layout. */
    _Static_assert(sizeof(struct sqs_delete_message_batch_result) ==
                       sizeof(struct sqs_change_visibility_batch_result),
                   "one struct serves both");
    struct sqs_delete_message_batch_result result = {0};
    struct sqs_id_entry *good = arena_alloc(&call->arena, batch->count * sizeof *good);
    result.successful = (struct sqs_list){good, 0, true};
    for (uint32_t i = 0; i < batch->count; i++) {
        if (batch->entries[i].error.code == SQS_OK)
            good[result.successful.count++].id = batch->entries[i].id;
    }
    batch_failed(call, batch, &result.failed);
    sqs_reply(call, &result);
}

static void propose(struct sqs_call *call, struct settling *settling, sqs_results_fn on_results)
{
    call->state = settling;
    if (call->proposal.count == 0)
        reply(call, settling);
    else
        sqs_propose(call, on_results);
}

/* Of FIFO queues, where another consumer may be at work on the message's group by now. */
static struct sqs_error expired(struct sqs_call *call, struct slice handle)
{
    return sqs_error_make(call, SQS_ERROR_INVALID_PARAMETER,
                          "Value %s for parameter ReceiptHandle is invalid. Reason: The receipt "
                          "handle has expired.",
                          sqs_quote(call, handle));
}

/* ---- delete ---- */

static void on_deleted(struct sqs_call *call, const struct core_result *results, uint32_t count)
{
    struct settling *settling = call->state;
    for (uint32_t i = 0; i < settling->batch.count; i++) {
        struct batch_entry *entry = &settling->batch.entries[i];
        if (entry->error.code != SQS_OK)
            continue;
        ASSERT(entry->command < count);
        enum core_code code = results[entry->command].code;
        if (code == CORE_EXPIRED_LEASE)
            entry->error = expired(call, settling->handles[i]);
        else if (code != CORE_OK && code != CORE_NO_MESSAGE)
            entry->error.code = sqs_core_error(code);
    }
    reply(call, settling);
}

static void add_delete(struct sqs_call *call, const struct queue_view *queue,
                       struct settling *settling, uint32_t i, struct slice handle)
{
    struct command command = {.type = COMMAND_DELETE, .delete = {.queue_id = queue->queue_id}};
    settling->handles[i] = handle;
    if (read_handle(call, queue, handle, &command.delete.lease, &settling->batch.entries[i].error))
        batch_add_command(call, &settling->batch, i, &command);
}

void handle_delete_message(struct sqs_call *call)
{
    const struct sqs_delete_message_input *input = call->input;
    struct queue_view queue;
    if (!sqs_queue(call, input->queue_url, &queue))
        return;
    struct settling *settling = arena_alloc(&call->arena, sizeof *settling);
    batch_single(call, &settling->batch);
    add_delete(call, &queue, settling, 0, input->receipt_handle);
    propose(call, settling, on_deleted);
}

void handle_delete_message_batch(struct sqs_call *call)
{
    const struct sqs_delete_message_batch_input *input = call->input;
    const struct sqs_delete_entry *entries = input->entries.items;
    struct queue_view queue;
    if (!sqs_queue(call, input->queue_url, &queue))
        return;
    struct settling *settling = arena_alloc(&call->arena, sizeof *settling);
    if (!batch_begin(call, &input->entries, sizeof *entries, "DeleteMessageBatchRequestEntry",
                     &settling->batch))
        return;
    for (uint32_t i = 0; i < input->entries.count; i++)
        add_delete(call, &queue, settling, i, entries[i].receipt_handle);
    propose(call, settling, on_deleted);
}

/* ---- change visibility ---- */

static struct sqs_error visibility_error(struct sqs_call *call, enum core_code code,
                                         struct slice handle, int32_t seconds)
{
    if (code == CORE_EXPIRED_LEASE)
        return expired(call, handle);
    if (code == CORE_INVALID)
        return sqs_error_make(call, SQS_ERROR_INVALID_PARAMETER,
                              "Value %d for parameter VisibilityTimeout is invalid. Reason: Total "
                              "VisibilityTimeout for the message is beyond the limit [%d seconds].",
                              seconds, VISIBILITY_MAX_S);
    if (code == CORE_NO_MESSAGE || code == CORE_STALE_LEASE) /* a later receive has it */
        return sqs_error_make(
            call, SQS_ERROR_INVALID_PARAMETER,
            "Value %s for parameter ReceiptHandle is invalid. Reason: Message does "
            "not exist or is not available for visibility timeout change.",
            sqs_quote(call, handle));
    return (struct sqs_error){sqs_core_error(code), NULL};
}

static void on_changed(struct sqs_call *call, const struct core_result *results, uint32_t count)
{
    struct settling *settling = call->state;
    for (uint32_t i = 0; i < settling->batch.count; i++) {
        struct batch_entry *entry = &settling->batch.entries[i];
        if (entry->error.code != SQS_OK)
            continue;
        ASSERT(entry->command < count);
        enum core_code code = results[entry->command].code;
        if (code != CORE_OK)
            entry->error = visibility_error(call, code, settling->handles[i], settling->seconds[i]);
    }
    reply(call, settling);
}

static void add_change(struct sqs_call *call, const struct queue_view *queue,
                       struct settling *settling, uint32_t i, struct slice handle, int32_t seconds)
{
    struct batch_entry *entry = &settling->batch.entries[i];
    struct command command = {
        .type = COMMAND_CHANGE_VISIBILITY,
        .change_visibility = {.queue_id = queue->queue_id, .visibility_s = (uint32_t)seconds}};
    settling->handles[i] = handle;
    settling->seconds[i] = seconds;
    if (!read_handle(call, queue, handle, &command.change_visibility.lease, &entry->error))
        return;
    if (seconds < 0 || seconds > VISIBILITY_MAX_S)
        entry->error =
            sqs_error_make(call, SQS_ERROR_INVALID_PARAMETER,
                           "Value %d for parameter VisibilityTimeout is invalid. Reason: "
                           "VisibilityTimeout must be an integer between 0 and 43200.",
                           seconds);
    else
        batch_add_command(call, &settling->batch, i, &command);
}

void handle_change_message_visibility(struct sqs_call *call)
{
    const struct sqs_change_visibility_input *input = call->input;
    struct queue_view queue;
    if (!sqs_queue(call, input->queue_url, &queue))
        return;
    struct settling *settling = arena_alloc(&call->arena, sizeof *settling);
    batch_single(call, &settling->batch);
    add_change(call, &queue, settling, 0, input->receipt_handle, input->visibility_s.value);
    propose(call, settling, on_changed);
}

void handle_change_message_visibility_batch(struct sqs_call *call)
{
    const struct sqs_change_visibility_batch_input *input = call->input;
    const struct sqs_change_visibility_entry *entries = input->entries.items;
    struct queue_view queue;
    if (!sqs_queue(call, input->queue_url, &queue))
        return;
    struct settling *settling = arena_alloc(&call->arena, sizeof *settling);
    if (!batch_begin(call, &input->entries, sizeof *entries,
                     "ChangeMessageVisibilityBatchRequestEntry", &settling->batch))
        return;
    for (uint32_t i = 0; i < input->entries.count; i++)
        add_change(call, &queue, settling, i, entries[i].receipt_handle,
                   entries[i].visibility_s.value);
    propose(call, settling, on_changed);
}
