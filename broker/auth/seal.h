/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets at rest: AES-256-GCM under a key derived from the cluster's secret. Private to
 * broker/auth; docs/security.md says what this protects from and what not. thread: any. */
#ifndef BROKER_AUTH_SEAL_H
#define BROKER_AUTH_SEAL_H

#include "proto/base/arena.h"
#include "proto/base/buffer.h"

#define SEAL_NONCE_BYTES          12
#define SEAL_TAG_BYTES            16
#define SEAL_OVERHEAD_BYTES       (SEAL_NONCE_BYTES + SEAL_TAG_BYTES)
#define SEAL_CLUSTER_SECRET_BYTES 32

/* seal_close: append nonce, sealed text and tag. `context` is authenticated with it: what is sealed
 * for one key does not open as another's. */
void seal_close(const uint8_t cluster_secret[SEAL_CLUSTER_SECRET_BYTES], struct slice context,
                struct slice plain, struct buffer *out);

/* seal_open: the plain text, in the arena; false for what was not sealed so. */
bool seal_open(const uint8_t cluster_secret[SEAL_CLUSTER_SECRET_BYTES], struct slice context,
               struct slice sealed, struct arena *arena, struct slice *plain);

#endif
