/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of broker/replication share: the shard itself and the calls between its parts.
 * Nothing outside the folder includes this. thread: loop. */
#ifndef BROKER_REPLICATION_INTERNAL_H
#define BROKER_REPLICATION_INTERNAL_H

#include "broker/replication/raft_disk.h"
#include "broker/replication/shard.h"

#define ENTRY_BYTES_GOOD  (256u << 10) /* a batch is closed at this, unless one call is bigger */
#define CALL_BYTES_MAX    (16u << 20)
#define FLIGHT_BYTES_MAX  (64u << 20) /* of calls queued or in Raft; then BUSY */
#define FLIGHT_CALLS_MAX  100000u
#define ENTRIES_IN_FLIGHT 2u
#define WAITING_MAX       100000u
#define SNAPSHOT_TRAILING 16u
#define ENTRY_OVERHEAD    256u /* what the library keeps in memory for each entry, about */
/* Of log between two snapshots: at least, and at most; and of memory; see snapshot.c. */
#define SNAPSHOT_BYTES            (UINT64_C(64) << 20)
#define SNAPSHOT_BYTES_MAX        (UINT64_C(2) << 30)
#define SNAPSHOT_MEMORY_BYTES     (UINT64_C(32) << 20)
#define SNAPSHOT_MEMORY_BYTES_MAX (UINT64_C(128) << 20)
#define SCRATCH_BYTES             (1u << 20)
/* Without a stored snapshot for so much log, or memory, entries are spaced; at twice that sends are
 * refused. */
#define PACED_BYTES        (UINT64_C(6) << 30)
#define PACED_MEMORY_BYTES (UINT64_C(384) << 20)
#define PACE_MS            20u
#define DISK_RESERVE_BYTES (UINT64_C(256) << 20)
#define NO_SLOT            SIZE_MAX

/* OPENING -> FOLLOWING -> BARRIER -> FOUNDING (only once) -> READY, and back to FOLLOWING whenever
 * leadership is lost; CLOSING from any of them. */
enum stage {
    STAGE_OPENING,
    STAGE_FOLLOWING,
    STAGE_BARRIER,
    STAGE_FOUNDING,
    STAGE_READY,
    STAGE_CLOSING
};

struct call_list {
    struct shard_call *first;
    struct shard_call *last;
};

/* One Raft entry that this node proposed. */
struct entry {
    struct raft_apply request;
    struct shard *shard;
    struct call_list calls;
    size_t bytes; /* of its calls, for the bound */
    struct entry *next;
};

struct batch {
    struct call_list pending;
    size_t pending_bytes;
    struct call_list refused; /* answered at the end of this turn of the loop */
    struct entry *first;      /* in flight, in the order of their indexes */
    struct entry *last;
    uint32_t in_flight;
    size_t flight_bytes; /* of all calls not yet answered */
    uint32_t flight_calls;
    struct buffer scratch;  /* the entry being built */
    struct buffer results;  /* struct core_result of the call being answered */
    struct buffer messages; /* their messages, where there are several results */
};

struct wait_queue;
struct waits {
    struct wait_queue *queues;
    struct shard_receive **heap; /* parked receives by deadline */
    size_t heap_count;
    size_t heap_capacity;
    struct shard_receive *finishing; /* answered at the end of this turn of the loop */
    struct shard_receive *finishing_last;
    struct buffer touched; /* u64 ids of queues to look at */
};

