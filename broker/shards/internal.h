/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. Nothing outside includes it.
 *
 *     shards.c    opens, closes and finds them
 *     founders.c  who founds the queue shards: written in the catalog once
 *     placement.c on which nodes a shard is, in the catalog
 *     replicas.c  the same, as this node goes by it
 *     follow.c    the members of the queue shards follow that
 *     balance.c   which node leads which
 *     planner.c   changes where they are, by what plan.c says
 *     watch.c     what nodes ask each other about that (inquiry.c)
 *     release.c   letting go of a replica
 *     level.c     their feature levels follow the catalog's
 *     handover.c  a node that stops lets others lead first
 *     nodes.c     what the catalog says of a node
 *     courier.c   messages that go from one to another
 *     door.c      asking for what a shard does, wherever it is; door_serve.c, glance.c: answering
 *     doors.c     what of that is under way; question.c: as bytes
 *     look.c      what queues shards have that are not here; look_serve.c, look_message.c
 *     tallies.c   what functions used, in shards that are not here
 *     duty.c      changing that, and removing a node
 */
#ifndef BROKER_SHARDS_INTERNAL_H
#define BROKER_SHARDS_INTERNAL_H

#include "broker/shards/courier.h"
#include "broker/shards/doors.h"
#include "broker/shards/inquiry.h"
#include "broker/shards/nodes.h"
#include "broker/shards/placement.h"
#include "broker/shards/question.h"
#include "broker/shards/shards.h"
#include "proto/base/arena.h"

/* A question that another node was asked (watch.c), and its answer once that is there. */
struct asked {
    uint64_t number;
    uint64_t node_id; /* who, where that is not the leader */
    uint64_t list;    /* the version that it was about */
    uint64_t asked_ms;
    enum inquiry_word word;
};

/* Letting go of a replica, after it was asked whether that may be (release.c). */
enum release { RELEASE_NONE, RELEASE_CLOSING, RELEASE_KEEPING, RELEASE_REMOVING };

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
    struct shard_state *state; /* as its leader told last; NULL: nobody has */
    uint64_t state_ms;
    size_t turn;        /* whose turn it is to be asked */
    struct asked out;   /* is this node out of the shard? */
    struct asked open;  /* is one that is to be added ready for it? */
    uint64_t list_seen; /* a version of the list, and since when it is known here */
    uint64_t list_seen_ms;
    bool releases; /* nobody is to count on this node's replica again */
    uint64_t
        out_since_ms; /* this node is no member, as its leader said; 0: as far as is known it is */
    uint32_t held;    /* requests that use the replica here (shards_hold) */
    enum release release;
    bool release_works;     /* in the pool */
    uint64_t release_at_ms; /* after a failure: not before */
    bool unkept; /* there is a folder that was begun, and what it promised was not kept yet */
    uint64_t released_list; /* by this version there is nothing to let go of */
    struct shard_end end;   /* of its log */
    uv_work_t work;
    struct shard_call strike_call;
    bool striking;
};

/* A courier that another shard may still have to answer. */
struct spent {
    struct courier *courier;
    struct spent *next;
};

/* What functions used for queues of a shard that is not here, by their ids (tallies.c). */
struct tallies {
    struct tally *items;
    uint32_t count;
};

struct shards {
    struct shards_options options;
    struct arena arena;
    struct place places[1 + QUEUE_SHARDS_MAX];
    bool catalog_known;   /* it says how many shards there are, and who founds them */
    bool opened;          /* all that are to be here have been opened once */
    uint64_t begun_at_ms; /* after a failure to keep shards_begun: not before */
    struct shard_founding founding;
    struct shard_call founders_call;
    bool founders_asked;
    uv_timer_t tick;
    uint64_t asked; /* the last question's number; the first is random */
    uint64_t watched_ms;
    struct shard_call plan_call;
    bool planning;
    uint64_t plan_rest_ms;
    struct spent *spent;    /* couriers of shards that are not here any more */
    struct shard_sync sync; /* of the catalog */
    bool syncing;
    uint64_t sync_began_ms; /* the latest; and the latest that ended well: */
    uint64_t synced_ms;
    struct doors doors;
    struct tallies tallies[1 + QUEUE_SHARDS_MAX];
    struct fetch *fetches; /* of tallies, under way */
    bool handing_over;
    uint32_t handovers; /* under way */
    void (*handed_over)(void *data, enum status status);
    void *handed_over_data;
    enum status handover_status;
    uint32_t parts; /* that closing waits for */
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
 * leaving, the K-th of those that are active first. */
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

/* watch_open, watch_close: begin and end to answer. watch_tick: ask what there is to ask. */
void watch_open(struct shards *s);
void watch_close(struct shards *s);
void watch_tick(struct shards *s);

/* watch_is_out: the shard's leader has said that this node is no member, by the list of this
 * version or a later one; else it is asked. watch_is_open: that node has said that it has opened
 * its replica; else it is asked. */
bool watch_is_out(struct place *place, uint64_t list);
bool watch_is_open(struct place *place, uint64_t node_id, uint64_t list);

/* plan_tick: one change of the lists, where the catalog is led. */
void plan_tick(struct shards *s);

/* release_tick: let go of the replica here, if the lists say so; also of what is left of one.
 * release_take_up: where a folder is to be begun, with what an earlier replica promised.
 * release_was_here: there was one.
 * release_strike: take a node out of the list, which it leaves. */
void release_tick(struct place *place);
void release_take_up(struct place *place);
bool release_was_here(const struct place *place);
void release_strike(struct place *place, const struct replica_list *list, uint64_t node_id);

/* place_dir: the folder of its replica; `suffix` is "" or of a name beside it. */
#define PLACE_DIR_MAX 4224u
void place_dir(const struct place *place, const char *suffix, char out[PLACE_DIR_MAX]);

/* shards_part_begin, shards_part_closed: something that closing waits for. */
void shards_part_begin(struct shards *s);
void shards_part_closed(struct shards *s);

/* follow_tick, balance_tick: one step for one shard that is led from here. True: something was
 * begun. */
bool follow_tick(struct place *place);
bool balance_tick(struct place *place);

/* tallies_get: of one function, in a shard here or not; false: nothing. tallies_free: forget them.
 */
bool tallies_get(const struct shards *shards, uint32_t shard_id, uint64_t function_id,
                 struct usage *out);
void tallies_free(struct shards *shards);
/* tallies_tick: wait no longer for who says nothing. */
void tallies_tick(struct shards *shards);

/* level_tick: one step for the feature level of one shard. */
void level_tick(struct place *place);

#endif
