/* SPDX-License-Identifier: Apache-2.0 */
/* The two attributes about dead-letter queues: RedrivePolicy of the queue that messages leave, and
 * RedriveAllowPolicy of the one that takes them. thread: loop; results live in the call's arena. */
#ifndef BROKER_API_SQS_REDRIVE_H
#define BROKER_API_SQS_REDRIVE_H

#include "broker/api/sqs/call.h"

/* redrive_set: take the RedrivePolicy `value` of the queue `name` apart into `settings`, whose
 * `fifo` says what kind of queue it is; "" removes it. False with an error for a policy that says
 * nothing, or names a queue that cannot be, or does not want to be, this one's dead-letter queue.
 */
MUST_CHECK bool redrive_set(struct sqs_call *call, struct slice name, struct slice value,
                            struct queue_settings *settings, struct sqs_error *error);

/* redrive_target: the key of the queue that the RedrivePolicy among these attributes (struct
 * sqs_pair) names as its target; empty if there is none, or it cannot be read. */
struct slice redrive_target(struct sqs_call *call, const struct sqs_list *attributes);

/* redrive_get: the RedrivePolicy as text; absent without one. */
struct slice redrive_get(struct sqs_call *call, const struct queue_settings *settings);

/* redrive_allow_check: is `value` a RedriveAllowPolicy? "" is: it removes it. */
MUST_CHECK bool redrive_allow_check(struct sqs_call *call, struct slice value,
                                    struct sqs_error *error);

#endif
