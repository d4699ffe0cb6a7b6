/* SPDX-License-Identifier: Apache-2.0 */
/* JSON requests: the first byte chooses the shape, the rest is the body. What decodes is written in
 * both forms, and the JSON must decode to the same again. */
#include "proto/base/assert.h"
#include "proto/base/encode.h"
#include "proto/sqs/codec.h"

/* Every shape fits into this with all its members; what is longer only takes longer. */
#define INPUT_BYTES_MAX 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool decode(struct slice body, enum sqs_shape shape, struct arena *arena, void **out)
{
    struct sqs_error error = {0};
    *out = arena_alloc(arena, sqs_shapes[shape].bytes);
    bool ok = sqs_json_decode(body, shape, arena, *out, &error);
    ASSERT(ok || error.code == SQS_ERROR_SERIALIZATION);
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
