/* SPDX-License-Identifier: Apache-2.0 */
/* The Query protocol: forms into structs, structs into XML, and what is missing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/sqs/codec.h"

#include <stdio.h>

static bool decode(const char *form_text, enum sqs_shape shape, struct arena *arena, void *out,
                   struct sqs_error *error)
{
    struct sqs_form form;
    return sqs_form_parse((struct slice){0}, slice_of(form_text), arena, &form, error) &&
           sqs_form_decode(&form, shape, arena, out, error);
}

static void check_text(struct slice actual, const char *expected)
{
    assert_non_null(actual.data);
    assert_int_equal(actual.length, strlen(expected));
    assert_memory_equal(actual.data, expected, actual.length);
}

static void reads_structured_names(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct sqs_error error = {0};
    struct sqs_send_message_batch_input in = {0};
    assert_true(decode("Action=SendMessageBatch&QueueUrl=http%3A%2F%2Fh%2F1%2Fq"
                       "&SendMessageBatchRequestEntry.2.Id=b"
                       "&SendMessageBatchRequestEntry.2.MessageBody=two+words%0D%0A"
                       "&SendMessageBatchRequestEntry.10.Id=c"
                       "&SendMessageBatchRequestEntry.1.Id=a"
                       "&SendMessageBatchRequestEntry.1.DelaySeconds=-3"
                       "&SendMessageBatchRequestEntry.1.MessageAttribute.1.Name=n"
                       "&SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.DataType=Binary"
                       "&SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.BinaryValue=AAEC",
                       SQS_SHAPE_send_message_batch_input, &arena, &in, &error));
    check_text(in.queue_url, "http://h/1/q");
    const struct sqs_send_entry *entries = in.entries.items;
    assert_int_equal(in.entries.count, 3); /* in the order of their numbers: 1, 2, 10 */
    check_text(entries[0].id, "a");
    check_text(entries[1].id, "b");
    check_text(entries[2].id, "c");
    check_text(entries[1].body, "two words\r\n");
    assert_int_equal(entries[0].delay_s.value, -3);
    const struct sqs_message_attribute *attribute = entries[0].attributes.items;
    assert_int_equal(entries[0].attributes.count, 1);
    check_text(attribute->name, "n");
    check_text(attribute->data_type, "Binary");
    assert_memory_equal(attribute->binary_value.data, "\0\1\2", 3);
    arena_free(&arena);
}

static void reads_maps_tags_and_lists(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct sqs_error error = {0};
    struct sqs_create_queue_input create = {0};
    assert_true(decode("QueueName=q&Attribute.1.Name=DelaySeconds&Attribute.1.Value=5"
                       "&Attribute.3.Name=Policy&Attribute.x.Name=no&Attribute.0.Name=no"
                       "&Attribute.01.Name=no&Attribute.99999999999.Name=no"
                       "&Tag.1.Key=k&Tag.1.Value=v",
                       SQS_SHAPE_create_queue_input, &arena, &create, &error));
    const struct sqs_pair *pairs = create.attributes.items;
    assert_int_equal(create.attributes.count, 2);
    check_text(pairs[0].key, "DelaySeconds");
    check_text(pairs[0].value, "5");
    check_text(pairs[1].key, "Policy");
    check_text(pairs[1].value, "");
    const struct sqs_pair *tags = create.tags.items;
    check_text(tags[0].key, "k");
    check_text(tags[0].value, "v");
    struct sqs_get_queue_attributes_input get = {0};
    assert_true(decode("AttributeName.2=B&AttributeName.1=A", SQS_SHAPE_get_queue_attributes_input,
                       &arena, &get, &error));
    const struct slice *names = get.names.items;
    assert_int_equal(get.names.count, 2);
    check_text(names[0], "A");
    check_text(names[1], "B");
    arena_free(&arena);
}

static void the_first_of_equal_names_counts(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct sqs_error error = {0};
    struct sqs_form form;
    assert_true(sqs_form_parse(SLICE_LITERAL("b=query"), SLICE_LITERAL("a=1&b=2&a=3&&c&d="), &arena,
                               &form, &error));
    check_text(sqs_form_get(&form, "a"), "1");
    check_text(sqs_form_get(&form, "b"), "query");
    check_text(sqs_form_get(&form, "c"), "");
    check_text(sqs_form_get(&form, "d"), "");
    assert_null(sqs_form_get(&form, "e").data);
    arena_free(&arena);
}

