/* SPDX-License-Identifier: Apache-2.0 */
/* The queues of all shards, as if they were in one: found by name or id, walked in name order.
 * Views are borrowed until control returns to the loop. A queue of a shard that is not open here
 * is not found: who must know asks shard_set_ready first (broker/shards/set.h). thread: loop. */
#ifndef BROKER_SHARDS_QUEUES_H
#define BROKER_SHARDS_QUEUES_H

#include "broker/shards/shards.h"

/* shards_queue_by_name: by the core's name, in the one shard that it gives (S1). */
bool shards_queue_by_name(const struct shards *shards, struct slice name, struct queue_view *out);
bool shards_queue_by_id(const struct shards *shards, uint64_t queue_id, struct queue_view *out);

/* queue_name_order: below, equal to or above 0: as the cores order names, bytes, shorter first. */
int queue_name_order(struct slice a, struct slice b);

/* A walk over all queues in name order, the broker's own among them. */
struct queue_walk {
    const struct shards *shards;
    struct slice heads[1 + QUEUE_SHARDS_MAX]; /* the next name of each shard; absent: no more */
    const struct queue_view *views;           /* the next one of those from elsewhere */
    uint32_t view_count;
};

/* queue_walk_begin: behind the name `after`, which need not exist; empty: at the first.
 * queue_walk_with: right behind it: these views of queues that are elsewhere too (look.h), in name
 * order; borrowed. queue_walk_next: false at the end. */
void queue_walk_begin(struct queue_walk *walk, const struct shards *shards, struct slice after);
void queue_walk_with(struct queue_walk *walk, const struct queue_view *views, uint32_t count,
                     struct slice after);
bool queue_walk_next(struct queue_walk *walk, struct queue_view *out);

#endif
