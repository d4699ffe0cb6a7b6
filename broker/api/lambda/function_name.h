/* SPDX-License-Identifier: Apache-2.0 */
/* Names of functions: NAME, ACCOUNT:function:NAME, or an ARN, each perhaps with :QUALIFIER.
 * thread: any. */
#ifndef BROKER_API_LAMBDA_FUNCTION_NAME_H
#define BROKER_API_LAMBDA_FUNCTION_NAME_H

#include "broker/api/lambda/failure.h"
#include "proto/base/status.h"

#define FUNCTION_NAME_BYTES_MAX 64
#define FUNCTION_ARN_BYTES_MAX  170

struct function_name {
    struct slice region;  /* absent if not given */
    struct slice account; /* absent if not given */
    struct slice name;
    struct slice qualifier; /* absent if not given */
};

/* function_name_parse: split what a client gave as FunctionName; slices borrow from `text`. Checks
 * characters and lengths. */
MUST_CHECK bool function_name_parse(struct slice text, struct function_name *out);

/* function_name_read: the same for a call, with the errors that AWS gives. `qualifier` is the query
 * parameter of that name, or absent; it must agree with the one in the name. An ARN of another
 * region or account, and any qualifier but $LATEST, name nothing that this broker has. */
bool function_name_read(struct slice text, struct slice qualifier, const char *region,
                        const char *account, struct arena *arena, struct failure *failure,
                        struct function_name *out);

/* function_name_refuse: the failure for a missing or malformed name, as AWS words it. */
bool function_name_refuse(struct slice text, struct arena *arena, struct failure *failure);

#endif
