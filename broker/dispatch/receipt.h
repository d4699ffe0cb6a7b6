/* SPDX-License-Identifier: Apache-2.0 */
/* Receipt handles: what a consumer holds of a leased message, as text. Made here for events that
 * are sent to functions, and by the SQS API for ReceiveMessage; both read them back. thread: any.
 */
#ifndef BROKER_DISPATCH_RECEIPT_H
#define BROKER_DISPATCH_RECEIPT_H

#include "broker/core/types.h"
#include "proto/base/buffer.h"
#include "proto/base/status.h"

#define RECEIPT_SECRET_BYTES 32
#define RECEIPT_TEXT_LENGTH  52 /* base64 of 37 bytes */

/* receipt_encode: append the RECEIPT_TEXT_LENGTH characters that stand for this lease of a message
 * of queue `queue_id`. `secret` is the cluster's (core_bootstrapped). */
void receipt_encode(struct buffer *out, const uint8_t secret[RECEIPT_SECRET_BYTES],
                    uint64_t queue_id, struct core_lease lease);

/* receipt_write: the same, to `to`, and a NUL. */
void receipt_write(uint8_t to[RECEIPT_TEXT_LENGTH + 1], const uint8_t secret[RECEIPT_SECRET_BYTES],
                   uint64_t queue_id, struct core_lease lease);

/* receipt_decode: read one back. False for anything that this cluster did not make; the outputs are
 * unchanged then. The caller compares queue_id with the queue that was asked for. */
MUST_CHECK bool receipt_decode(struct slice text, const uint8_t secret[RECEIPT_SECRET_BYTES],
                               uint64_t *queue_id, struct core_lease *lease);

#endif
