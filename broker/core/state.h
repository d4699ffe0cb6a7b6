/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a shard, and what the files of broker/core say to each other. Private to
 * broker/core. Everything that a snapshot must carry is marked so in snapshot.c's format table; the
 * rest is found again from it. thread: apply. */
#ifndef BROKER_CORE_STATE_H
#define BROKER_CORE_STATE_H

#include "broker/core/core.h"
#include "broker/core/dedup.h"
#include "broker/core/group.h"
#include "broker/core/hashes.h"
#include "broker/core/heap.h"
#include "broker/core/lane.h"
#include "broker/core/message.h"
#include "broker/core/names.h"
#include "broker/core/place.h"
#include "proto/base/assert.h"

#define uthash_fatal(message) assert_failed(__FILE__, __LINE__, message)
#include <uthash.h>
#include <utlist.h>

/* The function's own queue of asynchronous events, which goes with it (broker/dispatch). */
#define HIDDEN_QUEUE_PREFIX "/async/"

/* What a FIFO queue remembers of a receive with an attempt id (attempt.c). */
struct attempt {
    struct slice id; /* owned */
    uint64_t received_ms;
    uint32_t count;
    struct attempt_lease {
        uint64_t seq;
        uint64_t due_ms;
        uint32_t receive_count;
    } * leases;
    UT_hash_handle hh;
};

/* A move of a queue's messages (move.c). */
struct move {
    struct move_view view;
    uint64_t seq_max;   /* later messages are not moved */
    uint64_t next_ms;   /* running: when it goes on */
    uint64_t window_ms; /* when the second began that window_moved counts in */
    uint32_t window_moved;
    uint32_t under_way; /* messages that it has put into outboxes */
};

struct queue {
    struct queue_view view; /* its slices are owned */
    uint64_t seq_last;
    uint64_t purged_seq;   /* messages up to here went with a purge */
    uint32_t slot;         /* in core.queues */
    uint32_t retention_at; /* position in core.retention; POSITION_NONE without messages */
    uint32_t chore_at;     /* position in core.chores; POSITION_NONE without any */
    bool ready_noted;      /* is in core.ready */
    bool buried;           /* is in core.graves */
    bool recalled;         /* while REFUSED runs: its other messages come back too */
    struct lane ready;     /* standard: visible messages without a group */
    struct lane age;
    struct groups groups;
    struct heap offers; /* of groups with something to give out; items are group indexes */
    struct dedups dedups;
    struct attempt *attempts; /* uthash, the oldest first */
    struct move *moves;       /* MOVES_KEPT of them, the latest first; NULL without any */
    uint32_t move_count;
    struct queue *prev, *next; /* in core.graves */
};

/* A queue that messages were redriven from, after this many receives in all. */
struct origin {
    struct origin_key {
        uint64_t queue_id;
        uint64_t received;
    } key;
    uint32_t index;
    uint32_t references;
    UT_hash_handle hh; /* by key */
};

/* A message on its way to another shard: all that the other side needs, and all that it takes to
 * put it back where it was (outbox.c). */
struct parcel {
    uint64_t number;
    uint64_t queue_id; /* that it left */
    bool fifo;
    uint64_t destination_id;       /* of a move; 0 = redriven */
    struct slice destination_name; /* redriven; owned */
    uint8_t move[UUID_BYTES];
    uint64_t seq;
    uint64_t sent_ms;
    struct body_ref body;
    uint32_t receive_count;
    uint32_t first_receive_after_ms;
    uint32_t origin;    /* with a reference */
    struct slice group; /* owned */
    struct parcel *prev, *next;
};

/* What goes to another shard, and what has come from it. */
struct passage {
    uint64_t number_last;   /* given to a parcel */
    struct parcel *parcels; /* utlist, in order of number */
    uint32_t count;
    uint64_t accepted;     /* from there: all numbers up to this one are dealt with */
    uint64_t refused_from; /* those from this one to `accepted` were refused, and are not settled
                            * yet; 0 = none */
};

struct blob {
    uint8_t sha256[SHA256_BYTES];
    uint64_t total_bytes;
    uint64_t stored_bytes;
    uint64_t created_ms;
    struct body_ref *pieces;
    uint32_t piece_count;
    uint32_t piece_capacity;
    uint32_t references; /* of functions; 0: it is in core.unused_blobs */
    struct blob *prev, *next;
    UT_hash_handle hh; /* by sha256, in order of creation */
};

struct function {
    struct function_view view; /* its slices are owned */
    struct blob *blob;
};

struct mapping {
    struct mapping_view view; /* its slices are owned */
    UT_hash_handle hh;        /* by view.uuid */
};

struct document {
    struct document_view view; /* its slices are owned */
};

