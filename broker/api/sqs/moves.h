/* SPDX-License-Identifier: Apache-2.0 */
/* What others need to know of message move tasks. thread: loop. */
#ifndef BROKER_API_SQS_MOVES_H
#define BROKER_API_SQS_MOVES_H

#include "broker/api/sqs/call.h"

/* move_handle_source: the ARN of the queue that a task handle names, in the call's arena; absent
 * for what is no handle. */
struct slice move_handle_source(struct sqs_call *call, struct slice handle);

#endif
