/* SPDX-License-Identifier: Apache-2.0 */
/* Results as the XML of the Query protocol. Lists are flattened: each item is an element of the
 * member's name, directly in its parent. A map's item holds <Name> and <Value>, a tag's <Key> and
 * <Value>.
 *
 * A body must come back byte for byte, and XML readers turn CR and CRLF into LF, so CR is written
 * as a character reference. Control characters have no form in XML 1.0 at all; they cannot be in a
 * message, but may be in the part of a bad request that an error repeats: U+FFFD stands for them.
 */
#include "proto/sqs/codec.h"

#include "proto/base/encode.h"

#include <inttypes.h>

static const char *const escapes[256] = {
    ['&'] = "&amp;", ['<'] = "&lt;",  ['>'] = "&gt;",  ['"'] = "&quot;", ['\r'] = "&#13;",
    [0] = "\uFFFD",  [1] = "\uFFFD",  [2] = "\uFFFD",  [3] = "\uFFFD",   [4] = "\uFFFD",
    [5] = "\uFFFD",  [6] = "\uFFFD",  [7] = "\uFFFD",  [8] = "\uFFFD",   [11] = "\uFFFD",
    [12] = "\uFFFD", [14] = "\uFFFD", [15] = "\uFFFD", [16] = "\uFFFD",  [17] = "\uFFFD",
    [18] = "\uFFFD", [19] = "\uFFFD", [20] = "\uFFFD", [21] = "\uFFFD",  [22] = "\uFFFD",
    [23] = "\uFFFD", [24] = "\uFFFD", [25] = "\uFFFD", [26] = "\uFFFD",  [27] = "\uFFFD",
    [28] = "\uFFFD", [29] = "\uFFFD", [30] = "\uFFFD", [31] = "\uFFFD",
};

/* U+FFFE and U+FFFF, in UTF-8 EF BF BE and EF BF BF, are not characters of XML either. */
static bool non_character(struct slice text, size_t at)
{
    return text.length - at >= 3 && text.data[at] == 0xef && text.data[at + 1] == 0xbf &&
           text.data[at + 2] >= 0xbe;
}

void sqs_xml_write_text(struct buffer *out, struct slice text)
{
    size_t clean = 0;
    for (size_t i = 0; i < text.length; i++) {
        const char *escape = escapes[text.data[i]];
        size_t width = 1;
        if (text.data[i] == 0xef && non_character(text, i)) {
            escape = "\uFFFD";
            width = 3;
        }
        if (escape == NULL)
            continue;
        buffer_add(out, text.data + clean, i - clean);
        buffer_add_text(out, escape);
        i += width - 1;
        clean = i + 1;
    }
    if (clean < text.length)
        buffer_add(out, text.data + clean, text.length - clean);
}

static void open_tag(struct buffer *out, const char *name)
{
    buffer_add_byte(out, '<');
    buffer_add_text(out, name);
    buffer_add_byte(out, '>');
}

static void close_tag(struct buffer *out, const char *name)
{
    buffer_add_text(out, "</");
    buffer_add_text(out, name);
    buffer_add_byte(out, '>');
}

static void write_element(struct buffer *out, const char *name, struct slice text)
{
    open_tag(out, name);
    sqs_xml_write_text(out, text);
    close_tag(out, name);
}

static void write_texts(struct buffer *out, const char *name, const struct sqs_list *list)
{
    const struct slice *items = list->items;
    for (uint32_t i = 0; i < list->count; i++)
        write_element(out, name, items[i]);
}

static void write_map(struct buffer *out, const char *name, const struct sqs_list *list, bool tags)
{
    const struct sqs_pair *items = list->items;
    for (uint32_t i = 0; i < list->count; i++) {
        open_tag(out, name);
        write_element(out, tags ? "Key" : "Name", items[i].key);
        write_element(out, "Value", items[i].value);
        close_tag(out, name);
    }
}

static void write_elements(struct buffer *out, const struct sqs_member *member,
                           const struct sqs_list *list, bool keyed)
{
    const char *item = list->items;
    for (uint32_t i = 0; i < list->count; i++, item += sqs_shapes[member->element].bytes) {
        open_tag(out, member->query_name);
        if (keyed) {
            write_element(out, "Name", *(const struct slice *)(const void *)item);
            open_tag(out, "Value");
        }
        sqs_xml_write(out, member->element, item);
        if (keyed)
            close_tag(out, "Value");
        close_tag(out, member->query_name);
    }
}

static void write_blob(struct buffer *out, const char *name, struct slice bytes)
{
    open_tag(out, name);
    encode_base64(out, bytes);
    close_tag(out, name);
}

static void write_number(struct buffer *out, const char *name, int64_t value, bool given)
{
    if (given)
        buffer_printf(out, "<%s>%" PRId64 "</%s>", name, value, name);
}

static void write_member(struct buffer *out, const struct sqs_member *member, const void *field)
{
    const char *name = member->query_name;
    switch (member->kind) {
    case SQS_KIND_KEY:
        break;
    case SQS_KIND_TEXT:
        if (((const struct slice *)field)->data != NULL)
            write_element(out, name, *(const struct slice *)field);
        break;
    case SQS_KIND_BLOB:
        if (((const struct slice *)field)->data != NULL)
            write_blob(out, name, *(const struct slice *)field);
        break;
    case SQS_KIND_NUMBER:
        write_number(out, name, ((const struct sqs_number *)field)->value,
                     ((const struct sqs_number *)field)->given);
        break;
    case SQS_KIND_LONG:
        write_number(out, name, ((const struct sqs_long *)field)->value,
                     ((const struct sqs_long *)field)->given);
        break;
    case SQS_KIND_BOOL:
        write_element(out, name,
                      *(const bool *)field ? SLICE_LITERAL("true") : SLICE_LITERAL("false"));
        break;
    case SQS_KIND_TEXTS:
        write_texts(out, name, field);
        break;
    case SQS_KIND_MAP:
    case SQS_KIND_TAGS:
        write_map(out, name, field, member->kind == SQS_KIND_TAGS);
        break;
    case SQS_KIND_STRUCTS:
    case SQS_KIND_STRUCT_MAP:
        write_elements(out, member, field, member->kind == SQS_KIND_STRUCT_MAP);
        break;
    }
}

void sqs_xml_write(struct buffer *out, enum sqs_shape shape, const void *object)
{
    const struct sqs_shape_row *row = &sqs_shapes[shape];
    for (size_t i = 0; i < row->member_count; i++)
        write_member(out, &row->members[i], sqs_field(&row->members[i], object));
}
