/* SPDX-License-Identifier: Apache-2.0 */
/* Receives that wait on a node that does not lead.
 *
 *     origin: shard_receive -> away (parked at the leader, under a number) -> done
 *     leader: a proxy, parked like a receive of its own (wait.c), whose RECEIVE carries an ORIGIN
 *
 * When the leader proposes the proxy's RECEIVE, its messages come to the origin through the log.
 * When it ends without a message, it tells the origin: WAITS_ENDED. A RECEIVE that the log brings
 * back empty is not the end: the leader has parked the proxy again.
 *
 * I1  The origin's own clock ends a wait too, a little later, should the leader be silent.
 * I2  After a change of leaders, or a lost connection, what is still away is sent again; the leader
 *     knows a proxy by node, boot and number, and takes it once. An old leader's RECEIVE may still
 * be committed: whichever comes first is handed out, the other is given back (batch.c, I4). I3  A
 * proxy whose node is gone is cancelled. */
#include "broker/replication/internal.h"
#include "proto/base/assert.h"

#include <stdlib.h>
#include <uthash.h>

#define PATIENCE_MS                                                                                \
    1000u /* beyond a wait that the leader knows of, for its word that it is over                  \
           */

struct away_receive {
    uint64_t seq;
    struct shard_receive *receive;
    bool sent;
    UT_hash_handle hh;
};

struct proxy {
    struct shard_receive receive;
    struct shard *shard;
    struct buffer attempt_id;
    struct shard_origin origin; /* key */
    UT_hash_handle hh;
};

/* ---- at the origin ---- */

static struct away_receive *find_away(const struct shard *shard, uint64_t seq)
{
    struct away_receive *away;
    HASH_FIND(hh, shard->forward.receives, &seq, sizeof seq, away);
    return away;
}

static struct shard_receive *bring_home(struct shard *shard, struct away_receive *away)
{
    struct shard_receive *receive = away->receive;
    HASH_DEL(shard->forward.receives, away);
    free(away);
    receive->away = false;
    return receive;
}

void forward_wait_add(struct shard *shard, struct shard_receive *receive)
{
    struct away_receive *away = calloc(1, sizeof *away);
    ASSERT(away != NULL);
    away->seq = ++shard->forward.seq;
    away->receive = receive;
    receive->away = true;
    receive->origin.seq = away->seq;
    HASH_ADD(hh, shard->forward.receives, seq, sizeof away->seq, away);
    shard_wake(shard);
}

void forward_wait_cancel(struct shard *shard, struct shard_receive *receive)
{
    struct away_receive *away = find_away(shard, receive->origin.seq);
    ASSERT(away != NULL);
    if (away->sent)
        buffer_add_u64(&shard->forward.cancels, away->seq);
    (void)bring_home(shard, away);
    wait_finish(shard, receive, STATUS_CANCELLED, CORE_OK);
}

bool forward_wait_is_here(const struct shard *shard, uint64_t seq)
{
    return find_away(shard, seq) != NULL;
}

void forward_wait_applied(struct shard *shard, uint64_t seq, const struct core_result *result)
{
    struct away_receive *away = find_away(shard, seq);
    if (wait_code(away->receive, result->code) == CORE_OK && result->message_count == 0)
        return;
    struct shard_receive *receive = bring_home(shard, away);
    receive->done(receive, STATUS_OK, result);
}

void forward_wait_home(struct shard *shard)
{
    struct away_receive *away;
    struct away_receive *next;
    HASH_ITER(hh, shard->forward.receives, away, next)
    {
        wait_park(shard, bring_home(shard, away));
    }
    buffer_clear(&shard->forward.cancels);
}

void forward_wait_unsend(struct shard *shard)
{
    struct away_receive *away;
    struct away_receive *next;
    HASH_ITER(hh, shard->forward.receives, away, next)
    {
        away->sent = false;
    }
    buffer_clear(&shard->forward.cancels); /* it knows nothing of them */
}

static void add_wait(struct shard *shard, struct buffer *out, const struct away_receive *away)
{
    const struct shard_receive *receive = away->receive;
    uint64_t now_ms = uv_now(shard->options.loop);
    struct command command = {.type = COMMAND_RECEIVE};
    struct buffer bytes = {0};
    command.receive = receive->command;
    command_encode(&bytes, &command);
    uint64_t left_ms = receive->deadline_ms > now_ms ? receive->deadline_ms - now_ms : 0;
    struct wire_call item = {away->seq, (uint32_t)left_ms, 0, buffer_slice(&bytes)};
    wire_call_encode(out, &item);
    buffer_free(&bytes);
}

