/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/sigv4/proof.h"

#include "proto/base/assert.h"
#include "proto/sigv4/moment.h"
#include "proto/sigv4/sigv4.h"

#define SERVICE "millrace-native"
#define CONTEXT "MILLRACE-PROOF-1\n"

_Static_assert(PROOF_NONCE_BYTES == SHA256_BYTES, "hash_hex writes nonces too");

bool proof_terms_valid(const struct proof_terms *terms)
{
    uint64_t seconds;
    struct slice region = terms->region;
    if (region.length == 0 || region.length > PROOF_REGION_MAX)
        return false;
    for (size_t i = 0; i < region.length; i++) {
        uint8_t c = region.data[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-')
            return false;
    }
    return terms->time.length == MOMENT_LENGTH && moment_parse(terms->time, &seconds);
}

static void add_hex(struct buffer *out, const uint8_t nonce[PROOF_NONCE_BYTES])
{
    hash_hex(nonce, (char *)buffer_reserve(out, 2 * PROOF_NONCE_BYTES));
    buffer_added(out, 2 * PROOF_NONCE_BYTES);
}

void proof_make(struct slice secret, const struct proof_terms *terms, uint8_t out[PROOF_BYTES])
{
    struct sigv4_key key;
    struct buffer text = {0};
    ASSERT(proof_terms_valid(terms));
    sigv4_key_init(&key, secret, slice_make(terms->time.data, MOMENT_DATE_LENGTH), terms->region,
                   SLICE_LITERAL(SERVICE));
    buffer_printf(&text, CONTEXT "%.*s\n%.*s\n%.*s\n", SLICE_ARGS(terms->time),
                  SLICE_ARGS(terms->access_key_id), SLICE_ARGS(terms->region));
    add_hex(&text, terms->broker_nonce);
    buffer_add_byte(&text, '\n');
    add_hex(&text, terms->client_nonce);
    hash_hmac(&key.key, buffer_slice(&text), out);
    hash_wipe(&key, sizeof key);
    buffer_free(&text);
}
