/* SPDX-License-Identifier: Apache-2.0 */
/* Why a call is refused: a row of errors.def, and a text. thread: any. */
#ifndef BROKER_API_LAMBDA_FAILURE_H
#define BROKER_API_LAMBDA_FAILURE_H

#include "proto/base/arena.h"
#include "proto/base/buffer.h"

enum lambda_error {
    LAMBDA_OK,
#define LAMBDA_ERROR(name, code, status, fault, member) LAMBDA_##name,
#include "broker/api/lambda/errors.def"
#undef LAMBDA_ERROR
};

struct failure {
    enum lambda_error error; /* LAMBDA_OK: none so far */
    const char *text;        /* valid UTF-8, in the arena that failure_set got */
    const char *reason;      /* member "Reason" of the body, static; NULL for none */
};

/* failure_set: remember the first error; later ones are ignored, because the first is the cause.
 * The text may carry bytes from outside: what is not UTF-8 is replaced.
 *   returns  false, always, so that a check can end in `return failure_set(...)` */
bool failure_set(struct failure *failure, struct arena *arena, enum lambda_error error,
                 const char *format, ...) __attribute__((format(printf, 4, 5)));

/* failure_code, failure_status: what x-amzn-ErrorType and the status line say; static storage. */
const char *failure_code(enum lambda_error error);
int failure_status(enum lambda_error error);

/* failure_body: append the JSON of the answer, {"Type":"User","Message":"..."}. */
void failure_body(struct buffer *out, const struct failure *failure);

/* SHOWN: "%.*s" arguments of a slice that came from outside and may be long. */
#define SHOWN_BYTES_MAX 1024
#define SHOWN(s)                                                                                   \
    (int)((s).length < SHOWN_BYTES_MAX ? (s).length : SHOWN_BYTES_MAX),                            \
        (const char *)((s).data ? (s).data : (const uint8_t *)"")

#endif
