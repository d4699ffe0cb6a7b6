/* SPDX-License-Identifier: Apache-2.0 */
/* TLS without sockets: ciphertext in, plaintext out, and back. Whoever owns a connection keeps one
 * tls_stream beside its socket and passes bytes through it.
 *
 *     read from the socket --> tls_stream_receive --> plain: what the peer said
 *                                     |
 *                                     +-------------> out: what must be written to the socket
 *     tls_stream_send(plaintext) -------------------> out
 *
 * What is appended to `out` must be written to the socket in that order, all of it, or the
 * connection is of no use any more.
 *
 * A tls_context is what PEM files say. It looks at them every `poll_ms`; when they have changed and
 * then stayed the same for one look, it loads them anew. Streams that exist are not touched, new
 * ones use the new files. A set of files that cannot be used (half written, a key that does not
 * belong to the certificate) is traced once and the old one is kept.
 * thread: loop. */
#ifndef PROTO_TLS_TLS_H
#define PROTO_TLS_TLS_H

#include "proto/base/buffer.h"
#include "proto/base/status.h"

#include <uv.h>

#define TLS_POLL_MS 1000

/* A role is a URI among the subject alternative names of a certificate. A certificate signed by the
 * right authority but made for another role is refused during the handshake. */
#define TLS_ROLE_BROKER "millrace:broker"
#define TLS_ROLE_WORKER "millrace:worker"
#define TLS_ROLE_CLIENT "millrace:client"

/* The files of a --tls-dir, of a broker, a worker or a client alike. */
#define TLS_DIR_CA          "ca.pem"
#define TLS_DIR_CERTIFICATE "cert.pem"
#define TLS_DIR_KEY         "key.pem"

struct tls_context;
struct tls_stream;

enum tls_use {
    TLS_HTTP,   /* a server of the public: TLS 1.2 or 1.3, ALPN "http/1.1", session tickets; clients
                   are asked for a certificate if there is a ca_file */
    TLS_MUTUAL, /* between Millrace's own programs, either end: TLS 1.3, no resumption, both ends
                   show a certificate of ca_file, and the other end's has the role peer_role */
};

struct tls_settings {
    enum tls_use use;
    const char *certificate_file; /* PEM: the certificate, then those between it and its root */
    const char *key_file;         /* PEM, not encrypted */
    const char *ca_file;          /* PEM: who signs the other end's certificates */
    const char *peer_role;        /* TLS_MUTUAL: TLS_ROLE_...; else NULL: any */
    const char *peer_role_too;    /* another that will do; NULL: none */
    uint32_t poll_ms;             /* TLS_POLL_MS, or 0: never look again */
};

struct tls_error {
    char text[256];
};

/* tls_context_open: load the files and keep looking at them. Settings are copied.
 *   errors: INVALID, with a sentence in `error` that names the file */
MUST_CHECK enum status tls_context_open(struct tls_context **out, uv_loop_t *loop,
                                        const struct tls_settings *settings,
                                        struct tls_error *error);

/* tls_context_close: stop looking. Streams may live on. `closed` may be NULL. */
void tls_context_close(struct tls_context *context, void (*closed)(void *data), void *data);

struct tls_context_stats {
    int64_t expires_s;   /* when the certificate in use ends, in seconds since 1970 */
    uint64_t loads;      /* sets of files that were taken, the first one included */
    uint64_t refusals;   /* sets that could not be used */
    uint64_t handshakes; /* that streams have completed */
    uint64_t failures;   /* streams that failed, most of them in the handshake */
};
struct tls_context_stats tls_context_stats(const struct tls_context *context);

enum tls_end { TLS_SERVER, TLS_CLIENT };

/* tls_stream_new: a stream of a new connection. A client's `host` is the name or address that was
 * dialled, 1 to 255 bytes: the server's certificate must be for it. Then call tls_stream_receive
 * without bytes: it puts the client's first message into `out`. */
struct tls_stream *tls_stream_new(struct tls_context *context, enum tls_end end, const char *host);
void tls_stream_free(struct tls_stream *stream); /* may be NULL */

/* tls_stream_receive: take bytes from the socket, all of them. Appends to `plain` and to `out`.
 *   errors: CLOSED: the peer has ended the stream in order. PERMISSION: a certificate was refused,
 *     by this end or the other. INVALID: anything else that is not TLS as agreed. The stream is of
 *     no use then, but `plain` and `out` may have got bytes, maybe an alert for the peer, before.
 */
MUST_CHECK enum status tls_stream_receive(struct tls_stream *stream, struct slice in,
                                          struct buffer *plain, struct buffer *out);

/* tls_stream_established: the handshake is over, and tls_stream_send may be called. The client of a
 * TLS 1.3 connection learns only later, from tls_stream_receive, if its certificate was refused. */
bool tls_stream_established(const struct tls_stream *stream);

/* tls_stream_send: encrypt. Appends to `out` the bytes of `plain` and some 22 more for each 16 KiB.
 *   errors: INVALID: the stream has failed before */
MUST_CHECK enum status tls_stream_send(struct tls_stream *stream, struct slice plain,
                                       struct buffer *out);

/* tls_stream_end: say that nothing more will be sent; does nothing before the handshake is over. */
void tls_stream_end(struct tls_stream *stream, struct buffer *out);

/* tls_stream_error: why tls_stream_receive failed: a few words, for traces. */
const char *tls_stream_error(const struct tls_stream *stream);

/* tls_stream_is_http: it failed because the peer speaks HTTP without TLS. */
bool tls_stream_is_http(const struct tls_stream *stream);

/* Who the peer is, by its verified certificate; borrowed from the stream. Without a certificate all
 * of them say no, or nothing.
 * tls_stream_peer_dns: its `index`th DNS name, absent if there are not that many.
 * tls_stream_peer_name: its common name.
 * tls_stream_peer_has_role: whether it was made for `role`. */
struct slice tls_stream_peer_dns(struct tls_stream *stream, unsigned index);
struct slice tls_stream_peer_name(const struct tls_stream *stream);
bool tls_stream_peer_has_role(struct tls_stream *stream, const char *role);

#endif
