/* SPDX-License-Identifier: Apache-2.0 */
/* One real shard, node 1, in a group of three whose other members the test plays: it hears every
 * message of the shard, answers as it was told to, and says what it likes, within the very turn of
 * the loop that it wants. So a test can bring about orders of events that a network only has once a
 * year. */
#ifndef TESTS_UNIT_REPLICATION_SCRIPT_H
#define TESTS_UNIT_REPLICATION_SCRIPT_H

#include "broker/replication/wire.h"
#include "proto/base/crc32c.h"
#include "tests/unit/replication/cluster.h"

#include <raft.h>

#define SHARD_NODE 1u
#define PLAYED_MAX 3u

struct heard {
    struct heard *next;
    uint64_t to;
    struct wire wire; /* its items are in `bytes` */
    struct buffer bytes;
};

struct script;
struct played {
    struct script *script;
    uint64_t id;
    bool votes;     /* it grants what it is asked for */
    bool follows;   /* it acknowledges what it is sent, */
    uint64_t limit; /* but nothing behind this; 0: everything */
    uint64_t has;   /* its last entry */
};

struct script {
    struct cluster *c;
    struct heard *first;
    struct heard *last;
    struct played played[PLAYED_MAX + 1]; /* by id */
};

static inline struct shard *shard_of(const struct script *s)
{
    return s->c->nodes[SHARD_NODE].shard;
}

/* say: `from` says this to the shard, now. */
static inline void say(struct script *s, uint64_t from, const struct wire *wire, struct slice items)
{
    struct bus *bus = &s->c->nodes[SHARD_NODE].bus;
    struct buffer bytes = {0};
    wire_encode(&bytes, wire);
    buffer_add_slice(&bytes, items);
    bus->handler.message(bus->handler.data, from, buffer_slice(&bytes));
    buffer_free(&bytes);
}

static inline void say_appended(struct script *s, uint64_t from, uint64_t term, uint64_t rejected,
                                uint64_t last)
{
    struct wire wire = {.type = WIRE_APPENDED, .term = term, .a = rejected, .b = last};
    say(s, from, &wire, (struct slice){0});
}

static inline void follow(struct played *p, const struct wire *wire)
{
    struct script *s = p->script;
    uint64_t last = wire->a + wire->count;
    if (wire->a > p->has) {
        say_appended(s, p->id, wire->term, wire->a, p->has);
        return;
    }
    if (p->limit > 0 && last > p->limit)
        last = p->limit;
    p->has = last > p->has ? last : p->has;
    say_appended(s, p->id, wire->term, 0, last);
}

static inline void on_scripted(void *data, uint64_t from, struct slice message)
{
    struct played *p = data;
    struct script *s = p->script;
    struct heard *heard = calloc(1, sizeof *heard);
    (void)from;
    heard->to = p->id;
    buffer_add_slice(&heard->bytes, message);
    assert_int_equal(wire_decode(buffer_slice(&heard->bytes), &heard->wire), STATUS_OK);
    if (s->last != NULL)
        s->last->next = heard;
    else
        s->first = heard;
    s->last = heard;
    if (heard->wire.type == WIRE_APPEND && p->follows)
        follow(p, &heard->wire);
    if (heard->wire.type == WIRE_CONFIRM && p->follows) {
        struct wire wire = {.type = WIRE_CONFIRMED, .term = heard->wire.term, .a = heard->wire.a};
        say(s, p->id, &wire, (struct slice){0});
    }
    if (heard->wire.type == WIRE_VOTE && p->votes) {
        struct wire wire = {.type = WIRE_VOTED, .term = heard->wire.term, .flags = WIRE_GRANTED};
        wire.flags |= heard->wire.flags & WIRE_PRE_VOTE;
        say(s, p->id, &wire, (struct slice){0});
    }
}

static inline void on_scripted_connection(void *data, uint64_t node_id, bool up)
{
    (void)data, (void)node_id, (void)up;
}

/* forget: what was heard so far. */
static inline void forget(struct script *s)
{
    while (s->first != NULL) {
        struct heard *heard = s->first;
        s->first = heard->next;
        buffer_free(&heard->bytes);
        free(heard);
    }
    s->last = NULL;
}

/* heard_last: the last message of a type that `to` got since then; NULL: none. */
static inline const struct heard *heard_last(const struct script *s, uint64_t to,
                                             enum wire_type type)
{
    const struct heard *found = NULL;
    for (const struct heard *heard = s->first; heard != NULL; heard = heard->next) {
        if (heard->to == to && heard->wire.type == type)
            found = heard;
    }
    return found;
}

/* script_new: `options` says how node 1 is made. */
static inline struct script *script_new(const struct shard_options *options)
{
    struct script *s = calloc(1, sizeof *s);
    s->c = cluster_make(3);
    for (uint64_t id = 2; id <= PLAYED_MAX; id++) {
        struct bus *bus = &s->c->nodes[id].bus;
        s->played[id] = (struct played){.script = s, .id = id, .has = 1};
        bus->handler = (struct peer_handler){on_scripted, on_scripted_connection, &s->played[id]};
        bus->handling = true;
    }
    s->c->nodes[SHARD_NODE].options = *options;
    start_node(s->c, SHARD_NODE);
    return s;
}

