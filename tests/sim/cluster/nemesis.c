/* SPDX-License-Identifier: Apache-2.0 */
/* What goes wrong, and when. Each run has a few kinds of faults, at a rate of its own, so that many
 * runs together meet most mixtures, and some meet one kind only, but often.
 *
 * What the engine promises to survive bounds what is done to it:
 *   - Power may fail everywhere at once, and any number of processes may end.
 *   - Damage to synced bytes strikes a minority of the nodes, and never the last write to a file,
 *     since that cannot be told from a torn write (broker/log/README.md). A node that refuses to
 *     start because of it, by name, is replaced by a new one where there are several.
 *   - After a write or sync that failed the machine is started anew: what its kernel still has in
 *     memory would be a lie. */
#include "tests/sim/cluster/network.h"

#include "proto/base/assert.h"
#include "proto/base/status.h"

#include <stdlib.h>
#include <string.h>

#define REFUSALS_MAX 200

static uint64_t pause_ms; /* between two faults, about */
static unsigned refusals;

static void strike(void *data);

static struct node *choose(void)
{
    return &world.nodes[chance_between(&world.chance, 1, world.node_count)];
}

static void next_strike(void)
{
    world_after(chance_between(&world.chance, 1, pause_ms * 2) * MS, strike, NULL);
}

/* ---- nodes that are down ---- */

static void start_again(void *data)
{
    struct node *node = data;
    if (!node->up && !node->removed)
        node_start(node);
}

void nemesis_down(struct node *node)
{
    uint64_t delay_ms = chance_in(&world.chance, 4) ? 5000 : 200;
    if (world.healing)
        delay_ms = 10;
    world_after(chance_between(&world.chance, 1, delay_ms) * MS, start_again, node);
    if (world.faults[FAULT_POWER] && !world.healing && chance_in(&world.chance, 4))
        node_disk_end(node, VDISK_END_POWER); /* the machine goes down after its process */
}

void nemesis_refused(struct node *node, int status, const char *sentence)
{
    bool for_now = status == STATUS_DISK_FULL || status == STATUS_IO_ERROR;
    if (!node->damaged && !for_now)
        sim_fail("node %u refuses to start without a reason: %s", node->number, sentence);
    if (!for_now) {
        sim_say("node %u stays down: it was damaged", node->number);
        node->removed = true;
        return;
    }
    if (++refusals > REFUSALS_MAX)
        sim_fail("no progress: node %u does not start: %s", node->number, sentence);
    world_after(500 * MS, start_again, node);
}

/* ---- faults ---- */

static void kill_now(void)
{
    node_end(choose(), VDISK_END_KILL);
}

static void power_now(void)
{
    node_end(choose(), VDISK_END_POWER);
}

/* At a disk operation, which is where it hurts; those that change names are rare among them. */
static void end_soon(enum vdisk_end end)
{
    struct node *node = choose();
    bool names = chance_in(&world.chance, 2);
    if (node->up)
        vdisk_end_at(node->disk, chance_between(&world.chance, 1, names ? 6 : 40), names, end);
}

static void all_down(void)
{
    for (unsigned i = 1; i <= world.node_count; i++)
        node_end(&world.nodes[i], VDISK_END_POWER);
}

static void damage(void)
{
    char what[128];
    unsigned damaged = 0;
    for (unsigned i = 1; i <= world.node_count; i++)
        damaged += world.nodes[i].damaged;
    struct node *node = choose();
    if (damaged >= (world.node_count - 1) / 2 && !node->damaged)
        return;
    if (!vdisk_damage(node->disk, what))
        return;
    node->damaged = true;
    sim_say("node %u is damaged: %s", node->number, what);
}

static void more_space(void *data)
{
    struct node *node = data;
    sim_say("node %u has space again", node->number);
    vdisk_limit(node->disk, UINT64_MAX);
}

static void full(void)
{
    struct node *node = choose();
    vdisk_limit(node->disk, vdisk_used(node->disk) + chance_below(&world.chance, 100u << 10));
    sim_say("node %u runs out of space", node->number);
    world_after(chance_between(&world.chance, 100, 5000) * MS, more_space, node);
}

static void faster(void *data)
{
    struct node *node = data;
    vdisk_settings(node->disk)->slow_permille = 0;
}

