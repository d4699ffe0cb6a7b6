/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated world: one clock, the events that wait for it, and the nodes.
 *
 * Everything runs in one thread. Code of a node runs inside node_enter only, as a turn of its loop
 * or as a piece of work in its pool; both take simulated time, which the disk counts with
 * sim_spend. A node that ends in the middle of something is left by a long jump, and nothing of it
 * ever runs again: its memory stays, until the process of this seed ends. */
#ifndef TESTS_SIM_CLUSTER_WORLD_H
#define TESTS_SIM_CLUSTER_WORLD_H

#include "tests/sim/cluster/chance.h"
#include "tests/sim/cluster/vdisk.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#define NODES_MAX     8
#define US            UINT64_C(1000)
#define MS            UINT64_C(1000000)
#define SECOND        UINT64_C(1000000000)
#define WALL_EPOCH_MS UINT64_C(1750000000000)

struct shard;
struct vloop;
struct network_end;

/* What may go wrong in a run. */
enum fault {
    FAULT_KILL,      /* processes end at random moments, or at a disk operation */
    FAULT_POWER,     /* machines lose their power */
    FAULT_ALL_DOWN,  /* all machines at once */
    FAULT_STOP,      /* processes are stopped and started as they should be */
    FAULT_EIO,       /* a write or sync fails */
    FAULT_FULL,      /* disks run full for a while */
    FAULT_SLOW_DISK, /* disk operations take long */
    FAULT_PAUSE,     /* a process stands still for a while */
    FAULT_WALL,      /* wall clocks jump */
    FAULT_DRIFT,     /* clocks run fast or slow */
    FAULT_DAMAGE,    /* bits flip, writes go elsewhere; on a minority of nodes */
    FAULT_PARTITION, /* the network is cut: around a node, in halves, or in one direction */
    FAULT_LOSS,      /* connections break */
    FAULT_DISORDER,  /* messages are duplicated and reordered */
    FAULT_MEMBERS,   /* machines join, leave, are lost and replaced; leaders hand over */
    FAULT_RACK,      /* all machines but one lose their power, and that one their company */
    FAULT_AMBUSH,    /* who changes the members, or catches up, is cut off, and ends */
    FAULT_COUNT
};

struct options {
    uint64_t seed;
    uint32_t steps; /* calls that clients make */
    unsigned nodes; /* 0: by the seed */
    const char *mutation;
    bool verbose;
    uint32_t without;        /* bits of enum fault: these never happen */
    uint32_t always;         /* these happen in each run */
    uint64_t pace_ms;        /* between two faults, about; 0: by the seed */
    uint64_t plan_ms;        /* between two steps of the operator, at most; 0: by the seed */
    uint64_t snapshot_bytes; /* of log, between snapshots; 0: by the seed */
    unsigned trailing;       /* entries that leaders keep for those who lag; 0: by the seed */
    unsigned voters_max;     /* the operator adds no more */
};

struct node {
    unsigned number; /* from 1 on; of the machine */
    uint64_t id;     /* of the member; a machine that was wiped gets another */
    bool up;
    bool closing;
    bool damaged;  /* its data are */
    bool joins;    /* starts empty, to be added */
    bool removed;  /* is to stay down */
    bool voter;    /* as far as the operator knows */
    bool led;      /* when it was looked at last */
    bool lagged;   /* and was taking over a snapshot */
    uint32_t life; /* how often it was started */
    struct vdisk *disk;
    struct vloop *loop;
    struct shard *shard;
    struct network_end *network;
    int64_t drift_ppm;
    uint32_t boot;              /* of the machine */
    uint64_t monotonic_base_ns; /* its steady clock, less the world's: another one in each boot */
    bool knows_time;            /* since its boot a process has known cluster time */
    int64_t wall_offset_ms;
    uint64_t busy_until_ns;
    struct chance chance;
    uint64_t applied_seen;
    uint64_t turns_at; /* of its loop: for finding that it never sleeps */
    uint32_t turns;
};

struct world {
    struct options options;
    struct chance chance;
    uint64_t now_ns;
    struct node nodes[NODES_MAX + 1]; /* by number */
    unsigned node_count;
    unsigned founders;
    bool faults[FAULT_COUNT];
    bool healing;   /* no more faults */
    uint32_t epoch; /* how often a majority did not know what time it is */
    uint32_t steps_done;
    uint64_t snapshot_bytes; /* of log, between snapshots */
    unsigned trailing;       /* entries that leaders keep for those who lag; 0: the default */
};
extern struct world world;

