/* SPDX-License-Identifier: Apache-2.0 */
/* What queues there are in shards that are not on this node: asked of nodes that have them, each
 * after it has seen all that any node answered before (broker/away, kind LOOK). Queues are found by
 * name, by id, and as a run of the names in order.
 *
 *   L1  all that was answered before the look began is seen, or the look fails; an optional one
 *       leaves out all of that shard
 *   L2  a run is complete: either it has as many as were wanted, or there are no more
 *
 * thread: loop. */
#ifndef BROKER_SHARDS_LOOK_H
#define BROKER_SHARDS_LOOK_H

#include "broker/away/away.h"
#include "broker/shards/set.h"
#include "proto/base/arena.h"

#define LOOK_ITEMS_MAX 64u /* names, or ids, in one look */

/* What is asked for: any of the three. */
struct look_question {
    const struct slice *names;
    uint32_t name_count;
    const uint64_t *ids;
    uint32_t id_count;
    /* A run of those behind the name `after` (empty: from the first on) that begin with `prefix`,
     * and redrive to `dead_letter` (empty: any, or none). */
    uint32_t run_max; /* how many of each shard; 0: no run. UINT32_MAX: all */
    struct slice after, prefix, dead_letter;
};

/* One look. The caller's memory, alive until `done`; so is all that the question points to. */
struct shard_look {
    struct look_question question;
    struct shard_set set; /* the shards; those that are on this node are passed by */
    uint64_t since_ms;    /* as in struct shard_sync */
    bool optional;        /* what cannot be had is left out, and the look does not fail for it */
    struct arena *arena;  /* of the views */
    /* wanted: does this one count as one of run_max? NULL: each does. */
    bool (*wanted)(void *data, const struct queue_view *view);
    /* done: OK; NOT_LEADER: one has no replica that answers; CLOSED; CANCELLED. */
    void (*done)(struct shard_look *look, enum status status);
    void *data;
    /* The answer, in name order, each once; alive as long as the arena. */
    struct queue_view *views;
    uint32_t count;
    /* private */
    struct away *away;
    struct look_part *parts;
    uint32_t part_count, left;
    struct look_chunk *chunks;
    enum status status;
};

/* look_begin: false: there is nothing to ask anybody, and `done` is not called. look_cancel: `done`
 * still runs, later. */
MUST_CHECK bool look_begin(struct shard_look *look, const struct shards *shards, struct away *away);
void look_cancel(struct shard_look *look);

/* look_serve: answer the looks of other nodes. look_serve_end: no more; those under way end with
 * the shards. */
void look_serve(struct away *away, struct shards *shards);
void look_serve_end(struct away *away);

#endif
