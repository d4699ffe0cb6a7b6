/* SPDX-License-Identifier: Apache-2.0 */
/* The codec of message records (layout: record.h), and SQS's MD5 of message attributes.
 *
 * The record is written by the API, once, and read by whoever hands the message out, perhaps years
 * and versions later; so decoding trusts nothing. It does not recompute the digests: the log's
 * checksums guard the bytes, and a digest per read would double the cost of a receive. A sender who
 * has no use for the MD5 of the body (a native one, whose frames have a checksum) leaves it out:
 * it is a third of what the broker does with a message of 1 KB. Who wants it makes it then. */
#include "broker/core/record.h"

#include "proto/base/assert.h"

#include <stdlib.h>

#define RECORD_VERSION  2
#define FLAG_ATTRIBUTES 1
#define FLAG_NO_MD5     2
#define HEADER_BYTES    76
#define ATTRIBUTE_BYTES 9 /* and its name, type and value */

static int name_compare(const void *a, const void *b)
{
    const struct record_attribute *x = a;
    const struct record_attribute *y = b;
    size_t shorter = x->name.length < y->name.length ? x->name.length : y->name.length;
    int order = shorter > 0 ? memcmp(x->name.data, y->name.data, shorter) : 0;
    if (order != 0)
        return order;
    return (x->name.length > y->name.length) - (x->name.length < y->name.length);
}

/* Big-endian, as the SQS developer guide has it; everything else here is little-endian. */
static void add_measured(struct buffer *out, struct slice s)
{
    uint32_t length = htobe32((uint32_t)s.length);
    buffer_add(out, &length, sizeof length);
    buffer_add_slice(out, s);
}

void record_attributes_md5(const struct record_attribute *attributes, uint32_t count,
                           uint8_t out[MD5_BYTES])
{
    struct buffer text = {0};
    for (uint32_t i = 0; i < count; i++) {
        add_measured(&text, attributes[i].name);
        add_measured(&text, attributes[i].type);
        buffer_add_byte(&text, (uint8_t)attributes[i].kind);
        add_measured(&text, attributes[i].value);
    }
    digest_md5(buffer_slice(&text), out);
    buffer_free(&text);
}

static void add_short(struct buffer *out, struct slice s)
{
    ASSERT(s.length <= UINT16_MAX);
    buffer_add_u16(out, (uint16_t)s.length);
    buffer_add_slice(out, s);
}

static void attributes_encode(struct buffer *out, const struct record *record)
{
    buffer_add_u16(out, (uint16_t)record->attribute_count);
    for (uint32_t i = 0; i < record->attribute_count; i++) {
        const struct record_attribute *attribute = &record->attributes[i];
        ASSERT(attribute->kind == RECORD_STRING || attribute->kind == RECORD_BINARY);
        ASSERT(attribute->value.length <= UINT32_MAX);
        add_short(out, attribute->name);
        add_short(out, attribute->type);
        buffer_add_byte(out, (uint8_t)attribute->kind);
        buffer_add_u32(out, (uint32_t)attribute->value.length);
        buffer_add_slice(out, attribute->value);
    }
}

static void fill_digests(struct record *record)
{
    if (record->no_md5)
        memset(record->md5_body, 0, MD5_BYTES);
    else if (!record->md5_known)
        digest_md5(record->body, record->md5_body);
    memset(record->md5_attributes, 0, MD5_BYTES);
    if (record->attribute_count == 0)
        return;
    qsort(record->attributes, record->attribute_count, sizeof record->attributes[0], name_compare);
    record_attributes_md5(record->attributes, record->attribute_count, record->md5_attributes);
}

size_t record_bytes(const struct record *record)
{
    size_t bytes = HEADER_BYTES + record->sender_id.length + record->trace_header.length +
                   record->group_id.length + record->dedup_id.length + record->body.length;
    for (uint32_t i = 0; i < record->attribute_count; i++)
        bytes += record->attributes[i].name.length + record->attributes[i].type.length +
                 record->attributes[i].value.length + ATTRIBUTE_BYTES;
    return record->attribute_count > 0 ? bytes + sizeof(uint16_t) : bytes;
}

void record_encode(struct buffer *out, struct record *record)
{
    ASSERT(record->attribute_count <= RECORD_ATTRIBUTES_MAX);
    ASSERT(record->body.length <= UINT32_MAX);
    ASSERT(record->group_id.length <= RECORD_ID_BYTES_MAX);
    ASSERT(record->dedup_id.length <= RECORD_ID_BYTES_MAX);
    fill_digests(record);
    buffer_add_byte(out, RECORD_VERSION);
    buffer_add_byte(out, (uint8_t)((record->attribute_count > 0 ? FLAG_ATTRIBUTES : 0) |
                                   (record->no_md5 ? FLAG_NO_MD5 : 0)));
    buffer_add_u16(out, 0);
    buffer_add(out, record->message_id, UUID_BYTES);
    buffer_add(out, record->md5_body, MD5_BYTES);
    buffer_add(out, record->md5_attributes, MD5_BYTES);
    buffer_add_u32(out, (uint32_t)record->sender_id.length);
    buffer_add_u32(out, (uint32_t)record->trace_header.length);
    buffer_add_u32(out, (uint32_t)record->group_id.length);
    buffer_add_u32(out, (uint32_t)record->dedup_id.length);
    size_t length_at = out->length; /* of the attributes, known only when they are written */
    buffer_add_u32(out, 0);
    buffer_add_u32(out, (uint32_t)record->body.length);
    buffer_add_slice(out, record->sender_id);
    buffer_add_slice(out, record->trace_header);
    buffer_add_slice(out, record->group_id);
    buffer_add_slice(out, record->dedup_id);
    size_t attributes_at = out->length;
    if (record->attribute_count > 0)
        attributes_encode(out, record);
    bytes_put_u32(out->data + length_at, (uint32_t)(out->length - attributes_at));
    buffer_add_slice(out, record->body);
}

