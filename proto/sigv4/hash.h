/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 and HMAC-SHA-256 without an allocation or a look-up per call. thread: any. */
#ifndef PROTO_SIGV4_HASH_H
#define PROTO_SIGV4_HASH_H

#include "proto/base/encode.h"
#include "proto/base/slice.h"

#define HASH_STATE_WORDS 28

/* A SHA-256 that has begun; copied as a value. */
struct hash {
    uint32_t words[HASH_STATE_WORDS];
};
void hash_begin(struct hash *hash);
void hash_add(struct hash *hash, struct slice in);
void hash_end(struct hash *hash, uint8_t out[SHA256_BYTES]);

/* hash_sha256: all at once. hash_sha256_hex: as lower-case hex, without a NUL. */
void hash_sha256(struct slice in, uint8_t out[SHA256_BYTES]);
void hash_sha256_hex(struct slice in, char out[2 * SHA256_BYTES]);
void hash_hex(const uint8_t in[SHA256_BYTES], char out[2 * SHA256_BYTES]);

/* A key that has been mixed in already: an HMAC with it hashes the message and 32 bytes more. It is
 * as secret as the key. */
struct hash_key {
    struct hash inner;
    struct hash outer;
};
void hash_key_init(struct hash_key *key, struct slice bytes);
void hash_hmac(const struct hash_key *key, struct slice in, uint8_t out[SHA256_BYTES]);

/* hash_equal: compare in a time that does not depend on where they differ. */
bool hash_equal(const void *a, const void *b, size_t length);

/* hash_wipe: zero a secret, also if it is never read again. */
void hash_wipe(void *at, size_t length);

#endif
