/* SPDX-License-Identifier: Apache-2.0 */
/* A link: frames in, frames out, and one end.
 *
 *     NEW --link_open--> OPEN --link_close--> FLUSHING --+--> ENDED --on_closed--> (freed)
 *                          |                             |
 *                          +--- peer ends, error, -------+
 *                               broken frame
 *
 * Sending: frames gather in `queued` until the turn of the loop ends, or GATHER_BYTES are there,
 * and leave in one write: a busy link makes few large ones. What the socket does not take at once
 * becomes the one write in flight, and what is sent meanwhile the next.
 *
 * Flushing: after the last write the sending side is shut, and what the peer still sends is dropped
 * until it closes too. Closing at once would reset the connection if bytes are unread, and the
 * reset would take the last frames (a refusal, say) away from the peer. FLUSH_MS bounds all of it.
 *
 * TLS: frames wait in `queued` until the handshake is over. Then, whenever a write can begin, what
 * is queued is encrypted behind what the stream has to say for itself (`sealed`). A link whose
 * stream has failed is flushed too, so that the peer learns why by an alert.
 *
 * Invariants:
 * I1  queued + sealed + writing <= UNSENT_BYTES_MAX, but for what TLS adds.
 * I2  on_frame runs only in OPEN; on_closed runs exactly once for a link that was opened, from the
 *     loop and never from within a call into this file. */
#include "proto/base/assert.h"
#include "proto/base/bytes.h"
#include "proto/base/trace.h"
#include "proto/rpc/endpoint.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#define UNSENT_BYTES_MAX (64u << 20)
#define READ_BYTES       65536
#define KEPT_BYTES       (1u << 20) /* capacity that an empty buffer keeps */
#define GATHER_BYTES     (256u << 10)
#define FLUSH_MS         1000
#define KEEPALIVE_S      30

struct link *link_new(uv_loop_t *loop)
{
    struct link *link = calloc(1, sizeof *link);
    ASSERT(link != NULL);
    int rc = uv_tcp_init(loop, &link->tcp);
    ASSERT(rc == 0);
    uv_timer_init(loop, &link->timer);
    uv_prepare_init(loop, &link->turn);
    uv_idle_init(loop, &link->sleepless);
    link->tcp.data = link->timer.data = link->turn.data = link->sleepless.data = link;
    link->handles_open = 4;
    link->frame_bytes_max = FRAME_BYTES_MAX;
    return link;
}

/* The end. */

static void handle_closed(uv_handle_t *handle)
{
    struct link *link = handle->data;
    if (--link->handles_open > 0)
        return;
    if (link->handler != NULL) /* I2 */
        link->handler->on_closed(link, link->data, link->why);
    if (link->listener != NULL)
        listener_link_gone(link->listener);
    buffer_free(&link->in);
    buffer_free(&link->queued);
    buffer_free(&link->writing);
    buffer_free(&link->raw);
    buffer_free(&link->sealed);
    tls_stream_free(link->tls);
    free(link);
}

static void link_end(struct link *link, enum status why)
{
    if (link->state == LINK_ENDED)
        return;
    /* Once flushing has begun the reason is known, however the end comes about. */
    if (link->state != LINK_FLUSHING)
        link->why = why;
    link->state = LINK_ENDED;
    uv_close((uv_handle_t *)&link->tcp, handle_closed);
    uv_close((uv_handle_t *)&link->timer, handle_closed);
    uv_close((uv_handle_t *)&link->turn, handle_closed);
    uv_close((uv_handle_t *)&link->sleepless, handle_closed);
}

void link_discard(struct link *link)
{
    ASSERT(link->state == LINK_NEW);
    link->handler = NULL;
    link_end(link, STATUS_OK);
}

/* Sending. */

static void buffer_empty(struct buffer *b)
{
    if (b->capacity > KEPT_BYTES)
        buffer_free(b);
    else
        buffer_clear(b);
}

static void send_queued(struct link *link);

static void written(uv_write_t *request, int status)
{
    struct link *link = request->handle->data;
    link->write_in_flight = false;
    buffer_empty(&link->writing);
    if (link->state == LINK_ENDED)
        return;
    if (status != 0)
        link_end(link, status_from_errno(status));
    else
        send_queued(link);
}

static void shut(uv_shutdown_t *request, int status)
{
    struct link *link = request->handle->data;
    if (status != 0)
        link_end(link, status_from_errno(status));
}

/* What the next write writes. */
static struct buffer *next_out(struct link *link)
{
    if (link->tls == NULL)
        return &link->queued;
    if (tls_stream_established(link->tls)) {
        if (tls_stream_send(link->tls, buffer_slice(&link->queued), &link->sealed) != STATUS_OK)
            link_end(link, STATUS_INVALID);
        buffer_empty(&link->queued);
    }
    return &link->sealed;
}

