/* SPDX-License-Identifier: Apache-2.0 */
/* Assignments: one piece of work, for one worker's session.
 *
 *     reserve ──> reserved ──send──> sent ──result──────────> done(result), freed
 *                    │                 │──session ended────> done(NULL), freed
 *                    │                 └──guard expired────> done(NULL), freed
 *                    ├──release──> freed
 *                    └──session ended──> session = NULL, the owner finds out when it sends
 *
 * Room is taken when work is reserved, before messages are leased, so that a lease never waits for
 * a slot: its deadline would run meanwhile. An assignment is tied to the session that it was made
 * in. What is not refused here: a function that has run may have had effects, so nothing that was
 * sent is ever sent again from here; the owners decide.
 *
 *   I1  a lease id is given out once; the first of a process is random, so that those of two
 * brokers of a cluster differ I2  session != NULL exactly while the assignment is in that session's
 * list and holds its room I3  function->running counts the assignments that were sent and have not
 * ended
 */
#include "broker/dispatch/internal.h"

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <utlist.h>

#define REJECT_HOLD_MS 250u /* a worker that rejected work gets none for so long */
#define MIB            ((uint64_t)1 << 20)

struct room_need function_need(const struct function_entry *function)
{
    return (struct room_need){.function = slice_of(function->name),
                              .revision = function->revision,
                              .runtime = function->config.runtime,
                              .memory_bytes = function->config.memory_mb * MIB};
}

static struct room_need assignment_need(const struct assignment *assignment)
{
    return (struct room_need){.function = slice_of(assignment->function->name),
                              .revision = assignment->revision,
                              .memory_bytes = assignment->memory_bytes};
}

static struct session *assignment_place(struct dispatch *dispatch, const struct room_need *need)
{
    struct session *best = NULL;
    uint64_t best_score = 0;
    struct session *session;
    DL_FOREACH(dispatch->sessions, session)
    {
        uint64_t score = session_available(session) ? room_score(&session->room, need) : 0;
        if (score > best_score) {
            best = session;
            best_score = score;
        }
    }
    return best;
}

static void assignment_enter(struct assignment *assignment, const struct room_need *need)
{
    function_ref(assignment->function);
    room_take(&assignment->session->room, need);
    DL_APPEND(assignment->session->assignments, assignment); /* I2 */
    HASH_ADD(hh, assignment->dispatch->assignments, lease_id, sizeof assignment->lease_id,
             assignment);
}

struct assignment *assignment_reserve(struct dispatch *dispatch, struct function_entry *function,
                                      void (*done)(struct assignment *, const Millrace__Result *),
                                      void *owner)
{
    ASSERT(function->usable);
    struct room_need need = function_need(function);
    struct session *session = assignment_place(dispatch, &need);
    if (session == NULL)
        return NULL;
    struct assignment *assignment = memory_new(1, sizeof *assignment);
    *assignment = (struct assignment){.lease_id = ++dispatch->lease_id,
                                      .dispatch = dispatch,
                                      .session = session,
                                      .function = function,
                                      .function_id = function->id,
                                      .revision = function->revision,
                                      .memory_bytes = need.memory_bytes,
                                      .timeout_ms = function->config.timeout_s * 1000u,
                                      .done = done,
                                      .owner = owner};
    assignment_enter(assignment, &need);
    return assignment;
}

/* Give the room back and leave the session's list (I2). */
static void assignment_detach(struct assignment *assignment, bool reusable)
{
    struct session *session = assignment->session;
    if (session == NULL)
        return;
    struct room_need need = assignment_need(assignment);
    room_give(&session->room, &need, reusable);
    DL_DELETE(session->assignments, assignment);
    assignment->session = NULL;
}

static void assignment_free(struct assignment *assignment)
{
    struct dispatch *dispatch = assignment->dispatch;
    HASH_DELETE(hh, dispatch->assignments, assignment);
    function_unref(dispatch, assignment->function);
    free(assignment);
    dispatch_pump_soon(dispatch);
}

void assignment_release(struct assignment *assignment)
{
    ASSERT(!assignment->sent);
    assignment_detach(assignment, false);
    assignment_free(assignment);
}

