/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that the Lambda API decodes before it looks at any state. The first byte chooses: a
 * path with its query, a function's name, a payload (compared with jansson), a body of settings, a
 * body with code. */
#include "broker/api/lambda/function_name.h"
#include "broker/api/lambda/json_check.h"
#include "broker/api/lambda/package_input.h"
#include "broker/api/lambda/route.h"
#include "broker/api/lambda/settings.h"
#include "proto/base/assert.h"
#include "proto/base/encode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_path(struct slice text, struct arena *arena)
{
    const struct route *route;
    struct slice labels[ROUTE_LABELS_MAX];
    ptrdiff_t mark = slice_find(text, '?');
    struct slice path = mark >= 0 ? slice_make(text.data, (size_t)mark) : text;
    struct slice query = mark >= 0 ? slice_sub(text, (size_t)mark + 1) : (struct slice){0};
    route_is_lambda(path);
    enum status status = route_find(SLICE_LITERAL("GET"), path, arena, &route, labels);
    ASSERT(status == STATUS_NOT_FOUND || route != NULL);
    struct slice name;
    struct slice value;
    while (query_next(&query, arena, &name, &value)) {
        ASSERT(name.length + value.length <= text.length);
    }
}

static void fuzz_name(struct slice text, struct arena *arena)
{
    struct failure failure = {0};
    struct function_name name;
    bool good = function_name_read(text, (struct slice){0}, "us-east-1", "000000000000", arena,
                                   &failure, &name);
    ASSERT(good == (failure.error == LAMBDA_OK));
    ASSERT(!good || (name.name.length > 0 && name.name.length <= FUNCTION_NAME_BYTES_MAX));
    if (!good) {
        struct buffer body = {0};
        failure_body(&body, &failure);
        ASSERT(utf8_valid(buffer_slice(&body)));
        buffer_free(&body);
    }
}

/* What jansson takes must pass here; the other way round numbers and escapes may differ. A NUL
 * after the value ends the text for jansson, so texts with one are not compared. */
static void fuzz_payload(struct slice text)
{
    size_t at = 0;
    bool good = json_check(text, &at);
    ASSERT(at <= text.length);
    json_t *parsed = json_loadb((const char *)text.data, text.length,
                                JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
    ASSERT(good || parsed == NULL || text.length > JSON_DEPTH_MAX || slice_find(text, 0) >= 0);
    json_decref(parsed);
}

static void fuzz_settings(struct slice text, struct arena *arena)
{
    struct failure failure = {0};
    struct input input;
    struct function_config config;
    settings_default(&config);
    if (input_open(&input, text, arena, &failure) && settings_read(&input, true, &config)) {
        struct buffer record = {0};
        struct function_config again;
        function_config_encode(&record, &config);
        enum status status = function_config_decode(buffer_slice(&record), arena, &again);
        ASSERT(status == STATUS_OK);
        buffer_free(&record);
    } else {
        ASSERT(failure.error != LAMBDA_OK);
    }
    input_close(&input);
}

static void fuzz_code(struct slice text, struct arena *arena)
{
    struct failure failure = {0};
    struct input input;
    struct package_input package = {0};
    if (input_open(&input, text, arena, &failure)) {
        bool good = package_input_read(&input, input.root, &package);
        ASSERT(good == (failure.error == LAMBDA_OK));
        package_input_free(&package);
    }
    input_close(&input);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = {0};
    if (size == 0) {
        return 0;
    }
    struct slice rest = slice_make(data + 1, size - 1);
    switch (data[0] % 5) {
    case 0:
        fuzz_path(rest, &arena);
        break;
    case 1:
        fuzz_name(rest, &arena);
        break;
    case 2:
        fuzz_payload(rest);
        break;
    case 3:
        fuzz_settings(rest, &arena);
        break;
    default:
        fuzz_code(rest, &arena);
        break;
    }
    arena_free(&arena);
    return 0;
}
