/* SPDX-License-Identifier: Apache-2.0 */
/* On which nodes a shard is, as this node goes by it. */
#include "broker/shards/internal.h"

/* In the order of their ids. */
static void insert(struct replica_list *list, uint64_t node_id)
{
    size_t at = list->count++;
    for (; at > 0 && list->at[at - 1].node_id > node_id; at--)
        list->at[at] = list->at[at - 1];
    list->at[at] = (struct replica){.node_id = node_id};
}

/* Let the K-th active one be the first. */
static void turn(const struct core *catalog, uint32_t shard, struct replica_list *list)
{
    struct replica_list turned = {0};
    uint32_t active = 0;
    for (size_t i = 0; i < list->count; i++)
        active += node_duty(catalog, list->at[i].node_id) == NODE_ACTIVE;
    size_t first = 0;
    for (uint32_t skip = active > 0 ? shard % active : 0; active > 0 && first < list->count;
         first++) {
        if (node_duty(catalog, list->at[first].node_id) == NODE_ACTIVE && skip-- == 0)
            break;
    }
    for (size_t i = 0; i < list->count; i++)
        turned.at[turned.count++] = list->at[(first + i) % list->count];
    *list = turned;
}

void replicas_of(const struct shards *s, uint32_t shard, struct replica_list *out)
{
    struct shard_member_view members[SHARD_MEMBERS_MAX];
    const struct core *catalog = shard_core(s->places[0].shard);
    if (shard > 0 && replicas_get(catalog, shard, out))
        return;
    *out = (struct replica_list){0};
    size_t count = shard_members(s->places[0].shard, members);
    for (size_t i = 0; i < count; i++) {
        if (members[i].role == SHARD_VOTER && node_duty(catalog, members[i].id) != NODE_LEAVING)
            insert(out, members[i].id);
    }
    if (shard > 0 && out->count > 0)
        turn(catalog, shard, out);
}

size_t shards_replicas(const struct shards *s, uint32_t shard, uint64_t *out, size_t max)
{
    struct replica_list list;
    size_t count = 0;
    if (s->places[0].shard == NULL)
        return 0; /* the catalog has been closed */
    replicas_of(s, shard, &list);
    for (size_t i = 0; i < list.count && count < max; i++) {
        if (!list.at[i].leaving)
            out[count++] = list.at[i].node_id;
    }
    return count;
}

bool place_is_listed(const struct place *place)
{
    struct replica_list list;
    replicas_of(place->shards, place->id, &list);
    const struct replica *own = replicas_find(&list, place->shards->options.node_id);
    return own != NULL && !own->leaving;
}

static bool has_vote(const struct place *place)
{
    struct shard_member_view members[SHARD_MEMBERS_MAX];
    size_t count = shard_members(place->shard, members);
    for (size_t i = 0; i < count; i++) {
        if (members[i].id == place->shards->options.node_id)
            return members[i].role == SHARD_VOTER;
    }
    return false;
}

bool place_serves(const struct place *place)
{
    struct replica_list list;
    if (place->id == 0 || place->shard == NULL)
        return place->shard != NULL;
    replicas_of(place->shards, place->id, &list);
    const struct replica *own = replicas_find(&list, place->shards->options.node_id);
    return (own == NULL || !own->leaving) && has_vote(place);
}
