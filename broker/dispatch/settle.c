/* SPDX-License-Identifier: Apache-2.0 */
/* What results do to messages, and what they cost.
 *
 *     result                    messages of a mapping                      usage
 *     OK                        deleted                                    counted
 *     OK, some items failed     those stay until their visibility timeout  counted
 *       on a FIFO queue         with all that follow them in their groups
 *     OK, answer unreadable     all stay until their visibility timeout    counted
 *     error, timeout, crash     all stay until their visibility timeout    counted, as an error
 *     rejected, worker lost     visible again at once                      nothing ran that we know
 *
 * Deletes and usage of one result go into one call to the queue's shard, hence one Raft entry: the
 * lease makes the delete exact, and the run is counted once if and only if that entry is committed
 * (usage.c says where).
 *
 * A settlement that was not done, because the shard is too busy or has no leader, is kept and
 * proposed again on the next ticks; when it fails for good, or its outcome is not known, the
 * messages that are left come back by their deadline, which is at-least-once delivery at work.
 *
 * A replica elsewhere that dies with a settlement leaves its outcome unknown. What it does to
 * messages goes by their leases and may be done twice, so it is sent again to the next one; but not
 * where usage goes with it, which would count twice: then a run of which nobody knows whether it
 * was settled is run again, unless it was.
 */
#include "broker/dispatch/settle.h"

#include "broker/dispatch/async.h"
#include "broker/dispatch/item_failures.h"
#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <stdlib.h>
#include <utlist.h>

#define SETTLE_COMMANDS_MAX 500u /* in one call; a call is one entry, at most 256 KiB */
#define SETTLE_TRIES_MAX    100u

struct settle_call {
    struct dispatch *dispatch;
    uint32_t shard_id;
    struct buffer commands;
    uint32_t count;
    uint32_t tries;
    bool counts; /* usage: it must not be done twice */
    struct door_call call;
    struct settle_call *prev, *next; /* in dispatch->unsettled */
};

static bool settle_call_again(const struct settle_call *settle, enum status status)
{
    bool undone = status == STATUS_BUSY || status == STATUS_NOT_LEADER;
    return undone && settle->tries < SETTLE_TRIES_MAX && !settle->dispatch->closing;
}

static void settle_call_free(struct settle_call *settle)
{
    struct dispatch *dispatch = settle->dispatch;
    buffer_free(&settle->commands);
    free(settle);
    dispatch_operation_end(dispatch);
}

static void settle_call_done(struct shard_call *call, enum status status,
                             const struct core_result *results, uint32_t count)
{
    struct settle_call *settle = call->data;
    (void)results; /* gone or leased by another meanwhile: nothing is left to do */
    (void)count;
    if (settle_call_again(settle, status)) {
        DL_APPEND(settle->dispatch->unsettled, settle);
        return;
    }
    if (status != STATUS_OK)
        trace_warn("dispatch", "not_settled", "commands=%u why=\"%s\"", settle->count,
                   status_text(status));
    settle_call_free(settle);
}

static void settle_call_propose(struct settle_call *settle)
{
    struct shard_call *call = &settle->call.call;
    settle->tries++;
    settle->call.repeatable = !settle->counts;
    *call = (struct shard_call){.count = settle->count, .done = settle_call_done, .data = settle};
    buffer_add_slice(&call->commands, buffer_slice(&settle->commands));
    door_call(settle->dispatch->shards, settle->shard_id, &settle->call);
}

void settle_tick(struct dispatch *dispatch)
{
    struct settle_call *list = dispatch->unsettled;
    struct settle_call *settle;
    struct settle_call *after;
    dispatch->unsettled = NULL;
    DL_FOREACH_SAFE(list, settle, after)
    {
        DL_DELETE(list, settle);
        if (dispatch->closing)
            settle_call_free(settle);
        else
            settle_call_propose(settle);
    }
}

void settlement_submit(struct settlement *settlement)
{
    struct settle_call *open = settlement->open;
    settlement->open = NULL;
    if (open != NULL)
        settle_call_propose(open);
}

void settlement_add(struct settlement *settlement, const struct command *command)
{
    if (settlement->open != NULL && settlement->open->count == SETTLE_COMMANDS_MAX)
        settlement_submit(settlement);
    if (settlement->open == NULL) {
        settlement->open = memory_new(1, sizeof *settlement->open);
        settlement->open->dispatch = settlement->dispatch;
        settlement->open->shard_id = settlement->shard_id;
        settlement->open->tries = settlement->once ? SETTLE_TRIES_MAX : 0;
        dispatch_operation_begin(settlement->dispatch);
    }
    command_encode(&settlement->open->commands, command);
    settlement->open->count++;
}

