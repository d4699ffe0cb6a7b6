/* SPDX-License-Identifier: Apache-2.0 */
/* The side of whoever asks. A receive has two steps here, the lease and the records; from another
 * node both come in one answer. */
#include "broker/shards/door.h"

#include "broker/shards/internal.h"
#include "proto/base/assert.h"

#include <stdlib.h>

static uint64_t deadline_of(const struct shards *s, uint64_t since_ms, uint64_t whole_ms)
{
    return (since_ms > 0 ? since_ms : shards_now_ms(s)) + whole_ms;
}

struct away *shards_away(const struct shards *shards)
{
    return shards->doors.away;
}

/* ---- commands ---- */

static void on_answered(struct away_question *question, enum status status, struct slice bytes)
{
    struct door_call *call = CONTAINER_OF(question, struct door_call, asked.question);
    struct arena arena = {0};
    struct call_answer answer = {0};
    door_asked_ended(&call->asked);
    buffer_free(&call->request);
    if (status == STATUS_OK) {
        bool good = call_answer_decode(bytes, &arena, &answer);
        good = good && (answer.outcome != OUTCOME_OK || answer.count == call->call.count);
        status = good ? outcome_status(answer.outcome) : STATUS_CLOSED;
    }
    bool done = status == STATUS_OK;
    call->call.done(&call->call, status == STATUS_CANCELLED ? STATUS_CLOSED : status,
                    done ? answer.results : NULL, done ? answer.count : 0);
    arena_free(&arena);
}

void door_call(struct shards *shards, uint32_t shard_id, struct door_call *call)
{
    struct shard *shard = shards_at(shards, shard_id);
    if (shard != NULL) {
        shard_call(shard, &call->call);
        return;
    }
    struct call_question question = {.count = call->call.count,
                                     .grows = call->call.grows,
                                     .commands = buffer_slice(&call->call.commands)};
    call->request = (struct buffer){0};
    call_question_encode(&call->request, &question);
    buffer_free(&call->call.commands);
    call->asked.question = (struct away_question){
        .shard = shard_id,
        .kind = AWAY_CALL,
        .request = buffer_slice(&call->request),
        .repeatable = call->repeatable,
        .deadline_ms = deadline_of(shards, call->call.since_ms, SHARD_CALL_MS),
        .done = on_answered};
    door_ask(shards, &call->asked);
}

/* ---- receiving here ---- */

/* Messages that nobody takes: visible again. What cannot be told to the shard, its lease ends. */
struct giving_back {
    struct door_call door;
};

static void on_given_back(struct shard_call *call, enum status status,
                          const struct core_result *results, uint32_t count)
{
    (void)status, (void)results, (void)count;
    free(call->data);
}

static void give_back(struct shards *shards, uint32_t shard_id, uint64_t queue_id,
                      const struct core_message *messages, uint32_t count)
{
    if (count == 0)
        return;
    struct giving_back *giving = calloc(1, sizeof *giving);
    ASSERT(giving != NULL);
    giving->door.call = (struct shard_call){.done = on_given_back, .data = giving};
    for (uint32_t i = 0; i < count; i++) {
        struct command command = {
            .type = COMMAND_CHANGE_VISIBILITY,
            .change_visibility = {.queue_id = queue_id,
                                  .lease = {messages[i].seq, messages[i].receive_count}}};
        shard_call_add(&giving->door.call, &command);
    }
    door_call(shards, shard_id, &giving->door);
}

static void receive_end(struct door_receive *receive, enum status status)
{
    if (receive->cancelled) {
        give_back(receive->asked.shards, receive->shard_id, receive->command.queue_id,
                  receive->messages, receive->count);
        door_receive_free(receive);
        status = STATUS_CANCELLED;
    }
    receive->done(receive, status);
}

static void on_read(struct shard_read *read, enum status status)
{
    struct door_receive *receive = read->data;
    receive->records = read->out;
    read->out = (struct buffer){0};
    receive_end(receive, status);
}

