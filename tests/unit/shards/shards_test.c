/* SPDX-License-Identifier: Apache-2.0 */
/* The shards of one node that is its own cluster: how they come about, what a restart needs, and
 * where queues are. How they behave among several nodes: tests/cluster/shards_test.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/shards/bench.h"

static void test_a_new_cluster_has_its_shards(void **state)
{
    struct bench *b = *state;
    uint8_t secrets[2][32];
    uint8_t ids[2][UUID_BYTES];
    open_ready(b);
    assert_int_equal(b->begun, 0xf);
    assert_int_equal(shards_total(b->shards), 5);
    assert_true(core_bootstrapped(shard_core(shards_catalog(b->shards)), ids[0], secrets[0]));
    for (uint32_t id = 1; id < 5; id++) {
        uint32_t shard;
        uint32_t queue_shards;
        const struct core *core = shard_core(shards_at(b->shards, id));
        core_place(core, &shard, &queue_shards);
        assert_int_equal(shard, id);
        assert_int_equal(queue_shards, 4);
        assert_true(core_bootstrapped(core, ids[1], secrets[1]));
        assert_memory_equal(ids[0], ids[1], sizeof ids[0]);
        assert_memory_equal(secrets[0], secrets[1], sizeof secrets[0]);
    }
    assert_ptr_equal(shards_of_name(b->shards, SLICE_LITERAL("/async/f")),
                     shards_catalog(b->shards));
    assert_ptr_equal(shards_of_name(b->shards, SLICE_LITERAL("orders")), shards_at(b->shards, 2));
    assert_ptr_equal(shards_of_queue(b->shards, queue_id_make(3, 7)), shards_at(b->shards, 3));
    assert_null(shards_of_queue(b->shards, queue_id_make(5, 1)));
    stop(b);
}

/* S2: the number is the catalog's, whatever an option says later on. */
static void test_the_number_stays(void **state)
{
    struct bench *b = *state;
    open_ready(b);
    stop(b);
    b->queue_shards = 2;
    open_ready(b);
    assert_int_equal(shards_total(b->shards), 5);
    stop(b);
}

/* A directory of a version without shards: the catalog holds all queues. */
static void test_without_queue_shards(void **state)
{
    struct bench *b = *state;
    b->queue_shards = 0;
    open_ready(b);
    stop(b);
    b->queue_shards = 4;
    open_ready(b);
    assert_int_equal(shards_total(b->shards), 1);
    assert_ptr_equal(shards_of_name(b->shards, SLICE_LITERAL("orders")), shards_catalog(b->shards));
    stop(b);
}

static void test_a_lost_folder_is_refused(void **state)
{
    struct bench *b = *state;
    const char *error = NULL;
    char folder[96];
    open_ready(b);
    stop(b);
    snprintf(folder, sizeof folder, "%s/shard-3", b->dir);
    remove_tree(folder);
    enum status status = start(b, &error);
    if (status == STATUS_OK) { /* the catalog's last entries are not known to be committed yet */
        while (!b->failed)
            uv_run(&b->loop, UV_RUN_ONCE);
    } else {
        assert_int_equal(status, STATUS_CORRUPT);
        assert_non_null(strstr(error, "missing"));
    }
    stop(b);
}

/* Closing does not wait for the queue shards to come about. */
static void test_closing_at_once(void **state)
{
    struct bench *b = *state;
    const char *error = NULL;
    assert_int_equal(start(b, &error), STATUS_OK);
    stop(b);
    open_ready(b);
    stop(b);
}

static void on_duty(struct shard_change *change, enum status status)
{
    *(enum status *)change->data = status;
}

static enum status set_duty(struct bench *b, uint64_t node_id, enum node_duty duty)
{
    enum status status = STATUS_UNSUPPORTED;
    struct shard_change change = {.done = on_duty, .data = &status};
    shards_node_duty(b->shards, &change, node_id, duty);
    assert_int_equal(status, STATUS_UNSUPPORTED); /* never before it returns */
    while (status == STATUS_UNSUPPORTED)
        uv_run(&b->loop, UV_RUN_ONCE);
    return status;
}

static void test_the_last_node_is_not_drained(void **state)
{
    struct bench *b = *state;
    open_ready(b);
    assert_int_equal(set_duty(b, 1, NODE_DRAINED), STATUS_INVALID);
    assert_int_equal(set_duty(b, 9, NODE_DRAINED), STATUS_NOT_FOUND);
    assert_int_equal(set_duty(b, 1, NODE_ACTIVE), STATUS_OK);
    assert_int_equal(node_duty(shard_core(shards_catalog(b->shards)), 1), NODE_ACTIVE);
    stop(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_a_new_cluster_has_its_shards),
        BENCH_TEST(test_the_number_stays),
        BENCH_TEST(test_without_queue_shards),
        BENCH_TEST(test_a_lost_folder_is_refused),
        BENCH_TEST(test_closing_at_once),
        BENCH_TEST(test_the_last_node_is_not_drained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
