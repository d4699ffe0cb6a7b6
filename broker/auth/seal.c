/* SPDX-License-Identifier: Apache-2.0 */
/* The nonce is random: with a few thousand keys in a cluster's life, 96 bits do not meet twice. */
#include "broker/auth/seal.h"

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/sigv4/hash.h"

#include <openssl/evp.h>

#define PURPOSE "millrace access key secrets, 1"

static void derive(const uint8_t cluster_secret[SEAL_CLUSTER_SECRET_BYTES],
                   uint8_t key[SHA256_BYTES])
{
    struct hash_key prepared;
    hash_key_init(&prepared, slice_make(cluster_secret, SEAL_CLUSTER_SECRET_BYTES));
    hash_hmac(&prepared, SLICE_LITERAL(PURPOSE), key);
    hash_wipe(&prepared, sizeof prepared);
}

/* A context that is ready for the text. */
static EVP_CIPHER_CTX *begin(const uint8_t cluster_secret[SEAL_CLUSTER_SECRET_BYTES],
                             const uint8_t nonce[SEAL_NONCE_BYTES], struct slice context,
                             bool sealing)
{
    uint8_t key[SHA256_BYTES];
    int length = 0;
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    ASSERT(cipher != NULL);
    derive(cluster_secret, key);
    ASSERT(EVP_CipherInit_ex(cipher, EVP_aes_256_gcm(), NULL, key, nonce, sealing) == 1);
    hash_wipe(key, sizeof key);
    if (context.length > 0)
        ASSERT(EVP_CipherUpdate(cipher, NULL, &length, context.data, (int)context.length) == 1);
    return cipher;
}

void seal_close(const uint8_t cluster_secret[SEAL_CLUSTER_SECRET_BYTES], struct slice context,
                struct slice plain, struct buffer *out)
{
    int length = 0;
    uint8_t *at = buffer_reserve(out, plain.length + SEAL_OVERHEAD_BYTES);
    uint8_t *text = at + SEAL_NONCE_BYTES;
    clock_random(at, SEAL_NONCE_BYTES);
    EVP_CIPHER_CTX *cipher = begin(cluster_secret, at, context, true);
    ASSERT(EVP_CipherUpdate(cipher, text, &length, plain.data, (int)plain.length) == 1);
    ASSERT((size_t)length == plain.length);
    ASSERT(EVP_CipherFinal_ex(cipher, text + length, &length) == 1);
    ASSERT(EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_GET_TAG, SEAL_TAG_BYTES, text + plain.length) ==
           1);
    EVP_CIPHER_CTX_free(cipher);
    buffer_added(out, plain.length + SEAL_OVERHEAD_BYTES);
}

bool seal_open(const uint8_t cluster_secret[SEAL_CLUSTER_SECRET_BYTES], struct slice context,
               struct slice sealed, struct arena *arena, struct slice *plain)
{
    if (sealed.length < SEAL_OVERHEAD_BYTES)
        return false;
    int length = 0;
    size_t bytes = sealed.length - SEAL_OVERHEAD_BYTES;
    uint8_t tag[SEAL_TAG_BYTES];
    uint8_t *text = arena_alloc(arena, bytes + 1);
    memcpy(tag, sealed.data + SEAL_NONCE_BYTES + bytes, sizeof tag);
    EVP_CIPHER_CTX *cipher = begin(cluster_secret, sealed.data, context, false);
    bool good =
        EVP_CipherUpdate(cipher, text, &length, sealed.data + SEAL_NONCE_BYTES, (int)bytes) == 1 &&
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_SET_TAG, SEAL_TAG_BYTES, tag) == 1 &&
        EVP_CipherFinal_ex(cipher, text + length, &length) == 1;
    EVP_CIPHER_CTX_free(cipher);
    *plain = slice_make(text, bytes);
    return good;
}
