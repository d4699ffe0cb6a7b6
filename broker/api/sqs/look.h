/* SPDX-License-Identifier: Apache-2.0 */
/* Queues that a call looks at besides its own: those of shards that are on this node are read where
 * they are; of those that are elsewhere the call gets views, into call->looked, before its handler
 * runs (broker/shards/look.h). thread: loop. */
#ifndef BROKER_API_SQS_LOOK_H
#define BROKER_API_SQS_LOOK_H

#include "broker/api/sqs/call.h"
#include "broker/shards/look.h"

/* sqs_look: have what the action needs of the shards in call->lacks, then go on; at once if it is
 * nothing. A call that cannot have it fails. */
void sqs_look(struct sqs_call *call, void (*then)(struct sqs_call *call));

/* sqs_look_ids: likewise, for the queues of these ids (at most LOOK_ITEMS_MAX) that are elsewhere:
 * for handlers, which know them only when they run. What cannot be had is left out. The ids live
 * until then. */
void sqs_look_ids(struct sqs_call *call, const uint64_t *ids, uint32_t count,
                  void (*then)(struct sqs_call *call));

/* sqs_queue_by_name, sqs_queue_by_id: in any shard; elsewhere, if it was looked for.
 * sqs_walk_begin: as queue_walk_begin, with those that were looked for. */
bool sqs_queue_by_name(struct sqs_call *call, struct slice key, struct queue_view *out);
bool sqs_queue_by_id(struct sqs_call *call, uint64_t queue_id, struct queue_view *out);
void sqs_walk_begin(struct sqs_call *call, struct queue_walk *walk, struct slice after);

#endif
