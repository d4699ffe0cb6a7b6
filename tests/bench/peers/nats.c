/* SPDX-License-Identifier: Apache-2.0 */
/* NATS JetStream: a work-queue stream in files, R replicas, one durable pull consumer with explicit
 * acknowledgements. The text protocol is spoken by hand; one connection does it all. Replies come
 * to INBOX.KIND: the number of a send in hex, "m" for the end of a pull, "r" for requests;
 * deliveries come under the subject of the stream.
 *
 *     PUB subject [reply] #bytes\r\n payload \r\n
 *     MSG subject sid [reply] #bytes\r\n payload \r\n      (HMSG: with headers; a status has no
 * body)
 */
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "tests/bench/peers/peer.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES 262144
#define PULL_NS    UINT64_C(5000000000) /* a pull that long without an answer is made again */
#define REQUEST_MS 20000
#define CONSUMER_JSON                                                                              \
    "{\"stream_name\":\"%s\",\"config\":{\"durable_name\":\"c\",\"ack_policy\":\"explicit\","      \
    "\"deliver_policy\":\"all\",\"replay_policy\":\"instant\",\"ack_wait\":60000000000,"           \
    "\"max_deliver\":-1,\"max_waiting\":512,\"max_ack_pending\":20000}}"
#define STREAM_JSON                                                                                \
    "{\"name\":\"%s\",\"subjects\":[\"%s\"],\"retention\":\"workqueue\",\"storage\":\"file\","     \
    "\"num_replicas\":%u,\"max_consumers\":-1,\"max_msgs\":-1,\"max_bytes\":-1,\"max_age\":0,"     \
    "\"discard\":\"old\",\"duplicate_window\":100000000}"

struct nats {
    struct port port;
    int fd;
    unsigned replicas;
    char inbox_name[32];
    const char *queue; /* that is pulled from */
    uint32_t pulled;   /* messages asked for and not yet come */
    uint64_t pulled_ns;
    struct buffer in, out;
    size_t read; /* of `in` */
    struct inbox inbox;
    struct unacked unacked;
    struct port_call *ended;
    struct buffer reply; /* of a request */
    bool replied;
    uint32_t called_back;
};

struct incoming {
    struct slice subject, reply, payload;
    bool status; /* headers without a body: "503 no responders", "408 timeout" */
};

static void flush(struct nats *n)
{
    size_t done = 0;
    while (done < n->out.length) {
        ssize_t sent = send(n->fd, n->out.data + done, n->out.length - done, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            break;
        done += sent > 0 ? (size_t)sent : 0;
    }
    buffer_clear(&n->out);
}

static void publish(struct nats *n, struct slice subject, const char *reply, struct slice payload)
{
    buffer_printf(&n->out, "PUB %.*s %s %zu\r\n", SLICE_ARGS(subject), reply, payload.length);
    buffer_add_slice(&n->out, payload);
    buffer_add_text(&n->out, "\r\n");
    if (n->out.length > READ_BYTES)
        flush(n);
}

/* ---- reading ---- */

static bool fill(struct nats *n)
{
    if (n->read > 0) {
        memmove(n->in.data, n->in.data + n->read, n->in.length - n->read);
        n->in.length -= n->read;
        n->read = 0;
    }
    ssize_t got = recv(n->fd, buffer_reserve(&n->in, READ_BYTES), READ_BYTES, MSG_DONTWAIT);
    if (got > 0)
        buffer_added(&n->in, (size_t)got);
    return got > 0;
}

/* The words of a MSG or HMSG line; how many. */
static unsigned split(struct slice line, struct slice words[6])
{
    unsigned count = 0;
    while (line.length > 0 && count < 6) {
        ptrdiff_t end = slice_find(line, ' ');
        struct slice word = slice_make(line.data, end < 0 ? line.length : (size_t)end);
        if (word.length > 0)
            words[count++] = word;
        line = end < 0 ? slice_sub(line, line.length) : slice_sub(line, (size_t)end + 1);
    }
    return count;
}

static size_t number_of(struct slice text)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%.*s", SLICE_ARGS(text));
    return strtoull(digits, NULL, 10);
}

