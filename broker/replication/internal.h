/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of broker/replication share: the shard itself and the calls between its parts.
 * Nothing outside the folder includes this. thread: loop. */
#ifndef BROKER_REPLICATION_INTERNAL_H
#define BROKER_REPLICATION_INTERNAL_H

#include "broker/core/foresee.h"
#include "broker/replication/raft_disk.h"
#include "broker/replication/shard.h"
#include "broker/replication/wire.h"

/* A batch is closed at this, unless one call is bigger: four bodies of 256 KiB fit. */
#define ENTRY_BYTES_GOOD  ((1u << 20) + (16u << 10))
#define CALL_BYTES_MAX    (16u << 20)
#define FLIGHT_BYTES_MAX  (64u << 20) /* of calls queued or in Raft; then BUSY */
#define FLIGHT_CALLS_MAX  100000u
#define ENTRIES_IN_FLIGHT 8u /* full ones; of others two */
#define WAITING_MAX       100000u
#define CALL_DEADLINE_MS  SHARD_CALL_MS
#define HOLD_MS           20u /* what a node that does not lead refused is sent again after this */
#define HURRY_MS          10000u /* so long after a call a node hears of commits at once */
/* Raft's timing: docs/replication.md. One voter needs no hurry. */
#define HEARTBEAT_MS      90u /* less than a calm tick */
#define HEARTBEAT_LONE_MS 100u
#define ELECTION_MS       500u
#define SNAPSHOT_TRAILING 16u
/* Entries kept behind a snapshot for members that lag, at most; and payloads kept in memory. */
#define TRAILING_MAX   32768u
#define HOT_BYTES      (8u << 20)
#define ENTRY_OVERHEAD 256u /* what the library keeps in memory for each entry, about */
/* Of log between two snapshots: at least, and at most; and of memory; see snapshot.c. */
#define SNAPSHOT_BYTES            (UINT64_C(64) << 20)
#define SNAPSHOT_BYTES_MAX        (UINT64_C(2) << 30)
#define SNAPSHOT_SPACING_MS       10000u /* sooner than this, so much at least: */
#define SNAPSHOT_SPACED_BYTES     (UINT64_C(256) << 20)
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
 * leadership is lost; CLOSING from any of them. BARRIER and later: this node leads. */
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

/* One Raft entry that this node proposed, until its fate is known. */
struct entry {
    struct raft_apply request;
    struct shard *shard;
    uint64_t seq;  /* with the boot: what its ORIGIN says */
    uint64_t term; /* in which it was proposed */
    struct call_list calls;
    bool in_raft; /* the library has the request */
    bool settled; /* its calls are answered, or went back to the pending ones */
    struct entry *next;
};

