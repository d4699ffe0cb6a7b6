/* SPDX-License-Identifier: Apache-2.0 */
/* The state machine of one shard: queues, messages, leases, functions, mappings, usage.
 *
 * It reads no clock, no random source, no file and no environment: the same entries give the same
 * state on every replica (core_digest proves it). Commands change it through core_apply only; every
 * other function reads. core_apply cannot fail for a local reason; running out of memory aborts.
 * thread: apply (the loop that owns the shard); nothing here is called from another.
 *
 * Invariants, checked by core_check:
 *   I1  a message is in exactly one state: delayed, visible or in flight
 *   I2  a queue's counters equal the number of its messages in each state
 *   I3  a delayed or in-flight message has exactly one deadline, later than core time once there is
 *       no backlog of due ones
 *   I4  visible messages are handed out in sending order, as far as leases allow; in a FIFO queue
 *       none is handed out while an earlier one of its group is delayed or in flight
 *   I5  a message's receive count never goes down, except when it moves to another queue
 *   I6  events.body_hold and body_release balance: what is held is what is referenced, or belonged
 *       to a queue that was purged or deleted and is being dropped */
#ifndef BROKER_CORE_CORE_H
#define BROKER_CORE_CORE_H

#include "broker/core/command.h"
#include "broker/core/types.h"

struct core;

/* Told to the owner while entries are applied or a snapshot is restored. They steer local matters
 * (segment reclaiming, waking consumers) and must not touch the core. */
struct core_events {
    void *data;
    void (*body_hold)(void *data, struct body_ref ref);      /* is referenced from now on */
    void (*body_release)(void *data, struct body_ref ref);   /* is referenced no more */
    void (*queue_ready)(void *data, uint64_t queue_id);      /* there may be more to receive */
    void (*queue_gone)(void *data, uint64_t queue_id);       /* the queue was deleted */
    void (*catalog_changed)(void *data);                     /* a function or mapping was changed */
    void (*document_changed)(void *data, struct slice name); /* a document was put or deleted */
    void (*departs)(void *data, uint32_t shard); /* a message waits for this other shard */
};

enum core_code {
    CORE_OK,
    CORE_EXISTS,   /* the name is taken: see result.queue_id / version; a mapping of this function
                    * and queue under another uuid; a move of this queue that still runs */
    CORE_NO_QUEUE, /* no such queue (perhaps deleted meanwhile); ARRIVE: it is refused, also for
                    * the type of the queue */
    CORE_NO_FUNCTION, /* no such function, or nothing is counted for it here */
    CORE_NO_MAPPING,
    CORE_NO_BLOB,       /* the code is not there or not complete */
    CORE_NO_MESSAGE,    /* deleted or expired meanwhile */
    CORE_NOT_IN_FLIGHT, /* the message is there, not leased, and was by a later receive */
    CORE_STALE_LEASE,   /* a later receive holds it (exact deletes, lease changes) */
    CORE_CONFLICT,      /* the version is another by now; ARRIVE, REFUSED: it is not its turn */
    CORE_LIMIT,         /* messages wait, but too many are in flight (OverLimit); queue_ready tells
                           when one of those is deleted */
    CORE_INVALID,       /* a piece of code that does not fit, a lease beyond 12 hours; a message
                         * without the ids that a FIFO queue needs; a queue's type changed; a move
                         * between queues of two types, or to the same queue */
    CORE_EXPIRED_LEASE, /* FIFO queues: the lease has ended (for STALE_LEASE and NOT_IN_FLIGHT) */
    CORE_NO_MOVE,       /* no such move */
    CORE_NO_DOCUMENT    /* no such document (perhaps deleted meanwhile) */
};

/* The result of one command. `messages` is borrowed until the next core call. */
struct core_result {
    enum core_code code;
    uint64_t queue_id;                   /* QUEUE_CREATE */
    uint64_t version;                    /* of what was put */
    uint64_t seq;                        /* SEND */
    const struct core_message *messages; /* RECEIVE */
    uint32_t message_count;
    bool duplicate;                 /* SEND: nothing was stored; seq and message_id tell of what */
    uint8_t message_id[UUID_BYTES]; /* SEND with a dedup id: of the message that is in the queue */
    uint64_t moved;                 /* MOVE_CANCEL: messages moved until now */
};

struct core *core_new(const struct core_events *events);
void core_free(struct core *core);

/* core_set_events: who is told from now on. A state may be restored on another thread, which tells
 * somebody else. */
void core_set_events(struct core *core, const struct core_events *events);

/* core_set_step: how many messages an entry may expire, show when they are due, or give over to
 * core_bury; 10,000 unless told. For tests: it is part of the state machine, so it must be
 * the same on all replicas, from the first entry on. */
void core_set_step(struct core *core, uint32_t messages);

