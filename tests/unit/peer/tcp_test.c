/* SPDX-License-Identifier: Apache-2.0 */
/* Transports between nodes: order, size, bounds, who may connect, and every way to end. Built
 * twice: with OVER_TLS the nodes speak TLS, and what a raw client shows in the clear is left out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/peer/world.h"

static void connect_pair(struct world *w, struct node **a, struct node **b)
{
    *a = node_open(w, 1);
    *b = node_open(w, 2);
    know(*a, *b);
    know(*b, *a);
    WAIT_FOR(w, peers_connected((*a)->peers, 2) && peers_connected((*b)->peers, 1));
}

static void test_order(void **state)
{
    struct world *w = *state;
    struct node *a, *b;
    enum { COUNT = 20000 };
    connect_pair(w, &a, &b);
    struct letter *letters = calloc(2 * COUNT, sizeof *letters);
    for (unsigned i = 0; i < COUNT; i++) {
        letter_send(&letters[2 * i], a, 2, i + 1, slice_make("x", i % 2));
        letter_send(&letters[2 * i + 1], b, 1, i + 1, SLICE_LITERAL("some more bytes"));
        if (i % 100 == 0)
            uv_run(&w->loop, UV_RUN_NOWAIT);
    }
    WAIT_FOR(w, a->messages == COUNT && b->messages == COUNT);
    WAIT_FOR(w, w->sends_ok == 2 * COUNT);
    assert_false(a->out_of_order);
    assert_false(b->out_of_order);
    assert_int_equal(about(a, 2).messages_out, COUNT);
    assert_int_equal(about(b, 1).messages_in, COUNT);
    free(letters);
}

static void test_large(void **state)
{
    struct world *w = *state;
    struct node *a, *b;
    connect_pair(w, &a, &b);
    size_t length = PEER_MESSAGE_BYTES_MAX - 8;
    uint8_t *body = malloc(length);
    for (size_t i = 0; i < length; i++)
        body[i] = (uint8_t)(i * 2654435761u >> 13);
    struct letter letters[3];
    letter_send(&letters[0], a, 2, 1, SLICE_LITERAL(""));
    letter_send(&letters[1], a, 2, 2, SLICE_LITERAL("between"));
    WAIT_FOR(w, letters[1].done);
    letter_send(&letters[2], a, 2, 3, slice_make(body, length));
    WAIT_FOR(w, b->messages == 3);
    assert_int_equal(b->kept.length, PEER_MESSAGE_BYTES_MAX);
    assert_memory_equal(b->kept.data + 8, body, length);
    assert_false(b->out_of_order);
    WAIT_FOR(w, letters[2].done);
    assert_int_equal(w->sends_ok, 3);
    free(body);
}

static void test_no_connection(void **state)
{
    struct world *w = *state;
    struct node *a = node_open(w, 1);
    struct letter letters[2];
    letter_send(&letters[0], a, 2, 1, SLICE_LITERAL("to nobody"));
    peers_set_address(a->peers, 2, "127.0.0.1:1"); /* nothing listens there */
    letter_send(&letters[1], a, 2, 1, SLICE_LITERAL("not yet"));
    WAIT_FOR(w, w->sends_unavailable == 2);
    WAIT_FOR(w, about(a, 2).failed == STATUS_CLOSED);
    assert_false(peers_connected(a->peers, 2));
    peers_set_address(a->peers, 2, "no-such-host.invalid:9326");
    WAIT_FOR(w, about(a, 2).failed == STATUS_NOT_FOUND);
}

/* Whichever of the two dial, and however their attempts meet: one connection, told once. */
static void test_both_dial_without_flapping(void **state)
{
    struct world *w = *state;
    for (unsigned round = 0; round < 24; round++) {
        struct node *a = node_open(w, 1);
        struct node *b = node_open(w, 2);
        struct node *c = node_open(w, 3);
        know(a, b);
        if (round % 3 == 1)
            world_run(w, round / 3);
        know(b, a);
        know(b, c);
        know(c, b);
        if (round % 3 == 2)
            uv_run(&w->loop, UV_RUN_NOWAIT);
        know(c, a);
        if (round % 2 == 0)
            know(a, c);
        WAIT_FOR(w, a->ups[2] && a->ups[3] && b->ups[1] && b->ups[3] && c->ups[1] && c->ups[2]);
        world_run(w, 60);
        for (unsigned i = 1; i <= 3; i++) {
            for (unsigned j = 1; j <= 3; j++) {
                assert_int_equal(w->nodes[i].ups[j], i != j);
                assert_int_equal(w->nodes[i].downs[j], 0);
            }
        }
        node_close(a);
        node_close(b);
        node_close(c);
    }
}

