/* SPDX-License-Identifier: Apache-2.0 */
/* A raw client and a loop to run the server in, for the tests of proto/http. With OVER_TLS defined
 * the client speaks TLS, by the library and not by proto/tls: the same tests are run both ways. */
#ifndef TESTS_UNIT_HTTP_CLIENT_H
#define TESTS_UNIT_HTTP_CLIENT_H

#include "proto/base/clock.h"
#include "proto/http/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_MS 60000 /* far above what anything takes; only a failing test waits this long */

struct world {
    uv_loop_t loop;
    struct http_server *server;
    struct tls_context *tls; /* NULL: plain */
    SSL_CTX *client_tls;
    struct http_limits limits;
    struct http_handler handler;
    bool server_closed;
    /* what the handler has seen */
    struct http_request *waiting; /* the request that `hold` keeps unanswered */
    bool hold;
    unsigned requests;
    unsigned aborts;
    unsigned too_large;
    size_t body_bytes_max;
    size_t last_body_bytes;
    char last_path[256];
};

struct client {
    int fd;
    SSL *tls; /* NULL: plain */
    struct buffer in;
    bool ended; /* the server closed */
    bool reset;
};

/* world_turn: let the loop run for about a millisecond. */
static inline void world_turn(struct world *w)
{
    uv_run(&w->loop, UV_RUN_NOWAIT);
    poll(NULL, 0, 1);
}

static inline struct client client_connect_plainly(struct world *w)
{
    struct client c = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(http_server_port(w->server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_true(c.fd >= 0);
    assert_int_equal(connect(c.fd, (struct sockaddr *)&to, sizeof to), 0);
    return c;
}

static inline struct client client_connect(struct world *w)
{
    struct client c = client_connect_plainly(w);
    if (w->tls == NULL)
        return c;
    fcntl(c.fd, F_SETFL, O_NONBLOCK);
    c.tls = SSL_new(w->client_tls);
    SSL_set_fd(c.tls, c.fd);
    for (;;) {
        int rc = SSL_connect(c.tls);
        c.ended = rc != 1 && SSL_get_error(c.tls, rc) != SSL_ERROR_WANT_READ;
        if (rc == 1 || c.ended)
            return c;
        world_turn(w);
    }
}

/* As recv() and send() do. */
static inline ssize_t tls_result(SSL *tls, int rc)
{
    int error = SSL_get_error(tls, rc);
    if (rc > 0)
        return rc;
    if (error == SSL_ERROR_ZERO_RETURN)
        return 0;
    bool again = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
    errno = again ? EAGAIN : ECONNRESET;
    return -1;
}

static inline ssize_t client_get(struct client *c, void *room, size_t size)
{
    return c->tls != NULL ? tls_result(c->tls, SSL_read(c->tls, room, (int)size))
                          : recv(c->fd, room, size, MSG_DONTWAIT);
}

static inline ssize_t client_put(struct client *c, const void *data, size_t length)
{
    return c->tls != NULL ? tls_result(c->tls, SSL_write(c->tls, data, (int)length))
                          : send(c->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static inline void client_close(struct client *c)
{
    SSL_free(c->tls);
    c->tls = NULL;
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    buffer_free(&c->in);
}

/* client_reset: close so that the peer sees a reset. */
static inline void client_reset(struct client *c)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    client_close(c);
}

static inline void client_receive(struct client *c)
{
    while (!c->ended) {
        ssize_t got = client_get(c, buffer_reserve(&c->in, 65536), 65536);
        if (got < 0 && errno == EAGAIN)
            return;
        c->reset = got < 0;
        c->ended = got <= 0;
        if (got > 0)
            buffer_added(&c->in, (size_t)got);
    }
}

/* WAIT_FOR: run the loop until the condition holds; `c` may be NULL. */
#define WAIT_FOR(w, c, condition)                                                                  \
    do {                                                                                           \
        uint64_t until_ = clock_monotonic_ns() + WAIT_MS * 1000000ull;                             \
        while (!(condition)) {                                                                     \
            if (clock_monotonic_ns() > until_)                                                     \
                fail_msg("timed out waiting for %s", #condition);                                  \
            uv_run(&(w)->loop, UV_RUN_NOWAIT);                                                     \
            struct client *client_ = (c);                                                          \
            if (client_ != NULL)                                                                   \
                client_receive(client_);                                                           \
            if (!(condition))                                                                      \
                poll(NULL, 0, 1);                                                                  \
        }                                                                                          \
    } while (0)

static inline void client_send(struct world *w, struct client *c, const void *data, size_t length)
{
    const char *at = data;
    while (length > 0) {
        ssize_t put = client_put(c, at, length);
        if (put < 0 && errno != EAGAIN)
            return; /* the server has closed; the test sees it when it reads */
        if (put > 0) {
            at += put;
            length -= (size_t)put;
        } else {
            world_turn(w);
            client_receive(c);
        }
    }
}

static inline void client_say(struct world *w, struct client *c, const char *text)
{
    client_send(w, c, text, strlen(text));
}

/* The number of whole answers in what was received; all answers here carry a Content-Length. */
static inline unsigned answers_in(const struct buffer *in, bool to_head)
{
    unsigned count = 0;
    struct slice rest = buffer_slice(in);
    for (;;) {
        const uint8_t *end = rest.length > 0 ? memmem(rest.data, rest.length, "\r\n\r\n", 4) : NULL;
        if (end == NULL)
            return count;
        size_t head = (size_t)(end - rest.data) + 4;
        const char *at = memmem(rest.data, head, "Content-Length: ", 16);
        size_t body = at != NULL && !to_head ? strtoul(at + 16, NULL, 10) : 0;
        if (rest.length < head + body)
            return count;
        rest = slice_sub(rest, head + body);
        count++;
    }
}

static inline bool client_has(struct client *c, const char *text)
{
    return c->in.length > 0 && memmem(c->in.data, c->in.length, text, strlen(text)) != NULL;
}

static inline int client_status(struct client *c)
{
    return client_has(c, "HTTP/1.1 ") && c->in.length > 12
               ? (int)strtol((char *)c->in.data + 9, NULL, 10)
               : 0;
}

#endif
