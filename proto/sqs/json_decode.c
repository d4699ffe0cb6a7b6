/* SPDX-License-Identifier: Apache-2.0 */
/* JSON requests into structs, straight from the bytes: the rows of the shape say which members to
 * take and what kind each must have; the rest is stepped over. As at AWS nothing is converted: a
 * number for a text, or a text for a number, is a SerializationException.
 *
 * No tree is made: for a request of one message it cost more than all that the broker does with the
 * message. The body is copied once, because the call outlives the request, and texts stay in the
 * copy, unescaped in place. Of members and keys given twice the last one counts.
 *
 * What a hostile body could do is bounded by a count of its values (SQS_JSON_TOKENS_MAX; the
 * largest honest request has about a thousand) and by its depth. */
#include "proto/sqs/codec.h"

#include "proto/base/assert.h"
#include "proto/base/encode.h"
#include "proto/sqs/json_reader.h"

#define LIST_FIRST   8  /* elements that a list has room for at first */
#define MAP_KEYS_MAX 64 /* more keys than any request may have: beyond, two may be equal */

struct decoder {
    struct json_reader in;
    struct arena *arena;
    struct sqs_error *error;
};

static bool decode_shape(struct decoder *d, enum sqs_shape shape, void *out);

static bool refuse(struct decoder *d, enum json_kind kind, const char *wanted)
{
    static const char *const names[] = {
        [JSON_KIND_OBJECT] = "START_OBJECT",   [JSON_KIND_ARRAY] = "START_ARRAY",
        [JSON_KIND_TEXT] = "STRING_VALUE",     [JSON_KIND_INTEGER] = "NUMBER_VALUE",
        [JSON_KIND_DECIMAL] = "DECIMAL_VALUE", [JSON_KIND_TRUE] = "TRUE_VALUE",
        [JSON_KIND_FALSE] = "FALSE_VALUE",     [JSON_KIND_NULL] = "NULL_VALUE",
    };
    if (kind == JSON_KIND_NONE)
        return false; /* no value at all: told as malformed */
    d->error->code = SQS_ERROR_SERIALIZATION;
    d->error->message =
        arena_printf(d->arena, "%s can not be converted to %s", names[kind], wanted);
    return false;
}

static bool decode_text(struct decoder *d, struct slice *out)
{
    enum json_kind kind = json_read_peek(&d->in);
    return kind == JSON_KIND_TEXT ? json_read_text(&d->in, out) : refuse(d, kind, "a String");
}

static bool decode_number(struct decoder *d, struct sqs_number *out)
{
    enum json_kind kind = json_read_peek(&d->in);
    int64_t number;
    if (kind != JSON_KIND_INTEGER)
        return refuse(d, kind, "an Integer");
    if (!json_read_integer(&d->in, &number))
        return false;
    if (number < INT32_MIN || number > INT32_MAX)
        return refuse(d, kind, "an Integer: it is out of range");
    *out = (struct sqs_number){(int32_t)number, true};
    return true;
}

static bool decode_blob(struct decoder *d, struct slice *out)
{
    enum json_kind kind = json_read_peek(&d->in);
    struct slice text;
    struct buffer bytes = {0};
    if (kind != JSON_KIND_TEXT)
        return refuse(d, kind, "a Blob");
    if (!json_read_text(&d->in, &text))
        return false;
    if (text.length > 0 && decode_base64(&bytes, text) != STATUS_OK) {
        buffer_free(&bytes);
        return refuse(d, kind, "a Blob: it is not valid base64");
    }
    *out = arena_copy(d->arena, buffer_slice(&bytes));
    buffer_free(&bytes);
    return true;
}

/* Room for one more element, zeroed; doubled when it is full. Bounded by the count of values. */
static void *list_add(struct decoder *d, struct sqs_list *list, size_t bytes_each)
{
    bool full = list->count >= LIST_FIRST && (list->count & (list->count - 1)) == 0;
    if (list->count == 0)
        list->items = arena_alloc(d->arena, LIST_FIRST * bytes_each);
    if (full) {
        void *larger = arena_alloc(d->arena, 2 * (size_t)list->count * bytes_each);
        memcpy(larger, list->items, list->count * bytes_each);
        list->items = larger;
    }
    return (char *)list->items + list->count * bytes_each;
}

/* What every list begins with: it is of `kind`, called `wanted`, and given. */
static bool list_begin(struct decoder *d, enum json_kind kind, const char *wanted,
                       struct sqs_list *out)
{
    enum json_kind found = json_read_peek(&d->in);
    if (found != kind)
        return refuse(d, found, wanted);
    json_read_enter(&d->in);
    *out = (struct sqs_list){.given = true};
    return true;
}

static bool list_end(const struct decoder *d)
{
    return d->in.fault == JSON_FINE && d->error->code == SQS_OK;
}

static bool decode_texts(struct decoder *d, struct sqs_list *out)
{
    if (!list_begin(d, JSON_KIND_ARRAY, "a List", out))
        return false;
    while (json_read_element(&d->in, out->count == 0)) {
        if (!decode_text(d, list_add(d, out, sizeof(struct slice))))
            return false;
        out->count++;
    }
    return list_end(d);
}

