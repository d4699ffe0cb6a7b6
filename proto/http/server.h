/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP/1.1 server on libuv and llhttp (strict mode): keep-alive, pipelining, chunked bodies,
 * Expect: 100-continue, limits on everything. Used for the broker's public port and, one per
 * execution environment, for the worker's Runtime API. thread: loop. */
#ifndef PROTO_HTTP_SERVER_H
#define PROTO_HTTP_SERVER_H

#include "proto/base/arena.h"
#include "proto/base/buffer.h"
#include "proto/base/status.h"
#include "proto/tls/tls.h"

#include <stddef.h>
#include <uv.h>

struct http_server;
struct http_connection;

#define HTTP_HEADERS_MAX 100

struct http_header {
    struct slice name;
    struct slice value;
};

/* One request. Lives from `on_request` (or `body_bytes_max`) until http_respond has been called, or
 * until `on_abort` returns; its slices live as long. Requests of one connection are handled one at
 * a time, in order; pipelined ones wait. */
struct http_request {
    struct slice method; /* "GET" */
    struct slice target; /* as sent: path and query */
    struct slice path;   /* up to '?', not decoded */
    struct slice query;  /* after '?', may be empty */
    struct slice body;
    struct arena arena; /* for whoever handles the request; freed with it */
    void *data;         /* the handler's */
    const void *route;  /* likewise: who it is for, as `body_bytes_max` found out */
    struct http_connection *connection;
    uint64_t arrived_ms; /* when it was here in full, of the loop's clock (uv_now) */
    const char *peer;    /* address of the client, for traces */
    unsigned header_count;
    struct http_header *headers; /* room for HTTP_HEADERS_MAX */
};

struct http_limits {
    size_t header_bytes_max;     /* request line and headers; answered with 431 */
    unsigned connections_max;    /* more are closed at once */
    uint32_t header_timeout_ms;  /* for a request to arrive once it has begun: 408 */
    uint32_t idle_timeout_ms;    /* between requests; 0 = none */
    uint32_t requests_max;       /* of one connection: the last one's answer says that it closes,
                                    and requests pipelined behind it are not taken; 0 = no limit */
    uint32_t send_timeout_ms;    /* for an answer to be taken by the client's side */
    uint32_t bytes_per_ms_min;   /* a large body, in or out, has 1 ms more for each so many bytes */
    size_t body_bytes_all_max;   /* of all requests that are received or handled, small bodies (up
                                    to HTTP_BODY_SMALL_BYTES) not counted: a body that goes beyond
                                    is answered with 503; 0 = none */
    size_t unsent_bytes_all_max; /* of all answers that wait for slow clients, small ones (as above)
                                    not counted: a connection that would go beyond is closed, and
                                    the answer lost; 0 = none */
};
#define HTTP_BODY_SMALL_BYTES (64u << 10)
/* 64 KiB, 20000, 30 s, 75 s, no limit, 30 s, 32, 512 MiB, 512 MiB */
extern const struct http_limits http_limits_default;

struct http_handler {
    void *data;
    /* How many body bytes this request may have; called when the headers are complete. A longer
     * body is cut off without buffering it: `on_too_large` answers (default: 413, empty), then the
     * connection is closed. */
    size_t (*body_bytes_max)(void *data, struct http_request *request);
    void (*on_too_large)(void *data, struct http_request *request);
    /* The whole request is here. It must end in http_respond, now or later. */
    void (*on_request)(void *data, struct http_request *request);
    /* The client went away before it was answered. http_respond must not be called any more; the
     * request is freed when this returns. May be NULL. */
    void (*on_abort)(void *data, struct http_request *request);
};

/* http_server_open: listen on host:port (port 0: any free one; IPv4, IPv6 or a name).
 *   errors: EXISTS (address in use), INVALID (cannot be resolved), PERMISSION, IO_ERROR */
MUST_CHECK enum status http_server_open(struct http_server **out, uv_loop_t *loop, const char *host,
                                        uint16_t port, const struct http_limits *limits,
                                        const struct http_handler *handler);

/* http_server_open_fd: the same on a listening stream socket that exists already (taken over). */
MUST_CHECK enum status http_server_open_fd(struct http_server **out, uv_loop_t *loop, int fd,
                                           const struct http_limits *limits,
                                           const struct http_handler *handler);

uint16_t http_server_port(const struct http_server *server);

/* http_server_use_tls: speak TLS on connections that are accepted from now on, with a context for
 * TLS_HTTP that stays open until the server is closed. The time for a handshake is
 * header_timeout_ms. Who speaks HTTP without it is told so, with a 400. */
void http_server_use_tls(struct http_server *server, struct tls_context *tls);

/* http_server_stop_accepting: refuse new connections; each that is there is closed after its next
 * answer, or soon if no request comes. http_server_connections: how many are left.
 * http_server_close: close everything (on_abort runs for requests under way), then call back. */
void http_server_stop_accepting(struct http_server *server);
unsigned http_server_connections(const struct http_server *server);
void http_server_close(struct http_server *server, void (*closed)(void *data), void *data);

/* http_header: the value of the first header of that name (case-insensitive); absent if none. */
struct slice http_header(const struct http_request *request, const char *name);

/* http_query_get: the decoded value of a query parameter, in its arena; absent if none. */
struct slice http_query_get(struct http_request *request, const char *name);

/* http_park: the answer may take long, and nothing will be read of the request any more. Its memory
 * is given back: what it said is absent from now on, and its arena empty. What stays is `data`,
 * `route`, `connection`, `arrived_ms` and `peer`; it ends as any other. */
void http_park(struct http_request *request);

/* http_respond: answer and end the request. `headers` are copied; `body` is moved (emptied).
 * Content-Length, Date, Connection are added here (and dropped from `headers`, as are names that
 * are no token; control bytes in values become blanks). HEAD is answered without the body. A status
 * outside 200..599 is answered as 502. */
void http_respond(struct http_request *request, int status, const struct http_header *headers,
                  unsigned header_count, struct buffer *body);

/* http_status_text: "Not Found" etc. */
const char *http_status_text(int status);

#endif
