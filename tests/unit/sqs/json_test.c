/* SPDX-License-Identifier: Apache-2.0 */
/* JSON requests into structs, and structs into JSON: values, wrong types, hostile documents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/sqs/codec.h"

#include <stdio.h>
#include <stdlib.h>

static bool decode(const char *json, enum sqs_shape shape, struct arena *arena, void *out,
                   struct sqs_error *error)
{
    return sqs_json_decode(slice_of(json), shape, arena, out, error);
}

static void check_text(struct slice actual, const char *expected)
{
    assert_non_null(actual.data);
    assert_int_equal(actual.length, strlen(expected));
    assert_memory_equal(actual.data, expected, actual.length);
}

static void reads_every_kind_of_member(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct sqs_error error = {0};
    struct sqs_send_message_batch_input in = {0};
    assert_true(decode("{\"QueueUrl\":\"http://h/1/q\",\"Unknown\":[1,{}],\"Entries\":["
                       "{\"Id\":\"a\",\"MessageBody\":\"caf\\u00e9\",\"DelaySeconds\":7,"
                       "\"MessageAttributes\":{\"n\":{\"DataType\":\"Binary\","
                       "\"BinaryValue\":\"AAEC\"}}},{\"Id\":\"b\",\"MessageBody\":null}]}",
                       SQS_SHAPE_send_message_batch_input, &arena, &in, &error));
    check_text(in.queue_url, "http://h/1/q");
    assert_int_equal(in.entries.count, 2);
    const struct sqs_send_entry *entries = in.entries.items;
    check_text(entries[0].id, "a");
    check_text(entries[0].body, "caf\xc3\xa9");
    assert_true(entries[0].delay_s.given);
    assert_int_equal(entries[0].delay_s.value, 7);
    assert_int_equal(entries[0].attributes.count, 1);
    const struct sqs_message_attribute *attribute = entries[0].attributes.items;
    check_text(attribute->name, "n");
    check_text(attribute->data_type, "Binary");
    assert_int_equal(attribute->binary_value.length, 3);
    assert_memory_equal(attribute->binary_value.data, "\0\1\2", 3);
    assert_null(attribute->string_value.data);
    check_text(entries[1].id, "b");
    assert_null(entries[1].body.data); /* null is as good as absent */
    assert_false(entries[1].delay_s.given);
    arena_free(&arena);
}

static void reads_maps_and_lists(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct sqs_error error = {0};
    struct sqs_create_queue_input create = {0};
    assert_true(decode("{\"QueueName\":\"q\",\"Attributes\":{\"DelaySeconds\":\"5\"},"
                       "\"tags\":{\"k\":\"\"}}",
                       SQS_SHAPE_create_queue_input, &arena, &create, &error));
    const struct sqs_pair *pair = create.attributes.items;
    assert_int_equal(create.attributes.count, 1);
    check_text(pair->key, "DelaySeconds");
    check_text(pair->value, "5");
    const struct sqs_pair *tag = create.tags.items;
    check_text(tag->value, "");
    struct sqs_get_queue_attributes_input get = {0};
    assert_true(decode("{\"AttributeNames\":[\"All\",\"QueueArn\"]}",
                       SQS_SHAPE_get_queue_attributes_input, &arena, &get, &error));
    const struct slice *names = get.names.items;
    assert_int_equal(get.names.count, 2);
    check_text(names[1], "QueueArn");
    arena_free(&arena);
}

static void keeps_a_nul_in_a_text(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct sqs_error error = {0};
    struct sqs_send_message_input in = {0};
    assert_true(decode("{\"MessageBody\":\"a\\u0000b\"}", SQS_SHAPE_send_message_input, &arena, &in,
                       &error));
    assert_int_equal(in.body.length, 3);
    assert_memory_equal(in.body.data, "a\0b", 3);
    arena_free(&arena);
}

