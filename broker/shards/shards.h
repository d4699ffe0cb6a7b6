/* SPDX-License-Identifier: Apache-2.0 */
/* The shards of this node: the catalog, which is shard 0 and holds functions, mappings, keys and
 * the broker's own queues, and the queue shards 1 to N, each a Raft group of its own. A queue's
 * shard follows from its name (broker/core/place.h).
 *
 *   S1  a queue is created in, and looked for in, the one shard that its name gives
 *   S2  N is what the catalog says; an option counts only when a cluster begins
 *   S3  a queue shard has the voters of the catalog as its members (follow.c); the first ones,
 * which found it, are written in the catalog (founders.c) S4  all shards of a cluster have its id
 * and its secret: a receipt handle of one cannot be used with another's queue, whose id differs
 * (broker/core/place.h)
 *
 * Queue shards are opened once the catalog says how many there are: at once where its state is on
 * this disk, else when it has come from the others. thread: loop. */
#ifndef BROKER_SHARDS_SHARDS_H
#define BROKER_SHARDS_SHARDS_H

#include "broker/core/place.h"
#include "broker/replication/shard.h"
#include "broker/shards/nodes.h"

struct away;
struct shards;

/* What happened in one of them. Called as of struct shard_options. */
struct shards_events {
    void (*leading_changed)(void *data, struct shard *shard, bool leads);
    void (*catalog_changed)(void *data);
    void (*queue_ready)(void *data, uint64_t queue_id);
    /* begun: see struct shards_options; to be kept for the next start. */
    void (*begun)(void *data);
    /* failed: a queue shard could not be opened later on; the node cannot serve. */
    void (*failed)(void *data);
    void *data;
};

struct shards_options {
    uv_loop_t *loop;
    const char *data_dir; /* shard K is in DIR/shard-K */
    uint64_t node_id;
    const char *address; /* as of struct shard_options, like the next four */
    struct peers *peers;
    struct away *away; /* other nodes are asked through it (broker/shards/door.h); NULL: nobody is.
                        * It is open, and not closed, while the shards are */
    const struct shard_member *members; /* of a new catalog */
    size_t member_count;
    bool join;
    bool begun; /* all queue shards have had their folders here: none may be missing */
    uint64_t disk_reserve_bytes;
    uint64_t move_rate;
    uint32_t queue_shards; /* of a cluster that begins; 0: the catalog holds all queues */
    struct shards_events events;
};

/* shards_open: as shard_open, for the catalog and, if its state says how many, the queue shards.
 * After a failure *folder says which; it is traced by the caller. Options are borrowed. */
MUST_CHECK enum status shards_open(struct shards **out, const struct shards_options *options,
                                   const char **error, const char **folder);
void shards_close(struct shards *shards, void (*closed)(void *data), void *data);

struct shard *shards_catalog(const struct shards *shards);

/* shards_count: all that are open, the catalog included; the catalog alone until the queue shards
 * are. shards_at: the shard with this id, NULL where there is none (yet). */
uint32_t shards_count(const struct shards *shards);
uint32_t shards_total(const struct shards *shards);
struct shard *shards_at(const struct shards *shards, uint32_t id);

/* shards_of_name, shards_of_queue: where a queue is, by the core's name of it or by its id; NULL:
 * that shard is not open (yet), or there is none of this id. */
struct shard *shards_of_name(const struct shards *shards, struct slice name);
struct shard *shards_of_queue(const struct shards *shards, uint64_t queue_id);

/* shards_function_usage: what a function of the catalog used, in all shards, as far as this node's
 * replicas know, and what was fetched (broker/shards/tallies.h). False: there is no such function.
 */
bool shards_function_usage(const struct shards *shards, struct slice name, struct usage *out);

/* shards_ready: all are open and ready (shard_ready), and belong to a cluster. */
bool shards_ready(const struct shards *shards);

/* shards_node_duty: let the catalog say it of this member. shards_node_remove: take it out of all
 * shards for good; TIMEOUT: the queue shards still have it, which goes on by itself: ask again.
 * Where the catalog is led from here; else NOT_LEADER. `change` as of shard_member_remove; INVALID:
 * no other node could lead then. The shards must not be closed before `done` has run: it runs soon
 * when they are.
 * shards_of_node: how many queue shards have it as a member. */
void shards_node_duty(struct shards *shards, struct shard_change *change, uint64_t node_id,
                      enum node_duty duty);
void shards_node_remove(struct shards *shards, struct shard_change *change, uint64_t node_id);
uint32_t shards_of_node(const struct shards *shards, uint64_t node_id);

/* shards_hand_over: let others lead all that this node leads, and let it lead nothing that it could
 * hand on; true: `done` is called once that has happened, or has not within its time (see
 * shard_transfer). False: there is nothing to hand over. */
bool shards_hand_over(struct shards *shards, void (*done)(void *data, enum status status),
                      void *data);

#endif
