/* SPDX-License-Identifier: Apache-2.0 */
/* Asking another node for what only a replica of a shard can do, where this node has none: questions
 * and answers on PEER_CHANNEL_AWAY. What they say is their kinds' (tables below); here is who is
 * asked, that each gets one answer, and that nothing is done twice (docs/replication.md, "Replicas").
 *
 *   A1  `done` runs once for each question, not before away_ask has returned
 *   A2  a question is with one node at a time. It goes to the next one only when that is safe: the
 *       node said that it was not done, the question never reached it, or it may be repeated
 *   A3  what a node is doing for others is bounded, in number and in bytes; beyond, it says BUSY
 *   A4  a node that has gone, or whose asker has gone, leaves nothing behind on the other
 *
 * Who is asked: a replica that does not lead comes first, since its answers outlive the leader
 * (it sends a call again to the next one, broker/replication/forward.c); then the leader. thread:
 * loop. */
#ifndef BROKER_AWAY_AWAY_H
#define BROKER_AWAY_AWAY_H

#include "broker/peer/peers.h"
#include "proto/base/buffer.h"

#include <uv.h>

struct away;

/* Who answers a kind of question. The numbers are on the wire. */
enum away_kind {
    AWAY_CALL = 1,    /* commands for a shard: broker/shards */
    AWAY_RECEIVE = 2, /* a receive with the bodies: broker/shards */
    AWAY_LOOK = 3,    /* what queues there are, and how they are: broker/shards */
    AWAY_SQS = 4,     /* a whole SQS call: broker/api/sqs */
    AWAY_KIND_COUNT
};

struct away_options {
    uv_loop_t *loop;
    uint64_t node_id;
    struct peers *peers; /* NULL: this node is alone, and every question ends with NOT_LEADER */
    /* replicas: the nodes that have a replica of this shard, the preferred ones first; how many, at
     * most `max`. */
    size_t (*replicas)(void *data, uint32_t shard, uint64_t *out, size_t max);
    void *data;
};
struct away *away_open(const struct away_options *options);

/* away_close: questions end with CLOSED, what is done for others is cancelled; calls back when all
 * have ended. */
void away_close(struct away *away, void (*closed)(void *data), void *data);

/* ---- asking ---- */

/* One question. The caller's memory, alive until `done`.
 *   OK          `answer` is what the other node's server said; borrowed for the duration of `done`
 *   NOT_LEADER  no replica took it before its deadline; BUSY: one had too much to do: not done, and
 *               never will be
 *   CLOSED      nobody knows whether it was done
 *   CANCELLED   away_cancel: what was done is undone as far as the kind says */
struct away_question {
    uint32_t shard;
    enum away_kind kind;
    struct slice request;  /* borrowed until `done` */
    bool repeatable;       /* to be done twice would do no harm */
    uint64_t deadline_ms;  /* of the loop's clock: from then on nobody else is asked. The answer may
                            * come later: whoever answers has the rest of the time as its own */
    void (*done)(struct away_question *question, enum status status, struct slice answer);
    void *data;
    void *private_state;
};
void away_ask(struct away *away, struct away_question *question);
void away_cancel(struct away *away, struct away_question *question);

/* ---- answering ---- */

/* A question of another node: lives until it is answered or let go. */
struct away_task {
    struct away *away;
    uint64_t node_id; /* whose */
    uint32_t shard;
    struct slice request; /* kept as long as the task */
    uint64_t deadline_ms; /* of this loop's clock */
    void *state;          /* the server's */
    void *private_state;
};

/* begin: do it; away_answer may be called at once. cancel: the asker has gone or has changed its
 * mind; the task must still be answered (with anything), soon. */
struct away_server {
    void (*begin)(void *data, struct away_task *task);
    void (*cancel)(void *data, struct away_task *task);
    void *data;
};
/* away_serve: copied; NULL ends it (no task of that kind may be left). */
void away_serve(struct away *away, enum away_kind kind, const struct away_server *server);

/* away_answer: end a task. OK with the answer; or that it was not done and never will be:
 * NOT_LEADER (somebody else is asked) or BUSY; or CLOSED, when nobody knows. `parts` are copied. */
void away_answer(struct away_task *task, enum status status, struct slice answer);

#endif
