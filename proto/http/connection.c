/* SPDX-License-Identifier: Apache-2.0 */
/* The life of one connection: bytes come in, requests go to the handler one at a time, answers go
 * out, and the socket is closed in a way that lets the client read the last answer.
 *
 *     GREETING
 *      |  TLS handshake over, or none
 *      v        first byte             complete             http_respond
 *     IDLE ---------------> RECEIVING --------> HANDLING ----------------> SENDING
 *      ^  process()             |   take()         |    respond.c             |
 *      |                        | refused          | peer gone: on_abort      |
 *      |                        +------------------|---> SENDING              |
 *      +-------------------------------------------|--------------------------+ sent()
 *                                                  v                          | last answer
 *     CLOSED <------------------------------- connection_close <-- LINGERING <+
 *
 * Reading goes on while a request waits for its answer, because that is how a client that goes away
 * is noticed. What arrives meanwhile is kept in `pending`, and reading rests at PENDING_BYTES_MAX.
 *
 * Lingering: closing a socket with unread bytes resets it, and a reset takes the answer away from a
 * client that is still sending. So the write side is shut first, and what arrives is dropped until
 * the client closes too, for at most LINGER_MS.
 *
 * Draining: a request may be on its way to a connection that is idle here, and closing would leave
 * its client without an answer and without knowing what became of it. So an idle connection has
 * DRAIN_IDLE_MS for one more request, whose answer says that the connection ends.
 *
 * Deadlines: `deadline_ms` is moved often and the timer seldom; when it fires too early it is armed
 * again. A body, in or out, may take its base time and what bytes_per_ms_min allows on top.
 *
 * Invariants:
 * I1  `pending` is empty whenever the state is IDLE or RECEIVING and process() is not running.
 * I2  A request exists in HANDLING, and the handler is told exactly once how it ended: it answers,
 *     or on_abort.
 * I3  http_respond may be called from within on_request: take() looks at the state afterwards and
 *     process() is a loop, so that pipelined requests do not nest.
 * I4  Large answers that wait for slow clients stay within limits.unsent_bytes_all_max together. */
#include "proto/http/connection.h"

#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PENDING_BYTES_MAX   (64u << 10)
#define LINGER_MS           2000
#define DRAIN_IDLE_MS       250
#define KEEPALIVE_S         60
#define SEALED_TOGETHER_MAX 16384u /* head and body that fit in a TLS record */

static const char continue_text[] = "HTTP/1.1 100 Continue\r\n\r\n";

/* Deadlines. */

static void timer_fired(uv_timer_t *timer);

static void deadline_set(struct http_connection *c, uint64_t ms)
{
    c->deadline_ms = ms == 0 ? 0 : uv_now(c->server->loop) + ms;
    if (c->deadline_ms != 0 && (c->armed_ms == 0 || c->armed_ms > c->deadline_ms)) {
        c->armed_ms = c->deadline_ms;
        int rc = uv_timer_start(&c->timer, timer_fired, ms, 0);
        ASSERT(rc == 0);
    }
}

static void timer_fired(uv_timer_t *timer)
{
    struct http_connection *c = timer->data;
    uint64_t now = uv_now(c->server->loop);
    c->armed_ms = 0;
    if (c->deadline_ms == 0)
        return;
    if (c->state == CONNECTION_RECEIVING) {
        const struct http_limits *limits = &c->server->limits;
        uint64_t allowed =
            limits->header_timeout_ms + c->reader.body.length / limits->bytes_per_ms_min;
        c->deadline_ms = c->began_ms + allowed;
    }
    if (now < c->deadline_ms)
        deadline_set(c, c->deadline_ms - now);
    else if (c->state == CONNECTION_RECEIVING)
        respond_plain(c, 408, NULL);
    else
        connection_close(c);
}

/* The end. */

/* `length` bytes of the answer wait for the client. */
static void unsent_count(struct http_connection *c, size_t length)
{
    if (length <= HTTP_BODY_SMALL_BYTES)
        length = 0;
    c->server->unsent_bytes_all += length - c->unsent_counted;
    c->unsent_counted = length;
}

static void handle_closed(uv_handle_t *handle)
{
    struct http_connection *c = handle->data;
    if (--c->handles_open > 0)
        return;
    struct http_server *server = c->server;
    LIST_REMOVE(c, entry);
    unsent_count(c, 0);
    reader_deinit(&c->reader);
    buffer_free(&c->pending);
    buffer_free(&c->out_head);
    buffer_free(&c->out_body);
    buffer_free(&c->sealed);
    tls_stream_free(c->tls);
    free(c);
    server_connection_gone(server);
}

