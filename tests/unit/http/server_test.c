/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server as clients see it: real sockets on loopback, polite and slow. Built twice: with
 * OVER_TLS all of it is said over TLS. What is refused is in refusal_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/http/world.h"

#include <sys/resource.h>
#include <sys/un.h>

static void test_get(void **state)
{
    struct world *w = *state;
    serve(w);
    static const char text[] = "GET /a/b%20c?x=1&y HTTP/1.1\r\nHost: h\r\n\r\n";
    struct client c = exchange(w, text, sizeof text - 1);
    static const char *const parts[] = {"HTTP/1.1 200 OK\r\nDate: ",
                                        " GMT\r\n",
                                        "X-Path: /a/b%20c\r\n",
                                        "X-Query: x=1&y\r\n",
                                        "X-Method: GET\r\n",
                                        "X-Evil: a  Set-Cookie: no  \r\n",
                                        "Content-Length: 5\r\nConnection: keep-alive\r\n\r\nhello"};
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++)
        assert_true(client_has(&c, parts[i]));
    assert_false(client_has(&c, "Bad Name"));
    assert_false(client_has(&c, "99"));
    assert_false(client_has(&c, "upgrade"));
    assert_false(c.ended);
    client_close(&c);
}

static void test_split_anywhere(void **state)
{
    struct world *w = *state;
    serve(w);
    static const char text[] =
        "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nX: \r\n\r\n"
        "3;ext=1\r\nabc\r\n4\r\ndefg\r\n0\r\nTrailer: x\r\n\r\n";
    struct client c = client_connect(w);
    for (size_t cut = 1; cut < sizeof text - 1; cut++) {
        buffer_clear(&c.in);
        client_send(w, &c, text, cut);
        uv_run(&w->loop, UV_RUN_NOWAIT);
        uv_run(&w->loop, UV_RUN_NOWAIT);
        client_send(w, &c, text + cut, sizeof text - 1 - cut);
        WAIT_FOR(w, &c, c.ended || answers_in(&c.in, false) > 0);
        assert_true(client_has(&c, "Content-Length: 7\r\n"));
        assert_true(client_has(&c, "\r\n\r\nabcdefg"));
    }
    assert_int_equal(w->requests, sizeof text - 2);
    client_close(&c);
}

static void test_large_body(void **state)
{
    struct world *w = *state;
    serve(w);
    size_t length = 3 << 20;
    char *body = malloc(length);
    for (size_t i = 0; i < length; i++)
        body[i] = (char)(i * 31 >> 3);
    struct client c = client_connect(w);
    client_say(w, &c, "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3145728\r\n\r\n");
    client_send(w, &c, body, length);
    WAIT_FOR(w, &c, c.ended || answers_in(&c.in, false) > 0);
    assert_memory_equal(c.in.data + c.in.length - length, body, length);
    free(body);
    client_close(&c);
}

static struct client post(struct world *w, const char *head, size_t length)
{
    char *body = calloc(1, length);
    struct client c = client_connect(w);
    client_say(w, &c, head);
    if (!c.ended)
        client_send(w, &c, body, length);
    free(body);
    return c;
}

/* One that stalls in the middle of a large body takes room from other large ones only, and gives it
 * back when it was answered or has gone. */
static void test_large_bodies_share_a_budget(void **state)
{
    struct world *w = *state;
    w->limits.body_bytes_all_max = 300000;
    serve(w);
    static const char large[] = "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n";
    static const char small[] = "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n";
    static const char chunked[] =
        "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n30d40\r\n";
    for (int round = 0; round < 2; round++) {
        struct client first = post(w, large, 199999);
        for (int i = 0; i < 50; i++)
            world_turn(w);
        struct client other = exchange(w, large, sizeof large - 1);
        assert_int_equal(client_status(&other), 503);
        client_close(&other);
        other = post(w, chunked, 200000);
        WAIT_FOR(w, &other, other.ended || answers_in(&other.in, false) > 0);
        assert_int_equal(client_status(&other), 503);
        client_close(&other);
        other = post(w, small, 60000);
        WAIT_FOR(w, &other, answers_in(&other.in, false) > 0);
        assert_int_equal(client_status(&other), 200);
        client_close(&other);
        if (round == 0) {
            client_say(w, &first, "x");
            WAIT_FOR(w, &first, answers_in(&first.in, false) > 0);
            assert_int_equal(client_status(&first), 200);
        }
        client_close(&first);
        WAIT_FOR(w, NULL, http_server_connections(w->server) == 0);
    }
}

