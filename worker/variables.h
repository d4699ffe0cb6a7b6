/* SPDX-License-Identifier: Apache-2.0 */
/* The environment variables of a function. */
#ifndef WORKER_VARIABLES_H
#define WORKER_VARIABLES_H

#include "proto/base/arena.h"
#include "proto/rpc/millrace.pb-c.h"

struct variables_input {
    const Millrace__Function *function;
    const char *execution_env;
    const char *task_root;
    const char *runtime_root;
    const char *home;        /* "/tmp", or the private folder */
    const char *runtime_api; /* host:port */
    const char *log_stream;
    const char *endpoint; /* of the SQS and Lambda APIs; may be empty, as may these: */
    const char *region;
};

/* variables_build: "NAME=value" texts, NULL-terminated, in the arena. */
const char **variables_build(const struct variables_input *in, struct arena *arena);

/* variables_reserved: names that a function's own configuration may not set. */
bool variables_reserved(const char *name);

#endif
