/* SPDX-License-Identifier: Apache-2.0 */
/* Text forms and digests: hex, base64, UUID, MD5, SHA-256, percent decoding, UTF-8. thread: any. */
#ifndef PROTO_BASE_ENCODE_H
#define PROTO_BASE_ENCODE_H

#include "proto/base/buffer.h"
#include "proto/base/status.h"

#define MD5_BYTES        16
#define SHA256_BYTES     32
#define UUID_BYTES       16
#define UUID_TEXT_LENGTH 36

void encode_hex(struct buffer *out, struct slice in); /* lower case */
/* hex_text: the same into 2 * count bytes at `at`; returns behind them. */
char *hex_text(char *at, const uint8_t *in, size_t count);
void encode_base64(struct buffer *out, struct slice in);

/* encode_base64_into: the same, to `to`, and a NUL; returns the length without it. */
size_t encode_base64_into(uint8_t *to, struct slice in);

/* decode_base64: strict standard alphabet with padding; INVALID leaves `out` as it
 * was, but perhaps with more room. */
MUST_CHECK enum status decode_base64(struct buffer *out, struct slice in);

/* decode_base64_into: the same, to `to`, which has room for in.length / 4 * 3 bytes. False: what is
 * there now means nothing. */
MUST_CHECK bool decode_base64_into(uint8_t *to, struct slice in, size_t *length);

/* decode_percent: %XX, and '+' as a space when `form`; INVALID for a bad escape. */
MUST_CHECK enum status decode_percent(struct buffer *out, struct slice in, bool form);

/* encode_percent: escapes all but A-Z a-z 0-9 - . _ ~ and, when `keep_slash`, '/'. */
void encode_percent(struct buffer *out, struct slice in, bool keep_slash);

/* uuid_random: a version 4 UUID. uuid_text writes 36 characters and a NUL, uuid_parse takes 36. */
void uuid_random(uint8_t out[UUID_BYTES]);
void uuid_text(const uint8_t in[UUID_BYTES], char out[UUID_TEXT_LENGTH + 1]);
MUST_CHECK bool uuid_parse(struct slice text, uint8_t out[UUID_BYTES]);

void digest_md5(struct slice in, uint8_t out[MD5_BYTES]);
/* digest_md5_each: of each of `count` texts, at once where that is faster. */
void digest_md5_each(const struct slice *in, size_t count, uint8_t out[][MD5_BYTES]);
/* digest_md5_each_portable: the same by any processor's means; for tests. */
void digest_md5_each_portable(const struct slice *in, size_t count, uint8_t out[][MD5_BYTES]);
void digest_sha256(struct slice in, uint8_t out[SHA256_BYTES]);

/* hmac_sha256: HMAC (RFC 2104) over `in`, under a key that was prepared for many of them, which is
 * as secret as the key itself. digest_hmac_sha256: under one that was not. */
struct hmac_sha256_key {
    uint32_t inner[8], outer[8];
};
void hmac_sha256_prepare(struct hmac_sha256_key *out, struct slice key);
void hmac_sha256(const struct hmac_sha256_key *key, struct slice in, uint8_t out[SHA256_BYTES]);
void digest_hmac_sha256(struct slice key, struct slice in, uint8_t out[SHA256_BYTES]);

/* utf8_valid: well-formed UTF-8 without surrogates (RFC 3629). */
bool utf8_valid(struct slice in);

/* utf8_next: decode one code point of well-formed UTF-8 at *offset and move it on. */
uint32_t utf8_next(struct slice in, size_t *offset);

#endif
