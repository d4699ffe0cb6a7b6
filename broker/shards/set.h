/* SPDX-License-Identifier: Apache-2.0 */
/* Some of the shards: those that a request is about. thread: loop. */
#ifndef BROKER_SHARDS_SET_H
#define BROKER_SHARDS_SET_H

#include "broker/shards/shards.h"

struct shard_set {
    bool catalog;
    uint64_t queues; /* bit K - 1: shard K */
};
_Static_assert(QUEUE_SHARDS_MAX <= 64, "a bit for each queue shard");

void shard_set_add(struct shard_set *set, uint32_t shard);
/* shard_set_add_name: the shard of the queue that has, or would have, this name.
 * shard_set_add_queues: all that hold users' queues. Both go by what the catalog says here. */
void shard_set_add_name(struct shard_set *set, const struct shards *shards, struct slice name);
void shard_set_add_queues(struct shard_set *set, const struct shards *shards);

/* shard_set_here, shard_set_elsewhere: those of them that this node has a replica of that answers
 * requests, and the others. */
struct shard_set shard_set_here(const struct shard_set *set, const struct shards *shards);
struct shard_set shard_set_elsewhere(const struct shard_set *set, const struct shards *shards);
bool shard_set_has(const struct shard_set *set, uint32_t shard);
bool shard_set_empty(const struct shard_set *set);

bool shard_set_within(const struct shard_set *set, const struct shard_set *other);

/* shard_set_ready: each is open and ready (shard_ready). shard_set_led: this node leads each, so
 * that its state holds all that was ever answered. */
bool shard_set_ready(const struct shard_set *set, const struct shards *shards);
bool shard_set_led(const struct shard_set *set, const struct shards *shards);

/* shard_set_sync: see all that was answered in any of them, on any node, before this was called
 * (shard_sync). All are asked at the same time, but for those that this node leads. Calls back
 * once, with OK or what one that failed said; NOT_LEADER too if one is not open here. It cannot be
 * cancelled. `since_ms`: as in struct shard_sync.
 *   returns  false: none was to be asked, and `done` is not called */
typedef void (*shard_set_sync_cb)(void *data, enum status status);
MUST_CHECK bool shard_set_sync(const struct shard_set *set, const struct shards *shards,
                               uint64_t since_ms, shard_set_sync_cb done, void *data);

#endif
