/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP port: the SQS JSON protocol on keep-alive connections, one call at a time on each, as an
 * SDK's connection pool does it. Lean on purpose, so that the client does not hide what the server
 * costs: requests are printed, answers are searched for the few members that matter. That is
 * correct only because bodies, names and handles of the bench need no escaping in JSON.
 *
 *     connection   closed ──> connecting ──> idle <──> busy
 *                     └────────── error ──────┴─────────┘   (the call ends UNKNOWN; next endpoint)
 *
 * Calls wait in a list until a connection is idle. */
#include "client/bench/port.h"

#include "proto/base/assert.h"
#include "proto/base/buffer.h"
#include "proto/base/clock.h"
#include "proto/base/options.h"
#include "proto/sigv4/moment.h"
#include "proto/sigv4/sigv4.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#define ENDPOINTS_MAX 16
#define READ_BYTES    65536
#define RETRY_MS      50u

enum connection_state { CLOSED, CONNECTING, IDLE, BUSY };

struct http_port;

struct connection {
    struct http_port *port;
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    enum connection_state state;
    bool closing;      /* the handle is being closed */
    uint32_t endpoint; /* to use now */
    uint64_t retry_at_ms;
    struct port_call *call;
    struct buffer body; /* of the request */
    struct buffer out;
    struct buffer in;
    bool writing; /* `out` is the kernel's, or libuv's, for now */
    struct connection *next_idle;
};

struct http_port {
    struct port port;
    uv_loop_t loop;
    uv_timer_t timer;
    struct arena arena;
    struct {
        const char *authority; /* for the Host header */
        struct sockaddr_storage address;
    } endpoints[ENDPOINTS_MAX];
    uint32_t endpoint_count;
    const struct port_access *access;
    struct connection *connections;
    uint32_t connection_count;
    struct connection *idle;
    uint32_t down;                  /* connections that are CLOSED */
    struct port_call *first, *last; /* waiting */
    uint32_t called_back;
    bool ending;
};

/* ---- requests ---- */

static const char *const actions[][2] = {
    [PORT_CREATE] = {"CreateQueue", "CreateQueue"},
    [PORT_DESTROY] = {"DeleteQueue", "DeleteQueue"},
    [PORT_COUNT] = {"GetQueueAttributes", "GetQueueAttributes"},
    [PORT_SEND] = {"SendMessage", "SendMessageBatch"},
    [PORT_RECEIVE] = {"ReceiveMessage", "ReceiveMessage"},
    [PORT_DELETE] = {"DeleteMessage", "DeleteMessageBatch"},
};

static void write_member(struct buffer *out, const char *name, struct slice value)
{
    if (value.data == NULL)
        return;
    buffer_printf(out, ",\"%s\":\"", name);
    buffer_add_slice(out, value);
    buffer_add_byte(out, '"');
}

static void write_item(struct buffer *out, const struct port_call *call, uint32_t i)
{
    const struct port_item *item = &call->items[i];
    if (call->kind == PORT_SEND) {
        write_member(out, "MessageBody", item->body);
        write_member(out, "MessageGroupId", item->group_id);
        write_member(out, "MessageDeduplicationId", item->deduplication_id);
    } else {
        write_member(out, "ReceiptHandle", item->handle);
    }
}

static void write_json(struct buffer *out, const struct port_call *call)
{
    const char *member = call->kind == PORT_CREATE ? "QueueName" : "QueueUrl";
    buffer_printf(out, "{\"%s\":\"%s\"", member, call->queue);
    if (call->kind == PORT_CREATE && call->fifo)
        buffer_add_text(out, ",\"Attributes\":{\"FifoQueue\":\"true\"}");
    if (call->kind == PORT_COUNT)
        buffer_add_text(out, ",\"AttributeNames\":[\"ApproximateNumberOfMessages\"]");
    if (call->kind == PORT_RECEIVE)
        buffer_printf(out, ",\"MaxNumberOfMessages\":%u,\"WaitTimeSeconds\":%u", call->count,
                      call->wait_s);
    bool items = call->kind == PORT_SEND || call->kind == PORT_DELETE;
    if (items && call->count == 1)
        write_item(out, call, 0);
    for (uint32_t i = 0; items && call->count > 1 && i < call->count; i++) {
        buffer_printf(out, "%s{\"Id\":\"%u\"", i == 0 ? ",\"Entries\":[" : ",", i);
        write_item(out, call, i);
        buffer_add_byte(out, '}');
    }
    buffer_add_text(out, items && call->count > 1 ? "]}" : "}");
}

