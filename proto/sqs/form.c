/* SPDX-License-Identifier: Apache-2.0 */
/* The Query protocol's requests into structs. A form is flat; structure is in the names:
 *     Attribute.1.Name=VisibilityTimeout & Attribute.1.Value=30
 *     SendMessageBatchRequestEntry.2.MessageAttribute.1.Value.StringValue=x
 * The pairs are sorted by name once, so that every member is one binary search, and the indices
 * below a prefix are one contiguous range. Indices may have gaps and come in any order; they are
 * taken in the order of their numbers.
 *
 * Names and values must be well-formed UTF-8 (binary values are base64 in this protocol too): then
 * no answer that repeats a part of them can be malformed. */
#include "proto/sqs/codec.h"

#include "proto/base/assert.h"
#include "proto/base/encode.h"

#include <stdio.h>
#include <stdlib.h>

#define NAME_BYTES_MAX 512
#define INDEX_MAX      1000000000u

struct reader {
    const struct sqs_form *form;
    struct arena *arena;
    struct sqs_error *error;
};

/* A name under construction, such as "Entry.2.Attribute.1"; longer than any that a shape asks for.
 */
struct prefix {
    char text[NAME_BYTES_MAX];
    size_t length;
};

static bool decode_shape(struct reader *r, enum sqs_shape shape, const struct prefix *prefix,
                         void *out);

static int compare_slices(struct slice a, struct slice b)
{
    size_t shared = a.length < b.length ? a.length : b.length;
    int order = shared > 0 ? memcmp(a.data, b.data, shared) : 0;
    if (order != 0)
        return order;
    return a.length < b.length ? -1 : a.length > b.length;
}

/* Sorted by name; of equal names the one that was sent first stands first, because the decoded
 * copies of one request are compared by `order`. */
struct sortable {
    struct sqs_pair pair;
    size_t order;
};

static int compare_sortables(const void *a, const void *b)
{
    const struct sortable *left = a;
    const struct sortable *right = b;
    int order = compare_slices(left->pair.key, right->pair.key);
    if (order != 0)
        return order;
    return left->order < right->order ? -1 : left->order > right->order;
}

static bool malformed(struct sqs_error *error, const char *why)
{
    *error = (struct sqs_error){SQS_ERROR_MALFORMED_QUERY, why};
    return false;
}

static bool decode_part(struct slice in, struct arena *arena, struct buffer *scratch,
                        struct slice *out)
{
    buffer_clear(scratch);
    if (decode_percent(scratch, in, true) != STATUS_OK || !utf8_valid(buffer_slice(scratch)))
        return false;
    *out = arena_copy(arena, buffer_slice(scratch));
    return true;
}

static size_t count_pairs(struct slice text)
{
    size_t count = text.length > 0;
    for (size_t i = 0; i < text.length; i++)
        count += text.data[i] == '&';
    return count;
}

static bool parse_pairs(struct slice text, struct arena *arena, struct buffer *scratch,
                        struct sortable *into, size_t *count)
{
    while (text.length > 0) {
        ptrdiff_t end = slice_find(text, '&');
        struct slice part = slice_make(text.data, end >= 0 ? (size_t)end : text.length);
        text = end >= 0 ? slice_sub(text, (size_t)end + 1) : (struct slice){0};
        if (part.length == 0)
            continue;
        ptrdiff_t equals = slice_find(part, '=');
        struct slice name = slice_make(part.data, equals >= 0 ? (size_t)equals : part.length);
        struct slice value = slice_sub(part, equals >= 0 ? (size_t)equals + 1 : part.length);
        struct sortable *item = &into[*count];
        item->order = *count;
        if (!decode_part(name, arena, scratch, &item->pair.key) ||
            !decode_part(value, arena, scratch, &item->pair.value))
            return false;
        (*count)++;
    }
    return true;
}

bool sqs_form_parse(struct slice query, struct slice body, struct arena *arena,
                    struct sqs_form *out, struct sqs_error *error)
{
    size_t most = count_pairs(query) + count_pairs(body);
    if (most > SQS_FORM_PAIRS_MAX)
        return malformed(error, "The request has too many parameters.");
    struct sortable *items = arena_alloc(arena, most * sizeof *items);
    struct buffer scratch = {0};
    size_t count = 0;
    bool ok = parse_pairs(query, arena, &scratch, items, &count) &&
              parse_pairs(body, arena, &scratch, items, &count);
    buffer_free(&scratch);
    if (!ok)
        return malformed(error, "A parameter is not valid percent-encoded UTF-8.");
    qsort(items, count, sizeof *items, compare_sortables);
    *out = (struct sqs_form){arena_alloc(arena, count * sizeof *out->pairs), count};
    for (size_t i = 0; i < count; i++)
        out->pairs[i] = items[i].pair;
    return true;
}

