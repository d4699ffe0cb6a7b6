/* SPDX-License-Identifier: Apache-2.0 */
/* The life of an execution environment.
 *
 *              code here          first next           assign, next
 *   PREPARING ----------> STARTING ----------> IDLE <--------------> BUSY
 *       |  on_code            |   on_next       |  ^   deliver        | response, error
 *       |                     |                 |  | on_next          v
 *       +---------------------+-----------------+--+------------ RETURNING
 *                             | environment_stop, timeouts, the runtime ended
 *                             v
 *                         STOPPING --everything released--> on_ended
 *
 * An assignment may be bound before the runtime asks for it (PREPARING, STARTING, RETURNING); it is
 * delivered when it does. Every end goes one way: kill, SANDBOX_ENDED, then the result is made from
 * what is known (`fate`, the wait status, /init/error), so that a result is sent only when no
 * process of a failed environment is left. After a failure nothing is reused: the next run gets a
 * new one.
 *
 * Time: START's init clock begins at the launch and is never throttled; an invocation's begins when
 * the event is handed over and ends when the answer is here. The invocation's deadline stays armed
 * in RETURNING, because a runtime that answers and then hangs would hold its slot for ever.
 *
 * I1  `assignment` is set in BUSY, never in IDLE (deliver is at once), and on_result or on_orphan
 *     runs exactly once for it.
 * I2  Resources are released only after SANDBOX_ENDED, or if nothing was launched. */
#include "worker/environment.h"

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"
#include "worker/error_object.h"
#include "worker/file_tree.h"
#include "worker/output.h"
#include "worker/runtime_api.h"
#include "worker/variables.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROCESSES_OWN    1024u /* Lambda's quota */
#define PROCESSES_SHARED 4096u /* counted with all of the user's others, so only a backstop */
#define KILL_AGAIN_MS    1000
#define GROUP_RETRY_MS   20
#define GROUP_RETRIES    50

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

/* ---- states ---- */

#define BIT(state) (1u << (state))
static const struct state_row {
    const char *name;
    unsigned next;
} states[] = {
    [ENVIRONMENT_PREPARING] = {"preparing", BIT(ENVIRONMENT_STARTING) | BIT(ENVIRONMENT_STOPPING)},
    [ENVIRONMENT_STARTING] = {"starting", BIT(ENVIRONMENT_IDLE) | BIT(ENVIRONMENT_STOPPING)},
    [ENVIRONMENT_IDLE] = {"idle", BIT(ENVIRONMENT_BUSY) | BIT(ENVIRONMENT_STOPPING)},
    [ENVIRONMENT_BUSY] = {"busy", BIT(ENVIRONMENT_RETURNING) | BIT(ENVIRONMENT_STOPPING)},
    [ENVIRONMENT_RETURNING] = {"returning", BIT(ENVIRONMENT_IDLE) | BIT(ENVIRONMENT_STOPPING)},
    [ENVIRONMENT_STOPPING] = {"stopping", 0},
};

static void move_to(struct environment *e, enum environment_state next)
{
    ASSERT((states[e->state].next & BIT(next)) != 0);
    trace_debug("environment", "state", "id=%u function=%s from=%s to=%s", e->id, e->function->name,
                states[e->state].name, states[next].name);
    e->state = next;
}

/* ---- results ---- */

/* number_in: the first number behind `field` in a file of /proc; 0 if there is none. An empty field
 * is the start of the file. */
static unsigned long long number_in(const char *path, const char *field)
{
    char line[128];
    unsigned long long number = 0;
    size_t length = strlen(field);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, field, length) == 0) {
            number = strtoull(line + length, NULL, 10);
            break;
        }
    if (file != NULL)
        fclose(file);
    return number;
}

/* runtime_bytes: what the runtime has in memory: the supervisor's first child. In a control group
 * only what is its own: shared libraries may be charged to whoever read them first. */
static uint64_t runtime_bytes(const struct environment *e)
{
    char path[80];
    int pid = (int)e->supervisor_pid;
    if (pid == 0)
        return 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
    unsigned long long runtime = number_in(path, "");
    snprintf(path, sizeof path, "/proc/%llu/status", runtime);
    const char *field = e->cgroup.kind == CGROUP_NONE ? "VmRSS:" : "RssAnon:";
    return runtime != 0 ? number_in(path, field) << 10 : 0;
}

