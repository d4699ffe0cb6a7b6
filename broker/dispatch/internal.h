/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the dispatcher share among themselves. Nothing outside this folder includes it.
 *
 *     dispatch.c    owns everything; the pump and the tick that drive the rest
 *     sessions.c    workers: greeting, capacity, heartbeats, code
 *     assign.c      one piece of work given to one session
 *     catalog.c     the functions and sources that the core's catalog describes, parsed once
 *     sources.c     when a source (mapping or asynchronous queue) starts a batch
 *     batch.c       the life of one batch: lease, read, send, result
 *     settle.c      what a batch's result does to its messages, and the usage it adds
 *     async.c       retries of asynchronous events
 *     invoke.c      synchronous invocations
 *
 * thread: loop. */
#ifndef BROKER_DISPATCH_INTERNAL_H
#define BROKER_DISPATCH_INTERNAL_H

#include "broker/dispatch/dispatch.h"
#include "broker/dispatch/function_config.h"
#include "broker/dispatch/placement.h"
#include "broker/dispatch/receipt.h"
#include "broker/dispatch/scaling.h"

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
#define GUARD_MS             40000u /* past the function's timeout: init and the worker's own slack */
#define TICK_MS              250u
#define DRAIN_MS             3000u /* at close: for what runs to end */

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
    uint64_t revision; /* 0: nothing parsed yet */
    bool usable;       /* the configuration could be read */
    bool present;      /* in the catalog */
    struct arena arena;
    struct function_config config;
    uint8_t code_sha256[SHA256_BYTES];
    uint64_t code_bytes;
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
    uint64_t queue_id; /* as last seen; 0: there was none */
    bool enabled, present, report_item_failures;
    uint32_t batch_size, concurrency_max;
    uint64_t window_ms;
    bool hinted;               /* worth a look: a message came, or a batch ended */
    uint64_t window_opened_ms; /* 0: closed */
    uint64_t backoff_ms, backoff_until_ms;
    struct scaling scaling;
    uint32_t target;
    uint32_t leasing; /* batches whose messages are being leased */
    uint32_t running; /* batches with a worker */
    uint32_t refs;    /* batches in any state */
    const char *last_result;
    struct source *prev, *next;
};

struct batch {
    struct dispatch *dispatch;
    struct source *source;
    struct assignment *assignment;
    uint64_t queue_id;
    struct shard_receive receive;
    struct shard_read read;
    struct core_message *messages;
    struct body_ref *refs;
    uint8_t (*ids)[UUID_BYTES];
    uint32_t count;
    uint64_t started_ms; /* of the loop's clock: when it was sent */
};

struct dispatch {
    uv_loop_t *loop;
    struct shard *shard;
    struct link_listener *listener;
    uint64_t node_id;
    char *endpoint, *region, *account_id, *version;
    uint8_t cluster_id[UUID_BYTES], secret[RECEIPT_SECRET_BYTES];
    bool ready, closing, pump_due, catalog_stale;
    uint64_t drain_until_ms, ticked_ms;
    uv_timer_t pump, tick;
    struct session *sessions;
    uint32_t session_count;
    struct function_entry *functions; /* by name */
    struct source *sources;           /* the next one to be served is the head */
    struct assignment *assignments;   /* by lease id */
    uint64_t lease_id;                /* the last one given out */
    struct waiting *waiting;          /* invocations that wait for room, oldest first */
    struct waiting *finished;         /* ... whose callback is due */
    uint32_t waiting_count;
    struct settle_call *unsettled; /* the shard was too busy for them */
    uint32_t running;              /* assignments sent */
    uint32_t operations; /* shard operations and handles that end before the dispatcher does */
    void (*closed)(void *data);
    void *closed_data;
};

/* ---- dispatch.c ---- */

/* dispatch_pump_soon: look for work to assign in the next turn of the loop. */
void dispatch_pump_soon(struct dispatch *dispatch);

/* dispatch_operation_begin, _end: something is under way that must end before the dispatcher may be
 * freed. The dispatcher may be gone after the last end. */
void dispatch_operation_begin(struct dispatch *dispatch);
void dispatch_operation_end(struct dispatch *dispatch);

uint64_t dispatch_now(const struct dispatch *dispatch);

/* text_new: an owned C string. memory_new: zeroed memory; running out aborts. */
char *text_new(struct slice text);
void *memory_new(size_t count, size_t bytes);

