/* SPDX-License-Identifier: Apache-2.0 */
/* What time does: retention ends, delays and leases run out, unused code is dropped. It runs when
 * an entry carries core time past a deadline, and after every command, because a command can set a
 * deadline that is due already (a lease of 0 seconds, a shorter retention). A deadline that is
 * exactly now is due.
 *
 * Retention goes first, so that a message which is both expired and due to be seen is never seen.
 */
#include "broker/core/limits.h"
#include "broker/core/state.h"

static void expire_oldest(struct core *core, uint32_t queue_slot)
{
    struct queue *queue = core->queues[queue_slot];
    ASSERT(queue != NULL);
    queue_drop(core, queue, lane_least(&queue->age, &core->messages));
}

static void show_due(struct core *core, uint32_t index)
{
    struct queue *queue = core->queues[message_at(&core->messages, index)->queue_slot];
    ASSERT(queue != NULL);
    queue_withdraw(core, queue, index);
    queue_show(core, queue, index);
}

/* Unused blobs are in order of creation, and time never goes back, so the first is due first. */
static uint64_t blob_deadline_ms(const struct core *core)
{
    const struct blob *blob = core->unused_blobs;
    return blob != NULL ? blob->created_ms + BLOB_UNUSED_MS : UINT64_MAX;
}

void deadline_run(struct core *core)
{
    while (heap_least_key(&core->retention) <= core->now_ms)
        expire_oldest(core, core->retention.entries[0].item);
    while (heap_least_key(&core->deadlines) <= core->now_ms)
        show_due(core, core->deadlines.entries[0].item);
    while (blob_deadline_ms(core) <= core->now_ms)
        blob_drop(core, core->unused_blobs);
}

uint64_t core_next_deadline_ms(const struct core *core)
{
    uint64_t next_ms = heap_least_key(&core->retention);
    uint64_t hidden_ms = heap_least_key(&core->deadlines);
    uint64_t blob_ms = blob_deadline_ms(core);
    next_ms = hidden_ms < next_ms ? hidden_ms : next_ms;
    return blob_ms < next_ms ? blob_ms : next_ms;
}
