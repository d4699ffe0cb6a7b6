/* SPDX-License-Identifier: Apache-2.0 */
/* RECEIVE: lease visible messages, oldest first, and on the way move those that have been received
 * too often to the dead-letter queue.
 *
 * A message that was received receive_count_max times is moved when it would be handed out once
 * more. It keeps its body and its sent_ms, so its age goes on there; it gets a new seq, and its
 * receive count starts afresh. A dead-letter queue that does not exist, or is the queue itself,
 * moves nothing: the message is delivered again rather than lost or stuck. */
#include "broker/core/limits.h"
#include "broker/core/state.h"

#include <stdlib.h>

/* Where this message has to go instead of to the consumer; NULL: nowhere. */
static struct queue *redrive_target(const struct core *core, const struct queue *queue,
                                    const struct message *message)
{
    const struct queue_settings *settings = &queue->view.settings;
    if (settings->receive_count_max == 0 || message->receive_count < settings->receive_count_max)
        return NULL;
    struct queue *target = names_get(&core->queue_names, settings->dead_letter);
    return target != queue ? target : NULL;
}

static void redrive(struct core *core, struct queue *queue, uint32_t index, struct queue *target)
{
    struct message old = *message_at(&core->messages, index);
    queue_withdraw(core, queue, index);
    queue_unstore(core, queue, index);
    uint32_t moved = messages_take(&core->messages);
    struct message *message = message_at(&core->messages, moved);
    message->queue_slot = target->slot & QUEUE_SLOT_MAX;
    message->seq = ++target->seq_last;
    message->sent_ms = old.sent_ms;
    message->body_index = old.body_index;
    message->body_offset = old.body_offset;
    message->body_length = old.body_length;
    queue_store(core, target, moved);
    queue_show(core, target, moved);
}

static struct core_message lease(struct core *core, struct queue *queue, uint32_t index,
                                 uint32_t visibility_s)
{
    struct message *message = message_at(&core->messages, index);
    uint32_t age_ms = (uint32_t)(core->now_ms - message->sent_ms);
    queue_withdraw(core, queue, index);
    if (message->receive_count == 0)
        message->first_receive_after_ms = age_ms;
    if (message->receive_count < UINT32_MAX) /* I5: it never wraps */
        message->receive_count++;
    message->leased_after_ms = age_ms;
    message->due_after_ms = age_ms + visibility_s * SECOND_MS;
    queue_hide(core, queue, index, MESSAGE_IN_FLIGHT);
    return (struct core_message){
        .body = message_body(message),
        .seq = message->seq,
        .sent_ms = message->sent_ms,
        .first_receive_ms = message->sent_ms + message->first_receive_after_ms,
        .visible_at_ms = message_due_ms(message),
        .receive_count = message->receive_count,
    };
}

static void received_add(struct core *core, uint32_t count, struct core_message message)
{
    if (count == core->received_capacity) {
        core->received_capacity = count == 0 ? 16 : count * 2;
        core->received =
            realloc(core->received, core->received_capacity * sizeof core->received[0]);
        ASSERT(core->received != NULL);
    }
    core->received[count] = message;
}

void message_receive(struct core *core, const struct command *command, struct core_result *result)
{
    const struct command_receive *receive = &command->receive;
    struct queue *queue = queue_find(core, receive->queue_id);
    if (queue == NULL) {
        result->code = CORE_NO_QUEUE;
        return;
    }
    uint32_t visibility_s = receive->visibility_s == CORE_DEFAULT
                                ? queue->view.settings.visibility_s
                                : receive->visibility_s;
    uint64_t bytes = 0;
    uint32_t count = 0;
    while (count < receive->max) {
        uint32_t index = lane_least(&queue->ready, &core->messages);
        if (index == MESSAGE_NONE)
            break;
        const struct message *message = message_at(&core->messages, index);
        struct queue *target = redrive_target(core, queue, message);
        if (target != NULL) {
            redrive(core, queue, index, target);
            continue;
        }
        bytes += message->body_length;
        if (receive->bytes_max > 0 && count > 0 && bytes > receive->bytes_max)
            break;
        if (queue->view.in_flight >= IN_FLIGHT_MAX) {
            result->code = count == 0 ? CORE_LIMIT : CORE_OK;
            break;
        }
        received_add(core, count++, lease(core, queue, index, visibility_s));
    }
    queue->view.received_total += count;
    queue->view.empty_receives_total += count == 0 && result->code == CORE_OK;
    result->messages = core->received;
    result->message_count = count;
}
