/* SPDX-License-Identifier: Apache-2.0 */
/* What the two lists of queues look for in shards that are elsewhere. thread: loop. */
#ifndef BROKER_API_SQS_LIST_H
#define BROKER_API_SQS_LIST_H

#include "broker/api/sqs/look.h"

/* list_look: fill in the question, and what is wanted, for a call of either action: as many as its
 * page can take, and one more, which tells that there is another page. What is wrong with the call
 * its handler says. */
void list_look(struct sqs_call *call, struct shard_look *look);

#endif
