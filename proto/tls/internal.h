/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of proto/tls know of each other. Private to proto/tls. */
#ifndef PROTO_TLS_INTERNAL_H
#define PROTO_TLS_INTERNAL_H

#include "proto/tls/tls.h"

#include <openssl/ssl.h>

/* tls_context_ref: the library's object of the files in use; the caller's stream counts as a user
 * of `context` until tls_context_unref. */
SSL_CTX *tls_context_ref(struct tls_context *context);
void tls_context_unref(struct tls_context *context);

/* tls_context_count: a stream has completed its handshake, or has failed. */
void tls_context_count(struct tls_context *context, bool established);

/* tls_context_peer_role: the first or the second (`index`) that the other end may have, or NULL. */
const char *tls_context_peer_role(const struct tls_context *context, unsigned index);

/* tls_stream_verify: the library's question, for each certificate of the other end's chain, whether
 * its own verdict `good` stands. */
int tls_stream_verify(int good, X509_STORE_CTX *store);

/* tls_certificate_has_uri: whether `uri` is among the alternative names. */
bool tls_certificate_has_uri(const X509 *certificate, const char *uri);

/* tls_library_error: a few words about why the library has failed; forgets it. */
const char *tls_library_error(void);

#endif
