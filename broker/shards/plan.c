/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/shards/plan.h"

#include "broker/core/place.h"
#include "proto/base/assert.h"

#include <string.h>

/* ---- counting ---- */

static bool is_active(const struct plan *plan, uint64_t node_id)
{
    for (size_t i = 0; i < plan->node_count; i++) {
        if (plan->nodes[i].id == node_id)
            return plan->nodes[i].duty == NODE_ACTIVE;
    }
    return false;
}

/* A drained node keeps what nobody else could take; one that is leaving does not. */
static bool is_drained(const struct plan *plan, uint64_t node_id)
{
    for (size_t i = 0; i < plan->node_count; i++) {
        if (plan->nodes[i].id == node_id)
            return plan->nodes[i].duty == NODE_DRAINED;
    }
    return false;
}

static size_t count_active(const struct plan *plan, const struct replica_list *list)
{
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++)
        count += !list->at[i].leaving && is_active(plan, list->at[i].node_id);
    return count;
}

/* How many shards are to be on that node. */
static size_t load_of(const struct plan *plan, uint64_t node_id)
{
    size_t load = 0;
    for (size_t i = 0; i < plan->shard_count; i++) {
        const struct replica *one = replicas_find(&plan->shards[i].list, node_id);
        load += one != NULL && !one->leaving;
    }
    return load;
}

/* Who is to lead; 0: none of them is active. */
static uint64_t leader_of(const struct plan *plan, const struct replica_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (!list->at[i].leaving && is_active(plan, list->at[i].node_id))
            return list->at[i].node_id;
    }
    return 0;
}

/* For each node how many shards are to be on it, or that it is to lead: rules 3 and 4 look at all
 * pairs of nodes. */
struct counts {
    size_t of[SHARD_MEMBERS_MAX];
};

static struct counts count_loads(const struct plan *plan)
{
    struct counts loads;
    for (size_t i = 0; i < plan->node_count; i++)
        loads.of[i] = load_of(plan, plan->nodes[i].id);
    return loads;
}

/* The same from the other side: which node is to lead each shard; node_count: none. */
struct leaders {
    size_t of[QUEUE_SHARDS_MAX];
};

static struct leaders find_leaders(const struct plan *plan)
{
    struct leaders leaders;
    for (size_t k = 0; k < plan->shard_count; k++) {
        uint64_t leader = leader_of(plan, &plan->shards[k].list);
        size_t i = 0;
        while (i < plan->node_count && plan->nodes[i].id != leader)
            i++;
        leaders.of[k] = i;
    }
    return leaders;
}

static struct counts count_leads(const struct plan *plan, const struct leaders *leaders)
{
    struct counts leads = {{0}};
    for (size_t k = 0; k < plan->shard_count; k++) {
        if (leaders->of[k] < plan->node_count)
            leads.of[leaders->of[k]]++;
    }
    return leads;
}

/* ---- changing a list ---- */

/* Before those that are leaving. */
static void add(struct replica_list *list, uint64_t node_id)
{
    size_t at = list->count++;
    ASSERT(at < SHARD_MEMBERS_MAX);
    for (; at > 0 && list->at[at - 1].leaving; at--)
        list->at[at] = list->at[at - 1];
    list->at[at] = (struct replica){.node_id = node_id};
}

static void let_go(struct replica_list *list, uint64_t node_id)
{
    replicas_drop(list, node_id);
    list->at[list->count++] = (struct replica){.node_id = node_id, .leaving = true};
}

static void lead(struct replica_list *list, uint64_t node_id)
{
    replicas_drop(list, node_id);
    memmove(&list->at[1], &list->at[0], list->count * sizeof list->at[0]);
    list->at[0] = (struct replica){.node_id = node_id};
    list->count++;
}

/* ---- rule 1: too few ---- */

/* The active node that can be reached, with the fewest shards, that is not in the list in any way
 * (P4); 0: none, or the list is full of nodes that have not let go yet. */
static uint64_t candidate(const struct plan *plan, const struct replica_list *list)
{
    uint64_t best = 0;
    size_t best_load = 0;
    if (list->count == SHARD_MEMBERS_MAX)
        return 0;
    for (size_t i = 0; i < plan->node_count; i++) {
        const struct plan_node *node = &plan->nodes[i];
        if (node->duty != NODE_ACTIVE || !node->reached || replicas_find(list, node->id) != NULL)
            continue;
        size_t load = load_of(plan, node->id);
        if (best == 0 || load < best_load) {
            best = node->id;
            best_load = load;
        }
    }
    return best;
}

static bool add_one(const struct plan *plan, struct replica_list *list)
{
    if (count_active(plan, list) >= plan->replication)
        return false;
    uint64_t node_id = candidate(plan, list);
    if (node_id != 0)
        add(list, node_id);
    return node_id != 0;
}

/* ---- rule 2: too many ---- */

/* One on a node that is not active; 0: none that may go. Where there are too few active ones, and
 * no more can be had, a drained node keeps its replica, and of those that are leaving the last copy
 * stays. */
static uint64_t inactive(const struct plan *plan, const struct replica_list *list)
{
    bool enough = count_active(plan, list) >= plan->replication;
    size_t others = 0;
    uint64_t leaving = 0;
    for (size_t i = 0; i < list->count; i++) {
        uint64_t node_id = list->at[i].node_id;
        if (list->at[i].leaving)
            continue;
        if (is_active(plan, node_id) || (is_drained(plan, node_id) && !enough))
            others++;
        else
            leaving = node_id;
    }
    return others > 0 ? leaving : 0;
}

