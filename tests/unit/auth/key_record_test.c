/* SPDX-License-Identifier: Apache-2.0 */
/* Access keys as documents: there and back, and what was tampered with does not open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/auth/key_record.h"
#include "proto/base/assert.h"

static const uint8_t cluster_secret[SEAL_CLUSTER_SECRET_BYTES] = {1, 2, 3};
static const uint8_t other_secret[SEAL_CLUSTER_SECRET_BYTES] = {1, 2, 4};

static struct key_record sample(void)
{
    return (struct key_record){.id = SLICE_LITERAL("MRAKEXAMPLE"),
                               .secret = SLICE_LITERAL("not-this-one"),
                               .name = SLICE_LITERAL("alice"),
                               .account = SLICE_LITERAL("123456789012"),
                               .policy = SLICE_LITERAL("{\"Statement\":[]}"),
                               .root = true,
                               .disabled = true,
                               .created_ms = 1234567890123};
}

static void test_there_and_back(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct buffer content = {0};
    struct key_record in = sample();
    struct key_record out;
    in.secret = SLICE_LITERAL("0123456789abcdef+/=~");
    key_record_encode(&in, cluster_secret, &content);
    assert_int_equal(key_record_decode(in.id, buffer_slice(&content), cluster_secret, &arena, &out),
                     STATUS_OK);
    assert_true(slice_equal(out.secret, in.secret));
    assert_true(slice_equal(out.name, in.name));
    assert_true(slice_equal(out.account, in.account));
    assert_true(slice_equal(out.policy, in.policy));
    assert_true(out.root);
    assert_true(out.disabled);
    assert_int_equal(out.created_ms, in.created_ms);
    buffer_free(&content);
    arena_free(&arena);
}

/* The same key twice is two texts, and neither holds the secret. */
static void test_the_secret_is_sealed(void **state)
{
    (void)state;
    struct buffer first = {0};
    struct buffer second = {0};
    struct key_record in = sample();
    in.secret = SLICE_LITERAL("0123456789abcdef");
    key_record_encode(&in, cluster_secret, &first);
    key_record_encode(&in, cluster_secret, &second);
    assert_null(memmem(first.data, first.length, in.secret.data, in.secret.length));
    assert_false(slice_equal(buffer_slice(&first), buffer_slice(&second)));
    buffer_free(&first);
    buffer_free(&second);
}

/* Of any bit that is flipped, any byte that is missing, another id, another cluster. */
static void test_what_was_tampered_with_does_not_open(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct buffer content = {0};
    struct key_record in = sample();
    struct key_record out;
    in.secret = SLICE_LITERAL("0123456789abcdef");
    key_record_encode(&in, cluster_secret, &content);
    struct slice all = buffer_slice(&content);
    for (size_t bit = 0; bit < content.length * 8; bit++) {
        content.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(key_record_decode(in.id, all, cluster_secret, &arena, &out),
                         STATUS_CORRUPT);
        content.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t length = 0; length < content.length; length++)
        assert_int_equal(key_record_decode(in.id, slice_make(content.data, length), cluster_secret,
                                           &arena, &out),
                         STATUS_CORRUPT);
    assert_int_equal(
        key_record_decode(SLICE_LITERAL("MRAKOTHER"), all, cluster_secret, &arena, &out),
        STATUS_CORRUPT);
    assert_int_equal(key_record_decode(in.id, all, other_secret, &arena, &out), STATUS_CORRUPT);
    assert_int_equal(key_record_decode(in.id, all, cluster_secret, &arena, &out), STATUS_OK);
    buffer_free(&content);
    arena_free(&arena);
}

static void test_names(void **state)
{
    (void)state;
    struct arena arena = {0};
    assert_true(key_id_valid(SLICE_LITERAL("AKIA-x_9.")));
    assert_false(key_id_valid(SLICE_LITERAL("abc")));
    assert_false(key_id_valid(SLICE_LITERAL("ab/cd")));
    assert_false(key_id_valid(SLICE_LITERAL("ab\0cd")));
    assert_true(key_secret_valid(SLICE_LITERAL("12345678")));
    assert_false(key_secret_valid(SLICE_LITERAL("1234567")));
    assert_false(key_secret_valid(SLICE_LITERAL("1234 5678")));
    assert_true(key_name_valid(SLICE_LITERAL("a+=,.@_-")));
    assert_false(key_name_valid(SLICE_LITERAL("")));
    assert_false(key_name_valid(SLICE_LITERAL("a/b")));
    struct slice name = key_document_name(SLICE_LITERAL("AKIA"), &arena);
    assert_true(slice_is(name, "key/AKIA"));
    assert_true(slice_is(key_document_id(name), "AKIA"));
    assert_null(key_document_id(SLICE_LITERAL("other/AKIA")).data);
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_the_secret_is_sealed),
        cmocka_unit_test(test_what_was_tampered_with_does_not_open),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
