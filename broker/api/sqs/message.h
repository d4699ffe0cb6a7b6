/* SPDX-License-Identifier: Apache-2.0 */
/* What a sender may send: the rules for one message, and its record. thread: loop. */
#ifndef BROKER_API_SQS_MESSAGE_H
#define BROKER_API_SQS_MESSAGE_H

#include "broker/api/sqs/call.h"
#include "broker/core/record.h"

/* One message as it was given, by SendMessage or as an entry of a batch; borrowed. */
struct outgoing {
    struct slice body;
    struct sqs_number delay_s;
    const struct sqs_list *attributes;        /* of struct sqs_message_attribute */
    const struct sqs_list *system_attributes; /* the same */
    struct slice group_id;
    struct slice deduplication_id;
};

/* outgoing_bytes: what counts against the limits: body, and names, types and values of attributes.
 */
uint64_t outgoing_bytes(const struct outgoing *out);

/* outgoing_check: does it obey the rules that need no queue but its size limit? On success `record`
 * holds it (borrowing), without MD5s. */
MUST_CHECK bool outgoing_check(struct sqs_call *call, const struct outgoing *out,
                               uint32_t message_bytes_max, struct record *record,
                               struct sqs_error *error);

#endif
