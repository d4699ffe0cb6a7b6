/* SPDX-License-Identifier: Apache-2.0 */
/* The binary codec of the native protocol, driven by the rows of the shapes like the others; the
 * layout is in native.h. Both ends use both directions: a client writes inputs and reads results.
 *
 * What reading costs is what a message costs, so texts are not copied. What a hostile sender could
 * do is bounded by one budget: a list element of four bytes becomes a struct of two hundred, so all
 * elements of a call are counted (NATIVE_VALUES_MAX).
 *
 * I1  a value is written with the length that its reader finds */
#include "proto/sqs/native.h"

#include "proto/base/assert.h"
#include "proto/base/bytes.h"
#include "proto/base/encode.h"

#define LENGTH_BYTES 4
#define ASK_NODE_MAX 0xffffffu /* three bytes */

_Static_assert(SQS_ACTION_COUNT < UINT16_MAX, "an action is a u16 on the wire");

/* ---- headers ---- */

void native_call_header(struct buffer *out, uint32_t id, enum sqs_action action)
{
    buffer_add_u32(out, id);
    buffer_add_u16(out, (uint16_t)action);
    buffer_add_u16(out, 0);
}

void native_answer_header(struct buffer *out, uint32_t id, bool refused, uint64_t ask_node)
{
    uint32_t hint = ask_node <= ASK_NODE_MAX ? (uint32_t)ask_node : 0;
    buffer_add_u32(out, id);
    buffer_add_u32(out, hint << 8 | (refused ? 1 : 0));
}

bool native_header_read(struct slice payload, struct native_header *header, struct slice *body)
{
    if (payload.length < NATIVE_HEADER_BYTES)
        return false;
    *header = (struct native_header){.id = bytes_get_u32(payload.data),
                                     .action = bytes_get_u16(payload.data + 4),
                                     .refused = payload.data[4] != 0,
                                     .ask_node = bytes_get_u32(payload.data + 4) >> 8};
    *body = slice_sub(payload, NATIVE_HEADER_BYTES);
    return true;
}

/* ---- writing ---- */

static size_t begin_length(struct buffer *out)
{
    buffer_add_u32(out, 0);
    return out->length;
}

static void end_length(struct buffer *out, size_t begun)
{
    bytes_put_u32(out->data + begun - LENGTH_BYTES, (uint32_t)(out->length - begun)); /* I1 */
}

static void write_list(struct buffer *out, const struct sqs_member *member,
                       const struct sqs_list *list)
{
    const struct slice *texts = list->items;
    const struct sqs_pair *pairs = list->items;
    const char *item = list->items;
    buffer_add_u32(out, list->count);
    for (uint32_t i = 0; i < list->count; i++) {
        if (member->kind == SQS_KIND_TEXTS) {
            buffer_add_bytes(out, texts[i]);
        } else if (member->kind == SQS_KIND_MAP || member->kind == SQS_KIND_TAGS) {
            buffer_add_bytes(out, pairs[i].key);
            buffer_add_bytes(out, pairs[i].value);
        } else {
            size_t begun = begin_length(out);
            native_write(out, member->element, item + i * sqs_shapes[member->element].bytes);
            end_length(out, begun);
        }
    }
}

static void write_value(struct buffer *out, const struct sqs_member *member, const void *field)
{
    switch (member->kind) {
    case SQS_KIND_KEY:
    case SQS_KIND_TEXT:
    case SQS_KIND_BLOB:
        buffer_add_slice(out, *(const struct slice *)field);
        break;
    case SQS_KIND_NUMBER:
        buffer_add_u32(out, (uint32_t)((const struct sqs_number *)field)->value);
        break;
    case SQS_KIND_LONG:
        buffer_add_u64(out, (uint64_t)((const struct sqs_long *)field)->value);
        break;
    case SQS_KIND_BOOL:
        buffer_add_byte(out, *(const bool *)field);
        break;
    case SQS_KIND_TEXTS:
    case SQS_KIND_MAP:
    case SQS_KIND_TAGS:
    case SQS_KIND_STRUCTS:
    case SQS_KIND_STRUCT_MAP:
        write_list(out, member, field);
        break;
    }
}

void native_write(struct buffer *out, enum sqs_shape shape, const void *object)
{
    const struct sqs_shape_row *row = &sqs_shapes[shape];
    for (size_t i = 0; i < row->member_count; i++) {
        const struct sqs_member *member = &row->members[i];
        if (!sqs_given(member, object))
            continue;
        buffer_add_byte(out, (uint8_t)(i + 1));
        size_t begun = begin_length(out);
        write_value(out, member, sqs_field(member, object));
        end_length(out, begun);
    }
}

