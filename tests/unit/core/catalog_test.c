/* SPDX-License-Identifier: Apache-2.0 */
/* Functions, mappings and code: versions, references, and what goes when. */
#include "tests/unit/core/fixture.h"

#define HOUR_MS 3600000u

static enum core_code blob_simple(struct fixture *f, uint8_t kind)
{
    return blob_put(f, kind, 4, 0, SLICE_LITERAL("code")).code;
}

static enum core_code function_delete(struct fixture *f, const char *name)
{
    struct command command = {.type = COMMAND_FUNCTION_DELETE};
    command.function_delete.name = slice_of(name);
    return apply(f, &command).code;
}

static bool complete(const struct fixture *f, uint8_t kind)
{
    uint8_t sha256[SHA256_BYTES];
    memset(sha256, kind, sizeof sha256);
    return core_blob_complete(f->core, sha256);
}

static void test_blob_in_pieces(void **state)
{
    struct fixture *f = *state;
    uint8_t sha256[SHA256_BYTES];
    struct body_ref piece;
    memset(sha256, 1, sizeof sha256);
    assert_int_equal(blob_put(f, 1, 8, 0, SLICE_LITERAL("abcde")).code, CORE_OK);
    assert_false(complete(f, 1));
    assert_int_equal(function_put(f, "f", 0, 1).code, CORE_NO_BLOB);
    assert_int_equal(blob_put(f, 1, 8, 0, SLICE_LITERAL("abcde")).code, CORE_OK); /* again */
    assert_int_equal(f->held, 1);
    assert_int_equal(blob_put(f, 1, 8, 5, SLICE_LITERAL("fgh")).code, CORE_OK);
    assert_true(complete(f, 1));
    assert_int_equal(f->held_bytes, 8);
    assert_true(core_blob_piece(f->core, sha256, 0, &piece));
    assert_int_equal(piece.length, 5);
    assert_true(core_blob_piece(f->core, sha256, 1, &piece));
    assert_int_equal(piece.length, 3);
    assert_int_equal(piece.index, f->index);
    assert_memory_equal(f->entry.data + piece.offset, "fgh", 3);
    assert_false(core_blob_piece(f->core, sha256, 2, &piece));
    sha256[0] = 9;
    assert_false(core_blob_piece(f->core, sha256, 0, &piece));
}

static void test_bad_pieces(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(blob_put(f, 1, 8, 4, SLICE_LITERAL("efgh")).code, CORE_INVALID); /* gap */
    assert_int_equal(blob_put(f, 1, 8, 0, SLICE_LITERAL("")).code, CORE_INVALID);
    assert_int_equal(blob_put(f, 1, 3, 0, SLICE_LITERAL("abcd")).code, CORE_INVALID); /* over */
    assert_int_equal(blob_put(f, 1, UINT64_MAX, 0, SLICE_LITERAL("abcd")).code, CORE_INVALID);
    assert_int_equal(blob_put(f, 1, 8, UINT64_MAX, SLICE_LITERAL("abcd")).code, CORE_INVALID);
    assert_int_equal(f->held, 0);
    assert_int_equal(blob_put(f, 1, 8, 0, SLICE_LITERAL("abcd")).code, CORE_OK);
    assert_int_equal(blob_put(f, 1, 9, 4, SLICE_LITERAL("efgh")).code, CORE_INVALID); /* size */
    assert_int_equal(blob_put(f, 1, 8, 2, SLICE_LITERAL("cdef")).code, CORE_INVALID); /* overlap */
    assert_int_equal(f->held, 1);
}

static void test_unused_blob_goes_after_an_hour(void **state)
{
    struct fixture *f = *state;
    blob_simple(f, 1);
    uint64_t first_ms = f->now_ms;
    tick(f, 1000);
    blob_simple(f, 2);
    assert_int_equal(core_next_deadline_ms(f->core), first_ms + HOUR_MS);
    tick(f, HOUR_MS - 1001);
    assert_true(complete(f, 1));
    tick(f, 1);
    assert_false(complete(f, 1));
    assert_true(complete(f, 2));
    assert_int_equal(f->held, 1);
    assert_int_equal(blob_simple(f, 1), CORE_OK); /* it may come again */
    assert_true(complete(f, 1));
}