static void test_head_and_targets(void **state)
{
    struct world *w = *state;
    serve(w);
    struct client c = client_connect(w);
    client_say(w, &c, "HEAD http://h:1/p/q?r HTTP/1.1\r\nHost: h\r\n\r\n");
    WAIT_FOR(w, &c, answers_in(&c.in, true) == 1);
    assert_true(client_has(&c, "X-Path: /p/q\r\n"));
    assert_true(client_has(&c, "X-Query: r\r\n"));
    assert_true(client_has(&c, "Content-Length: 5\r\n"));
    assert_false(client_has(&c, "hello"));
    /* The connection is still in step. */
    client_say(w, &c,
               "OPTIONS * HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n");
    WAIT_FOR(w, &c, client_has(&c, "hello"));
    assert_true(client_has(&c, "X-Path: *\r\n"));
    client_close(&c);
}

static void test_keep_alive(void **state)
{
    struct world *w = *state;
    serve(w);
    static const struct {
        const char *text;
        bool kept;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", true},
        {"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: h\r\nConnection: foo, Close\r\n\r\n", false},
        {"GET / HTTP/1.0\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
        {"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", true},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct client c = exchange(w, cases[i].text, strlen(cases[i].text));
        assert_int_equal(client_status(&c), 200);
        if (cases[i].kept) {
            assert_true(client_has(&c, "Connection: keep-alive\r\n"));
            client_say(w, &c, cases[i].text);
            WAIT_FOR(w, &c, answers_in(&c.in, false) == 2);
        } else {
            assert_true(client_has(&c, "Connection: close\r\n"));
            WAIT_FOR(w, &c, c.ended);
            assert_false(c.reset);
        }
        client_close(&c);
    }
}

/* The last answer that a connection may have says so, and what is pipelined behind it is left for
 * the client to send again. */
static void test_requests_max(void **state)
{
    struct world *w = *state;
    static const char text[] = "GET / HTTP/1.1\r\n" HOST "\r\n";
    w->limits.requests_max = 3;
    serve(w);
    struct client one = exchange(w, text, sizeof text - 1);
    for (size_t count = 2; count <= 3; count++) {
        assert_false(client_has(&one, "Connection: close\r\n"));
        client_say(w, &one, text);
        WAIT_FOR(w, &one, answers_in(&one.in, false) == count);
    }
    assert_true(client_has(&one, "Connection: close\r\n"));
    WAIT_FOR(w, &one, one.ended);
    assert_false(one.reset);
    client_close(&one);
    struct client many = client_connect(w);
    for (size_t i = 0; i < 5; i++)
        client_say(w, &many, text);
    WAIT_FOR(w, &many, many.ended);
    assert_int_equal(answers_in(&many.in, false), 3);
    assert_int_equal(w->requests, 6);
    client_close(&many);
}

static void test_pipelining(void **state)
{
    struct world *w = *state;
    serve(w);
    w->hold = true;
    struct client c = client_connect(w);
    client_say(w, &c,
               "POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
               "POST /2 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n"
               "\r\nGET /3 HTTP/1.1\r\nHost: h\r\n\r\n");
    WAIT_FOR(w, &c, w->waiting != NULL);
    for (int i = 0; i < 20; i++)
        world_turn(w);
    assert_int_equal(w->requests, 1);
    assert_string_equal(w->last_path, "/1");
    assert_int_equal(w->last_body_bytes, 3);
    release(w);
    WAIT_FOR(w, &c, w->waiting != NULL);
    assert_string_equal(w->last_path, "/2");
    assert_int_equal(w->last_body_bytes, 2);
    w->hold = false;
    release(w);
    WAIT_FOR(w, &c, answers_in(&c.in, false) == 3);
    assert_string_equal(w->last_path, "/3");
    client_close(&c);
}

/* Far more pipelined requests than are buffered: none is lost, and answering them does not nest. */
static void test_pipelining_flood(void **state)
{
    struct world *w = *state;
    serve(w);
    w->hold = true;
    static const char text[] = "GET /flood HTTP/1.1\r\nHost: h\r\n\r\n";
    enum { COUNT = 20000 };
    struct buffer flood = {0};
    for (int i = 0; i < COUNT; i++)
        buffer_add(&flood, text, sizeof text - 1);
    struct client c = client_connect(w);
    client_send(w, &c, flood.data, 300000);
    WAIT_FOR(w, &c, w->waiting != NULL);
    w->hold = false;
    release(w);
    client_send(w, &c, flood.data + 300000, flood.length - 300000);
    WAIT_FOR(w, &c, w->requests == COUNT); /* first what is cheap to ask */
    WAIT_FOR(w, &c, answers_in(&c.in, false) == COUNT);
    assert_int_equal(w->requests, COUNT);
    buffer_free(&flood);
    client_close(&c);
}

static void test_too_large(void **state)
{
    struct world *w = *state;
    w->body_bytes_max = 10;
    serve(w);
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n0123456789", 200},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 11\r\n\r\n0123456789", 413},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551615\r\n\r\n", 413},
        {"POST / HTTP/1.1\r\n" HOST
         "Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
         200},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nb\r\n", 413},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n9\r\n012345678\r\n2\r\n",
         413},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", 413},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct client c = exchange(w, cases[i].text, strlen(cases[i].text));
        assert_int_equal(client_status(&c), cases[i].status);
        assert_int_equal(client_has(&c, "Connection: close"), cases[i].status == 413);
        client_close(&c);
    }
    assert_int_equal(w->requests, 2);
}

