/* SPDX-License-Identifier: Apache-2.0 */
/* SQS calls about a queue whose shard is not on this node: they go whole to a node that has it, and
 * are judged and carried out there (docs/replication.md, "Replicas"). Who calls is known here
 * already; what they may do is decided where the queue is. thread: loop. */
#ifndef BROKER_API_SQS_AWAY_H
#define BROKER_API_SQS_AWAY_H

#include "broker/api/sqs/call.h"

/* sqs_away_wanted: the shard of the queue that the call names (call->own) is on other nodes only,
 * and the call has not come from one. */
bool sqs_away_wanted(const struct sqs_call *call);

/* sqs_away_node: the node that is to lead that shard, for who would rather ask it; 0: not known. */
uint64_t sqs_away_node(const struct sqs_call *call);

/* sqs_away_ask: have it carried out elsewhere, and answer it. Its caller is known, and its input is
 * whole. */
void sqs_away_ask(struct sqs_call *call);

/* sqs_away_serve: carry out the calls of other nodes, from now on (broker/node.c). */
void sqs_away_serve(struct api *api);

#endif