static void refuses_malformed_forms(void **state)
{
    (void)state;
    static const char *const forms[] = {"a=%", "a=%4", "a=%zz", "%=a", "a=%ff", "a=%ed%a0%80"};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct arena arena = {0};
        struct sqs_error error = {0};
        struct sqs_form form;
        assert_false(sqs_form_parse((struct slice){0}, slice_of(forms[i]), &arena, &form, &error));
        assert_int_equal(error.code, SQS_ERROR_MALFORMED_QUERY);
        arena_free(&arena);
    }
    struct buffer many = {0};
    for (size_t i = 0; i <= SQS_FORM_PAIRS_MAX; i++)
        buffer_add_text(&many, "a&");
    struct arena arena = {0};
    struct sqs_error error = {0};
    struct sqs_form form;
    assert_false(sqs_form_parse((struct slice){0}, buffer_slice(&many), &arena, &form, &error));
    assert_string_equal(error.message, "The request has too many parameters.");
    buffer_free(&many);
    arena_free(&arena);
}

static void refuses_bad_numbers_and_blobs(void **state)
{
    (void)state;
    static const char *const forms[] = {
        "DelaySeconds=abc",
        "DelaySeconds=",
        "DelaySeconds=1.5",
        "DelaySeconds=+1",
        "DelaySeconds=1%00",
        "DelaySeconds=99999999999",
        "DelaySeconds=-",
        "DelaySeconds=%201",
        "MessageAttribute.1.Name=a&MessageAttribute.1.Value.BinaryValue=AA*A"};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct arena arena = {0};
        struct sqs_error error = {0};
        struct sqs_send_message_input in = {0};
        assert_false(decode(forms[i], SQS_SHAPE_send_message_input, &arena, &in, &error));
        assert_int_equal(error.code, SQS_ERROR_INVALID_PARAMETER);
        arena_free(&arena);
    }
}

static void names_what_is_missing(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct sqs_send_message_input send = {.queue_url = SLICE_LITERAL("q")};
    assert_string_equal(sqs_missing(SQS_JSON, SQS_SHAPE_send_message_input, &send, &arena),
                        "MessageBody");
    send.body = SLICE_LITERAL("");
    assert_null(sqs_missing(SQS_JSON, SQS_SHAPE_send_message_input, &send, &arena));
    struct sqs_delete_entry entries[2] = {
        {.id = SLICE_LITERAL("a"), .receipt_handle = SLICE_LITERAL("h")},
        {.id = SLICE_LITERAL("b")}};
    struct sqs_delete_message_batch_input batch = {.queue_url = SLICE_LITERAL("q"),
                                                   .entries = {entries, 2, true}};
    assert_string_equal(
        sqs_missing(SQS_QUERY, SQS_SHAPE_delete_message_batch_input, &batch, &arena),
        "DeleteMessageBatchRequestEntry.2.ReceiptHandle");
    assert_string_equal(sqs_missing(SQS_JSON, SQS_SHAPE_delete_message_batch_input, &batch, &arena),
                        "ReceiptHandle");
    struct sqs_set_queue_attributes_input set = {.queue_url = SLICE_LITERAL("q")};
    assert_string_equal(sqs_missing(SQS_QUERY, SQS_SHAPE_set_queue_attributes_input, &set, &arena),
                        "Attribute");
    arena_free(&arena);
}

#define HEAD(action)                                                                               \
    "<?xml version=\"1.0\"?><" action                                                              \
    "Response xmlns=\"http://queue.amazonaws.com/doc/2012-11-05/\">"
#define TAIL(action)                                                                               \
    "<ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></" action "Response>"