/* look_at_memory: what stands in for a control group's peak, and for its limit where a group does
 * not hold (a supervisor of the machine may have moved the process out of it). */
static void look_at_memory(struct environment *e)
{
    uint64_t bytes = runtime_bytes(e);
    if (bytes > e->memory_seen)
        e->memory_seen = bytes;
}

static uint64_t memory_max(struct environment *e)
{
    look_at_memory(e);
    uint64_t peak = cgroup_memory_peak(&e->cgroup);
    return peak > e->memory_seen ? peak : e->memory_seen;
}

struct numbers {
    uint64_t duration_us, billed_ms, init_us, memory_bytes;
};

static void measure(struct environment *e, struct numbers *out)
{
    uint64_t now = clock_monotonic_ns();
    bool cold = e->invocations <= 1;
    *out = (struct numbers){0};
    if (e->delivered)
        out->duration_us = (now - e->delivered_ns) / 1000;
    if (cold)
        out->init_us = e->initialised  ? e->init_us
                       : e->started_ns ? (now - e->started_ns) / 1000
                                       : 0;
    if (e->fate == FATE_TIMEOUT)
        out->duration_us = (uint64_t)e->function->timeout_ms * 1000;
    /* As AWS does since August 2025, a cold start's init is billed with its invocation. */
    out->billed_ms = (out->duration_us + out->init_us + 999) / 1000;
    out->memory_bytes = memory_max(e);
}

static void print_report(struct environment *e, const struct numbers *n, const char *status)
{
    const char *request_id = e->assignment->order->request_id;
    char init[64] = "";
    if (n->init_us > 0)
        snprintf(init, sizeof init, "Init Duration: %.2f ms\t", (double)n->init_us / 1000);
    output_line(&e->output, "END RequestId: %.64s", request_id);
    output_line(&e->output,
                "REPORT RequestId: %.64s\tDuration: %.2f ms\tBilled Duration: %" PRIu64
                " ms\tMemory Size: %u MB\tMax Memory Used: %" PRIu64 " MB\t%s%s",
                request_id, (double)n->duration_us / 1000, n->billed_ms, e->function->memory_mb,
                (n->memory_bytes + 1048575) >> 20, init, status);
}

/* finish: make the result of the current assignment and hand it over (I1). */
static void finish(struct environment *e, Millrace__Outcome outcome, struct slice payload,
                   const char *status)
{
    struct numbers n;
    struct assignment *assignment = e->assignment;
    Millrace__Result result = MILLRACE__RESULT__INIT;
    ASSERT(assignment != NULL);
    measure(e, &n);
    if (e->output_is_open) {
        struct slice tail;
        output_drain(&e->output);
        print_report(e, &n, status);
        tail = output_tail(&e->output);
        result.log_tail = (ProtobufCBinaryData){tail.length, (uint8_t *)(uintptr_t)tail.data};
    }
    result.lease_id = assignment->order->lease_id;
    result.outcome = outcome;
    result.payload = (ProtobufCBinaryData){payload.length, (uint8_t *)(uintptr_t)payload.data};
    result.duration_us = n.duration_us;
    result.billed_ms = n.billed_ms;
    result.init_us = n.init_us;
    result.cold_start = e->invocations <= 1;
    result.memory_max_bytes = n.memory_bytes;
    e->assignment = NULL;
    e->delivered = false;
    e->setup->on_result(e->setup->data, assignment, &result);
}

/* ---- the end ---- */

static void released(struct environment *e)
{
    ASSERT(e->closing > 0);
    if (--e->closing == 0)
        e->setup->on_ended(e->setup->data, e);
}

static void on_part_closed(void *data)
{
    released(data);
}

static void on_timer_closed(uv_handle_t *handle)
{
    released(handle->data);
}

static void on_group_timer(uv_timer_t *timer)
{
    struct environment *e = timer->data;
    enum status status = cgroup_remove(&e->cgroup);
    if (status == STATUS_BUSY && ++e->group_retries < GROUP_RETRIES) {
        uv_timer_start(timer, on_group_timer, GROUP_RETRY_MS, 0);
        return;
    }
    if (status != STATUS_OK)
        trace_warn("environment", "group_left_behind", "id=%u", e->id);
    uv_close((uv_handle_t *)timer, on_timer_closed);
}

