/* SPDX-License-Identifier: Apache-2.0 */
/* A node: a machine with a disk and clocks, and at times a process with a shard. */
#include "tests/sim/cluster/network.h"

#include "broker/log/log.h"
#include "broker/replication/internal.h"
#include "proto/base/assert.h"

#include <stdio.h>
#include <stdlib.h>

/* So small that a short run has many segments and snapshots. */
#define SEGMENT_BYTES     (8u << 10)
#define SHARD_ID          0 /* of a cluster without queue shards: all queues are its own */
#define TURNS_IN          (100 * MS)
#define TURNS_MAX         4000u
#define SIM_RESERVE_BYTES (64u << 10)

struct node *current;
static jmp_buf escape;
static uint64_t spent;
static enum vdisk_end ended;

/* ---- entering and leaving ---- */

void sim_spend(uint64_t ns)
{
    spent += ns;
}

uint64_t sim_now_ns(void)
{
    return world.now_ns + (current != NULL ? spent : 0);
}

void sim_end_node(enum vdisk_end end)
{
    ASSERT(current != NULL);
    ended = end;
    longjmp(escape, 1);
}

/* note_epoch: where so many machines do not know the time that they can elect a leader without the
 * others, time may begin anew. */
static void note_epoch(void)
{
    unsigned know = 0;
    unsigned members = 0;
    for (unsigned i = 1; i <= world.node_count; i++) {
        members += !world.nodes[i].removed;
        know += !world.nodes[i].removed && world.nodes[i].knows_time;
    }
    if (know <= members / 2)
        world.epoch++;
}

/* machine_down: its steady clock will begin elsewhere, and its wall clock goes on. */
static void machine_down(struct node *node)
{
    node->boot++;
    node->monotonic_base_ns += chance_between(&node->chance, 1, 1000) * SECOND;
    node->knows_time = false;
    note_epoch();
}

void node_disk_end(struct node *node, enum vdisk_end end)
{
    bool machine = end == VDISK_END_POWER || vdisk_broken(node->disk);
    vdisk_end(node->disk, end);
    if (machine)
        machine_down(node);
}

static void went_down(struct node *node, enum vdisk_end end)
{
    sim_say("node %u is down (%s)", node->number, end == VDISK_END_POWER ? "power" : "process");
    node->up = false;
    node->closing = false;
    node->life++;
    node->shard = NULL;
    network_leave(node);
    node_disk_end(node, end);
    clients_node_ended(node);
    nemesis_down(node);
}

bool node_enter(struct node *node, void (*fn)(void *data), void *data, uint64_t *spent_ns)
{
    ASSERT(current == NULL);
    spent = 0;
    if (setjmp(escape) != 0) {
        struct node *gone = current;
        current = NULL;
        went_down(gone, ended);
        return false;
    }
    current = node;
    fn(data);
    current = NULL;
    *spent_ns = spent;
    return true;
}

/* ---- clocks ---- */

uint64_t node_monotonic_ns(const struct node *node)
{
    int64_t now = (int64_t)sim_now_ns();
    return node->monotonic_base_ns + (uint64_t)(now + now / 1000000 * node->drift_ppm);
}

uint64_t node_world_ns(const struct node *node, uint64_t monotonic_ns)
{
    if (monotonic_ns <= node->monotonic_base_ns)
        return 0;
    int64_t since = (int64_t)(monotonic_ns - node->monotonic_base_ns);
    int64_t at = since - since / (1000000 + node->drift_ppm) * node->drift_ppm;
    return (uint64_t)at + US; /* rounded, so a little later */
}

uint64_t node_wall_ms(const struct node *node)
{
    uint64_t since_ms = (node_monotonic_ns(node) - node->monotonic_base_ns) / MS;
    return WALL_EPOCH_MS + since_ms + (uint64_t)node->wall_offset_ms;
}

/* ---- life ---- */

void nodes_make(unsigned count)
{
    static const uint32_t sectors[] = {512, 4096, 16}; /* some promise more than they keep */
    world.node_count = count;
    for (unsigned i = 1; i <= count; i++) {
        struct node *node = &world.nodes[i];
        struct vdisk_settings settings = {
            .sector_bytes = sectors[chance_below(&world.chance, ARRAY_COUNT(sectors))],
            .strict = chance_in(&world.chance, 2),
            .write_us = (uint32_t)chance_between(&world.chance, 2, 20),
            .sync_us = (uint32_t)chance_between(&world.chance, 50, 2000),
            .skip_data_sync = mutated("skip-data-sync"),
            .skip_folder_sync = mutated("skip-folder-sync")};
        *node = (struct node){.number = i, .id = i, .chance = {chance_next(&world.chance)}};
        node->disk = vdisk_new((struct chance){chance_next(&world.chance)}, &settings);
        node->monotonic_base_ns = chance_between(&world.chance, 1, 1000) * SECOND;
        if (world.faults[FAULT_DRIFT])
            node->drift_ppm = (int64_t)chance_between(&world.chance, 0, 200) - 100;
    }
}