static void write_signature(struct buffer *out, const struct port_access *access,
                            const char *authority, const char *target, struct slice body)
{
    struct arena arena = {0};
    char time[MOMENT_LENGTH + 1];
    struct sigv4_signer signer = {slice_of(access->access_key_id),
                                  slice_of(access->secret_access_key), slice_of(access->region),
                                  SLICE_LITERAL("sqs"), clock_now_ms() / 1000};
    moment_format(signer.now_s, time);
    const struct sigv4_header headers[] = {{SLICE_LITERAL("Host"), slice_of(authority)},
                                           {SLICE_LITERAL("X-Amz-Date"), slice_of(time)},
                                           {SLICE_LITERAL("X-Amz-Target"), slice_of(target)}};
    struct sigv4_request request = {
        SLICE_LITERAL("POST"), SLICE_LITERAL("/"), {0}, headers, ARRAY_COUNT(headers)};
    buffer_printf(out, "X-Amz-Date: %s\r\nAuthorization: %s\r\n", time,
                  sigv4_sign(&request, &signer, body, &arena));
    arena_free(&arena);
}

static void write_request(struct connection *c)
{
    const struct port_call *call = c->call;
    const struct port_access *access = c->port->access;
    const char *authority = c->port->endpoints[c->endpoint].authority;
    char target[64];
    snprintf(target, sizeof target, "AmazonSQS.%s", actions[call->kind][call->count > 1]);
    buffer_clear(&c->body);
    write_json(&c->body, call);
    buffer_clear(&c->out);
    buffer_printf(&c->out,
                  "POST / HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-amz-json-1.0\r\n"
                  "X-Amz-Target: %s\r\nContent-Length: %zu\r\n",
                  authority, target, c->body.length);
    if (access->access_key_id != NULL)
        write_signature(&c->out, access, authority, target, buffer_slice(&c->body));
    buffer_add_text(&c->out, "\r\n");
    buffer_add_slice(&c->out, buffer_slice(&c->body));
}

/* ---- answers ---- */

/* The text of the next member `name` in `in`, which is moved behind it; absent if there is none. */
static struct slice next_text(struct slice *in, const char *name)
{
    size_t length = strlen(name);
    const uint8_t *at = in->length > 0 ? memmem(in->data, in->length, name, length) : NULL;
    if (at == NULL)
        return (struct slice){0};
    struct slice rest = slice_sub(*in, (size_t)(at - in->data) + length);
    ptrdiff_t end = slice_find(rest, '"');
    if (end < 0)
        return (struct slice){0};
    *in = slice_sub(rest, (size_t)end + 1);
    return slice_make(rest.data, (size_t)end);
}

static void take_messages(struct port_call *call, struct slice json)
{
    uint32_t count = 0;
    while (count < PORT_BATCH_MAX) {
        struct slice handle = next_text(&json, "\"ReceiptHandle\":\"");
        struct slice body = next_text(&json, "\"Body\":\"");
        if (body.data == NULL)
            break;
        call->items[count++] = (struct port_item){.body = body, .handle = handle};
    }
    call->count = count;
}

static void take_failed(struct port_call *call, struct slice json)
{
    struct slice failed = json;
    const uint8_t *at = memmem(json.data, json.length, "\"Failed\":[", 10);
    if (at == NULL)
        return;
    failed = slice_sub(json, (size_t)(at - json.data));
    for (struct slice id; (id = next_text(&failed, "\"Id\":\"")).data != NULL;) {
        struct slice rest = failed;
        struct slice code = next_text(&rest, "\"Code\":\"");
        if (id.length == 1 && (unsigned)(id.data[0] - '0') < call->count)
            call->failed |= 1u << (id.data[0] - '0');
        snprintf(call->why, sizeof call->why, "%.*s", SLICE_ARGS(code));
    }
}