/* thread: pool */
static void remove_tmp(uv_work_t *work)
{
    struct environment *e = work->data;
    if (file_tree_remove(e->tmp_dir) != STATUS_OK)
        trace_warn("environment", "tmp_left_behind", "path=\"%s\"", e->tmp_dir);
}

static void on_tmp_removed(uv_work_t *work, int status)
{
    (void)status;
    released(work->data);
}

/* release: everything but the struct; on_ended when all of it is gone (I2). */
static void release(struct environment *e)
{
    if (e->releasing)
        return;
    e->releasing = true;
    e->closing = 1;
    if (e->api != NULL) {
        e->closing++;
        runtime_api_close(e->api, on_part_closed, e);
    }
    if (e->output_is_open) {
        e->closing++;
        output_drain(&e->output);
        output_close(&e->output, on_part_closed, e);
    }
    if (e->tmp_dir != NULL) {
        e->closing++;
        e->tmp_work.data = e;
        int error = uv_queue_work(e->setup->loop, &e->tmp_work, remove_tmp, on_tmp_removed);
        ASSERT(error == 0);
    }
    if (e->code != NULL)
        code_release(e->code);
    e->code = NULL;
    on_group_timer(&e->timer); /* closes the timer, which is the 1 that `closing` began with */
}

struct ending {
    Millrace__Outcome outcome;
    const char *type;
    const char *text; /* after "RequestId: ID Error: " */
};
static const struct ending endings[] = {
    [FATE_TIMEOUT] = {MILLRACE__OUTCOME__OUTCOME_TIMEOUT, "Sandbox.Timedout", NULL},
    [FATE_INIT_TIMEOUT] = {MILLRACE__OUTCOME__OUTCOME_INIT_ERROR, "Runtime.InitError", NULL},
    [FATE_NO_CODE] = {MILLRACE__OUTCOME__OUTCOME_REJECTED, "Runtime.InitError",
                      "The code could not be fetched"},
    [FATE_BAD_CODE] = {MILLRACE__OUTCOME__OUTCOME_INIT_ERROR, "Runtime.InitError",
                       "The code is damaged or is no package"},
    [FATE_NO_LAUNCH] = {MILLRACE__OUTCOME__OUTCOME_REJECTED, "Runtime.InitError",
                        "The environment could not be started"},
    [FATE_NO_ENTRYPOINT] = {MILLRACE__OUTCOME__OUTCOME_INIT_ERROR, "Runtime.InvalidEntrypoint",
                            "Couldn't find valid bootstrap(s): [/var/task/bootstrap]"},
    [FATE_MEMORY] = {MILLRACE__OUTCOME__OUTCOME_CRASH, "Runtime.ExitError",
                     "Runtime exited with error: signal: killed"},
    [FATE_STOPPED] = {MILLRACE__OUTCOME__OUTCOME_CRASH, "Runtime.ExitError",
                      "Runtime exited with error: signal: killed"},
};

static void describe_timeout(const struct environment *e, char *out, size_t size)
{
    if (e->fate == FATE_TIMEOUT)
        snprintf(out, size, "Task timed out after %.2f seconds",
                 (double)e->function->timeout_ms / 1000);
    else
        snprintf(out, size, "Init did not finish within %.2f seconds",
                 (double)e->setup->init_timeout_ms / 1000);
}

