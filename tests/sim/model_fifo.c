/* SPDX-License-Identifier: Apache-2.0 */
/* The model's receives: which message is next, said as rules over all messages of a queue, without
 * any structure that would have to be kept up to date. */
#include "tests/sim/model.h"

#include "broker/core/place.h"
#include "proto/base/assert.h"

#include <stdlib.h>

#define WINDOW_MS     300000u
#define ATTEMPTS_MOST 1000

static uint64_t in_flight(const struct model_queue *queue, const struct model_text *group)
{
    uint64_t count = 0;
    for (size_t i = 0; i < queue->count; i++)
        count += queue->messages[i].state == MODEL_LEASED &&
                 (group == NULL || model_text_same(&queue->messages[i].group, group));
    return count;
}

/* FIFO: visible, the first of its group, and nothing of the group is in flight. */
static bool may_go(const struct model_queue *queue, size_t i)
{
    const struct model_message *message = &queue->messages[i];
    if (message->state != MODEL_VISIBLE || in_flight(queue, &message->group) > 0)
        return false;
    for (size_t j = 0; j < i; j++) {
        if (model_text_same(&queue->messages[j].group, &message->group))
            return false;
    }
    return true;
}

static uint64_t noise(const struct model_queue *queue, size_t i)
{
    const struct model_text *group = &queue->messages[i].group;
    uint64_t mine = group->length > 0 ? in_flight(queue, group) : 0;
    return mine >= 30 && mine * 10 > in_flight(queue, NULL) ? mine : 0;
}

size_t model_next(const struct model_queue *queue, bool fair)
{
    size_t best = MODEL_NONE;
    uint64_t best_noise = 0;
    for (size_t i = 0; i < queue->count; i++) {
        if (queue->settings.fifo ? !may_go(queue, i) : queue->messages[i].state != MODEL_VISIBLE)
            continue;
        uint64_t its = fair && !queue->settings.fifo ? noise(queue, i) : 0;
        if (best == MODEL_NONE || its < best_noise) {
            best = i;
            best_noise = its;
        }
        if (best_noise == 0)
            break;
    }
    return best;
}

bool model_overdue(const struct model *model, const struct model_queue *queue)
{
    for (size_t i = 0; i < queue->count; i++) {
        if (queue->messages[i].sent_ms + (uint64_t)queue->settings.retention_s * 1000 <=
            model->now_ms)
            return true;
    }
    return false;
}

void model_place(struct model_queue *to, struct body_ref body, const struct model_text *group,
                 uint64_t sent_ms, uint64_t source_queue_id, uint32_t received_before)
{
    uint64_t until_ms = 0;
    for (size_t j = 0; to->settings.fifo && j < to->count; j++) {
        if (to->messages[j].state == MODEL_DELAYED &&
            model_text_same(&to->messages[j].group, group))
            until_ms = to->messages[j].due_ms; /* the last of them ends last */
    }
    struct model_message *message = model_message_add(to);
    message->sent_ms = sent_ms;
    message->body = body;
    message->group = *group;
    message->source_queue_id = source_queue_id;
    message->received_before = received_before;
    message->state = MODEL_DELAYED;
    message->due_ms = until_ms;
    if (until_ms <= sent_ms)
        model_message_show(to, message);
}

void model_transfer(struct model_queue *from, size_t i, struct model_queue *to, uint64_t sent_ms,
                    uint64_t source_queue_id, uint32_t received_before)
{
    struct model_message old = from->messages[i];
    model_message_remove(from, i);
    model_place(to, old.body, &old.group, sent_ms, source_queue_id, received_before);
}

/* Where a message has to go instead of to a consumer: a queue, or NULL and another shard. */
static bool has_to_go(struct model *model, const struct model_queue *queue, size_t i,
                      struct model_queue **target, uint32_t *shard)
{
    uint32_t most = queue->settings.receive_count_max;
    struct slice name = queue->settings.dead_letter;
    if (most == 0 || queue->messages[i].receive_count < most || queue->messages[i].stays ||
        name.length == 0)
        return false;
    *target = NULL;
    *shard = shard_of_queue_name(name, model->queue_shards);
    if (model_is_away(model, *shard))
        return true;
    *target = model_by_name(model, name);
    return *target != NULL && *target != queue && (*target)->settings.fifo == queue->settings.fifo;
}

static void go(struct model *model, struct model_queue *queue, size_t i, struct model_queue *target,
               uint32_t shard)
{
    if (target == NULL) {
        model_depart(model, queue, i, shard, 0, NULL);
        return;
    }
    uint64_t sent_ms = target->settings.fifo ? model->now_ms : queue->messages[i].sent_ms;
    uint32_t received = queue->messages[i].received_before + queue->messages[i].receive_count;
    model_transfer(queue, i, target, sent_ms, queue->queue_id, received);
}

static struct core_message described(const struct model_message *message)
{
    return (struct core_message){
        .body = message->body,
        .seq = message->seq,
        .sent_ms = message->sent_ms,
        .first_receive_ms = message->first_receive_ms,
        .visible_at_ms = message->due_ms,
        .receive_count = message->receive_count,
        .received_before = message->received_before,
        .source_queue_id = message->source_queue_id,
    };
}

