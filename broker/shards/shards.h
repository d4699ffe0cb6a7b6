/* SPDX-License-Identifier: Apache-2.0 */
/* The shards of this node: the catalog, which is shard 0 and holds functions, mappings, keys and
 * the broker's own queues, and the queue shards 1 to N, each a Raft group of its own. A queue's
 * shard follows from its name (broker/core/place.h).
 *
 *   S1  a queue is created in, and looked for in, the one shard that its name gives
 *   S2  N is what the catalog says; an option counts only when a cluster begins
 *   S3  a queue shard is on the nodes that the catalog lists for it (placement.h, follow.c); the
 *       first ones, which found it, are written there as well (founders.c)
 *   S4  all shards of a cluster have its id and its secret: a receipt handle of one cannot be used
 *       with another's queue, whose id differs (broker/core/place.h)
 *
 * Queue shards are opened once the catalog says how many there are, and that they are here: at once
 * where its state is on this disk, else when it has come from the others. thread: loop. */
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
    /* begun: shards_begun has changed; to be kept for the next start. False: it could not be, and
     * is to be asked again. */
    bool (*begun)(void *data);
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
    /* Bit K - 1: queue shard K has its folder here, which may not be missing (shards_begun). Bits
     * of shards that the cluster has not are ignored. */
    uint64_t begun;
    uint64_t disk_reserve_bytes;
    uint64_t move_rate;
    uint32_t queue_shards; /* of a cluster that begins; 0: the catalog holds all queues */
    uint32_t replication;  /* the same: replicas of each queue shard; 0: REPLICATION_DEFAULT */
    struct shards_events events;
};

/* shards_open: as shard_open, for the catalog and, if its state says how many, the queue shards.
 * After a failure *folder says which; it is traced by the caller. Options are borrowed. */
MUST_CHECK enum status shards_open(struct shards **out, const struct shards_options *options,
                                   const char **error, const char **folder);
void shards_close(struct shards *shards, void (*closed)(void *data), void *data);

struct shard *shards_catalog(const struct shards *shards);

/* shards_total: how many shards the cluster has, the catalog included; the catalog alone until it
 * says. Their ids are 0 to shards_total - 1. shards_at: the shard with this id, for requests; NULL:
 * this node has no replica of it that answers them (yet, or any more). shards_here: the replica on
 * this node, whether it answers or not. */
uint32_t shards_total(const struct shards *shards);
struct shard *shards_at(const struct shards *shards, uint32_t id);
struct shard *shards_here(const struct shards *shards, uint32_t id);

/* shards_hold: a request uses the replica of this shard here, which is not closed before
 * shards_let_go, other than by shards_close: for who keeps it from one step to the next. */
void shards_hold(struct shards *shards, uint32_t id);
void shards_let_go(struct shards *shards, uint32_t id);

/* shards_replicas: the nodes that the catalog says have a replica of it, the one that is to lead
 * first, without those that let it go; how many, at most `max`. */
size_t shards_replicas(const struct shards *shards, uint32_t shard, uint64_t *out, size_t max);

/* How a shard is, wherever it is, as its leader said lately. */
struct shard_state {
    uint64_t leader; /* 0: none is known */
    uint64_t last_index;
    size_t count;
    struct shard_state_member {
        uint64_t node_id;
        enum shard_role role;
        bool connected;
        uint64_t lag; /* entries that it lacks */
    } members[SHARD_MEMBERS_MAX];
};

/* shards_state: false: its leader has not said; *out has what is known all the same, without
 * members. Asked for are the shards that this node has no replica of, and where the catalog is led
 * all. shards_leader: the node that leads a shard; 0: none is known. */
bool shards_state(const struct shards *shards, uint32_t shard, struct shard_state *out);
uint64_t shards_leader(const struct shards *shards, uint32_t shard);

/* shards_settled: every shard is on the nodes that it is listed for, and nothing is to be changed
 * about that. Known where the catalog is led; elsewhere false. */
bool shards_settled(const struct shards *shards);

/* shards_begun: of struct shards_options, as it is now. */
uint64_t shards_begun(const struct shards *shards);

/* shards_id_of_name: of the shard where a queue of this (the core's) name is or would be.
 * shards_of_name, shards_of_queue: that shard, by the name or by the queue's id; NULL: as of
 * shards_at, or there is none of this id. */
uint32_t shards_id_of_name(const struct shards *shards, struct slice name);
struct shard *shards_of_name(const struct shards *shards, struct slice name);
struct shard *shards_of_queue(const struct shards *shards, uint64_t queue_id);

/* shards_function_usage: what a function of the catalog used, in all shards, as far as this node's
 * replicas know, and what was fetched (broker/shards/tallies.h). False: there is no such function.
 */
bool shards_function_usage(const struct shards *shards, struct slice name, struct usage *out);

/* shards_ready: all that this node has are open and ready (shard_ready), and belong to a cluster;
 * one that is new here does not count before it answers requests. */
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
