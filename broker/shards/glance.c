/* SPDX-License-Identifier: Apache-2.0 */
/* Answering who keeps an eye on queues of a shard that it has not (struct door_glance). A question
 * stands until there is something to tell, or its hold_ms are over: a queue is not as its mark
 * says, and GLANCE_PACE_MS have gone by since the question came. That a queue of the shard has
 * messages (queue_ready) makes one look at once, if it has not just done so; all else is found by
 * looking every LOOK_MS. */
#include "broker/shards/door.h"

#include "broker/shards/internal.h"
#include "proto/base/assert.h"

#include <stdlib.h>
#include <utlist.h>

#define LOOK_MS     50u
#define HOLD_MS_MAX 10000u

struct standing {
    struct away_task *task;
    struct shards *shards;
    struct glance_question question;
    struct arena arena;
    bool hinted; /* a queue of its shard has messages: worth a look */
    bool due;
    uint64_t begun_ms;
    uint64_t looked_ms;
    struct standing *prev, *next;
};

static bool look(const struct shard *shard, const struct glance_item *item, struct glance *out)
{
    struct queue_view view;
    bool there = core_queue_by_name(shard_core(shard), item->name, &view);
    *out = glance_of(there ? &view : NULL);
    return out->mark != item->mark;
}

static bool differs(const struct shard *shard, const struct standing *standing)
{
    struct glance glance;
    for (uint32_t i = 0; i < standing->question.count; i++) {
        if (look(shard, &standing->question.items[i], &glance))
            return true;
    }
    return false;
}

/* ---- ends ---- */

static void end(struct standing *standing)
{
    DL_DELETE(standing->shards->doors.standing, standing);
    arena_free(&standing->arena);
    doors_task_ended(standing->shards);
    free(standing);
}

static void refuse(struct standing *standing, enum status status)
{
    door_refuse(standing->task, status);
    end(standing);
}

static void answer(struct standing *standing, const struct shard *shard)
{
    struct buffer bytes = {0};
    struct glance glance;
    glance_answer_begin(&bytes);
    for (uint32_t i = 0; i < standing->question.count; i++) {
        if (look(shard, &standing->question.items[i], &glance))
            glance_answer_add(&bytes, i, &glance);
    }
    away_answer_moved(standing->task, &bytes);
    end(standing);
}

/* ---- standing ---- */

static bool worth_a_look(const struct standing *standing, uint64_t now_ms)
{
    return !standing->due &&
           now_ms >= standing->looked_ms + (standing->hinted ? GLANCE_PACE_MS : LOOK_MS);
}

/* One step for one of them; true: it has ended. */
static bool step(struct standing *standing)
{
    const struct shard *shard = shards_at(standing->shards, standing->task->shard);
    uint64_t now_ms = shards_now_ms(standing->shards);
    uint64_t age_ms = now_ms - standing->begun_ms;
    if (shard == NULL || !shard_ready(shard)) {
        refuse(standing, STATUS_NOT_LEADER);
        return true;
    }
    if (worth_a_look(standing, now_ms)) {
        standing->looked_ms = now_ms;
        standing->hinted = false;
        standing->due = differs(shard, standing);
    }
    if (age_ms < standing->question.hold_ms && (!standing->due || age_ms < GLANCE_PACE_MS))
        return false;
    answer(standing, shard);
    return true;
}

uint64_t glances_step(struct shards *s)
{
    struct standing *standing;
    struct standing *next;
    uint64_t rest_ms = LOOK_MS;
    DL_FOREACH_SAFE(s->doors.standing, standing, next)
    {
        if (!step(standing) && (standing->due || standing->hinted))
            rest_ms = GLANCE_PACE_MS;
    }
    return s->doors.standing != NULL ? rest_ms : 0;
}

void glances_queue_ready(struct shards *s, uint64_t queue_id)
{
    struct standing *standing;
    bool any = false;
    DL_FOREACH(s->doors.standing, standing)
    {
        if (standing->task->shard == shard_of_queue_id(queue_id) && !standing->hinted)
            any = standing->hinted = true;
    }
    if (any)
        doors_soon(s); /* not from within what told us, which may be in the middle of an entry */
}

/* ---- the server ---- */

static void begin(void *data, struct away_task *task)
{
    struct shards *s = data;
    struct shard *shard = shards_at(s, task->shard);
    if (!doors_task_begins(s, task))
        return;
    struct standing *standing = calloc(1, sizeof *standing);
    ASSERT(standing != NULL);
    *standing = (struct standing){.task = task, .shards = s, .begun_ms = shards_now_ms(s)};
    task->state = standing;
    DL_APPEND(s->doors.standing, standing);
    bool good = glance_question_decode(task->request, &standing->arena, &standing->question) &&
                standing->question.hold_ms <= HOLD_MS_MAX;
    if (!good || shard == NULL) {
        refuse(standing, good ? STATUS_NOT_LEADER : STATUS_BUSY);
        return;
    }
    if (!step(standing))
        doors_soon(s);
}

static void cancel(void *data, struct away_task *task)
{
    (void)data;
    refuse(task->state, STATUS_CANCELLED);
}

void glances_stop(struct shards *s)
{
    struct standing *standing;
    struct standing *next;
    DL_FOREACH_SAFE(s->doors.standing, standing, next)
    {
        refuse(standing, STATUS_NOT_LEADER);
    }
}

void glances_serve(struct shards *s)
{
    struct away_server server = {begin, cancel, s};
    away_serve(s->doors.away, AWAY_GLANCE, &server);
}