void connection_close(struct http_connection *c)
{
    enum connection_state before = c->state;
    if (before == CONNECTION_CLOSED)
        return;
    c->state = CONNECTION_CLOSED;
    uv_close((uv_handle_t *)&c->stream, handle_closed);
    uv_close((uv_handle_t *)&c->timer, handle_closed);
    const struct http_handler *handler = &c->server->handler;
    if (before == CONNECTION_HANDLING && handler->on_abort != NULL) /* I2 */
        handler->on_abort(handler->data, c->reader.request);
    reader_reset(&c->reader);
}

void connection_drain(struct http_connection *c)
{
    bool again = c->close_after;
    c->close_after = true;
    if (c->state == CONNECTION_IDLE && !again)
        deadline_set(c, DRAIN_IDLE_MS);
    else if (c->state == CONNECTION_GREETING)
        connection_close(c);
}

/* TLS. */

/* Write what the TLS stream says besides answers: its part of a handshake, an alert, 100 Continue.
 * Nothing else is on its way then, so the socket has room; if it has not, the client is not worth a
 * queue. Not by `sealed`, which the loop may be writing from. */
static bool say_sealed(struct http_connection *c, struct buffer *said)
{
    uv_buf_t out = uv_buf_init((char *)said->data, (unsigned)said->length);
    bool good = said->length == 0 || uv_try_write(&c->stream, &out, 1) == (int)out.len;
    buffer_free(said);
    return good;
}

/* The answer, encrypted. A small one goes out as one record. */
static bool seal_answer(struct http_connection *c)
{
    if (c->out_head.length + c->out_body.length <= SEALED_TOGETHER_MAX) {
        buffer_add_slice(&c->out_head, buffer_slice(&c->out_body));
        buffer_clear(&c->out_body);
    }
    bool good = tls_stream_send(c->tls, buffer_slice(&c->out_head), &c->sealed) == STATUS_OK &&
                tls_stream_send(c->tls, buffer_slice(&c->out_body), &c->sealed) == STATUS_OK;
    buffer_clear(&c->out_head);
    buffer_free(&c->out_body);
    return good;
}

/* Reading. */

static void allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)suggested;
    struct http_connection *c = handle->data;
    *out = uv_buf_init(c->server->read_buffer, READ_BYTES);
}

static bool receiving(const struct http_connection *c)
{
    return c->state == CONNECTION_IDLE || c->state == CONNECTION_RECEIVING;
}

static void read_came(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf);

static void reading_adjust(struct http_connection *c)
{
    bool wanted = !c->peer_ended && c->pending.length < PENDING_BYTES_MAX;
    if (c->state == CONNECTION_CLOSED || wanted == c->reading)
        return;
    c->reading = wanted;
    int rc = wanted ? uv_read_start(&c->stream, allocate, read_came) : uv_read_stop(&c->stream);
    if (rc != 0)
        connection_close(c);
}

static void say_continue(struct http_connection *c)
{
    c->reader.want_continue = false;
    if (c->tls != NULL) {
        struct buffer said = {0};
        struct slice text = SLICE_LITERAL(continue_text);
        if (tls_stream_send(c->tls, text, &said) != STATUS_OK || !say_sealed(c, &said))
            connection_close(c);
        return;
    }
    uv_buf_t out = uv_buf_init((char *)(uintptr_t)continue_text, sizeof continue_text - 1);
    /* The socket's buffer is empty here; if it is not, the client is not worth a queue. */
    if (uv_try_write(&c->stream, &out, 1) != (int)out.len)
        connection_close(c);
}

static void handle_request(struct http_connection *c, bool too_large)
{
    const struct http_handler *handler = &c->server->handler;
    struct http_request *request = c->reader.request;
    c->state = CONNECTION_HANDLING;
    c->requests++;
    deadline_set(c, 0);
    request->arrived_ms = uv_now(c->server->loop);
    if (!too_large) {
        handler->on_request(handler->data, request);
        return;
    }
    c->close_after = true;
    if (handler->on_too_large != NULL)
        handler->on_too_large(handler->data, request);
    else
        http_respond(request, 413, NULL, 0, NULL);
}

void http_park(struct http_request *request)
{
    struct http_connection *c = request->connection;
    ASSERT(c->state == CONNECTION_HANDLING);
    reader_park(&c->reader);
}

/* Parse bytes of one request; returns how many were taken. */
static size_t take(struct http_connection *c, struct slice in)
{
    size_t used;
    if (c->state == CONNECTION_IDLE) {
        c->state = CONNECTION_RECEIVING;
        c->began_ms = uv_now(c->server->loop);
        deadline_set(c, c->server->limits.header_timeout_ms);
    }
    enum reader_result result = reader_feed(&c->reader, in, &used);
    if (result == READER_MORE) {
        if (c->reader.want_continue && used == in.length)
            say_continue(c); /* else the body is here already */
        return used;
    }
    if (result == READER_REFUSED)
        respond_plain(c, c->reader.refusal, NULL);
    else
        handle_request(c, result == READER_TOO_LARGE);
    return used;
}