static inline void script_free(struct script *s)
{
    cluster_free(s->c);
    forget(s);
    free(s);
}

static inline struct shard_stats stats_of(const struct script *s)
{
    struct shard_stats stats;
    shard_stats(shard_of(s), &stats);
    return stats;
}

/* ---- a leader that is played ---- */

static inline void add_entry(struct buffer *heads, struct buffer *payloads, uint64_t term,
                             uint16_t type, struct slice payload)
{
    struct wire_entry entry = {term, (uint32_t)payload.length, crc32c(0, payload), type};
    wire_entry_encode(heads, &entry);
    buffer_add_slice(payloads, payload);
}

/* A payload that changes little: as the leader `from` would build it. */
static inline void tick_payload(struct buffer *out, uint64_t from, uint64_t term, uint64_t commit)
{
    struct command origin = {.type = COMMAND_ORIGIN};
    struct command tick = {.type = COMMAND_TICK};
    origin.origin = (struct command_origin){
        .node_id = from, .boot = 1000 + from, .seq = 1, .term = term, .commit = commit};
    entry_begin(out);
    command_encode(out, &origin);
    command_encode(out, &tick);
    entry_finish(out, 2, 1000);
}

/* say_append: `n` such entries behind prev, of this term or `entry_term`; `change`: one more, with
 * these members. */
struct appending {
    uint64_t from, term, prev, prev_term, commit, entry_term;
    unsigned n;
    const struct raft_configuration *change;
};
static inline void say_append(struct script *s, struct appending a)
{
    struct wire wire = {.type = WIRE_APPEND, .count = a.n, .term = a.term};
    struct buffer items = {0};
    struct buffer payloads = {0};
    struct buffer payload = {0};
    wire.a = a.prev;
    wire.b = a.prev_term;
    wire.c = a.commit;
    wire.d = 1000;
    tick_payload(&payload, a.from, a.term, a.commit);
    for (unsigned i = 0; i < a.n; i++)
        add_entry(&items, &payloads, a.entry_term > 0 ? a.entry_term : a.term, RAFT_COMMAND,
                  buffer_slice(&payload));
    if (a.change != NULL) {
        struct raft_buffer bytes;
        assert_int_equal(raft_configuration_encode(a.change, &bytes), 0);
        add_entry(&items, &payloads, a.entry_term > 0 ? a.entry_term : a.term, RAFT_CHANGE,
                  slice_make(bytes.base, bytes.len));
        raft_free(bytes.base);
        wire.count++;
    }
    buffer_add_slice(&items, buffer_slice(&payloads));
    say(s, a.from, &wire, buffer_slice(&items));
    buffer_free(&items);
    buffer_free(&payloads);
    buffer_free(&payload);
}

static inline void say_timeout_now(struct script *s, uint64_t from, uint64_t term, uint64_t last,
                                   uint64_t last_term)
{
    struct wire wire = {.type = WIRE_TIMEOUT_NOW, .term = term, .a = last, .b = last_term};
    say(s, from, &wire, (struct slice){0});
}

static inline void say_vote(struct script *s, uint64_t from, uint64_t term, uint16_t flags,
                            uint64_t last, uint64_t last_term)
{
    struct wire wire = {.type = WIRE_VOTE, .flags = flags, .term = term};
    wire.a = from;
    wire.b = last;
    wire.c = last_term;
    say(s, from, &wire, (struct slice){0});
}

/* ---- waiting ---- */

static inline void on_durable(struct shard_read *read, enum status status)
{
    (void)status;
    *(bool *)read->data = true;
}

/* wait_durable: the entry is on the shard's disk, and the library has been told. */
static inline void wait_durable(struct script *s, uint64_t index)
{
    bool done = false;
    struct body_ref ref = {index, 0, 8};
    struct shard_read read = {.refs = &ref, .count = 1, .done = on_durable, .data = &done};
    UNTIL(s->c, stats_of(s).last_index >= index);
    shard_read(shard_of(s), &read);
    UNTIL(s->c, done);
    buffer_free(&read.out);
}

/* until_applied: the leader `from` says again and again, as leaders do, that the entry is
 * committed, until it is applied. Once is not enough where the shard stands for election meanwhile,
 * as it may on a busy machine. */
static inline void until_applied(struct script *s, uint64_t from, uint64_t term, uint64_t index,
                                 uint64_t entry_term)
{
    struct appending beat = {
        .from = from, .term = term, .prev = index, .prev_term = entry_term, .commit = index};
    for (int i = 0; i < 1000 && stats_of(s).applied_index < index; i++) {
        run_ms(s->c, 20);
        say_append(s, beat);
    }
    assert_int_equal(stats_of(s).applied_index, index);
}

/* lead: the shard leads, in term 3, with node 2 as its follower. */
static inline void lead(struct script *s)
{
    s->played[2].votes = s->played[2].follows = true;
    say_append(s, (struct appending){.from = 2, .term = 2, .prev = 1, .prev_term = 1});
    say_timeout_now(s, 2, 2, 1, 1);
    UNTIL(s->c, shard_leads(shard_of(s)));
    assert_int_equal(stats_of(s).term, 3);
}

#endif
