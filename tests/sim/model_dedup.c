/* SPDX-License-Identifier: Apache-2.0 */
/* The model's sends: what a FIFO queue asks of a message, and what it remembers of it for five
 * minutes. */
#include "tests/sim/model.h"

#include "proto/base/assert.h"

#include <stdlib.h>

#define WINDOW_MS 300000u

/* The ids, read from the bytes as record.h describes them. */
struct ids {
    struct slice group;
    struct slice dedup;
    const uint8_t *message_id; /* NULL: these bytes are no record */
};

static struct ids ids_of(struct slice record)
{
    struct ids ids = {0};
    if (record.length < 76 || record.data[0] != 2)
        return ids;
    uint64_t at = 76 + (uint64_t)bytes_get_u32(record.data + 52) + bytes_get_u32(record.data + 56);
    uint64_t group = bytes_get_u32(record.data + 60);
    uint64_t dedup = bytes_get_u32(record.data + 64);
    if (group > 128 || dedup > 128 || at + group + dedup > record.length)
        return ids;
    ids.group = slice_make(record.data + at, group);
    ids.dedup = slice_make(record.data + at + group, dedup);
    ids.message_id = record.data + 4;
    return ids;
}

struct model_text model_group_of(struct slice record)
{
    struct model_text group;
    model_text_set(&group, ids_of(record).group);
    return group;
}

static size_t find(const struct model_queue *queue, const struct ids *ids)
{
    bool by_group = queue->settings.dedup_per_group;
    for (size_t i = 0; i < queue->dedup_count; i++) {
        const struct model_dedup *dedup = &queue->dedups[i];
        if (dedup->by_group == by_group && model_text_is(&dedup->id, ids->dedup) &&
            (!by_group || model_text_is(&dedup->group, ids->group)))
            return i;
    }
    return MODEL_NONE;
}

static void remember(struct model *model, struct model_queue *queue, const struct ids *ids,
                     uint64_t seq)
{
    size_t old = find(queue, ids);
    if (old != MODEL_NONE) {
        queue->dedup_count--;
        memmove(&queue->dedups[old], &queue->dedups[old + 1],
                (queue->dedup_count - old) * sizeof queue->dedups[0]);
    }
    if (queue->dedup_count == queue->dedup_capacity) {
        queue->dedup_capacity = queue->dedup_capacity * 2 + 16;
        queue->dedups = realloc(queue->dedups, queue->dedup_capacity * sizeof queue->dedups[0]);
        ASSERT(queue->dedups != NULL);
    }
    struct model_dedup *dedup = &queue->dedups[queue->dedup_count++];
    *dedup = (struct model_dedup){
        .by_group = queue->settings.dedup_per_group, .seq = seq, .sent_ms = model->now_ms};
    model_text_set(&dedup->group, ids->group);
    model_text_set(&dedup->id, ids->dedup);
    memcpy(dedup->message_id, ids->message_id, UUID_BYTES);
}

/* No message of a group becomes visible before those that were sent before it. */
static uint64_t delayed_until_ms(const struct model_queue *queue, const struct ids *ids)
{
    uint64_t until_ms = 0;
    for (size_t i = 0; queue->settings.fifo && i < queue->count; i++) {
        const struct model_message *message = &queue->messages[i];
        if (message->state == MODEL_DELAYED && model_text_is(&message->group, ids->group) &&
            message->due_ms > until_ms)
            until_ms = message->due_ms;
    }
    return until_ms;
}

void model_send(struct model *model, struct model_queue *queue, const struct command_send *send,
                struct body_ref body, struct core_result *result)
{
    struct ids ids = ids_of(send->record);
    bool fifo = queue->settings.fifo;
    if (fifo && (ids.group.length == 0 || ids.dedup.length == 0)) {
        result->code = CORE_INVALID;
        return;
    }
    size_t known = fifo ? find(queue, &ids) : MODEL_NONE;
    if (known != MODEL_NONE && queue->dedups[known].sent_ms + WINDOW_MS > model->now_ms) {
        result->duplicate = true;
        result->seq = queue->dedups[known].seq;
        memcpy(result->message_id, queue->dedups[known].message_id, UUID_BYTES);
        return;
    }
    uint32_t delay_s = send->delay_s == CORE_DEFAULT ? queue->settings.delay_s : send->delay_s;
    uint64_t due_ms = model->now_ms + (uint64_t)delay_s * 1000;
    uint64_t earlier_ms = delayed_until_ms(queue, &ids);
    struct model_message *message = model_message_add(queue);
    message->sent_ms = model->now_ms;
    message->body = body;
    message->state = MODEL_DELAYED;
    message->due_ms = due_ms > earlier_ms ? due_ms : earlier_ms;
    model_text_set(&message->group, ids.group);
    if (message->due_ms == model->now_ms)
        model_message_show(queue, message);
    queue->sent_total++;
    result->seq = message->seq;
    if (fifo) {
        remember(model, queue, &ids, message->seq);
        memcpy(result->message_id, ids.message_id, UUID_BYTES);
    }
}
