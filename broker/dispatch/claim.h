/* SPDX-License-Identifier: Apache-2.0 */
/* Claims: what a broker gives a worker along with a batch, so that the next broker, which knows
 * nothing of it, can take the batch over: which messages it is, under which leases. The worker
 * keeps it as bytes. It is authenticated with the cluster's secret, so that a worker can only show
 * what some broker of this cluster gave out. thread: any. */
#ifndef BROKER_DISPATCH_CLAIM_H
#define BROKER_DISPATCH_CLAIM_H

#include "broker/core/types.h"
#include "broker/dispatch/receipt.h"
#include "proto/base/encode.h"

#define CLAIM_MESSAGES_MAX 10000u

struct claim_message {
    struct core_lease lease;
    uint8_t id[UUID_BYTES]; /* the message's, for partial answers */
    uint32_t group;         /* FIFO: the first of the batch in its group */
};

struct claim {
    uint64_t lease_id; /* of the assignment */
    bool async;        /* of the function's event queue, else of a mapping */
    bool fifo;
    uint8_t uuid[UUID_BYTES]; /* of the mapping */
    uint64_t queue_id;
    uint64_t leased_ms;    /* core time of the receive */
    uint32_t visibility_s; /* for which the messages may be kept in all */
    uint32_t count;        /* 1..CLAIM_MESSAGES_MAX */
    struct claim_message *messages;
};

/* claim_encode: append it. `function` is authenticated with it, and is not in the bytes. */
void claim_encode(struct buffer *out, const uint8_t secret[RECEIPT_SECRET_BYTES],
                  struct slice function, const struct claim *claim);

/* claim_decode: false for anything that this cluster did not make for this function. The messages
 * are the caller's to free (free), also of nothing: they are NULL then. */
MUST_CHECK bool claim_decode(struct slice in, const uint8_t secret[RECEIPT_SECRET_BYTES],
                             struct slice function, struct claim *out);

/* claim_seal: append the code that authenticates the bytes from `start` on, for this function.
 * claim_open: `in` without its code, if that is right. For claims and tickets (ticket.h). */
void claim_seal(struct buffer *out, size_t start, const uint8_t secret[RECEIPT_SECRET_BYTES],
                struct slice function);
MUST_CHECK bool claim_open(struct slice in, const uint8_t secret[RECEIPT_SECRET_BYTES],
                           struct slice function, struct slice *body);

#endif
