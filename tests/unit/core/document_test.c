/* SPDX-License-Identifier: Apache-2.0 */
/* Documents: versions, order, what the owner is told. */
#include "tests/unit/core/fixture.h"

static struct core_result document_delete(struct fixture *f, const char *name, uint64_t version)
{
    struct command command = {.type = COMMAND_DOCUMENT_DELETE};
    command.document_delete.name = slice_of(name);
    command.document_delete.version = version;
    return apply(f, &command);
}

static void test_put_get_replace(void **state)
{
    struct fixture *f = *state;
    struct document_view out;
    assert_false(core_document_get(f->core, SLICE_LITERAL("key/a"), &out));
    struct core_result first = document_put(f, "key/a", 0, "one");
    assert_int_equal(first.code, CORE_OK);
    assert_true(core_document_get(f->core, SLICE_LITERAL("key/a"), &out));
    assert_true(slice_is(out.content, "one"));
    assert_int_equal(out.version, first.version);
    struct core_result second = document_put(f, "key/a", first.version, "");
    assert_int_equal(second.code, CORE_OK);
    assert_true(second.version > first.version);
    assert_true(core_document_get(f->core, SLICE_LITERAL("key/a"), &out));
    assert_int_equal(out.content.length, 0);
    assert_int_equal(f->documents_changed, 2);
    assert_int_equal(f->changed, 0);
}

/* Of two that read the same version, one fails, and the document is the other's. */
static void test_compare_and_set(void **state)
{
    struct fixture *f = *state;
    struct document_view out;
    struct core_result first = document_put(f, "a", 0, "one");
    assert_int_equal(document_put(f, "a", 0, "two").code, CORE_EXISTS);
    assert_int_equal(document_put(f, "b", first.version, "two").code, CORE_NO_DOCUMENT);
    struct core_result second = document_put(f, "a", first.version, "two");
    struct core_result late = document_put(f, "a", first.version, "three");
    assert_int_equal(late.code, CORE_CONFLICT);
    assert_int_equal(late.version, second.version);
    assert_int_equal(document_delete(f, "a", first.version).code, CORE_CONFLICT);
    assert_true(core_document_get(f->core, SLICE_LITERAL("a"), &out));
    assert_true(slice_is(out.content, "two"));
    assert_int_equal(f->documents_changed, 2);
    assert_int_equal(document_delete(f, "a", second.version).code, CORE_OK);
    assert_int_equal(document_delete(f, "a", 0).code, CORE_NO_DOCUMENT);
    assert_int_equal(f->documents_changed, 3);
    /* A new one of the same name is not the old one. */
    assert_true(document_put(f, "a", 0, "new").version > second.version);
    assert_int_equal(document_delete(f, "a", 0).code, CORE_OK);
}

static void test_walk_in_name_order(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"key/b", "key/a", "other/a", "key/aa"};
    static const char *const sorted[] = {"key/a", "key/aa", "key/b", "other/a"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++)
        document_put(f, names[i], 0, names[i]);
    struct document_view out = {0};
    for (size_t i = 0; i < ARRAY_COUNT(sorted); i++) {
        assert_true(core_document_next(f->core, out.name, &out));
        assert_true(slice_is(out.name, sorted[i]));
        assert_true(slice_is(out.content, sorted[i]));
    }
    assert_false(core_document_next(f->core, out.name, &out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_put_get_replace),
        FIXTURE_TEST(test_compare_and_set),
        FIXTURE_TEST(test_walk_in_name_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