static void test_used_blob_stays_until_its_last_function(void **state)
{
    struct fixture *f = *state;
    blob_simple(f, 1);
    blob_simple(f, 2);
    uint64_t version = function_put(f, "a", 0, 1).version;
    function_put(f, "b", 0, 1);
    tick(f, 2 * HOUR_MS);
    assert_true(complete(f, 1));
    assert_false(complete(f, 2));
    blob_simple(f, 2);
    assert_int_equal(function_put(f, "a", version, 2).code, CORE_OK);
    assert_true(complete(f, 1));
    assert_int_equal(function_delete(f, "b"), CORE_OK);
    assert_false(complete(f, 1));
    assert_int_equal(f->held, 1);
    assert_int_equal(function_delete(f, "a"), CORE_OK);
    assert_int_equal(f->held, 0);
    assert_int_equal(core_next_deadline_ms(f->core), UINT64_MAX);
}

static void test_same_code_again(void **state)
{
    struct fixture *f = *state;
    blob_simple(f, 1);
    uint64_t version = function_put(f, "a", 0, 1).version;
    assert_int_equal(function_put(f, "a", version, 1).code, CORE_OK);
    assert_true(complete(f, 1));
}

static void test_function_versions(void **state)
{
    struct fixture *f = *state;
    struct function_view out;
    blob_simple(f, 1);
    assert_int_equal(function_put(f, "a", 7, 1).code, CORE_NO_FUNCTION);
    assert_int_equal(function_put(f, "a", 0, 9).code, CORE_NO_BLOB);
    assert_int_equal(f->changed, 0);
    struct core_result created = function_put(f, "a", 0, 1);
    assert_int_equal(created.code, CORE_OK);
    assert_int_equal(f->changed, 1);
    struct core_result taken = function_put(f, "a", 0, 1);
    assert_int_equal(taken.code, CORE_EXISTS);
    assert_int_equal(taken.version, created.version);
    struct core_result updated = function_put(f, "a", created.version, 1);
    assert_true(updated.version > created.version);
    struct core_result stale = function_put(f, "a", created.version, 1);
    assert_int_equal(stale.code, CORE_CONFLICT);
    assert_int_equal(stale.version, updated.version);
    assert_true(core_function_get(f->core, SLICE_LITERAL("a"), &out));
    assert_int_equal(out.version, updated.version);
    assert_int_equal(out.code_bytes, 4);
    assert_int_equal(out.code_sha256[31], 1);
    assert_true(slice_is(out.config, "{\"Handler\":\"h\"}"));
}

static void test_versions_are_unique_across_kinds(void **state)
{
    struct fixture *f = *state;
    blob_simple(f, 1);
    uint64_t a = create(f, "q", settings_default()).version;
    uint64_t b = function_put(f, "f", 0, 1).version;
    uint64_t c = mapping_put(f, 1, 0, "f").version;
    assert_true(a < b);
    assert_true(b < c);
}

static void test_usage_adds_up_and_survives_updates(void **state)
{
    struct fixture *f = *state;
    struct command command = {.type = COMMAND_FUNCTION_USAGE};
    command.function_usage.name = SLICE_LITERAL("a");
    command.function_usage.delta = (struct usage){1, 2, 3, 4, 5, 6, 7, 8};
    assert_int_equal(apply(f, &command).code, CORE_NO_FUNCTION);
    blob_simple(f, 1);
    uint64_t version = function_put(f, "a", 0, 1).version;
    apply(f, &command);
    function_put(f, "a", version, 1);
    apply(f, &command);
    struct function_view out;
    assert_true(core_function_get(f->core, SLICE_LITERAL("a"), &out));
    struct usage expected = {2, 4, 6, 8, 10, 12, 14, 16};
    assert_memory_equal(&out.usage, &expected, sizeof expected);
}

