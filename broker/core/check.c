/* SPDX-License-Identifier: Apache-2.0 */
/* core_check: the invariants of core.h, each walked in full. It is the judge in the unit tests, the
 * simulation and the fuzz targets, so it takes nothing from the code that maintains them. */
#include "broker/core/limits.h"
#include "broker/core/place.h"
#include "broker/core/state.h"

static void check_deadline(const struct core *core, const struct message *message, uint32_t index)
{
    ASSERT(message->deadline_at < core->deadlines.count); /* I3 */
    const struct heap_entry *entry = &core->deadlines.entries[message->deadline_at];
    ASSERT(entry->item == index);
    ASSERT(entry->key == message_due_ms(message));
    ASSERT(entry->key > core->now_ms || core->deadlines_left == 0);
}

static void check_message(const struct core *core, const struct queue *queue, uint32_t index)
{
    const struct message *message = message_at(&core->messages, index);
    uint64_t retention_ms = (uint64_t)queue->view.settings.retention_s * SECOND_MS;
    ASSERT(message->queue_slot == queue->slot);
    ASSERT(message->seq > 0);
    ASSERT(message->seq <= queue->seq_last);
    ASSERT(messages_find(&core->messages, queue->slot, message->seq) == index);
    ASSERT(message->sent_ms <= core->now_ms);
    ASSERT(message->sent_ms + retention_ms > core->now_ms || core->retention_left == 0);
    ASSERT(message->state < MESSAGE_STATE_COUNT); /* I1 */
    ASSERT(message->body_index > 0);
    ASSERT(message->body_index <= core->applied_index);
    if (message->state == MESSAGE_DELAYED)
        ASSERT(message->receive_count == 0);
    if (message->state == MESSAGE_IN_FLIGHT)
        ASSERT(message->receive_count > 0);
    if (message->state != MESSAGE_VISIBLE)
        check_deadline(core, message, index);
}

/* A group's lane has what belongs there; in a FIFO queue, no delay ends before an earlier one's.
 * Among the offers it stands as its head says. */
static void check_group(const struct core *core, const struct queue *queue,
                        const struct group *group)
{
    uint32_t messages = 0;
    uint32_t in_flight = 0;
    uint64_t delayed_until_ms = 0;
    struct lane_walk walk = {0};
    uint32_t index;
    while ((index = lane_next(&group->lane, &core->messages, &walk)) != MESSAGE_NONE) {
        const struct message *message = message_at(&core->messages, index);
        ASSERT(group_of(core, message) == group);
        messages++;
        in_flight += message->state == MESSAGE_IN_FLIGHT;
        ASSERT(queue->view.settings.fifo || message->state == MESSAGE_VISIBLE);
        if (message->state == MESSAGE_DELAYED) {
            ASSERT(message_due_ms(message) >= delayed_until_ms);
            delayed_until_ms = message_due_ms(message);
        }
    }
    ASSERT(group->messages > 0);
    ASSERT(core->groups[group->index] == group);
    if (queue->view.settings.fifo) {
        ASSERT(messages == group->messages);
        ASSERT(in_flight == group->in_flight);
        ASSERT(lane_stray_count(&group->lane) == 0);
    }
    uint32_t head = group_head(core, queue, group);
    ASSERT((head == MESSAGE_NONE) == (group->offer_at == POSITION_NONE));
    if (head == MESSAGE_NONE)
        return;
    ASSERT(queue->offers.entries[group->offer_at].item == group->index);
    ASSERT(queue->offers.entries[group->offer_at].key == message_at(&core->messages, head)->seq);
}