/* core_bury: drop up to so many messages, and remembered ids, of purged and deleted queues. That is
 * no part of the state, so the owner chooses the moment: a little at a time, since each costs about
 * as much as a delete. core_bury_left: how many there are that the entries applied until now give
 * over. Whoever replays these entries has to drop them all before he looks which bodies are held:
 * the process before this one may have, and let the bodies go. */
void core_bury(struct core *core, uint64_t most);
uint64_t core_bury_left(const struct core *core);

/* core_begin: start applying entry `index` with the leader's time; core time becomes
 * max(core time, now_ms), and everything that is due runs. */
void core_begin(struct core *core, uint64_t index, uint64_t now_ms);

/* core_apply: one command of the entry begun. `entry` is the whole payload, to find body offsets.
 * The result's borrowed parts stay valid until the next call. */
void core_apply(struct core *core, const struct command *command, struct slice entry,
                struct core_result *result);

/* core_apply_entry: core_begin and every command, results dropped. For replicas and recovery.
 * INVALID when the entry does not decode: the caller must stop, its log is not ours. */
MUST_CHECK enum status core_apply_entry(struct core *core, uint64_t index, struct slice entry);

/* ---- reading ---- */

/* Borrowed views, valid until the core is next changed. */
struct queue_view {
    uint64_t queue_id;
    uint64_t version;
    struct slice name;
    struct queue_settings settings;
    struct slice tags;
    uint64_t created_ms;
    uint64_t modified_ms;
    uint64_t visible;
    uint64_t in_flight;
    uint64_t delayed;
    uint64_t oldest_sent_ms; /* of the messages present; 0 = none */
    uint64_t sent_total;     /* since creation, for /metrics */
    uint64_t received_total;
    uint64_t deleted_total;
    uint64_t empty_receives_total;
};
struct function_view {
    struct slice name;
    uint64_t version;
    struct slice config;
    uint8_t code_sha256[SHA256_BYTES];
    uint64_t code_bytes;
    struct usage usage;
};
struct mapping_view {
    uint8_t uuid[UUID_BYTES];
    uint64_t version;
    struct slice function_name;
    struct slice queue_name;
    struct slice config;
};

/* A named record that the core keeps unread for whoever uses it. */
struct document_view {
    struct slice name;
    uint64_t version;
    struct slice content;
};

enum move_status { MOVE_RUNNING, MOVE_COMPLETED, MOVE_CANCELLED, MOVE_FAILED };
enum move_failure {
    MOVE_FAILURE_NONE,
    MOVE_FAILURE_NO_SOURCE, /* a message that was never redriven has no queue to go back to */
    MOVE_FAILURE_NO_QUEUE   /* the queue to move to is gone, or of the other type */
};
struct move_view {
    uint8_t handle[UUID_BYTES];
    uint64_t source_queue_id;
    uint64_t destination_queue_id; /* 0: back to where each came from */
    uint32_t per_second_max;       /* 0 = none */
    enum move_status status;
    enum move_failure failure;
    uint64_t moved;   /* and arrived */
    uint64_t to_move; /* messages in the source queue at the start */
    uint64_t started_ms;
};

bool core_queue_by_name(const struct core *core, struct slice name, struct queue_view *out);
bool core_queue_by_id(const struct core *core, uint64_t queue_id, struct queue_view *out);
bool core_function_get(const struct core *core, struct slice name, struct function_view *out);
bool core_mapping_get(const struct core *core, const uint8_t uuid[UUID_BYTES],
                      struct mapping_view *out);

bool core_document_get(const struct core *core, struct slice name, struct document_view *out);

/* core_function_id: tells a function of the catalog from others, also from an earlier one of the
 * same name: the id of its queue of asynchronous events, which comes and goes with it. 0: there is
 * no such function, or it has no such queue. */
uint64_t core_function_id(const struct core *core, struct slice name);

/* core_tally: what a function of the catalog used for queues of this shard (USAGE_ADD); false:
 * nothing. core_tally_next: walk the function ids in order, from `after` 0; false at the end.
 * core_tally_at: where in tallies, which are in the order of their ids, that of this one is, or
 * would be. core_usage_add: all counters. */
bool core_tally(const struct core *core, uint64_t function_id, struct usage *out);
bool core_tally_next(const struct core *core, uint64_t after, uint64_t *function_id);
size_t core_tally_at(const struct tally *tallies, size_t count, uint64_t function_id);
void core_usage_add(struct usage *total, const struct usage *delta);

/* core_..._next: walk in name order (mappings: order of creation). `after` is the last name seen,
 * or an empty slice to begin; false at the end. */
bool core_queue_next(const struct core *core, struct slice after, struct queue_view *out);
bool core_function_next(const struct core *core, struct slice after, struct function_view *out);
bool core_document_next(const struct core *core, struct slice after, struct document_view *out);
/* `position`: 0 to begin; moved on by each call. */
bool core_mapping_next(const struct core *core, size_t *position, struct mapping_view *out);

/* The same by position, for walks over many, while the core does not change. core_queue_from: of
 * the first queue whose name is not less. core_queue_name_at: absent behind the last one.
 * core_queue_at: false there. core_queue_count: how many queues' names begin with `prefix`. */