/* Nothing more will come to be written; frames that never found an open stream are lost. */
static bool all_written(const struct link *link)
{
    return link->queued.length == 0 || (link->tls != NULL && link->why != STATUS_OK);
}

/* write_out: what is in `writing`, as far as the socket takes it now; the rest is in flight. */
static int write_out(struct link *link)
{
    uv_buf_t out = uv_buf_init((char *)link->writing.data, (unsigned)link->writing.length);
    int taken = uv_try_write((uv_stream_t *)&link->tcp, &out, 1);
    if (taken < 0 && taken != UV_EAGAIN)
        return taken;
    size_t done = taken > 0 ? (size_t)taken : 0;
    if (done == link->writing.length) {
        buffer_empty(&link->writing);
        return 0;
    }
    out = uv_buf_init((char *)link->writing.data + done, (unsigned)(link->writing.length - done));
    int rc = uv_write(&link->write, (uv_stream_t *)&link->tcp, &out, 1, written);
    link->write_in_flight = rc == 0;
    return rc;
}

static void send_queued(struct link *link)
{
    if (link->write_in_flight || link->state == LINK_ENDED)
        return;
    int rc = 0;
    struct buffer *next = next_out(link);
    if (link->state == LINK_ENDED)
        return;
    if (next->length > 0) {
        struct buffer empty = link->writing;
        link->writing = *next;
        *next = empty;
        rc = write_out(link);
    }
    if (rc == 0 && !link->write_in_flight && link->state == LINK_FLUSHING && !link->shut &&
        all_written(link)) {
        link->shut = true;
        rc = uv_shutdown(&link->shutdown, (uv_stream_t *)&link->tcp, shut);
    }
    if (rc != 0)
        link_end(link, status_from_errno(rc));
}

static void turn_ends(uv_prepare_t *prepare)
{
    struct link *link = prepare->data;
    uv_prepare_stop(&link->turn);
    uv_idle_stop(&link->sleepless);
    send_queued(link);
}

static void nothing(uv_idle_t *idle)
{
    (void)idle; /* only keeps the loop from sleeping, where this turn's `turn` has run already */
}

/* send_soon: with whatever else is sent in this turn of the loop. */
static void send_soon(struct link *link)
{
    if (link->write_in_flight)
        return;
    if (link->queued.length >= GATHER_BYTES) {
        send_queued(link);
        return;
    }
    uv_prepare_start(&link->turn, turn_ends);
    uv_idle_start(&link->sleepless, nothing);
}

enum status link_send(struct link *link, uint16_t type, const ProtobufCMessage *message)
{
    if (link->state != LINK_OPEN)
        return STATUS_CLOSED;
    size_t length = protobuf_c_message_get_packed_size(message);
    if (length > FRAME_BYTES_MAX)
        return STATUS_TOO_LARGE;
    size_t unsent = link->queued.length + link->sealed.length + link->writing.length;
    if (unsent + FRAME_HEADER_BYTES + length > UNSENT_BYTES_MAX) /* I1 */
        return STATUS_BUSY;
    frame_encode(&link->queued, type, message);
    send_soon(link);
    return STATUS_OK;
}

static void flush_over(uv_timer_t *timer)
{
    link_end(timer->data, STATUS_OK);
}

struct buffer *link_frame_begin(struct link *link)
{
    size_t unsent = link->queued.length + link->sealed.length + link->writing.length;
    if (link->state != LINK_OPEN || unsent + FRAME_BYTES_MAX > UNSENT_BYTES_MAX) /* I1 */
        return NULL;
    link->frame_at = link->queued.length;
    buffer_reserve(&link->queued, FRAME_HEADER_BYTES);
    buffer_added(&link->queued, FRAME_HEADER_BYTES);
    return &link->queued;
}

enum status link_frame_end(struct link *link, uint16_t type)
{
    ASSERT(link->state == LINK_OPEN);
    struct slice frame = slice_sub(buffer_slice(&link->queued), link->frame_at);
    struct slice payload = slice_sub(frame, FRAME_HEADER_BYTES);
    if (payload.length > FRAME_BYTES_MAX) {
        link->queued.length = link->frame_at;
        return STATUS_TOO_LARGE;
    }
    frame_seal(link->queued.data + link->frame_at, type, payload);
    send_soon(link);
    return STATUS_OK;
}

static void link_flush(struct link *link, enum status why)
{
    if (link->state != LINK_OPEN)
        return;
    link->state = LINK_FLUSHING;
    link->why = why;
    int rc = uv_timer_start(&link->timer, flush_over, FLUSH_MS, 0);
    ASSERT(rc == 0);
    send_queued(link);
}

void link_close(struct link *link)
{
    link_flush(link, STATUS_OK);
}

/* Receiving. */

static void allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)suggested;
    struct link *link = handle->data;
    struct buffer *in = link->tls != NULL ? &link->raw : &link->in;
    *out = uv_buf_init((char *)buffer_reserve(in, READ_BYTES), READ_BYTES);
}