/* One message; false when more bytes are needed. Other lines are answered or skipped. */
static bool next_message(struct nats *n, struct incoming *out)
{
    for (;;) {
        struct slice rest = slice_sub(buffer_slice(&n->in), n->read);
        ptrdiff_t end = slice_find(rest, '\n');
        if (end < 0)
            return false;
        struct slice line = slice_make(rest.data, (size_t)end - 1);
        bool headers = slice_starts_with(line, "HMSG ");
        if (!headers && !slice_starts_with(line, "MSG ")) {
            if (slice_starts_with(line, "PING"))
                buffer_add_text(&n->out, "PONG\r\n");
            n->read += (size_t)end + 1;
            continue;
        }
        struct slice words[6];
        unsigned count = split(slice_sub(line, headers ? 5 : 4), words);
        ASSERT(count >= (headers ? 4u : 3u));
        size_t total = number_of(words[count - 1]);
        size_t head = headers ? number_of(words[count - 2]) : 0;
        if (rest.length < (size_t)end + 1 + total + 2)
            return false;
        *out = (struct incoming){.subject = words[0],
                                 .payload = slice_make(rest.data + end + 1 + head, total - head),
                                 .status = headers && total == head};
        if (count > (headers ? 4u : 3u))
            out->reply = words[2];
        n->read += (size_t)end + 1 + total + 2;
        return true;
    }
}

static void take(struct nats *n, const struct incoming *m)
{
    if (!slice_starts_with(m->subject, n->inbox_name)) { /* of the stream: a delivery */
        inbox_put(&n->inbox, m->payload, m->reply);
        n->pulled -= n->pulled > 0;
        return;
    }
    struct slice kind = slice_sub(m->subject, strlen(n->inbox_name) + 1);
    if (slice_is(kind, "m")) {
        n->pulled = 0; /* the pull has ended */
    } else if (slice_is(kind, "r")) {
        buffer_clear(&n->reply);
        buffer_add_slice(&n->reply, m->payload);
        n->replied = true;
    } else {
        char text[24];
        snprintf(text, sizeof text, "%.*s", SLICE_ARGS(kind));
        struct port_call *call = unacked_end(&n->unacked, strtoull(text, NULL, 16));
        bool bad = m->status || memmem(m->payload.data, m->payload.length, "\"error\"", 7) != NULL;
        if (call == NULL)
            return;
        n->called_back++;
        peer_done(call, bad ? PORT_REFUSED : PORT_DONE, bad ? "not acknowledged" : "");
    }
}

static void take_all(struct nats *n)
{
    struct incoming m;
    while (fill(n)) {
        while (next_message(n, &m))
            take(n, &m);
    }
}

/* ---- calls ---- */

static void end_later(struct nats *n, struct port_call *call, enum port_end end)
{
    call->end = end;
    call->next = n->ended;
    n->ended = call;
}

/* A request to JetStream's API and its JSON answer; false without one, or if it tells of an error.
 */
static bool request(struct nats *n, const char *subject, const char *json)
{
    char reply[64];
    snprintf(reply, sizeof reply, "%s.r", n->inbox_name);
    n->replied = false;
    publish(n, slice_of(subject), reply, slice_of(json));
    flush(n);
    uint64_t until = clock_monotonic_ns() + REQUEST_MS * UINT64_C(1000000);
    while (!n->replied && clock_monotonic_ns() < until) {
        struct pollfd fd = {n->fd, POLLIN, 0};
        (void)poll(&fd, 1, 100);
        take_all(n);
    }
    return n->replied && strstr(buffer_c_string(&n->reply), "\"error\"") == NULL;
}

static void create(struct nats *n, struct port_call *call)
{
    char subject[256];
    char json[1024];
    snprintf(subject, sizeof subject, "$JS.API.STREAM.CREATE.%s", call->queue);
    snprintf(json, sizeof json, STREAM_JSON, call->queue, call->queue, n->replicas);
    bool good = request(n, subject, json);
    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.DURABLE.CREATE.%s.c", call->queue);
    snprintf(json, sizeof json, CONSUMER_JSON, call->queue);
    good = good && request(n, subject, json);
    end_later(n, call, good ? PORT_DONE : PORT_REFUSED);
}

static void destroy(struct nats *n, struct port_call *call)
{
    char subject[256];
    snprintf(subject, sizeof subject, "$JS.API.STREAM.DELETE.%s", call->queue);
    end_later(n, call, request(n, subject, "") ? PORT_DONE : PORT_REFUSED);
}

