/* SPDX-License-Identifier: Apache-2.0 */
/* Claims. The bytes, integers little-endian:
 *     OFFSET SIZE  MEANING
 *     0      1     format version, 1
 *     1      1     bit 0: asynchronous events, bit 1: FIFO
 *     2      16    uuid of the mapping
 *     18     8     lease id of the assignment
 *     26     8     queue id
 *     34     8     core time of the receive
 *     42     4     visibility timeout in seconds
 *     46     4     count of messages
 *     50     32n   of each: sequence number (8), receive count (4), message id (16), group (4)
 *     ...    16    first half of HMAC-SHA256(secret, function's name and the bytes before) */
#include "broker/dispatch/claim.h"

#include "proto/base/assert.h"
#include "proto/base/bytes.h"

#include <openssl/crypto.h>
#include <stdlib.h>

#define CLAIM_VERSION       1
#define CLAIM_HEAD_BYTES    50u
#define CLAIM_MESSAGE_BYTES 32u
#define CLAIM_MAC_BYTES     16u

static void claim_mac(const uint8_t secret[RECEIPT_SECRET_BYTES], struct slice function,
                      struct slice body, uint8_t out[SHA256_BYTES])
{
    struct buffer all = {0};
    buffer_add_slice(&all, function);
    buffer_add_byte(&all, '\0');
    buffer_add_slice(&all, body);
    digest_hmac_sha256(slice_make(secret, RECEIPT_SECRET_BYTES), buffer_slice(&all), out);
    buffer_free(&all);
}

void claim_seal(struct buffer *out, size_t start, const uint8_t secret[RECEIPT_SECRET_BYTES],
                struct slice function)
{
    uint8_t mac[SHA256_BYTES];
    claim_mac(secret, function, slice_make(out->data + start, out->length - start), mac);
    buffer_add(out, mac, CLAIM_MAC_BYTES);
}

bool claim_open(struct slice in, const uint8_t secret[RECEIPT_SECRET_BYTES], struct slice function,
                struct slice *body)
{
    uint8_t mac[SHA256_BYTES];
    if (in.length < CLAIM_MAC_BYTES)
        return false;
    *body = slice_make(in.data, in.length - CLAIM_MAC_BYTES);
    claim_mac(secret, function, *body, mac);
    return CRYPTO_memcmp(mac, in.data + body->length, CLAIM_MAC_BYTES) == 0;
}

void claim_encode(struct buffer *out, const uint8_t secret[RECEIPT_SECRET_BYTES],
                  struct slice function, const struct claim *claim)
{
    size_t start = out->length;
    ASSERT(claim->count >= 1);
    ASSERT(claim->count <= CLAIM_MESSAGES_MAX);
    buffer_add_byte(out, CLAIM_VERSION);
    buffer_add_byte(out, (uint8_t)((claim->async ? 1 : 0) | (claim->fifo ? 2 : 0)));
    buffer_add(out, claim->uuid, UUID_BYTES);
    buffer_add_u64(out, claim->lease_id);
    buffer_add_u64(out, claim->queue_id);
    buffer_add_u64(out, claim->leased_ms);
    buffer_add_u32(out, claim->visibility_s);
    buffer_add_u32(out, claim->count);
    for (uint32_t i = 0; i < claim->count; i++) {
        buffer_add_u64(out, claim->messages[i].lease.seq);
        buffer_add_u32(out, claim->messages[i].lease.receive_count);
        buffer_add(out, claim->messages[i].id, UUID_BYTES);
        buffer_add_u32(out, claim->messages[i].group);
    }
    claim_seal(out, start, secret, function);
}

static void take_uuid(struct cursor *c, uint8_t out[UUID_BYTES])
{
    struct slice id = cursor_take(c, UUID_BYTES);
    if (id.data != NULL)
        memcpy(out, id.data, UUID_BYTES);
}

/* What is authentic was made here; lengths are checked all the same. */
bool claim_decode(struct slice in, const uint8_t secret[RECEIPT_SECRET_BYTES],
                  struct slice function, struct claim *out)
{
    *out = (struct claim){0};
    struct slice body;
    if (in.length < CLAIM_HEAD_BYTES + CLAIM_MAC_BYTES || in.data[0] != CLAIM_VERSION ||
        !claim_open(in, secret, function, &body))
        return false;
    struct cursor c = cursor_of(slice_sub(body, 1));
    uint8_t flags = cursor_u8(&c);
    out->async = (flags & 1) != 0;
    out->fifo = (flags & 2) != 0;
    take_uuid(&c, out->uuid);
    out->lease_id = cursor_u64(&c);
    out->queue_id = cursor_u64(&c);
    out->leased_ms = cursor_u64(&c);
    out->visibility_s = cursor_u32(&c);
    out->count = cursor_u32(&c);
    if (out->count == 0 || out->count > CLAIM_MESSAGES_MAX ||
        cursor_left(&c) != (size_t)out->count * CLAIM_MESSAGE_BYTES)
        return false;
    out->messages = calloc(out->count, sizeof *out->messages);
    ASSERT(out->messages != NULL);
    bool good = true;
    for (uint32_t i = 0; i < out->count; i++) {
        struct claim_message *message = &out->messages[i];
        message->lease.seq = cursor_u64(&c);
        message->lease.receive_count = cursor_u32(&c);
        take_uuid(&c, message->id);
        message->group = cursor_u32(&c);
        good = good && message->group <= i;
    }
    if (good && !c.bad)
        return true;
    free(out->messages);
    out->messages = NULL;
    return false;
}