size_t core_queue_from(const struct core *core, struct slice name);
struct slice core_queue_name_at(const struct core *core, size_t position);
bool core_queue_at(const struct core *core, size_t position, struct queue_view *out);
size_t core_queue_count(const struct core *core, struct slice prefix);

/* core_move_next: the moves out of a queue, the latest first, ten at most; the running one, if any,
 * is the latest. `position` as above. A queue's moves go with it. */
bool core_move_next(const struct core *core, uint64_t queue_id, size_t *position,
                    struct move_view *out);

/* A message that has left its queue and waits for another shard. */
struct outbox_view {
    uint64_t queue_id;            /* that it left */
    uint64_t seq;                 /* that it had there */
    struct command_arrive arrive; /* all but the record */
    struct body_ref body;         /* which is here */
};

/* core_outbox_next: walk what waits for another shard, in order. `position`: NULL to begin; moved
 * on by each call; good until the core is next changed. core_outbox_count: how many there are. No
 * queue counts them. */
struct parcel;
bool core_outbox_next(const struct core *core, uint32_t shard, const struct parcel **position,
                      struct outbox_view *out);
uint64_t core_outbox_count(const struct core *core, uint32_t shard);

/* core_blob_piece: the `n`th piece of a blob in order; false past the end or for an unknown blob.
 * core_blob_complete: all bytes are there. A blob that no function refers to is dropped an hour
 * after its first piece came, or when the last function that used it goes. */
bool core_blob_piece(const struct core *core, const uint8_t sha256[SHA256_BYTES], size_t n,
                     struct body_ref *out);
bool core_blob_complete(const struct core *core, const uint8_t sha256[SHA256_BYTES]);

/* core_message_body: where a message's record is, if the lease is one of a message present. */
bool core_message_body(const struct core *core, uint64_t queue_id, struct core_lease lease,
                       struct body_ref *out);

/* core_lease_held: it is the lease that holds the message now. */
bool core_lease_held(const struct core *core, uint64_t queue_id, struct core_lease lease);

/* core_outlook: what receives could be given of a queue now. `messages`: visible ones. `groups`: of
 * a FIFO queue, those that have none in flight, of which a receive takes whole ones; else
 * UINT64_MAX. False: there is no such queue. */
struct core_outlook {
    bool fifo;
    uint64_t messages;
    uint64_t groups;
};
bool core_outlook(const struct core *core, uint64_t queue_id, struct core_outlook *out);

/* core_group_of_lease, core_group_of_send: the group of a FIFO queue that has the message which
 * `lease` holds now, or which this message would join. False: there is none. `number` tells it
 * from the other groups of the shard while it is there. */
struct core_group {
    uint32_t number;
    uint32_t messages;
    uint32_t in_flight; /* of these */
};
bool core_group_of_lease(const struct core *core, uint64_t queue_id, struct core_lease lease,
                         struct core_group *out);
bool core_group_of_send(const struct core *core, const struct command_send *send,
                        struct core_group *out);

/* core_next_deadline_ms: when the next delay, lease or retention ends, or a move goes on; core time
 * while there is more to do than one entry may; UINT64_MAX = never. The leader proposes a TICK
 * then. While core_bury_left is not 0 it may be early, for what is buried may have a deadline, and
 * it does not ask for an entry that gives over more. */
uint64_t core_next_deadline_ms(const struct core *core);

uint64_t core_now_ms(const struct core *core);
uint64_t core_applied_index(const struct core *core);
bool core_bootstrapped(const struct core *core, uint8_t cluster_id[UUID_BYTES], uint8_t secret[32]);

/* core_place: which shard this is, and how many of the cluster hold queues (0: this one holds
 * all). */
void core_place(const struct core *core, uint32_t *shard, uint32_t *queue_shards);

/* ---- snapshots ---- */

/* core_snapshot: append the whole state (index only, never bodies) to `out`.
 * core_restore: replace an empty core's state; INVALID leaves it unusable (the caller frees it).
 * Emits body_hold for every reference. Format: documented in snapshot.c.
 * core_snapshot_stream: the same bytes as core_snapshot, a few hundred KiB at a time: they gather
 * in `scratch`, and `take` empties it whenever that much is there, and at the end. Takes no memory
 * but for `scratch`, and hardly ever more than 1 MiB of that. */
typedef void (*core_snapshot_take_fn)(void *data, struct buffer *piece);
void core_snapshot_stream(const struct core *core, struct buffer *scratch,
                          core_snapshot_take_fn take, void *data);
void core_snapshot(const struct core *core, struct buffer *out);
MUST_CHECK enum status core_restore(struct core *core, struct slice snapshot);

/* core_digest: 64 bits over the logical state; equal on replicas that applied the same entries. */
uint64_t core_digest(const struct core *core);

/* core_check: walk every invariant and assert. For tests and simulation: slow. */
void core_check(const struct core *core);

#endif