static void refuses_wrong_types(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        const char *message;
    } cases[] = {
        {"{\"MessageBody\":1}", "NUMBER_VALUE can not be converted to a String"},
        {"{\"MessageBody\":true}", "TRUE_VALUE can not be converted to a String"},
        {"{\"MessageBody\":{}}", "START_OBJECT can not be converted to a String"},
        {"{\"DelaySeconds\":\"1\"}", "STRING_VALUE can not be converted to an Integer"},
        {"{\"DelaySeconds\":1.5}", "DECIMAL_VALUE can not be converted to an Integer"},
        {"{\"DelaySeconds\":99999999999}",
         "NUMBER_VALUE can not be converted to an Integer: it is out of range"},
        {"{\"MessageAttributes\":[]}", "START_ARRAY can not be converted to a Map"},
        {"{\"MessageAttributes\":{\"a\":1}}", "NUMBER_VALUE can not be converted to a Structure"},
        {"{\"MessageAttributes\":{\"a\":{\"BinaryValue\":\"AA*A\"}}}",
         "STRING_VALUE can not be converted to a Blob: it is not valid base64"},
        {"[]", "START_ARRAY can not be converted to a Structure"},
        {"\"x\"", "STRING_VALUE can not be converted to a Structure"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct arena arena = {0};
        struct sqs_error error = {0};
        struct sqs_send_message_input in = {0};
        assert_false(decode(cases[i].json, SQS_SHAPE_send_message_input, &arena, &in, &error));
        assert_int_equal(error.code, SQS_ERROR_SERIALIZATION);
        assert_string_equal(error.message, cases[i].message);
        arena_free(&arena);
    }
}

static void refuses_malformed_documents(void **state)
{
    (void)state;
    static const char *const documents[] = {
        "{",
        "{\"a\":}",
        "{\"MessageBody\":\"\xff\"}",
        "{}x",
        "{'a':1}",
        "{\"a\":\"\\ud800\"}",
        "\"",
        "nul",
        "{\"a\":\"b",
        "{\"a\\u0000\":1}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":-}",
        "{\"a\":1e}",
        "{\"a\" 1}",
        "{\"a\":1,}",
        "{\"a\":[1,]}",
        "{\"a\":[1 2]}",
        "{\"a\":[1}",
        "{a:1}",
        " ",
    };
    for (size_t i = 0; i < sizeof documents / sizeof documents[0]; i++) {
        struct arena arena = {0};
        struct sqs_error error = {0};
        struct sqs_send_message_input in = {0};
        assert_false(decode(documents[i], SQS_SHAPE_send_message_input, &arena, &in, &error));
        assert_int_equal(error.code, SQS_ERROR_SERIALIZATION);
        arena_free(&arena);
    }
}

static void unescapes_texts(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        const char *text;
    } cases[] = {
        {"\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t"},
        {"\\u0041\\u00e9\\u20AC\\ud83d\\ude00", "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"a long text, and then \\n another, and \\u00e9 the end",
         "a long text, and then \n another, and \xc3\xa9 the end"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct arena arena = {0};
        struct sqs_error error = {0};
        struct sqs_send_message_input in = {0};
        char *json = NULL;
        assert_true(asprintf(&json, " { \"MessageBody\" :\t\"%s\" ,\r\n\"x\":-0.5e+3} ",
                             cases[i].json) > 0);
        assert_true(decode(json, SQS_SHAPE_send_message_input, &arena, &in, &error));
        check_text(in.body, cases[i].text);
        free(json);
        arena_free(&arena);
    }
}

/* Whatever stands where in a text, and however it is aligned. */
static void finds_what_is_wrong_far_in(void **state)
{
    (void)state;
    static const char *const bad[] = {"\x01",   "\x1f",     "\xff",   "\\x",
                                      "\\u12x", "\\ud800x", "\\udc00"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        for (int before = 0; before < 20; before++) {
            struct arena arena = {0};
            struct sqs_error error = {0};
            struct sqs_send_message_input in = {0};
            char *json = NULL;
            assert_true(asprintf(&json, "{\"MessageBody\":\"%.*s%s0123456789\"}", before,
                                 "abcdefghijklmnopqrst", bad[i]) > 0);
            assert_false(decode(json, SQS_SHAPE_send_message_input, &arena, &in, &error));
            assert_non_null(
                strstr(error.message, "The request is not valid JSON at line 1, column"));
            free(json);
            arena_free(&arena);
        }
    }
}

