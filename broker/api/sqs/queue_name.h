/* SPDX-License-Identifier: Apache-2.0 */
/* Names, addresses and ARNs of queues. thread: any. */
#ifndef BROKER_API_SQS_QUEUE_NAME_H
#define BROKER_API_SQS_QUEUE_NAME_H

#include "proto/base/slice.h"

#define QUEUE_NAME_BYTES_MAX 80

/* sqs_name_valid: 1..80 of A-Z a-z 0-9 - _, as queue names and the ids of batch entries are. */
bool sqs_name_valid(struct slice name);

/* queue_name_is_fifo: ends in ".fifo". */
bool queue_name_is_fifo(struct slice name);

/* queue_name_valid: may a queue have this name? One of a FIFO queue is at most 80 bytes with its
 * ".fifo". */
bool queue_name_valid(struct slice name);

/* queue_name_of_url: the name in a QueueUrl of any known shape, or the bare name; borrowed. Empty
 * if there is none. */
struct slice queue_name_of_url(struct slice url);

/* queue_path_match: is this the path of a queue, /ACCOUNT/NAME or /queue/REGION/ACCOUNT/NAME? */
bool queue_path_match(struct slice path);

/* queue_name_of_arn: the name in "arn:aws:sqs:REGION:ACCOUNT:NAME", borrowed; empty if it is none.
 * Region and account are not compared: one broker is one account in one region. */
struct slice queue_name_of_arn(struct slice arn);

#endif
