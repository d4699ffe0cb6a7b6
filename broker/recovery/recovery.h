/* SPDX-License-Identifier: Apache-2.0 */
/* What is done to data directories while no broker runs on them: `millrace restore` and
 * `millrace cluster recover`. Both print for people on stdout, errors on stderr, and return an exit
 * code. thread: main. */
#ifndef BROKER_RECOVERY_RECOVERY_H
#define BROKER_RECOVERY_RECOVERY_H

#include "proto/base/arena.h"

#include <stdbool.h>
#include <stdint.h>

struct recovery_options {
    const char *from; /* a backup; NULL: none, a majority is lost */
    const char *data_dir;
    uint64_t node_id; /* of a restored node; 0: not given */
    const char *peer; /* where other brokers reach it; NULL: as before */
    bool yes;
};

/* restore: make data_dir, absent or empty, a cluster of node_id alone, from a backup. On failure
 * the directory is as it was. */
int restore(const struct recovery_options *options, struct arena *arena);

/* recover_alone: make the node of data_dir the only member of its cluster; without `yes` only tell
 * what that would mean. */
int recover_alone(const struct recovery_options *options, struct arena *arena);

/* recovery_fail: "millrace-recover: SENTENCE" on stderr; `code`. */
int recovery_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
