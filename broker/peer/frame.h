/* SPDX-License-Identifier: Apache-2.0 */
/* Frames between nodes, and the reader that finds them in a stream of bytes. Pure: no sockets.
 *
 * A frame, all integers little-endian:
 *     OFFSET SIZE  MEANING
 *     0      4     length of the payload
 *     4      2     channel (MESSAGE), else 0
 *     6      1     kind (enum peer_frame_kind)
 *     7      1     zero
 *     8      ...   payload
 * There is no checksum of our own: TCP has one, TLS has a better one, and what must be right on
 * disk (log entries, snapshots, bodies) carries its own CRC-32C through the wire.
 *
 * The reader reads small frames many at a time into one buffer and hands them out in place. The
 * payload of a large one gets memory of its own, of exactly its size, and is read straight into it;
 * only what had come along with its header is copied. thread: any, one at a time. */
#ifndef BROKER_PEER_FRAME_H
#define BROKER_PEER_FRAME_H

#include "proto/base/buffer.h"
#include "proto/base/status.h"

#define PEER_FRAME_HEADER_BYTES 8u
#define PEER_FRAME_SMALL_BYTES  65536u /* frames up to this, header and all, are read together */

enum peer_frame_kind {
    PEER_FRAME_MESSAGE = 0,   /* from peers_send */
    PEER_FRAME_HELLO = 1,     /* first, in both directions: handshake.h */
    PEER_FRAME_READY = 2,     /* no payload: the other's HELLO is good; see connection.c */
    PEER_FRAME_REFUSED = 3,   /* last: handshake.h */
    PEER_FRAME_HEARTBEAT = 4, /* 8 bytes: the sender's wall clock in milliseconds */
};

struct peer_frame {
    uint32_t length;
    uint16_t channel;
    uint8_t kind;
};

void peer_frame_encode(uint8_t out[PEER_FRAME_HEADER_BYTES], const struct peer_frame *frame);

struct peer_frame_reader {
    uint32_t length_max; /* of payloads; the user sets it, and may change it */
    /* private */
    uint8_t *small;
    size_t start, end; /* of what is in it */
    struct buffer large;
    bool in_large;    /* a large frame is being read, or */
    bool large_given; /* was handed out by the last call */
    struct peer_frame frame;
};

/* peer_frame_reader_where: where the next bytes go, and how many at most (> 0). */
uint8_t *peer_frame_reader_where(struct peer_frame_reader *reader, size_t *room);

/* peer_frame_reader_came: `count` bytes were put there. Call _next until it is not OK. */
void peer_frame_reader_came(struct peer_frame_reader *reader, size_t count);

/* peer_frame_reader_next: the next whole frame; the payload is borrowed until the next call.
 *   errors: NOT_FOUND: more bytes are needed; INVALID, TOO_LARGE: the stream is broken */
MUST_CHECK enum status peer_frame_reader_next(struct peer_frame_reader *reader,
                                              struct peer_frame *frame, struct slice *payload);

/* peer_frame_reader_free: zero-initialise to begin, this to end. */
void peer_frame_reader_free(struct peer_frame_reader *reader);

#endif
