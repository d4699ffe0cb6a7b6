/* SPDX-License-Identifier: Apache-2.0 */
/* Accepting links. A listener counts its links and refuses those above LINKS_MAX, so that strangers
 * cannot make a broker run out of descriptors; it outlives its own closing until the last of them
 * is gone, because they count themselves off. */
#include "proto/base/assert.h"
#include "proto/base/trace.h"
#include "proto/rpc/endpoint.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

#define LINKS_MAX      10000
#define LISTEN_BACKLOG 256

struct link_listener {
    uv_tcp_t tcp;
    struct tls_context *tls; /* NULL: plain */
    unsigned link_count;
    bool closed_already; /* the handle is closed, memory waits for the links */
    void (*accepted)(struct link *link, void *data);
    void *data;
    void (*closed)(void *data);
    void *closed_data;
};

static void maybe_free(struct link_listener *listener)
{
    if (listener->closed_already && listener->link_count == 0)
        free(listener);
}

void listener_link_gone(struct link_listener *listener)
{
    listener->link_count--;
    maybe_free(listener);
}

static void handle_closed(uv_handle_t *handle)
{
    struct link_listener *listener = handle->data;
    void (*closed)(void *data) = listener->closed;
    void *data = listener->closed_data;
    listener->closed_already = true;
    maybe_free(listener);
    if (closed != NULL)
        closed(data);
}

void link_listener_close(struct link_listener *listener, void (*closed)(void *data), void *data)
{
    listener->closed = closed;
    listener->closed_data = data;
    uv_close((uv_handle_t *)&listener->tcp, handle_closed);
}

static void connection_came(uv_stream_t *server, int status)
{
    struct link_listener *listener = server->data;
    struct link *link = status == 0 ? link_new(server->loop) : NULL;
    if (status == 0)
        status = uv_accept(server, (uv_stream_t *)&link->tcp);
    if (status != 0) {
        trace_warn("rpc", "accept_failed", "error=\"%s\"", uv_strerror(status));
        if (link != NULL)
            link_discard(link);
        return;
    }
    if (listener->link_count >= LINKS_MAX) {
        link_discard(link);
        return;
    }
    listener->link_count++;
    link->listener = listener;
    struct tls_context *tls = listener->tls;
    link_open(link, tls != NULL ? tls_stream_new(tls, TLS_SERVER, NULL) : NULL);
    listener->accepted(link, listener->data);
    ASSERT(link->handler != NULL);
}

static enum status listen_status(int rc)
{
    switch (rc) {
    case 0:
        return STATUS_OK;
    case UV_EADDRINUSE:
        return STATUS_EXISTS;
    case UV_EADDRNOTAVAIL:
    case UV_EAFNOSUPPORT:
        return STATUS_INVALID;
    default:
        return status_from_errno(rc);
    }
}

static int bind_and_listen(struct link_listener *listener, const struct addrinfo *address)
{
    int rc = uv_tcp_bind(&listener->tcp, address->ai_addr, 0);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&listener->tcp, LISTEN_BACKLOG, connection_came);
    return rc;
}

static void free_handle(uv_handle_t *handle)
{
    free(handle->data);
}

enum status link_listen(struct link_listener **out, uv_loop_t *loop, const char *host,
                        uint16_t port, void (*accepted)(struct link *link, void *data), void *data)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, service, &hints, &found) != 0)
        return STATUS_INVALID;
    struct link_listener *listener = calloc(1, sizeof *listener);
    ASSERT(listener != NULL);
    *listener = (struct link_listener){.accepted = accepted, .data = data};
    int rc = uv_tcp_init(loop, &listener->tcp);
    ASSERT(rc == 0);
    listener->tcp.data = listener;
    rc = bind_and_listen(listener, found);
    freeaddrinfo(found);
    if (rc != 0) {
        uv_close((uv_handle_t *)&listener->tcp, free_handle);
        return listen_status(rc);
    }
    *out = listener;
    return STATUS_OK;
}

void link_listener_use_tls(struct link_listener *listener, struct tls_context *tls)
{
    listener->tls = tls;
}

uint16_t link_listener_port(const struct link_listener *listener)
{
    struct sockaddr_storage address = {0};
    int length = sizeof address;
    if (uv_tcp_getsockname(&listener->tcp, (struct sockaddr *)&address, &length) != 0)
        return 0;
    return ntohs(address.ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)&address)->sin6_port
                                               : ((const struct sockaddr_in *)&address)->sin_port);
}
