/* SPDX-License-Identifier: Apache-2.0 */
/* A private certificate authority in two files, and the certificates it signs: what
 * `millrace tls init` and the tests use. Keys are ECDSA on P-256. Key files are made with mode
 * 0600, certificates with 0644; a file appears whole or not at all. thread: any. */
#ifndef PROTO_TLS_ISSUE_H
#define PROTO_TLS_ISSUE_H

#include "proto/tls/tls.h"

struct tls_authority {
    const char *certificate_file;
    const char *key_file;
};

/* tls_authority_make: a new authority, valid for `days`, into files that must not exist.
 *   errors: EXISTS; PERMISSION and the like of a file; `error` says which file and why */
MUST_CHECK enum status tls_authority_make(const struct tls_authority *authority, const char *name,
                                          unsigned days, struct tls_error *error);

/* tls_authority_copy: the authority's certificate, or those of several, into `file`, which is
 * replaced.  errors: INVALID: it holds no certificate; else as above */
MUST_CHECK enum status tls_authority_copy(const struct tls_authority *authority, const char *file,
                                          struct tls_error *error);

struct tls_request {
    const char *name;         /* the common name */
    const char *role;         /* TLS_ROLE_... */
    const char *const *hosts; /* DNS names and IP addresses */
    size_t host_count;
    unsigned days; /* valid from an hour ago on, for clocks that differ */
    const char *certificate_file;
    const char *key_file;
};

/* tls_issue: make a key and a certificate for it, signed by `authority`. Replaces the files, the
 * key first. Only TLS_ROLE_BROKER may be a server. errors: INVALID: a host is neither a name nor an
 * address, or the authority's files are of no use; else as above */
MUST_CHECK enum status tls_issue(const struct tls_authority *authority,
                                 const struct tls_request *request, struct tls_error *error);

#endif