static void take_answer(struct port_call *call, int status, struct slice json)
{
    call->failed = 0;
    call->end = PORT_DONE;
    if (status != 200) {
        struct slice rest = json;
        struct slice type = next_text(&rest, "\"__type\":\"");
        call->end = status >= 500 ? PORT_UNKNOWN : PORT_REFUSED;
        snprintf(call->why, sizeof call->why, "HTTP %d %.*s", status, SLICE_ARGS(type));
    } else if (call->kind == PORT_RECEIVE) {
        take_messages(call, json);
    } else if (call->kind == PORT_COUNT) {
        struct slice number = next_text(&json, "\"ApproximateNumberOfMessages\":\"");
        char text[24];
        snprintf(text, sizeof text, "%.*s", SLICE_ARGS(number));
        call->visible = strtoull(text, NULL, 10);
    } else if (call->count > 1) {
        take_failed(call, json);
    }
}

/* ---- connections ---- */

static void pump(struct http_port *port);

static void end_call(struct connection *c)
{
    struct port_call *call = c->call;
    c->call = NULL;
    c->port->called_back++;
    call->done(call);
}

static void handle_closed(uv_handle_t *handle)
{
    struct connection *c = handle->data;
    c->closing = false;
    c->writing = false;
    c->endpoint = (c->endpoint + 1) % c->port->endpoint_count;
}

static void drop(struct connection *c, const char *why)
{
    struct http_port *port = c->port;
    if (c->state == CLOSED)
        return;
    for (struct connection **at = &port->idle; *at != NULL; at = &(*at)->next_idle) {
        if (*at == c) {
            *at = c->next_idle;
            break;
        }
    }
    c->state = CLOSED;
    c->closing = true;
    c->retry_at_ms = uv_now(&port->loop) + RETRY_MS;
    port->down++;
    uv_close((uv_handle_t *)&c->tcp, handle_closed);
    if (c->call != NULL) {
        c->call->end = PORT_UNKNOWN;
        snprintf(c->call->why, sizeof c->call->why, "%s", why);
        end_call(c);
    }
}

static void make_idle(struct connection *c)
{
    c->state = IDLE;
    c->next_idle = c->port->idle;
    c->port->idle = c;
}

static void on_written(uv_write_t *request, int status)
{
    struct connection *c = request->handle->data;
    c->writing = false;
    if (status != 0)
        drop(c, uv_strerror(status));
    else
        pump(c->port);
}

static void begin_call(struct connection *c, struct port_call *call)
{
    c->call = call;
    c->state = BUSY;
    c->writing = true;
    write_request(c);
    uv_buf_t out = uv_buf_init((char *)c->out.data, (unsigned)c->out.length);
    int sent = uv_try_write((uv_stream_t *)&c->tcp, &out, 1);
    if (sent == (int)c->out.length) {
        c->writing = false;
        return;
    }
    size_t done = sent > 0 ? (size_t)sent : 0;
    out = uv_buf_init((char *)c->out.data + done, (unsigned)(c->out.length - done));
    int rc = uv_write(&c->write, (uv_stream_t *)&c->tcp, &out, 1, on_written);
    ASSERT(rc == 0); /* what the socket has to say comes to on_written */
}

/* A connection whose last write libuv has not given back is left alone. */
static struct connection *take_idle(struct http_port *port)
{
    for (struct connection **at = &port->idle; *at != NULL; at = &(*at)->next_idle) {
        struct connection *c = *at;
        if (c->writing)
            continue;
        *at = c->next_idle;
        return c;
    }
    return NULL;
}

static void pump(struct http_port *port)
{
    while (port->first != NULL && !port->ending) {
        struct connection *c = take_idle(port);
        if (c == NULL)
            return;
        struct port_call *call = port->first;
        port->first = call->next;
        begin_call(c, call);
    }
}

