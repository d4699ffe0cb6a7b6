/* SPDX-License-Identifier: Apache-2.0 */
/* A function's settings: what is accepted, what is refused and how, and what the API shows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/api/lambda/package_input.h"
#include "broker/api/lambda/render.h"
#include "broker/api/lambda/settings.h"

#define ROLE                       "\"Role\":\"arn:aws:iam::000000000000:role/r\""
#define BASIC                      ROLE ",\"Runtime\":\"python3.11\",\"Handler\":\"app.handler\""

#define assert_slice(actual, text) assert_true(slice_is(actual, text))

struct reading {
    struct arena arena;
    struct failure failure;
    struct input input;
    struct function_config config;
    bool good;
};

static struct reading read_settings(const char *body, bool creating)
{
    struct reading r = {0};
    settings_default(&r.config);
    struct input *in = &r.input;
    r.good = input_open(in, slice_of(body), &r.arena, &r.failure) &&
             settings_read(in, creating, &r.config);
    in->arena = NULL;
    in->failure = NULL;
    assert_int_equal(r.good, r.failure.error == LAMBDA_OK);
    return r;
}

static void end_reading(struct reading *r)
{
    input_close(&r->input);
    arena_free(&r->arena);
}

static void expect_error(const char *body, enum lambda_error error, const char *text)
{
    struct reading r = {0};
    settings_default(&r.config);
    bool good = input_open(&r.input, slice_of(body), &r.arena, &r.failure) &&
                settings_read(&r.input, true, &r.config);
    if (good || r.failure.error != error || strstr(r.failure.text, text) == NULL) {
        print_error("%s gives %s: %s\n", body, good ? "no error" : failure_code(r.failure.error),
                    good ? "" : r.failure.text);
        fail();
    }
    end_reading(&r);
}

static void settings_are_read(void **state)
{
    (void)state;
    struct reading r = read_settings(
        "{" BASIC ",\"Timeout\":900,\"MemorySize\":10240,\"EphemeralStorage\":{\"Size\":513},"
        "\"Description\":\"d\",\"Environment\":{\"Variables\":{\"KEY\":\"v\",\"B2\":\"\"}},"
        "\"Tags\":{\"t\":\"1\"},\"Architectures\":[\"arm64\"],\"PackageType\":\"Zip\","
        "\"VpcConfig\":{\"SubnetIds\":[\"s\"]},\"Layers\":[],\"DeadLetterConfig\":{},"
        "\"Publish\":false,\"SomethingNew\":7}",
        true);
    assert_true(r.good);
    assert_slice(r.config.runtime, "python3.11");
    assert_slice(r.config.handler, "app.handler");
    assert_int_equal(r.config.timeout_s, 900);
    assert_int_equal(r.config.memory_mb, 10240);
    assert_int_equal(r.config.ephemeral_mb, 513);
    assert_slice(r.config.description, "d");
    assert_int_equal(r.config.environment_count, 2);
    assert_slice(r.config.environment[0].key, "KEY");
    assert_int_equal(r.config.tag_count, 1);
    assert_slice(r.config.architecture, "arm64");
    assert_slice(r.config.extras, "{\"VpcConfig\":{\"SubnetIds\":[\"s\"]}}");
    end_reading(&r);

    r = read_settings("{" BASIC "}", true);
    assert_true(r.good);
    assert_int_equal(r.config.timeout_s, 3);
    assert_int_equal(r.config.memory_mb, 128);
    end_reading(&r);
}

static void wrong_settings_have_their_errors(void **state)
{
    (void)state;
    expect_error("{", LAMBDA_CONTENT, "Could not parse request body into json");
    expect_error("[1]", LAMBDA_SERIALIZATION, "Unexpected field type");
    expect_error("{" BASIC ",\"Timeout\":\"3\"}", LAMBDA_SERIALIZATION,
                 "STRING_VALUE can not be converted to an Integer");
    expect_error("{" BASIC ",\"Handler\":3}", LAMBDA_SERIALIZATION, "NUMBER_VALUE");
    expect_error("{" BASIC ",\"Environment\":[]}", LAMBDA_SERIALIZATION, "START_ARRAY");
    expect_error("{" BASIC ",\"Timeout\":0}", LAMBDA_VALIDATION,
                 "1 validation error detected: Value '0' at 'timeout' failed to satisfy "
                 "constraint: Member must have value greater than or equal to 1");
    expect_error("{" BASIC ",\"Timeout\":901,\"MemorySize\":127}", LAMBDA_VALIDATION,
                 "2 validation errors detected: Value '901' at 'timeout'");
    expect_error("{" BASIC ",\"MemorySize\":4294967424}", LAMBDA_VALIDATION,
                 "Value '4294967424' at 'memorySize'");
    expect_error("{" BASIC ",\"EphemeralStorage\":{}}", LAMBDA_VALIDATION,
                 "Value null at 'ephemeralStorage.size'");
    expect_error("{\"Runtime\":\"python3.11\",\"Handler\":\"h\"}", LAMBDA_VALIDATION,
                 "Value null at 'role' failed to satisfy constraint: Member must not be null");
    static const char *const roles[] = {"r",
                                        "arn:aws:iam::1:role/r",
                                        "arn:aws:iam::000000000000:r",
                                        "arn:aws:iam::000000000000:role/",
                                        "arn:x:iam::000000000000:role/r",
                                        "arn:aws:iam::"};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        char body[200];
        snprintf(body, sizeof body,
                 "{\"Role\":\"%s\",\"Runtime\":\"python3.11\",\"Handler\":\"h\"}", roles[i]);
        expect_error(body, LAMBDA_VALIDATION, "at 'role' failed to satisfy constraint");
    }
    expect_error("{" ROLE ",\"Runtime\":\"cobol\",\"Handler\":\"h\"}", LAMBDA_PARAMETER,
                 "Value cobol at 'runtime' failed to satisfy constraint: Member must satisfy enum "
                 "value set: [python3.11, nodejs20.x, provided.al2023] or be a valid ARN");
    expect_error("{" ROLE ",\"Runtime\":\"python3.11\"}", LAMBDA_PARAMETER,
                 "Runtime and Handler are mandatory parameters");
    expect_error("{" ROLE ",\"Runtime\":\"python3.11\",\"Handler\":\"a b\"}", LAMBDA_VALIDATION,
                 "Value 'a b' at 'handler'");
    expect_error("{" BASIC ",\"PackageType\":\"Image\"}", LAMBDA_PARAMETER, "it must be Zip");
    expect_error("{" BASIC ",\"Architectures\":[\"mips\"]}", LAMBDA_VALIDATION, "[mips]");
    expect_error("{" BASIC ",\"Architectures\":[\"arm64\",\"x86_64\"]}", LAMBDA_VALIDATION,
                 "less than or equal to 1");
    expect_error("{" BASIC ",\"Layers\":[\"arn\"]}", LAMBDA_PARAMETER, "Layers is not supported");
    expect_error("{" BASIC ",\"DeadLetterConfig\":{\"TargetArn\":\"a\"}}", LAMBDA_PARAMETER,
                 "DeadLetterConfig is not supported");
    expect_error("{" BASIC ",\"Publish\":true}", LAMBDA_PARAMETER, "Publish is not supported");
    expect_error("{" BASIC ",\"VpcConfig\":\"x\"}", LAMBDA_SERIALIZATION, "VpcConfig");
    expect_error("{" BASIC ",\"Tags\":{\"aws:x\":\"1\"}}", LAMBDA_PARAMETER, "aws:x");
    expect_error("{" BASIC ",\"Tags\":{\"x\":1}}", LAMBDA_SERIALIZATION, "Tags");
}

static void environments_are_checked(void **state)
{
    (void)state;
    expect_error("{" BASIC ",\"Environment\":{\"Variables\":{\"1A\":\"x\"}}}", LAMBDA_VALIDATION,
                 "at 'environment.variables' failed to satisfy constraint: Map keys");
    expect_error("{" BASIC ",\"Environment\":{\"Variables\":{\"AWS_REGION\":\"x\","
                 "\"OK\":\"1\",\"LAMBDA_TASK_ROOT\":\"/\"}}}",
                 LAMBDA_PARAMETER,
                 "Reserved keys used in this request: AWS_REGION, LAMBDA_TASK_ROOT");
    expect_error("{" BASIC ",\"Environment\":{\"Variables\":{\"AB\":1}}}", LAMBDA_SERIALIZATION,
                 "must be strings");
    char body[6000];
    char value[4200];
    memset(value, 'x', sizeof value);
    /* {"LARGE":"..."} is measured: 12 bytes around the value */
    value[4096 - 12] = 0;
    snprintf(body, sizeof body, "{%s,\"Environment\":{\"Variables\":{\"LARGE\":\"%s\"}}}", BASIC,
             value);
    struct reading r = read_settings(body, true);
    assert_true(r.good);
    end_reading(&r);
    value[4096 - 12] = 'x';
    value[4096 - 11] = 0;
    snprintf(body, sizeof body, "{%s,\"Environment\":{\"Variables\":{\"LARGE\":\"%s\"}}}", BASIC,
             value);
    expect_error(body, LAMBDA_PARAMETER, "exceeded the 4KB limit. String measured: {\"LARGE\":");
}

