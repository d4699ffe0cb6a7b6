/* SPDX-License-Identifier: Apache-2.0 */
/* The interface, the listener, and the tick.
 *
 * Callbacks never run within a call of the user's: what a call begins (a send that fails, a node
 * that is left) is carried out by the timer `soon`, which is due at once, in the next turn. What is
 * sent is written at the end of the turn, by `flush`, so that all messages of a turn share a write.
 *
 * The tick looks at everything that takes time. If it comes late, this process was stopped or busy:
 * then the time that was lost is not counted as the peers' silence. */
#include "broker/peer/internal.h"
#include "proto/base/assert.h"
#include "proto/base/beat.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

#define LISTEN_BACKLOG 64

static struct tcp_peers *tcp_of(struct peers *peers)
{
    return CONTAINER_OF(peers, struct tcp_peers, peers);
}

static const struct tcp_peers *tcp_of_const(const struct peers *peers)
{
    return CONTAINER_OF((struct peers *)(uintptr_t)peers, struct tcp_peers, peers);
}

uint64_t tcp_now_ms(const struct tcp_peers *tcp)
{
    return uv_now(tcp->loop);
}

/* ---- life of the parts ---- */

static void tcp_free(struct tcp_peers *tcp)
{
    void (*closed)(void *data) = tcp->closed;
    void *data = tcp->closed_data;
    while (tcp->nodes != NULL) {
        struct peer_node *node = tcp->nodes;
        tcp->nodes = node->next;
        peer_node_free(node);
    }
    free(tcp->peer);
    free(tcp->http);
    free(tcp->rpc);
    free(tcp->handlers);
    free(tcp);
    if (closed != NULL)
        closed(data);
}

void tcp_part_gone(struct tcp_peers *tcp)
{
    if (--tcp->parts == 0)
        tcp_free(tcp);
}

static void handle_closed(uv_handle_t *handle)
{
    tcp_part_gone(handle->data);
}

/* ---- what is done later ---- */

static void failed_done(struct tcp_peers *tcp)
{
    struct peer_send *send = tcp->failed;
    tcp->failed = NULL;
    tcp->failed_last = &tcp->failed;
    while (send != NULL) {
        struct peer_send *next = send->next;
        send->done(send, send->status);
        send = next;
    }
}

static void do_soon(uv_timer_t *timer)
{
    struct tcp_peers *tcp = timer->data;
    failed_done(tcp);
    for (struct peer_node *node = tcp->nodes; node != NULL; node = node->next) {
        if (node->leaving)
            peer_node_leave(node);
        else
            peer_node_tick(node);
    }
}

void tcp_soon(struct tcp_peers *tcp)
{
    if (!tcp->closing)
        (void)uv_timer_start(&tcp->soon, do_soon, 0, 0);
}

void tcp_send_failed(struct tcp_peers *tcp, struct peer_send *send, enum status why)
{
    send->status = why;
    send->next = NULL;
    *tcp->failed_last = send;
    tcp->failed_last = &send->next;
    tcp_soon(tcp);
}

static void do_nothing(uv_idle_t *idle)
{
    (void)idle;
}

static void do_flush(uv_prepare_t *prepare)
{
    struct tcp_peers *tcp = prepare->data;
    while (tcp->dirty != NULL) {
        struct peer_connection *c = tcp->dirty;
        tcp_unmark_dirty(c);
        peer_connection_flush(c);
    }
}

void tcp_mark_dirty(struct peer_connection *c)
{
    struct tcp_peers *tcp = c->tcp;
    if (c->dirty || tcp->closing)
        return;
    c->dirty = true;
    c->next_dirty = tcp->dirty;
    tcp->dirty = c;
    (void)uv_prepare_start(&tcp->flush, do_flush);
    (void)uv_idle_start(&tcp->awake, do_nothing);
}

void tcp_unmark_dirty(struct peer_connection *c)
{
    struct tcp_peers *tcp = c->tcp;
    if (!c->dirty)
        return;
    struct peer_connection **at = &tcp->dirty;
    while (*at != c)
        at = &(*at)->next_dirty;
    *at = c->next_dirty;
    c->dirty = false;
    if (tcp->dirty != NULL)
        return;
    (void)uv_prepare_stop(&tcp->flush);
    (void)uv_idle_stop(&tcp->awake);
}

/* ---- handlers ---- */

static struct peer_handler *handler_of(struct tcp_peers *tcp, uint16_t channel)
{
    unsigned from_top = UINT16_MAX - (unsigned)channel;
    if (from_top < NODE_CHANNELS)
        return &tcp->node_handlers[from_top];
    return channel < tcp->handler_count ? &tcp->handlers[channel] : NULL;
}