static void count(struct nats *n, struct port_call *call)
{
    char subject[256];
    snprintf(subject, sizeof subject, "$JS.API.STREAM.INFO.%s", call->queue);
    bool good = request(n, subject, "");
    const char *messages = good ? strstr(buffer_c_string(&n->reply), "\"messages\":") : NULL;
    call->visible = messages != NULL ? strtoull(messages + 11, NULL, 10) : 0;
    end_later(n, call, messages != NULL ? PORT_DONE : PORT_REFUSED);
}

static void send_one(struct nats *n, struct port_call *call)
{
    char reply[64];
    ASSERT(call->count == 1);
    snprintf(reply, sizeof reply, "%s.%" PRIx64, n->inbox_name, unacked_add(&n->unacked, call));
    publish(n, slice_of(call->queue), reply, call->items[0].body);
}

static void receive(struct nats *n, struct port_call *call)
{
    n->queue = call->queue;
    inbox_wait(&n->inbox, call);
}

static void delete (struct nats *n, struct port_call *call)
{
    for (uint32_t i = 0; i < call->count; i++)
        publish(n, call->items[i].handle, "", SLICE_LITERAL("+ACK"));
    end_later(n, call, PORT_DONE);
}

static void (*const calls[])(struct nats *n, struct port_call *call) = {
    [PORT_CREATE] = create, [PORT_DESTROY] = destroy, [PORT_COUNT] = count,
    [PORT_SEND] = send_one, [PORT_RECEIVE] = receive, [PORT_DELETE] = delete,
};

static void nats_call(struct port *port, struct port_call *call)
{
    calls[call->kind]((struct nats *)(void *)port, call);
}

static void pull(struct nats *n)
{
    char subject[256];
    char json[96];
    char reply[64];
    uint64_t now = clock_monotonic_ns();
    if (n->queue == NULL || (n->pulled > PEER_PREFETCH / 2 && now - n->pulled_ns < PULL_NS))
        return;
    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.MSG.NEXT.%s.c", n->queue);
    int length = snprintf(json, sizeof json, "{\"batch\":%d,\"expires\":%" PRIu64 "}",
                          PEER_PREFETCH, PULL_NS);
    snprintf(reply, sizeof reply, "%s.m", n->inbox_name);
    publish(n, slice_of(subject), reply, slice_make(json, (size_t)length));
    n->pulled += PEER_PREFETCH;
    n->pulled_ns = now;
}

static uint32_t nats_run(struct port *port, uint32_t timeout_ms)
{
    struct nats *n = (struct nats *)(void *)port;
    n->called_back = inbox_serve(&n->inbox);
    while (n->ended != NULL) {
        struct port_call *call = n->ended;
        n->ended = call->next;
        n->called_back++;
        peer_done(call, call->end, "");
    }
    pull(n);
    flush(n);
    struct pollfd fd = {n->fd, POLLIN, 0};
    if (poll(&fd, 1, n->called_back > 0 ? 0 : (int)timeout_ms) > 0)
        take_all(n);
    n->called_back += inbox_serve(&n->inbox);
    flush(n);
    return n->called_back;
}

static int nats_fd(const struct port *port)
{
    return ((const struct nats *)(const void *)port)->fd;
}

static void nats_close(struct port *port)
{
    struct nats *n = (struct nats *)(void *)port;
    flush(n);
    close(n->fd);
    buffer_free(&n->in);
    buffer_free(&n->out);
    buffer_free(&n->reply);
    inbox_free(&n->inbox);
    unacked_free(&n->unacked);
    free(n);
}

static const struct port_ops ops = {nats_call, nats_run, nats_fd, nats_close};

struct port *nats_port(const char *hosts, unsigned replicas)
{
    char first[128];
    uint32_t name;
    struct nats *n = calloc(1, sizeof *n);
    ASSERT(n != NULL);
    peer_first(hosts, first, sizeof first);
    clock_random(&name, sizeof name);
    snprintf(n->inbox_name, sizeof n->inbox_name, "_B.%08" PRIx32, name);
    n->port.ops = &ops;
    n->replicas = replicas;
    n->fd = peer_connect(first);
    unacked_init(&n->unacked);
    buffer_printf(&n->out,
                  "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,"
                  "\"no_responders\":true}\r\nSUB %s.* 1\r\n",
                  n->inbox_name);
    if (n->fd >= 0)
        flush(n);
    return n->fd >= 0 ? &n->port : NULL;
}