static void an_update_changes_only_what_it_names(void **state)
{
    (void)state;
    struct reading r = {0};
    struct config_pair environment[] = {{SLICE_LITERAL("OLD"), SLICE_LITERAL("1")}};
    settings_default(&r.config);
    r.config.runtime = SLICE_LITERAL("nodejs20.x");
    r.config.handler = SLICE_LITERAL("index.handler");
    r.config.timeout_s = 77;
    r.config.environment = environment;
    r.config.environment_count = 1;
    r.config.extras = SLICE_LITERAL("{\"KMSKeyArn\":\"k\",\"FromLater\":1}");
    struct slice body = SLICE_LITERAL("{\"MemorySize\":256,\"VpcConfig\":{}}");
    assert_true(input_open(&r.input, body, &r.arena, &r.failure));
    assert_true(settings_read(&r.input, false, &r.config));
    assert_int_equal(r.config.memory_mb, 256);
    assert_int_equal(r.config.timeout_s, 77);
    assert_slice(r.config.runtime, "nodejs20.x");
    assert_int_equal(r.config.environment_count, 1);
    assert_slice(r.config.extras, "{\"KMSKeyArn\":\"k\",\"FromLater\":1,\"VpcConfig\":{}}");
    end_reading(&r);
}

static void settings_are_bounded_in_all(void **state)
{
    (void)state;
    struct buffer body = {0};
    buffer_add_text(&body, "{" BASIC ",\"VpcConfig\":{\"SubnetIds\":[\"");
    for (size_t i = 0; i < 70000; i++) {
        buffer_add_byte(&body, 's');
    }
    buffer_add_text(&body, "\"]}}");
    expect_error(buffer_c_string(&body), LAMBDA_PARAMETER, "must be smaller than 65536 bytes");
    buffer_free(&body);
}

