/* SPDX-License-Identifier: Apache-2.0 */
/* Control groups: the memory and process limits of an environment. Version 2, or version 1's memory
 * and pids controllers, or none. thread: loop. */
#ifndef WORKER_CGROUP_H
#define WORKER_CGROUP_H

#include "proto/base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define CGROUP_PATH_MAX 512

enum cgroup_kind { CGROUP_NONE, CGROUP_V1, CGROUP_V2 };

/* Where the worker may make groups. Version 2 has one tree, so both folders are the same. */
struct cgroups {
    enum cgroup_kind kind;
    char memory_dir[CGROUP_PATH_MAX];
    char pids_dir[CGROUP_PATH_MAX]; /* empty: no pids controller */
};

/* The group of one environment. */
struct cgroup {
    enum cgroup_kind kind;
    char memory_dir[CGROUP_PATH_MAX];
    char pids_dir[CGROUP_PATH_MAX];
};

/* cgroups_open: find a writable hierarchy below the worker's own group and make a folder for the
 * environments there; kind NONE if there is none. Folders that dead workers left are removed.
 * cgroups_close removes the folder. */
void cgroups_open(struct cgroups *out);
void cgroups_close(struct cgroups *cgroups);

/* cgroup_make: the group `id` with its limits. With kind NONE it makes nothing and succeeds.
 *   errors: IO_ERROR and others of mkdir and write; nothing is left behind */
MUST_CHECK enum status cgroup_make(const struct cgroups *cgroups, uint32_t id,
                                   uint64_t memory_bytes, uint32_t processes_max,
                                   struct cgroup *out);

/* cgroup_memory_peak: the most memory it has used since it was made or reset; 0 when unknown. */
uint64_t cgroup_memory_peak(const struct cgroup *cgroup);
void cgroup_memory_reset(const struct cgroup *cgroup);

/* cgroup_remove: BUSY while a process is still dying in it; try again a little later. */
MUST_CHECK enum status cgroup_remove(struct cgroup *cgroup);

#endif
