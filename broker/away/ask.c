/* SPDX-License-Identifier: Apache-2.0 */
/* Questions of this node: whom they go to, and how they end.
 *
 * A question goes round the replicas that are connected. One that says NOT_LEADER, or that it did
 * not reach, is not asked again in this round; a round that found nobody is followed by the next at
 * the tick, until the deadline. Each time it has a new number, so what an earlier node still says
 * is not taken for the answer (A2).
 *
 * `done` runs from the loop, never within a call of the user: what ends within one waits in `ended`
 * for the timer. Only an answer is told at once, since its bytes are borrowed. */
#include "broker/away/internal.h"
#include "proto/base/assert.h"

#include <stdlib.h>
#include <utlist.h>

/* ---- ending ---- */

static void leave(struct asked *asked)
{
    struct away *away = asked->away;
    struct lane *lane = asked->lane;
    if (asked->state == ASKED_WAITING)
        DL_DELETE(away->waiting, asked);
    else if (asked->state == ASKED_SENT)
        HASH_DEL(away->sent, asked);
    else
        DL_DELETE(away->ended, asked);
    if (lane != NULL) {
        lane->waiting -= asked->state == ASKED_WAITING;
        lane->sent -= asked->state == ASKED_SENT;
    }
}

/* Out of all lists already. */
static void tell(struct asked *asked, enum status status, struct slice answer)
{
    struct away_question *question = asked->question;
    struct buffer kept = asked->answer;
    ASSERT(asked->letters == 0);
    asked->away->asked_count--;
    question->private_state = NULL;
    free(asked);
    question->done(question, status, answer);
    buffer_free(&kept);
}

/* It is in no list. */
static void end(struct asked *asked, enum status status)
{
    bool not_done = status == STATUS_NOT_LEADER || status == STATUS_BUSY;
    asked->state = ASKED_ENDED;
    asked->status = not_done && asked->perhaps ? STATUS_CLOSED : status;
    DL_APPEND(asked->away->ended, asked);
    away_soon(asked->away);
}

/* Again from the head each time: `done` may cancel others, and ask anew. */
void asked_tell(struct away *away)
{
    struct asked *asked = away->ended;
    while (asked != NULL) {
        if (asked->letters > 0) {
            asked = asked->next;
            continue;
        }
        DL_DELETE(away->ended, asked);
        tell(asked, asked->status, buffer_slice(&asked->answer));
        asked = away->ended;
    }
}

/* ---- asking ---- */

static bool was_tried(const struct asked *asked, uint64_t node_id)
{
    for (size_t i = 0; i < asked->tried_count; i++) {
        if (asked->tried[i] == node_id)
            return true;
    }
    return false;
}

/* The next one in this round; 0: none. */
static uint64_t choose(const struct asked *asked)
{
    const struct away_options *options = &asked->away->options;
    uint64_t nodes[AWAY_REPLICAS_MAX];
    size_t count =
        options->replicas(options->data, asked->question->shard, nodes, AWAY_REPLICAS_MAX);
    ASSERT(count <= AWAY_REPLICAS_MAX);
    if (asked->tried_count == AWAY_REPLICAS_MAX)
        return 0;
    for (size_t i = 0; i < count; i++) {
        if (nodes[i] != options->node_id && !was_tried(asked, nodes[i]) &&
            peers_connected(options->peers, nodes[i]))
            return nodes[i];
    }
    return 0;
}

/* choose_in_turn: as A5 wants it; and only where there is room, for one that finds none would be
 * overtaken by those behind it. */
static uint64_t choose_in_turn(const struct asked *asked)
{
    struct away *away = asked->away;
    const struct lane *lane = asked->lane;
    if (lane != NULL && lane->waiting > 0)
        return 0;
    bool with = lane != NULL && lane->sent > 0 && asked->tried_count < AWAY_REPLICAS_MAX &&
                !was_tried(asked, lane->node_id) &&
                peers_connected(away->options.peers, lane->node_id);
    uint64_t node_id = with ? lane->node_id : choose(asked);
    size_t unsent = node_id != 0 ? peers_unsent(away->options.peers, node_id) : 0;
    size_t bytes = AWAY_HEAD_BYTES + asked->question->request.length;
    if (unsent == 0 || unsent + bytes <= PEER_UNSENT_BYTES_MAX)
        return node_id;
    away->crowded = true;
    return 0;
}

