/* SPDX-License-Identifier: Apache-2.0 */
/* ARRIVE: a message comes from another shard's outbox (outbox.c says the whole way). The same
 * message may be offered many times, by couriers of several leaders, late and out of order; what is
 * kept for each source shard makes it arrive once and in order:
 *
 *   - `accepted`: this number and all before it are dealt with, so such a message is not taken
 *     (again). The next is taken only when the one before it in the outbox is dealt with.
 *   - What is refused stays refused until the source says that it has taken it back (`settled`).
 * The source then may have made other plans with what follows, so until then nothing that follows
 *     is taken, though it may be refused too.
 *
 * Results: OK, it is here, or was dealt with; NO_QUEUE, it is refused: the queue is gone, or is of
 * the other type; CONFLICT, nothing was done: ask again with what the outbox then says. */
#include "broker/core/limits.h"
#include "broker/core/record.h"
#include "broker/core/state.h"

static void settle(struct passage *passage, uint64_t settled)
{
    if (passage->refused_from != 0 && settled >= passage->refused_from)
        passage->refused_from = settled < passage->accepted ? settled + 1 : 0;
    if (settled > passage->accepted)
        passage->accepted = settled;
}

static struct queue *target_of(const struct core *core, const struct command_arrive *arrive,
                               const struct record_ids *ids)
{
    struct queue *queue = arrive->destination_queue_id != 0
                              ? queue_find(core, arrive->destination_queue_id)
                              : queue_named(core, arrive->destination_name);
    if (queue == NULL || queue->view.settings.fifo != arrive->fifo)
        return NULL;
    return arrive->fifo && ids->group_id.length == 0 ? NULL : queue;
}

static void store(struct core *core, struct queue *queue, const struct command_arrive *arrive,
                  const struct record_ids *ids, struct body_ref body)
{
    uint32_t index = messages_take(&core->messages);
    struct message *message = message_at(&core->messages, index);
    bool ages = arrive->sent_ms > 0 && arrive->sent_ms < core->now_ms && !arrive->fifo;
    message_place(message, queue->slot, ++queue->seq_last, ages ? arrive->sent_ms : core->now_ms,
                  body);
    struct origin_key origin = {arrive->source_queue_id, arrive->received_before};
    message->origin = origin_ref(core, origin) & ORIGIN_INDEX_MAX;
    body_hold(core, body);
    queue_store(core, queue, index, group_join(core, queue, ids->group_id, NULL));
    queue_enter(core, queue, index);
}

void message_arrive(struct core *core, const struct command *command, struct slice entry,
                    struct core_result *result)
{
    const struct command_arrive *arrive = &command->arrive;
    struct passage *passage = &core->passages[arrive->source_shard];
    struct record_ids ids;
    if (!outbox_is_away(core, arrive->source_shard) || arrive->settled >= arrive->number ||
        arrive->after >= arrive->number) {
        result->code = CORE_CONFLICT;
        return;
    }
    settle(passage, arrive->settled);
    bool refusing = passage->refused_from != 0;
    if (arrive->number <= passage->accepted) {
        if (refusing && arrive->number >= passage->refused_from)
            result->code = CORE_NO_QUEUE;
        return;
    }
    ASSERT(arrive->record.data >= entry.data);
    ASSERT(arrive->record.data + arrive->record.length <= entry.data + entry.length);
    record_read_ids(arrive->record, &ids);
    struct queue *queue = target_of(core, arrive, &ids);
    if (arrive->after > passage->accepted || (refusing && queue != NULL)) {
        result->code = CORE_CONFLICT;
        return;
    }
    passage->accepted = arrive->number;
    if (queue != NULL) {
        struct body_ref body = {core->applied_index, (uint32_t)(arrive->record.data - entry.data),
                                (uint32_t)arrive->record.length};
        store(core, queue, arrive, &ids, body);
    } else {
        passage->refused_from = refusing ? passage->refused_from : arrive->number;
        result->code = CORE_NO_QUEUE;
    }
}
