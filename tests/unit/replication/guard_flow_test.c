/* SPDX-License-Identifier: Apache-2.0 */
/* What the Raft library gets wrong, and that it does no harm: what a leader commits and sends, G1,
 * G7, G8 and G12 of broker/replication/guard.c. See guard_test.c. */
#include "tests/unit/replication/fixed_random.h"
#include "tests/unit/replication/script.h"

#define BIG_BYTES (300u << 10) /* more than one entry holds besides: batches of one */

static const struct shard_options plain;

/* begin_entry: a send of so many bytes, to a queue that is not there: an entry of its own. */
static void begin_entry(struct script *s, struct outcome *o, size_t bytes)
{
    char *text = malloc(bytes + 1);
    memset(text, 'x', bytes);
    text[bytes] = '\0';
    begin_send(s->c, SHARD_NODE, o, 1, text);
    free(text);
}

static void add_entries(struct script *s, int count, size_t bytes)
{
    struct outcome o;
    for (int i = 0; i < count; i++) {
        begin_entry(s, &o, bytes);
        UNTIL(s->c, o.done);
        assert_int_equal(o.status, STATUS_OK);
    }
}

/* G1: a majority has the first of two entries; that the leader has the second too is no reason to
 * wait for it. */
static void entries_are_committed_though_more_is_stored(void **state)
{
    (void)state;
    struct script *s = script_new(&plain);
    struct outcome o[2];
    lead(s);
    uint64_t base = stats_of(s).last_index;
    s->played[2].limit = base;
    begin_entry(s, &o[0], BIG_BYTES);
    wait_durable(s, base + 1);
    begin_entry(s, &o[1], BIG_BYTES);
    wait_durable(s, base + 2);
    assert_false(o[0].done);
    say_appended(s, 2, 3, 0, base + 1);
    assert_int_equal(stats_of(s).applied_index, base + 1);
    UNTIL(s->c, o[0].done);
    assert_int_equal(o[0].status, STATUS_OK);
    assert_false(o[1].done);
    s->played[2].has = base + 2;
    s->played[2].limit = 0;
    UNTIL(s->c, o[1].done);
    assert_int_equal(o[1].status, STATUS_OK);
    script_free(s);
}

/* G7 */
static void appends_are_clipped(void **state)
{
    (void)state;
    struct script *s = script_new(&plain);
    lead(s);
    add_entries(s, 8, BIG_BYTES);
    run_ms(s->c, 200);
    unsigned seen = 0;
    for (const struct heard *heard = s->first; heard != NULL; heard = heard->next) {
        const struct wire *wire = &heard->wire;
        if (wire->type != WIRE_APPEND)
            continue;
        seen += heard->to == 3 && wire->count > 0 ? 1 : 0;
        assert_true(heard->bytes.length < (1u << 20) + BIG_BYTES);
        assert_true(heard->to != 3 || wire->count <= 1 ||
                    heard->bytes.length < (64u << 10) + BIG_BYTES);
    }
    assert_true(seen > 0);
    s->played[3].follows = true;
    UNTIL(s->c, s->played[3].has == stats_of(s).last_index);
    script_free(s);
}

/* G7: the library believes that all it wanted to send was sent. */
static void appends_follow_each_other_without_a_gap(void **state)
{
    (void)state;
    struct script *s = script_new(&plain);
    lead(s);
    add_entries(s, 12, BIG_BYTES);
    s->played[3].follows = true;
    uint64_t last = stats_of(s).last_index;
    forget(s);
    UNTIL(s->c, s->played[3].has == last);
    uint64_t sent = UINT64_MAX;
    for (const struct heard *heard = s->first; heard != NULL; heard = heard->next) {
        const struct wire *wire = &heard->wire;
        if (heard->to != 3 || wire->type != WIRE_APPEND)
            continue;
        if (sent != UINT64_MAX && sent > 1)
            assert_true(wire->a <= sent);
        uint64_t end = wire->a + wire->count;
        sent = sent == UINT64_MAX || end > sent ? end : sent;
    }
    script_free(s);
}

