/* SPDX-License-Identifier: Apache-2.0 */
/* What the HTTP server refuses: malformed requests, what smugglers try, floods of headers. Built
 * twice, as server_test.c is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/http/world.h"

static void test_malformed(void **state)
{
    struct world *w = *state;
    serve(w);
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"GARBAGE\r\n\r\n", 400},
        {"\x16\x03\x01\x02", 400},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST HOST "\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "Foo : bar\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST ": bar\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "F\xc3\xb6o: bar\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "X: a\r\n b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "X:\r\n\tb\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "X: a\rb\r\n\r\n", 400},
        {"GET / HTTP/1.1\n" HOST "\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: h\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "X: a\x01\r\n\r\n", 400},
        {" GET / HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET / a HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET /\xff HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET /#f HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET path HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET http://h HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET /\r\n" HOST "\r\n", 505},
        {"GET / HTTP/2.0\r\n" HOST "\r\n", 505},
        {"GET / HTTP/0.9\r\n" HOST "\r\n", 505},
        {"CONNECT h:1 HTTP/1.1\r\n" HOST "\r\n", 501},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1, 1\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: +1\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 0x1\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, gzip\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n", 501},
        {"POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0x1\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n 1\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Expect: miracles\r\nContent-Length: 1\r\n\r\n", 417},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct client c = exchange(w, cases[i].text, strlen(cases[i].text));
        if (client_status(&c) != cases[i].status)
            fail_msg("case %zu: %d for\n%s", i, client_status(&c), cases[i].text);
        assert_true(client_has(&c, "Content-Length: 0\r\nConnection: close\r\n\r\n"));
        WAIT_FOR(w, &c, c.ended);
        assert_false(c.reset);
        client_close(&c);
    }
    static const char nul[] = "GET / HTTP/1.1\r\n" HOST "X: a\0b\r\n\r\n";
    struct client c = exchange(w, nul, sizeof nul - 1);
    assert_int_equal(client_status(&c), 400);
    client_close(&c);
    assert_int_equal(w->requests, 0);
}

/* A refused request ends the connection: what was smuggled behind it is never looked at. */
static void test_nothing_after_a_refusal(void **state)
{
    struct world *w = *state;
    serve(w);
    static const char text[] = "POST / HTTP/1.1\r\n" HOST "Content-Length: 1, 2\r\n\r\n"
                               "GET /smuggled HTTP/1.1\r\n" HOST "\r\n";
    struct client c = exchange(w, text, sizeof text - 1);
    WAIT_FOR(w, &c, c.ended);
    assert_int_equal(answers_in(&c.in, false), 1);
    assert_int_equal(w->requests, 0);
    client_close(&c);
}

/* What is smuggled: a request in what a front may take for a body, or a body that it takes for a
 * request. Either the whole is refused, or its one meaning is the one that RFC 9112 gives. */
#define HIDDEN "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
#define TE     "Transfer-Encoding: chunked\r\n"

