/* SPDX-License-Identifier: Apache-2.0 */
/* RECEIVE: lease visible messages, oldest first, and on the way move those that have been received
 * too often to the dead-letter queue.
 *
 * Of a FIFO queue: the group whose next message is the oldest gives as many as it has, in order;
 * then it is blocked, and the next group follows. Of a standard queue with groups: quiet groups and
 * messages without a group come first, by age; if there are none, the noisy group with the fewest
 * in flight. At most nine groups can have more than a tenth of what is in flight, so looking for
 * the first quiet one passes over no more than nine.
 *
 * A message that was received receive_count_max times is moved when it would be handed out once
 * more (in a FIFO queue not before those of its group that stand in front of it). It keeps its
 * body, its group and (standard queues) its sent_ms, so its age goes on there; it gets a new seq,
 * and its count of receives there starts afresh: those before are kept beside it (origin.c), since
 * consumers are told all of them, while a redrive policy goes by its own queue's
 * (API_ReceiveMessage: "across all queues"; API_SetQueueAttributes: "delivered to the source
 * queue"), without which two queues that are each other's would hand out nothing. A dead-letter
 * queue that does not exist, is of the other type, or is the queue itself, moves nothing: the
 * message is delivered again rather than lost or stuck. One in another shard may turn out to be so
 * only when the message is on its way: then it comes back, and the next receive delivers it
 * (outbox.c). */
#include "broker/core/limits.h"
#include "broker/core/state.h"

#include <stdlib.h>

#define NOISY_MOST (NOISY_SHARE - 1)

/* A receive at work. */
struct receiving {
    struct core *core;
    struct queue *queue;
    const struct command_receive *command;
    uint32_t visibility_s;
    uint32_t count;
    uint64_t bytes;
    uint32_t redriven;
    enum core_code code;
    bool full; /* nothing more fits, or may be taken */
};

/* Where a message has to go instead of to the consumer. */
struct redrive_target {
    bool any;
    struct queue *queue; /* of this shard; else NULL, and */
    uint32_t shard;      /* another shard, which may know the queue */
};

static struct redrive_target target_of(const struct core *core, const struct queue *queue,
                                       const struct message *message)
{
    const struct queue_settings *settings = &queue->view.settings;
    struct redrive_target none = {.any = false};
    if (settings->receive_count_max == 0 || message->receive_count < settings->receive_count_max ||
        message->stays || settings->dead_letter.length == 0)
        return none;
    uint32_t shard = shard_of_queue_name(settings->dead_letter, core->queue_shards);
    if (outbox_is_away(core, shard))
        return (struct redrive_target){outbox_has_room(core, shard), NULL, shard};
    struct queue *target = queue_named(core, settings->dead_letter);
    if (target == NULL || target == queue || target->view.settings.fifo != settings->fifo)
        return none;
    return (struct redrive_target){true, target, shard};
}

/* Many could have to go; the rest waits for the next receive. */
static void redrive(struct receiving *r, uint32_t index, struct redrive_target target)
{
    struct core *core = r->core;
    const struct message *message = message_at(&core->messages, index);
    uint64_t sent_ms = r->queue->view.settings.fifo ? core->now_ms : message_sent_ms(message);
    uint64_t received = origin_of(core, message).received + message->receive_count;
    if (target.queue != NULL)
        queue_transfer(core, r->queue, index, target.queue, sent_ms,
                       (struct origin_key){r->queue->view.queue_id, received});
    else
        outbox_redrive(core, r->queue, index, target.shard);
    if (++r->redriven == core->step_max) {
        r->full = true;
        queue_ready_note(core, r->queue);
    }
}

struct core_message message_describe(const struct core *core, const struct message *message)
{
    struct origin_key origin = origin_of(core, message);
    return (struct core_message){
        .body = message_body(message),
        .seq = message->seq,
        .sent_ms = message->sent_ms,
        .first_receive_ms = message_sent_ms(message) + message->first_receive_after_ms,
        .visible_at_ms = message_due_ms(message),
        .receive_count = message->receive_count,
        .received_before = (uint32_t)origin.received,
        .source_queue_id = origin.queue_id,
    };
}

void received_add(struct core *core, uint32_t count, struct core_message message)
{
    if (count == core->received_capacity) {
        core->received_capacity = count == 0 ? 16 : count * 2;
        core->received =
            realloc(core->received, core->received_capacity * sizeof core->received[0]);
        ASSERT(core->received != NULL);
    }
    core->received[count] = message;
}

static void lease(struct receiving *r, uint32_t index)
{
    struct core *core = r->core;
    struct message *message = message_at(&core->messages, index);
    uint32_t age_ms = (uint32_t)(core->now_ms - message_sent_ms(message));
    queue_withdraw(core, r->queue, index);
    if (message->receive_count == 0)
        message->first_receive_after_ms = age_ms;
    if (message->receive_count < UINT32_MAX) /* I5: it never wraps */
        message->receive_count++;
    message->stays = 0;
    message->leased_after_ms = age_ms;
    message->due_after_ms = age_ms + r->visibility_s * SECOND_MS;
    queue_hide(core, r->queue, index, MESSAGE_IN_FLIGHT);
    received_add(core, r->count++, message_describe(core, message));
}

