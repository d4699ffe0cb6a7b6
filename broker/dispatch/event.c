/* SPDX-License-Identifier: Apache-2.0 */
/* The SQS event, field by field as AWS documents it ("Using Lambda with Amazon SQS", example
 * event).
 *
 * It is written straight into the payload buffer rather than built as a tree: a batch may be 6 MiB
 * and most of it is bodies that only need escaping. Timestamps and counts are strings, as AWS has
 * them; md5OfMessageAttributes is there only when attributes are.
 */
#include "broker/dispatch/event.h"

#include "broker/dispatch/receipt.h"

#include <inttypes.h>

static const char event_open[] = "{\"Records\":[";
static const char event_close[] = "]}";

/* How a byte is written inside a JSON string: NULL means as it is. */
static const char *const json_escapes[256] = {
    ['"'] = "\\\"",     ['\\'] = "\\\\",    ['\n'] = "\\n",     ['\r'] = "\\r",
    ['\t'] = "\\t",     ['\b'] = "\\b",     ['\f'] = "\\f",     [0x00] = "\\u0000",
    [1] = "\\u0001",    [2] = "\\u0002",    [3] = "\\u0003",    [4] = "\\u0004",
    [5] = "\\u0005",    [6] = "\\u0006",    [7] = "\\u0007",    [0x0b] = "\\u000b",
    [0x0e] = "\\u000e", [0x0f] = "\\u000f", [0x10] = "\\u0010", [0x11] = "\\u0011",
    [0x12] = "\\u0012", [0x13] = "\\u0013", [0x14] = "\\u0014", [0x15] = "\\u0015",
    [0x16] = "\\u0016", [0x17] = "\\u0017", [0x18] = "\\u0018", [0x19] = "\\u0019",
    [0x1a] = "\\u001a", [0x1b] = "\\u001b", [0x1c] = "\\u001c", [0x1d] = "\\u001d",
    [0x1e] = "\\u001e", [0x1f] = "\\u001f",
};

void json_text(struct buffer *out, struct slice text)
{
    bool utf8 = utf8_valid(text);
    size_t plain = 0; /* where the run of unescaped bytes began */
    buffer_add_byte(out, '"');
    for (size_t i = 0; i < text.length; i++) {
        uint8_t byte = text.data[i];
        const char *escape = !utf8 && byte >= 0x80 ? "\\ufffd" : json_escapes[byte];
        if (escape == NULL)
            continue;
        buffer_add(out, text.data + plain, i - plain);
        buffer_add_text(out, escape);
        plain = i + 1;
    }
    if (plain < text.length)
        buffer_add(out, text.data + plain, text.length - plain);
    buffer_add_byte(out, '"');
}

static void event_add_hex(struct buffer *out, const char *key, const uint8_t md5[MD5_BYTES])
{
    buffer_printf(out, "\"%s\":\"", key);
    encode_hex(out, slice_make(md5, MD5_BYTES));
    buffer_add_text(out, "\",");
}

static void event_add_system_text(struct buffer *out, const char *name, struct slice value)
{
    if (value.length == 0)
        return;
    buffer_printf(out, ",\"%s\":", name);
    json_text(out, value);
}

static void event_add_system_attributes(struct buffer *out, const struct event_source *source,
                                        const struct core_message *message,
                                        const struct record *record, const char *id,
                                        const char *origin_arn)
{
    buffer_printf(out,
                  "\"attributes\":{\"ApproximateReceiveCount\":\"%" PRIu64
                  "\",\"SentTimestamp\":\"%" PRIu64 "\"",
                  (uint64_t)message->received_before + message->receive_count, message->sent_ms);
    if (source->fifo)
        buffer_printf(out, ",\"SequenceNumber\":\"%020" PRIu64 "\"", message->seq);
    event_add_system_text(out, "MessageGroupId", record->group_id);
    event_add_system_text(out, "SenderId", record->sender_id);
    bool redriven = source->fifo && message->source_queue_id != 0; /* as a receive shows it */
    event_add_system_text(out, "MessageDeduplicationId",
                          redriven ? slice_of(id) : record->dedup_id);
    buffer_printf(out, ",\"ApproximateFirstReceiveTimestamp\":\"%" PRIu64 "\"",
                  message->first_receive_ms);
    event_add_system_text(out, "AWSTraceHeader", record->trace_header);
    event_add_system_text(out, "DeadLetterQueueSourceArn", slice_of(origin_arn));
    buffer_add_text(out, "},");
}

static void event_add_attribute(struct buffer *out, const struct record_attribute *attribute)
{
    json_text(out, attribute->name);
    if (attribute->kind == RECORD_BINARY) {
        buffer_add_text(out, ":{\"binaryValue\":\"");
        encode_base64(out, attribute->value);
        buffer_add_byte(out, '"');
    } else {
        buffer_add_text(out, ":{\"stringValue\":");
        json_text(out, attribute->value);
    }
    buffer_add_text(out, ",\"stringListValues\":[],\"binaryListValues\":[],\"dataType\":");
    json_text(out, attribute->type);
    buffer_add_byte(out, '}');
}

static void event_add_attributes(struct buffer *out, const struct record *record)
{
    buffer_add_text(out, "\"messageAttributes\":{");
    for (uint32_t i = 0; i < record->attribute_count; i++) {
        if (i > 0)
            buffer_add_byte(out, ',');
        event_add_attribute(out, &record->attributes[i]);
    }
    buffer_add_text(out, "},");
    if (record->attribute_count > 0)
        event_add_hex(out, "md5OfMessageAttributes", record->md5_attributes);
}

void event_begin(struct buffer *out)
{
    buffer_add_text(out, event_open);
}

bool event_add(struct buffer *out, const struct event_source *source,
               const struct core_message *message, const struct record *record,
               const char *origin_arn)
{
    size_t before = out->length;
    bool first = before == 0 || out->data[before - 1] == '[';
    char id[UUID_TEXT_LENGTH + 1];
    uuid_text(record->message_id, id);
    buffer_printf(out, "%s{\"messageId\":\"%s\",\"receiptHandle\":\"", first ? "" : ",", id);
    receipt_encode(out, source->secret, source->queue_id,
                   (struct core_lease){message->seq, message->receive_count});
    buffer_add_text(out, "\",\"body\":");
    json_text(out, record->body);
    buffer_add_byte(out, ',');
    event_add_system_attributes(out, source, message, record, id, origin_arn);
    event_add_attributes(out, record);
    uint8_t md5[MD5_BYTES];
    record_body_md5(record, md5);
    event_add_hex(out, "md5OfBody", md5);
    buffer_add_text(out, "\"eventSource\":\"aws:sqs\",\"eventSourceARN\":");
    json_text(out, slice_of(source->queue_arn));
    buffer_add_text(out, ",\"awsRegion\":");
    json_text(out, slice_of(source->region));
    buffer_add_byte(out, '}');
    if (first || out->length + sizeof event_close <= EVENT_BYTES_MAX)
        return true;
    out->length = before;
    return false;
}

void event_end(struct buffer *out)
{
    buffer_add_text(out, event_close);
}
