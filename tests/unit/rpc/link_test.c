/* SPDX-License-Identifier: Apache-2.0 */
/* Links between two ends in one loop: order, size, flush, and every way to end. Built twice: with
 * OVER_TLS the links speak TLS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/rpc/link.h"
#include "tests/unit/tls/credentials.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_MS 10000 /* only a failing test waits this long */

struct end {
    struct link *link;
    unsigned frames;
    size_t payload_bytes;
    uint64_t last_sequence;
    bool out_of_order;
    unsigned close_at; /* link_close upon this frame; 0: never */
    unsigned closed;
    enum status why;
};

struct world {
    uv_loop_t loop;
    struct link_listener *listener;
    struct credentials credentials;
    struct tls_context *broker_tls; /* NULL, both: plain */
    struct tls_context *worker_tls;
    struct end client;
    struct end server;
    unsigned accepted;
    unsigned connected;
    unsigned failed;
    enum status failed_why;
    bool listener_closed;
};

static void on_frame(struct link *link, void *data, uint16_t type, struct slice payload)
{
    struct end *end = data;
    assert_ptr_equal(end->link, link);
    end->frames++;
    end->payload_bytes += payload.length;
    if (type == MILLRACE__TYPE__TYPE_HEARTBEAT) {
        Millrace__Heartbeat *message =
            millrace__heartbeat__unpack(NULL, payload.length, payload.data);
        assert_non_null(message);
        end->out_of_order = end->out_of_order || message->sequence != end->last_sequence + 1;
        end->last_sequence = message->sequence;
        millrace__heartbeat__free_unpacked(message, NULL);
    }
    assert_int_equal(end->closed, 0);
    if (end->frames == end->close_at)
        link_close(link);
}

static void on_closed(struct link *link, void *data, enum status why)
{
    struct end *end = data;
    assert_ptr_equal(end->link, link);
    end->closed++;
    end->why = why;
    end->link = NULL;
}

static const struct link_handler handler = {on_frame, on_closed};

static void accepted(struct link *link, void *data)
{
    struct world *w = data;
    w->accepted++;
    w->server = (struct end){.link = link, .close_at = w->server.close_at};
    link_start(link, &handler, &w->server);
    assert_true(strncmp(link_peer(link), "127.0.0.1:", 10) == 0);
}

static void connected(struct link *link, void *data)
{
    struct end *end = data;
    struct world *w = CONTAINER_OF(end, struct world, client);
    w->connected++;
    end->link = link;
}

static void failed(void *data, enum status why)
{
    struct world *w = CONTAINER_OF(data, struct world, client);
    w->failed++;
    w->failed_why = why;
}

static void listener_closed(void *data)
{
    ((struct world *)data)->listener_closed = true;
}

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

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    uv_loop_init(&w->loop);
    assert_int_equal(link_listen(&w->listener, &w->loop, "127.0.0.1", 0, accepted, w), STATUS_OK);
#ifdef OVER_TLS
    credentials_make(&w->credentials);
    w->broker_tls = credentials_open(&w->credentials, &w->loop, TLS_ROLE_BROKER, TLS_ROLE_WORKER);
    w->worker_tls = credentials_open(&w->credentials, &w->loop, TLS_ROLE_WORKER, TLS_ROLE_BROKER);
    link_listener_use_tls(w->listener, w->broker_tls);
#endif
    *state = w;
    return 0;
}

static void tls_done(struct tls_context *context)
{
    if (context != NULL)
        tls_context_close(context, NULL, NULL);
}

static int teardown(void **state)
{
    struct world *w = *state;
    link_listener_close(w->listener, listener_closed, w);
    if (w->client.link != NULL)
        link_close(w->client.link);
    if (w->server.link != NULL)
        link_close(w->server.link);
    tls_done(w->broker_tls);
    tls_done(w->worker_tls);
    credentials_remove(&w->credentials);
    WAIT_FOR(w, !uv_loop_alive(&w->loop));
    assert_true(w->listener_closed);
    assert_int_equal(w->client.closed, w->connected);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    free(w);
    return 0;
}

