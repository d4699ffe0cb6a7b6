/* SPDX-License-Identifier: Apache-2.0 */
/* Names, addresses and ARNs of queues, and the keys by which the core knows them. thread: any. */
#ifndef BROKER_API_SQS_QUEUE_NAME_H
#define BROKER_API_SQS_QUEUE_NAME_H

#include "proto/base/slice.h"

#define QUEUE_NAME_BYTES_MAX   80
#define QUEUE_REGION_BYTES_MAX 32
#define QUEUE_KEY_BYTES_MAX    (QUEUE_REGION_BYTES_MAX + 1 + QUEUE_NAME_BYTES_MAX)

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

/* queue_region_of_url: the region that a QueueUrl names, in its path (/queue/REGION/ACCOUNT/NAME)
 * or its host (sqs.REGION.DOMAIN, REGION.queue.DOMAIN); borrowed. Empty if it names none. */
struct slice queue_region_of_url(struct slice url);

/* queue_path_match: is this the path of a queue, /ACCOUNT/NAME, /queue/NAME or
 * /queue/REGION/ACCOUNT/NAME? */
bool queue_path_match(struct slice path);

/* queue_name_of_arn: the name in "arn:aws:sqs:REGION:ACCOUNT:NAME", borrowed; empty if it is none.
 * The account is not compared: one broker is one account. queue_region_of_arn: the region in what
 * queue_name_of_arn found a name in. */
struct slice queue_name_of_arn(struct slice arn);
struct slice queue_region_of_arn(struct slice arn);

/* A queue's key is its name, or "REGION:NAME" in a region that is not the node's own (region.h).
 * The two parts, borrowed; no region: empty. */
struct slice queue_key_name(struct slice key);
struct slice queue_key_region(struct slice key);

/* region_valid: 1..32 of a-z 0-9 -. account_id_valid: twelve digits. */
bool region_valid(struct slice region);
#define ACCOUNT_DIGITS 12
bool account_id_valid(struct slice account);

#endif
