/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL's EVP interface looks its algorithm up and allocates at every digest: 1.1 us for 300
 * bytes where hashing takes 0.28, and 3.2 us for an HMAC. A signature is three digests, checked for
 * every request, so this file uses the block interface below EVP (the same assembly), which OpenSSL
 * 3 still has and calls deprecated. It is the only file that does. */
#define OPENSSL_API_COMPAT 0x10100000L

#include "proto/sigv4/hash.h"

#include "proto/base/assert.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#define BLOCK_BYTES 64

_Static_assert(sizeof(struct hash) == sizeof(SHA256_CTX), "a struct hash is a SHA256_CTX");
_Static_assert(_Alignof(struct hash) == _Alignof(SHA256_CTX), "and aligned as one");

static SHA256_CTX *context(struct hash *hash)
{
    return (SHA256_CTX *)(void *)hash;
}

void hash_begin(struct hash *hash)
{
    ASSERT(SHA256_Init(context(hash)) == 1);
}

void hash_add(struct hash *hash, struct slice in)
{
    if (in.length > 0)
        ASSERT(SHA256_Update(context(hash), in.data, in.length) == 1);
}

void hash_end(struct hash *hash, uint8_t out[SHA256_BYTES])
{
    ASSERT(SHA256_Final(out, context(hash)) == 1);
}

void hash_sha256(struct slice in, uint8_t out[SHA256_BYTES])
{
    struct hash hash;
    hash_begin(&hash);
    hash_add(&hash, in);
    hash_end(&hash, out);
}

void hash_hex(const uint8_t in[SHA256_BYTES], char out[2 * SHA256_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < SHA256_BYTES; i++) {
        out[2 * i] = digits[in[i] >> 4];
        out[2 * i + 1] = digits[in[i] & 15];
    }
}

void hash_sha256_hex(struct slice in, char out[2 * SHA256_BYTES])
{
    uint8_t digest[SHA256_BYTES];
    hash_sha256(in, digest);
    hash_hex(digest, out);
}

static void begin_padded(struct hash *hash, const uint8_t block[BLOCK_BYTES], uint8_t pad)
{
    uint8_t mixed[BLOCK_BYTES];
    for (size_t i = 0; i < BLOCK_BYTES; i++)
        mixed[i] = block[i] ^ pad;
    hash_begin(hash);
    hash_add(hash, slice_make(mixed, BLOCK_BYTES));
    hash_wipe(mixed, sizeof mixed);
}

/* RFC 2104. */
void hash_key_init(struct hash_key *key, struct slice bytes)
{
    uint8_t block[BLOCK_BYTES] = {0};
    if (bytes.length > BLOCK_BYTES)
        hash_sha256(bytes, block);
    else if (bytes.length > 0)
        memcpy(block, bytes.data, bytes.length);
    begin_padded(&key->inner, block, 0x36);
    begin_padded(&key->outer, block, 0x5c);
    hash_wipe(block, sizeof block);
}

void hash_hmac(const struct hash_key *key, struct slice in, uint8_t out[SHA256_BYTES])
{
    struct hash hash = key->inner;
    hash_add(&hash, in);
    hash_end(&hash, out);
    hash = key->outer;
    hash_add(&hash, slice_make(out, SHA256_BYTES));
    hash_end(&hash, out);
}

bool hash_equal(const void *a, const void *b, size_t length)
{
    return CRYPTO_memcmp(a, b, length) == 0;
}

void hash_wipe(void *at, size_t length)
{
    OPENSSL_cleanse(at, length);
}