void settlement_count(struct settlement *settlement, const struct command *command)
{
    settlement_add(settlement, command);
    settlement->open->counts = true;
}

static struct core_lease batch_lease(const struct batch *batch, uint32_t i)
{
    ASSERT(i < batch->count);
    return (struct core_lease){batch->messages[i].seq, batch->messages[i].receive_count};
}

void settlement_delete(struct settlement *settlement, const struct batch *batch, uint32_t i)
{
    struct command command = {
        .type = COMMAND_DELETE,
        .delete = {.queue_id = batch->queue_id, .lease = batch_lease(batch, i), .exact = true}};
    settlement_add(settlement, &command);
}

void settlement_show(struct settlement *settlement, const struct batch *batch, uint32_t i,
                     uint32_t after_s)
{
    struct command command = {.type = COMMAND_CHANGE_VISIBILITY,
                              .change_visibility = {.queue_id = batch->queue_id,
                                                    .lease = batch_lease(batch, i),
                                                    .visibility_s = after_s}};
    settlement_add(settlement, &command);
}

static struct settlement settlement_of(const struct batch *batch)
{
    return (struct settlement){.dispatch = batch->dispatch, .shard_id = batch->shard_id};
}

void settle_renew(const struct batch *batch, uint32_t visibility_s)
{
    struct settlement settlement = settlement_of(batch);
    settlement.once = true;
    for (uint32_t i = 0; i < batch->count; i++)
        settlement_show(&settlement, batch, i, visibility_s);
    settlement_submit(&settlement);
}

/* A message that failed stays hidden until its visibility timeout, as at AWS: that is longer than
 * the lease, which nobody renews any more. */
static void settlement_keep(struct settlement *settlement, const struct batch *batch, uint32_t i)
{
    uint32_t rest_s = batch_rest_s(batch);
    if (batch->visibility_s > LEASE_S && rest_s > 0)
        settlement_show(settlement, batch, i, rest_s);
}

void settle_give_back(const struct batch *batch, uint32_t from)
{
    struct settlement settlement = settlement_of(batch);
    for (uint32_t i = from; i < batch->count; i++)
        settlement_show(&settlement, batch, i, 0);
    settlement_submit(&settlement);
}

/* ---- mappings ---- */

/* What follows a failed message in its group fails with it: it may not be done before it. */
static void keep_order(const struct batch *batch, bool *failed)
{
    bool *stopped = memory_new(batch->count, sizeof *stopped); /* by the group's first message */
    for (uint32_t i = 0; i < batch->count; i++) {
        stopped[batch->groups[i]] |= failed[i];
        failed[i] = stopped[batch->groups[i]];
    }
    free(stopped);
}

static void settle_items(struct settlement *settlement, const struct batch *batch,
                         struct slice answer)
{
    bool *failed = memory_new(batch->count, sizeof *failed);
    if (batch->source->report_item_failures &&
        !item_failures_read(answer, (const uint8_t(*)[UUID_BYTES])batch->ids, batch->count, failed))
        batch->source->last_result = "PROBLEM: The function's batch item failures are invalid";
    if (batch->groups != NULL)
        keep_order(batch, failed);
    for (uint32_t i = 0; i < batch->count; i++) {
        if (failed[i])
            settlement_keep(settlement, batch, i);
        else
            settlement_delete(settlement, batch, i);
    }
    free(failed);
}

void settle_batch(struct batch *batch, const Millrace__Result *result)
{
    struct settlement settlement = settlement_of(batch);
    bool failed = result->outcome != MILLRACE__OUTCOME__OUTCOME_OK;
    settlement_run(&settlement, batch->assignment, result);
    batch->source->last_result = failed ? "PROBLEM: Function call failed" : "OK";
    if (batch->source->kind == SOURCE_ASYNC)
        async_settle(&settlement, batch, failed);
    else if (!failed)
        settle_items(&settlement, batch, slice_make(result->payload.data, result->payload.len));
    for (uint32_t i = 0; i < batch->count && failed && batch->source->kind == SOURCE_MAPPING; i++)
        settlement_keep(&settlement, batch, i);
    settlement_submit(&settlement);
}
