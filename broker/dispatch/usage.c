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

#include "broker/shards/tallies.h"

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
    if (settlement->shard_id > 0)
        command = (struct command){.type = COMMAND_USAGE_ADD,
                                   .usage_add = {.function_id = function->id, .delta = usage}};
    settlement_count(settlement, &command);
}

void settlement_run(struct settlement *settlement, const struct assignment *assignment,
                    const Millrace__Result *result)
{
    const struct function_entry *function = assignment->function;
    bool known = settlement->shard_id == 0 || function->id > 0;
    if (known && function->present && function->id == assignment->function_id) /* U1 */
        settlement_usage(settlement, function, usage_of(assignment, result));
}

void settle_run(const struct assignment *assignment, const Millrace__Result *result)
{
    struct dispatch *dispatch = assignment->dispatch;
    struct settlement settlement = {.dispatch = dispatch};
    settlement_run(&settlement, assignment, result);
    settlement_submit(&settlement);
}

void settle_throttles(struct dispatch *dispatch, struct function_entry *function)
{
    struct settlement settlement = {.dispatch = dispatch};
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
    uint32_t shard_id;
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
        if (found.shard_id != settlement.shard_id)
            settlement_submit(&settlement);
        settlement.shard_id = found.shard_id;
        if (is_gone(sweep->dispatch, found.function_id))
            settlement_add(&settlement, &command);
    }
    settlement_submit(&settlement);
}

static void sweep_free(struct sweep *sweep)
{
    struct dispatch *dispatch = sweep->dispatch;
    dispatch->sweeping = false;
    buffer_free(&sweep->found);
    free(sweep);
    dispatch_operation_end(dispatch);
}

static void sweep_ended(struct shard_call *call, enum status status,
                        const struct core_result *results, uint32_t count)
{
    struct sweep *sweep = call->data;
    (void)results;
    (void)count;
    if (status == STATUS_OK && !sweep->dispatch->closing)
        drop(sweep); /* U2 */
    sweep_free(sweep);
}

static void look_for_gone(struct sweep *sweep, uint32_t shard_id)
{
    struct dispatch *dispatch = sweep->dispatch;
    for (uint64_t id = 0; tallies_next(dispatch->shards, shard_id, id, &id);) {
        struct found found = {shard_id, id};
        if (is_gone(dispatch, id))
            buffer_add(&sweep->found, &found, sizeof found);
    }
}

static void sweep_look(void *data)
{
    struct sweep *sweep = data;
    struct dispatch *dispatch = sweep->dispatch;
    struct command command = {.type = COMMAND_TICK};
    for (uint32_t id = 1; id < shards_total(dispatch->shards); id++)
        look_for_gone(sweep, id);
    if (sweep->found.length == 0 || !dispatch->ready || dispatch->closing) {
        sweep_free(sweep);
        return;
    }
    sweep->call = (struct shard_call){.done = sweep_ended, .data = sweep};
    shard_call_add(&sweep->call, &command);
    shard_call(dispatch->catalog, &sweep->call);
}

/* Tallies of shards that are not here are fetched first. */
void usage_tick(struct dispatch *dispatch)
{
    uint64_t now = dispatch_now(dispatch);
    if (dispatch->sweeping || now - dispatch->swept_ms < SWEEP_MS)
        return;
    struct sweep *sweep = memory_new(1, sizeof *sweep);
    sweep->dispatch = dispatch;
    dispatch->swept_ms = now;
    dispatch->sweeping = true;
    dispatch_operation_begin(dispatch);
    if (!tallies_fetch(dispatch->shards, sweep_look, sweep))
        sweep_look(sweep);
}
