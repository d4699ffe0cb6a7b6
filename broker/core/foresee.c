/* SPDX-License-Identifier: Apache-2.0 */
/* Fetching what a command will look up while the one before it is applied. Tables of many messages
 * are in no cache, and waiting for them was a third of what a message to a FIFO queue cost. Nothing
 * here changes the state, or has to be right.
 *
 * The tables only say where they will look: gcc takes a function that does nothing but prefetch for
 * one that does nothing, and drops it. */
#include "broker/core/record.h"
#include "broker/core/state.h"

static void foresee_send(const struct queue *queue, const struct command_send *send)
{
    struct record_ids ids;
    if (!queue->view.settings.fifo)
        return; /* messages_map has seen to it */
    record_read_ids(send->record, &ids);
    __builtin_prefetch(dedup_place(queue, &ids), 1);
    __builtin_prefetch(group_place(queue, ids.group_id), 1);
}

void core_foresee(const struct core *core, const struct command *command)
{
    const struct queue *queue;
    if (command->type == COMMAND_SEND && (queue = queue_find(core, command->send.queue_id)) != NULL)
        foresee_send(queue, &command->send);
    else if (command->type == COMMAND_DELETE &&
             (queue = queue_find(core, command->delete.queue_id)) != NULL)
        __builtin_prefetch(messages_place(&core->messages, queue->slot, command->delete.lease.seq));
}
