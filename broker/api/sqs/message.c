/* SPDX-License-Identifier: Apache-2.0 */
/* The rules for a message, in the order in which SQS complains: body there, size, characters,
 * attributes, system attributes, delay, ids. Each refusal has SQS's own sentence, because clients
 * and their tests compare it.
 *
 * MessageGroupId is legal on standard queues (fair queues), where it only influences the order
 * between tenants; a FIFO queue needs it. MessageDeduplicationId is for FIFO queues only; with
 * content-based deduplication the SHA-256 of the body stands for one that is not given. What a FIFO
 * queue needs is checked by outgoing_check_ids, because a batch in which one entry lacks it is
 * refused as a whole. */
#include "broker/api/sqs/message.h"

#include "proto/base/assert.h"
#include "proto/base/scan.h"

#include <stdlib.h>

#define DELAY_MAX_S              900
#define ATTRIBUTE_NAME_BYTES_MAX 256
#define ATTRIBUTE_TYPE_BYTES_MAX 256
#define NUMBER_BYTES_MAX         128
#define TRACE_HEADER             "AWSTraceHeader"
#define TRACE_HEADER_BYTES_MAX   1024 /* has its own limit: it does not count as size */

struct check {
    struct sqs_call *call;
    struct sqs_error *error;
};

#define REFUSE(c, code, ...)                                                                       \
    do {                                                                                           \
        *(c)->error = sqs_error_make((c)->call, code, __VA_ARGS__);                                \
        return false;                                                                              \
    } while (0)

uint64_t outgoing_bytes(const struct outgoing *out)
{
    uint64_t bytes = out->body.length;
    const struct sqs_message_attribute *items = out->attributes->items;
    for (uint32_t i = 0; i < out->attributes->count; i++)
        bytes += items[i].name.length + items[i].data_type.length + items[i].string_value.length +
                 items[i].binary_value.length;
    return bytes;
}

/* Neither a control character nor 0xef, with which the code points that are not allowed begin. */
static const struct scan_plain plain_text = {.low = 0x20, .high = 0xff, .but = {0xef, 0xef, 0xef}};

/* #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF, in well-formed UTF-8.
 */
static bool characters_legal(struct slice text)
{
    for (size_t i = 0;; i++) {
        i += scan_run(plain_text, slice_sub(text, i));
        if (i == text.length)
            return true;
        uint8_t c = text.data[i];
        if (c < 0x20 && c != 0x09 && c != 0x0a && c != 0x0d)
            return false;
        if (c == 0xef && text.length - i >= 3 && text.data[i + 1] == 0xbf &&
            text.data[i + 2] >= 0xbe)
            return false;
    }
}

/* The letters U+00C0 to U+017F, in UTF-8 C3 80 to C5 BF, which AWS takes without saying so. */
static bool accented_letter(struct slice name, size_t at)
{
    return name.data[at] >= 0xc3 && name.data[at] <= 0xc5 && at + 1 < name.length;
}

