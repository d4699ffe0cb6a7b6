/* SPDX-License-Identifier: Apache-2.0 */
/* The planner by itself: clusters of random nodes, duties and lists, and what is left when it has
 * nothing more to say. A failure prints the seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/shards/plan.h"

#include <stdio.h>
#include <string.h>

#define NODES_MAX  9u
#define SHARDS_MAX 12u
#define STEPS_MAX  2000u
#define SEEDS      400u

static uint64_t last_seed;

struct world {
    struct plan_node nodes[NODES_MAX];
    struct plan_shard shards[SHARDS_MAX];
    struct plan plan;
    uint64_t random;
};

static uint64_t draw(struct world *w, uint64_t below)
{
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return (w->random >> 33) % below;
}

static struct replica_list list_of(const char *text)
{
    struct replica_list list;
    assert_true(replicas_parse(slice_of(text), &list));
    return list;
}

static void begin(struct world *w, size_t nodes, size_t shards, uint32_t replication)
{
    w->plan = (struct plan){.nodes = w->nodes,
                            .node_count = nodes,
                            .shards = w->shards,
                            .shard_count = shards,
                            .replication = replication};
    for (size_t i = 0; i < nodes; i++)
        w->nodes[i] = (struct plan_node){.id = i + 1, .reached = true};
}

static size_t actives(const struct world *w)
{
    size_t count = 0;
    for (size_t i = 0; i < w->plan.node_count; i++)
        count += w->nodes[i].duty == NODE_ACTIVE;
    return count;
}

static bool is_active(const struct world *w, uint64_t id)
{
    return id <= w->plan.node_count && w->nodes[id - 1].duty == NODE_ACTIVE;
}

static size_t active_of(const struct world *w, const struct replica_list *list)
{
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++)
        count += !list->at[i].leaving && is_active(w, list->at[i].node_id);
    return count;
}

static size_t staying(const struct replica_list *list)
{
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++)
        count += !list->at[i].leaving;
    return count;
}

/* Some of those that leave have let go. */
static void strike(struct world *w, bool all)
{
    for (size_t k = 0; k < w->plan.shard_count; k++) {
        struct replica_list *list = &w->shards[k].list;
        for (size_t i = list->count; i > 0; i--) {
            if (list->at[i - 1].leaving && (all || draw(w, 3) == 0))
                replicas_drop(list, list->at[i - 1].node_id);
        }
    }
}

/* One change at most adds one, and at most gives one up; that one only while enough are left. */
static void check_change(const struct world *w, const struct replica_list *old,
                         const struct replica_list *new)
{
    size_t added = 0;
    size_t given_up = 0;
    for (size_t i = 0; i < new->count; i++) {
        const struct replica *before = replicas_find(old, new->at[i].node_id);
        added += before == NULL;
        if (before == NULL) /* only an active node gets one, and one that has let go (P4) */
            assert_true(is_active(w, new->at[i].node_id) && !new->at[i].leaving);
        else if (before->leaving)
            assert_true(new->at[i].leaving);
        else
            given_up += new->at[i].leaving;
    }
    for (size_t i = 0; i < old->count; i++)
        assert_non_null(replicas_find(new, old->at[i].node_id));
    assert_true(added <= 1);
    assert_true(given_up <= 1);
    if (given_up == 0)
        return;
    size_t possible = actives(w) < w->plan.replication ? actives(w) : w->plan.replication;
    assert_true(staying(new) >= 1);
    /* Those that still let go of it cannot be chosen: then fewer must do for one that is leaving.
     */
    assert_true(active_of(w, new) >= possible || added == 0);
    assert_true(active_of(w, new) >= w->plan.replication || active_of(w, new) == active_of(w, old));
}

static unsigned settle(struct world *w, bool at_once)
{
    unsigned steps = 0;
    for (; steps < STEPS_MAX; steps++) {
        size_t shard;
        struct replica_list list;
        if (!plan_next(&w->plan, &shard, &list)) {
            bool left = false;
            for (size_t k = 0; k < w->plan.shard_count; k++)
                left |= staying(&w->shards[k].list) < w->shards[k].list.count;
            if (!left)
                return steps;
            strike(w, true);
            continue;
        }
        check_change(w, &w->shards[shard].list, &list);
        w->shards[shard].list = list;
        strike(w, at_once);
    }
    return steps;
}

static void check_even(const struct world *w, size_t (*count)(const struct world *, uint64_t))
{
    size_t least = SIZE_MAX;
    size_t most = 0;
    for (size_t i = 0; i < w->plan.node_count; i++) {
        if (w->nodes[i].duty != NODE_ACTIVE)
            continue;
        size_t one = count(w, w->nodes[i].id);
        least = one < least ? one : least;
        most = one > most ? one : most;
    }
    assert_true(most <= least + 1);
}

