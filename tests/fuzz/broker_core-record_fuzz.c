/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a message record: refused, or read, and what was read can be written and read again
 * without a change. */
#include "broker/core/record.h"
#include "proto/base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(const struct record *a, const struct record *b)
{
    ASSERT(memcmp(a->message_id, b->message_id, UUID_BYTES) == 0);
    ASSERT(slice_equal(a->sender_id, b->sender_id));
    ASSERT(slice_equal(a->trace_header, b->trace_header));
    ASSERT(slice_equal(a->body, b->body));
    ASSERT(a->attribute_count == b->attribute_count);
    for (uint32_t i = 0; i < a->attribute_count; i++)
        ASSERT(slice_equal(a->attributes[i].name, b->attributes[i].name));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct record record;
    if (record_decode(slice_make(data, size), &record) != STATUS_OK)
        return 0;
    struct buffer bytes = {0};
    struct record again;
    record_encode(&bytes, &record);
    ASSERT(bytes.length == size);
    ASSERT(record_decode(buffer_slice(&bytes), &again) == STATUS_OK);
    same(&record, &again);
    ASSERT(memcmp(record.md5_body, again.md5_body, MD5_BYTES) == 0);
    ASSERT(memcmp(record.md5_attributes, again.md5_attributes, MD5_BYTES) == 0);
    buffer_free(&bytes);
    return 0;
}
