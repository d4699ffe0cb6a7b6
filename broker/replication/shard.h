/* SPDX-License-Identifier: Apache-2.0 */
/* One shard: a Raft group that replicates one core, as its users see it.
 *
 * Nothing is answered before it is committed, on disk at a majority, and applied here. Commands
 * from all callers that arrive while a batch is being written go into the next entry (group commit;
 * no added delay when idle). A waiting receive is served in the same entry as the send that
 * satisfies it. Calls and receives work on every replica: one that does not lead sends them to the
 * leader, and sends them again when the leader changes, without doing anything twice
 * (docs/replication.md). thread: loop. Callbacks never run before the call that started them has
 * returned. */
#ifndef BROKER_REPLICATION_SHARD_H
#define BROKER_REPLICATION_SHARD_H

#include "broker/core/core.h"

#include "broker/peer/peers.h"

#include <uv.h>

#define SHARD_MEMBERS_MAX 64u
#define SHARD_CALL_MS     10000u /* where there are other nodes: then a call has ended */

struct shard;

struct shard_member {
    uint64_t id;
    const char *address; /* HOST:PORT of its peer port */
};

struct shard_founding {
    uint8_t cluster_id[UUID_BYTES];
    uint8_t secret[32];    /* keys receipt handles */
    uint32_t queue_shards; /* broker/core/place.h */
};

struct shard_options {
    uv_loop_t *loop;
    const char *dir;     /* this shard's folder; made if it is missing */
    uint64_t node_id;    /* the Raft id of this node: > 0 */
    const char *address; /* the peer address of this node, as other nodes would dial it */
    uint16_t shard_id;   /* the channel on which replicas talk */
    struct peers *peers; /* how to reach the others; NULL: there are none */
    /* The voters of a new group, this node among them: the same list on all of them. Only looked at
     * when the folder is empty; none: this node alone. */
    const struct shard_member *members;
    size_t member_count;
    /* What a new group's first leader writes before all else: whose it is, and its place among the
     * cluster's shards. Borrowed while the shard is open. NULL: a random id and secret, and the
     * shard holds everything. */
    const struct shard_founding *founding;
    bool join; /* the folder may be empty: wait to be added to a group (shard_member_add) */
    uint32_t segment_bytes;  /* size of a log segment; 0 = 16 MiB */
    bool unpacked;           /* the log stores entries as they are; else LZ4 where that pays */
    uint64_t snapshot_bytes; /* log between two snapshots, at least; 0 = 64 MiB */
    uint64_t snapshot_spaced_bytes; /* the same, within ten seconds of the one before; 0 = no more
                                       than that, or 256 MiB where that is the default */
    uint32_t trailing_max;          /* entries kept behind one for members that lag; 0 = 32,768 */
    uint64_t move_rate; /* bytes a second that this node takes to catch up; 0 = no limit */
    uint64_t
        disk_reserve_bytes; /* sends are refused while less than this is free; default 256 MiB */
    /* leading_changed: this node leads, and everything older than its term is applied. Called again
     * with false when that ends. */
    void (*leading_changed)(void *data, bool leads);
    /* catalog_changed: a function or mapping was put or deleted (only while leading). */
    void (*catalog_changed)(void *data);
    /* queue_ready: a message of this queue is visible, and no waiting receive took it: on every
     * replica, as entries are applied there. A receive may still find that another has had it. */
    void (*queue_ready)(void *data, uint64_t queue_id);
    /* departs: messages wait for another shard (core_outbox_next; only while leading). NULL: nobody
     * carries them. */
    void (*departs)(void *data);
    void *data;
};

/* shard_open: recover from `dir` (blocking, at start only) and start taking part. On failure *error
 * is a sentence for the operator, in static storage: what is wrong and what to do.
 *   errors: CORRUPT, IO_ERROR, PERMISSION, DISK_FULL, INVALID (another node's data), UNSUPPORTED
 * (of a feature level that is too old). Data of a later level than the program's end the process,
 * here or when they come from another node, with EX_CONFIG after a trace. */
MUST_CHECK enum status shard_open(struct shard **out, const struct shard_options *options,
                                  const char **error);

/* shard_end: where its log ends now. */
struct shard_end {
    uint64_t term;
    uint64_t index;
};
struct shard_end shard_end(const struct shard *shard);

/* shard_end_waits: receives that wait here, on a node that does not lead, end now, as if their time
 * were over. */
void shard_end_waits(struct shard *shard);

