/* SPDX-License-Identifier: Apache-2.0 */
/* Calls between nodes: docs/replication.md, "Every node takes calls".
 *
 * On a node that does not lead (the origin):
 *     pending -> sent (to one leader, in one term, under a sequence number)
 *       sent -> answered     the log brought it back: batch.c
 *            -> pending      the leader refused it, or an entry of a later term was applied (proof
 *                            that it never happened); under a new number then
 *            -> refused      likewise, but one that came after it has happened
 *            -> CLOSED       its deadline came first
 * On the leader: a message of calls is checked and put among its own pending calls, each behind an
 * ORIGIN. What it cannot take it refuses by number; that is the only answer it gives.
 *
 * R2  The leader takes a number once in a term, although the origin sends it again with each new
 *     connection: the last TAKEN_WINDOW numbers of each process are remembered.
 * R3  Also when it refused it: the origin may have told its caller so by then. That word may have
 *     been lost with the connection: it is said again when the number comes again.
 * R10 What was refused, when the word of it was lost, is not tried again behind calls that came
 * after it and were taken.
 */
#include "broker/replication/internal.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"

#include <stdlib.h>
#include <uthash.h>

#define SEND_BYTES_MAX (4u << 20) /* of calls in one message */
#define UNSENT_MAX     (4u << 20)
#define ORIGIN_BYTES   64u    /* of the command, about */
#define ITEMS_BYTES    16384u /* of what stands before the commands in a message, mostly */
#define CALL_BYTES     64u    /* of that, for one call, at most */

struct sent_call {
    uint64_t seq;
    uint64_t term;
    struct shard_call *call;
    UT_hash_handle hh;
};

/* A call of another node, here at the leader. */
struct taken_call {
    struct shard_call call;
    struct shard *shard;
    struct shard_origin origin;
};

void forward_init(struct shard *shard)
{
    while (shard->forward.boot == 0)
        clock_random(&shard->forward.boot, sizeof shard->forward.boot);
}

/* ---- at the origin ---- */

static void forget_sent(struct shard *shard, struct sent_call *sent)
{
    HASH_DEL(shard->forward.calls, sent);
    free(sent);
}

static struct shard_call *take_back(struct shard *shard, uint64_t seq)
{
    struct sent_call *sent;
    HASH_FIND(hh, shard->forward.calls, &seq, sizeof seq, sent);
    if (sent == NULL)
        return NULL;
    struct shard_call *call = sent->call;
    forget_sent(shard, sent);
    return call;
}

struct shard_call *forward_returned(struct shard *shard, uint64_t seq)
{
    struct forward *f = &shard->forward;
    struct shard_call *call = take_back(shard, seq);
    if (call != NULL && seq > f->returned_seq)
        f->returned_seq = seq;
    return call;
}

static struct sent_call *note_sent(struct shard *shard, struct shard_call *call)
{
    struct sent_call *sent = calloc(1, sizeof *sent);
    ASSERT(sent != NULL);
    sent->seq = ++shard->forward.seq;
    sent->term = shard->raft.current_term;
    sent->call = call;
    HASH_ADD(hh, shard->forward.calls, seq, sizeof sent->seq, sent);
    return sent;
}

static void begin(struct shard *shard, enum wire_type type, struct buffer *out)
{
    struct wire wire = {.type = type, .term = shard->raft.current_term, .a = shard->forward.boot};
    wire_encode(out, &wire);
}

static void add_call(struct buffer *out, const struct sent_call *sent)
{
    struct wire_call item = {sent->seq, sent->call->count, sent->call->grows ? WIRE_CALL_GROWS : 0,
                             buffer_slice(&sent->call->commands)};
    wire_call_encode(out, &item);
}

/* room_for: a message that begins with this call would not be refused for want of room (other
 * shards send to that node too): it would be lost, and those behind it overtake it (R10). */
static bool room_for(const struct shard *shard, const struct link *leader,
                     const struct shard_call *call)
{
    size_t first = call->commands.length + ITEMS_BYTES;
    size_t most = first > SEND_BYTES_MAX ? first : SEND_BYTES_MAX;
    return links_room(leader, UNSENT_MAX) && links_fits(shard, leader, most);
}

/* fits: into a message of that many calls. */
static bool fits(const struct buffer *out, uint32_t count, const struct shard_call *call)
{
    return count == 0 || out->length + call->commands.length + CALL_BYTES <= SEND_BYTES_MAX;
}

static void send_calls(struct shard *shard, struct link *leader, struct buffer *out, uint32_t count)
{
    wire_set_count(out, 0, count);
    links_send(shard, leader, out);
}

