/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of proto/http know of each other's objects. Private to proto/http. */
#ifndef PROTO_HTTP_CONNECTION_H
#define PROTO_HTTP_CONNECTION_H

#include "proto/http/reader.h"

#include <sys/queue.h>

#define READ_BYTES       65536
#define DATE_TEXT_LENGTH 29 /* "Sun, 06 Nov 1994 08:49:37 GMT" */

LIST_HEAD(connection_list, http_connection);

struct http_server {
    uv_loop_t *loop;
    struct http_limits limits;
    struct http_handler handler;
    struct connection_list connections;
    unsigned connection_count;
    struct tls_context *tls; /* NULL: plain HTTP */
    struct buffer plain;     /* what one read has brought, decrypted; empty between reads */
    size_t unsent_bytes_all; /* of large answers that wait for their clients */
    size_t body_bytes_all;   /* of large bodies that are being received or handled */
    uv_poll_t listener;
    uv_timer_t backoff; /* runs while accepting rests; lives until http_server_close */
    int fd;             /* listening, or -1 */
    uint16_t port;
    unsigned handles_open; /* of listener and backoff */
    bool accepting;
    bool closing;
    void (*closed)(void *data);
    void *closed_data;
    uint64_t date_loop_ms; /* when `date` was looked at */
    uint64_t date_second;
    char date[DATE_TEXT_LENGTH + 1];
    char read_buffer[READ_BYTES]; /* libuv reads and calls back in one go, so one is enough */
};

enum connection_state {
    CONNECTION_GREETING,  /* the TLS handshake is under way */
    CONNECTION_IDLE,      /* nothing of the next request has arrived */
    CONNECTION_RECEIVING, /* a part of it has */
    CONNECTION_HANDLING,  /* the handler has it */
    CONNECTION_SENDING,   /* the answer is on its way */
    CONNECTION_LINGERING, /* the last answer is sent; what the client still says is dropped */
    CONNECTION_CLOSED,    /* handles are closing, memory lives until they are closed */
};

struct http_connection {
    LIST_ENTRY(http_connection) entry;
    struct http_server *server;
    enum connection_state state;
    union {
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    };
    uv_timer_t timer;
    unsigned handles_open;
    uint32_t requests;    /* that the handler has had */
    uint64_t began_ms;    /* when this request began to arrive, in loop time */
    uint64_t deadline_ms; /* in loop time; 0: none */
    uint64_t armed_ms;    /* when the timer fires, 0: it does not run */
    bool reading;
    bool processing;  /* bytes are being parsed further up the stack */
    bool peer_ended;  /* the client will send nothing more */
    bool close_after; /* the answer under way is the last */
    bool head_only;   /* the answer under way is to a HEAD */
    struct reader reader;
    struct buffer pending; /* bytes of later requests */
    struct buffer out_head;
    struct buffer out_body;
    struct tls_stream *tls; /* NULL: plain HTTP */
    size_t unsent_counted;  /* of this connection, in unsent_bytes_all */
    struct buffer sealed;   /* what goes out, encrypted; out_head and out_body are empty then */
    uv_write_t write;
    uv_shutdown_t shutdown;
    char peer[64];
};

/* connection_open: serve the socket `fd`, which is taken over. */
void connection_open(struct http_server *server, int fd);

/* connection_close: abort its request, if any, and close. Does nothing the second time. */
void connection_close(struct http_connection *c);

/* connection_drain: let it end after the request under way, or now if there is none. */
void connection_drain(struct http_connection *c);

/* connection_send: write out_head and out_body, then go on or close. */
void connection_send(struct http_connection *c);

/* connection_answered: the request is about to be freed; remember what the answer needs of it. */
void connection_answered(struct http_connection *c);

/* respond_plain: an answer of the server's own, with a line of text or NULL, and the last one. */
void respond_plain(struct http_connection *c, int status, const char *text);

/* server_connection_gone: the last thing that a connection calls before it frees itself. */
void server_connection_gone(struct http_server *server);

#endif
