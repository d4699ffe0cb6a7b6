/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/away/internal.h"

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>

#define TICK_MS            50u /* until those that found no replica look again */
#define LATE_MS            10000u
#define LATE_STEPS         10u
#define TASKS_MAX          65536u
#define TASK_BYTES_MAX     ((size_t)256 << 20)
#define NUMBER_RANDOM_BITS 48u

static void on_message(void *data, uint64_t node_id, struct slice bytes)
{
    struct away *away = data;
    struct away_message message;
    if (away_decode(bytes, &message) != STATUS_OK) {
        trace_warn("away", "unreadable", "node=%" PRIu64 " bytes=%zu", node_id, bytes.length);
        return;
    }
    if (message.type == AWAY_ASK)
        served_asked(away, node_id, &message);
    else if (message.type == AWAY_CANCEL)
        served_cancelled(away, node_id, message.number);
    else
        asked_answered(away, node_id, &message);
}

static void on_connection(void *data, uint64_t node_id, bool up)
{
    struct away *away = data;
    if (up) {
        asked_tick(away);
        return;
    }
    asked_lost_node(away, node_id);
    served_lost_node(away, node_id);
}

/* ---- timers ---- */

static void on_tick(uv_timer_t *timer)
{
    struct away *away = timer->data;
    letters_again(away);
    asked_tick(away);
    if (away->waiting == NULL && away->delayed == NULL)
        uv_timer_stop(timer);
}

void away_tick_awake(struct away *away)
{
    if (!uv_is_active((uv_handle_t *)&away->tick) && !uv_is_closing((uv_handle_t *)&away->tick))
        uv_timer_start(&away->tick, on_tick, TICK_MS, TICK_MS);
}

void away_tick_now(struct away *away)
{
    if (!uv_is_closing((uv_handle_t *)&away->tick))
        uv_timer_start(&away->tick, on_tick, 0, TICK_MS);
}

static void on_late(uv_timer_t *timer)
{
    struct away *away = timer->data;
    asked_late(away);
    if (away->sent == NULL)
        uv_timer_stop(timer);
}

void away_late_awake(struct away *away)
{
    uint32_t step_ms = away->options.late_ms / LATE_STEPS;
    if (!uv_is_active((uv_handle_t *)&away->late) && !uv_is_closing((uv_handle_t *)&away->late))
        uv_timer_start(&away->late, on_late, step_ms, step_ms);
}

static void on_gone(uv_handle_t *handle)
{
    struct away *away = handle->data;
    void (*closed)(void *data) = away->closed;
    void *data = away->closed_data;
    asked_free(away);
    free(away);
    closed(data);
}

static void on_late_gone(uv_handle_t *handle)
{
    struct away *away = handle->data;
    uv_close((uv_handle_t *)&away->soon, on_gone);
}

static void on_tick_gone(uv_handle_t *handle)
{
    struct away *away = handle->data;
    uv_close((uv_handle_t *)&away->late, on_late_gone);
}

static void close_when_empty(struct away *away)
{
    if (!away->closing || away->asked_count > 0 || away->tasks != NULL || away->letter_count > 0 ||
        uv_is_closing((uv_handle_t *)&away->tick))
        return;
    if (away->options.peers != NULL)
        peers_handle(away->options.peers, PEER_CHANNEL_AWAY, NULL);
    uv_close((uv_handle_t *)&away->tick, on_tick_gone);
}

static void on_soon(uv_timer_t *timer)
{
    struct away *away = timer->data;
    asked_tell(away);
    close_when_empty(away);
}

void away_soon(struct away *away)
{
    if (!uv_is_active((uv_handle_t *)&away->soon) && !uv_is_closing((uv_handle_t *)&away->soon))
        uv_timer_start(&away->soon, on_soon, 0, 0);
}

/* ---- opening and closing ---- */

struct away *away_open(const struct away_options *options)
{
    struct away *away = calloc(1, sizeof *away);
    ASSERT(away != NULL);
    away->options = *options;
    if (away->options.tasks_max == 0)
        away->options.tasks_max = TASKS_MAX;
    if (away->options.task_bytes_max == 0)
        away->options.task_bytes_max = TASK_BYTES_MAX;
    clock_random(&away->number, sizeof away->number);
    away->number >>= 64 - NUMBER_RANDOM_BITS;
    if (away->options.late_ms == 0)
        away->options.late_ms = LATE_MS;
    away->tick.data = away->soon.data = away->late.data = away;
    uv_timer_init(options->loop, &away->late);
    uv_timer_init(options->loop, &away->tick);
    uv_timer_init(options->loop, &away->soon);
    struct peer_handler handler = {
        .message = on_message, .connection = on_connection, .data = away};
    if (options->peers != NULL)
        peers_handle(options->peers, PEER_CHANNEL_AWAY, &handler);
    return away;
}

void away_close(struct away *away, void (*closed)(void *data), void *data)
{
    ASSERT(!away->closing);
    away->closing = true;
    away->closed = closed;
    away->closed_data = data;
    asked_close(away);
    served_close(away);
    letters_again(away); /* frees them */
    away_soon(away);
}

uint32_t away_asked(const struct away *away)
{
    return away->asked_count;
}

uint32_t away_serving(const struct away *away)
{
    return HASH_COUNT(away->tasks);
}
