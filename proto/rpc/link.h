/* SPDX-License-Identifier: Apache-2.0 */
/* A link: one TCP connection that carries frames, both ends alike, with TLS or without.
 *
 * A frame, all integers little-endian:
 *     OFFSET SIZE  MEANING
 *     0      4     length of the payload, at most FRAME_BYTES_MAX
 *     4      2     type (enum Type in millrace.proto)
 *     6      1     protocol version, 1
 *     7      1     zero
 *     8      4     CRC-32C of the payload
 *     12     ...   payload: the protobuf message
 * A frame that is malformed or too long ends the link. thread: loop. */
#ifndef PROTO_RPC_LINK_H
#define PROTO_RPC_LINK_H

#include "proto/base/buffer.h"
#include "proto/base/status.h"
#include "proto/rpc/millrace.pb-c.h"
#include "proto/tls/tls.h"

#include <uv.h>

#define FRAME_HEADER_BYTES 12
#define FRAME_BYTES_MAX    (16u << 20)

struct link;
struct link_listener;

struct link_handler {
    /* A whole frame; the payload is borrowed until this returns. */
    void (*on_frame)(struct link *link, void *data, uint16_t type, struct slice payload);
    /* The link has ended, from either side, and is freed when this returns. Called exactly once for
     * every link that was connected or accepted. OK: after link_close; CLOSED: by the peer;
     * PERMISSION: a certificate was refused. */
    void (*on_closed)(struct link *link, void *data, enum status why);
};

/* link_listen: `accepted` gets each new link and must call link_start on it at once. Port 0: any.
 */
MUST_CHECK enum status link_listen(struct link_listener **out, uv_loop_t *loop, const char *host,
                                   uint16_t port, void (*accepted)(struct link *link, void *data),
                                   void *data);
/* link_listener_use_tls: links that are accepted from now on speak TLS, with a context for
 * TLS_MUTUAL that stays open until the listener's last link has ended. What is sent before the
 * handshake is over waits for it. */
void link_listener_use_tls(struct link_listener *listener, struct tls_context *tls);

uint16_t link_listener_port(const struct link_listener *listener);
void link_listener_close(struct link_listener *listener, void (*closed)(void *data), void *data);

/* link_start: give an accepted link its handler. */
void link_start(struct link *link, const struct link_handler *handler, void *data);

/* link_connect: resolve by DNS and connect within `timeout_ms`; exactly one of `connected` (the
 * link is started with `handler` then) and `failed` is called, later. `tls`: NULL, or as above; the
 * listener's certificate must be for `host`. */
void link_connect(uv_loop_t *loop, const char *host, uint16_t port, uint32_t timeout_ms,
                  struct tls_context *tls, const struct link_handler *handler, void *data,
                  void (*connected)(struct link *link, void *data),
                  void (*failed)(void *data, enum status why));

/* link_send: encode and queue one message. BUSY when more than 64 MiB are unsent; CLOSED after the
 * end or link_close; TOO_LARGE above FRAME_BYTES_MAX. The message is not kept. */
MUST_CHECK enum status link_send(struct link *link, uint16_t type, const ProtobufCMessage *message);

/* link_frame_begin: where to append the payload of a frame whose type carries no message; NULL when
 * the link has ended or too much is unsent. Nothing else may be done with the link before
 * link_frame_end, which sends the frame. errors: TOO_LARGE (dropped again), CLOSED */
struct buffer *link_frame_begin(struct link *link);
MUST_CHECK enum status link_frame_end(struct link *link, uint16_t type);

/* link_hand_over: from now on the link is another handler's, which hears of the next frame and of
 * the end. May be called while a frame is being handled. */
void link_hand_over(struct link *link, const struct link_handler *handler, void *data);

/* link_close: flush what is queued (for at most a second), then close; on_closed follows. */
void link_close(struct link *link);

/* link_frame_max: frames with a payload above `bytes` end the link as TOO_LARGE, as soon as their
 * header is here, so that a stranger cannot make this end hold much. FRAME_BYTES_MAX until set. */
void link_frame_max(struct link *link, uint32_t bytes);

/* link_secure: it speaks TLS. link_peer_has_role: the other end's certificate is for this role, or
 * there is no TLS and so no certificate. */
bool link_secure(const struct link *link);
bool link_peer_has_role(struct link *link, const char *role);

void link_set_data(struct link *link, void *data);
const char *link_peer(const struct link *link);

/* frame_decode: the first frame in `in`. Returns OK and its size in `used`; NOT_FOUND when more
 * bytes are needed; INVALID or TOO_LARGE when the stream is broken. thread: any. */
MUST_CHECK enum status frame_decode(struct slice in, uint16_t *type, struct slice *payload,
                                    size_t *used);
void frame_encode(struct buffer *out, uint16_t type, const ProtobufCMessage *message);

/* frame_seal: the header of a frame whose payload is in place behind it. */
void frame_seal(uint8_t *header, uint16_t type, struct slice payload);

#endif