static void test_smuggling(void **state)
{
    struct world *w = *state;
    serve(w);
    static const char *const refused[] = {
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n" TE "\r\n0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST TE "Content-Length: 0\r\n\r\n0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\nContent-Length: 40\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n" TE TE "\r\n0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST TE TE "\r\n0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST "Content-Length : 0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST "Content-Length\t: 0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\x0b"
        "chunked\r\n\r\n0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST "Transfer\xad-Encoding: chunked\r\n\r\n0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST "X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST "X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST "X: y\nContent-Length: 0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 0x10\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 1 0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 0,0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST TE "\r\n0x0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST TE "\r\n+0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST TE "\r\n\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST TE "\r\n0\n\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST TE "\r\n5\nhello\r\n0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST TE "\r\n5\r\nhello\n0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST TE "\r\n5\r\nhelloXX0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST TE "\r\n5\r\nhello0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST TE "\r\n0\r\nX: y\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST TE "\r\n0\r\nX: y\r\n\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST TE "\r\n0\r\nX : y\r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST TE "\r\n10000000000000005\r\nhello\r\n0\r\n\r\n" HIDDEN,
        "POST / HTTP/1.0\r\n" HOST TE "\r\n0\r\n\r\n" HIDDEN,
    };
    for (size_t i = 0; i < ARRAY_COUNT(refused); i++) {
        w->requests = 0;
        struct client c = exchange(w, refused[i], strlen(refused[i]));
        if (client_status(&c) < 400 || w->requests > 0 || answers_in(&c.in, false) != 1)
            fail_msg("case %zu: %d, %u requests for\n%s", i, client_status(&c), w->requests,
                     refused[i]);
        WAIT_FOR(w, &c, c.ended);
        client_close(&c);
    }
    /* What looks like the above and is legal: the hidden request is a body, all of it. */
    static const char *const whole[] = {
        "GET / HTTP/1.1\r\n" HOST "Content-Length: 35\r\n\r\n" HIDDEN,
        "DELETE / HTTP/1.1\r\n" HOST "content-LENGTH:\t 0035 \r\n\r\n" HIDDEN,
        "POST / HTTP/1.1\r\n" HOST "transfer-ENCODING: \tCHUNKED \r\n\r\n023;x=\"y\"\r\n" HIDDEN
        "\r\n0\r\nContent-Length: 5\r\n\r\n",
    };
    for (size_t i = 0; i < ARRAY_COUNT(whole); i++) {
        w->requests = 0;
        struct client c = exchange(w, whole[i], strlen(whole[i]));
        client_say(w, &c, "GET /last HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
        WAIT_FOR(w, &c, c.ended);
        if (w->requests != 2 || strcmp(w->last_path, "/last") != 0)
            fail_msg("case %zu: %u requests, the last %s", i, w->requests, w->last_path);
        client_close(&c);
    }
}

static void expect_status(struct world *w, struct buffer *text, int status)
{
    struct client c = exchange(w, (char *)text->data, text->length);
    assert_int_equal(client_status(&c), status);
    client_close(&c);
    buffer_free(text);
}

static void test_header_floods(void **state)
{
    struct world *w = *state;
    serve(w);
    struct buffer text = {0};
    for (int fits = 1; fits >= 0; fits--) {
        /* Exactly header_bytes_max, and one more. */
        buffer_add_text(&text, "GET / HTTP/1.1\r\n" HOST "X: ");
        while (text.length < 4096 - 4 + (fits ? 0 : 1))
            buffer_add_byte(&text, 'x');
        buffer_add_text(&text, "\r\n\r\n");
        expect_status(w, &text, fits ? 200 : 431);
    }
    for (int fits = 1; fits >= 0; fits--) {
        buffer_add_text(&text, "GET / HTTP/1.1\r\n" HOST);
        for (int i = 1; i < HTTP_HEADERS_MAX + (fits ? 0 : 1); i++)
            buffer_printf(&text, "H%d: v\r\n", i);
        buffer_add_text(&text, "\r\n");
        expect_status(w, &text, fits ? 200 : 431);
    }
    for (int i = 0; i < 5000; i++) /* blanks that no callback of the parser reports */
        buffer_add_text(&text, "\r\n");
    expect_status(w, &text, 431);
    /* Endless chunk extensions and trailers. */
    static const char chunked[] = "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n";
    buffer_add_text(&text, chunked);
    buffer_add_text(&text, "1;a=");
    for (int i = 0; i < 20000; i++)
        buffer_add_byte(&text, 'a');
    expect_status(w, &text, 400);
    buffer_add_text(&text, chunked);
    buffer_add_text(&text, "0\r\nT: ");
    for (int i = 0; i < 20000; i++)
        buffer_add_byte(&text, 'a');
    expect_status(w, &text, 400);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_malformed),
        WITH(test_nothing_after_a_refusal),
        WITH(test_smuggling),
        WITH(test_header_floods),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
