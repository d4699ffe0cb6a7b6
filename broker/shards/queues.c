/* SPDX-License-Identifier: Apache-2.0 */
/* Each shard's core keeps its queues in name order; a walk merges those orders, a step of it takes
 * the least of as many names as there are shards. */
#include "broker/shards/queues.h"

#include "proto/base/assert.h"

bool shards_queue_by_name(const struct shards *shards, struct slice name, struct queue_view *out)
{
    const struct shard *shard = shards_of_name(shards, name);
    return shard != NULL && core_queue_by_name(shard_core(shard), name, out);
}

bool shards_queue_by_id(const struct shards *shards, uint64_t queue_id, struct queue_view *out)
{
    const struct shard *shard = shards_of_queue(shards, queue_id);
    return shard != NULL && core_queue_by_id(shard_core(shard), queue_id, out);
}

uint64_t shards_queue_count(const struct shards *shards, struct slice prefix)
{
    uint64_t count = 0;
    for (uint32_t id = 0; id < shards_total(shards); id++) {
        const struct shard *shard = shards_at(shards, id);
        count += shard != NULL ? core_queue_count(shard_core(shard), prefix) : 0;
    }
    return count;
}

static void head_begin(struct queue_walk *walk, uint32_t id, struct slice after)
{
    const struct shard *shard = shards_at(walk->shards, id);
    walk->heads[id] = (struct slice){0};
    if (shard == NULL)
        return;
    const struct core *core = shard_core(shard);
    size_t position = core_queue_from(core, after);
    if (after.length > 0 && slice_equal(core_queue_name_at(core, position), after))
        position++;
    walk->positions[id] = position;
    walk->heads[id] = core_queue_name_at(core, position);
}

void queue_walk_begin(struct queue_walk *walk, const struct shards *shards, struct slice after)
{
    walk->shards = shards;
    walk->view_count = 0;
    for (uint32_t shard = 0; shard < shards_total(shards); shard++)
        head_begin(walk, shard, after);
}

int queue_name_order(struct slice a, struct slice b)
{
    int order = memcmp(a.data, b.data, a.length < b.length ? a.length : b.length);
    return order != 0 ? order : (a.length > b.length) - (a.length < b.length);
}

static bool before(struct slice a, struct slice b)
{
    return queue_name_order(a, b) < 0;
}

static void drop_view(struct queue_walk *walk)
{
    walk->views++;
    walk->view_count--;
}

void queue_walk_with(struct queue_walk *walk, const struct queue_view *views, uint32_t count,
                     struct slice after)
{
    walk->views = views;
    walk->view_count = count;
    while (walk->view_count > 0 && after.length > 0 && !before(after, walk->views->name))
        drop_view(walk);
}

bool queue_walk_next(struct queue_walk *walk, struct queue_view *out)
{
    uint32_t count = shards_total(walk->shards);
    uint32_t first = count;
    for (uint32_t shard = 0; shard < count; shard++) {
        struct slice head = walk->heads[shard];
        if (head.data != NULL && (first == count || before(head, walk->heads[first])))
            first = shard;
    }
    /* A shard that has come here meanwhile says it itself. */
    if (walk->view_count > 0 && first < count && slice_equal(walk->views->name, walk->heads[first]))
        drop_view(walk);
    if (walk->view_count > 0 && (first == count || before(walk->views->name, walk->heads[first]))) {
        *out = *walk->views;
        drop_view(walk);
        return true;
    }
    if (first == count)
        return false;
    const struct core *core = shard_core(shards_at(walk->shards, first));
    bool there = core_queue_at(core, walk->positions[first]++, out);
    ASSERT(there);
    walk->heads[first] = core_queue_name_at(core, walk->positions[first]);
    return true;
}
