/* SPDX-License-Identifier: Apache-2.0 */
/* Queue attributes: between the texts of the API and the settings that the core keeps.
 * thread: loop; results live in the call's arena. */
#ifndef BROKER_API_SQS_ATTRIBUTES_H
#define BROKER_API_SQS_ATTRIBUTES_H

#include "broker/api/sqs/call.h"

/* The settings of a queue that was created without any attribute. */
extern const struct queue_settings attributes_default;

/* attributes_set: apply `given` (pairs) to `settings`; slices in it then live in the arena or are
 * as they were. `queue_name` is the queue's own; `creating` as opposed to changing one: then the
 * queue becomes what the attribute FifoQueue says. False with
 * an error for the first attribute that is unknown, read-only or has a bad value; `settings` is
 * then to be dropped. */
MUST_CHECK bool attributes_set(struct sqs_call *call, struct slice queue_name, bool creating,
                               const struct sqs_list *given, struct queue_settings *settings,
                               struct sqs_error *error);

/* attributes_get: pairs for `names` ("All" stands for every one that has a value). False with an
 * error for a name that does not exist. */
MUST_CHECK bool attributes_get(struct sqs_call *call, const struct queue_view *queue,
                               const struct sqs_list *names, struct sqs_list *out,
                               struct sqs_error *error);

/* attributes_differ: the first of `given` whose value is not the queue's own, or NULL. False with
 * an error for a bad value. */
MUST_CHECK bool attributes_differ(struct sqs_call *call, const struct queue_view *queue,
                                  const struct sqs_list *given, const char **different,
                                  struct sqs_error *error);

/* attributes_name_known: is this the name of a queue attribute, or "All"? */
bool attributes_name_known(struct slice name);

/* attributes_ask_fifo: does CreateQueue with these attributes make a FIFO queue? */
bool attributes_ask_fifo(const struct sqs_list *given);

#endif
