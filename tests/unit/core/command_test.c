/* SPDX-License-Identifier: Apache-2.0 */
/* The codec of commands and entries: every command there and back, every truncation refused. */
#include "tests/unit/core/fixture.h"

#include "broker/feature/feature.h"

#define TEXT(s) SLICE_LITERAL(s)

static struct queue_settings settings(void)
{
    return (struct queue_settings){.delay_s = 900,
                                   .message_bytes_max = 1048576,
                                   .retention_s = 1209600,
                                   .receive_wait_s = 20,
                                   .visibility_s = 43200,
                                   .receive_count_max = 1000,
                                   .fifo = true,
                                   .content_based_dedup = true,
                                   .dedup_per_group = true,
                                   .throughput_per_group = true,
                                   .dead_letter = TEXT("dlq"),
                                   .extras = TEXT("{}")};
}

/* One of each, with a value in every field. */
static size_t samples(struct command out[32])
{
    size_t count = 0;
#define ADD(...) out[count++] = (struct command){__VA_ARGS__}
    ADD(.type = COMMAND_TICK);
    ADD(.type = COMMAND_BOOTSTRAP, .bootstrap = {{1, 2, 3}, {4, 5, 6}});
    ADD(.type = COMMAND_ORIGIN, .origin = {1, UINT64_MAX, 3, 4, 5, 6});
    ADD(.type = COMMAND_QUEUE_CREATE, .queue_create = {TEXT("orders"), settings(), TEXT("{t}")});
    ADD(.type = COMMAND_QUEUE_UPDATE, .queue_update = {1, UINT64_MAX, settings()});
    ADD(.type = COMMAND_QUEUE_DELETE, .queue_delete = {2});
    ADD(.type = COMMAND_QUEUE_PURGE, .queue_purge = {3});
    ADD(.type = COMMAND_QUEUE_TAG, .queue_tag = {3, 4, TEXT("{t}")});
    ADD(.type = COMMAND_SEND, .send = {4, CORE_DEFAULT, TEXT("record")});
    ADD(.type = COMMAND_RECEIVE, .receive = {5, 10000, 43200, 1u << 20, TEXT("attempt")});
    ADD(.type = COMMAND_DELETE, .delete = {6, {7, 8}, true});
    ADD(.type = COMMAND_CHANGE_VISIBILITY, .change_visibility = {9, {10, 11}, 12});
    ADD(.type = COMMAND_MOVE_START, .move_start = {{21}, 22, 23, 24});
    ADD(.type = COMMAND_MOVE_CANCEL, .move_cancel = {{25}, 26});
    ADD(.type = COMMAND_ARRIVE,
        .arrive = {64, 31, 30, 29, true, 32, TEXT("dlq"), 33, 38, 34, TEXT("record")});
    ADD(.type = COMMAND_DEPARTED, .departed = {64, 35});
    ADD(.type = COMMAND_REFUSED, .refused = {64, 36, 37});
    ADD(.type = COMMAND_BLOB_PUT, .blob_put = {{13}, 14, 15, TEXT("piece")});
    ADD(.type = COMMAND_FUNCTION_PUT, .function_put = {TEXT("f"), 16, {17}, TEXT("{c}")});
    ADD(.type = COMMAND_FUNCTION_DELETE, .function_delete = {TEXT("f")});
    ADD(.type = COMMAND_FUNCTION_USAGE,
        .function_usage = {TEXT("f"), {1, 2, 3, 4, 5, 6, 7, UINT64_MAX}});
    ADD(.type = COMMAND_MAPPING_PUT,
        .mapping_put = {{18}, 19, TEXT("f"), TEXT("orders"), TEXT("{m}")});
    ADD(.type = COMMAND_MAPPING_DELETE, .mapping_delete = {{20}});
    ADD(.type = COMMAND_DOCUMENT_PUT, .document_put = {TEXT("key/a"), 27, TEXT("content")});
    ADD(.type = COMMAND_DOCUMENT_DELETE, .document_delete = {TEXT("key/a"), 28});
    ADD(.type = COMMAND_PLACE, .place = {3, 4});
    ADD(.type = COMMAND_USAGE_ADD, .usage_add = {5, {1, 2, 3, 4, 5, 6, 7, UINT64_MAX}});
    ADD(.type = COMMAND_USAGE_DROP, .usage_drop = {6});
    ADD(.type = COMMAND_CLUSTER_RENAME, .cluster_rename = {{7, 8}});
#undef ADD
    return count;
}

static void test_every_command_is_sampled(void **state)
{
    (void)state;
    struct command commands[32];
    size_t count = 0;
#define COMMAND(NAME, number, type, doc) count += command_level(number) <= feature_level();
#include "broker/core/command.def"
#undef COMMAND
    assert_int_equal(samples(commands), count);
}