static void handlers_grow(struct tcp_peers *tcp, size_t count)
{
    tcp->handlers = realloc(tcp->handlers, count * sizeof *tcp->handlers);
    ASSERT(tcp->handlers != NULL);
    memset(tcp->handlers + tcp->handler_count, 0,
           (count - tcp->handler_count) * sizeof *tcp->handlers);
    tcp->handler_count = count;
}

static void tcp_handle(struct peers *peers, uint16_t channel, const struct peer_handler *handler)
{
    struct tcp_peers *tcp = tcp_of(peers);
    if (handler_of(tcp, channel) == NULL) {
        ASSERT(channel <= PEER_CHANNEL_SHARD_MAX);
        handlers_grow(tcp, channel + 1u);
    }
    *handler_of(tcp, channel) = handler != NULL ? *handler : (struct peer_handler){0};
}

void tcp_message(struct tcp_peers *tcp, uint64_t node_id, uint16_t channel, struct slice message)
{
    const struct peer_handler *handler = handler_of(tcp, channel);
    if (handler != NULL && handler->message != NULL)
        handler->message(handler->data, node_id, message);
}

void tcp_report(struct tcp_peers *tcp, uint64_t node_id, bool up)
{
    if (tcp->closing)
        return;
    for (size_t i = 0; i < tcp->handler_count; i++) /* a handler may add handlers */
        if (tcp->handlers[i].connection != NULL)
            tcp->handlers[i].connection(tcp->handlers[i].data, node_id, up);
    for (size_t i = 0; i < NODE_CHANNELS; i++)
        if (tcp->node_handlers[i].connection != NULL)
            tcp->node_handlers[i].connection(tcp->node_handlers[i].data, node_id, up);
}

/* ---- the interface ---- */

static void tcp_send(struct peers *peers, uint64_t node_id, uint16_t channel,
                     struct peer_send *send)
{
    struct tcp_peers *tcp = tcp_of(peers);
    struct peer_node *node = peer_node_find(tcp, node_id);
    if (node == NULL || node->up == NULL || node->leaving)
        tcp_send_failed(tcp, send, STATUS_UNAVAILABLE);
    else
        peer_connection_send(node->up, channel, send);
}

static bool tcp_connected(const struct peers *peers, uint64_t node_id)
{
    const struct peer_node *node = peer_node_find(tcp_of_const(peers), node_id);
    return node != NULL && node->up != NULL && !node->leaving;
}

static size_t tcp_unsent(const struct peers *peers, uint64_t node_id)
{
    const struct peer_node *node = peer_node_find(tcp_of_const(peers), node_id);
    return node != NULL && node->up != NULL ? node->up->out.unsent_bytes : 0;
}

static void tcp_set_address(struct peers *peers, uint64_t node_id, const char *address)
{
    struct tcp_peers *tcp = tcp_of(peers);
    struct peer_node *node =
        address != NULL ? peer_node_get(tcp, node_id) : peer_node_find(tcp, node_id);
    ASSERT(node_id != tcp->options.node_id);
    if (node != NULL)
        peer_node_set_address(node, address);
    else if (address != NULL)
        trace_error("peer", "too_many_nodes", "node=%" PRIu64 " max=%u", node_id, PEER_NODES_MAX);
}

void peers_tcp_set_cluster(struct peers *peers, const uint8_t cluster_id[PEER_ID_BYTES])
{
    memcpy(tcp_of(peers)->options.cluster_id, cluster_id, PEER_ID_BYTES);
}

void peers_tcp_set_spare(struct peers *peers, uint64_t node_id, enum peer_spare which,
                         const char *address)
{
    struct peer_node *node = peer_node_get(tcp_of(peers), node_id);
    if (node != NULL)
        snprintf(node->spares[which], sizeof node->spares[which], "%s",
                 address != NULL ? address : "");
}

void peers_tcp_set_level(struct peers *peers, uint32_t feature_level)
{
    tcp_of(peers)->options.feature_level_now = feature_level;
}

void peers_tcp_know(struct peers *peers, uint64_t node_id, const uint8_t data_id[PEER_ID_BYTES])
{
    struct peer_node *node = peer_node_get(tcp_of(peers), node_id);
    if (node != NULL)
        memcpy(node->data_id, data_id, PEER_ID_BYTES);
}

