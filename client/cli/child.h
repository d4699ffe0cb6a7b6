/* SPDX-License-Identifier: Apache-2.0 */
/* A child process that cannot outlive its parent. thread: main, the one that lives longest (the
 * kernel ties the children to the thread that forked them). */
#ifndef CLIENT_CLI_CHILD_H
#define CLIENT_CLI_CHILD_H

#include "proto/base/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct child {
    const char *name;        /* for people: "broker" */
    const char *const *argv; /* NULL-terminated; argv[0] is the path */
    int keep_fd;             /* a descriptor that it inherits, or -1 */
    pid_t pid;               /* 0: not running */
    uint64_t started_ns;     /* monotonic */
    uint64_t restart_ns;     /* when to start it again, while it is not running */
    unsigned failures;       /* exits in a row that came soon after a start */
    int exit_status;         /* of the last exit: its own, or 128 + signal */
};

/* child_start: run it, in a process group of its own, with stdin from /dev/null; it is killed by
 * the kernel when this process ends, however that comes about. errors: NO_MEMORY, BUSY (no process
 * to be had) */
MUST_CHECK enum status child_start(struct child *child);

/* child_reap: if it has exited, note how, and when to start it again: at once after a long run,
 * later and later (up to 5 s) when it keeps failing. True if it has. */
bool child_reap(struct child *child);

/* child_signal: send `number` if it runs. */
void child_signal(const struct child *child, int number);

/* child_outcome: "exited with status 3" or "was killed by signal 9"; `text` has 64 bytes. */
void child_outcome(const struct child *child, char *text);

#endif
