/* SPDX-License-Identifier: Apache-2.0 */
/* The dispatcher as a whole: what it owns, what drives it, and how it ends.
 *
 * Two things drive it. The pump runs in the turn of the loop after something happened that may let
 * work start: a message came, room came free, the catalog changed, a call was made. It looks at
 * waiting invocations first and then goes round the sources, one batch each, until nothing more can
 * start; whoever has started goes to the end of the list, so that a busy source starves nobody. The
 * tick runs every TICK_MS for what depends on time: heartbeats, guards, windows, targets.
 *
 * Closing: no new work; what runs has DRAIN_MS to end, so that a restart of the broker does not
 * make batches run twice for nothing; then the sessions end, which gives their messages back; then
 * everything under way at the shard comes home. `operations` counts what must come home.
 *
 *   I1  the pump is armed at most once at a time
 *   I2  the dispatcher is freed when closing and operations == 0, from dispatch_operation_end only
 */
#include "broker/dispatch/internal.h"

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <stdlib.h>
#include <utlist.h>

char *text_new(struct slice text)
{
    char *copy = memory_new(text.length + 1, 1);
    if (text.length > 0)
        memcpy(copy, text.data, text.length);
    return copy;
}

void *memory_new(size_t count, size_t bytes)
{
    void *memory = calloc(count > 0 ? count : 1, bytes);
    if (memory == NULL)
        abort(); /* everything here is bounded, so the process as a whole is misconfigured */
    return memory;
}

uint64_t dispatch_now(const struct dispatch *dispatch)
{
    return uv_now(dispatch->loop);
}

/* ---- driving ---- */

static void pump_sources(struct dispatch *dispatch)
{
    struct source *source;
    struct source *after;
    bool progress = true;
    while (progress) {
        progress = false;
        DL_FOREACH_SAFE(dispatch->sources, source, after)
        {
            if (!source_start(source))
                continue;
            progress = true;
            DL_DELETE(dispatch->sources, source);
            DL_APPEND(dispatch->sources, source);
        }
    }
}

static void pump_fired(uv_timer_t *timer)
{
    struct dispatch *dispatch = timer->data;
    dispatch->pump_due = false;
    dispatch_operation_begin(dispatch); /* a callback may close the dispatcher */
    if (dispatch->ready && !dispatch->closing) {
        catalog_refresh(dispatch);
        invoke_pump(dispatch);
        pump_sources(dispatch);
    }
    invoke_finish(dispatch);
    dispatch_operation_end(dispatch);
}

void dispatch_pump_soon(struct dispatch *dispatch)
{
    if (dispatch->pump_due || uv_is_closing((uv_handle_t *)&dispatch->pump))
        return;
    dispatch->pump_due = true; /* I1 */
    uv_timer_start(&dispatch->pump, pump_fired, 0, 0);
}

static void tick_sources(struct dispatch *dispatch)
{
    struct source *source;
    DL_FOREACH(dispatch->sources, source)
    {
        struct glance seen;
        if (source_measure(source, &seen)) {
            source->hinted = true;
            source->fruitless &= source->leasing + source->running > 0; /* try again now and then */
        }
    }
    dispatch_pump_soon(dispatch);
}

static void tick_throttles(struct dispatch *dispatch)
{
    struct function_entry *function;
    struct function_entry *after;
    HASH_ITER(hh, dispatch->functions, function, after)
    {
        if (function->throttles > 0)
            settle_throttles(dispatch, function);
    }
}

static void close_sessions(struct dispatch *dispatch);

static void tick_fired(uv_timer_t *timer)
{
    struct dispatch *dispatch = timer->data;
    dispatch_operation_begin(dispatch);
    sessions_tick(dispatch);
    assignments_tick(dispatch);
    if (dispatch->ready && !dispatch->closing)
        batches_tick(dispatch);
    invoke_tick(dispatch);
    remotes_tick(dispatch);
    settle_tick(dispatch);
    if (dispatch->ready && !dispatch->closing) {
        catalog_refresh(dispatch);
        tick_throttles(dispatch);
        usage_tick(dispatch);
        watches_tick(dispatch);
        tick_sources(dispatch);
    }
    if (dispatch->closing &&
        (dispatch->running == 0 || dispatch_now(dispatch) >= dispatch->drain_until_ms))
        close_sessions(dispatch);
    dispatch_operation_end(dispatch);
}

