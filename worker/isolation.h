/* SPDX-License-Identifier: Apache-2.0 */
/* What this machine lets us do to keep functions apart; found out once, at start. */
#ifndef WORKER_ISOLATION_H
#define WORKER_ISOLATION_H

#include "proto/base/status.h"
#include "worker/cgroup.h"

#include <linux/filter.h>
#include <stdbool.h>
#include <sys/types.h>

#define ENVIRONMENTS_MAX 256u /* also the number of user ids that a worker takes */

struct isolation {
    bool namespaces; /* own mounts, processes, IPC, host name; else only process supervision */
    bool own_uids;   /* a user and group id for each environment: uid_base + its slot */
    uid_t uid_base;
    struct cgroups cgroups;
    struct sock_fprog filter; /* seccomp; len 0: none */
    char text[96];            /* for people, and for Hello.isolation */
};

/* isolation_probe: try each means in a child process and keep those that work; makes the cgroup
 * that the environments' groups go into. Never fails: less is traced as a warning. Call before
 * threads start. isolation_deinit removes what it made. */
void isolation_probe(struct isolation *out);
void isolation_deinit(struct isolation *isolation);

/* isolation_reaches: whether functions will get at files below `dir`, which they see at their path
 * on the host where there are no namespaces. Call before threads start. */
bool isolation_reaches(const struct isolation *isolation, const char *dir);

/* isolation_describe: fill `text` again after a field was changed by hand. */
void isolation_describe(struct isolation *isolation);

#endif
