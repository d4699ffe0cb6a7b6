/* SPDX-License-Identifier: Apache-2.0 */
/* DELETE and CHANGE_VISIBILITY: what a consumer does with a message that it was handed.
 *
 * A lease names a message and the receive that handed it out. It is one of that message's leases
 * when its count is between 1 and the message's own; an older one still deletes, as on SQS's
 * standard queues, unless the caller asks for exactness; on a FIFO queue, where the group may have
 * gone on, only the lease that holds the message does. Anything else names no message. */
#include "broker/core/limits.h"
#include "broker/core/state.h"

uint32_t message_by_lease(const struct core *core, const struct queue *queue,
                          struct core_lease lease)
{
    uint32_t index = messages_find(&core->messages, queue->slot, lease.seq);
    if (index == MESSAGE_NONE || lease.receive_count == 0)
        return MESSAGE_NONE;
    const struct message *message = message_at(&core->messages, index);
    return lease.receive_count <= message->receive_count ? index : MESSAGE_NONE;
}

/* Is `lease` the one that holds the message now? On a standard queue also the one that held it last
 * and has run out, while no other receive came: a consumer may still extend it, as AWS lets it. */
static enum core_code lease_state(const struct queue *queue, const struct message *message,
                                  struct core_lease lease)
{
    bool in_flight = message->state == MESSAGE_IN_FLIGHT;
    bool latest = message->receive_count == lease.receive_count;
    if (queue->view.settings.fifo)
        return in_flight && latest ? CORE_OK : CORE_EXPIRED_LEASE;
    if (latest)
        return CORE_OK;
    return in_flight ? CORE_STALE_LEASE : CORE_NOT_IN_FLIGHT;
}

void message_delete(struct core *core, const struct command *command, struct core_result *result)
{
    const struct command_delete *delete = &command->delete;
    struct queue *queue = queue_find(core, delete->queue_id);
    if (queue == NULL) {
        result->code = CORE_NO_QUEUE;
        return;
    }
    uint32_t index = message_by_lease(core, queue, delete->lease);
    if (index == MESSAGE_NONE) {
        result->code = CORE_NO_MESSAGE;
        return;
    }
    if (queue->view.settings.fifo &&
        lease_state(queue, message_at(&core->messages, index), delete->lease) != CORE_OK) {
        result->code = CORE_EXPIRED_LEASE;
        return;
    }
    /* A lease that ran out without another receive still is the last one: the work is done. */
    if (delete->exact &&
        message_at(&core->messages, index)->receive_count != delete->lease.receive_count) {
        result->code = CORE_STALE_LEASE;
        return;
    }
    queue_drop(core, queue, index);
    queue->view.deleted_total++;
}

/* Extend or shorten the current lease. One that has run out begins anew: the time of its receive is
 * not kept. */
static enum core_code change(struct core *core, struct queue *queue, uint32_t index,
                             uint32_t visibility_s)
{
    struct message *message = message_at(&core->messages, index);
    uint32_t age_ms = (uint32_t)(core->now_ms - message_sent_ms(message));
    bool ended = message->state == MESSAGE_VISIBLE;
    if (ended && visibility_s == 0)
        return CORE_OK;
    if (ended && queue->view.in_flight >= IN_FLIGHT_MAX)
        return CORE_LIMIT;
    uint32_t leased_after_ms = ended ? age_ms : message->leased_after_ms;
    uint64_t due_after_ms = age_ms + (uint64_t)visibility_s * SECOND_MS;
    if (due_after_ms > (uint64_t)leased_after_ms + LEASE_MS_MAX)
        return CORE_INVALID;
    queue_withdraw(core, queue, index);
    message->leased_after_ms = leased_after_ms;
    message->due_after_ms = (uint32_t)due_after_ms;
    if (visibility_s == 0)
        queue_show(core, queue, index);
    else
        queue_hide(core, queue, index, MESSAGE_IN_FLIGHT);
    return CORE_OK;
}

void message_change_visibility(struct core *core, const struct command *command,
                               struct core_result *result)
{
    const struct command_change_visibility *change_visibility = &command->change_visibility;
    struct queue *queue = queue_find(core, change_visibility->queue_id);
    if (queue == NULL) {
        result->code = CORE_NO_QUEUE;
        return;
    }
    uint32_t index = message_by_lease(core, queue, change_visibility->lease);
    if (index == MESSAGE_NONE) {
        result->code = CORE_NO_MESSAGE;
        return;
    }
    result->code = lease_state(queue, message_at(&core->messages, index), change_visibility->lease);
    if (result->code == CORE_OK)
        result->code = change(core, queue, index, change_visibility->visibility_s);
}