/* The counts of groups, found again; returns how many visible messages are in lanes of groups. */
static uint64_t check_groups(const struct core *core, const struct queue *queue)
{
    uint64_t counts[2] = {0};
    uint64_t found[2] = {0};
    uint64_t grouped_visible = 0;
    uint32_t groups = 0;
    uint32_t hashed = 0;
    struct lane_walk walk = {0};
    uint32_t index;
    while ((index = lane_next(&queue->age, &core->messages, &walk)) != MESSAGE_NONE) {
        const struct message *message = message_at(&core->messages, index);
        bool grouped = message->group != 0;
        ASSERT(grouped || !queue->view.settings.fifo);
        found[0] += grouped;
        found[1] += grouped && message->state == MESSAGE_IN_FLIGHT;
        grouped_visible += grouped && message->state == MESSAGE_VISIBLE;
    }
    for (const struct group *group = queue->groups.list; group != NULL; group = group->next) {
        check_group(core, queue, group);
        counts[0] += group->messages;
        groups++;
        counts[1] += group->in_flight;
    }
    ASSERT(counts[0] == found[0]);
    ASSERT(counts[1] == found[1]);
    ASSERT(groups == queue->groups.count);
    ASSERT(hashes_ordered(&queue->groups.by_id, &hashed));
    ASSERT(hashed == groups);
    ASSERT(heap_ordered(&queue->offers));
    ASSERT(queue->offers.count <= queue->groups.count);
    return grouped_visible;
}

/* I4: the list part of a lane is in order, its strays form a heap, and there are `count` of both.
 */
static void check_lane(const struct core *core, const struct lane *lane, uint64_t count)
{
    uint64_t last = 0;
    uint64_t seen = 0;
    struct lane_walk walk = {0};
    uint32_t index;
    while ((index = lane_next(lane, &core->messages, &walk)) != MESSAGE_NONE) {
        const struct message *message = message_at(&core->messages, index);
        uint64_t key = lane->kind == LANE_READY ? message->seq : message->sent_ms;
        if (lane->kind == LANE_READY)
            ASSERT(message->state == MESSAGE_VISIBLE); /* I1 */
        if (walk.stray == 0) {
            ASSERT(key >= last);
            last = key;
        }
        seen++;
    }
    ASSERT(seen == count); /* I2 */
    ASSERT(lane->strays == NULL || heap_ordered(lane->strays));
}

static void check_retention(const struct core *core, const struct queue *queue)
{
    uint64_t oldest_ms = UINT64_MAX;
    struct lane_walk walk = {0};
    uint32_t index;
    while ((index = lane_next(&queue->age, &core->messages, &walk)) != MESSAGE_NONE) {
        uint64_t sent_ms = message_at(&core->messages, index)->sent_ms;
        oldest_ms = sent_ms < oldest_ms ? sent_ms : oldest_ms;
    }
    ASSERT((oldest_ms == UINT64_MAX) == (queue->retention_at == POSITION_NONE));
    ASSERT(queue->view.oldest_sent_ms == (oldest_ms == UINT64_MAX ? 0 : oldest_ms));
    if (oldest_ms == UINT64_MAX)
        return;
    ASSERT(queue->retention_at < core->retention.count);
    const struct heap_entry *entry = &core->retention.entries[queue->retention_at];
    ASSERT(entry->item == queue->slot);
    ASSERT(entry->key == oldest_ms + (uint64_t)queue->view.settings.retention_s * SECOND_MS);
}

/* Parcels of this move: of all with its handle, the latest has them. */
static uint32_t count_under_way(const struct core *core, const struct queue *queue, uint32_t move)
{
    const uint8_t *handle = queue->moves[move].view.handle;
    uint32_t count = 0;
    for (uint32_t i = 0; i < move; i++) {
        if (memcmp(queue->moves[i].view.handle, handle, UUID_BYTES) == 0)
            return 0;
    }
    for (size_t i = 0; i < ARRAY_COUNT(core->passages); i++) {
        for (const struct parcel *at = core->passages[i].parcels; at != NULL; at = at->next)
            count += at->destination_id != 0 && at->queue_id == queue->view.queue_id &&
                     memcmp(at->move, handle, UUID_BYTES) == 0;
    }
    return count;
}

