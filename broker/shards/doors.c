/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/shards/doors.h"

#include "broker/shards/internal.h"
#include "proto/base/assert.h"

#include <utlist.h>

/* ---- asking ---- */

void door_ask(struct shards *s, struct door_asked *asked)
{
    asked->shards = s;
    asked->question.data = asked;
    if (s->doors.away == NULL) {
        DL_APPEND(s->doors.unasked, asked);
        doors_soon(s);
        return;
    }
    DL_APPEND(s->doors.asked, asked);
    away_ask(s->doors.away, &asked->question);
    if (s->doors.closing)
        away_cancel(s->doors.away, &asked->question);
}

void door_asked_ended(struct door_asked *asked)
{
    if (asked->shards->doors.away != NULL)
        DL_DELETE(asked->shards->doors.asked, asked);
}

void door_ask_cancel(struct door_asked *asked)
{
    if (asked->shards->doors.away != NULL)
        away_cancel(asked->shards->doors.away, &asked->question);
}

static void end_unasked(struct shards *s)
{
    struct door_asked *list = s->doors.unasked;
    struct door_asked *asked;
    struct door_asked *next;
    s->doors.unasked = NULL;
    DL_FOREACH_SAFE(list, asked, next)
    {
        DL_DELETE(list, asked);
        asked->question.done(&asked->question, STATUS_NOT_LEADER, (struct slice){0});
    }
}

/* ---- serving ---- */

void door_refuse(struct away_task *task, enum status status)
{
    away_answer(task, status, (struct slice){0});
}

bool doors_task_begins(struct shards *s, struct away_task *task)
{
    if (s->doors.closing) {
        door_refuse(task, STATUS_NOT_LEADER);
        return false;
    }
    s->doors.serving++;
    return true;
}

void doors_task_ended(struct shards *s)
{
    ASSERT(s->doors.serving > 0);
    s->doors.serving--;
}

/* ---- the timer ---- */

static void on_soon(uv_timer_t *timer)
{
    struct shards *s = timer->data;
    end_unasked(s);
    uint64_t rest_ms = glances_step(s);
    if (rest_ms > 0 && !uv_is_active((uv_handle_t *)timer))
        uv_timer_start(&s->doors.soon, on_soon, rest_ms, 0);
}

void doors_soon(struct shards *s)
{
    if (!uv_is_closing((uv_handle_t *)&s->doors.soon))
        uv_timer_start(&s->doors.soon, on_soon, 0, 0);
}

/* ---- the whole ---- */

void doors_open(struct shards *s, struct away *away)
{
    s->doors = (struct doors){.away = away};
    uv_timer_init(s->options.loop, &s->doors.soon);
    s->doors.soon.data = s;
    if (away == NULL)
        return;
    door_serve(s);
    glances_serve(s);
}

void doors_stop(struct shards *s)
{
    struct door_asked *asked;
    s->doors.closing = true;
    DL_FOREACH(s->doors.asked, asked)
    {
        away_cancel(s->doors.away, &asked->question);
    }
    glances_stop(s);
}

bool doors_ended(const struct shards *s)
{
    return s->doors.asked == NULL && s->doors.unasked == NULL && s->doors.serving == 0;
}

void doors_close(struct shards *s, uv_close_cb closed)
{
    static const enum away_kind kinds[] = {AWAY_CALL, AWAY_RECEIVE, AWAY_GLANCE, AWAY_TALLIES,
                                           AWAY_HELD};
    ASSERT(doors_ended(s));
    for (size_t i = 0; i < ARRAY_COUNT(kinds) && s->doors.away != NULL; i++)
        away_serve(s->doors.away, kinds[i], NULL);
    uv_close((uv_handle_t *)&s->doors.soon, closed);
}