/* Parse `in` as far as requests may be begun; returns how much of it is left for later. */
static size_t process(struct http_connection *c, struct slice in)
{
    ASSERT(!c->processing);
    c->processing = true;
    while (in.length > 0 && receiving(c))
        in = slice_sub(in, take(c, in)); /* I3 */
    c->processing = false;
    return in.length;
}

static bool keeps_bytes(const struct http_connection *c)
{
    return (c->state == CONNECTION_HANDLING || c->state == CONNECTION_SENDING) && !c->close_after;
}

static void bytes_came(struct http_connection *c, struct slice in)
{
    if (receiving(c))
        in = slice_sub(in, in.length - process(c, in));
    if (keeps_bytes(c))
        buffer_add_slice(&c->pending, in);
    reading_adjust(c);
}

static void process_pending(struct http_connection *c)
{
    size_t left = process(c, buffer_slice(&c->pending));
    if (left > 0 && keeps_bytes(c)) {
        memmove(c->pending.data, c->pending.data + c->pending.length - left, left);
        c->pending.length = left;
    } else {
        buffer_free(&c->pending);
    }
    reading_adjust(c);
}

/* The last words. */

static void shut(uv_shutdown_t *request, int status)
{
    struct http_connection *c = request->handle->data;
    if (status != 0)
        connection_close(c);
}

static void linger(struct http_connection *c)
{
    c->state = CONNECTION_LINGERING;
    reader_reset(&c->reader);
    buffer_free(&c->pending);
    reading_adjust(c);
    deadline_set(c, LINGER_MS);
    if (c->tls != NULL) {
        struct buffer said = {0};
        tls_stream_end(c->tls, &said);
        (void)say_sealed(c, &said);
    }
    if (c->peer_ended || uv_shutdown(&c->shutdown, &c->stream, shut) != 0)
        connection_close(c);
}

/* The client says nothing more: by TLS's word, or the socket's. */
static void peer_ended(struct http_connection *c)
{
    if (c->state != CONNECTION_SENDING) {
        connection_close(c);
        return;
    }
    c->peer_ended = true;
    reading_adjust(c);
}

static void tls_failed(struct http_connection *c)
{
    bool is_http = tls_stream_is_http(c->tls);
    trace_debug("http", "tls_failed", "peer=%s why=\"%s\"", c->peer, tls_stream_error(c->tls));
    if (is_http && c->state == CONNECTION_GREETING) {
        tls_stream_free(c->tls);
        c->tls = NULL;
        respond_plain(c, 400, "This port speaks HTTPS only.\n");
    } else if (c->state == CONNECTION_GREETING) {
        linger(c); /* so that the alert arrives */
    } else {
        connection_close(c);
    }
}

static void sealed_came(struct http_connection *c, struct slice in)
{
    struct buffer *plain = &c->server->plain;
    struct buffer said = {0};
    enum status status = tls_stream_receive(c->tls, in, plain, &said);
    if (!say_sealed(c, &said))
        connection_close(c);
    if (c->state == CONNECTION_GREETING && tls_stream_established(c->tls)) {
        c->state = CONNECTION_IDLE;
        deadline_set(c, c->server->limits.idle_timeout_ms);
    }
    if (plain->length > 0 && c->state != CONNECTION_CLOSED)
        bytes_came(c, buffer_slice(plain));
    buffer_clear(plain);
    if (status == STATUS_CLOSED)
        peer_ended(c);
    else if (status != STATUS_OK)
        tls_failed(c);
}

static void read_came(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct http_connection *c = stream->data;
    struct slice in = slice_make(buf->base, count > 0 ? (size_t)count : 0);
    if (count > 0 && c->tls != NULL && c->state != CONNECTION_LINGERING)
        sealed_came(c, in);
    else if (count > 0)
        bytes_came(c, in);
    else if (count == UV_EOF)
        peer_ended(c);
    else if (count < 0)
        connection_close(c);
}

/* Writing. */

/* The answer is with the kernel. */
static void sent(struct http_connection *c)
{
    unsent_count(c, 0);
    buffer_free(&c->out_head);
    buffer_free(&c->out_body);
    buffer_free(&c->sealed);
    if (c->close_after || c->peer_ended) {
        linger(c);
        return;
    }
    c->state = CONNECTION_IDLE;
    deadline_set(c, c->server->limits.idle_timeout_ms);
    if (!c->processing && c->pending.length > 0)
        process_pending(c);
}

