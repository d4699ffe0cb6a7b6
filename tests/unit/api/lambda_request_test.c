/* SPDX-License-Identifier: Apache-2.0 */
/* Paths, names and payloads: what the Lambda API reads before it looks at any state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/api/lambda/function_name.h"
#include "broker/api/lambda/json_check.h"
#include "broker/api/lambda/route.h"

#define assert_slice(actual, text) assert_true(slice_is(actual, text))

/* ---- routes ---- */

static enum status find(const char *method, const char *path, struct arena *arena,
                        const struct route **route, struct slice labels[ROUTE_LABELS_MAX])
{
    return route_find(slice_of(method), slice_of(path), arena, route, labels);
}

static void routes_are_found_by_method_and_path(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path, *name, *label;
    } rows[] = {
        {"POST", "/2015-03-31/functions", "CreateFunction", NULL},
        {"POST", "/2015-03-31/functions/", "CreateFunction", NULL},
        {"GET", "/2015-03-31/functions/", "ListFunctions", NULL},
        {"GET", "/2015-03-31/functions/f", "GetFunction", "f"},
        {"GET", "/2015-03-31/functions/a%3Ab%3A%24LATEST/configuration", "GetFunctionConfiguration",
         "a:b:$LATEST"},
        {"POST", "/2015-03-31/functions/f/invocations", "Invoke", "f"},
        {"DELETE", "/2015-03-31/event-source-mappings/u-1", "DeleteEventSourceMapping", "u-1"},
        {"GET", "/2017-03-31/tags/arn%3Aaws%2Fx", "ListTags", "arn:aws/x"},
        {"GET", "/2015-03-31/functions/f/policy", "GetPolicy", "f"},
    };
    struct arena arena = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct route *route;
        struct slice labels[ROUTE_LABELS_MAX];
        assert_int_equal(find(rows[i].method, rows[i].path, &arena, &route, labels), STATUS_OK);
        assert_string_equal(route->name, rows[i].name);
        if (rows[i].label != NULL) {
            assert_slice(labels[0], rows[i].label);
        } else {
            assert_null(labels[0].data);
        }
    }
    arena_free(&arena);
}

static void other_paths_are_refused(void **state)
{
    (void)state;
    struct arena arena = {0};
    const struct route *route;
    struct slice labels[ROUTE_LABELS_MAX];
    static const char *const unknown[] = {
        "",
        "/",
        "//",
        "/2015-03-31",
        "/2015-03-31/function",
        "/2015-03-31/functions//configuration",
        "/2015-03-31/functions/f/nothing",
        "/2015-03-31/functions/f/code/zip/more",
        "/2099-01-01/functions",
    };
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        assert_int_equal(find("GET", unknown[i], &arena, &route, labels), STATUS_NOT_FOUND);
    }
    assert_int_equal(find("PATCH", "/2015-03-31/functions/f", &arena, &route, labels),
                     STATUS_UNSUPPORTED);
    assert_int_equal(find("GET", "/2015-03-31/functions/f/invocations", &arena, &route, labels),
                     STATUS_UNSUPPORTED);
    assert_string_equal(route->name, "Invoke");
    assert_int_equal(find("GET", "/2015-03-31/functions/%zz", &arena, &route, labels),
                     STATUS_INVALID);
    arena_free(&arena);
}

static void missing_actions_are_known_by_name(void **state)
{
    (void)state;
    struct arena arena = {0};
    const struct route *route;
    struct slice labels[ROUTE_LABELS_MAX];
    assert_int_equal(find("POST", "/2015-03-31/functions/f/versions", &arena, &route, labels),
                     STATUS_OK);
    assert_string_equal(route->name, "PublishVersion");
    assert_int_equal(route->action, LAMBDA_ACTION_NONE);
    arena_free(&arena);
}

static void dates_tell_the_family(void **state)
{
    (void)state;
    assert_true(route_is_lambda(SLICE_LITERAL("/2015-03-31/functions")));
    assert_true(route_is_lambda(SLICE_LITERAL("/2099-12-31/")));
    assert_false(route_is_lambda(SLICE_LITERAL("/2015-03-31")));
    assert_false(route_is_lambda(SLICE_LITERAL("/000000000000/queue")));
    assert_false(route_is_lambda(SLICE_LITERAL("/2015-0x-31/functions")));
    assert_false(route_is_lambda(SLICE_LITERAL("")));
}