static void attribute_decode(struct cursor *in, struct record_attribute *out)
{
    uint16_t name_length = cursor_u16(in);
    out->name = cursor_take(in, name_length);
    uint16_t type_length = cursor_u16(in);
    out->type = cursor_take(in, type_length);
    uint8_t kind = cursor_u8(in);
    in->bad = in->bad || (kind != RECORD_STRING && kind != RECORD_BINARY);
    out->kind = kind == RECORD_BINARY ? RECORD_BINARY : RECORD_STRING;
    out->value = cursor_bytes(in);
}

static bool attributes_decode(struct slice bytes, struct record *out)
{
    struct cursor in = cursor_of(bytes);
    out->attribute_count = cursor_u16(&in);
    if (in.bad || out->attribute_count == 0 || out->attribute_count > RECORD_ATTRIBUTES_MAX)
        return false;
    for (uint32_t i = 0; i < out->attribute_count && !in.bad; i++) {
        attribute_decode(&in, &out->attributes[i]);
        if (i > 0 && !in.bad && name_compare(&out->attributes[i - 1], &out->attributes[i]) > 0)
            return false;
    }
    return !in.bad && cursor_left(&in) == 0;
}

static void digest_decode(struct cursor *in, uint8_t *out)
{
    struct slice bytes = cursor_take(in, MD5_BYTES);
    if (bytes.data != NULL)
        memcpy(out, bytes.data, MD5_BYTES);
}

/* The part of fixed length, and where the parts of variable length are. */
struct layout {
    uint8_t flags;
    struct slice attributes;
};

static bool layout_decode(struct slice bytes, struct record *out, struct layout *layout)
{
    struct cursor in = cursor_of(bytes);
    bool version_known = cursor_u8(&in) == RECORD_VERSION;
    layout->flags = cursor_u8(&in);
    uint16_t zero = cursor_u16(&in);
    digest_decode(&in, out->message_id);
    digest_decode(&in, out->md5_body);
    digest_decode(&in, out->md5_attributes);
    uint32_t sender_bytes = cursor_u32(&in);
    uint32_t trace_bytes = cursor_u32(&in);
    uint32_t group_bytes = cursor_u32(&in);
    uint32_t dedup_bytes = cursor_u32(&in);
    uint32_t attribute_bytes = cursor_u32(&in);
    uint32_t body_bytes = cursor_u32(&in);
    out->sender_id = cursor_take(&in, sender_bytes);
    out->trace_header = cursor_take(&in, trace_bytes);
    out->group_id = cursor_take(&in, group_bytes);
    out->dedup_id = cursor_take(&in, dedup_bytes);
    layout->attributes = cursor_take(&in, attribute_bytes);
    out->body = cursor_take(&in, body_bytes);
    return !in.bad && cursor_left(&in) == 0 && version_known && zero == 0 &&
           group_bytes <= RECORD_ID_BYTES_MAX && dedup_bytes <= RECORD_ID_BYTES_MAX;
}

enum status record_decode(struct slice bytes, struct record *out)
{
    static const uint8_t zeros[MD5_BYTES];
    struct layout layout;
    *out = (struct record){0};
    if (!layout_decode(bytes, out, &layout) || layout.flags > (FLAG_ATTRIBUTES | FLAG_NO_MD5))
        return STATUS_INVALID;
    out->no_md5 = (layout.flags & FLAG_NO_MD5) != 0;
    if (out->no_md5 && memcmp(out->md5_body, zeros, MD5_BYTES) != 0)
        return STATUS_INVALID;
    if ((layout.flags & FLAG_ATTRIBUTES) != 0)
        return attributes_decode(layout.attributes, out) ? STATUS_OK : STATUS_INVALID;
    bool clean =
        layout.attributes.length == 0 && memcmp(out->md5_attributes, zeros, MD5_BYTES) == 0;
    return clean ? STATUS_OK : STATUS_INVALID;
}

void record_body_md5(const struct record *record, uint8_t out[MD5_BYTES])
{
    if (record->no_md5)
        digest_md5(record->body, out);
    else
        memcpy(out, record->md5_body, MD5_BYTES);
}

/* The header alone, without clearing a struct record for every message that is sent. */
bool record_read_ids(struct slice in, struct record_ids *out)
{
    memset(out, 0, sizeof *out);
    if (in.length < HEADER_BYTES || in.data[0] != RECORD_VERSION)
        return false;
    uint64_t before = (uint64_t)bytes_get_u32(in.data + 52) + bytes_get_u32(in.data + 56);
    uint32_t group_bytes = bytes_get_u32(in.data + 60);
    uint32_t dedup_bytes = bytes_get_u32(in.data + 64);
    if (group_bytes > RECORD_ID_BYTES_MAX || dedup_bytes > RECORD_ID_BYTES_MAX ||
        before + group_bytes + dedup_bytes > in.length - HEADER_BYTES)
        return false;
    memcpy(out->message_id, in.data + 4, UUID_BYTES);
    out->group_id = slice_make(in.data + HEADER_BYTES + before, group_bytes);
    out->dedup_id = slice_make(in.data + HEADER_BYTES + before + group_bytes, dedup_bytes);
    return true;
}
