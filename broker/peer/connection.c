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

static const struct peer_stream_handler peer_stream_handler;

struct peer_connection *peer_connection_new(struct tcp_peers *tcp, struct peer_node *node)
{
    struct peer_connection *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    c->tcp = tcp;
    c->node = node;
    c->dialed = node != NULL;
    c->reader.length_max = HELLO_BYTES_MAX;
    peer_outgoing_init(&c->out);
    peer_stream_init(&c->stream, tcp->loop, &peer_stream_handler, c);
    tcp->parts++;
    return c;
}

/* ---- strangers: connections that belong to no node, yet or any more ---- */

static void stranger_add(struct peer_connection *c)
{
    c->next = c->tcp->strangers;
    c->tcp->strangers = c;
    c->tcp->stranger_count++;
}

static void stranger_remove(struct peer_connection *c)
{
    struct peer_connection **at = &c->tcp->strangers;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    c->tcp->stranger_count--;
}

/* ---- the end ---- */

static void leave_node(struct peer_connection *c, enum status why)
{
    struct peer_node *node = c->node;
    c->node = NULL;
    peer_node_connection_gone(node, c, why);
}

void peer_connection_end(struct peer_connection *c, enum status why)
{
    enum peer_connection_state before = c->state;
    if (before == CONNECTION_CLOSING)
        return;
    c->state = CONNECTION_CLOSING;
    peer_stream_close(&c->stream);
    if (before == CONNECTION_NEW) /* it is in no list */
        return;
    if (c->node != NULL)
        leave_node(c, why);
    else
        stranger_remove(c);
    peer_outgoing_fail(&c->out, STATUS_CLOSED);
}

static void closed(void *data)
{
    struct peer_connection *c = data;
    struct tcp_peers *tcp = c->tcp;
    ASSERT(!c->out.in_flight);
    tcp_unmark_dirty(c);
    peer_outgoing_free(&c->out);
    peer_frame_reader_free(&c->reader);
    free(c);
    tcp_part_gone(tcp);
}

static void ended(void *data, enum status why)
{
    peer_connection_end(data, why);
}