/* The first answer in `in`: 1 if it is whole, 0 if more is to come, -1 if it is no answer. */
static int parse(struct slice in, int *status, struct slice *body)
{
    const uint8_t *end = in.length > 0 ? memmem(in.data, in.length, "\r\n\r\n", 4) : NULL;
    if (end == NULL)
        return 0;
    struct slice head = slice_make(in.data, (size_t)(end - in.data));
    char text[4096];
    snprintf(text, sizeof text, "%.*s", SLICE_ARGS(head));
    const char *length = strcasestr(text, "\r\ncontent-length:");
    if (strncmp(text, "HTTP/1.1 ", 9) != 0 || length == NULL)
        return -1;
    *status = (int)strtol(text + 9, NULL, 10);
    size_t bytes = strtoull(length + 17, NULL, 10);
    struct slice rest = slice_sub(in, head.length + 4);
    if (rest.length < bytes)
        return 0;
    *body = slice_make(rest.data, bytes);
    return 1;
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct connection *c = stream->data;
    (void)buf;
    if (count < 0) {
        drop(c, uv_strerror((int)count));
        return;
    }
    buffer_added(&c->in, (size_t)count);
    int status;
    struct slice body;
    int whole = c->state == BUSY ? parse(buffer_slice(&c->in), &status, &body) : -1;
    if (whole < 0) {
        drop(c, "not an answer");
    } else if (whole > 0) {
        take_answer(c->call, status, body);
        struct port_call *call = c->call;
        c->call = NULL;
        c->port->called_back++;
        make_idle(c);
        call->done(call); /* the bodies in `in` are valid until it returns */
        buffer_clear(&c->in);
        pump(c->port);
    }
}

static void allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct connection *c = handle->data;
    (void)suggested;
    *out = uv_buf_init((char *)buffer_reserve(&c->in, READ_BYTES), READ_BYTES);
}

static void on_connected(uv_connect_t *request, int status)
{
    struct connection *c = request->data;
    if (status == UV_ECANCELED)
        return;
    if (status != 0) {
        drop(c, uv_strerror(status));
        return;
    }
    uv_tcp_nodelay(&c->tcp, 1);
    int rc = uv_read_start((uv_stream_t *)&c->tcp, allocate, on_read);
    ASSERT(rc == 0);
    make_idle(c);
    pump(c->port);
}

static void connect_now(struct connection *c)
{
    struct http_port *port = c->port;
    uv_tcp_init(&port->loop, &c->tcp);
    c->tcp.data = c;
    c->connect.data = c;
    c->state = CONNECTING;
    port->down--;
    buffer_clear(&c->in);
    const struct sockaddr *address = (void *)&port->endpoints[c->endpoint].address;
    int rc = uv_tcp_connect(&c->connect, &c->tcp, address, on_connected);
    if (rc != 0)
        drop(c, uv_strerror(rc));
}

/* Connects what is down and due. */
static void mend(struct http_port *port)
{
    uint64_t now = uv_now(&port->loop);
    for (uint32_t i = 0; port->down > 0 && i < port->connection_count; i++) {
        struct connection *c = &port->connections[i];
        if (c->state == CLOSED && !c->closing && now >= c->retry_at_ms)
            connect_now(c);
    }
}

/* ---- the port ---- */

static void http_call(struct port *base, struct port_call *call)
{
    struct http_port *port = (struct http_port *)(void *)base;
    call->next = NULL;
    if (port->first == NULL)
        port->first = call;
    else
        port->last->next = call;
    port->last = call;
    pump(port);
}

static void on_timer(uv_timer_t *timer)
{
    (void)timer; /* has made uv_run return */
}

static uint32_t http_run(struct port *base, uint32_t timeout_ms)
{
    struct http_port *port = (struct http_port *)(void *)base;
    port->called_back = 0;
    uv_update_time(&port->loop);
    uint64_t until = uv_now(&port->loop) + timeout_ms;
    do {
        if (port->down > 0)
            mend(port);
        uint64_t now = uv_now(&port->loop);
        uint64_t wait = until > now ? until - now : 0;
        if (port->down > 0 && wait > RETRY_MS)
            wait = RETRY_MS;
        if (wait > 0) {
            uv_timer_start(&port->timer, on_timer, wait, 0);
            uv_run(&port->loop, UV_RUN_ONCE);
            uv_timer_stop(&port->timer);
        } else {
            uv_run(&port->loop, UV_RUN_NOWAIT);
        }
    } while (port->called_back == 0 && uv_now(&port->loop) < until);
    return port->called_back;
}

