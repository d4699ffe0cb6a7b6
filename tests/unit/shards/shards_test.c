/* SPDX-License-Identifier: Apache-2.0 */
/* The shards of one node that is its own cluster: how they come about, what a restart needs, and
 * where queues are. How they behave among several nodes: tests/cluster/shards_test.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/shards/shards.h"
#include "proto/base/trace.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DEADLINE_MS 20000u

struct bench {
    uv_loop_t loop;
    char dir[64];
    struct shards *shards;
    uint32_t queue_shards;
    bool begun;
    bool failed;
    bool closed;
};

static void on_leading(void *data, struct shard *shard, bool leads)
{
    (void)data, (void)shard, (void)leads;
}

static void on_catalog(void *data)
{
    (void)data;
}

static void on_queue(void *data, uint64_t queue_id)
{
    (void)data, (void)queue_id;
}

static void on_begun(void *data)
{
    ((struct bench *)data)->begun = true;
}

static void on_failed(void *data)
{
    ((struct bench *)data)->failed = true;
}

static void on_closed(void *data)
{
    ((struct bench *)data)->closed = true;
}

static enum status start(struct bench *b, const char **error)
{
    const char *folder = NULL;
    struct shards_options options = {.loop = &b->loop,
                                     .data_dir = b->dir,
                                     .node_id = 1,
                                     .address = "127.0.0.1:9326",
                                     .begun = b->begun,
                                     .disk_reserve_bytes = 1,
                                     .queue_shards = b->queue_shards,
                                     .events = {.leading_changed = on_leading,
                                                .catalog_changed = on_catalog,
                                                .queue_ready = on_queue,
                                                .begun = on_begun,
                                                .failed = on_failed,
                                                .data = b}};
    return shards_open(&b->shards, &options, error, &folder);
}

static void stop(struct bench *b)
{
    b->closed = false;
    shards_close(b->shards, on_closed, b);
    while (!b->closed)
        uv_run(&b->loop, UV_RUN_ONCE);
}

static void wait_ready(struct bench *b)
{
    uint64_t deadline_ms = uv_now(&b->loop) + DEADLINE_MS;
    while (!shards_ready(b->shards) && !b->failed) {
        uv_run(&b->loop, UV_RUN_ONCE);
        assert_true(uv_now(&b->loop) < deadline_ms);
    }
}

static void open_ready(struct bench *b)
{
    const char *error = NULL;
    enum status status = start(b, &error);
    if (status != STATUS_OK)
        fail_msg("%s: %s", status_name(status), error != NULL ? error : "");
    wait_ready(b);
    assert_false(b->failed);
}

static int remove_path(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info, (void)type, (void)ftw;
    return remove(path);
}

static void remove_tree(const char *path)
{
    nftw(path, remove_path, 8, FTW_DEPTH | FTW_PHYS);
}

static int set_up(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    trace_configure(TRACE_ERROR, false);
    snprintf(b->dir, sizeof b->dir, "/tmp/millrace-shards-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    assert_int_equal(uv_loop_init(&b->loop), 0);
    b->queue_shards = 4;
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *b = *state;
    uv_run(&b->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    remove_tree(b->dir);
    free(b);
    return 0;
}

static void test_a_new_cluster_has_its_shards(void **state)
{
    struct bench *b = *state;
    uint8_t secrets[2][32];
    uint8_t ids[2][UUID_BYTES];
    open_ready(b);
    assert_true(b->begun);
    assert_int_equal(shards_count(b->shards), 5);
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
    assert_int_equal(shards_count(b->shards), 5);
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
    assert_int_equal(shards_count(b->shards), 1);
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

#define BENCH_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

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
