/* SPDX-License-Identifier: Apache-2.0 */
/* Event sources: when the messages of a queue become a batch.
 *
 * A batch starts when there are messages to lease, the control law (scaling.h) allows one more, the
 * batching window agrees, and a worker has room. The last comes last, because room is taken with
 * it. Nothing is leased ahead of that: a lease that waits for a slot only burns its visibility
 * timeout.
 *
 * The batching window opens when messages are first seen and closes when a batch starts: it starts
 * early once a full batch is there. Work that came back undone makes the source wait, a little
 * longer each time, so that a worker which rejects everything is not asked in a tight loop.
 *
 * The visible messages of a FIFO queue may all be behind others of their groups that are in flight.
 * A receive that found nothing makes the source fruitless, until the core says that there may be
 * more.
 *
 *   I1  leasing and running count batches; both are 0 when the last of them is gone
 */
#include "broker/dispatch/internal.h"

#include "proto/base/assert.h"
#include "proto/base/clock.h"

#define BACKOFF_FIRST_MS 100u
#define BACKOFF_MAX_MS   5000u

static uint64_t source_age_ms(const struct glance *seen)
{
    uint64_t now = clock_now_ms();
    return seen->oldest_sent_ms == 0 || seen->oldest_sent_ms > now ? 0 : now - seen->oldest_sent_ms;
}

/* Messages that no receive under way will take. */
static uint64_t source_unclaimed(const struct source *source, const struct glance *seen)
{
    uint64_t claimed = (uint64_t)source->leasing * source->batch_size;
    return seen->visible > claimed ? seen->visible - claimed : 0;
}

/* The queue as this node's replica has it, or as one that has a replica said last. */
static bool source_look(const struct source *source, struct glance *out)
{
    struct queue_view view;
    const struct shard *shard = shards_at(source->dispatch->shards, source->shard_id);
    if (shard == NULL)
        *out = source->seen;
    else if (core_queue_by_name(shard_core(shard), slice_of(source->queue_name), &view))
        *out = glance_of(&view);
    else
        *out = (struct glance){0};
    return out->there;
}

void source_received(struct source *source, uint32_t count)
{
    struct glance *seen = &source->seen;
    seen->visible = seen->visible > count ? seen->visible - count : 0;
}

void source_seen(struct source *source, const struct glance *seen)
{
    source->seen = *seen;
    source->hinted = true;
    source->fruitless = false;
    source->readies++;
}

bool source_measure(struct source *source, struct glance *seen)
{
    uint64_t seen_id = source->queue_id;
    source->target = 0;
    source->queue_id = 0;
    if (!source->enabled || !source->function->usable || !source->function->present ||
        !source_look(source, seen))
        return false;
    source->queue_id = seen->queue_id;
    source->fifo = seen->fifo;
    source->visibility_s = seen->visibility_s;
    source->fruitless = source->fruitless && seen_id == seen->queue_id;
    struct scaling_input input = {.now_ms = dispatch_now(source->dispatch),
                                  .visible = source_unclaimed(source, seen),
                                  .oldest_age_ms = source_age_ms(seen),
                                  .sent_total = seen->sent_total,
                                  .running = source->leasing + source->running,
                                  .batch_size = source->batch_size,
                                  .concurrency_max = source->concurrency_max};
    source->target = scaling_target(&source->scaling, &input);
    return input.visible > 0;
}

static bool source_window_closed(struct source *source, const struct glance *seen)
{
    if (source->window_ms == 0 || source_unclaimed(source, seen) >= source->batch_size)
        return true;
    uint64_t now = dispatch_now(source->dispatch);
    if (source->window_opened_ms == 0)
        source->window_opened_ms = now;
    return now - source->window_opened_ms >= source->window_ms;
}

bool source_start(struct source *source)
{
    struct glance seen;
    if (source->fruitless || !source->hinted ||
        dispatch_now(source->dispatch) < source->backoff_until_ms)
        return false;
    if (!source_measure(source, &seen)) {
        source->hinted = false;
        return false;
    }
    if (source->leasing + source->running >= source->target || !source_window_closed(source, &seen))
        return false;
    if (!batch_start(source, seen.queue_id))
        return false;
    source->window_opened_ms = 0;
    return true;
}

void source_back_off(struct source *source)
{
    source->backoff_ms = source->backoff_ms == 0 ? BACKOFF_FIRST_MS : source->backoff_ms * 2;
    if (source->backoff_ms > BACKOFF_MAX_MS)
        source->backoff_ms = BACKOFF_MAX_MS;
    source->backoff_until_ms = dispatch_now(source->dispatch) + source->backoff_ms;
}