/* Decoding and encoding again gives the same bytes, so nothing was lost on the way. */
static void test_round_trip(void **state)
{
    (void)state;
    struct command commands[32];
    size_t count = samples(commands);
    for (size_t i = 0; i < count; i++) {
        struct buffer bytes = {0};
        struct buffer again = {0};
        struct command read;
        command_encode(&bytes, &commands[i]);
        struct cursor in = cursor_of(buffer_slice(&bytes));
        assert_int_equal(command_decode(&in, &read), STATUS_OK);
        assert_int_equal(cursor_left(&in), 0);
        assert_int_equal(read.type, commands[i].type);
        command_encode(&again, &read);
        assert_true(slice_equal(buffer_slice(&bytes), buffer_slice(&again)));
        buffer_free(&bytes);
        buffer_free(&again);
    }
}

static void test_fields_arrive(void **state)
{
    (void)state;
    struct command commands[32];
    struct command read;
    struct buffer bytes = {0};
    samples(commands);
    command_encode(&bytes, &commands[3]);
    command_encode(&bytes, &commands[10]);
    struct cursor in = cursor_of(buffer_slice(&bytes));
    assert_int_equal(command_decode(&in, &read), STATUS_OK);
    assert_true(slice_is(read.queue_create.name, "orders"));
    assert_int_equal(read.queue_create.settings.retention_s, 1209600);
    assert_true(slice_is(read.queue_create.settings.dead_letter, "dlq"));
    assert_true(slice_is(read.queue_create.tags, "{t}"));
    assert_int_equal(command_decode(&in, &read), STATUS_OK);
    assert_int_equal(read.delete.queue_id, 6);
    assert_int_equal(read.delete.lease.seq, 7);
    assert_int_equal(read.delete.lease.receive_count, 8);
    assert_true(read.delete.exact);
    buffer_free(&bytes);
}

/* The documented layout of a command, byte by byte. */
static void test_layout(void **state)
{
    (void)state;
    static const uint8_t expected[] = {19, 0, 0, 0, 20,  0,   0,  0, /* header: length, SEND */
                                       9,  0, 0, 0, 0,   0,   0,  0, /* queue_id */
                                       5,  0, 0, 0,                  /* delay_s */
                                       3,  0, 0, 0, 'a', 'b', 'c'};
    struct command command = {.type = COMMAND_SEND, .send = {9, 5, TEXT("abc")}};
    struct buffer bytes = {0};
    command_encode(&bytes, &command);
    assert_int_equal(bytes.length, sizeof expected);
    assert_memory_equal(bytes.data, expected, sizeof expected);
    buffer_free(&bytes);
}

static void test_every_truncation_is_refused(void **state)
{
    (void)state;
    struct command commands[32];
    size_t count = samples(commands);
    for (size_t i = 0; i < count; i++) {
        struct buffer bytes = {0};
        struct command read;
        command_encode(&bytes, &commands[i]);
        for (size_t length = 0; length < bytes.length; length++) {
            /* Cut the entry short, and then the payload too, with an honest length. */
            struct cursor in = cursor_of(slice_make(bytes.data, length));
            assert_int_equal(command_decode(&in, &read), STATUS_INVALID);
            if (length < COMMAND_HEADER_BYTES)
                continue;
            bytes_put_u32(bytes.data, (uint32_t)(length - COMMAND_HEADER_BYTES));
            in = cursor_of(slice_make(bytes.data, length));
            assert_int_equal(command_decode(&in, &read), STATUS_INVALID);
            bytes_put_u32(bytes.data, (uint32_t)(bytes.length - COMMAND_HEADER_BYTES));
        }
        buffer_free(&bytes);
    }
}

static enum status decode_with(const struct command *command, size_t offset, uint32_t value)
{
    struct buffer bytes = {0};
    struct command read;
    command_encode(&bytes, command);
    assert_true(offset + 4 <= bytes.length);
    bytes_put_u32(bytes.data + offset, value);
    struct cursor in = cursor_of(buffer_slice(&bytes));
    enum status status = command_decode(&in, &read);
    buffer_free(&bytes);
    return status;
}

static void test_values_out_of_range(void **state)
{
    (void)state;
    struct command commands[32];
    samples(commands);
    const struct command *create = &commands[3];
    const struct command *send_command = &commands[8];
    const struct command *receive_command = &commands[9];
    size_t settings_at = 8 + 4 + strlen("orders");
    assert_int_equal(decode_with(create, settings_at, 900), STATUS_OK);
    assert_int_equal(decode_with(create, settings_at, 901), STATUS_INVALID); /* delay */
    assert_int_equal(decode_with(create, settings_at, CORE_DEFAULT), STATUS_INVALID);
    assert_int_equal(decode_with(create, settings_at + 4, 1023), STATUS_INVALID); /* bytes */
    assert_int_equal(decode_with(create, settings_at + 8, 59), STATUS_INVALID);   /* retention */
    assert_int_equal(decode_with(create, settings_at + 8, 1209601), STATUS_INVALID);
    assert_int_equal(decode_with(create, settings_at + 12, 21), STATUS_INVALID);    /* wait */
    assert_int_equal(decode_with(create, settings_at + 16, 43201), STATUS_INVALID); /* visibility */
    assert_int_equal(decode_with(send_command, 16, CORE_DEFAULT), STATUS_OK);
    assert_int_equal(decode_with(send_command, 16, 901), STATUS_INVALID);
    assert_int_equal(decode_with(receive_command, 16, 0), STATUS_INVALID); /* max */
    assert_int_equal(decode_with(receive_command, 16, 10001), STATUS_INVALID);
    assert_int_equal(decode_with(receive_command, 20, 43201), STATUS_INVALID);
}