static uint64_t most_loaded(const struct plan *plan, const struct replica_list *list)
{
    uint64_t best = 0;
    size_t best_load = 0;
    for (size_t i = 0; i < list->count; i++) {
        size_t load = load_of(plan, list->at[i].node_id);
        if (list->at[i].leaving || load < best_load || !is_active(plan, list->at[i].node_id))
            continue;
        best = list->at[i].node_id;
        best_load = load;
    }
    return best;
}

static bool give_up_one(const struct plan *plan, struct replica_list *list)
{
    uint64_t node_id = inactive(plan, list);
    if (node_id == 0 && count_active(plan, list) > plan->replication)
        node_id = most_loaded(plan, list);
    if (node_id == 0)
        return false;
    let_go(list, node_id);
    return true;
}

/* ---- rule 3: even loads ---- */

static bool move_one(const struct plan *plan, uint64_t from, uint64_t to, size_t *shard,
                     struct replica_list *out)
{
    for (size_t i = 0; i < plan->shard_count; i++) {
        const struct replica_list *list = &plan->shards[i].list;
        const struct replica *one = replicas_find(list, from);
        if (plan->shards[i].moves || plan->shards[i].lame || one == NULL || one->leaving ||
            replicas_find(list, to) != NULL || list->count == SHARD_MEMBERS_MAX)
            continue;
        *shard = i;
        *out = *list;
        add(out, to);
        let_go(out, from);
        return true;
    }
    return false;
}

static bool even_loads(const struct plan *plan, size_t *shard, struct replica_list *out)
{
    const struct counts loads = count_loads(plan);
    size_t widest = plan->shard_count;
    for (size_t gap = widest; gap >= 2; gap--) {
        for (size_t i = 0; i < plan->node_count * plan->node_count; i++) {
            size_t a = i / plan->node_count;
            size_t b = i % plan->node_count;
            const struct plan_node *from = &plan->nodes[a];
            const struct plan_node *to = &plan->nodes[b];
            if (loads.of[a] == loads.of[b] + gap && from->duty == NODE_ACTIVE &&
                to->duty == NODE_ACTIVE && to->reached &&
                move_one(plan, from->id, to->id, shard, out))
                return true;
        }
    }
    return false;
}

/* ---- rule 4: even leaders ---- */

/* A way from a node that leads many to one that leads few, along shards that the one leads and the
 * next could: of it the last step is made, and the next call finds the rest, which is shorter. */
struct way {
    bool seen;
    size_t shard; /* by which it was reached */
};

static bool could_lead(const struct plan_shard *shard, uint64_t node_id)
{
    const struct replica *one = replicas_find(&shard->list, node_id);
    return one != NULL && !one->leaving && !shard->moves;
}

/* Nodes in the order in which they were reached. */
struct reached {
    size_t of[SHARD_MEMBERS_MAX];
    size_t count;
};

/* Reach those that could lead this shard. */
static void go_along(const struct plan *plan, size_t shard, struct way *ways,
                     struct reached *reached)
{
    for (size_t node = 0; node < plan->node_count; node++) {
        if (ways[node].seen || plan->nodes[node].duty != NODE_ACTIVE ||
            !could_lead(&plan->shards[shard], plan->nodes[node].id))
            continue;
        ways[node] = (struct way){.seen = true, .shard = shard};
        reached->of[reached->count++] = node;
    }
}

/* Fills `ways` from the node on, nearest first. Each shard is gone along once, from its leader. */
static struct reached find_ways(const struct plan *plan, const struct leaders *leaders,
                                size_t start, struct way *ways)
{
    struct reached reached = {.of = {start}, .count = 1};
    memset(ways, 0, plan->node_count * sizeof *ways);
    ways[start].seen = true;
    for (size_t at = 0; at < reached.count; at++) {
        for (size_t shard = 0; shard < plan->shard_count; shard++) {
            if (leaders->of[shard] == reached.of[at])
                go_along(plan, shard, ways, &reached);
        }
    }
    return reached;
}

/* The first of them that leads at most `few`; node_count: none. */
static size_t first_with(const struct plan *plan, const struct counts *leads,
                         const struct reached *reached, size_t few)
{
    for (size_t i = 1; i < reached->count; i++) {
        if (leads->of[reached->of[i]] <= few)
            return reached->of[i];
    }
    return plan->node_count;
}

static bool even_leaders(const struct plan *plan, size_t *shard, struct replica_list *out)
{
    struct way ways[SHARD_MEMBERS_MAX];
    const struct leaders leaders = find_leaders(plan);
    const struct counts leads = count_leads(plan, &leaders);
    for (size_t most = plan->shard_count; most >= 2; most--) {
        for (size_t i = 0; i < plan->node_count; i++) {
            if (leads.of[i] != most)
                continue;
            const struct reached reached = find_ways(plan, &leaders, i, ways);
            size_t end = first_with(plan, &leads, &reached, most - 2);
            if (end == plan->node_count)
                continue;
            *shard = ways[end].shard;
            *out = plan->shards[*shard].list;
            lead(out, plan->nodes[end].id);
            return true;
        }
    }
    return false;
}

/* ---- in order ---- */

bool plan_next(const struct plan *plan, size_t *shard, struct replica_list *out)
{
    static bool (*const rules[])(const struct plan *, struct replica_list *) = {add_one,
                                                                                give_up_one};
    ASSERT(plan->replication > 0);
    ASSERT(plan->node_count <= SHARD_MEMBERS_MAX);
    ASSERT(plan->shard_count <= QUEUE_SHARDS_MAX);
    for (size_t i = 0; i < ARRAY_COUNT(rules) * plan->shard_count; i++) {
        const struct plan_shard *one = &plan->shards[i % plan->shard_count];
        *shard = i % plan->shard_count;
        *out = one->list;
        if (!one->moves && rules[i / plan->shard_count](plan, out))
            return true;
    }
    return even_loads(plan, shard, out) || even_leaders(plan, shard, out);
}
