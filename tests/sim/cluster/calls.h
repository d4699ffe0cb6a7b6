/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that clients make on the shard of some node, and their way into the history. */
#ifndef TESTS_SIM_CLUSTER_CALLS_H
#define TESTS_SIM_CLUSTER_CALLS_H

#include "tests/sim/cluster/history.h"
#include "tests/sim/cluster/world.h"

#include "broker/replication/shard.h"

#define BATCH_MAX 10

enum call_kind {
    CALL_SETUP,
    CALL_SEND,
    CALL_RECEIVE,
    CALL_DELETE,
    CALL_VISIBILITY,
    CALL_PURGE,
    CALL_LOOK, /* at a queue, after shard_sync */
    CALL_KINDS
};

/* The queues of every run, by number: plain; with a dead-letter queue; that one; FIFO with dedup
 * ids of the queue, and of the group; FIFO with a dead-letter queue; that one. */
enum {
    QUEUE_PLAIN,
    QUEUE_REDRIVEN,
    QUEUE_DEAD,
    QUEUE_FIFO,
    QUEUE_GROUPS,
    QUEUE_FIFO_REDRIVEN,
    QUEUE_FIFO_DEAD,
    QUEUE_COUNT
};
extern uint64_t queue_ids[QUEUE_COUNT];

struct lease {
    int queue;
    uint32_t label;
    uint64_t seq;
    uint32_t receive_count;
};

/* One call. Fill in the first part, then call_begin. Its memory is never freed: a node that ended
 * may still be pointing to it. */
struct call {
    enum call_kind kind;
    struct node *node;
    int queue;
    uint32_t count; /* SEND: messages; DELETE, VISIBILITY: of `leases` */
    struct sent sends[BATCH_MAX];
    struct lease leases[BATCH_MAX];
    uint32_t max;          /* RECEIVE */
    uint32_t visibility_s; /* RECEIVE, VISIBILITY */
    uint32_t wait_ms;      /* RECEIVE */
    uint64_t cancel_ns;    /* RECEIVE: the consumer goes away after this; 0: it does not */
    void (*finished)(struct call *call); /* in the world, once, `over` is true */
    void *data;
    /* result */
    bool over;
    enum outcome outcome;
    enum status status;
    struct lease got[BATCH_MAX];
    uint32_t got_count;
    /* private */
    uint64_t called_ns;
    uint64_t arrived_ns; /* at its node; 0: not yet */
    uint64_t answered_ns;
    uint32_t called_epoch;
    uint32_t numbers[BATCH_MAX]; /* labels, or of what is settled */
    struct shard_call commands;
    struct shard_receive receive;
    bool receiving;
    struct shard_read read;
    struct shard_sync sync;
    uint64_t answered_index; /* LOOK: the latest entry that an answer before the call knew of */
    struct core_message messages[BATCH_MAX];
    struct body_ref refs[BATCH_MAX];
    struct call *next_open;
};

void call_begin(struct call *call);
/* calls_node_ended: those under way at the node end, with an unknown outcome. */
void calls_node_ended(struct node *node);
/* call_give_up: the client no longer waits. */
void call_give_up(struct call *call);

/* queues_promised: tell the history what the queues are. */
void queues_promised(void);

#endif