static void test_reconnect(void **state)
{
    struct world *w = *state;
    struct node *a, *b;
    connect_pair(w, &a, &b);
    uint16_t port = peers_tcp_port(b->peers);
    node_close(b);
    WAIT_FOR(w, a->downs[2] == 1);
    struct peers_tcp_options options = node_defaults(w, 2);
    options.port = port;
    b = node_open_as(w, &options);
    WAIT_FOR(w, a->ups[2] == 2 && b->ups[1] == 1);
    struct letter letter;
    letter_send(&letter, a, 2, 1, SLICE_LITERAL("again"));
    WAIT_FOR(w, b->messages == 1);
    assert_int_equal(about(a, 2).connections, 2);
}

static void test_address_changes(void **state)
{
    struct world *w = *state;
    struct node *a, *b;
    connect_pair(w, &a, &b);
    node_close(b);
    b = node_open(w, 2); /* elsewhere, and it does not know where the other is */
    know(a, b);
    WAIT_FOR(w, a->ups[2] == 2 && b->ups[1] == 1);
    peers_set_address(a->peers, 2, NULL);
    assert_false(peers_connected(a->peers, 2));
    assert_int_equal(a->downs[2], 1); /* not within the call */
    WAIT_FOR(w, a->downs[2] == 2 && b->downs[1] == 1);
    world_run(w, 300);
    assert_int_equal(a->ups[2], 2);
}

/* A node that moved finds the others by itself, while they look for it at its old place. */
static void test_moved_node_dials(void **state)
{
    struct world *w = *state;
    struct node *a, *b;
    connect_pair(w, &a, &b);
    node_close(b);
    b = node_open(w, 2);
    know(b, a);
    WAIT_FOR(w, a->ups[2] == 2 && b->ups[1] == 1);
}

static void test_ipv6(void **state)
{
    struct world *w = *state;
    struct peers_tcp_options options = node_defaults(w, 1);
    options.host = "::1";
    struct node *a = node_open_as(w, &options);
    struct node *b = node_open(w, 2);
    char address[32];
    snprintf(address, sizeof address, "[::1]:%u", peers_tcp_port(a->peers));
    peers_set_address(b->peers, 1, address);
    WAIT_FOR(w, a->ups[2] == 1 && b->ups[1] == 1);
}

/* The member list has an address where nobody is, or somebody else: others that are known are tried
 * in turn. */
static void test_spare_addresses(void **state)
{
    struct world *w = *state;
    struct node *a = node_open(w, 1);
    struct node *b = node_open(w, 2);
    struct node *c = node_open(w, 3);
    char wrong[32], right[32];
    snprintf(wrong, sizeof wrong, "127.0.0.1:%u", peers_tcp_port(c->peers));
    snprintf(right, sizeof right, "127.0.0.1:%u", peers_tcp_port(b->peers));
    peers_tcp_set_spare(a->peers, 2, PEER_SPARE_RECORDED, right);
    peers_tcp_set_spare(a->peers, 2, PEER_SPARE_GIVEN, wrong);
    world_run(w, 300);
    assert_int_equal(a->ups[2], 0); /* nobody asked for it */
    peers_set_address(a->peers, 2, "127.0.0.1:1");
    WAIT_FOR(w, a->ups[2] == 1 && b->ups[1] == 1);
    assert_int_equal(a->ups[3], 0);
}

static void test_what_others_tell(void **state)
{
    struct world *w = *state;
    struct peers_tcp_options options = node_defaults(w, 2);
    options.feature_level = 5;
    options.version = "9.9";
    struct node *a = node_open(w, 1);
    struct node *b = node_open_as(w, &options);
    peers_tcp_advertise(b->peers, "two:9326", "two:9324", "two:9325");
    know(a, b);
    WAIT_FOR(w, a->ups[2] == 1 && b->ups[1] == 1);
    struct peer_about two = about(a, 2);
    assert_true(two.connected);
    assert_string_equal(two.peer, "two:9326");
    assert_string_equal(two.http, "two:9324");
    assert_string_equal(two.rpc, "two:9325");
    assert_int_equal(two.feature_level, 5);
    assert_string_equal(two.version, "9.9");
    assert_int_equal(about(b, 1).feature_level, 1);
    assert_string_equal(about(b, 1).rpc, "");
    assert_true(two.wall_ahead_ms > -1000 && two.wall_ahead_ms < 1000);
    assert_int_equal(a->learned, 1);
    uint64_t ids[4];
    assert_int_equal(peers_tcp_nodes(a->peers, ids, 4), 1);
    assert_int_equal(ids[0], 2);
}

