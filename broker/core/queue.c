/* SPDX-License-Identifier: Apache-2.0 */
/* Queues: making and unmaking them, and moving a message between the states it can be in.
 *
 *            send, no delay -------------------+   +---- lease expires, visibility 0 ----+
 *                                              v   v                                     |
 *     send -> DELAYED -- delay over -------> VISIBLE ---------- receive ----------> IN FLIGHT
 *                |                              |                                        |
 *                +-- retention over, purge -----+------ delete, retention, purge --------+--> gone
 *
 * Every message is in its queue's age lane. A visible one of a standard queue is in a ready lane
 * too, of its group or, without one, of the queue; a message of a FIFO queue is in its group's lane
 * in every state. One that is not visible is in the heap of deadlines. queue_show and queue_hide
 * enter a state, queue_withdraw leaves it, and nothing else touches the counters, so I1 to I3 hold
 * by construction.
 *
 * Retention needs no deadline per message: the oldest of a queue expires first, so one entry per
 * queue in a heap of its own is enough, and changing the retention period moves one entry. What
 * else falls due for a queue now and then (its chores) has one more.
 *
 * Heaps of queues order equal times by queue id: slots may differ between replicas. */
#include "broker/core/limits.h"
#include "broker/core/place.h"
#include "broker/core/state.h"

#include <stdlib.h>

/* ---- memory ---- */

static void offer_moved(void *data, uint32_t item, uint32_t position)
{
    struct core *core = data;
    core->groups[item]->offer_at = position;
}

static uint32_t slot_take(struct core *core)
{
    if (core->free_slot_count > 0)
        return core->free_slots[--core->free_slot_count];
    if (core->queue_slots == core->queue_slots_capacity) {
        ASSERT(core->queue_slots < QUEUE_SLOT_MAX / 2);
        uint32_t capacity = core->queue_slots == 0 ? 16 : core->queue_slots * 2;
        core->queues = realloc(core->queues, capacity * sizeof core->queues[0]);
        core->free_slots = realloc(core->free_slots, capacity * sizeof core->free_slots[0]);
        core->ready = realloc(core->ready, capacity * sizeof core->ready[0]);
        ASSERT(core->queues != NULL);
        ASSERT(core->free_slots != NULL);
        ASSERT(core->ready != NULL);
        core->queue_slots_capacity = capacity;
    }
    return core->queue_slots++;
}

/* Every message's commands look for their queue, by an id that counts up: spread so that
 * neighbours are not in one place, and no two queues share a hash. */
static uint32_t id_hash(uint64_t queue_id)
{
    return (uint32_t)queue_id * UINT32_C(0x9e3779b1);
}

static uint32_t name_hash(const struct core *core, struct slice name)
{
    return (uint32_t)siphash(core_hash_key(core), name);
}

void queue_settle_in(struct core *core, struct queue *queue)
{
    queue->slot = slot_take(core);
    queue->retention_at = POSITION_NONE;
    lane_init(&queue->ready, LANE_READY);
    lane_init(&queue->age, LANE_AGE);
    heap_init(&queue->offers, offer_moved, core);
    queue->groups = (struct groups){0};
    core->queues[queue->slot] = queue;
    hashes_add(&core->queues_by_id, id_hash(queue->view.queue_id), queue->slot);
    hashes_add(&core->queues_by_name, name_hash(core, queue->view.name), queue->slot);
}

void queue_settle_out(struct core *core, const struct queue *queue)
{
    hashes_remove(&core->queues_by_id, id_hash(queue->view.queue_id), queue->slot);
    hashes_remove(&core->queues_by_name, name_hash(core, queue->view.name), queue->slot);
}

void queues_by_name_renew(struct core *core)
{
    hashes_free(&core->queues_by_name);
    for (size_t i = 0; i < core->queue_names.count; i++) {
        const struct queue *queue = core->queue_names.entries[i].object;
        hashes_add(&core->queues_by_name, name_hash(core, queue->view.name), queue->slot);
    }
}

static void settings_own(struct queue_settings *settings)
{
    settings->dead_letter = slice_own(settings->dead_letter);
    settings->extras = slice_own(settings->extras);
}