/* The client is in the middle of sending 16 MiB when it is refused; it must see the answer, not a
 * reset. */
static void test_too_large_while_sending(void **state)
{
    struct world *w = *state;
    w->body_bytes_max = 1000;
    w->handler.on_too_large = on_too_large;
    serve(w);
    struct client c = client_connect(w);
    client_say(w, &c, "POST / HTTP/1.1\r\n" HOST "Content-Length: 16777216\r\n\r\n");
    char block[65536] = {0};
    for (int i = 0; i < 256; i++)
        client_send(w, &c, block, sizeof block);
    WAIT_FOR(w, &c, c.ended);
    assert_false(c.reset);
    assert_int_equal(client_status(&c), 400);
    assert_true(client_has(&c, "too much"));
    assert_int_equal(w->too_large, 1);
    assert_int_equal(w->requests, 0);
    client_close(&c);
    WAIT_FOR(w, NULL, http_server_connections(w->server) == 0);
}

static void test_expect_continue(void **state)
{
    struct world *w = *state;
    w->body_bytes_max = 10;
    serve(w);
    struct client c = client_connect(w);
    client_say(w, &c,
               "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-Continue\r\nContent-Length: 3\r\n\r\n");
    WAIT_FOR(w, &c, client_has(&c, "\r\n\r\n"));
    assert_string_equal(buffer_c_string(&c.in), "HTTP/1.1 100 Continue\r\n\r\n");
    buffer_clear(&c.in);
    client_say(w, &c, "abc");
    WAIT_FOR(w, &c, answers_in(&c.in, false) == 1);
    assert_int_equal(client_status(&c), 200);
    buffer_clear(&c.in);
    /* Too large is said at once, without the invitation to send it. */
    client_say(w, &c,
               "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 11\r\n\r\n");
    WAIT_FOR(w, &c, c.ended);
    assert_int_equal(client_status(&c), 413);
    client_close(&c);
    /* None is needed when the body is here already. */
    static const char text[] =
        "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc";
    c = exchange(w, text, sizeof text - 1);
    assert_false(client_has(&c, "100 Continue"));
    client_close(&c);
}

/* with_time: try `tried` with a limit, and with twice that as often as this machine was too slow: a
 * handshake has the same time as a request, and is cut off without a word. */
