/* SPDX-License-Identifier: Apache-2.0 */
/* The members of each queue shard follow its list in the catalog (placement.h). The leader of a
 * shard brings that about, one node and one step at a time.
 *
 *     listed, not a member         -> added as a learner, which gets the data
 *     listed, a learner, caught up -> voter
 *     a member, not listed, or as one that is leaving
 *                                  -> removed, once all that are listed are voters that have
 *                                     everything (P2); the leader itself hands over first
 * (balance.c)
 */
#include "broker/shards/internal.h"

#define LAG_MAX     1000u /* entries: less is caught up in a moment */
#define ADD_REST_MS 200u
#define LEAVE_MS    1000u

static const struct shard_member_view *find(const struct shard_member_view *list, size_t count,
                                            uint64_t id)
{
    for (size_t i = 0; i < count; i++) {
        if (list[i].id == id)
            return &list[i];
    }
    return NULL;
}

static bool caught_up(const struct place *place, const struct shard_member_view *member)
{
    struct shard_stats stats;
    shard_stats(place->shard, &stats);
    return member->connected && member->match_index + LAG_MAX >= stats.last_index;
}

static void add(struct place *place, const struct shard_member_view *wanted)
{
    place->changing = true;
    place->rest_until_ms = shards_now_ms(place->shards) + ADD_REST_MS;
    shard_member_add(place->shard, &place->change, wanted->id, wanted->address);
}

/* One that is listed; `node` is what the catalog knows of it. */
static bool bring_in(struct place *place, const struct replica_list *list,
                     const struct shard_member_view *node, const struct shard_member_view *member)
{
    if (member == NULL || member->role == SHARD_SPARE) {
        if (node == NULL || !node->connected ||
            (list->version > 0 && !watch_is_open(place, node->id, list->version)))
            return false;
        add(place, node);
        return true;
    }
    if (member->role == SHARD_VOTER || !caught_up(place, member))
        return false;
    place_change(place, shard_member_promote, member->id, ADD_REST_MS);
    return true;
}

static bool is_whole(const struct place *place, const struct shard_member_view *member)
{
    return member != NULL && member->role == SHARD_VOTER && caught_up(place, member);
}

static bool is_wanted(const struct replica_list *list, uint64_t node_id)
{
    const struct replica *replica = replicas_find(list, node_id);
    return replica != NULL && !replica->leaving;
}

/* Those that leave have heard of it, and ended what was under way there. */
static bool is_old(struct place *place, const struct replica_list *list)
{
    uint64_t now_ms = shards_now_ms(place->shards);
    if (place->list_seen != list->version || place->list_seen_ms == 0) {
        place->list_seen = list->version;
        place->list_seen_ms = now_ms;
    }
    return now_ms >= place->list_seen_ms + LEAVE_MS;
}

/* It is to leave the cluster, or has left. */
static bool is_going(const struct place *place, const struct shard_member_view *nodes,
                     size_t node_count, uint64_t node_id)
{
    const struct core *catalog = shard_core(place->shards->places[0].shard);
    return find(nodes, node_count, node_id) == NULL || node_duty(catalog, node_id) == NODE_LEAVING;
}

/* A node that is leaving the cluster may be gone for good, so its place in the list is not left to
 * itself. */
static bool strike_out(struct place *place, const struct replica_list *list,
                       const struct shard_member_view *nodes, size_t node_count)
{
    for (size_t i = 0; i < list->count; i++) {
        uint64_t node_id = list->at[i].node_id;
        if (node_id != place->shards->options.node_id && list->at[i].leaving &&
            is_going(place, nodes, node_count, node_id)) {
            release_strike(place, list, node_id);
            return true;
        }
    }
    return false;
}

/* One that is going, marked, and down: no copy that counts goes with it, so it need not wait for
 * others that may be down themselves. */
static bool take_out_dead(struct place *place, const struct replica_list *list,
                          const struct shard_member_view *members, size_t count,
                          const struct shard_member_view *nodes, size_t node_count)
{
    for (size_t i = 0; i < count; i++) {
        if (members[i].id != place->shards->options.node_id && !members[i].connected &&
            !is_wanted(list, members[i].id) && is_going(place, nodes, node_count, members[i].id)) {
            place_change(place, shard_member_remove, members[i].id, ADD_REST_MS);
            return true;
        }
    }
    return false;
}

/* One that is not wanted any more, unless it leads. */
static bool take_out(struct place *place, const struct replica_list *list,
                     const struct shard_member_view *members, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (members[i].id != place->shards->options.node_id && !is_wanted(list, members[i].id)) {
            place_change(place, shard_member_remove, members[i].id, ADD_REST_MS);
            return true;
        }
    }
    return false;
}

bool follow_tick(struct place *place)
{
    struct shard_member_view nodes[SHARD_MEMBERS_MAX];
    struct shard_member_view members[SHARD_MEMBERS_MAX];
    struct replica_list list;
    struct shards *s = place->shards;
    size_t node_count = shard_members(s->places[0].shard, nodes);
    size_t count = shard_members(place->shard, members);
    bool whole = true;
    replicas_of(s, place->id, &list);
    for (size_t i = 0; i < list.count; i++) {
        const struct replica *replica = &list.at[i];
        const struct shard_member_view *member = find(members, count, replica->node_id);
        if (replica->leaving)
            continue;
        if (bring_in(place, &list, find(nodes, node_count, replica->node_id), member))
            return true;
        whole = whole && is_whole(place, member);
    }
    if (take_out_dead(place, &list, members, count, nodes, node_count))
        return true;
    if (!whole || !is_old(place, &list))
        return false;
    return take_out(place, &list, members, count) || strike_out(place, &list, nodes, node_count);
}
