/* SPDX-License-Identifier: Apache-2.0 */
/* The Lambda Runtime API (2018-06-01) of one execution environment, on a loopback port of its own.
 */
#ifndef WORKER_RUNTIME_API_H
#define WORKER_RUNTIME_API_H

#include "proto/base/slice.h"
#include "proto/base/status.h"

#include <sys/types.h>
#include <uv.h>

#define RESPONSE_BYTES_MAX (6291456u + 100u) /* 6 MiB, and what AWS allows on top */

struct runtime_api;

enum api_verdict { API_ACCEPTED, API_WRONG_ID, API_WRONG_STATE };

/* What the runtime asks; the answer decides the reply. Slices are borrowed until the return. */
struct runtime_api_events {
    /* GET next: if accepted it is held until runtime_api_deliver, or until `next_lost`. */
    enum api_verdict (*next)(void *data);
    void (*next_lost)(void *data);
    enum api_verdict (*response)(void *data, struct slice id, struct slice body);
    enum api_verdict (*error)(void *data, struct slice id, struct slice body, struct slice type);
    enum api_verdict (*init_error)(void *data, struct slice body, struct slice type);
    /* A response of more than RESPONSE_BYTES_MAX; it is answered with 413 whatever this says. */
    void (*too_large)(void *data, struct slice id);
};

/* runtime_api_open: serve on 127.0.0.1. `uid`: only processes of this user may connect; (uid_t)-1:
 * anyone on this machine.  errors: those of http_server_open */
MUST_CHECK enum status runtime_api_open(struct runtime_api **out, uv_loop_t *loop, uid_t uid,
                                        const struct runtime_api_events *events, void *data);
void runtime_api_close(struct runtime_api *api, void (*closed)(void *data), void *data);
uint16_t runtime_api_port(const struct runtime_api *api);

/* The event that answers a held `next`. Absent or empty texts are left out. */
struct api_invocation {
    const char *request_id;
    const char *function_arn;
    const char *trace_id;
    const char *client_context;
    uint64_t deadline_ms;
    struct slice payload;
};
/* runtime_api_deliver: answer the held `next`; there must be one (runtime_api_waiting). */
void runtime_api_deliver(struct runtime_api *api, const struct api_invocation *invocation);
bool runtime_api_waiting(const struct runtime_api *api);

enum api_route {
    ROUTE_UNKNOWN,
    ROUTE_WRONG_METHOD,
    ROUTE_NEXT,
    ROUTE_RESPONSE,
    ROUTE_ERROR,
    ROUTE_INIT_ERROR,
};
/* api_route_parse: what is asked for, and the request id in the path. thread: any. */
enum api_route api_route_parse(struct slice method, struct slice path, struct slice *id);

#endif
