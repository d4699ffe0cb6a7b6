/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a shard, and what the files of broker/core say to each other. Private to
 * broker/core. Everything that a snapshot must carry is marked so in snapshot.c's format table; the
 * rest is found again from it. thread: apply. */
#ifndef BROKER_CORE_STATE_H
#define BROKER_CORE_STATE_H

#include "broker/core/core.h"
#include "broker/core/heap.h"
#include "broker/core/lane.h"
#include "broker/core/message.h"
#include "broker/core/names.h"
#include "proto/base/assert.h"

#define uthash_fatal(message) assert_failed(__FILE__, __LINE__, message)
#include <uthash.h>
#include <utlist.h>

#define POSITION_NONE UINT32_MAX

/* The function's own queue of asynchronous events, which goes with it (broker/dispatch). */
#define HIDDEN_QUEUE_PREFIX "/async/"

struct queue {
    struct queue_view view; /* its slices are owned; oldest_sent_ms is filled in when read */
    uint64_t seq_last;
    uint32_t slot;         /* in core.queues */
    uint32_t retention_at; /* position in core.retention; POSITION_NONE without messages */
    bool ready_noted;      /* is in core.ready */
    struct lane ready;
    struct lane age;
    UT_hash_handle hh; /* by view.queue_id */
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

struct core {
    struct core_events events;
    uint64_t now_ms;
    uint64_t applied_index;
    uint64_t version_last;
    uint64_t queue_id_last;
    bool bootstrapped;
    uint8_t cluster_id[UUID_BYTES];
    uint8_t secret[32];

    struct messages messages;
    struct heap deadlines; /* of delayed and in-flight messages; items are message indexes */
    struct heap
        retention;        /* of queues with messages, by when the oldest expires; items are slots */
    uint64_t bodies_held; /* body_hold less body_release */

    struct queue **queues; /* by slot; NULL = free */
    uint32_t queue_slots;
    uint32_t queue_slots_capacity;
    uint32_t *free_slots;
    uint32_t free_slot_count;
    struct names queue_names;
    struct queue *queues_by_id; /* uthash */
    uint32_t *ready;            /* slots of queues to tell events.queue_ready about */
    uint32_t ready_count;

    struct names function_names;
    struct blob *blobs;               /* uthash */
    struct blob *unused_blobs;        /* utlist, oldest first */
    struct mapping *mappings_by_uuid; /* uthash */
    struct mapping **mappings;        /* in order of creation */
    size_t mapping_count;
    size_t mapping_capacity;

    struct core_message *received; /* of the last RECEIVE */
    uint32_t received_capacity;
};

/* ---- core.c ---- */

/* slice_own: a heap copy. slice_disown: free it and make the slice absent. */
struct slice slice_own(struct slice s);
void slice_disown(struct slice *s);

/* Tell the owner, and keep the balance that core_check compares (I6). */
void body_hold(struct core *core, struct body_ref ref);
void body_release(struct core *core, struct body_ref ref);

/* ---- queue.c ---- */

struct queue *queue_find(const struct core *core, uint64_t queue_id);

/* queue_add: a new queue with copies of `view`'s slices; its id and name must be new. */
struct queue *queue_add(struct core *core, const struct queue_view *view);

/* queue_remove: with all its messages; tells queue_gone. queue_free: only its memory. */
void queue_remove(struct core *core, struct queue *queue);
void queue_free(struct queue *queue);

void queue_create(struct core *core, const struct command *command, struct core_result *result);
void queue_update(struct core *core, const struct command *command, struct core_result *result);
void queue_delete(struct core *core, const struct command *command, struct core_result *result);
void queue_purge(struct core *core, const struct command *command, struct core_result *result);
void queue_tag(struct core *core, const struct command *command, struct core_result *result);

/* queue_store: put a message that is known in the pool, with queue_slot, seq and sent_ms set, into
 * the map and the age lane. It is in no state yet: queue_show or queue_hide must follow. */
void queue_store(struct core *core, struct queue *queue, uint32_t index);

/* queue_show: make it visible. queue_hide: delayed or in flight until due_after_ms, already set.
 * queue_withdraw: leave the state it is in; one of the others, or queue_unstore, must follow. */
void queue_show(struct core *core, struct queue *queue, uint32_t index);
void queue_hide(struct core *core, struct queue *queue, uint32_t index, enum message_state state);
void queue_withdraw(struct core *core, struct queue *queue, uint32_t index);

/* queue_unstore: undo queue_store, and give the message back to the pool; its body is not released.
 * queue_drop: withdraw, release the body, unstore. */
void queue_unstore(struct core *core, struct queue *queue, uint32_t index);
void queue_drop(struct core *core, struct queue *queue, uint32_t index);

/* queue_ready_tell: tell about the queues in which messages became visible, once each. */
void queue_ready_tell(struct core *core);

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

/* message_by_lease: the message, if `lease` is or was one of it; else MESSAGE_NONE. */
uint32_t message_by_lease(const struct core *core, const struct queue *queue,
                          struct core_lease lease);

/* ---- move.c ---- */

void move_start(struct core *core, const struct command *command, struct core_result *result);
void move_cancel(struct core *core, const struct command *command, struct core_result *result);

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

void function_put(struct core *core, const struct command *command, struct core_result *result);
void function_delete(struct core *core, const struct command *command, struct core_result *result);
void function_usage(struct core *core, const struct command *command, struct core_result *result);
void mapping_put(struct core *core, const struct command *command, struct core_result *result);
void mapping_delete(struct core *core, const struct command *command, struct core_result *result);

/* ---- snapshot.c ---- */

/* The parts of a snapshot that have one form for one state: everything but the messages, which may
 * stand in any order. For core_digest. */
void snapshot_encode_catalog(const struct core *core, struct buffer *out);
void snapshot_encode_queue(const struct queue *queue, struct buffer *out);

#endif
