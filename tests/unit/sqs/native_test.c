/* SPDX-License-Identifier: Apache-2.0 */
/* The native protocol's bytes: every shape survives the way there and back, and what is malformed
 * is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/bytes.h"
#include "proto/sqs/native.h"

static void check_text(struct slice actual, const char *expected)
{
    assert_non_null(actual.data);
    assert_int_equal(actual.length, strlen(expected));
    assert_memory_equal(actual.data, expected, actual.length);
}

static void a_batch_goes_there_and_back(void **state)
{
    (void)state;
    struct sqs_message_attribute attribute = {.name = SLICE_LITERAL("n"),
                                              .binary_value = slice_make("\0\xff\2", 3),
                                              .data_type = SLICE_LITERAL("Binary")};
    struct sqs_send_entry entries[2] = {
        {.id = SLICE_LITERAL("a"),
         .body = SLICE_LITERAL("caf\xc3\xa9"),
         .delay_s = {-7, true},
         .attributes = {&attribute, 1, true}},
        {.id = SLICE_LITERAL("b"), .body = SLICE_LITERAL("")},
    };
    struct sqs_send_message_batch_input in = {.queue_url = SLICE_LITERAL("q"),
                                              .entries = {entries, 2, true}};
    struct sqs_send_message_batch_input out = {0};
    struct buffer bytes = {0};
    struct arena arena = {0};
    native_write(&bytes, SQS_SHAPE_send_message_batch_input, &in);
    assert_true(
        native_read(buffer_slice(&bytes), SQS_SHAPE_send_message_batch_input, &arena, &out));
    const struct sqs_send_entry *read = out.entries.items;
    check_text(out.queue_url, "q");
    assert_int_equal(out.entries.count, 2);
    check_text(read[0].body, "caf\xc3\xa9");
    assert_true(read[0].delay_s.given);
    assert_int_equal(read[0].delay_s.value, -7);
    const struct sqs_message_attribute *attributes = read[0].attributes.items;
    assert_int_equal(read[0].attributes.count, 1);
    check_text(attributes[0].name, "n");
    assert_memory_equal(attributes[0].binary_value.data, "\0\xff\2", 3);
    assert_null(attributes[0].string_value.data);
    check_text(read[1].body, ""); /* given and empty is not absent */
    assert_null(read[1].group_id.data);
    assert_false(read[1].delay_s.given);
    buffer_free(&bytes);
    arena_free(&arena);
}

static void maps_texts_and_longs_too(void **state)
{
    (void)state;
    struct sqs_pair pair = {SLICE_LITERAL("k"), SLICE_LITERAL("v")};
    struct sqs_create_queue_input create = {.queue_name = SLICE_LITERAL("q"),
                                            .attributes = {&pair, 1, true}};
    struct slice text = SLICE_LITERAL("All");
    struct sqs_receive_message_input receive = {.attribute_names = {&text, 1, true}};
    struct sqs_cancel_move_result cancel = {.moved = {INT64_C(-5000000000), true}};
    struct sqs_create_queue_input create_out = {0};
    struct sqs_receive_message_input receive_out = {0};
    struct sqs_cancel_move_result cancel_out = {0};
    struct buffer a = {0};
    struct buffer b = {0};
    struct buffer c = {0};
    struct arena arena = {0};
    native_write(&a, SQS_SHAPE_create_queue_input, &create);
    native_write(&b, SQS_SHAPE_receive_message_input, &receive);
    native_write(&c, SQS_SHAPE_cancel_move_result, &cancel);
    assert_true(native_read(buffer_slice(&a), SQS_SHAPE_create_queue_input, &arena, &create_out));
    assert_true(
        native_read(buffer_slice(&b), SQS_SHAPE_receive_message_input, &arena, &receive_out));
    assert_true(native_read(buffer_slice(&c), SQS_SHAPE_cancel_move_result, &arena, &cancel_out));
    check_text(((const struct sqs_pair *)create_out.attributes.items)->value, "v");
    assert_false(create_out.tags.given);
    check_text(*(const struct slice *)receive_out.attribute_names.items, "All");
    assert_true(cancel_out.moved.value == INT64_C(-5000000000));
    buffer_free(&a);
    buffer_free(&b);
    buffer_free(&c);
    arena_free(&arena);
}