/* Recent records are in memory; one that is not sends all of them to the pool. */
static void read_records(struct door_receive *receive)
{
    struct shard *shard = receive->receive.shard; /* also while it is letting go of its place */
    for (uint32_t i = 0; i < receive->count; i++) {
        if (shard_read_now(shard, receive->refs[i], &receive->records))
            continue;
        buffer_clear(&receive->records);
        receive->read = (struct shard_read){.refs = receive->refs,
                                            .count = receive->count,
                                            .out = receive->records,
                                            .done = on_read,
                                            .data = receive};
        receive->records = (struct buffer){0};
        shard_read(shard, &receive->read);
        return;
    }
    receive_end(receive, STATUS_OK);
}

static void keep(struct door_receive *receive, const struct core_result *result)
{
    uint32_t count = result->message_count;
    receive->code = result->code;
    receive->count = count;
    if (count == 0)
        return;
    receive->messages = calloc(count, sizeof *receive->messages);
    receive->refs = calloc(count, sizeof *receive->refs);
    ASSERT(receive->messages != NULL && receive->refs != NULL);
    memcpy(receive->messages, result->messages, count * sizeof *receive->messages);
    for (uint32_t i = 0; i < count; i++)
        receive->refs[i] = receive->messages[i].body;
}

static void on_received(struct shard_receive *part, enum status status,
                        const struct core_result *result)
{
    struct door_receive *receive = part->data;
    if (status != STATUS_OK) {
        receive->done(receive, status);
        return;
    }
    keep(receive, result);
    if (receive->count == 0) {
        receive_end(receive, STATUS_OK);
        return;
    }
    receive->at_ms = core_now_ms(shard_core(part->shard));
    receive->reading = true;
    if (receive->leased != NULL)
        receive->leased(receive, STATUS_OK);
    read_records(receive);
}

/* ---- receiving elsewhere ---- */

static void take_answer(struct door_receive *receive, const struct receive_answer *answer)
{
    keep(receive, &answer->result);
    receive->at_ms = answer->now_ms;
    buffer_add_slice(&receive->records, answer->records);
    if (receive->count > 0 && receive->leased != NULL && !receive->cancelled)
        receive->leased(receive, STATUS_OK);
    receive_end(receive, outcome_status(answer->outcome));
}

static void on_receive_answered(struct away_question *question, enum status status,
                                struct slice bytes)
{
    struct door_receive *receive = CONTAINER_OF(question, struct door_receive, asked.question);
    struct arena arena = {0};
    struct receive_answer answer;
    door_asked_ended(&receive->asked);
    buffer_free(&receive->request);
    if (status == STATUS_OK && receive_answer_decode(bytes, &arena, &answer))
        take_answer(receive, &answer);
    else
        receive_end(receive, status == STATUS_OK ? STATUS_CLOSED : status);
    arena_free(&arena);
}

static void receive_away(struct door_receive *receive)
{
    struct receive_question question = {.command = receive->command, .wait_ms = receive->wait_ms};
    receive_question_encode(&receive->request, &question);
    receive->asked.question = (struct away_question){
        .shard = receive->shard_id,
        .kind = AWAY_RECEIVE,
        .request = buffer_slice(&receive->request),
        .deadline_ms = deadline_of(receive->asked.shards, 0, receive->wait_ms + SHARD_CALL_MS),
        .done = on_receive_answered};
    door_ask(receive->asked.shards, &receive->asked);
}

/* ---- receiving ---- */

void door_receive(struct shards *shards, uint32_t shard_id, struct door_receive *receive)
{
    struct shard *shard = shards_at(shards, shard_id);
    receive->asked.shards = shards;
    receive->shard_id = shard_id;
    receive->code = CORE_OK;
    receive->count = 0;
    receive->at_ms = 0;
    receive->messages = NULL;
    receive->refs = NULL;
    receive->cancelled = receive->reading = false;
    receive->records = receive->request = (struct buffer){0};
    receive->receive = (struct shard_receive){.command = receive->command,
                                              .wait_ms = receive->wait_ms,
                                              .done = on_received,
                                              .data = receive};
    if (shard != NULL)
        shard_receive(shard, &receive->receive);
    else
        receive_away(receive);
}

