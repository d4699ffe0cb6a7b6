/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a request's JSON body: types are checked as members are asked for, limits are collected
 * and reported together, as AWS does. thread: any; slices borrow from the parsed body. */
#ifndef BROKER_API_LAMBDA_INPUT_H
#define BROKER_API_LAMBDA_INPUT_H

#include "broker/api/lambda/failure.h"

#include <jansson.h>

struct input {
    json_t *root; /* an object */
    struct arena *arena;
    struct failure *failure;  /* the first wrong type; sticky: later members read as missing */
    struct buffer violations; /* texts of limits that were broken */
    unsigned violation_count;
};

/* input_open: parse `body` (empty: an object without members). On false the failure is set. Either
 * way input_close frees it. */
bool input_open(struct input *in, struct slice body, struct arena *arena, struct failure *failure);
void input_close(struct input *in);

/* input_...: a member of `object`, or of the body if that is NULL. null counts as missing.
 *   returns  true if it is there and of that type; a wrong type sets the failure */
bool input_text(struct input *in, const json_t *object, const char *key, struct slice *out);
bool input_integer(struct input *in, const json_t *object, const char *key, int64_t *out);
bool input_bool(struct input *in, const json_t *object, const char *key, bool *out);
bool input_object(struct input *in, const json_t *object, const char *key, json_t **out);
bool input_list(struct input *in, const json_t *object, const char *key, json_t **out);

/* input_violation: one broken limit: "Value 'x' at 'member' failed to satisfy constraint: ...". */
void input_violation(struct input *in, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* input_required: the violation of a missing member. */
void input_required(struct input *in, const char *member);
/* input_between: the violation of a number outside min..max, if it is. */
void input_between(struct input *in, const char *member, int64_t value, int64_t min, int64_t max);

/* input_finish: false if anything was wrong; then the failure says what. */
bool input_finish(struct input *in);

#endif