static void pair(struct world *w)
{
    link_connect(&w->loop, "localhost", link_listener_port(w->listener), 5000, w->worker_tls,
                 &handler, &w->client, connected, failed);
    assert_int_equal(w->connected, 0);
    WAIT_FOR(w, w->failed > 0 || (w->connected == 1 && w->accepted == 1));
    assert_int_equal(w->failed, 0);
    assert_non_null(strchr(link_peer(w->client.link), ':'));
}

static enum status send_heartbeat(struct link *link, uint64_t sequence)
{
    Millrace__Heartbeat message = MILLRACE__HEARTBEAT__INIT;
    message.sequence = sequence;
    return link_send(link, MILLRACE__TYPE__TYPE_HEARTBEAT, &message.base);
}

static enum status send_piece(struct link *link, size_t length)
{
    Millrace__CodePiece message = MILLRACE__CODE_PIECE__INIT;
    message.data.data = calloc(1, length);
    message.data.len = length;
    enum status status = link_send(link, MILLRACE__TYPE__TYPE_CODE_PIECE, &message.base);
    free(message.data.data);
    return status;
}

static void test_order_both_ways(void **state)
{
    struct world *w = *state;
    pair(w);
    for (uint64_t i = 1; i <= 5000; i++) {
        assert_int_equal(send_heartbeat(w->client.link, i), STATUS_OK);
        assert_int_equal(send_heartbeat(w->server.link, i), STATUS_OK);
        if (i % 100 == 0)
            uv_run(&w->loop, UV_RUN_NOWAIT);
    }
    WAIT_FOR(w, w->client.frames == 5000 && w->server.frames == 5000);
    assert_false(w->client.out_of_order);
    assert_false(w->server.out_of_order);
}

static void test_large_frames(void **state)
{
    struct world *w = *state;
    pair(w);
    assert_int_equal(send_piece(w->server.link, 8 << 20), STATUS_OK);
    assert_int_equal(send_heartbeat(w->server.link, 1), STATUS_OK);
    assert_int_equal(send_piece(w->server.link, FRAME_BYTES_MAX), STATUS_TOO_LARGE);
    assert_int_equal(send_piece(w->server.link, FRAME_BYTES_MAX - 16), STATUS_OK);
    WAIT_FOR(w, w->client.frames == 3);
    assert_true(w->client.payload_bytes > (8 << 20) + FRAME_BYTES_MAX - 16);
}

/* A peer that does not read: the queue is bounded, and the refusal is not the end. */
static void test_busy(void **state)
{
    struct world *w = *state;
    pair(w);
    unsigned sent = 0;
    enum status status;
    while ((status = send_piece(w->client.link, 4 << 20)) == STATUS_OK)
        assert_true(++sent < 100);
    assert_int_equal(status, STATUS_BUSY);
    assert_true(sent >= 15 && sent <= 18);
    WAIT_FOR(w, w->server.frames == sent);
    assert_int_equal(send_heartbeat(w->client.link, 1), STATUS_OK);
    WAIT_FOR(w, w->server.frames == sent + 1);
}

static void test_close_flushes(void **state)
{
    struct world *w = *state;
    pair(w);
    for (uint64_t i = 1; i <= 3; i++)
        assert_int_equal(send_piece(w->client.link, 2 << 20), STATUS_OK);
    assert_int_equal(send_heartbeat(w->client.link, 1), STATUS_OK);
    assert_int_equal(send_heartbeat(w->server.link, 1), STATUS_OK); /* unread when we close */
    link_close(w->client.link);
    assert_int_equal(w->client.closed, 0);
    assert_int_equal(send_heartbeat(w->client.link, 2), STATUS_CLOSED);
    WAIT_FOR(w, w->client.closed == 1 && w->server.closed == 1);
    assert_int_equal(w->server.frames, 4);
    assert_int_equal(w->client.frames, 0);
    assert_int_equal(w->client.why, STATUS_OK);
    assert_int_equal(w->server.why, STATUS_CLOSED);
}