/* The length is a frame's first field; it is judged before the rest has come. */
static bool frame_fits(const struct link *link, struct slice in)
{
    return in.length < FRAME_HEADER_BYTES || bytes_get_u32(in.data) <= link->frame_bytes_max;
}

static void frames_came(struct link *link)
{
    struct slice rest = buffer_slice(&link->in);
    enum status status = STATUS_OK;
    while (link->state == LINK_OPEN) {
        uint16_t type;
        struct slice payload;
        size_t used;
        status = frame_decode(rest, &type, &payload, &used);
        if ((status == STATUS_OK || status == STATUS_NOT_FOUND) && !frame_fits(link, rest))
            status = STATUS_TOO_LARGE;
        if (status != STATUS_OK)
            break;
        link->handler->on_frame(link, link->data, type, payload);
        rest = slice_sub(rest, used);
    }
    if (link->state == LINK_OPEN && status != STATUS_NOT_FOUND)
        link_end(link, status);
    if (link->state != LINK_OPEN || rest.length == 0) {
        buffer_empty(&link->in);
    } else if (rest.data != link->in.data) {
        memmove(link->in.data, rest.data, rest.length);
        link->in.length = rest.length;
    }
}

static void sealed_came(struct link *link, struct slice in)
{
    enum status status = tls_stream_receive(link->tls, in, &link->in, &link->sealed);
    if (link->state == LINK_OPEN)
        frames_came(link);
    else
        buffer_empty(&link->in);
    if (status == STATUS_CLOSED) {
        link_end(link, STATUS_CLOSED);
    } else if (status != STATUS_OK && link->state == LINK_OPEN) {
        trace_warn("rpc", "tls_failed", "peer=%s why=\"%s\"", link->peer,
                   tls_stream_error(link->tls));
        link_flush(link, status);
    }
    send_queued(link);
}

static void read_came(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct link *link = stream->data;
    if (count < 0) {
        link_end(link, count == UV_EOF ? STATUS_CLOSED : status_from_errno((int)count));
    } else if (count > 0 && link->tls != NULL && link->state != LINK_ENDED) {
        sealed_came(link, slice_make(buf->base, (size_t)count));
    } else if (count > 0 && link->state == LINK_OPEN) {
        buffer_added(&link->in, (size_t)count);
        frames_came(link);
    }
    buffer_free(&link->raw);
}

/* The beginning. */

static void name_peer(struct link *link)
{
    struct sockaddr_storage address = {0};
    int length = sizeof address;
    char text[INET6_ADDRSTRLEN] = "unknown";
    uint16_t port = 0;
    bool v6 = false;
    if (uv_tcp_getpeername(&link->tcp, (struct sockaddr *)&address, &length) == 0) {
        v6 = address.ss_family == AF_INET6;
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)&address;
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address;
        if (v6)
            uv_ip6_name(in6, text, sizeof text);
        else
            uv_ip4_name(in4, text, sizeof text);
        port = ntohs(v6 ? in6->sin6_port : in4->sin_port);
    }
    snprintf(link->peer, sizeof link->peer, v6 ? "[%s]:%u" : "%s:%u", text, port);
}

void link_open(struct link *link, struct tls_stream *tls)
{
    ASSERT(link->state == LINK_NEW);
    link->state = LINK_OPEN;
    link->tls = tls;
    /* Small frames must not wait for ACKs. A peer that died silently is found by heartbeats; probes
     * cover those who send none. Failing at either is no reason to end the link. */
    (void)uv_tcp_nodelay(&link->tcp, 1);
    (void)uv_tcp_keepalive(&link->tcp, 1, KEEPALIVE_S);
    name_peer(link);
    int rc = uv_read_start((uv_stream_t *)&link->tcp, allocate, read_came);
    if (rc != 0)
        link_end(link, status_from_errno(rc));
    else if (tls != NULL)
        sealed_came(link, (struct slice){0}); /* a client begins */
}

void link_start(struct link *link, const struct link_handler *handler, void *data)
{
    ASSERT(link->handler == NULL);
    link->handler = handler;
    link->data = data;
}

void link_hand_over(struct link *link, const struct link_handler *handler, void *data)
{
    ASSERT(link->handler != NULL);
    link->handler = handler;
    link->data = data;
}

void link_frame_max(struct link *link, uint32_t bytes)
{
    link->frame_bytes_max = bytes;
}

bool link_secure(const struct link *link)
{
    return link->tls != NULL;
}

bool link_peer_has_role(struct link *link, const char *role)
{
    return link->tls == NULL || tls_stream_peer_has_role(link->tls, role);
}

void link_set_data(struct link *link, void *data)
{
    link->data = data;
}

const char *link_peer(const struct link *link)
{
    return link->peer;
}
