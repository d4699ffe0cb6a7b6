/* SPDX-License-Identifier: Apache-2.0 */
/* Whole SQS calls, and their answers, as bytes between nodes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/api/sqs/away_message.h"

static const struct sqs_send_message_input send_input = {
    .queue_url = {(const uint8_t *)"http://h/0/q", 12},
    .body = {(const uint8_t *)"hello", 5},
    .delay_s = {7, true},
};

static struct sqs_away_call example(void)
{
    return (struct sqs_away_call){
        .action = SQS_ACTION_SendMessage,
        .protocol = SQS_QUERY,
        .flags = SQS_AWAY_NO_MD5,
        .age_ms = 1234,
        .sender_id = SLICE_LITERAL("AKIA"),
        .region = SLICE_LITERAL("eu-west-1"),
        .base_url = SLICE_LITERAL("http://h:1"),
        .request_id = SLICE_LITERAL("00000000-0000-0000-0000-000000000001"),
        .caller = {.kind = AUTH_KEY,
                   .key_id = SLICE_LITERAL("AKIA"),
                   .account = SLICE_LITERAL("000000000000"),
                   .arn = SLICE_LITERAL("arn:aws:iam::000000000000:user/me"),
                   .name = SLICE_LITERAL("me"),
                   .source_ip = SLICE_LITERAL("10.0.0.1"),
                   .user_agent = SLICE_LITERAL("sdk"),
                   .region = SLICE_LITERAL("eu-west-1"),
                   .root = true,
                   .secure = true,
                   .now_s = 1700000000},
        .input = &send_input,
    };
}

#define assert_same(a, b) assert_true(slice_equal(a, b))

static void test_a_call_comes_through(void **state)
{
    struct sqs_away_call said = example();
    struct sqs_away_call heard;
    struct arena arena = {0};
    struct buffer bytes = {0};
    (void)state;
    sqs_away_call_encode(&bytes, &said);
    assert_true(sqs_away_call_decode(buffer_slice(&bytes), &arena, &heard));
    assert_int_equal(heard.action, said.action);
    assert_int_equal(heard.protocol, said.protocol);
    assert_int_equal(heard.flags, SQS_AWAY_NO_MD5 | SQS_AWAY_SECURE | SQS_AWAY_ROOT);
    assert_int_equal(heard.age_ms, 1234);
    assert_same(heard.sender_id, said.sender_id);
    assert_same(heard.region, said.region);
    assert_same(heard.base_url, said.base_url);
    assert_same(heard.request_id, said.request_id);
    assert_int_equal(heard.caller.kind, AUTH_KEY);
    assert_same(heard.caller.key_id, said.caller.key_id);
    assert_same(heard.caller.account, said.caller.account);
    assert_same(heard.caller.arn, said.caller.arn);
    assert_same(heard.caller.name, said.caller.name);
    assert_same(heard.caller.source_ip, said.caller.source_ip);
    assert_same(heard.caller.user_agent, said.caller.user_agent);
    assert_same(heard.caller.region, said.caller.region);
    assert_true(heard.caller.root && heard.caller.secure);
    assert_int_equal(heard.caller.now_s, 1700000000);
    const struct sqs_send_message_input *input = heard.input;
    assert_same(input->queue_url, send_input.queue_url);
    assert_same(input->body, send_input.body);
    assert_true(input->delay_s.given && input->delay_s.value == 7);
    assert_null(input->group_id.data); /* not given stays not given */
    arena_free(&arena);
    buffer_free(&bytes);
}

static bool reads(const struct buffer *bytes, size_t length)
{
    struct arena arena = {0};
    struct sqs_away_call heard;
    bool good = sqs_away_call_decode(slice_make(bytes->data, length), &arena, &heard);
    arena_free(&arena);
    return good;
}

