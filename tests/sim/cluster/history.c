/* SPDX-License-Identifier: Apache-2.0 */
/* The promises, and how each is judged from what was seen:
 *
 *   lost       what was acknowledged is deleted by someone in the end, or was purged
 *   invented   what was delivered was sent, to that queue or to one that it is the dead-letter
 *              queue of, by a call that was not refused and was no duplicate; once, as one message
 *   count      receive counts grow with every receive, and stop where the redrive policy says
 *   early      a lease lasts as long as was asked for; a delay too
 *   time       cluster time runs no faster than real time, by more than it may
 *   deleted    what was deleted, or purged, is not delivered again
 *   order      of a FIFO group: first deliveries, and those of one receive, in order of sending;
 *              messages stand in the order in which one process took them
 *   blocking   of a FIFO group: nothing is delivered while another receive holds some of it
 *   dedup      an id is accepted once in five minutes
 *   behind     who asks to see all that was answered before sees it
 *
 * Calls overlap, so a breach is one only if no order of what overlapped would make it right. What a
 * call did, it did between its begin and its answer; without an answer, at any time after. */
#include "tests/sim/cluster/history.h"

#include "tests/sim/cluster/world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUEUES_MAX 8
#define WINDOW_NS  (299 * SECOND) /* of 300: clocks drift */
#define DRIFT_PPM  100u
#define SLEW_PPM   800u /* of cluster time, and the drift of two clocks */
#define HANDOVER_MS                                                                                \
    60u             /* what a node saved of cluster time may be off by that, docs/replication.md */
#define SLACK_MS 2u /* both are whole milliseconds */

struct look {
    int queue;
    uint64_t called_ns;
    uint64_t sent_total;
};

static struct queue_promise queues[QUEUES_MAX];
static struct sent *sents;
static size_t sent_count;
static size_t sent_capacity;
static struct delivery *deliveries;
static size_t delivery_count;
static size_t delivery_capacity;
static struct settled *settleds;
static size_t settled_count;
static size_t settled_capacity;
static struct look *looks;
static size_t look_count;
static size_t look_capacity;
static uint32_t receives;

/* ---- writing it down ---- */

static void *grow(void *list, size_t count, size_t *capacity, size_t each)
{
    if (count < *capacity)
        return list;
    *capacity = *capacity * 2 + 256;
    list = realloc(list, *capacity * each);
    if (list == NULL)
        abort();
    return list;
}

void history_queue(int number, struct queue_promise promise)
{
    queues[number] = promise;
}

uint32_t history_send(struct sent sent)
{
    sents = grow(sents, sent_count, &sent_capacity, sizeof *sents);
    sents[sent_count] = sent;
    return (uint32_t)sent_count++;
}

struct sent *history_sent(uint32_t label)
{
    return label < sent_count ? &sents[label] : NULL;
}

uint32_t history_settle(struct settled settled)
{
    settleds = grow(settleds, settled_count, &settled_capacity, sizeof *settleds);
    settleds[settled_count] = settled;
    return (uint32_t)settled_count++;
}

struct settled *history_settled(uint32_t number)
{
    return &settleds[number];
}

bool history_purged(int queue, uint64_t since_ns)
{
    for (size_t i = 0; i < settled_count; i++) {
        const struct settled *s = &settleds[i];
        bool before = s->outcome == OUTCOME_DONE && s->answered_ns < since_ns;
        if (s->kind == SETTLE_PURGE && s->queue == queue && s->outcome != OUTCOME_NOT_DONE &&
            !before)
            return true;
    }
    return false;
}

uint32_t history_receive(void)
{
    return receives++;
}

void history_deliver(struct delivery delivery)
{
    deliveries = grow(deliveries, delivery_count, &delivery_capacity, sizeof *deliveries);
    deliveries[delivery_count++] = delivery;
}

void history_look(int queue, uint64_t called_ns, uint64_t sent_total)
{
    looks = grow(looks, look_count, &look_capacity, sizeof *looks);
    looks[look_count++] = (struct look){queue, called_ns, sent_total};
}

/* ---- helpers ---- */

/* taken_ms: the cluster time at which the receive took it. */
static uint64_t taken_ms(const struct delivery *d)
{
    return d->until_ms - (uint64_t)d->visibility_s * 1000;
}

static bool surely_before(const struct delivery *a, const struct delivery *b)
{
    return a->answered_ns < b->called_ns || taken_ms(a) < taken_ms(b);
}