struct shard {
    struct shard_options options;
    struct core *core;
    struct log *log; /* NULL once it is being closed */
    struct raft_disk disk;
    struct raft raft;
    struct raft_fsm fsm;
    struct raft_barrier barrier;
    enum stage stage;
    struct batch batch;
    struct waits waits;
    struct shard_call founding;
    struct shard_call tick;
    bool ticking; /* a TICK is in flight */
    struct snapshots {
        struct unstored { /* of entries that no stored snapshot covers */
            uint64_t log_bytes;
            uint64_t memory_bytes; /* that the library keeps for them */
        } held;
        struct unstored covered; /* of those, by the snapshot being made */
        struct unstored failed;  /* what was held when one failed */
        uint64_t bodies;         /* that the core refers to */
        bool making;
        struct buffer scratch;
    } snapshots;
    uint64_t proposed_ms; /* when an entry was proposed last */
    bool told_ready;
    bool catalog_changed;
    struct buffer ready_queues; /* u64 ids, from the core's events */

    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;
    uv_timer_t tick_timer;
    uv_timer_t wait_timer;
    uv_timer_t disk_timer;
    uv_timer_t pace_timer;
    uint64_t tick_at_ms; /* what tick_timer is set for */
    unsigned handles;
    uint64_t disk_free_bytes;
    uint64_t unchecked_bytes; /* of log since that was looked up */
    bool disk_low;
    uint64_t entries;
    uint64_t commands;
    void (*closed)(void *data);
    void *closed_data;
};

/* ---- shard.c ---- */
/* shard_wake: make sure that shard_flush runs before the loop sleeps. */
void shard_wake(struct shard *shard);
/* shard_note_ready: ask the owner at the end of the turn if it wants messages of this queue. */
void shard_note_ready(struct shard *shard, uint64_t queue_id);
/* shard_fatal: trace and end the process. */
__attribute__((noreturn)) void shard_fatal(struct shard *shard, const char *sentence);

/* ---- snapshot.c ---- */
/* snapshots_init: the library's calls and the log's; before raft_init. */
void snapshots_init(struct shard *shard);
void snapshots_free(struct shard *shard);
/* snapshots_note_entry: an entry was applied, and the library keeps it. What can be given back of
 * its memory is: the library must not read it again. snapshots_note_replayed: one that it has not.
 */
void snapshots_note_entry(struct shard *shard, const struct raft_buffer *payload);
void snapshots_note_replayed(struct shard *shard, size_t length);
/* snapshots_pace_ms: so long the next entry should wait; snapshots_full: no more sends. */
uint64_t snapshots_pace_ms(const struct shard *shard);
bool snapshots_full(const struct shard *shard);

/* ---- batch.c ---- */
/* batch_add: queue a call without the checks that shard_call makes. */
void batch_add(struct shard *shard, struct shard_call *call);
void batch_propose(struct shard *shard);
/* batch_apply: if this node proposed entry `index`, apply it and answer its calls; else false. */
bool batch_apply(struct shard *shard, uint64_t index, struct slice payload);
/* batch_refuse_all: what is not proposed yet is answered with `status`. */
void batch_refuse_all(struct shard *shard, enum status status);
void batch_deliver(struct shard *shard);
void batch_free(struct shard *shard);

/* ---- wait.c ---- */
void wait_touch(struct shard *shard, uint64_t queue_id);
/* wait_ready: a message became visible. */
void wait_ready(struct shard *shard, uint64_t queue_id);
void wait_pump(struct shard *shard);
/* wait_serve: append receives that the commands of `calls` can serve to `calls`. */
void wait_serve(struct shard *shard, struct call_list *calls);
void wait_finish_all(struct shard *shard, enum status status);
void wait_deliver(struct shard *shard);
void wait_arm(struct shard *shard);
void wait_on_timer(uv_timer_t *timer);
uint64_t wait_count(const struct shard *shard);
/* wait_asked: how many messages the receives in flight for this queue ask for. */
uint64_t wait_asked(const struct shard *shard, uint64_t queue_id);
void wait_free(struct shard *shard);

static inline void call_list_add(struct call_list *list, struct shard_call *call)
{
    call->next = NULL;
    if (list->last != NULL)
        list->last->next = call;
    else
        list->first = call;
    list->last = call;
}

static inline struct shard_call *call_list_take(struct call_list *list)
{
    struct shard_call *call = list->first;
    if (call != NULL) {
        list->first = call->next;
        list->last = list->first != NULL ? list->last : NULL;
        call->next = NULL;
    }
    return call;
}

#endif
