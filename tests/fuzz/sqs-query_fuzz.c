/* SPDX-License-Identifier: Apache-2.0 */
/* Query requests: the first byte chooses the shape, the rest is the form. What decodes is written
 * in both forms: well-formed UTF-8 without a character that XML cannot hold. */
#include "proto/base/assert.h"
#include "proto/base/encode.h"
#include "proto/sqs/codec.h"

/* Every shape fits into this with all its members; what is longer only takes longer. */
#define INPUT_BYTES_MAX 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Without a comparison for each byte, which the fuzzer would trace: that cost half of its time. */
static void check_xml(struct slice xml)
{
    static const uint8_t legal[32] = {['\n'] = 1, ['\t'] = 1};
    uint8_t illegal = 0;
    ASSERT(utf8_valid(xml));
    for (size_t i = 0; i < xml.length; i++)
        illegal |= (uint8_t)(xml.data[i] < sizeof legal) & (uint8_t)(legal[xml.data[i] & 31] ^ 1);
    ASSERT(illegal == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    size = size < INPUT_BYTES_MAX ? size : INPUT_BYTES_MAX;
    enum sqs_shape shape = (enum sqs_shape)(1 + data[0] % (SQS_SHAPE_COUNT - 1));
    struct arena arena = {0};
    struct buffer xml = {0};
    struct buffer json = {0};
    struct sqs_error error = {0};
    struct sqs_form form;
    void *object = arena_alloc(&arena, sqs_shapes[shape].bytes);
    if (!sqs_form_parse((struct slice){0}, slice_make(data + 1, size - 1), &arena, &form, &error)) {
        ASSERT(error.code == SQS_ERROR_MALFORMED_QUERY);
    } else if (!sqs_form_decode(&form, shape, &arena, object, &error)) {
        ASSERT(error.code == SQS_ERROR_INVALID_PARAMETER);
        sqs_error_encode(&xml, SQS_QUERY, &error, "id");
        check_xml(buffer_slice(&xml));
    } else {
        (void)sqs_missing(SQS_QUERY, shape, object, &arena);
        sqs_xml_write(&xml, shape, object);
        check_xml(buffer_slice(&xml));
        sqs_json_write(&json, shape, object);
        ASSERT(utf8_valid(buffer_slice(&json)));
    }
    buffer_free(&xml);
    buffer_free(&json);
    arena_free(&arena);
    return 0;
}
