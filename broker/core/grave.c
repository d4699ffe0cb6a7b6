/* SPDX-License-Identifier: Apache-2.0 */
/* What is left of purged and deleted queues. To drop 20 million messages in one entry would stop
 * everything for seconds, on all replicas. So a purge only swaps: the messages stay in their slot,
 * which becomes a grave, and the queue moves to a new slot where it is empty. No view, counter,
 * lease or name leads into a grave. Every entry then gives some of it over, and core_bury drops
 * that, until the slot is free.
 *
 * A grave is no part of the state that replicas share: a snapshot has none of it, the digest does
 * not see it, and what is done here has no effect but body_release. So the dropping need not be in
 * step: ten thousand messages in one entry would hold up all replicas for milliseconds, at the same
 * time. How much may be dropped is in step:
 *
 * I1  graves_whole and graves_due together are what is in the graves.
 * I2  Nothing is dropped that was not given over, and how much that is follows from the entries. So
 *     a process that replays them from a snapshot of before, and drops all that they give over, has
 *     no body in its hands that the process before it let go.
 * I3  While there are graves each SEND drops two of what is due: however the owner calls core_bury,
 *     memory does not grow. */
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
    core->graves_whole += message_total(queue);
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
    core->graves_whole += message_total(queue) + queue->dedups.count;
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

void grave_run(struct core *core, uint64_t most)
{
    uint64_t left = most < core->graves_due ? most : core->graves_due; /* I2 */
    core->graves_due -= left;
    while (core->graves != NULL) {
        struct queue *grave = core->graves;
        uint32_t index = lane_least(&grave->age, &core->messages);
        if (index == MESSAGE_NONE && grave->dedups.count == 0) {
            finish(core, grave);
            continue;
        }
        if (left == 0)
            return;
        left--;
        if (index != MESSAGE_NONE)
            drop_message(core, grave, index);
        else
            dedup_drop_oldest(&grave->dedups);
    }
    ASSERT(left == 0); /* I1 */
}

void grave_give_over(struct core *core)
{
    if (core->graves == NULL)
        return;
    uint64_t more = core->graves_whole < core->graves_left ? core->graves_whole : core->graves_left;
    core->graves_left -= (uint32_t)more;
    core->graves_whole -= more;
    core->graves_due += more;
    grave_run(core, 0); /* the slot of an empty queue is free at once */
}