void native_write_error(struct buffer *out, const struct sqs_error *error)
{
    ASSERT(error->code > SQS_OK && error->code < SQS_ERROR_COUNT);
    const struct sqs_error_row *row = &sqs_errors[error->code];
    const char *hash = strchr(row->json_type, '#');
    struct sqs_call_error out_error = {
        .code = slice_of(hash != NULL ? hash + 1 : row->json_type),
        .message = slice_of(sqs_error_text(SQS_JSON, error)),
        .http_status = {row->http_status, true},
        .sender_fault = row->sender_fault,
    };
    native_write(out, SQS_SHAPE_call_error, &out_error);
}

/* ---- reading ---- */

struct reader {
    struct arena *arena;
    uint32_t values_left;
};

static bool read_shape(struct reader *r, struct slice in, enum sqs_shape shape, void *out);

static bool read_text(struct slice in, struct slice *out)
{
    static const uint8_t empty[1];
    *out = slice_make(in.length > 0 ? in.data : empty, in.length); /* given, even if it is empty */
    return utf8_valid(in);
}

/* An element takes at least `least` bytes, so a count that cannot be true is refused unallocated.
 */
static bool list_begin(struct reader *r, struct cursor *in, size_t least, size_t bytes_each,
                       struct sqs_list *out, uint32_t *count)
{
    *count = cursor_u32(in);
    if (in->bad || *count > r->values_left || *count > cursor_left(in) / least)
        return false;
    r->values_left -= *count;
    *out = (struct sqs_list){arena_alloc(r->arena, *count * bytes_each), 0, true};
    return true;
}

static bool read_texts(struct reader *r, struct cursor *in, struct sqs_list *out)
{
    uint32_t count;
    if (!list_begin(r, in, LENGTH_BYTES, sizeof(struct slice), out, &count))
        return false;
    struct slice *items = out->items;
    for (; out->count < count; out->count++) {
        if (!read_text(cursor_bytes(in), &items[out->count]))
            return false;
    }
    return true;
}

static bool read_map(struct reader *r, struct cursor *in, struct sqs_list *out)
{
    uint32_t count;
    if (!list_begin(r, in, (size_t)2 * LENGTH_BYTES, sizeof(struct sqs_pair), out, &count))
        return false;
    struct sqs_pair *items = out->items;
    for (; out->count < count; out->count++) {
        if (!read_text(cursor_bytes(in), &items[out->count].key) ||
            !read_text(cursor_bytes(in), &items[out->count].value))
            return false;
    }
    return true;
}

static bool read_structs(struct reader *r, struct cursor *in, enum sqs_shape element,
                         struct sqs_list *out)
{
    uint32_t count;
    size_t bytes = sqs_shapes[element].bytes;
    if (!list_begin(r, in, LENGTH_BYTES, bytes, out, &count))
        return false;
    for (; out->count < count; out->count++) {
        struct slice item = cursor_bytes(in);
        if (in->bad || !read_shape(r, item, element, (char *)out->items + out->count * bytes))
            return false;
    }
    return true;
}

/* read_value: false if it is malformed, or does not fill `in` exactly. */
static bool read_value(struct reader *r, const struct sqs_member *member, struct slice in,
                       void *field)
{
    struct cursor c = cursor_of(in);
    bool good = true;
    switch (member->kind) {
    case SQS_KIND_KEY:
    case SQS_KIND_TEXT:
        return read_text(in, field);
    case SQS_KIND_BLOB:
        *(struct slice *)field = in;
        return true;
    case SQS_KIND_NUMBER:
        *(struct sqs_number *)field = (struct sqs_number){(int32_t)cursor_u32(&c), true};
        break;
    case SQS_KIND_LONG:
        *(struct sqs_long *)field = (struct sqs_long){(int64_t)cursor_u64(&c), true};
        break;
    case SQS_KIND_BOOL:
        *(bool *)field = cursor_u8(&c) != 0;
        break;
    case SQS_KIND_TEXTS:
        good = read_texts(r, &c, field);
        break;
    case SQS_KIND_MAP:
    case SQS_KIND_TAGS:
        good = read_map(r, &c, field);
        break;
    case SQS_KIND_STRUCTS:
    case SQS_KIND_STRUCT_MAP:
        good = read_structs(r, &c, member->element, field);
        break;
    }
    return good && !c.bad && cursor_left(&c) == 0;
}

static bool read_shape(struct reader *r, struct slice in, enum sqs_shape shape, void *out)
{
    const struct sqs_shape_row *row = &sqs_shapes[shape];
    struct cursor c = cursor_of(in);
    while (cursor_left(&c) > 0) {
        uint8_t tag = cursor_u8(&c);
        struct slice value = cursor_bytes(&c);
        if (c.bad || tag == 0)
            return false;
        if (tag > row->member_count)
            continue; /* of a later version */
        const struct sqs_member *member = &row->members[tag - 1];
        if (!read_value(r, member, value, sqs_field(member, out)))
            return false;
    }
    return true;
}

bool native_read(struct slice in, enum sqs_shape shape, struct arena *arena, void *out)
{
    struct reader reader = {arena, NATIVE_VALUES_MAX};
    return read_shape(&reader, in, shape, out);
}