/* ---- packages ---- */

static void expect_package_error(const char *body, enum lambda_error error, const char *text)
{
    struct arena arena = {0};
    struct failure failure = {0};
    struct input input;
    struct package_input package = {0};
    assert_true(input_open(&input, slice_of(body), &arena, &failure));
    assert_false(package_input_read(&input, input.root, &package));
    assert_int_equal(failure.error, error);
    assert_non_null(strstr(failure.text, text));
    package_input_free(&package);
    input_close(&input);
    arena_free(&arena);
}

static void bad_packages_are_refused(void **state)
{
    (void)state;
    expect_package_error("{}", LAMBDA_PARAMETER, "Please provide a source for function code.");
    expect_package_error("{\"ZipFile\":\"\"}", LAMBDA_PARAMETER, "non-empty zip");
    expect_package_error("{\"ZipFile\":\"!!\"}", LAMBDA_SERIALIZATION, "base64");
    expect_package_error("{\"ZipFile\":7}", LAMBDA_SERIALIZATION, "NUMBER_VALUE");
    expect_package_error("{\"ZipFile\":\"bm90IGEgemlw\"}", LAMBDA_PARAMETER,
                         "Could not unzip uploaded file. Please check your file, then try to "
                         "upload again.");
    expect_package_error("{\"S3Bucket\":\"b\",\"S3Key\":\"k\"}", LAMBDA_PARAMETER, "S3");
    expect_package_error("{\"ImageUri\":\"x\"}", LAMBDA_PARAMETER, "ImageUri");
}

/* ---- errors and shapes ---- */

