/* SPDX-License-Identifier: Apache-2.0 */
/* The native protocol's server: SQS calls over the RPC port (proto/sqs/native.h). thread: loop. */
#ifndef BROKER_API_NATIVE_NATIVE_H
#define BROKER_API_NATIVE_NATIVE_H

#include "broker/api/api.h"

struct native;

/* native_open: serve the API's calls; connections come from the dispatcher (dispatch_set_clients
 * with native_accept and the struct). */
struct native *native_open(struct api *api);

/* native_accept: a client has greeted with `hello`; the link is ours from now on. */
void native_accept(void *native, struct link *link, struct slice hello);

/* native_close: answer waiting receives, empty, and what is under way, for at most `grace_ms`; then
 * close all connections, free everything and call back. To be done before the api is closed. */
void native_close(struct native *native, uint32_t grace_ms, void (*closed)(void *data), void *data);

/* native_connections: open now, for /metrics. */
unsigned native_connections(const struct native *native);

#endif
