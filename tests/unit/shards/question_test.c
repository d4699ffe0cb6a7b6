/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes ask each other about shards, as bytes: what goes in comes out, and nothing that was
 * cut or has something behind it is taken. Arbitrary bytes:
 * tests/fuzz/broker_shards-question_fuzz.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/shards/question.h"

#include <stdlib.h>

static const struct core_message message = {.body = {7, 100, 5},
                                            .seq = 11,
                                            .sent_ms = 12,
                                            .first_receive_ms = 13,
                                            .visible_at_ms = 14,
                                            .receive_count = 15,
                                            .received_before = 16,
                                            .source_queue_id = 17};

typedef bool (*decode_fn)(struct slice in);

/* Every prefix is refused, and the whole with a byte more. */
static void strict(struct buffer *bytes, decode_fn decode)
{
    for (size_t length = 0; length < bytes->length; length++)
        assert_false(decode(slice_make(bytes->data, length)));
    assert_true(decode(buffer_slice(bytes)));
    buffer_add_byte(bytes, 0);
    assert_false(decode(buffer_slice(bytes)));
    buffer_free(bytes);
}

static bool good_call(struct slice in)
{
    struct arena arena = {0};
    struct call_answer answer;
    bool good = call_answer_decode(in, &arena, &answer);
    if (good) {
        assert_int_equal(answer.count, 2);
        assert_int_equal(answer.results[0].code, CORE_STALE_LEASE);
        assert_int_equal(answer.results[0].version, 3);
        assert_true(answer.results[0].duplicate);
        assert_int_equal(answer.results[1].message_count, 1);
        assert_memory_equal(answer.results[1].messages, &message, sizeof message);
    }
    arena_free(&arena);
    return good;
}

static void test_an_answer_to_a_call(void **state)
{
    const struct core_result results[] = {
        {.code = CORE_STALE_LEASE, .version = 3, .duplicate = true},
        {.code = CORE_OK, .messages = &message, .message_count = 1, .moved = 9}};
    struct buffer bytes = {0};
    (void)state;
    call_answer_encode(&bytes, OUTCOME_OK, results, 2);
    strict(&bytes, good_call);
}

static bool good_receive(struct slice in)
{
    struct arena arena = {0};
    struct receive_answer answer;
    bool good = receive_answer_decode(in, &arena, &answer);
    if (good) {
        assert_int_equal(answer.now_ms, 99);
        assert_true(slice_is(answer.records, "hello"));
        assert_memory_equal(answer.result.messages, &message, sizeof message);
    }
    arena_free(&arena);
    return good;
}

static void test_messages_come_with_their_records(void **state)
{
    struct receive_answer answer = {.outcome = OUTCOME_OK,
                                    .now_ms = 99,
                                    .result = {.messages = &message, .message_count = 1},
                                    .records = SLICE_LITERAL("hello")};
    struct buffer bytes = {0};
    struct arena arena = {0};
    struct receive_answer out;
    (void)state;
    receive_answer_encode(&bytes, &answer);
    strict(&bytes, good_receive);
    answer.records = SLICE_LITERAL("hell"); /* of five bytes */
    receive_answer_encode(&bytes, &answer);
    assert_false(receive_answer_decode(buffer_slice(&bytes), &arena, &out));
    buffer_free(&bytes);
    arena_free(&arena);
}

static bool good_question(struct slice in)
{
    struct arena arena = {0};
    struct glance_question question;
    bool good = glance_question_decode(in, &arena, &question);
    if (good) {
        assert_int_equal(question.hold_ms, 1000);
        assert_int_equal(question.count, 2);
        assert_true(slice_is(question.items[1].name, "two"));
        assert_int_equal(question.items[1].mark, 5);
    }
    arena_free(&arena);
    return good;
}

static bool good_news(struct slice in)
{
    struct arena arena = {0};
    struct glance_news *news;
    uint32_t count;
    bool good = glance_answer_decode(in, 2, &arena, &news, &count);
    if (good) {
        assert_int_equal(count, 1);
        assert_int_equal(news[0].which, 1);
        assert_int_equal(news[0].glance.visible, 6);
        assert_true(news[0].glance.there && news[0].glance.fifo);
    }
    arena_free(&arena);
    return good;
}

static void test_glances(void **state)
{
    struct queue_view view = {.queue_id = 1, .visible = 6, .settings = {.fifo = true}};
    struct glance glance = glance_of(&view);
    struct buffer bytes = {0};
    (void)state;
    glance_question_begin(&bytes, 1000);
    glance_question_add(&bytes, &(struct glance_item){.name = SLICE_LITERAL("one")});
    glance_question_add(&bytes, &(struct glance_item){.mark = 5, .name = SLICE_LITERAL("two")});
    strict(&bytes, good_question);
    glance_answer_begin(&bytes);
    glance_answer_add(&bytes, 1, &glance);
    strict(&bytes, good_news);
}

/* Whatever happens to a queue, its mark is another one: also when all counts are as before. */
static void test_marks(void **state)
{
    struct queue_view view = {.queue_id = 1, .visible = 1, .sent_total = 1};
    uint64_t mark = glance_of(&view).mark;
    (void)state;
    assert_int_equal(glance_of(&view).mark, mark);
    view.received_total++; /* leased, and given back */
    assert_int_not_equal(glance_of(&view).mark, mark);
    assert_int_not_equal(glance_of(NULL).mark, 0);
    assert_int_not_equal(glance_of(NULL).mark, glance_of(&view).mark);
}

static void test_statuses(void **state)
{
    enum outcome outcome;
    (void)state;
    assert_true(outcome_of(STATUS_DISK_FULL, &outcome));
    assert_int_equal(outcome_status(outcome), STATUS_DISK_FULL);
    assert_false(outcome_of(STATUS_NOT_LEADER, &outcome)); /* somebody else is asked */
    assert_false(outcome_of(STATUS_CLOSED, &outcome));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_answer_to_a_call),
        cmocka_unit_test(test_messages_come_with_their_records),
        cmocka_unit_test(test_glances),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_statuses),
    };
    return cmocka_run_group_tests_name("shards question", tests, NULL, NULL);
}
