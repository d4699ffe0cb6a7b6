/* SPDX-License-Identifier: Apache-2.0 */
/* One condition of a statement: an operator, a key of the request, and the values to compare it
 * with. Private to broker/auth. thread: any. */
#ifndef BROKER_AUTH_CONDITION_H
#define BROKER_AUTH_CONDITION_H

#include "broker/auth/pattern.h"

struct condition_operator;

struct condition {
    const struct condition_operator *row;
    bool if_exists; /* "...IfExists": true for a key that the request lacks */
    bool for_all;   /* "ForAllValues:": likewise */
    bool for_any;   /* "ForAnyValue:": false for a missing key, whatever the operator */
    struct slice key;
    struct pattern *values;
    size_t value_count;
};

/* condition_operator_read: "ForAnyValue:StringLikeIfExists" into `out`; false if there is no such
 * operator. */
bool condition_operator_read(struct slice name, struct condition *out);

/* condition_value_read: compile one value for the operator. NULL, or what is wrong with it. */
const char *condition_value_read(const struct condition *condition, struct slice text,
                                 bool variables, struct arena *arena, struct pattern *out);

/* condition_holds: `unknown` is the answer where a variable without a value would make it true. */
bool condition_holds(const struct condition *condition, const struct policy_values *values,
                     bool unknown);

#endif
