/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at queues of shards that are elsewhere: their bytes, what a replica answers, and walks that
 * take what came from there in. Between nodes: tests/cluster/away_test.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/shards/look_message.h"
#include "broker/shards/queues.h"
#include "tests/unit/shards/bench.h"

#define QUEUES 30
#define SHARD  2 /* the one that is looked at */

static void on_created(struct shard_call *call, enum status status,
                       const struct core_result *results, uint32_t count)
{
    assert_int_equal(status, STATUS_OK);
    assert_int_equal(count, 1);
    assert_int_equal(results[0].code, CORE_OK);
    *(bool *)call->data = true;
}

static void create(struct bench *b, const char *name, const char *dead_letter)
{
    bool done = false;
    struct shard_call call = {.done = on_created, .data = &done};
    struct command command = {
        .type = COMMAND_QUEUE_CREATE,
        .queue_create = {.name = slice_of(name),
                         .settings = {.message_bytes_max = 1024,
                                      .retention_s = 60,
                                      .visibility_s = 30,
                                      .receive_count_max = dead_letter != NULL ? 3 : 0,
                                      .content_based_dedup = true,
                                      .dead_letter = slice_of(dead_letter),
                                      .extras = SLICE_LITERAL("{\"Policy\":\"{}\"}")},
                         .tags = SLICE_LITERAL("{\"a\":\"b\"}")}};
    shard_call_add(&call, &command);
    shard_call(shards_of_name(b->shards, slice_of(name)), &call);
    while (!done)
        uv_run(&b->loop, UV_RUN_ONCE);
}

/* The odd ones redrive to "dead". */
static void create_all(struct bench *b)
{
    char name[16];
    open_ready(b);
    for (unsigned i = 0; i < QUEUES; i++) {
        snprintf(name, sizeof name, "queue-%02u", i);
        create(b, name, i % 2 == 1 ? "dead" : NULL);
    }
}

static const struct core *core(struct bench *b)
{
    return shard_core(shards_at(b->shards, SHARD));
}

static void same_view(const struct queue_view *a, const struct queue_view *b)
{
    const struct queue_settings *s = &a->settings;
    const struct queue_settings *t = &b->settings;
    assert_true(slice_equal(a->name, b->name) && slice_equal(a->tags, b->tags));
    assert_true(slice_equal(s->dead_letter, t->dead_letter) && slice_equal(s->extras, t->extras));
    assert_int_equal(a->queue_id, b->queue_id);
    assert_int_equal(a->version, b->version);
    assert_int_equal(a->created_ms, b->created_ms);
    assert_int_equal(s->retention_s, t->retention_s);
    assert_int_equal(s->visibility_s, t->visibility_s);
    assert_int_equal(s->message_bytes_max, t->message_bytes_max);
    assert_int_equal(s->receive_count_max, t->receive_count_max);
    assert_true(s->fifo == t->fifo && s->content_based_dedup == t->content_based_dedup);
    assert_true(s->dedup_per_group == t->dedup_per_group);
}

/* There and back, through both pairs of bytes. */
static struct look_answer look(struct bench *b, struct arena *arena, struct look_question question)
{
    struct buffer asked = {0};
    struct buffer answered = {0};
    struct look_question heard;
    struct look_answer answer;
    struct queue_view view;
    look_question_encode(&asked, &question);
    assert_true(look_question_decode(buffer_slice(&asked), arena, &heard));
    for (size_t length = 0; length < asked.length; length++)
        assert_false(look_question_decode(slice_make(asked.data, length), arena, &heard));
    assert_true(look_question_decode(buffer_slice(&asked), arena, &heard));
    look_answer(&answered, core(b), &heard);
    for (size_t length = 0; length < answered.length; length++)
        assert_false(look_answer_decode(slice_make(answered.data, length), arena, &answer));
    struct slice kept = arena_copy(arena, buffer_slice(&answered));
    assert_true(look_answer_decode(kept, arena, &answer));
    for (uint32_t i = 0; i < answer.count; i++) {
        assert_true(core_queue_by_id(core(b), answer.views[i].queue_id, &view));
        same_view(&answer.views[i], &view);
    }
    buffer_free(&asked);
    buffer_free(&answered);
    return answer;
}

static void test_by_name_and_id(void **state)
{
    struct bench *b = *state;
    struct arena arena = {0};
    struct queue_view first;
    create_all(b);
    assert_true(core_queue_next(core(b), (struct slice){0}, &first));
    const struct slice names[] = {SLICE_LITERAL("none"), first.name};
    const uint64_t ids[] = {first.queue_id, queue_id_make(SHARD, 1000)};
    struct look_answer answer =
        look(b, &arena,
             (struct look_question){.names = names, .name_count = 2, .ids = ids, .id_count = 2});
    assert_int_equal(answer.count, 2);
    assert_int_equal(answer.run_count, 0);
    assert_false(answer.goes_on);
    assert_int_equal(answer.views[0].queue_id, first.queue_id);
    assert_int_equal(answer.views[1].queue_id, first.queue_id);
    answer = look(b, &arena, (struct look_question){0});
    assert_int_equal(answer.count, 0);
    arena_free(&arena);
    stop(b);
}