static int http_fd(const struct port *base)
{
    return uv_backend_fd(&((const struct http_port *)(const void *)base)->loop);
}

static void http_close(struct port *base)
{
    struct http_port *port = (struct http_port *)(void *)base;
    port->ending = true;
    for (uint32_t i = 0; i < port->connection_count; i++)
        drop(&port->connections[i], "closed");
    uv_close((uv_handle_t *)&port->timer, NULL);
    uv_run(&port->loop, UV_RUN_DEFAULT);
    for (uint32_t i = 0; i < port->connection_count; i++) {
        buffer_free(&port->connections[i].in);
        buffer_free(&port->connections[i].out);
        buffer_free(&port->connections[i].body);
    }
    int rc = uv_loop_close(&port->loop);
    ASSERT(rc == 0);
    free(port->connections);
    arena_free(&port->arena);
    free(port);
}

static const struct port_ops ops = {http_call, http_run, http_fd, http_close};

/* "http://HOST:PORT"; an IPv4 or IPv6 literal or a name. */
static enum status resolve(struct http_port *port, const char *url)
{
    const char *host;
    uint16_t number;
    struct addrinfo *found = NULL;
    if (strncmp(url, "http://", 7) != 0)
        return STATUS_INVALID;
    const char *authority = arena_text(&port->arena, slice_make(url + 7, strcspn(url + 7, "/")));
    if (!address_split(authority, &port->arena, &host, &number))
        return STATUS_INVALID;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    const char *service = arena_printf(&port->arena, "%u", number);
    if (getaddrinfo(host, service, &hints, &found) != 0)
        return STATUS_NOT_FOUND;
    memcpy(&port->endpoints[port->endpoint_count].address, found->ai_addr, found->ai_addrlen);
    port->endpoints[port->endpoint_count++].authority = authority;
    freeaddrinfo(found);
    return STATUS_OK;
}

static enum status resolve_all(struct http_port *port, const char *list)
{
    enum status status = STATUS_OK;
    while (*list != 0 && status == STATUS_OK) {
        size_t length = strcspn(list, ",");
        if (port->endpoint_count == ENDPOINTS_MAX)
            return STATUS_INVALID;
        status = resolve(port, arena_text(&port->arena, slice_make(list, length)));
        list += length + (list[length] == ',');
    }
    return status == STATUS_OK && port->endpoint_count == 0 ? STATUS_INVALID : status;
}

/* One connection must come about; the others follow while the port runs. */
static enum status connect_one(struct http_port *port)
{
    uint64_t until = uv_now(&port->loop) + 2000;
    while (port->idle == NULL && uv_now(&port->loop) < until)
        http_run(&port->port, 10);
    return port->idle != NULL ? STATUS_OK : STATUS_UNAVAILABLE;
}

enum status port_http(struct port **out, const char *endpoints, uint32_t connections,
                      const struct port_access *access, char why[PORT_WHY_BYTES])
{
    struct http_port *port = calloc(1, sizeof *port);
    ASSERT(port != NULL);
    port->access = access;
    port->port.ops = &ops;
    uv_loop_init(&port->loop);
    uv_timer_init(&port->loop, &port->timer);
    port->connections = calloc(connections, sizeof *port->connections);
    ASSERT(port->connections != NULL);
    enum status status = resolve_all(port, endpoints);
    for (uint32_t i = 0; status == STATUS_OK && i < connections; i++) {
        port->connections[i].port = port;
        port->connections[i].endpoint = i % port->endpoint_count;
        port->connection_count++;
        port->down++;
    }
    if (status == STATUS_OK)
        status = connect_one(port);
    *out = status == STATUS_OK ? &port->port : NULL;
    snprintf(why, PORT_WHY_BYTES, "%s", status_text(status));
    if (status != STATUS_OK)
        http_close(&port->port);
    return status;
}