static void errors_name_their_member(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct buffer out = {0};
    struct failure failure = {0};
    assert_false(failure_set(&failure, &arena, LAMBDA_NOT_FOUND, "gone: %s", "a\"b\xff"));
    assert_false(failure_set(&failure, &arena, LAMBDA_INTERNAL, "second"));
    failure_body(&out, &failure);
    assert_slice(buffer_slice(&out), "{\"Type\":\"User\",\"Message\":\"gone: a\\\"b?\"}");
    assert_int_equal(failure_status(failure.error), 404);
    buffer_clear(&out);
    failure = (struct failure){.error = LAMBDA_THROTTLED, .text = "Rate Exceeded.", .reason = "R"};
    failure_body(&out, &failure);
    assert_slice(buffer_slice(&out),
                 "{\"Type\":\"User\",\"message\":\"Rate Exceeded.\",\"Reason\":\"R\"}");
    buffer_free(&out);
    arena_free(&arena);
}

static void expect_text(const json_t *object, const char *key, const char *text)
{
    assert_string_equal(json_string_value(json_object_get(object, key)), text);
}

static void functions_are_shown_as_aws_does(void **state)
{
    (void)state;
    const struct render_place place = {"us-east-1", "000000000000"};
    struct arena arena = {0};
    struct function_config config;
    settings_default(&config);
    config.runtime = SLICE_LITERAL("python3.11");
    config.last_modified = render_time(&arena, 1795370400007);
    config.extras = SLICE_LITERAL("{\"TracingConfig\":{\"Mode\":\"Active\"}}");
    struct function_view view = {.name = SLICE_LITERAL("f"), .code_bytes = 12};
    json_t *out = render_function(&arena, &place, &view, &config, true, RENDER_CREATED);
    expect_text(out, "FunctionArn", "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST");
    expect_text(out, "State", "Pending");
    expect_text(out, "StateReasonCode", "Creating");
    expect_text(out, "LastModified", "2026-11-22T18:00:00.007+0000");
    expect_text(out, "CodeSha256", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    expect_text(json_object_get(out, "TracingConfig"), "Mode", "Active");
    expect_text(json_object_get(out, "LoggingConfig"), "LogGroup", "/aws/lambda/f");
    assert_null(json_object_get(out, "Environment"));
    json_decref(out);
    out = render_function(&arena, &place, &view, &config, false, RENDER_STORED);
    expect_text(out, "FunctionArn", "arn:aws:lambda:us-east-1:000000000000:function:f");
    expect_text(out, "State", "Active");
    expect_text(out, "LastUpdateStatus", "Successful");
    json_decref(out);
    out = render_function(&arena, &place, &view, &config, false, RENDER_LISTED);
    assert_null(json_object_get(out, "State"));
    json_decref(out);
    arena_free(&arena);
}

static void mappings_are_shown_as_aws_does(void **state)
{
    (void)state;
    const struct render_place place = {"us-east-1", "000000000000"};
    struct arena arena = {0};
    struct mapping_config config = {.enabled = true,
                                    .batch_size = 10,
                                    .last_modified_ms = 1500,
                                    .report_item_failures = true,
                                    .concurrency_max = 5};
    struct mapping_view view = {.function_name = SLICE_LITERAL("f"),
                                .queue_name = SLICE_LITERAL("q")};
    json_t *out = render_mapping(&arena, &place, &view, &config, NULL, "OK");
    expect_text(out, "State", "Enabled");
    expect_text(out, "EventSourceArn", "arn:aws:sqs:us-east-1:000000000000:q");
    expect_text(out, "LastProcessingResult", "OK");
    assert_true(json_real_value(json_object_get(out, "LastModified")) == 1.5);
    assert_int_equal(json_array_size(json_object_get(out, "FunctionResponseTypes")), 1);
    json_decref(out);
    config.enabled = false;
    config.concurrency_max = 0;
    out = render_mapping(&arena, &place, &view, &config, NULL, NULL);
    expect_text(out, "State", "Disabled");
    assert_null(json_object_get(out, "ScalingConfig"));
    assert_null(json_object_get(out, "LastProcessingResult"));
    json_decref(out);
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_are_read),
        cmocka_unit_test(wrong_settings_have_their_errors),
        cmocka_unit_test(environments_are_checked),
        cmocka_unit_test(an_update_changes_only_what_it_names),
        cmocka_unit_test(settings_are_bounded_in_all),
        cmocka_unit_test(bad_packages_are_refused),
        cmocka_unit_test(errors_name_their_member),
        cmocka_unit_test(functions_are_shown_as_aws_does),
        cmocka_unit_test(mappings_are_shown_as_aws_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
