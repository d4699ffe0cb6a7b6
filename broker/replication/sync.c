/* SPDX-License-Identifier: Apache-2.0 */
/* Questions for the commit index (shard_sync): docs/replication.md, "Reads".
 *
 *     on a node that follows: asked (SYNC, under a number) -> index known (SYNCED) -> applied: done
 *     on the leader:          in a round                   -> confirmed            -> applied: done
 *
 * A leader that others have deposed does not know it, and others may have answered calls that it
 * never saw. So it gives no index on its own word: it notes its commit index, asks the other voters
 * whether they are still in its term (CONFIRM), and when a majority is (CONFIRMED), nobody led a
 * later term when the round began (Raft, section 8; the dissertation, 6.4). One round is under way
 * at a time and answers all that was asked before it began; what comes meanwhile goes into the
 * next.
 *
 * I1  The index of a round is noted behind the asking of all that it answers: on this node when it
 *     began, on others before their question arrived. I2  Each new leader commits an entry of its
 *     own before it answers (STAGE_READY): what older leaders answered is below its commit index.
 * I3  What is lost is asked again: a question with the connection, the term or by the clock, a
 * round by the clock.
 */
#include "broker/replication/internal.h"

#include <stdlib.h>

#define ASK_AGAIN_MS 100u  /* for the others' word, as leader */
#define LOST_MS      1000u /* a question: the answer may have found no room on its way */

/* ---- rounds of the leader ---- */

/* is_waiting: it is in no round and was asked of nobody in this term. */
static bool is_waiting(const struct shard *shard, const struct shard_sync *sync)
{
    return sync->index == 0 && (sync->number == 0 || sync->term != shard->raft.current_term);
}

static void reply(struct shard *shard, struct link *link, uint64_t number)
{
    struct buffer out = {0};
    struct wire wire = {.type = WIRE_SYNCED,
                        .term = shard->raft.current_term,
                        .a = number,
                        .b = shard->sync.round_index};
    if (!link->up)
        return;
    wire_encode(&out, &wire);
    links_send(shard, link, &out);
}

/* is_confirmed: by a majority of the voters, as the library counts them: in the latest members,
 * whether these are committed or not. */
static bool is_confirmed(struct shard *shard)
{
    const struct raft *raft = &shard->raft;
    unsigned voters = 0;
    unsigned confirmed = 0;
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        const struct raft_server *server = &raft->configuration.servers[i];
        if (server->role != RAFT_VOTER)
            continue;
        const struct link *link = links_find(shard, server->id);
        voters++;
        confirmed +=
            server->id == raft->id || (link != NULL && link->confirmed == shard->sync.round);
    }
    return confirmed > voters / 2;
}

static void ask_to_confirm(struct shard *shard)
{
    struct syncs *s = &shard->sync;
    s->asked_ms = uv_now(shard->options.loop);
    for (size_t i = 0; i < shard->links.count; i++) {
        struct link *link = shard->links.list[i];
        struct wire wire = {.type = WIRE_CONFIRM, .term = shard->raft.current_term, .a = s->round};
        struct buffer out = {0};
        if (!link->up || link->address[0] == '\0' || link->confirmed == s->round)
            continue;
        wire_encode(&out, &wire);
        links_send(shard, link, &out);
    }
}

/* begin_round: with all that waits; false: nothing does. */
static bool begin_round(struct shard *shard)
{
    struct syncs *s = &shard->sync;
    uint64_t term = shard->raft.current_term;
    bool any = false;
    for (struct shard_sync *sync = s->list; sync != NULL; sync = sync->next) {
        if (!is_waiting(shard, sync))
            continue;
        sync->number = s->round + 1;
        sync->term = term;
        any = true;
    }
    for (size_t i = 0; i < shard->links.count; i++) {
        struct link *link = shard->links.list[i];
        link->sync_in_round = link->sync_term == term ? link->sync_asked : 0;
        link->sync_asked = 0; /* of another term: it asks again */
        any |= link->sync_in_round > 0;
    }
    if (!any)
        return false;
    s->round++;
    s->round_term = term;
    s->round_index = shard->raft.commit_index;
    s->under_way = true;
    return true;
}

static void end_round(struct shard *shard)
{
    struct syncs *s = &shard->sync;
    s->under_way = false;
    for (struct shard_sync *sync = s->list; sync != NULL; sync = sync->next) {
        if (sync->index == 0 && sync->number == s->round && sync->term == s->round_term)
            sync->index = s->round_index;
    }
    for (size_t i = 0; i < shard->links.count; i++) {
        struct link *link = shard->links.list[i];
        if (link->sync_in_round > 0)
            reply(shard, link, link->sync_in_round);
        link->sync_in_round = 0;
    }
}

static void lead(struct shard *shard)
{
    struct syncs *s = &shard->sync;
    if (s->round_term != shard->raft.current_term)
        s->under_way = false;
    if (!s->under_way && begin_round(shard) && !is_confirmed(shard))
        ask_to_confirm(shard);
    while (s->under_way && is_confirmed(shard)) {
        end_round(shard);
        if (begin_round(shard) && !is_confirmed(shard))
            ask_to_confirm(shard);
    }
}