static void test_close_within_a_frame(void **state)
{
    struct world *w = *state;
    w->server.close_at = 2;
    pair(w);
    for (uint64_t i = 1; i <= 10; i++)
        assert_int_equal(send_heartbeat(w->client.link, i), STATUS_OK);
    WAIT_FOR(w, w->client.closed == 1 && w->server.closed == 1);
    assert_int_equal(w->server.frames, 2);
    assert_int_equal(w->client.why, STATUS_CLOSED);
}

static int raw_connect(struct world *w)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(link_listener_port(w->listener)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    WAIT_FOR(w, w->accepted == 1);
    return fd;
}

static void test_garbage(void **state)
{
    struct world *w = *state;
    int fd = raw_connect(w);
    static const char text[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_int_equal(send(fd, text, sizeof text, MSG_NOSIGNAL), sizeof text);
    WAIT_FOR(w, w->server.closed == 1);
    assert_int_equal(w->server.why, STATUS_INVALID);
    assert_int_equal(w->server.frames, 0);
    close(fd);
}

#ifdef OVER_TLS

/* Come in with a certificate that is not wanted: both ends learn it, and no frame is delivered. */
static void refused(struct world *w, const char *role, const char *peer_role, const char *host)
{
    struct tls_context *tls = credentials_open(&w->credentials, &w->loop, role, peer_role);
    link_connect(&w->loop, host, link_listener_port(w->listener), 5000, tls, &handler, &w->client,
                 connected, failed);
    WAIT_FOR(w, w->connected == 1);
    assert_int_equal(send_heartbeat(w->client.link, 1), STATUS_OK);
    WAIT_FOR(w, w->client.closed == 1 && w->server.closed == 1);
    assert_int_equal(w->server.frames, 0);
    assert_int_equal(w->server.why, STATUS_PERMISSION);
    assert_int_equal(w->client.why, STATUS_PERMISSION);
    tls_context_close(tls, NULL, NULL);
}

static void test_refuses_a_role(void **state)
{
    refused(*state, TLS_ROLE_BROKER, TLS_ROLE_BROKER, "localhost");
}

static void test_refuses_to_talk_to_another_role(void **state)
{
    refused(*state, TLS_ROLE_WORKER, TLS_ROLE_WORKER, "localhost");
}

static void test_refuses_to_talk_to_another_host(void **state)
{
    refused(*state, TLS_ROLE_WORKER, TLS_ROLE_BROKER, "127.0.1"); /* resolves to 127.0.0.1 */
}

static void test_refuses_another_authority(void **state)
{
    struct world *w = *state;
    struct credentials ours = w->credentials;
    credentials_make(&w->credentials);
    refused(w, TLS_ROLE_WORKER, TLS_ROLE_BROKER, "localhost");
    credentials_remove(&w->credentials);
    w->credentials = ours;
}

/* Who never gets to the end of a handshake, and links that are closed in the middle of one. */
static void test_half_handshake(void **state)
{
    struct world *w = *state;
    int fd = raw_connect(w);
    assert_int_equal(send(fd, "\x16\x03\x01\x02", 4, MSG_NOSIGNAL), 4);
    assert_int_equal(send_heartbeat(w->server.link, 1), STATUS_OK);
    link_close(w->server.link);
    WAIT_FOR(w, w->server.closed == 1);
    assert_int_equal(w->server.why, STATUS_OK);
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), 0); /* not a byte in the clear */
    close(fd);
}

#else