static void query_parameters_are_walked(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct slice query = SLICE_LITERAL("tagKeys=a%20b&x&tagKeys=c+d&bad=%q&Last=%C3%BC");
    assert_slice(query_get(query, &arena, "tagKeys"), "a b");
    assert_slice(query_get(query, &arena, "Last"), "\xc3\xbc");
    assert_null(query_get(query, &arena, "bad").data);
    assert_null(query_get(query, &arena, "none").data);
    struct slice name;
    struct slice value;
    unsigned count = 0;
    while (query_next(&query, &arena, &name, &value)) {
        count++;
    }
    assert_int_equal(count, 4);
    arena_free(&arena);
}

/* ---- names ---- */

static void names_have_four_forms(void **state)
{
    (void)state;
    static const struct {
        const char *text, *region, *account, *name, *qualifier;
    } rows[] = {
        {"f", NULL, NULL, "f", NULL},
        {"my-Func_1", NULL, NULL, "my-Func_1", NULL},
        {"f:$LATEST", NULL, NULL, "f", "$LATEST"},
        {"f:7", NULL, NULL, "f", "7"},
        {"function:f", NULL, NULL, "f", NULL},
        {"123456789012", NULL, NULL, "123456789012", NULL},
        {"123456789012:function:f", NULL, "123456789012", "f", NULL},
        {"123456789012:f", NULL, "123456789012", "f", NULL},
        {"eu-west-1:123456789012:function:f:live", "eu-west-1", "123456789012", "f", "live"},
        {"arn:aws:lambda:us-east-1:000000000000:function:f", "us-east-1", "000000000000", "f",
         NULL},
        {"arn:aws-cn:lambda:cn-north-1:000000000000:function:f:$LATEST", "cn-north-1",
         "000000000000", "f", "$LATEST"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct function_name name;
        assert_true(function_name_parse(slice_of(rows[i].text), &name));
        assert_true(slice_equal(name.region, slice_of(rows[i].region)));
        assert_true(slice_equal(name.account, slice_of(rows[i].account)));
        assert_slice(name.name, rows[i].name);
        assert_true(slice_equal(name.qualifier, slice_of(rows[i].qualifier)));
    }
}

static void malformed_names_are_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",
        ":",
        "f:",
        ":f",
        "f g",
        "f/g",
        "f\xc3\xbc",
        "../f",
        "f:$OTHER",
        "a:b:c",
        "arn:aws:sqs:us-east-1:000000000000:function:f",
        "arn:aws:lambda:us-east-1:000000000000:function:",
        "arn:aws:lambda:us-east-1:000000000000:function:f:g:h",
        "a:b:c:d:e:f:g:h:i:j",
        "01234567890123456789012345678901234567890123456789012345678901234",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct function_name name;
        assert_false(function_name_parse(slice_of(rows[i]), &name));
    }
}

static enum lambda_error read_name(const char *text, const char *qualifier, const char **why)
{
    static struct arena arena;
    arena_free(&arena);
    struct failure failure = {0};
    struct function_name name;
    bool good = function_name_read(slice_of(text), slice_of(qualifier), "us-east-1", "000000000000",
                                   &arena, &failure, &name);
    assert_int_equal(good, failure.error == LAMBDA_OK);
    *why = arena_text(&arena, slice_of(failure.text));
    if (failure.error == LAMBDA_OK) {
        arena_free(&arena);
        *why = "";
    }
    enum lambda_error error = failure.error;
    return error;
}