static void replace_text(char **at, const char *text)
{
    ASSERT(text == NULL || strlen(text) <= HELLO_ADDRESS_MAX);
    free(*at);
    *at = text != NULL ? strdup(text) : NULL;
}

void peers_tcp_advertise(struct peers *peers, const char *peer, const char *http, const char *rpc)
{
    struct tcp_peers *tcp = tcp_of(peers);
    replace_text(&tcp->peer, peer);
    replace_text(&tcp->http, http);
    replace_text(&tcp->rpc, rpc);
}

void tcp_hello(const struct tcp_peers *tcp, uint64_t to_node_id, struct hello *out)
{
    *out = (struct hello){.version_min = PEER_VERSION_MIN,
                          .version_max = PEER_VERSION_MAX,
                          .feature_level = tcp->options.feature_level,
                          .feature_level_min = tcp->options.feature_level_min,
                          .feature_level_now = tcp->options.feature_level_now,
                          .node_id = tcp->options.node_id,
                          .to_node_id = to_node_id,
                          .boot = tcp->boot,
                          .wall_ms = clock_now_ms(),
                          .founders = tcp->options.founders,
                          .peer = slice_of(tcp->peer),
                          .http = slice_of(tcp->http),
                          .rpc = slice_of(tcp->rpc),
                          .version = slice_of(tcp->options.version)};
    memcpy(out->cluster_id, tcp->options.cluster_id, PEER_ID_BYTES);
    memcpy(out->data_id, tcp->options.data_id, PEER_ID_BYTES);
}

bool peers_tcp_node(const struct peers *peers, uint64_t node_id, struct peer_about *out)
{
    const struct peer_node *node = peer_node_find(tcp_of_const(peers), node_id);
    if (node == NULL)
        return false;
    *out = node->about;
    out->address = node->address;
    out->peer = node->peer;
    out->http = node->http;
    out->rpc = node->rpc;
    out->version = node->version;
    if (node->up != NULL)
        out->silent_ms = tcp_now_ms(node->tcp) - node->up->heard_ms;
    return true;
}

size_t peers_tcp_nodes(const struct peers *peers, uint64_t *ids, size_t max)
{
    size_t count = 0;
    const struct peer_node *node = tcp_of_const(peers)->nodes;
    for (; node != NULL && count < max; node = node->next)
        ids[count++] = node->id;
    return count;
}

void tcp_stranger_refused(const struct peer_connection *c, enum refusal why, uint64_t node_id)
{
    struct tcp_peers *tcp = c->tcp;
    bool same = tcp->stranger_told == node_id && tcp->stranger_why == why;
    tcp->stranger_refusals = same ? tcp->stranger_refusals + 1 : 1;
    tcp->stranger_told = node_id;
    tcp->stranger_why = why;
    if (tcp->stranger_refusals % REFUSALS_TOLD_EVERY == 1)
        trace_error("peer", "refused_it",
                    "node=%" PRIu64 " remote=%s reason=%s times=%" PRIu64 " why=\"%s\"", node_id,
                    c->remote, refusal_name(why), tcp->stranger_refusals, refusal_text(why));
}

/* ---- time ---- */

static void forgive(struct tcp_peers *tcp, uint64_t lost_ms)
{
    for (struct peer_node *node = tcp->nodes; node != NULL; node = node->next)
        if (node->up != NULL)
            node->up->heard_ms += lost_ms;
}

static void do_tick(uv_timer_t *timer);

static void arm_tick(struct tcp_peers *tcp)
{
    uint64_t in_ms = beat_in_ms(tcp_now_ms(tcp), TICK_MS, tcp->options.node_id);
    int rc = uv_timer_start(&tcp->tick, do_tick, in_ms, 0);
    ASSERT(rc == 0);
}

static void do_tick(uv_timer_t *timer)
{
    struct tcp_peers *tcp = timer->data;
    uint64_t now_ms = tcp_now_ms(tcp);
    arm_tick(tcp);
    if (now_ms - tcp->ticked_ms > 2 * TICK_MS)
        forgive(tcp, now_ms - tcp->ticked_ms - TICK_MS);
    tcp->ticked_ms = now_ms;
    for (struct peer_connection *c = tcp->strangers, *next; c != NULL; c = next) {
        next = c->next;
        peer_connection_tick(c);
    }
    for (struct peer_node *node = tcp->nodes; node != NULL; node = node->next)
        peer_node_tick(node);
    peer_nodes_forget(tcp);
}

/* ---- opening and closing ---- */