/* finish_ended: the result of a run that the environment did not outlive. */
static void finish_ended(struct environment *e)
{
    const char *request_id = e->assignment->order->request_id;
    struct buffer payload = {0};
    Millrace__Outcome outcome = MILLRACE__OUTCOME__OUTCOME_CRASH;
    const char *status = "Status: error\t";
    if (e->fate == FATE_INIT_REPORTED) {
        outcome = MILLRACE__OUTCOME__OUTCOME_INIT_ERROR;
        buffer_add_slice(&payload, buffer_slice(&e->init_error));
    } else if (e->fate == FATE_NONE) {
        if (!e->delivered)
            outcome = MILLRACE__OUTCOME__OUTCOME_INIT_ERROR;
        error_object_exit(&payload, request_id, e->exit_known ? e->exit_status : SIGKILL);
    } else {
        const struct ending *ending = &endings[e->fate];
        char text[128], message[512];
        snprintf(text, sizeof text, "%s", ending->text != NULL ? ending->text : "");
        if (ending->text == NULL)
            describe_timeout(e, text, sizeof text);
        snprintf(message, sizeof message, "RequestId: %.200s Error: %s", request_id, text);
        error_object(&payload, ending->type, message);
        outcome = ending->outcome;
        if (e->fate == FATE_TIMEOUT)
            status = "Status: timeout\t";
        if (e->output_is_open && ending->text == NULL) {
            output_drain(&e->output);
            output_line(&e->output, "%.64s %s", request_id, text);
        }
    }
    if (e->output_is_open && !e->delivered) {
        output_drain(&e->output);
        output_line(&e->output, "START RequestId: %.64s Version: %.32s", request_id,
                    e->function->version);
    }
    finish(e, outcome, buffer_slice(&payload), status);
    buffer_free(&payload);
}

/* conclude: nothing of it runs any more. */
static void conclude(struct environment *e)
{
    if (e->state != ENVIRONMENT_STOPPING)
        move_to(e, ENVIRONMENT_STOPPING);
    uv_timer_stop(&e->timer);
    e->ended = true;
    if (e->assignment != NULL && !e->delivered && e->initialised) {
        struct assignment *orphan = e->assignment;
        e->assignment = NULL;
        e->setup->on_orphan(e->setup->data, orphan);
    } else if (e->assignment != NULL) {
        finish_ended(e);
    }
    release(e);
}

static void on_kill_timer(uv_timer_t *timer)
{
    struct environment *e = timer->data;
    enum status status = launcher_kill(e->setup->launcher, e->id);
    if (status != STATUS_OK)
        trace_debug("environment", "kill_delayed", "id=%u error=\"%s\"", e->id,
                    status_text(status));
    uv_timer_start(&e->timer, on_kill_timer, KILL_AGAIN_MS, 0);
}

static void stop_with(struct environment *e, enum fate fate)
{
    if (e->fate == FATE_NONE)
        e->fate = fate;
    if (e->state == ENVIRONMENT_STOPPING)
        return;
    move_to(e, ENVIRONMENT_STOPPING);
    code_wait_cancel(&e->code_wait);
    if (e->launched)
        on_kill_timer(&e->timer);
    else
        conclude(e);
}

void environment_stop(struct environment *e)
{
    stop_with(e, FATE_STOPPED);
}

/* ---- invocations ---- */

static void on_deadline(uv_timer_t *timer)
{
    struct environment *e = timer->data;
    trace_info("environment", "timeout", "id=%u function=%s state=%s", e->id, e->function->name,
               states[e->state].name);
    stop_with(e, e->state == ENVIRONMENT_STARTING ? FATE_INIT_TIMEOUT : FATE_TIMEOUT);
}

static void deliver(struct environment *e)
{
    const Millrace__Assign *order = e->assignment->order;
    e->invocations++;
    e->delivered = true;
    move_to(e, ENVIRONMENT_BUSY);
    if (e->invocations > 1)
        cgroup_memory_reset(&e->cgroup);
    output_drain(&e->output);
    output_renew(&e->output, e->invocations == 1);
    output_line(&e->output, "START RequestId: %.64s Version: %.32s", order->request_id,
                e->function->version);
    struct api_invocation invocation = {
        .request_id = order->request_id,
        .function_arn = e->function->arn,
        .trace_id = order->trace_id,
        .client_context = order->client_context,
        .deadline_ms = clock_now_ms() + e->function->timeout_ms,
        .payload = slice_make(order->payload.data, order->payload.len),
    };
    e->delivered_ns = clock_monotonic_ns();
    uv_timer_start(&e->timer, on_deadline, e->function->timeout_ms, 0);
    runtime_api_deliver(e->api, &invocation);
}

static enum api_verdict on_next(void *data)
{
    struct environment *e = data;
    if (e->state == ENVIRONMENT_STARTING) {
        e->init_us = (clock_monotonic_ns() - e->started_ns) / 1000;
        e->initialised = true;
    } else if (e->state != ENVIRONMENT_RETURNING && e->state != ENVIRONMENT_IDLE) {
        return API_WRONG_STATE;
    }
    uv_timer_stop(&e->timer);
    if (e->state != ENVIRONMENT_IDLE)
        move_to(e, ENVIRONMENT_IDLE);
    e->idle_since_ms = uv_now(e->setup->loop);
    if (e->assignment != NULL)
        deliver(e);
    else
        e->setup->on_idle(e->setup->data, e);
    return API_ACCEPTED;
}