static void with_time(struct world *w, uint32_t *limit_ms,
                      bool (*tried)(struct world *w, const char *text), const char *text)
{
    for (;; *limit_ms *= 2) {
        assert_true(*limit_ms < 4000);
        w->server_closed = false;
        serve(w);
        bool done = tried(w, text);
        serve_no_more(w);
        if (done)
            return;
    }
}

/* cut_off: in the handshake, nothing was said. */
static bool cut_off(const struct world *w, const struct client *c)
{
    return w->tls != NULL && c->ended && c->in.length == 0;
}

static bool slow_is_told(struct world *w, const char *start)
{
    struct client c = exchange(w, start, strlen(start));
    bool told = client_status(&c) == 408;
    assert_true(told || cut_off(w, &c));
    WAIT_FOR(w, &c, c.ended);
    client_close(&c);
    return told;
}

/* A request that waits for its answer is not slow. */
static bool waiting_is_served(struct world *w, const char *text)
{
    struct client c = client_connect(w);
    w->hold = true;
    client_say(w, &c, text);
    WAIT_FOR(w, &c, c.ended || w->waiting != NULL);
    bool taken = w->waiting != NULL;
    assert_true(taken || cut_off(w, &c));
    uint64_t until_ms = uv_hrtime() / 1000000 + w->limits.header_timeout_ms + 50;
    while (taken && uv_hrtime() / 1000000 < until_ms)
        world_turn(w);
    if (taken) {
        release(w);
        WAIT_FOR(w, &c, answers_in(&c.in, false) == 1);
        assert_int_equal(client_status(&c), 200);
    }
    client_close(&c);
    return taken;
}

static void test_slow_requests(void **state)
{
    struct world *w = *state;
    w->limits.header_timeout_ms = 150; /* a handshake on a busy machine has it, too */
    static const char *const starts[] = {"G", "GET / HTTP/1.1\r\nHost",
                                         "POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nab"};
    for (size_t i = 0; i < ARRAY_COUNT(starts); i++)
        with_time(w, &w->limits.header_timeout_ms, slow_is_told, starts[i]);
    with_time(w, &w->limits.header_timeout_ms, waiting_is_served, "GET / HTTP/1.1\r\n" HOST "\r\n");
}

/* Is the client told that its time is over, while it goes on sending byte after byte? */
static bool told_while_dripping(struct world *w, const char *start)
{
    struct client c = client_connect(w);
    client_say(w, &c, start);
    unsigned dripped = 0;
    for (; !c.ended && client_status(&c) == 0 && dripped < 5000; dripped++) {
        client_say(w, &c, "x");
        world_turn(w);
        client_receive(&c);
    }
    bool told = client_status(&c) == 408;
    assert_true(dripped < 5000);
    assert_true(told || cut_off(w, &c));
    client_close(&c);
    return told;
}

/* Byte after byte, for ever: the time for a request counts from its first byte. */
static void test_dripping_requests(void **state)
{
    struct world *w = *state;
    w->limits.bytes_per_ms_min = 1000000;
    static const char *const starts[] = {
        "GET / HTTP/1.1\r\nX: ", "POST / HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1000;"};
    w->limits.header_timeout_ms = 60;
    for (size_t i = 0; i < ARRAY_COUNT(starts); i++)
        with_time(w, &w->limits.header_timeout_ms, told_while_dripping, starts[i]);
    assert_int_equal(w->requests, 0);
}

/* Idle from the beginning, and idle after an answer; false: idle before it had asked. */
static bool idle_is_ended(struct world *w, const char *text)
{
    struct client fresh = client_connect(w);
    WAIT_FOR(w, &fresh, fresh.ended);
    assert_int_equal(fresh.in.length, 0);
    client_close(&fresh);
    struct client used = exchange(w, text, strlen(text));
    WAIT_FOR(w, &used, used.ended);
    unsigned answers = answers_in(&used.in, false);
    assert_int_equal(used.in.length > 0, answers == 1);
    client_close(&used);
    return answers == 1;
}

static void test_idle(void **state)
{
    struct world *w = *state;
    w->limits.idle_timeout_ms = 20;
    with_time(w, &w->limits.idle_timeout_ms, idle_is_ended, "GET / HTTP/1.1\r\n" HOST "\r\n");
}

