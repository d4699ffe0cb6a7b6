/* SPDX-License-Identifier: Apache-2.0 */
/* Time that passes without a command: when the core's next deadline is due, the leader proposes a
 * TICK, which does nothing but carry the time. */
#include "broker/replication/internal.h"
#include "proto/base/assert.h"

#define TICK_AT_LEAST_MS 5u     /* deadlines closer than this run together */
#define TICK_AT_MOST_MS  60000u /* look again: the wall clock may have been set */

static void on_ticked(struct shard_call *call, enum status status,
                      const struct core_result *results, uint32_t count)
{
    struct shard *shard = CONTAINER_OF(call, struct shard, tick);
    (void)status;
    (void)results;
    (void)count;
    shard->ticking = false;
    shard->tick_at_ms = 0;
}

static void propose_tick(struct shard *shard)
{
    struct command command = {.type = COMMAND_TICK};
    if (shard->stage != STAGE_READY || shard->ticking)
        return;
    shard->ticking = true;
    shard->tick = (struct shard_call){.done = on_ticked};
    shard_call_add(&shard->tick, &command);
    batch_add(shard, &shard->tick);
}

static void on_tick_timer(uv_timer_t *timer)
{
    struct shard *shard = timer->data;
    shard->tick_at_ms = 0;
    shard_wake(shard);
    if (core_next_deadline_ms(shard->core) <= time_now_ms(shard))
        propose_tick(shard);
}

void tick_arm(struct shard *shard)
{
    uint64_t deadline_ms = core_next_deadline_ms(shard->core);
    if (shard->stage != STAGE_READY || shard->ticking || deadline_ms == UINT64_MAX ||
        deadline_ms == shard->tick_at_ms)
        return;
    uint64_t now_ms = time_now_ms(shard);
    uint64_t delay_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 0;
    if (delay_ms < TICK_AT_LEAST_MS)
        delay_ms = TICK_AT_LEAST_MS;
    if (delay_ms > TICK_AT_MOST_MS)
        delay_ms = TICK_AT_MOST_MS;
    shard->tick_at_ms = deadline_ms;
    uv_update_time(shard->options.loop); /* the timer counts from the loop's idea of now */
    uv_timer_start(&shard->tick_timer, on_tick_timer, delay_ms, 0);
}
