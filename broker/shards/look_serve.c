/* SPDX-License-Identifier: Apache-2.0 */
/* The answering side of looks: each waits until this replica has seen all that was answered before
 * (look.h, L1), unless it leads. Where that fails another node is asked: nothing was changed. */
#include "broker/shards/look_message.h"

#include "proto/base/assert.h"

#include <stdlib.h>

struct looking {
    struct away_task *task;
    struct shards *shards;
    struct shard_sync sync;
    bool cancelled;
};

static void end(struct looking *looking, enum status status)
{
    struct shard *shard = shards_at(looking->shards, looking->task->shard);
    struct arena arena = {0};
    struct buffer bytes = {0};
    struct look_question question;
    if (looking->cancelled)
        status = STATUS_CANCELLED;
    else if (status != STATUS_OK || shard == NULL ||
             !look_question_decode(looking->task->request, &arena, &question))
        status = STATUS_NOT_LEADER;
    if (status == STATUS_OK) {
        look_answer(&bytes, shard_core(shard), &question);
        away_answer_moved(looking->task, &bytes);
    } else {
        away_answer(looking->task, status, (struct slice){0});
    }
    arena_free(&arena);
    free(looking);
}

static void on_synced(struct shard_sync *sync, enum status status)
{
    end(sync->data, status);
}

static void begin(void *data, struct away_task *task)
{
    struct shards *shards = data;
    struct shard *shard = shards_at(shards, task->shard);
    struct looking *looking = calloc(1, sizeof *looking);
    ASSERT(looking != NULL);
    looking->task = task;
    looking->shards = shards;
    task->state = looking;
    if (shard == NULL || !shard_ready(shard)) {
        end(looking, STATUS_NOT_LEADER);
    } else if (shard_leads(shard)) {
        end(looking, STATUS_OK);
    } else {
        looking->sync = (struct shard_sync){
            .done = on_synced,
            .data = looking,
            .since_ms = task->deadline_ms > SHARD_CALL_MS ? task->deadline_ms - SHARD_CALL_MS : 1};
        shard_sync(shard, &looking->sync);
    }
}

static void cancel(void *data, struct away_task *task)
{
    struct looking *looking = task->state;
    (void)data;
    looking->cancelled = true;
}

void look_serve(struct away *away, struct shards *shards)
{
    const struct away_server server = {.begin = begin, .cancel = cancel, .data = shards};
    away_serve(away, AWAY_LOOK, &server);
}

void look_serve_end(struct away *away)
{
    away_serve(away, AWAY_LOOK, NULL);
}