/* Tell the other side why, and close when that has gone out. */
static void refuse(struct peer_connection *c, enum refusal why, uint64_t node_id)
{
    struct peer_node *known = c->node != NULL ? c->node : peer_node_find(c->tcp, node_id);
    if (known != NULL)
        peer_node_refused(known, c, why, true);
    else
        tcp_stranger_refused(c, why, node_id);
    struct buffer payload = {0};
    struct hello own;
    tcp_hello(c->tcp, node_id, &own);
    refused_encode(&payload, &(struct refused){.why = why,
                                               .node_id = own.node_id,
                                               .feature_level = own.feature_level,
                                               .feature_level_min = hello_level_needed(&own)});
    peer_outgoing_control(&c->out, PEER_FRAME_REFUSED, buffer_slice(&payload));
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

/* write_batch: the next write; true: it is done, and there may be another. */
static bool write_batch(struct peer_connection *c)
{
    bool done;
    size_t count = peer_outgoing_batch(&c->out);
    enum status status = peer_stream_write(&c->stream, c->out.parts, count, &done);
    if (status != STATUS_OK) {
        peer_outgoing_written(&c->out, STATUS_CLOSED);
        peer_connection_end(c, status);
    } else if (done) {
        peer_outgoing_written(&c->out, STATUS_OK);
    }
    return status == STATUS_OK && done;
}

void peer_connection_flush(struct peer_connection *c)
{
    bool more = !c->out.in_flight;
    while (more && c->state != CONNECTION_CLOSING && peer_outgoing_pending(&c->out))
        more = write_batch(c);
    if (more && c->state == CONNECTION_ENDING)
        peer_stream_finish(&c->stream);
}

static void written(void *data, enum status status)
{
    struct peer_connection *c = data;
    bool closing = c->state == CONNECTION_CLOSING;
    peer_outgoing_written(&c->out, status == STATUS_OK ? STATUS_OK : STATUS_CLOSED);
    if (closing || c->state == CONNECTION_CLOSING)
        return;
    if (status != STATUS_OK)
        peer_connection_end(c, status);
    else
        peer_connection_flush(c);
}

static void send_control(struct peer_connection *c, uint8_t kind, struct slice payload)
{
    peer_outgoing_control(&c->out, kind, payload);
    tcp_mark_dirty(c);
}

void peer_connection_send(struct peer_connection *c, uint16_t channel, struct peer_send *send)
{
    ASSERT(c->state == CONNECTION_UP);
    if (!peer_outgoing_add(&c->out, channel, send)) {
        tcp_send_failed(c->tcp, send, STATUS_BUSY);
        return;
    }
    c->node->about.messages_out++;
    c->node->about.bytes_out += send->bytes;
    tcp_mark_dirty(c);
}

void peer_connection_ready(struct peer_connection *c)
{
    send_control(c, PEER_FRAME_READY, slice_of(NULL));
}

void peer_connection_up(struct peer_connection *c)
{
    ASSERT(c->state == CONNECTION_GREETED);
    c->state = CONNECTION_UP;
    c->reader.length_max = PEER_MESSAGE_BYTES_MAX;
}

/* ---- greeting ---- */

static void greet(struct peer_connection *c, uint64_t to_node_id)
{
    struct hello own;
    struct buffer payload = {0};
    tcp_hello(c->tcp, to_node_id, &own);
    hello_encode(&payload, &own);
    send_control(c, PEER_FRAME_HELLO, buffer_slice(&payload));
    buffer_free(&payload);
}

static struct tls_stream *tls_of(const struct peer_connection *c)
{
    struct tls_context *tls = c->tcp->options.tls;
    if (tls == NULL)
        return NULL;
    return tls_stream_new(tls, c->dialed ? TLS_CLIENT : TLS_SERVER, c->host);
}

void peer_connection_begin(struct peer_connection *c)
{
    ASSERT(c->state == CONNECTION_NEW);
    c->state = CONNECTION_CONNECTED;
    c->heard_ms = tcp_now_ms(c->tcp);
    c->deadline_ms = c->heard_ms + HANDSHAKE_MS;
    peer_stream_remote(&c->stream, c->remote, sizeof c->remote);
    if (c->node != NULL) {
        peer_node_dialed(c->node, c);
        greet(c, c->node->id);
    } else {
        stranger_add(c);
    }
    enum status status = peer_stream_start(&c->stream, tls_of(c));
    if (status != STATUS_OK)
        peer_connection_end(c, status);
    else if (c->node == NULL && c->tcp->stranger_count > STRANGERS_MAX)
        refuse(c, REFUSAL_BUSY, 0);
}

/* An accepted connection says who it is: it is that node's from now on. */
static enum refusal find_node(struct peer_connection *c, const struct hello *theirs)
{
    struct peer_node *node = peer_node_get(c->tcp, theirs->node_id);
    if (node == NULL)
        return REFUSAL_BUSY;
    enum refusal why = peer_node_admit(node, theirs);
    if (why != REFUSAL_NONE)
        return why;
    stranger_remove(c);
    c->node = node;
    peer_node_accepted(node, c);
    return REFUSAL_NONE;
}

static enum status hello_came(struct peer_connection *c, struct slice payload)
{
    struct hello theirs, own;
    if (c->state != CONNECTION_CONNECTED || !hello_decode(payload, &theirs))
        return STATUS_INVALID;
    tcp_hello(c->tcp, theirs.node_id, &own);
    enum refusal why = hello_judge(&own, &theirs, c->dialed ? c->node->id : 0);
    if (why == REFUSAL_NONE)
        why = c->dialed ? peer_node_admit(c->node, &theirs) : find_node(c, &theirs);
    if (why != REFUSAL_NONE) {
        struct peer_node *known = peer_node_find(c->tcp, theirs.node_id);
        if (known != NULL)
            peer_node_levels(known, theirs.feature_level, hello_level_needed(&theirs));
        refuse(c, why, theirs.node_id);
        return STATUS_OK;
    }
    c->boot = theirs.boot;
    c->state = CONNECTION_GREETED;
    if (!c->dialed)
        greet(c, c->node->id);
    if (c->tcp->options.node_id < c->node->id)
        peer_connection_ready(c); /* "I agree" */
    return STATUS_OK;
}

static enum status ready_came(struct peer_connection *c, struct slice payload)
{
    if (c->state != CONNECTION_GREETED || c->agreed || payload.length > 0)
        return STATUS_INVALID;
    c->agreed = true;
    peer_node_agreed(c->node, c);
    return STATUS_OK;
}

static enum status refused_came(struct peer_connection *c, struct slice payload)
{
    struct refused refused;
    if (!refused_decode(payload, &refused))
        return STATUS_INVALID;
    if (c->node != NULL) {
        peer_node_levels(c->node, refused.feature_level, refused.feature_level_min);
        peer_node_refused(c->node, c, refused.why, false);
    }
    peer_connection_end(c, STATUS_UNSUPPORTED);
    return STATUS_OK;
}

static enum status heartbeat_came(struct peer_connection *c, struct slice payload)
{
    if (c->state != CONNECTION_UP || payload.length != sizeof(uint64_t))
        return STATUS_INVALID;
    c->node->about.wall_ahead_ms = (int64_t)(bytes_get_u64(payload.data) - clock_now_ms());
    return STATUS_OK;
}

/* ---- receiving ---- */

static enum status frame_came(struct peer_connection *c, const struct peer_frame *frame,
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
static void broken(struct peer_connection *c, enum status status)
{
    trace_warn("peer", "broken_stream", "remote=%s status=%s", c->remote, status_name(status));
    if (c->state == CONNECTION_CONNECTED)
        refuse(c, REFUSAL_MALFORMED, 0);
    else
        peer_connection_end(c, status);
}

static uint8_t *where(void *data, size_t *room)
{
    struct peer_connection *c = data;
    if (c->state < CONNECTION_ENDING)
        return peer_frame_reader_where(&c->reader, room);
    *room = sizeof c->tcp->dropped;
    return c->tcp->dropped;
}

static void came(void *data, size_t count)
{
    struct peer_connection *c = data;
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

static const struct peer_stream_handler peer_stream_handler = {where, came, written, ended, closed};

/* ---- time ---- */

void peer_connection_tick(struct peer_connection *c)
{
    uint64_t now_ms = tcp_now_ms(c->tcp);
    if (c->state == CONNECTION_UP) {
        if (now_ms - c->heard_ms >= PEER_SILENCE_MS) {
            peer_connection_end(c, STATUS_TIMEOUT);
        } else if (now_ms - c->spoke_ms >= PEER_HEARTBEAT_MS && c->out.control.length == 0) {
            uint8_t payload[sizeof(uint64_t)];
            bytes_put_u64(payload, clock_now_ms());
            c->spoke_ms = now_ms;
            send_control(c, PEER_FRAME_HEARTBEAT, slice_make(payload, sizeof payload));
        }
    } else if (now_ms >= c->deadline_ms) {
        peer_connection_end(c, STATUS_TIMEOUT);
    }
}
