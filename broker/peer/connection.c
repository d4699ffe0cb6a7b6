/* SPDX-License-Identifier: Apache-2.0 */
/* One connection's life.
 *
 * The greeting, with D who dialed and A who accepted; either may be the node with the higher id:
 *
 *     D --- HELLO ---> A      who I am, whom I mean
 *     D <-- HELLO ---- A      or REFUSED
 *     D --- READY ---> A      your HELLO is good, or REFUSED
 *     D <-- READY ---- A
 *
 * READY from the node with the lower id says "I agree". READY from the one with the higher id says
 * more: "this is the one that counts", and is sent only when it has no other, and the lower one has
 * agreed. Both nodes dial while they have no connection, so two may be greeting at once; the higher
 * one leaves the second waiting until the lower one, having seen its choice, closes it, or until
 * the chosen one turns out to be dead. Nothing that was reported as up is closed for a duplicate.
 *
 * Until it is up a connection may send HELLO_BYTES_MAX at a time, and has HANDSHAKE_MS.
 *
 * Afterwards each side sends a heartbeat every PEER_HEARTBEAT_MS, and gives the connection up after
 * PEER_SILENCE_MS without a byte. A node that was stopped itself does not blame its peers for it:
 * see tcp.c. */
#include "broker/peer/internal.h"
#include "proto/base/assert.h"
#include "proto/base/bytes.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>

static const struct stream_handler stream_handler;

struct connection *connection_new(struct tcp_peers *tcp, struct peer_node *node)
{
    struct connection *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    c->tcp = tcp;
    c->node = node;
    c->dialed = node != NULL;
    c->reader.length_max = HELLO_BYTES_MAX;
    outgoing_init(&c->out);
    stream_init(&c->stream, tcp->loop, &stream_handler, c);
    tcp->parts++;
    return c;
}

/* ---- strangers: connections that belong to no node, yet or any more ---- */

static void stranger_add(struct connection *c)
{
    c->next = c->tcp->strangers;
    c->tcp->strangers = c;
    c->tcp->stranger_count++;
}

static void stranger_remove(struct connection *c)
{
    struct connection **at = &c->tcp->strangers;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    c->tcp->stranger_count--;
}

/* ---- the end ---- */

static void leave_node(struct connection *c, enum status why)
{
    struct peer_node *node = c->node;
    c->node = NULL;
    node_connection_gone(node, c, why);
}

void connection_end(struct connection *c, enum status why)
{
    enum connection_state before = c->state;
    if (before == CONNECTION_CLOSING)
        return;
    c->state = CONNECTION_CLOSING;
    stream_close(&c->stream);
    if (before == CONNECTION_NEW) /* it is in no list */
        return;
    if (c->node != NULL)
        leave_node(c, why);
    else
        stranger_remove(c);
    outgoing_fail(&c->out, STATUS_CLOSED);
}

static void closed(void *data)
{
    struct connection *c = data;
    struct tcp_peers *tcp = c->tcp;
    ASSERT(!c->out.in_flight);
    tcp_unmark_dirty(c);
    outgoing_free(&c->out);
    peer_frame_reader_free(&c->reader);
    free(c);
    tcp_part_gone(tcp);
}

static void ended(void *data, enum status why)
{
    connection_end(data, why);
}

/* Tell the other side why, and close when that has gone out. */
static void refuse(struct connection *c, enum refusal why, uint64_t node_id)
{
    if (c->node != NULL)
        node_refused(c->node, c, why, true);
    else
        tcp_stranger_refused(c, why, node_id);
    struct buffer payload = {0};
    refused_encode(&payload, why, c->tcp->options.node_id);
    outgoing_control(&c->out, PEER_FRAME_REFUSED, buffer_slice(&payload));
    buffer_free(&payload);
    bool stranger = c->node == NULL;
    c->state = CONNECTION_ENDING;
    c->deadline_ms = tcp_now_ms(c->tcp) + FLUSH_MS;
    if (!stranger) {
        leave_node(c, STATUS_UNSUPPORTED);
        stranger_add(c);
    }
    tcp_mark_dirty(c);
}

/* ---- sending ---- */

