/* SPDX-License-Identifier: Apache-2.0 */
/* Moves: a queue's messages go to another queue, or each back to the one that it was redriven from.
 *
 * A move takes the messages that were there when it began, as far as they are visible, the oldest
 * first, in steps: a thousand messages at a time, no more in a second than it may. Between steps it
 * waits for its time to come like everything else that is due. It is done when nothing that it may
 * take is left; messages in flight by then stay. The first message that has nowhere to go ends it
 * as failed; what was moved stays moved.
 *
 * A queue of another shard gets its messages by way of the outbox (outbox.c). Whether it exists,
 * that shard knows; a message that it refuses comes back and ends the move as failed. A move is
 * done when all that it sent has arrived, and `moved` counts what has.
 *
 * In its new queue a message is new: its time of sending, its count and its retention begin afresh,
 * and no delay, no deduplication and no source belong to it. */
#include "broker/core/limits.h"
#include "broker/core/state.h"

#include <stdlib.h>

static struct move *running(const struct queue *queue)
{
    bool runs = queue->move_count > 0 && queue->moves[0].view.status == MOVE_RUNNING;
    return runs ? &queue->moves[0] : NULL;
}

uint64_t move_due_ms(const struct queue *queue)
{
    const struct move *move = running(queue);
    return move != NULL ? move->next_ms : UINT64_MAX;
}

static void end(struct move *move, enum move_status status, enum move_failure failure)
{
    move->view.status = status;
    move->view.failure = failure;
}

enum step {
    STEP_MOVED, /* one message; there may be more */
    STEP_ENDED,
    STEP_WAIT /* for another shard */
};

static enum step move_here(struct core *core, struct queue *queue, struct move *move,
                           uint32_t index, uint64_t target_id)
{
    struct queue *target = queue_find(core, target_id);
    if (target == NULL || target == queue ||
        target->view.settings.fifo != queue->view.settings.fifo) {
        end(move, MOVE_FAILED, MOVE_FAILURE_NO_QUEUE);
        return STEP_ENDED;
    }
    queue_transfer(core, queue, index, target, core->now_ms, (struct origin_key){0});
    move->view.moved++;
    return STEP_MOVED;
}

static enum step move_away(struct core *core, struct queue *queue, struct move *move,
                           uint32_t index, uint64_t target_id)
{
    if (!outbox_move(core, queue, index, target_id, move->view.handle))
        return STEP_WAIT;
    move->under_way++;
    return STEP_MOVED;
}

static enum step move_one(struct core *core, struct queue *queue, struct move *move)
{
    uint32_t index = queue_next(core, queue);
    if (index == MESSAGE_NONE || message_at(&core->messages, index)->seq > move->seq_max) {
        if (move->under_way > 0)
            return STEP_WAIT;
        end(move, MOVE_COMPLETED, MOVE_FAILURE_NONE);
        return STEP_ENDED;
    }
    uint64_t target_id = move->view.destination_queue_id;
    if (target_id == 0)
        target_id = origin_of(core, message_at(&core->messages, index)).queue_id;
    if (target_id == 0) {
        end(move, MOVE_FAILED, MOVE_FAILURE_NO_SOURCE);
        return STEP_ENDED;
    }
    enum step step = outbox_is_away(core, shard_of_queue_id(target_id))
                         ? move_away(core, queue, move, index, target_id)
                         : move_here(core, queue, move, index, target_id);
    move->window_moved += step == STEP_MOVED;
    return step;
}

/* How many messages this step may take. */
static uint32_t allowance(const struct core *core, struct move *move)
{
    uint32_t step = core->step_max < MOVE_STEP_MESSAGES ? core->step_max : MOVE_STEP_MESSAGES;
    if (core->now_ms >= move->window_ms + SECOND_MS) {
        move->window_ms = core->now_ms;
        move->window_moved = 0;
    }
    uint32_t most = move->view.per_second_max;
    if (most == 0 || most - move->window_moved > step)
        return step;
    return most - move->window_moved;
}

void move_run(struct core *core, struct queue *queue)
{
    struct move *move = running(queue);
    if (move == NULL || move->next_ms > core->now_ms)
        return;
    uint32_t left = queue_overdue(core, queue) ? 0 : allowance(core, move);
    enum step step = STEP_MOVED;
    while (left > 0 && (step = move_one(core, queue, move)) == STEP_MOVED)
        left--;
    uint32_t most = move->view.per_second_max;
    move->next_ms = core->now_ms + (step == STEP_WAIT ? SECOND_MS : 1);
    if (most > 0 && move->window_moved == most && move->window_ms + SECOND_MS > core->now_ms)
        move->next_ms = move->window_ms + SECOND_MS;
}

