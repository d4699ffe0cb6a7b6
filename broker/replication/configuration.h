/* SPDX-License-Identifier: Apache-2.0 */
/* The members of a Raft group as bytes, for snapshots (raft.h can only encode). */
#ifndef BROKER_REPLICATION_CONFIGURATION_H
#define BROKER_REPLICATION_CONFIGURATION_H

#include "proto/base/buffer.h"
#include "proto/base/status.h"

#include <raft.h>

/* configuration_encode: append. configuration_decode: any bytes; INVALID leaves *out empty; the
 * caller ends it with raft_configuration_close. */
void configuration_encode(struct buffer *out, const struct raft_configuration *in);
MUST_CHECK enum status configuration_decode(struct slice in, struct raft_configuration *out);

/* configuration_from_entry: as the library writes it into a RAFT_CHANGE entry (configuration.c of
 * 0.15): u8 1, u64 count; each: u64 id, address and its NUL, u8 role. As above. */
MUST_CHECK enum status configuration_from_entry(struct slice in, struct raft_configuration *out);

#endif