struct core {
    struct core_events events;
    uint64_t now_ms;
    uint64_t applied_index;
    uint64_t version_last;
    uint64_t queue_id_last;
    uint32_t shard; /* which of the cluster's this is; 0: the catalog */
    uint32_t queue_shards;
    bool bootstrapped;
    uint8_t cluster_id[UUID_BYTES];
    uint8_t secret[32];

    struct messages messages;
    struct heap deadlines; /* of delayed and in-flight messages; items are message indexes */
    struct heap
        retention;        /* of queues with messages, by when the oldest expires; items are slots */
    struct heap chores;   /* of queues, by when something else is due; items are slots */
    uint64_t bodies_held; /* body_hold less body_release */

    uint32_t step_max; /* bounds all steps; what is left of it in this entry: */
    uint32_t retention_left;
    uint32_t deadlines_left;
    uint32_t graves_left;

    uint64_t graves_whole; /* messages and ids in graves that no entry has given over yet */
    uint64_t graves_due;   /* that one has, and that are still there */

    struct group **groups; /* by index; [0] is none */
    uint32_t group_count;
    uint32_t group_capacity;
    uint32_t *free_groups;
    uint32_t free_group_count;
    struct origin **origin_rows; /* by index; NULL = free */
    uint32_t origin_last;
    struct origin *origins; /* uthash */
    struct queue *graves;   /* utlist: what is left of purged and deleted queues */

    struct queue **queues; /* by slot; NULL = free */
    uint32_t queue_slots;
    uint32_t queue_slots_capacity;
    uint32_t *free_slots;
    uint32_t free_slot_count;
    struct names queue_names;
    struct hashes queues_by_id; /* values are slots */
    struct hashes queues_by_name;
    uint32_t *ready; /* slots of queues to tell events.queue_ready about */
    uint32_t ready_count;

    struct passage passages[1 + QUEUE_SHARDS_MAX]; /* by the other shard */

    struct names function_names;
    struct blob *blobs;               /* uthash */
    struct blob *unused_blobs;        /* utlist, oldest first */
    struct mapping *mappings_by_uuid; /* uthash */
    struct mapping **mappings;        /* in order of creation */
    size_t mapping_count;
    size_t mapping_capacity;
    struct names document_names;
    struct tally *tallies; /* by function id */
    size_t tally_count;
    size_t tally_capacity;

    struct core_message *received; /* of the last RECEIVE */
    uint32_t received_capacity;
};

/* ---- core.c ---- */

/* slice_own: a heap copy. slice_disown: free it and make the slice absent. */
struct slice slice_own(struct slice s);
void slice_disown(struct slice *s);

/* core_hash_key: what tables hash with whose keys clients choose. */
struct siphash_key core_hash_key(const struct core *core);

/* Tell the owner, and keep the balance that core_check compares (I6). */
void body_hold(struct core *core, struct body_ref ref);
void body_release(struct core *core, struct body_ref ref);

/* ---- queue.c ---- */

struct queue *queue_find(const struct core *core, uint64_t queue_id);

/* queue_place: where queue_find will look first. queue_slot: the only slot that the queue can be
 * in, without looking at it; false: none. */
const void *queue_place(const struct core *core, uint64_t queue_id);
bool queue_slot(const struct core *core, uint64_t queue_id, uint32_t *slot);

/* queue_named: each send asks for one, so that it is not searched in queue_names.
 * queues_by_name_renew: core_hash_key has changed. */
struct queue *queue_named(const struct core *core, struct slice name);
void queues_by_name_renew(struct core *core);

/* queue_add: a new queue with copies of `view`'s slices; its id and name must be new. */
struct queue *queue_add(struct core *core, const struct queue_view *view);

/* queue_settle_in: give it a slot, which its id leads to, and no messages. queue_settle_out: its id
 * leads there no more; what is in the slot stays. */
void queue_settle_in(struct core *core, struct queue *queue);
void queue_settle_out(struct core *core, const struct queue *queue);

/* queue_remove: with all its messages; tells queue_gone. queue_free: only its memory. */
void queue_remove(struct core *core, struct queue *queue);
void queue_free(struct core *core, struct queue *queue);

void queue_create(struct core *core, const struct command *command, struct core_result *result);
void queue_update(struct core *core, const struct command *command, struct core_result *result);
void queue_delete(struct core *core, const struct command *command, struct core_result *result);
void queue_purge(struct core *core, const struct command *command, struct core_result *result);
void queue_tag(struct core *core, const struct command *command, struct core_result *result);

/* queue_store: put a message that is known in the pool and has its place (message_place) into the
 * map, the age lane and the group, which it has joined. It is in no state yet: queue_show or
 * queue_hide must follow. */