static void test_abort(void **state)
{
    struct world *w = *state;
    serve(w);
    w->hold = true;
    for (unsigned i = 0; i < 2; i++) {
        struct client c = client_connect(w);
        client_say(w, &c, "GET / HTTP/1.1\r\n" HOST "\r\nGET /next HTTP/1.1\r\n" HOST "\r\n");
        WAIT_FOR(w, &c, w->waiting != NULL);
        if (i == 0)
            client_close(&c);
        else
            client_reset(&c);
        WAIT_FOR(w, NULL, w->aborts == i + 1);
        WAIT_FOR(w, NULL, http_server_connections(w->server) == 0);
        assert_int_equal(w->requests, i + 1);
    }
    /* Also when the server itself ends. */
    struct client c = client_connect(w);
    client_say(w, &c, "GET / HTTP/1.1\r\n" HOST "\r\n");
    WAIT_FOR(w, &c, w->waiting != NULL);
    serve_no_more(w);
    assert_int_equal(w->aborts, 3);
    client_close(&c);
}

/* A parked request holds none of the memory that it came in, and still ends as any other. */
static void test_park(void **state)
{
    struct world *w = *state;
    w->limits.body_bytes_all_max = 300000;
    serve(w);
    w->hold = true;
    static const char large[] = "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n";
    struct client c = post(w, large, 200000);
    WAIT_FOR(w, &c, w->waiting != NULL);
    struct http_request *request = w->waiting;
    assert_int_equal(request->header_count, 2);
    (void)arena_alloc(&request->arena, 100);
    http_park(request);
    assert_null(request->headers);
    assert_null(request->arena.blocks);
    assert_int_equal(request->header_count + request->path.length + request->body.length, 0);
    assert_ptr_equal(request->data, w);
    /* Its body is not counted any more either. */
    w->waiting = NULL;
    struct client other = post(w, large, 200000);
    WAIT_FOR(w, &other, w->waiting != NULL);
    client_close(&other);
    WAIT_FOR(w, NULL, w->aborts == 1);
    /* What the client sends meanwhile is served behind it. */
    client_say(w, &c, "GET /next HTTP/1.1\r\n" HOST "\r\n");
    for (int i = 0; i < 10; i++)
        world_turn(w);
    assert_int_equal(w->requests, 2);
    w->waiting = request;
    w->hold = false;
    release(w);
    WAIT_FOR(w, &c, answers_in(&c.in, false) == 2);
    assert_true(client_has(&c, "late"));
    assert_string_equal(w->last_path, "/next");
    /* A client that goes is noticed. */
    w->hold = true;
    client_say(w, &c, "GET /last HTTP/1.1\r\n" HOST "\r\n");
    WAIT_FOR(w, &c, w->waiting != NULL);
    http_park(w->waiting);
    client_close(&c);
    WAIT_FOR(w, NULL, w->aborts == 2);
}

static void test_half_requests_are_no_aborts(void **state)
{
    struct world *w = *state;
    serve(w);
    struct client c = client_connect(w);
    client_say(w, &c, "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nab");
    WAIT_FOR(w, &c, http_server_connections(w->server) == 1);
    client_reset(&c);
    WAIT_FOR(w, NULL, http_server_connections(w->server) == 0);
    assert_int_equal(w->aborts + w->requests, 0);
}

static void test_stop_accepting(void **state)
{
    struct world *w = *state;
    serve(w);
    static const char text[] = "GET / HTTP/1.1\r\n" HOST "\r\n";
    struct client idle = exchange(w, text, sizeof text - 1);
    w->hold = true;
    struct client busy = client_connect(w);
    client_say(w, &busy, text);
    WAIT_FOR(w, &busy, w->waiting != NULL);
    uint16_t port = http_server_port(w->server);
    http_server_stop_accepting(w->server);
    http_server_stop_accepting(w->server);
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_not_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    close(fd);
    WAIT_FOR(w, &idle, idle.ended);
    assert_int_equal(http_server_connections(w->server), 1);
    release(w);
    WAIT_FOR(w, &busy, busy.ended);
    assert_int_equal(client_status(&busy), 200);
    assert_true(client_has(&busy, "Connection: close"));
    client_close(&busy);
    client_close(&idle);
    WAIT_FOR(w, NULL, http_server_connections(w->server) == 0);
}

