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

static void head_move(struct queue_walk *walk, uint32_t shard, struct slice after)
{
    struct queue_view view;
    const struct shard *here = shards_at(walk->shards, shard);
    bool more = here != NULL && core_queue_next(shard_core(here), after, &view);
    walk->heads[shard] = more ? view.name : (struct slice){0};
}

void queue_walk_begin(struct queue_walk *walk, const struct shards *shards, struct slice after)
{
    walk->shards = shards;
    walk->view_count = 0;
    for (uint32_t shard = 0; shard < shards_total(shards); shard++)
        head_move(walk, shard, after);
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
    struct slice name = walk->heads[first];
    bool there = core_queue_by_name(shard_core(shards_at(walk->shards, first)), name, out);
    ASSERT(there);
    head_move(walk, first, name);
    return true;
}
