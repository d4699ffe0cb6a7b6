/* SPDX-License-Identifier: Apache-2.0 */
/* Message records: SQS's digests, the round trip, and bytes that nobody wrote. */
#include "tests/unit/core/fixture.h"

#include "broker/core/record.h"

static void assert_hex(const uint8_t *digest, const char *hex)
{
    struct buffer text = {0};
    encode_hex(&text, slice_make(digest, MD5_BYTES));
    assert_string_equal(buffer_c_string(&text), hex);
    buffer_free(&text);
}

/* The digest that SQS gives for {"timestamp": Number 1493147359900}; the same by Python:
 *   hashlib.md5(pack('>I', 9) + b'timestamp' + pack('>I', 6) + b'Number' + b'\x01' +
 *               pack('>I', 13) + b'1493147359900').hexdigest() */
static void test_md5_one_number(void **state)
{
    (void)state;
    struct record_attribute attribute = {SLICE_LITERAL("timestamp"), SLICE_LITERAL("Number"),
                                         RECORD_STRING, SLICE_LITERAL("1493147359900")};
    uint8_t digest[MD5_BYTES];
    record_attributes_md5(&attribute, 1, digest);
    assert_hex(digest, "235c5c510d26fb653d073faed50ae77c");
}

/* By the same Python over City (String "Any City"), Greeting (Binary "Hello, World!") and
 * Population (Number "1250800"), sorted by name. */
static void test_md5_three_sorted_by_encode(void **state)
{
    (void)state;
    struct record record = {
        .body = SLICE_LITERAL("hello"),
        .attributes = {{SLICE_LITERAL("Population"), SLICE_LITERAL("Number"), RECORD_STRING,
                        SLICE_LITERAL("1250800")},
                       {SLICE_LITERAL("Greeting"), SLICE_LITERAL("Binary"), RECORD_BINARY,
                        SLICE_LITERAL("Hello, World!")},
                       {SLICE_LITERAL("City"), SLICE_LITERAL("String"), RECORD_STRING,
                        SLICE_LITERAL("Any City")}},
        .attribute_count = 3,
    };
    struct buffer bytes = {0};
    record_encode(&bytes, &record);
    assert_hex(record.md5_attributes, "28eb0e573cf8e8a77e349a2f968eac4a");
    assert_hex(record.md5_body, "5d41402abc4b2a76b9719d911017c592");
    assert_true(slice_is(record.attributes[0].name, "City"));
    assert_true(slice_is(record.attributes[2].name, "Population"));
    buffer_free(&bytes);
}

/* The full type counts, with its suffix, and the bytes of a binary value as they are. */
static void test_md5_suffix_and_binary(void **state)
{
    (void)state;
    static const uint8_t binary[] = {0, 1, 255};
    struct record_attribute attributes[] = {
        {SLICE_LITERAL("a"), SLICE_LITERAL("Number.int"), RECORD_STRING, SLICE_LITERAL("7")},
        {SLICE_LITERAL("b"), SLICE_LITERAL("Binary"), RECORD_BINARY, {binary, sizeof binary}},
    };
    uint8_t digest[MD5_BYTES];
    record_attributes_md5(attributes, 2, digest);
    assert_hex(digest, "7342b8e13958ff2b8091061afc9991bc");
}

static struct record sample(void)
{
    struct record record = {
        .sender_id = SLICE_LITERAL("AIDA"),
        .trace_header = SLICE_LITERAL("Root=1"),
        .group_id = SLICE_LITERAL("group"),
        .dedup_id = SLICE_LITERAL("dedup"),
        .body = SLICE_LITERAL("the body"),
        .attributes = {{SLICE_LITERAL("n"), SLICE_LITERAL("Number"), RECORD_STRING,
                        SLICE_LITERAL("12")},
                       {SLICE_LITERAL("e"), SLICE_LITERAL("Binary.x"), RECORD_BINARY,
                        SLICE_LITERAL("")}},
        .attribute_count = 2,
    };
    memset(record.message_id, 0xab, UUID_BYTES);
    return record;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct record record = sample();
    struct record read;
    struct buffer bytes = {0};
    record_encode(&bytes, &record);
    assert_int_equal(record_decode(buffer_slice(&bytes), &read), STATUS_OK);
    assert_memory_equal(read.message_id, record.message_id, UUID_BYTES);
    assert_memory_equal(read.md5_body, record.md5_body, MD5_BYTES);
    assert_memory_equal(read.md5_attributes, record.md5_attributes, MD5_BYTES);
    assert_true(slice_is(read.sender_id, "AIDA"));
    assert_true(slice_is(read.trace_header, "Root=1"));
    assert_true(slice_is(read.group_id, "group"));
    assert_true(slice_is(read.dedup_id, "dedup"));
    assert_true(slice_is(read.body, "the body"));
    assert_int_equal(read.attribute_count, 2);
    assert_true(slice_is(read.attributes[0].name, "e"));
    assert_int_equal(read.attributes[0].kind, RECORD_BINARY);
    assert_int_equal(read.attributes[0].value.length, 0);
    assert_true(slice_is(read.attributes[1].type, "Number"));
    assert_true(slice_is(read.attributes[1].value, "12"));
    buffer_free(&bytes);
}

