/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share.
 *
 *     away.c    opens and closes; messages and connections come in here
 *     ask.c     questions of this node
 *     serve.c   questions of others
 *     letter.c  messages on their way out
 *     wire.c    their bytes */
#ifndef BROKER_AWAY_INTERNAL_H
#define BROKER_AWAY_INTERNAL_H

#include "broker/away/away.h"
#include "broker/away/wire.h"

#include <uthash.h>

/* A question here:
 *     WAITING --a replica is connected--> SENT --ANSWER--> ENDED --no letter borrows it--> done
 *        ^                                 |
 *        └── not done, or repeatable ──────┘
 * in `waiting`, in `sent` by its number, or in `ended`, accordingly. */
enum asked_state { ASKED_WAITING, ASKED_SENT, ASKED_ENDED };

struct asked {
    struct away *away;
    struct lane *lane; /* NULL: it has no order */
    uint64_t place;    /* among the questions of this node */
    struct away_question *question;
    enum asked_state state;
    uint64_t number, node_id;          /* of SENT */
    uint64_t tried[AWAY_REPLICAS_MAX]; /* in this round: they did not take it */
    size_t tried_count;
    uint32_t letters; /* on their way, with the request's bytes */
    bool cancelled;
    bool perhaps;       /* one that was asked may have done it */
    enum status status; /* of ENDED */
    struct buffer answer;
    struct asked *prev, *next;
    UT_hash_handle hh;
};

/* A5: the ordered questions about one shard. */
struct lane {
    uint32_t shard;
    uint32_t waiting, sent;
    uint64_t node_id; /* that the last one was sent to */
    UT_hash_handle hh;
};

/* A question of another node here, until it is answered. */
struct served_key {
    uint64_t node_id, number;
};

struct served {
    struct away_task task;
    struct served_key key;
    struct away_server server; /* a copy */
    bool gone;                 /* nobody waits for the answer */
    bool cancelled;            /* and its server knows */
    UT_hash_handle hh;
    uint8_t request[];
};

/* One message on its way; frees itself. */
struct letter {
    struct peer_send send;
    struct iovec parts[2];
    uint8_t head[AWAY_HEAD_BYTES];
    struct away *away;
    uint64_t node_id;
    uint64_t number;
    bool answers;
    struct asked *asked;        /* whose request it carries, or NULL; */
    struct buffer answer;       /* or what it owns */
    struct letter *prev, *next; /* in `delayed` */
};

struct away {
    struct away_options options;
    struct away_server servers[AWAY_KIND_COUNT];
    uint64_t number;       /* the last one asked under */
    uint64_t places;       /* given to questions */
    struct lane *lanes;    /* by shard; there are few */
    uv_timer_t tick, soon; /* tick: while something waits; soon: ends what has ended */
    uv_timer_t late;       /* while something is sent: ends what nobody answers */
    struct asked *waiting, *ended;
    struct asked *sent; /* by number */
    uint32_t asked_count;
    bool crowded;         /* some of those that wait found no room in the network */
    struct served *tasks; /* by node and number */
    size_t task_bytes;    /* requests, and answers that are not sent */
    struct letter *delayed;
    uint32_t letter_count;
    uint32_t answer_count; /* of those, the ones with answers */
    bool closing;
    void (*closed)(void *data);
    void *closed_data;
};

static inline uint64_t away_now_ms(const struct away *away)
{
    return uv_now(away->options.loop);
}

/* away_tick_awake: something waits for the tick. away_late_awake: something is sent. away_tick_now:
 * for it to come now. away_soon: something has ended and is to be told, or may have been the last.
 */
void away_tick_awake(struct away *away);
void away_late_awake(struct away *away);
void away_tick_now(struct away *away);
void away_soon(struct away *away);

/* ---- letter.c ---- */

/* letter_new: with this head; the rest is the caller's to fill in before letter_send. */
struct letter *letter_new(struct away *away, uint64_t node_id, const struct away_message *head);
void letter_send(struct letter *letter);
/* letters_again: send what the network had no room for. */
void letters_again(struct away *away);

/* ---- ask.c ---- */

void asked_letter_done(struct letter *letter, enum status status);
void asked_answered(struct away *away, uint64_t node_id, const struct away_message *message);
void asked_lost_node(struct away *away, uint64_t node_id);
/* asked_tick: let all that wait try again; those that are late end. */
void asked_tick(struct away *away);
/* asked_late: those that nobody answered end; a node that does not know what it is asked, or hangs.
 */
void asked_late(struct away *away);
void asked_close(struct away *away);
void asked_free(struct away *away);
/* asked_tell: run `done` of what has ended. */
void asked_tell(struct away *away);

/* ---- serve.c ---- */

void served_asked(struct away *away, uint64_t node_id, const struct away_message *message);
void served_cancelled(struct away *away, uint64_t node_id, uint64_t number);
void served_lost_node(struct away *away, uint64_t node_id);
void served_close(struct away *away);

#endif
