/* SPDX-License-Identifier: Apache-2.0 */
/* The operator: changes who the members are, one plan after the other, while all else goes wrong. A
 * plan is a few steps for one machine; a step is tried again until it is known to be done, as an
 * operator would, at whoever leads by then.
 *
 *     grow      an empty machine, under an id that was never used: add, promote
 *     shrink    remove (also the leader), and stop it a while later
 *     renew     remove, stop, wipe, and back under another id
 *     lose      the machine is gone with its disk; another comes in its place
 *     hand over the leader is told to let another lead
 *
 * One machine at a time is lost, and only where a majority of the voters is left. What is known of
 * the members in the end is what all of them must say (members_agree). */
#include "tests/sim/cluster/network.h"

#include "broker/replication/shard.h"
#include "proto/base/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define STEPS_MAX   8
#define ATTEMPT_MAX (8 * SECOND)
#define TERMS_MAX   4096
#define IDS_MAX     28u /* the network of a process knows so many */

enum step {
    STEP_END,
    STEP_STOP,
    STEP_LOSE,
    STEP_START,
    STEP_ADD,
    STEP_PROMOTE,
    STEP_REMOVE,
    STEP_HAND_OVER
};

static const enum step plans[][STEPS_MAX] = {
    {STEP_START, STEP_ADD, STEP_PROMOTE},
    {STEP_REMOVE, STEP_STOP},
    {STEP_REMOVE, STEP_STOP, STEP_START, STEP_ADD, STEP_PROMOTE},
    {STEP_LOSE, STEP_REMOVE, STEP_START, STEP_ADD, STEP_PROMOTE},
    {STEP_HAND_OVER},
};
enum { PLAN_GROW, PLAN_SHRINK, PLAN_RENEW, PLAN_LOSE, PLAN_HAND_OVER };

/* One try of a step, at one node. Never freed: a node that ended may still be pointing to it. */
struct attempt {
    struct shard_change change;
    enum step step;
    struct node *node;
    bool over;
    enum status status;
};

static struct node *machine; /* of the plan under way */
static const enum step *at;
static struct attempt *attempt;
static uint64_t last_id;
static uint64_t pause_ms;

static void go_on(void *data);

/* ---- choosing ---- */

static unsigned count_voters(void)
{
    unsigned count = 0;
    for (unsigned i = 1; i <= world.node_count; i++)
        count += world.nodes[i].voter;
    return count;
}

/* any_machine: one that is a member, or one that is not; NULL: there is none. */
static struct node *any_machine(bool member)
{
    for (unsigned tries = 0; tries < 20; tries++) {
        struct node *node = &world.nodes[chance_between(&world.chance, 1, world.node_count)];
        if (node->voter == member && node->removed == !member)
            return node;
    }
    return NULL;
}

static void choose_plan(void)
{
    size_t plan = (size_t)chance_below(&world.chance, ARRAY_COUNT(plans));
    unsigned voters = count_voters();
    if (plan == PLAN_GROW && voters >= world.options.voters_max)
        plan = PLAN_SHRINK;
    if ((plan == PLAN_LOSE && voters < 3) || (plan != PLAN_GROW && voters < 2) ||
        last_id >= IDS_MAX)
        plan = PLAN_HAND_OVER;
    machine = any_machine(plan != PLAN_GROW);
    at = machine != NULL ? plans[plan] : NULL;
    if (at != NULL)
        sim_say("the operator has plan %zu for node %u, %u vote", plan, machine->number, voters);
}

/* ---- the steps of the machine ---- */

static void leave_out(enum vdisk_end end)
{
    machine->removed = true;
    machine->voter = false;
    node_end(machine, end);
}

static void bring_in(void)
{
    if (machine->up)
        node_end(machine, VDISK_END_POWER);
    vdisk_wipe(machine->disk);
    machine->id = ++last_id;
    machine->joins = true;
    machine->removed = false;
    machine->knows_time = false;
    sim_say("node %u is empty, and has the id %" PRIu64, machine->number, machine->id);
    node_start(machine);
}

/* ---- the steps of the group ---- */

static void on_over(void *data)
{
    struct attempt *a = data;
    if (a != attempt)
        return; /* it was given up */
    attempt = NULL;
    go_on(NULL);
}

static void on_changed(struct shard_change *change, enum status status)
{
    struct attempt *a = CONTAINER_OF(change, struct attempt, change);
    a->over = true;
    a->status = status;
    world_at(sim_now_ns(), on_over, a);
}

static void begin(void *data)
{
    struct attempt *a = data;
    struct shard *shard = a->node->shard;
    if (shard == NULL || a->over)
        return;
    a->change.done = on_changed;
    if (a->step == STEP_ADD)
        shard_member_add(shard, &a->change, machine->id, node_address(machine));
    else if (a->step == STEP_PROMOTE)
        shard_member_promote(shard, &a->change, machine->id);
    else if (a->step == STEP_REMOVE)
        shard_member_remove(shard, &a->change, machine->id);
    else
        shard_transfer(shard, &a->change, chance_in(&world.chance, 2) ? machine->id : 0);
}

static void give_up(void *data)
{
    struct attempt *a = data;
    if (a->over || a != attempt)
        return;
    a->over = true;
    a->status = STATUS_CLOSED;
    on_over(a);
}

