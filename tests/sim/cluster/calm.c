/* SPDX-License-Identifier: Apache-2.0 */
/* For how long nothing has been in the way of a node's calls: it follows one leader in one term,
 * both run, and their connection is whole. Seen at each turn of its loop, which comes several times
 * a second; who did not turn for a second stood still. */
#include "tests/sim/cluster/network.h"

#include "broker/replication/internal.h"

static struct calm {
    uint64_t leader; /* 0: none, or the node could not answer */
    uint64_t term;
    uint64_t since_ns;
    uint64_t seen_ns;
    uint32_t life;
} calms[NODES_MAX + 1]; /* by number */

void calm_see(const struct node *node)
{
    struct calm *c = &calms[node->number];
    const struct shard *shard = node->shard;
    uint64_t leader = shard_ready(shard) ? shard_leader(shard) : 0;
    if (leader == node->id && !shard_leads(shard))
        leader = 0;
    if (c->leader != leader || c->term != shard->raft.current_term || c->life != node->life ||
        world.now_ns - c->seen_ns >= SECOND)
        c->since_ns = world.now_ns;
    c->leader = leader;
    c->term = shard->raft.current_term;
    c->life = node->life;
    c->seen_ns = world.now_ns;
}

static uint64_t since(const struct node *node)
{
    const struct calm *c = &calms[node->number];
    bool runs = node->up && node->shard != NULL && c->leader != 0 && c->life == node->life &&
                world.now_ns - c->seen_ns < SECOND;
    return runs ? c->since_ns : world.now_ns;
}

uint64_t calm_since_ns(const struct node *node)
{
    uint64_t own_ns = since(node);
    if (calms[node->number].leader == node->id)
        return own_ns;
    for (unsigned i = 1; i <= world.node_count; i++) {
        const struct node *leader = &world.nodes[i];
        const struct calm *c = &calms[i];
        if (c->leader != leader->id || c->leader != calms[node->number].leader ||
            c->term != calms[node->number].term)
            continue;
        uint64_t leader_ns = since(leader);
        uint64_t link_ns = network_whole_ns(node->number, i);
        uint64_t latest_ns = own_ns > leader_ns ? own_ns : leader_ns;
        return latest_ns > link_ns ? latest_ns : link_ns;
    }
    return world.now_ns;
}