static int by_place(const struct asked *a, const struct asked *b)
{
    return a->place < b->place ? -1 : a->place > b->place;
}

static void await(struct asked *asked)
{
    struct away *away = asked->away;
    asked->state = ASKED_WAITING;
    if (away->waiting == NULL || by_place(away->waiting->prev, asked) < 0)
        DL_APPEND(away->waiting, asked);
    else
        DL_INSERT_INORDER(away->waiting, asked, by_place);
    if (asked->lane != NULL)
        asked->lane->waiting++;
    away_tick_awake(away);
}

static void send_to(struct asked *asked, uint64_t node_id)
{
    struct away *away = asked->away;
    const struct away_question *question = asked->question;
    uint64_t now = away_now_ms(away);
    uint64_t rest = question->deadline_ms - now; /* > 0: go_on has looked */
    asked->state = ASKED_SENT;
    asked->node_id = node_id;
    asked->number = ++away->number;
    HASH_ADD(hh, away->sent, number, sizeof asked->number, asked);
    if (asked->lane != NULL) {
        asked->lane->sent++;
        asked->lane->node_id = node_id;
    }
    struct away_message head = {.type = AWAY_ASK,
                                .kind = (uint8_t)question->kind,
                                .shard = question->shard,
                                .number = asked->number,
                                .rest_ms = rest < UINT32_MAX ? (uint32_t)rest : UINT32_MAX};
    struct letter *letter = letter_new(away, node_id, &head);
    letter->asked = asked;
    asked->letters++;
    away_late_awake(away);
    letter_send(letter);
}

/* It is in no list: ask the next one, or wait for a round in which there is one. */
static void go_on(struct asked *asked)
{
    bool late = asked->question->deadline_ms <= away_now_ms(asked->away);
    uint64_t node_id = asked->cancelled || late ? 0 : choose_in_turn(asked);
    if (asked->cancelled)
        end(asked, STATUS_CANCELLED);
    else if (late)
        end(asked, STATUS_NOT_LEADER);
    else if (node_id != 0)
        send_to(asked, node_id);
    else
        await(asked);
}

static struct lane *lane_of(struct away *away, uint32_t shard)
{
    struct lane *lane;
    HASH_FIND(hh, away->lanes, &shard, sizeof shard, lane);
    if (lane != NULL)
        return lane;
    lane = calloc(1, sizeof *lane);
    ASSERT(lane != NULL);
    lane->shard = shard;
    HASH_ADD(hh, away->lanes, shard, sizeof lane->shard, lane);
    return lane;
}

void asked_free(struct away *away)
{
    struct lane *lane;
    struct lane *next;
    HASH_ITER(hh, away->lanes, lane, next)
    {
        HASH_DEL(away->lanes, lane);
        free(lane);
    }
}

void away_ask(struct away *away, struct away_question *question)
{
    struct asked *asked = calloc(1, sizeof *asked);
    ASSERT(asked != NULL);
    ASSERT(question->done != NULL);
    ASSERT(question->kind > 0 && question->kind < AWAY_KIND_COUNT);
    ASSERT(question->request.length <= AWAY_REQUEST_BYTES_MAX);
    asked->away = away;
    asked->question = question;
    asked->lane = question->ordered ? lane_of(away, question->shard) : NULL;
    asked->place = ++away->places;
    question->private_state = asked;
    away->asked_count++;
    if (away->closing)
        end(asked, STATUS_CLOSED);
    else if (away->options.peers == NULL)
        end(asked, STATUS_NOT_LEADER);
    else
        go_on(asked);
}

/* ---- what becomes of it ---- */

/* SENT, and certainly not done: by that node never. */
static void refused(struct asked *asked)
{
    leave(asked);
    asked->tried[asked->tried_count++] = asked->node_id;
    go_on(asked);
}

/* SENT, and nobody knows. */
static void lost(struct asked *asked)
{
    asked->perhaps = true;
    if (asked->question->repeatable || asked->cancelled) {
        refused(asked);
    } else {
        leave(asked);
        end(asked, STATUS_CLOSED);
    }
}

