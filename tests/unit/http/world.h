/* SPDX-License-Identifier: Apache-2.0 */
/* A server with a handler whose answers show what it was asked, for the tests of proto/http. */
#ifndef TESTS_UNIT_HTTP_WORLD_H
#define TESTS_UNIT_HTTP_WORLD_H

#include "proto/base/assert.h"
#include "tests/unit/http/client.h"
#ifdef OVER_TLS
#include "tests/unit/http/over_tls.h"
#endif

#define HOST "Host: h\r\n"

/* The handler: /echo gives the body back, /big gives 8 MiB, everything else names its path; with
 * `hold`, requests wait until the test answers. */

static inline size_t body_bytes_max(void *data, struct http_request *request)
{
    (void)request;
    return ((struct world *)data)->body_bytes_max;
}

static inline void answer(struct http_request *request, const char *text)
{
    struct buffer body = {0};
    if (slice_is(request->path, "/echo"))
        buffer_add_slice(&body, request->body);
    else if (slice_is(request->path, "/big"))
        memset(buffer_reserve(&body, 8 << 20), 'b', 8 << 20), buffer_added(&body, 8 << 20);
    else
        buffer_add_text(&body, text);
    const struct http_header headers[] = {
        {SLICE_LITERAL("X-Path"), request->path},
        {SLICE_LITERAL("X-Query"), request->query},
        {SLICE_LITERAL("X-Method"), request->method},
        {SLICE_LITERAL("X-Evil"), SLICE_LITERAL("a\r\nSet-Cookie: no\n\x01")},
        {SLICE_LITERAL("Bad Name"), SLICE_LITERAL("x")},
        {SLICE_LITERAL("content-length"), SLICE_LITERAL("99")},
        {SLICE_LITERAL("Connection"), SLICE_LITERAL("upgrade")},
    };
    http_respond(request, 200, headers, ARRAY_COUNT(headers), &body);
    assert_null(body.data);
}

static inline void on_request(void *data, struct http_request *request)
{
    struct world *w = data;
    w->requests++;
    w->last_body_bytes = request->body.length;
    snprintf(w->last_path, sizeof w->last_path, "%.*s", SLICE_ARGS(request->path));
    assert_ptr_not_equal(request->connection, NULL);
    assert_true(strncmp(request->peer, "127.0.0.1:", 10) == 0 ||
                strcmp(request->peer, "local") == 0);
    assert_null(w->waiting);
    if (w->hold) {
        w->waiting = request;
        request->data = w;
    } else {
        answer(request, "hello");
    }
}

static inline void on_abort(void *data, struct http_request *request)
{
    struct world *w = data;
    assert_ptr_equal(w->waiting, request);
    assert_ptr_equal(request->data, w);
    w->waiting = NULL;
    w->aborts++;
}

static inline void on_too_large(void *data, struct http_request *request)
{
    struct world *w = data;
    w->too_large++;
    struct buffer body = {0};
    buffer_add_text(&body, "too much");
    http_respond(request, 400, NULL, 0, &body);
}

static inline void on_closed(void *data)
{
    ((struct world *)data)->server_closed = true;
}

static inline void release(struct world *w)
{
    struct http_request *request = w->waiting;
    assert_non_null(request);
    w->waiting = NULL;
    answer(request, "late");
}

static inline int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    uv_loop_init(&w->loop);
    w->body_bytes_max = 4 << 20;
    w->limits = http_limits_default;
    w->limits.header_bytes_max = 4096;
    w->handler = (struct http_handler){.data = w,
                                       .body_bytes_max = body_bytes_max,
                                       .on_request = on_request,
                                       .on_abort = on_abort};
#ifdef OVER_TLS
    over_tls_open(w);
#endif
    *state = w;
    return 0;
}

static inline void serve(struct world *w)
{
    assert_int_equal(
        http_server_open(&w->server, &w->loop, "127.0.0.1", 0, &w->limits, &w->handler), STATUS_OK);
    assert_true(http_server_port(w->server) > 0);
    http_server_use_tls(w->server, w->tls);
}

static inline void serve_no_more(struct world *w)
{
    http_server_close(w->server, on_closed, w);
    assert_false(w->server_closed);
    WAIT_FOR(w, NULL, w->server_closed);
    w->server = NULL;
}

static inline int teardown(void **state)
{
    struct world *w = *state;
    if (w->server != NULL)
        serve_no_more(w);
#ifdef OVER_TLS
    over_tls_close(w);
#endif
    assert_int_equal(uv_run(&w->loop, UV_RUN_NOWAIT), 0);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    free(w);
    return 0;
}

/* One request on a connection of its own; what came back is in the client. */
static inline struct client exchange(struct world *w, const char *text, size_t length)
{
    struct client c = client_connect(w);
    client_send(w, &c, text, length);
    WAIT_FOR(w, &c, c.ended || answers_in(&c.in, false) > 0);
    return c;
}

#endif