static void slow(void)
{
    struct node *node = choose();
    vdisk_settings(node->disk)->slow_permille = (uint32_t)chance_between(&world.chance, 1, 300);
    world_after(chance_between(&world.chance, 100, 5000) * MS, faster, node);
}

static void stand_still(void)
{
    struct node *node = choose();
    uint64_t most_ms = chance_in(&world.chance, 4) ? 8000 : 500;
    node->busy_until_ns = world.now_ns + chance_below(&world.chance, most_ms) * MS;
    sim_say("node %u stands still", node->number);
}

static void jump(void)
{
    struct node *node = choose();
    int64_t most_ms = chance_in(&world.chance, 3) ? 3600000 : 10000;
    node->wall_offset_ms = (int64_t)chance_below(&world.chance, (uint64_t)most_ms * 2) - most_ms;
}

static void stop(void)
{
    node_stop(choose());
}

static void fail_soon(void)
{
    vdisk_fail_at(choose()->disk, chance_between(&world.chance, 1, 30));
}

/* ---- the network ---- */

static void mend(void *data)
{
    (void)data;
    sim_say("the network is whole");
    network_mend_all();
}

static void cut_both(unsigned a, unsigned b)
{
    network_cut(a, b, true);
    network_cut(b, a, true);
}

/* cut_sides: between the nodes whose bit is set and the others. */
static void cut_sides(uint64_t side)
{
    for (unsigned a = 1; a <= world.node_count; a++) {
        for (unsigned b = a + 1; b <= world.node_count; b++) {
            if ((side >> a & 1) != (side >> b & 1))
                cut_both(a, b);
        }
    }
}

/* cut_bridge: two sides that only one node can reach. */
static void cut_bridge(uint64_t side)
{
    unsigned bridge = (unsigned)chance_between(&world.chance, 1, world.node_count);
    for (unsigned a = 1; a <= world.node_count; a++) {
        for (unsigned b = a + 1; b <= world.node_count; b++) {
            if (a != bridge && b != bridge && (side >> a & 1) != (side >> b & 1))
                cut_both(a, b);
        }
    }
}

static void cut_one_way(void)
{
    struct node *node = choose();
    bool to = chance_in(&world.chance, 2);
    for (unsigned i = 1; i <= world.node_count; i++) {
        if (i != node->number && chance_in(&world.chance, 2))
            network_cut(to ? i : node->number, to ? node->number : i, true);
    }
}

static void partition(void)
{
    uint64_t most_ms = chance_in(&world.chance, 3) ? 15000 : 2000;
    uint64_t side = chance_next(&world.chance);
    switch (chance_below(&world.chance, 4)) {
    case 0:
        cut_sides(UINT64_C(1) << choose()->number);
        break;
    case 1:
        cut_sides(side);
        break;
    case 2:
        cut_bridge(side);
        break;
    default:
        cut_one_way();
    }
    sim_say("the network is cut");
    world_after(chance_between(&world.chance, 1, most_ms) * MS, mend, NULL);
}

/* Who was apart comes back as the leader of the others ends: it votes, and knows another time. */
static void end_rack(void *data)
{
    mend(data);
    for (unsigned i = 1; i <= world.node_count; i++) {
        if (world.nodes[i].up && world.nodes[i].led && !world.healing)
            node_end(&world.nodes[i], VDISK_END_KILL);
    }
}

static void rack(void)
{
    const struct node *apart = choose();
    cut_sides(UINT64_C(1) << apart->number);
    for (unsigned i = 1; i <= world.node_count; i++) {
        if (i != apart->number)
            node_end(&world.nodes[i], VDISK_END_POWER);
    }
    sim_say("all but node %u lose their power", apart->number);
    world_after(chance_between(&world.chance, 1000, 8000) * MS, end_rack, NULL);
}

/* ---- ambushes ---- */

struct ambush {
    struct node *node;
    uint32_t life;
};

/* In half of them it ends once more as it hears from the others: while it cuts what they lack. */
static void end_ambush(void *data)
{
    struct ambush *ambush = data;
    struct node *node = ambush->node;
    if (node->up && !world.healing && chance_in(&world.chance, 2))
        vdisk_end_at(node->disk, chance_between(&world.chance, 1, 6), true,
                     chance_in(&world.chance, 2) ? VDISK_END_POWER : VDISK_END_KILL);
    mend(NULL);
    free(ambush);
}