static bool name_characters_legal(struct slice name)
{
    for (size_t i = 0; i < name.length; i++) {
        uint8_t c = name.data[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '_' || c == '-' || c == '.';
        if (!good && !accented_letter(name, i))
            return false;
        i += !good;
    }
    return name.length > 0;
}

static bool starts_with_nocase(struct slice text, const char *prefix)
{
    return text.length >= strlen(prefix) &&
           slice_is_nocase(slice_make(text.data, strlen(prefix)), prefix);
}

static bool check_name(struct check *c, struct slice name)
{
    if (name.length > ATTRIBUTE_NAME_BYTES_MAX)
        REFUSE(c, SQS_ERROR_INVALID_PARAMETER,
               "Length of message attribute name must be less than 256 bytes.");
    if (starts_with_nocase(name, "AWS.") || starts_with_nocase(name, "Amazon."))
        REFUSE(c, SQS_ERROR_INVALID_PARAMETER,
               "You can't use message attribute names beginning with 'AWS.' or 'Amazon.'. These "
               "strings are reserved for internal use.");
    bool dots = name.length > 0 && (name.data[0] == '.' || name.data[name.length - 1] == '.' ||
                                    memmem(name.data, name.length, "..", 2) != NULL);
    if (dots || !name_characters_legal(name))
        REFUSE(c, SQS_ERROR_INVALID_PARAMETER,
               "The message attribute name '%s' is invalid. Attribute name can contain A-Z, a-z, "
               "0-9, underscore (_), hyphen (-), and period (.) characters.",
               sqs_quote(c->call, name));
    return true;
}

/* "String", or "String." and anything. */
static bool type_is(struct slice type, const char *base)
{
    size_t length = strlen(base);
    return slice_starts_with(type, base) && (type.length == length || type.data[length] == '.');
}

static bool check_type(struct check *c, struct slice name, struct slice type)
{
    if (type.length == 0)
        REFUSE(c, SQS_ERROR_INVALID_PARAMETER,
               "The message attribute '%s' must contain non-empty message attribute type.",
               sqs_quote(c->call, name));
    if (type.length > ATTRIBUTE_TYPE_BYTES_MAX || !characters_legal(type) ||
        (!type_is(type, "String") && !type_is(type, "Number") && !type_is(type, "Binary")))
        REFUSE(c, SQS_ERROR_INVALID_PARAMETER,
               "The message attribute '%s' has an invalid message attribute type, the set of "
               "supported type prefixes is Binary, Number, and String.",
               sqs_quote(c->call, name));
    return true;
}

static bool is_number(struct slice text)
{
    char digits[NUMBER_BYTES_MAX + 1];
    if (text.length == 0 || text.length > NUMBER_BYTES_MAX)
        return false;
    /* strtod takes more than a number: hexadecimal, "nan", "infinity", leading spaces. */
    for (size_t i = 0; i < text.length; i++) {
        if (strchr("0123456789+-.eE", text.data[i]) == NULL || text.data[i] == 0)
            return false;
    }
    memcpy(digits, text.data, text.length);
    digits[text.length] = 0;
    char *end;
    (void)strtod(digits, &end);
    return end == digits + text.length;
}

static bool check_value(struct check *c, const struct sqs_message_attribute *attribute)
{
    bool binary = type_is(attribute->data_type, "Binary");
    bool number = type_is(attribute->data_type, "Number");
    const char *name = sqs_quote(c->call, attribute->name);
    struct slice value = binary ? attribute->binary_value : attribute->string_value;
    struct slice other = binary ? attribute->string_value : attribute->binary_value;
    if (attribute->string_list.count > 0 || attribute->binary_list.count > 0)
        REFUSE(c, SQS_ERROR_UNSUPPORTED,
               "Message attribute list values in SendMessage operation are not supported.");
    if (value.length == 0)
        REFUSE(c, SQS_ERROR_INVALID_PARAMETER,
               "Message (user) attribute '%s' must contain a non-empty value of type '%s'.", name,
               binary ? "Binary" : "String");
    if (other.length > 0)
        REFUSE(c, SQS_ERROR_INVALID_PARAMETER, "Message (user) attribute '%s' has multiple values.",
               name);
    if (!binary && !characters_legal(value)) {
        *c->error = (struct sqs_error){SQS_ERROR_INVALID_CONTENTS, NULL};
        return false;
    }
    if (number && !is_number(value))
        REFUSE(c, SQS_ERROR_INVALID_PARAMETER,
               "Can't cast the value of message (user) attribute '%s' to a number.", name);
    return true;
}

static bool name_taken(const struct record *record, struct slice name)
{
    for (uint32_t i = 0; i < record->attribute_count; i++) {
        if (slice_equal(record->attributes[i].name, name))
            return true;
    }
    return false;
}

static bool take_attribute(struct check *c, const struct sqs_message_attribute *attribute,
                           struct record *record)
{
    if (!check_name(c, attribute->name) || !check_type(c, attribute->name, attribute->data_type) ||
        !check_value(c, attribute))
        return false;
    if (name_taken(record, attribute->name))
        REFUSE(c, SQS_ERROR_INVALID_PARAMETER, "Message (user) attribute '%s' is given twice.",
               sqs_quote(c->call, attribute->name));
    bool binary = type_is(attribute->data_type, "Binary");
    record->attributes[record->attribute_count++] = (struct record_attribute){
        .name = attribute->name,
        .type = attribute->data_type,
        .kind = binary ? RECORD_BINARY : RECORD_STRING,
        .value = binary ? attribute->binary_value : attribute->string_value,
    };
    return true;
}

static bool take_attributes(struct check *c, const struct sqs_list *list, struct record *record)
{
    const struct sqs_message_attribute *items = list->items;
    if (list->count > RECORD_ATTRIBUTES_MAX)
        REFUSE(c, SQS_ERROR_INVALID_PARAMETER,
               "Number of message attributes [%u] exceeds the allowed maximum [10].", list->count);
    for (uint32_t i = 0; i < list->count; i++) {
        if (!take_attribute(c, &items[i], record))
            return false;
    }
    return true;
}

static bool take_system_attributes(struct check *c, const struct sqs_list *list,
                                   struct record *record)
{
    const struct sqs_message_attribute *items = list->items;
    for (uint32_t i = 0; i < list->count; i++) {
        if (!slice_is(items[i].name, TRACE_HEADER))
            REFUSE(c, SQS_ERROR_INVALID_PARAMETER, "Message system attribute name '%s' is invalid.",
                   sqs_quote(c->call, items[i].name));
        if (!slice_is(items[i].data_type, "String") || items[i].string_value.length == 0)
            REFUSE(c, SQS_ERROR_INVALID_PARAMETER,
                   "Message (system) attribute '" TRACE_HEADER
                   "' must contain a non-empty value of type 'String'.");
        if (items[i].string_value.length > TRACE_HEADER_BYTES_MAX)
            REFUSE(c, SQS_ERROR_INVALID_PARAMETER,
                   "Message (system) attribute '" TRACE_HEADER "' must be shorter than %d bytes.",
                   TRACE_HEADER_BYTES_MAX);
        if (!characters_legal(items[i].string_value)) {
            *c->error = (struct sqs_error){SQS_ERROR_INVALID_CONTENTS, NULL};
            return false;
        }
        record->trace_header = items[i].string_value;
    }
    return true;
}

bool sqs_fifo_id_legal(struct slice id)
{
    for (size_t i = 0; i < id.length; i++) {
        if (id.data[i] <= 0x20 || id.data[i] >= 0x7f)
            return false;
    }
    return id.length > 0 && id.length <= RECORD_ID_BYTES_MAX;
}

static bool check_id(struct check *c, struct slice id, const char *name)
{
    if (id.data != NULL && !sqs_fifo_id_legal(id))
        REFUSE(c, SQS_ERROR_INVALID_PARAMETER,
               "Value %s for parameter %s is invalid. Reason: %s can only include alphanumeric and "
               "punctuation characters. 1 to 128 in length.",
               sqs_quote(c->call, id), name, name);
    return true;
}

static bool check_rest(struct check *c, const struct outgoing *out)
{
    if (out->delay_s.given && (out->delay_s.value < 0 || out->delay_s.value > DELAY_MAX_S))
        REFUSE(c, SQS_ERROR_INVALID_PARAMETER,
               "Value %d for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 "
               "and <= 900.",
               out->delay_s.value);
    return check_id(c, out->group_id, "MessageGroupId") &&
           check_id(c, out->deduplication_id, "MessageDeduplicationId");
}

static bool check_standard(struct check *c, const struct outgoing *out)
{
    if (out->deduplication_id.data != NULL)
        REFUSE(c, SQS_ERROR_INVALID_PARAMETER,
               "Value %s for parameter MessageDeduplicationId is invalid. Reason: The request "
               "include parameter that is not valid for this queue type.",
               sqs_quote(c->call, out->deduplication_id));
    return true;
}

/* A delay belongs to the whole FIFO queue; 0 asks for nothing else. */
static bool check_fifo(struct check *c, const struct outgoing *out)
{
    if (out->delay_s.given && out->delay_s.value != 0)
        REFUSE(c, SQS_ERROR_INVALID_PARAMETER,
               "Value %d for parameter DelaySeconds is invalid. Reason: The request include "
               "parameter that is not valid for this queue type.",
               out->delay_s.value);
    return true;
}

static struct slice content_id(struct sqs_call *call, struct slice body)
{
    uint8_t sha256[SHA256_BYTES];
    digest_sha256(body, sha256);
    return sqs_hex(call, sha256, sizeof sha256);
}

bool outgoing_check_ids(struct sqs_call *call, const struct outgoing *out,
                        const struct queue_settings *settings, enum sqs_error_code absent,
                        struct sqs_error *error)
{
    struct check check = {call, error};
    struct check *c = &check;
    if (out->group_id.data == NULL)
        REFUSE(c, absent, "The request must contain the parameter MessageGroupId.");
    if (out->deduplication_id.data == NULL && !settings->content_based_dedup)
        REFUSE(c, SQS_ERROR_INVALID_PARAMETER,
               "The queue should either have ContentBasedDeduplication enabled or "
               "MessageDeduplicationId provided explicitly");
    return true;
}

bool outgoing_check(struct sqs_call *call, const struct outgoing *out,
                    const struct queue_settings *settings, struct record *record,
                    struct sqs_error *error)
{
    struct check check = {call, error};
    struct check *c = &check;
    *record = (struct record){.sender_id = call->sender_id,
                              .group_id = out->group_id,
                              .dedup_id = out->deduplication_id,
                              .body = out->body};
    if (out->body.length == 0)
        REFUSE(c, SQS_ERROR_MISSING_PARAMETER,
               "The request must contain the parameter MessageBody.");
    if (outgoing_bytes(out) > settings->message_bytes_max)
        REFUSE(c, SQS_ERROR_INVALID_PARAMETER,
               "One or more parameters %s. Reason: Message must be shorter than %u bytes.",
               out->in_batch ? "cannot be validated" : "are invalid", settings->message_bytes_max);
    if (!characters_legal(out->body)) {
        *error = (struct sqs_error){SQS_ERROR_INVALID_CONTENTS, NULL};
        return false;
    }
    if (!take_attributes(c, out->attributes, record) ||
        !take_system_attributes(c, out->system_attributes, record) || !check_rest(c, out))
        return false;
    if (!settings->fifo)
        return check_standard(c, out);
    if (record->dedup_id.data == NULL && settings->content_based_dedup)
        record->dedup_id = content_id(call, out->body);
    return check_fifo(c, out);
}
