/* SPDX-License-Identifier: Apache-2.0 */
/* An authority and certificates in a folder of their own, for tests of whatever speaks TLS. */
#ifndef TESTS_UNIT_TLS_CREDENTIALS_H
#define TESTS_UNIT_TLS_CREDENTIALS_H

#include "proto/tls/issue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CREDENTIALS_FILES 16

struct credentials {
    char dir[32];
    char files[CREDENTIALS_FILES][64]; /* every file that was made */
    unsigned count;
};

static inline const char *credentials_file(struct credentials *c, const char *name,
                                           const char *suffix)
{
    assert_true(c->count < CREDENTIALS_FILES);
    char *at = c->files[c->count++];
    const char *const parts[] = {c->dir, "/", name, suffix};
    size_t length = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        size_t more = strlen(parts[i]);
        assert_true(length + more < sizeof c->files[0]); /* what follows is zero */
        memcpy(at + length, parts[i], more);
        length += more;
    }
    return at;
}

/* credentials_make: with an authority, "ca". credentials_remove: remove every file. */
static inline void credentials_make(struct credentials *c)
{
    *c = (struct credentials){.dir = "/tmp/millrace-cert-XXXXXX"};
    assert_non_null(mkdtemp(c->dir));
    struct tls_error error = {0};
    const struct tls_authority ca = {credentials_file(c, "ca", ".pem"),
                                     credentials_file(c, "ca", "-key.pem")};
    assert_int_equal(tls_authority_make(&ca, "Test authority", 1, &error), STATUS_OK);
}

static inline void credentials_remove(struct credentials *c)
{
    for (unsigned i = 0; i < c->count; i++)
        unlink(c->files[i]);
    rmdir(c->dir);
}

/* credentials_open: a new certificate of `role`, for this machine, and a context of it.
 * `peer_role` NULL: for TLS_HTTP, without asking clients for certificates. */
static inline struct tls_context *credentials_open(struct credentials *c, uv_loop_t *loop,
                                                   const char *role, const char *peer_role)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost", "::1"};
    const struct tls_authority ca = {c->files[0], c->files[1]};
    char name[16];
    snprintf(name, sizeof name, "end-%u", c->count);
    const struct tls_request request = {.name = name,
                                        .role = role,
                                        .hosts = hosts,
                                        .host_count = 3,
                                        .days = 1,
                                        .certificate_file = credentials_file(c, name, ".pem"),
                                        .key_file = credentials_file(c, name, "-key.pem")};
    const struct tls_settings settings = {.use = peer_role != NULL ? TLS_MUTUAL : TLS_HTTP,
                                          .certificate_file = request.certificate_file,
                                          .key_file = request.key_file,
                                          .ca_file = peer_role != NULL ? c->files[0] : NULL,
                                          .peer_role = peer_role};
    struct tls_error error = {0};
    struct tls_context *context = NULL;
    assert_int_equal(tls_issue(&ca, &request, &error), STATUS_OK);
    assert_int_equal(tls_context_open(&context, loop, &settings, &error), STATUS_OK);
    return context;
}

#endif