static void end_ambushed(void *data)
{
    const struct ambush *ambush = data;
    if (ambush->node->life == ambush->life && ambush->node->up && !world.healing)
        node_end(ambush->node, VDISK_END_KILL);
}

/* Alone, or with who leads (another, if it leads itself), so that what it has then is also there.
 */
static uint64_t company(const struct node *node)
{
    uint64_t side = UINT64_C(1) << node->number;
    if (chance_in(&world.chance, 2))
        return side;
    unsigned other = choose()->number;
    for (unsigned i = 1; i <= world.node_count && !node->led; i++) {
        if (world.nodes[i].up && world.nodes[i].led)
            other = i;
    }
    return side | UINT64_C(1) << other;
}

static void begin_ambush(void *data)
{
    struct ambush *ambush = data;
    uint64_t lasts_ms = chance_between(&world.chance, 500, 5000);
    if (world.healing) {
        free(ambush);
        return;
    }
    sim_say("node %u is cut off, at a bad moment", ambush->node->number);
    cut_sides(company(ambush->node));
    if (chance_in(&world.chance, 2))
        world_after(chance_between(&world.chance, 1, lasts_ms - 1) * MS, end_ambushed, ambush);
    world_after(lasts_ms * MS, end_ambush, ambush);
}

void nemesis_ambush(struct node *node)
{
    if (!world.faults[FAULT_AMBUSH] || world.healing || chance_in(&world.chance, 2))
        return;
    struct ambush *ambush = malloc(sizeof *ambush);
    ASSERT(ambush != NULL);
    *ambush = (struct ambush){node, node->life};
    world_after(chance_below(&world.chance, 2000) * US, begin_ambush, ambush);
}

static void break_one(void)
{
    unsigned a = choose()->number;
    unsigned b = choose()->number;
    if (a != b)
        network_break(a, b);
}

static void kill_some(void)
{
    if (chance_in(&world.chance, 2))
        kill_now();
    else
        end_soon(VDISK_END_KILL);
}

static void power_some(void)
{
    if (chance_in(&world.chance, 2))
        power_now();
    else
        end_soon(VDISK_END_POWER);
}

static void (*const strikes[FAULT_COUNT])(void) = {
    [FAULT_KILL] = kill_some, [FAULT_POWER] = power_some,    [FAULT_ALL_DOWN] = all_down,
    [FAULT_STOP] = stop,      [FAULT_EIO] = fail_soon,       [FAULT_FULL] = full,
    [FAULT_SLOW_DISK] = slow, [FAULT_PAUSE] = stand_still,   [FAULT_WALL] = jump,
    [FAULT_DAMAGE] = damage,  [FAULT_PARTITION] = partition, [FAULT_LOSS] = break_one,
    [FAULT_RACK] = rack,
};

static void strike(void *data)
{
    (void)data;
    if (world.healing)
        return;
    for (int tries = 0; tries < 50; tries++) {
        size_t fault = (size_t)chance_below(&world.chance, FAULT_COUNT);
        if (world.faults[fault] && strikes[fault] != NULL) {
            strikes[fault]();
            break;
        }
    }
    next_strike();
}

void nemesis_begin(void)
{
    static const uint64_t pauses_ms[] = {50, 300, 1000, 3000};
    pause_ms = pauses_ms[chance_below(&world.chance, ARRAY_COUNT(pauses_ms))];
    if (world.options.pace_ms > 0)
        pause_ms = world.options.pace_ms;
    next_strike();
}

void nemesis_heal(void)
{
    world.healing = true;
    network_mend_all();
    for (unsigned i = 1; i <= world.node_count; i++) {
        struct node *node = &world.nodes[i];
        vdisk_end_at(node->disk, 0, false, VDISK_END_KILL);
        vdisk_fail_at(node->disk, 0);
        vdisk_limit(node->disk, UINT64_MAX);
        vdisk_settings(node->disk)->slow_permille = 0;
        if (!node->up && !node->removed)
            world_after(10 * MS, start_again, node);
    }
}