static void test_half_frame_then_reset(void **state)
{
    struct world *w = *state;
    int fd = raw_connect(w);
    struct buffer frame = {0};
    Millrace__Heartbeat message = MILLRACE__HEARTBEAT__INIT;
    message.sequence = 1;
    frame_encode(&frame, MILLRACE__TYPE__TYPE_HEARTBEAT, &message.base);
    for (size_t i = 0; i < frame.length; i++) { /* one byte at a time, then half of another */
        send(fd, frame.data + i, 1, MSG_NOSIGNAL);
        uv_run(&w->loop, UV_RUN_NOWAIT);
    }
    send(fd, frame.data, frame.length / 2, MSG_NOSIGNAL);
    WAIT_FOR(w, w->server.frames == 1);
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
    WAIT_FOR(w, w->server.closed == 1);
    assert_int_equal(w->server.why, STATUS_CLOSED);
    buffer_free(&frame);
}

#endif

/* A peer that neither reads nor closes cannot hold up link_close. */
static void test_close_is_bounded(void **state)
{
    struct world *w = *state;
    int fd = raw_connect(w);
    assert_int_equal(send_piece(w->server.link, 15 << 20), STATUS_OK);
    link_close(w->server.link);
    WAIT_FOR(w, w->server.closed == 1);
    assert_int_equal(w->server.why, STATUS_OK);
    close(fd);
}

static void test_connect_failures(void **state)
{
    struct world *w = *state;
    /* A port that nobody listens on: bound, so that nobody else gets it meanwhile. */
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &length), 0);
    link_connect(&w->loop, "127.0.0.1", ntohs(at.sin_port), 5000, NULL, &handler, &w->client,
                 connected, failed);
    assert_int_equal(w->failed, 0);
    WAIT_FOR(w, w->failed == 1);
    assert_int_equal(w->failed_why, STATUS_CLOSED);
    close(fd);

    link_connect(&w->loop, "host.invalid", 1, 5000, NULL, &handler, &w->client, connected, failed);
    WAIT_FOR(w, w->failed == 2);
    assert_true(w->failed_why == STATUS_NOT_FOUND || w->failed_why == STATUS_TIMEOUT);

    char long_name[2000];
    memset(long_name, 'a', sizeof long_name);
    long_name[sizeof long_name - 1] = 0;
    link_connect(&w->loop, long_name, 1, 5000, NULL, &handler, &w->client, connected, failed);
    assert_int_equal(w->failed, 2);
    WAIT_FOR(w, w->failed == 3);
    assert_int_equal(w->connected, 0);
}

/* A listener whose queue is full answers nobody: the attempt times out. */
static void test_connect_timeout(void **state)
{
    struct world *w = *state;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &length), 0);
    int fill[8];
    for (size_t i = 0; i < ARRAY_COUNT(fill); i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(fill[i], (struct sockaddr *)&at, sizeof at);
    }
    link_connect(&w->loop, "127.0.0.1", ntohs(at.sin_port), 50, NULL, &handler, &w->client,
                 connected, failed);
    WAIT_FOR(w, w->failed == 1);
    assert_int_equal(w->failed_why, STATUS_TIMEOUT);
    for (size_t i = 0; i < ARRAY_COUNT(fill); i++)
        close(fill[i]);
    close(fd);
}

static void test_listen_errors(void **state)
{
    struct world *w = *state;
    struct link_listener *second = NULL;
    assert_int_equal(
        link_listen(&second, &w->loop, "127.0.0.1", link_listener_port(w->listener), accepted, w),
        STATUS_EXISTS);
    assert_int_equal(link_listen(&second, &w->loop, "host.invalid", 0, accepted, w),
                     STATUS_INVALID);
    assert_null(second);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_order_both_ways),
        WITH(test_large_frames),
        WITH(test_busy),
        WITH(test_close_flushes),
        WITH(test_close_within_a_frame),
        WITH(test_garbage),
#ifdef OVER_TLS
        WITH(test_refuses_a_role),
        WITH(test_refuses_to_talk_to_another_role),
        WITH(test_refuses_to_talk_to_another_host),
        WITH(test_refuses_another_authority),
        WITH(test_half_handshake),
#else
        WITH(test_half_frame_then_reset),
#endif
        WITH(test_close_is_bounded),
        WITH(test_connect_failures),
        WITH(test_connect_timeout),
        WITH(test_listen_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