static void settings_disown(struct queue_settings *settings)
{
    slice_disown(&settings->dead_letter);
    slice_disown(&settings->extras);
}

const void *queue_place(const struct core *core, uint64_t queue_id)
{
    return hashes_place(&core->queues_by_id, id_hash(queue_id));
}

bool queue_slot(const struct core *core, uint64_t queue_id, uint32_t *slot)
{
    struct hashes_walk walk = hashes_begin(&core->queues_by_id, id_hash(queue_id));
    return hashes_next(&walk, slot);
}

struct queue *queue_find(const struct core *core, uint64_t queue_id)
{
    struct hashes_walk walk = hashes_begin(&core->queues_by_id, id_hash(queue_id));
    uint32_t slot;
    while (hashes_next(&walk, &slot)) {
        if (core->queues[slot]->view.queue_id == queue_id)
            return core->queues[slot];
    }
    return NULL;
}

struct queue *queue_named(const struct core *core, struct slice name)
{
    struct hashes_walk walk = hashes_begin(&core->queues_by_name, name_hash(core, name));
    uint32_t slot;
    while (hashes_next(&walk, &slot)) {
        if (slice_equal(core->queues[slot]->view.name, name))
            return core->queues[slot];
    }
    return NULL;
}

struct queue *queue_add(struct core *core, const struct queue_view *view)
{
    struct queue *queue = calloc(1, sizeof *queue);
    ASSERT(queue != NULL);
    queue->view = *view;
    queue->view.name = slice_own(view->name);
    queue->view.tags = slice_own(view->tags);
    settings_own(&queue->view.settings);
    queue->chore_at = POSITION_NONE;
    queue_settle_in(core, queue);
    names_add(&core->queue_names, queue->view.name, queue);
    return queue;
}

void queue_free(struct core *core, struct queue *queue)
{
    groups_free(core, &queue->groups);
    dedups_free(&queue->dedups);
    while (queue->attempts != NULL)
        attempt_drop(queue, queue->attempts);
    free(queue->moves);
    heap_deinit(&queue->offers);
    lane_deinit(&queue->ready);
    lane_deinit(&queue->age);
    settings_disown(&queue->view.settings);
    slice_disown(&queue->view.name);
    slice_disown(&queue->view.tags);
    free(queue);
}

void queue_remove(struct core *core, struct queue *queue)
{
    uint64_t queue_id = queue->view.queue_id;
    queue_settle_out(core, queue);
    names_remove(&core->queue_names, queue->view.name);
    grave_add(core, queue);
    if (core->events.queue_gone != NULL)
        core->events.queue_gone(core->events.data, queue_id);
}

/* ---- messages ---- */

/* Let the queue's entry in the heap of retentions follow its oldest message. */
static void retention_follow(struct core *core, struct queue *queue)
{
    uint32_t oldest = lane_least(&queue->age, &core->messages);
    if (oldest == MESSAGE_NONE) {
        if (queue->retention_at != POSITION_NONE)
            heap_remove(&core->retention, queue->retention_at);
        queue->retention_at = POSITION_NONE;
        queue->view.oldest_sent_ms = 0;
        return;
    }
    queue->view.oldest_sent_ms = message_sent_ms(message_at(&core->messages, oldest));
    uint64_t end_ms =
        queue->view.oldest_sent_ms + (uint64_t)queue->view.settings.retention_s * SECOND_MS;
    if (queue->retention_at == POSITION_NONE)
        heap_push(&core->retention, end_ms, (uint32_t)queue->view.queue_id, queue->slot);
    else if (core->retention.entries[queue->retention_at].key != end_ms)
        heap_set_key(&core->retention, queue->retention_at, end_ms);
}

static uint64_t *counter_of(struct queue *queue, unsigned state)
{
    uint64_t *counters[MESSAGE_STATE_COUNT] = {
        [MESSAGE_DELAYED] = &queue->view.delayed,
        [MESSAGE_VISIBLE] = &queue->view.visible,
        [MESSAGE_IN_FLIGHT] = &queue->view.in_flight,
    };
    return counters[state];
}