static size_t load(const struct world *w, uint64_t id)
{
    size_t count = 0;
    for (size_t k = 0; k < w->plan.shard_count; k++)
        count += replicas_find(&w->shards[k].list, id) != NULL;
    return count;
}

static size_t leads(const struct world *w, uint64_t id)
{
    size_t count = 0;
    for (size_t k = 0; k < w->plan.shard_count; k++) {
        const struct replica_list *list = &w->shards[k].list;
        size_t i = 0;
        while (i < list->count && !is_active(w, list->at[i].node_id))
            i++;
        count += i < list->count && list->at[i].node_id == id;
    }
    return count;
}

static void check_settled(const struct world *w)
{
    size_t possible = actives(w) < w->plan.replication ? actives(w) : w->plan.replication;
    for (size_t k = 0; k < w->plan.shard_count; k++) {
        const struct replica_list *list = &w->shards[k].list;
        assert_int_equal(active_of(w, list), possible);
        for (size_t i = 0; i < list->count; i++) {
            assert_true(list->at[i].node_id <= w->plan.node_count);
            enum node_duty duty = w->nodes[list->at[i].node_id - 1].duty;
            /* who is drained keeps it only for want of others */
            assert_true(duty == NODE_ACTIVE ||
                        (duty == NODE_DRAINED && possible < w->plan.replication));
        }
    }
    check_even(w, load);
    check_even(w, leads);
}

static void random_world(struct world *w, uint64_t seed)
{
    w->random = seed;
    begin(w, 1 + draw(w, NODES_MAX), 1 + draw(w, SHARDS_MAX), 1 + (uint32_t)draw(w, 5));
    for (size_t i = 1; i < w->plan.node_count; i++) /* node 1 is active */
        w->nodes[i].duty = (enum node_duty)(draw(w, 4) == 0 ? 1 + draw(w, 2) : 0);
    for (size_t k = 0; k < w->plan.shard_count; k++) {
        struct replica_list list = {.version = k + 1};
        for (uint64_t id = 1; id <= NODES_MAX; id++) { /* members of old, too */
            if (draw(w, 3) == 0)
                list.at[list.count++] = (struct replica){.node_id = id, .leaving = draw(w, 6) == 0};
        }
        if (staying(&list) == 0) {
            replicas_drop(&list, 1);
            list.at[list.count++] = (struct replica){.node_id = 1};
        }
        w->shards[k] = (struct plan_shard){.list = list};
    }
}

static void test_random_clusters_come_to_rest_evenly(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world w = {0};
        random_world(&w, seed);
        last_seed = seed;
        unsigned steps = settle(&w, seed % 2 == 0);
        if (steps == STEPS_MAX)
            fail_msg("seed %llu does not come to rest", (unsigned long long)seed);
        check_settled(&w);
    }
}

static int tell_seed(void **state)
{
    (void)state;
    print_message("[ last seed: %llu ]\n", (unsigned long long)last_seed);
    return 0;
}

static void expect(struct world *w, size_t shard, const char *list)
{
    size_t which;
    struct replica_list next;
    struct buffer text = {0};
    assert_true(plan_next(&w->plan, &which, &next));
    replicas_print(&text, &next);
    buffer_add_byte(&text, 0);
    assert_int_equal(which, shard);
    assert_string_equal((const char *)text.data, list);
    buffer_free(&text);
    w->shards[which].list = next;
}

static void expect_rest(struct world *w)
{
    size_t which;
    struct replica_list next;
    assert_false(plan_next(&w->plan, &which, &next));
}

static void test_a_dead_node_is_replaced_when_it_is_removed(void **state)
{
    struct world w = {0};
    (void)state;
    begin(&w, 4, 1, 3);
    w.shards[0].list = list_of("1 2 3");
    expect_rest(&w);
    w.nodes[0].duty = NODE_LEAVING;
    expect(&w, 0, "1 2 3 4");
    w.shards[0].moves = true; /* node 4 copies it */
    expect_rest(&w);
    w.shards[0].moves = false;
    expect(&w, 0, "2 3 4 -1");
    expect_rest(&w);
}

/* Three nodes with three replicas: draining one leaves its data where they are. */
static void test_a_drained_node_keeps_what_nobody_else_can_take(void **state)
{
    struct world w = {0};
    (void)state;
    begin(&w, 3, 1, 3);
    w.nodes[1].duty = NODE_DRAINED;
    w.shards[0].list = list_of("2 3 1");
    expect_rest(&w);
    w.nodes[1].duty = NODE_LEAVING;
    expect(&w, 0, "3 1 -2");
    expect_rest(&w);
}

