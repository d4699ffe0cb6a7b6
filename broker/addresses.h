/* SPDX-License-Identifier: Apache-2.0 */
/* Where members are reached, when that is not what the member list says any more: a node may be
 * started again with another --peer. It tells its address to whom it connects; the leader writes
 * that into the catalog, so that nodes that start later know it. thread: loop. */
#ifndef BROKER_ADDRESSES_H
#define BROKER_ADDRESSES_H

#include "broker/replication/shard.h"

/* Zeroed; alive until the shard is closed. */
struct addresses {
    struct shard_call call;
    bool under_way;
    uint64_t looked_ms;
};

/* addresses_watch: to be called now and then, on every node. `peers` is of broker/peer/tcp.h. */
void addresses_watch(struct addresses *addresses, struct shard *catalog, struct peers *peers,
                     uint64_t own_id, const char *own_address, uint64_t now_ms);

#endif
