/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. Nothing outside includes it.
 *
 *     shards.c    opens, closes and finds them
 *     founders.c  who founds the queue shards: written in the catalog once
 *     placement.c on which nodes a shard is, in the catalog
 *     replicas.c  the same, as this node goes by it
 *     follow.c    the members of the queue shards follow that
 *     balance.c   which node leads which
 *     level.c     their feature levels follow the catalog's
 *     handover.c  a node that stops lets others lead first
 *     nodes.c     what the catalog says of a node
 *     courier.c   messages that go from one to another
 *     door.c      asking for what a shard does, wherever it is; door_serve.c, glance.c: answering
 *     doors.c     what of that is under way; question.c: as bytes
 *     tallies.c   what functions used, in shards that are not here
 *     duty.c      changing that, and removing a node
 */
#ifndef BROKER_SHARDS_INTERNAL_H
#define BROKER_SHARDS_INTERNAL_H

#include "broker/shards/courier.h"
#include "broker/shards/doors.h"
#include "broker/shards/nodes.h"
#include "broker/shards/placement.h"
#include "broker/shards/question.h"
#include "broker/shards/shards.h"
#include "proto/base/arena.h"

/* One shard, where its events go, and what is being done about it here. */
struct place {
    struct shards *shards;
    struct shard *shard; /* the replica on this node; NULL: none is open */
    bool serves;         /* this node's replica answers requests */
    struct courier *courier;
    uint32_t id;
    struct shard_change change; /* of the members, or of the leader */
    bool changing;
    uint64_t led_since_ms; /* of the loop's clock; 0: not led from here */
    uint64_t rest_until_ms;
    struct shard_call level_call;
    bool level_asked;
};

/* What functions used for queues of a shard that is not here, by their ids (tallies.c). */
struct tallies {
    struct tally_item *items;
    uint32_t count;
};

struct shards {
    struct shards_options options;
    struct arena arena;
    struct place places[1 + QUEUE_SHARDS_MAX];
    bool catalog_known; /* it says how many shards there are, and who founds them */
    bool opened;        /* all that are to be here have been opened once */
    struct shard_founding founding;
    struct shard_call founders_call;
    bool founders_asked;
    uv_timer_t tick;
    struct shard_sync sync; /* of the catalog */
    bool syncing;
    uint64_t sync_began_ms; /* the latest; and the latest that ended well: */
    uint64_t synced_ms;
    struct doors doors;
    struct tallies tallies[1 + QUEUE_SHARDS_MAX];
    bool handing_over;
    uint32_t handovers; /* under way */
    void (*handed_over)(void *data, enum status status);
    void *handed_over_data;
    enum status handover_status;
    uint32_t closing;
    void (*closed)(void *data);
    void *closed_data;
};

static inline uint64_t shards_now_ms(const struct shards *s)
{
    return uv_now(s->options.loop);
}

/* place_change: begin one, whose end is only traced and waited for; `rest_ms` after it nothing is
 * begun for this shard. */
typedef void (*place_change_fn)(struct shard *shard, struct shard_change *change, uint64_t node_id);
void place_change(struct place *place, place_change_fn begin, uint64_t node_id, uint64_t rest_ms);
bool place_may_change(const struct place *place);

/* place_sees_catalog: this node's catalog is no older than what the leaders of this shard before it
 * have gone by; else that is being seen to. Without it a new leader whose catalog lags would take
 * out members that it has not heard of yet. */
bool place_sees_catalog(const struct place *place);

/* founders_known: the catalog names them; where it does not yet, and is led from here, have them
 * written, and say false. founders_of: those of one queue shard; how many. Addresses are kept as
 * long as `s`. */
bool founders_known(struct shards *s);
size_t founders_of(struct shards *s, uint32_t shard, struct shard_member *out);

/* replicas_of: the list of a queue shard; where the catalog has none, all its voters that are not
 * leaving. The K-th of them leads then (M4). */
void replicas_of(const struct shards *s, uint32_t shard, struct replica_list *out);

/* place_serves: this node has a vote in that shard, and is not to let go of it. place_is_listed:
 * the list names this node, and not as one that is leaving. */
bool place_serves(const struct place *place);
bool place_is_listed(const struct place *place);

/* shards_total without the queue shards that nobody has begun yet. */
static inline uint32_t places_end(const struct shards *s)
{
    return s->catalog_known ? 1 + s->founding.queue_shards : 1;
}

/* follow_tick, balance_tick: one step for one shard that is led from here. True: something was
 * begun. */
bool follow_tick(struct place *place);
bool balance_tick(struct place *place);

/* tallies_get: of one function, in a shard here or not; false: nothing. tallies_free: forget them.
 */
bool tallies_get(const struct shards *shards, uint32_t shard_id, uint64_t function_id,
                 struct usage *out);
void tallies_free(struct shards *shards);

/* level_tick: one step for the feature level of one shard. */
void level_tick(struct place *place);

#endif
