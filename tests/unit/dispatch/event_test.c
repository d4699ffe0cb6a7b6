/* SPDX-License-Identifier: Apache-2.0 */
/* The SQS event: byte for byte against the shape that AWS documents, escaping, and the size cap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/dispatch/event.h"
#include "broker/dispatch/receipt.h"

#include <jansson.h>
#include <stdlib.h>

static const uint8_t secret[RECEIPT_SECRET_BYTES] = "fixed";
static const struct event_source source = {
    .secret = secret,
    .queue_id = 9,
    .queue_arn = "arn:aws:sqs:us-east-1:000000000000:orders",
    .region = "us-east-1",
};
static const struct core_message message = {.seq = 3,
                                            .sent_ms = 1545082649183,
                                            .first_receive_ms = 1545082649185,
                                            .receive_count = 2,
                                            .received_before = 1};

static struct record record_of(const char *body)
{
    struct record record = {.sender_id = SLICE_LITERAL("AIDAIENQZJOLO23YVJ4VO"),
                            .body = slice_of(body)};
    struct buffer bytes = {0};
    assert_true(
        uuid_parse(SLICE_LITERAL("059f36b4-87a3-44ab-83d2-661975830a7d"), record.message_id));
    record_encode(&bytes, &record); /* fills in the MD5s */
    buffer_free(&bytes);
    return record;
}

static void test_golden(void **state)
{
    (void)state;
    struct record record = record_of("Test message.");
    struct buffer event = {0};
    struct buffer expected = {0};
    event_begin(&event);
    assert_true(event_add(&event, &source, &message, &record, NULL));
    event_end(&event);
    buffer_add_text(&expected, "{\"Records\":[{\"messageId\":\"059f36b4-87a3-44ab-83d2-"
                               "661975830a7d\",\"receiptHandle\":\"");
    receipt_encode(&expected, secret, 9, (struct core_lease){3, 2});
    buffer_add_text(
        &expected,
        "\",\"body\":\"Test message.\",\"attributes\":{\"ApproximateReceiveCount\":\"3\","
        "\"SentTimestamp\":\"1545082649183\",\"SenderId\":\"AIDAIENQZJOLO23YVJ4VO\","
        "\"ApproximateFirstReceiveTimestamp\":\"1545082649185\"},\"messageAttributes\":{},"
        "\"md5OfBody\":\"e4e68fb7bd0e697a0ae8f1bb342846b3\",\"eventSource\":\"aws:sqs\","
        "\"eventSourceARN\":\"arn:aws:sqs:us-east-1:000000000000:orders\","
        "\"awsRegion\":\"us-east-1\"}]}");
    assert_string_equal(buffer_c_string(&event), buffer_c_string(&expected));
    buffer_free(&event);
    buffer_free(&expected);
}

/* A message of a FIFO queue, redriven: the attributes as AWS orders them in its example. */
static void test_golden_fifo(void **state)
{
    (void)state;
    struct event_source fifo = source;
    fifo.fifo = true;
    struct record record = record_of("x");
    record.group_id = SLICE_LITERAL("group \"1\"");
    record.dedup_id = SLICE_LITERAL("once");
    struct core_message redriven = message;
    redriven.source_queue_id = 8;
    struct buffer event = {0};
    event_begin(&event);
    assert_true(event_add(&event, &fifo, &redriven, &record, "arn:aws:sqs:us-east-1:0:o.fifo"));
    event_end(&event);
    const char *attributes =
        "\"attributes\":{\"ApproximateReceiveCount\":\"3\",\"SentTimestamp\":\"1545082649183\","
        "\"SequenceNumber\":\"00000000000000000003\",\"MessageGroupId\":\"group \\\"1\\\"\","
        "\"SenderId\":\"AIDAIENQZJOLO23YVJ4VO\","
        "\"MessageDeduplicationId\":\"059f36b4-87a3-44ab-83d2-661975830a7d\","
        "\"ApproximateFirstReceiveTimestamp\":\"1545082649185\","
        "\"DeadLetterQueueSourceArn\":\"arn:aws:sqs:us-east-1:0:o.fifo\"},";
    if (strstr(buffer_c_string(&event), attributes) == NULL)
        fail_msg("%s", buffer_c_string(&event));
    buffer_free(&event);
}

