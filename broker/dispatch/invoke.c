/* SPDX-License-Identifier: Apache-2.0 */
/* Synchronous invocations: a caller is waiting, so they go before batches.
 *
 *     dispatch_invoke ──> waiting ──room──> running ──result──> done(OK, result)
 *            │               │                 ├──leads no more──> the next leader has it
 * (remote.c) │               │                 ├──worker lost──> done(OK, a made-up crash) │ │
 * └──rejected──> waiting again: it has not run │               ├──too long──> finished(BUSY or
 * UNAVAILABLE) └──refused──────┴──cancelled──> finished(status) ──next turn──> done(status, NULL)
 *
 * A run has a ticket with it (ticket.h), so that its worker can show it to the next leader, which
 * sends the result here. A run whose worker was lost is not repeated, because the function may have
 * run: the caller gets an error and decides. A cancelled run goes on without its caller until the
 * worker has stopped it; its usage is counted when its result comes.
 *
 *   I1  `waiting` holds at most INVOKE_WAITING_MAX
 *   I2  `done` of an invocation runs exactly once, and never before the call that started it
 * returned I3  invocation->private_state is set from dispatch_invoke until `done` runs
 */
#include "broker/dispatch/internal.h"
#include "broker/dispatch/ticket.h"

#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <stdlib.h>
#include <utlist.h>

struct waiting {
    struct dispatch *dispatch;
    struct invocation *invocation;   /* NULL: cancelled while it was running */
    struct function_entry *function; /* NULL: there is none of that name */
    struct assignment *assignment;   /* running here */
    struct remote *remote;           /* at the leader, or on the way there */
    uint64_t ticket_id;              /* the worker has a ticket with this number; 0: none */
    bool adopted;                    /* begun by another leader; its payload may not be here */
    enum status status;              /* finished: what to tell */
    uint64_t began_ms;               /* of the loop's clock */
    struct waiting *prev, *next;     /* in dispatch->waiting or ->finished */
};

static void waiting_free(struct waiting *waiting)
{
    struct dispatch *dispatch = waiting->dispatch;
    if (waiting->function != NULL)
        function_unref(dispatch, waiting->function);
    free(waiting);
    dispatch_operation_end(dispatch);
}

void waiting_answer(struct waiting *waiting, enum status status, const Millrace__Result *result)
{
    struct invocation *invocation = waiting->invocation;
    if (invocation != NULL) {
        waiting->invocation = NULL;
        invocation->private_state = NULL; /* I3 */
        invocation->done(invocation, status, result);
    }
    waiting_free(waiting);
}

static void waiting_add(struct waiting *waiting)
{
    waiting->dispatch->waiting_count++;
    waiting->function->waiting++;
    DL_APPEND(waiting->dispatch->waiting, waiting);
}

static void waiting_remove(struct waiting *waiting)
{
    ASSERT(waiting->dispatch->waiting_count > 0);
    waiting->dispatch->waiting_count--;
    waiting->function->waiting--;
    DL_DELETE(waiting->dispatch->waiting, waiting);
}

/* Tell the caller in the next turn of the loop (I2). */
static void waiting_finish(struct waiting *waiting, enum status status)
{
    waiting->status = status;
    if (status == STATUS_BUSY && waiting->function != NULL)
        waiting->function->throttles++;
    DL_APPEND(waiting->dispatch->finished, waiting);
    dispatch_pump_soon(waiting->dispatch);
}

void invoke_finish(struct dispatch *dispatch)
{
    while (dispatch->finished != NULL) {
        struct waiting *waiting = dispatch->finished;
        DL_DELETE(dispatch->finished, waiting);
        waiting_answer(waiting, waiting->status, NULL);
    }
}

/* ---- running ---- */

void waiting_lost(struct waiting *waiting)
{
    struct buffer payload = {0};
    const char *id = waiting->invocation != NULL ? waiting->invocation->request_id : "";
    buffer_printf(&payload,
                  "{\"errorType\":\"Runtime.WorkerLost\",\"errorMessage\":\"RequestId: %s Error: "
                  "The worker was lost while the function ran\"}",
                  id);
    Millrace__Result result = MILLRACE__RESULT__INIT;
    result.outcome = MILLRACE__OUTCOME__OUTCOME_CRASH;
    result.payload = (ProtobufCBinaryData){payload.length, payload.data};
    waiting_answer(waiting, STATUS_OK, &result);
    buffer_free(&payload);
}

