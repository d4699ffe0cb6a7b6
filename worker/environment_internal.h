/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of an execution environment share. Private to them. thread: loop. */
#ifndef WORKER_ENVIRONMENT_INTERNAL_H
#define WORKER_ENVIRONMENT_INTERNAL_H

#include "worker/environment.h"
#include "worker/output.h"
#include "worker/runtime_api.h"

enum fate {
    FATE_NONE,
    FATE_TIMEOUT,
    FATE_INIT_TIMEOUT,
    FATE_INIT_REPORTED, /* init_error holds the object */
    FATE_NO_CODE,       /* the package cannot be had here: elsewhere perhaps */
    FATE_BAD_CODE,
    FATE_NO_LAUNCH, /* this machine's trouble */
    FATE_NO_ENTRYPOINT,
    FATE_MEMORY,
    FATE_STOPPED,
};

struct environment {
    const struct environment_setup *setup;
    uint32_t id, slot;
    enum environment_state state;
    enum fate fate;
    Millrace__Function *function; /* its own copy */
    const struct runtime *runtime;
    struct assignment *assignment;
    bool delivered; /* the runtime has seen `assignment` */
    bool launched, ended;
    bool initialised;
    bool exit_known;
    int exit_status;
    pid_t supervisor_pid; /* 0: not there */
    uint64_t memory_seen;
    uint64_t started_ns, delivered_ns, init_us;
    uint64_t idle_since_ms;
    uint64_t invocations;

    struct code_wait code_wait;
    struct code *code;
    struct log_file *log;
    struct runtime_api *api;
    struct output output;
    bool output_is_open;
    struct cgroup cgroup;
    unsigned group_retries;
    char *tmp_dir;
    uv_work_t tmp_work;
    uv_timer_t timer;
    struct buffer init_error;
    unsigned closing; /* what has still to be released */
    bool releasing;
};

/* ---- environment.c ---- */
/* environment_move: to a state that may follow the present one. environment_on_deadline: of an
 * init, or of an invocation. environment_api_events: what the Runtime API tells it. */
void environment_move(struct environment *e, enum environment_state next);
void environment_on_deadline(uv_timer_t *timer);
extern const struct runtime_api_events environment_api_events;

/* ---- environment_start.c ---- */
/* environment_start: fetch the code, then launch the runtime; no callback before the next turn. */
void environment_start(struct environment *e);

/* ---- environment_result.c ---- */
/* environment_look_at_memory: keep the most that was seen. environment_finish: make the result of
 * the current assignment and hand it over (I1); `status` goes into the log's REPORT line. */
void environment_look_at_memory(struct environment *e);
void environment_finish(struct environment *e, Millrace__Outcome outcome, struct slice payload,
                        const char *status);

/* ---- environment_end.c ---- */
/* environment_stop_with: kill it; the first fate counts. environment_conclude: nothing of it runs
 * any more. */
void environment_stop_with(struct environment *e, enum fate fate);
void environment_conclude(struct environment *e);

#endif
