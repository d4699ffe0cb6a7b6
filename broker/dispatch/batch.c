/* SPDX-License-Identifier: Apache-2.0 */
/* One batch: the messages of a source on their way to a function and back.
 *
 *     batch_start     room reserved, RECEIVE proposed            (source->leasing)
 *     batch_lease_came  messages leased, bodies are being read   (source->running)
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
 *   I3  a node that does not lead gives nothing back: the worker, which may well live, shows the
 *       batch to the new leader, which takes it over (running.c); and if it does not, its leases
 * run out
 */
#include "broker/dispatch/claim.h"
#include "broker/dispatch/event.h"
#include "broker/dispatch/internal.h"

#include "broker/core/record.h"
#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <utlist.h>

/* Asynchronous events have no queue setting that a user chose; their lease outlives the function's
 * timeout and what the guard adds to it. */
#define ASYNC_LEASE_EXTRA_S 60u

#define FIFO_BATCH_MAX      10u /* messages, as at Lambda */

static void batch_free(struct batch *batch)
{
    struct dispatch *dispatch = batch->dispatch;
    struct source *source = batch->source;
    source->hinted = true;
    if (batch->leased)
        DL_DELETE(dispatch->batches, batch);
    if (batch->messages != batch->receive.messages)
        free(batch->messages);
    door_receive_free(&batch->receive);
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

void batch_ended(struct assignment *assignment, const Millrace__Result *result)
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
        if (result != NULL || batch->dispatch->ready) /* I3 */
            settle_give_back(batch, 0);
    } else {
        source->backoff_ms = 0;
        scaling_batch_done(&source->scaling, (double)took_ms / 1000.0, batch->count);
        settle_batch(batch, result);
    }
    batch_free(batch);
}

/* ---- sending ---- */

