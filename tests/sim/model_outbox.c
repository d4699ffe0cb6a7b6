/* SPDX-License-Identifier: Apache-2.0 */
/* The model's traffic with other shards: what leaves, what arrives, what comes back. */
#include "tests/sim/model.h"

#include "proto/base/assert.h"

bool model_is_away(const struct model *model, uint32_t shard)
{
    return shard != model->shard && shard <= model->queue_shards;
}

static uint64_t next_number(const struct model *model, const struct model_passage *passage)
{
    uint64_t by_time = model->now_ms * 32768;
    return passage->number_last < by_time ? by_time : passage->number_last + 1;
}

void model_depart(struct model *model, struct model_queue *queue, size_t i, uint32_t shard,
                  uint64_t destination_id, const uint8_t *handle)
{
    struct model_passage *passage = &model->passages[shard];
    ASSERT(passage->count < MODEL_PARCELS);
    struct model_parcel *parcel = &passage->parcels[passage->count++];
    *parcel = (struct model_parcel){.number = next_number(model, passage),
                                    .queue_id = queue->queue_id,
                                    .fifo = queue->settings.fifo,
                                    .destination_id = destination_id,
                                    .message = queue->messages[i]};
    if (destination_id == 0)
        parcel->destination = queue->dead_letter;
    else
        memcpy(parcel->handle, handle, UUID_BYTES);
    passage->number_last = parcel->number;
    model_message_remove(queue, i);
    model->departures++;
}

static void tell_move(struct model *model, const struct model_parcel *parcel, bool arrived)
{
    struct model_queue *queue = model_by_id(model, parcel->queue_id);
    if (queue != NULL && parcel->destination_id != 0)
        model_move_settled(model, queue, parcel->handle, arrived);
}

static void take_out(struct model_passage *passage, size_t i)
{
    passage->count--;
    memmove(&passage->parcels[i], &passage->parcels[i + 1],
            (passage->count - i) * sizeof passage->parcels[0]);
}

void model_departed(struct model *model, const struct command_departed *departed)
{
    if (departed->destination_shard >= MODEL_SHARDS)
        return;
    struct model_passage *passage = &model->passages[departed->destination_shard];
    while (passage->count > 0 && passage->parcels[0].number <= departed->number) {
        tell_move(model, &passage->parcels[0], true);
        take_out(passage, 0);
    }
}

/* Among those of its queue, by seq. */
static void give_back(struct model *model, const struct model_parcel *parcel)
{
    struct model_queue *queue = model_by_id(model, parcel->queue_id);
    tell_move(model, parcel, false);
    if (queue == NULL || parcel->message.seq <= queue->purged_seq)
        return;
    uint64_t seq_last = queue->seq_last;
    model_message_add(queue);
    queue->seq_last = seq_last;
    size_t at = queue->count - 1;
    for (; at > 0 && queue->messages[at - 1].seq > parcel->message.seq; at--)
        queue->messages[at] = queue->messages[at - 1];
    queue->messages[at] = parcel->message;
    queue->messages[at].stays = true;
    model_message_show(queue, &queue->messages[at]);
}

static bool recalled(const struct model_passage *passage, const struct model_parcel *parcel,
                     uint64_t last)
{
    for (size_t i = 0; i < passage->count; i++) {
        if (parcel->fifo && passage->parcels[i].queue_id == parcel->queue_id &&
            passage->parcels[i].number <= last)
            return true;
    }
    return parcel->number <= last;
}

void model_refused(struct model *model, const struct command_refused *refused,
                   struct core_result *result)
{
    struct model_passage *passage = &model->passages[refused->destination_shard % MODEL_SHARDS];
    struct model_passage before = *passage;
    if (refused->destination_shard >= MODEL_SHARDS || before.count == 0 ||
        before.parcels[0].number < refused->first || before.parcels[0].number > refused->last) {
        result->code = CORE_CONFLICT;
        return;
    }
    passage->count = 0;
    for (size_t i = 0; i < before.count; i++) {
        struct model_parcel *parcel = &before.parcels[i];
        bool gone = model_by_id(model, parcel->queue_id) == NULL;
        if (parcel->number <= refused->last || (!gone && recalled(&before, parcel, refused->last)))
            continue;
        struct model_parcel *left = &passage->parcels[passage->count++];
        *left = *parcel;
        left->number = next_number(model, passage);
        passage->number_last = left->number;
    }
    for (size_t i = 0; i < before.count; i++) {
        const struct model_parcel *parcel = &before.parcels[i];
        bool gone = model_by_id(model, parcel->queue_id) == NULL;
        if (parcel->number <= refused->last || (!gone && recalled(&before, parcel, refused->last)))
            give_back(model, parcel);
    }
}

static void settle(struct model_passage *passage, uint64_t settled)
{
    if (passage->refused_from > 0 && passage->refused_from <= settled)
        passage->refused_from = settled >= passage->accepted ? 0 : settled + 1;
    passage->accepted = settled > passage->accepted ? settled : passage->accepted;
}

static struct model_queue *target_of(struct model *model, const struct command_arrive *arrive,
                                     const struct model_text *group)
{
    struct model_queue *queue = arrive->destination_queue_id != 0
                                    ? model_by_id(model, arrive->destination_queue_id)
                                    : model_by_name(model, arrive->destination_name);
    bool fits = queue != NULL && queue->settings.fifo == arrive->fifo &&
                (!arrive->fifo || group->length > 0);
    return fits ? queue : NULL;
}

void model_arrive(struct model *model, const struct command_arrive *arrive, struct body_ref body,
                  struct core_result *result)
{
    if (!model_is_away(model, arrive->source_shard) || arrive->settled >= arrive->number ||
        arrive->after >= arrive->number) {
        result->code = CORE_CONFLICT;
        return;
    }
    struct model_passage *passage = &model->passages[arrive->source_shard];
    struct model_text group = model_group_of(arrive->record);
    settle(passage, arrive->settled);
    if (arrive->number <= passage->accepted) {
        bool refused = passage->refused_from > 0 && arrive->number >= passage->refused_from;
        result->code = refused ? CORE_NO_QUEUE : CORE_OK;
        return;
    }
    struct model_queue *queue = target_of(model, arrive, &group);
    if (arrive->after > passage->accepted || (queue != NULL && passage->refused_from > 0)) {
        result->code = CORE_CONFLICT;
        return;
    }
    passage->accepted = arrive->number;
    if (queue == NULL) {
        result->code = CORE_NO_QUEUE;
        if (passage->refused_from == 0)
            passage->refused_from = arrive->number;
        return;
    }
    bool ages = !arrive->fifo && arrive->sent_ms > 0 && arrive->sent_ms < model->now_ms;
    model_place(queue, body, &group, ages ? arrive->sent_ms : model->now_ms,
                arrive->source_queue_id,
                arrive->source_queue_id != 0 ? arrive->received_before : 0);
}
