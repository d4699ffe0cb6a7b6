/* SPDX-License-Identifier: Apache-2.0 */
/* Several transports on one loop over loopback sockets, what each was told, and a raw client that
 * can say anything. */
#ifndef TESTS_UNIT_PEER_WORLD_H
#define TESTS_UNIT_PEER_WORLD_H

#include "broker/peer/frame.h"
#include "broker/peer/tcp.h"
#include "proto/base/arena.h"
#include "proto/base/assert.h"
#include "proto/base/bytes.h"
#include "proto/base/clock.h"
#include "tests/unit/tls/credentials.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_MS   10000 /* only a failing test waits this long */
#define CHANNEL   7
#define NODES_MAX 8

struct node {
    struct world *world;
    uint64_t id;
    struct peers *peers;
    bool closed;
    unsigned ups[NODES_MAX], downs[NODES_MAX];
    unsigned messages;
    uint64_t message_bytes;
    uint64_t last[NODES_MAX]; /* of numbered messages, by sender */
    bool out_of_order;
    struct buffer kept; /* the last message */
    unsigned learned;
    uint8_t learned_id[PEER_ID_BYTES];
    void (*on_message)(struct node *node, uint64_t from, struct slice message);
};

struct world {
    uv_loop_t loop;
    struct node nodes[NODES_MAX]; /* by id */
    struct credentials credentials;
    struct tls_context *tls; /* of all nodes; NULL: plain */
    unsigned sends_ok, sends_unavailable, sends_busy, sends_closed;
};

/* One message with a number in front of `body`. */
struct letter {
    struct peer_send send;
    struct world *world;
    uint8_t number[8];
    struct iovec parts[3];
    enum status status;
    bool done;
};

#define WAIT_FOR(w, condition)                                                                     \
    do {                                                                                           \
        uint64_t until_ = clock_monotonic_ns() + WAIT_MS * 1000000ull;                             \
        while (!(condition)) {                                                                     \
            if (clock_monotonic_ns() > until_)                                                     \
                fail_msg("timed out waiting for %s", #condition);                                  \
            uv_run(&(w)->loop, UV_RUN_NOWAIT);                                                     \
            if (!(condition))                                                                      \
                usleep(200);                                                                       \
        }                                                                                          \
    } while (0)

/* Let time pass. */
static inline void world_run(struct world *w, unsigned ms)
{
    uint64_t until = clock_monotonic_ns() + ms * 1000000ull;
    while (clock_monotonic_ns() < until) {
        uv_run(&w->loop, UV_RUN_NOWAIT);
        usleep(200);
    }
}

static inline void on_message(void *data, uint64_t from, struct slice message)
{
    struct node *node = data;
    node->messages++;
    node->message_bytes += message.length;
    if (message.length >= 8) {
        uint64_t number = bytes_get_u64(message.data);
        node->out_of_order = node->out_of_order || number != node->last[from] + 1;
        node->last[from] = number;
    }
    buffer_clear(&node->kept);
    buffer_add_slice(&node->kept, message);
    if (node->on_message != NULL)
        node->on_message(node, from, message);
}

static inline void on_connection(void *data, uint64_t from, bool up)
{
    struct node *node = data;
    ASSERT(from < NODES_MAX);
    if (up)
        node->ups[from]++;
    else
        node->downs[from]++;
    ASSERT(node->ups[from] - node->downs[from] <= 1); /* up and down take turns */
    ASSERT(peers_connected(node->peers, from) == up);
}

static inline void on_learned(void *data, uint64_t node_id, const uint8_t id[PEER_ID_BYTES])
{
    struct node *node = data;
    node->learned++;
    if (node_id == 0)
        memcpy(node->learned_id, id, PEER_ID_BYTES);
}

static inline struct peers_tcp_options node_defaults(struct world *w, uint64_t id)
{
    return (struct peers_tcp_options){.loop = &w->loop,
                                      .node_id = id,
                                      .tls = w->tls,
                                      .host = "127.0.0.1",
                                      .cluster_id = {9, 9},
                                      .data_id = {(uint8_t)id},
                                      .feature_level = 1,
                                      .learned = on_learned,
                                      .data = &w->nodes[id]};
}

static inline struct node *node_open_as(struct world *w, const struct peers_tcp_options *options)
{
    struct node *node = &w->nodes[options->node_id];
    buffer_free(&node->kept);
    *node = (struct node){.world = w, .id = options->node_id};
    enum status status = peers_tcp_open(&node->peers, options);
    assert_int_equal(status, STATUS_OK);
    struct peer_handler handler = {on_message, on_connection, node};
    peers_handle(node->peers, CHANNEL, &handler);
    return node;
}

static inline struct node *node_open(struct world *w, uint64_t id)
{
    struct peers_tcp_options options = node_defaults(w, id);
    return node_open_as(w, &options);
}

static inline void on_node_closed(void *data)
{
    struct node *node = data;
    node->closed = true;
    node->peers = NULL;
}

static inline void node_close(struct node *node)
{
    if (node->peers == NULL)
        return;
    peers_tcp_close(node->peers, on_node_closed, node);
    WAIT_FOR(node->world, node->closed);
}

/* `from` keeps a connection to `to` from now on. */
static inline void know(struct node *from, struct node *to)
{
    char address[32];
    snprintf(address, sizeof address, "127.0.0.1:%u", peers_tcp_port(to->peers));
    peers_set_address(from->peers, to->id, address);
}

static inline void letter_done(struct peer_send *send, enum status status)
{
    struct letter *letter = send->data;
    assert_false(letter->done);
    letter->done = true;
    letter->status = status;
    struct world *w = letter->world;
    w->sends_ok += status == STATUS_OK;
    w->sends_unavailable += status == STATUS_UNAVAILABLE;
    w->sends_busy += status == STATUS_BUSY;
    w->sends_closed += status == STATUS_CLOSED;
}

/* The body may be NULL. Letters are not reused. */
static inline void letter_send(struct letter *letter, struct node *from, uint64_t to,
                               uint64_t number, struct slice body)
{
    *letter = (struct letter){.world = from->world};
    bytes_put_u64(letter->number, number);
    letter->parts[0] = (struct iovec){letter->number, 3};
    letter->parts[1] = (struct iovec){letter->number + 3, 5};
    letter->parts[2] = (struct iovec){(void *)(uintptr_t)body.data, body.length};
    letter->send = (struct peer_send){
        .parts = letter->parts, .part_count = 3, .done = letter_done, .data = letter};
    peers_send(from->peers, to, CHANNEL, &letter->send);
    assert_false(letter->done); /* never within the call */
}

static inline struct peer_about about(struct node *node, uint64_t other)
{
    struct peer_about out = {0};
    if (!peers_tcp_node(node->peers, other, &out))
        out.address = NULL;
    return out;
}

static inline int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    uv_loop_init(&w->loop);
#ifdef OVER_TLS
    credentials_make(&w->credentials);
    w->tls = credentials_open(&w->credentials, &w->loop, TLS_ROLE_BROKER, TLS_ROLE_BROKER);
#endif
    *state = w;
    return 0;
}

