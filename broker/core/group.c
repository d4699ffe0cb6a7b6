/* SPDX-License-Identifier: Apache-2.0 */
/* Message groups. In a FIFO queue a group's lane has all its messages in order of sending, and the
 * group gives out nothing while one of them is in flight: that is the whole of the ordering rule.
 * In a standard queue a group is a tenant; its lane has its visible messages, and what its count of
 * messages in flight decides is only whether others go first (receive.c).
 *
 * The groups that have something to give out stand in the queue's heap of offers, by the seq of
 * what they would give. Standard messages without a group touch nothing of this. */
#include "broker/core/group.h"

#include "broker/core/foresee.h"
#include "broker/core/limits.h"
#include "broker/core/state.h"

#include <stdlib.h>

struct slice group_id(const struct group *group)
{
    return group != NULL ? slice_make(group->id, group->id_length) : (struct slice){0};
}

static uint32_t index_take(struct core *core)
{
    if (core->free_group_count > 0)
        return core->free_groups[--core->free_group_count];
    if (core->group_count == core->group_capacity) {
        ASSERT(core->group_capacity <= UINT32_MAX / 4);
        uint32_t capacity = core->group_capacity == 0 ? 16 : core->group_capacity * 2;
        core->groups = realloc(core->groups, capacity * sizeof core->groups[0]);
        core->free_groups = realloc(core->free_groups, capacity * sizeof core->free_groups[0]);
        ASSERT(core->groups != NULL);
        ASSERT(core->free_groups != NULL);
        core->group_capacity = capacity;
        if (core->group_count == 0)
            core->groups[core->group_count++] = NULL; /* 0 is no group */
    }
    return core->group_count++;
}

uint32_t group_hash(struct siphash_key hash_key, struct slice id)
{
    return (uint32_t)(siphash(hash_key, id) >> 32);
}

static struct group *group_find(const struct core *core, const struct groups *groups,
                                struct slice id, uint32_t hash)
{
    struct hashes_walk walk = hashes_begin(&groups->by_id, hash);
    for (uint32_t index; hashes_next(&walk, &index);) {
        struct group *group = core->groups[index];
        if (slice_equal(group_id(group), id))
            return group;
    }
    return NULL;
}

static struct group *group_add(struct core *core, struct groups *groups, struct slice id,
                               uint32_t hash)
{
    ASSERT(id.length <= UINT8_MAX);
    struct group *group = malloc(sizeof *group + id.length);
    ASSERT(group != NULL);
    *group = (struct group){.index = index_take(core),
                            .offer_at = POSITION_NONE,
                            .hash = hash,
                            .id_length = (uint8_t)id.length};
    memcpy(group->id, id.data, id.length);
    lane_init(&group->lane, LANE_READY);
    core->groups[group->index] = group;
    DL_APPEND(groups->list, group);
    hashes_add(&groups->by_id, hash, group->index);
    groups->count++;
    return group;
}

uint32_t group_join(struct core *core, struct queue *queue, struct slice id,
                    const struct send_hashes *hashes)
{
    struct groups *groups = &queue->groups;
    if (id.length == 0)
        return 0;
    if (groups->count == 0)
        groups->hash_key = core_hash_key(core);
    bool known = hashes != NULL && siphash_key_equal(hashes->key, groups->hash_key);
    uint32_t hash = known ? hashes->group : group_hash(groups->hash_key, id);
    struct group *group = group_find(core, groups, id, hash);
    if (group == NULL)
        group = group_add(core, groups, id, hash);
    group->messages++;
    return group->index;
}

const struct group *group_named(const struct core *core, const struct queue *queue, struct slice id)
{
    const struct groups *groups = &queue->groups;
    if (groups->count == 0 || id.length == 0)
        return NULL;
    return group_find(core, groups, id, group_hash(groups->hash_key, id));
}

struct group *group_of(const struct core *core, const struct message *message)
{
    return message->group != 0 ? core->groups[message->group] : NULL;
}

static void group_free(struct core *core, struct group *group)
{
    core->groups[group->index] = NULL;
    core->free_groups[core->free_group_count++] = group->index;
    lane_deinit(&group->lane);
    free(group);
}

void groups_free(struct core *core, struct groups *groups)
{
    struct group *group;
    struct group *next;
    DL_FOREACH_SAFE(groups->list, group, next)
    {
        group_free(core, group);
    }
    hashes_free(&groups->by_id);
    *groups = (struct groups){0};
}

void group_leave(struct core *core, struct queue *queue, struct group *group)
{
    struct groups *groups = &queue->groups;
    ASSERT(group->messages > 0);
    if (--group->messages > 0)
        return;
    ASSERT(group->in_flight == 0);
    if (group->offer_at != POSITION_NONE)
        heap_remove(&queue->offers, group->offer_at);
    DL_DELETE(groups->list, group);
    hashes_remove(&groups->by_id, group->hash, group->index);
    group_free(core, group);
    if (--groups->count == 0)
        groups_free(core, groups);
}

uint32_t group_head(const struct core *core, const struct queue *queue, const struct group *group)
{
    if (!queue->view.settings.fifo)
        return lane_least(&group->lane, &core->messages);
    uint32_t first = group->lane.first;
    if (group->in_flight > 0 || first == MESSAGE_NONE)
        return MESSAGE_NONE;
    return message_at(&core->messages, first)->state == MESSAGE_VISIBLE ? first : MESSAGE_NONE;
}

void group_follow(struct core *core, struct queue *queue, struct group *group)
{
    uint32_t head = group_head(core, queue, group);
    if (head == MESSAGE_NONE) {
        if (group->offer_at != POSITION_NONE)
            heap_remove(&queue->offers, group->offer_at);
        group->offer_at = POSITION_NONE;
        return;
    }
    uint64_t seq = message_at(&core->messages, head)->seq;
    if (group->offer_at == POSITION_NONE)
        heap_push(&queue->offers, seq, 0, group->index);
    else if (queue->offers.entries[group->offer_at].key != seq)
        heap_set_key(&queue->offers, group->offer_at, seq);
}

void group_follow_shown(struct core *core, struct queue *queue, struct group *group, uint32_t index)
{
    /* A FIFO group that offers something offers its first message, and goes on doing so. */
    bool same =
        queue->view.settings.fifo && group->offer_at != POSITION_NONE && group->lane.first != index;
    if (!same)
        group_follow(core, queue, group);
}

struct group *group_offered(const struct core *core, const struct queue *queue)
{
    return queue->offers.count > 0 ? core->groups[queue->offers.entries[0].item] : NULL;
}

bool group_is_noisy(const struct queue *queue, const struct group *group)
{
    return group->in_flight >= NOISY_IN_FLIGHT_MIN &&
           (uint64_t)group->in_flight * NOISY_SHARE > queue->view.in_flight;
}
