/* SPDX-License-Identifier: Apache-2.0 */
/* The model's moves, and when queues forget sends and receives. */
#include "tests/sim/model.h"

#include "proto/base/assert.h"

#include <stdlib.h>

#define WINDOW_MS 300000u
#define SLACK_MS  10000u
#define STEP_MOST 1000u

static bool runs(const struct model_queue *queue)
{
    return queue->move_count > 0 && queue->moves[0].view.status == MOVE_RUNNING;
}

uint64_t model_chore_ms(const struct model_queue *queue)
{
    uint64_t due_ms = runs(queue) ? queue->moves[0].next_ms : UINT64_MAX;
    uint64_t forget_ms[2] = {UINT64_MAX, UINT64_MAX};
    if (queue->dedup_count > 0)
        forget_ms[0] = queue->dedups[0].sent_ms + WINDOW_MS + SLACK_MS;
    if (queue->attempt_count > 0)
        forget_ms[1] = queue->attempts[0].received_ms + WINDOW_MS + SLACK_MS;
    for (size_t i = 0; i < 2; i++)
        due_ms = forget_ms[i] < due_ms ? forget_ms[i] : due_ms;
    return due_ms;
}

static void forget(struct model *model, struct model_queue *queue)
{
    size_t past = 0;
    while (past < queue->dedup_count && queue->dedups[past].sent_ms + WINDOW_MS <= model->now_ms)
        past++;
    queue->dedup_count -= past;
    if (past > 0)
        memmove(queue->dedups, queue->dedups + past, queue->dedup_count * sizeof queue->dedups[0]);
    past = 0;
    while (past < queue->attempt_count &&
           queue->attempts[past].received_ms + WINDOW_MS <= model->now_ms)
        free(queue->attempts[past++].messages);
    queue->attempt_count -= past;
    if (past > 0)
        memmove(queue->attempts, queue->attempts + past,
                queue->attempt_count * sizeof queue->attempts[0]);
}

enum step { MOVED, ENDED, WAITS };

static enum step fail(struct model_move *move, enum move_failure failure)
{
    move->view.status = MOVE_FAILED;
    move->view.failure = failure;
    return ENDED;
}

/* One message. */
static enum step move_one(struct model *model, struct model_queue *queue)
{
    struct model_move *move = &queue->moves[0];
    size_t i = model_next(queue, false);
    if (i == MODEL_NONE || queue->messages[i].seq > move->seq_max) {
        if (move->under_way > 0)
            return WAITS;
        move->view.status = MOVE_COMPLETED;
        return ENDED;
    }
    uint64_t id = move->view.destination_queue_id;
    if (id == 0)
        id = queue->messages[i].source_queue_id;
    if (id == 0)
        return fail(move, MOVE_FAILURE_NO_SOURCE);
    if (model_is_away(model, (uint32_t)(id >> 32))) {
        model_depart(model, queue, i, (uint32_t)(id >> 32), id, move->view.handle);
        move->under_way++;
        move->window_moved++;
        return MOVED;
    }
    struct model_queue *target = model_by_id(model, id);
    if (target == NULL || target == queue || target->settings.fifo != queue->settings.fifo)
        return fail(move, MOVE_FAILURE_NO_QUEUE);
    model_transfer(queue, i, target, model->now_ms, 0, 0);
    move->view.moved++;
    move->window_moved++;
    return MOVED;
}

static void move_step(struct model *model, struct model_queue *queue)
{
    struct model_move *move = &queue->moves[0];
    uint32_t most = move->view.per_second_max;
    enum step step = MOVED;
    if (!model_overdue(model, queue)) {
        if (model->now_ms >= move->window_ms + 1000) {
            move->window_ms = model->now_ms;
            move->window_moved = 0;
        }
        for (uint32_t i = 0; i < model->step && i < STEP_MOST; i++) {
            if (most > 0 && move->window_moved == most)
                break;
            if ((step = move_one(model, queue)) != MOVED)
                break;
        }
    }
    move->next_ms = model->now_ms + (step == WAITS ? 1000 : 1);
    if (most > 0 && move->window_moved == most && move->window_ms + 1000 > model->now_ms)
        move->next_ms = move->window_ms + 1000;
}

