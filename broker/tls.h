/* SPDX-License-Identifier: Apache-2.0 */
/* The broker's certificates: which files the options name, and the contexts made of them.
 *
 *     --tls-cert, --tls-key, --tls-client-ca    the public port
 *     --tls-dir                                 between Millrace's programs, in files of these
 * names
 *
 * thread: loop. */
#ifndef BROKER_TLS_H
#define BROKER_TLS_H

#include "broker/node.h"
#include "proto/base/arena.h"
#include "proto/tls/tls.h"

/* NULL: without TLS. */
struct node_tls {
    struct tls_context *http;
    struct tls_context *rpc;  /* workers */
    struct tls_context *peer; /* other brokers */
};

/* node_tls_check: as node_options_check. */
const char *node_tls_check(const struct node_options *options);

/* node_tls_open: load what the options name. Returns an exit code, after a trace if it is not 0;
 * node_tls_close is due either way. */
int node_tls_open(struct node_tls *tls, uv_loop_t *loop, const struct node_options *options,
                  struct arena *arena);
void node_tls_close(struct node_tls *tls);

#endif
