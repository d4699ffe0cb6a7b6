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
 *       of a run may come after its function has gone. Only what the catalog here knows to be gone
 *       is dropped, so it does no harm if this node leads no more and does not know it */
#include "broker/dispatch/settle.h"

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

static void usage_sweep(struct dispatch *dispatch, struct shard *shard)
{
    struct settlement settlement = {.dispatch = dispatch, .shard = shard, .once = true};
    for (uint64_t id = 0; core_tally_next(shard_core(shard), id, &id);) {
        struct command command = {.type = COMMAND_USAGE_DROP, .usage_drop = {.function_id = id}};
        if (core_queue_gone(shard_core(dispatch->catalog), id)) /* U2 */
            settlement_add(&settlement, &command);
    }
    settlement_submit(&settlement);
}

void usage_tick(struct dispatch *dispatch)
{
    uint64_t now = dispatch_now(dispatch);
    if (now - dispatch->swept_ms < SWEEP_MS)
        return;
    dispatch->swept_ms = now;
    for (uint32_t id = 1; id < shards_count(dispatch->shards); id++)
        usage_sweep(dispatch, shards_at(dispatch->shards, id));
}
