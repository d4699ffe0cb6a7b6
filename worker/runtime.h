/* SPDX-License-Identifier: Apache-2.0 */
/* The runtimes that this machine can run, and our bootstraps for them. */
#ifndef WORKER_RUNTIME_H
#define WORKER_RUNTIME_H

#include "proto/base/arena.h"
#include "proto/base/status.h"

#define RUNTIMES_MAX 8

struct runtime {
    const char *id;            /* "python3.11" */
    const char *execution_env; /* AWS_EXECUTION_ENV */
    const char *interpreter;   /* found here; NULL: the package's own `bootstrap` */
    const char *script;        /* below the runtime folder; NULL with no interpreter */
};

struct runtimes {
    struct runtime rows[RUNTIMES_MAX];
    unsigned count;
};

/* runtimes_find: probe each known runtime's interpreters; runs programs, so call before the loop.
 */
void runtimes_find(struct runtimes *out);

/* runtimes_install: write our bootstraps into `dir`, which is made if needed. */
MUST_CHECK enum status runtimes_install(const char *dir);

/* runtime_get: NULL if it cannot be run here. */
const struct runtime *runtime_get(const struct runtimes *runtimes, const char *id);

/* runtime_argv: the command, NULL-terminated, in the arena. */
const char **runtime_argv(const struct runtime *runtime, const char *task_root,
                          const char *runtime_root, struct arena *arena);

/* The bootstraps, embedded in the program when it is built (runtimes/embed.cmake). */
struct runtime_file {
    const char *name;
    const unsigned char *data;
    size_t bytes;
};
extern const struct runtime_file runtime_files[];
extern const size_t runtime_file_count;

#endif
