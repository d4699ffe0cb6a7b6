/* SPDX-License-Identifier: Apache-2.0 */
/* The event that a function gets for a batch of messages, as Lambda's SQS event source builds it.
 * thread: any. */
#ifndef BROKER_DISPATCH_EVENT_H
#define BROKER_DISPATCH_EVENT_H

#include "broker/core/record.h"

#define EVENT_BYTES_MAX (6u << 20) /* Lambda quota: payload of one invocation */

struct event_source {
    const uint8_t *secret; /* of the cluster, for receipt handles */
    uint64_t queue_id;
    const char *queue_arn;
    const char *region;
    bool fifo;
};

/* event_begin, event_add for each message, event_end: append `{"Records":[...]}` to `out`.
 * event_add leaves `out` as it was and returns false when the event would exceed EVENT_BYTES_MAX;
 * the first message is always taken. `origin_arn`: the queue that the message was redriven from;
 * NULL = none. */
void event_begin(struct buffer *out);
MUST_CHECK bool event_add(struct buffer *out, const struct event_source *source,
                          const struct core_message *message, const struct record *record,
                          const char *origin_arn);
void event_end(struct buffer *out);

/* json_text: append `text` as a JSON string with its quotes. Bytes that are not UTF-8 become
 * U+FFFD, so that the result is always valid JSON. */
void json_text(struct buffer *out, struct slice text);

#endif
