/* SPDX-License-Identifier: Apache-2.0 */
/* Questions of other nodes: each is handed to the server of its kind, and its answer sent. */
#include "broker/away/internal.h"
#include "proto/base/assert.h"

#include <stdlib.h>

#define REST_MS_MAX 3600000u

void away_serve(struct away *away, enum away_kind kind, const struct away_server *server)
{
    ASSERT(kind > 0 && kind < AWAY_KIND_COUNT);
    away->servers[kind] = server != NULL ? *server : (struct away_server){0};
}

static void send_answer(struct away *away, struct served_key to, enum status status,
                        struct buffer *answer)
{
    struct away_message head = {.type = AWAY_ANSWER, .status = status, .number = to.number};
    struct letter *letter = letter_new(away, to.node_id, &head);
    letter->answer = *answer;
    *answer = (struct buffer){0};
    letter_send(letter);
}

/* A3 */
static bool too_much(const struct away *away, size_t bytes)
{
    return HASH_COUNT(away->tasks) + away->answer_count >= away->options.tasks_max ||
           away->task_bytes + bytes > away->options.task_bytes_max;
}

/* So many answers wait for the network that even BUSY is too much: who asks, and does not read, is
 * late in the end. */
static bool is_flooded(const struct away *away)
{
    return away->answer_count / 2 >= away->options.tasks_max;
}

static struct served *served_new(struct away *away, struct served_key key,
                                 const struct away_message *message)
{
    struct served *served = calloc(1, sizeof *served + message->body.length);
    uint32_t rest_ms = message->rest_ms < REST_MS_MAX ? message->rest_ms : REST_MS_MAX;
    ASSERT(served != NULL);
    served->key = key;
    if (message->body.length > 0)
        memcpy(served->request, message->body.data, message->body.length);
    served->server = away->servers[message->kind];
    served->task = (struct away_task){
        .away = away,
        .node_id = key.node_id,
        .shard = message->shard,
        .request = slice_make(served->request, message->body.length),
        .deadline_ms = away_now_ms(away) + rest_ms,
    };
    away->task_bytes += message->body.length;
    HASH_ADD(hh, away->tasks, key, sizeof served->key, served);
    return served;
}

void served_asked(struct away *away, uint64_t node_id, const struct away_message *message)
{
    struct served_key key = {node_id, message->number};
    struct buffer nothing = {0};
    struct served *served;
    HASH_FIND(hh, away->tasks, &key, sizeof key, served);
    if (served != NULL || is_flooded(away))
        return; /* `served`: it came twice */
    if (away->closing || message->kind == 0 || away->servers[message->kind].begin == NULL) {
        send_answer(away, key, STATUS_NOT_LEADER, &nothing);
    } else if (too_much(away, message->body.length)) {
        send_answer(away, key, STATUS_BUSY, &nothing);
    } else {
        served = served_new(away, key, message);
        served->server.begin(served->server.data, &served->task);
    }
}

/* `answer` is moved. */
static void end(struct away_task *task, enum status status, struct buffer *answer)
{
    struct served *served = CONTAINER_OF(task, struct served, task);
    struct away *away = task->away;
    HASH_DEL(away->tasks, served);
    away->task_bytes -= task->request.length;
    if (!served->gone)
        send_answer(away, served->key, status, answer);
    buffer_free(answer);
    free(served);
    if (away->closing)
        away_soon(away);
}

void away_answer_moved(struct away_task *task, struct buffer *answer)
{
    bool fits = answer->length <= AWAY_REQUEST_BYTES_MAX;
    if (!fits)
        buffer_free(answer); /* it was done, and it cannot be told how */
    end(task, fits ? STATUS_OK : STATUS_CLOSED, answer);
}

void away_answer(struct away_task *task, enum status status, struct slice answer)
{
    struct buffer copy = {0};
    if (status == STATUS_OK)
        buffer_add_slice(&copy, answer);
    if (status == STATUS_OK)
        away_answer_moved(task, &copy);
    else
        end(task, status, &copy);
}

void served_cancelled(struct away *away, uint64_t node_id, uint64_t number)
{
    struct served_key key = {node_id, number};
    struct served *served;
    HASH_FIND(hh, away->tasks, &key, sizeof key, served);
    if (served == NULL || served->cancelled)
        return;
    served->cancelled = true;
    served->server.cancel(served->server.data, &served->task);
}

/* Those of this node (0: of all). A server may answer any task when it is told of one: so they are
 * looked up again by their keys. */
static void cancel_all(struct away *away, uint64_t node_id)
{
    struct served *served;
    struct served *next;
    struct served_key *keys = calloc(HASH_COUNT(away->tasks) + 1u, sizeof *keys);
    size_t count = 0;
    ASSERT(keys != NULL);
    HASH_ITER(hh, away->tasks, served, next)
    {
        if (node_id != 0 && served->key.node_id != node_id)
            continue;
        served->gone = true;
        keys[count++] = served->key;
    }
    for (size_t i = 0; i < count; i++)
        served_cancelled(away, keys[i].node_id, keys[i].number);
    free(keys);
}

void served_lost_node(struct away *away, uint64_t node_id)
{
    cancel_all(away, node_id);
}

void served_close(struct away *away)
{
    cancel_all(away, 0);
}
