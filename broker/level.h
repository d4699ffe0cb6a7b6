/* SPDX-License-Identifier: Apache-2.0 */
/* Raising the feature level of the cluster when all of its members know the next one
 * (docs/upgrades.md). thread: loop. */
#ifndef BROKER_LEVEL_H
#define BROKER_LEVEL_H

#include "broker/replication/shard.h"

/* Zeroed; alive until the shard is closed. */
struct level {
    struct shard_call call;
    bool under_way;
    bool rehearsed;
};

/* level_raise: to be called now and then, on every node: the one that leads the catalog raises
 * its level if all members are connected and know a higher one. `peers` is of broker/peer/tcp.h. */
void level_raise(struct level *level, struct shard *catalog, const struct peers *peers,
                 uint64_t own_id);

#endif
