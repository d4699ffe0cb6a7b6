/* SPDX-License-Identifier: Apache-2.0 */
/* What time does: retention ends, delays and leases run out, moves go on, unused code is dropped,
 * and what is left of purged queues is given over. It runs when an entry carries core time past a
 * deadline, and after every command, because a command can set a deadline that is due already (a
 * lease of 0 seconds, a shorter retention). A deadline that is exactly now is due.
 *
 * Retention goes first, so that a message which is both expired and due to be seen is never seen.
 *
 * An entry does a bounded number of each. What stops half way stops between two times, never
 * between two deadlines of the same time: their order in the heap is not the same on a replica that
 * was restored from a snapshot, but what is due up to some time is. */
#include "broker/core/limits.h"
#include "broker/core/state.h"

static void expire_oldest(struct core *core, uint32_t queue_slot)
{
    struct queue *queue = core->queues[queue_slot];
    ASSERT(queue != NULL);
    queue_drop(core, queue, lane_least(&queue->age, &core->messages));
    queue_ready_note(core, queue); /* it may have been in the way of others */
}

static void show_due(struct core *core, uint32_t index)
{
    struct message *message = message_at(&core->messages, index);
    struct queue *queue = core->queues[message->queue_slot];
    ASSERT(queue != NULL);
    if (queue->buried) {
        heap_remove(&core->deadlines, message->deadline_at);
        message->deadline_at = POSITION_NONE;
        return;
    }
    if (core->deadlines_left > 0)
        core->deadlines_left--;
    queue_withdraw(core, queue, index);
    queue_show(core, queue, index);
}

static void run_retention(struct core *core)
{
    uint64_t last_ms = UINT64_MAX;
    uint64_t key_ms;
    while ((key_ms = heap_least_key(&core->retention)) <= core->now_ms &&
           (core->retention_left > 0 || key_ms == last_ms)) {
        last_ms = key_ms;
        if (core->retention_left > 0)
            core->retention_left--;
        expire_oldest(core, core->retention.entries[0].item);
    }
}

static void run_deadlines(struct core *core)
{
    uint64_t last_ms = UINT64_MAX;
    uint64_t key_ms;
    while ((key_ms = heap_least_key(&core->deadlines)) <= core->now_ms &&
           (core->deadlines_left > 0 || key_ms == last_ms)) {
        last_ms = key_ms;
        show_due(core, core->deadlines.entries[0].item);
    }
}

/* Each leaves the queue's next chore in the future. */
static void run_chores(struct core *core)
{
    while (heap_least_key(&core->chores) <= core->now_ms) {
        struct queue *queue = core->queues[core->chores.entries[0].item];
        dedup_sweep(core, queue);
        attempt_sweep(core, queue);
        move_run(core, queue);
        queue_chores_follow(core, queue);
    }
}

/* Unused blobs are in order of creation, and time never goes back, so the first is due first. */
static uint64_t blob_deadline_ms(const struct core *core)
{
    const struct blob *blob = core->unused_blobs;
    return blob != NULL ? blob->created_ms + BLOB_UNUSED_MS : UINT64_MAX;
}

void deadline_run(struct core *core)
{
    run_retention(core);
    run_deadlines(core);
    run_chores(core);
    while (blob_deadline_ms(core) <= core->now_ms)
        blob_drop(core, core->unused_blobs);
    grave_give_over(core);
}

uint64_t core_next_deadline_ms(const struct core *core)
{
    const uint64_t due_ms[] = {
        heap_least_key(&core->retention),
        heap_least_key(&core->deadlines),
        heap_least_key(&core->chores),
        blob_deadline_ms(core),
        core->graves_whole > 0 ? core->now_ms : UINT64_MAX,
    };
    uint64_t next_ms = UINT64_MAX;
    for (size_t i = 0; i < ARRAY_COUNT(due_ms); i++)
        next_ms = due_ms[i] < next_ms ? due_ms[i] : next_ms;
    return next_ms > core->now_ms ? next_ms : core->now_ms;
}
