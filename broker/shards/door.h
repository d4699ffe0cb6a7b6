/* SPDX-License-Identifier: Apache-2.0 */
/* The doors to all shards, wherever they are: calls and receives for a shard that is open here go
 * straight to it, others to a node that has it (broker/away).
 *
 *   D1  what a status says of a call holds wherever the shard is (broker/replication/shard.h);
 *       CLOSED, "nobody knows", is what becomes of one whose replica died while it had it
 *   D2  a call that is `repeatable` may be applied twice; no other one is
 *   D3  messages of a receive whose asker has gone, or has cancelled it, are made visible again, or
 *       at worst their lease runs out
 *
 * thread: loop. Callbacks never run before the call that started them has returned. */
#ifndef BROKER_SHARDS_DOOR_H
#define BROKER_SHARDS_DOOR_H

#include "broker/shards/doors.h"
#include "broker/shards/question.h"
#include "broker/shards/shards.h"

/* door_here: it is open on this node. */
static inline bool door_here(const struct shards *shards, uint32_t shard_id)
{
    return shards_at(shards, shard_id) != NULL;
}

/* shards_away: what other nodes are asked through; NULL: nobody is. */
struct away *shards_away(const struct shards *shards);

/* ---- commands ---- */

/* The caller's memory, alive until `call.done` runs. */
struct door_call {
    struct shard_call call; /* as for shard_call, which is all that a shard here sees of it */
    bool repeatable;        /* D2 */
    /* private */
    struct door_asked asked;
    struct buffer request;
};
void door_call(struct shards *shards, uint32_t shard_id, struct door_call *call);

/* ---- receiving ---- */

struct door_receive;
typedef void (*door_receive_cb)(struct door_receive *receive, enum status status);

/* A receive with the records of its messages. The caller's memory, alive until `done` runs. */
struct door_receive {
    struct command_receive command;
    uint32_t wait_ms;
    /* leased: messages are leased, their records are on their way; NULL: it need not be told. It
     * runs before `done`, or not at all.
     * done: as of shard_receive, or what reading the records ended with: CORRUPT, IO_ERROR. What
     * was leased is in `messages` in any case, but for CANCELLED. */
    door_receive_cb leased;
    door_receive_cb done;
    void *data;
    /* The result: the receiver's, who frees it with door_receive_free, or takes it. */
    enum core_code code;
    struct core_message *messages; /* heap */
    struct body_ref *refs;         /* heap: their bodies, for their lengths */
    uint32_t count;
    struct buffer records; /* one after the other, if the status is OK */
    uint64_t at_ms;        /* core time of the lease */
    /* private */
    uint32_t shard_id;
    bool cancelled;
    struct shard_receive receive;
    struct shard_read read;
    bool reading;
    struct door_asked asked;
    struct buffer request;
};
void door_receive(struct shards *shards, uint32_t shard_id, struct door_receive *receive);

/* door_receive_cancel: `done` runs with CANCELLED, and what was leased is made visible again (D3).
 */
void door_receive_cancel(struct door_receive *receive);
void door_receive_free(struct door_receive *receive);

/* ---- leases ---- */

struct door_held;
typedef void (*door_held_cb)(struct door_held *held, enum status status, bool yes);

/* Does one of these leases hold its message? The caller's memory, alive until `done`: OK, and it is
 * so or not, as of all that was done before it was asked; or nobody tells (NOT_LEADER, CLOSED). */
struct door_held {
    struct held_question leases; /* alive until `done` */
    door_held_cb done;
    void *data;
    /* private */
    uint32_t shard_id;
    struct shard_sync sync;
    struct door_asked asked;
    struct buffer request;
};
void door_held(struct shards *shards, uint32_t shard_id, struct door_held *held);

/* ---- how queues are ---- */

struct door_glance;
typedef void (*door_glance_cb)(struct door_glance *glance, enum status status,
                               const struct glance_news *news, uint32_t count);

/* What there is to tell of some queues of one shard. The caller's memory, alive until `done`: OK
 * with news, which are borrowed; CANCELLED; or as of away_question. */
struct door_glance {
    struct buffer request; /* glance_question_begin, _add; freed by the callee */
    uint32_t count;        /* of queues that it asks about */
    door_glance_cb done;
    void *data;
    /* private */
    struct door_asked asked;
};

/* door_glance: ask a node that has the shard. The answer comes when one of the queues differs from
 * its mark, at most every GLANCE_PACE_MS, and in any case after the question's hold_ms. It is not
 * for shards that are open here. door_glance_cancel: `done` runs all the same. */
#define GLANCE_PACE_MS 10u
void door_glance(struct shards *shards, uint32_t shard_id, struct door_glance *glance);
void door_glance_cancel(struct door_glance *glance);

#endif
