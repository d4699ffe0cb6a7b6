/* SPDX-License-Identifier: Apache-2.0 */
/* Answering nodes that have no replica of a shard: calls, receives and tallies. What the shard here
 * says of them is what they are told (D1); glances are in glance.c. */
#include "broker/shards/door.h"

#include "broker/shards/internal.h"
#include "proto/base/assert.h"

#include <stdlib.h>

/* True: `status` has an outcome, which the answer says; else the task is ended with it. */
static bool tell(struct away_task *task, enum status status, enum outcome *outcome)
{
    if (outcome_of(status, outcome))
        return true;
    door_refuse(task,
                status == STATUS_NOT_LEADER || status == STATUS_BUSY ? status : STATUS_CLOSED);
    return false;
}

/* ---- calls ---- */

struct served_call {
    struct shards *shards;
    struct away_task *task;
    struct shard_call call;
};

static void answer_call(struct away_task *task, enum outcome outcome,
                        const struct core_result *results, uint32_t count)
{
    struct buffer answer = {0};
    call_answer_encode(&answer, outcome, results, count);
    away_answer_moved(task, &answer);
}

static void on_called(struct shard_call *call, enum status status,
                      const struct core_result *results, uint32_t count)
{
    struct served_call *served = call->data;
    enum outcome outcome;
    if (tell(served->task, status, &outcome))
        answer_call(served->task, outcome, results, status == STATUS_OK ? count : 0);
    doors_task_ended(served->shards);
    free(served);
}

/* The rest of the asker's time. */
static uint64_t since_of(const struct away_task *task)
{
    return task->deadline_ms > SHARD_CALL_MS ? task->deadline_ms - SHARD_CALL_MS : 1;
}

static void begin_call(void *data, struct away_task *task)
{
    struct shard *shard = shards_at(data, task->shard);
    struct call_question question;
    if (shard == NULL) {
        door_refuse(task, STATUS_NOT_LEADER);
        return;
    }
    if (!call_question_decode(task->request, &question)) {
        answer_call(task, OUTCOME_INVALID, NULL, 0);
        return;
    }
    if (!doors_task_begins(data, task))
        return;
    struct served_call *served = calloc(1, sizeof *served);
    ASSERT(served != NULL);
    served->shards = data;
    served->task = task;
    served->call = (struct shard_call){.count = question.count,
                                       .grows = question.grows,
                                       .since_ms = since_of(task),
                                       .done = on_called,
                                       .data = served};
    buffer_add_slice(&served->call.commands, question.commands);
    shard_call(shard, &served->call);
}

/* It may be in the log already. The shard ends it in its time. */
static void cancel_call(void *data, struct away_task *task)
{
    (void)data, (void)task;
}

/* ---- receives ---- */

struct served_receive {
    struct shards *shards;
    struct away_task *task;
    struct door_receive receive;
};

static void answer_receive(struct away_task *task, enum outcome outcome,
                           const struct door_receive *receive)
{
    struct receive_answer answer = {.outcome = outcome,
                                    .now_ms = receive->at_ms,
                                    .result = {.code = receive->code,
                                               .messages = receive->messages,
                                               .message_count = receive->count}};
    struct buffer bytes = {0};
    if (outcome == OUTCOME_OK)
        answer.records = buffer_slice(&receive->records);
    receive_answer_encode(&bytes, &answer);
    away_answer_moved(task, &bytes);
}

static void on_received(struct door_receive *receive, enum status status)
{
    struct served_receive *served = receive->data;
    enum outcome outcome;
    if (tell(served->task, status, &outcome))
        answer_receive(served->task, outcome, receive);
    doors_task_ended(served->shards);
    door_receive_free(receive);
    free(served);
}

static void begin_receive(void *data, struct away_task *task)
{
    struct receive_question question;
    struct served_receive *served;
    if (shards_at(data, task->shard) == NULL) {
        door_refuse(task, STATUS_NOT_LEADER);
        return;
    }
    if (!receive_question_decode(task->request, &question)) {
        answer_receive(task, OUTCOME_INVALID, &(struct door_receive){0});
        return;
    }
    if (!doors_task_begins(data, task))
        return;
    served = task->state = calloc(1, sizeof *served);
    ASSERT(served != NULL);
    served->shards = data;
    served->task = task;
    served->receive.command = question.command;
    served->receive.wait_ms = question.wait_ms;
    served->receive.done = on_received;
    served->receive.data = served;
    door_receive(data, task->shard, &served->receive);
}

static void cancel_receive(void *data, struct away_task *task)
{
    struct served_receive *served = task->state;
    (void)data;
    door_receive_cancel(&served->receive);
}

/* ---- leases ---- */

struct served_held {
    struct shards *shards;
    struct away_task *task;
    struct arena arena;
    struct door_held held;
};

static void on_held(struct door_held *held, enum status status, bool yes)
{
    struct served_held *served = held->data;
    struct buffer answer = {0};
    held_answer_encode(&answer, yes);
    if (status == STATUS_OK)
        away_answer_moved(served->task, &answer);
    else
        door_refuse(served->task, STATUS_NOT_LEADER); /* nothing was changed: another may tell */
    buffer_free(&answer);
    doors_task_ended(served->shards);
    arena_free(&served->arena);
    free(served);
}

static void begin_held(void *data, struct away_task *task)
{
    if (shards_at(data, task->shard) == NULL) {
        door_refuse(task, STATUS_NOT_LEADER);
        return;
    }
    if (!doors_task_begins(data, task))
        return;
    struct served_held *served = calloc(1, sizeof *served);
    ASSERT(served != NULL);
    *served = (struct served_held){.shards = data, .task = task};
    served->held.done = on_held;
    served->held.data = served;
    if (held_question_decode(task->request, &served->arena, &served->held.leases))
        door_held(data, task->shard, &served->held);
    else
        on_held(&served->held, STATUS_INVALID, false);
}

/* ---- tallies ---- */

static void begin_tallies(void *data, struct away_task *task)
{
    const struct shard *shard = shards_at(data, task->shard);
    struct buffer answer = {0};
    if (shard == NULL || !shard_ready(shard)) {
        door_refuse(task, STATUS_NOT_LEADER);
        return;
    }
    tallies_encode(&answer, shard_core(shard));
    away_answer_moved(task, &answer);
}

static void cancel_tallies(void *data, struct away_task *task)
{
    (void)data, (void)task; /* it is answered at once */
}

void door_serve(struct shards *s)
{
    struct away_server call = {begin_call, cancel_call, s};
    struct away_server receive = {begin_receive, cancel_receive, s};
    struct away_server held = {begin_held, cancel_call, s};
    struct away_server tallies = {begin_tallies, cancel_tallies, s};
    away_serve(s->doors.away, AWAY_CALL, &call);
    away_serve(s->doors.away, AWAY_RECEIVE, &receive);
    away_serve(s->doors.away, AWAY_HELD, &held);
    away_serve(s->doors.away, AWAY_TALLIES, &tallies);
}
