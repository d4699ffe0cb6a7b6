/* SPDX-License-Identifier: Apache-2.0 */
/* RabbitMQ quorum queues: persistent messages with publisher confirms, and a consumer with manual
 * acknowledgements. Administration, sending and receiving have a connection each; basic.ack has no
 * answer, so a delete is done when it was written. */
#include "proto/base/assert.h"
#include "tests/bench/peers/peer.h"

#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define FRAME_BYTES 131072
#define CHANNEL     1

struct rabbit {
    struct port port;
    amqp_connection_state_t admin, sends, reads;
    bool consuming;
    int epoll;
    struct inbox inbox;
    struct unacked unacked;  /* by delivery tag of the confirms */
    struct port_call *ended; /* to be called back in run */
    uint32_t called_back;
};

static void end_later(struct rabbit *r, struct port_call *call, enum port_end end)
{
    call->end = end;
    call->next = r->ended;
    r->ended = call;
}

static bool went_well(amqp_connection_state_t c)
{
    return amqp_get_rpc_reply(c).reply_type == AMQP_RESPONSE_NORMAL;
}

static void declare(struct rabbit *r, struct port_call *call)
{
    amqp_table_entry_t entry = {.key = amqp_cstring_bytes("x-queue-type")};
    entry.value.kind = AMQP_FIELD_KIND_UTF8;
    entry.value.value.bytes = amqp_cstring_bytes("quorum");
    amqp_table_t table = {1, &entry};
    amqp_queue_declare(r->admin, CHANNEL, amqp_cstring_bytes(call->queue), 0, 1, 0, 0, table);
    end_later(r, call, went_well(r->admin) ? PORT_DONE : PORT_REFUSED);
}

static void count(struct rabbit *r, struct port_call *call)
{
    /* The count follows the confirms a moment later. */
    usleep(500000);
    amqp_queue_declare_ok_t *ok = amqp_queue_declare(
        r->admin, CHANNEL, amqp_cstring_bytes(call->queue), 1, 1, 0, 0, amqp_empty_table);
    call->visible = ok != NULL ? ok->message_count : 0;
    end_later(r, call, went_well(r->admin) ? PORT_DONE : PORT_REFUSED);
}

static void destroy(struct rabbit *r, struct port_call *call)
{
    amqp_queue_delete(r->admin, CHANNEL, amqp_cstring_bytes(call->queue), 0, 0);
    end_later(r, call, went_well(r->admin) ? PORT_DONE : PORT_REFUSED);
}

static void send(struct rabbit *r, struct port_call *call)
{
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
                                          .delivery_mode = 2};
    struct slice body = call->items[0].body;
    amqp_bytes_t bytes = {body.length, (void *)(uintptr_t)body.data};
    ASSERT(call->count == 1);
    (void)unacked_add(&r->unacked, call);
    (void)amqp_basic_publish(r->sends, CHANNEL, amqp_empty_bytes, amqp_cstring_bytes(call->queue),
                             0, 0, &properties, bytes);
}

static void consume(struct rabbit *r, const char *queue)
{
    amqp_basic_qos(r->reads, CHANNEL, 0, PEER_PREFETCH, 0);
    amqp_basic_consume(r->reads, CHANNEL, amqp_cstring_bytes(queue), amqp_empty_bytes, 0, 0, 0,
                       amqp_empty_table);
    r->consuming = went_well(r->reads);
}

static void receive(struct rabbit *r, struct port_call *call)
{
    if (!r->consuming)
        consume(r, call->queue);
    inbox_wait(&r->inbox, call);
}

static void delete (struct rabbit *r, struct port_call *call)
{
    bool good = true;
    for (uint32_t i = 0; i < call->count; i++) {
        uint64_t tag;
        memcpy(&tag, call->items[i].handle.data, sizeof tag);
        good &= amqp_basic_ack(r->reads, CHANNEL, tag, 0) == AMQP_STATUS_OK;
    }
    end_later(r, call, good ? PORT_DONE : PORT_UNKNOWN);
}

static void (*const calls[])(struct rabbit *r, struct port_call *call) = {
    [PORT_CREATE] = declare, [PORT_DESTROY] = destroy, [PORT_COUNT] = count,
    [PORT_SEND] = send,      [PORT_RECEIVE] = receive, [PORT_DELETE] = delete,
};

static void rabbit_call(struct port *port, struct port_call *call)
{
    calls[call->kind]((struct rabbit *)(void *)port, call);
}

static void take_ack(struct rabbit *r, uint64_t tag, bool multiple, enum port_end end)
{
    for (uint64_t i = multiple ? r->unacked.low : tag; i <= tag; i++) {
        struct port_call *call = unacked_end(&r->unacked, i);
        if (call == NULL)
            continue;
        r->called_back++;
        peer_done(call, end, end == PORT_DONE ? "" : "nack");
    }
}