static void names_of_elsewhere_are_not_found(void **state)
{
    (void)state;
    const char *why;
    assert_int_equal(read_name("f", NULL, &why), LAMBDA_OK);
    assert_int_equal(read_name("f:$LATEST", "$LATEST", &why), LAMBDA_OK);
    assert_int_equal(read_name("f", "$LATEST", &why), LAMBDA_OK);
    assert_int_equal(read_name("f", "1221", &why), LAMBDA_NOT_FOUND);
    assert_string_equal(why, "Function not found: "
                             "arn:aws:lambda:us-east-1:000000000000:function:f:1221");
    assert_int_equal(read_name("f:$LATEST", "3", &why), LAMBDA_PARAMETER);
    assert_string_equal(why, "The derived qualifier from the function name does not match the "
                             "specified qualifier.");
    assert_int_equal(read_name("us-west-2:000000000000:function:f", NULL, &why), LAMBDA_NOT_FOUND);
    assert_string_equal(why, "Functions from 'us-west-2' are not reachable in this region "
                             "('us-east-1')");
    assert_int_equal(read_name("f", "a?b", &why), LAMBDA_VALIDATION);
    assert_int_equal(read_name(NULL, NULL, &why), LAMBDA_VALIDATION);
    assert_non_null(strstr(why, "Value null at 'functionName'"));
    assert_int_equal(read_name("bad name\xff", NULL, &why), LAMBDA_VALIDATION);
    assert_non_null(strstr(why, "Value 'bad name?' at 'functionName'"));
    assert_int_equal(read_name("f", NULL, &why), LAMBDA_OK); /* frees the arena */
}

/* ---- payloads ---- */

static bool is_json(const char *text)
{
    size_t at;
    return json_check(slice_of(text), &at);
}

static void good_payloads_pass(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "{}",
        "[]",
        "null",
        " true\n",
        "false",
        "0",
        "-0",
        "-1.5e+3",
        "1E400",
        "123456789012345678901234567890",
        "\"\"",
        "\"\\u0000\\ud800\\n\\/\"",
        "\"\xc3\xbc\"",
        "[1,[2,[3]],{}]",
        "{\"a\":1,\"a\":[{\"b\":null}]}",
        "\t{ \"k\" : [ 1 , 2 ] }\r\n",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_true(is_json(rows[i]));
    }
}

static void bad_payloads_are_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",         " ",     "x",    "tru",     "truex",    "{",           "[",
        "]",        "[1,]",  "[,1]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}",  "{a:1}",
        "{'a':1}",  "[1 2]", "01",   "-",       "1.",       ".5",          "1e",
        "+1",       "0x1",   "NaN",  "\"",      "\"\\x\"",  "\"\\u12g4\"", "\"\\u12\"",
        "\"a\nb\"", "{} {}", "[}",   "{]",      "\"\xff\"", "{\"a\":1]",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_false(is_json(rows[i]));
    }
    size_t at;
    assert_false(json_check(SLICE_LITERAL("[1,2,x]"), &at));
    assert_int_equal(at, 5);
}

static void nesting_is_bounded(void **state)
{
    (void)state;
    size_t size = 2 * (JSON_DEPTH_MAX + 1);
    char *text = malloc(size);
    assert_non_null(text);
    for (size_t depth = JSON_DEPTH_MAX - 1; depth <= JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth);
        text[depth - 1] = '0'; /* depth - 1 brackets around a number */
        memset(text + depth, ']', depth - 1);
        size_t at;
        bool good = json_check(slice_make(text, 2 * depth - 1), &at);
        assert_int_equal(good, depth - 1 <= JSON_DEPTH_MAX);
    }
    free(text);
    size_t deep = 3u << 20;
    text = malloc(deep);
    assert_non_null(text);
    memset(text, '[', deep);
    size_t at;
    assert_false(json_check(slice_make(text, deep), &at));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(routes_are_found_by_method_and_path),
        cmocka_unit_test(other_paths_are_refused),
        cmocka_unit_test(missing_actions_are_known_by_name),
        cmocka_unit_test(dates_tell_the_family),
        cmocka_unit_test(query_parameters_are_walked),
        cmocka_unit_test(names_have_four_forms),
        cmocka_unit_test(malformed_names_are_refused),
        cmocka_unit_test(names_of_elsewhere_are_not_found),
        cmocka_unit_test(good_payloads_pass),
        cmocka_unit_test(bad_payloads_are_refused),
        cmocka_unit_test(nesting_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
