/* SPDX-License-Identifier: Apache-2.0 */
/* A function's settings, from the body of CreateFunction or UpdateFunctionConfiguration, with every
 * check that needs nothing but the request. thread: any. */
#ifndef BROKER_API_LAMBDA_SETTINGS_H
#define BROKER_API_LAMBDA_SETTINGS_H

#include "broker/api/lambda/input.h"
#include "broker/dispatch/function_config.h"

#define TAGS_MAX 50

/* settings_default: what a new function has before the request is read. */
void settings_default(struct function_config *config);

/* settings_read: put the members that the request gives over those in `config`. Slices borrow from
 * the input or its arena. On false the failure is set (and `config` is of no use). */
bool settings_read(struct input *in, bool creating, struct function_config *config);

/* settings_architectures: the member Architectures, also of UpdateFunctionCode. */
void settings_architectures(struct input *in, struct function_config *config);

/* settings_tags: put the members of Tags over those in `config`. */
void settings_tags(struct input *in, struct function_config *config);

/* settings_refuse_unsupported: a member that would change how the function runs, and that this
 * version could only ignore, is refused by name. */
bool settings_refuse_unsupported(struct input *in, const json_t *object);

/* settings_small_enough: does the record fit what a catalog entry may have? Sets the failure. */
bool settings_small_enough(struct input *in, const struct function_config *config);

#endif
