/* SPDX-License-Identifier: Apache-2.0 */
/* What this worker runs that another broker may take over: assignments with a claim, from their
 * order to the moment their result has gone out. A result that cannot be sent, because there is no
 * session, is kept with its claim for the next one. thread: loop. */
#ifndef WORKER_CLAIMS_H
#define WORKER_CLAIMS_H

#include "proto/base/status.h"
#include "proto/rpc/millrace.pb-c.h"

#include <stdbool.h>

#define CLAIMS_RESULT_BYTES_MAX (64u << 20) /* of results that are kept */
#define CLAIMS_KEEP_MS          15000u      /* longer than any broker holds a lease for a worker */

struct claims;

struct claims *claims_new(void);
void claims_free(struct claims *claims);

/* claims_add: remember an order that has a claim; others are ignored. */
void claims_add(struct claims *claims, const Millrace__Assign *order, uint64_t now_ms);

/* claims_has: the lease is one of these. */
bool claims_has(const struct claims *claims, uint64_t lease_id);

/* claims_sent: its result has gone out: forget it. claims_keep: it has not: keep it, packed; false
 * if it is not one of these, or there is no room. */
void claims_sent(struct claims *claims, uint64_t lease_id);
bool claims_keep(struct claims *claims, const Millrace__Result *result, uint64_t now_ms);

/* claims_show: a session has begun: `send` gets a Running of each, and behind it its Result if it
 * is kept; what it took is forgotten. Ends early when `send` says false. */
void claims_show(struct claims *claims, uint64_t now_ms,
                 bool (*send)(void *data, uint16_t type, const ProtobufCMessage *message),
                 void *data);

#endif