void queue_store(struct core *core, struct queue *queue, uint32_t index, uint32_t group);

/* queue_show: make it visible. queue_hide: delayed or in flight until due_after_ms, already set.
 * queue_withdraw: leave the state it is in; one of the others, or queue_unstore, must follow.
 * queue_enter: show or hide a new one by its due_after_ms; none overtakes an earlier one of its
 * group in a FIFO queue. */
void queue_show(struct core *core, struct queue *queue, uint32_t index);
void queue_hide(struct core *core, struct queue *queue, uint32_t index, enum message_state state);
void queue_withdraw(struct core *core, struct queue *queue, uint32_t index);
void queue_enter(struct core *core, struct queue *queue, uint32_t index);

/* queue_unstore: undo queue_store, and give the message back to the pool; its body is not released.
 * queue_drop: withdraw, release the body, unstore. */
void queue_unstore(struct core *core, struct queue *queue, uint32_t index);
void queue_drop(struct core *core, struct queue *queue, uint32_t index);

/* queue_transfer: give a message to another queue of the same type, where it is new, but for its
 * body, its group and `sent_ms`. `origin`: what it shows as its past; of queue 0 = nothing. */
void queue_transfer(struct core *core, struct queue *from, uint32_t index, struct queue *to,
                    uint64_t sent_ms, struct origin_key origin);

/* queue_put_back: store and show a message that left the queue, at its old place: among those of a
 * FIFO queue by its seq. `near`: one of the queue that was put back just now, or MESSAGE_NONE; only
 * saves time. */
void queue_put_back(struct core *core, struct queue *queue, uint32_t index, struct slice group_id,
                    uint32_t near);

/* queue_next: the message that would be given out next, or MESSAGE_NONE: of a standard queue
 * without regard to fairness. queue_overdue: messages are past their retention and not dropped yet,
 * so that none may be given out. */
uint32_t queue_next(const struct core *core, const struct queue *queue);
bool queue_overdue(const struct core *core, const struct queue *queue);

/* queue_ready_note: messages can be received. queue_ready_tell: tell about the queues noted, once
 * each. */
void queue_ready_note(struct core *core, struct queue *queue);
void queue_ready_tell(struct core *core);

/* queue_chores_follow: its chores have changed. */
void queue_chores_follow(struct core *core, struct queue *queue);

/* ---- grave.c ---- */

/* grave_purge: a queue's messages go; it is empty at once. grave_add: a queue that no name and no
 * id leads to any more goes. grave_give_over: as much of both as the entry still may. grave_run:
 * drop up to so much of what was. */
void grave_purge(struct core *core, struct queue *queue);
void grave_add(struct core *core, struct queue *queue);
void grave_give_over(struct core *core);
void grave_run(struct core *core, uint64_t most);

/* ---- origin.c ---- */

/* origin_ref: the row of a queue and of how often a message was received until it was redriven from
 * there, with one more reference; 0 for queue 0 or when there are too many. origin_of: of a
 * message; queue 0 = none. */
uint32_t origin_ref(struct core *core, struct origin_key key);
void origin_unref(struct core *core, uint32_t index);
struct origin_key origin_of(const struct core *core, const struct message *message);
struct origin_key origin_at(const struct core *core, uint32_t index);
void origins_free(struct core *core);

/* ---- attempt.c ---- */

/* attempt_replay: give what an earlier receive with this id gave, if nothing of it has changed.
 * attempt_keep: remember what `messages` were given. */
bool attempt_replay(struct core *core, struct queue *queue, struct slice id, uint32_t visibility_s,
                    uint32_t *count);
void attempt_keep(struct core *core, struct queue *queue, struct slice id, uint32_t count);
struct attempt *attempt_find(const struct queue *queue, struct slice id);
struct attempt *attempt_put(struct queue *queue, struct slice id, uint64_t received_ms,
                            uint32_t count);
void attempt_drop(struct queue *queue, struct attempt *attempt);
void attempt_sweep(struct core *core, struct queue *queue);
uint64_t attempt_due_ms(const struct queue *queue);

/* ---- deadline.c ---- */

/* deadline_run: do all that is due at core time. */
void deadline_run(struct core *core);

/* ---- send.c, receive.c, settle.c ---- */

void message_send(struct core *core, const struct command *command, struct slice entry,
                  struct core_result *result);
void message_receive(struct core *core, const struct command *command, struct core_result *result);
void message_delete(struct core *core, const struct command *command, struct core_result *result);
void message_change_visibility(struct core *core, const struct command *command,
                               struct core_result *result);

