/* SPDX-License-Identifier: Apache-2.0 */
/* What functions used for queues of shards that are not here, as far as this node has asked: the
 * tallies of such a shard are fetched as a whole, and kept until the next time. thread: loop. */
#ifndef BROKER_SHARDS_TALLIES_H
#define BROKER_SHARDS_TALLIES_H

#include "broker/shards/shards.h"

/* tallies_fetch: ask for those of all shards that are not here. `done` runs once they have come, or
 * will not in time: what was known of a shard stays then, so that counters do not go back. It
 * cannot be cancelled.
 *   returns  false: all shards are here; `done` is not called */
MUST_CHECK bool tallies_fetch(struct shards *shards, void (*done)(void *data), void *data);

/* tallies_next: walk the function ids of one shard, here or not, in order, from `after` 0. */
bool tallies_next(const struct shards *shards, uint32_t shard_id, uint64_t after,
                  uint64_t *function_id);

#endif
