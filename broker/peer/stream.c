/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes over TCP; the contract is in stream.h.
 *
 * TCP_USER_TIMEOUT bounds how long what was sent may stay unacknowledged. A peer whose machine has
 * gone is noticed sooner, by the silence of its heartbeats (connection.c); this is for a connection
 * that is only broken in one direction. */
#include "broker/peer/stream.h"

#include "proto/base/assert.h"

#include <arpa/inet.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>

#define USER_TIMEOUT_MS 10000u
#define KEEPALIVE_S     5u

_Static_assert(sizeof(uv_buf_t) == sizeof(struct iovec), "parts are handed to libuv as they are");
_Static_assert(offsetof(uv_buf_t, base) == offsetof(struct iovec, iov_base), "the same layout");
_Static_assert(offsetof(uv_buf_t, len) == offsetof(struct iovec, iov_len), "the same layout");

void peer_stream_init(struct peer_stream *stream, uv_loop_t *loop,
                      const struct peer_stream_handler *handler, void *data)
{
    stream->handler = handler;
    stream->data = data;
    int rc = uv_tcp_init(loop, &stream->tcp);
    ASSERT(rc == 0);
    stream->tcp.data = stream;
}

static void allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)suggested;
    struct peer_stream *stream = handle->data;
    size_t room;
    uint8_t *at = stream->handler->where(stream->data, &room);
    *out = uv_buf_init((char *)at, room < INT_MAX ? (unsigned)room : INT_MAX);
}

static void read_came(uv_stream_t *tcp, ssize_t count, const uv_buf_t *buf)
{
    (void)buf;
    struct peer_stream *stream = tcp->data;
    if (count > 0) {
        stream->handler->came(stream->data, (size_t)count);
    } else if (count < 0) {
        uv_read_stop(tcp);
        stream->handler->ended(stream->data,
                               count == UV_EOF ? STATUS_CLOSED : status_from_errno((int)count));
    }
}

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

enum status peer_stream_start(struct peer_stream *stream)
{
    set_up(stream);
    return status_from_errno(uv_read_start((uv_stream_t *)&stream->tcp, allocate, read_came));
}

static void write_done(uv_write_t *request, int status)
{
    struct peer_stream *stream = request->handle->data;
    stream->handler->written(stream->data, status_from_errno(status));
}

enum status peer_stream_write(struct peer_stream *stream, const struct iovec *parts, size_t count)
{
    return status_from_errno(uv_write(&stream->write, (uv_stream_t *)&stream->tcp,
                                      (const uv_buf_t *)(const void *)parts, (unsigned)count,
                                      write_done));
}

static void finished(uv_shutdown_t *request, int status)
{
    (void)request; /* the reading side tells how it ends */
    (void)status;
}

void peer_stream_finish(struct peer_stream *stream)
{
    (void)uv_shutdown(&stream->shutdown, (uv_stream_t *)&stream->tcp, finished);
}

static void handle_closed(uv_handle_t *handle)
{
    struct peer_stream *stream = handle->data;
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
