/* SPDX-License-Identifier: Apache-2.0 */
/* What a replica promised outlives it. A node that lets go of its replica of a shard keeps its term
 * and vote (the meta files), and how far its log reached: the file `promise`. When the node gets a
 * replica of that shard again, that one begins without a log, but votes as the old one would have:
 * in no term twice, and for nobody whose log ends before the old one's. Without that, two nodes of
 * a group of old that have both begun anew could make a third the leader that has slept through all
 * of it. Nor does it stand for election itself before its log has got as far (guard.c, may_stand):
 * it is sent the log from its beginning, where it was a voter once, perhaps the only one.
 * thread: any (blocking). */
#ifndef BROKER_REPLICATION_PROMISE_H
#define BROKER_REPLICATION_PROMISE_H

#include "broker/replication/shard.h"

#define PROMISE_NAME  "promise"
#define PROMISE_BYTES 32u

void promise_encode(const struct shard_end *end, uint8_t out[PROMISE_BYTES]);
MUST_CHECK bool promise_decode(struct slice in, struct shard_end *out);

/* promise_keep: make the folder `to` with what the replica in `from`, which is closed, promised;
 * its log ended at `end`. What is in `to` already is replaced. Returns 0 or an errno. promise_load:
 * NOT_FOUND: nothing was promised here before; CORRUPT. */
MUST_CHECK int promise_keep(const char *from, const char *to, const struct shard_end *end);
MUST_CHECK enum status promise_load(const char *dir, struct shard_end *out);

/* promise_allows: a vote for one whose log ends at `end`. */
bool promise_allows(const struct shard_end *promised, const struct shard_end *end);

#endif