struct batch {
    struct call_list pending;
    size_t pending_bytes;
    struct call_list refused; /* answered at the end of this turn of the loop */
    struct entry *first;      /* in flight or of unknown fate, in the order of their indexes */
    struct entry *last;
    uint32_t in_flight;  /* that the library has */
    uint64_t orders;     /* given to calls */
    size_t flight_bytes; /* of all calls not yet answered */
    uint32_t flight_calls;
    struct buffer results;      /* struct core_result of the call being answered */
    struct buffer messages;     /* their messages, where there are several results */
    struct foresight foresight; /* into the entry being applied */
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

/* ---- other nodes ---- */

/* Which of the latest sequence numbers of one process of another node were taken, and of those,
 * which were refused then. */
#define TAKEN_WINDOW 65536u
struct taken {
    uint64_t boot;
    uint64_t term;
    uint64_t highest;
    uint64_t bits[TAKEN_WINDOW / 64];
    uint64_t refused[TAKEN_WINDOW / 64];
};

/* One message on its way. */
struct outgoing;

/* What is known of one other member. */
struct link {
    uint64_t node_id;
    char *address; /* as in the configuration; "" = not a member */
    bool up;
    bool lost;              /* what it was asked may not have arrived: forward_pump asks again */
    struct outgoing *first; /* in order; the first may be waiting for the disk */
    struct outgoing *last;
    struct outgoing *handed; /* given to the network */
    /* As leader, in `term`: what it was sent. */
    uint64_t term;
    uint64_t sent_index;     /* the last entry it was sent */
    uint64_t sent_term;      /* of that entry */
    uint64_t sent_commit;    /* that it was told */
    uint64_t hurry_until_ms; /* its callers wait for commits, or did lately */
    uint64_t next_index;     /* a message was clipped: what comes next; 0 = nothing to mend */
    bool disk_low;           /* it said so */
    bool wall_known;         /* its wall clock less this node's steady one, when it voted last */
    int64_t wall_offset_ms;
    struct taken *taken;       /* calls */
    struct buffer refused;     /* verdicts to be sent at the end of the turn */
    struct buffer waits_ended; /* likewise */
    /* sync.c */
    uint64_t sync_asked; /* the last question for the commit index that is in no round; 0 = none */
    uint64_t sync_term;  /* in which it was asked */
    uint64_t sync_in_round; /* the one that the round under way answers; 0 = none */
    uint64_t confirmed;     /* the last round in which it said that it is in the leader's term */
};

/* The checksum of an entry's payload, for the next follower that is sent it. */
#define SUMS_KEPT 8u
struct entry_sum {
    uint64_t index;
    uint64_t term;
    uint32_t crc32c;
};

struct links {
    struct entry_sum sums[SUMS_KEPT]; /* by index */
    struct link *list[SHARD_MEMBERS_MAX];
    size_t count;
    uint64_t configuration_index; /* that the addresses are from; and whether it is committed */
    uint64_t uncommitted_index;
    unsigned servers;
};

/* guard.c: what the library should know and does not. */
struct guard {
    uint64_t verified_term; /* up to verified_index the log is that of this term's leader */
    uint64_t verified_index;
    uint64_t configuration_index; /* of the bytes below */
    struct buffer configuration;  /* the last one that is committed */
    uint64_t heard_ms;            /* when the leader was heard last */
    uint64_t led_term;            /* of the last append that the library took */
    bool frozen;                  /* a snapshot is being taken over: nothing may change meanwhile */
    bool held_back;               /* the only voter of its members, and may not lead yet */
    bool vote_again;              /* votes were not asked for, since entries were not on disk yet */
};

/* forward.c: calls that are at the leader. */
struct sent_call;
struct away_receive;
struct proxy;
struct forward {
    uint64_t boot;
    uint64_t seq;
    struct sent_call *calls;       /* by seq */
    struct away_receive *receives; /* by seq */
    struct proxy *proxies;         /* of receives that wait at other nodes, by node, boot and seq */
    struct buffer cancels;         /* u64 */
    uint64_t leader;               /* to whom all of that was sent, and in which term */
    uint64_t term;
    uint64_t hold_until_ms; /* it refused, or there was no room: send nothing before */
    bool resending;         /* what was sent in this term, since it may have been lost; as far as */
    uint64_t resent_seq;    /* this number */
    uint64_t returned_seq;  /* the highest of the calls that the log brought back */
    uint64_t begun_term;    /* the term when this process began */
    uint64_t applied_term;  /* of the latest entry that was applied */
    uint64_t settled_term;  /* what was sent before this term has been looked after */
    uint64_t known_commit;  /* that the leader told of */
};

/* sync.c: who wants to know the commit index. */
struct syncs {
    struct shard_sync *list; /* as they came: what follows their answers keeps its order */
    struct shard_sync *last;
    uint64_t asked;    /* numbers of questions to the leader */
    uint64_t asked_ms; /* when it, or as leader the others, were asked last */
    /* As leader: the latest round. */
    uint64_t round;
    uint64_t round_term;
    uint64_t round_index; /* the commit index when it began */
    bool under_way;
};

/* time.c */
struct cluster_time {
    bool known;
    uint64_t term;        /* whose leader's clock it is */
    int64_t offset_ms;    /* cluster time less steady time */
    uint64_t moved_at_ms; /* steady */
    uint64_t led_term;    /* in which it was this node's clock last */
    bool saved;           /* what the file says */
    uint64_t saved_term;
    int64_t saved_offset_ms;
};

struct shard {
    struct shard_options options;
    struct core *core;
    struct log *log; /* NULL once it is being closed */
    struct raft_disk disk;
    struct raft raft;
    struct raft_fsm fsm;
    enum stage stage;
    struct batch batch;
    struct waits waits;
    struct links links;
    struct guard guard;
    struct shard_end promised; /* by a replica before this one (promise.h) */
    struct forward forward;
    struct syncs sync;
    struct cluster_time time;
    struct catch_up *catch_up;     /* this node takes over a snapshot: catch_up.c */
    struct giver *givers;          /* of what other nodes take over: give.c */
    struct backup *backup;         /* being read: backup.c */
    struct shard_read *late_reads; /* of what is not on this disk yet */
    struct change *change;         /* of the members, under way: members.c */
    struct change *refused_changes;
    uint64_t leading_term; /* in which this node began to lead last */
    uint64_t led_ms;       /* when there was a leader last that could be reached */
    bool at_home;          /* receives that waited at another leader are here */
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
        uint64_t covered_bodies; /* by the snapshot being made */
        uint64_t besides;        /* bytes of the last one that were no messages */
        uint64_t begun_ms;       /* when that was; 0: never */
        uint64_t given_back;     /* payloads up to here are not in memory */
        uint64_t hot_bytes;      /* of applied payloads behind that */
        bool making;
        bool wanted; /* by a member that lags */
        struct buffer scratch;
    } snapshots;
    uint64_t proposed_ms; /* when an entry was proposed last */
    bool told_leading;
    bool untold;       /* as leader: some member does not know the commit index yet */
    bool spare_answer; /* the append that is being received wants none, if it is good */
    uint32_t level;    /* the feature level in force, as of the applied state */
    bool catalog_changed;
    bool departs;
    struct buffer ready_queues; /* u64 ids, from the core's events */

    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;
    uv_timer_t tick_timer;
    uv_timer_t wait_timer;
    uv_timer_t pace_timer;
    uv_timer_t bury_timer;
    uint64_t tick_at_ms; /* what tick_timer is set for */
    uint64_t swept_ms;   /* when deadlines of calls were looked at last */
    uint64_t checked_ms; /* when the disk was */
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
/* shard_wake: make sure that flush (shard.c) runs before the loop sleeps. */
void shard_wake(struct shard *shard);
/* shard_fatal: trace and end the process. */
__attribute__((noreturn)) void shard_fatal(struct shard *shard, const char *sentence);
/* shard_in_company: there are other nodes, or may be. shard_leading: since the election, whether or
 * not it may answer yet. shard_settle: after each call to the library. */
static inline bool shard_in_company(const struct shard *shard)
{
    return shard->options.peers != NULL;
}
static inline bool shard_leading(const struct shard *shard)
{
    return shard->stage >= STAGE_BARRIER && shard->stage <= STAGE_READY;
}
void shard_settle(struct shard *shard);
/* shard_part_gone: one of shard->handles, which keep its memory alive: a handle, or what is under
 * way in a pool thread. The shard may be gone when it returns. */
void shard_part_gone(struct shard *shard);

/* ---- events.c ---- */
/* shard_core_events: what a core tells this shard. */
struct core_events shard_core_events(struct shard *shard);
/* shard_note_ready: ask the owner at the end of the turn if it wants messages of this queue. */
void shard_note_ready(struct shard *shard, uint64_t queue_id);
/* events_tell_queues: ask it. events_tell: the rest of what the core said since the last turn. */
void events_tell_queues(struct shard *shard);
void events_tell(struct shard *shard);

/* ---- lead.c ---- */
/* lead_watch: has the library begun or ceased to lead? lead_tell: tell the owner. */
void lead_watch(struct shard *shard);
void lead_tell(struct shard *shard);

/* ---- tick.c ---- */
/* tick_arm: the core's next deadline may be another one now. */
void tick_arm(struct shard *shard);

/* ---- bury.c ---- */

/* bury_arm: there may be something of purged queues to drop. */
void bury_arm(struct shard *shard);

/* ---- reads.c ---- */
/* reads_begin_late: more is on this disk now. reads_fail_late: nothing more will be. */
void reads_begin_late(struct shard *shard);
void reads_fail_late(struct shard *shard);

/* ---- level.c ---- */
/* level_look: a state is new, or its document has changed; ends the process if the program does not
 * know its level. level_too_old: why what was recovered cannot be worked with; NULL: it can. */
void level_look(struct shard *shard, const struct core *core);
const char *level_too_old(const struct shard *shard);
/* level_first: a new group begins at this program's lowest level; the command borrows `content`. */
void level_first(struct command *command, struct buffer *content);
/* level_allows: may this command of a call be proposed? The origin of another node's has asked. */
bool level_allows(const struct shard *shard, const struct shard_call *call,
                  const struct command *command);

/* ---- snapshot.c ---- */
/* snapshots_init: the library's calls and the log's; before raft_init. */
void snapshots_init(struct shard *shard);
void snapshots_free(struct shard *shard);
/* snapshots_note_entry: an entry was applied, and the library keeps it. snapshots_note_replayed:
 * one that the library has not. snapshots_cool: free payloads that are no longer hot
 * (snapshots_hot); at the end of a turn of the loop. */
void snapshots_note_entry(struct shard *shard, const struct raft_buffer *payload);
void snapshots_note_replayed(struct shard *shard, size_t length);
void snapshots_cool(struct shard *shard);
/* snapshots_installed: the state is another one now: that of a received snapshot. */
void snapshots_installed(struct shard *shard, uint64_t index, uint64_t bodies);
/* snapshots_make: the one that a member that lags wants, if it is possible now. */
void snapshots_make(struct shard *shard);
/* snapshots_hot: append a body to `out` if its entry is in memory. */
bool snapshots_hot(const struct shard *shard, struct body_ref ref, struct buffer *out);
/* snapshots_pace_ms: so long the next entry should wait; snapshots_full: no more sends. */
uint64_t snapshots_pace_ms(const struct shard *shard);
bool snapshots_full(const struct shard *shard);

/* ---- batch.c ---- */
/* batch_add: queue a call without the checks that shard_call makes. */
void batch_add(struct shard *shard, struct shard_call *call);
/* batch_add_first: before all others that are not proposed yet. */
void batch_add_first(struct shard *shard, struct shard_call *call);
/* batch_serve: in the entry that is being built. */
void batch_serve(struct shard *shard, struct call_list *calls, struct shard_call *call);
void batch_propose(struct shard *shard);
/* batch_apply: apply an entry; calls of this node in it are answered. */
void batch_apply(struct shard *shard, uint64_t index, struct slice payload);
/* batch_refuse: answer a call at the end of the turn. */
void batch_refuse(struct shard *shard, struct shard_call *call, enum status status);
/* batch_refuse_pending: those that are not proposed yet; `all`, or only those of other nodes. */
void batch_refuse_pending(struct shard *shard, enum status status, bool all);
/* batch_retry: calls that are proven not to have happened are pending again; those in `calls`,
 * which are in order, stand among the others by their order. batch_in_doubt: calls of this node are
 * of unknown fate in an older term; those that came after them wait until the log tells. */
void batch_retry(struct shard *shard, struct call_list *calls);
bool batch_in_doubt(const struct shard *shard);
/* batch_overtaken: entries of terms before `term` that are not applied yet never will be.
 * batch_give_up: nobody will know. batch_expire: answer what is past its deadline. */
void batch_overtaken(struct shard *shard, uint64_t term);
void batch_give_up(struct shard *shard);
void batch_expire(struct shard *shard, uint64_t now_ms);
/* batch_commit_in: struct raft_disk.commit_in. */
uint64_t batch_commit_in(struct slice payload);
void batch_deliver(struct shard *shard);
void batch_free(struct shard *shard);

/* ---- arriving.c ---- */

/* arriving_queue: the queue that this command may give to receives of; 0 = none. arriving_add:
 * count what it gives, if it is applied next, to `a`, which begins as zeros for each entry and
 * queue. */
struct arriving {
    bool noted;        /* something was counted */
    uint64_t messages; /* to be had, but for those that can be had already */
    uint64_t groups;   /* of a FIFO queue, likewise */
    uint32_t group;    /* that was counted last, how many of it are in flight no more, and how */
    uint32_t settled;  /* many of these are visible then */
    uint32_t staying;
};
uint64_t arriving_queue(const struct command *command);
void arriving_add(const struct core *core, const struct command *command, struct arriving *a);

/* ---- wait.c ---- */
void wait_touch(struct shard *shard, uint64_t queue_id);
/* wait_ready: a message became visible. */
void wait_ready(struct shard *shard, uint64_t queue_id);
void wait_pump(struct shard *shard);
/* wait_serve: append receives that the commands of `calls` can serve to `calls`. */
void wait_serve(struct shard *shard, struct call_list *calls);
/* wait_code: what a receive is told that came back with this one (I4 of wait.c). */
enum core_code wait_code(const struct shard_receive *receive, enum core_code code);
/* wait_park: let a receive wait here. wait_finish: answer it at the end of the turn. */
void wait_park(struct shard *shard, struct shard_receive *receive);
void wait_finish(struct shard *shard, struct shard_receive *receive, enum status status,
                 enum core_code code);
/* wait_send_away: this node does not lead any more; those parked here wait at the new leader. */
void wait_send_away(struct shard *shard);
void wait_finish_all(struct shard *shard, enum status status);
/* wait_give_back: messages were leased for a consumer that has gone. */
void wait_give_back(struct shard *shard, uint64_t queue_id, const struct core_result *result);
void wait_deliver(struct shard *shard);
void wait_arm(struct shard *shard);
void wait_on_timer(uv_timer_t *timer);
uint64_t wait_count(const struct shard *shard);
/* wait_asked: how many messages the receives in flight for this queue ask for. */
uint64_t wait_asked(const struct shard *shard, uint64_t queue_id);
void wait_free(struct shard *shard);

/* ---- link.c ---- */
void links_open(struct shard *shard);
void links_close(struct shard *shard);
void links_free(struct shard *shard);
/* links_quiet: nothing is on its way. */
bool links_quiet(const struct shard *shard);
/* links_update: the members are others now. */
void links_update(struct shard *shard);
struct link *links_find(const struct shard *shard, uint64_t node_id);
/* links_send: one message; `bytes` is moved. Those of entries go by outgoing.h. */
void links_send(struct shard *shard, struct link *link, struct buffer *bytes);
/* links_pinned: entries from this index on may still be read for the network. */
uint64_t links_pinned(const struct shard *shard);
/* links_room: less than this is on its way there. links_fits: the network would take a message of
 * so many bytes now; other shards send to that node too. */
bool links_room(const struct link *link, size_t bytes);
bool links_fits(const struct shard *shard, const struct link *link, size_t bytes);

/* ---- raft_net.c ---- */
void raft_net_init(struct shard *shard);
/* raft_net_receive: a message of Raft's. */
void raft_net_receive(struct shard *shard, struct link *link, const struct wire *wire);
/* raft_net_tell_commit: followers that do not know the commit index yet hear of it: those that are
 * in a hurry, or all. raft_net_hurry: callers of that node wait for what is committed. */
void raft_net_tell_commit(struct shard *shard, bool all);
void raft_net_hurry(struct shard *shard, struct link *link);

/* ---- guard.c ---- */
/* guard_entry: as the library has it in memory; NULL = not there. guard_term: 0 = not known. */
const struct raft_entry *guard_entry(const struct raft *raft, uint64_t index);
struct raft_entry *guard_entry_of(struct raft *raft, uint64_t index);
uint64_t guard_term(const struct raft *raft, uint64_t index);
uint64_t guard_last_index(const struct raft *raft);
/* guard_starting: the library has loaded the log; guard_started: and done what it does then. */
void guard_starting(void *data);
void guard_started(struct shard *shard);
/* guard_receive: give a message to the library. false: it was dropped, and the caller frees it. */
bool guard_receive(struct shard *shard, struct raft_message *message);
/* guard_appended: tell the library that entries are on disk. */
void guard_appended(struct shard *shard, struct raft_io_append *request, raft_io_append_cb cb,
                    int status, uint64_t first_index, const struct raft_entry *entries, unsigned n);
/* guard_verified: up to here this log is that of the leader of `term`. */
void guard_verified(struct shard *shard, uint64_t term, uint64_t index);
/* guard_acknowledged: what a follower may say it has, of what the library wants it to say. */
uint64_t guard_acknowledged(const struct shard *shard, uint64_t last_index);
void guard_tick(struct shard *shard);
void guard_settle(struct shard *shard);
/* guard_leader_gone: the connection to it ended: do not wait for the timeout. */
void guard_leader_gone(struct shard *shard);
/* guard_members: encoded, as they are committed (G10); borrowed. */
struct slice guard_members(struct shard *shard);
void guard_free(struct shard *shard);

/* ---- forward.c ---- */
void forward_init(struct shard *shard);
/* forward_pump: send what is to be sent to the leader. */
void forward_pump(struct shard *shard);
void forward_receive(struct shard *shard, struct link *link, const struct wire *wire);
/* forward_returned: the log brings commands behind an ORIGIN: the call of this node that they
 * belong to; NULL = none (any more). */
struct shard_call *forward_returned(struct shard *shard, uint64_t seq);
void forward_overtaken(struct shard *shard, uint64_t term);
/* forward_in_doubt: something that was sent in an older term may have happened. */
bool forward_in_doubt(const struct shard *shard);
void forward_give_up(struct shard *shard);
void forward_expire(struct shard *shard, uint64_t now_ms);
void forward_close(struct shard *shard);
/* forward_encode_origin: what stands before commands that another node waits for. */
void forward_encode_origin(struct buffer *out, const struct shard_origin *origin, uint64_t term,
                           uint32_t count);

/* ---- sync.c ---- */
void sync_receive(struct shard *shard, struct link *link, const struct wire *wire);
/* sync_pump: at the end of the turn. sync_tick: now and then. */
void sync_pump(struct shard *shard);
void sync_tick(struct shard *shard, uint64_t now_ms);
/* sync_ask: what the leader was not asked yet. sync_unask: it may not know of any. */
void sync_ask(struct shard *shard, struct link *leader);
void sync_unask(struct shard *shard);
void sync_finish_all(struct shard *shard, enum status status);

/* ---- forward_wait.c ---- */
void forward_wait_add(struct shard *shard, struct shard_receive *receive);
void forward_wait_cancel(struct shard *shard, struct shard_receive *receive);
/* forward_wait_is_here: somebody still waits for it. forward_wait_applied: the log has its RECEIVE.
 */
bool forward_wait_is_here(const struct shard *shard, uint64_t seq);
void forward_wait_applied(struct shard *shard, uint64_t seq, const struct core_result *result);
/* forward_wait_home: this node leads now. */
void forward_wait_home(struct shard *shard);
/* forward_wait_send: what the leader has not been told. forward_wait_unsend: it may not know. */
void forward_wait_send(struct shard *shard, struct link *leader);
void forward_wait_unsend(struct shard *shard);
void forward_wait_receive(struct shard *shard, struct link *link, const struct wire *wire);
void forward_wait_finish_all(struct shard *shard, enum status status);
void forward_wait_expire(struct shard *shard, uint64_t now_ms);
/* forward_wait_gone: a node can no longer be reached. */
void forward_wait_gone(struct shard *shard, uint64_t node_id);
uint64_t forward_wait_count(const struct shard *shard);

/* ---- catch_up.c ---- */
/* catch_up_offered: the leader has a snapshot for this node. catch_up_receive: a piece of it. */
void catch_up_offered(struct shard *shard, struct link *link, const struct wire *wire);
void catch_up_receive(struct shard *shard, struct link *link, const struct wire *wire);
void catch_up_tick(struct shard *shard);
void catch_up_gone(struct shard *shard, uint64_t node_id);
void catch_up_abort(struct shard *shard);

/* ---- give.c ---- */
void give_receive(struct shard *shard, struct link *link, const struct wire *wire);
void give_gone(struct shard *shard, uint64_t node_id);
void give_tick(struct shard *shard, uint64_t now_ms);
void give_close(struct shard *shard);

/* ---- backup.c ---- */
void backup_close(struct shard *shard);

/* ---- time.c ---- */
/* time_heard: the clock of this term's leader showed this. time_told: another node's idea of the
 * clock of that term's leader, 0 = none. time_known_ms: this node's. time_load, time_save: for the
 * next process. */
void time_load(struct shard *shard);
void time_save(struct shard *shard);
void time_heard(struct shard *shard, uint64_t term, uint64_t now_ms);
void time_told(struct shard *shard, uint64_t term, uint64_t now_ms);
uint64_t time_known_ms(const struct shard *shard);
uint64_t time_now_ms(struct shard *shard);

/* ---- members.c ---- */
void members_settle(struct shard *shard);
void members_deliver(struct shard *shard);
void members_abort(struct shard *shard, enum status status);
/* members_hands_over: calls wait, since another node is about to lead. */
bool members_hands_over(const struct shard *shard);

static inline void call_list_add(struct call_list *list, struct shard_call *call)
{
    call->next = NULL;
    if (list->last != NULL)
        list->last->next = call;
    else
        list->first = call;
    list->last = call;
}

/* call_list_insert: by order; mostly it is the last. */
static inline void call_list_insert(struct call_list *list, struct shard_call *call)
{
    struct shard_call **at = &list->first;
    if (list->last == NULL || list->last->order <= call->order) {
        call_list_add(list, call);
        return;
    }
    while ((*at)->order <= call->order)
        at = &(*at)->next;
    call->next = *at;
    *at = call;
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
