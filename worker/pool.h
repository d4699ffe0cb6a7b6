/* SPDX-License-Identifier: Apache-2.0 */
/* All execution environments of this worker: which one runs what, when one is started, and when an
 * idle one is worth less than its room. thread: loop. */
#ifndef WORKER_POOL_H
#define WORKER_POOL_H

#include "worker/environment.h"

struct pool;

struct pool_options {
    /* The hooks in it are filled by the pool. */
    struct environment_setup setup;
    uint64_t memory_bytes;
    uint32_t environments_max; /* 1..ENVIRONMENTS_MAX */
    uint32_t keep_alive_ms;
    /* The result of an assignment that came in `session`; borrowed. */
    void (*on_result)(void *data, uint64_t session, const Millrace__Result *result);
    /* What pool_capacity gives has changed. */
    void (*on_change)(void *data);
    void *data;
};
MUST_CHECK enum status pool_open(struct pool **out, const struct pool_options *options);

/* pool_close: stop every environment, answer what waits with REJECTED, then call back. */
void pool_close(struct pool *pool, void (*closed)(void *data), void *data);

/* pool_assign: run this, now or when there is room; takes `order`. The result comes later, or
 * before this returns if it cannot be run here. */
void pool_assign(struct pool *pool, uint64_t session, Millrace__Assign *order);

/* pool_cancel: end it. Waiting: dropped. Running: its environment is killed. A result comes anyway.
 */
void pool_cancel(struct pool *pool, uint64_t lease_id);

/* pool_running: assignments that have no result yet. */
uint32_t pool_running(const struct pool *pool);

/* What Capacity says; `warm` is an array of `warm_count` rows, borrowed until the pool changes. */
struct pool_warm {
    const char *function;
    uint64_t revision;
    uint32_t idle;
};
struct pool_capacity {
    uint32_t slots_free;
    uint64_t memory_free_bytes;
    const struct pool_warm *warm;
    uint32_t warm_count;
};
void pool_capacity(struct pool *pool, struct pool_capacity *out);

#endif
