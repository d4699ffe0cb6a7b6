/* SPDX-License-Identifier: Apache-2.0 */
/* Queue attributes: between the texts of the API and the settings that the core keeps.
 * thread: loop; results live in the call's arena. */
#ifndef BROKER_API_SQS_ATTRIBUTES_H
#define BROKER_API_SQS_ATTRIBUTES_H

#include "broker/api/sqs/call.h"

/* The settings of a queue that was created without any attribute. */
extern const struct queue_settings attributes_default;

/* attributes_set: apply `given` (pairs) to `settings`; slices in it then live in the arena or are
 * as they were. `queue_name` is the queue's own; `creating` as opposed to changing one. False with
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

/* queue_url_text: the address of a queue, as the client of this call can dial it. */
struct slice queue_url_text(struct sqs_call *call, struct slice name);

/* tags_encode: pairs as a JSON object; tags_decode: back. */
struct slice tags_encode(struct sqs_call *call, const struct sqs_list *tags);
void tags_decode(struct sqs_call *call, struct slice json, struct sqs_list *out);

#endif