static void on_sync(struct link *link, const struct wire *wire)
{
    if (wire->term != link->sync_term || wire->a > link->sync_asked) {
        link->sync_term = wire->term;
        link->sync_asked = wire->a;
    }
}

static void on_confirmed(struct shard *shard, struct link *link, const struct wire *wire)
{
    if (wire->term == shard->raft.current_term && wire->a == shard->sync.round)
        link->confirmed = wire->a;
}

/* ---- on other nodes ---- */

static void on_confirm(struct shard *shard, struct link *link, const struct wire *wire)
{
    struct buffer out = {0};
    struct wire answer = {.type = WIRE_CONFIRMED, .term = wire->term, .a = wire->a};
    if (wire->term != shard->raft.current_term)
        return; /* a later one: it is no leader; an earlier one: its append is on its way */
    wire_encode(&out, &answer);
    links_send(shard, link, &out);
}

/* An answer is as good for questions that were asked before. */
static void on_synced(struct shard *shard, const struct wire *wire)
{
    for (struct shard_sync *sync = shard->sync.list; sync != NULL; sync = sync->next) {
        if (sync->number > 0 && sync->term == wire->term && sync->number <= wire->a &&
            sync->index == 0)
            sync->index = wire->b;
    }
}

void sync_ask(struct shard *shard, struct link *leader)
{
    struct buffer out = {0};
    uint64_t number = 0;
    uint64_t now_ms = uv_now(shard->options.loop);
    bool open = false;
    for (struct shard_sync *sync = shard->sync.list; sync != NULL; sync = sync->next) {
        open |= sync->index == 0;
        if (!is_waiting(shard, sync))
            continue;
        number = number > 0 ? number : ++shard->sync.asked;
        sync->number = number;
        sync->term = shard->raft.current_term;
    }
    if (number == 0 && (!open || now_ms - shard->sync.asked_ms < LOST_MS))
        return;
    shard->sync.asked_ms = now_ms;
    struct wire wire = {
        .type = WIRE_SYNC, .term = shard->raft.current_term, .a = shard->sync.asked};
    wire_encode(&out, &wire);
    links_send(shard, leader, &out);
}

void sync_unask(struct shard *shard)
{
    for (struct shard_sync *sync = shard->sync.list; sync != NULL; sync = sync->next)
        sync->number = sync->index > 0 ? sync->number : 0;
}

/* ---- ends ---- */

static void add(struct shard *shard, struct shard_sync *sync)
{
    struct syncs *s = &shard->sync;
    sync->next = NULL;
    if (s->list == NULL)
        s->list = sync;
    else
        s->last->next = sync;
    s->last = sync;
}

/* end_syncs: those that are due; their callbacks may begin new ones. */
static void end_syncs(struct shard *shard, enum status status, uint64_t applied_index,
                      uint64_t until_ms)
{
    struct shard_sync *list = shard->sync.list;
    struct shard_sync *ended = NULL;
    struct shard_sync **last = &ended;
    shard->sync.list = shard->sync.last = NULL;
    while (list != NULL) {
        struct shard_sync *sync = list;
        list = list->next;
        sync->next = NULL;
        bool done =
            (sync->index > 0 && sync->index <= applied_index) || sync->deadline_ms <= until_ms;
        if (!done) {
            add(shard, sync);
            continue;
        }
        *last = sync;
        last = &sync->next;
    }
    while (ended != NULL) {
        struct shard_sync *sync = ended;
        ended = ended->next;
        sync->done(sync, sync->index > 0 && sync->index <= applied_index ? STATUS_OK : status);
    }
}

void sync_tick(struct shard *shard, uint64_t now_ms)
{
    end_syncs(shard, STATUS_NOT_LEADER, 0, now_ms);
    if (shard->stage == STAGE_READY && shard->sync.under_way &&
        now_ms - shard->sync.asked_ms >= ASK_AGAIN_MS)
        ask_to_confirm(shard);
}

void sync_pump(struct shard *shard)
{
    if (shard->stage == STAGE_READY)
        lead(shard);
    if (shard->sync.list != NULL)
        end_syncs(shard, STATUS_OK, raft_last_applied(&shard->raft), 0);
}

void sync_finish_all(struct shard *shard, enum status status)
{
    end_syncs(shard, status, 0, UINT64_MAX);
}

/* ---- from outside ---- */

void sync_receive(struct shard *shard, struct link *link, const struct wire *wire)
{
    if (wire->type == WIRE_SYNC)
        on_sync(link, wire);
    else if (wire->type == WIRE_SYNCED)
        on_synced(shard, wire);
    else if (wire->type == WIRE_CONFIRM)
        on_confirm(shard, link, wire);
    else
        on_confirmed(shard, link, wire);
}

void shard_sync(struct shard *shard, struct shard_sync *sync)
{
    sync->number = sync->index = sync->term = 0;
    uint64_t since_ms = sync->since_ms > 0 ? sync->since_ms : uv_now(shard->options.loop);
    sync->deadline_ms = since_ms + CALL_DEADLINE_MS;
    add(shard, sync);
    shard_wake(shard);
}