static uint64_t tallied(const struct fixture *f, uint64_t function_id)
{
    struct usage usage = {0};
    return core_tally(f->core, function_id, &usage) ? usage.invocations : 0;
}

/* Whatever the order in which functions come, and also of functions that this shard has not. */
static void test_tallies_add_up_until_dropped(void **state)
{
    struct fixture *f = *state;
    static const uint64_t ids[] = {7, 2, 9, 4, 2, 7, 7};
    struct command command = {.type = COMMAND_USAGE_ADD};
    for (size_t i = 0; i < ARRAY_COUNT(ids); i++) {
        command.usage_add = (struct command_usage_add){ids[i], {.invocations = 1 + i}};
        assert_int_equal(apply(f, &command).code, CORE_OK);
    }
    assert_int_equal(tallied(f, 2), 2 + 5);
    assert_int_equal(tallied(f, 7), 1 + 6 + 7);
    assert_int_equal(tallied(f, 9), 3);
    command = (struct command){.type = COMMAND_USAGE_DROP, .usage_drop = {7}};
    assert_int_equal(apply(f, &command).code, CORE_OK);
    assert_int_equal(apply(f, &command).code, CORE_NO_FUNCTION);
    uint64_t id = 0;
    assert_true(core_tally_next(f->core, id, &id));
    assert_int_equal(id, 2);
    assert_true(core_tally_next(f->core, id, &id));
    assert_int_equal(id, 4);
    assert_true(core_tally_next(f->core, id, &id));
    assert_int_equal(id, 9);
    assert_false(core_tally_next(f->core, id, &id));
    assert_int_equal(f->changed, 0);
}

/* Its queue of events tells a function from a later one of its name. */
static void test_function_ids_are_never_given_again(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[2];
    for (size_t i = 0; i < ARRAY_COUNT(ids); i++) {
        assert_int_equal(core_function_id(f->core, SLICE_LITERAL("a")), 0);
        blob_simple(f, 1);
        uint64_t version = function_put(f, "a", 0, 1).version;
        create_default(f, "/async/a");
        ids[i] = core_function_id(f->core, SLICE_LITERAL("a"));
        function_put(f, "a", version, 1);
        assert_int_equal(core_function_id(f->core, SLICE_LITERAL("a")), ids[i]);
        assert_int_equal(function_delete(f, "a"), CORE_OK);
    }
    assert_true(ids[0] > 0 && ids[1] > ids[0]);
}

static void test_mappings_in_order_of_creation(void **state)
{
    struct fixture *f = *state;
    struct mapping_view out;
    blob_simple(f, 1);
    assert_int_equal(mapping_put(f, 1, 0, "f").code, CORE_NO_FUNCTION);
    function_put(f, "f", 0, 1);
    static const uint8_t kinds[] = {9, 3, 5};
    uint64_t version = 0;
    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++)
        version = mapping_put(f, kinds[i], 0, "f").version;
    size_t position = 0;
    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
        assert_true(core_mapping_next(f->core, &position, &out));
        assert_int_equal(out.uuid[0], kinds[i]);
    }
    assert_false(core_mapping_next(f->core, &position, &out));
    assert_int_equal(mapping_put(f, 5, 0, "f").code, CORE_EXISTS);
    assert_int_equal(mapping_put(f, 5, version + 9, "f").code, CORE_CONFLICT);
    assert_int_equal(mapping_put(f, 6, version, "f").code, CORE_NO_MAPPING);
    assert_true(mapping_put(f, 5, version, "f").version > version);
    assert_true(core_mapping_get(f->core, out.uuid, &out));
    assert_true(slice_is(out.queue_name, "orders-5"));
}