void queue_chores_follow(struct core *core, struct queue *queue)
{
    uint64_t due_ms = dedup_due_ms(queue);
    uint64_t attempt_ms = attempt_due_ms(queue);
    uint64_t move_ms = move_due_ms(queue);
    due_ms = attempt_ms < due_ms ? attempt_ms : due_ms;
    due_ms = move_ms < due_ms ? move_ms : due_ms;
    bool listed = queue->chore_at != POSITION_NONE;
    if (due_ms == UINT64_MAX) {
        if (listed)
            heap_remove(&core->chores, queue->chore_at);
        queue->chore_at = POSITION_NONE;
    } else if (!listed) {
        heap_push(&core->chores, due_ms, (uint32_t)queue->view.queue_id, queue->slot);
    } else if (core->chores.entries[queue->chore_at].key != due_ms) {
        heap_set_key(&core->chores, queue->chore_at, due_ms);
    }
}

void queue_store(struct core *core, struct queue *queue, uint32_t index, uint32_t group)
{
    struct message *message = message_at(&core->messages, index);
    ASSERT(message->queue_slot == queue->slot);
    messages_map(&core->messages, index);
    lane_add(&queue->age, &core->messages, index);
    message->group = group;
    if (queue->view.settings.fifo)
        lane_add(&group_of(core, message)->lane, &core->messages, index);
    if (lane_least(&queue->age, &core->messages) == index)
        retention_follow(core, queue); /* else the oldest, which is in no cache, is the same */
}

/* No message of a FIFO queue was sent before an earlier one. It always holds, but in a damaged
 * snapshot. */
static void age_like_neighbours(const struct core *core, struct message *message)
{
    const struct message_link *link = &message->age;
    uint64_t least = link->previous != MESSAGE_NONE
                         ? message_sent_ms(message_at(&core->messages, link->previous))
                         : 0;
    uint64_t most = link->next != MESSAGE_NONE
                        ? message_sent_ms(message_at(&core->messages, link->next))
                        : core->now_ms;
    if (message->sent_ms < least)
        message->sent_ms = least & ((UINT64_C(1) << 48) - 1);
    if (message->sent_ms > most)
        message->sent_ms = most & ((UINT64_C(1) << 48) - 1);
}

void queue_put_back(struct core *core, struct queue *queue, uint32_t index, struct slice group_id,
                    uint32_t near)
{
    struct message *message = message_at(&core->messages, index);
    bool fifo = queue->view.settings.fifo;
    messages_map(&core->messages, index);
    message->group = group_join(core, queue, group_id, NULL);
    if (fifo) {
        lane_return(&queue->age, &core->messages, index, near);
        lane_return(&group_of(core, message)->lane, &core->messages, index, MESSAGE_NONE);
        age_like_neighbours(core, message);
    } else {
        lane_add(&queue->age, &core->messages, index);
    }
    retention_follow(core, queue);
    queue_show(core, queue, index);
}

void queue_ready_note(struct core *core, struct queue *queue)
{
    if (queue->ready_noted)
        return;
    queue->ready_noted = true;
    core->ready[core->ready_count++] = queue->slot;
}

/* The ready lane of a message of a standard queue. */
static struct lane *ready_lane(struct queue *queue, struct group *group)
{
    return group != NULL ? &group->lane : &queue->ready;
}

void queue_show(struct core *core, struct queue *queue, uint32_t index)
{
    struct message *message = message_at(&core->messages, index);
    struct group *group = group_of(core, message);
    message->state = MESSAGE_VISIBLE;
    message->leased_after_ms = 0; /* so that equal states have equal bytes */
    message->due_after_ms = 0;
    queue->view.visible++;
    if (!queue->view.settings.fifo)
        lane_add(ready_lane(queue, group), &core->messages, index);
    if (group != NULL)
        group_follow_shown(core, queue, group, index);
    queue_ready_note(core, queue);
}

