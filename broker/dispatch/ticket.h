/* SPDX-License-Identifier: Apache-2.0 */
/* Tickets: what a broker gives a worker along with a synchronous invocation, as a claim is given
 * along with a batch (claim.h). The caller waits at some node, the origin; the next leader learns
 * from the ticket who that is, and sends the result there. Authenticated like a claim. thread: any.
 */
#ifndef BROKER_DISPATCH_TICKET_H
#define BROKER_DISPATCH_TICKET_H

#include "broker/dispatch/receipt.h"
#include "proto/base/encode.h"

struct ticket {
    uint64_t lease_id; /* of the assignment */
    uint64_t node_id;  /* the origin, */
    uint64_t id;       /* and its number of the invocation (remote.c) */
    char request_id[UUID_TEXT_LENGTH + 1];
};

/* ticket_encode: append it. `function` is authenticated with it, and is not in the bytes. */
void ticket_encode(struct buffer *out, const uint8_t secret[RECEIPT_SECRET_BYTES],
                   struct slice function, const struct ticket *ticket);

/* ticket_is: these bytes say that they are one, and no claim. ticket_decode: false for anything
 * that this cluster did not make for this function. */
bool ticket_is(struct slice in);
MUST_CHECK bool ticket_decode(struct slice in, const uint8_t secret[RECEIPT_SECRET_BYTES],
                              struct slice function, struct ticket *out);

#endif
