/* SPDX-License-Identifier: Apache-2.0 */
/* What link.c, listen.c and connect.c know of a link. Private to proto/rpc. */
#ifndef PROTO_RPC_ENDPOINT_H
#define PROTO_RPC_ENDPOINT_H

#include "proto/rpc/link.h"

enum link_state {
    LINK_NEW,      /* the socket is not connected, or not started, yet */
    LINK_OPEN,     /* frames go both ways */
    LINK_FLUSHING, /* nothing is sent any more: what is queued goes out, what arrives is dropped */
    LINK_ENDED,    /* handles are closing */
};

struct link {
    uv_tcp_t tcp;
    uv_timer_t timer;    /* bounds the flush */
    uv_prepare_t turn;   /* active while something is queued that no write is under way for */
    uv_idle_t sleepless; /* likewise: the loop must not sleep before that */
    unsigned handles_open;
    enum link_state state;
    enum status why; /* what on_closed will be told; meaningful from LINK_FLUSHING on */
    const struct link_handler *handler;
    void *data;
    struct link_listener *listener; /* NULL for an outgoing link */
    uint32_t frame_bytes_max;       /* of frames that come in */
    struct buffer in;
    struct buffer queued;   /* frames that wait for the write in flight, or for the handshake */
    size_t frame_at;        /* in `queued`: of the frame that link_frame_begin began */
    struct buffer writing;  /* what the write in flight writes: frames, or records of TLS */
    struct tls_stream *tls; /* NULL: plain */
    struct buffer raw;      /* with TLS: one read */
    struct buffer sealed;   /* with TLS: records that wait for the write in flight */
    bool write_in_flight;
    bool shut; /* our end of the stream is shut */
    uv_write_t write;
    uv_shutdown_t shutdown;
    char peer[64];
};

/* link_new: a link without a connection; its tcp handle is initialised. */
struct link *link_new(uv_loop_t *loop);

/* link_discard: free a link that never opened; no callback. */
void link_discard(struct link *link);

/* link_open: the socket is connected; name the peer, and read. `tls` is moved; NULL: plain. */
void link_open(struct link *link, struct tls_stream *tls);

/* listener_link_gone: one link fewer; may free the listener. */
void listener_link_gone(struct link_listener *listener);

#endif