/* received_add: put what a receive gives out into the result. message_describe: as it shows. */
void received_add(struct core *core, uint32_t count, struct core_message message);
struct core_message message_describe(const struct core *core, const struct message *message);

/* message_by_lease: the message, if `lease` is or was one of it; else MESSAGE_NONE. */
uint32_t message_by_lease(const struct core *core, const struct queue *queue,
                          struct core_lease lease);

/* ---- outbox.c, arrive.c ---- */

/* outbox_is_away: another shard that messages can be sent to. outbox_has_room: for one more that is
 * redriven there. */
bool outbox_is_away(const struct core *core, uint32_t shard);
bool outbox_has_room(const struct core *core, uint32_t shard);

/* outbox_redrive: to the queue's dead-letter queue, which is in `shard`. outbox_move: to the queue
 * `destination_id`; false if too many wait for its shard. The message leaves its queue. */
void outbox_redrive(struct core *core, struct queue *queue, uint32_t index, uint32_t shard);
bool outbox_move(struct core *core, struct queue *queue, uint32_t index, uint64_t destination_id,
                 const uint8_t handle[UUID_BYTES]);

/* outbox_add: a parcel like `parcel`, behind the others, with copies of its slices; its number must
 * be the largest. */
void outbox_add(struct core *core, uint32_t shard, const struct parcel *parcel);
void outboxes_free(struct core *core);

void message_arrive(struct core *core, const struct command *command, struct slice entry,
                    struct core_result *result);
void message_departed(struct core *core, const struct command *command, struct core_result *result);
void message_refused(struct core *core, const struct command *command, struct core_result *result);

/* ---- move.c ---- */

void move_start(struct core *core, const struct command *command, struct core_result *result);
void move_cancel(struct core *core, const struct command *command, struct core_result *result);

/* move_settled: of the messages that a move put into outboxes, one has arrived; or was refused,
 * which ends it if it still runs. move_find: the latest of a queue with this handle, or NULL. */
void move_settled(struct core *core, struct queue *queue, const uint8_t handle[UUID_BYTES],
                  bool arrived);
struct move *move_find(struct queue *queue, const uint8_t handle[UUID_BYTES]);

/* move_run: the running move of a queue goes on if it is due. move_due_ms: when. */
void move_run(struct core *core, struct queue *queue);
uint64_t move_due_ms(const struct queue *queue);

/* ---- blob.c ---- */

struct blob *blob_find(const struct core *core, const uint8_t sha256[SHA256_BYTES]);

/* blob_add: a new one without pieces, unused. blob_append: one more piece. */
struct blob *blob_add(struct core *core, const uint8_t sha256[SHA256_BYTES], uint64_t total_bytes,
                      uint64_t created_ms);
void blob_append(struct core *core, struct blob *blob, struct body_ref piece);

/* blob_ref: one more function uses it. blob_unref: one less; without any it goes at once.
 * blob_drop: it goes, with all its pieces. blob_free: only its memory. */
void blob_ref(struct core *core, struct blob *blob);
void blob_unref(struct core *core, struct blob *blob);
void blob_drop(struct core *core, struct blob *blob);
void blob_free(struct blob *blob);

void blob_put(struct core *core, const struct command *command, struct slice entry,
              struct core_result *result);

/* ---- catalog.c ---- */

/* function_add, mapping_add: new ones with copies of `view`'s slices. */
void function_add(struct core *core, const struct function_view *view, struct blob *blob);
void mapping_add(struct core *core, const struct mapping_view *view);
void function_free(struct function *function);
void mapping_free(struct mapping *mapping);

/* version_code: may what has the version `current` (0: does not exist) be put by one who saw
 * `expected`? `missing`: the code for what does not exist. */
enum core_code version_code(uint64_t current, uint64_t expected, enum core_code missing);

void function_put(struct core *core, const struct command *command, struct core_result *result);
void function_delete(struct core *core, const struct command *command, struct core_result *result);
void function_usage(struct core *core, const struct command *command, struct core_result *result);
void mapping_put(struct core *core, const struct command *command, struct core_result *result);
void mapping_delete(struct core *core, const struct command *command, struct core_result *result);

/* ---- tally.c ---- */

/* tally_add: false: there is one of this function. */
bool tally_add(struct core *core, const struct tally *tally);

void usage_add(struct core *core, const struct command *command, struct core_result *result);
void usage_drop(struct core *core, const struct command *command, struct core_result *result);

/* ---- document.c ---- */

/* document_add: a new one with copies of `view`'s slices. */
void document_add(struct core *core, const struct document_view *view);
void document_free(struct document *document);

void document_put(struct core *core, const struct command *command, struct core_result *result);
void document_delete(struct core *core, const struct command *command, struct core_result *result);

#endif
