/* SPDX-License-Identifier: Apache-2.0 */
/* Redis streams: XADD; XREADGROUP by one consumer of a group; XACK and XDEL, so that the stream
 * really empties. Commands are pipelined; a connection of its own reads, because it blocks. */
#include "proto/base/assert.h"
#include "tests/bench/peers/peer.h"

#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define READ_BLOCK_MS 500

struct redis {
    struct port port;
    redisContext *sends; /* and deletes, and all else */
    redisContext *reads;
    bool reading; /* an XREADGROUP is under way */
    int epoll;
    struct inbox inbox;
    struct unacked unacked; /* replies on `sends` come in order */
    uint32_t called_back;
};

static void flush(redisContext *c)
{
    int done = 0;
    while (!done && redisBufferWrite(c, &done) == REDIS_OK)
        continue;
}

static void send(struct redis *r, struct port_call *call)
{
    const char *words[] = {"XADD", call->queue, "*", "b", NULL};
    size_t lengths[] = {4, strlen(call->queue), 1, 1, 0};
    ASSERT(call->count == 1);
    words[4] = (const char *)call->items[0].body.data;
    lengths[4] = call->items[0].body.length;
    redisAppendCommandArgv(r->sends, 5, words, lengths);
    (void)unacked_add(&r->unacked, call);
}

static void delete (struct redis *r, struct port_call *call)
{
    const char *words[3 + PORT_BATCH_MAX] = {"XACK", call->queue, "g"};
    size_t lengths[3 + PORT_BATCH_MAX] = {4, strlen(call->queue), 1};
    for (uint32_t i = 0; i < call->count; i++) {
        words[3 + i] = (const char *)call->items[i].handle.data;
        lengths[3 + i] = call->items[i].handle.length;
    }
    redisAppendCommandArgv(r->sends, 3 + (int)call->count, words, lengths);
    (void)unacked_add(&r->unacked, NULL);
    words[1] = "XDEL"; /* the same without the group */
    lengths[1] = 4;
    words[2] = call->queue;
    lengths[2] = strlen(call->queue);
    redisAppendCommandArgv(r->sends, 2 + (int)call->count, words + 1, lengths + 1);
    (void)unacked_add(&r->unacked, call);
}

static void simple(struct redis *r, struct port_call *call)
{
    const char *format = call->kind == PORT_CREATE  ? "XGROUP CREATE %s g 0 MKSTREAM"
                         : call->kind == PORT_COUNT ? "XLEN %s"
                                                    : "DEL %s";
    redisAppendCommand(r->sends, format, call->queue);
    (void)unacked_add(&r->unacked, call);
}

static void redis_call(struct port *port, struct port_call *call)
{
    struct redis *r = (struct redis *)(void *)port;
    if (call->kind == PORT_SEND)
        send(r, call);
    else if (call->kind == PORT_DELETE)
        delete (r, call);
    else if (call->kind == PORT_RECEIVE)
        inbox_wait(&r->inbox, call);
    else
        simple(r, call);
}

static void take_replies(struct redis *r)
{
    redisReply *reply;
    while (redisGetReplyFromReader(r->sends, (void **)&reply) == REDIS_OK && reply != NULL) {
        uint64_t number = r->unacked.low;
        struct port_call *call = r->unacked.calls[number & r->unacked.mask];
        r->unacked.calls[number & r->unacked.mask] = NULL;
        r->unacked.low = number + 1;
        if (call != NULL) {
            if (call->kind == PORT_COUNT)
                call->visible = (uint64_t)reply->integer;
            r->called_back++;
            peer_done(call, reply->type == REDIS_REPLY_ERROR ? PORT_REFUSED : PORT_DONE,
                      reply->type == REDIS_REPLY_ERROR ? reply->str : "");
        }
        freeReplyObject(reply);
    }
}

static void take_entries(struct redis *r, const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0)
        return;
    const redisReply *entries = reply->element[0]->element[1];
    for (size_t i = 0; i < entries->elements; i++) {
        const redisReply *id = entries->element[i]->element[0];
        const redisReply *fields = entries->element[i]->element[1];
        if (fields->type == REDIS_REPLY_ARRAY)
            inbox_put(&r->inbox, slice_make(fields->element[1]->str, fields->element[1]->len),
                      slice_make(id->str, id->len));
    }
}

static void take_reads(struct redis *r)
{
    redisReply *reply;
    while (redisGetReplyFromReader(r->reads, (void **)&reply) == REDIS_OK && reply != NULL) {
        r->reading = false;
        take_entries(r, reply);
        freeReplyObject(reply);
    }
}

static void read_more(struct redis *r)
{
    if (r->reading || r->inbox.waiting_first == NULL || r->inbox.first != NULL)
        return;
    redisAppendCommand(r->reads, "XREADGROUP GROUP g c COUNT %d BLOCK %d STREAMS %s >",
                       PEER_PREFETCH, READ_BLOCK_MS, r->inbox.waiting_first->queue);
    r->reading = true;
    flush(r->reads);
}

static uint32_t redis_run(struct port *port, uint32_t timeout_ms)
{
    struct redis *r = (struct redis *)(void *)port;
    r->called_back = inbox_serve(&r->inbox);
    read_more(r);
    flush(r->sends);
    struct pollfd fds[] = {{r->sends->fd, POLLIN, 0}, {r->reads->fd, POLLIN, 0}};
    if (poll(fds, 2, r->called_back > 0 ? 0 : (int)timeout_ms) <= 0)
        return r->called_back;
    if (fds[0].revents != 0 && redisBufferRead(r->sends) == REDIS_OK)
        take_replies(r);
    if (fds[1].revents != 0 && redisBufferRead(r->reads) == REDIS_OK)
        take_reads(r);
    r->called_back += inbox_serve(&r->inbox);
    flush(r->sends);
    return r->called_back;
}

static int redis_fd(const struct port *port)
{
    return ((const struct redis *)(const void *)port)->epoll;
}

static void redis_close(struct port *port)
{
    struct redis *r = (struct redis *)(void *)port;
    redisFree(r->sends);
    redisFree(r->reads);
    close(r->epoll);
    inbox_free(&r->inbox);
    unacked_free(&r->unacked);
    free(r);
}

static const struct port_ops ops = {redis_call, redis_run, redis_fd, redis_close};

static redisContext *connect_to(struct redis *r, const char *address)
{
    char host[128];
    const char *colon = strrchr(address, ':');
    snprintf(host, sizeof host, "%.*s", (int)(colon - address), address);
    redisContext *c = redisConnect(host, (int)strtol(colon + 1, NULL, 10));
    if (c == NULL || c->err != 0)
        return NULL;
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(r->epoll, EPOLL_CTL_ADD, c->fd, &event);
    return c;
}

struct port *redis_port(const char *hosts)
{
    char first[128];
    struct redis *r = calloc(1, sizeof *r);
    ASSERT(r != NULL);
    peer_first(hosts, first, sizeof first);
    r->port.ops = &ops;
    r->epoll = epoll_create1(EPOLL_CLOEXEC);
    r->sends = connect_to(r, first);
    r->reads = connect_to(r, first);
    unacked_init(&r->unacked);
    return r->sends != NULL && r->reads != NULL ? &r->port : NULL;
}
