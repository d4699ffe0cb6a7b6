/* SPDX-License-Identifier: Apache-2.0 */
/* The MD5 of the bodies that come in one turn of the loop, made together (digest_md5_each), which
 * costs a third of making each by itself. Only HTTP's clients are told it. thread: loop. */
#ifndef BROKER_API_SQS_DIGESTS_H
#define BROKER_API_SQS_DIGESTS_H

#include "broker/api/sqs/call.h"

/* sqs_digest: if the call's input has bodies, have it run (sqs_call_run) before the loop waits
 * again, with their MD5 in call->md5; if the client goes meanwhile it ends. False: it has none, and
 * is the caller's to run. */
MUST_CHECK bool sqs_digest(struct sqs_call *call);

/* sqs_turn_end: make what was asked for, and run those calls. */
void sqs_turn_end(struct api *api);

#endif
