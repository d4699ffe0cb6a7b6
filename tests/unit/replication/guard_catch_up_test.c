/* SPDX-License-Identifier: Apache-2.0 */
/* What the Raft library gets wrong when a snapshot is taken over, and that it does no harm: G6 and
 * G12 of broker/replication/guard.c, with three real nodes. See guard_test.c. */
#include "broker/replication/wire.h"
#include "tests/unit/replication/cluster.h"

/* What the hooks below look at. */
struct lagging {
    uint64_t victim;
    bool fetching; /* the victim has asked for a snapshot */
    bool elects;   /* and has asked for votes since */
};

static enum wire_type type_of(struct slice message)
{
    struct wire wire;
    return wire_decode(message, &wire) == STATUS_OK ? wire.type : WIRE_TYPE_COUNT;
}

/* silence: as soon as it fetches a snapshot, the victim hears nothing of its leader but that. */
static bool silence(struct cluster *c, uint64_t from, uint64_t to, struct slice message)
{
    struct lagging *l = c->data;
    enum wire_type type = type_of(message);
    if (from == l->victim && type == WIRE_FETCH)
        l->fetching = true;
    if (from == l->victim && type == WIRE_VOTE && l->fetching)
        l->elects = true;
    return l->fetching && ((to == l->victim && (type == WIRE_APPEND || type == WIRE_OFFER)) ||
                           (from == l->victim && type == WIRE_VOTE));
}

static bool is_piece(struct cluster *c, uint64_t from, uint64_t to, struct slice message)
{
    const struct lagging *l = c->data;
    (void)from;
    return to == l->victim && type_of(message) == WIRE_PIECE;
}

static void fill(struct cluster *c, uint64_t at, uint64_t queue_id, int count)
{
    struct outcome o;
    for (int i = 0; i < count; i++) {
        begin_send(c, at, &o, queue_id, "some message or other, of a few bytes");
        UNTIL(c, o.done);
        assert_int_equal(o.status, STATUS_OK);
    }
}

static uint64_t snapshot_index(struct cluster *c, uint64_t id)
{
    struct shard_stats stats;
    shard_stats(c->nodes[id].shard, &stats);
    return stats.snapshot_index;
}

/* start_three: nodes that make snapshots often. */
static struct cluster *start_three(void)
{
    struct cluster *c = cluster_make(3);
    for (uint64_t id = 1; id <= 3; id++) {
        c->nodes[id].options.snapshot_bytes = 4096;
        c->nodes[id].options.trailing_max = 16;
        start_node(c, id);
    }
    UNTIL(c, all_ready(c));
    return c;
}

/* leave_behind: `victim` is stopped, and the log of the others does not reach back to it. */
static void leave_behind(struct cluster *c, uint64_t victim, uint64_t queue_id)
{
    uint64_t had = core_applied_index(shard_core(c->nodes[victim].shard));
    stop_node(c, victim);
    UNTIL(c, leader_of(c) != 0);
    for (int i = 0; i < 40 && snapshot_index(c, leader_of(c)) < had + 60; i++)
        fill(c, leader_of(c), queue_id, 20);
    assert_true(snapshot_index(c, leader_of(c)) > had + 40);
}

/* G6: its election timer ends while the snapshot is on its way. */
static void a_candidate_takes_over_a_snapshot(void **state)
{
    (void)state;
    struct cluster *c = start_three();
    uint64_t queue_id = create_queue(c, 1, "orders");
    struct lagging l = {.victim = leader_of(c) % 3 + 1};
    leave_behind(c, l.victim, queue_id);
    c->data = &l;
    c->drop = silence;
    c->later = is_piece;
    c->later_turns = UINT32_MAX;
    start_node(c, l.victim);
    UNTIL(c, l.elects);
    uint64_t had = snapshot_index(c, l.victim);
    c->later = NULL;
    UNTIL(c, snapshot_index(c, l.victim) > had);
    c->drop = NULL;
    UNTIL(c, all_ready(c));
    assert_same_state(c);
    cluster_free(c);
}

static void on_change(struct shard_change *change, enum status status)
{
    *(int *)change->data = (int)status + 1;
}

static int end_change(struct cluster *c, int *done)
{
    UNTIL(c, *done > 0);
    return *done - 1;
}

static bool drop_appended(struct cluster *c, uint64_t from, uint64_t to, struct slice message)
{
    (void)c, (void)from, (void)to;
    return type_of(message) == WIRE_APPENDED;
}

static struct shard_stats stats_of(struct cluster *c, uint64_t id)
{
    struct shard_stats stats;
    shard_stats(c->nodes[id].shard, &stats);
    return stats;
}

/* G12: it had a change of members that was not committed; the snapshot is from behind it. When it
 * leads, it makes changes of its own. */
static void an_installed_snapshot_ends_a_change_of_members(void **state)
{
    (void)state;
    struct cluster *c = start_three();
    uint64_t queue_id = create_queue(c, 1, "orders");
    uint64_t leader = leader_of(c);
    uint64_t victim = leader % 3 + 1;
    int done = 0;
    struct shard_change change = {.done = on_change, .data = &done};
    fill(c, leader, queue_id, 5);
    UNTIL(c, converged(c));
    uint64_t last = stats_of(c, leader).last_index;
    c->drop = drop_appended;
    shard_member_add(c->nodes[leader].shard, &change, 4, c->addresses[3]);
    UNTIL(c, stats_of(c, victim).last_index > last);
    run_ms(c, 20);
    isolate(c, victim, false);
    stop_node(c, victim);
    c->drop = NULL;
    assert_int_equal(end_change(c, &done), STATUS_OK);
    rejoin(c, victim);
    start_node(c, victim);
    /* again, so that it lags */
    isolate(c, victim, true);
    for (int i = 0; i < 40 && snapshot_index(c, leader_of(c)) < last + 60; i++)
        fill(c, leader_of(c), queue_id, 20);
    rejoin(c, victim);
    UNTIL(c, snapshot_index(c, victim) > last);
    UNTIL(c, all_ready(c));
    done = 0;
    shard_transfer(c->nodes[leader_of(c)].shard, &change, victim);
    assert_int_equal(end_change(c, &done), STATUS_OK);
    UNTIL(c, leader_of(c) == victim);
    done = 0;
    shard_member_add(c->nodes[victim].shard, &change, 5, c->addresses[4]);
    assert_int_equal(end_change(c, &done), STATUS_OK);
    assert_same_state(c);
    cluster_free(c);
}

/* G16: what it sent to a learner before it ended may be lost here. */
static void an_only_voter_leads_in_a_term_of_its_own(void **state)
{
    (void)state;
    struct cluster *c = cluster_make(1);
    start_node(c, 1);
    UNTIL(c, all_ready(c));
    uint64_t term = stats_of(c, 1).term;
    stop_node(c, 1);
    start_node(c, 1);
    UNTIL(c, all_ready(c));
    assert_true(stats_of(c, 1).term > term);
    cluster_free(c);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_candidate_takes_over_a_snapshot),
        cmocka_unit_test(an_installed_snapshot_ends_a_change_of_members),
        cmocka_unit_test(an_only_voter_leads_in_a_term_of_its_own),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