/* A runtime that lost its connection may ask again; if it does not, it has most likely ended. */
static void on_next_lost(void *data)
{
    struct environment *e = data;
    trace_debug("environment", "next_lost", "id=%u", e->id);
}

static enum api_verdict check_answer(const struct environment *e, struct slice id)
{
    if (e->state != ENVIRONMENT_BUSY || e->assignment == NULL)
        return API_WRONG_STATE;
    return slice_is(id, e->assignment->order->request_id) ? API_ACCEPTED : API_WRONG_ID;
}

/* answer: the deadline timer goes on until the runtime asks for the next event. */
static void answer(struct environment *e, Millrace__Outcome outcome, struct slice payload)
{
    bool error = outcome != MILLRACE__OUTCOME__OUTCOME_OK;
    finish(e, outcome, payload, error ? "Status: error\t" : "");
    move_to(e, ENVIRONMENT_RETURNING);
}

static enum api_verdict on_response(void *data, struct slice id, struct slice body)
{
    struct environment *e = data;
    enum api_verdict verdict = check_answer(e, id);
    if (verdict == API_ACCEPTED)
        answer(e, MILLRACE__OUTCOME__OUTCOME_OK, body);
    return verdict;
}

static enum api_verdict on_error(void *data, struct slice id, struct slice body, struct slice type)
{
    struct environment *e = data;
    enum api_verdict verdict = check_answer(e, id);
    if (verdict == API_ACCEPTED) {
        struct buffer object = {0};
        error_object_checked(&object, body, type);
        answer(e, MILLRACE__OUTCOME__OUTCOME_HANDLED, buffer_slice(&object));
        buffer_free(&object);
    }
    return verdict;
}

static void on_too_large(void *data, struct slice id)
{
    struct environment *e = data;
    if (check_answer(e, id) != API_ACCEPTED)
        return;
    struct buffer object = {0};
    error_object(&object, "Function.ResponseSizeTooLarge",
                 "Response payload size exceeded maximum allowed payload size (6291556 bytes).");
    answer(e, MILLRACE__OUTCOME__OUTCOME_TOO_LARGE, buffer_slice(&object));
    buffer_free(&object);
}

static enum api_verdict on_init_error(void *data, struct slice body, struct slice type)
{
    struct environment *e = data;
    if (e->state != ENVIRONMENT_STARTING || e->fate != FATE_NONE)
        return API_WRONG_STATE;
    error_object_checked(&e->init_error, body, type);
    e->fate = FATE_INIT_REPORTED;
    /* It is let go on to its exit; the init timeout catches it if it does not. */
    return API_ACCEPTED;
}

static const struct runtime_api_events events = {.next = on_next,
                                                 .next_lost = on_next_lost,
                                                 .response = on_response,
                                                 .error = on_error,
                                                 .init_error = on_init_error,
                                                 .too_large = on_too_large};

/* ---- the start ---- */

static const char *make_log_stream(struct arena *arena, const char *version)
{
    uint8_t random[UUID_BYTES];
    char date[16] = "";
    struct buffer hex = {0};
    time_t now = (time_t)(clock_now_ms() / 1000);
    struct tm tm;
    if (gmtime_r(&now, &tm) != NULL)
        strftime(date, sizeof date, "%Y/%m/%d", &tm);
    clock_random(random, sizeof random);
    encode_hex(&hex, slice_make(random, sizeof random));
    const char *name = arena_printf(arena, "%s/[%s]%s", date, version, buffer_c_string(&hex));
    buffer_free(&hex);
    return name;
}

/* make_tmp: without mounts of its own, an environment's /tmp is a folder of ours. */
static bool make_tmp(struct environment *e, uid_t uid)
{
    if (e->setup->isolation->namespaces)
        return true;
    int length = asprintf(&e->tmp_dir, "%s/tmp/%u", e->setup->data_dir, e->id);
    ASSERT(length > 0);
    return mkdir(e->tmp_dir, 0700) == 0 &&
           (!e->setup->isolation->own_uids || chown(e->tmp_dir, uid, uid) == 0);
}