void queue_hide(struct core *core, struct queue *queue, uint32_t index, enum message_state state)
{
    ASSERT(state == MESSAGE_DELAYED || state == MESSAGE_IN_FLIGHT);
    struct message *message = message_at(&core->messages, index);
    struct group *group = group_of(core, message);
    message->state = state;
    ++*counter_of(queue, state);
    heap_push(&core->deadlines, message_due_ms(message), (uint32_t)message->seq, index);
    if (group == NULL)
        return;
    group->in_flight += state == MESSAGE_IN_FLIGHT;
    group_follow(core, queue, group);
}

void queue_withdraw(struct core *core, struct queue *queue, uint32_t index)
{
    const struct message *message = message_at(&core->messages, index);
    struct group *group = group_of(core, message);
    uint64_t *counter = counter_of(queue, message->state);
    ASSERT(*counter > 0); /* I2 */
    --*counter;
    if (message->state == MESSAGE_VISIBLE) {
        if (!queue->view.settings.fifo)
            lane_remove(ready_lane(queue, group), &core->messages, index);
    } else {
        ASSERT(core->deadlines.entries[message->deadline_at].item == index); /* I3 */
        heap_remove(&core->deadlines, message->deadline_at);
    }
    if (group != NULL && message->state == MESSAGE_IN_FLIGHT)
        group->in_flight--;
}

/* The message before this one in its group, or NULL. */
static const struct message *predecessor(const struct core *core, const struct queue *queue,
                                         const struct message *message)
{
    if (!queue->view.settings.fifo || message->ready.previous == MESSAGE_NONE)
        return NULL;
    return message_at(&core->messages, message->ready.previous);
}

void queue_enter(struct core *core, struct queue *queue, uint32_t index)
{
    struct message *message = message_at(&core->messages, index);
    const struct message *before = predecessor(core, queue, message);
    uint64_t due_ms = message_due_ms(message);
    if (before != NULL && before->state == MESSAGE_DELAYED && message_due_ms(before) > due_ms)
        message->due_after_ms = (uint32_t)(message_due_ms(before) - message_sent_ms(message));
    if (message->due_after_ms > 0)
        queue_hide(core, queue, index, MESSAGE_DELAYED);
    else
        queue_show(core, queue, index);
}

void queue_unstore(struct core *core, struct queue *queue, uint32_t index)
{
    const struct message *message = message_at(&core->messages, index);
    struct group *group = group_of(core, message);
    messages_unmap(&core->messages, index);
    lane_remove(&queue->age, &core->messages, index);
    origin_unref(core, message->origin);
    if (group != NULL) {
        if (queue->view.settings.fifo)
            lane_remove(&group->lane, &core->messages, index);
        if (group->messages > 1)
            group_follow(core, queue, group);
        group_leave(core, queue, group);
    }
    messages_give(&core->messages, index);
    retention_follow(core, queue);
}

void queue_drop(struct core *core, struct queue *queue, uint32_t index)
{
    const struct message *message = message_at(&core->messages, index);
    bool unblocks = message->state == MESSAGE_IN_FLIGHT &&
                    (queue->view.settings.fifo || queue->view.in_flight >= IN_FLIGHT_MAX);
    queue_withdraw(core, queue, index);
    body_release(core, message_body(message));
    queue_unstore(core, queue, index);
    if (unblocks)
        queue_ready_note(core, queue);
}

void queue_transfer(struct core *core, struct queue *from, uint32_t index, struct queue *to,
                    uint64_t sent_ms, struct origin_key origin)
{
    const struct message *old = message_at(&core->messages, index);
    uint32_t moved = messages_take(&core->messages);
    struct message *message = message_at(&core->messages, moved);
    message_place(message, to->slot, ++to->seq_last, sent_ms, message_body(old));
    message->origin = origin_ref(core, origin) & ORIGIN_INDEX_MAX;
    queue_store(core, to, moved, group_join(core, to, group_id(group_of(core, old)), NULL));
    queue_enter(core, to, moved);
    queue_withdraw(core, from, index);
    queue_unstore(core, from, index);
}