void connection_flush(struct connection *c)
{
    if (c->out.in_flight || c->state == CONNECTION_CLOSING || !outgoing_pending(&c->out))
        return;
    size_t count = outgoing_batch(&c->out);
    enum status status = stream_write(&c->stream, c->out.parts, count);
    if (status == STATUS_OK)
        return;
    outgoing_written(&c->out, STATUS_CLOSED);
    connection_end(c, status);
}

static void written(void *data, enum status status)
{
    struct connection *c = data;
    bool closing = c->state == CONNECTION_CLOSING;
    outgoing_written(&c->out, status == STATUS_OK ? STATUS_OK : STATUS_CLOSED);
    if (closing || c->state == CONNECTION_CLOSING)
        return;
    if (status != STATUS_OK)
        connection_end(c, status);
    else if (outgoing_pending(&c->out))
        connection_flush(c);
    else if (c->state == CONNECTION_ENDING)
        stream_finish(&c->stream);
}

static void send_control(struct connection *c, uint8_t kind, struct slice payload)
{
    outgoing_control(&c->out, kind, payload);
    tcp_mark_dirty(c);
}

void connection_send(struct connection *c, uint16_t channel, struct peer_send *send)
{
    ASSERT(c->state == CONNECTION_UP);
    if (!outgoing_add(&c->out, channel, send)) {
        tcp_send_failed(c->tcp, send, STATUS_BUSY);
        return;
    }
    c->node->about.messages_out++;
    c->node->about.bytes_out += send->bytes;
    tcp_mark_dirty(c);
}

void connection_ready(struct connection *c)
{
    send_control(c, PEER_FRAME_READY, slice_of(NULL));
}

void connection_up(struct connection *c)
{
    ASSERT(c->state == CONNECTION_GREETED);
    c->state = CONNECTION_UP;
    c->reader.length_max = PEER_MESSAGE_BYTES_MAX;
}

/* ---- greeting ---- */

static void greet(struct connection *c, uint64_t to_node_id)
{
    struct hello own;
    struct buffer payload = {0};
    tcp_hello(c->tcp, to_node_id, &own);
    hello_encode(&payload, &own);
    send_control(c, PEER_FRAME_HELLO, buffer_slice(&payload));
    buffer_free(&payload);
}

void connection_begin(struct connection *c)
{
    ASSERT(c->state == CONNECTION_NEW);
    c->state = CONNECTION_CONNECTED;
    c->heard_ms = tcp_now_ms(c->tcp);
    c->deadline_ms = c->heard_ms + HANDSHAKE_MS;
    stream_remote(&c->stream, c->remote, sizeof c->remote);
    if (c->node != NULL) {
        node_dialed(c->node, c);
        greet(c, c->node->id);
    } else {
        stranger_add(c);
    }
    enum status status = stream_start(&c->stream);
    if (status != STATUS_OK)
        connection_end(c, status);
    else if (c->node == NULL && c->tcp->stranger_count > STRANGERS_MAX)
        refuse(c, REFUSAL_BUSY, 0);
}

/* An accepted connection says who it is: it is that node's from now on. */
static enum refusal find_node(struct connection *c, const struct hello *theirs)
{
    struct peer_node *node = node_get(c->tcp, theirs->node_id);
    if (node == NULL)
        return REFUSAL_BUSY;
    enum refusal why = node_admit(node, theirs);
    if (why != REFUSAL_NONE)
        return why;
    stranger_remove(c);
    c->node = node;
    node_accepted(node, c);
    return REFUSAL_NONE;
}

static enum status hello_came(struct connection *c, struct slice payload)
{
    struct hello theirs, own;
    if (c->state != CONNECTION_CONNECTED || !hello_decode(payload, &theirs))
        return STATUS_INVALID;
    tcp_hello(c->tcp, theirs.node_id, &own);
    enum refusal why = hello_judge(&own, &theirs, c->dialed ? c->node->id : 0);
    if (why == REFUSAL_NONE)
        why = c->dialed ? node_admit(c->node, &theirs) : find_node(c, &theirs);
    if (why != REFUSAL_NONE) {
        refuse(c, why, theirs.node_id);
        return STATUS_OK;
    }
    c->boot = theirs.boot;
    c->state = CONNECTION_GREETED;
    if (!c->dialed)
        greet(c, c->node->id);
    if (c->tcp->options.node_id < c->node->id)
        connection_ready(c); /* "I agree" */
    return STATUS_OK;
}

