/* SPDX-License-Identifier: Apache-2.0 */
/* Asking another node for what only a replica of a shard can do, where this node has none:
 * questions and answers on PEER_CHANNEL_AWAY. What they say is their kinds' (broker/shards,
 * broker/api/sqs); here is who is asked, that each gets one answer, and that nothing is done twice
 * (docs/replication.md, "Replicas").
 *
 *   A1  `done` runs once for each question, not before away_ask has returned
 *   A2  a question is with one node at a time. It goes to the next one only when that is safe: the
 *       node said that it was not done, the question never reached it, or it may be repeated
 *   A3  what a node is doing for others is bounded, in number and in bytes; beyond, it says BUSY
 *   A4  a node that has gone, or whose asker has gone, leaves nothing behind on the other
 *   A5  ordered questions about one shard do not overtake each other: while some are with a node
 * the next go there as well, if it takes them, and none goes while an earlier one waits here
 *
 * Who is asked: a replica that does not lead comes first, since its answers outlive the leader
 * (it sends a call again to the next one, broker/replication/forward.c); then the leader. thread:
 * loop. */
#ifndef BROKER_AWAY_AWAY_H
#define BROKER_AWAY_AWAY_H

#include "broker/peer/peers.h"
#include "proto/base/buffer.h"

#include <uv.h>

#define AWAY_REPLICAS_MAX 16u /* of one shard, that are asked */

struct away;

/* Who answers a kind of question. The numbers are on the wire. */
enum away_kind {
    AWAY_CALL = 1,    /* commands for a shard: broker/shards */
    AWAY_RECEIVE = 2, /* a receive with the bodies: broker/shards */
    AWAY_LOOK = 3,    /* what queues there are, and how they are: broker/shards */
    AWAY_SQS = 4,     /* a whole SQS call: broker/api/sqs */
    AWAY_GLANCE = 5,  /* a few queues, once they are not as they were: broker/shards */
    AWAY_TALLIES = 6, /* what functions used: broker/shards */
    AWAY_HELD = 7,    /* are messages still leased so? broker/shards */
    AWAY_KIND_COUNT
};

struct away_options {
    uv_loop_t *loop;
    uint64_t node_id;
    struct peers *peers; /* NULL: this node is alone, and every question ends with NOT_LEADER */
    /* replicas: the nodes that have a replica of this shard, the preferred ones first; how many, at
     * most `max`. It is asked before each attempt. */
    size_t (*replicas)(void *data, uint32_t shard, uint64_t *out, size_t max);
    void *data;
    uint32_t late_ms;      /* an answer that late behind the deadline is not waited for; 0: 10000 */
    uint32_t tasks_max;    /* of A3, for all other nodes together; 0: 65536 */
    size_t task_bytes_max; /* of requests, and answers that are not sent; 0: 256 MiB */
};

/* away_open: options are copied, but for what they point to. Never NULL. */
struct away *away_open(const struct away_options *options);

/* away_close: questions end with CLOSED, what is done for others is cancelled; calls back when all
 * have ended, and away is gone. The peers must be there until then. */
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
    struct slice request; /* borrowed until `done`; at most AWAY_REQUEST_BYTES_MAX */
    bool repeatable;      /* to be done twice would do no harm */
    bool ordered;         /* A5 */
    uint64_t deadline_ms; /* of the loop's clock: from then on nobody else is asked. The answer may
                           * come a little later (late_ms): whoever answers has the rest of the time
                           * as its own */
    void (*done)(struct away_question *question, enum status status, struct slice answer);
    void *data;
    void *private_state;
};
#define AWAY_REQUEST_BYTES_MAX (PEER_MESSAGE_BYTES_MAX - 64u)

void away_ask(struct away *away, struct away_question *question);

/* away_cancel: nobody wants the answer any more. `done` still runs, later: with CANCELLED; or with
 * OK and the answer, if it was on its way: whoever must not lose what it brings (leased messages)
 * gives it back. Once is enough. */
void away_cancel(struct away *away, struct away_question *question);

/* ---- answering ---- */

/* A question of another node: lives until it is answered. */
struct away_task {
    struct away *away;
    uint64_t node_id; /* whose */
    uint32_t shard;
    struct slice request; /* kept as long as the task */
    uint64_t deadline_ms; /* of this loop's clock */
    void *state;          /* the server's */
};

/* begin: do it; away_answer may be called at once. cancel: the asker has gone or has changed its
 * mind; the task must still be answered (with anything), soon. It runs once at most. */
struct away_server {
    void (*begin)(void *data, struct away_task *task);
    void (*cancel)(void *data, struct away_task *task);
    void *data;
};
/* away_serve: copied; NULL ends it, but for the tasks under way, which keep their server. Where
 * nobody serves a kind, the answer is NOT_LEADER. */
void away_serve(struct away *away, enum away_kind kind, const struct away_server *server);

/* away_answer: end a task, which is gone then. OK with the answer; or that it was not done and
 * never will be: NOT_LEADER (somebody else is asked) or BUSY; or CLOSED, when nobody knows;
 * CANCELLED, of one that was cancelled. The answer is copied.
 * away_answer_moved: OK, with an answer that is moved, and empty then: for large ones. */
void away_answer(struct away_task *task, enum status status, struct slice answer);
void away_answer_moved(struct away_task *task, struct buffer *answer);

/* away_asked, away_serving: questions under way, and tasks of others, for /metrics. */
uint32_t away_asked(const struct away *away);
uint32_t away_serving(const struct away *away);

#endif