static void the_layout_is_as_documented(void **state)
{
    (void)state;
    static const uint8_t expected[] = {
        7, 0, 0, 0, 7, 0,    0,    0,          /* id, SendMessage, zero */
        1, 1, 0, 0, 0, 'q',                    /* QueueUrl */
        2, 2, 0, 0, 0, 'h',  'i',              /* MessageBody */
        3, 4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, /* DelaySeconds -1 */
    };
    struct sqs_send_message_input in = {
        .queue_url = SLICE_LITERAL("q"), .body = SLICE_LITERAL("hi"), .delay_s = {-1, true}};
    struct buffer out = {0};
    native_call_header(&out, 7, SQS_ACTION_SendMessage);
    native_write(&out, SQS_SHAPE_send_message_input, &in);
    assert_int_equal(out.length, sizeof expected);
    assert_memory_equal(out.data, expected, sizeof expected);
    buffer_free(&out);
}

static void an_error_carries_the_apis_code(void **state)
{
    (void)state;
    struct buffer out = {0};
    struct arena arena = {0};
    struct sqs_call_error read = {0};
    native_write_error(&out, &(struct sqs_error){SQS_ERROR_QUEUE_DOES_NOT_EXIST, NULL});
    assert_true(native_read(buffer_slice(&out), SQS_SHAPE_call_error, &arena, &read));
    check_text(read.code, "QueueDoesNotExist");
    check_text(read.message, "The specified queue does not exist.");
    assert_int_equal(read.http_status.value, 400);
    assert_true(read.sender_fault);
    buffer_free(&out);
    arena_free(&arena);
}

static bool reads(const void *bytes, size_t length, enum sqs_shape shape)
{
    struct arena arena = {0};
    void *out = arena_alloc(&arena, sqs_shapes[shape].bytes);
    bool good = native_read(slice_make(bytes, length), shape, &arena, out);
    arena_free(&arena);
    return good;
}

static void malformed_is_refused(void **state)
{
    (void)state;
    const enum sqs_shape send = SQS_SHAPE_send_message_input;
    assert_true(reads("", 0, send));
    assert_true(reads("\x01\x01\0\0\0q", 6, send));
    assert_false(reads("\x01\x02\0\0\0q", 6, send));           /* longer than it is */
    assert_false(reads("\x01\x01\0\0", 4, send));              /* no whole length */
    assert_false(reads("\0\0\0\0\0", 5, send));                /* tag 0 */
    assert_false(reads("\x01\x01\0\0\0\xff", 6, send));        /* not UTF-8 */
    assert_false(reads("\x03\x02\0\0\0\1\1", 7, send));        /* a number of two bytes */
    assert_false(reads("\x03\x05\0\0\0\1\1\1\1\1", 10, send)); /* and of five */
    assert_true(reads("\xfa\x02\0\0\0\xff\xff", 7, send));     /* a tag of the future */
}

/* A count that the bytes cannot hold, or too many values, is refused before memory is taken. */
static void counts_are_bounded(void **state)
{
    (void)state;
    struct buffer out = {0};
    assert_false(reads("\x02\x04\0\0\0\xff\xff\xff\xff", 9, SQS_SHAPE_send_message_batch_input));
    uint32_t count = NATIVE_VALUES_MAX + 1;
    buffer_add_byte(&out, 2);
    buffer_add_u32(&out, 4 + 4 * count);
    buffer_add_u32(&out, count);
    for (uint32_t i = 0; i < count; i++)
        buffer_add_u32(&out, 0);
    assert_false(reads(out.data, out.length, SQS_SHAPE_send_message_batch_input));
    bytes_put_u32(out.data + 1, 4 + 4 * NATIVE_VALUES_MAX);
    bytes_put_u32(out.data + 5, NATIVE_VALUES_MAX);
    assert_true(reads(out.data, out.length - 4, SQS_SHAPE_send_message_batch_input));
    buffer_free(&out);
}

static void headers_are_read(void **state)
{
    (void)state;
    struct native_header header;
    struct slice body;
    struct buffer out = {0};
    native_answer_header(&out, 77, true, 0x10203);
    buffer_add_byte(&out, 9);
    assert_false(native_header_read(slice_make(out.data, 7), &header, &body));
    assert_true(native_header_read(buffer_slice(&out), &header, &body));
    assert_int_equal(header.id, 77);
    assert_true(header.refused);
    assert_int_equal(body.length, 1);
    assert_int_equal(header.ask_node, 0x10203);
    out.length = 0;
    native_answer_header(&out, 78, false, 0x1000000); /* not one that fits: none */
    assert_true(native_header_read(buffer_slice(&out), &header, &body));
    assert_false(header.refused);
    assert_int_equal(header.ask_node, 0);
    buffer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_goes_there_and_back),
        cmocka_unit_test(maps_texts_and_longs_too),
        cmocka_unit_test(the_layout_is_as_documented),
        cmocka_unit_test(an_error_carries_the_apis_code),
        cmocka_unit_test(malformed_is_refused),
        cmocka_unit_test(counts_are_bounded),
        cmocka_unit_test(headers_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
