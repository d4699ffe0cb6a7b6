/* SPDX-License-Identifier: Apache-2.0 */
/* The structs and bounds of the dispatcher. Everything that it knows hangs off struct dispatch.
 * Nothing outside this folder includes it. thread: loop. */
#ifndef BROKER_DISPATCH_STATE_H
#define BROKER_DISPATCH_STATE_H

#include "broker/dispatch/dispatch.h"
#include "broker/dispatch/function_config.h"
#include "broker/dispatch/placement.h"
#include "broker/dispatch/receipt.h"
#include "broker/dispatch/scaling.h"
#include "broker/shards/door.h"

#include <uthash.h>

#define HEARTBEAT_MS         2000u
#define HEARTBEATS_MISSED    3u
#define HELLO_MS             10000u /* a connection that says nothing is closed */
#define SESSIONS_MAX         4096u
#define SESSION_SLOTS_MAX    10000u
#define SESSION_RUNTIMES_MAX 64u
#define SESSION_READS_MAX    16u /* code pieces being read for one worker */
#define INVOKE_WAITING_MAX   1000u
#define INVOKE_WAIT_MS       30000u /* for room on a worker that could run it */
#define INVOKE_NO_WORKER_MS  5000u  /* for a worker that could run it, such as one that restarts */
/* The messages of a batch are leased for a short time, and again and again while their worker is
 * known to live: so when it dies together with the leader, nobody has to wait for the visibility
 * timeout. A new leader has LEASE_S less LEASE_RENEW_MS to hear from the worker. */
#define LEASE_S        10u
#define LEASE_RENEW_MS 4000u
#define DRIFT_MS       10000u /* for the next leader to say that it has an invocation of ours */
#define GUARD_MS       40000u /* past the function's timeout: init, and the worker's slack */
#define TICK_MS        250u
#define DRAIN_MS       3000u /* at close: for what runs to end */

struct session {
    struct dispatch *dispatch;
    struct link *link;
    bool greeted;  /* its Hello was accepted */
    bool welcomed; /* Welcome was sent: it may be given work */
    bool draining;
    bool ended; /* its work was given back; the link may still be closing */
    char *worker_id, *host, *version, *isolation;
    char **runtimes;
    size_t runtime_count;
    struct room room;
    uint64_t connected_ms;      /* since the epoch */
    uint64_t heard_ms, beat_ms; /* of the loop's clock */
    uint64_t beat_sequence;
    uint64_t hold_until_ms;         /* it rejected work: give it none before */
    struct assignment *assignments; /* list */
    struct code_read *reads;        /* list */
    uint32_t read_count;
    struct session *prev, *next;
};

/* A function as the catalog has it. Stays while anything refers to it, also when it was deleted. */
struct function_entry {
    char *name, *arn;
    uint64_t id;       /* core_function_id: another one when it was deleted and made again */
    uint64_t revision; /* 0: nothing parsed yet */
    bool usable;       /* the configuration could be read */
    bool present;      /* in the catalog */
    struct arena arena;
    struct function_config config;
    uint8_t code_sha256[SHA256_BYTES];
    uint64_t code_bytes;
    struct source *async; /* of its events; while it is in the catalog */
    uint32_t refs;
    uint32_t running, running_peak, waiting;
    uint64_t throttles; /* not yet added to the usage in the core */
    UT_hash_handle hh;
};

struct assignment {
    uint64_t lease_id;
    struct dispatch *dispatch;
    struct session *session; /* NULL: lost before it was sent */
    struct function_entry *function;
    uint64_t function_id; /* the function's when it was made */
    uint64_t revision;
    uint64_t memory_bytes;
    uint32_t timeout_ms;
    bool sent;
    uint64_t sent_ms, guard_ms; /* of the loop's clock */
    /* The end: result NULL when the worker was lost. The assignment is freed when this returns. */
    void (*done)(struct assignment *assignment, const Millrace__Result *result);
    void *owner;
    struct assignment *prev, *next;
    UT_hash_handle hh;
};

