/* SPDX-License-Identifier: Apache-2.0 */
/* The public HTTP port: finds the family that answers a request (SQS, Lambda, health, metrics,
 * status) and holds what all families share. Families are registered by the node, so that this
 * layer knows none of them. thread: loop. */
#ifndef BROKER_API_API_H
#define BROKER_API_API_H

#include "broker/api/queue_counts.h"
#include "broker/dispatch/dispatch.h"
#include "broker/shards/shards.h"
#include "proto/http/server.h"

struct api;
struct auth;
struct away;
struct page_guard;

struct api_config {
    const char *region;     /* "us-east-1" */
    const char *account_id; /* "000000000000" */
    const char *public_url; /* NULL: from the request's Host header */
    const char *version;
    bool aws_cooldowns;          /* QueueDeletedRecently and once-a-minute purge, as AWS has them */
    uint64_t node_id;            /* the Raft id of this node, for /status */
    uint64_t metrics_queues_max; /* queues that /metrics shows */
    bool regions_separate;       /* each region that clients sign for has queues of its own */
};

/* What a request reads that other nodes may have written, and this one must have seen first. */
enum api_reads {
    API_READS_NOTHING, /* or the family sees to it itself */
    API_READS_CATALOG,
    API_READS_ALL /* the catalog and every queue shard */
};

/* A family of requests. The first whose `matches` is true gets the request. */
struct api_family {
    const char *name; /* for metrics: "sqs" */
    bool (*matches)(const struct http_request *request);
    size_t body_bytes_max;
    /* A smaller limit for this request, from its path and headers. NULL: body_bytes_max for all. */
    size_t (*body_limit)(const struct http_request *request);
    void (*handle)(struct api *api, struct http_request *request);
    void (*too_large)(struct api *api, struct http_request *request);
    /* The client has gone; request->data is the family's. NULL: nothing to do. */
    void (*abort)(struct api *api, struct http_request *request);
    /* It was asked for (api_want_turn_end), and the loop will wait next. */
    void (*turn_end)(struct api *api);
    /* The node is stopping: end what would only wait. NULL: nothing does. */
    void (*closing)(struct api *api);
    bool works_unready; /* also while the catalog is not ready: health, metrics, status */
    enum api_reads (*reads)(const struct http_request *request); /* NULL: nothing */
    /* What the family keeps between requests; made by api_open, freed when the api is. May be NULL.
     */
    void *(*state_new)(void);
    void (*state_free)(void *state);
};

/* The node's contexts, NULL where there is no TLS: `http` is spoken, all are shown in /metrics. */
struct api_tls {
    struct tls_context *http, *rpc, *peer;
};

struct api_options {
    uv_loop_t *loop;
    struct shards *shards;
    struct auth *auth;   /* broker/auth: who calls, and what they may do */
    struct peers *peers; /* of broker/peer/tcp.h, to tell of other nodes; NULL: there are none */
    struct away *away;   /* asks nodes that have the shards that this one has not */
    struct page_guard *page_guard; /* moved, in any case; NULL: /metrics and /status are everybody's
                                    */
    const char *host;
    uint16_t port;
    struct http_limits limits; /* of the public port */
    struct api_tls tls;
    struct api_config config;
    const struct api_family *const *families;
    size_t family_count;
};
/* api_open: listen. The dispatcher is given later (api_set_dispatch), because it wants the
 * endpoint's port. errors: as http_server_open. */
MUST_CHECK enum status api_open(struct api **out, const struct api_options *options);
void api_set_dispatch(struct api *api, struct dispatch *dispatch);
/* api_close: refuse new requests, let those under way finish for `grace_ms`, then call back.
 * api_closing: it has begun, so nothing new should wait. */
void api_close(struct api *api, uint32_t grace_ms, void (*closed)(void *data), void *data);
bool api_closing(const struct api *api);
/* api_hold, api_release: a call whose client has gone may be under way in the shard, without a
 * majority until that closes, which is after the API: what it looks at stays until the last one is
 * released. There is no dispatcher then (api_dispatch is NULL). */
void api_hold(struct api *api);
void api_release(struct api *api);
uint16_t api_port(const struct api *api);

/* api_catalog: the shard that holds functions, mappings, keys and the broker's own queues. Where a
 * user's queue is: broker/shards/queues.h. */
struct shards *api_shards(const struct api *api);
struct shard *api_catalog(const struct api *api);
struct auth *api_auth(struct api *api);
struct peers *api_peers(struct api *api);
struct away *api_away(const struct api *api);
uv_loop_t *api_loop(const struct api *api);
struct dispatch *api_dispatch(struct api *api);
const struct api_config *api_config(const struct api *api);

/* api_family_state: what the family's state_new returned; NULL for a family that is not registered
 * or keeps none. */
void *api_family_state(struct api *api, const struct api_family *family);

/* api_want_turn_end: have the families' turn_end called before the loop waits again: for what is
 * better done at once for all requests that came together. */
void api_want_turn_end(struct api *api);

/* api_base_url: "http://host:port" (https with TLS), from the public URL or the request's Host; in
 * its arena. */
const char *api_base_url(struct api *api, struct http_request *request);

/* api_count: one answered request, for /metrics. `action` and `code` have static storage; code NULL
 * means success. */
void api_count(struct api *api, const char *family, const char *action, const char *code,
               uint64_t started_ns);

/* api_queue_counts: what this node counts of a queue, to add to; valid until the next call. */
struct queue_counts *api_queue_counts(struct api *api, uint64_t queue_id);

/* Families of this layer: /health/live, /health/ready, /metrics, /status (JSON for `millrace
 * status`: version, node, raft, workers, queues, functions with usage and concurrency). */
extern const struct api_family api_family_admin;
/* /admin/keys: access keys, for `millrace key`. */
extern const struct api_family api_family_keys;
/* /admin/cluster: members, for `millrace cluster`. */
extern const struct api_family api_family_cluster;
/* /admin/backup: a consistent copy, for `millrace backup`. */
extern const struct api_family api_family_backup;
/* broker/api/sqs and broker/api/lambda */
extern const struct api_family api_family_sqs;
extern const struct api_family api_family_lambda;

#endif
