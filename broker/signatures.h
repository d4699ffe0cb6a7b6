/* SPDX-License-Identifier: Apache-2.0 */
/* The broker's options about signatures, and broker/auth opened with them. thread: loop. */
#ifndef BROKER_SIGNATURES_H
#define BROKER_SIGNATURES_H

#include "broker/auth/auth.h"
#include "broker/node.h"

/* signatures_check: as node_options_check, for --auth and the root key. */
const char *signatures_check(const struct node_options *options);

/* signatures_open: `loopback`: the public port listens on loopback only. `no_key` runs when nobody
 * could get in, after a trace that says what to do; the node should end with EX_CONFIG then. */
struct auth *signatures_open(const struct node_options *options, bool loopback, uv_loop_t *loop,
                             struct shard *shard, void (*no_key)(void *data), void *data);

/* signatures_explain_no_key: that trace. */
void signatures_explain_no_key(void);

#endif
