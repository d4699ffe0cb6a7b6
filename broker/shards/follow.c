/* SPDX-License-Identifier: Apache-2.0 */
/* The members of each queue shard follow those of the catalog: every voter of the catalog that is
 * not leaving is to be a voter of each. The leader of a shard brings that about, one node and one
 * step at a time; and one shard after the other, so that a new node copies one shard's data at a
 * time.
 *
 *     not a member         -> added as a learner, which gets the data
 *     a learner, caught up -> voter
 *     a member too many    -> removed; if it is the leader, another leads first (balance.c)
 */
#include "broker/shards/internal.h"

#define LAG_MAX     1000u /* entries: less is caught up in a moment */
#define ADD_REST_MS 200u

static const struct shard_member_view *find(const struct shard_member_view *list, size_t count,
                                            uint64_t id)
{
    for (size_t i = 0; i < count; i++) {
        if (list[i].id == id)
            return &list[i];
    }
    return NULL;
}

/* Has every shard before this one that node as a voter? */
static bool is_next(const struct place *place, uint64_t node_id)
{
    for (uint32_t id = 1; id < place->id; id++) {
        struct shard_member_view members[SHARD_MEMBERS_MAX];
        size_t count = shard_members(place->shards->places[id].shard, members);
        const struct shard_member_view *member = find(members, count, node_id);
        if (member == NULL || member->role != SHARD_VOTER)
            return false;
    }
    return true;
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

/* One that the catalog has. */
static bool bring_in(struct place *place, const struct shard_member_view *wanted,
                     const struct shard_member_view *member)
{
    if (member == NULL || member->role == SHARD_SPARE) {
        if (!wanted->connected || !is_next(place, wanted->id))
            return false;
        add(place, wanted);
        return true;
    }
    if (member->role == SHARD_VOTER || !caught_up(place, member))
        return false;
    place_change(place, shard_member_promote, member->id, ADD_REST_MS);
    return true;
}

static bool is_wanted(const struct core *catalog, const struct shard_member_view *member)
{
    return member != NULL && member->role == SHARD_VOTER &&
           node_duty(catalog, member->id) != NODE_LEAVING;
}

bool follow_tick(struct place *place)
{
    struct shard_member_view wanted[SHARD_MEMBERS_MAX];
    struct shard_member_view members[SHARD_MEMBERS_MAX];
    struct shards *s = place->shards;
    const struct core *catalog = shard_core(s->places[0].shard);
    size_t wanted_count = shard_members(s->places[0].shard, wanted);
    size_t count = shard_members(place->shard, members);
    for (size_t i = 0; i < wanted_count; i++) {
        if (is_wanted(catalog, &wanted[i]) &&
            bring_in(place, &wanted[i], find(members, count, wanted[i].id)))
            return true;
    }
    for (size_t i = 0; i < count; i++) {
        if (members[i].id != s->options.node_id &&
            !is_wanted(catalog, find(wanted, wanted_count, members[i].id))) {
            place_change(place, shard_member_remove, members[i].id, ADD_REST_MS);
            return true;
        }
    }
    return false;
}
