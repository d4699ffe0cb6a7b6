/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot that is written by a child process from its copy of this one's memory. Private to
 * broker/log. */
#ifndef BROKER_LOG_SNAPSHOT_CHILD_H
#define BROKER_LOG_SNAPSHOT_CHILD_H

#include "broker/log/snapshot_file.h"

/* What the child says before it exits. */
struct snapshot_report {
    uint64_t raw_bytes;
    uint64_t file_bytes;
    int32_t error; /* 0 or an errno */
};

typedef void (*snapshot_make_fn)(void *data, struct snapshot_sink *sink);

struct snapshot_child {
    pid_t pid;
    int fd; /* readable when there is a report, or when the child has ended without one */
};

/* snapshot_child_start: fork; in the child write what `make` makes to the temporary file in
 * `dir_fd`, sync it, report and exit. 0 or an errno, and no child then. The caller reads the
 * report, closes `fd` and waits for `pid`, also for a child that it has killed. thread: the one
 * that may change what `make` reads. */
MUST_CHECK int snapshot_child_start(struct snapshot_child *child, const struct log_disk *disk,
                                    int dir_fd, const struct log_snapshot *what,
                                    snapshot_make_fn make, void *data);

#endif
