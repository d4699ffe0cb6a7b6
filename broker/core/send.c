/* SPDX-License-Identifier: Apache-2.0 */
/* SEND: a message comes in. The core keeps where its record is in the Raft log, not the record; of
 * the record it reads the ids, since order and deduplication rest on them. */
#include "broker/core/limits.h"
#include "broker/core/record.h"
#include "broker/core/state.h"

/* Is it there already? The answer is then that of the first sending. */
static bool is_duplicate(const struct core *core, const struct queue *queue,
                         struct dedup_search *search, struct core_result *result)
{
    struct dedup first;
    if (!dedup_find(core, queue, search, &first))
        return false;
    result->duplicate = true;
    result->seq = first.seq;
    memcpy(result->message_id, first.message_id, UUID_BYTES);
    return true;
}

static void store(struct core *core, struct queue *queue, const struct record_ids *ids,
                  const struct send_hashes *hashes, struct body_ref body, uint32_t delay_s)
{
    if (core->graves != NULL)
        grave_run(core, GRAVES_A_SEND);
    uint32_t index = messages_take(&core->messages);
    struct message *message = message_at(&core->messages, index);
    message_place(message, queue->slot, ++queue->seq_last, core->now_ms, body);
    message->due_after_ms = delay_s * SECOND_MS;
    body_hold(core, body);
    queue_store(core, queue, index, group_join(core, queue, ids->group_id, hashes));
    queue_enter(core, queue, index);
    queue->view.sent_total++;
}

static struct body_ref body_of(const struct core *core, struct slice record, struct slice entry)
{
    ASSERT(record.data >= entry.data);
    ASSERT(record.data + record.length <= entry.data + entry.length);
    return (struct body_ref){core->applied_index, (uint32_t)(record.data - entry.data),
                             (uint32_t)record.length};
}

static void send_fifo(struct core *core, struct queue *queue, const struct record_ids *ids,
                      const struct send_hashes *hashes, struct body_ref body, uint32_t delay_s,
                      struct core_result *result)
{
    struct dedup_search search;
    if (ids->group_id.length == 0 || ids->dedup_id.length == 0) {
        result->code = CORE_INVALID;
        return;
    }
    dedup_search_begin(core, queue, ids, hashes, &search);
    if (is_duplicate(core, queue, &search, result))
        return;
    store(core, queue, ids, hashes, body, delay_s);
    dedup_add(core, queue, &search, ids->message_id, queue->seq_last);
    result->seq = queue->seq_last;
    memcpy(result->message_id, ids->message_id, UUID_BYTES);
}

void message_send(struct core *core, const struct command *command, struct slice entry,
                  struct core_result *result)
{
    const struct command_send *send = &command->send;
    struct queue *queue = queue_find(core, send->queue_id);
    struct record_ids ids;
    if (queue == NULL) {
        result->code = CORE_NO_QUEUE;
        return;
    }
    record_read_ids(send->record, &ids);
    struct body_ref body = body_of(core, send->record, entry);
    uint32_t delay_s = send->delay_s == CORE_DEFAULT ? queue->view.settings.delay_s : send->delay_s;
    if (queue->view.settings.fifo) {
        send_fifo(core, queue, &ids, command->hashes, body, delay_s, result);
        return;
    }
    store(core, queue, &ids, command->hashes, body, delay_s);
    result->seq = queue->seq_last;
}