static void connection_came(uv_stream_t *server, int status)
{
    struct tcp_peers *tcp = server->data;
    if (status == 0) {
        struct peer_connection *c = peer_connection_new(tcp, NULL);
        status = uv_accept(server, (uv_stream_t *)&c->stream.tcp);
        if (status == 0)
            peer_connection_begin(c);
        else
            peer_connection_end(c, status_from_errno(status));
    }
    if (status != 0)
        trace_warn("peer", "accept_failed", "error=\"%s\"", uv_strerror(status));
}

static enum status listen_status(int rc)
{
    if (rc == UV_EADDRINUSE)
        return STATUS_EXISTS;
    if (rc == UV_EADDRNOTAVAIL || rc == UV_EAFNOSUPPORT)
        return STATUS_INVALID;
    return status_from_errno(rc);
}

static enum status tcp_listen(struct tcp_peers *tcp, const char *host, uint16_t port)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, service, &hints, &found) != 0)
        return STATUS_INVALID;
    int rc = uv_tcp_bind(&tcp->listener, found->ai_addr, 0);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&tcp->listener, LISTEN_BACKLOG, connection_came);
    freeaddrinfo(found);
    return listen_status(rc);
}

static void parts_begin(struct tcp_peers *tcp)
{
    int rc = uv_tcp_init(tcp->loop, &tcp->listener);
    ASSERT(rc == 0);
    uv_timer_init(tcp->loop, &tcp->tick);
    uv_timer_init(tcp->loop, &tcp->soon);
    uv_prepare_init(tcp->loop, &tcp->flush);
    uv_idle_init(tcp->loop, &tcp->awake);
    tcp->listener.data = tcp->tick.data = tcp->soon.data = tcp;
    tcp->flush.data = tcp->awake.data = tcp;
    tcp->parts = 5;
}

static void parts_end(struct tcp_peers *tcp)
{
    uv_close((uv_handle_t *)&tcp->listener, handle_closed);
    uv_close((uv_handle_t *)&tcp->tick, handle_closed);
    uv_close((uv_handle_t *)&tcp->soon, handle_closed);
    uv_close((uv_handle_t *)&tcp->flush, handle_closed);
    uv_close((uv_handle_t *)&tcp->awake, handle_closed);
}

enum status peers_tcp_open(struct peers **out, const struct peers_tcp_options *options)
{
    struct tcp_peers *tcp = calloc(1, sizeof *tcp);
    ASSERT(tcp != NULL);
    ASSERT(options->node_id != 0);
    tcp->loop = options->loop;
    tcp->options = *options;
    tcp->failed_last = &tcp->failed;
    tcp->peers = (struct peers){tcp_send, tcp_connected, tcp_unsent, tcp_handle, tcp_set_address};
    clock_random(&tcp->boot, sizeof tcp->boot);
    parts_begin(tcp);
    enum status status = tcp_listen(tcp, options->host, options->port);
    if (status != STATUS_OK) {
        parts_end(tcp);
        return status;
    }
    tcp->ticked_ms = tcp_now_ms(tcp);
    arm_tick(tcp);
    *out = &tcp->peers;
    return STATUS_OK;
}

uint16_t peers_tcp_port(const struct peers *peers)
{
    struct sockaddr_storage address = {0};
    int length = sizeof address;
    if (uv_tcp_getsockname(&tcp_of_const(peers)->listener, (struct sockaddr *)&address, &length) !=
        0)
        return 0;
    return ntohs(address.ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)&address)->sin6_port
                                               : ((const struct sockaddr_in *)&address)->sin_port);
}

/* The rest of closing, out of the caller's call: sends end here. */
static void do_close(uv_timer_t *timer)
{
    struct tcp_peers *tcp = timer->data;
    for (struct peer_node *node = tcp->nodes; node != NULL; node = node->next)
        peer_node_leave(node);
    while (tcp->strangers != NULL)
        peer_connection_end(tcp->strangers, STATUS_CLOSED);
    failed_done(tcp);
    parts_end(tcp);
}

void peers_tcp_close(struct peers *peers, void (*closed)(void *data), void *data)
{
    struct tcp_peers *tcp = tcp_of(peers);
    ASSERT(!tcp->closing);
    tcp->closing = true;
    tcp->closed = closed;
    tcp->closed_data = data;
    (void)uv_timer_stop(&tcp->tick);
    (void)uv_prepare_stop(&tcp->flush);
    (void)uv_idle_stop(&tcp->awake);
    int rc = uv_timer_start(&tcp->soon, do_close, 0, 0);
    ASSERT(rc == 0);
}