static enum status launch(struct environment *e, uid_t uid, int output_fd)
{
    const struct environment_setup *setup = e->setup;
    bool inside = setup->isolation->namespaces;
    struct arena arena = {0};
    const char *runtime_dir = arena_printf(&arena, "%s/runtime", setup->data_dir);
    const char *task_root = inside ? SANDBOX_TASK : code_dir(e->code);
    const char *runtime_root = inside ? SANDBOX_RUNTIME : runtime_dir;
    struct variables_input input = {
        .function = e->function,
        .execution_env = e->runtime->execution_env,
        .task_root = task_root,
        .runtime_root = runtime_root,
        .home = inside ? "/tmp" : e->tmp_dir,
        .runtime_api = arena_printf(&arena, "127.0.0.1:%u", runtime_api_port(e->api)),
        .log_stream = make_log_stream(&arena, e->function->version),
        .endpoint = setup->endpoint,
        .region = setup->region,
    };
    struct sandbox_spec spec = {
        .namespaces = inside,
        .own_uid = setup->isolation->own_uids,
        .uid = setup->isolation->own_uids ? uid : 0,
        .tmp_mb = e->function->ephemeral_mb,
        .processes_max = setup->isolation->own_uids ? PROCESSES_OWN : PROCESSES_SHARED,
        .root_dir = arena_printf(&arena, "%s/root", setup->data_dir),
        .task_dir = code_dir(e->code),
        .runtime_dir = runtime_dir,
        .group_dirs = {e->cgroup.memory_dir, e->cgroup.pids_dir},
        .argv = runtime_argv(e->runtime, task_root, runtime_root, &arena),
        .envp = variables_build(&input, &arena),
    };
    if (e->cgroup.kind == CGROUP_NONE)
        spec.group_dirs[0] = spec.group_dirs[1] = "";
    enum status status = launcher_launch(setup->launcher, e->id, &spec, output_fd);
    arena_free(&arena);
    return status;
}

static enum status start(struct environment *e)
{
    const struct environment_setup *setup = e->setup;
    bool own = setup->isolation->own_uids;
    uid_t uid = own ? setup->isolation->uid_base + e->slot : (uid_t)-1;
    int output_fd = -1;
    enum status status = output_open(&e->output, setup->loop, e->log, &output_fd);
    if (status != STATUS_OK)
        return status;
    e->output_is_open = true;
    status = runtime_api_open(&e->api, setup->loop, uid, &events, e);
    if (status == STATUS_OK)
        status = cgroup_make(&setup->isolation->cgroups, e->id,
                             (uint64_t)e->function->memory_mb << 20, PROCESSES_OWN, &e->cgroup);
    if (status == STATUS_OK && !make_tmp(e, uid))
        status = status_from_errno(errno);
    e->started_ns = clock_monotonic_ns();
    if (status == STATUS_OK)
        status = launch(e, uid, output_fd);
    e->launched = status == STATUS_OK;
    close(output_fd);
    return status;
}

static void on_code(void *data, enum status status, struct code *code)
{
    struct environment *e = data;
    if (status != STATUS_OK) {
        stop_with(e, status == STATUS_INVALID ? FATE_BAD_CODE : FATE_NO_CODE);
        return;
    }
    e->code = code;
    status = start(e);
    if (status != STATUS_OK) {
        trace_error("environment", "not_started", "id=%u function=%s error=\"%s\"", e->id,
                    e->function->name, status_text(status));
        stop_with(e, FATE_NO_LAUNCH);
        return;
    }
    move_to(e, ENVIRONMENT_STARTING);
    uv_timer_start(&e->timer, on_deadline, e->setup->init_timeout_ms, 0);
}

/* The first look at the code store happens in the next turn: no callback from environment_new. */
static void on_first_turn(uv_timer_t *timer)
{
    struct environment *e = timer->data;
    e->code_wait.done = on_code;
    e->code_wait.data = e;
    code_store_get(e->setup->code_store, e->function->code_sha256.data, e->function->code_bytes,
                   &e->code_wait);
}

