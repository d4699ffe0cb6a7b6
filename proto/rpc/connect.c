/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting: the name is resolved anew each time, because pods move, and its addresses are tried
 * one after another until one answers or the time is up.
 *
 * A dialer holds the attempt. The caller hears from it exactly once (conclude); the dialer itself
 * lives until its three asynchronous parts, the resolver, the connect request and the timer, have
 * all come back (`parts`), since libuv may still write into it until then. */
#include "proto/base/assert.h"
#include "proto/rpc/endpoint.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dialer {
    uv_getaddrinfo_t resolve;
    uv_timer_t timer;
    uv_connect_t connect;
    unsigned parts; /* asynchronous parts under way */
    bool concluded;
    enum status why;
    uv_loop_t *loop;
    struct addrinfo *found;
    const struct addrinfo *next;
    struct link *link; /* being connected */
    struct tls_context *tls;
    char *host; /* for TLS */
    const struct link_handler *handler;
    void *data;
    void (*connected)(struct link *link, void *data);
    void (*failed)(void *data, enum status why);
};

static void part_done(struct dialer *d)
{
    if (--d->parts > 0)
        return;
    uv_freeaddrinfo(d->found);
    free(d->host);
    free(d);
}

static void timer_closed(uv_handle_t *handle)
{
    part_done(handle->data);
}

/* Tell the caller: `link` is connected, or NULL. */
static void conclude(struct dialer *d, struct link *link)
{
    ASSERT(!d->concluded);
    d->concluded = true;
    uv_close((uv_handle_t *)&d->timer, timer_closed);
    if (link == NULL) {
        d->failed(d->data, d->why);
        return;
    }
    link_start(link, d->handler, d->data);
    link_open(link, d->tls != NULL ? tls_stream_new(d->tls, TLS_CLIENT, d->host) : NULL);
    d->connected(link, d->data);
}

static void connect_done(uv_connect_t *request, int status);

static void try_next(struct dialer *d)
{
    while (d->next != NULL) {
        const struct addrinfo *address = d->next;
        d->next = address->ai_next;
        d->link = link_new(d->loop);
        int rc = uv_tcp_connect(&d->connect, &d->link->tcp, address->ai_addr, connect_done);
        if (rc == 0) {
            d->parts++;
            return;
        }
        d->why = status_from_errno(rc);
        link_discard(d->link);
        d->link = NULL;
    }
    conclude(d, NULL);
}

static void connect_done(uv_connect_t *request, int status)
{
    struct dialer *d = request->data;
    struct link *link = d->link;
    d->link = NULL;
    if (d->concluded) {
        /* timed_out() has discarded the link. */
    } else if (status == 0) {
        conclude(d, link);
    } else {
        d->why = status_from_errno(status);
        link_discard(link);
        try_next(d);
    }
    part_done(d);
}

static void resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct dialer *d = request->data;
    d->found = found;
    d->next = found;
    if (!d->concluded) {
        d->why = STATUS_NOT_FOUND;
        if (status != 0)
            conclude(d, NULL);
        else
            try_next(d);
    }
    part_done(d);
}

static void timed_out(uv_timer_t *timer)
{
    struct dialer *d = timer->data;
    d->why = STATUS_TIMEOUT;
    if (d->link != NULL)
        link_discard(d->link);
    (void)uv_cancel((uv_req_t *)&d->resolve); /* fails if it is not waiting any more: no matter */
    conclude(d, NULL);
}

static void cannot_resolve(uv_timer_t *timer)
{
    struct dialer *d = timer->data;
    d->why = STATUS_INVALID;
    conclude(d, NULL);
}

void link_connect(uv_loop_t *loop, const char *host, uint16_t port, uint32_t timeout_ms,
                  struct tls_context *tls, const struct link_handler *handler, void *data,
                  void (*connected)(struct link *link, void *data),
                  void (*failed)(void *data, enum status why))
{
    struct dialer *d = calloc(1, sizeof *d);
    ASSERT(d != NULL);
    *d = (struct dialer){.loop = loop,
                         .handler = handler,
                         .data = data,
                         .tls = tls,
                         .host = strdup(host),
                         .connected = connected,
                         .failed = failed,
                         .parts = 2};
    ASSERT(d->host != NULL);
    d->resolve.data = d;
    d->connect.data = d;
    uv_timer_init(loop, &d->timer);
    d->timer.data = d;
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int rc = uv_getaddrinfo(loop, &d->resolve, resolved, host, service, &hints);
    if (rc != 0)
        d->parts--;
    rc = uv_timer_start(&d->timer, rc == 0 ? timed_out : cannot_resolve, rc == 0 ? timeout_ms : 0,
                        0);
    ASSERT(rc == 0);
}
