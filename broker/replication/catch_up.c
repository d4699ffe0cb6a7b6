/* SPDX-License-Identifier: Apache-2.0 */
/* A node that lags behind the leader's log takes over a snapshot: docs/replication.md, "A node that
 * lags".
 *
 *     offered -> SNAPSHOT (the file, piece by piece) -> RESTORING (verified and decoded; the state
 * is built in a second core, on a pool thread, which says which bodies it refers to) -> BODIES
 * (those of entries that this node has not applied) -> COMMITTING (the log takes it all over in one
 * step) -> the core is exchanged, the library is told, the leader gets its acknowledgement
 *
 * One request is under way at a time, to the node that made the offer; it is asked again when it
 * does not answer, and given up when that does not help: the leader offers again. Bodies that are
 * damaged there are asked for one by one, and then of the other members in turn. Until the commit
 * nothing of the shard changes, and a crash leaves it as it was.
 *
 * I1  While this goes on the log takes no entries and no snapshots of its own (guard.c,
 * snapshot.c). I2  During the commit the library stands still (guard.frozen): what was checked
 * before it holds after it. I3  Whatever this node had sent to a leader and is not answered may be
 * in what was jumped over: its outcome is unknown (CLOSED). */
#include "broker/log/transfer.h"
#include "broker/replication/configuration.h"
#include "broker/replication/internal.h"
#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>

#define PIECE_BYTES  (1u << 20)
#define REFS_MAX     8192u
#define REF_BYTES    16u
#define ASK_AGAIN_MS 3000u
#define GIVE_UP_MS   30000u
#define SAY_MS       5000u /* between two lines of progress */
#define BURST_MS     150u  /* as much may come at once: a little more than between two ticks */

enum catch_step { CATCH_SNAPSHOT, CATCH_RESTORING, CATCH_BODIES, CATCH_COMMITTING };

struct catch_up {
    enum catch_step step;
    struct log_incoming *incoming;
    uint64_t node_id; /* whom to ask: who made the offer; for bodies, in the end, another member */
    uint64_t index;
    uint64_t term;
    uint64_t keep_index;
    uint64_t bytes; /* of the snapshot file; 0: not known yet */
    uint64_t taken; /* of it */
    uint64_t number;
    bool storing;  /* the log is at work on it: nothing is asked for, nothing is freed */
    bool given_up; /* as soon as that has ended */
    uint64_t asked_ms;
    uint64_t paid_ms; /* when what has come is as much as the rate allows */
    bool paced;       /* nothing is asked for until then */
    uint64_t moved_ms;
    uint64_t said_ms;
    struct buffer piece; /* being stored */
    struct log_snapshot snapshot;
    struct shard *shard;
    struct core *core; /* in a pool thread's hands while RESTORING: it tells nobody but this */
    uv_work_t work;
    enum status restored;
    struct body_ref *refs; /* all that the new state refers to, in order */
    size_t ref_count;
    size_t ref_capacity;
    size_t needed; /* the first that this node lacks */
    size_t next;   /* to be asked for */
    uint32_t from;
    size_t most;         /* refs in one request */
    size_t others;       /* members that were asked in place of node_id for what comes next */
    uint64_t owed_index; /* what releases those that are gone comes no later */
    uint64_t body_bytes;
};

static void ask(struct shard *shard);

static void end(struct shard *shard)
{
    struct catch_up *c = shard->catch_up;
    shard->catch_up = NULL;
    shard->guard.frozen = false;
    if (c->core != NULL)
        core_free(c->core);
    log_snapshot_free(&c->snapshot);
    buffer_free(&c->piece);
    free(c->refs);
    free(c);
    shard_wake(shard);
}

static void stop(struct shard *shard)
{
    struct catch_up *c = shard->catch_up;
    if (c->incoming != NULL && c->step != CATCH_COMMITTING)
        log_incoming_abort(c->incoming);
    c->incoming = NULL;
    c->given_up = true;
    if (!c->storing)
        end(shard);
}

static void give_up(struct shard *shard, const char *why)
{
    struct catch_up *c = shard->catch_up;
    trace_warn("shard", "catch-up-failed",
               "dir=\"%s\" from=%" PRIu64 " snapshot=%" PRIu64 " why=\"%s\"", shard->options.dir,
               c->node_id, c->index, why);
    stop(shard);
}