/* shard_idle: no call, receive or sync is under way here, of this node or of another, nor a read
 * that waits for what is not on the disk yet; other reads are soon over. */
bool shard_idle(const struct shard *shard);

/* shard_close: stop taking calls (those under way end with CLOSED), then free everything and call
 * back. The shard's memory is gone when `closed` runs. */
void shard_close(struct shard *shard, void (*closed)(void *data), void *data);

/* shard_leads: as leading_changed told last. shard_leader: the node that leads in this term, as
 * far as is known here; 0 = none. */
bool shard_leads(const struct shard *shard);
uint64_t shard_leader(const struct shard *shard);

/* shard_ready: calls are likely to be answered soon: this node leads, or follows a leader that it
 * can reach and is not far behind. */
bool shard_ready(const struct shard *shard);

/* shard_now_ms: cluster time (docs/replication.md, "Time"): what the next entry would be stamped
 * with. */
uint64_t shard_now_ms(const struct shard *shard);

/* shard_core: the applied state, for reading. Valid until control returns to the loop. */
const struct core *shard_core(const struct shard *shard);

/* shard_level: the feature level in force here, as of the applied state (docs/upgrades.md). */
uint32_t shard_level(const struct shard *shard);

struct shard_call;
/* shard_raise_level: have it put into the state. `call` has `done` and `data` set; CONFLICT:
 * another leader did it. */
void shard_raise_level(struct shard *shard, struct shard_call *call, uint32_t level);

/* ---- commands ---- */

struct shard_call;
/* results: `count` of them when status is OK, borrowed for the duration of the callback; else NULL.
 * status: OK; NOT_LEADER (no leader took it in time), BUSY (too much in flight), DISK_FULL (sends
 * only), INVALID or TOO_LARGE (commands that do not decode, or more than 16 MiB of them),
 * UNSUPPORTED (a command of a later feature level than is in force): not done, and never will be;
 * CLOSED: the outcome is unknown. */
typedef void (*shard_call_cb)(struct shard_call *call, enum status status,
                              const struct core_result *results, uint32_t count);

/* The caller's memory, alive until `done` runs. The commands are applied in order, contiguously and
 * in one entry. */
struct shard_call {
    struct buffer commands; /* encoded with command_encode; freed by the shard */
    uint32_t count;
    bool grows; /* stores bodies: refused when the disk is nearly full */
    /* Its time counts from here, of the loop's clock (uv_now): when what it is for has arrived, if
     * that has waited for something else already. 0: now. */
    uint64_t since_ms;
    shard_call_cb done;
    void *data;
    /* private */
    struct shard_call *next;
    enum status refusal;
    uint64_t order; /* when it came, among those of this shard here */
    uint64_t deadline_ms;
    size_t bytes;
    bool of_other; /* sent here by another node */
};
/* shard_call: begin one. Calls are carried out in the order in which they were begun here, but for
 * those that end with an error. */
void shard_call(struct shard *shard, struct shard_call *call);

/* shard_call_add: encode one more command into a call that is being built. */
void shard_call_add(struct shard_call *call, const struct command *command);
struct record;
/* shard_call_send: the same for a SEND without a record, and this one, which gets its digests. */
void shard_call_send(struct shard_call *call, const struct command *send, struct record *record);

/* ---- receiving ---- */

struct shard_receive;
typedef void (*shard_receive_cb)(struct shard_receive *receive, enum status status,
                                 const struct core_result *result);

/* A receive that may wait. The caller's memory, alive until `done` runs. */
struct shard_receive {
    struct command_receive command;
    uint32_t wait_ms;      /* 0: answer at once */
    uint64_t since_ms;     /* as in struct shard_call: the wait counts from here */
    shard_receive_cb done; /* result: as of RECEIVE; no messages when the wait is over */
    void *data;
    /* private */
    bool cancelled;
    bool proposed;
    bool finishing;
    bool repeated; /* it was asked whether it repeats an earlier attempt */
    bool away;     /* it waits at the leader, another node */
    struct shard_origin {
        uint64_t node_id; /* 0: received here */
        uint64_t boot;
        uint64_t seq;
    } origin;
    enum status status;
    enum core_code code;
    uint64_t deadline_ms;
    size_t heap_slot;
    struct shard_receive *next;
    struct shard_receive *previous;
    struct shard *shard;
    struct shard_call call;
};
void shard_receive(struct shard *shard, struct shard_receive *receive);

/* shard_receive_cancel: the consumer has gone. `done` runs once with CANCELLED, and messages that
 * were being leased meanwhile are made visible again by the shard. */