/* may_settle: could something of `kinds` have settled delivery `d` before `until_ns`? */
static bool may_settle(const struct delivery *d, unsigned kinds, uint64_t until_ns)
{
    for (size_t i = 0; i < settled_count; i++) {
        const struct settled *s = &settleds[i];
        if ((kinds & (1u << s->kind)) == 0 || s->queue != d->queue ||
            s->outcome == OUTCOME_NOT_DONE || s->called_ns > until_ns)
            continue;
        bool over = s->outcome == OUTCOME_DONE && s->answered_ns < d->called_ns;
        if (!over && (s->label == d->label || s->kind == SETTLE_PURGE))
            return true;
    }
    return false;
}

__attribute__((noreturn)) static void breach(const char *what, const struct delivery *a,
                                             const struct delivery *b)
{
    char other[160] = "";
    if (b != NULL)
        snprintf(other, sizeof other,
                 "; and message %u, seq %" PRIu64 ", count %u, taken at %" PRIu64 " until %" PRIu64
                 ", answered %.6f s",
                 b->label, b->seq, b->receive_count, taken_ms(b), b->until_ms,
                 (double)b->answered_ns / 1e9);
    sim_fail("%s: queue %d, message %u, seq %" PRIu64 ", count %u, taken at %" PRIu64
             " until %" PRIu64 ", called %.6f s, answered %.6f s%s",
             what, a->queue, a->label, a->seq, a->receive_count, taken_ms(a), a->until_ms,
             (double)a->called_ns / 1e9, (double)a->answered_ns / 1e9, other);
}

/* ---- each delivery by itself ---- */

static void judge_origin(const struct delivery *d)
{
    const struct sent *sent = history_sent(d->label);
    if (sent == NULL || sent->called_ns > d->answered_ns)
        breach("invented: it was not sent", d, NULL);
    if (sent->outcome == OUTCOME_NOT_DONE)
        breach("invented: its send was refused", d, NULL);
    if (sent->outcome == OUTCOME_DONE && sent->duplicate)
        breach("invented: its send was answered as a duplicate", d, NULL);
    if (d->queue != sent->queue && d->queue != queues[sent->queue].dead_letter)
        breach("invented: it was sent to another queue", d, NULL);
    if (d->queue == sent->queue && sent->outcome == OUTCOME_DONE && d->seq != sent->seq)
        breach("invented: the send was answered with another sequence number", d, NULL);
    if (d->queue == sent->queue && taken_ms(d) < d->sent_ms + (uint64_t)sent->delay_s * 1000)
        breach("early: its delay was not over", d, NULL);
}

static void judge_gone(const struct delivery *d)
{
    const struct sent *sent = history_sent(d->label);
    for (size_t i = 0; i < settled_count; i++) {
        const struct settled *s = &settleds[i];
        if (s->queue != d->queue || !s->took || s->answered_ns >= d->called_ns)
            continue;
        if (s->kind == SETTLE_DELETE && s->label == d->label)
            breach("deleted: it was delivered after that", d, NULL);
        if (s->kind == SETTLE_PURGE && sent->queue == d->queue && sent->outcome == OUTCOME_DONE &&
            sent->answered_ns < s->called_ns)
            breach("deleted: it was delivered after a purge", d, NULL);
    }
}

/* ---- pairs of deliveries ---- */

/* judge_real_lease: the same lease by the clock on the wall. */
static void judge_real_lease(const struct delivery *a, const struct delivery *b)
{
    uint64_t lease_ms = (uint64_t)a->visibility_s * 1000;
    uint64_t real_ms = b->answered_ns > a->called_ns ? (b->answered_ns - a->called_ns) / MS : 0;
    if (a->receive_count < b->receive_count && a->called_epoch == b->epoch &&
        real_ms + lease_ms / 1000 + HANDOVER_MS < lease_ms &&
        !may_settle(a, 1u << SETTLE_VISIBILITY, b->answered_ns))
        breach("early: it was delivered again too soon", a, b);
}

static void judge_same(const struct delivery *a, const struct delivery *b)
{
    /* In the dead-letter queue of a FIFO queue, and only there, its retention begins anew. */
    if (a->sent_ms != b->sent_ms && (a->queue == b->queue || !queues[a->queue].fifo))
        breach("invented: its time of sending has changed", a, b);
    if (a->queue != b->queue)
        return;
    if (a->seq != b->seq)
        breach("invented: one send became two messages", a, b);
    if (a->receive_count == b->receive_count)
        breach("count: two receives had the same", a, b);
    if (surely_before(a, b) && a->receive_count > b->receive_count)
        breach("count: it went back", a, b);
    if (a->receive_count < b->receive_count && taken_ms(b) < a->until_ms &&
        !may_settle(a, 1u << SETTLE_VISIBILITY, b->answered_ns))
        breach("early: it was delivered again before its lease ended", a, b);
    judge_real_lease(a, b);
}