void catch_up_abort(struct shard *shard)
{
    if (shard->catch_up != NULL && !shard->catch_up->given_up)
        stop(shard);
}

/* resume: what the log was asked for has ended. NULL: it was given up meanwhile, or now. */
static struct catch_up *resume(struct shard *shard, enum status status)
{
    struct catch_up *c = shard->catch_up;
    c->storing = false;
    if (c->given_up) {
        end(shard);
        return NULL;
    }
    if (status != STATUS_OK) {
        if (c->step == CATCH_COMMITTING)
            c->step = CATCH_BODIES; /* it came to nothing: to be aborted, as before */
        give_up(shard, status_text(status));
        return NULL;
    }
    return c;
}

static void say(struct shard *shard, const char *event)
{
    const struct catch_up *c = shard->catch_up;
    trace_info("shard", event,
               "dir=\"%s\" from=%" PRIu64 " snapshot=%" PRIu64 " snapshot_bytes=%" PRIu64
               "/%" PRIu64 " bodies=%zu/%zu body_bytes=%" PRIu64,
               shard->options.dir, c->node_id, c->index, c->taken, c->bytes, c->next - c->needed,
               c->ref_count - c->needed, c->body_bytes);
}

static void moved(struct shard *shard)
{
    struct catch_up *c = shard->catch_up;
    c->moved_ms = uv_now(shard->options.loop);
    if (c->moved_ms - c->said_ms < SAY_MS)
        return;
    c->said_ms = c->moved_ms;
    say(shard, "catching-up");
}

/* ---- taking over ---- */

static void tell_library(struct shard *shard, const struct log_snapshot *stored, uint64_t from)
{
    struct raft *raft = &shard->raft;
    struct raft_snapshot *token = raft_disk_token(stored);
    uint64_t leader = shard_leader(shard);
    struct raft_message message = {.type = RAFT_IO_INSTALL_SNAPSHOT};
    struct link *link = links_find(shard, leader != 0 ? leader : from);
    ASSERT(token != NULL); /* it was checked before the commit */
    message.server_id = link != NULL ? link->node_id : from;
    message.server_address = link != NULL ? link->address : "";
    message.install_snapshot = (struct raft_install_snapshot){.term = raft->current_term,
                                                              .last_index = stored->index,
                                                              .last_term = stored->term,
                                                              .conf = token->configuration,
                                                              .conf_index = stored->config_index,
                                                              .data = token->bufs[0]};
    raft_free(token->bufs);
    raft_free(token);
    guard_verified(shard, raft->current_term, stored->index); /* as committed, in every log */
    /* It would not take a snapshot below the term of what it has there, though that was never
     * committed (G15). */
    uint64_t term_here = guard_term(raft, stored->index);
    if (term_here >= stored->term)
        message.install_snapshot.last_term = term_here + 1;
    shard->disk.recv(&shard->disk.io, &message);
    ASSERT(raft->last_applied == stored->index);
    raft->log.snapshot.last_term = stored->term;
    raft->configuration_uncommitted_index = 0; /* G12 */
}

static void on_committed(void *data, enum status status)
{
    struct shard *shard = data;
    struct catch_up *c = resume(shard, status);
    if (c == NULL)
        return;
    c->incoming = NULL;
    core_free(shard->core);
    shard->core = c->core;
    c->core = NULL;
    struct core_events events = shard_core_events(shard);
    core_set_events(shard->core, &events);
    level_look(shard, shard->core);
    for (size_t i = 0; i < c->ref_count; i++)
        log_hold(shard->log, c->refs[i]);
    snapshots_installed(shard, c->index, c->ref_count);
    raft_disk_note_snapshot(&shard->disk, &c->snapshot);
    shard->disk.told_index = c->index;
    tell_library(shard, &c->snapshot, c->node_id);
    log_reclaim_begin(shard->log);
    shard->catalog_changed = shard->departs = true; /* there may be news */
    say(shard, "caught-up");
    end(shard);
    batch_give_up(shard); /* I3 */
    forward_give_up(shard);
    shard_settle(shard);
}

