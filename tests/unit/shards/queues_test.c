/* SPDX-License-Identifier: Apache-2.0 */
/* The queues of all shards as one directory, and sets of shards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/shards/queues.h"
#include "broker/shards/set.h"
#include "tests/unit/shards/bench.h"

#define QUEUES 60

static void on_created(struct shard_call *call, enum status status,
                       const struct core_result *results, uint32_t count)
{
    assert_int_equal(status, STATUS_OK);
    assert_int_equal(count, 1);
    assert_int_equal(results[0].code, CORE_OK);
    *(bool *)call->data = true;
}

static void create(struct bench *b, const char *name)
{
    bool done = false;
    struct shard_call call = {.done = on_created, .data = &done};
    struct command command = {
        .type = COMMAND_QUEUE_CREATE,
        .queue_create = {
            .name = slice_of(name),
            .settings = {.message_bytes_max = 1024, .retention_s = 60, .visibility_s = 30},
            .tags = SLICE_LITERAL("{}")}};
    shard_call_add(&call, &command);
    shard_call(shards_of_name(b->shards, slice_of(name)), &call);
    while (!done)
        uv_run(&b->loop, UV_RUN_ONCE);
}

/* In an order that is not that of the names: 7 and 60 have no common factor. */
static void create_all(struct bench *b)
{
    char name[16];
    for (unsigned i = 0; i < QUEUES; i++) {
        snprintf(name, sizeof name, "queue-%02u", i * 7 % QUEUES);
        create(b, name);
    }
    create(b, "/async/f");
    create(b, "queue");
}

/* From behind `after`: the broker's own first, then "queue", then queue-00 to queue-59. */
static void check_walk(struct bench *b, const char *after, unsigned first)
{
    struct queue_walk walk;
    struct queue_view view;
    char name[16];
    unsigned shards_seen = 0;
    queue_walk_begin(&walk, b->shards, slice_of(after));
    for (unsigned i = first; i < QUEUES + 2; i++) {
        snprintf(name, sizeof name, "queue-%02u", i - 2);
        assert_true(queue_walk_next(&walk, &view));
        assert_true(slice_is(view.name, i == 0 ? "/async/f" : i == 1 ? "queue" : name));
        shards_seen |= 1u << shard_of_queue_id(view.queue_id);
    }
    assert_false(queue_walk_next(&walk, &view));
    assert_false(queue_walk_next(&walk, &view));
    if (first == 0)
        assert_int_equal(shards_seen, b->queue_shards == 0 ? 1 : 0x1f);
}

static void check_directory(struct bench *b)
{
    struct queue_view view;
    struct queue_view again;
    open_ready(b);
    check_walk(b, "zzz", QUEUES + 2); /* also while there is none */
    create_all(b);
    check_walk(b, "", 0);
    check_walk(b, "/async/f", 1);
    check_walk(b, "queue", 2);
    check_walk(b, "queue-", 2);
    check_walk(b, "queue-09", 12);
    check_walk(b, "queue-59", QUEUES + 2);
    assert_true(shards_queue_by_name(b->shards, SLICE_LITERAL("queue-31"), &view));
    assert_true(shards_queue_by_id(b->shards, view.queue_id, &again));
    assert_true(slice_is(again.name, "queue-31"));
    assert_false(shards_queue_by_name(b->shards, SLICE_LITERAL("queue-60"), &view));
    assert_false(shards_queue_by_id(b->shards, queue_id_make(2, 1000), &view));
    assert_false(shards_queue_by_id(b->shards, queue_id_make(60, 1), &view));
    stop(b);
}

static void test_one_directory(void **state)
{
    check_directory(*state);
}

static void test_one_directory_without_queue_shards(void **state)
{
    struct bench *b = *state;
    b->queue_shards = 0;
    check_directory(b);
}

static void test_what_is_in_a_set(void **state)
{
    struct bench *b = *state;
    struct shard_set one = {0};
    struct shard_set all = {0};
    open_ready(b);
    shard_set_add_name(&one, b->shards, SLICE_LITERAL("orders"));
    assert_false(one.catalog);
    assert_int_equal(one.queues, 1u << 1); /* shard 2 */
    shard_set_add_queues(&all, b->shards);
    assert_false(all.catalog);
    assert_int_equal(all.queues, 0xf);
    assert_true(shard_set_within(&one, &all));
    assert_false(shard_set_within(&all, &one));
    assert_true(shard_set_within(&(struct shard_set){0}, &one));
    shard_set_add_name(&one, b->shards, SLICE_LITERAL("/async/f"));
    assert_true(one.catalog);
    assert_false(shard_set_within(&one, &all));
    stop(b);
}

static void never(void *data, enum status status)
{
    (void)data, (void)status;
    fail_msg("nothing was to be asked");
}

/* This node leads all that it has: none is asked. What it does not have is neither ready nor led.
 */
static void test_where_this_node_leads(void **state)
{
    struct bench *b = *state;
    struct shard_set set = {.catalog = true};
    open_ready(b);
    shard_set_add_queues(&set, b->shards);
    assert_true(shard_set_ready(&set, b->shards));
    assert_true(shard_set_led(&set, b->shards));
    assert_false(shard_set_sync(&set, b->shards, 0, never, NULL));
    shard_set_add(&set, 5);
    assert_false(shard_set_ready(&set, b->shards));
    assert_false(shard_set_led(&set, b->shards));
    assert_false(shard_set_sync(&set, b->shards, 0, never, NULL));
    shard_set_add(&set, QUEUE_SHARDS_MAX); /* the last bit */
    assert_int_equal(set.queues >> (QUEUE_SHARDS_MAX - 1), 1);
    assert_false(shard_set_ready(&set, b->shards));
    stop(b);
}

static void test_the_set_without_queue_shards(void **state)
{
    struct bench *b = *state;
    struct shard_set set = {0};
    b->queue_shards = 0;
    open_ready(b);
    shard_set_add_name(&set, b->shards, SLICE_LITERAL("orders"));
    assert_true(set.catalog && set.queues == 0);
    set = (struct shard_set){0};
    shard_set_add_queues(&set, b->shards);
    assert_true(set.catalog && set.queues == 0);
    assert_true(shard_set_ready(&set, b->shards));
    stop(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_one_directory),
        BENCH_TEST(test_one_directory_without_queue_shards),
        BENCH_TEST(test_what_is_in_a_set),
        BENCH_TEST(test_where_this_node_leads),
        BENCH_TEST(test_the_set_without_queue_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
