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
#include "worker/environment_internal.h"

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"
#include "worker/error_object.h"

#include <stdlib.h>

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

void environment_move(struct environment *e, enum environment_state next)
{
    ASSERT((states[e->state].next & BIT(next)) != 0);
    trace_debug("environment", "state", "id=%u function=%s from=%s to=%s", e->id, e->function->name,
                states[e->state].name, states[next].name);
    e->state = next;
}

/* ---- invocations ---- */

void environment_on_deadline(uv_timer_t *timer)
{
    struct environment *e = timer->data;
    trace_info("environment", "timeout", "id=%u function=%s state=%s", e->id, e->function->name,
               states[e->state].name);
    environment_stop_with(e, e->state == ENVIRONMENT_STARTING ? FATE_INIT_TIMEOUT : FATE_TIMEOUT);
}

static void deliver(struct environment *e)
{
    const Millrace__Assign *order = e->assignment->order;
    e->invocations++;
    e->delivered = true;
    environment_move(e, ENVIRONMENT_BUSY);
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
    uv_timer_start(&e->timer, environment_on_deadline, e->function->timeout_ms, 0);
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
        environment_move(e, ENVIRONMENT_IDLE);
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
    environment_finish(e, outcome, payload, error ? "Status: error\t" : "");
    environment_move(e, ENVIRONMENT_RETURNING);
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

const struct runtime_api_events environment_api_events = {.next = on_next,
                                                          .next_lost = on_next_lost,
                                                          .response = on_response,
                                                          .error = on_error,
                                                          .init_error = on_init_error,
                                                          .too_large = on_too_large};

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
    environment_start(e);
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

void environment_stop(struct environment *e)
{
    environment_stop_with(e, FATE_STOPPED);
}

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
            environment_conclude(e);
        break;
    default:
        break;
    }
}

void environment_watch_memory(struct environment *e)
{
    if (e->state == ENVIRONMENT_STOPPING)
        return;
    environment_look_at_memory(e);
    if (e->memory_seen > (uint64_t)e->function->memory_mb << 20)
        environment_stop_with(e, FATE_MEMORY);
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