/* commit: if the library would take it: it has no snapshot of its own under way, and is behind. */
static void commit(struct shard *shard)
{
    struct catch_up *c = shard->catch_up;
    struct raft *raft = &shard->raft;
    if (raft->state == RAFT_LEADER || raft->last_applied >= c->index ||
        guard_term(raft, c->index) == c->term) {
        give_up(shard, "it is not needed any more");
        return;
    }
    if (shard->snapshots.making)
        return; /* catch_up_tick comes again */
    c->step = CATCH_COMMITTING;
    c->storing = true;
    shard->guard.frozen = true;
    if (c->owed_index > 0)
        log_incoming_owes(c->incoming, c->owed_index);
    log_incoming_commit(c->incoming, on_committed, shard);
}

/* ---- bodies ---- */

static int by_place(const void *a, const void *b)
{
    const struct body_ref *x = a;
    const struct body_ref *y = b;
    if (x->index != y->index)
        return x->index < y->index ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* on_hold: the new state refers to a body. On the pool thread. */
static void on_hold(void *data, struct body_ref ref)
{
    struct catch_up *c = data;
    if (c->ref_count == c->ref_capacity) {
        c->ref_capacity = c->ref_capacity < 1024 ? 1024 : c->ref_capacity * 2;
        c->refs = realloc(c->refs, c->ref_capacity * sizeof *c->refs);
        ASSERT(c->refs != NULL);
    }
    c->refs[c->ref_count++] = ref;
}

static void run_restore(uv_work_t *work)
{
    struct catch_up *c = work->data;
    c->restored = core_restore(c->core, buffer_slice(&c->snapshot.data));
    buffer_free(&c->snapshot.data);
    if (c->ref_count > 0)
        qsort(c->refs, c->ref_count, sizeof *c->refs, by_place);
    while (c->needed < c->ref_count && c->refs[c->needed].index <= c->keep_index)
        c->needed++;
}

static void restored(struct shard *shard)
{
    struct catch_up *c = resume(shard, STATUS_OK);
    if (c == NULL)
        return;
    if (c->restored != STATUS_OK) {
        give_up(shard, "its state makes no sense to this version of the program");
        return;
    }
    level_look(shard, c->core);
    c->next = c->needed;
    c->step = CATCH_BODIES;
    moved(shard);
    ask(shard);
}

static void after_restore(uv_work_t *work, int cancelled)
{
    struct shard *shard = ((struct catch_up *)work->data)->shard;
    ASSERT(cancelled == 0); /* nobody does */
    restored(shard);
    shard_part_gone(shard);
}

/* restore: a large state takes seconds, in which this node has to answer its peers. */
static void restore(struct shard *shard)
{
    struct catch_up *c = shard->catch_up;
    struct core_events events = {.data = c, .body_hold = on_hold};
    c->core = core_new(&events);
    c->work.data = c;
    c->storing = true;
    shard->handles++;
    int error = uv_queue_work(shard->options.loop, &c->work, run_restore, after_restore);
    ASSERT(error == 0);
}

static void on_verified(void *data, enum status status)
{
    struct shard *shard = data;
    struct catch_up *c = resume(shard, status);
    struct raft_configuration members;
    if (c == NULL)
        return;
    if (configuration_decode(buffer_slice(&c->snapshot.config), &members) != STATUS_OK) {
        give_up(shard, "its members make no sense");
        return;
    }
    raft_configuration_close(&members);
    restore(shard);
}

static void on_bodies_stored(void *data, enum status status)
{
    struct shard *shard = data;
    struct catch_up *c = resume(shard, status);
    if (c == NULL)
        return;
    buffer_free(&c->piece);
    moved(shard);
    ask(shard);
}

/* count_rate: so many bytes have come. */
static void count_rate(struct shard *shard, size_t bytes)
{
    struct catch_up *c = shard->catch_up;
    uint64_t now_ms = uv_now(shard->options.loop);
    if (shard->options.move_rate == 0)
        return;
    if (c->paid_ms < now_ms)
        c->paid_ms = now_ms;
    c->paid_ms += bytes * 1000 / shard->options.move_rate;
}

/* ask_another: what is damaged at one node is whole at most others. False: all were asked. */
static bool ask_another(struct shard *shard)
{
    struct catch_up *c = shard->catch_up;
    size_t count = shard->links.count;
    while (c->others < count) {
        const struct link *link = shard->links.list[c->others++];
        if (!link->up || link->address[0] == '\0' || link->node_id == c->node_id)
            continue;
        c->node_id = link->node_id;
        ask(shard);
        return true;
    }
    return false;
}

/* not_given: a part of what was asked for is not to be had there. */
static void not_given(struct shard *shard, enum status status)
{
    struct catch_up *c = shard->catch_up;
    bool damaged = status == STATUS_CORRUPT;
    if (damaged && c->most > 1) {
        c->most = c->most / 16 + 1;
        ask(shard);
    } else if ((!damaged && status != STATUS_UNAVAILABLE) || !ask_another(shard)) {
        give_up(shard, "no node that can be reached could read the bodies");
    }
}

static void take_bodies(struct shard *shard, const struct wire *wire)
{
    struct catch_up *c = shard->catch_up;
    if (wire->flags != STATUS_OK || wire->b > c->ref_count - c->next) {
        not_given(shard, (enum status)wire->flags);
        return;
    }
    c->next += wire->b;
    c->others = 0;
    c->most = c->most * 2 < REFS_MAX ? c->most * 2 : REFS_MAX;
    c->owed_index = wire->d > c->owed_index ? wire->d : c->owed_index;
    c->from = (uint32_t)wire->c;
    c->body_bytes += wire->items.length;
    count_rate(shard, wire->items.length);
    if (wire->items.length == 0) { /* gone, all of them */
        on_bodies_stored(shard, STATUS_OK);
        return;
    }
    buffer_add_slice(&c->piece, wire->items);
    c->storing = true;
    log_incoming_bodies(c->incoming, buffer_slice(&c->piece), on_bodies_stored, shard);
}

/* ---- the snapshot ---- */

static void on_piece_stored(void *data, enum status status)
{
    struct shard *shard = data;
    struct catch_up *c = resume(shard, status);
    if (c == NULL)
        return;
    c->taken += c->piece.length;
    buffer_free(&c->piece);
    moved(shard);
    if (c->taken < c->bytes) {
        ask(shard);
        return;
    }
    c->step = CATCH_RESTORING;
    c->storing = true;
    log_incoming_restore(c->incoming, &c->snapshot, on_verified, shard);
}

/* begin_taking: the first piece says how large the file is. */
static bool begin_taking(struct shard *shard, uint64_t bytes)
{
    struct catch_up *c = shard->catch_up;
    struct log_offer offer = {c->keep_index, c->index, c->term, bytes};
    if (c->incoming != NULL)
        return c->bytes == bytes;
    c->keep_index = offer.keep_index = shard->raft.last_applied;
    c->bytes = bytes;
    enum status status = c->keep_index < c->index
                             ? log_incoming_begin(shard->log, &offer, &c->incoming)
                             : STATUS_INVALID;
    if (status != STATUS_OK)
        c->incoming = NULL;
    return status == STATUS_OK;
}

static void take_piece(struct shard *shard, const struct wire *wire)
{
    struct catch_up *c = shard->catch_up;
    if (wire->flags != STATUS_OK || wire->items.length == 0 || wire->b != c->taken ||
        !begin_taking(shard, wire->c)) {
        give_up(shard, "the other node has another snapshot by now");
        return;
    }
    buffer_add_slice(&c->piece, wire->items);
    count_rate(shard, wire->items.length);
    c->storing = true;
    log_incoming_snapshot(c->incoming, c->taken, buffer_slice(&c->piece), on_piece_stored, shard);
}

void catch_up_receive(struct shard *shard, struct link *link, const struct wire *wire)
{
    struct catch_up *c = shard->catch_up;
    if (c == NULL || link->node_id != c->node_id || wire->a != c->number || c->storing)
        return;  /* also when it was given up */
    c->number++; /* a second answer is none */
    if (wire->type == WIRE_PIECE && c->step == CATCH_SNAPSHOT)
        take_piece(shard, wire);
    else if (wire->type == WIRE_BODIES && c->step == CATCH_BODIES)
        take_bodies(shard, wire);
}

/* ---- asking ---- */

static void ask_piece(struct shard *shard, struct buffer *out)
{
    struct catch_up *c = shard->catch_up;
    struct wire wire = {.type = WIRE_FETCH, .term = shard->raft.current_term, .a = c->number};
    wire.b = c->index;
    wire.c = c->taken;
    wire.d = PIECE_BYTES;
    wire_encode(out, &wire);
}

static void ask_bodies(struct shard *shard, struct buffer *out)
{
    struct catch_up *c = shard->catch_up;
    size_t count = c->ref_count - c->next;
    count = count < c->most ? count : c->most;
    struct wire wire = {.type = WIRE_FETCH_BODIES,
                        .count = (uint32_t)count,
                        .term = shard->raft.current_term,
                        .a = c->number,
                        .b = c->from,
                        .c = PIECE_BYTES,
                        .d = c->index};
    wire_encode(out, &wire);
    for (size_t i = 0; i < count; i++) {
        buffer_add_u64(out, c->refs[c->next + i].index);
        buffer_add_u32(out, c->refs[c->next + i].offset);
        buffer_add_u32(out, c->refs[c->next + i].length);
    }
}

static void ask(struct shard *shard)
{
    struct catch_up *c = shard->catch_up;
    struct buffer out = {0};
    struct link *link = links_find(shard, c->node_id);
    if (c->step == CATCH_BODIES && c->next == c->ref_count) {
        commit(shard);
        return;
    }
    c->paced = c->paid_ms > uv_now(shard->options.loop) + BURST_MS;
    if (link == NULL || !link->up || c->paced)
        return;
    c->number++;
    c->asked_ms = uv_now(shard->options.loop);
    if (c->step == CATCH_SNAPSHOT)
        ask_piece(shard, &out);
    else
        ask_bodies(shard, &out);
    links_send(shard, link, &out);
}

void catch_up_tick(struct shard *shard)
{
    struct catch_up *c = shard->catch_up;
    uint64_t now_ms = uv_now(shard->options.loop);
    if (c == NULL || c->storing)
        return;
    bool complete = c->step == CATCH_BODIES && c->next == c->ref_count;
    if (c->paced)
        c->moved_ms = now_ms; /* it is this node that waits */
    if (now_ms - c->moved_ms >= GIVE_UP_MS && !complete)
        give_up(shard, "the other node does not answer");
    else if (complete || c->paced || now_ms - c->asked_ms >= ASK_AGAIN_MS)
        ask(shard);
}

void catch_up_gone(struct shard *shard, uint64_t node_id)
{
    struct catch_up *c = shard->catch_up;
    bool complete = c != NULL && (c->step == CATCH_COMMITTING ||
                                  (c->step == CATCH_BODIES && c->next == c->ref_count));
    if (c != NULL && c->node_id == node_id && !complete && !c->given_up)
        give_up(shard, "the connection to the other node ended");
}

/* answer_offer: the library has all entries, and only wants to say so. */
static void answer_offer(struct shard *shard, struct link *link, const struct wire *wire)
{
    struct log_snapshot about = {.index = wire->a, .term = wire->b, .config_index = wire->c};
    struct raft_message message = {.type = RAFT_IO_INSTALL_SNAPSHOT,
                                   .server_id = link->node_id,
                                   .server_address = link->address};
    buffer_add_slice(&about.config, wire->items);
    struct raft_snapshot *token = raft_disk_token(&about);
    buffer_free(&about.config);
    if (token == NULL)
        return;
    message.install_snapshot = (struct raft_install_snapshot){.term = wire->term,
                                                              .last_index = wire->a,
                                                              .last_term = wire->b,
                                                              .conf = token->configuration,
                                                              .conf_index = wire->c,
                                                              .data = token->bufs[0]};
    guard_verified(shard, wire->term, wire->a);
    if (!guard_receive(shard, &message)) {
        raft_configuration_close(&token->configuration);
        raft_free(token->bufs[0].base);
    }
    raft_free(token->bufs);
    raft_free(token);
}

void catch_up_offered(struct shard *shard, struct link *link, const struct wire *wire)
{
    struct raft *raft = &shard->raft;
    if (wire->term < raft->current_term || shard->guard.frozen || raft->state == RAFT_LEADER)
        return;
    shard->guard.heard_ms = uv_now(shard->options.loop);
    if (raft->log.snapshot.last_index >= wire->a || guard_term(raft, wire->a) == wire->b) {
        answer_offer(shard, link, wire);
        return;
    }
    bool quiet = log_durable_index(shard->log) == log_last_index(shard->log);
    if (shard->catch_up != NULL || shard->snapshots.making || !quiet ||
        raft->last_applied >= wire->a)
        return; /* it is offered again */
    struct catch_up *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    c->shard = shard;
    c->node_id = link->node_id;
    c->index = wire->a;
    c->term = wire->b;
    c->most = REFS_MAX;
    c->moved_ms = uv_now(shard->options.loop);
    shard->catch_up = c;
    say(shard, "catch-up-begins");
    ask(shard);
}
