/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/peers/peer.h"

#include "proto/base/assert.h"
#include "proto/base/clock.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define UNACKED_MAX 65536
#define NS_PER_S    UINT64_C(1000000000)

void peer_done(struct port_call *call, enum port_end end, const char *why)
{
    call->end = end;
    call->failed = 0;
    snprintf(call->why, sizeof call->why, "%s", why);
    call->done(call);
}

/* ---- the inbox ---- */

void inbox_put(struct inbox *inbox, struct slice body, struct slice handle)
{
    struct delivery *d = malloc(sizeof *d + body.length + handle.length);
    ASSERT(d != NULL);
    d->next = NULL;
    d->body_bytes = (uint32_t)body.length;
    d->handle_bytes = (uint32_t)handle.length;
    memcpy(d->bytes, body.data, body.length);
    memcpy(d->bytes + body.length, handle.data, handle.length);
    if (inbox->first == NULL)
        inbox->first = d;
    else
        inbox->last->next = d;
    inbox->last = d;
}

void inbox_wait(struct inbox *inbox, struct port_call *call)
{
    call->next = NULL;
    if (inbox->waiting_first == NULL) {
        inbox->waiting_first = call;
        inbox->wait_until_ns = clock_monotonic_ns() + call->wait_s * NS_PER_S;
    } else {
        inbox->waiting_last->next = call;
    }
    inbox->waiting_last = call;
}

static void serve_one(struct inbox *inbox)
{
    struct port_call *call = inbox->waiting_first;
    struct delivery *taken[PORT_BATCH_MAX];
    uint32_t count = 0;
    inbox->waiting_first = call->next;
    inbox->wait_until_ns = clock_monotonic_ns() + call->wait_s * NS_PER_S;
    while (inbox->first != NULL && count < call->count) {
        struct delivery *d = inbox->first;
        inbox->first = d->next;
        call->items[count] =
            (struct port_item){.body = slice_make(d->bytes, d->body_bytes),
                               .handle = slice_make(d->bytes + d->body_bytes, d->handle_bytes)};
        taken[count++] = d;
    }
    call->count = count;
    peer_done(call, PORT_DONE, "");
    for (uint32_t i = 0; i < count; i++)
        free(taken[i]);
}

uint32_t inbox_serve(struct inbox *inbox)
{
    uint32_t served = 0;
    while (inbox->waiting_first != NULL &&
           (inbox->first != NULL || clock_monotonic_ns() > inbox->wait_until_ns)) {
        serve_one(inbox);
        served++;
    }
    return served;
}

void inbox_free(struct inbox *inbox)
{
    while (inbox->first != NULL) {
        struct delivery *d = inbox->first;
        inbox->first = d->next;
        free(d);
    }
}

/* ---- what waits for its acknowledgement ---- */

void unacked_init(struct unacked *u)
{
    *u = (struct unacked){.next = 1, .low = 1, .mask = UNACKED_MAX - 1};
    u->calls = calloc(UNACKED_MAX, sizeof(struct port_call *));
    ASSERT(u->calls != NULL);
}

void unacked_free(struct unacked *u)
{
    free(u->calls);
}

uint64_t unacked_add(struct unacked *u, struct port_call *call)
{
    ASSERT(u->calls[u->next & u->mask] == NULL);
    u->calls[u->next & u->mask] = call;
    return u->next++;
}

struct port_call *unacked_end(struct unacked *u, uint64_t number)
{
    struct port_call *call = u->calls[number & u->mask];
    u->calls[number & u->mask] = NULL;
    while (u->low < u->next && u->calls[u->low & u->mask] == NULL)
        u->low++;
    return call;
}

/* ---- sockets ---- */

void peer_first(const char *hosts, char *out, size_t size)
{
    snprintf(out, size, "%.*s", (int)strcspn(hosts, ","), hosts);
}

int peer_connect(const char *address)
{
    char host[128];
    const char *colon = strrchr(address, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (colon == NULL)
        return -1;
    snprintf(host, sizeof host, "%.*s", (int)(colon - address), address);
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
        return -1;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    bool good = fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) == 0;
    freeaddrinfo(found);
    if (!good && fd >= 0)
        close(fd);
    if (!good)
        return -1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}
