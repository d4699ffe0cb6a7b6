/* SPDX-License-Identifier: Apache-2.0 */
/* A certificate for the server and a client that trusts it, for the tests of proto/http over TLS.
 */
#ifndef TESTS_UNIT_HTTP_OVER_TLS_H
#define TESTS_UNIT_HTTP_OVER_TLS_H

#include "tests/unit/http/client.h"
#include "tests/unit/tls/credentials.h"

static inline void over_tls_open(struct world *w)
{
    struct credentials credentials;
    credentials_make(&credentials);
    w->tls = credentials_open(&credentials, &w->loop, TLS_ROLE_BROKER, NULL);
    w->client_tls = SSL_CTX_new(TLS_client_method());
    assert_int_equal(SSL_CTX_load_verify_file(w->client_tls, credentials.files[0]), 1);
    SSL_CTX_set_verify(w->client_tls, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(w->client_tls,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    credentials_remove(&credentials);
}

static inline void over_tls_close(struct world *w)
{
    tls_context_close(w->tls, NULL, NULL);
    SSL_CTX_free(w->client_tls);
}

#endif