struct move *move_find(struct queue *queue, const uint8_t handle[UUID_BYTES])
{
    for (uint32_t i = 0; i < queue->move_count; i++) {
        if (memcmp(queue->moves[i].view.handle, handle, UUID_BYTES) == 0)
            return &queue->moves[i];
    }
    return NULL;
}

void move_settled(struct core *core, struct queue *queue, const uint8_t handle[UUID_BYTES],
                  bool arrived)
{
    struct move *move = move_find(queue, handle);
    if (move == NULL)
        return;
    ASSERT(move->under_way > 0);
    move->under_way--;
    move->view.moved += arrived;
    if (move->view.status != MOVE_RUNNING)
        return;
    if (!arrived)
        end(move, MOVE_FAILED, MOVE_FAILURE_NO_QUEUE);
    else if (move->next_ms > core->now_ms)
        move->next_ms = core->now_ms; /* it may be what it waits for */
    queue_chores_follow(core, queue);
}

static enum core_code start_code(const struct core *core, const struct queue *source,
                                 uint64_t destination_id)
{
    const struct queue *destination = queue_find(core, destination_id);
    bool away = outbox_is_away(core, shard_of_queue_id(destination_id));
    if (source == NULL || (destination == NULL && destination_id != 0 && !away))
        return CORE_NO_QUEUE;
    if (destination != NULL &&
        (destination == source || destination->view.settings.fifo != source->view.settings.fifo))
        return CORE_INVALID;
    return running(source) != NULL ? CORE_EXISTS : CORE_OK;
}

/* A place for the latest move, at the cost of the oldest. */
static struct move *place(struct queue *queue)
{
    if (queue->moves == NULL)
        queue->moves = calloc(MOVES_KEPT, sizeof queue->moves[0]);
    ASSERT(queue->moves != NULL);
    if (queue->move_count < MOVES_KEPT)
        queue->move_count++;
    memmove(&queue->moves[1], &queue->moves[0], (queue->move_count - 1) * sizeof queue->moves[0]);
    return &queue->moves[0];
}

/* What is under way is found by its handle. Handles are random, but nobody is made to believe it.
 */
static void take_over(struct queue *queue, struct move *latest)
{
    for (struct move *move = latest + 1; move < queue->moves + queue->move_count; move++) {
        if (memcmp(move->view.handle, latest->view.handle, UUID_BYTES) != 0)
            continue;
        latest->under_way += move->under_way;
        move->under_way = 0;
    }
}

void move_start(struct core *core, const struct command *command, struct core_result *result)
{
    const struct command_move_start *start = &command->move_start;
    struct queue *queue = queue_find(core, start->source_queue_id);
    result->code = start_code(core, queue, start->destination_queue_id);
    if (result->code != CORE_OK)
        return;
    struct move *move = place(queue);
    *move = (struct move){
        .view = {.source_queue_id = start->source_queue_id,
                 .destination_queue_id = start->destination_queue_id,
                 .per_second_max = start->per_second_max,
                 .to_move = queue->view.visible + queue->view.delayed + queue->view.in_flight,
                 .started_ms = core->now_ms},
        .seq_max = queue->seq_last,
        .next_ms = core->now_ms,
        .window_ms = core->now_ms,
    };
    memcpy(move->view.handle, start->handle, UUID_BYTES);
    take_over(queue, move);
    queue_chores_follow(core, queue);
}

void move_cancel(struct core *core, const struct command *command, struct core_result *result)
{
    const struct command_move_cancel *cancel = &command->move_cancel;
    struct queue *queue = queue_find(core, cancel->source_queue_id);
    if (queue == NULL) {
        result->code = CORE_NO_QUEUE;
        return;
    }
    result->code = CORE_NO_MOVE;
    for (uint32_t i = 0; i < queue->move_count && result->code == CORE_NO_MOVE; i++) {
        struct move *move = &queue->moves[i];
        if (memcmp(move->view.handle, cancel->handle, UUID_BYTES) != 0)
            continue;
        result->moved = move->view.moved;
        result->code = move->view.status == MOVE_RUNNING ? CORE_OK : CORE_CONFLICT;
        if (result->code == CORE_OK)
            end(move, MOVE_CANCELLED, MOVE_FAILURE_NONE);
    }
    queue_chores_follow(core, queue);
}

bool core_move_next(const struct core *core, uint64_t queue_id, size_t *position,
                    struct move_view *out)
{
    const struct queue *queue = queue_find(core, queue_id);
    if (queue == NULL || *position >= queue->move_count)
        return false;
    *out = queue->moves[(*position)++].view;
    return true;
}
