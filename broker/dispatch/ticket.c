/* SPDX-License-Identifier: Apache-2.0 */
/* Tickets. The bytes, integers little-endian:
 *     OFFSET SIZE  MEANING
 *     0      1     format version, 2: a ticket (1: a claim)
 *     1      8     lease id of the assignment
 *     9      8     node id of the origin
 *     17     8     the origin's number of the invocation
 *     25     36    request id
 *     61     16    first half of HMAC-SHA256(secret, function's name and the bytes before) */
#include "broker/dispatch/ticket.h"

#include "broker/dispatch/claim.h"
#include "proto/base/assert.h"
#include "proto/base/bytes.h"

#define TICKET_VERSION 2
#define TICKET_BYTES   61u

void ticket_encode(struct buffer *out, const uint8_t secret[RECEIPT_SECRET_BYTES],
                   struct slice function, const struct ticket *ticket)
{
    size_t start = out->length;
    ASSERT(strlen(ticket->request_id) == UUID_TEXT_LENGTH);
    buffer_add_byte(out, TICKET_VERSION);
    buffer_add_u64(out, ticket->lease_id);
    buffer_add_u64(out, ticket->node_id);
    buffer_add_u64(out, ticket->id);
    buffer_add(out, ticket->request_id, UUID_TEXT_LENGTH);
    claim_seal(out, start, secret, function);
}

bool ticket_is(struct slice in)
{
    return in.length > 0 && in.data[0] == TICKET_VERSION;
}

bool ticket_decode(struct slice in, const uint8_t secret[RECEIPT_SECRET_BYTES],
                   struct slice function, struct ticket *out)
{
    struct slice body;
    *out = (struct ticket){0};
    if (!ticket_is(in) || !claim_open(in, secret, function, &body) || body.length != TICKET_BYTES)
        return false;
    struct cursor c = cursor_of(slice_sub(body, 1));
    out->lease_id = cursor_u64(&c);
    out->node_id = cursor_u64(&c);
    out->id = cursor_u64(&c);
    memcpy(out->request_id, c.at, UUID_TEXT_LENGTH);
    return true;
}
