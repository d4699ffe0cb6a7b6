/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes over TCP; the contract is in stream.h.
 *
 * TCP_USER_TIMEOUT bounds how long what was sent may stay unacknowledged. A peer whose machine has
 * gone is noticed sooner, by the silence of its heartbeats (connection.c); this is for a connection
 * that is only broken in one direction.
 *
 * With TLS a read goes through the TLS stream on its way to the handler, and a write is encrypted
 * into a buffer, piece by piece, once the handshake is over; until then it waits. What the TLS
 * stream says for itself (its part of the handshake, an alert) goes out in writes of its own,
 * before what is encrypted after it. When TLS fails this side says why and no more, and waits for
 * the other to close, so that the alert is not lost to a reset; the connection's deadlines bound
 * that. */
#include "broker/peer/stream.h"

#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <arpa/inet.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define USER_TIMEOUT_MS 10000u
#define KEEPALIVE_S     5u
#define READ_BYTES      65536u
#define RECORD_BYTES    16384u       /* of plaintext, in one record of TLS */
#define PIECE_BYTES     (512u << 10) /* encrypted at a time: other events have their turn between */

_Static_assert(sizeof(uv_buf_t) == sizeof(struct iovec), "parts are handed to libuv as they are");
_Static_assert(offsetof(uv_buf_t, base) == offsetof(struct iovec, iov_base), "the same layout");
_Static_assert(offsetof(uv_buf_t, len) == offsetof(struct iovec, iov_len), "the same layout");

void peer_stream_init(struct peer_stream *stream, uv_loop_t *loop,
                      const struct peer_stream_handler *handler, void *data)
{
    *stream = (struct peer_stream){.handler = handler, .data = data};
    int rc = uv_tcp_init(loop, &stream->tcp);
    ASSERT(rc == 0);
    stream->tcp.data = stream;
}

static void ended(struct peer_stream *stream, enum status why)
{
    uv_read_stop((uv_stream_t *)&stream->tcp);
    stream->handler->ended(stream->data, why);
}

static bool closing(const struct peer_stream *stream)
{
    return uv_is_closing((const uv_handle_t *)&stream->tcp) != 0;
}

/* ---- writing ---- */

static void write_done(uv_write_t *request, int status)
{
    struct peer_stream *stream = request->handle->data;
    stream->handler->written(stream->data, status_from_errno(status));
}

/* The next piece, encrypted: as much as PIECE_BYTES, small parts together, since each record costs
 * time and bytes. */
static enum status seal_piece(struct peer_stream *stream)
{
    struct buffer gathered = {0};
    enum status status = STATUS_OK;
    buffer_clear(&stream->sealed);
    while (status == STATUS_OK && stream->part_next < stream->part_count &&
           stream->sealed.length < PIECE_BYTES) {
        struct iovec *part = &stream->parts[stream->part_next];
        size_t room = RECORD_BYTES - gathered.length;
        size_t count = part->iov_len < room ? part->iov_len : room;
        buffer_add(&gathered, part->iov_base, count);
        part->iov_base = (uint8_t *)part->iov_base + count;
        part->iov_len -= count;
        stream->part_next += part->iov_len == 0;
        if (gathered.length == RECORD_BYTES || stream->part_next == stream->part_count) {
            status = tls_stream_send(stream->tls, buffer_slice(&gathered), &stream->sealed);
            buffer_clear(&gathered);
        }
    }
    buffer_free(&gathered);
    return status;
}

static void piece_done(uv_write_t *request, int status);

static enum status write_piece(struct peer_stream *stream)
{
    enum status status = seal_piece(stream);
    if (status != STATUS_OK)
        return status;
    uv_buf_t out = uv_buf_init((char *)stream->sealed.data, (unsigned)stream->sealed.length);
    int rc = uv_write(&stream->write, (uv_stream_t *)&stream->tcp, &out, 1, piece_done);
    stream->in_flight = rc == 0;
    return status_from_errno(rc);
}

static void write_over(struct peer_stream *stream, enum status status)
{
    stream->writing = false;
    stream->handler->written(stream->data, status);
}

static void piece_done(uv_write_t *request, int status)
{
    struct peer_stream *stream = request->handle->data;
    enum status result = status_from_errno(status);
    stream->in_flight = false;
    bool more = stream->part_next < stream->part_count;
    if (result == STATUS_OK && more)
        result = write_piece(stream);
    if (result != STATUS_OK || !more)
        write_over(stream, result);
}

