/* SPDX-License-Identifier: Apache-2.0 */
/* Keeping an eye on queues whose shard is on other nodes: one question for each such shard, about
 * the queues of all sources there, stands with a node that has it (door_glance) until one of the
 * queues is not as it was, and is asked again at once. An idle one costs a message each way in
 * HOLD_MS, whatever the number of queues; a busy one as many as GLANCE_PACE_MS allows.
 *
 *   I1  one question for each shard; it holds an operation of the dispatcher, and a reference to
 *       each of its sources
 *   I2  a source that comes, or is enabled, is asked about from the next tick on
 *   I3  the answer to a question that was cancelled counts as well: it is news
 *   I4  who answers keeps the pace; one that does not is asked on ticks only
 */
#include "broker/dispatch/internal.h"

#include "proto/base/assert.h"

#include <stdlib.h>
#include <utlist.h>

#define HOLD_MS 1000u

static bool wanted(const struct watch *watch, const struct source *source)
{
    return source->enabled && source->present && source->shard_id == watch->shard_id;
}

static void on_news(struct door_glance *glance, enum status status, const struct glance_news *news,
                    uint32_t count);

static void watch_ask(struct watch *watch)
{
    watch->asking = true;
    watch->asked_ms = dispatch_now(watch->dispatch);
    watch->cancelled = false;
    watch->glance = (struct door_glance){.count = watch->count, .done = on_news, .data = watch};
    glance_question_begin(&watch->glance.request, HOLD_MS);
    for (uint32_t i = 0; i < watch->count; i++) {
        struct glance_item item = {.mark = watch->list[i]->seen.mark,
                                   .name = slice_of(watch->list[i]->queue_name)};
        glance_question_add(&watch->glance.request, &item);
    }
    dispatch_operation_begin(watch->dispatch); /* I1 */
    door_glance(watch->dispatch->shards, watch->shard_id, &watch->glance);
}

static void watch_forget(struct watch *watch)
{
    for (uint32_t i = 0; i < watch->count; i++)
        source_unref(watch->list[i]);
    free(watch->list);
    watch->list = NULL;
    watch->count = 0;
}

static bool goes_on(const struct watch *watch)
{
    const struct dispatch *dispatch = watch->dispatch;
    bool paced = dispatch_now(dispatch) - watch->asked_ms >= GLANCE_PACE_MS / 2; /* I4 */
    return paced && !watch->cancelled && dispatch->ready && !dispatch->closing &&
           !door_here(dispatch->shards, watch->shard_id);
}

/* What failed, or was answered too fast, is asked again at the next tick. */
static void on_news(struct door_glance *glance, enum status status, const struct glance_news *news,
                    uint32_t count)
{
    struct watch *watch = glance->data;
    struct dispatch *dispatch = watch->dispatch;
    watch->asking = false;
    for (uint32_t i = 0; i < count; i++) /* I3 */
        source_seen(watch->list[news[i].which], &news[i].glance);
    if (count > 0)
        dispatch_pump_soon(dispatch);
    if (status == STATUS_OK && goes_on(watch))
        watch_ask(watch);
    else
        watch_forget(watch);
    dispatch_operation_end(dispatch);
}

/* ---- which ---- */

static uint32_t count_wanted(const struct watch *watch)
{
    const struct source *source;
    uint32_t count = 0;
    DL_FOREACH(watch->dispatch->sources, source)
    {
        count += wanted(watch, source);
    }
    return count < QUESTION_QUEUES_MAX ? count : QUESTION_QUEUES_MAX;
}

static void watch_gather(struct watch *watch, uint32_t count)
{
    struct source *source;
    watch->list = memory_new(count, sizeof(struct source *));
    DL_FOREACH(watch->dispatch->sources, source)
    {
        if (!wanted(watch, source) || watch->count == count)
            continue;
        source->refs++;
        watch->list[watch->count++] = source;
    }
}

/* All that it asks about are wanted, and no others. */
static bool is_current(const struct watch *watch, uint32_t count)
{
    bool current = count == watch->count;
    for (uint32_t i = 0; i < watch->count && current; i++)
        current = wanted(watch, watch->list[i]);
    return current;
}

static void watch_stop(struct watch *watch)
{
    if (!watch->asking || watch->cancelled)
        return;
    watch->cancelled = true;
    door_glance_cancel(&watch->glance);
}

static void watch_tick(struct watch *watch)
{
    uint32_t count = door_here(watch->dispatch->shards, watch->shard_id) ? 0 : count_wanted(watch);
    if (watch->asking && !is_current(watch, count))
        watch_stop(watch); /* and from the next tick on about the others */
    if (watch->asking || count == 0)
        return;
    watch_gather(watch, count);
    watch_ask(watch);
}

void watches_tick(struct dispatch *dispatch)
{
    uint32_t total = shards_total(dispatch->shards);
    for (uint32_t id = 1; id < total; id++) {
        dispatch->watches[id].dispatch = dispatch;
        dispatch->watches[id].shard_id = id;
        watch_tick(&dispatch->watches[id]);
    }
}

void watches_end(struct dispatch *dispatch)
{
    for (uint32_t id = 0; id <= QUEUE_SHARDS_MAX; id++)
        watch_stop(&dispatch->watches[id]);
}