static void send_cancels(struct shard *shard, struct link *leader)
{
    struct buffer out = {0};
    struct buffer *cancels = &shard->forward.cancels;
    struct wire wire = {.type = WIRE_CANCELS,
                        .count = (uint32_t)(cancels->length / sizeof(uint64_t)),
                        .term = shard->raft.current_term,
                        .a = shard->forward.boot};
    if (cancels->length == 0)
        return;
    wire_encode(&out, &wire);
    buffer_add_slice(&out, buffer_slice(cancels));
    buffer_clear(cancels);
    links_send(shard, leader, &out);
}

void forward_wait_send(struct shard *shard, struct link *leader)
{
    struct away_receive *away;
    struct away_receive *next;
    struct buffer out = {0};
    struct wire wire = {
        .type = WIRE_WAITS, .term = shard->raft.current_term, .a = shard->forward.boot};
    send_cancels(shard, leader);
    HASH_ITER(hh, shard->forward.receives, away, next)
    {
        if (away->sent)
            continue;
        if (wire.count++ == 0)
            wire_encode(&out, &wire);
        add_wait(shard, &out, away);
        away->sent = true;
    }
    if (wire.count == 0)
        return;
    wire_set_count(&out, 0, wire.count);
    links_send(shard, leader, &out);
}

static void on_ended(struct shard *shard, const struct wire *wire)
{
    struct cursor in = cursor_of(wire->items);
    struct wire_verdict verdict;
    if (wire->a != shard->forward.boot)
        return;
    for (uint32_t i = 0; i < wire->count && wire_verdict_decode(&in, &verdict); i++) {
        struct away_receive *away = find_away(shard, verdict.seq);
        if (away == NULL)
            continue;
        if (verdict.status == STATUS_NOT_LEADER || verdict.status == STATUS_CLOSED) {
            away->sent = false; /* to whoever leads next */
            shard->forward.hold_until_ms = uv_now(shard->options.loop) + HOLD_MS;
            continue;
        }
        wait_finish(shard, bring_home(shard, away), (enum status)verdict.status,
                    (enum core_code)verdict.code);
    }
}

void forward_wait_expire(struct shard *shard, uint64_t now_ms)
{
    struct away_receive *away;
    struct away_receive *next;
    HASH_ITER(hh, shard->forward.receives, away, next)
    {
        bool waited = away->sent && away->receive->wait_ms > 0;
        if (away->receive->deadline_ms + (waited ? PATIENCE_MS : CALL_DEADLINE_MS) > now_ms)
            continue;
        if (away->sent)
            buffer_add_u64(&shard->forward.cancels, away->seq);
        struct shard_receive *receive = bring_home(shard, away);
        wait_finish(shard, receive, waited ? STATUS_OK : STATUS_NOT_LEADER, CORE_OK);
    }
}

/* What the leader is giving one of them meanwhile comes back (R5). */
void shard_end_waits(struct shard *shard)
{
    struct away_receive *away;
    struct away_receive *next;
    HASH_ITER(hh, shard->forward.receives, away, next)
    {
        if (away->receive->wait_ms == 0)
            continue;
        if (away->sent)
            buffer_add_u64(&shard->forward.cancels, away->seq);
        wait_finish(shard, bring_home(shard, away), STATUS_OK, CORE_OK);
    }
}

uint64_t forward_wait_count(const struct shard *shard)
{
    return HASH_COUNT(shard->forward.receives);
}

/* ---- at the leader ---- */

static struct proxy *find_proxy(const struct shard *shard, const struct shard_origin *origin)
{
    struct proxy *proxy;
    HASH_FIND(hh, shard->forward.proxies, origin, sizeof *origin, proxy);
    return proxy;
}

static void tell_ended(struct shard *shard, const struct shard_origin *origin, enum status status,
                       enum core_code code)
{
    struct link *link = links_find(shard, origin->node_id);
    struct wire_verdict verdict = {origin->seq, (uint32_t)status, (uint32_t)code};
    if (link == NULL)
        return;
    if (link->waits_ended.length == 0) {
        struct wire wire = {
            .type = WIRE_WAITS_ENDED, .term = shard->raft.current_term, .a = origin->boot};
        wire_encode(&link->waits_ended, &wire);
    }
    wire_verdict_encode(&link->waits_ended, &verdict);
    shard_wake(shard);
}