/* A run in pieces of two has the queues of the shard, each once and in order. */
static void test_runs(void **state)
{
    struct bench *b = *state;
    struct arena arena = {0};
    struct queue_view view = {0};
    struct look_question question = {.run_max = 2};
    create_all(b);
    uint32_t seen = 0;
    bool goes_on = true;
    while (goes_on) {
        struct look_answer answer = look(b, &arena, question);
        for (uint32_t i = 0; i < answer.run_count; i++, seen++) {
            assert_true(core_queue_next(core(b), view.name, &view));
            assert_true(slice_equal(answer.views[i].name, view.name));
        }
        goes_on = answer.goes_on;
        assert_true(!goes_on || answer.run_count == 2);
        if (answer.run_count > 0)
            question.after = answer.views[answer.run_count - 1].name;
    }
    assert_true(seen > 4);
    assert_false(core_queue_next(core(b), view.name, &view));
    arena_free(&arena);
    stop(b);
}

static void test_runs_of_some(void **state)
{
    struct bench *b = *state;
    struct arena arena = {0};
    struct queue_view view = {0};
    uint32_t dead = 0;
    uint32_t tens = 0;
    create_all(b);
    while (core_queue_next(core(b), view.name, &view)) {
        dead += view.settings.dead_letter.length > 0;
        tens += view.name.data[6] == '1';
    }
    struct look_answer answer = look(
        b, &arena, (struct look_question){.run_max = 100, .dead_letter = SLICE_LITERAL("dead")});
    assert_int_equal(answer.run_count, dead);
    assert_true(dead > 0);
    answer =
        look(b, &arena, (struct look_question){.run_max = 100, .prefix = SLICE_LITERAL("queue-1")});
    assert_int_equal(answer.run_count, tens);
    assert_true(tens > 0);
    struct slice whole = answer.views[0].name; /* a prefix that is a queue's name */
    answer = look(b, &arena, (struct look_question){.run_max = 100, .prefix = whole});
    assert_int_equal(answer.run_count, 1);
    answer =
        look(b, &arena, (struct look_question){.run_max = 100, .prefix = whole, .after = whole});
    assert_int_equal(answer.run_count, 0);
    arena_free(&arena);
    stop(b);
}

static void test_what_is_no_answer(void **state)
{
    struct arena arena = {0};
    struct buffer bytes = {0};
    struct look_answer answer;
    (void)state;
    buffer_add_u32(&bytes, 1);
    buffer_add_u32(&bytes, UINT32_MAX); /* more than there is room for */
    buffer_add_u32(&bytes, 0);
    assert_false(look_answer_decode(buffer_slice(&bytes), &arena, &answer));
    bytes_put_u32(bytes.data + 4, 0);
    assert_true(look_answer_decode(buffer_slice(&bytes), &arena, &answer));
    bytes.data[1] = 1; /* goes on from nowhere: it would for ever */
    assert_false(look_answer_decode(buffer_slice(&bytes), &arena, &answer));
    bytes_put_u32(bytes.data, 2);
    assert_false(look_answer_decode(buffer_slice(&bytes), &arena, &answer));
    buffer_free(&bytes);
    arena_free(&arena);
}

/* Views of queues that are elsewhere stand among those that are here; what is here too counts once.
 */
static void test_a_walk_with_others(void **state)
{
    struct bench *b = *state;
    const struct queue_view views[] = {{.queue_id = 1, .name = SLICE_LITERAL("a")},
                                       {.queue_id = 2, .name = SLICE_LITERAL("queue-03")},
                                       {.queue_id = 3, .name = SLICE_LITERAL("queue-03x")},
                                       {.queue_id = 4, .name = SLICE_LITERAL("z")}};
    struct queue_walk walk;
    struct queue_view view;
    struct slice last = {0};
    unsigned count = 0;
    create_all(b);
    queue_walk_begin(&walk, b->shards, (struct slice){0});
    queue_walk_with(&walk, views, 4, (struct slice){0});
    for (; queue_walk_next(&walk, &view); count++) {
        size_t least = last.length < view.name.length ? last.length : view.name.length;
        int order = count > 0 ? memcmp(last.data, view.name.data, least) : -1;
        assert_true(order < 0 || (order == 0 && last.length < view.name.length));
        last = view.name;
    }
    assert_int_equal(count, QUEUES + 3);
    assert_true(slice_is(last, "z"));
    queue_walk_begin(&walk, b->shards, SLICE_LITERAL("queue-03"));
    queue_walk_with(&walk, views, 4, SLICE_LITERAL("queue-03"));
    assert_true(queue_walk_next(&walk, &view));
    assert_true(slice_is(view.name, "queue-03x"));
    stop(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_by_name_and_id),     BENCH_TEST(test_runs),
        BENCH_TEST(test_runs_of_some),       cmocka_unit_test(test_what_is_no_answer),
        BENCH_TEST(test_a_walk_with_others),
    };
    return cmocka_run_group_tests_name("looks", tests, NULL, NULL);
}
