/* SPDX-License-Identifier: Apache-2.0 */
/* A whole SQS call, and its answer, as the bytes of an AWAY_SQS question (broker/away). Integers
 * are little-endian, `bytes` is a u32 length and that many bytes:
 *
 *     call    u8 version, 1; u8 protocol; u8 kind of caller; u8 flags: SQS_AWAY_...
 *             u16 action; u16 zero; u32 age (ms); u64 time of the request (s)
 *             bytes: sender id, region, base URL, request id; of the caller: key id, account, ARN,
 *             name, source address, user agent, region
 *             the rest: its input, as of proto/sqs/native.h
 *     answer  u8 0, then the result, as there; or
 *             u8 1, then bytes: JSON type, Query code, sentence; nothing may follow
 *
 * Actions are positions in sqs_actions.def, whose rows are only ever appended. Errors go by their
 * two names, since their rows are not. Decoding accepts any bytes safely; slices borrow from them.
 * thread: any. */
#ifndef BROKER_API_SQS_AWAY_MESSAGE_H
#define BROKER_API_SQS_AWAY_MESSAGE_H

#include "broker/auth/auth.h"
#include "proto/base/buffer.h"
#include "proto/sqs/errors.h"

#define SQS_AWAY_NO_MD5  1u  /* as of struct sqs_carrier */
#define SQS_AWAY_MAY_LAG 2u  /* likewise */
#define SQS_AWAY_SECURE  4u  /* it came over TLS */
#define SQS_AWAY_ROOT    8u  /* made with the root key */
#define SQS_AWAY_OURS    16u /* the broker's own: nobody's permission is asked */
#define SQS_AWAY_FLAGS   31u

struct sqs_away_call {
    enum sqs_action action;
    enum sqs_protocol protocol;
    uint8_t flags;
    uint32_t age_ms; /* since it came from the client */
    struct slice sender_id, region, base_url, request_id;
    struct auth_caller caller; /* `secure` and `root` are in the flags too */
    const void *input;         /* of the action's shape; decoded: in the arena */
};

void sqs_away_call_encode(struct buffer *out, const struct sqs_away_call *call);

/* sqs_away_call_decode: false: malformed, of another version, or of an action that this program
 * does not know. */
MUST_CHECK bool sqs_away_call_decode(struct slice in, struct arena *arena,
                                     struct sqs_away_call *out);

void sqs_away_result_encode(struct buffer *out, enum sqs_action action, const void *result);
void sqs_away_error_encode(struct buffer *out, enum sqs_protocol protocol,
                           const struct sqs_error *error);

/* sqs_away_answer_decode: error->code SQS_OK: `result` is a zeroed struct of the action's result
 * shape, filled (if it has one). Else the error; one that this program does not know is INTERNAL.
 * False: malformed. */
MUST_CHECK bool sqs_away_answer_decode(struct slice in, enum sqs_action action, struct arena *arena,
                                       void *result, struct sqs_error *error);

#endif
