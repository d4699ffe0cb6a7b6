/* SPDX-License-Identifier: Apache-2.0 */
/* All replicas that applied the same index have the same state: the digest that a node had first at
 * an index is what every other node, and every later life of a node, must have there. So it is with
 * the members that the logs up to there make. */
#include "tests/sim/cluster/world.h"

#include "broker/replication/internal.h"
#include "proto/base/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_EVERY 64u

/* By index; 0: not seen. */
static uint64_t *digests;
static uint64_t *members; /* who they are, as of the node whose log ended there first */
static size_t capacity;

static void make_room(uint64_t index)
{
    if (index < capacity)
        return;
    size_t more = (size_t)index * 2 + 256;
    digests = realloc(digests, more * sizeof *digests);
    members = realloc(members, more * sizeof *members);
    ASSERT(digests != NULL);
    ASSERT(members != NULL);
    memset(digests + capacity, 0, (more - capacity) * sizeof *digests);
    memset(members + capacity, 0, (more - capacity) * sizeof *members);
    capacity = more;
}

/* members_of: in any order. */
static uint64_t members_of(const struct node *node)
{
    struct shard_member_view views[SHARD_MEMBERS_MAX];
    size_t count = shard_members(node->shard, views);
    uint64_t sum = count + 1;
    for (size_t i = 0; i < count; i++) {
        struct chance chance = {views[i].id << 2 | (uint64_t)views[i].role};
        sum += chance_next(&chance);
    }
    return sum;
}

/* members_see: of a node that has nothing in its log behind what it has applied. A snapshot may
 * have told it of a change that stands behind that, and is committed. */
static void members_see(const struct node *node, uint64_t index)
{
    const struct raft *raft = &node->shard->raft;
    if (world.node_count == 1 || guard_last_index(raft) != index ||
        raft->configuration_index > index)
        return;
    uint64_t sum = members_of(node);
    if (members[index] == 0)
        members[index] = sum;
    else if (members[index] != sum)
        sim_fail("members: node %u believes in others after entry %" PRIu64
                 " than another node did",
                 node->number, index);
}

void digests_see(struct node *node)
{
    const struct core *core = shard_core(node->shard);
    uint64_t index = core_applied_index(core);
    if (index == 0 || index == node->applied_seen)
        return;
    if (index < node->applied_seen)
        sim_fail("node %u went back from entry %" PRIu64 " to %" PRIu64, node->number,
                 node->applied_seen, index);
    node->applied_seen = index;
    make_room(index);
    uint64_t digest = core_digest(core);
    if (digests[index] == 0)
        digests[index] = digest;
    else if (digests[index] != digest)
        sim_fail("node %u has another state after entry %" PRIu64 " than was seen before",
                 node->number, index);
    members_see(node, index);
    if (index % CHECK_EVERY == 0)
        core_check(core);
}

void digests_tell(void)
{
    for (unsigned i = 1; i <= world.node_count; i++) {
        const struct node *node = &world.nodes[i];
        struct shard_stats stats = {0};
        if (node->shard != NULL)
            shard_stats(node->shard, &stats);
        fprintf(stderr,
                "node %u: %s, applied %" PRIu64 ", term %" PRIu64 ", last %" PRIu64
                ", snapshot %" PRIu64 ", leader %" PRIu64 "\n",
                i,
                node->removed ? "damaged"
                : node->up    ? "up"
                              : "down",
                stats.applied_index, stats.term, stats.last_index, stats.snapshot_index,
                node->shard != NULL ? shard_leader(node->shard) : 0);
    }
}

bool digests_settled(void)
{
    uint64_t first = 0;
    for (unsigned i = 1; i <= world.node_count; i++) {
        const struct node *node = &world.nodes[i];
        if (!node->up || node->shard == NULL || node->removed)
            continue;
        if (first != 0 && node->applied_seen != first)
            return false;
        first = node->applied_seen;
    }
    return true;
}
