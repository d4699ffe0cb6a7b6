/* SPDX-License-Identifier: Apache-2.0 */
/* The Runtime API: four routes, a table of replies, and one held request.
 *
 *     GET  /2018-06-01/runtime/invocation/next           200, held until there is an event
 *     POST /2018-06-01/runtime/invocation/{id}/response  202 {"status":"OK"}
 *     POST /2018-06-01/runtime/invocation/{id}/error     202
 *     POST /2018-06-01/runtime/init/error                202
 *
 * Whether a call fits the moment is the environment's to say (environment.c); this file only speaks
 * HTTP. The port is on the host's loopback, so that any process of the machine could connect to it;
 * where environments have a user of their own, each new connection's owner is looked up in the
 * kernel and strangers are refused with 403: one function can neither take nor answer another's
 * events. */
#include "worker/runtime_api.h"

#include "proto/base/assert.h"
#include "proto/base/trace.h"
#include "proto/http/server.h"
#include "worker/socket_owner.h"

#include <stdio.h>
#include <stdlib.h>

#define PREFIX       "/2018-06-01/runtime/"
#define HEADERS_MAX  8
#define HEADER_BYTES 1048576u /* an error cause header may be this long */

struct runtime_api {
    struct http_server *server;
    const struct runtime_api_events *events;
    void *data;
    uid_t uid;
    struct http_request *held;
    char known_peer[64]; /* the connection that was checked last */
    void (*closed)(void *data);
    void *closed_data;
};

enum api_route api_route_parse(struct slice method, struct slice path, struct slice *id)
{
    *id = (struct slice){0};
    if (!slice_starts_with(path, PREFIX))
        return ROUTE_UNKNOWN;
    struct slice rest = slice_sub(path, strlen(PREFIX));
    bool get = slice_is(method, "GET"), post = slice_is(method, "POST");
    if (slice_is(rest, "invocation/next"))
        return get ? ROUTE_NEXT : ROUTE_WRONG_METHOD;
    if (slice_is(rest, "init/error"))
        return post ? ROUTE_INIT_ERROR : ROUTE_WRONG_METHOD;
    if (!slice_starts_with(rest, "invocation/"))
        return ROUTE_UNKNOWN;
    rest = slice_sub(rest, strlen("invocation/"));
    ptrdiff_t slash = slice_find(rest, '/');
    if (slash <= 0)
        return ROUTE_UNKNOWN;
    struct slice verb = slice_sub(rest, (size_t)slash + 1);
    *id = slice_make(rest.data, (size_t)slash);
    if (slice_is(verb, "response"))
        return post ? ROUTE_RESPONSE : ROUTE_WRONG_METHOD;
    if (slice_is(verb, "error"))
        return post ? ROUTE_ERROR : ROUTE_WRONG_METHOD;
    return ROUTE_UNKNOWN;
}

static const struct reply {
    int status;
    const char *body;
} reply_accepted = {202, "{\"status\":\"OK\"}\n"},
  reply_wrong_id =
      {400, "{\"errorMessage\":\"Invalid request ID\",\"errorType\":\"InvalidRequestID\"}\n"},
  reply_wrong_state = {403, "{\"errorMessage\":\"State transition is not allowed\","
                            "\"errorType\":\"InvalidStateTransition\"}\n"},
  reply_stranger = {403, "{\"errorMessage\":\"This is not your environment\","
                         "\"errorType\":\"AccessDenied\"}\n"},
  reply_too_large = {413,
                     "{\"errorMessage\":\"Exceeded maximum allowed payload size (6291556 bytes).\","
                     "\"errorType\":\"RequestEntityTooLarge\"}\n"},
  reply_not_found = {404, "{\"errorMessage\":\"Not found\",\"errorType\":\"NotFound\"}\n"},
  reply_wrong_method = {
      405, "{\"errorMessage\":\"Method not allowed\",\"errorType\":\"MethodNotAllowed\"}\n"};

static void respond(struct http_request *request, const struct reply *reply)
{
    static const struct http_header json = {{(const uint8_t *)"Content-Type", 12},
                                            {(const uint8_t *)"application/json", 16}};
    struct buffer body = {0};
    buffer_add_text(&body, reply->body);
    http_respond(request, reply->status, &json, 1, &body);
    buffer_free(&body);
}

static void respond_verdict(struct http_request *request, enum api_verdict verdict)
{
    static const struct reply *const replies[] = {[API_ACCEPTED] = &reply_accepted,
                                                  [API_WRONG_ID] = &reply_wrong_id,
                                                  [API_WRONG_STATE] = &reply_wrong_state};
    respond(request, replies[verdict]);
}

static bool is_stranger(struct runtime_api *api, const struct http_request *request)
{
    if (api->uid == (uid_t)-1 || strcmp(api->known_peer, request->peer) == 0)
        return false;
    if (!socket_owner_is(request->peer, http_server_port(api->server), api->uid))
        return true;
    snprintf(api->known_peer, sizeof api->known_peer, "%s", request->peer);
    return false;
}

