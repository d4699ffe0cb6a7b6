/* SPDX-License-Identifier: Apache-2.0 */
/* In which region a request is at home, and what the core calls a queue there.
 *
 * With --regions same, the default, there is one region: the node's; what a client signs for is not
 * looked at. With --regions separate each region has queues of its own, so the same name may be in
 * several. thread: loop; results live in the call's arena. */
#ifndef BROKER_API_SQS_REGION_H
#define BROKER_API_SQS_REGION_H

#include "broker/api/sqs/call.h"

/* region_of_request: the region that the request was signed for; empty: the node's own. */
struct slice region_of_request(struct sqs_call *call, const struct http_request *request);

/* queue_key: the core's name of the queue `name` in `region` (empty: the node's own).
 * queue_key_here: in the region of this call. queue_key_of_url: of what a QueueUrl names: its own
 * region counts before that of the call. queue_key_of_arn: of what an ARN names; empty if nothing.
 */
struct slice queue_key(struct sqs_call *call, struct slice region, struct slice name);
struct slice queue_key_here(struct sqs_call *call, struct slice name);
struct slice queue_key_of_url(struct sqs_call *call, struct slice url);
struct slice queue_key_of_arn(struct sqs_call *call, struct slice arn);

#endif
