/* SPDX-License-Identifier: Apache-2.0 */
/* The native protocol: the first byte chooses the shape, the rest is a struct of it. What is read
 * is written, and must be read to the same again. */
#include "proto/base/assert.h"
#include "proto/sqs/native.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct native_header header;
    struct slice body;
    if (size < 1)
        return 0;
    (void)!native_header_read(slice_make(data, size), &header, &body);
    enum sqs_shape shape = (enum sqs_shape)(1 + data[0] % (SQS_SHAPE_COUNT - 1));
    struct arena arena = {0};
    struct buffer first = {0};
    struct buffer second = {0};
    void *object = arena_alloc(&arena, sqs_shapes[shape].bytes);
    void *again = arena_alloc(&arena, sqs_shapes[shape].bytes);
    if (native_read(slice_make(data + 1, size - 1), shape, &arena, object)) {
        (void)sqs_missing(SQS_JSON, shape, object, &arena);
        native_write(&first, shape, object);
        ASSERT(native_read(buffer_slice(&first), shape, &arena, again));
        native_write(&second, shape, again);
        ASSERT(slice_equal(buffer_slice(&first), buffer_slice(&second)));
    }
    buffer_free(&first);
    buffer_free(&second);
    arena_free(&arena);
    return 0;
}
