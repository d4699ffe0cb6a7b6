/* SPDX-License-Identifier: Apache-2.0 */
/* The dispatcher: brings work and workers together. It owns the RPC port and every worker's
 * session, leases batches for event source mappings, runs synchronous and asynchronous invocations,
 * scales their concurrency on backlog, and settles results (delete, give back, usage) through the
 * shards: functions, mappings and asynchronous events are in the catalog, the queues of mappings in
 * any shard.
 *
 * It holds no state that may be lost: leases, receive counts, asynchronous events and usage live in
 * the core; the rest (sessions, concurrency targets, peaks) is found again after a restart.
 * An assignment is tied to the session it was made in: when a worker's session ends, its batches
 * are made visible again at once. It works on the node that leads the catalog, whoever leads
 * the queues' shards; when another one leads, workers go there and show what they run, and it is
 * taken over. thread: loop. Callbacks never run before the call that started them has returned. */
#ifndef BROKER_DISPATCH_DISPATCH_H
#define BROKER_DISPATCH_DISPATCH_H

#include "broker/shards/shards.h"
#include "proto/rpc/link.h"

struct dispatch;

struct dispatch_options {
    uv_loop_t *loop;
    struct shards *shards; /* borrowed: alive, and open, until the dispatcher is closed */
    const char *rpc_host;
    uint16_t rpc_port;       /* 0: any free one */
    struct tls_context *tls; /* of the RPC port; NULL: plain */
    const char *endpoint;    /* for functions: "http://127.0.0.1:9324" */
    const char *region;
    const char *account_id;
    const char *version;
    uint64_t node_id;    /* of this broker, told to workers */
    struct peers *peers; /* to the leader's dispatcher; NULL: there is no other node */
};
/* dispatch_open: listen on the RPC port. Nothing is assigned before dispatch_set_ready(true). */
MUST_CHECK enum status dispatch_open(struct dispatch **out, const struct dispatch_options *options);
void dispatch_close(struct dispatch *dispatch, void (*closed)(void *data), void *data);
uint16_t dispatch_rpc_port(const struct dispatch *dispatch);

/* dispatch_set_clients: connections to the RPC port that greet with ClientHello are not workers:
 * they are handed to `accept`, which takes the link over (link_hand_over) and answers the greeting,
 * whose payload is borrowed. Without it they are refused. */
typedef void (*dispatch_accept_fn)(void *data, struct link *link, struct slice hello);
void dispatch_set_clients(struct dispatch *dispatch, dispatch_accept_fn accept, void *data);

/* Events of the shards, passed on by the node (broker/node.c wires them): that the catalog is led
 * here, that it has changed, and that a queue of any shard has messages. */
void dispatch_set_ready(struct dispatch *dispatch, bool leads);

/* dispatch_set_leader: the node that leads, and where its workers connect, HOST:PORT (copied),
 * while it is another. 0: nobody is known to lead, or this node does; NULL: not known yet. */
void dispatch_set_leader(struct dispatch *dispatch, uint64_t node_id, const char *rpc_address);
void dispatch_catalog_changed(struct dispatch *dispatch);
void dispatch_queue_ready(struct dispatch *dispatch, uint64_t queue_id);

/* ---- synchronous invocation ---- */

struct invocation;
/* status OK: `result` says how the run ended (its fields are borrowed). BUSY: no concurrency left
 * (TooManyRequestsException). NOT_FOUND: no such function. UNAVAILABLE: no worker can run it (none
 * is connected, or none has the runtime), or no leader was found. CANCELLED:
 * dispatch_invoke_cancel. It works on every node: where another one leads, its dispatcher runs it
 * (remote.c). */
typedef void (*invocation_cb)(struct invocation *invocation, enum status status,
                              const Millrace__Result *result);

/* The caller's memory, alive until `done` runs. */
struct invocation {
    struct slice function_name;
    struct slice payload;                  /* JSON, validated by the API; alive until done */
    struct slice client_context;           /* may be absent */
    char request_id[UUID_TEXT_LENGTH + 1]; /* the caller chooses it */
    invocation_cb done;
    void *data;
    bool only_here; /* NOT_LEADER, and not run, if this node does not lead; CLOSED: it was run, and
                       the next leader may send the result to the origin */
    uint64_t origin_node_id, origin_id; /* of another node's, which is `only_here` */
    void *private_state;
};
void dispatch_invoke(struct dispatch *dispatch, struct invocation *invocation);
void dispatch_invoke_cancel(struct dispatch *dispatch, struct invocation *invocation);

/* ---- asynchronous invocation ---- */

/* An Event invocation is a message in the function's own hidden queue, so it is as safe as any
 * message. The name cannot collide with a user's queue, because '/' is not legal there. The Lambda
 * API creates the queue with the function (QUEUE_CREATE in the same call as FUNCTION_PUT) and sends
 * to it; the message id is the request id, the body the payload. The dispatcher consumes it, two
 * retries after 1 and 2 minutes (AWS's defaults). */
#define ASYNC_QUEUE_PREFIX "/async/"
void async_queue_settings(struct queue_settings *out);

/* ---- seeing inside ---- */

struct dispatch_worker_view {
    const char *worker_id, *host, *version, *isolation;
    uint32_t concurrency_max, running, warm;
    uint64_t memory_bytes;
    uint64_t connected_ms;
};
struct dispatch_function_view {
    uint32_t running;      /* invocations now, all sources */
    uint32_t running_peak; /* since this broker started */
    uint32_t waiting;      /* synchronous invocations that wait for an environment */
};
struct dispatch_mapping_view {
    uint32_t running;            /* batches now */
    uint32_t concurrency_target; /* what the control law asks for */
    const char *last_result;     /* "No records processed", "OK", "PROBLEM: Function call failed" */
};
/* dispatch_worker_next: walk the workers; `position` 0 to begin; false at the end. */
bool dispatch_worker_next(const struct dispatch *dispatch, size_t *position,
                          struct dispatch_worker_view *out);
void dispatch_function(const struct dispatch *dispatch, struct slice name,
                       struct dispatch_function_view *out);
void dispatch_mapping(const struct dispatch *dispatch, const uint8_t uuid[UUID_BYTES],
                      struct dispatch_mapping_view *out);

#endif
