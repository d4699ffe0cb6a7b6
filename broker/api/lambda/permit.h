/* SPDX-License-Identifier: Apache-2.0 */
/* Who makes a call of the Lambda API, and may they? Each function returns false with the call's
 * failure set, and answers nothing. thread: loop. */
#ifndef BROKER_API_LAMBDA_PERMIT_H
#define BROKER_API_LAMBDA_PERMIT_H

#include "broker/api/lambda/call.h"

/* call_permit_caller: authenticate the request into call->caller; `body_sha256` as in access.h. */
MUST_CHECK bool call_permit_caller(struct lambda_call *call, const char *body_sha256);

/* call_permit_route: may the caller do what the path says? For CreateFunction, whose name is in the
 * body, call_permit_function follows. */
MUST_CHECK bool call_permit_route(struct lambda_call *call);
MUST_CHECK bool call_permit_function(struct lambda_call *call, const char *action,
                                     struct slice name);

/* call_permit_source: may the caller have a function take messages from this queue? */
MUST_CHECK bool call_permit_source(struct lambda_call *call, struct slice queue_name);

#endif
