/* SPDX-License-Identifier: Apache-2.0 */
/* What runs cost, and where that is counted.
 *
 * The usage of a batch goes into the call that settles its messages, hence into the shard of their
 * queue: it is counted if and only if they are deleted. Where that is not the catalog, which has
 * the function, it is counted by the function's id, in a tally (broker/core/tally.c); whoever reads
 * adds up (shards_function_usage). All else, such as synchronous runs, is counted in the catalog.
 *
 *   U1  a run is counted for the function that it was begun for, never for a later one of its name
 *   U2  tallies of functions that are gone are dropped: looked for now and then, since the result
 *       of a run may come after its function has gone, and a restored catalog may be older than the
 *       tallies. A tally that was seen before a call to the catalog is of nothing, if its function
 *       is not there when the call has ended; without the call it could be of a new one, where this
 *       node leads no more and does not know it yet */
#include "broker/dispatch/settle.h"

#include <stdlib.h>

#define SWEEP_MS 5000u

/* A worker's nonsense must not become a bill: nothing runs past the guard. */
static struct usage usage_of(const struct assignment *assignment, const Millrace__Result *result)
{
    uint64_t longest_ms = assignment->timeout_ms + GUARD_MS;
    uint64_t billed_ms = result->billed_ms < longest_ms ? result->billed_ms : longest_ms;
    uint64_t duration_us =
        result->duration_us / 1000 < longest_ms ? result->duration_us : longest_ms * 1000;
    return (struct usage){.invocations = 1,
                          .errors = result->outcome != MILLRACE__OUTCOME__OUTCOME_OK,
                          .timeouts = result->outcome == MILLRACE__OUTCOME__OUTCOME_TIMEOUT,
                          .cold_starts = result->cold_start ? 1 : 0,
                          .duration_us = duration_us,
                          .billed_ms = billed_ms,
                          .billed_mb_ms = billed_ms * (assignment->memory_bytes >> 20)};
}

static void settlement_usage(struct settlement *settlement, const struct function_entry *function,
                             struct usage usage)
{
    struct command command = {.type = COMMAND_FUNCTION_USAGE,
                              .function_usage = {.name = slice_of(function->name), .delta = usage}};
    if (settlement->shard != settlement->dispatch->catalog)
        command = (struct command){.type = COMMAND_USAGE_ADD,
                                   .usage_add = {.function_id = function->id, .delta = usage}};
    settlement_add(settlement, &command);
}

void settlement_run(struct settlement *settlement, const struct assignment *assignment,
                    const Millrace__Result *result)
{
    const struct function_entry *function = assignment->function;
    bool known = settlement->shard == settlement->dispatch->catalog || function->id > 0;
    if (known && function->present && function->id == assignment->function_id) /* U1 */
        settlement_usage(settlement, function, usage_of(assignment, result));
}

void settle_run(const struct assignment *assignment, const Millrace__Result *result)
{
    struct dispatch *dispatch = assignment->dispatch;
    struct settlement settlement = {.dispatch = dispatch, .shard = dispatch->catalog};
    settlement_run(&settlement, assignment, result);
    settlement_submit(&settlement);
}

void settle_throttles(struct dispatch *dispatch, struct function_entry *function)
{
    struct settlement settlement = {.dispatch = dispatch, .shard = dispatch->catalog};
    settlement_usage(&settlement, function, (struct usage){.throttles = function->throttles});
    function->throttles = 0;
    settlement_submit(&settlement);
}

/* ---- functions that are gone ---- */

/* What was found in the shards, and may be of functions that the catalog here has not heard of yet:
 * the call decides, as everything that was known anywhere before it is applied when it ends. */
struct sweep {
    struct shard_call call;
    struct dispatch *dispatch;
    struct buffer found; /* struct found */
};

struct found {
    struct shard *shard;
    uint64_t function_id;
};

static bool is_gone(const struct dispatch *dispatch, uint64_t function_id)
{
    struct queue_view events;
    return !core_queue_by_id(shard_core(dispatch->catalog), function_id, &events);
}

static void drop(const struct sweep *sweep)
{
    struct settlement settlement = {.dispatch = sweep->dispatch, .once = true};
    for (size_t at = 0; at < sweep->found.length; at += sizeof(struct found)) {
        struct found found;
        memcpy(&found, sweep->found.data + at, sizeof found);
        struct command command = {.type = COMMAND_USAGE_DROP,
                                  .usage_drop = {.function_id = found.function_id}};
        if (found.shard != settlement.shard)
            settlement_submit(&settlement);
        settlement.shard = found.shard;
        if (is_gone(sweep->dispatch, found.function_id))
            settlement_add(&settlement, &command);
    }
    settlement_submit(&settlement);
}

static void sweep_ended(struct shard_call *call, enum status status,
                        const struct core_result *results, uint32_t count)
{
    struct sweep *sweep = call->data;
    struct dispatch *dispatch = sweep->dispatch;
    (void)results;
    (void)count;
    if (status == STATUS_OK && !dispatch->closing)
        drop(sweep); /* U2 */
    dispatch->sweeping = false;
    buffer_free(&sweep->found);
    free(sweep);
    dispatch_operation_end(dispatch);
}

static void sweep_begin(struct dispatch *dispatch, struct buffer *found)
{
    struct command command = {.type = COMMAND_TICK};
    struct sweep *sweep = memory_new(1, sizeof *sweep);
    sweep->dispatch = dispatch;
    sweep->found = *found;
    sweep->call = (struct shard_call){.done = sweep_ended, .data = sweep};
    shard_call_add(&sweep->call, &command);
    dispatch->sweeping = true;
    dispatch_operation_begin(dispatch);
    shard_call(dispatch->catalog, &sweep->call);
}

static void look_for_gone(const struct dispatch *dispatch, struct shard *shard, struct buffer *out)
{
    for (uint64_t id = 0; core_tally_next(shard_core(shard), id, &id);) {
        struct found found = {shard, id};
        if (is_gone(dispatch, id))
            buffer_add(out, &found, sizeof found);
    }
}

void usage_tick(struct dispatch *dispatch)
{
    uint64_t now = dispatch_now(dispatch);
    struct buffer found = {0};
    if (dispatch->sweeping || now - dispatch->swept_ms < SWEEP_MS)
        return;
    dispatch->swept_ms = now;
    for (uint32_t id = 1; id < shards_total(dispatch->shards); id++) {
        struct shard *shard = shards_at(dispatch->shards, id);
        if (shard != NULL)
            look_for_gone(dispatch, shard, &found);
    }
    if (found.length > 0)
        sweep_begin(dispatch, &found);
}
