/* SPDX-License-Identifier: Apache-2.0 */
/* One broker process: a shard, the public port, the dispatcher, and their life together. */
#ifndef BROKER_NODE_H
#define BROKER_NODE_H

#include <stdbool.h>
#include <stdint.h>

/* As the options give them; texts stay valid while the node runs. */
struct node_options {
    uint64_t node_id;
    const char *data_dir;
    const char *http, *rpc, *peer; /* HOST:PORT */
    const char *cluster;           /* "1=HOST:PORT,..."; NULL: this node alone */
    const char *join;              /* members of a cluster that this node is new to; NULL: none */
    uint64_t queue_shards;         /* of a cluster that begins */
    uint64_t replicas;             /* the same: of each queue shard */
    uint64_t move_rate_mb;         /* MB a second; 0: no limit */
    const char *advertise_peer;    /* HOST:PORT for others; NULL: see broker/cluster.c */
    const char *advertise_http;
    const char *advertise_rpc;
    const char *region;
    const char *account_id;
    const char *public_url;         /* NULL: from each request's Host header */
    const char *auth;               /* "required", "off" or "auto" */
    const char *root_access_key_id; /* NULL: none */
    const char *root_secret_access_key;
    const char *regions; /* same or separate */
    const char *aws_cooldowns;
    const char *tls_cert, *tls_key, *tls_client_ca; /* of the public port; NULL: none */
    const char *tls_dir;                            /* for workers and brokers; NULL: none */
    uint64_t http_keepalive_timeout_s;
    uint64_t http_keepalive_requests; /* 0: no limit */
    uint64_t metrics_queues_max;
    const char *metrics_auth;       /* "required", "off" or "auto" */
    const char *metrics_token_file; /* NULL: none */
    const char *log_level;
    const char *log_format;
};

/* node_options_check: what a single option's type cannot say. NULL when all is well, else a
 * sentence in static storage. */
const char *node_options_check(const struct node_options *options);

/* node_run: start, serve until SIGTERM or SIGINT, and shut down in order. Returns the exit code of
 * the process: 0, or one of sysexits.h after a trace that says what is wrong. A second signal ends
 * the process at once. thread: the main thread, once. */
int node_run(const struct node_options *options);

#endif
