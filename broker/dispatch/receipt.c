/* SPDX-License-Identifier: Apache-2.0 */
/* Receipt handles.
 *
 * A handle must identify one lease (so that a later receive makes it stale), survive a restart of
 * the broker (so it holds the lease itself, not a key into a table) and must not be guessable (so
 * it is authenticated with the cluster's secret). It is not secret: anyone who holds it may read
 * it.
 *
 * The bytes below the base64, integers little-endian:
 *     OFFSET SIZE  MEANING
 *     0      1     format version, 1
 *     1      8     queue id
 *     9      8     sequence number of the message
 *     17     4     receive count of the lease
 *     21     16    first half of HMAC-SHA256(secret, bytes 0..20)
 */
#include "broker/dispatch/receipt.h"

#include "proto/base/assert.h"
#include "proto/base/bytes.h"
#include "proto/base/encode.h"

#include <openssl/crypto.h>

#define RECEIPT_VERSION    1
#define RECEIPT_BODY_BYTES 21
#define RECEIPT_MAC_BYTES  16
#define RECEIPT_BYTES      (RECEIPT_BODY_BYTES + RECEIPT_MAC_BYTES)

_Static_assert((RECEIPT_BYTES + 2) / 3 * 4 == RECEIPT_TEXT_LENGTH, "length in the header is right");
_Static_assert(RECEIPT_MAC_BYTES <= SHA256_BYTES, "truncated digest");

/* The secret that was used last, which is that of the cluster, prepared: half of what a handle
 * costs. */
static _Thread_local struct {
    bool is_there;
    uint8_t secret[RECEIPT_SECRET_BYTES];
    struct hmac_sha256_key key;
} last;

static void receipt_mac(const uint8_t secret[RECEIPT_SECRET_BYTES], const uint8_t *body,
                        uint8_t out[SHA256_BYTES])
{
    if (!last.is_there || memcmp(last.secret, secret, RECEIPT_SECRET_BYTES) != 0) {
        memcpy(last.secret, secret, RECEIPT_SECRET_BYTES);
        hmac_sha256_prepare(&last.key, slice_make(secret, RECEIPT_SECRET_BYTES));
        last.is_there = true;
    }
    hmac_sha256(&last.key, slice_make(body, RECEIPT_BODY_BYTES), out);
}

void receipt_write(uint8_t to[RECEIPT_TEXT_LENGTH + 1], const uint8_t secret[RECEIPT_SECRET_BYTES],
                   uint64_t queue_id, struct core_lease lease)
{
    uint8_t raw[RECEIPT_BODY_BYTES + SHA256_BYTES];
    raw[0] = RECEIPT_VERSION;
    bytes_put_u64(raw + 1, queue_id);
    bytes_put_u64(raw + 9, lease.seq);
    bytes_put_u32(raw + 17, lease.receive_count);
    receipt_mac(secret, raw, raw + RECEIPT_BODY_BYTES);
    encode_base64_into(to, slice_make(raw, RECEIPT_BYTES));
}

void receipt_encode(struct buffer *out, const uint8_t secret[RECEIPT_SECRET_BYTES],
                    uint64_t queue_id, struct core_lease lease)
{
    receipt_write(buffer_reserve(out, RECEIPT_TEXT_LENGTH + 1), secret, queue_id, lease);
    buffer_added(out, RECEIPT_TEXT_LENGTH);
}

bool receipt_decode(struct slice text, const uint8_t secret[RECEIPT_SECRET_BYTES],
                    uint64_t *queue_id, struct core_lease *lease)
{
    uint8_t raw[RECEIPT_TEXT_LENGTH / 4 * 3];
    uint8_t mac[SHA256_BYTES];
    size_t length;
    if (text.length != RECEIPT_TEXT_LENGTH || !decode_base64_into(raw, text, &length) ||
        length != RECEIPT_BYTES || raw[0] != RECEIPT_VERSION)
        return false;
    receipt_mac(secret, raw, mac);
    if (CRYPTO_memcmp(mac, raw + RECEIPT_BODY_BYTES, RECEIPT_MAC_BYTES) != 0)
        return false;
    *queue_id = bytes_get_u64(raw + 1);
    lease->seq = bytes_get_u64(raw + 9);
    lease->receive_count = bytes_get_u32(raw + 17);
    return true;
}
