/* SPDX-License-Identifier: Apache-2.0 */
/* A program that does not know how things were done at a level starts on no state of that level;
 * but on one whose log says that the level has risen, in an entry that is not known to be committed
 * yet: the last one of a shard without traffic. Found by the test of rolling upgrades, on a slow
 * disk. */
#include "broker/feature/feature.h"
#include "tests/unit/replication/cluster.h"

uint32_t __wrap_feature_level_min(void); /* NOLINT */

static uint32_t least;

uint32_t __wrap_feature_level_min(void) /* NOLINT */
{
    return least;
}

static bool all_at(struct cluster *c, uint32_t level)
{
    for (uint64_t id = 1; id <= c->count; id++) {
        if (shard_level(c->nodes[id].shard) != level)
            return false;
    }
    return true;
}

static void on_raised(struct shard_call *call, enum status status,
                      const struct core_result *results, uint32_t count)
{
    (void)results, (void)count;
    assert_int_equal(status, STATUS_OK);
    *(bool *)call->data = true;
}

static void raise_level(struct cluster *c, uint32_t level)
{
    bool done = false;
    struct shard_call call = {.done = on_raised, .data = &done};
    shard_raise_level(c->nodes[leader_of(c)].shard, &call, level);
    UNTIL(c, done && all_at(c, level));
}

static struct cluster *old_cluster(void)
{
    least = 1;
    struct cluster *c = cluster_new(3);
    assert_true(all_at(c, 1));
    return c;
}

static void a_level_that_rose_in_the_last_entry_counts(void **state)
{
    (void)state;
    struct cluster *c = old_cluster();
    uint64_t follower = leader_of(c) % 3 + 1;
    raise_level(c, 2);
    stop_node(c, follower);
    least = 2;
    start_node(c, follower);
    assert_int_equal(shard_level(c->nodes[follower].shard), 1); /* else this says nothing */
    UNTIL(c, all_ready(c) && all_at(c, 2));
    cluster_free(c);
}

static void a_state_of_a_level_that_is_too_old_is_refused(void **state)
{
    (void)state;
    const char *error = "";
    struct shard *shard = NULL;
    struct cluster *c = old_cluster();
    uint64_t follower = leader_of(c) % 3 + 1;
    create_queue(c, 1, "orders");
    UNTIL(c, converged(c));
    stop_node(c, follower);
    least = 2;
    assert_int_equal(shard_open(&shard, &c->nodes[follower].options, &error), STATUS_UNSUPPORTED);
    assert_non_null(strstr(error, "the data are of feature level 1"));
    cluster_free(c);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_level_that_rose_in_the_last_entry_counts),
        cmocka_unit_test(a_state_of_a_level_that_is_too_old_is_refused),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