static void check_chores(const struct core *core, const struct queue *queue)
{
    uint64_t last_ms = 0;
    struct dedup_walk walk = {0};
    struct dedup dedup;
    uint32_t count = 0;
    while (dedup_next(&queue->dedups, &walk, &dedup)) {
        ASSERT(dedup.sent_ms >= last_ms);
        last_ms = dedup.sent_ms;
        count++;
    }
    ASSERT(count == queue->dedups.count);
    ASSERT(hashes_ordered(&queue->dedups.places, &count));
    ASSERT(count == queue->dedups.count);
    ASSERT(last_ms <= core->now_ms);
    for (uint32_t i = 1; i < queue->move_count; i++)
        ASSERT(queue->moves[i].view.status != MOVE_RUNNING);
    for (uint32_t i = 0; i < queue->move_count; i++)
        ASSERT(queue->moves[i].under_way == count_under_way(core, queue, i));
    uint64_t least_ms = dedup_due_ms(queue);
    uint64_t attempt_ms = attempt_due_ms(queue);
    uint64_t move_ms = move_due_ms(queue);
    least_ms = attempt_ms < least_ms ? attempt_ms : least_ms;
    least_ms = move_ms < least_ms ? move_ms : least_ms;
    ASSERT((least_ms == UINT64_MAX) == (queue->chore_at == POSITION_NONE));
    if (least_ms != UINT64_MAX)
        ASSERT(core->chores.entries[queue->chore_at].key == least_ms);
}

/* What graves still have: messages, and how many of these are in the heap of deadlines. */
static uint64_t check_graves(const struct core *core, uint64_t *hidden)
{
    uint64_t messages = 0;
    uint64_t ids = 0;
    for (const struct queue *grave = core->graves; grave != NULL; grave = grave->next) {
        struct lane_walk walk = {0};
        uint32_t index;
        ASSERT(grave->buried);
        ASSERT(core->queues[grave->slot] == grave);
        while ((index = lane_next(&grave->age, &core->messages, &walk)) != MESSAGE_NONE) {
            const struct message *message = message_at(&core->messages, index);
            messages++;
            *hidden += message->state != MESSAGE_VISIBLE && message->deadline_at != POSITION_NONE;
        }
        ids += grave->dedups.count;
    }
    ASSERT(messages + ids == core->graves_whole + core->graves_due);
    return messages;
}

static uint64_t check_queue(const struct core *core, const struct queue *queue)
{
    uint64_t counts[MESSAGE_STATE_COUNT] = {0};
    struct lane_walk walk = {0};
    uint32_t index;
    while ((index = lane_next(&queue->age, &core->messages, &walk)) != MESSAGE_NONE) {
        check_message(core, queue, index);
        counts[message_at(&core->messages, index)->state]++;
    }
    ASSERT(counts[MESSAGE_DELAYED] == queue->view.delayed); /* I2 */
    ASSERT(counts[MESSAGE_VISIBLE] == queue->view.visible);
    ASSERT(counts[MESSAGE_IN_FLIGHT] == queue->view.in_flight);
    ASSERT(queue->view.in_flight <= IN_FLIGHT_MAX);
    uint64_t total = queue->view.delayed + queue->view.visible + queue->view.in_flight;
    uint64_t grouped_visible = check_groups(core, queue);
    check_lane(core, &queue->ready, queue->view.visible - grouped_visible);
    if (queue->view.settings.fifo) {
        ASSERT(lane_stray_count(&queue->age) == 0);
        ASSERT(grouped_visible == queue->view.visible);
    }
    check_chores(core, queue);
    check_lane(core, &queue->age, total);
    check_retention(core, queue);
    ASSERT(core->queues[queue->slot] == queue);
    ASSERT(queue_find(core, queue->view.queue_id) == queue);
    ASSERT(names_get(&core->queue_names, queue->view.name) == queue);
    ASSERT(queue_named(core, queue->view.name) == queue);
    return total;
}

static uint64_t check_passages(const struct core *core)
{
    uint64_t parcels = 0;
    for (uint32_t shard = 0; shard < ARRAY_COUNT(core->passages); shard++) {
        const struct passage *passage = &core->passages[shard];
        uint64_t last = 0;
        uint32_t count = 0;
        for (const struct parcel *at = passage->parcels; at != NULL; at = at->next) {
            ASSERT(at->number > last);
            ASSERT(at->body.index > 0);
            ASSERT(at->body.index <= core->applied_index);
            ASSERT(at->sent_ms <= core->now_ms);
            last = at->number;
            count++;
        }
        ASSERT(last <= passage->number_last);
        ASSERT(count == passage->count);
        ASSERT(count <= OUTBOX_REDRIVE_MAX);
        ASSERT(passage->refused_from <= passage->accepted);
        ASSERT(outbox_is_away(core, shard) || passage->number_last + passage->accepted == 0);
        parcels += count;
    }
    return parcels;
}