static void on_proxy_done(struct shard_receive *receive, enum status status,
                          const struct core_result *result)
{
    struct proxy *proxy = CONTAINER_OF(receive, struct proxy, receive);
    struct shard *shard = proxy->shard;
    bool leased = status == STATUS_OK && result->message_count > 0;
    raft_net_hurry(shard, links_find(shard, proxy->origin.node_id));
    if (!leased && status != STATUS_CANCELLED)
        tell_ended(shard, &proxy->origin, status, status == STATUS_OK ? result->code : CORE_OK);
    HASH_DEL(shard->forward.proxies, proxy);
    buffer_free(&proxy->attempt_id);
    free(proxy);
}

static void take_wait(struct shard *shard, const struct shard_origin *origin,
                      const struct wire_call *item)
{
    struct cursor in = cursor_of(item->commands);
    struct command command;
    if (find_proxy(shard, origin) != NULL) /* I2 */
        return;
    if (command_decode(&in, &command) != STATUS_OK || command.type != COMMAND_RECEIVE) {
        tell_ended(shard, origin, STATUS_INVALID, CORE_OK);
        return;
    }
    struct proxy *proxy = calloc(1, sizeof *proxy);
    ASSERT(proxy != NULL);
    proxy->shard = shard;
    proxy->origin = *origin;
    buffer_add_slice(&proxy->attempt_id, command.receive.attempt_id);
    proxy->receive.command = command.receive;
    proxy->receive.command.attempt_id = buffer_slice(&proxy->attempt_id);
    proxy->receive.wait_ms = item->count;
    proxy->receive.done = on_proxy_done;
    proxy->receive.origin = *origin;
    HASH_ADD(hh, shard->forward.proxies, origin, sizeof proxy->origin, proxy);
    shard_receive(shard, &proxy->receive);
}

static void on_waits(struct shard *shard, struct link *link, const struct wire *wire)
{
    struct cursor in = cursor_of(wire->items);
    struct wire_call item;
    bool here = shard_leading(shard) && wire->term == shard->raft.current_term;
    for (uint32_t i = 0; i < wire->count && wire_call_decode(&in, &item); i++) {
        struct shard_origin origin = {link->node_id, wire->a, item.seq};
        if (here)
            take_wait(shard, &origin, &item);
        else
            tell_ended(shard, &origin, STATUS_NOT_LEADER, CORE_OK);
    }
}

static void on_cancels(struct shard *shard, struct link *link, const struct wire *wire)
{
    struct cursor in = cursor_of(wire->items);
    for (uint32_t i = 0; i < wire->count && cursor_left(&in) >= sizeof(uint64_t); i++) {
        struct shard_origin origin = {link->node_id, wire->a, cursor_u64(&in)};
        struct proxy *proxy = find_proxy(shard, &origin);
        if (proxy != NULL && !proxy->receive.cancelled)
            shard_receive_cancel(shard, &proxy->receive);
    }
}

void forward_wait_gone(struct shard *shard, uint64_t node_id)
{
    struct proxy *proxy;
    struct proxy *next;
    HASH_ITER(hh, shard->forward.proxies, proxy, next)
    {
        if (proxy->origin.node_id == node_id && !proxy->receive.cancelled) /* I3 */
            shard_receive_cancel(shard, &proxy->receive);
    }
}

void forward_wait_receive(struct shard *shard, struct link *link, const struct wire *wire)
{
    if (wire->type == WIRE_WAITS)
        on_waits(shard, link, wire);
    else if (wire->type == WIRE_CANCELS)
        on_cancels(shard, link, wire);
    else if (wire->type == WIRE_WAITS_ENDED)
        on_ended(shard, wire);
}

void forward_wait_finish_all(struct shard *shard, enum status status)
{
    struct away_receive *away;
    struct away_receive *next;
    HASH_ITER(hh, shard->forward.receives, away, next)
    {
        wait_finish(shard, bring_home(shard, away), status, CORE_OK);
    }
    buffer_free(&shard->forward.cancels);
}