static void on_next(struct runtime_api *api, struct http_request *request)
{
    enum api_verdict verdict = API_WRONG_STATE;
    if (api->held == NULL) {
        /* Held first: the environment may deliver before `next` returns. */
        api->held = request;
        verdict = api->events->next(api->data);
        if (verdict == API_ACCEPTED)
            return;
        api->held = NULL;
    }
    respond_verdict(request, verdict);
}

static void on_request(void *data, struct http_request *request)
{
    struct runtime_api *api = data;
    const struct runtime_api_events *events = api->events;
    struct slice id;
    struct slice type = http_header(request, "Lambda-Runtime-Function-Error-Type");
    enum api_route route = api_route_parse(request->method, request->path, &id);
    if (is_stranger(api, request)) {
        trace_warn("runtime_api", "stranger", "peer=%s path=\"%.*s\"", request->peer,
                   SLICE_ARGS(request->path));
        respond(request, &reply_stranger);
        return;
    }
    switch (route) {
    case ROUTE_NEXT:
        on_next(api, request);
        break;
    case ROUTE_RESPONSE:
        respond_verdict(request, events->response(api->data, id, request->body));
        break;
    case ROUTE_ERROR:
        respond_verdict(request, events->error(api->data, id, request->body, type));
        break;
    case ROUTE_INIT_ERROR:
        respond_verdict(request, events->init_error(api->data, request->body, type));
        break;
    case ROUTE_WRONG_METHOD:
        respond(request, &reply_wrong_method);
        break;
    case ROUTE_UNKNOWN:
        respond(request, &reply_not_found);
        break;
    }
}

static void on_too_large(void *data, struct http_request *request)
{
    struct runtime_api *api = data;
    struct slice id;
    if (!is_stranger(api, request) &&
        api_route_parse(request->method, request->path, &id) == ROUTE_RESPONSE)
        api->events->too_large(api->data, id);
    respond(request, &reply_too_large);
}

static void on_abort(void *data, struct http_request *request)
{
    struct runtime_api *api = data;
    if (api->held == request) {
        api->held = NULL;
        api->events->next_lost(api->data);
    }
}

static size_t body_bytes_max(void *data, struct http_request *request)
{
    (void)data;
    (void)request;
    return RESPONSE_BYTES_MAX;
}

enum status runtime_api_open(struct runtime_api **out, uv_loop_t *loop, uid_t uid,
                             const struct runtime_api_events *events, void *data)
{
    struct runtime_api *api = calloc(1, sizeof *api);
    ASSERT(api != NULL);
    api->events = events;
    api->data = data;
    api->uid = uid;
    struct http_limits limits = {.header_bytes_max = HEADER_BYTES,
                                 .connections_max = 32,
                                 .header_timeout_ms = 60000,
                                 .idle_timeout_ms = 0,
                                 .send_timeout_ms = 60000,
                                 .bytes_per_ms_min = 32};
    struct http_handler handler = {.data = api,
                                   .body_bytes_max = body_bytes_max,
                                   .on_too_large = on_too_large,
                                   .on_request = on_request,
                                   .on_abort = on_abort};
    enum status status = http_server_open(&api->server, loop, "127.0.0.1", 0, &limits, &handler);
    if (status != STATUS_OK)
        free(api);
    else
        *out = api;
    return status;
}

static void on_server_closed(void *data)
{
    struct runtime_api *api = data;
    void (*closed)(void *data) = api->closed;
    void *closed_data = api->closed_data;
    free(api);
    closed(closed_data);
}

void runtime_api_close(struct runtime_api *api, void (*closed)(void *data), void *data)
{
    api->closed = closed;
    api->closed_data = data;
    http_server_close(api->server, on_server_closed, api);
}

uint16_t runtime_api_port(const struct runtime_api *api)
{
    return http_server_port(api->server);
}

bool runtime_api_waiting(const struct runtime_api *api)
{
    return api->held != NULL;
}

void runtime_api_deliver(struct runtime_api *api, const struct api_invocation *invocation)
{
    struct http_header headers[HEADERS_MAX];
    char deadline[24];
    snprintf(deadline, sizeof deadline, "%llu", (unsigned long long)invocation->deadline_ms);
    const char *const rows[][2] = {
        {"Content-Type", "application/json"},
        {"Lambda-Runtime-Aws-Request-Id", invocation->request_id},
        {"Lambda-Runtime-Deadline-Ms", deadline},
        {"Lambda-Runtime-Invoked-Function-Arn", invocation->function_arn},
        {"Lambda-Runtime-Trace-Id", invocation->trace_id},
        {"Lambda-Runtime-Client-Context", invocation->client_context},
    };
    unsigned count = 0;
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
        if (rows[i][1] != NULL && rows[i][1][0] != '\0')
            headers[count++] = (struct http_header){slice_of(rows[i][0]), slice_of(rows[i][1])};
    struct http_request *request = api->held;
    ASSERT(request != NULL);
    api->held = NULL;
    struct buffer body = {0};
    buffer_add_slice(&body, invocation->payload);
    http_respond(request, 200, headers, count, &body);
    buffer_free(&body);
}