static struct core_message lease(struct model *model, struct model_message *message,
                                 uint32_t visibility_s)
{
    message->state = MODEL_LEASED;
    message->receive_count++;
    message->stays = false;
    message->leased_ms = model->now_ms;
    if (message->receive_count == 1)
        message->first_receive_ms = model->now_ms;
    message->due_ms = model->now_ms + (uint64_t)visibility_s * 1000;
    return described(message);
}

/* The next one of the group that a FIFO receive is at, behind `seq`; else whatever is next. */
static size_t next_to_take(const struct model_queue *queue, const struct model_text *group,
                           uint64_t seq)
{
    for (size_t i = 0; queue->settings.fifo && seq > 0 && i < queue->count; i++) {
        const struct model_message *message = &queue->messages[i];
        if (message->seq <= seq || !model_text_same(&message->group, group))
            continue;
        if (message->state == MODEL_VISIBLE)
            return i;
        break;
    }
    return model_next(queue, true);
}

uint32_t model_take(struct model *model, struct model_queue *queue,
                    const struct command_receive *receive, uint32_t visibility_s)
{
    struct model_text group = {0};
    uint64_t seq = 0;
    uint64_t bytes = 0;
    uint32_t count = 0;
    uint32_t redriven = 0;
    while (count < receive->max) {
        size_t i = next_to_take(queue, &group, seq);
        if (i == MODEL_NONE)
            break;
        group = queue->messages[i].group;
        seq = queue->messages[i].seq;
        uint32_t length = queue->messages[i].body.length;
        struct model_queue *target;
        uint32_t shard;
        if (has_to_go(model, queue, i, &target, &shard)) {
            if (queue->settings.fifo && in_flight(queue, &group) > 0) {
                seq = 0; /* not past what this receive has leased: the next group */
                continue;
            }
            go(model, queue, i, target, shard);
            if (++redriven < model->step)
                continue;
            queue->ready = true;
            break;
        }
        bytes += length;
        if (count > 0 && receive->bytes_max > 0 && bytes > receive->bytes_max)
            break;
        model->received[count++] = lease(model, &queue->messages[i], visibility_s);
    }
    return count;
}

/* ---- attempts ---- */

static size_t attempt_find(const struct model_queue *queue, struct slice id)
{
    for (size_t i = 0; i < queue->attempt_count; i++) {
        if (model_text_is(&queue->attempts[i].id, id))
            return i;
    }
    return MODEL_NONE;
}

static struct model_message *unchanged(struct model_queue *queue, const struct core_message *given)
{
    for (size_t i = 0; i < queue->count; i++) {
        struct model_message *message = &queue->messages[i];
        if (message->seq == given->seq && message->state == MODEL_LEASED &&
            message->receive_count == given->receive_count &&
            message->due_ms == given->visible_at_ms)
            return message;
    }
    return NULL;
}

bool model_replay(struct model *model, struct model_queue *queue,
                  const struct command_receive *receive, uint32_t visibility_s, uint32_t *count)
{
    size_t at = attempt_find(queue, receive->attempt_id);
    if (at == MODEL_NONE || queue->attempts[at].received_ms + WINDOW_MS <= model->now_ms)
        return false;
    struct model_attempt *attempt = &queue->attempts[at];
    for (uint32_t i = 0; i < attempt->count; i++) {
        if (unchanged(queue, &attempt->messages[i]) == NULL)
            return false;
    }
    for (uint32_t i = 0; i < attempt->count; i++) {
        struct model_message *message = unchanged(queue, &attempt->messages[i]);
        message->leased_ms = model->now_ms;
        message->due_ms = model->now_ms + (uint64_t)visibility_s * 1000;
        attempt->messages[i] = described(message);
        model->received[i] = attempt->messages[i];
    }
    *count = attempt->count;
    return true;
}

static void attempt_remove(struct model_queue *queue, size_t i)
{
    free(queue->attempts[i].messages);
    queue->attempt_count--;
    memmove(&queue->attempts[i], &queue->attempts[i + 1],
            (queue->attempt_count - i) * sizeof queue->attempts[0]);
}

void model_attempt_keep(struct model *model, struct model_queue *queue, struct slice id,
                        uint32_t count)
{
    size_t old = attempt_find(queue, id);
    if (old != MODEL_NONE)
        attempt_remove(queue, old);
    if (queue->attempt_count == ATTEMPTS_MOST)
        attempt_remove(queue, 0);
    if (count == 0)
        return;
    if (queue->attempt_count == queue->attempt_capacity) {
        queue->attempt_capacity = queue->attempt_capacity * 2 + 16;
        queue->attempts =
            realloc(queue->attempts, queue->attempt_capacity * sizeof queue->attempts[0]);
        ASSERT(queue->attempts != NULL);
    }
    struct model_attempt *attempt = &queue->attempts[queue->attempt_count++];
    *attempt = (struct model_attempt){.received_ms = model->now_ms, .count = count};
    model_text_set(&attempt->id, id);
    attempt->messages = calloc(count, sizeof attempt->messages[0]);
    ASSERT(attempt->messages != NULL);
    memcpy(attempt->messages, model->received, count * sizeof attempt->messages[0]);
}
