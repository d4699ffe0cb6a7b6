/* SPDX-License-Identifier: Apache-2.0 */
/* Which node leads which shard. The first of a queue shard's list that is active is to lead it: the
 * lists are made so that leaders are spread. Its leader hands it over when that node can be reached
 * and has everything; after a failure whoever was elected leads, and hands over when the node is
 * back. Who leads the catalog is left as it is, unless that node is drained.
 *
 * A leader rests between two tries, and before the first: elections come in groups, and a node that
 * comes and goes is not worth following. */
#include "broker/shards/internal.h"

#define SETTLE_MS 5000u  /* from the beginning of leading to the first try */
#define REST_MS   10000u /* between two tries */
#define DRAIN_MS  500u   /* the same where the node is drained */

static bool has_all(const struct place *place, const struct shard_member_view *member)
{
    struct shard_stats stats;
    shard_stats(place->shard, &stats);
    return member->connected && member->match_index + 100 >= stats.last_index;
}

/* The active voters in the order in which they are to lead, and how many. */
static size_t candidates(const struct place *place, struct shard_member_view *out)
{
    struct shard_member_view members[SHARD_MEMBERS_MAX];
    struct replica_list list;
    const struct core *catalog = shard_core(place->shards->places[0].shard);
    size_t all = shard_members(place->shard, members);
    size_t count = 0;
    replicas_of(place->shards, place->id, &list);
    for (size_t i = 0; i < list.count; i++) {
        for (size_t k = 0; k < all; k++) {
            if (members[k].id == list.at[i].node_id && members[k].role == SHARD_VOTER &&
                !list.at[i].leaving && node_duty(catalog, members[k].id) == NODE_ACTIVE)
                out[count++] = members[k];
        }
    }
    return count;
}

/* Something here ends when another leads. */
static bool is_needed(const struct place *place)
{
    struct shard_stats stats;
    shard_stats(place->shard, &stats);
    return stats.backup;
}

/* Who is to lead instead of this node; 0: nobody. */
static uint64_t successor(const struct place *place, bool active)
{
    struct shard_member_view list[SHARD_MEMBERS_MAX];
    uint64_t own = place->shards->options.node_id;
    size_t count = candidates(place, list);
    if (count == 0 || (place->id == 0 && active))
        return 0;
    if (has_all(place, &list[0]))
        return list[0].id != own ? list[0].id : 0;
    for (size_t i = 0; i < count && !active; i++) {
        if (has_all(place, &list[i]))
            return list[i].id;
    }
    return 0;
}

bool balance_tick(struct place *place)
{
    struct shards *s = place->shards;
    const struct core *catalog = shard_core(s->places[0].shard);
    bool active = node_duty(catalog, s->options.node_id) == NODE_ACTIVE &&
                  (place->id == 0 || place_is_listed(place));
    if (active && (shards_now_ms(s) < place->led_since_ms + SETTLE_MS || is_needed(place)))
        return false;
    uint64_t node_id = successor(place, active);
    if (node_id == 0)
        return false;
    place_change(place, shard_transfer, node_id, active ? REST_MS : DRAIN_MS);
    return true;
}
