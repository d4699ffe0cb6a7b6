/* SPDX-License-Identifier: Apache-2.0 */
/* Which shard a queue lives in. It follows from the queue's name, so that creating one needs no
 * second commit in the catalog and nothing can point at the wrong place; and it stands in the
 * queue's id, so that ids are unique in the cluster and lead back to the shard. The number of
 * shards is fixed when a cluster begins (docs/decisions.md). thread: any. */
#ifndef BROKER_CORE_PLACE_H
#define BROKER_CORE_PLACE_H

#include "proto/base/slice.h"

#include <stdint.h>

#define QUEUE_SHARDS_MAX 64u
#define QUEUE_ID_MAX     ((uint64_t)(QUEUE_SHARDS_MAX + 1) << 32)

/* shard_of_queue_name: 1 to `queue_shards`, or 0, the catalog: for the broker's own queues, whose
 * names begin with '/', and for all while there are no queue shards. `name` is the core's (with its
 * region, where regions are separate). On disk by its effects: never change it. */
uint32_t shard_of_queue_name(struct slice name, uint32_t queue_shards);

/* queue_id_make: the `number`th queue, from 1, that a shard made. */
static inline uint64_t queue_id_make(uint32_t shard, uint64_t number)
{
    return (uint64_t)shard << 32 | number;
}

static inline uint32_t shard_of_queue_id(uint64_t queue_id)
{
    return (uint32_t)(queue_id >> 32);
}

#endif