/* ---- who may not connect ---- */

static void expect_refusal(struct world *w, struct node *a, struct node *b, enum refusal why)
{
    WAIT_FOR(w, about(a, b->id).refused == why);
    world_run(w, 200);
    assert_int_equal(a->ups[b->id] + b->ups[a->id], 0);
}

static void test_wrong_cluster(void **state)
{
    struct world *w = *state;
    struct peers_tcp_options options = node_defaults(w, 2);
    options.cluster_id[0] = 1;
    struct node *a = node_open(w, 1);
    struct node *b = node_open_as(w, &options);
    know(a, b);
    know(b, a);
    expect_refusal(w, a, b, REFUSAL_CLUSTER);
    assert_int_equal(about(b, 1).refused, REFUSAL_CLUSTER);
}

static void test_joining_takes_the_cluster_over(void **state)
{
    struct world *w = *state;
    struct peers_tcp_options options = node_defaults(w, 2);
    memset(options.cluster_id, 0, PEER_ID_BYTES);
    struct node *a = node_open(w, 1);
    struct node *b = node_open_as(w, &options);
    know(b, a);
    WAIT_FOR(w, a->ups[2] == 1 && b->ups[1] == 1);
    static const uint8_t id[PEER_ID_BYTES] = {9, 9};
    assert_memory_equal(b->learned_id, id, PEER_ID_BYTES);
    options = node_defaults(w, 3);
    options.cluster_id[0] = 1;
    struct node *c = node_open_as(w, &options);
    know(b, c);
    expect_refusal(w, b, c, REFUSAL_CLUSTER); /* it has one now */
}

static void test_wrong_node(void **state)
{
    struct world *w = *state;
    struct node *a = node_open(w, 1);
    struct node *b = node_open(w, 2);
    char address[32];
    snprintf(address, sizeof address, "127.0.0.1:%u", peers_tcp_port(b->peers));
    peers_set_address(a->peers, 3, address);
    WAIT_FOR(w, about(a, 3).refused == REFUSAL_NODE);
    snprintf(address, sizeof address, "127.0.0.1:%u", peers_tcp_port(a->peers));
    peers_set_address(a->peers, 4, address);
    WAIT_FOR(w, about(a, 4).refused == REFUSAL_SELF);
    world_run(w, 300);
    for (unsigned i = 0; i < NODES_MAX; i++)
        assert_int_equal(a->ups[i] + b->ups[i], 0);
}

static void test_lost_data(void **state)
{
    struct world *w = *state;
    struct node *a, *b;
    connect_pair(w, &a, &b);
    node_close(b);
    struct peers_tcp_options options = node_defaults(w, 2);
    options.data_id[5] = 1;
    b = node_open_as(w, &options);
    know(b, a);
    WAIT_FOR(w, about(b, 1).refused == REFUSAL_DATA);
    world_run(w, 100);
    assert_int_equal(a->ups[2], 1);
    node_close(b);
    b = node_open(w, 2);
    know(b, a);
    WAIT_FOR(w, a->ups[2] == 2);
}

/* Two processes with one id do not push each other out. */
static void test_id_in_use(void **state)
{
    struct world *w = *state;
    struct node *a, *b;
    connect_pair(w, &a, &b);
    struct peers_tcp_options options = node_defaults(w, 2);
    options.data_id[5] = 1;
    struct peers *twin;
    options.data = &w->nodes[5];
    assert_int_equal(peers_tcp_open(&twin, &options), STATUS_OK);
    char address[32];
    snprintf(address, sizeof address, "127.0.0.1:%u", peers_tcp_port(a->peers));
    peers_set_address(twin, 1, address);
    struct peer_about seen = {0};
    WAIT_FOR(w, peers_tcp_node(twin, 1, &seen) && seen.refused == REFUSAL_DATA);
    assert_int_equal(a->downs[2], 0);
    struct node closing = {.world = w, .peers = twin};
    node_close(&closing);
}

