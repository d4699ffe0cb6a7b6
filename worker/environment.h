/* SPDX-License-Identifier: Apache-2.0 */
/* One execution environment: a runtime process with one function's code, from its start over any
 * number of invocations, one at a time, to its end. thread: loop. */
#ifndef WORKER_ENVIRONMENT_H
#define WORKER_ENVIRONMENT_H

#include "proto/rpc/millrace.pb-c.h"
#include "worker/code_store.h"
#include "worker/launcher.h"
#include "worker/log_file.h"
#include "worker/runtime.h"

struct environment;

/* One run of a function: the broker's order and whose session it came in. The pool's memory. */
struct assignment {
    struct assignment *next;
    Millrace__Assign *order; /* owned */
    uint64_t session;
};

enum environment_state {
    ENVIRONMENT_PREPARING, /* its code is being fetched or unpacked */
    ENVIRONMENT_STARTING,  /* its runtime has not asked for an event yet */
    ENVIRONMENT_IDLE,      /* its runtime waits for an event */
    ENVIRONMENT_BUSY,      /* its runtime has one */
    ENVIRONMENT_RETURNING, /* it has answered, and has not asked again */
    ENVIRONMENT_STOPPING,  /* being killed, or cleaned up after */
};

/* What all environments of a worker share. Everything is borrowed and outlives them. */
struct environment_setup {
    uv_loop_t *loop;
    struct launcher *launcher;
    const struct isolation *isolation;
    const struct runtimes *runtimes;
    struct code_store *code_store;
    struct log_files *log_files;
    const char *data_dir;          /* absolute; has root/, runtime/ and tmp/ */
    const char *endpoint, *region; /* for functions; "" if unknown */
    uint32_t init_timeout_ms;

    /* To the owner. `ended` frees an assignment, the environment is gone when it returns. */
    void (*on_result)(void *data, struct assignment *assignment, const Millrace__Result *result);
    void (*on_idle)(void *data, struct environment *environment);
    /* It ended with an assignment that its runtime never saw, though it had started well: run it in
     * another. */
    void (*on_orphan)(void *data, struct assignment *assignment);
    void (*on_ended)(void *data, struct environment *environment);
    void *data;
};

/* environment_new: begin to start one for `first`, which it runs then. `slot` < ENVIRONMENTS_MAX is
 * not in use by another; `id` has never been used. No callback before this returns.
 * environment_free: only after on_ended. */
struct environment *environment_new(const struct environment_setup *setup, uint32_t id,
                                    uint32_t slot, struct assignment *first);
void environment_free(struct environment *environment);

/* environment_assign: run one more; IDLE, or RETURNING without one (environment_takes). */
void environment_assign(struct environment *environment, struct assignment *assignment);
bool environment_takes(const struct environment *environment, const char *function,
                       uint64_t revision);

/* environment_stop: kill it, from any state; a run under way ends as crashed. on_ended follows. */
void environment_stop(struct environment *environment);

/* environment_on_report: what the launcher says about it. */
void environment_on_report(struct environment *environment, const struct sandbox_report *report);

/* environment_watch_memory: without control groups, look how much memory the runtime holds and stop
 * it when that is too much. Called every so often by the owner. */
void environment_watch_memory(struct environment *environment);

uint32_t environment_id(const struct environment *environment);
uint32_t environment_slot(const struct environment *environment);
enum environment_state environment_state(const struct environment *environment);
const Millrace__Function *environment_function(const struct environment *environment);
const struct assignment *environment_assignment(const struct environment *environment);
uint64_t environment_idle_since_ms(const struct environment *environment); /* uv_now time */

#endif