static void test_what_is_no_call(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {{0, 2}, {1, 9}, {2, 9}, {3, 0x80}, {5, 0xff}, {6, 1}};
    struct sqs_away_call said = example();
    struct buffer bytes = {0};
    (void)state;
    sqs_away_call_encode(&bytes, &said);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        uint8_t right = bytes.data[wrong[i].at];
        bytes.data[wrong[i].at] = wrong[i].value;
        assert_false(reads(&bytes, bytes.length));
        bytes.data[wrong[i].at] = right;
    }
    assert_true(reads(&bytes, bytes.length));
    assert_false(reads(&bytes, bytes.length - 1));
    assert_false(reads(&bytes, 40));
    assert_false(reads(&bytes, 0));
    buffer_clear(&bytes);
    said.region = SLICE_LITERAL("No Region");
    sqs_away_call_encode(&bytes, &said);
    assert_false(reads(&bytes, bytes.length));
    buffer_clear(&bytes);
    said = example();
    said.request_id = SLICE_LITERAL("00000000-0000-0000-0000-0000000000012");
    sqs_away_call_encode(&bytes, &said);
    assert_false(reads(&bytes, bytes.length));
    buffer_free(&bytes);
}

/* Each error is found again by its two names, so no two may share both. */
static void test_every_error_comes_through(void **state)
{
    (void)state;
    for (unsigned code = SQS_OK + 1; code < SQS_ERROR_COUNT; code++) {
        for (unsigned own = 0; own < 2; own++) {
            struct arena arena = {0};
            struct buffer bytes = {0};
            struct sqs_error said = {(enum sqs_error_code)code, own ? "A sentence." : NULL};
            struct sqs_error heard;
            struct sqs_send_message_result result = {0};
            sqs_away_error_encode(&bytes, SQS_QUERY, &said);
            assert_true(sqs_away_answer_decode(buffer_slice(&bytes), SQS_ACTION_SendMessage, &arena,
                                               &result, &heard));
            assert_int_equal(heard.code, code);
            assert_string_equal(sqs_error_text(SQS_QUERY, &heard),
                                sqs_error_text(SQS_QUERY, &said));
            assert_false(sqs_away_answer_decode(slice_make(bytes.data, bytes.length - 1),
                                                SQS_ACTION_SendMessage, &arena, &result, &heard));
            arena_free(&arena);
            buffer_free(&bytes);
        }
    }
}

static void test_results(void **state)
{
    struct arena arena = {0};
    struct buffer bytes = {0};
    struct sqs_error error;
    struct sqs_queue_url_result said = {.queue_url = SLICE_LITERAL("http://h/0/q")};
    struct sqs_queue_url_result heard = {0};
    (void)state;
    sqs_away_result_encode(&bytes, SQS_ACTION_CreateQueue, &said);
    assert_true(sqs_away_answer_decode(buffer_slice(&bytes), SQS_ACTION_CreateQueue, &arena, &heard,
                                       &error));
    assert_int_equal(error.code, SQS_OK);
    assert_same(heard.queue_url, said.queue_url);
    buffer_clear(&bytes);
    sqs_away_result_encode(&bytes, SQS_ACTION_DeleteQueue, NULL);
    assert_true(sqs_away_answer_decode(buffer_slice(&bytes), SQS_ACTION_DeleteQueue, &arena, &heard,
                                       &error));
    assert_int_equal(error.code, SQS_OK);
    bytes.data[0] = 2;
    assert_false(sqs_away_answer_decode(buffer_slice(&bytes), SQS_ACTION_DeleteQueue, &arena,
                                        &heard, &error));
    assert_false(
        sqs_away_answer_decode((struct slice){0}, SQS_ACTION_DeleteQueue, &arena, &heard, &error));
    arena_free(&arena);
    buffer_free(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call_comes_through),
        cmocka_unit_test(test_what_is_no_call),
        cmocka_unit_test(test_every_error_comes_through),
        cmocka_unit_test(test_results),
    };
    return cmocka_run_group_tests_name("sqs calls between nodes", tests, NULL, NULL);
}