struct opening {
    struct node *node;
    enum status status;
    const char *error;
};

static const char *const addresses[] = {"",       "node:1", "node:2", "node:3", "node:4",
                                        "node:5", "node:6", "node:7", "node:8"};

/* founders: the machines as they were in the beginning. */
static size_t founders(struct shard_member members[NODES_MAX])
{
    for (unsigned i = 1; i <= world.founders; i++)
        members[i - 1] = (struct shard_member){i, addresses[i]};
    return world.founders;
}

const char *node_address(const struct node *node)
{
    return addresses[node->number];
}

static void open_shard(void *data)
{
    struct opening *opening = data;
    struct node *node = opening->node;
    struct shard_options options = {.loop = vloop_uv(node->loop),
                                    .dir = "/shard",
                                    .node_id = node->id,
                                    .address = addresses[node->number],
                                    .shard_id = SHARD_ID,
                                    .segment_bytes = SEGMENT_BYTES,
                                    .snapshot_bytes = world.snapshot_bytes,
                                    .trailing_max = world.trailing,
                                    .disk_reserve_bytes = SIM_RESERVE_BYTES};
    struct shard_member members[NODES_MAX];
    if (world.node_count > 1) {
        options.peers = network_join(node);
        options.members = members;
        options.member_count = founders(members);
        options.join = node->joins;
    }
    uv_update_time(options.loop);
    opening->status = shard_open(&node->shard, &options, &opening->error);
}

void node_start(struct node *node)
{
    struct opening opening = {.node = node};
    ASSERT(!node->up);
    node->up = true;
    node->closing = false;
    node->life++;
    node->loop = vloop_new(node);
    node->shard = NULL;
    node->applied_seen = 0;
    node->led = node->lagged = false;
    sim_say("node %u starts", node->number);
    uint64_t spent_ns;
    if (!node_enter(node, open_shard, &opening, &spent_ns))
        return;
    node->busy_until_ns = world.now_ns + spent_ns;
    if (opening.status != STATUS_OK) {
        sim_say("node %u does not start: %s", node->number, opening.error);
        node->up = false;
        node->life++;
        node->shard = NULL;
        network_leave(node);
        node_disk_end(node, VDISK_END_KILL);
        nemesis_refused(node, opening.status, opening.error);
        return;
    }
    digests_see(node);
}

void node_end(struct node *node, enum vdisk_end end)
{
    ASSERT(current == NULL);
    if (node->up)
        went_down(node, end);
    else
        node_disk_end(node, end);
}

static void closed(void *data)
{
    struct node *node = data;
    ASSERT(current == node);
    node->shard = NULL;
    sim_end_node(VDISK_END_KILL);
}

static void close_shard(void *data)
{
    struct node *node = data;
    shard_close(node->shard, closed, node);
    node->shard = NULL;
}

void node_stop(struct node *node)
{
    if (!node->up || node->closing)
        return;
    sim_say("node %u stops", node->number);
    node->closing = true;
    node_at(node, world.now_ns, close_shard, node);
}

static void turn(void *data)
{
    struct node *node = data;
    sim_spend(chance_between(&node->chance, 2, 20) * US);
    vloop_turn(node->loop);
}

/* A loop that has nothing to do must sleep. */
static void watch_turns(struct node *node)
{
    if (world.now_ns / TURNS_IN != node->turns_at)
        node->turns = 0;
    node->turns_at = world.now_ns / TURNS_IN;
    if (++node->turns > TURNS_MAX)
        sim_fail("node %u spins: %u turns of its loop in %u ms", node->number, node->turns,
                 (unsigned)(TURNS_IN / MS));
}

void node_turn(struct node *node)
{
    uint64_t spent_ns;
    watch_turns(node);
    if (!node_enter(node, turn, node, &spent_ns))
        return;
    node->busy_until_ns = world.now_ns + spent_ns;
    if (node->shard == NULL)
        return;
    node->knows_time |= shard_leader(node->shard) != 0;
    leaders_see(node);
    calm_see(node);
    digests_see(node);
    bool lags = node->shard->catch_up != NULL;
    if (node->lagged != lags)
        nemesis_ambush(node);
    node->lagged = lags;
}

uint64_t node_next_ns(const struct node *node)
{
    if (!node->up)
        return UINT64_MAX;
    uint64_t next = vloop_next_ns(node->loop);
    return next > node->busy_until_ns ? next : node->busy_until_ns;
}