static bool sent_to(const struct script *s, uint64_t to, uint64_t index)
{
    for (const struct heard *heard = s->first; heard != NULL; heard = heard->next) {
        if (heard->to == to && heard->wire.type == WIRE_APPEND && heard->wire.count > 0 &&
            heard->wire.a + heard->wire.count >= index)
            return true;
    }
    return false;
}

/* G7: after a probe that is answered well the next entry goes out with the turn that proposes it.
 * A heartbeat in between could hide that it does not: five times. */
static void a_follower_that_answers_a_probe_gets_what_is_new_at_once(void **state)
{
    (void)state;
    struct script *s = script_new(&plain);
    s->played[3].follows = true;
    lead(s);
    for (int i = 0; i < 5; i++) {
        struct outcome o;
        uint64_t base = stats_of(s).last_index;
        UNTIL(s->c, s->played[2].has == base && s->played[3].has == base);
        run_ms(s->c, 20);
        forget(s);
        say_appended(s, 3, 3, base + 1, base); /* it lost something; the leader probes */
        UNTIL(s->c, heard_last(s, 3, WIRE_APPEND) != NULL);
        begin_entry(s, &o, 10);
        UNTIL(s->c, stats_of(s).last_index == base + 1);
        while (s->c->first != NULL && !sent_to(s, 3, base + 1) && !sent_to(s, 2, base + 1))
            uv_run(&s->c->loop, UV_RUN_NOWAIT);
        assert_true(sent_to(s, 3, base + 1));
        UNTIL(s->c, o.done);
    }
    script_free(s);
}

/* ---- what the library allocates ---- */

#define MANY 400u
static unsigned big_allocations;

static void note_allocation(size_t bytes)
{
    if (bytes >= MANY * sizeof(struct raft_entry))
        big_allocations++;
}

static void *heap_malloc(void *data, size_t size)
{
    (void)data;
    note_allocation(size);
    return malloc(size);
}

static void heap_free(void *data, void *p)
{
    (void)data;
    free(p);
}

static void *heap_calloc(void *data, size_t count, size_t size)
{
    (void)data;
    note_allocation(count * size);
    return calloc(count, size);
}

static void *heap_realloc(void *data, void *p, size_t size)
{
    (void)data;
    note_allocation(size);
    return realloc(p, size);
}

static void *heap_aligned_alloc(void *data, size_t alignment, size_t size)
{
    (void)data;
    return aligned_alloc(alignment, size);
}

static void heap_aligned_free(void *data, size_t alignment, void *p)
{
    (void)data, (void)alignment;
    free(p);
}

/* G8: the list of all that a follower lacks is not made for each entry that is added. */
static void nothing_is_gathered_for_a_follower_that_cannot_be_reached(void **state)
{
    (void)state;
    struct raft_heap heap = {.data = NULL,
                             .malloc = heap_malloc,
                             .free = heap_free,
                             .calloc = heap_calloc,
                             .realloc = heap_realloc,
                             .aligned_alloc = heap_aligned_alloc,
                             .aligned_free = heap_aligned_free};
    struct script *s = script_new(&plain);
    lead(s);
    raft_heap_set(
        &heap); /* a leader is sent no appends, so nothing is lent to this one (raft_net.c) */
    cut(s->c, SHARD_NODE, 3, true);
    add_entries(s, MANY + 20, 10);
    big_allocations = 0;
    add_entries(s, 50, 10);
    assert_true(big_allocations < 10);
    script_free(s);
    raft_heap_set_default();
}

/* settle_snapshots: until no other is on its way, behind which the log would be shorter. */
static void settle_snapshots(struct script *s)
{
    uint64_t index;
    do {
        index = stats_of(s).snapshot_index;
        run_ms(s->c, 200);
    } while (stats_of(s).snapshot_pid != 0 || stats_of(s).snapshot_index != index);
}

/* G12: the follower has taken over a snapshot; by then the leader offers a newer one. What follows
 * the older is still in its log. */
