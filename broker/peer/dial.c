/* SPDX-License-Identifier: Apache-2.0 */
/* From a name to a connected socket. The name is resolved anew each time, because pods move, and
 * its addresses are tried one after another until one answers or DIAL_MS are over.
 *
 * The node hears from a dial exactly once (conclude); the dial itself lives until its asynchronous
 * parts, the resolver, the connect request and the timer, have all come back, since libuv may still
 * write into it until then. thread: loop. */
#include "broker/peer/internal.h"
#include "proto/base/arena.h"
#include "proto/base/assert.h"
#include "proto/base/options.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct peer_dial {
    uv_getaddrinfo_t resolve;
    uv_timer_t timer;
    uv_connect_t connect;
    unsigned parts; /* asynchronous parts under way */
    struct tcp_peers *tcp;
    struct peer_node *node; /* NULL: concluded */
    enum status why;
    struct addrinfo *found;
    const struct addrinfo *next;
    struct peer_connection *connection; /* being connected */
    char host[PEER_HOST_MAX + 1];
};

static void part_done(struct peer_dial *d)
{
    if (--d->parts > 0)
        return;
    struct tcp_peers *tcp = d->tcp;
    uv_freeaddrinfo(d->found);
    free(d);
    tcp_part_gone(tcp);
}

static void timer_closed(uv_handle_t *handle)
{
    part_done(handle->data);
}

static void drop_connection(struct peer_dial *d)
{
    if (d->connection != NULL)
        peer_connection_end(d->connection, STATUS_CANCELLED);
    d->connection = NULL;
}

/* The dial is over: from now on its parts only come back. */
static struct peer_node *over(struct peer_dial *d)
{
    struct peer_node *node = d->node;
    ASSERT(node != NULL);
    ASSERT(node->dial == d);
    node->dial = NULL;
    d->node = NULL;
    (void)uv_cancel((uv_req_t *)&d->resolve); /* fails if it is not waiting any more: no matter */
    uv_close((uv_handle_t *)&d->timer, timer_closed);
    return node;
}

static void fail(struct peer_dial *d)
{
    drop_connection(d);
    enum status why = d->why;
    peer_node_dial_failed(over(d), why);
}

static void connect_done(uv_connect_t *request, int status);

static void try_next(struct peer_dial *d)
{
    while (d->next != NULL) {
        const struct addrinfo *address = d->next;
        d->next = address->ai_next;
        d->connection = peer_connection_new(d->tcp, d->node);
        memcpy(d->connection->host, d->host, sizeof d->host);
        int rc =
            uv_tcp_connect(&d->connect, &d->connection->stream.tcp, address->ai_addr, connect_done);
        if (rc == 0) {
            d->parts++;
            return;
        }
        d->why = status_from_errno(rc);
        drop_connection(d);
    }
    fail(d);
}

static void connect_done(uv_connect_t *request, int status)
{
    struct peer_dial *d = request->data;
    struct peer_connection *connection = d->connection;
    d->connection = NULL;
    if (d->node == NULL) {
        /* over() came first; the connection was ended then. */
    } else if (status == 0) {
        over(d);
        peer_connection_begin(connection);
    } else {
        d->why = status_from_errno(status);
        peer_connection_end(connection, d->why);
        try_next(d);
    }
    part_done(d);
}

static void resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct peer_dial *d = request->data;
    d->found = found;
    d->next = found;
    if (d->node != NULL && status == 0) {
        try_next(d);
    } else if (d->node != NULL) {
        d->why = STATUS_NOT_FOUND;
        fail(d);
    }
    part_done(d);
}

static void timed_out(uv_timer_t *timer)
{
    struct peer_dial *d = timer->data;
    d->why = STATUS_TIMEOUT;
    fail(d);
}

static void cannot_resolve(uv_timer_t *timer)
{
    struct peer_dial *d = timer->data;
    d->why = STATUS_NOT_FOUND;
    fail(d);
}

void peer_dial_cancel(struct peer_dial *d)
{
    drop_connection(d);
    over(d);
}

static int resolve(struct peer_dial *d, const char *address)
{
    struct arena arena = {0};
    const char *host;
    uint16_t port;
    int rc = UV_EINVAL;
    if (address_split(address, &arena, &host, &port) && strlen(host) <= PEER_HOST_MAX) {
        snprintf(d->host, sizeof d->host, "%s", host);
        char service[8];
        snprintf(service, sizeof service, "%u", port);
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
        rc = uv_getaddrinfo(d->tcp->loop, &d->resolve, resolved, host, service, &hints);
    }
    arena_free(&arena);
    return rc;
}

void peer_dial_start(struct peer_node *node)
{
    struct peer_dial *d = calloc(1, sizeof *d);
    ASSERT(d != NULL);
    ASSERT(node->dial == NULL);
    *d = (struct peer_dial){.tcp = node->tcp, .node = node, .parts = 1};
    node->tcp->parts++;
    node->dial = d;
    d->resolve.data = d;
    d->connect.data = d;
    uv_timer_init(d->tcp->loop, &d->timer);
    d->timer.data = d;
    bool resolving = resolve(d, peer_node_turn(node)) == 0;
    if (resolving)
        d->parts++;
    int rc = uv_timer_start(&d->timer, resolving ? timed_out : cannot_resolve,
                            resolving ? DIAL_MS : 0, 0);
    ASSERT(rc == 0);
}
