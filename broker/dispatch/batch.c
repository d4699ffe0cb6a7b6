/* SPDX-License-Identifier: Apache-2.0 */
/* One batch: the messages of a source on their way to a function and back.
 *
 *     batch_start     room reserved, RECEIVE proposed            (source->leasing)
 *     batch_received  messages leased, bodies are being read     (source->running)
 *     batch_send      event built and handed to the worker
 *     batch_ended     result, or the worker was lost: settled, freed
 *
 * From the moment of the lease there are only three ends: settled by a result (settle.c), given
 * back (visible at once: nothing ran), or left alone until the visibility timeout (something may
 * have run and failed, which is how SQS event sources treat it on AWS). Deletes are exact, so a
 * batch whose lease ran out while it was running does not delete what someone else has received
 * since.
 *
 *   I1  a batch holds one reference to its source and one operation of the dispatcher
 *   I2  an assignment is released, or sent and ended, exactly once
 */
#include "broker/dispatch/event.h"
#include "broker/dispatch/internal.h"

#include "broker/core/record.h"
#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>

/* Asynchronous events have no queue setting that a user chose; their lease outlives the function's
 * timeout and what the guard adds to it. */
#define ASYNC_LEASE_EXTRA_S 60u

#define FIFO_BATCH_MAX      10u /* messages, as at Lambda */

static void batch_free(struct batch *batch)
{
    struct dispatch *dispatch = batch->dispatch;
    struct source *source = batch->source;
    source->hinted = true;
    buffer_free(&batch->read.out);
    free(batch->messages);
    free(batch->refs);
    free(batch->ids);
    free(batch->groups);
    free(batch);
    source_unref(source); /* I1 */
    dispatch_pump_soon(dispatch);
    dispatch_operation_end(dispatch);
}

/* Nothing was sent: free the worker's room and the batch. */
static void batch_drop(struct batch *batch)
{
    if (batch->count > 0)
        batch->source->running--;
    assignment_release(batch->assignment); /* I2 */
    batch_free(batch);
}

static void batch_ended(struct assignment *assignment, const Millrace__Result *result)
{
    struct batch *batch = assignment->owner;
    struct source *source = batch->source;
    uint64_t took_ms = dispatch_now(batch->dispatch) - batch->started_ms;
    source->running--;
    source->fruitless = false;
    if (result == NULL || result->outcome == MILLRACE__OUTCOME__OUTCOME_REJECTED) {
        source->last_result = result == NULL ? "PROBLEM: The worker was lost"
                                             : "PROBLEM: No worker could start the function";
        source_back_off(source);
        settle_give_back(batch, 0);
    } else {
        source->backoff_ms = 0;
        scaling_batch_done(&source->scaling, (double)took_ms / 1000.0, batch->count);
        settle_batch(batch, result);
    }
    batch_free(batch);
}

/* ---- sending ---- */

/* The records of the batch lie one after the other in read.out. */
static bool batch_record(const struct batch *batch, uint32_t i, size_t *offset,
                         struct record *record)
{
    struct slice bytes = slice_sub(buffer_slice(&batch->read.out), *offset);
    ASSERT(bytes.length >= batch->refs[i].length);
    bytes.length = batch->refs[i].length;
    *offset += bytes.length;
    if (record_decode(bytes, record) == STATUS_OK)
        return true;
    trace_error("dispatch", "record_unreadable", "queue=\"%s\" seq=%" PRIu64,
                batch->source->queue_name, batch->messages[i].seq);
    return false;
}

/* A FIFO batch has ten messages at most, so looking through them is quick. */
static void batch_note_group(struct batch *batch, uint32_t i, struct slice *group_ids,
                             const struct record *record)
{
    uint32_t first = 0;
    group_ids[i] = record->group_id;
    while (!slice_equal(group_ids[first], record->group_id))
        first++;
    batch->groups[i] = first;
}

/* The ARN of the queue that a message was redriven from; NULL if it was not, or that one is gone.
 * It is this queue's own with another name. */
static const char *batch_origin(const struct batch *batch, uint32_t i, struct buffer *out)
{
    struct queue_view origin;
    uint64_t queue_id = batch->messages[i].source_queue_id;
    if (queue_id == 0 || !core_queue_by_id(shard_core(batch->dispatch->shard), queue_id, &origin))
        return NULL;
    const char *own = batch->source->queue_arn;
    buffer_clear(out);
    buffer_add(out, own, strlen(own) - strlen(batch->source->queue_name));
    buffer_add_slice(out, origin.name);
    return buffer_c_string(out);
}

/* The event of a mapping. What does not fit is given back. */
static bool batch_event(struct batch *batch, struct buffer *event, struct buffer *trace_id)
{
    struct event_source about = {.secret = batch->dispatch->secret,
                                 .queue_id = batch->queue_id,
                                 .queue_arn = batch->source->queue_arn,
                                 .region = batch->dispatch->region,
                                 .fifo = batch->source->fifo};
    struct slice group_ids[FIFO_BATCH_MAX];
    struct buffer origin = {0};
    struct record record;
    size_t offset = 0;
    bool good = true;
    event_begin(event);
    for (uint32_t i = 0; i < batch->count; i++) {
        good = batch_record(batch, i, &offset, &record);
        if (!good)
            break;
        if (batch->groups != NULL)
            batch_note_group(batch, i, group_ids, &record);
        if (!event_add(event, &about, &batch->messages[i], &record,
                       batch_origin(batch, i, &origin))) {
            settle_give_back(batch, i);
            batch->count = i;
            break;
        }
        memcpy(batch->ids[i], record.message_id, UUID_BYTES);
        if (i == 0)
            buffer_add_slice(trace_id, record.trace_header);
    }
    buffer_free(&origin);
    event_end(event);
    return good;
}