/* ---- world.c ---- */

/* sim_fail: this run has found something: print it with the seed and end the process. */
__attribute__((noreturn, format(printf, 1, 2))) void sim_fail(const char *format, ...);
/* sim_say: only shown when the run is verbose. */
__attribute__((format(printf, 1, 2))) void sim_say(const char *format, ...);

/* world_at: call `fn` at this time, outside of any node. */
void world_at(uint64_t at_ns, void (*fn)(void *data), void *data);
static inline void world_after(uint64_t ns, void (*fn)(void *data), void *data)
{
    world_at(world.now_ns + ns, fn, data);
}

/* node_at: call `fn` at this time in the loop of the node, or (pool) in its pool; never, if the
 * process that runs now has ended by then. */
void node_at(struct node *node, uint64_t at_ns, void (*fn)(void *data), void *data);
void node_pool_at(struct node *node, uint64_t at_ns, void (*fn)(void *data), void *data);

/* world_run: until the clock is at `until_ns` or `done` says so. */
void world_run(uint64_t until_ns, bool (*done)(void));

bool mutated(const char *name);

/* ---- node.c ---- */

/* current: the node whose code runs, or NULL. */
extern struct node *current;
void nodes_make(unsigned count);
/* node_enter: run code of this node; false: it ended there. *spent_ns: the time that it took. */
bool node_enter(struct node *node, void (*fn)(void *data), void *data, uint64_t *spent_ns);
void node_start(struct node *node);
/* node_end: from outside. */
void node_end(struct node *node, enum vdisk_end end);
/* node_disk_end: its process has ended already; now its machine may. */
void node_disk_end(struct node *node, enum vdisk_end end);
void node_stop(struct node *node);
/* node_turn: one turn of its loop. */
void node_turn(struct node *node);
uint64_t node_next_ns(const struct node *node);
uint64_t node_monotonic_ns(const struct node *node);
uint64_t node_wall_ms(const struct node *node);
const char *node_address(const struct node *node);
/* node_world_ns: when its monotonic clock will show that. */
uint64_t node_world_ns(const struct node *node, uint64_t monotonic_ns);

/* What code of a node calls, through the disk and the clocks. */
void sim_spend(uint64_t ns);
__attribute__((noreturn)) void sim_end_node(enum vdisk_end end);
/* sim_now_ns: world.now_ns, and what the code that runs has spent since. */
uint64_t sim_now_ns(void);

/* ---- vloop.c ---- */
struct uv_loop_s;
struct vloop *vloop_new(struct node *node);
struct uv_loop_s *vloop_uv(struct vloop *loop);
void vloop_ready(struct vloop *loop, void (*fn)(void *data), void *data);
void vloop_turn(struct vloop *loop);
uint64_t vloop_next_ns(const struct vloop *loop);

/* ---- calm.c ---- */
/* calm_see: after each turn of a node's loop. calm_since_ns: since then nothing has kept its calls
 * from being answered. */
void calm_see(const struct node *node);
uint64_t calm_since_ns(const struct node *node);

/* ---- nemesis.c ---- */
void nemesis_begin(void);
void nemesis_heal(void);
/* nemesis_down: the node has ended; when will it be started again? */
void nemesis_down(struct node *node);
/* nemesis_ambush: this is a bad moment for the node to be cut off, and to end. */
void nemesis_ambush(struct node *node);
void nemesis_refused(struct node *node, int status, const char *sentence);

/* ---- members.c ---- */
/* members_begin: the first so many machines found the group, the others are spares. */
void members_begin(unsigned founders);
/* members_settled: no plan is under way. members_agree: all say what the operator knows; told:
 * print what they say. */
bool members_settled(void);
bool members_agree(bool told);
/* leaders_see: of a term there is one leader. */
void leaders_see(struct node *node);

/* ---- client.c ---- */
void clients_begin(void);
bool clients_done(void);
/* clients_node_ended: calls under way there have no answer. */
void clients_node_ended(struct node *node);
void clients_drain_begin(void);
bool clients_drained(void);

/* ---- digests.c ---- */
/* digests_see: compare the state of the node, and its members where it has nothing behind that,
 * with what others had at the same index. */
void digests_see(struct node *node);
/* digests_settled: all nodes that are up have applied the same. */
bool digests_settled(void);
/* digests_tell: print how far each node is. */
void digests_tell(void);

#endif
