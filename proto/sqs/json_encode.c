/* SPDX-License-Identifier: Apache-2.0 */
/* Results as JSON, straight from the structs into the answer's buffer. Absent members are left out,
 * and so are empty lists and maps: an empty receive answers {}, which SDKs check for. Only a list
 * that the result's shape requires is written empty. */
#include "proto/sqs/codec.h"

#include "proto/base/encode.h"
#include "proto/base/scan.h"

#include <inttypes.h>

/* What is copied as it is. */
static const struct scan_plain plain_text = {.low = 0x20, .high = 0xff, .but = {0x7f, '"', '\\'}};

static void write_escape(struct buffer *out, uint8_t c)
{
    static const char meanings[] = "\b\t\n\f\r\"\\";
    static const char codes[] = "btnfr\"\\";
    const char *known = c != 0 ? strchr(meanings, c) : NULL;
    if (known == NULL) {
        buffer_printf(out, "\\u%04x", c);
        return;
    }
    buffer_add_byte(out, '\\');
    buffer_add_byte(out, (uint8_t)codes[known - meanings]);
}

void sqs_json_write_text(struct buffer *out, struct slice text)
{
    buffer_add_byte(out, '"');
    while (text.length > 0) {
        size_t run = scan_run(plain_text, text);
        buffer_add(out, text.data, run);
        text = slice_sub(text, run);
        if (text.length == 0)
            break;
        write_escape(out, text.data[0]);
        text = slice_sub(text, 1);
    }
    buffer_add_byte(out, '"');
}

static void write_texts(struct buffer *out, const struct sqs_list *list)
{
    const struct slice *items = list->items;
    buffer_add_byte(out, '[');
    for (uint32_t i = 0; i < list->count; i++) {
        if (i > 0)
            buffer_add_byte(out, ',');
        sqs_json_write_text(out, items[i]);
    }
    buffer_add_byte(out, ']');
}

static void write_map(struct buffer *out, const struct sqs_list *list)
{
    const struct sqs_pair *items = list->items;
    buffer_add_byte(out, '{');
    for (uint32_t i = 0; i < list->count; i++) {
        if (i > 0)
            buffer_add_byte(out, ',');
        sqs_json_write_text(out, items[i].key);
        buffer_add_byte(out, ':');
        sqs_json_write_text(out, items[i].value);
    }
    buffer_add_byte(out, '}');
}

static void write_elements(struct buffer *out, enum sqs_shape element, const struct sqs_list *list,
                           bool keyed)
{
    const char *item = list->items;
    buffer_add_byte(out, keyed ? '{' : '[');
    for (uint32_t i = 0; i < list->count; i++, item += sqs_shapes[element].bytes) {
        if (i > 0)
            buffer_add_byte(out, ',');
        if (keyed) {
            sqs_json_write_text(out, *(const struct slice *)(const void *)item);
            buffer_add_byte(out, ':');
        }
        sqs_json_write(out, element, item);
    }
    buffer_add_byte(out, keyed ? '}' : ']');
}

/* to_be_written: what was given; of a result's lists those that are required or not empty. */
static bool to_be_written(const struct sqs_member *member, const void *object)
{
    switch (member->kind) {
    case SQS_KIND_KEY:
        return false;
    case SQS_KIND_TEXTS:
    case SQS_KIND_MAP:
    case SQS_KIND_TAGS:
    case SQS_KIND_STRUCTS:
    case SQS_KIND_STRUCT_MAP:
        return member->required || ((const struct sqs_list *)sqs_field(member, object))->count > 0;
    default:
        return sqs_given(member, object);
    }
}

static void write_value(struct buffer *out, const struct sqs_member *member, const void *field)
{
    switch (member->kind) {
    case SQS_KIND_KEY:
    case SQS_KIND_TEXT:
        sqs_json_write_text(out, *(const struct slice *)field);
        break;
    case SQS_KIND_BLOB:
        buffer_add_byte(out, '"');
        encode_base64(out, *(const struct slice *)field);
        buffer_add_byte(out, '"');
        break;
    case SQS_KIND_NUMBER:
        buffer_printf(out, "%d", ((const struct sqs_number *)field)->value);
        break;
    case SQS_KIND_LONG:
        buffer_printf(out, "%" PRId64, ((const struct sqs_long *)field)->value);
        break;
    case SQS_KIND_BOOL:
        buffer_add_text(out, *(const bool *)field ? "true" : "false");
        break;
    case SQS_KIND_TEXTS:
        write_texts(out, field);
        break;
    case SQS_KIND_MAP:
    case SQS_KIND_TAGS:
        write_map(out, field);
        break;
    case SQS_KIND_STRUCTS:
        write_elements(out, member->element, field, false);
        break;
    case SQS_KIND_STRUCT_MAP:
        write_elements(out, member->element, field, true);
        break;
    }
}

void sqs_json_write(struct buffer *out, enum sqs_shape shape, const void *object)
{
    const struct sqs_shape_row *row = &sqs_shapes[shape];
    bool first = true;
    buffer_add_byte(out, '{');
    for (size_t i = 0; i < row->member_count; i++) {
        const struct sqs_member *member = &row->members[i];
        const void *field = sqs_field(member, object);
        if (!to_be_written(member, object))
            continue;
        buffer_add_text(out, first ? "\"" : ",\"");
        buffer_add_text(out, member->json_name);
        buffer_add_text(out, "\":");
        write_value(out, member, field);
        first = false;
    }
    buffer_add_byte(out, '}');
}
