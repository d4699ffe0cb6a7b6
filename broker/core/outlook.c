/* SPDX-License-Identifier: Apache-2.0 */
/* What a receive would find: for who decides whether one that waits is worth an entry, or a place
 * in one. Nothing depends on its being right when the receive is applied. */
#include "broker/core/record.h"
#include "broker/core/state.h"

bool core_outlook(const struct core *core, uint64_t queue_id, struct core_outlook *out)
{
    const struct queue *queue = queue_find(core, queue_id);
    if (queue == NULL)
        return false;
    bool fifo = queue->view.settings.fifo;
    *out = (struct core_outlook){.fifo = fifo,
                                 .messages = queue->view.visible,
                                 .groups = fifo ? queue->offers.count : UINT64_MAX};
    return true;
}

static bool describe_group(const struct group *group, struct core_group *out)
{
    if (group == NULL)
        return false;
    *out = (struct core_group){group->index, group->messages, group->in_flight};
    return true;
}

bool core_group_of_lease(const struct core *core, uint64_t queue_id, struct core_lease lease,
                         struct core_group *out)
{
    const struct queue *queue = queue_find(core, queue_id);
    if (queue == NULL || !queue->view.settings.fifo)
        return false;
    uint32_t index = message_by_lease(core, queue, lease);
    if (index == MESSAGE_NONE)
        return false;
    const struct message *message = message_at(&core->messages, index);
    bool held =
        message->state == MESSAGE_IN_FLIGHT && message->receive_count == lease.receive_count;
    return held && describe_group(group_of(core, message), out);
}

bool core_group_of_send(const struct core *core, const struct command_send *send,
                        struct core_group *out)
{
    struct record_ids ids;
    const struct queue *queue = queue_find(core, send->queue_id);
    if (queue == NULL || !queue->view.settings.fifo)
        return false;
    record_read_ids(send->record, &ids);
    return describe_group(group_named(core, queue, ids.group_id), out);
}