/* settle: what the attempt that has ended means; true: its step is done. */
static bool settle(const struct attempt *a)
{
    sim_say("the operator: step %d for id %" PRIu64 " at node %u: %s", (int)a->step, machine->id,
            a->node->number, status_text(a->status));
    switch (a->step) {
    case STEP_ADD:
        return a->status == STATUS_OK || a->status == STATUS_EXISTS;
    case STEP_PROMOTE:
        if (a->status == STATUS_NOT_FOUND)
            at--; /* it was added by a change that was taken back */
        machine->voter |= a->status == STATUS_OK || a->status == STATUS_EXISTS;
        return machine->voter;
    case STEP_REMOVE:
        return a->status == STATUS_OK || a->status == STATUS_NOT_FOUND;
    default:
        return true;
    }
}

static struct node *choose_node(void)
{
    for (unsigned i = 1; i <= world.node_count; i++) {
        struct node *node = &world.nodes[i];
        if (node->up && node->shard != NULL && shard_leads(node->shard) &&
            !chance_in(&world.chance, 8))
            return node;
    }
    return &world.nodes[chance_between(&world.chance, 1, world.node_count)];
}

static struct attempt *last_attempt;

static void try(void)
{
    attempt = calloc(1, sizeof *attempt);
    ASSERT(attempt != NULL);
    last_attempt = attempt;
    attempt->step = *at;
    attempt->node = choose_node();
    if (attempt->node->up)
        node_at(attempt->node, world.now_ns, begin, attempt);
    if (attempt->node->up)
        nemesis_ambush(attempt->node);
    world_after(attempt->node->up ? ATTEMPT_MAX : 100 * MS, give_up, attempt);
}

/* step: true: it is done. */
static bool step(void)
{
    bool of_machine = *at == STEP_STOP || *at == STEP_LOSE || *at == STEP_START;
    if (*at == STEP_STOP)
        leave_out(chance_in(&world.chance, 2) ? VDISK_END_POWER : VDISK_END_KILL);
    else if (*at == STEP_LOSE)
        leave_out(VDISK_END_POWER);
    else if (*at == STEP_START)
        bring_in();
    if (of_machine)
        return true;
    if (last_attempt != NULL && last_attempt->over) {
        struct attempt *ended = last_attempt;
        last_attempt = NULL;
        if (settle(ended))
            return true;
    } else {
        try();
    }
    return false;
}

static uint64_t next_ms(void)
{
    return world.healing ? chance_between(&world.chance, 10, 200)
                         : chance_between(&world.chance, 1, pause_ms);
}

static void go_on(void *data)
{
    (void)data;
    if (attempt != NULL)
        return;
    if (at == NULL && world.healing)
        return;
    if (at == NULL)
        choose_plan();
    else if (step())
        at = at[1] == STEP_END ? NULL : at + 1;
    if (attempt == NULL)
        world_after(next_ms() * MS, go_on, NULL);
}

/* ---- from outside ---- */

void members_begin(unsigned founders)
{
    static const uint64_t pauses_ms[] = {200, 1000, 4000};
    for (unsigned i = 1; i <= world.node_count; i++) {
        world.nodes[i].voter = i <= founders;
        world.nodes[i].removed = i > founders;
        world.nodes[i].id = i > founders ? 0 : i;
    }
    last_id = founders;
    pause_ms = pauses_ms[chance_below(&world.chance, ARRAY_COUNT(pauses_ms))];
    if (world.options.plan_ms > 0)
        pause_ms = world.options.plan_ms;
    if (world.faults[FAULT_MEMBERS])
        world_after(SECOND, go_on, NULL);
}

bool members_settled(void)
{
    return at == NULL;
}

/* knows: does the operator know this member of a node? */
static bool knows(const struct shard_member_view *view)
{
    for (unsigned i = 1; i <= world.node_count; i++) {
        if (world.nodes[i].id == view->id)
            return world.nodes[i].voter && view->role == SHARD_VOTER;
    }
    return false;
}

bool members_agree(bool told)
{
    struct shard_member_view views[SHARD_MEMBERS_MAX];
    bool good = true;
    for (unsigned i = 1; i <= world.node_count; i++) {
        const struct node *node = &world.nodes[i];
        if (!node->up || node->shard == NULL || node->removed || world.node_count == 1)
            continue;
        size_t count = shard_members(node->shard, views);
        bool same = count == count_voters();
        for (size_t j = 0; j < count; j++) {
            same = same && knows(&views[j]);
            if (told)
                fprintf(stderr, "node %u: %" PRIu64 ", role %d\n", i, views[j].id,
                        (int)views[j].role);
        }
        good = good && same;
    }
    return good;
}

/* ---- leaders ---- */

static uint64_t leaders[TERMS_MAX]; /* by term */

void leaders_see(struct node *node)
{
    struct shard_stats stats;
    bool leads = shard_leader(node->shard) == node->id;
    if (!leads || node->led) {
        node->led = leads;
        return;
    }
    node->led = true;
    shard_stats(node->shard, &stats);
    uint64_t *leader = &leaders[stats.term % TERMS_MAX];
    if (stats.term < TERMS_MAX && *leader != 0 && *leader != node->id)
        sim_fail("members: %" PRIu64 " and %" PRIu64 " lead in term %" PRIu64, *leader, node->id,
                 stats.term);
    *leader = node->id;
}
