/* SPDX-License-Identifier: Apache-2.0 */
/* A bench of a broker or a cluster: what is asked for, and what came out. The keys of the result
 * are a contract with the scripts that read them (docs/performance.md). thread: one, blocking. */
#ifndef CLIENT_BENCH_BENCH_H
#define CLIENT_BENCH_BENCH_H

#include "client/bench/run.h"

#include <jansson.h>

struct bench_plan {
    const char *mode;        /* a row of bench_modes */
    const char *protocol;    /* "native" or "http" */
    const char *brokers;     /* native: RPC addresses, separated by commas */
    const char *endpoint;    /* http: URLs, separated by commas */
    const char *server_pids; /* NULL, or "PID,PID" */
    struct port_access access;
    uint64_t messages; /* 0: as long as `seconds` */
    uint64_t seconds;  /* 0: as many as `messages` */
    uint64_t size, inflight, batch, queues, groups, receivers;
    uint64_t rate;     /* per second; 0: as fast as it goes */
    uint64_t kill_pid; /* failover: killed half way through; 0 = nobody */
    bool fifo;
};

struct bench_mode {
    const char *name;
    const char *doc; /* one line */
};
extern const struct bench_mode bench_modes[];
extern const size_t bench_mode_count;

/* bench_plan_check: fill in what the mode defaults to. NULL, or a sentence that says what is wrong.
 */
const char *bench_plan_check(struct bench_plan *plan);

/* bench_run: run it on queues of its own, which are deleted afterwards. Progress goes to stderr.
 * `port` is what to run it over, moved; NULL: the plan's protocol. The result is an object, owned
 * by the caller; NULL: nothing was measured, and `why` says why. */
json_t *bench_run(const struct bench_plan *plan, struct port *port, char why[256]);

#endif