/* The array is not the caller's to keep. */
static void take_parts(struct peer_stream *stream, const struct iovec *parts, size_t count)
{
    if (count > stream->part_capacity) {
        stream->parts = realloc(stream->parts, count * sizeof *parts);
        ASSERT(stream->parts != NULL);
        stream->part_capacity = count;
    }
    memcpy(stream->parts, parts, count * sizeof *parts);
    stream->part_count = count;
    stream->part_next = 0;
}

/* skip: the first `taken` bytes; the parts left. */
static size_t skip(struct iovec **parts, size_t count, size_t taken)
{
    for (; count > 0 && taken >= (*parts)->iov_len; (*parts)++, count--)
        taken -= (*parts)->iov_len;
    if (count > 0) {
        (*parts)->iov_base = (uint8_t *)(*parts)->iov_base + taken;
        (*parts)->iov_len -= taken;
    }
    return count;
}

/* write_plain: mostly the socket takes all of it at once: no turn of the loop is spent on that. */
static enum status write_plain(struct peer_stream *stream, struct iovec *parts, size_t count,
                               bool *done)
{
    uv_stream_t *tcp = (uv_stream_t *)&stream->tcp;
    int taken = uv_try_write(tcp, (const uv_buf_t *)(const void *)parts, (unsigned)count);
    if (taken < 0 && taken != UV_EAGAIN)
        return status_from_errno(taken);
    count = skip(&parts, count, taken > 0 ? (size_t)taken : 0);
    *done = count == 0;
    if (*done)
        return STATUS_OK;
    return status_from_errno(uv_write(&stream->write, tcp, (const uv_buf_t *)(const void *)parts,
                                      (unsigned)count, write_done));
}

enum status peer_stream_write(struct peer_stream *stream, struct iovec *parts, size_t count,
                              bool *done)
{
    *done = false;
    if (stream->tls == NULL)
        return write_plain(stream, parts, count, done);
    if (stream->failed != STATUS_OK)
        return STATUS_CLOSED;
    ASSERT(!stream->writing);
    take_parts(stream, parts, count);
    enum status status = STATUS_OK;
    if (tls_stream_established(stream->tls))
        status = write_piece(stream);
    stream->writing = status == STATUS_OK;
    return status;
}

/* What TLS says for itself. */
struct saying {
    uv_write_t write;
    struct buffer bytes;
};

static void said(uv_write_t *request, int status)
{
    (void)status; /* the reading side tells how it ends */
    struct saying *saying = (struct saying *)request;
    buffer_free(&saying->bytes);
    free(saying);
}

static void say(struct peer_stream *stream, struct buffer *bytes)
{
    if (bytes->length == 0)
        return;
    struct saying *saying = calloc(1, sizeof *saying);
    ASSERT(saying != NULL);
    saying->bytes = *bytes;
    uv_buf_t out = uv_buf_init((char *)bytes->data, (unsigned)bytes->length);
    if (uv_write(&saying->write, (uv_stream_t *)&stream->tcp, &out, 1, said) != 0)
        said(&saying->write, 0);
}

static void finished(uv_shutdown_t *request, int status)
{
    (void)request; /* the reading side tells how it ends */
    (void)status;
}

void peer_stream_finish(struct peer_stream *stream)
{
    if (stream->tls != NULL && stream->failed == STATUS_OK) {
        struct buffer bytes = {0};
        tls_stream_end(stream->tls, &bytes);
        say(stream, &bytes);
    }
    (void)uv_shutdown(&stream->shutdown, (uv_stream_t *)&stream->tcp, finished);
}

/* ---- reading ---- */

static void allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)suggested;
    struct peer_stream *stream = handle->data;
    if (stream->tls != NULL) {
        *out = uv_buf_init((char *)buffer_reserve(&stream->raw, READ_BYTES), READ_BYTES);
        return;
    }
    size_t room;
    uint8_t *at = stream->handler->where(stream->data, &room);
    *out = uv_buf_init((char *)at, room < INT_MAX ? (unsigned)room : INT_MAX);
}

