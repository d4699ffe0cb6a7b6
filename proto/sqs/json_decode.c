/* SPDX-License-Identifier: Apache-2.0 */
/* JSON requests into structs. jansson reads the document; the rows of the shape say which members
 * to take and what type each must have. As at AWS nothing is converted: a number for a text, or a
 * text for a number, is a SerializationException. Only this file knows that there is a document
 * tree, so a streaming reader can replace it without a change elsewhere.
 *
 * What a hostile body could do to a tree is bounded before the tree is made: 8 MiB of "[[],[],..."
 * would take hundreds of megabytes, so values are counted first (SQS_JSON_TOKENS_MAX; the largest
 * honest request has about a thousand). Depth is bounded by jansson (2048).
 *
 * Texts are copied into the arena and the tree is dropped before returning. */
#include "proto/sqs/codec.h"

#include "proto/base/assert.h"
#include "proto/base/encode.h"

#include <jansson.h>

struct reader {
    struct arena *arena;
    struct sqs_error *error;
};

static bool decode_shape(struct reader *r, enum sqs_shape shape, const json_t *object, void *out);

static const char *type_name(const json_t *value)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "START_OBJECT", [JSON_ARRAY] = "START_ARRAY",
        [JSON_STRING] = "STRING_VALUE", [JSON_INTEGER] = "NUMBER_VALUE",
        [JSON_REAL] = "DECIMAL_VALUE",  [JSON_TRUE] = "TRUE_VALUE",
        [JSON_FALSE] = "FALSE_VALUE",   [JSON_NULL] = "NULL_VALUE",
    };
    return names[json_typeof(value)];
}

static bool refuse(struct reader *r, const json_t *value, const char *wanted)
{
    r->error->code = SQS_ERROR_SERIALIZATION;
    r->error->message =
        arena_printf(r->arena, "%s can not be converted to %s", type_name(value), wanted);
    return false;
}

static bool decode_text(struct reader *r, const json_t *value, struct slice *out)
{
    if (!json_is_string(value))
        return refuse(r, value, "a String");
    *out = arena_copy(r->arena, slice_make(json_string_value(value), json_string_length(value)));
    return true;
}

static bool decode_number(struct reader *r, const json_t *value, struct sqs_number *out)
{
    if (!json_is_integer(value))
        return refuse(r, value, "an Integer");
    json_int_t number = json_integer_value(value);
    if (number < INT32_MIN || number > INT32_MAX)
        return refuse(r, value, "an Integer: it is out of range");
    *out = (struct sqs_number){(int32_t)number, true};
    return true;
}

static bool decode_blob(struct reader *r, const json_t *value, struct slice *out)
{
    if (!json_is_string(value))
        return refuse(r, value, "a Blob");
    struct buffer bytes = {0};
    struct slice text = slice_make(json_string_value(value), json_string_length(value));
    if (text.length > 0 && decode_base64(&bytes, text) != STATUS_OK)
        return refuse(r, value, "a Blob: it is not valid base64");
    *out = arena_copy(r->arena, buffer_slice(&bytes));
    buffer_free(&bytes);
    return true;
}

/* Bounded by the count of tokens, checked before. */
static void *list_begin(struct reader *r, struct sqs_list *out, size_t count, size_t bytes_each)
{
    ASSERT(count <= SQS_JSON_TOKENS_MAX);
    *out = (struct sqs_list){arena_alloc(r->arena, count * bytes_each), 0, true};
    return out->items;
}

static bool decode_texts(struct reader *r, const json_t *value, struct sqs_list *out)
{
    if (!json_is_array(value))
        return refuse(r, value, "a List");
    struct slice *items = list_begin(r, out, json_array_size(value), sizeof *items);
    for (size_t i = 0; i < json_array_size(value); i++) {
        if (!decode_text(r, json_array_get(value, i), &items[i]))
            return false;
        out->count++;
    }
    return true;
}

static bool decode_map(struct reader *r, json_t *value, struct sqs_list *out)
{
    if (!json_is_object(value))
        return refuse(r, value, "a Map");
    struct sqs_pair *items = list_begin(r, out, json_object_size(value), sizeof *items);
    for (void *at = json_object_iter(value); at != NULL; at = json_object_iter_next(value, at)) {
        struct sqs_pair *item = &items[out->count];
        if (json_is_null(json_object_iter_value(at)))
            continue;
        item->key = arena_copy(r->arena, slice_of(json_object_iter_key(at)));
        if (!decode_text(r, json_object_iter_value(at), &item->value))
            return false;
        out->count++;
    }
    return true;
}