/* A request that was on its way when accepting stopped is answered. */
static void test_stop_accepting_answers_what_is_on_its_way(void **state)
{
    struct world *w = *state;
    serve(w);
    static const char text[] = "GET / HTTP/1.1\r\n" HOST "\r\n";
    struct client idle = exchange(w, text, sizeof text - 1);
    assert_true(client_has(&idle, "Connection: keep-alive"));
    http_server_stop_accepting(w->server);
    client_say(w, &idle, text);
    WAIT_FOR(w, &idle, idle.ended);
    assert_true(client_has(&idle, "Connection: close"));
    assert_int_equal(w->requests, 2);
    client_close(&idle);
    WAIT_FOR(w, NULL, http_server_connections(w->server) == 0);
}

static void test_connections_max(void **state)
{
    struct world *w = *state;
    w->limits.connections_max = 2;
    serve(w);
    static const char text[] = "GET / HTTP/1.1\r\n" HOST "\r\n";
    struct client a = exchange(w, text, sizeof text - 1);
    struct client b = exchange(w, text, sizeof text - 1);
    struct client c = client_connect(w);
    WAIT_FOR(w, &c, c.ended);
    assert_int_equal(http_server_connections(w->server), 2);
    client_close(&a);
    WAIT_FOR(w, NULL, http_server_connections(w->server) == 1);
    client_close(&c);
    c = exchange(w, text, sizeof text - 1);
    assert_int_equal(client_status(&c), 200);
    client_close(&b);
    client_close(&c);
}

/* A client that takes nothing of its answer: it is given up, and so is one too many of them. */
static void test_readers_that_never_read(void **state)
{
    struct world *w = *state;
    w->limits.send_timeout_ms = 40;
    w->limits.bytes_per_ms_min = 1000000;
    serve(w);
    struct client c = client_connect(w);
    client_say(w, &c, "GET /big HTTP/1.1\r\n" HOST "\r\n");
    WAIT_FOR(w, NULL, w->requests == 1 && http_server_connections(w->server) == 0);
    client_close(&c);
    serve_no_more(w);

    w->server_closed = false;
    w->limits.send_timeout_ms = 60000;
    w->limits.unsent_bytes_all_max = 24 << 20; /* three of 8 MiB, less what the kernel takes */
    serve(w);
    struct client many[6];
    for (unsigned i = 0; i < ARRAY_COUNT(many); i++) {
        many[i] = client_connect(w);
        client_say(w, &many[i], "GET /big HTTP/1.1\r\n" HOST "\r\n");
        WAIT_FOR(w, NULL, w->requests == 2 + i);
    }
    WAIT_FOR(w, NULL, http_server_connections(w->server) < ARRAY_COUNT(many));
    unsigned whole = 0;
    for (unsigned i = 0; i < ARRAY_COUNT(many); i++) {
        WAIT_FOR(w, &many[i], many[i].ended || answers_in(&many[i].in, false) == 1);
        whole += answers_in(&many[i].in, false) == 1;
        client_close(&many[i]);
    }
    assert_true(whole >= 3 && whole < ARRAY_COUNT(many));
    /* What was waited for is not counted for ever. */
    WAIT_FOR(w, NULL, http_server_connections(w->server) == 0);
    for (int i = 0; i < 4; i++) {
        c = exchange(w, "GET /big HTTP/1.1\r\n" HOST "\r\n", 30);
        assert_int_equal(client_status(&c), 200);
        client_close(&c);
    }
}

static void test_slow_reader(void **state)
{
    struct world *w = *state;
    serve(w);
    struct client c = client_connect(w);
    client_say(w, &c, "GET /big HTTP/1.1\r\n" HOST "\r\nGET /next HTTP/1.1\r\n" HOST "\r\n");
    for (int i = 0; i < 50; i++)
        world_turn(w); /* the socket is full and nobody reads */
    assert_int_equal(w->requests, 1);
    WAIT_FOR(w, &c, answers_in(&c.in, false) == 2);
    assert_string_equal(w->last_path, "/next");
    client_close(&c);
    /* One that goes away in the middle of its answer. */
    c = client_connect(w);
    client_say(w, &c, "GET /big HTTP/1.1\r\n" HOST "\r\n");
    WAIT_FOR(w, NULL, w->requests == 3);
    client_reset(&c);
    WAIT_FOR(w, NULL, http_server_connections(w->server) == 0);
    assert_int_equal(w->aborts, 0);
}

