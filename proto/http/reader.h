/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes in, one request out: the part of the server that strangers write into. It does no I/O, so
 * that tests and the fuzzer can drive it alone. Private to proto/http. thread: loop. */
#ifndef PROTO_HTTP_READER_H
#define PROTO_HTTP_READER_H

#include "proto/http/server.h"

#include <llhttp.h>

enum reader_result {
    READER_MORE,      /* everything was taken, the request is not complete */
    READER_REQUEST,   /* reader.request is complete */
    READER_TOO_LARGE, /* reader.request has its headers; its body is above the handler's limit */
    READER_REFUSED,   /* malformed: answer reader.refusal and close */
};

struct reader {
    const struct http_limits *limits;
    const struct http_handler *handler;
    struct http_connection *connection; /* handed to each request */
    const char *peer;                   /* the same; borrowed */
    llhttp_t parser;
    struct http_request *request; /* NULL until its first byte */
    int refusal;                  /* HTTP status, once something was wrong */
    bool too_large;
    bool head_done;
    bool complete;
    bool keep_alive;    /* the client's wish; valid when head_done */
    bool is_head;       /* the method is HEAD; valid when head_done */
    bool want_continue; /* the client waits for 100 Continue; the caller clears it */
    /* The lexical check of the head: see scan_head. */
    bool after_cr;
    unsigned line_bytes;
    unsigned line_count;
    size_t head_bytes;
    size_t wire_bytes;
    size_t body_bytes_max;
    bool in_trailer;    /* the last chunk's header has come */
    bool in_value;      /* the parser is in, or just behind, a header's value */
    struct buffer head; /* target, name, value, name, value, ... without separators */
    struct buffer body;
    size_t body_counted;    /* of `body`, in *body_bytes_all */
    size_t *body_bytes_all; /* of all connections of a server; NULL: not counted */
};

/* reader_init: `limits`, `handler` and `peer` are borrowed for the reader's life, and so is what
 * `body_bytes_all` is set to afterwards. */
void reader_init(struct reader *r, const struct http_limits *limits,
                 const struct http_handler *handler, struct http_connection *connection,
                 const char *peer);

/* reader_feed: take bytes of the current request; `used` tells how many, which with READER_MORE may
 * be a part of them (call again with the rest), but never none. Calls only handler->body_bytes_max.
 * After any result but READER_MORE it takes nothing until reader_reset. */
enum reader_result reader_feed(struct reader *r, struct slice in, size_t *used);

/* reader_park: give back the memory of a complete request (http_park). */
void reader_park(struct reader *r);

/* reader_reset: free the request and begin the next one. */
void reader_reset(struct reader *r);

/* reader_deinit: free everything. */
void reader_deinit(struct reader *r);

#endif
