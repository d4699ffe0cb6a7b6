/* SPDX-License-Identifier: Apache-2.0 */
/* What routes.def names. Decoders read the request into the call and may run in a pool thread: they
 * touch nothing but the call, and return false with the failure set. Runs are on the loop and end
 * in an answer, now or later. */
#ifndef BROKER_API_LAMBDA_ACTIONS_H
#define BROKER_API_LAMBDA_ACTIONS_H

#include "broker/api/lambda/call.h"

typedef bool (*lambda_decode_fn)(struct lambda_call *call);
typedef void (*lambda_run_fn)(struct lambda_call *call);

bool lambda_decode_none(struct lambda_call *call);
bool lambda_decode_json(struct lambda_call *call);
bool lambda_decode_create(struct lambda_call *call);
bool lambda_decode_code(struct lambda_call *call);
bool lambda_decode_payload(struct lambda_call *call);

#define LAMBDA_ACTION(method, path, action, decode, run, bytes_max)                                \
    void lambda_run_##run(struct lambda_call *call);
#define LAMBDA_MISSING(method, path, action)
#include "broker/api/lambda/routes.def"
#undef LAMBDA_ACTION
#undef LAMBDA_MISSING

#endif