#ifdef OVER_TLS

/* Who does not come to an end with the handshake is sent away, whatever was said. */
static void test_half_handshakes(void **state)
{
    struct world *w = *state;
    w->limits.header_timeout_ms = 50;
    serve(w);
    /* A record's head, and the start of a client's hello that never goes on. */
    static const char *const starts[] = {"", "\x16", "\x16\x03\x01\x02\x01\x01\x01\xfc\x03\x03"};
    for (size_t i = 0; i < ARRAY_COUNT(starts); i++) {
        struct client c = client_connect_plainly(w);
        client_say(w, &c, starts[i]);
        WAIT_FOR(w, &c, c.ended);
        assert_int_equal(c.in.length, 0);
        client_close(&c);
    }
    assert_int_equal(w->requests, 0);
    assert_int_equal(http_server_connections(w->server), 0);
}

static void test_leaving_in_the_handshake(void **state)
{
    struct world *w = *state;
    serve(w);
    for (int i = 0; i < 4; i++) {
        struct client c = client_connect_plainly(w);
        if (i % 2 == 0)
            client_say(w, &c, "\x16\x03\x01\x02");
        WAIT_FOR(w, NULL, http_server_connections(w->server) == 1);
        if (i / 2 == 0)
            client_close(&c);
        else
            client_reset(&c);
        WAIT_FOR(w, NULL, http_server_connections(w->server) == 0);
    }
    struct client c = client_connect_plainly(w);
    WAIT_FOR(w, NULL, http_server_connections(w->server) == 1);
    http_server_stop_accepting(w->server);
    WAIT_FOR(w, &c, c.ended);
    client_close(&c);
}

static void test_other_protocols(void **state)
{
    struct world *w = *state;
    serve(w);
    struct client c = client_connect_plainly(w);
    client_say(w, &c, "GET /secret HTTP/1.1\r\n" HOST "\r\n");
    WAIT_FOR(w, &c, c.ended);
    assert_int_equal(client_status(&c), 400);
    assert_true(client_has(&c, "\r\n\r\nThis port speaks HTTPS only.\n"));
    assert_false(c.reset);
    client_close(&c);
    c = client_connect_plainly(w);
    client_say(w, &c, "SSH-2.0-OpenSSH_9.2p1 Debian\r\n");
    WAIT_FOR(w, &c, c.ended);
    assert_int_equal(client_status(&c), 0);
    assert_false(c.reset);
    client_close(&c);
    assert_int_equal(w->requests, 0);
}

/* Bytes that are no record, in the middle of a connection and while a large answer goes out. */
static void test_garbage_later(void **state)
{
    struct world *w = *state;
    serve(w);
    static const char *const paths[] = {"GET / HTTP/1.1\r\n" HOST "\r\n",
                                        "GET /big HTTP/1.1\r\n" HOST "\r\n"};
    for (unsigned i = 0; i < 2; i++) {
        struct client c = client_connect(w);
        client_say(w, &c, paths[i]);
        WAIT_FOR(w, NULL, w->requests == i + 1);
        static const char garbage[] = "this is no record at all";
        assert_true(send(c.fd, garbage, sizeof garbage, MSG_NOSIGNAL) > 0);
        WAIT_FOR(w, NULL, http_server_connections(w->server) == 0);
        client_close(&c);
    }
    assert_int_equal(w->aborts, 0);
}

/* The client's word that it is done, without closing the socket. */
static void test_close_notify(void **state)
{
    struct world *w = *state;
    serve(w);
    struct client c = exchange(w, "GET / HTTP/1.1\r\n" HOST "\r\n", 27);
    SSL_shutdown(c.tls);
    WAIT_FOR(w, NULL, http_server_connections(w->server) == 0);
    client_close(&c);
    w->hold = true;
    c = client_connect(w);
    client_say(w, &c, "GET / HTTP/1.1\r\n" HOST "\r\n");
    WAIT_FOR(w, &c, w->waiting != NULL);
    SSL_shutdown(c.tls);
    WAIT_FOR(w, NULL, w->aborts == 1);
    client_close(&c);
}