static void test_a_node_that_cannot_be_reached_gets_nothing(void **state)
{
    struct world w = {0};
    (void)state;
    begin(&w, 4, 2, 2);
    w.shards[0].list = list_of("1 2");
    w.shards[1].list = list_of("2 1");
    w.nodes[2].reached = w.nodes[3].reached = false;
    expect_rest(&w); /* uneven, and left so */
    w.nodes[0].duty = NODE_DRAINED;
    expect_rest(&w);
    w.nodes[3].reached = true;
    expect(&w, 0, "1 2 4");
}

/* Node 2 is down: no shard is moved to even out loads, but node 1 is replaced. */
static void test_a_shard_with_a_node_that_is_down(void **state)
{
    struct world w = {0};
    (void)state;
    begin(&w, 4, 2, 2);
    w.shards[0].list = list_of("1 2");
    w.shards[1].list = list_of("2 1");
    w.shards[0].lame = w.shards[1].lame = true;
    w.nodes[1].reached = false;
    expect_rest(&w);
    w.nodes[0].duty = NODE_LEAVING;
    expect(&w, 0, "1 2 3");
    expect(&w, 1, "2 1 4");
    expect(&w, 0, "2 3 -1");
    expect(&w, 1, "2 4 -1");
}

static void test_who_is_letting_go_is_not_chosen(void **state)
{
    struct world w = {0};
    (void)state;
    begin(&w, 4, 1, 3);
    w.shards[0].list = list_of("1 2 -3");
    expect(&w, 0, "1 2 4 -3");
    w.nodes[3].duty = NODE_LEAVING;
    expect(&w, 0, "1 2 -3 -4");
    expect_rest(&w); /* until node 3 has let go */
    replicas_drop(&w.shards[0].list, 3);
    expect(&w, 0, "1 2 3 -4");
}

/* A restored cluster of one: the lists name nodes that are no members. */
static void test_lists_of_a_cluster_of_old(void **state)
{
    struct world w = {0};
    (void)state;
    begin(&w, 1, 1, 3);
    w.nodes[0].id = 11;
    w.shards[0].list = list_of("1 2 3");
    expect(&w, 0, "1 2 3 11");
    expect(&w, 0, "1 2 11 -3");
    expect(&w, 0, "1 11 -3 -2");
    expect(&w, 0, "11 -3 -2 -1");
    expect_rest(&w);
}

/* Of nodes that do not let go, and are no members any more. */
static void test_a_full_list_waits(void **state)
{
    struct world w = {0};
    (void)state;
    begin(&w, 2, 2, 2);
    w.nodes[1].id = 100;
    w.shards[0].list = list_of("1");
    for (uint64_t id = 2; w.shards[0].list.count < SHARD_MEMBERS_MAX; id++)
        w.shards[0].list.at[w.shards[0].list.count++] = (struct replica){id, true};
    w.shards[1].list = list_of("1");
    expect(&w, 1, "1 100");
    expect(&w, 1, "100 1"); /* to even out leaders */
    expect_rest(&w);
    w.plan.replication = 1;
    w.shards[1].list = list_of("1");
    expect(&w, 1, "100 -1"); /* to even out loads */
}

static void test_lists_as_text(void **state)
{
    struct replica_list list;
    const char *const bad[] = {"",     " 1", "1 ", "1  2", "0",          "1 1",
                               "1 -1", "-",  "x",  "1,2",  "99999999999"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(replicas_parse(slice_of(bad[i]), &list));
    list = list_of("3 1 -2");
    assert_int_equal(list.count, 3);
    assert_int_equal(list.at[0].node_id, 3);
    assert_true(list.at[2].leaving && list.at[2].node_id == 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_random_clusters_come_to_rest_evenly, tell_seed),
        cmocka_unit_test(test_a_dead_node_is_replaced_when_it_is_removed),
        cmocka_unit_test(test_a_drained_node_keeps_what_nobody_else_can_take),
        cmocka_unit_test(test_a_node_that_cannot_be_reached_gets_nothing),
        cmocka_unit_test(test_a_shard_with_a_node_that_is_down),
        cmocka_unit_test(test_who_is_letting_go_is_not_chosen),
        cmocka_unit_test(test_lists_of_a_cluster_of_old),
        cmocka_unit_test(test_a_full_list_waits),
        cmocka_unit_test(test_lists_as_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
