/* SPDX-License-Identifier: Apache-2.0 */
/* Who a native connection is: nobody in particular, or an access key that has been proven once for
 * all its calls (proto/sigv4/proof.h). thread: loop. */
#ifndef BROKER_API_NATIVE_IDENTITY_H
#define BROKER_API_NATIVE_IDENTITY_H

#include "broker/api/api.h"
#include "broker/auth/auth.h"
#include "proto/rpc/link.h"

/* Shared by a connection and its calls, which may outlive it. */
struct identity;

/* identity_new: of a link that has just greeted; nobody yet. */
struct identity *identity_new(struct api *api, const struct link *link);
struct identity *identity_hold(struct identity *identity);
void identity_release(struct identity *identity);

/* identity_challenge: does the greeting name a key, which has to be proven here? Then `nonce` and
 * `time` (a moment, proto/sigv4/moment.h) are what to ask with, or *wrong says what is no greeting.
 */
bool identity_challenge(struct identity *identity, const Millrace__ClientHello *hello,
                        uint8_t nonce[PROOF_NONCE_BYTES], const char **time, const char **wrong);

/* identity_prove: take the answer. False: `failure`, whose message is alive as long as this. */
bool identity_prove(struct identity *identity, struct slice proof, struct auth_failure *failure);

/* identity_region: where its calls are at home; empty: as the node. Alive as long as this. */
struct slice identity_region(const struct identity *identity);

/* identity_caller: who makes a call now; as auth_authenticate. Slices are the identity's. */
bool identity_caller(struct identity *identity, struct auth_caller *out,
                     struct auth_failure *failure);

#endif