static void judge_group(const struct delivery *a, const struct delivery *b)
{
    const struct sent *sent = history_sent(a->label);
    const struct sent *other = history_sent(b->label);
    if (!queues[a->queue].fifo || a->queue != b->queue || sent->group != other->group)
        return;
    bool first = a->receive_count == 1 && b->receive_count == 1;
    if (first && surely_before(a, b) && a->receive != b->receive && a->seq > b->seq)
        breach("order: it overtook another of its group", a, b);
    if (a->receive == b->receive && a->place < b->place && a->seq > b->seq)
        breach("order: one receive gave a group out of order", a, b);
    if (a->receive != b->receive && surely_before(a, b) && taken_ms(b) < a->until_ms &&
        taken_ms(a) <= taken_ms(b) && !may_settle(a, ~0u, b->answered_ns))
        breach("blocking: another of its group was delivered while it was in flight", a, b);
}

/* judge_clock: clocks that are right are never overtaken. */
static void judge_clock(const struct delivery *d)
{
    uint64_t real_ms = d->answered_ns / MS;
    if (!world.faults[FAULT_WALL] &&
        taken_ms(d) > WALL_EPOCH_MS + real_ms + real_ms * DRIFT_PPM / 1000000 + SLACK_MS)
        breach("time: cluster time is ahead of all clocks", d, NULL);
}

/* judge_time: not when everything was down in between: then the clocks say what time it is. */
static void judge_time(const struct delivery *a, const struct delivery *b)
{
    if (taken_ms(b) <= taken_ms(a) || a->called_epoch != b->epoch)
        return;
    uint64_t real_ms = b->answered_ns > a->called_ns ? (b->answered_ns - a->called_ns) / MS : 0;
    if (taken_ms(b) - taken_ms(a) > real_ms + real_ms * SLEW_PPM / 1000000 + HANDOVER_MS)
        breach("time: cluster time ran faster than real time", a, b);
}

static void judge_deliveries(void)
{
    for (size_t i = 0; i < delivery_count; i++) {
        const struct delivery *a = &deliveries[i];
        judge_origin(a);
        judge_clock(a);
        judge_gone(a);
        uint32_t most = queues[a->queue].receive_count_max;
        if (a->receive_count == 0 || (most > 0 && a->receive_count > most))
            breach("count: more than the redrive policy allows", a, NULL);
        for (size_t j = 0; j < delivery_count; j++) {
            const struct delivery *b = &deliveries[j];
            if (i == j)
                continue;
            if (a->label == b->label)
                judge_same(a, b);
            else if (a->queue == b->queue && a->seq == b->seq)
                breach("invented: two messages share a sequence number", a, b);
            else
                judge_group(a, b);
            judge_time(a, b);
        }
    }
}

/* ---- sends ---- */

static const struct delivery *first_delivery(uint32_t label)
{
    const struct delivery *first = NULL;
    for (size_t i = 0; i < delivery_count; i++) {
        if (deliveries[i].label == label &&
            (first == NULL || deliveries[i].answered_ns < first->answered_ns))
            first = &deliveries[i];
    }
    return first;
}

/* stored_by: it is certain that the send stored a message, at *latest_ns at the latest. */
static bool stored_by(uint32_t label, uint64_t *latest_ns)
{
    const struct sent *sent = &sents[label];
    const struct delivery *first = first_delivery(label);
    *latest_ns = sent->answered_ns;
    if (sent->outcome == OUTCOME_DONE)
        return !sent->duplicate;
    if (first != NULL)
        *latest_ns = first->answered_ns;
    return first != NULL;
}

static bool same_id(const struct sent *x, const struct sent *y)
{
    return x->queue == y->queue && x->dedup == y->dedup && x->dedup != 0 &&
           (!queues[x->queue].dedup_by_group || x->group == y->group);
}