static json_t *parse(struct buffer *event)
{
    json_error_t error;
    json_t *root = json_loadb((const char *)event->data, event->length, JSON_ALLOW_NUL, &error);
    if (root == NULL)
        fail_msg("%s at %d: %s", error.text, error.position, buffer_c_string(event));
    return root;
}

static const json_t *first_record(const json_t *root)
{
    return json_array_get(json_object_get(root, "Records"), 0);
}

static void test_attributes(void **state)
{
    (void)state;
    struct record record = record_of("x");
    record.trace_header = SLICE_LITERAL("Root=1-5759e988-bd862e3fe1be46a994272793");
    record.attribute_count = 2;
    record.attributes[0] = (struct record_attribute){
        SLICE_LITERAL("n"), SLICE_LITERAL("Number.int"), RECORD_STRING, SLICE_LITERAL("7")};
    record.attributes[1] = (struct record_attribute){SLICE_LITERAL("raw"), SLICE_LITERAL("Binary"),
                                                     RECORD_BINARY, slice_make("\x00\xff", 2)};
    struct buffer event = {0};
    event_begin(&event);
    assert_true(event_add(&event, &source, &message, &record, NULL));
    event_end(&event);
    json_t *root = parse(&event);
    const json_t *item = first_record(root);
    const json_t *attributes = json_object_get(item, "messageAttributes");
    const json_t *number = json_object_get(attributes, "n");
    const json_t *raw = json_object_get(attributes, "raw");
    assert_string_equal(json_string_value(json_object_get(number, "stringValue")), "7");
    assert_string_equal(json_string_value(json_object_get(number, "dataType")), "Number.int");
    assert_int_equal(json_array_size(json_object_get(number, "stringListValues")), 0);
    assert_null(json_object_get(number, "binaryValue"));
    assert_string_equal(json_string_value(json_object_get(raw, "binaryValue")), "AP8=");
    assert_null(json_object_get(raw, "stringValue"));
    assert_int_equal(strlen(json_string_value(json_object_get(item, "md5OfMessageAttributes"))),
                     32);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(item, "attributes"), "AWSTraceHeader")),
        "Root=1-5759e988-bd862e3fe1be46a994272793");
    json_decref(root);
    buffer_free(&event);
}

/* Every byte value, and text of every length class, comes out of a JSON reader as it went in. */
static void test_escaping(void **state)
{
    (void)state;
    char all[300];
    size_t length = 0;
    for (unsigned byte = 1; byte < 0x80; byte++)
        all[length++] = (char)byte;
    memcpy(all + length, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10);
    struct record record = record_of(all);
    struct buffer event = {0};
    event_begin(&event);
    assert_true(event_add(&event, &source, &message, &record, NULL));
    event_end(&event);
    json_t *root = parse(&event);
    assert_string_equal(json_string_value(json_object_get(first_record(root), "body")), all);
    json_decref(root);
    buffer_free(&event);
}

static void test_invalid_utf8_is_still_json(void **state)
{
    (void)state;
    struct buffer text = {0};
    json_text(&text, slice_make("a\xff\x00z", 4));
    assert_string_equal(buffer_c_string(&text), "\"a\\ufffd\\u0000z\"");
    buffer_free(&text);
}

static void test_cap(void **state)
{
    (void)state;
    size_t length = 1u << 20;
    char *body = malloc(length + 1);
    memset(body, 'x', length);
    body[length] = '\0';
    struct record record = record_of(body);
    struct buffer event = {0};
    unsigned taken = 0;
    event_begin(&event);
    while (event_add(&event, &source, &message, &record, NULL))
        taken++;
    size_t before = event.length;
    assert_false(event_add(&event, &source, &message, &record, NULL));
    assert_int_equal(event.length, before);
    event_end(&event);
    assert_int_equal(taken, 5);
    assert_true(event.length <= EVENT_BYTES_MAX);
    json_t *root = parse(&event);
    assert_int_equal(json_array_size(json_object_get(root, "Records")), 5);
    json_decref(root);
    buffer_clear(&event);
    memset(body, '"', length); /* doubles when escaped; the first is always taken */
    event_begin(&event);
    for (unsigned i = 0; i < 2; i++)
        assert_true(event_add(&event, &source, &message, &record, NULL));
    buffer_free(&event);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_golden_fifo),
        cmocka_unit_test(test_attributes),
        cmocka_unit_test(test_escaping),
        cmocka_unit_test(test_invalid_utf8_is_still_json),
        cmocka_unit_test(test_cap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