static void test_hostile_headers(void **state)
{
    (void)state;
    struct command tick_command = {.type = COMMAND_TICK};
    assert_int_equal(decode_with(&tick_command, 4, COMMAND_TICK), STATUS_OK);
    assert_int_equal(decode_with(&tick_command, 4, 0), STATUS_INVALID);      /* no such command */
    assert_int_equal(decode_with(&tick_command, 4, 9), STATUS_INVALID);      /* a gap */
    assert_int_equal(decode_with(&tick_command, 4, 0xffff), STATUS_INVALID); /* past the table */
    assert_int_equal(decode_with(&tick_command, 4, 1 | 1 << 16), STATUS_INVALID); /* not zero */
    assert_int_equal(decode_with(&tick_command, 0, 1), STATUS_INVALID); /* longer than it is */
    assert_int_equal(decode_with(&tick_command, 0, UINT32_MAX), STATUS_INVALID);
}

/* A command of a later level is unknown to this program, as to one that was built before it. */
static void test_later_level(void **state)
{
    (void)state;
    struct command tick_command = {.type = COMMAND_TICK};
    assert_int_equal(command_level(COMMAND_TICK), FEATURE_LEVEL_FIRST);
    assert_int_equal(command_level(COMMAND_REHEARSE), feature_level() + 1);
    assert_int_equal(decode_with(&tick_command, 4, COMMAND_REHEARSE), STATUS_INVALID);
}

static void test_boolean_is_zero_or_one(void **state)
{
    (void)state;
    struct command command = {.type = COMMAND_DELETE, .delete = {1, {2, 3}, true}};
    struct command read;
    struct buffer bytes = {0};
    command_encode(&bytes, &command);
    bytes.data[bytes.length - 1] = 2;
    struct cursor in = cursor_of(buffer_slice(&bytes));
    assert_int_equal(command_decode(&in, &read), STATUS_INVALID);
    buffer_free(&bytes);
}

static void test_entry(void **state)
{
    (void)state;
    struct command command = {.type = COMMAND_TICK};
    struct buffer entry = {0};
    struct cursor in;
    uint32_t count;
    uint64_t now_ms;
    entry_begin(&entry);
    command_encode(&entry, &command);
    command_encode(&entry, &command);
    entry_finish(&entry, 2, 1234567890123);
    assert_int_equal(entry_open(buffer_slice(&entry), &in, &count, &now_ms), STATUS_OK);
    assert_int_equal(count, 2);
    assert_int_equal(now_ms, 1234567890123);
    assert_int_equal(cursor_left(&in), 2 * COMMAND_HEADER_BYTES);
    for (size_t length = 0; length < entry.length; length++)
        assert_int_equal(entry_open(slice_make(entry.data, length), &in, &count, &now_ms),
                         STATUS_INVALID);
    entry.data[3] = 1; /* not zero */
    assert_int_equal(entry_open(buffer_slice(&entry), &in, &count, &now_ms), STATUS_INVALID);
    entry.data[3] = 0;
    entry.data[0] = 3; /* a later version */
    assert_int_equal(entry_open(buffer_slice(&entry), &in, &count, &now_ms), STATUS_INVALID);
    entry.data[0] = 2;
    entry.data[15] = 1; /* a time that would overflow sums */
    assert_int_equal(entry_open(buffer_slice(&entry), &in, &count, &now_ms), STATUS_INVALID);
    buffer_free(&entry);
}

/* An entry that breaks off in the middle changes nothing at all. */
static void test_bad_entry_changes_nothing(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    uint64_t digest = core_digest(f->core);
    struct command command = {.type = COMMAND_SEND, .send = {queue_id, 0, TEXT("x")}};
    struct buffer entry = {0};
    entry_begin(&entry);
    command_encode(&entry, &command);
    command_encode(&entry, &command);
    entry_finish(&entry, 2, f->now_ms + 1000);
    entry.data[entry.length - 6] = 200; /* the second record is longer than what is left */
    assert_int_equal(core_apply_entry(f->core, f->index + 1, buffer_slice(&entry)), STATUS_INVALID);
    entry_finish(&entry, 1, f->now_ms + 1000); /* and now there is something behind the last */
    assert_int_equal(core_apply_entry(f->core, f->index + 1, buffer_slice(&entry)), STATUS_INVALID);
    assert_int_equal(core_digest(f->core), digest);
    buffer_free(&entry);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(command_name(COMMAND_SEND), "SEND");
    assert_string_equal(command_name((enum command_type)9), "?");
    assert_string_equal(command_name((enum command_type)60000), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_command_is_sampled),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_fields_arrive),
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_values_out_of_range),
        cmocka_unit_test(test_hostile_headers),
        cmocka_unit_test(test_later_level),
        cmocka_unit_test(test_boolean_is_zero_or_one),
        cmocka_unit_test(test_entry),
        FIXTURE_TEST(test_bad_entry_changes_nothing),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