void door_receive_cancel(struct door_receive *receive)
{
    bool asked = receive->request.data != NULL;
    if (receive->cancelled)
        return;
    receive->cancelled = true;
    if (asked)
        door_ask_cancel(&receive->asked);
    else if (!receive->reading)
        shard_receive_cancel(receive->receive.shard, &receive->receive);
}

void door_receive_free(struct door_receive *receive)
{
    free(receive->messages);
    free(receive->refs);
    receive->messages = NULL;
    receive->refs = NULL;
    receive->count = 0;
    buffer_free(&receive->records);
}

/* ---- leases ---- */

static void on_synced(struct shard_sync *sync, enum status status)
{
    struct door_held *held = sync->data;
    const struct held_question *leases = &held->leases;
    const struct shard *shard = shards_at(held->asked.shards, held->shard_id);
    bool yes = false;
    if (status == STATUS_OK && shard == NULL)
        status = STATUS_NOT_LEADER;
    for (uint32_t i = 0; i < leases->count && status == STATUS_OK && !yes; i++)
        yes = core_lease_held(shard_core(shard), leases->queue_id, leases->leases[i]);
    held->done(held, status, yes);
}

static void on_held_answered(struct away_question *question, enum status status, struct slice bytes)
{
    struct door_held *held = CONTAINER_OF(question, struct door_held, asked.question);
    bool yes = false;
    door_asked_ended(&held->asked);
    buffer_free(&held->request);
    if (status == STATUS_OK && !held_answer_decode(bytes, &yes))
        status = STATUS_CLOSED;
    held->done(held, status, yes);
}

void door_held(struct shards *shards, uint32_t shard_id, struct door_held *held)
{
    struct shard *shard = shards_at(shards, shard_id);
    held->asked.shards = shards;
    held->shard_id = shard_id;
    held->request = (struct buffer){0};
    if (shard != NULL) {
        held->sync = (struct shard_sync){.done = on_synced, .data = held};
        shard_sync(shard, &held->sync);
        return;
    }
    held_question_encode(&held->request, &held->leases);
    held->asked.question =
        (struct away_question){.shard = shard_id,
                               .kind = AWAY_HELD,
                               .request = buffer_slice(&held->request),
                               .repeatable = true,
                               .deadline_ms = deadline_of(shards, 0, SHARD_CALL_MS),
                               .done = on_held_answered};
    door_ask(shards, &held->asked);
}

/* ---- how queues are ---- */

static void on_glance(struct away_question *question, enum status status, struct slice bytes)
{
    struct door_glance *glance = CONTAINER_OF(question, struct door_glance, asked.question);
    struct arena arena = {0};
    struct glance_news *news = NULL;
    uint32_t count = 0;
    door_asked_ended(&glance->asked);
    buffer_free(&glance->request);
    if (status == STATUS_OK && !glance_answer_decode(bytes, glance->count, &arena, &news, &count)) {
        status = STATUS_CLOSED;
        count = 0;
    }
    glance->done(glance, status, news, count);
    arena_free(&arena);
}

void door_glance(struct shards *shards, uint32_t shard_id, struct door_glance *glance)
{
    glance->asked.question =
        (struct away_question){.shard = shard_id,
                               .kind = AWAY_GLANCE,
                               .request = buffer_slice(&glance->request),
                               .repeatable = true,
                               .deadline_ms = deadline_of(shards, 0, SHARD_CALL_MS),
                               .done = on_glance};
    door_ask(shards, &glance->asked);
}

void door_glance_cancel(struct door_glance *glance)
{
    door_ask_cancel(&glance->asked);
}
