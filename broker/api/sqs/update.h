/* SPDX-License-Identifier: Apache-2.0 */
/* Changing a queue by reading it, editing and writing it back. thread: loop. */
#ifndef BROKER_API_SQS_UPDATE_H
#define BROKER_API_SQS_UPDATE_H

#include "broker/api/sqs/call.h"

/* Make the command that changes `queue`, carrying its version; slices that are put into it live in
 * the arena. False with an error: nothing is changed and the call fails. May run more than once in
 * a call. */
typedef bool (*queue_edit_fn)(struct sqs_call *call, const struct queue_view *queue,
                              struct command *command, struct sqs_error *error);

/* sqs_update: answer the call, an action without a result, when the edited queue is committed.
 * Uses call->state. */
void sqs_update(struct sqs_call *call, struct slice queue_url, queue_edit_fn edit);

/* sqs_update_command: a QUEUE_UPDATE that leaves all settings as they are. sqs_tag_command: a
 * QUEUE_TAG with these tags. */
struct command sqs_update_command(const struct queue_view *queue);
struct command sqs_tag_command(const struct queue_view *queue, struct slice tags);

#endif
