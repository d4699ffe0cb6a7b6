/* SPDX-License-Identifier: Apache-2.0 */
/* What is left of purged and deleted queues. To drop 20 million messages in one entry would stop
 * everything for seconds, on all replicas. So a purge only swaps: the messages stay in their slot,
 * which becomes a grave, and the queue moves to a new slot where it is empty. No view, counter,
 * lease or name leads into a grave. Every entry then drops some of it, until the slot is free.
 *
 * A grave is no part of the state that replicas share: a snapshot has none of it, the digest does
 * not see it, and what is done here has no effect but body_release. */
#include "broker/core/limits.h"
#include "broker/core/state.h"

#include <stdlib.h>

static uint64_t message_total(const struct queue *queue)
{
    return queue->view.visible + queue->view.delayed + queue->view.in_flight;
}

static void bury(struct core *core, struct queue *grave)
{
    grave->buried = true;
    grave->ready_noted = false;
    DL_APPEND(core->graves, grave);
}

void grave_purge(struct core *core, struct queue *queue)
{
    ASSERT(!queue->ready_noted);
    if (message_total(queue) == 0)
        return;
    heap_remove(&core->retention, queue->retention_at);
    if (queue->chore_at != POSITION_NONE)
        heap_remove(&core->chores, queue->chore_at); /* it names the slot */
    queue->chore_at = POSITION_NONE;
    struct queue *grave = calloc(1, sizeof *grave);
    ASSERT(grave != NULL);
    grave->view.settings.fifo = queue->view.settings.fifo;
    grave->slot = queue->slot;
    grave->ready = queue->ready;
    grave->age = queue->age;
    grave->groups = queue->groups;
    grave->offers = queue->offers;
    queue_settle_out(core, queue);
    core->queues[grave->slot] = grave;
    bury(core, grave);
    queue->view.visible = 0;
    queue->view.delayed = 0;
    queue->view.in_flight = 0;
    queue->view.oldest_sent_ms = 0;
    queue_settle_in(core, queue);
    queue_chores_follow(core, queue);
}

void grave_add(struct core *core, struct queue *queue)
{
    ASSERT(!queue->ready_noted);
    if (queue->retention_at != POSITION_NONE)
        heap_remove(&core->retention, queue->retention_at);
    if (queue->chore_at != POSITION_NONE)
        heap_remove(&core->chores, queue->chore_at);
    bury(core, queue);
}

static void drop_message(struct core *core, struct queue *grave, uint32_t index)
{
    const struct message *message = message_at(&core->messages, index);
    struct group *group = group_of(core, message);
    if (message->state != MESSAGE_VISIBLE && message->deadline_at != POSITION_NONE)
        heap_remove(&core->deadlines, message->deadline_at);
    body_release(core, message_body(message));
    origin_unref(core, message->origin);
    messages_unmap(&core->messages, index);
    lane_remove(&grave->age, &core->messages, index);
    if (group != NULL) {
        group->in_flight = 0; /* counts nothing any more */
        group_leave(core, grave, group);
    }
    messages_give(&core->messages, index);
}

static void finish(struct core *core, struct queue *grave)
{
    DL_DELETE(core->graves, grave);
    core->queues[grave->slot] = NULL;
    core->free_slots[core->free_slot_count++] = grave->slot;
    queue_free(core, grave);
}

void grave_run(struct core *core)
{
    while (core->graves != NULL) {
        struct queue *grave = core->graves;
        uint32_t index = lane_least(&grave->age, &core->messages);
        if (index == MESSAGE_NONE && grave->dedups.count == 0) {
            finish(core, grave);
            continue;
        }
        if (core->graves_left == 0)
            return;
        core->graves_left--;
        if (index != MESSAGE_NONE)
            drop_message(core, grave, index);
        else
            dedup_drop_oldest(&grave->dedups);
    }
}