/* The records of the batch lie one after the other. */
static bool batch_record(const struct batch *batch, uint32_t i, size_t *offset,
                         struct record *record)
{
    struct slice bytes = slice_sub(buffer_slice(&batch->receive.records), *offset);
    ASSERT(bytes.length >= batch->receive.refs[i].length);
    bytes.length = batch->receive.refs[i].length;
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
    struct slice name = origin_name(batch->dispatch, batch->messages[i].source_queue_id);
    if (name.length == 0)
        return NULL;
    const char *own = batch->source->queue_arn;
    buffer_clear(out);
    buffer_add(out, own, strlen(own) - strlen(batch->source->queue_name));
    buffer_add_slice(out, name);
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

/* What the worker may show to the next leader. */
static void batch_claim(const struct batch *batch, struct buffer *out)
{
    const struct source *source = batch->source;
    struct claim claim = {.lease_id = batch->assignment->lease_id,
                          .async = source->kind == SOURCE_ASYNC,
                          .fifo = batch->groups != NULL,
                          .queue_id = batch->queue_id,
                          .leased_ms = batch->leased_at_ms,
                          .visibility_s = batch->visibility_s,
                          .count = batch->count};
    claim.messages = memory_new(batch->count, sizeof *claim.messages);
    memcpy(claim.uuid, source->uuid, UUID_BYTES);
    for (uint32_t i = 0; i < batch->count; i++) {
        claim.messages[i].lease =
            (struct core_lease){batch->messages[i].seq, batch->messages[i].receive_count};
        claim.messages[i].group = batch->groups != NULL ? batch->groups[i] : 0;
        memcpy(claim.messages[i].id, batch->ids[i], UUID_BYTES);
    }
    claim_encode(out, batch->dispatch->secret, slice_of(source->function->name), &claim);
    free(claim.messages);
}

static bool batch_try(struct batch *batch, const struct assignment_input *input)
{
    struct buffer claim = {0};
    struct assignment_input whole = *input;
    batch->started_ms = dispatch_now(batch->dispatch);
    batch_claim(batch, &claim);
    whole.claim = buffer_slice(&claim);
    bool sent = assignment_send(batch->assignment, &whole);
    buffer_free(&claim);
    return sent;
}

/* The worker may have gone while messages were leased and read: any other will do. */
static bool batch_hand_over(struct batch *batch, struct slice event, struct slice trace_id)
{
    uint8_t id[UUID_BYTES];
    char request_id[UUID_TEXT_LENGTH + 1];
    struct assignment_input input = {
        .request_id = request_id, .payload = event, .trace_id = trace_id};
    uuid_random(id);
    uuid_text(batch->source->kind == SOURCE_ASYNC ? batch->ids[0] : id, request_id);
    for (unsigned tries = 0; tries < 2; tries++) {
        if (batch_try(batch, &input))
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
    buffer_free(&batch->receive.records);
    if (sent)
        return;
    if (built)
        settle_give_back(batch, 0);
    source_back_off(batch->source);
    batch_drop(batch);
}

/* ---- leasing ---- */

/* Messages came: what else the batch keeps of them. */
static void batch_keep(struct batch *batch)
{
    uint32_t count = batch->receive.count;
    batch->count = count;
    batch->messages = batch->receive.messages;
    batch->ids = memory_new(count, sizeof *batch->ids);
    if (batch->source->fifo) {
        ASSERT(count <= FIFO_BATCH_MAX);
        batch->groups = memory_new(count, sizeof *batch->groups);
    }
}

void batch_leased(struct batch *batch, uint64_t now_ms, uint64_t at_ms)
{
    batch->leased = true;
    batch->leased_ms = now_ms;
    batch->leased_at_ms = at_ms;
    batch->renew_ms = batch->visibility_s > LEASE_S ? now_ms + LEASE_RENEW_MS : UINT64_MAX;
    DL_APPEND(batch->dispatch->batches, batch);
}

uint32_t batch_rest_s(const struct batch *batch)
{
    uint64_t whole_ms = batch->visibility_s * UINT64_C(1000);
    uint64_t gone_ms = dispatch_now(batch->dispatch) - batch->leased_ms;
    return gone_ms >= whole_ms ? 0 : (uint32_t)((whole_ms - gone_ms + 999) / 1000);
}

static void batch_renew(struct batch *batch)
{
    uint32_t rest_s = batch_rest_s(batch);
    bool last = rest_s <= LEASE_S;
    batch->renew_ms = last ? UINT64_MAX : dispatch_now(batch->dispatch) + LEASE_RENEW_MS;
    if (rest_s > 0)
        settle_renew(batch, last ? rest_s : LEASE_S);
}

void batches_tick(struct dispatch *dispatch)
{
    uint64_t now = dispatch_now(dispatch);
    struct batch *batch;
    DL_FOREACH(dispatch->batches, batch)
    {
        if (now >= batch->renew_ms && !batch->doubted)
            batch_renew(batch);
    }
}

static void batch_lease_came(struct door_receive *receive, enum status status)
{
    struct batch *batch = receive->data;
    ASSERT(status == STATUS_OK && receive->count > 0);
    batch->source->leasing--;
    batch->source->running++;
    source_received(batch->source, receive->count);
    batch_leased(batch, dispatch_now(batch->dispatch), receive->at_ms);
    batch_keep(batch);
}

static void batch_unread(struct batch *batch, enum status status)
{
    trace_error("dispatch", "bodies_unreadable", "queue=\"%s\" count=%u why=\"%s\"",
                batch->source->queue_name, batch->count, status_text(status));
    source_back_off(batch->source);
    batch_drop(batch);
}

static void batch_received(struct door_receive *receive, enum status status)
{
    struct batch *batch = receive->data;
    struct source *source = batch->source;
    bool good = status == STATUS_OK && receive->code == CORE_OK;
    if (batch->leased && good) {
        if (!origins_ask(batch, batch_send))
            batch_send(batch);
        return;
    }
    if (batch->leased) {
        batch_unread(batch, status);
        return;
    }
    source->leasing--;
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
    batch->shard_id = shard_of_queue_id(queue_id);
    batch->queue_id = queue_id;
    batch->readies = source->readies;
    batch->visibility_s = source->kind == SOURCE_ASYNC
                              ? source->function->config.timeout_s + ASYNC_LEASE_EXTRA_S
                              : source->visibility_s;
    batch->receive.leased = batch_lease_came;
    batch->receive.done = batch_received;
    batch->receive.data = batch;
    batch->receive.command = (struct command_receive){
        .queue_id = queue_id,
        .max = source->fifo && source->batch_size > FIFO_BATCH_MAX ? FIFO_BATCH_MAX
                                                                   : source->batch_size,
        .visibility_s = batch->visibility_s < LEASE_S ? batch->visibility_s : LEASE_S,
        .bytes_max = EVENT_BYTES_MAX};
    source->refs++;
    source->leasing++;
    dispatch_operation_begin(dispatch);
    door_receive(dispatch->shards, batch->shard_id, &batch->receive);
    return true;
}