/* ---- opening ---- */

enum status dispatch_open(struct dispatch **out, const struct dispatch_options *options)
{
    struct dispatch *dispatch = memory_new(1, sizeof *dispatch);
    dispatch->loop = options->loop;
    dispatch->shards = options->shards;
    dispatch->catalog = shards_catalog(options->shards);
    dispatch->node_id = options->node_id;
    dispatch->peers = options->peers;
    enum status status = link_listen(&dispatch->listener, options->loop, options->rpc_host,
                                     options->rpc_port, session_accepted, dispatch);
    if (status != STATUS_OK) {
        free(dispatch);
        return status;
    }
    link_listener_use_tls(dispatch->listener, options->tls);
    dispatch->endpoint = text_new(slice_of(options->endpoint));
    dispatch->region = text_new(slice_of(options->region));
    dispatch->account_id = text_new(slice_of(options->account_id));
    dispatch->version = text_new(slice_of(options->version));
    dispatch->catalog_stale = true;
    clock_random(&dispatch->lease_id, sizeof dispatch->lease_id);
    clock_random(&dispatch->remote_id, sizeof dispatch->remote_id);
    dispatch->first_lease_id = dispatch->abandoned_lease_id = dispatch->lease_id;
    dispatch->operations = 3; /* listener, pump, tick */
    dispatch->ticked_ms = uv_now(options->loop);
    dispatch->pump.data = dispatch->tick.data = dispatch;
    uv_timer_init(dispatch->loop, &dispatch->pump);
    uv_timer_init(dispatch->loop, &dispatch->tick);
    uv_timer_start(&dispatch->tick, tick_fired, TICK_MS, TICK_MS);
    remotes_open(dispatch);
    *out = dispatch;
    return STATUS_OK;
}

void dispatch_set_clients(struct dispatch *dispatch, dispatch_accept_fn accept, void *data)
{
    dispatch->accept_client = accept;
    dispatch->accept_data = data;
}

uint16_t dispatch_rpc_port(const struct dispatch *dispatch)
{
    return link_listener_port(dispatch->listener);
}

void dispatch_set_leader(struct dispatch *dispatch, uint64_t node_id, const char *rpc_address)
{
    dispatch->leader_id = node_id;
    remotes_leader_changed(dispatch);
    free(dispatch->leader);
    dispatch->leader = rpc_address != NULL ? text_new(slice_of(rpc_address)) : NULL;
    if (dispatch->leader != NULL && !dispatch->ready)
        sessions_redirect(dispatch);
}

void dispatch_set_ready(struct dispatch *dispatch, bool ready)
{
    const struct core *core = shard_core(dispatch->catalog);
    if (ready)
        ASSERT(core_bootstrapped(core, dispatch->cluster_id, dispatch->secret));
    dispatch->ready = ready;
    if (!ready) {
        dispatch->abandoned_lease_id = dispatch->lease_id;
        watches_end(dispatch);
        invoke_leave_waiting(dispatch);
        return;
    }
    dispatch_set_leader(dispatch, 0, NULL);
    dispatch->catalog_stale = true;
    sessions_welcome(dispatch);
    dispatch_pump_soon(dispatch);
}

void dispatch_catalog_changed(struct dispatch *dispatch)
{
    dispatch->catalog_stale = true;
    dispatch_pump_soon(dispatch);
}

/* Shards tell it on every node, also where nobody runs anything. */
void dispatch_queue_ready(struct dispatch *dispatch, uint64_t queue_id)
{
    struct source *source;
    if (!dispatch->ready)
        return;
    DL_FOREACH(dispatch->sources, source)
    {
        if (source->queue_id == queue_id || source->queue_id == 0) {
            source->hinted = true;
            source->fruitless = false;
            source->readies++;
            dispatch_pump_soon(dispatch);
        }
    }
}

/* ---- closing ---- */

static void dispatch_free(struct dispatch *dispatch)
{
    ASSERT(dispatch->sessions == NULL);
    ASSERT(dispatch->assignments == NULL);
    ASSERT(dispatch->waiting == NULL && dispatch->finished == NULL);
    ASSERT(dispatch->remotes == NULL && dispatch->served == NULL);
    void (*closed)(void *data) = dispatch->closed;
    void *data = dispatch->closed_data;
    catalog_free(dispatch);
    origins_forget(dispatch);
    free(dispatch->endpoint);
    free(dispatch->region);
    free(dispatch->account_id);
    free(dispatch->version);
    free(dispatch->leader);
    free(dispatch);
    closed(data);
}

