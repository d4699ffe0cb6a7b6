/* SPDX-License-Identifier: Apache-2.0 */
/* The end of an execution environment: killed, reported, cleaned up after (see environment.c). */
#include "worker/environment_internal.h"

#include "proto/base/assert.h"
#include "proto/base/trace.h"
#include "worker/error_object.h"
#include "worker/file_tree.h"

#include <signal.h>
#include <stdio.h>

#define KILL_AGAIN_MS  1000
#define GROUP_RETRY_MS 20
#define GROUP_RETRIES  50

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
    environment_finish(e, outcome, buffer_slice(&payload), status);
    buffer_free(&payload);
}

void environment_conclude(struct environment *e)
{
    if (e->state != ENVIRONMENT_STOPPING)
        environment_move(e, ENVIRONMENT_STOPPING);
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

void environment_stop_with(struct environment *e, enum fate fate)
{
    if (e->fate == FATE_NONE)
        e->fate = fate;
    if (e->state == ENVIRONMENT_STOPPING)
        return;
    environment_move(e, ENVIRONMENT_STOPPING);
    code_wait_cancel(&e->code_wait);
    if (e->launched)
        on_kill_timer(&e->timer);
    else
        environment_conclude(e);
}