/* The event of an asynchronous invocation is the message's body as it stands. */
static bool batch_async_event(struct batch *batch, struct buffer *event, struct buffer *trace_id)
{
    struct record record;
    size_t offset = 0;
    if (!batch_record(batch, 0, &offset, &record))
        return false;
    memcpy(batch->ids[0], record.message_id, UUID_BYTES);
    buffer_add_slice(event, record.body);
    buffer_add_slice(trace_id, record.trace_header);
    return true;
}

/* The worker may have gone while messages were leased and read: any other will do. */
static bool batch_hand_over(struct batch *batch, struct slice event, struct slice trace_id)
{
    uint8_t id[UUID_BYTES];
    char request_id[UUID_TEXT_LENGTH + 1];
    uuid_random(id);
    uuid_text(batch->source->kind == SOURCE_ASYNC ? batch->ids[0] : id, request_id);
    for (unsigned tries = 0; tries < 2; tries++) {
        batch->started_ms = dispatch_now(batch->dispatch);
        if (assignment_send(batch->assignment, request_id, event, trace_id, (struct slice){0}))
            return true;
        struct assignment *other =
            assignment_reserve(batch->dispatch, batch->source->function, batch_ended, batch);
        if (other == NULL)
            return false;
        assignment_release(batch->assignment);
        batch->assignment = other;
    }
    return false;
}

static void batch_send(struct batch *batch)
{
    struct buffer event = {0};
    struct buffer trace_id = {0};
    bool built = batch->source->kind == SOURCE_ASYNC ? batch_async_event(batch, &event, &trace_id)
                                                     : batch_event(batch, &event, &trace_id);
    bool sent = built && !batch->dispatch->closing &&
                batch_hand_over(batch, buffer_slice(&event), buffer_slice(&trace_id));
    buffer_free(&event);
    buffer_free(&trace_id);
    buffer_free(&batch->read.out);
    if (sent)
        return;
    if (built)
        settle_give_back(batch, 0);
    source_back_off(batch->source);
    batch_drop(batch);
}

/* ---- leasing ---- */

static void batch_read_done(struct shard_read *read, enum status status)
{
    struct batch *batch = read->data;
    if (status == STATUS_OK) {
        batch_send(batch);
        return;
    }
    trace_error("dispatch", "bodies_unreadable", "queue=\"%s\" count=%u why=\"%s\"",
                batch->source->queue_name, batch->count, status_text(status));
    source_back_off(batch->source);
    batch_drop(batch);
}

/* Recent bodies are in memory; one that is not sends all of them to the pool. */
static void batch_read(struct batch *batch)
{
    struct shard *shard = batch->dispatch->shard;
    for (uint32_t i = 0; i < batch->count; i++) {
        if (shard_read_now(shard, batch->refs[i], &batch->read.out))
            continue;
        buffer_clear(&batch->read.out);
        shard_read(shard, &batch->read);
        return;
    }
    batch_send(batch);
}

static void batch_keep(struct batch *batch, const struct core_result *result)
{
    uint32_t count = result->message_count;
    batch->count = count;
    batch->messages = memory_new(count, sizeof *batch->messages);
    batch->refs = memory_new(count, sizeof *batch->refs);
    batch->ids = memory_new(count, sizeof *batch->ids);
    if (batch->source->fifo) {
        ASSERT(count <= FIFO_BATCH_MAX);
        batch->groups = memory_new(count, sizeof *batch->groups);
    }
    memcpy(batch->messages, result->messages, count * sizeof *batch->messages);
    for (uint32_t i = 0; i < count; i++)
        batch->refs[i] = batch->messages[i].body;
    batch->read = (struct shard_read){
        .refs = batch->refs, .count = count, .done = batch_read_done, .data = batch};
}

static void batch_received(struct shard_receive *receive, enum status status,
                           const struct core_result *result)
{
    struct batch *batch = receive->data;
    struct source *source = batch->source;
    source->leasing--;
    bool good = status == STATUS_OK && result->code == CORE_OK;
    if (good && result->message_count > 0) {
        source->running++;
        batch_keep(batch, result);
        batch_read(batch);
        return;
    }
    if (!good)
        source_back_off(source);
    else if (batch->readies == source->readies)
        source->fruitless = true;
    batch_drop(batch);
}

bool batch_start(struct source *source, uint64_t queue_id)
{
    struct dispatch *dispatch = source->dispatch;
    struct batch *batch = memory_new(1, sizeof *batch);
    batch->assignment = assignment_reserve(dispatch, source->function, batch_ended, batch);
    if (batch->assignment == NULL) {
        free(batch);
        return false;
    }
    batch->dispatch = dispatch;
    batch->source = source;
    batch->queue_id = queue_id;
    batch->readies = source->readies;
    batch->receive.done = batch_received;
    batch->receive.data = batch;
    batch->receive.command = (struct command_receive){
        .queue_id = queue_id,
        .max = source->fifo && source->batch_size > FIFO_BATCH_MAX ? FIFO_BATCH_MAX
                                                                   : source->batch_size,
        .visibility_s = source->kind == SOURCE_ASYNC
                            ? source->function->config.timeout_s + ASYNC_LEASE_EXTRA_S
                            : CORE_DEFAULT,
        .bytes_max = EVENT_BYTES_MAX};
    source->refs++;
    source->leasing++;
    dispatch_operation_begin(dispatch);
    shard_receive(dispatch->shard, &batch->receive);
    return true;
}
