/* SPDX-License-Identifier: Apache-2.0 */
/* Listening: sockets, the list of connections and the limit on it, and the two ways to end.
 *
 * The listening socket is polled and accept4() is called here, not by uv_listen(): a process that
 * is out of descriptors must rest for a moment (ACCEPT_REST_MS) instead of spinning on a socket
 * that stays readable, and a listener that another part of the program opened, maybe in another
 * network namespace, is served by the same code.
 *
 * Handles live until their close callbacks: the listener until accepting ends, the backoff timer
 * until http_server_close, each connection until it is closed. When all are gone `closed` is called
 * and the server is freed (server_maybe_free). */
#include "proto/http/connection.h"

#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ACCEPTS_AT_ONCE 64 /* then other events have their turn */
#define ACCEPT_REST_MS  100
#define LISTEN_BACKLOG  1024

const struct http_limits http_limits_default = {.header_bytes_max = 64u << 10,
                                                .connections_max = 20000,
                                                .header_timeout_ms = 30000,
                                                .idle_timeout_ms = 75000,
                                                .send_timeout_ms = 30000,
                                                .bytes_per_ms_min = 32,
                                                .body_bytes_all_max = (size_t)512 << 20,
                                                .unsent_bytes_all_max = (size_t)512 << 20};

/* The end. */

static void server_maybe_free(struct http_server *server)
{
    if (!server->closing || server->handles_open > 0 || server->connection_count > 0)
        return;
    void (*closed)(void *data) = server->closed;
    void *data = server->closed_data;
    buffer_free(&server->plain);
    free(server);
    if (closed != NULL)
        closed(data);
}

void server_connection_gone(struct http_server *server)
{
    server->connection_count--;
    server_maybe_free(server);
}

static void handle_closed(uv_handle_t *handle)
{
    struct http_server *server = handle->data;
    server->handles_open--;
    server_maybe_free(server);
}

static void listener_close(struct http_server *server)
{
    if (!server->accepting)
        return;
    server->accepting = false;
    uv_timer_stop(&server->backoff);
    uv_close((uv_handle_t *)&server->listener, handle_closed);
    close(server->fd);
    server->fd = -1;
}

void http_server_stop_accepting(struct http_server *server)
{
    listener_close(server);
    struct http_connection *c;
    LIST_FOREACH(c, &server->connections, entry)
    connection_drain(c);
}

void http_server_close(struct http_server *server, void (*closed)(void *data), void *data)
{
    ASSERT(!server->closing);
    server->closing = true;
    server->closed = closed;
    server->closed_data = data;
    listener_close(server);
    uv_close((uv_handle_t *)&server->backoff, handle_closed);
    struct http_connection *c;
    LIST_FOREACH(c, &server->connections, entry)
    connection_close(c);
}

void http_server_use_tls(struct http_server *server, struct tls_context *tls)
{
    server->tls = tls;
}

unsigned http_server_connections(const struct http_server *server)
{
    return server->connection_count;
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->port;
}

/* Accepting. */

static void accept_ready(uv_poll_t *listener, int status, int events);

static void rest_over(uv_timer_t *timer)
{
    struct http_server *server = timer->data;
    int rc = uv_poll_start(&server->listener, UV_READABLE, accept_ready);
    ASSERT(rc == 0);
}

static void accept_rest(struct http_server *server, int error)
{
    trace_warn("http", "accept_failed", "error=\"%s\" connections=%u", strerror(error),
               server->connection_count);
    uv_poll_stop(&server->listener);
    int rc = uv_timer_start(&server->backoff, rest_over, ACCEPT_REST_MS, 0);
    ASSERT(rc == 0);
}

static void accept_ready(uv_poll_t *listener, int status, int events)
{
    (void)events;
    struct http_server *server = listener->data;
    if (status < 0) {
        accept_rest(server, -status);
        return;
    }
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        int fd = accept4(server->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0) {
            accept_rest(server, errno);
            return;
        }
        if (server->connection_count < server->limits.connections_max)
            connection_open(server, fd);
        else
            close(fd);
    }
}

/* The beginning. */

static uint16_t port_of(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        return 0;
    if (address.ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)&address)->sin_port);
    return address.ss_family == AF_INET6 ? ntohs(((const struct sockaddr_in6 *)&address)->sin6_port)
                                         : 0;
}

enum status http_server_open_fd(struct http_server **out, uv_loop_t *loop, int fd,
                                const struct http_limits *limits,
                                const struct http_handler *handler)
{
    ASSERT(handler->body_bytes_max != NULL);
    ASSERT(handler->on_request != NULL);
    ASSERT(limits->bytes_per_ms_min > 0);
    int listening = 0;
    socklen_t length = sizeof listening;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) != 0 || !listening)
        return STATUS_INVALID;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return status_from_errno(errno);
    struct http_server *server = calloc(1, sizeof *server);
    if (server == NULL)
        return STATUS_NO_MEMORY;
    *server = (struct http_server){.loop = loop, .limits = *limits, .handler = *handler};
    LIST_INIT(&server->connections);
    /* uv_poll_init makes the descriptor non-blocking. */
    int rc = uv_poll_init(loop, &server->listener, fd);
    if (rc != 0) {
        free(server);
        return status_from_errno(rc);
    }
    server->fd = fd;
    server->port = port_of(fd);
    server->listener.data = server;
    server->accepting = true;
    uv_timer_init(loop, &server->backoff);
    server->backoff.data = server;
    server->handles_open = 2;
    rc = uv_poll_start(&server->listener, UV_READABLE, accept_ready);
    ASSERT(rc == 0);
    *out = server;
    return STATUS_OK;
}

static enum status socket_status(int error)
{
    switch (error) {
    case EADDRINUSE:
        return STATUS_EXISTS;
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
        return STATUS_INVALID;
    default:
        return status_from_errno(error);
    }
}

static enum status listen_on(const struct addrinfo *address, int *out)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return socket_status(errno);
    int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        enum status status = socket_status(errno);
        close(fd);
        return status;
    }
    *out = fd;
    return STATUS_OK;
}

/* The first address of `host` that can be listened on; IPv4 ones come first, because a name such as
 * localhost has both and the older clients try only that. */
static enum status listen_on_host(const char *host, uint16_t port, int *fd)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, service, &hints, &found) != 0)
        return STATUS_INVALID;
    static const int families[] = {AF_INET, AF_INET6};
    enum status status = STATUS_INVALID;
    for (size_t i = 0; i < ARRAY_COUNT(families); i++) {
        for (const struct addrinfo *at = found; at != NULL; at = at->ai_next) {
            if (at->ai_family != families[i])
                continue;
            status = listen_on(at, fd);
            if (status != STATUS_INVALID)
                goto done;
        }
    }
done:
    freeaddrinfo(found);
    return status;
}

enum status http_server_open(struct http_server **out, uv_loop_t *loop, const char *host,
                             uint16_t port, const struct http_limits *limits,
                             const struct http_handler *handler)
{
    int fd = -1;
    enum status status = listen_on_host(host, port, &fd);
    if (status != STATUS_OK)
        return status;
    status = http_server_open_fd(out, loop, fd, limits, handler);
    if (status != STATUS_OK)
        close(fd);
    return status;
}