/* An element's key is its first field (I1 of shapes.c; the same in a pair). */
static void *keyed_element(struct decoder *d, struct sqs_list *list, size_t bytes_each,
                           struct slice key)
{
    char *items = list->items;
    for (uint32_t i = 0; i < list->count && i < MAP_KEYS_MAX; i++) {
        if (slice_equal(*(struct slice *)(void *)(items + i * bytes_each), key))
            return memset(items + i * bytes_each, 0, bytes_each);
    }
    void *element = list_add(d, list, bytes_each);
    list->count++;
    return element;
}

/* A map of texts (element: none) or of structs. A key whose value is null is as good as absent. */
static bool decode_map(struct decoder *d, enum sqs_shape element, struct sqs_list *out)
{
    bool pairs = element == SQS_SHAPE_none;
    size_t bytes = pairs ? sizeof(struct sqs_pair) : sqs_shapes[element].bytes;
    struct slice key;
    bool first = true;
    if (!list_begin(d, JSON_KIND_OBJECT, "a Map", out))
        return false;
    for (; json_read_member(&d->in, first, &key); first = false) {
        if (json_read_peek(&d->in) == JSON_KIND_NULL) {
            (void)json_read_skip(&d->in);
            continue;
        }
        void *item = keyed_element(d, out, bytes, key);
        if (pairs ? !decode_text(d, &((struct sqs_pair *)item)->value)
                  : !decode_shape(d, element, item))
            return false;
        *(struct slice *)item = key;
    }
    return list_end(d);
}

static bool decode_structs(struct decoder *d, enum sqs_shape element, struct sqs_list *out)
{
    if (!list_begin(d, JSON_KIND_ARRAY, "a List", out))
        return false;
    while (json_read_element(&d->in, out->count == 0)) {
        if (!decode_shape(d, element, list_add(d, out, sqs_shapes[element].bytes)))
            return false;
        out->count++;
    }
    return list_end(d);
}

static bool decode_member(struct decoder *d, const struct sqs_member *member, void *field)
{
    switch (member->kind) {
    case SQS_KIND_TEXT:
        return decode_text(d, field);
    case SQS_KIND_BLOB:
        return decode_blob(d, field);
    case SQS_KIND_NUMBER:
        return decode_number(d, field);
    case SQS_KIND_TEXTS:
        return decode_texts(d, field);
    case SQS_KIND_MAP:
    case SQS_KIND_TAGS:
        return decode_map(d, SQS_SHAPE_none, field);
    case SQS_KIND_STRUCTS:
        return decode_structs(d, member->element, field);
    case SQS_KIND_STRUCT_MAP:
        return decode_map(d, member->element, field);
    case SQS_KIND_KEY:
    case SQS_KIND_LONG:
    case SQS_KIND_BOOL:
        break;
    }
    return json_read_skip(&d->in);
}

static const struct sqs_member *find_member(enum sqs_shape shape, struct slice name)
{
    const struct sqs_shape_row *row = &sqs_shapes[shape];
    for (size_t i = 0; i < row->member_count; i++) {
        if (slice_is(name, row->members[i].json_name))
            return &row->members[i];
    }
    return NULL;
}

static bool decode_shape(struct decoder *d, enum sqs_shape shape, void *out)
{
    enum json_kind kind = json_read_peek(&d->in);
    struct slice name;
    if (kind != JSON_KIND_OBJECT)
        return refuse(d, kind, "a Structure");
    json_read_enter(&d->in);
    for (bool first = true; json_read_member(&d->in, first, &name); first = false) {
        const struct sqs_member *member = find_member(shape, name);
        bool wanted = member != NULL && json_read_peek(&d->in) != JSON_KIND_NULL;
        if (wanted ? !decode_member(d, member, sqs_field(member, out)) : !json_read_skip(&d->in))
            return false;
    }
    return d->in.fault == JSON_FINE;
}

/* What is not told yet is what is wrong with the document itself. */
static bool refuse_document(struct decoder *d)
{
    unsigned line;
    unsigned column;
    if (d->error->code != SQS_OK)
        return false;
    d->error->code = SQS_ERROR_SERIALIZATION;
    json_read_where(&d->in, &line, &column);
    d->error->message =
        d->in.fault == JSON_TOO_MANY
            ? "The request has too many values."
            : arena_printf(d->arena, "The request is not valid JSON at line %u, column %u.", line,
                           column);
    return false;
}

bool sqs_json_decode(struct slice body, enum sqs_shape shape, struct arena *arena, void *out,
                     struct sqs_error *error)
{
    if (body.length == 0)
        return true;
    uint8_t *copy = (uint8_t *)(uintptr_t)arena_copy(arena, body).data;
    struct decoder d = {json_reader_of(copy, body.length, SQS_JSON_TOKENS_MAX), arena, error};
    if (decode_shape(&d, shape, out) && json_read_end(&d.in))
        return true;
    return refuse_document(&d);
}