static void test_features(void **state)
{
    struct world *w = *state;
    struct peers_tcp_options options = node_defaults(w, 2);
    options.feature_level = options.feature_level_min = 2;
    struct node *a = node_open(w, 1);
    struct node *b = node_open_as(w, &options);
    know(a, b);
    know(b, a);
    expect_refusal(w, a, b, REFUSAL_FEATURES);
    assert_int_equal(about(a, 2).feature_level_min, 2); /* whoever refused: both can say why */
    assert_int_equal(about(b, 1).feature_level, 1);
}

/* The cluster begins to use a level that one that was here does not know: it does not come back. */
static void test_features_rise(void **state)
{
    struct world *w = *state;
    struct peers_tcp_options options = node_defaults(w, 2);
    options.feature_level = 2;
    struct node *a = node_open(w, 1);
    struct node *b = node_open_as(w, &options);
    know(b, a);
    WAIT_FOR(w, a->ups[2] == 1 && b->ups[1] == 1);
    peers_tcp_set_level(b->peers, 2);
    peers_set_address(b->peers, 1, NULL);
    WAIT_FOR(w, b->downs[1] == 1);
    know(b, a);
    WAIT_FOR(w, about(a, 2).refused == REFUSAL_FEATURES);
    assert_int_equal(a->ups[2], 1);
}

#ifndef OVER_TLS

/* A refused node does not dial in a tight loop. */
static void test_refused_waits(void **state)
{
    struct world *w = *state;
    struct node *a = node_open(w, 1);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(listener, 16), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    assert_int_equal(fcntl(listener, F_SETFL, O_NONBLOCK), 0);
    char text[32];
    snprintf(text, sizeof text, "127.0.0.1:%u", ntohs(address.sin_port));
    peers_set_address(a->peers, 2, text);
    unsigned attempts = 0;
    struct buffer refused = {0};
    refused_encode(&refused, &(struct refused){.why = REFUSAL_CLUSTER, .node_id = 2});
    uint64_t until = clock_monotonic_ns() + 1500 * 1000000ull;
    while (clock_monotonic_ns() < until) {
        uv_run(&w->loop, UV_RUN_NOWAIT);
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0) {
            attempts++;
            raw_frame(fd, PEER_FRAME_REFUSED, buffer_slice(&refused));
            world_run(w, 20);
            close(fd);
        }
        usleep(500);
    }
    assert_int_equal(attempts, 1);
    assert_int_equal(about(a, 2).refused, REFUSAL_CLUSTER);
    buffer_free(&refused);
    close(listener);
}

/* ---- strange bytes ---- */