static void take_confirms(struct rabbit *r)
{
    amqp_frame_t frame;
    struct timeval now = {0, 0};
    amqp_maybe_release_buffers(r->sends);
    while (amqp_simple_wait_frame_noblock(r->sends, &frame, &now) == AMQP_STATUS_OK) {
        if (frame.frame_type != AMQP_FRAME_METHOD)
            continue;
        if (frame.payload.method.id == AMQP_BASIC_ACK_METHOD) {
            const amqp_basic_ack_t *ack = frame.payload.method.decoded;
            take_ack(r, ack->delivery_tag, ack->multiple, PORT_DONE);
        } else if (frame.payload.method.id == AMQP_BASIC_NACK_METHOD) {
            const amqp_basic_nack_t *nack = frame.payload.method.decoded;
            take_ack(r, nack->delivery_tag, nack->multiple, PORT_REFUSED);
        }
        amqp_maybe_release_buffers(r->sends);
    }
}

static void take_deliveries(struct rabbit *r)
{
    struct timeval now = {0, 0};
    amqp_envelope_t envelope;
    for (;;) {
        amqp_maybe_release_buffers(r->reads);
        if (amqp_consume_message(r->reads, &envelope, &now, 0).reply_type != AMQP_RESPONSE_NORMAL)
            return;
        inbox_put(&r->inbox, slice_make(envelope.message.body.bytes, envelope.message.body.len),
                  slice_make(&envelope.delivery_tag, sizeof envelope.delivery_tag));
        amqp_destroy_envelope(&envelope);
    }
}

static void call_back(struct rabbit *r)
{
    while (r->ended != NULL) {
        struct port_call *call = r->ended;
        r->ended = call->next;
        r->called_back++;
        peer_done(call, call->end, "");
    }
}

static bool has_more(amqp_connection_state_t c)
{
    return amqp_frames_enqueued(c) || amqp_data_in_buffer(c);
}

static uint32_t rabbit_run(struct port *port, uint32_t timeout_ms)
{
    struct rabbit *r = (struct rabbit *)(void *)port;
    r->called_back = inbox_serve(&r->inbox);
    call_back(r);
    struct pollfd fds[] = {{amqp_get_sockfd(r->sends), POLLIN, 0},
                           {amqp_get_sockfd(r->reads), POLLIN, 0}};
    bool now = r->called_back > 0 || has_more(r->sends) || has_more(r->reads);
    (void)poll(fds, 2, now ? 0 : (int)timeout_ms);
    if (fds[0].revents != 0 || has_more(r->sends))
        take_confirms(r);
    if (r->consuming && (fds[1].revents != 0 || has_more(r->reads)))
        take_deliveries(r);
    r->called_back += inbox_serve(&r->inbox);
    return r->called_back;
}

static int rabbit_fd(const struct port *port)
{
    return ((const struct rabbit *)(const void *)port)->epoll;
}

static void rabbit_close(struct port *port)
{
    struct rabbit *r = (struct rabbit *)(void *)port;
    amqp_destroy_connection(r->admin);
    amqp_destroy_connection(r->sends);
    amqp_destroy_connection(r->reads);
    close(r->epoll);
    inbox_free(&r->inbox);
    unacked_free(&r->unacked);
    free(r);
}

static const struct port_ops ops = {rabbit_call, rabbit_run, rabbit_fd, rabbit_close};

static amqp_connection_state_t connect_to(struct rabbit *r, const char *address)
{
    char host[128];
    const char *colon = strrchr(address, ':');
    amqp_connection_state_t c = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(c);
    snprintf(host, sizeof host, "%.*s", (int)(colon - address), address);
    if (amqp_socket_open(socket, host, (int)strtol(colon + 1, NULL, 10)) != AMQP_STATUS_OK ||
        amqp_login(c, "/", 0, FRAME_BYTES, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest")
                .reply_type != AMQP_RESPONSE_NORMAL)
        return NULL;
    amqp_channel_open(c, CHANNEL);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(r->epoll, EPOLL_CTL_ADD, amqp_get_sockfd(c), &event);
    return went_well(c) ? c : NULL;
}

struct port *rabbit_port(const char *hosts)
{
    char first[128];
    struct rabbit *r = calloc(1, sizeof *r);
    ASSERT(r != NULL);
    peer_first(hosts, first, sizeof first);
    r->port.ops = &ops;
    r->epoll = epoll_create1(EPOLL_CLOEXEC);
    r->admin = connect_to(r, first);
    r->sends = connect_to(r, first);
    r->reads = connect_to(r, first);
    unacked_init(&r->unacked);
    if (r->admin == NULL || r->sends == NULL || r->reads == NULL)
        return NULL;
    amqp_confirm_select(r->sends, CHANNEL);
    return went_well(r->sends) ? &r->port : NULL;
}
