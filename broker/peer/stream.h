/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of one connection, and nothing about what they mean: the one place that reads and
 * writes sockets, with TLS or without. thread: loop. */
#ifndef BROKER_PEER_STREAM_H
#define BROKER_PEER_STREAM_H

#include "proto/base/buffer.h"
#include "proto/base/status.h"
#include "proto/tls/tls.h"

#include <stdint.h>
#include <sys/uio.h>
#include <uv.h>

struct peer_stream_handler {
    /* where: where the next bytes may go, `room` (> 0) at most. came: so many were put there. */
    uint8_t *(*where)(void *data, size_t *room);
    void (*came)(void *data, size_t count);
    /* written: the write is done, or failed. The memory of its parts is the caller's again. */
    void (*written)(void *data, enum status status);
    /* ended: the other side closed or broke it; PERMISSION: a certificate was refused, by either
     * side. peer_stream_close is still due. */
    void (*ended)(void *data, enum status why);
    /* closed: after peer_stream_close; the stream's memory is the caller's again. */
    void (*closed)(void *data);
};

struct peer_stream {
    uv_tcp_t tcp;
    uv_write_t write;
    uv_shutdown_t shutdown;
    const struct peer_stream_handler *handler;
    void *data;
    struct tls_stream *tls; /* NULL: plain; what follows is for TLS only */
    enum status failed;     /* TLS has ended, for this reason */
    struct buffer raw;      /* one read */
    struct buffer plain;    /* what it has brought */
    struct buffer sealed;   /* the piece of a write that is under way */
    struct iovec *parts;    /* of a write: what is not encrypted yet starts at parts[part_next] */
    size_t part_count, part_next, part_capacity;
    bool writing; /* `written` is due */
    bool in_flight;
};

/* peer_stream_init: without a connection yet; peer_stream_close is due from now on. */
void peer_stream_init(struct peer_stream *stream, uv_loop_t *loop,
                      const struct peer_stream_handler *handler, void *data);

/* peer_stream_start: it is connected; set the socket up and read. `tls` is moved; NULL: plain. */
MUST_CHECK enum status peer_stream_start(struct peer_stream *stream, struct tls_stream *tls);

/* peer_stream_write: all parts in order, without copying but by TLS; one write at a time. The array
 * itself is not kept, but changed. `done`: the socket has taken everything already, and `written`
 * does not run. If it fails at once nothing was taken and `written` does not run either. */
MUST_CHECK enum status peer_stream_write(struct peer_stream *stream, struct iovec *parts,
                                         size_t count, bool *done);

/* peer_stream_finish: no more writes; tell the other side that this was all. */
void peer_stream_finish(struct peer_stream *stream);

/* peer_stream_close: a write under way ends with CANCELLED before `closed` runs. */
void peer_stream_close(struct peer_stream *stream);

/* peer_stream_remote: "10.0.0.1:9326" or "[::1]:9326" or "unknown". */
void peer_stream_remote(const struct peer_stream *stream, char *out, size_t size);

#endif