/* Something that turns the messages of a queue into invocations. */
enum source_kind { SOURCE_MAPPING, SOURCE_ASYNC };
struct source {
    struct dispatch *dispatch;
    enum source_kind kind;
    uint8_t uuid[UUID_BYTES]; /* of a mapping */
    uint64_t version;         /* of the mapping when it was parsed */
    struct function_entry *function;
    char *queue_name;
    char *queue_arn;
    uint32_t shard_id;     /* that its name gives */
    uint64_t queue_id;     /* as last seen; 0: there was none */
    bool fifo;             /* the queue, as last seen */
    uint32_t visibility_s; /* its timeout, as last seen */
    struct glance seen;    /* of a shard that is not here (watch.c); mark 0: nothing yet */
    bool enabled, present, report_item_failures;
    uint32_t batch_size, concurrency_max;
    uint64_t window_ms;
    bool hinted;               /* worth a look: a message came, or a batch ended */
    bool fruitless;            /* what is visible cannot be had: its groups are in flight */
    uint64_t readies;          /* times that the queue was said to have more */
    uint64_t window_opened_ms; /* 0: closed */
    uint64_t backoff_ms, backoff_until_ms;
    struct scaling scaling;
    uint32_t target;
    uint32_t leasing; /* batches whose messages are being leased */
    uint32_t running; /* batches with a worker */
    uint32_t refs;    /* batches in any state */
    const char *last_result;
    struct source *prev, *next;
    UT_hash_handle hh; /* mappings only */
};

struct batch {
    struct dispatch *dispatch;
    struct source *source;
    struct assignment *assignment;
    uint32_t shard_id; /* of the queue */
    uint64_t queue_id;
    struct door_receive receive;
    struct core_message *messages; /* the receive's, or what was taken over */
    uint8_t (*ids)[UUID_BYTES];
    uint32_t *groups; /* FIFO: of each message, the first of the batch in its group */
    uint32_t count;
    uint32_t origin_rounds;    /* that origin.c asked for names */
    uint64_t readies;          /* of the source when it was started */
    uint64_t started_ms;       /* of the loop's clock: when it was sent */
    uint32_t visibility_s;     /* for which its messages may be kept in all */
    bool leased;               /* it is in dispatch->batches */
    bool doubted;              /* whether it holds its leases is being asked (doubt.c) */
    uint64_t leased_ms;        /* of the loop's clock, */
    uint64_t leased_at_ms;     /* and core time */
    uint64_t renew_ms;         /* of the loop's clock: when to lease again; UINT64_MAX: no more */
    struct batch *prev, *next; /* in dispatch->batches */
};

/* What is asked about the queues of one shard that is not here (watch.c). */
struct watch {
    struct dispatch *dispatch;
    uint32_t shard_id;
    struct door_glance glance;
    bool asking, cancelled;
    uint64_t asked_ms;    /* of the loop's clock */
    uint32_t count;       /* of sources that it asks for */
    struct source **list; /* those, each with a reference */
};

struct dispatch {
    uv_loop_t *loop;
    struct shards *shards;
    struct shard *catalog; /* one of them */
    struct link_listener *listener;
    uint64_t node_id;
    char *endpoint, *region, *account_id, *version;
    uint8_t cluster_id[UUID_BYTES], secret[RECEIPT_SECRET_BYTES];
    bool ready, closing, pump_due, catalog_stale, sweeping;
    uint64_t drain_until_ms, ticked_ms, swept_ms;
    uv_timer_t pump, tick;
    struct session *sessions;
    uint32_t session_count;
    dispatch_accept_fn accept_client; /* NULL: native clients are refused */
    void *accept_data;
    struct function_entry *functions; /* by name */
    struct source *sources;           /* of both kinds; the next one to be served is the head */
    struct source *mappings;          /* by uuid */
    struct assignment *assignments;   /* by lease id */
    struct batch *batches;            /* whose messages are leased */
    struct watch watches[1 + QUEUE_SHARDS_MAX];
    struct origin *origins; /* by queue id (origin.c) */
    struct origins *origins_asked;
    uint64_t lease_id; /* the last one given out; the first is random */
    uint64_t first_lease_id;
    uint64_t abandoned_lease_id; /* up to here leases may have been left to another leader */
    uint64_t leader_id;          /* while it is another node; 0: unknown, or this one */
    char *leader;                /* its RPC address; NULL: unknown */
    struct peers *peers;         /* NULL: there is no other node */
    struct remote *remotes;      /* invocations that the leader is to run for us */
    struct served *served;       /* those that we run for other nodes */
    struct letter *delayed;      /* messages to other dispatchers that wait for room */
    uint32_t served_count;
    uint64_t remote_id;       /* the last one given out; the first is random */
    struct waiting *waiting;  /* invocations that wait for room, oldest first */
    struct waiting *finished; /* ... whose callback is due */
    uint32_t waiting_count;
    struct settle_call *unsettled; /* the shard was too busy for them */
    uint32_t running;              /* assignments sent */
    uint32_t operations; /* shard operations and handles that end before the dispatcher does */
    void (*closed)(void *data);
    void *closed_data;
};

#endif