static void an_md5_that_was_left_out_is_made(void **state)
{
    (void)state;
    struct record record = {.body = SLICE_LITERAL("hello"), .no_md5 = true};
    struct record read;
    struct buffer bytes = {0};
    uint8_t md5[MD5_BYTES];
    record_encode(&bytes, &record);
    assert_int_equal(record_decode(buffer_slice(&bytes), &read), STATUS_OK);
    assert_true(read.no_md5);
    record_body_md5(&read, md5);
    assert_hex(md5, "5d41402abc4b2a76b9719d911017c592");
    bytes.data[20] = 1; /* left out and there: neither */
    assert_int_equal(record_decode(buffer_slice(&bytes), &read), STATUS_INVALID);
    bytes.data[20] = 0;
    bytes.data[1] = 4; /* a flag of the future */
    assert_int_equal(record_decode(buffer_slice(&bytes), &read), STATUS_INVALID);
    buffer_free(&bytes);
}

static void test_no_attributes(void **state)
{
    (void)state;
    static const uint8_t zeros[MD5_BYTES];
    struct record record = {.body = SLICE_LITERAL("x")};
    struct record read;
    struct buffer bytes = {0};
    record_encode(&bytes, &record);
    assert_int_equal(bytes.length, 76 + 1);
    assert_memory_equal(record.md5_attributes, zeros, MD5_BYTES);
    assert_int_equal(record_decode(buffer_slice(&bytes), &read), STATUS_OK);
    assert_int_equal(read.attribute_count, 0);
    bytes.data[36] = 1; /* a digest of attributes without attributes */
    assert_int_equal(record_decode(buffer_slice(&bytes), &read), STATUS_INVALID);
    buffer_free(&bytes);
}

static void test_every_truncation_is_refused(void **state)
{
    (void)state;
    struct record record = sample();
    struct record read;
    struct buffer bytes = {0};
    record_encode(&bytes, &record);
    for (size_t length = 0; length < bytes.length; length++)
        assert_int_equal(record_decode(slice_make(bytes.data, length), &read), STATUS_INVALID);
    buffer_add_byte(&bytes, 0);
    assert_int_equal(record_decode(buffer_slice(&bytes), &read), STATUS_INVALID);
    buffer_free(&bytes);
}

/* The ids alone: the same as in the whole record, and nothing of what is no record. */
static void test_ids(void **state)
{
    (void)state;
    struct record record = sample();
    struct record_ids ids;
    struct buffer bytes = {0};
    record_encode(&bytes, &record);
    assert_true(record_read_ids(buffer_slice(&bytes), &ids));
    assert_memory_equal(ids.message_id, record.message_id, UUID_BYTES);
    assert_true(slice_is(ids.group_id, "group"));
    assert_true(slice_is(ids.dedup_id, "dedup"));
    size_t ids_end = 76 + strlen("AIDARoot=1groupdedup");
    for (size_t length = 0; length < ids_end; length++)
        assert_false(record_read_ids(slice_make(bytes.data, length), &ids));
    assert_int_equal(ids.group_id.length, 0);
    static const size_t lengths_at[] = {55, 59, 63, 67}; /* their highest bytes */
    for (size_t i = 0; i < ARRAY_COUNT(lengths_at); i++) {
        bytes.data[lengths_at[i]] = 255;
        assert_false(record_read_ids(buffer_slice(&bytes), &ids));
        bytes.data[lengths_at[i]] = 0;
    }
    bytes.data[60] = 129;
    assert_false(record_read_ids(buffer_slice(&bytes), &ids));
    buffer_free(&bytes);
}

static void refused_with(size_t offset, uint8_t value)
{
    struct record record = sample();
    struct record read;
    struct buffer bytes = {0};
    record_encode(&bytes, &record);
    assert_int_not_equal(bytes.data[offset], value);
    bytes.data[offset] = value;
    assert_int_equal(record_decode(buffer_slice(&bytes), &read), STATUS_INVALID);
    buffer_free(&bytes);
}

static void test_hostile_bytes(void **state)
{
    (void)state;
    size_t attributes_at =
        76 + strlen("AIDA") + strlen("Root=1") + strlen("group") + strlen("dedup");
    refused_with(0, 3);                   /* unknown version */
    refused_with(1, 0);                   /* attributes, but the flag says none */
    refused_with(1, 3);                   /* unknown flag */
    refused_with(2, 1);                   /* not zero */
    refused_with(55, 255);                /* a sender id of 4 GB */
    refused_with(60, 129);                /* a group id that is too long */
    refused_with(attributes_at, 0);       /* no attributes */
    refused_with(attributes_at, 11);      /* too many */
    refused_with(attributes_at + 1, 255); /* far too many */
    refused_with(attributes_at + 4, 'z'); /* not sorted */
    refused_with(attributes_at + 15, 3);  /* unknown kind */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_md5_that_was_left_out_is_made),
        cmocka_unit_test(test_md5_one_number),
        cmocka_unit_test(test_md5_three_sorted_by_encode),
        cmocka_unit_test(test_md5_suffix_and_binary),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_no_attributes),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_hostile_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