uint32_t queue_next(const struct core *core, const struct queue *queue)
{
    uint32_t index = lane_least(&queue->ready, &core->messages);
    const struct group *group = group_offered(core, queue);
    uint32_t head = group != NULL ? group_head(core, queue, group) : MESSAGE_NONE;
    if (index == MESSAGE_NONE || head == MESSAGE_NONE)
        return index == MESSAGE_NONE ? head : index;
    return message_at(&core->messages, head)->seq < message_at(&core->messages, index)->seq ? head
                                                                                            : index;
}

bool queue_overdue(const struct core *core, const struct queue *queue)
{
    return queue->retention_at != POSITION_NONE &&
           core->retention.entries[queue->retention_at].key <= core->now_ms;
}

void queue_ready_tell(struct core *core)
{
    for (uint32_t i = 0; i < core->ready_count; i++) {
        struct queue *queue = core->queues[core->ready[i]];
        ASSERT(queue != NULL);
        queue->ready_noted = false;
        if (queue_next(core, queue) != MESSAGE_NONE && core->events.queue_ready != NULL)
            core->events.queue_ready(core->events.data, queue->view.queue_id);
    }
    core->ready_count = 0;
}

/* ---- commands ---- */

void queue_create(struct core *core, const struct command *command, struct core_result *result)
{
    const struct command_queue_create *create = &command->queue_create;
    const struct queue *queue = queue_named(core, create->name);
    if (queue != NULL) {
        result->code = CORE_EXISTS;
    } else {
        struct queue_view view = {
            .queue_id = queue_id_make(core->shard, ++core->queue_id_last),
            .version = ++core->version_last,
            .name = create->name,
            .settings = create->settings,
            .tags = create->tags,
            .created_ms = core->now_ms,
            .modified_ms = core->now_ms,
        };
        queue = queue_add(core, &view);
    }
    result->queue_id = queue->view.queue_id;
    result->version = queue->view.version;
}

void queue_update(struct core *core, const struct command *command, struct core_result *result)
{
    const struct command_queue_update *update = &command->queue_update;
    struct queue *queue = queue_find(core, update->queue_id);
    if (queue == NULL) {
        result->code = CORE_NO_QUEUE;
        return;
    }
    if (queue->view.version != update->version) {
        result->code = CORE_CONFLICT;
    } else if (queue->view.settings.fifo != update->settings.fifo) {
        result->code = CORE_INVALID;
    } else {
        struct queue_settings old = queue->view.settings;
        queue->view.settings = update->settings;
        settings_own(&queue->view.settings);
        settings_disown(&old); /* after the copy: the command may have borrowed from it */
        queue->view.version = ++core->version_last;
        queue->view.modified_ms = core->now_ms;
        retention_follow(core, queue);
    }
    result->queue_id = queue->view.queue_id;
    result->version = queue->view.version;
}

void queue_tag(struct core *core, const struct command *command, struct core_result *result)
{
    const struct command_queue_tag *tag = &command->queue_tag;
    struct queue *queue = queue_find(core, tag->queue_id);
    if (queue == NULL) {
        result->code = CORE_NO_QUEUE;
        return;
    }
    if (queue->view.version != tag->version) {
        result->code = CORE_CONFLICT;
    } else {
        struct slice old = queue->view.tags;
        queue->view.tags = slice_own(tag->tags);
        slice_disown(&old); /* after the copy: the command may have borrowed from it */
        queue->view.version = ++core->version_last;
    }
    result->queue_id = queue->view.queue_id;
    result->version = queue->view.version;
}

void queue_delete(struct core *core, const struct command *command, struct core_result *result)
{
    struct queue *queue = queue_find(core, command->queue_delete.queue_id);
    if (queue == NULL)
        result->code = CORE_NO_QUEUE;
    else
        queue_remove(core, queue);
}

void queue_purge(struct core *core, const struct command *command, struct core_result *result)
{
    struct queue *queue = queue_find(core, command->queue_purge.queue_id);
    if (queue == NULL) {
        result->code = CORE_NO_QUEUE;
        return;
    }
    queue->purged_seq = queue->seq_last;
    grave_purge(core, queue);
}
