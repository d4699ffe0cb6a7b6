/* SPDX-License-Identifier: Apache-2.0 */
/* Message groups of a queue. Private to broker/core. thread: apply. */
#ifndef BROKER_CORE_GROUP_H
#define BROKER_CORE_GROUP_H

#include "broker/core/hashes.h"
#include "broker/core/lane.h"
#include "proto/base/siphash.h"

#define POSITION_NONE UINT32_MAX

/* A group is there while it has messages. */
struct group {
    uint32_t index;            /* in core.groups; what a message remembers */
    uint32_t offer_at;         /* position in queue.offers; POSITION_NONE: nothing to give out */
    uint32_t messages;         /* of it in the queue, in any state */
    uint32_t in_flight;        /* of these */
    uint32_t number;           /* in the snapshot being written or read */
    uint32_t hash;             /* of its id */
    struct lane lane;          /* FIFO: all its messages in order; else the visible ones */
    struct group *prev, *next; /* in groups.list */
    uint8_t id_length;
    uint8_t id[];
};

/* All of a queue; zeros: none. */
struct groups {
    struct group *list; /* utlist, in order of creation, as snapshots and the digest have them */
    uint32_t count;
    struct hashes by_id;         /* values are indexes in core.groups */
    struct siphash_key hash_key; /* of the ids' hashes; stays while there are groups */
};

struct core;
struct queue;
struct send_hashes;

/* group_join: the group named `id` of the queue, made if there is none, for one message more; 0 for
 * an empty id. `hashes`: with that of the id, or NULL.
 * group_of: the one of a message; NULL = none. */
uint32_t group_join(struct core *core, struct queue *queue, struct slice id,
                    const struct send_hashes *hashes);
struct group *group_of(const struct core *core, const struct message *message);
/* group_named: the one with this id; NULL = none. */
const struct group *group_named(const struct core *core, const struct queue *queue,
                                struct slice id);
struct slice group_id(const struct group *group);
/* group_hash: what group_join makes of an id. */
uint32_t group_hash(struct siphash_key hash_key, struct slice id);

/* group_leave: one message less; without any it goes. groups_free: all of them, whatever messages
 * they have; only their memory. */
void group_leave(struct core *core, struct queue *queue, struct group *group);
void groups_free(struct core *core, struct groups *groups);

/* group_head: the message that the group would give out next, or MESSAGE_NONE. group_follow: let
 * its place among the queue's offers follow that. group_follow_shown: the same when all that has
 * changed is that message `index` of it has become visible. */
uint32_t group_head(const struct core *core, const struct queue *queue, const struct group *group);
void group_follow(struct core *core, struct queue *queue, struct group *group);
void group_follow_shown(struct core *core, struct queue *queue, struct group *group,
                        uint32_t index);

/* group_offered: the group whose head was sent first, of those that have something to give out, or
 * NULL. */
struct group *group_offered(const struct core *core, const struct queue *queue);

/* group_is_noisy: takes more than its share, so that others of a standard queue go first. */
bool group_is_noisy(const struct queue *queue, const struct group *group);

#endif
