/* SPDX-License-Identifier: Apache-2.0 */
/* What an SQS call is about: sqs_permits.def as data, and the shards that follow from it. thread:
 * loop. */
#ifndef BROKER_API_SQS_SUBJECT_H
#define BROKER_API_SQS_SUBJECT_H

#include "broker/api/sqs/call.h"

enum sqs_resource { QUEUE_URL, QUEUE_NAME, SOURCE_ARN, HANDLE, EVERY };
enum sqs_reads { OWN, TARGET, ALL };
enum sqs_again { ONCE, AGAIN, IF_FIFO };

struct sqs_permit {
    const char *action; /* "sqs:SendMessage" */
    enum sqs_resource resource;
    enum sqs_reads reads;
    enum sqs_again again;
};
extern const struct sqs_permit sqs_permits[SQS_ACTION_COUNT];

/* sqs_first_member: of the call's input, which names its queue where it has one. */
struct slice sqs_first_member(const struct sqs_call *call);

/* sqs_key_named: the core's name of the queue that the call names, from its input; empty if it
 * names none. It is asked for once: call->key. */
struct slice sqs_key_named(struct sqs_call *call);

/* sqs_target_named: likewise, of the target of the RedrivePolicy that CreateQueue or
 * SetQueueAttributes is to set. */
struct slice sqs_target_named(struct sqs_call *call);

/* sqs_shards_read: the shards whose state decides what the call, whose input is filled in, is
 * answered: of its queue, of others that it looks at, and the catalog where keys are checked. Of a
 * call that is carried out elsewhere the catalog alone. */
struct shard_set sqs_shards_read(struct sqs_call *call);

/* sqs_of_messages: it sends, receives or settles messages. */
bool sqs_of_messages(enum sqs_action action);

/* sqs_queue_known: the queue that the call is about is one that this node knows. */
bool sqs_queue_known(struct sqs_call *call);

#endif