static Millrace__Function *copy_function(const Millrace__Function *function)
{
    size_t bytes = millrace__function__get_packed_size(function);
    uint8_t *packed = malloc(bytes);
    ASSERT(packed != NULL);
    millrace__function__pack(function, packed);
    Millrace__Function *copy = millrace__function__unpack(NULL, bytes, packed);
    ASSERT(copy != NULL);
    free(packed);
    return copy;
}

struct environment *environment_new(const struct environment_setup *setup, uint32_t id,
                                    uint32_t slot, struct assignment *first)
{
    struct environment *e = calloc(1, sizeof *e);
    ASSERT(e != NULL && slot < ENVIRONMENTS_MAX);
    e->setup = setup;
    e->id = id;
    e->slot = slot;
    e->state = ENVIRONMENT_PREPARING;
    e->assignment = first;
    e->function = copy_function(first->order->function);
    e->runtime = runtime_get(setup->runtimes, e->function->runtime);
    ASSERT(e->runtime != NULL);
    e->log = log_file_get(setup->log_files, e->function->name);
    int error = uv_timer_init(setup->loop, &e->timer);
    ASSERT(error == 0);
    e->timer.data = e;
    uv_timer_start(&e->timer, on_first_turn, 0, 0);
    return e;
}

void environment_free(struct environment *e)
{
    ASSERT(e->closing == 0 && e->state == ENVIRONMENT_STOPPING && e->assignment == NULL);
    log_file_release(e->log);
    buffer_free(&e->init_error);
    free(e->tmp_dir);
    millrace__function__free_unpacked(e->function, NULL);
    free(e);
}

/* ---- from outside ---- */

void environment_assign(struct environment *e, struct assignment *assignment)
{
    ASSERT(e->assignment == NULL);
    ASSERT(e->state == ENVIRONMENT_IDLE || e->state == ENVIRONMENT_RETURNING);
    e->assignment = assignment;
    if (e->state == ENVIRONMENT_IDLE && runtime_api_waiting(e->api))
        deliver(e);
}

bool environment_takes(const struct environment *e, const char *function, uint64_t revision)
{
    return (e->state == ENVIRONMENT_IDLE || e->state == ENVIRONMENT_RETURNING) &&
           e->assignment == NULL && e->fate == FATE_NONE && e->function->revision == revision &&
           strcmp(e->function->name, function) == 0;
}

static void on_failed(struct environment *e, const struct sandbox_report *report)
{
    bool entrypoint = report->step == SANDBOX_STEP_EXEC && e->runtime->interpreter == NULL;
    if (e->fate == FATE_NONE)
        e->fate = entrypoint ? FATE_NO_ENTRYPOINT : FATE_NO_LAUNCH;
    if (!entrypoint)
        trace_error("environment", "sandbox_failed", "id=%u function=%s step=%s error=\"%s\"",
                    e->id, e->function->name, sandbox_step_name(report->step),
                    strerror(report->value));
}

void environment_on_report(struct environment *e, const struct sandbox_report *report)
{
    switch (report->kind) {
    case SANDBOX_SPAWNED:
        e->supervisor_pid = report->value;
        break;
    case SANDBOX_FAILED:
        on_failed(e, report);
        break;
    case SANDBOX_EXITED:
        e->exit_known = true;
        e->exit_status = report->value;
        if (report->extra > e->memory_seen)
            e->memory_seen = report->extra;
        break;
    case SANDBOX_ENDED:
        e->supervisor_pid = 0;
        if (!e->ended)
            conclude(e);
        break;
    default:
        break;
    }
}

void environment_watch_memory(struct environment *e)
{
    if (e->state == ENVIRONMENT_STOPPING)
        return;
    look_at_memory(e);
    if (e->memory_seen > (uint64_t)e->function->memory_mb << 20)
        stop_with(e, FATE_MEMORY);
}

uint32_t environment_id(const struct environment *e)
{
    return e->id;
}

uint32_t environment_slot(const struct environment *e)
{
    return e->slot;
}

enum environment_state environment_state(const struct environment *e)
{
    return e->state;
}

const Millrace__Function *environment_function(const struct environment *e)
{
    return e->function;
}

const struct assignment *environment_assignment(const struct environment *e)
{
    return e->assignment;
}

uint64_t environment_idle_since_ms(const struct environment *e)
{
    return e->idle_since_ms;
}
