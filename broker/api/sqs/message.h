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
    bool in_batch; /* an entry of one: AWS words one sentence otherwise there */
};

/* outgoing_bytes: what counts against the limits: body, and names, types and values of attributes.
 */
uint64_t outgoing_bytes(const struct outgoing *out);

/* outgoing_check: does it obey the rules, as a message for a queue with these settings? On success
 * `record` holds it (borrowing, or in the arena), without MD5s. */
MUST_CHECK bool outgoing_check(struct sqs_call *call, const struct outgoing *out,
                               const struct queue_settings *settings, struct record *record,
                               struct sqs_error *error);

/* outgoing_check_ids: does it name its message group, and is there a deduplication id, as a FIFO
 * queue wants? `absent` is the code of the error when the group is not given. */
MUST_CHECK bool outgoing_check_ids(struct sqs_call *call, const struct outgoing *out,
                                   const struct queue_settings *settings,
                                   enum sqs_error_code absent, struct sqs_error *error);

/* sqs_fifo_id_legal: 1..128 letters, digits and punctuation, as the ids of FIFO queues are. */
bool sqs_fifo_id_legal(struct slice id);

#endif