static uint64_t check_blobs(const struct core *core)
{
    uint64_t pieces = 0;
    uint64_t references = 0;
    uint64_t unused = 0;
    for (const struct blob *blob = core->blobs; blob != NULL; blob = blob->hh.next) {
        uint64_t bytes = 0;
        for (uint32_t i = 0; i < blob->piece_count; i++)
            bytes += blob->pieces[i].length;
        ASSERT(bytes == blob->stored_bytes);
        ASSERT(bytes <= blob->total_bytes);
        pieces += blob->piece_count;
        references += blob->references;
        unused += blob->references == 0;
    }
    for (const struct blob *blob = core->unused_blobs; blob != NULL; blob = blob->next) {
        ASSERT(blob->references == 0);
        ASSERT(blob->created_ms + BLOB_UNUSED_MS > core->now_ms);
        ASSERT(blob->next == NULL || blob->next->created_ms >= blob->created_ms);
        unused--;
    }
    ASSERT(unused == 0);
    ASSERT(references == core->function_names.count);
    return pieces;
}

static void check_catalog(const struct core *core)
{
    for (size_t i = 0; i < core->function_names.count; i++) {
        const struct function *function = core->function_names.entries[i].object;
        ASSERT(function->blob == blob_find(core, function->view.code_sha256));
        ASSERT(function->blob->stored_bytes == function->blob->total_bytes);
        ASSERT(function->view.version <= core->version_last);
    }
    ASSERT(HASH_COUNT(core->mappings_by_uuid) == core->mapping_count);
    for (size_t i = 0; i < core->mapping_count; i++) {
        const struct mapping_view *view = &core->mappings[i]->view;
        ASSERT(names_get(&core->function_names, view->function_name) != NULL);
        ASSERT(view->version <= core->version_last);
    }
    for (size_t i = 0; i < core->document_names.count; i++) {
        const struct document *document = core->document_names.entries[i].object;
        ASSERT(names_get(&core->document_names, document->view.name) == document);
        ASSERT(document->view.version > 0);
        ASSERT(document->view.version <= core->version_last);
        ASSERT(document->view.content.length <= DOCUMENT_BYTES_MAX);
    }
}

static void check_tallies(const struct core *core)
{
    for (size_t i = 0; i < core->tally_count; i++) {
        ASSERT(core->tallies[i].function_id > (i > 0 ? core->tallies[i - 1].function_id : 0));
        ASSERT(core->tallies[i].function_id <= QUEUE_ID_MAX);
    }
}

void core_check(const struct core *core)
{
    uint64_t hidden = 0;
    uint64_t messages = check_graves(core, &hidden);
    uint32_t by_id;
    uint32_t by_name;
    for (size_t i = 0; i < core->queue_names.count; i++) {
        const struct queue *queue = core->queue_names.entries[i].object;
        ASSERT(!queue->ready_noted);
        ASSERT(queue_find(core, queue->view.queue_id) == queue);
        messages += check_queue(core, queue);
        hidden += queue->view.delayed + queue->view.in_flight;
    }
    ASSERT(hashes_ordered(&core->queues_by_id, &by_id));
    ASSERT(by_id == core->queue_names.count);
    ASSERT(hashes_ordered(&core->queues_by_name, &by_name));
    ASSERT(by_name == core->queue_names.count);
    ASSERT(messages == core->messages.count);
    ASSERT(messages == core->messages.map_count);
    ASSERT(hidden == core->deadlines.count); /* I3 */
    ASSERT(heap_ordered(&core->deadlines));
    ASSERT(heap_ordered(&core->retention));
    ASSERT(heap_ordered(&core->chores));
    check_catalog(core);
    check_tallies(core);
    ASSERT(messages + check_passages(core) + check_blobs(core) == core->bodies_held); /* I6 */
}
