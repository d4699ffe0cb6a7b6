/* SPDX-License-Identifier: Apache-2.0 */
/* The feature level of a queue shard follows that of the catalog, which rises when all members know
 * the next one (broker/level.c, docs/upgrades.md). Each shard keeps its own, so that it has a place
 * in that shard's log. */
#include "broker/shards/internal.h"

static void on_raised(struct shard_call *call, enum status status,
                      const struct core_result *results, uint32_t count)
{
    struct place *place = call->data;
    (void)status, (void)results, (void)count; /* if it is not there then, it is tried again */
    place->level_asked = false;
}

void level_tick(struct place *place)
{
    uint32_t level = shard_level(place->shards->places[0].shard);
    if (place->id == 0 || place->level_asked || !shard_leads(place->shard) ||
        shard_level(place->shard) >= level)
        return;
    place->level_asked = true;
    place->level_call = (struct shard_call){.done = on_raised, .data = place};
    shard_raise_level(place->shard, &place->level_call, level);
}