/* Of two concurrent creations one must fail, whoever looked before them. */
static void test_one_mapping_per_function_and_queue(void **state)
{
    struct fixture *f = *state;
    blob_simple(f, 1);
    function_put(f, "f", 0, 1);
    struct command command = {.type = COMMAND_MAPPING_PUT};
    command.mapping_put.uuid[0] = 1;
    command.mapping_put.function_name = SLICE_LITERAL("f");
    command.mapping_put.queue_name = SLICE_LITERAL("q");
    struct core_result first = apply(f, &command);
    assert_int_equal(first.code, CORE_OK);
    command.mapping_put.uuid[0] = 2;
    assert_int_equal(apply(f, &command).code, CORE_EXISTS);
    command.mapping_put.queue_name = SLICE_LITERAL("other");
    struct core_result second = apply(f, &command);
    assert_int_equal(second.code, CORE_OK);
    command.mapping_put.version = second.version;
    command.mapping_put.queue_name = SLICE_LITERAL("q"); /* nor by an update */
    assert_int_equal(apply(f, &command).code, CORE_EXISTS);
    command.mapping_put.uuid[0] = 1;
    command.mapping_put.version = first.version; /* its own pair is no obstacle */
    assert_int_equal(apply(f, &command).code, CORE_OK);
}

static void test_mapping_delete(void **state)
{
    struct fixture *f = *state;
    struct mapping_view out;
    size_t position = 0;
    blob_simple(f, 1);
    function_put(f, "f", 0, 1);
    mapping_put(f, 1, 0, "f");
    mapping_put(f, 2, 0, "f");
    struct command command = {.type = COMMAND_MAPPING_DELETE};
    memset(command.mapping_delete.uuid, 1, UUID_BYTES);
    uint32_t changed = f->changed;
    assert_int_equal(apply(f, &command).code, CORE_OK);
    assert_int_equal(f->changed, changed + 1);
    assert_int_equal(apply(f, &command).code, CORE_NO_MAPPING);
    assert_int_equal(f->changed, changed + 1);
    assert_true(core_mapping_next(f->core, &position, &out));
    assert_int_equal(out.uuid[0], 2);
    assert_false(core_mapping_next(f->core, &position, &out));
}

static void test_function_delete_takes_what_is_its_own(void **state)
{
    struct fixture *f = *state;
    struct mapping_view out;
    struct queue_view queue;
    size_t position = 0;
    blob_simple(f, 1);
    function_put(f, "f", 0, 1);
    function_put(f, "g", 0, 1);
    mapping_put(f, 1, 0, "f");
    mapping_put(f, 2, 0, "g");
    mapping_put(f, 3, 0, "f");
    uint64_t hidden_id = create_default(f, "/async/f");
    create_default(f, "/async/g");
    create_default(f, "f");
    send(f, hidden_id, 0);
    assert_int_equal(function_delete(f, "f"), CORE_OK);
    assert_int_equal(f->gone, 1);
    assert_int_equal(f->held, 1); /* g's code */
    assert_false(core_queue_by_id(f->core, hidden_id, &queue));
    assert_true(core_queue_by_name(f->core, SLICE_LITERAL("/async/g"), &queue));
    assert_true(core_queue_by_name(f->core, SLICE_LITERAL("f"), &queue));
    assert_true(core_mapping_next(f->core, &position, &out));
    assert_int_equal(out.uuid[0], 2);
    assert_false(core_mapping_next(f->core, &position, &out));
    assert_int_equal(function_delete(f, "f"), CORE_NO_FUNCTION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_blob_in_pieces),
        FIXTURE_TEST(test_bad_pieces),
        FIXTURE_TEST(test_unused_blob_goes_after_an_hour),
        FIXTURE_TEST(test_used_blob_stays_until_its_last_function),
        FIXTURE_TEST(test_same_code_again),
        FIXTURE_TEST(test_function_versions),
        FIXTURE_TEST(test_versions_are_unique_across_kinds),
        FIXTURE_TEST(test_usage_adds_up_and_survives_updates),
        FIXTURE_TEST(test_tallies_add_up_until_dropped),
        FIXTURE_TEST(test_function_ids_are_never_given_again),
        FIXTURE_TEST(test_mappings_in_order_of_creation),
        FIXTURE_TEST(test_one_mapping_per_function_and_queue),
        FIXTURE_TEST(test_mapping_delete),
        FIXTURE_TEST(test_function_delete_takes_what_is_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