/* ---- sessions.c ---- */

void session_accepted(struct link *link, void *data);

/* sessions_welcome: greet the workers that came before the shard was ready. */
void sessions_welcome(struct dispatch *dispatch);

/* sessions_tick: heartbeats, both ways. */
void sessions_tick(struct dispatch *dispatch);

/* session_end: give back its work and close its link; it is freed later. Harmless when repeated. */
void session_end(struct session *session, const char *why);

/* session_available: may be given work now. */
bool session_available(const struct session *session);

/* sessions_could_run: a connected worker has the runtime and the memory, if not the room. */
bool sessions_could_run(const struct dispatch *dispatch, const struct room_need *need);

/* ---- assign.c ---- */

/* function_need: what an invocation of this function asks of a worker. Borrows from it. */
struct room_need function_need(const struct function_entry *function);

/* assignment_reserve: take room on the best worker; NULL when none has any. Ends with
 * assignment_release or, once sent, with `done`. */
struct assignment *assignment_reserve(struct dispatch *dispatch, struct function_entry *function,
                                      void (*done)(struct assignment *, const Millrace__Result *),
                                      void *owner);

/* assignment_send: hand it to the worker. False when that worker is gone or does not read: not
 * sent; the caller releases it. `request_id` is a UUID's text. */
MUST_CHECK bool assignment_send(struct assignment *assignment, const char *request_id,
                                struct slice payload, struct slice trace_id,
                                struct slice client_context);
void assignment_release(struct assignment *assignment);

/* assignment_cancel: tell the worker that nobody wants the result; `done` runs all the same. */
void assignment_cancel(struct assignment *assignment);

/* assignment_result: a result came from `session`; one for an unknown lease is ignored. */
void assignment_result(struct session *session, const Millrace__Result *result);

/* assignments_lose: the session has ended; `done` runs for all that were sent to it. */
void assignments_lose(struct session *session);

/* assignments_tick: give up those whose worker should have answered long ago. */
void assignments_tick(struct dispatch *dispatch);

/* ---- catalog.c ---- */

/* catalog_refresh: bring functions and sources in line with the core, if it has changed. */
void catalog_refresh(struct dispatch *dispatch);
void catalog_free(struct dispatch *dispatch);

/* catalog_function: the current entry, or NULL. */
struct function_entry *catalog_function(struct dispatch *dispatch, struct slice name);
void function_ref(struct function_entry *function);
void function_unref(struct dispatch *dispatch, struct function_entry *function);
void source_unref(struct source *source);

/* ---- sources.c ---- */

/* source_start: lease one batch if there is work, the control law allows it and a worker has room.
 */
bool source_start(struct source *source);

/* source_measure: recompute the target; true when the source has messages to lease. */
bool source_measure(struct source *source, struct queue_view *view);

/* source_back_off: a batch came back undone; wait a little longer each time. */
void source_back_off(struct source *source);

/* ---- batch.c ---- */

/* batch_start: reserve room on a worker and lease up to the source's batch size for it. False when
 * no worker has room. */
MUST_CHECK bool batch_start(struct source *source, uint64_t queue_id);

/* ---- settle.c ---- */

/* settle_give_back: make the messages from `from` on visible at once. */
void settle_give_back(const struct batch *batch, uint32_t from);

/* settle_batch: do what the result means for the messages and the usage. `result` is not REJECTED.
 */
void settle_batch(struct batch *batch, const Millrace__Result *result);

/* settle_run, settle_throttles: add the usage of one run, and of the calls refused since last time.
 */
void settle_run(const struct assignment *assignment, const Millrace__Result *result);
void settle_throttles(struct dispatch *dispatch, struct function_entry *function);

/* settle_tick: propose again what the shard was too busy for; when closing, give it up. */
void settle_tick(struct dispatch *dispatch);

/* ---- invoke.c ---- */

/* invoke_pump: give waiting invocations to workers. invoke_tick: give up those that waited too
 * long. invoke_finish: run the callbacks that are due. invoke_fail_waiting: end all that wait. */
void invoke_pump(struct dispatch *dispatch);
void invoke_tick(struct dispatch *dispatch);
void invoke_finish(struct dispatch *dispatch);
void invoke_fail_waiting(struct dispatch *dispatch);

#endif
