/* SPDX-License-Identifier: Apache-2.0 */
/* SEND: a message comes in. The core keeps where its record is in the Raft log, not the record. */
#include "broker/core/limits.h"
#include "broker/core/state.h"

void message_send(struct core *core, const struct command *command, struct slice entry,
                  struct core_result *result)
{
    const struct command_send *send = &command->send;
    struct queue *queue = queue_find(core, send->queue_id);
    if (queue == NULL) {
        result->code = CORE_NO_QUEUE;
        return;
    }
    ASSERT(send->record.data >= entry.data);
    ASSERT(send->record.data + send->record.length <= entry.data + entry.length);
    uint32_t delay_s = send->delay_s == CORE_DEFAULT ? queue->view.settings.delay_s : send->delay_s;
    uint32_t index = messages_take(&core->messages);
    struct message *message = message_at(&core->messages, index);
    message->queue_slot = queue->slot & QUEUE_SLOT_MAX;
    message->seq = ++queue->seq_last;
    message->sent_ms = core->now_ms;
    message->body_index = core->applied_index;
    message->body_offset = (uint32_t)(send->record.data - entry.data);
    message->body_length = (uint32_t)send->record.length;
    message->due_after_ms = delay_s * SECOND_MS;
    body_hold(core, message_body(message));
    queue_store(core, queue, index);
    if (delay_s > 0)
        queue_hide(core, queue, index, MESSAGE_DELAYED);
    else
        queue_show(core, queue, index);
    queue->view.sent_total++;
    result->seq = message->seq;
}