/* The index of the first pair whose name is not below `name`. */
static size_t lower_bound(const struct sqs_form *form, struct slice name)
{
    size_t low = 0;
    size_t high = form->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_slices(form->pairs[middle].key, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct slice find(const struct sqs_form *form, struct slice name)
{
    size_t at = lower_bound(form, name);
    if (at < form->count && slice_equal(form->pairs[at].key, name))
        return form->pairs[at].value;
    return (struct slice){0};
}

struct slice sqs_form_get(const struct sqs_form *form, const char *name)
{
    return find(form, slice_of(name));
}

static struct slice prefix_slice(const struct prefix *prefix)
{
    return slice_make(prefix->text, prefix->length);
}

/* `base` and `name` joined by a dot; names come from the tables and numbers, so they fit. */
static void prefix_join(struct prefix *out, const struct prefix *base, const char *name)
{
    size_t dotted = base->length + (base->length > 0);
    size_t length = strlen(name);
    ASSERT(dotted + length > 0);
    ASSERT(dotted + length <= sizeof out->text);
    memcpy(out->text, base->text, base->length);
    if (dotted > 0)
        out->text[dotted - 1] = '.';
    memcpy(out->text + dotted, name, length);
    out->length = dotted + length;
}

static bool starts_with(struct slice text, struct slice prefix)
{
    return text.length >= prefix.length && memcmp(text.data, prefix.data, prefix.length) == 0;
}

static int compare_numbers(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    return left < right ? -1 : left > right;
}

/* The number that `text` begins with, followed by its end or a dot; 0 if it does not. */
static uint32_t leading_index(struct slice text)
{
    uint32_t number = 0;
    size_t i = 0;
    for (; i < text.length && text.data[i] >= '0' && text.data[i] <= '9'; i++) {
        number = number * 10 + (uint32_t)(text.data[i] - '0');
        if (number > INDEX_MAX / 10)
            return 0;
    }
    return i > 0 && text.data[0] != '0' && (i == text.length || text.data[i] == '.') ? number : 0;
}

/* The distinct indices N of names "PREFIX.N" and "PREFIX.N.…", ascending. */
static uint32_t *indices(struct reader *r, const struct prefix *prefix, uint32_t *count)
{
    struct prefix dotted;
    prefix_join(&dotted, prefix, "");
    size_t begin = lower_bound(r->form, prefix_slice(&dotted));
    size_t end = begin;
    while (end < r->form->count && starts_with(r->form->pairs[end].key, prefix_slice(&dotted)))
        end++;
    uint32_t *found = arena_alloc(r->arena, (end - begin) * sizeof *found);
    uint32_t total = 0;
    for (size_t i = begin; i < end; i++) {
        uint32_t index = leading_index(slice_sub(r->form->pairs[i].key, dotted.length));
        if (index != 0)
            found[total++] = index;
    }
    qsort(found, total, sizeof *found, compare_numbers);
    *count = 0;
    for (uint32_t i = 0; i < total; i++) {
        if (i == 0 || found[i] != found[i - 1])
            found[(*count)++] = found[i];
    }
    return found;
}

static bool decode_number(struct reader *r, const struct sqs_member *member, struct slice text,
                          struct sqs_number *out)
{
    char digits[16];
    char *end = NULL;
    long number = 0;
    bool ok = text.length > 0 && text.length < sizeof digits &&
              (text.data[0] == '-' || (text.data[0] >= '0' && text.data[0] <= '9'));
    if (ok) {
        memcpy(digits, text.data, text.length);
        digits[text.length] = 0;
        number = strtol(digits, &end, 10);
        ok = *end == 0 && end == digits + text.length && number >= INT32_MIN && number <= INT32_MAX;
    }
    if (!ok) {
        int shown = text.length > 100 ? 0 : (int)text.length;
        r->error->code = SQS_ERROR_INVALID_PARAMETER;
        r->error->message = arena_printf(
            r->arena, "Value %.*s for parameter %s is invalid. Reason: Must be an integer.", shown,
            (const char *)text.data, member->query_name);
        return false;
    }
    *out = (struct sqs_number){(int32_t)number, true};
    return true;
}

static bool decode_blob(struct reader *r, const struct sqs_member *member, struct slice text,
                        struct slice *out)
{
    struct buffer bytes = {0};
    if (text.length > 0 && decode_base64(&bytes, text) != STATUS_OK) {
        buffer_free(&bytes);
        r->error->code = SQS_ERROR_INVALID_PARAMETER;
        r->error->message = arena_printf(r->arena, "The value of parameter %s is not valid base64.",
                                         member->query_name);
        return false;
    }
    *out = arena_copy(r->arena, buffer_slice(&bytes));
    buffer_free(&bytes);
    return true;
}

static void decode_texts(struct reader *r, const struct prefix *prefix, struct sqs_list *out)
{
    uint32_t count;
    const uint32_t *found = indices(r, prefix, &count);
    struct slice *items = arena_alloc(r->arena, count * sizeof *items);
    *out = (struct sqs_list){items, 0, count > 0};
    for (uint32_t i = 0; i < count; i++) {
        struct prefix name;
        char number[16];
        snprintf(number, sizeof number, "%u", found[i]);
        prefix_join(&name, prefix, number);
        items[out->count] = find(r->form, prefix_slice(&name));
        out->count += items[out->count].data != NULL;
    }
}

static void decode_map(struct reader *r, const struct prefix *prefix, bool tags,
                       struct sqs_list *out)
{
    uint32_t count;
    const uint32_t *found = indices(r, prefix, &count);
    struct sqs_pair *items = arena_alloc(r->arena, count * sizeof *items);
    *out = (struct sqs_list){items, 0, count > 0};
    for (uint32_t i = 0; i < count; i++) {
        struct prefix name;
        char tail[32];
        snprintf(tail, sizeof tail, "%u.%s", found[i], tags ? "Key" : "Name");
        prefix_join(&name, prefix, tail);
        struct slice key = find(r->form, prefix_slice(&name));
        snprintf(tail, sizeof tail, "%u.Value", found[i]);
        prefix_join(&name, prefix, tail);
        struct slice value = find(r->form, prefix_slice(&name));
        if (key.data != NULL)
            items[out->count++] =
                (struct sqs_pair){key, value.data != NULL ? value : SLICE_LITERAL("")};
    }
}

/* `value` is what stands between an element's number and its members: "" or ".Value". */
static bool decode_elements(struct reader *r, const struct sqs_member *member,
                            const struct prefix *prefix, const char *value, struct sqs_list *out)
{
    uint32_t count;
    const uint32_t *found = indices(r, prefix, &count);
    size_t bytes = sqs_shapes[member->element].bytes;
    char *items = arena_alloc(r->arena, count * bytes);
    *out = (struct sqs_list){items, count, count > 0};
    for (uint32_t i = 0; i < count; i++) {
        struct prefix name;
        char tail[32];
        if (value[0] != 0) {
            snprintf(tail, sizeof tail, "%u.Name", found[i]);
            prefix_join(&name, prefix, tail);
            struct slice key = find(r->form, prefix_slice(&name));
            *(struct slice *)(void *)(items + i * bytes) = key.data ? key : SLICE_LITERAL("");
        }
        snprintf(tail, sizeof tail, "%u%s", found[i], value);
        prefix_join(&name, prefix, tail);
        if (!decode_shape(r, member->element, &name, items + i * bytes))
            return false;
    }
    return true;
}

static bool decode_scalar(struct reader *r, const struct sqs_member *member, struct slice value,
                          void *field)
{
    if (value.data == NULL)
        return true;
    if (member->kind == SQS_KIND_NUMBER)
        return decode_number(r, member, value, field);
    if (member->kind == SQS_KIND_BLOB)
        return decode_blob(r, member, value, field);
    *(struct slice *)field = value;
    return true;
}

static bool decode_member(struct reader *r, const struct sqs_member *member,
                          const struct prefix *name, void *field)
{
    switch (member->kind) {
    case SQS_KIND_TEXT:
    case SQS_KIND_BLOB:
    case SQS_KIND_NUMBER:
        return decode_scalar(r, member, find(r->form, prefix_slice(name)), field);
    case SQS_KIND_TEXTS:
        decode_texts(r, name, field);
        return true;
    case SQS_KIND_MAP:
    case SQS_KIND_TAGS:
        decode_map(r, name, member->kind == SQS_KIND_TAGS, field);
        return true;
    case SQS_KIND_STRUCTS:
        return decode_elements(r, member, name, "", field);
    case SQS_KIND_STRUCT_MAP:
        return decode_elements(r, member, name, ".Value", field);
    case SQS_KIND_KEY:
    case SQS_KIND_LONG:
    case SQS_KIND_BOOL:
        break;
    }
    return true;
}

static bool decode_shape(struct reader *r, enum sqs_shape shape, const struct prefix *prefix,
                         void *out)
{
    const struct sqs_shape_row *row = &sqs_shapes[shape];
    for (size_t i = 0; i < row->member_count; i++) {
        struct prefix name;
        prefix_join(&name, prefix, row->members[i].query_name);
        if (!decode_member(r, &row->members[i], &name, sqs_field(&row->members[i], out)))
            return false;
    }
    return true;
}

bool sqs_form_decode(const struct sqs_form *form, enum sqs_shape shape, struct arena *arena,
                     void *out, struct sqs_error *error)
{
    struct reader reader = {form, arena, error};
    struct prefix root = {.length = 0};
    return decode_shape(&reader, shape, &root, out);
}
