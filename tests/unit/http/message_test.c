/* SPDX-License-Identifier: Apache-2.0 */
/* Headers and query parameters of a request, and the names of status codes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/assert.h"
#include "proto/http/server.h"

#include <stdlib.h>

static void test_query(void **state)
{
    (void)state;
    static const struct {
        const char *query;
        const char *name;
        const char *value; /* NULL: absent */
    } cases[] = {
        {"", "a", NULL},
        {"a", "a", ""},
        {"a=", "a", ""},
        {"a=1", "a", "1"},
        {"aa=1", "a", NULL},
        {"b=2&a=1", "a", "1"},
        {"a=1&a=2", "a", "1"}, /* the first */
        {"&&a=1&", "a", "1"},
        {"a=b=c", "a", "b=c"},
        {"a=x+y%26z%3D", "a", "x y&z="},
        {"%61=1", "a", "1"},
        {"+a+=1", " a ", "1"},
        {"a=%zz", "a", NULL}, /* a bad escape */
        {"%zz=1&a=2", "a", "2"},
        {"a=%C3%A4", "a", "\xc3\xa4"},
        {"=1", "a", NULL},
        {"=1", "", "1"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct http_request *request = calloc(1, sizeof *request);
        /* A copy of the exact size, so that reading past it is seen. */
        size_t length = strlen(cases[i].query);
        char *query = malloc(length > 0 ? length : 1);
        memcpy(query, cases[i].query, length);
        request->query = slice_make(query, length);
        struct slice value = http_query_get(request, cases[i].name);
        if ((value.data != NULL) != (cases[i].value != NULL) ||
            (value.data != NULL && !slice_is(value, cases[i].value)))
            fail_msg("%s of %s: %.*s", cases[i].name, cases[i].query, SLICE_ARGS(value));
        arena_free(&request->arena);
        free(query);
        free(request);
    }
}

static void test_header(void **state)
{
    (void)state;
    struct http_header headers[HTTP_HEADERS_MAX];
    struct http_request *request = calloc(1, sizeof *request);
    request->headers = headers;
    request->headers[0] = (struct http_header){SLICE_LITERAL("Host"), SLICE_LITERAL("a")};
    request->headers[1] = (struct http_header){SLICE_LITERAL("X-Twice"), SLICE_LITERAL("1")};
    request->headers[2] = (struct http_header){SLICE_LITERAL("x-twice"), SLICE_LITERAL("2")};
    request->headers[3] = (struct http_header){SLICE_LITERAL("Empty"), SLICE_LITERAL("")};
    request->header_count = 4;
    assert_true(slice_is(http_header(request, "hOST"), "a"));
    assert_true(slice_is(http_header(request, "X-TWICE"), "1"));
    assert_non_null(http_header(request, "empty").data);
    assert_null(http_header(request, "Hos").data);
    assert_null(http_header(request, "Host2").data);
    free(request);
}

static void test_status_text(void **state)
{
    (void)state;
    assert_string_equal(http_status_text(200), "OK");
    assert_string_equal(http_status_text(431), "Request Header Fields Too Large");
    assert_string_equal(http_status_text(299), "Unknown");
    assert_string_equal(http_status_text(-1), "Unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_status_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