/* The network has no room: again when it has let go of something, or at the tick. */
static void crowded(struct asked *asked)
{
    leave(asked);
    if (asked->cancelled)
        end(asked, STATUS_CANCELLED);
    else
        await(asked);
    asked->away->crowded = true;
}

static void busy(struct asked *asked)
{
    leave(asked);
    end(asked, asked->cancelled ? STATUS_CANCELLED : STATUS_BUSY);
}

void asked_letter_done(struct letter *letter, enum status status)
{
    struct asked *asked = letter->asked;
    ASSERT(asked->letters > 0);
    asked->letters--;
    if (status == STATUS_OK && asked->away->crowded)
        away_tick_now(asked->away);
    bool current = asked->state == ASKED_SENT && asked->number == letter->number;
    if (current && status == STATUS_UNAVAILABLE)
        refused(asked);
    else if (current && status == STATUS_BUSY)
        crowded(asked);
    else if (current && status != STATUS_OK)
        lost(asked);
    else if (asked->state == ASKED_ENDED && asked->letters == 0)
        away_soon(asked->away);
}

static void answer(struct asked *asked, struct slice body)
{
    leave(asked);
    if (asked->letters == 0) {
        tell(asked, STATUS_OK, body);
        return;
    }
    buffer_add_slice(&asked->answer, body); /* the network has not said yet that it was sent */
    end(asked, STATUS_OK);
}

void asked_answered(struct away *away, uint64_t node_id, const struct away_message *message)
{
    struct asked *asked;
    HASH_FIND(hh, away->sent, &message->number, sizeof message->number, asked);
    if (asked == NULL || asked->node_id != node_id)
        return;
    switch (message->status) {
    case STATUS_OK:
        answer(asked, message->body);
        break;
    case STATUS_NOT_LEADER:
        refused(asked);
        break;
    case STATUS_BUSY:
        busy(asked);
        break;
    default:
        lost(asked);
    }
}

void asked_lost_node(struct away *away, uint64_t node_id)
{
    struct asked *asked;
    struct asked *next;
    HASH_ITER(hh, away->sent, asked, next)
    {
        if (asked->node_id == node_id)
            lost(asked);
    }
}

void asked_tick(struct away *away)
{
    struct asked *list = away->waiting;
    struct asked *waits;
    away->waiting = NULL;
    away->crowded = false;
    DL_FOREACH(list, waits)
    {
        if (waits->lane != NULL)
            waits->lane->waiting--;
    }
    while (list != NULL) {
        struct asked *asked = list;
        DL_DELETE(list, asked);
        asked->tried_count = 0;
        go_on(asked);
    }
}

/* ---- ending it early ---- */

static void send_cancel(struct asked *asked)
{
    struct away_message head = {.type = AWAY_CANCEL, .number = asked->number};
    letter_send(letter_new(asked->away, asked->node_id, &head));
}

void asked_late(struct away *away)
{
    uint64_t now_ms = away_now_ms(away);
    struct asked *asked;
    struct asked *next;
    HASH_ITER(hh, away->sent, asked, next)
    {
        if (now_ms < asked->question->deadline_ms + away->options.late_ms)
            continue;
        if (!asked->cancelled)
            send_cancel(asked);
        leave(asked);
        end(asked, STATUS_CLOSED);
    }
}

void away_cancel(struct away *away, struct away_question *question)
{
    struct asked *asked = question->private_state;
    if (asked == NULL || asked->cancelled || asked->state == ASKED_ENDED)
        return;
    asked->cancelled = true;
    ASSERT(asked->away == away);
    if (asked->state == ASKED_SENT) {
        send_cancel(asked);
    } else {
        leave(asked);
        end(asked, STATUS_CANCELLED);
    }
}

void asked_close(struct away *away)
{
    struct asked *asked;
    struct asked *next;
    DL_FOREACH_SAFE(away->waiting, asked, next)
    {
        leave(asked);
        end(asked, STATUS_CLOSED);
    }
    HASH_ITER(hh, away->sent, asked, next)
    {
        if (!asked->cancelled)
            send_cancel(asked);
        leave(asked);
        end(asked, STATUS_CLOSED);
    }
}