static void test_garbage(void **state)
{
    struct world *w = *state;
    struct node *a, *b;
    connect_pair(w, &a, &b);
    static const struct slice noise[] = {
        SLICE_LITERAL("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        SLICE_LITERAL("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        SLICE_LITERAL("12345678901234567890"),
    };
    struct buffer payload = {0};
    for (size_t i = 0; i < ARRAY_COUNT(noise); i++) {
        int fd = raw_connect(peers_tcp_port(a->peers));
        raw_write(fd, noise[i]);
        struct refused refused;
        assert_int_equal(raw_read(w, fd, WAIT_MS, &payload), PEER_FRAME_REFUSED);
        assert_true(refused_decode(buffer_slice(&payload), &refused));
        assert_int_equal(refused.why, REFUSAL_MALFORMED);
        assert_int_equal(raw_read(w, fd, WAIT_MS, &payload), -1);
        close(fd);
    }
    int fd = raw_connect(peers_tcp_port(a->peers)); /* a header of a large greeting is enough */
    uint8_t header[PEER_FRAME_HEADER_BYTES];
    peer_frame_encode(header, &(struct peer_frame){.length = 1u << 20, .kind = PEER_FRAME_HELLO});
    raw_write(fd, slice_make(header, sizeof header));
    assert_int_equal(raw_read(w, fd, WAIT_MS, &payload), PEER_FRAME_REFUSED);
    close(fd);
    buffer_free(&payload);
    assert_int_equal(a->downs[2], 0);
}

/* What comes before the greeting, or at the wrong time, ends the connection. */
static void test_out_of_turn(void **state)
{
    struct world *w = *state;
    struct node *b = node_open(w, 2);
    struct buffer payload = {0};
    for (uint8_t kind = PEER_FRAME_MESSAGE; kind <= PEER_FRAME_HEARTBEAT; kind++) {
        if (kind == PEER_FRAME_HELLO)
            continue;
        int fd = raw_connect(peers_tcp_port(b->peers));
        raw_frame(fd, kind, SLICE_LITERAL("12345678"));
        int got = raw_read(w, fd, WAIT_MS, &payload);
        assert_true(got == PEER_FRAME_REFUSED || got == -1);
        close(fd);
        fd = raw_connect(peers_tcp_port(b->peers));
        struct hello hello = raw_identity(1, 2, 77);
        raw_hello(fd, &hello);
        assert_int_equal(raw_read(w, fd, WAIT_MS, &payload), PEER_FRAME_HELLO);
        raw_frame(fd, kind, kind == PEER_FRAME_READY ? SLICE_LITERAL("x") : SLICE_LITERAL("12"));
        assert_int_equal(raw_read(w, fd, WAIT_MS, &payload), -1);
        close(fd);
    }
    assert_int_equal(b->ups[1], 0);
    assert_int_equal(b->messages, 0);
    buffer_free(&payload);
}

/* Strangers that say nothing are neither kept for ever nor let in without number. */
static void test_silent_strangers(void **state)
{
    struct world *w = *state;
    struct node *b = node_open(w, 2);
    struct buffer payload = {0};
    int fds[70];
    for (size_t i = 0; i < ARRAY_COUNT(fds); i++) {
        fds[i] = raw_connect(peers_tcp_port(b->peers));
        uv_run(&w->loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(raw_read(w, fds[ARRAY_COUNT(fds) - 1], 1000, &payload), PEER_FRAME_REFUSED);
    assert_int_equal(raw_read(w, fds[0], 100, &payload), -2);
    assert_int_equal(raw_read(w, fds[0], 7000, &payload), -1);
    for (size_t i = 0; i < ARRAY_COUNT(fds); i++)
        close(fds[i]);
    buffer_free(&payload);
}

/* ---- ends that nobody tells ---- */

static int raw_up(struct world *w, struct node *b, uint64_t boot)
{
    struct buffer payload = {0};
    int fd = raw_connect(peers_tcp_port(b->peers));
    struct hello hello = raw_identity(1, b->id, boot);
    raw_hello(fd, &hello);
    assert_int_equal(raw_read(w, fd, WAIT_MS, &payload), PEER_FRAME_HELLO);
    raw_frame(fd, PEER_FRAME_READY, slice_of(NULL));
    buffer_free(&payload);
    return fd;
}

static void test_silence_is_noticed(void **state)
{
    struct world *w = *state;
    struct node *b = node_open(w, 2);
    int fd = raw_up(w, b, 77);
    WAIT_FOR(w, b->ups[1] == 1);
    uint64_t began = clock_monotonic_ns();
    WAIT_FOR(w, b->downs[1] == 1); /* the socket is open all the time */
    uint64_t took_ms = (clock_monotonic_ns() - began) / 1000000;
    assert_true(took_ms >= PEER_SILENCE_MS - 200); /* never sooner; later if the machine is busy */
    assert_int_equal(about(b, 1).failed, STATUS_TIMEOUT);
    close(fd);
}

#endif

/* A node that was stopped itself does not give its peers up for what it has not heard meanwhile. */
static void test_own_pause_is_forgiven(void **state)
{
    struct world *w = *state;
    struct node *a, *b;
    connect_pair(w, &a, &b);
    usleep((PEER_SILENCE_MS + 500) * 1000);
    world_run(w, 300);
    assert_int_equal(a->downs[2] + b->downs[1], 0);
}

#ifndef OVER_TLS

/* The node with the higher id lets a second connection wait until the first turns out dead. */
static void test_second_waits_for_the_first(void **state)
{
    struct world *w = *state;
    struct node *b = node_open(w, 2);
    struct buffer payload = {0};
    int first = raw_up(w, b, 77);
    assert_int_equal(raw_read(w, first, WAIT_MS, &payload), PEER_FRAME_READY);
    int second = raw_up(w, b, 77);
    assert_int_equal(raw_read(w, second, 300, &payload), -2);
    assert_int_equal(b->ups[1], 1);
    close(first);
    assert_int_equal(raw_read(w, second, WAIT_MS, &payload), PEER_FRAME_READY);
    assert_int_equal(b->ups[1], 2);
    assert_int_equal(b->downs[1], 1);
    int third = raw_up(w, b, 78); /* it was started anew: the second one is of a dead process */
    assert_int_equal(raw_read(w, third, WAIT_MS, &payload), PEER_FRAME_READY);
    WAIT_FOR(w, b->ups[1] == 3 && b->downs[1] == 2);
    close(second);
    close(third);
    buffer_free(&payload);
}

static void raw_heartbeat(int fd)
{
    static const uint8_t zeros[8];
    raw_frame(fd, PEER_FRAME_HEARTBEAT, slice_make(zeros, sizeof zeros));
}

/* A peer that is alive but does not read: sends fail beyond the bound, and each ends once. */
static void test_slow_reader(void **state)
{
    struct world *w = *state;
    struct node *b = node_open(w, 2);
    enum { COUNT = 300 };
    int fd = raw_up(w, b, 77);
    WAIT_FOR(w, b->ups[1] == 1);
    size_t length = 256 << 10;
    uint8_t *body = calloc(1, length);
    struct letter *letters = calloc(COUNT, sizeof *letters);
    for (unsigned i = 0; i < COUNT; i++) {
        letter_send(&letters[i], b, 1, i + 1, slice_make(body, length));
        world_run(w, 1);
        if (i % 50 == 0)
            raw_heartbeat(fd);
    }
    assert_true(w->sends_busy > COUNT / 2);
    unsigned taken = COUNT - w->sends_busy;
    size_t kernel = 16u << 20; /* its buffers hold some more */
    assert_true(taken * length <= PEER_UNSENT_BYTES_MAX + kernel);
    assert_true((taken + 1) * length >= PEER_UNSENT_BYTES_MAX);
    close(fd);
    WAIT_FOR(w, w->sends_ok + w->sends_busy + w->sends_closed == COUNT);
    assert_true(w->sends_closed > 0);
    free(letters);
    free(body);
}

#endif

/* One message alone may be larger than the bound. */
static void test_bound_lets_one_pass(void **state)
{
    struct world *w = *state;
    struct node *a, *b;
    connect_pair(w, &a, &b);
    size_t length = PEER_UNSENT_BYTES_MAX + 1;
    uint8_t *body = calloc(1, length);
    struct letter letters[2];
    letter_send(&letters[0], a, 2, 1, slice_make(body, length));
    letter_send(&letters[1], a, 2, 2, SLICE_LITERAL("x"));
    WAIT_FOR(w, letters[0].done && letters[1].done);
    assert_int_equal(letters[0].status, STATUS_OK);
    assert_int_equal(letters[1].status, STATUS_BUSY);
    free(body);
}

static void test_close_ends_sends(void **state)
{
    struct world *w = *state;
    struct node *a, *b;
    connect_pair(w, &a, &b);
    struct letter letters[20];
    static uint8_t body[1 << 20];
    for (unsigned i = 0; i < 7; i++)
        letter_send(&letters[i], a, 2, i + 1, slice_make(body, sizeof body));
    letter_send(&letters[7], a, 5, 1, SLICE_LITERAL("to nobody"));
    peers_tcp_close(a->peers, on_node_closed, a);
    assert_int_equal(w->sends_closed + w->sends_unavailable, 0);
    WAIT_FOR(w, a->closed);
    assert_int_equal(w->sends_ok + w->sends_closed, 7);
    assert_int_equal(w->sends_unavailable, 1);
    WAIT_FOR(w, b->downs[1] == 1);
}

/* A handler may do anything, also end the connection that it is called for. */
static void leave_upon(struct node *node, uint64_t from, struct slice message)
{
    if (message.length == 9)
        peers_set_address(node->peers, from, NULL);
}

static void test_leave_within_a_handler(void **state)
{
    struct world *w = *state;
    struct node *a, *b;
    connect_pair(w, &a, &b);
    b->on_message = leave_upon;
    struct letter letters[50];
    for (unsigned i = 0; i < ARRAY_COUNT(letters); i++)
        letter_send(&letters[i], a, 2, i + 1, slice_make("x", i == 20));
    WAIT_FOR(w, b->downs[1] == 1 && a->downs[2] == 1);
    assert_true(b->messages >= 21);
    WAIT_FOR(w, a->ups[2] == 2); /* the other one still wants it */
}

static void test_address_in_use(void **state)
{
    struct world *w = *state;
    struct node *a = node_open(w, 1);
    struct peers_tcp_options options = node_defaults(w, 2);
    options.port = peers_tcp_port(a->peers);
    struct peers *peers;
    assert_int_equal(peers_tcp_open(&peers, &options), STATUS_EXISTS);
    options.host = "no-such-host.invalid";
    assert_int_equal(peers_tcp_open(&peers, &options), STATUS_INVALID);
}

#ifdef OVER_TLS

/* A node with another certificate is not let in, and learns that it is the certificate. */
static void refused_by_certificate(struct world *w, const char *role, const char *peer_role)
{
    struct node *a = node_open(w, 1);
    struct peers_tcp_options options = node_defaults(w, 2);
    options.tls = credentials_open(&w->credentials, &w->loop, role, peer_role);
    struct node *b = node_open_as(w, &options);
    know(b, a);
    WAIT_FOR(w, about(b, 1).failed == STATUS_PERMISSION);
    node_close(b);
    b = node_open_as(w, &options);
    know(a, b);
    WAIT_FOR(w, about(a, 2).failed == STATUS_PERMISSION);
    assert_int_equal(a->ups[2] + b->ups[1], 0);
    node_close(b);
    tls_context_close(options.tls, NULL, NULL);
}

static void test_a_worker_is_no_broker(void **state)
{
    refused_by_certificate(*state, TLS_ROLE_WORKER, TLS_ROLE_BROKER);
}

static void test_another_authority(void **state)
{
    struct world *w = *state;
    struct credentials ours = w->credentials;
    credentials_make(&w->credentials);
    refused_by_certificate(w, TLS_ROLE_BROKER, TLS_ROLE_BROKER);
    credentials_remove(&w->credentials);
    w->credentials = ours;
}

static void test_another_host(void **state)
{
    struct world *w = *state;
    struct node *a = node_open(w, 1);
    struct node *b = node_open(w, 2);
    char address[32];
    snprintf(address, sizeof address, "127.0.1:%u", peers_tcp_port(b->peers)); /* 127.0.0.1 */
    peers_set_address(a->peers, 2, address);
    WAIT_FOR(w, about(a, 2).failed == STATUS_PERMISSION);
    assert_int_equal(a->ups[2], 0);
}

/* A node without TLS, on either side. */
static void test_in_the_clear(void **state)
{
    struct world *w = *state;
    struct node *a = node_open(w, 1);
    struct peers_tcp_options options = node_defaults(w, 2);
    options.tls = NULL;
    struct node *b = node_open_as(w, &options);
    know(a, b);
    know(b, a);
    WAIT_FOR(w, about(a, 2).failed != STATUS_OK && about(b, 1).failed != STATUS_OK);
    assert_int_equal(a->ups[2] + b->ups[1], 0);
    int fd = raw_connect(peers_tcp_port(a->peers));
    struct hello hello = raw_identity(2, 1, 77);
    struct buffer answer = {0};
    raw_hello(fd, &hello);
    int kind = raw_read(w, fd, 7000, &answer);
    assert_true(kind != PEER_FRAME_HELLO && kind != PEER_FRAME_READY);
    buffer_free(&answer);
    close(fd);
}

#endif

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_order),
        TEST(test_large),
        TEST(test_no_connection),
        TEST(test_both_dial_without_flapping),
        TEST(test_reconnect),
        TEST(test_address_changes),
        TEST(test_moved_node_dials),
        TEST(test_ipv6),
        TEST(test_spare_addresses),
        TEST(test_what_others_tell),
        TEST(test_wrong_cluster),
        TEST(test_joining_takes_the_cluster_over),
        TEST(test_wrong_node),
        TEST(test_lost_data),
        TEST(test_id_in_use),
        TEST(test_features),
        TEST(test_features_rise),
        TEST(test_own_pause_is_forgiven),
#ifdef OVER_TLS
        TEST(test_a_worker_is_no_broker),
        TEST(test_another_authority),
        TEST(test_another_host),
        TEST(test_in_the_clear),
#else
        TEST(test_refused_waits),
        TEST(test_garbage),
        TEST(test_out_of_turn),
        TEST(test_silent_strangers),
        TEST(test_silence_is_noticed),
        TEST(test_second_waits_for_the_first),
        TEST(test_slow_reader),
#endif
        TEST(test_bound_lets_one_pass),
        TEST(test_close_ends_sends),
        TEST(test_leave_within_a_handler),
        TEST(test_address_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
