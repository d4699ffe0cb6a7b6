/* SPDX-License-Identifier: Apache-2.0 */
/* Receipt handles: no bytes crash the decoder, and only what was made here is accepted. */
#include "broker/dispatch/receipt.h"
#include "proto/base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t secret[RECEIPT_SECRET_BYTES] = "fuzz";
    uint64_t queue_id = 0;
    struct core_lease lease = {0};
    struct buffer again = {0};
    if (receipt_decode(slice_make(data, size), secret, &queue_id, &lease)) {
        receipt_encode(&again, secret, queue_id, lease);
        ASSERT(slice_equal(buffer_slice(&again), slice_make(data, size)));
    }
    buffer_free(&again);
    return 0;
}