static enum status ready_came(struct connection *c, struct slice payload)
{
    if (c->state != CONNECTION_GREETED || c->agreed || payload.length > 0)
        return STATUS_INVALID;
    c->agreed = true;
    node_agreed(c->node, c);
    return STATUS_OK;
}

static enum status refused_came(struct connection *c, struct slice payload)
{
    enum refusal why;
    uint64_t node_id;
    if (!refused_decode(payload, &why, &node_id))
        return STATUS_INVALID;
    if (c->node != NULL)
        node_refused(c->node, c, why, false);
    connection_end(c, STATUS_UNSUPPORTED);
    return STATUS_OK;
}

static enum status heartbeat_came(struct connection *c, struct slice payload)
{
    if (c->state != CONNECTION_UP || payload.length != sizeof(uint64_t))
        return STATUS_INVALID;
    c->node->about.wall_ahead_ms = (int64_t)(bytes_get_u64(payload.data) - clock_now_ms());
    return STATUS_OK;
}

/* ---- receiving ---- */

static enum status frame_came(struct connection *c, const struct peer_frame *frame,
                              struct slice payload)
{
    switch ((enum peer_frame_kind)frame->kind) {
    case PEER_FRAME_HELLO:
        return hello_came(c, payload);
    case PEER_FRAME_READY:
        return ready_came(c, payload);
    case PEER_FRAME_REFUSED:
        return refused_came(c, payload);
    case PEER_FRAME_HEARTBEAT:
        return heartbeat_came(c, payload);
    case PEER_FRAME_MESSAGE:
        break;
    }
    if (c->state != CONNECTION_UP)
        return STATUS_INVALID;
    c->node->about.messages_in++;
    tcp_message(c->tcp, c->node->id, frame->channel, payload);
    return STATUS_OK;
}

/* What came is no conversation of ours. */
static void broken(struct connection *c, enum status status)
{
    trace_warn("peer", "broken_stream", "remote=%s status=%s", c->remote, status_name(status));
    if (c->state == CONNECTION_CONNECTED)
        refuse(c, REFUSAL_MALFORMED, 0);
    else
        connection_end(c, status);
}

static uint8_t *where(void *data, size_t *room)
{
    struct connection *c = data;
    if (c->state < CONNECTION_ENDING)
        return peer_frame_reader_where(&c->reader, room);
    *room = sizeof c->tcp->dropped;
    return c->tcp->dropped;
}

static void came(void *data, size_t count)
{
    struct connection *c = data;
    c->heard_ms = tcp_now_ms(c->tcp);
    if (c->state >= CONNECTION_ENDING)
        return;
    if (c->node != NULL)
        c->node->about.bytes_in += count;
    peer_frame_reader_came(&c->reader, count);
    struct peer_frame frame;
    struct slice payload;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && c->state < CONNECTION_ENDING) {
        status = peer_frame_reader_next(&c->reader, &frame, &payload);
        if (status == STATUS_OK)
            status = frame_came(c, &frame, payload);
        else if (status == STATUS_NOT_FOUND)
            return;
    }
    if (c->state < CONNECTION_ENDING)
        broken(c, status);
}

static const struct stream_handler stream_handler = {where, came, written, ended, closed};

/* ---- time ---- */

void connection_tick(struct connection *c)
{
    uint64_t now_ms = tcp_now_ms(c->tcp);
    if (c->state == CONNECTION_UP) {
        if (now_ms - c->heard_ms >= PEER_SILENCE_MS) {
            connection_end(c, STATUS_TIMEOUT);
        } else if (now_ms - c->spoke_ms >= PEER_HEARTBEAT_MS && c->out.control.length == 0) {
            uint8_t payload[sizeof(uint64_t)];
            bytes_put_u64(payload, clock_now_ms());
            c->spoke_ms = now_ms;
            send_control(c, PEER_FRAME_HEARTBEAT, slice_make(payload, sizeof payload));
        }
    } else if (now_ms >= c->deadline_ms) {
        connection_end(c, STATUS_TIMEOUT);
    }
}