/* The worker was sent to another leader, and shows its ticket there. */
static bool waiting_drifts(struct waiting *waiting)
{
    struct dispatch *dispatch = waiting->dispatch;
    if (waiting->ticket_id == 0 || waiting->invocation == NULL || dispatch->ready ||
        dispatch->closing)
        return false;
    if (waiting->invocation->only_here)
        waiting_answer(waiting, STATUS_CLOSED, NULL);
    else
        waiting->remote = remote_drift(dispatch, waiting, waiting->ticket_id);
    return true;
}

void waiting_ended(struct assignment *assignment, const Millrace__Result *result)
{
    struct waiting *waiting = assignment->owner;
    bool rejected = result != NULL && result->outcome == MILLRACE__OUTCOME__OUTCOME_REJECTED;
    waiting->assignment = NULL;
    if (result == NULL && waiting_drifts(waiting))
        return;
    bool again = rejected && !waiting->adopted && !waiting->dispatch->closing;
    if (again && waiting->invocation != NULL) {
        waiting_add(waiting);
    } else if (result == NULL) {
        waiting_lost(waiting);
    } else if (rejected) {
        waiting_answer(waiting, STATUS_UNAVAILABLE, NULL);
    } else {
        settle_run(assignment, result);
        waiting_answer(waiting, STATUS_OK, result);
    }
}

/* waiting_ticket: for the worker; nothing where nobody else could use it. */
static void waiting_ticket(struct waiting *waiting, const struct assignment *assignment,
                           struct buffer *out)
{
    struct dispatch *dispatch = waiting->dispatch;
    const struct invocation *invocation = waiting->invocation;
    struct ticket ticket = {.lease_id = assignment->lease_id,
                            .node_id = invocation->origin_node_id,
                            .id = invocation->origin_id};
    waiting->ticket_id = 0;
    if (!remotes_keep(dispatch))
        return;
    if (!invocation->only_here) {
        ticket.node_id = dispatch->node_id;
        ticket.id = ++dispatch->remote_id;
    }
    waiting->ticket_id = ticket.id;
    memcpy(ticket.request_id, invocation->request_id, sizeof ticket.request_id);
    ticket_encode(out, dispatch->secret, slice_of(waiting->function->name), &ticket);
}

static bool waiting_start(struct waiting *waiting)
{
    const struct invocation *invocation = waiting->invocation;
    struct assignment *assignment =
        assignment_reserve(waiting->dispatch, waiting->function, waiting_ended, waiting);
    if (assignment == NULL)
        return false;
    struct buffer ticket = {0};
    waiting_ticket(waiting, assignment, &ticket);
    struct assignment_input input = {.request_id = invocation->request_id,
                                     .payload = invocation->payload,
                                     .client_context = invocation->client_context,
                                     .claim = buffer_slice(&ticket)};
    bool sent = assignment_send(assignment, &input);
    buffer_free(&ticket);
    if (!sent) {
        assignment_release(assignment);
        return false;
    }
    waiting->assignment = assignment;
    waiting_remove(waiting);
    return true;
}

void invoke_pump(struct dispatch *dispatch)
{
    struct waiting *waiting;
    struct waiting *after;
    const struct function_entry *full = NULL; /* no room for it: do not ask again for the next */
    DL_FOREACH_SAFE(dispatch->waiting, waiting, after)
    {
        if (waiting->function == full)
            continue;
        if (!waiting->function->present || !waiting->function->usable) {
            waiting_remove(waiting);
            waiting_finish(waiting, STATUS_NOT_FOUND);
        } else if (!waiting_start(waiting)) {
            full = waiting->function;
        }
    }
}

void invoke_tick(struct dispatch *dispatch)
{
    uint64_t now = dispatch_now(dispatch);
    struct waiting *waiting;
    struct waiting *after;
    DL_FOREACH_SAFE(dispatch->waiting, waiting, after)
    {
        struct room_need need = function_need(waiting->function);
        bool possible = sessions_could_run(dispatch, &need);
        if (now - waiting->began_ms < (possible ? INVOKE_WAIT_MS : INVOKE_NO_WORKER_MS))
            continue;
        waiting_remove(waiting);
        waiting_finish(waiting, possible ? STATUS_BUSY : STATUS_UNAVAILABLE);
    }
}

void invoke_fail_waiting(struct dispatch *dispatch, enum status why)
{
    while (dispatch->waiting != NULL) {
        struct waiting *waiting = dispatch->waiting;
        waiting_remove(waiting);
        waiting_finish(waiting, why);
    }
}