static inline int teardown(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < NODES_MAX; i++) {
        node_close(&w->nodes[i]);
        buffer_free(&w->nodes[i].kept);
    }
    if (w->tls != NULL)
        tls_context_close(w->tls, NULL, NULL);
    credentials_remove(&w->credentials);
    WAIT_FOR(w, !uv_loop_alive(&w->loop));
    assert_int_equal(uv_loop_close(&w->loop), 0);
    free(w);
    return 0;
}

/* ---- a raw client ---- */

static inline int raw_connect(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static inline void raw_write(int fd, struct slice bytes)
{
    assert_int_equal(write(fd, bytes.data, bytes.length), bytes.length);
}

static inline void raw_frame(int fd, uint8_t kind, struct slice payload)
{
    uint8_t header[PEER_FRAME_HEADER_BYTES];
    peer_frame_encode(header,
                      &(struct peer_frame){.length = (uint32_t)payload.length, .kind = kind});
    raw_write(fd, slice_make(header, sizeof header));
    if (payload.length > 0)
        raw_write(fd, payload);
}

static inline void raw_hello(int fd, const struct hello *hello)
{
    struct buffer payload = {0};
    hello_encode(&payload, hello);
    raw_frame(fd, PEER_FRAME_HELLO, buffer_slice(&payload));
    buffer_free(&payload);
}

static inline struct hello raw_identity(uint64_t id, uint64_t to, uint64_t boot)
{
    return (struct hello){.version_min = 1,
                          .version_max = 1,
                          .feature_level = 1,
                          .cluster_id = {9, 9},
                          .node_id = id,
                          .to_node_id = to,
                          .boot = boot};
}

/* The next frame's kind, or -1 at the end of the stream, or -2 while nothing comes within `ms`. */
static inline int raw_read(struct world *w, int fd, unsigned ms, struct buffer *payload)
{
    uint64_t until = clock_monotonic_ns() + ms * 1000000ull;
    uint8_t header[PEER_FRAME_HEADER_BYTES];
    size_t have = 0, want = sizeof header;
    buffer_clear(payload);
    while (clock_monotonic_ns() < until) {
        uint8_t *at = have < sizeof header ? header + have : buffer_reserve(payload, want - have);
        size_t room = have < sizeof header ? sizeof header - have : want - have;
        ssize_t count = room > 0 ? read(fd, at, room) : 0;
        if (room > 0 && (count == 0 || (count < 0 && errno != EAGAIN)))
            return -1;
        if (count > 0 && have >= sizeof header)
            buffer_added(payload, (size_t)count);
        have += count > 0 ? (size_t)count : 0;
        if (have == sizeof header)
            want = sizeof header + bytes_get_u32(header);
        if (have >= sizeof header && have == want)
            return header[6];
        uv_run(&w->loop, UV_RUN_NOWAIT);
        usleep(200);
    }
    return -2;
}

#endif