/* send_pending: one message of what waits here. */
static void send_pending(struct shard *shard, struct link *leader)
{
    struct call_list *pending = &shard->batch.pending;
    struct buffer out = {0};
    uint32_t count = 0;
    size_t most = shard->batch.pending_bytes;
    buffer_reserve(&out, (most < SEND_BYTES_MAX ? most : SEND_BYTES_MAX) + ITEMS_BYTES);
    begin(shard, WIRE_CALLS, &out);
    for (; pending->first != NULL && fits(&out, count, pending->first); count++) {
        struct shard_call *call = call_list_take(pending);
        shard->batch.pending_bytes -= call->commands.length;
        add_call(&out, note_sent(shard, call));
    }
    send_calls(shard, leader, &out, count);
}

/* to_resend: the first call of this term, from `sent` on, that has not been sent again yet. */
static struct sent_call *to_resend(const struct shard *shard, struct sent_call *sent)
{
    while (sent != NULL &&
           (sent->term != shard->raft.current_term || sent->seq <= shard->forward.resent_seq))
        sent = sent->hh.next;
    return sent;
}

/* resend: what was sent in this term, in that order, as far as there is room. */
static void resend(struct shard *shard, struct link *leader)
{
    struct sent_call *sent = to_resend(shard, shard->forward.calls);
    while (sent != NULL && room_for(shard, leader, sent->call)) {
        struct buffer out = {0};
        uint32_t count = 0;
        begin(shard, WIRE_CALLS, &out);
        for (; sent != NULL && fits(&out, count, sent->call); count++) {
            add_call(&out, sent);
            shard->forward.resent_seq = sent->seq;
            sent = to_resend(shard, sent);
        }
        send_calls(shard, leader, &out, count);
    }
    shard->forward.resending = sent != NULL;
}

/* begin_resend: what the leader was asked over this link may have been lost. */
static void begin_resend(struct shard *shard, struct link *leader)
{
    leader->lost = false;
    shard->forward.resending = true;
    shard->forward.resent_seq = 0;
    forward_wait_unsend(shard);
    sync_unask(shard);
}

static void on_refused(struct shard *shard, const struct wire *wire)
{
    struct cursor in = cursor_of(wire->items);
    struct wire_verdict verdict;
    struct call_list again = {0};
    if (wire->a != shard->forward.boot)
        return;
    for (uint32_t i = 0; i < wire->count && wire_verdict_decode(&in, &verdict); i++) {
        struct shard_call *call = take_back(shard, verdict.seq);
        if (call == NULL)
            continue;
        if (verdict.status == STATUS_BUSY || verdict.status == STATUS_DISK_FULL ||
            verdict.status == STATUS_INVALID || verdict.status == STATUS_TOO_LARGE) {
            batch_refuse(shard, call, (enum status)verdict.status);
        } else {
            shard->forward.hold_until_ms = uv_now(shard->options.loop) + HOLD_MS;
            call_list_insert(&again, call);
        }
    }
    batch_retry(shard, &again);
}

void forward_overtaken(struct shard *shard, uint64_t term)
{
    struct sent_call *sent;
    struct sent_call *next;
    struct call_list again = {0};
    if (term == shard->forward.settled_term)
        return; /* nothing is sent in a term before the latest that was applied */
    shard->forward.settled_term = term;
    HASH_ITER(hh, shard->forward.calls, sent, next)
    {
        struct shard_call *call = sent->call;
        if (sent->term >= term)
            continue;
        if (sent->seq < shard->forward.returned_seq) /* R10 */
            batch_refuse(shard, call, STATUS_NOT_LEADER);
        else
            call_list_insert(&again, call);
        forget_sent(shard, sent);
    }
    batch_retry(shard, &again);
}

bool forward_in_doubt(const struct shard *shard)
{
    const struct sent_call *oldest = shard->forward.calls; /* the table keeps the order */
    return oldest != NULL && oldest->term < shard->raft.current_term;
}

static void end_sent(struct shard *shard, uint64_t until_ms)
{
    struct sent_call *sent;
    struct sent_call *next;
    HASH_ITER(hh, shard->forward.calls, sent, next)
    {
        struct shard_call *call = sent->call;
        if (call->deadline_ms > until_ms)
            continue;
        forget_sent(shard, sent);
        batch_refuse(shard, call, STATUS_CLOSED);
    }
}

void forward_give_up(struct shard *shard)
{
    end_sent(shard, UINT64_MAX);
}

void forward_expire(struct shard *shard, uint64_t now_ms)
{
    end_sent(shard, now_ms);
}

/* ---- at the leader ---- */

static bool bit_is_set(const uint64_t *bits, uint64_t seq)
{
    return (bits[seq % TAKEN_WINDOW / 64] & UINT64_C(1) << seq % 64) != 0;
}

