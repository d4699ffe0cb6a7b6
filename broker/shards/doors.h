/* SPDX-License-Identifier: Apache-2.0 */
/* What the doors of one node have under way: questions to other nodes, which end before the shards
 * are gone, and tasks for them. Nothing outside this folder includes it. thread: loop. */
#ifndef BROKER_SHARDS_DOORS_H
#define BROKER_SHARDS_DOORS_H

#include "broker/away/away.h"

#include <uv.h>

struct shards;
struct standing;

/* A question. `question` has all but `data` set, which is the asked; whoever asked it is around. */
struct door_asked {
    struct away_question question;
    struct shards *shards;
    struct door_asked *prev, *next;
};

struct doors {
    struct away *away; /* NULL: nobody is asked, and every question ends with NOT_LEADER */
    bool closing;
    struct door_asked *asked;   /* all */
    struct door_asked *unasked; /* those that are to end so */
    struct standing *standing;  /* glance.c */
    uint32_t serving;           /* tasks of other nodes */
    uv_timer_t soon;
};

/* doors_open: serve other nodes from now on. */
void doors_open(struct shards *shards, struct away *away);

/* doors_stop: begin nothing more; cancel what is asked, refuse what stands. doors_ended: nothing is
 * left. doors_close: then. */
void doors_stop(struct shards *shards);
bool doors_ended(const struct shards *shards);
void doors_close(struct shards *shards, uv_close_cb closed);

/* door_ask: ask it. Its `done` begins with door_asked_ended. */
void door_ask(struct shards *shards, struct door_asked *asked);
void door_asked_ended(struct door_asked *asked);
void door_ask_cancel(struct door_asked *asked);

/* door_refuse: end a task that was not done. doors_task_begins, _ended: count it. False: nothing is
 * served any more, and it was refused. */
void door_refuse(struct away_task *task, enum status status);
MUST_CHECK bool doors_task_begins(struct shards *shards, struct away_task *task);
void doors_task_ended(struct shards *shards);

/* glances_queue_ready: a queue of a shard here has messages. glances_step: look after what stands;
 * when to do it again, in ms, 0: nothing stands. glances_stop: end all. */
void glances_queue_ready(struct shards *shards, uint64_t queue_id);
uint64_t glances_step(struct shards *shards);
void glances_stop(struct shards *shards);

/* The servers of the kinds. */
void door_serve(struct shards *shards);
void glances_serve(struct shards *shards);

/* doors_soon: call glances_step in the next turn of the loop. */
void doors_soon(struct shards *shards);

#endif