static void assignment_end(struct assignment *assignment, const Millrace__Result *result)
{
    ASSERT(assignment->sent);
    ASSERT(assignment->function->running > 0); /* I3 */
    bool reusable = result != NULL && (result->outcome == MILLRACE__OUTCOME__OUTCOME_OK ||
                                       result->outcome == MILLRACE__OUTCOME__OUTCOME_HANDLED);
    assignment_detach(assignment, reusable);
    assignment->function->running--;
    assignment->dispatch->running--;
    assignment->done(assignment, result);
    assignment_free(assignment);
}

/* `elapsed_ms` ago. */
static void assignment_sent(struct assignment *assignment, uint64_t elapsed_ms)
{
    struct function_entry *function = assignment->function;
    assignment->sent = true;
    assignment->sent_ms = dispatch_now(assignment->dispatch);
    uint64_t left_ms = assignment->timeout_ms + GUARD_MS;
    assignment->guard_ms =
        assignment->sent_ms + left_ms - (elapsed_ms < left_ms ? elapsed_ms : left_ms);
    assignment->dispatch->running++;
    function->running++;
    if (function->running > function->running_peak)
        function->running_peak = function->running;
}

/* The configuration's slices end in a NUL only by accident of the arena, so copy. */
static char *assign_text(struct arena *arena, struct slice text)
{
    struct slice copy = arena_copy(arena, text);
    return (char *)(uintptr_t)copy.data;
}

static void assign_environment(struct arena *arena, const struct function_config *config,
                               Millrace__Function *out)
{
    out->n_environment = config->environment_count;
    out->environment = arena_alloc(arena, (out->n_environment + 1) * sizeof(Millrace__KeyValue *));
    for (uint32_t i = 0; i < config->environment_count; i++) {
        Millrace__KeyValue *pair = arena_alloc(arena, sizeof *pair);
        millrace__key_value__init(pair);
        pair->key = assign_text(arena, config->environment[i].key);
        pair->value = assign_text(arena, config->environment[i].value);
        out->environment[i] = pair;
    }
}

static void assign_function(struct arena *arena, struct function_entry *function,
                            Millrace__Function *out)
{
    const struct function_config *config = &function->config;
    millrace__function__init(out);
    out->name = function->name;
    out->arn = function->arn;
    out->version = assign_text(arena, SLICE_LITERAL("$LATEST"));
    out->revision = function->revision;
    out->runtime = assign_text(arena, config->runtime);
    out->handler = assign_text(arena, config->handler);
    out->timeout_ms = config->timeout_s * 1000u;
    out->memory_mb = config->memory_mb;
    out->ephemeral_mb = config->ephemeral_mb;
    out->code_sha256 = (ProtobufCBinaryData){SHA256_BYTES, function->code_sha256};
    out->code_bytes = function->code_bytes;
    assign_environment(arena, config, out);
}

/* "Root=1-{8 hex digits of time}-{24 random ones}", as X-Ray has it; the random part comes from the
 * request id, which is a UUID. */
static char *assign_trace_id(struct arena *arena, struct slice given, const char *request_id)
{
    if (given.length > 0)
        return assign_text(arena, given);
    uint8_t id[UUID_BYTES];
    if (!uuid_parse(slice_of(request_id), id))
        uuid_random(id);
    struct buffer hex = {0};
    encode_hex(&hex, slice_make(id + 4, 12));
    const char *text = arena_printf(arena, "Root=1-%08" PRIx64 "-%s;Sampled=0",
                                    clock_now_ms() / 1000, buffer_c_string(&hex));
    buffer_free(&hex);
    return (char *)(uintptr_t)text;
}

static ProtobufCBinaryData assign_bytes(struct slice bytes)
{
    return (ProtobufCBinaryData){bytes.length, (uint8_t *)(uintptr_t)bytes.data};
}

