/* SPDX-License-Identifier: Apache-2.0 */
/* The catalog's JSON records: what is written comes back, what is unknown is kept, what is wrong is
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/dispatch/function_config.h"

#define assert_slice(actual, text) assert_true(slice_is(actual, text))

static void function_comes_back_whole(void **state)
{
    (void)state;
    struct config_pair environment[] = {
        {SLICE_LITERAL("ZETA"), SLICE_LITERAL("1")},
        {SLICE_LITERAL("ALPHA"), SLICE_LITERAL("\xc3\xbc \"quoted\"\n")},
        {SLICE_LITERAL("EMPTY"), SLICE_LITERAL("")},
    };
    struct config_pair tags[] = {{SLICE_LITERAL("team"), SLICE_LITERAL("mill")}};
    struct function_config in = {
        .runtime = SLICE_LITERAL("python3.11"),
        .handler = SLICE_LITERAL("app.handler"),
        .role = SLICE_LITERAL("arn:aws:iam::000000000000:role/r"),
        .description = SLICE_LITERAL("what it does"),
        .timeout_s = 900,
        .memory_mb = 10240,
        .ephemeral_mb = 513,
        .environment = environment,
        .environment_count = 3,
        .tags = tags,
        .tag_count = 1,
        .architecture = SLICE_LITERAL("arm64"),
        .last_modified = SLICE_LITERAL("2026-11-23T18:00:00.000+0000"),
        .revision_id = SLICE_LITERAL("3f2a"),
        .extras = SLICE_LITERAL("{\"KMSKeyArn\":\"k\",\"VpcConfig\":{\"SubnetIds\":[1,2]}}"),
    };
    struct buffer text = {0};
    function_config_encode(&text, &in);

    struct arena arena = {0};
    struct function_config out;
    assert_int_equal(function_config_decode(buffer_slice(&text), &arena, &out), STATUS_OK);
    assert_slice(out.runtime, "python3.11");
    assert_slice(out.handler, "app.handler");
    assert_slice(out.role, "arn:aws:iam::000000000000:role/r");
    assert_slice(out.description, "what it does");
    assert_int_equal(out.timeout_s, 900);
    assert_int_equal(out.memory_mb, 10240);
    assert_int_equal(out.ephemeral_mb, 513);
    assert_int_equal(out.environment_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(slice_equal(out.environment[i].key, environment[i].key));
        assert_true(slice_equal(out.environment[i].value, environment[i].value));
    }
    assert_int_equal(out.tag_count, 1);
    assert_slice(out.tags[0].value, "mill");
    assert_slice(out.architecture, "arm64");
    assert_slice(out.revision_id, "3f2a");
    assert_true(slice_equal(out.extras, in.extras));

    struct buffer again = {0};
    function_config_encode(&again, &out);
    assert_true(slice_equal(buffer_slice(&again), buffer_slice(&text)));
    buffer_free(&again);
    buffer_free(&text);
    arena_free(&arena);
}

static void defaults_stand_in_for_missing_keys(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct function_config function;
    assert_int_equal(function_config_decode(SLICE_LITERAL("{}"), &arena, &function), STATUS_OK);
    assert_int_equal(function.timeout_s, 3);
    assert_int_equal(function.memory_mb, 128);
    assert_int_equal(function.ephemeral_mb, 512);
    assert_slice(function.architecture, "x86_64");
    assert_int_equal(function.environment_count, 0);

    struct mapping_config mapping;
    assert_int_equal(mapping_config_decode(SLICE_LITERAL("{}"), &arena, &mapping), STATUS_OK);
    assert_true(mapping.enabled);
    assert_int_equal(mapping.batch_size, 10);
    assert_int_equal(mapping.batching_window_s, 0);
    assert_int_equal(mapping.concurrency_max, 0);
    assert_false(mapping.report_item_failures);
    arena_free(&arena);
}

static void mapping_comes_back_whole(void **state)
{
    (void)state;
    struct mapping_config in = {
        .enabled = false,
        .batch_size = 10000,
        .batching_window_s = 300,
        .concurrency_max = 1000,
        .report_item_failures = true,
        .last_modified_ms = 1795370400123,
        .extras = SLICE_LITERAL("{\"FromLater\":[true,null]}"),
    };
    struct buffer text = {0};
    mapping_config_encode(&text, &in);
    struct arena arena = {0};
    struct mapping_config out;
    assert_int_equal(mapping_config_decode(buffer_slice(&text), &arena, &out), STATUS_OK);
    assert_false(out.enabled);
    assert_int_equal(out.batch_size, 10000);
    assert_int_equal(out.batching_window_s, 300);
    assert_int_equal(out.concurrency_max, 1000);
    assert_true(out.report_item_failures);
    assert_true(out.last_modified_ms == 1795370400123);
    assert_true(slice_equal(out.extras, in.extras));
    buffer_free(&text);
    arena_free(&arena);
}

/* A later version's key that has the name of one of ours cannot push ours aside. */
static void extras_never_replace_a_field(void **state)
{
    (void)state;
    struct mapping_config in = {
        .enabled = true, .batch_size = 7, .extras = SLICE_LITERAL("{\"BatchSize\":9,\"Other\":1}")};
    struct buffer text = {0};
    mapping_config_encode(&text, &in);
    struct arena arena = {0};
    struct mapping_config out;
    assert_int_equal(mapping_config_decode(buffer_slice(&text), &arena, &out), STATUS_OK);
    assert_int_equal(out.batch_size, 7);
    assert_slice(out.extras, "{\"Other\":1}");
    buffer_free(&text);
    arena_free(&arena);
}

static void wrong_records_are_refused(void **state)
{
    (void)state;
    static const char *const functions[] = {
        "",
        "[]",
        "{",
        "null",
        "{\"Runtime\":1}",
        "{\"Timeout\":0}",
        "{\"Timeout\":901}",
        "{\"Timeout\":-1}",
        "{\"Timeout\":\"3\"}",
        "{\"Timeout\":3.5}",
        "{\"MemorySize\":127}",
        "{\"MemorySize\":4294967424}",
        "{\"EphemeralStorage\":{}}",
        "{\"Environment\":[]}",
        "{\"Environment\":{\"A\":1}}",
        "{\"Tags\":{\"A\":null}}",
        "{\"Handler\":\"a\\u0000b\"}",
        "{\"Handler\":\"\xff\"}",
        "{\"Handler\":\"a\",\"Handler\":\"b\"}",
    };
    static const char *const mappings[] = {
        "",
        "7",
        "{\"Enabled\":1}",
        "{\"BatchSize\":0}",
        "{\"BatchSize\":10001}",
        "{\"MaximumConcurrency\":1001}",
        "{\"LastModifiedMs\":-1}",
        "{\"ReportBatchItemFailures\":\"true\"}",
    };
    struct arena arena = {0};
    struct function_config function;
    struct mapping_config mapping;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        enum status status = function_config_decode(slice_of(functions[i]), &arena, &function);
        assert_int_equal(status, STATUS_INVALID);
    }
    for (size_t i = 0; i < sizeof mappings / sizeof *mappings; i++) {
        enum status status = mapping_config_decode(slice_of(mappings[i]), &arena, &mapping);
        assert_int_equal(status, STATUS_INVALID);
    }
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(function_comes_back_whole),
        cmocka_unit_test(defaults_stand_in_for_missing_keys),
        cmocka_unit_test(mapping_comes_back_whole),
        cmocka_unit_test(extras_never_replace_a_field),
        cmocka_unit_test(wrong_records_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
