/* SPDX-License-Identifier: Apache-2.0 */
/* Who makes an SQS call, and may they? thread: loop. */
#ifndef BROKER_API_SQS_PERMIT_H
#define BROKER_API_SQS_PERMIT_H

#include "broker/api/sqs/call.h"

/* sqs_permit_caller: authenticate the request into call->caller. sqs_permit_action: may the caller
 * do what the decoded input asks for? False: the call was answered. */
MUST_CHECK bool sqs_permit_caller(struct sqs_call *call);
MUST_CHECK bool sqs_permit_action(struct sqs_call *call);

#endif
