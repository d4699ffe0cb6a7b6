/* SPDX-License-Identifier: Apache-2.0 */
/* Raising the feature level.
 *
 * The leader raises it when every member, learners too, is connected and has greeted with a higher
 * one. One that cannot be reached may run anything, so it holds the level back: that is said in
 * docs/upgrades.md, since a member that is gone for good must be removed first. What happens
 * between the look and the entry's commit does no harm: a member that comes back with an older
 * program in between ends by itself when it gets to that entry (broker/replication/level.c).
 *
 * That is the catalog's level; other shards follow it (broker/shards/level.c). A program for
 * rehearsals (docs/upgrades.md) proposes a command of its own level all the time, as one that
 * forgets to ask would: the shard refuses it until the level is in force, else the older members
 * would end. */
#include "broker/level.h"

#include "broker/feature/feature.h"
#include "broker/peer/tcp.h"
#include "proto/base/trace.h"

static uint32_t member_level(const struct peers *peers, uint64_t id, uint64_t own_id)
{
    struct peer_about about;
    if (id == own_id)
        return feature_level();
    return peers_tcp_node(peers, id, &about) && about.connected ? about.feature_level : 0;
}

/* The highest that all members know. */
static uint32_t possible(const struct shard *shard, const struct peers *peers, uint64_t own_id)
{
    struct shard_member_view members[SHARD_MEMBERS_MAX];
    size_t count = shard_members(shard, members);
    uint32_t level = feature_level();
    for (size_t i = 0; i < count; i++) {
        uint32_t one = member_level(peers, members[i].id, own_id);
        level = one < level ? one : level;
    }
    return level;
}

static void on_raised(struct shard_call *call, enum status status,
                      const struct core_result *results, uint32_t count)
{
    struct level *level = call->data;
    (void)count;
    level->under_way = false;
    if (status != STATUS_OK || results[0].code != CORE_OK)
        trace_warn("cluster", "feature_level_not_raised", "status=%s", status_name(status));
}

static void on_rehearsed(struct shard_call *call, enum status status,
                         const struct core_result *results, uint32_t count)
{
    struct level *level = call->data;
    (void)results, (void)count;
    level->under_way = false;
    level->rehearsed = status == STATUS_OK;
    if (level->rehearsed)
        trace_info("cluster", "rehearsed", "level=%u", feature_level());
}

static void rehearse(struct level *level, struct shard *shard)
{
    struct command command = {.type = COMMAND_REHEARSE};
    level->call = (struct shard_call){.done = on_rehearsed, .data = level};
    level->under_way = true;
    shard_call_add(&level->call, &command);
    shard_call(shard, &level->call);
}

static void propose(struct level *level, struct shard *shard, uint32_t to)
{
    level->call = (struct shard_call){.done = on_raised, .data = level};
    level->under_way = true;
    shard_raise_level(shard, &level->call, to);
}

void level_raise(struct level *level, struct shard *shard, const struct peers *peers,
                 uint64_t own_id)
{
    if (level->under_way || !shard_leads(shard))
        return;
    uint32_t to = shard_level(shard) < feature_level() ? possible(shard, peers, own_id) : 0;
    if (to > shard_level(shard))
        propose(level, shard, to);
    else if (feature_in(feature_level(), FEATURE_REHEARSAL) && !level->rehearsed)
        rehearse(level, shard);
}
