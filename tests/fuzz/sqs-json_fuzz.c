/* SPDX-License-Identifier: Apache-2.0 */
/* JSON requests: the first byte chooses the shape, the rest is the body. What decodes is written in
 * both forms, and the JSON must decode to the same again. Whether the body is JSON at all is asked
 * of jansson too, and both must agree. */
#include "proto/base/assert.h"
#include "proto/base/encode.h"
#include "proto/sqs/codec.h"

/* Every shape fits into this with all its members; what is longer only takes longer. */
#define INPUT_BYTES_MAX 512
#include <jansson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A document of the wrong types may be cut off unread, so only what was read to its end, or called
 * malformed, can be compared. jansson refuses numbers that it cannot hold and very deep documents,
 * and overlooks a NUL behind a number. */
static void compare(struct slice body, bool good, const char *message)
{
    json_error_t why;
    bool malformed = strstr(message, "is not valid JSON") != NULL;
    json_t *root =
        json_loadb((const char *)body.data, body.length, JSON_ALLOW_NUL | JSON_DECODE_ANY, &why);
    if (root != NULL)
        ASSERT(!malformed || memchr(body.data, 0, body.length) != NULL);
    else if (json_error_code(&why) != json_error_numeric_overflow &&
             json_error_code(&why) != json_error_stack_overflow)
        ASSERT(!good);
    json_decref(root);
}

static bool decode(struct slice body, enum sqs_shape shape, struct arena *arena, void **out)
{
    struct sqs_error error = {0};
    *out = arena_alloc(arena, sqs_shapes[shape].bytes);
    bool ok = sqs_json_decode(body, shape, arena, *out, &error);
    ASSERT(ok || error.code == SQS_ERROR_SERIALIZATION);
    if (body.length > 0)
        compare(body, ok, ok ? "" : error.message);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    size = size < INPUT_BYTES_MAX ? size : INPUT_BYTES_MAX;
    enum sqs_shape shape = (enum sqs_shape)(1 + data[0] % (SQS_SHAPE_COUNT - 1));
    struct arena arena = {0};
    struct buffer first = {0};
    struct buffer second = {0};
    struct buffer xml = {0};
    void *object;
    if (decode(slice_make(data + 1, size - 1), shape, &arena, &object)) {
        (void)sqs_missing(SQS_QUERY, shape, object, &arena);
        sqs_xml_write(&xml, shape, object);
        ASSERT(utf8_valid(buffer_slice(&xml)));
        sqs_json_write(&first, shape, object);
        ASSERT(decode(buffer_slice(&first), shape, &arena, &object));
        sqs_json_write(&second, shape, object);
        ASSERT(slice_equal(buffer_slice(&first), buffer_slice(&second)));
    }
    buffer_free(&first);
    buffer_free(&second);
    buffer_free(&xml);
    arena_free(&arena);
    return 0;
}
