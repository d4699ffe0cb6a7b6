/* SPDX-License-Identifier: Apache-2.0 */
/* What to change next about where the queue shards are: a pure function of their lists and of the
 * nodes' duties (docs/replication.md, P2, P4, P5). Whoever follows the lists sees to it that no
 * copy is given up too early (follow.c); here it is only decided where they are to be. thread: any.
 */
#ifndef BROKER_SHARDS_PLAN_H
#define BROKER_SHARDS_PLAN_H

#include "broker/shards/nodes.h"
#include "broker/shards/placement.h"

struct plan_node {
    uint64_t id;
    enum node_duty duty;
    bool reached; /* else it gets nothing new */
};

struct plan_shard {
    struct replica_list list;
    bool moves; /* it is not yet as its list says: nothing else is changed about it */
    bool lame;  /* one of its nodes is down: it is not moved to even out loads */
};

/* Nodes that are listed and not among `nodes` are no members of the cluster: as good as leaving. */
struct plan {
    const struct plan_node *nodes; /* voters of the catalog */
    size_t node_count;
    const struct plan_shard *shards;
    size_t shard_count;
    uint32_t replication; /* > 0 */
};

/* plan_next: one change: `shards[*shard]` is to have the list *out (with the version of the old
 * one). False: all is as it should be, or has to wait for what moves.
 *
 * In this order, by rule:
 *   1  a shard with fewer active replicas than there should be gets one, on the node with the
 *      fewest
 *   2  one that has enough gives up those on nodes that are not active, then those in excess
 *   3  a replica goes from a node with many to one with at least two fewer
 *   4  a shard is led by another of its nodes, where that evens out how many each leads */
bool plan_next(const struct plan *plan, size_t *shard, struct replica_list *out);

#endif