/* The last one counts; null is as good as absent. */
static void a_key_given_twice(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct sqs_error error = {0};
    struct sqs_send_message_input in = {0};
    assert_true(decode("{\"MessageBody\":\"a\",\"MessageBody\":\"b\",\"MessageAttributes\":{"
                       "\"n\":{\"StringValue\":\"1\",\"DataType\":\"String\"},\"m\":null,"
                       "\"n\":{\"StringValue\":\"2\"}}}",
                       SQS_SHAPE_send_message_input, &arena, &in, &error));
    const struct sqs_message_attribute *attributes = in.attributes.items;
    check_text(in.body, "b");
    assert_int_equal(in.attributes.count, 1);
    check_text(attributes->name, "n");
    check_text(attributes->string_value, "2");
    assert_null(attributes->data_type.data);
    arena_free(&arena);
}

static void lists_grow(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct sqs_error error = {0};
    struct sqs_get_queue_attributes_input in = {0};
    struct buffer json = {0};
    buffer_add_text(&json, "{\"AttributeNames\":[");
    for (int i = 0; i < 1000; i++)
        buffer_printf(&json, "%s\"%d\"", i > 0 ? "," : "", i);
    buffer_add_text(&json, "]}");
    assert_true(sqs_json_decode(buffer_slice(&json), SQS_SHAPE_get_queue_attributes_input, &arena,
                                &in, &error));
    assert_int_equal(in.names.count, 1000);
    const struct slice *names = in.names.items;
    for (int i = 0; i < 1000; i++) {
        char text[8];
        snprintf(text, sizeof text, "%d", i);
        check_text(names[i], text);
    }
    buffer_free(&json);
    arena_free(&arena);
}

static void bounds_values_and_depth(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct sqs_error error = {0};
    struct sqs_send_message_input in = {0};
    struct buffer many = {0};
    buffer_add_text(&many, "{\"x\":[");
    for (size_t i = 0; i < SQS_JSON_TOKENS_MAX; i++)
        buffer_add_text(&many, "[],");
    buffer_add_text(&many, "[]]}");
    assert_false(
        sqs_json_decode(buffer_slice(&many), SQS_SHAPE_send_message_input, &arena, &in, &error));
    assert_string_equal(error.message, "The request has too many values.");
    buffer_clear(&many);
    for (size_t i = 0; i < 10000; i++)
        buffer_add_byte(&many, '[');
    assert_false(
        sqs_json_decode(buffer_slice(&many), SQS_SHAPE_send_message_input, &arena, &in, &error));
    /* The same characters inside a string are no values. */
    buffer_clear(&many);
    buffer_add_text(&many, "{\"MessageBody\":\"");
    for (size_t i = 0; i < 2 * SQS_JSON_TOKENS_MAX; i++)
        buffer_add_text(&many, ",\\\"");
    buffer_add_text(&many, "\"}");
    assert_true(
        sqs_json_decode(buffer_slice(&many), SQS_SHAPE_send_message_input, &arena, &in, &error));
    assert_int_equal(in.body.length, 4 * SQS_JSON_TOKENS_MAX);
    buffer_free(&many);
    arena_free(&arena);
}

static void an_empty_body_is_an_empty_object(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct sqs_error error = {0};
    struct sqs_list_queues_input in = {0};
    assert_true(decode("", SQS_SHAPE_list_queues_input, &arena, &in, &error));
    assert_null(in.prefix.data);
    arena_free(&arena);
}

static void check_written(const struct buffer *out, const char *expected)
{
    check_text(buffer_slice(out), expected);
}