static void hand_over(struct peer_stream *stream)
{
    struct slice rest = buffer_slice(&stream->plain);
    while (rest.length > 0 && !closing(stream)) {
        size_t room;
        uint8_t *at = stream->handler->where(stream->data, &room);
        size_t count = room < rest.length ? room : rest.length;
        memcpy(at, rest.data, count);
        rest = slice_sub(rest, count);
        stream->handler->came(stream->data, count);
    }
    buffer_clear(&stream->plain);
}

static void tls_failed(struct peer_stream *stream, enum status why)
{
    char remote[64];
    peer_stream_remote(stream, remote, sizeof remote);
    trace_warn("peer", "tls_failed", "remote=%s why=\"%s\"", remote, tls_stream_error(stream->tls));
    stream->failed = why;
    (void)uv_shutdown(&stream->shutdown, (uv_stream_t *)&stream->tcp, finished);
}

static bool waits_for_handshake(const struct peer_stream *stream)
{
    return stream->writing && !stream->in_flight;
}

static void sealed_came(struct peer_stream *stream, struct slice in)
{
    struct buffer bytes = {0};
    enum status status = tls_stream_receive(stream->tls, in, &stream->plain, &bytes);
    say(stream, &bytes);
    hand_over(stream);
    if (!closing(stream) && waits_for_handshake(stream) && tls_stream_established(stream->tls)) {
        enum status written = write_piece(stream);
        if (written != STATUS_OK)
            write_over(stream, written);
    }
    if (closing(stream) || status == STATUS_OK)
        return;
    if (status == STATUS_CLOSED)
        ended(stream, STATUS_CLOSED);
    else
        tls_failed(stream, status);
}

static void read_came(uv_stream_t *tcp, ssize_t count, const uv_buf_t *buf)
{
    struct peer_stream *stream = tcp->data;
    if (count < 0 && stream->failed != STATUS_OK)
        ended(stream, stream->failed);
    else if (count < 0)
        ended(stream, count == UV_EOF ? STATUS_CLOSED : status_from_errno((int)count));
    else if (count > 0 && stream->tls == NULL)
        stream->handler->came(stream->data, (size_t)count);
    else if (count > 0 && stream->failed == STATUS_OK)
        sealed_came(stream, slice_make(buf->base, (size_t)count));
}

/* ---- life ---- */

/* Small messages must not wait for ACKs. Failing at any of these is no reason to do without the
 * connection. */
static void set_up(struct peer_stream *stream)
{
    (void)uv_tcp_nodelay(&stream->tcp, 1);
    (void)uv_tcp_keepalive(&stream->tcp, 1, KEEPALIVE_S);
    uv_os_fd_t fd;
    unsigned timeout_ms = USER_TIMEOUT_MS;
    if (uv_fileno((uv_handle_t *)&stream->tcp, &fd) == 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
}

enum status peer_stream_start(struct peer_stream *stream, struct tls_stream *tls)
{
    set_up(stream);
    stream->tls = tls;
    int rc = uv_read_start((uv_stream_t *)&stream->tcp, allocate, read_came);
    if (rc == 0 && tls != NULL)
        sealed_came(stream, (struct slice){0}); /* a client begins; nothing can come of it yet */
    return status_from_errno(rc);
}

static void handle_closed(uv_handle_t *handle)
{
    struct peer_stream *stream = handle->data;
    if (stream->writing)
        write_over(stream, STATUS_CANCELLED);
    free(stream->parts);
    buffer_free(&stream->raw);
    buffer_free(&stream->plain);
    buffer_free(&stream->sealed);
    tls_stream_free(stream->tls);
    stream->handler->closed(stream->data);
}

void peer_stream_close(struct peer_stream *stream)
{
    uv_close((uv_handle_t *)&stream->tcp, handle_closed);
}

void peer_stream_remote(const struct peer_stream *stream, char *out, size_t size)
{
    struct sockaddr_storage address = {0};
    int length = sizeof address;
    char text[INET6_ADDRSTRLEN] = "";
    if (uv_tcp_getpeername(&stream->tcp, (struct sockaddr *)&address, &length) != 0) {
        snprintf(out, size, "unknown");
    } else if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address;
        uv_ip6_name(in6, text, sizeof text);
        snprintf(out, size, "[%s]:%u", text, ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)&address;
        uv_ip4_name(in4, text, sizeof text);
        snprintf(out, size, "%s:%u", text, ntohs(in4->sin_port));
    }
}