static enum status invoke_refusal(const struct dispatch *dispatch,
                                  const struct function_entry *function)
{
    if (dispatch->closing)
        return STATUS_UNAVAILABLE;
    if (!dispatch->ready)
        return STATUS_NOT_LEADER;
    if (function == NULL)
        return STATUS_NOT_FOUND;
    if (!function->usable)
        return STATUS_UNAVAILABLE;
    return dispatch->waiting_count >= INVOKE_WAITING_MAX ? STATUS_BUSY : STATUS_OK; /* I1 */
}

const struct invocation *waiting_invocation(const struct waiting *waiting)
{
    return waiting->invocation;
}

void waiting_taken_over(struct waiting *waiting, struct assignment *assignment)
{
    waiting->remote = NULL;
    waiting->adopted = true;
    waiting->assignment = assignment;
    assignment->owner = waiting;
    if (waiting->function == NULL) {
        waiting->function = assignment->function;
        function_ref(waiting->function);
    }
}

void waiting_adopt(struct dispatch *dispatch, struct invocation *invocation,
                   struct assignment *assignment)
{
    struct waiting *waiting = memory_new(1, sizeof *waiting);
    waiting->dispatch = dispatch;
    waiting->invocation = invocation;
    waiting->began_ms = dispatch_now(dispatch);
    waiting->ticket_id = invocation->origin_id;
    invocation->private_state = waiting;
    dispatch_operation_begin(dispatch);
    waiting_taken_over(waiting, assignment);
}

void waiting_run_here(struct waiting *waiting)
{
    struct dispatch *dispatch = waiting->dispatch;
    waiting->remote = NULL;
    catalog_refresh(dispatch);
    if (waiting->function == NULL) {
        waiting->function = catalog_function(dispatch, waiting->invocation->function_name);
        if (waiting->function != NULL)
            function_ref(waiting->function);
    }
    enum status refusal = invoke_refusal(dispatch, waiting->function);
    if (refusal == STATUS_OK)
        waiting_add(waiting);
    else
        waiting_finish(waiting, refusal);
    dispatch_pump_soon(dispatch);
}

void invoke_leave_waiting(struct dispatch *dispatch)
{
    while (dispatch->waiting != NULL) {
        struct waiting *waiting = dispatch->waiting;
        waiting_remove(waiting);
        if (waiting->invocation->only_here || dispatch->peers == NULL)
            waiting_finish(waiting, STATUS_NOT_LEADER);
        else
            waiting->remote = remote_begin(dispatch, waiting);
    }
}

/* ---- called by the API ---- */

void dispatch_invoke(struct dispatch *dispatch, struct invocation *invocation)
{
    struct waiting *waiting = memory_new(1, sizeof *waiting);
    waiting->dispatch = dispatch;
    waiting->invocation = invocation;
    waiting->function = catalog_function(dispatch, invocation->function_name);
    waiting->began_ms = dispatch_now(dispatch);
    invocation->private_state = waiting;
    dispatch_operation_begin(dispatch);
    if (waiting->function != NULL)
        function_ref(waiting->function);
    enum status refusal = invoke_refusal(dispatch, waiting->function);
    bool elsewhere =
        refusal == STATUS_NOT_LEADER && dispatch->peers != NULL && !invocation->only_here;
    if (refusal == STATUS_OK)
        waiting_add(waiting);
    else if (elsewhere)
        waiting->remote = remote_begin(dispatch, waiting);
    else
        waiting_finish(waiting, refusal);
    dispatch_pump_soon(dispatch);
}

void dispatch_invoke_cancel(struct dispatch *dispatch, struct invocation *invocation)
{
    struct waiting *waiting = invocation->private_state;
    if (waiting == NULL)
        return;
    ASSERT(waiting->invocation == invocation);
    if (waiting->remote != NULL) {
        remote_cancel(waiting->remote);
        waiting->remote = NULL;
        waiting_finish(waiting, STATUS_CANCELLED);
        return;
    }
    if (waiting->assignment == NULL) {
        if (waiting->status == STATUS_OK) { /* else it is about to end already */
            waiting_remove(waiting);
            waiting_finish(waiting, STATUS_CANCELLED);
        }
        return;
    }
    /* The run goes on without its caller; a second record answers the caller. */
    struct waiting *answer = memory_new(1, sizeof *answer);
    answer->dispatch = dispatch;
    answer->invocation = invocation;
    invocation->private_state = answer;
    waiting->invocation = NULL;
    dispatch_operation_begin(dispatch);
    assignment_cancel(waiting->assignment);
    waiting_finish(answer, STATUS_CANCELLED);
}