#else

/* Out of descriptors: the loop must rest, and service resumes. */
static void test_out_of_descriptors(void **state)
{
    struct world *w = *state;
    serve(w);
    for (int i = 0; i < 3; i++)
        world_turn(w);
    struct client c = {.fd = socket(AF_INET, SOCK_STREAM, 0)};
    struct rlimit before;
    getrlimit(RLIMIT_NOFILE, &before);
    struct rlimit tight = {.rlim_cur = (rlim_t)c.fd + 1, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(http_server_port(w->server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(c.fd, (struct sockaddr *)&to, sizeof to), 0);
    unsigned turns = 0;
    uint64_t until = clock_monotonic_ns() + 250000000;
    while (clock_monotonic_ns() < until) {
        uv_run(&w->loop, UV_RUN_ONCE);
        turns++;
    }
    setrlimit(RLIMIT_NOFILE, &before);
    assert_true(turns < 50); /* a spinning loop makes many thousands */
    client_say(w, &c, "GET / HTTP/1.1\r\n" HOST "\r\n");
    WAIT_FOR(w, &c, answers_in(&c.in, false) == 1);
    client_close(&c);
}

static void test_open_errors(void **state)
{
    struct world *w = *state;
    serve(w);
    struct http_server *second = NULL;
    assert_int_equal(http_server_open(&second, &w->loop, "127.0.0.1", http_server_port(w->server),
                                      &w->limits, &w->handler),
                     STATUS_EXISTS);
    assert_int_equal(
        http_server_open(&second, &w->loop, "host.invalid", 0, &w->limits, &w->handler),
        STATUS_INVALID);
    assert_int_equal(http_server_open(&second, &w->loop, "192.0.2.1", 0, &w->limits, &w->handler),
                     STATUS_INVALID);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(http_server_open_fd(&second, &w->loop, fd, &w->limits, &w->handler),
                     STATUS_INVALID);
    close(fd);
    assert_null(second);
}

static void test_open_fd(void **state)
{
    struct world *w = *state;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "millrace-test-%d", getpid());
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(http_server_open_fd(&w->server, &w->loop, fd, &w->limits, &w->handler),
                     STATUS_OK);
    struct client c = {.fd = socket(AF_UNIX, SOCK_STREAM, 0)};
    assert_int_equal(connect(c.fd, (struct sockaddr *)&address, sizeof address), 0);
    client_say(w, &c, "GET / HTTP/1.1\r\n" HOST "\r\n");
    WAIT_FOR(w, &c, answers_in(&c.in, false) == 1);
    assert_int_equal(client_status(&c), 200);
    client_close(&c);
}

#endif

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_get),
        WITH(test_split_anywhere),
        WITH(test_large_body),
        WITH(test_large_bodies_share_a_budget),
        WITH(test_head_and_targets),
        WITH(test_keep_alive),
        WITH(test_requests_max),
        WITH(test_pipelining),
        WITH(test_pipelining_flood),
        WITH(test_too_large),
        WITH(test_too_large_while_sending),
        WITH(test_expect_continue),
        WITH(test_slow_requests),
        WITH(test_dripping_requests),
        WITH(test_idle),
        WITH(test_abort),
        WITH(test_park),
        WITH(test_half_requests_are_no_aborts),
        WITH(test_stop_accepting),
        WITH(test_stop_accepting_answers_what_is_on_its_way),
        WITH(test_connections_max),
        WITH(test_readers_that_never_read),
        WITH(test_slow_reader),
#ifdef OVER_TLS
        WITH(test_half_handshakes),
        WITH(test_leaving_in_the_handshake),
        WITH(test_other_protocols),
        WITH(test_garbage_later),
        WITH(test_close_notify),
#else
        WITH(test_out_of_descriptors),
        WITH(test_open_errors),
        WITH(test_open_fd),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