static void writes_results(void **state)
{
    (void)state;
    struct buffer out = {0};
    struct sqs_receive_message_result none = {0};
    sqs_result_encode(&out, SQS_JSON, SQS_ACTION_ReceiveMessage, &none, "id");
    check_written(&out, "{}");
    buffer_clear(&out);
    sqs_result_encode(&out, SQS_JSON, SQS_ACTION_DeleteMessage, NULL, "id");
    assert_int_equal(out.length, 0);

    struct sqs_message_attribute attributes[] = {{.name = SLICE_LITERAL("b"),
                                                  .data_type = SLICE_LITERAL("Binary"),
                                                  .binary_value = SLICE_LITERAL("\1\2\3")}};
    struct sqs_pair pairs[] = {{SLICE_LITERAL("SenderId"), SLICE_LITERAL("AK")}};
    struct sqs_message messages[] = {{.body = SLICE_LITERAL("q\"\\\n\x01\xc3\xa9"),
                                      .attributes = {pairs, 1, true},
                                      .message_attributes = {attributes, 1, true}},
                                     {.body = SLICE_LITERAL("")}};
    struct sqs_receive_message_result two = {.messages = {messages, 2, true}};
    sqs_result_encode(&out, SQS_JSON, SQS_ACTION_ReceiveMessage, &two, "id");
    check_written(&out, "{\"Messages\":[{\"Body\":\"q\\\"\\\\\\n\\u0001\xc3\xa9\","
                        "\"Attributes\":{\"SenderId\":\"AK\"},"
                        "\"MessageAttributes\":{\"b\":{\"BinaryValue\":\"AQID\","
                        "\"DataType\":\"Binary\"}}},{\"Body\":\"\"}]}");
    buffer_clear(&out);
    struct sqs_failed_entry failed[] = {
        {.id = SLICE_LITERAL("x"), .sender_fault = true, .code = SLICE_LITERAL("C")}};
    struct sqs_delete_message_batch_result batch = {.failed = {failed, 1, true}};
    sqs_result_encode(&out, SQS_JSON, SQS_ACTION_DeleteMessageBatch, &batch, "id");
    check_written(&out, "{\"Failed\":[{\"Id\":\"x\",\"SenderFault\":true,\"Code\":\"C\"}]}");
    buffer_free(&out);
}

/* Numbers that need 64 bits, and lists that are written although they are empty. */
static void writes_what_a_result_requires(void **state)
{
    (void)state;
    struct buffer out = {0};
    struct sqs_list_sources_result none = {0};
    sqs_result_encode(&out, SQS_JSON, SQS_ACTION_ListDeadLetterSourceQueues, &none, "id");
    check_written(&out, "{\"queueUrls\":[]}");
    buffer_clear(&out);
    struct sqs_move_entry moves[] = {{.status = SLICE_LITERAL("RUNNING"),
                                      .rate = {500, true},
                                      .moved = {0, true},
                                      .started_ms = {1700000000123, true}}};
    struct sqs_list_moves_result list = {.results = {moves, 1, true}};
    sqs_result_encode(&out, SQS_JSON, SQS_ACTION_ListMessageMoveTasks, &list, "id");
    check_written(&out,
                  "{\"Results\":[{\"Status\":\"RUNNING\",\"MaxNumberOfMessagesPerSecond\":500,"
                  "\"ApproximateNumberOfMessagesMoved\":0,"
                  "\"StartedTimestamp\":1700000000123}]}");
    buffer_free(&out);
}

static void writes_errors(void **state)
{
    (void)state;
    struct buffer out = {0};
    struct sqs_error error = {SQS_ERROR_QUEUE_DOES_NOT_EXIST, NULL};
    sqs_error_encode(&out, SQS_JSON, &error, "id");
    check_written(&out, "{\"__type\":\"com.amazonaws.sqs#QueueDoesNotExist\",\"message\":"
                        "\"The specified queue does not exist.\"}");
    assert_true(sqs_error_query_header(error.code));
    assert_false(sqs_error_query_header(SQS_ERROR_SERIALIZATION));
    assert_string_equal(sqs_error_short_code(error.code),
                        "AWS.SimpleQueueService.NonExistentQueue");
    buffer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_kind_of_member),
        cmocka_unit_test(reads_maps_and_lists),
        cmocka_unit_test(keeps_a_nul_in_a_text),
        cmocka_unit_test(refuses_wrong_types),
        cmocka_unit_test(refuses_malformed_documents),
        cmocka_unit_test(unescapes_texts),
        cmocka_unit_test(finds_what_is_wrong_far_in),
        cmocka_unit_test(a_key_given_twice),
        cmocka_unit_test(lists_grow),
        cmocka_unit_test(bounds_values_and_depth),
        cmocka_unit_test(an_empty_body_is_an_empty_object),
        cmocka_unit_test(writes_results),
        cmocka_unit_test(writes_what_a_result_requires),
        cmocka_unit_test(writes_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