/* Lease or redrive one message, or find that it is one too many. `blocked`: an earlier one of its
 * FIFO group has been leased just now, and must not be overtaken; false: this one would have. */
static bool take(struct receiving *r, uint32_t index, bool blocked)
{
    const struct message *message = message_at(&r->core->messages, index);
    struct redrive_target target = target_of(r->core, r->queue, message);
    if (target.any && blocked)
        return false;
    if (target.any) {
        redrive(r, index, target);
        return true;
    }
    r->bytes += message->body_length;
    bool large = r->command->bytes_max > 0 && r->count > 0 && r->bytes > r->command->bytes_max;
    bool limited = r->queue->view.in_flight >= IN_FLIGHT_MAX;
    if (!large && limited && r->count == 0 && !r->queue->view.settings.fifo)
        r->code = CORE_LIMIT;
    if (large || limited)
        r->full = true;
    else
        lease(r, index);
    r->full |= r->count == r->command->max;
    return true;
}

/* A group may go while its messages are taken, but not before its last one. */
static void take_group(struct receiving *r, const struct group *group)
{
    uint32_t index = group->lane.first;
    while (index != MESSAGE_NONE && !r->full) {
        const struct message *message = message_at(&r->core->messages, index);
        uint32_t next = message->ready.next;
        if (next != MESSAGE_NONE)
            __builtin_prefetch(message_at(&r->core->messages, next), 1);
        if (message->state != MESSAGE_VISIBLE || !take(r, index, group->in_flight > 0))
            return;
        index = next;
    }
}

static void take_fifo(struct receiving *r)
{
    const struct group *group;
    while (!r->full && (group = group_offered(r->core, r->queue)) != NULL)
        take_group(r, group);
}

/* The quietest of groups that are all noisy; their heads' order decides between equals. */
static struct group *quietest(struct group *const groups[], uint32_t count)
{
    struct group *best = count > 0 ? groups[0] : NULL;
    for (uint32_t i = 1; i < count; i++) {
        if (groups[i]->in_flight < best->in_flight)
            best = groups[i];
    }
    return best;
}

/* The message of a standard queue that is next, or MESSAGE_NONE. Noisy groups are taken out of the
 * way and put back. */
static uint32_t fairest(struct core *core, struct queue *queue)
{
    struct group *aside[NOISY_MOST];
    uint32_t count = 0;
    struct group *group;
    while ((group = group_offered(core, queue)) != NULL && group_is_noisy(queue, group)) {
        ASSERT(count < NOISY_MOST);
        aside[count++] = group;
        heap_remove(&queue->offers, group->offer_at);
        group->offer_at = POSITION_NONE;
    }
    uint32_t index = queue_next(core, queue);
    if (index == MESSAGE_NONE && count > 0)
        index = group_head(core, queue, quietest(aside, count));
    for (uint32_t i = 0; i < count; i++)
        group_follow(core, queue, aside[i]);
    return index;
}

static void take_standard(struct receiving *r)
{
    uint32_t index;
    while (!r->full && (index = fairest(r->core, r->queue)) != MESSAGE_NONE)
        take(r, index, false);
}

static void take_all(struct receiving *r)
{
    struct slice attempt_id = r->command->attempt_id;
    bool fifo = r->queue->view.settings.fifo;
    if (queue_overdue(r->core, r->queue))
        return;
    if (fifo)
        take_fifo(r);
    else
        take_standard(r);
    if (fifo && attempt_id.length > 0)
        attempt_keep(r->core, r->queue, attempt_id, r->count);
}

void message_receive(struct core *core, const struct command *command, struct core_result *result)
{
    const struct command_receive *receive = &command->receive;
    struct queue *queue = queue_find(core, receive->queue_id);
    if (queue == NULL) {
        result->code = CORE_NO_QUEUE;
        return;
    }
    struct receiving r = {.core = core, .queue = queue, .command = receive, .code = CORE_OK};
    r.visibility_s = receive->visibility_s == CORE_DEFAULT ? queue->view.settings.visibility_s
                                                           : receive->visibility_s;
    bool replayed = queue->view.settings.fifo && receive->attempt_id.length > 0 &&
                    attempt_replay(core, queue, receive->attempt_id, r.visibility_s, &r.count);
    if (!replayed) {
        take_all(&r);
        queue->view.received_total += r.count;
        queue->view.empty_receives_total += r.count == 0 && r.code == CORE_OK;
    }
    result->code = r.code;
    result->messages = core->received;
    result->message_count = r.count;
}