static void timer_closed(uv_handle_t *handle)
{
    dispatch_operation_end(handle->data);
}

/* The last operation but the timers has ended: nothing can need them any more. */
static void close_timers(struct dispatch *dispatch)
{
    uv_close((uv_handle_t *)&dispatch->pump, timer_closed);
    uv_close((uv_handle_t *)&dispatch->tick, timer_closed);
}

void dispatch_operation_begin(struct dispatch *dispatch)
{
    dispatch->operations++;
}

void dispatch_operation_end(struct dispatch *dispatch)
{
    ASSERT(dispatch->operations > 0);
    dispatch->operations--;
    if (!dispatch->closing)
        return;
    if (dispatch->operations == 2 && !uv_is_closing((uv_handle_t *)&dispatch->tick))
        close_timers(dispatch);
    else if (dispatch->operations == 0)
        dispatch_free(dispatch); /* I2 */
}

static void close_sessions(struct dispatch *dispatch)
{
    struct session *session;
    struct session *after;
    DL_FOREACH_SAFE(dispatch->sessions, session, after)
    {
        session_end(session, "the broker is shutting down");
    }
}

static void listener_closed(void *data)
{
    dispatch_operation_end(data);
}

void dispatch_close(struct dispatch *dispatch, void (*closed)(void *data), void *data)
{
    ASSERT(!dispatch->closing);
    dispatch_operation_begin(dispatch);
    dispatch->closing = true;
    dispatch->closed = closed;
    dispatch->closed_data = data;
    dispatch->drain_until_ms = dispatch_now(dispatch) + DRAIN_MS;
    invoke_fail_waiting(dispatch, STATUS_UNAVAILABLE);
    watches_end(dispatch);
    origins_cancel(dispatch);
    remotes_close(dispatch);
    link_listener_close(dispatch->listener, listener_closed, dispatch);
    if (dispatch->running == 0)
        close_sessions(dispatch);
    dispatch_operation_end(dispatch);
}

/* ---- seeing inside ---- */

static uint32_t room_idle(const struct room *room)
{
    uint32_t idle = 0;
    for (size_t i = 0; i < room->warm_count; i++)
        idle += room->warm[i].idle;
    return idle;
}

bool dispatch_worker_next(const struct dispatch *dispatch, size_t *position,
                          struct dispatch_worker_view *out)
{
    const struct session *session;
    size_t at = 0;
    DL_FOREACH(dispatch->sessions, session)
    {
        if (!session->greeted || session->ended || at++ < *position)
            continue;
        *position = at;
        *out = (struct dispatch_worker_view){.worker_id = session->worker_id,
                                             .host = session->host,
                                             .version = session->version,
                                             .isolation = session->isolation,
                                             .concurrency_max = session->room.slots_max,
                                             .running = session->room.taken,
                                             .warm = room_idle(&session->room),
                                             .memory_bytes = session->room.memory_max,
                                             .connected_ms = session->connected_ms};
        return true;
    }
    return false;
}

void dispatch_function(const struct dispatch *dispatch, struct slice name,
                       struct dispatch_function_view *out)
{
    const struct function_entry *function = NULL;
    HASH_FIND(hh, dispatch->functions, name.data, name.length, function);
    *out = (struct dispatch_function_view){0};
    if (function != NULL)
        *out = (struct dispatch_function_view){.running = function->running,
                                               .running_peak = function->running_peak,
                                               .waiting = function->waiting};
}

void dispatch_mapping(const struct dispatch *dispatch, const uint8_t uuid[UUID_BYTES],
                      struct dispatch_mapping_view *out)
{
    const struct source *source = NULL;
    HASH_FIND(hh, dispatch->mappings, uuid, UUID_BYTES, source);
    *out = (struct dispatch_mapping_view){.last_result = "No records processed"};
    if (source != NULL)
        *out = (struct dispatch_mapping_view){.running = source->running,
                                              .concurrency_target = source->target,
                                              .last_result = source->last_result};
}