static void an_older_snapshot_will_do(void **state)
{
    (void)state;
    static const struct shard_options often = {.snapshot_bytes = 4096, .trailing_max = 64};
    struct script *s = script_new(&often);
    lead(s);
    for (int i = 0; i < 20 && stats_of(s).snapshot_index < 100; i++)
        add_entries(s, 30, 10);
    settle_snapshots(s);
    for (int i = 0; i < 100 && heard_last(s, 3, WIRE_OFFER) == NULL; i++) {
        say_appended(s, 3, 3, 1, 0); /* it has nothing at all */
        run_ms(s->c, 50);
    }
    assert_non_null(heard_last(s, 3, WIRE_OFFER));
    uint64_t older = heard_last(s, 3, WIRE_OFFER)->wire.a - 5;
    forget(s);
    say_appended(s, 3, 3, 0, older);
    s->played[3].has = older;
    run_ms(s->c, 800); /* after OFFER_AGAIN_MS the library would begin anew by itself */
    assert_true(sent_to(s, 3, older + 1));
    assert_true(heard_last(s, 3, WIRE_APPEND)->wire.a >= older);
    script_free(s);
}

/* While it was away its entries went out of the log. What was offered meanwhile nobody heard. */
static void a_snapshot_is_offered_to_one_that_comes_back(void **state)
{
    (void)state;
    static const struct shard_options often = {.snapshot_bytes = 4096, .trailing_max = 16};
    struct script *s = script_new(&often);
    s->played[3].follows = true;
    lead(s);
    add_entries(s, 5, 10);
    UNTIL(s->c, s->played[3].has == stats_of(s).last_index);
    uint64_t had = s->played[3].has;
    cut(s->c, SHARD_NODE, 3, true);
    for (int i = 0; i < 20 && stats_of(s).snapshot_index < had + 40; i++)
        add_entries(s, 30, 10);
    assert_true(stats_of(s).snapshot_index >= had + 40);
    forget(s);
    heal(s->c, SHARD_NODE, 3);
    run_ms(s->c, 500);
    assert_non_null(heard_last(s, 3, WIRE_OFFER));
    script_free(s);
}

/* ---- what became of it ---- */

/* R1, R2: the library says LEADERSHIPLOST of an entry that the next leader has: it is answered when
 * that one commits it, and not sent again. */
static void an_entry_of_unknown_fate_is_not_repeated(void **state)
{
    (void)state;
    struct script *s = script_new(&plain);
    struct outcome o;
    lead(s);
    uint64_t base = stats_of(s).last_index;
    s->played[2].limit = base;
    begin_entry(s, &o, 10);
    wait_durable(s, base + 1);
    struct appending a = {.from = 2, .term = 4, .prev = base + 1, .prev_term = 3, .n = 1};
    say_append(s, a);
    wait_durable(s, base + 2);
    run_ms(s->c, 50);
    assert_false(shard_leads(shard_of(s)));
    assert_false(o.done);
    assert_null(heard_last(s, 2, WIRE_CALLS));
    a = (struct appending){.from = 2, .term = 4, .prev = base + 2, .prev_term = 4};
    a.commit = base + 2;
    say_append(s, a);
    UNTIL(s->c, o.done);
    assert_int_equal(o.status, STATUS_OK);
    run_ms(s->c, 50);
    assert_null(heard_last(s, 2, WIRE_CALLS));
    script_free(s);
}

/* And one that the next leader overwrites is sent again, when that is committed and not before. */
static void an_entry_that_was_overwritten_is_sent_again(void **state)
{
    (void)state;
    struct script *s = script_new(&plain);
    struct outcome o;
    lead(s);
    uint64_t base = stats_of(s).last_index;
    s->played[2].limit = base;
    begin_entry(s, &o, 10);
    wait_durable(s, base + 1);
    struct appending a = {.from = 3, .term = 4, .prev = base, .prev_term = 3, .n = 1};
    say_append(s, a);
    run_ms(s->c, 50);
    wait_durable(s, base + 1);
    assert_null(heard_last(s, 3, WIRE_CALLS));
    assert_false(o.done);
    a = (struct appending){.from = 3, .term = 4, .prev = base + 1, .prev_term = 4};
    a.commit = base + 1;
    say_append(s, a);
    UNTIL(s->c, heard_last(s, 3, WIRE_CALLS) != NULL);
    assert_int_equal(heard_last(s, 3, WIRE_CALLS)->wire.count, 1);
    assert_false(o.done);
    script_free(s);
    assert_int_equal(o.status, STATUS_CLOSED);
}