void model_chores(struct model *model)
{
    for (;;) {
        struct model_queue *first = NULL;
        for (size_t i = 0; i < MODEL_QUEUES; i++) {
            struct model_queue *queue = &model->queues[i];
            if (!queue->exists || model_chore_ms(queue) > model->now_ms)
                continue;
            if (first == NULL || model_chore_ms(queue) < model_chore_ms(first) ||
                (model_chore_ms(queue) == model_chore_ms(first) &&
                 queue->queue_id < first->queue_id))
                first = queue;
        }
        if (first == NULL)
            return;
        forget(model, first);
        if (runs(first) && first->moves[0].next_ms <= model->now_ms)
            move_step(model, first);
    }
}

void model_move_start(struct model *model, const struct command_move_start *start,
                      struct core_result *result)
{
    struct model_queue *queue = model_by_id(model, start->source_queue_id);
    const struct model_queue *target = model_by_id(model, start->destination_queue_id);
    bool away = model_is_away(model, (uint32_t)(start->destination_queue_id >> 32));
    if (queue == NULL || (target == NULL && start->destination_queue_id != 0 && !away))
        result->code = CORE_NO_QUEUE;
    else if (target != NULL && (target == queue || target->settings.fifo != queue->settings.fifo))
        result->code = CORE_INVALID;
    else if (runs(queue))
        result->code = CORE_EXISTS;
    if (result->code != CORE_OK)
        return;
    memmove(&queue->moves[1], &queue->moves[0], (MODEL_MOVES - 1) * sizeof queue->moves[0]);
    queue->move_count += queue->move_count < MODEL_MOVES;
    struct model_move *move = &queue->moves[0];
    *move = (struct model_move){
        .seq_max = queue->seq_last, .next_ms = model->now_ms, .window_ms = model->now_ms};
    memcpy(move->view.handle, start->handle, UUID_BYTES);
    move->view.source_queue_id = queue->queue_id;
    move->view.destination_queue_id = start->destination_queue_id;
    move->view.per_second_max = start->per_second_max;
    move->view.to_move = queue->count;
    move->view.started_ms = model->now_ms;
    for (size_t i = 1; i < queue->move_count; i++) {
        if (memcmp(queue->moves[i].view.handle, start->handle, UUID_BYTES) != 0)
            continue;
        move->under_way += queue->moves[i].under_way;
        queue->moves[i].under_way = 0;
    }
}

void model_move_settled(struct model *model, struct model_queue *queue, const uint8_t *handle,
                        bool arrived)
{
    for (size_t i = 0; i < queue->move_count; i++) {
        struct model_move *move = &queue->moves[i];
        if (memcmp(move->view.handle, handle, UUID_BYTES) != 0)
            continue;
        move->under_way--;
        move->view.moved += arrived;
        if (move->view.status == MOVE_RUNNING && !arrived)
            fail(move, MOVE_FAILURE_NO_QUEUE);
        else if (move->view.status == MOVE_RUNNING && move->next_ms > model->now_ms)
            move->next_ms = model->now_ms;
        return;
    }
}

void model_move_cancel(struct model *model, const struct command_move_cancel *cancel,
                       struct core_result *result)
{
    struct model_queue *queue = model_by_id(model, cancel->source_queue_id);
    result->code = queue == NULL ? CORE_NO_QUEUE : CORE_NO_MOVE;
    for (size_t i = 0; queue != NULL && i < queue->move_count; i++) {
        struct move_view *view = &queue->moves[i].view;
        if (memcmp(view->handle, cancel->handle, UUID_BYTES) != 0)
            continue;
        result->moved = view->moved;
        result->code = view->status == MOVE_RUNNING ? CORE_OK : CORE_CONFLICT;
        if (view->status == MOVE_RUNNING)
            view->status = MOVE_CANCELLED;
        return;
    }
}
