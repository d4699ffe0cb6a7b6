/* SPDX-License-Identifier: Apache-2.0 */
/* Claims and tickets that workers show: with the right code at the end (which the fuzzer cannot
 * guess, so it is put there) they decode to what encodes to the same bytes again, or not at all. */
#include "broker/dispatch/claim.h"
#include "broker/dispatch/ticket.h"
#include "proto/base/assert.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t secret[RECEIPT_SECRET_BYTES] = {7};

static void decode_ticket(struct slice in)
{
    struct ticket ticket;
    if (!ticket_decode(in, secret, SLICE_LITERAL("f"), &ticket))
        return;
    struct ticket other;
    ASSERT(!ticket_decode(in, secret, SLICE_LITERAL("g"), &other));
}

static void decode(struct slice in)
{
    struct claim claim;
    decode_ticket(in);
    if (!claim_decode(in, secret, SLICE_LITERAL("f"), &claim)) {
        ASSERT(claim.messages == NULL);
        return;
    }
    struct buffer again = {0};
    claim_encode(&again, secret, SLICE_LITERAL("f"), &claim);
    ASSERT(again.length == in.length);
    buffer_free(&again);
    struct claim other;
    ASSERT(!claim_decode(in, secret, SLICE_LITERAL("g"), &other));
    free(claim.messages);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buffer all = {0};
    uint8_t mac[SHA256_BYTES];
    decode(slice_make(data, size));
    buffer_add_text(&all, "f");
    buffer_add_byte(&all, '\0');
    buffer_add(&all, data, size);
    digest_hmac_sha256(slice_make(secret, sizeof secret), buffer_slice(&all), mac);
    buffer_add(&all, mac, 16);
    decode(slice_sub(buffer_slice(&all), 2));
    buffer_free(&all);
    return 0;
}
