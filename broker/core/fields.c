/* SPDX-License-Identifier: Apache-2.0 */
/* The table-driven codec. Integers are little-endian, without padding or alignment; a slice is a
 * u32 length and its bytes. Encoding and decoding check the same ranges, so that what was encoded
 * always decodes: an entry that replicas cannot read would stop them all. */
#include "broker/core/fields.h"

#include "broker/core/types.h"
#include "proto/base/assert.h"

static bool in_range(const struct field *field, uint64_t value)
{
    if (field->or_default && value == CORE_DEFAULT)
        return true;
    return value >= field->min && value <= field->max;
}

static uint64_t value_of(const struct field *field, const uint8_t *at)
{
    switch (field->kind) {
    case FIELD_BOOL:
        return *(const bool *)at;
    case FIELD_U32:
        return *(const uint32_t *)(const void *)at;
    case FIELD_U64:
        return *(const uint64_t *)(const void *)at;
    case FIELD_SLICE:
        return ((const struct slice *)(const void *)at)->length;
    case FIELD_BYTES16:
    case FIELD_BYTES32:
        break;
    }
    return field->min;
}

static void encode_one(struct buffer *out, const struct field *field, const uint8_t *at)
{
    uint64_t value = value_of(field, at);
    ASSERT(in_range(field, value));
    switch (field->kind) {
    case FIELD_BOOL:
        buffer_add_byte(out, (uint8_t)value);
        return;
    case FIELD_U32:
        buffer_add_u32(out, (uint32_t)value);
        return;
    case FIELD_U64:
        buffer_add_u64(out, value);
        return;
    case FIELD_BYTES16:
        buffer_add(out, at, 16);
        return;
    case FIELD_BYTES32:
        buffer_add(out, at, 32);
        return;
    case FIELD_SLICE:
        ASSERT(value <= UINT32_MAX);
        buffer_add_u32(out, (uint32_t)value);
        buffer_add_slice(out, *(const struct slice *)(const void *)at);
        return;
    }
}

void fields_encode(struct buffer *out, const struct field *fields, size_t count, const void *object)
{
    for (size_t i = 0; i < count; i++)
        encode_one(out, &fields[i], (const uint8_t *)object + fields[i].offset);
}

static void copy_bytes(struct cursor *in, uint8_t *at, size_t length)
{
    struct slice bytes = cursor_take(in, length);
    if (bytes.data != NULL)
        memcpy(at, bytes.data, length);
}

static void decode_one(struct cursor *in, const struct field *field, uint8_t *at)
{
    switch (field->kind) {
    case FIELD_BOOL: {
        uint8_t byte = cursor_u8(in);
        in->bad = in->bad || byte > 1;
        *(bool *)at = byte == 1;
        break;
    }
    case FIELD_U32:
        *(uint32_t *)(void *)at = cursor_u32(in);
        break;
    case FIELD_U64:
        *(uint64_t *)(void *)at = cursor_u64(in);
        break;
    case FIELD_BYTES16:
        copy_bytes(in, at, 16);
        break;
    case FIELD_BYTES32:
        copy_bytes(in, at, 32);
        break;
    case FIELD_SLICE:
        *(struct slice *)(void *)at = cursor_bytes(in);
        break;
    }
    in->bad = in->bad || !in_range(field, value_of(field, at));
}

void fields_decode(struct cursor *in, const struct field *fields, size_t count, void *object)
{
    for (size_t i = 0; i < count && !in->bad; i++)
        decode_one(in, &fields[i], (uint8_t *)object + fields[i].offset);
}
