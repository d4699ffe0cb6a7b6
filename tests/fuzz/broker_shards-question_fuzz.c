/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as what nodes ask each other about shards, and as the answers: what decodes
 * encodes to the same bytes again, and nothing that it says reaches past the input. The first byte
 * says which of them it is. */
#include "broker/shards/question.h"
#include "proto/base/assert.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(struct slice in, struct buffer *again)
{
    ASSERT(slice_equal(in, buffer_slice(again)));
    buffer_free(again);
}

static void call_question(struct slice in)
{
    struct call_question question;
    struct buffer again = {0};
    if (!call_question_decode(in, &question))
        return;
    ASSERT(question.count > 0);
    call_question_encode(&again, &question);
    check_same(in, &again);
}

static void call_answer(struct slice in)
{
    struct arena arena = {0};
    struct call_answer answer;
    struct buffer again = {0};
    if (call_answer_decode(in, &arena, &answer)) {
        ASSERT((answer.count > 0) == (answer.outcome == OUTCOME_OK));
        call_answer_encode(&again, answer.outcome, answer.results, answer.count);
        check_same(in, &again);
    }
    arena_free(&arena);
}

static void receive_question(struct slice in)
{
    struct receive_question question;
    struct buffer again = {0};
    if (!receive_question_decode(in, &question))
        return;
    ASSERT(question.command.max > 0);
    receive_question_encode(&again, &question);
    check_same(in, &again);
}

static void receive_answer(struct slice in)
{
    struct arena arena = {0};
    struct receive_answer answer;
    struct buffer again = {0};
    if (receive_answer_decode(in, &arena, &answer)) {
        uint64_t bytes = 0;
        for (uint32_t i = 0; i < answer.result.message_count; i++)
            bytes += answer.result.messages[i].body.length;
        ASSERT(answer.records.length == (answer.outcome == OUTCOME_OK ? bytes : 0));
        receive_answer_encode(&again, &answer);
        check_same(in, &again);
    }
    arena_free(&arena);
}

static void glance_question(struct slice in)
{
    struct arena arena = {0};
    struct glance_question question;
    struct buffer again = {0};
    if (glance_question_decode(in, &arena, &question)) {
        glance_question_begin(&again, question.hold_ms);
        for (uint32_t i = 0; i < question.count; i++)
            glance_question_add(&again, &question.items[i]);
        check_same(in, &again);
    }
    arena_free(&arena);
}

static void glance_answer(struct slice in)
{
    struct arena arena = {0};
    struct glance_news *news;
    uint32_t count;
    uint32_t asked = 64;
    struct buffer again = {0};
    if (glance_answer_decode(in, asked, &arena, &news, &count)) {
        glance_answer_begin(&again);
        for (uint32_t i = 0; i < count; i++) {
            ASSERT(news[i].which < asked);
            glance_answer_add(&again, news[i].which, &news[i].glance);
        }
        check_same(in, &again);
    }
    arena_free(&arena);
}

static void held_question(struct slice in)
{
    struct arena arena = {0};
    struct held_question question;
    struct buffer again = {0};
    if (held_question_decode(in, &arena, &question)) {
        held_question_encode(&again, &question);
        check_same(in, &again);
    }
    arena_free(&arena);
}

static void tallies(struct slice in)
{
    struct tally *items;
    uint32_t count;
    if (!tallies_decode(in, &items, &count))
        return;
    for (uint32_t i = 1; i < count; i++)
        ASSERT(items[i].function_id > items[i - 1].function_id);
    free(items);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const checks[])(struct slice in) = {
        call_question,   call_answer,   receive_question, receive_answer,
        glance_question, glance_answer, tallies,          held_question};
    if (size > 0)
        checks[data[0] % ARRAY_COUNT(checks)](slice_make(data + 1, size - 1));
    return 0;
}