static bool decode_structs(struct reader *r, enum sqs_shape element, const json_t *value,
                           struct sqs_list *out)
{
    if (!json_is_array(value))
        return refuse(r, value, "a List");
    size_t bytes = sqs_shapes[element].bytes;
    char *items = list_begin(r, out, json_array_size(value), bytes);
    for (size_t i = 0; i < json_array_size(value); i++) {
        if (!decode_shape(r, element, json_array_get(value, i), items + i * bytes))
            return false;
        out->count++;
    }
    return true;
}

static bool decode_struct_map(struct reader *r, enum sqs_shape element, json_t *value,
                              struct sqs_list *out)
{
    if (!json_is_object(value))
        return refuse(r, value, "a Map");
    size_t bytes = sqs_shapes[element].bytes;
    char *items = list_begin(r, out, json_object_size(value), bytes);
    for (void *at = json_object_iter(value); at != NULL; at = json_object_iter_next(value, at)) {
        char *item = items + out->count * bytes;
        if (json_is_null(json_object_iter_value(at)))
            continue;
        if (!decode_shape(r, element, json_object_iter_value(at), item))
            return false;
        *(struct slice *)(void *)item = arena_copy(r->arena, slice_of(json_object_iter_key(at)));
        out->count++;
    }
    return true;
}

static bool decode_member(struct reader *r, const struct sqs_member *member, json_t *value,
                          void *field)
{
    switch (member->kind) {
    case SQS_KIND_TEXT:
        return decode_text(r, value, field);
    case SQS_KIND_BLOB:
        return decode_blob(r, value, field);
    case SQS_KIND_NUMBER:
        return decode_number(r, value, field);
    case SQS_KIND_TEXTS:
        return decode_texts(r, value, field);
    case SQS_KIND_MAP:
    case SQS_KIND_TAGS:
        return decode_map(r, value, field);
    case SQS_KIND_STRUCTS:
        return decode_structs(r, member->element, value, field);
    case SQS_KIND_STRUCT_MAP:
        return decode_struct_map(r, member->element, value, field);
    case SQS_KIND_KEY:
    case SQS_KIND_LONG:
    case SQS_KIND_BOOL:
        break;
    }
    return true;
}

static bool decode_shape(struct reader *r, enum sqs_shape shape, const json_t *object, void *out)
{
    if (!json_is_object(object))
        return refuse(r, object, "a Structure");
    const struct sqs_shape_row *row = &sqs_shapes[shape];
    for (size_t i = 0; i < row->member_count; i++) {
        const struct sqs_member *member = &row->members[i];
        json_t *value = json_object_get(object, member->json_name);
        if (value == NULL || json_is_null(value))
            continue;
        if (!decode_member(r, member, value, sqs_field(member, out)))
            return false;
    }
    return true;
}

/* Values in the document: each follows one of [ { , : outside a string. */
static bool few_tokens(struct slice body)
{
    size_t tokens = 0;
    for (size_t i = 0; i < body.length; i++) {
        uint8_t c = body.data[i];
        if (c == '"') {
            for (i++; i < body.length && body.data[i] != '"'; i++)
                i += body.data[i] == '\\';
        } else if (c == '[' || c == '{' || c == ',' || c == ':') {
            tokens++;
        }
    }
    return tokens <= SQS_JSON_TOKENS_MAX;
}

bool sqs_json_decode(struct slice body, enum sqs_shape shape, struct arena *arena, void *out,
                     struct sqs_error *error)
{
    if (body.length == 0)
        return true;
    if (!few_tokens(body)) {
        *error = (struct sqs_error){SQS_ERROR_SERIALIZATION, "The request has too many values."};
        return false;
    }
    json_error_t where;
    json_t *root =
        json_loadb((const char *)body.data, body.length, JSON_ALLOW_NUL | JSON_DECODE_ANY, &where);
    if (root == NULL) {
        error->code = SQS_ERROR_SERIALIZATION;
        error->message = arena_printf(arena, "The request is not valid JSON at line %d, column %d.",
                                      where.line, where.column);
        return false;
    }
    struct reader reader = {arena, error};
    bool ok = decode_shape(&reader, shape, root, out);
    json_decref(root);
    return ok;
}