void shard_receive_cancel(struct shard *shard, struct shard_receive *receive);

/* ---- seeing what others have written ---- */

/* A read that has to see all that was answered, on any node, before it was asked for. The caller's
 * memory, alive until `done`. */
struct shard_sync {
    void (*done)(struct shard_sync *sync, enum status status); /* OK; NOT_LEADER, CLOSED */
    void *data;
    uint64_t since_ms; /* as in struct shard_call */
    /* private */
    struct shard_sync *next;
    uint64_t number; /* of the question; 0: not asked yet */
    uint64_t index;  /* to be applied; 0: not known yet */
    uint64_t term;
    uint64_t deadline_ms;
};
void shard_sync(struct shard *shard, struct shard_sync *sync);

/* ---- members ---- */

enum shard_role { SHARD_LEARNER, SHARD_VOTER, SHARD_SPARE }; /* as in raft.h */

struct shard_member_view {
    uint64_t id;
    const char *address; /* borrowed until control returns to the loop */
    enum shard_role role;
    bool connected;
    bool leads;
    uint64_t match_index; /* on the leader: what it is known to have; else 0 */
};
/* shard_members: at most SHARD_MEMBERS_MAX; how many. */
size_t shard_members(const struct shard *shard, struct shard_member_view *out);

struct shard_change;
typedef void (*shard_change_cb)(struct shard_change *change, enum status status);
/* A change of the members, or a planned handover. The caller's memory, alive until `done`:
 * OK; NOT_LEADER: only the leader does it, and it may have lost its place with the outcome unknown;
 * BUSY: another change is under way; NOT_FOUND, EXISTS, INVALID; TIMEOUT. */
struct shard_change {
    shard_change_cb done;
    void *data;
    void *private_state;
};
/* shard_member_add: as a learner, which gets the log and has no vote. shard_member_promote: a
 * learner that has caught up becomes a voter. shard_member_remove: for good; its id is not used
 * again. The leader of two voters does not remove itself: it hands over, and says NOT_LEADER.
 * shard_transfer: let `node_id` lead (0: whoever is fit); calls wait meanwhile, none is refused. */
void shard_member_add(struct shard *shard, struct shard_change *change, uint64_t node_id,
                      const char *address);
void shard_member_promote(struct shard *shard, struct shard_change *change, uint64_t node_id);
void shard_member_remove(struct shard *shard, struct shard_change *change, uint64_t node_id);
void shard_transfer(struct shard *shard, struct shard_change *change, uint64_t node_id);

/* ---- bodies ---- */

/* shard_read_now: append the body to `out` if that needs no waiting for the disk; else false. */
bool shard_read_now(struct shard *shard, struct body_ref ref, struct buffer *out);

struct shard_read;
typedef void (*shard_read_cb)(struct shard_read *read, enum status status);
struct shard_read {
    const struct body_ref *refs; /* caller's, alive until done */
    size_t count;
    struct buffer out;  /* the bodies, one after the other; the caller frees it */
    shard_read_cb done; /* CORRUPT or IO_ERROR: a body could not be read */
    void *data;
    /* private */
    void *private_state;
    struct shard_read *next;
};
/* shard_read: the same from a pool thread. Bodies stay readable for calls begun while the message
 * was still referenced by the core. */
void shard_read(struct shard *shard, struct shard_read *read);

/* ---- seeing inside ---- */

struct shard_stats {
    uint64_t term;
    uint64_t last_index;
    uint64_t applied_index;
    uint64_t snapshot_index;
    uint64_t log_bytes_written; /* since start */
    uint64_t log_bytes_saved;   /* since start, by packing */
    uint64_t log_syncs;         /* since start */
    uint64_t log_segments;
    uint64_t log_bytes_on_disk;
    uint64_t entries;                /* proposed since start */
    uint64_t commands;               /* proposed since start */
    uint64_t waiting;                /* receives that wait now */
    uint64_t snapshots;              /* stored since start */
    uint64_t snapshot_bytes_written; /* since start */
    uint64_t snapshot_fork_ns_max;   /* the longest that beginning one stopped everything */
    pid_t snapshot_pid;              /* of the child that writes one now; 0 = none */
    uint64_t unstored_log_bytes;     /* of log that no stored snapshot covers */
    uint64_t unstored_memory_bytes;  /* that the Raft library keeps for it */
    uint64_t disk_free_bytes;
    bool disk_low;
    bool backup; /* one is being read, which ends with the leader */
};
void shard_stats(const struct shard *shard, struct shard_stats *out);

#endif
