/* SPDX-License-Identifier: Apache-2.0 */
/* Tags of queues: between the lists of the API and the JSON object that the core keeps.
 * thread: loop; results live in the call's arena. */
#ifndef BROKER_API_SQS_TAGS_H
#define BROKER_API_SQS_TAGS_H

#include "broker/api/sqs/call.h"

/* tags_merge: the tags of `json`, those of the queue `name`, with those of `given` (pairs) added,
 * as a JSON object again; empty if there are none. False with an error when a tag is not allowed,
 * or there are too many. */
MUST_CHECK bool tags_merge(struct sqs_call *call, struct slice name, struct slice json,
                           const struct sqs_list *given, struct slice *out,
                           struct sqs_error *error);

#endif
