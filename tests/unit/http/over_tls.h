/* SPDX-License-Identifier: Apache-2.0 */
/* A certificate for the server and a client that trusts it, for the tests of proto/http over TLS.
 */
#ifndef TESTS_UNIT_HTTP_OVER_TLS_H
#define TESTS_UNIT_HTTP_OVER_TLS_H

#include "proto/tls/issue.h"
#include "tests/unit/http/client.h"

static const char *const over_tls_files[] = {"ca.pem", "ca-key.pem", "node.pem", "node-key.pem"};

static inline void over_tls_open(struct world *w)
{
    char dir[] = "/tmp/millrace-http-XXXXXX";
    char names[4][64];
    assert_non_null(mkdtemp(dir));
    for (int i = 0; i < 4; i++)
        snprintf(names[i], sizeof names[i], "%s/%s", dir, over_tls_files[i]);
    const struct tls_authority authority = {names[0], names[1]};
    static const char *const hosts[] = {"127.0.0.1"};
    const struct tls_request request = {.name = "node",
                                        .role = TLS_ROLE_BROKER,
                                        .hosts = hosts,
                                        .host_count = 1,
                                        .days = 1,
                                        .certificate_file = names[2],
                                        .key_file = names[3]};
    const struct tls_settings settings = {
        .use = TLS_HTTP, .certificate_file = names[2], .key_file = names[3]};
    struct tls_error error = {0};
    assert_int_equal(tls_authority_make(&authority, "Test authority", 1, &error), STATUS_OK);
    assert_int_equal(tls_issue(&authority, &request, &error), STATUS_OK);
    assert_int_equal(tls_context_open(&w->tls, &w->loop, &settings, &error), STATUS_OK);
    w->client_tls = SSL_CTX_new(TLS_client_method());
    assert_int_equal(SSL_CTX_load_verify_file(w->client_tls, names[0]), 1);
    SSL_CTX_set_verify(w->client_tls, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(w->client_tls,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    for (int i = 0; i < 4; i++)
        unlink(names[i]);
    rmdir(dir);
}

static inline void over_tls_close(struct world *w)
{
    tls_context_close(w->tls, NULL, NULL);
    SSL_CTX_free(w->client_tls);
}

#endif
