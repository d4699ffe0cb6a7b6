/* SPDX-License-Identifier: Apache-2.0 */
/* What processes cost: their CPU time and memory, from /proc. thread: any. */
#ifndef CLIENT_BENCH_PROCESS_H
#define CLIENT_BENCH_PROCESS_H

#include "proto/base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define PROCESSES_MAX 64

struct processes {
    int pids[PROCESSES_MAX];
    uint64_t cpu_us[PROCESSES_MAX]; /* when last looked at */
    uint32_t count;
};

/* processes_parse: "12,34"; false if it is no such list or one of them does not exist. */
MUST_CHECK bool processes_parse(const char *text, struct processes *out);

/* processes_cpu_us: user and system time of all of them so far; of one that has ended, what it was
 * when last looked at. processes_rss_bytes: resident memory. own_cpu_us: of this process. */
uint64_t processes_cpu_us(struct processes *processes);
uint64_t processes_rss_bytes(const struct processes *processes);
uint64_t own_cpu_us(void);

#endif