static void written(uv_write_t *request, int status)
{
    struct http_connection *c = request->handle->data;
    if (c->state == CONNECTION_CLOSED)
        return;
    if (status == 0)
        sent(c);
    else
        connection_close(c);
}

void connection_answered(struct http_connection *c)
{
    uint32_t most = c->server->limits.requests_max;
    c->close_after = c->close_after || !c->reader.keep_alive || !c->reader.complete ||
                     (most > 0 && c->requests >= most);
    c->head_only = c->reader.is_head;
}

void connection_send(struct http_connection *c)
{
    if (c->tls != NULL && !seal_answer(c)) {
        connection_close(c);
        return;
    }
    const struct buffer *first = c->tls != NULL ? &c->sealed : &c->out_head;
    uv_buf_t out[2] = {uv_buf_init((char *)first->data, (unsigned)first->length),
                       uv_buf_init((char *)c->out_body.data, (unsigned)c->out_body.length)};
    unsigned count = out[1].len > 0 ? 2 : 1;
    size_t total = first->length + c->out_body.length;
    c->state = CONNECTION_SENDING;
    int now = uv_try_write(&c->stream, out, count);
    if (now < 0 && now != UV_EAGAIN) {
        connection_close(c);
        return;
    }
    size_t done = now < 0 ? 0 : (size_t)now;
    if (done == total) {
        sent(c);
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        size_t skip = done < out[i].len ? done : out[i].len;
        out[i].base += skip;
        out[i].len -= skip;
        done -= skip;
    }
    const struct http_limits *limits = &c->server->limits;
    unsent_count(c, total - (now < 0 ? 0 : (size_t)now)); /* I4 */
    if (limits->unsent_bytes_all_max > 0 && c->unsent_counted > 0 &&
        c->server->unsent_bytes_all > limits->unsent_bytes_all_max) {
        connection_close(c);
        return;
    }
    deadline_set(c, limits->send_timeout_ms + total / limits->bytes_per_ms_min);
    if (uv_write(&c->write, &c->stream, out, count, written) != 0)
        connection_close(c);
}

/* The beginning. */

static void name_peer(struct http_connection *c)
{
    struct sockaddr_storage address = {0};
    int length = sizeof address;
    char text[INET6_ADDRSTRLEN];
    int rc = uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&address, &length);
    if (rc == 0 && address.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&address;
        uv_ip4_name(in, text, sizeof text);
        snprintf(c->peer, sizeof c->peer, "%s:%u", text, ntohs(in->sin_port));
    } else if (rc == 0 && address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)&address;
        uv_ip6_name(in, text, sizeof text);
        snprintf(c->peer, sizeof c->peer, "[%s]:%u", text, ntohs(in->sin6_port));
    } else {
        snprintf(c->peer, sizeof c->peer, "unknown");
    }
}

static int stream_open(struct http_connection *c, int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &length) == 0 &&
        address.ss_family == AF_UNIX) {
        snprintf(c->peer, sizeof c->peer, "local");
        uv_pipe_init(c->server->loop, &c->pipe, 0);
        return uv_pipe_open(&c->pipe, fd);
    }
    uv_tcp_init(c->server->loop, &c->tcp);
    int rc = uv_tcp_open(&c->tcp, fd);
    if (rc == 0) {
        /* Small answers must not wait for ACKs, and a client that vanished without a word while its
         * request waits is found by probes. Failing at either is no reason to refuse service. */
        (void)uv_tcp_nodelay(&c->tcp, 1);
        (void)uv_tcp_keepalive(&c->tcp, 1, KEEPALIVE_S);
        name_peer(c);
    }
    return rc;
}

void connection_open(struct http_server *server, int fd)
{
    struct http_connection *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    c->server = server;
    LIST_INSERT_HEAD(&server->connections, c, entry);
    server->connection_count++;
    int rc = stream_open(c, fd);
    uv_timer_init(server->loop, &c->timer);
    c->stream.data = c;
    c->timer.data = c;
    c->handles_open = 2;
    reader_init(&c->reader, &server->limits, &server->handler, c, c->peer);
    c->reader.body_bytes_all = &server->body_bytes_all;
    if (rc != 0) {
        close(fd);
        connection_close(c);
        return;
    }
    c->state = CONNECTION_IDLE;
    if (server->tls != NULL) {
        c->tls = tls_stream_new(server->tls, TLS_SERVER, NULL);
        c->state = CONNECTION_GREETING;
    }
    deadline_set(c, server->tls != NULL ? server->limits.header_timeout_ms
                                        : server->limits.idle_timeout_ms);
    reading_adjust(c);
}