static void judge_pair(uint32_t i, uint32_t j)
{
    const struct sent *x = &sents[i];
    const struct sent *y = &sents[j];
    uint64_t x_ns;
    uint64_t y_ns;
    bool both = x->outcome == OUTCOME_DONE && y->outcome == OUTCOME_DONE && !x->duplicate &&
                !y->duplicate && x->queue == y->queue;
    if (both && x->seq == y->seq)
        sim_fail("invented: sends %u and %u were answered with the same sequence number", i, j);
    if (both && x->answered_ns < y->called_ns && x->seq > y->seq)
        sim_fail("order: send %u was answered before send %u began, and stands behind it", i, j);
    bool in_turn = x->process == y->process && x->taken < y->taken; /* on links that keep order */
    if (both && in_turn && !world.faults[FAULT_DISORDER] && x->seq > y->seq)
        sim_fail("order: send %u came to a process before send %u, and stands behind it", i, j);
    if (!same_id(x, y) || !stored_by(i, &x_ns) || !stored_by(j, &y_ns))
        return;
    uint64_t last = x_ns > y_ns ? x_ns : y_ns;
    uint64_t first = x->called_ns < y->called_ns ? x->called_ns : y->called_ns;
    /* If all were down in between, the clocks say what time it is, and they may be wrong. */
    bool clocks = world.faults[FAULT_WALL] && world.epoch > 0;
    if (last - first < WINDOW_NS && !clocks)
        sim_fail("dedup: sends %u and %u have the same id and were both stored, queue %d", i, j,
                 x->queue);
}

static void judge_duplicate(uint32_t label)
{
    const struct sent *y = &sents[label];
    for (uint32_t i = 0; i < sent_count; i++) {
        const struct sent *x = &sents[i];
        bool done = x->outcome == OUTCOME_DONE;
        if (i != label && same_id(x, y) && x->called_ns <= y->answered_ns &&
            x->outcome != OUTCOME_NOT_DONE && (!done || (!x->duplicate && x->seq == y->seq)))
            return;
    }
    sim_fail("dedup: send %u was answered as a duplicate of nothing", label);
}

/* may_be_gone: someone deleted it, or may have; or it was purged, there or in the dead-letter
 * queue. */
static bool may_be_gone(uint32_t label)
{
    const struct sent *sent = &sents[label];
    for (size_t i = 0; i < settled_count; i++) {
        const struct settled *s = &settleds[i];
        bool may = s->took || s->outcome == OUTCOME_UNKNOWN || s->outcome == OUTCOME_OPEN;
        if (!may)
            continue;
        if (s->kind == SETTLE_DELETE && s->label == label)
            return true;
        bool after = s->outcome != OUTCOME_DONE || s->answered_ns > sent->called_ns;
        if (s->kind == SETTLE_PURGE && after &&
            (s->queue == sent->queue || s->queue == queues[sent->queue].dead_letter))
            return true;
    }
    return false;
}

static void judge_sends(void)
{
    for (uint32_t i = 0; i < sent_count; i++) {
        const struct sent *sent = &sents[i];
        bool done = sent->outcome == OUTCOME_DONE;
        if (done && sent->duplicate)
            judge_duplicate(i);
        if (done && !sent->duplicate && !may_be_gone(i))
            sim_fail("lost: send %u to queue %d, answered at %.6f s with seq %" PRIu64, i,
                     sent->queue, (double)sent->answered_ns / 1e9, sent->seq);
        for (uint32_t j = 0; j < sent_count; j++) {
            if (i != j)
                judge_pair(i, j);
        }
    }
}

static void judge_looks(void)
{
    for (size_t i = 0; i < look_count; i++) {
        const struct look *look = &looks[i];
        uint64_t least = 0;
        for (size_t j = 0; j < sent_count; j++)
            least += sents[j].queue == look->queue && sents[j].outcome == OUTCOME_DONE &&
                     !sents[j].duplicate && sents[j].answered_ns < look->called_ns;
        if (look->sent_total < least)
            sim_fail("behind: queue %d, at %.6f s: %" PRIu64 " sends were seen, and %" PRIu64
                     " had been answered",
                     look->queue, (double)look->called_ns / 1e9, look->sent_total, least);
    }
}

void history_judge(void)
{
    judge_looks();
    judge_deliveries();
    judge_sends();
}

void history_summary(char *out, size_t length)
{
    size_t done = 0;
    size_t open = 0;
    for (size_t i = 0; i < sent_count; i++) {
        done += sents[i].outcome == OUTCOME_DONE;
        open += sents[i].outcome == OUTCOME_UNKNOWN || sents[i].outcome == OUTCOME_OPEN;
    }
    snprintf(out, length, "%zu sends (%zu acknowledged, %zu unknown), %zu deliveries, %zu settled",
             sent_count, done, open, delivery_count, settled_count);
}
