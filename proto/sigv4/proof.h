/* SPDX-License-Identifier: Apache-2.0 */
/* Showing that one has an access key's secret, once for a connection instead of for each request:
 * challenge and response (RFC 2104's HMAC over both ends' fresh nonces), with a key that is derived
 * as Signature Version 4 derives it, but for a service of its own, so that a proof is no signature
 * of a request and the other way round.
 *
 *     client -> broker   access key id, region, the client's nonce
 *     broker -> client   the broker's nonce, its time
 *     client -> broker   proof = HMAC(key, text)
 *
 *     key  = sigv4_key(secret, date of that time, region, "millrace-native")
 *     text = "MILLRACE-PROOF-1\n" time "\n" access key id "\n" region "\n"
 *            hex of the broker's nonce "\n" hex of the client's nonce
 *
 * What is heard of it is good for nothing: the broker makes a new nonce for each connection. Who
 * can alter the connection needs no proof of his own, so where that is possible use TLS.
 * thread: any. */
#ifndef PROTO_SIGV4_PROOF_H
#define PROTO_SIGV4_PROOF_H

#include "proto/sigv4/hash.h"

#include <stdbool.h>

#define PROOF_BYTES       SHA256_BYTES
#define PROOF_NONCE_BYTES 32
#define PROOF_REGION_MAX  32 /* 1 to so many of a-z, 0-9 and '-' */

struct proof_terms {
    struct slice access_key_id;
    struct slice region;
    struct slice time; /* as moment_format writes it */
    uint8_t broker_nonce[PROOF_NONCE_BYTES];
    uint8_t client_nonce[PROOF_NONCE_BYTES];
};

/* proof_terms_valid: region and time have their form. */
bool proof_terms_valid(const struct proof_terms *terms);

/* proof_make: of valid terms. */
void proof_make(struct slice secret, const struct proof_terms *terms, uint8_t out[PROOF_BYTES]);

#endif
