/* SPDX-License-Identifier: Apache-2.0 */
/* Tallies: what the runs of functions of the catalog used that worked on queues of this shard. A
 * run's deletes and its usage are one entry, so its usage is counted where its messages are, and
 * whoever reads adds up over the shards (broker/shards). The function itself is not here; its id
 * is never given again, so a new function of the same name begins with nothing. Whoever knows that
 * it is gone drops its tallies.
 *
 *   T1  at most one for each function id; in the order of these */
#include "broker/core/state.h"

#include <stdlib.h>

void core_usage_add(struct usage *total, const struct usage *delta)
{
    total->invocations += delta->invocations;
    total->errors += delta->errors;
    total->timeouts += delta->timeouts;
    total->throttles += delta->throttles;
    total->cold_starts += delta->cold_starts;
    total->duration_us += delta->duration_us;
    total->billed_ms += delta->billed_ms;
    total->billed_mb_ms += delta->billed_mb_ms;
}

size_t core_tally_at(const struct tally *tallies, size_t count, uint64_t function_id)
{
    size_t low = 0;
    size_t high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (tallies[middle].function_id < function_id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static size_t tally_at(const struct core *core, uint64_t function_id)
{
    return core_tally_at(core->tallies, core->tally_count, function_id);
}

static bool tally_is_at(const struct core *core, size_t at, uint64_t function_id)
{
    return at < core->tally_count && core->tallies[at].function_id == function_id;
}

static void tally_insert(struct core *core, size_t at, const struct tally *tally)
{
    if (core->tally_count == core->tally_capacity) {
        core->tally_capacity = core->tally_capacity == 0 ? 16 : core->tally_capacity * 2;
        core->tallies = realloc(core->tallies, core->tally_capacity * sizeof core->tallies[0]);
        ASSERT(core->tallies != NULL);
    }
    memmove(&core->tallies[at + 1], &core->tallies[at],
            (core->tally_count - at) * sizeof core->tallies[0]);
    core->tallies[at] = *tally;
    core->tally_count++;
}

bool tally_add(struct core *core, const struct tally *tally)
{
    size_t at = tally_at(core, tally->function_id);
    if (tally_is_at(core, at, tally->function_id))
        return false; /* T1 */
    tally_insert(core, at, tally);
    return true;
}

void usage_add(struct core *core, const struct command *command, struct core_result *result)
{
    const struct command_usage_add *add = &command->usage_add;
    size_t at = tally_at(core, add->function_id);
    (void)result;
    if (!tally_is_at(core, at, add->function_id))
        tally_insert(core, at, &(struct tally){.function_id = add->function_id});
    core_usage_add(&core->tallies[at].usage, &add->delta);
}

void usage_drop(struct core *core, const struct command *command, struct core_result *result)
{
    uint64_t function_id = command->usage_drop.function_id;
    size_t at = tally_at(core, function_id);
    if (!tally_is_at(core, at, function_id)) {
        result->code = CORE_NO_FUNCTION;
        return;
    }
    core->tally_count--;
    memmove(&core->tallies[at], &core->tallies[at + 1],
            (core->tally_count - at) * sizeof core->tallies[0]);
}

bool core_tally(const struct core *core, uint64_t function_id, struct usage *out)
{
    size_t at = tally_at(core, function_id);
    if (!tally_is_at(core, at, function_id))
        return false;
    *out = core->tallies[at].usage;
    return true;
}

bool core_tally_next(const struct core *core, uint64_t after, uint64_t *function_id)
{
    size_t at = tally_at(core, after + 1);
    if (at >= core->tally_count)
        return false;
    *function_id = core->tallies[at].function_id;
    return true;
}
