/* SPDX-License-Identifier: Apache-2.0 */
/* The shards of one node that is its own cluster, in a folder that goes with the test. */
#ifndef TESTS_UNIT_SHARDS_BENCH_H
#define TESTS_UNIT_SHARDS_BENCH_H

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
    uint32_t replication;
    uint64_t begun; /* bits of the shards */
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

static bool on_begun(void *data)
{
    struct bench *b = data;
    b->begun = shards_begun(b->shards);
    return true;
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
                                     .replication = b->replication,
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

static inline void open_ready(struct bench *b)
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

static inline int set_up(void **state)
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

static inline int tear_down(void **state)
{
    struct bench *b = *state;
    uv_run(&b->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    remove_tree(b->dir);
    free(b);
    return 0;
}

#define BENCH_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