static void writes_results(void **state)
{
    (void)state;
    struct buffer out = {0};
    sqs_result_encode(&out, SQS_QUERY, SQS_ACTION_DeleteMessage, NULL, "id");
    check_text(buffer_slice(&out), HEAD("DeleteMessage") TAIL("DeleteMessage"));
    buffer_clear(&out);

    struct sqs_message_attribute attributes[] = {{.name = SLICE_LITERAL("n"),
                                                  .data_type = SLICE_LITERAL("String"),
                                                  .string_value = SLICE_LITERAL("v")}};
    struct sqs_pair pairs[] = {{SLICE_LITERAL("SenderId"), SLICE_LITERAL("AK")}};
    struct sqs_message messages[] = {{.body = SLICE_LITERAL("<a b=\"c\">&\r\n]]>"),
                                      .attributes = {pairs, 1, true},
                                      .message_attributes = {attributes, 1, true}}};
    struct sqs_receive_message_result result = {.messages = {messages, 1, true}};
    sqs_result_encode(&out, SQS_QUERY, SQS_ACTION_ReceiveMessage, &result, "id");
    check_text(
        buffer_slice(&out),
        HEAD("ReceiveMessage") "<ReceiveMessageResult><Message>"
                               "<Body>&lt;a b=&quot;c&quot;&gt;&amp;&#13;\n]]&gt;</Body>"
                               "<Attribute><Name>SenderId</Name><Value>AK</Value></Attribute>"
                               "<MessageAttribute><Name>n</Name><Value><StringValue>v</StringValue>"
                               "<DataType>String</DataType></Value></MessageAttribute>"
                               "</Message></ReceiveMessageResult>" TAIL("ReceiveMessage"));
    buffer_clear(&out);

    struct sqs_queue_tags_result tags = {.tags = {pairs, 1, true}};
    sqs_xml_write(&out, SQS_SHAPE_queue_tags_result, &tags);
    check_text(buffer_slice(&out), "<Tag><Key>SenderId</Key><Value>AK</Value></Tag>");
    buffer_clear(&out);

    struct sqs_move_entry moves[] = {
        {.status = SLICE_LITERAL("COMPLETED"), .moved = {1700000000123, true}}};
    struct sqs_list_moves_result list = {.results = {moves, 1, true}};
    sqs_xml_write(&out, SQS_SHAPE_list_moves_result, &list);
    check_text(buffer_slice(&out),
               "<ListMessageMoveTasksResultEntry><Status>COMPLETED</Status>"
               "<ApproximateNumberOfMessagesMoved>1700000000123</ApproximateNumberOfMessagesMoved>"
               "</ListMessageMoveTasksResultEntry>");
    buffer_free(&out);
}

static void writes_errors(void **state)
{
    (void)state;
    struct buffer out = {0};
    struct sqs_error error = {SQS_ERROR_QUEUE_DOES_NOT_EXIST, NULL};
    sqs_error_encode(&out, SQS_QUERY, &error, "id");
    check_text(buffer_slice(&out),
               HEAD("Error") "<Error><Type>Sender</Type>"
                             "<Code>AWS.SimpleQueueService.NonExistentQueue</Code><Message>The "
                             "specified queue "
                             "does not exist for this wsdl version.</Message><Detail/></Error>"
                             "<RequestId>id</RequestId></ErrorResponse>");
    buffer_free(&out);
}

static void xml_never_holds_what_it_cannot(void **state)
{
    (void)state;
    struct buffer out = {0};
    sqs_xml_write_text(&out, SLICE_LITERAL("a\x01"
                                           "b\0c\xef\xbf\xbf"
                                           "d\te"));
    check_text(buffer_slice(&out), "a\xef\xbf\xbd"
                                   "b\xef\xbf\xbd"
                                   "c\xef\xbf\xbd"
                                   "d\te");
    buffer_free(&out);
}

static void every_action_is_found(void **state)
{
    (void)state;
    enum sqs_action action;
    for (size_t i = 0; i < SQS_ACTION_COUNT; i++) {
        assert_true(sqs_action_find(slice_of(sqs_actions[i].name), &action));
        assert_int_equal(action, i);
    }
    assert_false(sqs_action_find(SLICE_LITERAL("sendmessage"), &action));
    assert_false(sqs_action_find(SLICE_LITERAL(""), &action));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_structured_names),
        cmocka_unit_test(reads_maps_tags_and_lists),
        cmocka_unit_test(the_first_of_equal_names_counts),
        cmocka_unit_test(refuses_malformed_forms),
        cmocka_unit_test(refuses_bad_numbers_and_blobs),
        cmocka_unit_test(names_what_is_missing),
        cmocka_unit_test(writes_results),
        cmocka_unit_test(writes_errors),
        cmocka_unit_test(xml_never_holds_what_it_cannot),
        cmocka_unit_test(every_action_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