bool assignment_send(struct assignment *assignment, const struct assignment_input *input)
{
    ASSERT(!assignment->sent);
    if (assignment->session == NULL || !session_available(assignment->session))
        return false;
    struct arena arena = {0};
    Millrace__Function function;
    Millrace__Assign assign = MILLRACE__ASSIGN__INIT;
    assign_function(&arena, assignment->function, &function);
    assign.lease_id = assignment->lease_id;
    assign.request_id = assign_text(&arena, slice_of(input->request_id));
    assign.function = &function;
    assign.payload = assign_bytes(input->payload);
    assign.trace_id = assign_trace_id(&arena, input->trace_id, input->request_id);
    assign.client_context = assign_text(&arena, input->client_context);
    assign.claim = assign_bytes(input->claim);
    enum status status =
        link_send(assignment->session->link, MILLRACE__TYPE__TYPE_ASSIGN, &assign.base);
    arena_free(&arena);
    if (status != STATUS_OK)
        return false;
    assignment_sent(assignment, 0);
    return true;
}

struct assignment *assignment_adopt(struct session *session, struct function_entry *function,
                                    const Millrace__Running *running,
                                    void (*done)(struct assignment *, const Millrace__Result *),
                                    void *owner)
{
    struct dispatch *dispatch = session->dispatch;
    struct room_need need = function_need(function);
    struct assignment *assignment = NULL;
    uint64_t lease_id = running->lease_id;
    need.revision = running->revision;
    HASH_FIND(hh, dispatch->assignments, &lease_id, sizeof lease_id, assignment);
    if (assignment != NULL || !room_holds(&session->room, &need))
        return NULL;
    assignment = memory_new(1, sizeof *assignment);
    *assignment = (struct assignment){.lease_id = lease_id,
                                      .dispatch = dispatch,
                                      .session = session,
                                      .function = function,
                                      .function_id = function->id,
                                      .revision = running->revision,
                                      .memory_bytes = need.memory_bytes,
                                      .timeout_ms = function->config.timeout_s * 1000u,
                                      .done = done,
                                      .owner = owner};
    assignment_enter(assignment, &need);
    assignment_sent(assignment, running->elapsed_ms);
    return assignment;
}

void assignment_cancel(struct assignment *assignment)
{
    if (assignment->session == NULL || !assignment->sent)
        return;
    Millrace__Cancel cancel = MILLRACE__CANCEL__INIT;
    cancel.lease_id = assignment->lease_id;
    enum status status =
        link_send(assignment->session->link, MILLRACE__TYPE__TYPE_CANCEL, &cancel.base);
    if (status != STATUS_OK)
        trace_debug("dispatch", "cancel_not_sent", "lease=%" PRIu64 " why=%s", assignment->lease_id,
                    status_name(status));
}

void assignment_result(struct session *session, const Millrace__Result *result)
{
    struct assignment *assignment = NULL;
    uint64_t lease_id = result->lease_id;
    HASH_FIND(hh, session->dispatch->assignments, &lease_id, sizeof lease_id, assignment);
    if (assignment == NULL || assignment->session != session || !assignment->sent) {
        trace_debug("dispatch", "late_result", "worker=%s lease=%" PRIu64, session->worker_id,
                    lease_id);
        return;
    }
    if (result->outcome == MILLRACE__OUTCOME__OUTCOME_REJECTED)
        session->hold_until_ms = dispatch_now(session->dispatch) + REJECT_HOLD_MS;
    assignment_end(assignment, result);
}

void assignments_lose(struct session *session)
{
    while (session->assignments != NULL) {
        struct assignment *assignment = session->assignments;
        if (assignment->sent)
            assignment_end(assignment, NULL);
        else
            assignment_detach(assignment, false);
    }
}

void assignments_tick(struct dispatch *dispatch)
{
    uint64_t now = dispatch_now(dispatch);
    struct assignment *assignment;
    struct assignment *after;
    HASH_ITER(hh, dispatch->assignments, assignment, after)
    {
        if (!assignment->sent || now < assignment->guard_ms)
            continue;
        trace_warn("dispatch", "worker_never_answered", "function=%s lease=%" PRIu64 " after_ms=%u",
                   assignment->function->name, assignment->lease_id,
                   assignment->timeout_ms + GUARD_MS);
        assignment_cancel(assignment);
        assignment_end(assignment, NULL);
    }
}
