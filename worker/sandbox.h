/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of an execution environment: what a fresh process does until it is the runtime. */
#ifndef WORKER_SANDBOX_H
#define WORKER_SANDBOX_H

#include "proto/base/arena.h"
#include "proto/base/buffer.h"
#include "proto/base/status.h"

#include <linux/filter.h>
#include <stdint.h>

#define SANDBOX_WORDS_MAX 4096u /* of argv, and of the environment */
#define SANDBOX_TASK      "/var/task"
#define SANDBOX_RUNTIME   "/var/runtime"

/* What to build. All paths are absolute. Texts are borrowed. */
struct sandbox_spec {
    bool namespaces; /* the caller has cloned into new ones */
    bool own_uid;
    uint32_t uid;              /* user and group, if own_uid */
    uint32_t tmp_mb;           /* size of /tmp */
    uint32_t processes_max;    /* RLIMIT_NPROC */
    const char *root_dir;      /* an empty folder to build the root on; namespaces only */
    const char *task_dir;      /* the unpacked package */
    const char *runtime_dir;   /* our bootstraps */
    const char *group_dirs[2]; /* control groups to enter; "" = none */
    const char **argv;         /* NULL-terminated, as is envp */
    const char **envp;
};

/* sandbox_spec_encode / sandbox_spec_decode: to and from one run of bytes; decoded texts point into
 * `in`, the arrays live in the arena.  errors: INVALID. thread: any. */
void sandbox_spec_encode(struct buffer *out, const struct sandbox_spec *spec);
MUST_CHECK enum status sandbox_spec_decode(struct slice in, struct arena *arena,
                                           struct sandbox_spec *spec);

/* How far a process got, told to the worker over the launcher's socket. */
enum sandbox_report_kind {
    SANDBOX_SPAWNED, /* by the launcher; value: process id of the supervisor */
    SANDBOX_STARTED, /* value: process id of the runtime as the supervisor sees it */
    SANDBOX_FAILED,  /* value: errno; step: enum sandbox_step */
    SANDBOX_EXITED,  /* value: wait status of the runtime; extra: its peak memory in bytes */
    SANDBOX_ENDED,   /* by the launcher: no process of the environment is left */
};
enum sandbox_step {
    SANDBOX_STEP_SPEC,
    SANDBOX_STEP_MOUNT,
    SANDBOX_STEP_FORK,
    SANDBOX_STEP_GROUP,
    SANDBOX_STEP_LIMITS,
    SANDBOX_STEP_IDENTITY,
    SANDBOX_STEP_FILTER,
    SANDBOX_STEP_EXEC,
};
struct sandbox_report {
    uint32_t kind;
    uint32_t id;
    int32_t value;
    uint32_t step;
    uint64_t extra;
};

/* sandbox_step_name: for traces. */
const char *sandbox_step_name(uint32_t step);

/* sandbox_supervise: in a new single-threaded process: build the environment, fork the runtime,
 * wait until it and everything it started has ended. Reports go to `report_fd` as one packet each.
 * Never returns. */
_Noreturn void sandbox_supervise(const struct sandbox_spec *spec, const struct sock_fprog *filter,
                                 uint32_t id, int output_fd, int report_fd);

#endif
