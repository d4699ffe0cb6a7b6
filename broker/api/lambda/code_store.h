/* SPDX-License-Identifier: Apache-2.0 */
/* Bringing a call's package into the core, in pieces. thread: loop. */
#ifndef BROKER_API_LAMBDA_CODE_STORE_H
#define BROKER_API_LAMBDA_CODE_STORE_H

#include "broker/api/lambda/call.h"

/* code_store: store call->package, then go on in `stored` (perhaps before returning, if the code is
 * there already). If that fails the call is answered here; if the client has gone, nothing more is
 * sent, and the core drops what came of it after an hour. */
void code_store(struct lambda_call *call, void (*stored)(struct lambda_call *call));

#endif