/* take: remember this number; false: it was taken before. */
static bool take(struct shard *shard, struct link *link, uint64_t boot, uint64_t seq)
{
    struct taken *t = link->taken;
    if (t == NULL) {
        t = link->taken = calloc(1, sizeof *t);
        ASSERT(t != NULL);
    }
    if (t->boot != boot || t->term != shard->raft.current_term)
        *t = (struct taken){.boot = boot, .term = shard->raft.current_term};
    if (seq + TAKEN_WINDOW <= t->highest)
        return false;
    for (; t->highest < seq; t->highest++) {
        uint64_t slot = (t->highest + 1) % TAKEN_WINDOW;
        if (seq - t->highest > TAKEN_WINDOW) {
            memset(t->bits, 0, sizeof t->bits);
            memset(t->refused, 0, sizeof t->refused);
            t->highest = seq - 1;
            slot = seq % TAKEN_WINDOW;
        }
        t->bits[slot / 64] &= ~(UINT64_C(1) << slot % 64);
        t->refused[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    }
    bool fresh = !bit_is_set(t->bits, seq);
    t->bits[seq % TAKEN_WINDOW / 64] |= UINT64_C(1) << seq % 64;
    return fresh;
}

/* was_refused: it was taken in this term, and will not happen. */
static bool was_refused(const struct link *link, uint64_t seq)
{
    return seq + TAKEN_WINDOW > link->taken->highest && bit_is_set(link->taken->refused, seq);
}

static void note_refused(struct shard *shard, const struct shard_origin *origin)
{
    const struct link *link = links_find(shard, origin->node_id);
    struct taken *t = link != NULL ? link->taken : NULL;
    if (t != NULL && t->boot == origin->boot && t->term == shard->raft.current_term &&
        origin->seq + TAKEN_WINDOW > t->highest)
        t->refused[origin->seq % TAKEN_WINDOW / 64] |= UINT64_C(1) << origin->seq % 64;
}

static void refuse(struct shard *shard, const struct shard_origin *origin, enum status status)
{
    struct link *link = links_find(shard, origin->node_id);
    struct wire_verdict verdict = {origin->seq, (uint32_t)status, 0};
    if (link == NULL)
        return;
    if (link->refused.length == 0) {
        struct wire wire = {
            .type = WIRE_REFUSED, .term = shard->raft.current_term, .a = origin->boot};
        wire_encode(&link->refused, &wire);
    }
    wire_verdict_encode(&link->refused, &verdict);
    shard_wake(shard);
}

static void on_taken(struct shard_call *call, enum status status, const struct core_result *results,
                     uint32_t count)
{
    struct taken_call *taken = CONTAINER_OF(call, struct taken_call, call);
    raft_net_hurry(taken->shard, links_find(taken->shard, taken->origin.node_id));
    (void)results;
    (void)count;
    /* CLOSED: its entry is of unknown fate, or overtaken: its node finds out as this one does. */
    if (status != STATUS_OK && status != STATUS_CLOSED) {
        note_refused(taken->shard, &taken->origin);
        refuse(taken->shard, &taken->origin, status);
    }
    free(taken);
}

void forward_encode_origin(struct buffer *out, const struct shard_origin *origin, uint64_t term,
                           uint32_t count)
{
    struct command command = {.type = COMMAND_ORIGIN};
    command.origin = (struct command_origin){.node_id = origin->node_id,
                                             .boot = origin->boot,
                                             .seq = origin->seq,
                                             .term = term,
                                             .count = count};
    command_encode(out, &command);
}

static void take_call(struct shard *shard, struct link *link, uint64_t boot,
                      const struct wire_call *item)
{
    struct taken_call *taken;
    struct shard_origin origin = {link->node_id, boot, item->seq};
    if (!take(shard, link, boot, item->seq)) {
        if (was_refused(link, item->seq))
            refuse(shard, &origin, STATUS_BUSY); /* why, nobody knows any more */
        return;
    }
    taken = calloc(1, sizeof *taken);
    ASSERT(taken != NULL);
    taken->shard = shard;
    taken->origin = origin;
    taken->call = (struct shard_call){.count = item->count + 1,
                                      .grows = (item->flags & WIRE_CALL_GROWS) != 0,
                                      .of_other = true,
                                      .done = on_taken};
    buffer_reserve(&taken->call.commands, ORIGIN_BYTES + item->commands.length);
    forward_encode_origin(&taken->call.commands, &origin, shard->raft.current_term, item->count);
    buffer_add_slice(&taken->call.commands, item->commands);
    shard_call(shard, &taken->call);
}

/* never_taken: it is certain that this node did not take that call when it led in `term`. Calls
 * come twice (they are sent again when a connection broke), and the second time this node may lead
 * no more: to refuse then what it has proposed would store it twice (R3). */
static bool never_taken(const struct shard *shard, const struct link *link, const struct wire *wire,
                        uint64_t seq)
{
    const struct taken *t = link->taken;
    if (wire->term <= shard->forward.begun_term)
        return false; /* the process before this one may have led then */
    if (t == NULL || t->term < wire->term)
        return true;
    if (t->term > wire->term || t->boot != wire->a || seq + TAKEN_WINDOW <= t->highest)
        return false;
    return seq > t->highest || !bit_is_set(t->bits, seq);
}

/* refuse_call: for good: should it come once more in this term, when this node leads in it, it was
 * sent anew under another number already (R3). */
static void refuse_call(struct shard *shard, struct link *link, const struct wire *wire,
                        uint64_t seq)
{
    struct shard_origin origin = {link->node_id, wire->a, seq};
    if (wire->term == shard->raft.current_term) {
        (void)take(shard, link, wire->a, seq);
        note_refused(shard, &origin);
    }
    refuse(shard, &origin, STATUS_NOT_LEADER);
}

/* What is neither taken nor refused its node looks after when it applies an entry of a later term.
 */
static void on_calls(struct shard *shard, struct link *link, const struct wire *wire)
{
    struct cursor in = cursor_of(wire->items);
    struct wire_call item;
    lead_watch(shard); /* else some would be refused and those behind them be taken: R10 */
    bool here = shard_leading(shard) && wire->term == shard->raft.current_term;
    for (uint32_t i = 0; i < wire->count && wire_call_decode(&in, &item); i++) {
        if (here)
            take_call(shard, link, wire->a, &item);
        else if (never_taken(shard, link, wire, item.seq))
            refuse_call(shard, link, wire, item.seq);
    }
}

/* flush_verdicts: they are said once: where there is no room they wait (sweep). When there is no
 * connection, what they are about will come again. */
static void flush_verdicts(struct shard *shard, struct link *link, struct buffer *verdicts)
{
    if (verdicts->length == 0 || (link->up && !links_fits(shard, link, verdicts->length)))
        return;
    size_t count = (verdicts->length - WIRE_HEADER_BYTES) / 16;
    wire_set_count(verdicts, 0, (uint32_t)count);
    if (link->up)
        links_send(shard, link, verdicts);
    buffer_free(verdicts);
}

/* ---- both ---- */

void forward_receive(struct shard *shard, struct link *link, const struct wire *wire)
{
    switch (wire->type) {
    case WIRE_CALLS:
        on_calls(shard, link, wire);
        break;
    case WIRE_REFUSED:
        on_refused(shard, wire);
        break;
    default:
        forward_wait_receive(shard, link, wire);
    }
}

/* see_leader: another leader, or another term, knows nothing of what waits at the old one. */
static struct link *see_leader(struct shard *shard)
{
    struct forward *f = &shard->forward;
    uint64_t leader = shard_leader(shard);
    if (leader != f->leader || shard->raft.current_term != f->term) {
        f->leader = leader;
        f->term = shard->raft.current_term;
        f->hold_until_ms = 0;
        forward_wait_unsend(shard);
    }
    struct link *link = leader != 0 ? links_find(shard, leader) : NULL;
    return link != NULL && link->up ? link : NULL;
}

/* may_send: what is pending: behind all that was sent before it (R10). */
static bool may_send(const struct shard *shard, const struct link *leader)
{
    const struct shard_call *call = shard->batch.pending.first;
    return call != NULL && room_for(shard, leader, call) && !shard->forward.resending &&
           !batch_in_doubt(shard);
}

void forward_pump(struct shard *shard)
{
    for (size_t i = 0; i < shard->links.count; i++) {
        flush_verdicts(shard, shard->links.list[i], &shard->links.list[i]->refused);
        flush_verdicts(shard, shard->links.list[i], &shard->links.list[i]->waits_ended);
    }
    if (!shard_in_company(shard) || shard->stage != STAGE_FOLLOWING)
        return;
    struct link *leader = see_leader(shard);
    if (leader == NULL)
        return;
    bool held = uv_now(shard->options.loop) < shard->forward.hold_until_ms;
    if (leader->lost && !held)
        begin_resend(shard, leader);
    if (shard->forward.resending && !held)
        resend(shard, leader);
    if (!held)
        forward_wait_send(shard, leader);
    sync_ask(shard, leader);
    while (!held && may_send(shard, leader))
        send_pending(shard, leader);
}

void forward_close(struct shard *shard)
{
    forward_give_up(shard);
    forward_wait_finish_all(shard, STATUS_CLOSED);
    for (size_t i = 0; i < shard->links.count; i++) {
        buffer_free(&shard->links.list[i]->refused);
        buffer_free(&shard->links.list[i]->waits_ended);
    }
}