/* R7: a node that knows of so much that it lacks is not ready; it says so from the first heartbeat
 * on, and until it has caught up. Nor is one that has had no leader for a while. */
static void a_node_that_lags_is_not_ready(void **state)
{
    (void)state;
    struct script *s = script_new(&plain);
    lead(s);
    uint64_t base = stats_of(s).last_index;
    assert_true(shard_ready(shard_of(s)));
    struct appending a = {.from = 2, .term = 4, .prev = base, .prev_term = 3, .commit = base};
    say_append(s, a);
    run_ms(s->c, 20);
    assert_true(shard_ready(shard_of(s)));
    a.commit = base + 400;
    a.n = 100;
    say_append(s, a);
    UNTIL(s->c, stats_of(s).applied_index == base + 100);
    assert_false(shard_ready(shard_of(s)));
    a.prev = base + 100;
    a.prev_term = 4;
    a.n = 290;
    say_append(s, a);
    UNTIL(s->c, shard_ready(shard_of(s)));
    assert_int_equal(stats_of(s).applied_index, base + 390);
    cut(s->c, SHARD_NODE, 2, true);
    assert_true(shard_ready(shard_of(s))); /* calls wait for another leader */
    UNTIL(s->c, !shard_ready(shard_of(s)));
    script_free(s);
}

/* ---- handing over ---- */

static void on_change(struct shard_change *change, enum status status)
{
    *(int *)change->data = (int)status + 1;
}

static bool is_timeout_now(struct cluster *c, uint64_t from, uint64_t to, struct slice message)
{
    struct wire wire;
    (void)c, (void)from, (void)to;
    return wire_decode(message, &wire) == STATUS_OK && wire.type == WIRE_TIMEOUT_NOW;
}

/* The message that hands over is stuck in the network until the handover has long been given up,
 * and its request freed. Calls wait meanwhile, and go on. */
static void a_handover_whose_message_is_stuck_ends(void **state)
{
    (void)state;
    struct script *s = script_new(&plain);
    struct outcome o;
    int done = 0;
    struct shard_change change = {.done = on_change, .data = &done};
    lead(s);
    s->c->later = is_timeout_now;
    s->c->later_turns = UINT32_MAX;
    shard_transfer(shard_of(s), &change, 2);
    run_ms(s->c, 50);
    begin_entry(s, &o, 10);
    UNTIL(s->c, done > 0);
    assert_int_equal(done - 1, STATUS_TIMEOUT);
    UNTIL(s->c, o.done);
    assert_int_equal(o.status, STATUS_OK);
    s->c->later = NULL;
    UNTIL(s->c, heard_last(s, 2, WIRE_TIMEOUT_NOW) != NULL);
    add_entries(s, 1, 10);
    script_free(s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_are_committed_though_more_is_stored),
        cmocka_unit_test(appends_are_clipped),
        cmocka_unit_test(appends_follow_each_other_without_a_gap),
        cmocka_unit_test(a_follower_that_answers_a_probe_gets_what_is_new_at_once),
        cmocka_unit_test(nothing_is_gathered_for_a_follower_that_cannot_be_reached),
        cmocka_unit_test(an_older_snapshot_will_do),
        cmocka_unit_test(a_snapshot_is_offered_to_one_that_comes_back),
        cmocka_unit_test(an_entry_of_unknown_fate_is_not_repeated),
        cmocka_unit_test(an_entry_that_was_overwritten_is_sent_again),
        cmocka_unit_test(a_node_that_lags_is_not_ready),
        cmocka_unit_test(a_handover_whose_message_is_stuck_ends),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
