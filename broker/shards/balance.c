/* SPDX-License-Identifier: Apache-2.0 */
/* Which node leads which shard. The leaders of the queue shards are spread over the nodes that are
 * active: shard K goes to the K-th of them, counted around. Its leader hands it over when that node
 * can be reached and has everything; after a failure whoever was elected leads, and hands over when
 * the node is back. Who leads the catalog is left as it is, unless that node is drained.
 *
 * A leader rests between two tries, and before the first: elections come in groups, and a node that
 * comes and goes is not worth following. */
#include "broker/shards/internal.h"

#define SETTLE_MS 5000u  /* from the beginning of leading to the first try */
#define REST_MS   10000u /* between two tries */
#define DRAIN_MS  500u   /* the same where the node is drained */

static bool is_candidate(const struct core *catalog, const struct shard_member_view *member)
{
    return member->role == SHARD_VOTER && node_duty(catalog, member->id) == NODE_ACTIVE;
}

static bool has_all(const struct place *place, const struct shard_member_view *member)
{
    struct shard_stats stats;
    shard_stats(place->shard, &stats);
    return member->connected && member->match_index + 100 >= stats.last_index;
}

/* The active voters in the order of their ids, and how many. */
static size_t candidates(const struct place *place, struct shard_member_view *out)
{
    const struct core *catalog = shard_core(place->shards->places[0].shard);
    size_t all = shard_members(place->shard, out);
    size_t count = 0;
    for (size_t i = 0; i < all; i++) {
        if (!is_candidate(catalog, &out[i]))
            continue;
        struct shard_member_view candidate = out[i];
        size_t at = count++;
        for (; at > 0 && out[at - 1].id > candidate.id; at--)
            out[at] = out[at - 1];
        out[at] = candidate;
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
    const struct shard_member_view *preferred = &list[place->id % count];
    if (has_all(place, preferred))
        return preferred->id != own ? preferred->id : 0;
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
    bool active = node_duty(catalog, s->options.node_id) == NODE_ACTIVE;
    if (active && (shards_now_ms(s) < place->led_since_ms + SETTLE_MS || is_needed(place)))
        return false;
    uint64_t node_id = successor(place, active);
    if (node_id == 0)
        return false;
    place_change(place, shard_transfer, node_id, active ? REST_MS : DRAIN_MS);
    return true;
}
