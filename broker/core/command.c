/* SPDX-License-Identifier: Apache-2.0 */
/* The codec of commands and entries. The layout of every payload is its field table below, in the
 * order of the bytes: integers little-endian, booleans one byte, slices as u32 length and bytes.
 *
 * Only ranges that the state machine's arithmetic rests on are checked here; whether a name or a
 * setting is legal is for the API to say before it proposes. A value out of range is refused when
 * it is read and asserted when it is written: an entry that no replica can read would stop them
 * all.
 *
 * To add a command: a row in command.def, one in command_level.def, its struct in command.h, its
 * table here, its function in core.c. Never change the fields of an existing number: they are on
 * disk. */
#include "broker/core/command.h"

#include "broker/core/fields.h"
#include "broker/core/limits.h"
#include "broker/core/place.h"
#include "broker/feature/feature.h"
#include "proto/base/assert.h"

#define ENTRY_VERSION 2
#define FIXED_BYTES   64 /* of fields before the slice that command_close fills in, about */

#define C             struct command
static const struct field bootstrap_fields[] = {
    FIELD(BYTES16, C, bootstrap.cluster_id),
    FIELD(BYTES32, C, bootstrap.secret),
};
static const struct field cluster_rename_fields[] = {
    FIELD(BYTES16, C, cluster_rename.cluster_id),
};
static const struct field origin_fields[] = {
    FIELD(U64, C, origin.node_id), FIELD(U64, C, origin.boot),   FIELD(U64, C, origin.seq),
    FIELD(U64, C, origin.term),    FIELD(U64, C, origin.commit), FIELD(U32, C, origin.count),
};
static const struct field place_fields[] = {
    FIELD_IN(U32, C, place.shard, 0, QUEUE_SHARDS_MAX),
    FIELD_IN(U32, C, place.queue_shards, 0, QUEUE_SHARDS_MAX),
};
static const struct field queue_create_fields[] = {
    FIELD_IN(SLICE, C, queue_create.name, 1, UINT32_MAX),
    FIELDS_SETTINGS(C, queue_create.settings),
    FIELD(SLICE, C, queue_create.tags),
};
static const struct field queue_update_fields[] = {
    FIELD(U64, C, queue_update.queue_id),
    FIELD(U64, C, queue_update.version),
    FIELDS_SETTINGS(C, queue_update.settings),
};
static const struct field queue_delete_fields[] = {
    FIELD(U64, C, queue_delete.queue_id),
};
static const struct field queue_purge_fields[] = {
    FIELD(U64, C, queue_purge.queue_id),
};
static const struct field queue_tag_fields[] = {
    FIELD(U64, C, queue_tag.queue_id),
    FIELD(U64, C, queue_tag.version),
    FIELD(SLICE, C, queue_tag.tags),
};
static const struct field send_fields[] = {
    FIELD(U64, C, send.queue_id), FIELD_OR_DEFAULT(U32, C, send.delay_s, 0, DELAY_S_MAX),
    FIELD(SLICE, C, send.record), /* last: referenced in place */
};
static const struct field receive_fields[] = {
    FIELD(U64, C, receive.queue_id),
    FIELD_IN(U32, C, receive.max, 1, 10000),
    FIELD_OR_DEFAULT(U32, C, receive.visibility_s, 0, VISIBILITY_S_MAX),
    FIELD(U64, C, receive.bytes_max),
    FIELD_IN(SLICE, C, receive.attempt_id, 0, ATTEMPT_ID_BYTES_MAX),
};
static const struct field delete_fields[] = {
    FIELD(U64, C, delete.queue_id),
    FIELD(U64, C, delete.lease.seq),
    FIELD(U32, C, delete.lease.receive_count),
    FIELD(BOOL, C, delete.exact),
};
static const struct field change_visibility_fields[] = {
    FIELD(U64, C, change_visibility.queue_id),
    FIELD(U64, C, change_visibility.lease.seq),
    FIELD(U32, C, change_visibility.lease.receive_count),
    FIELD(U32, C, change_visibility.visibility_s),
};
static const struct field move_start_fields[] = {
    FIELD(BYTES16, C, move_start.handle),
    FIELD(U64, C, move_start.source_queue_id),
    FIELD(U64, C, move_start.destination_queue_id),
    FIELD(U32, C, move_start.per_second_max),
};
static const struct field move_cancel_fields[] = {
    FIELD(BYTES16, C, move_cancel.handle),
    FIELD(U64, C, move_cancel.source_queue_id),
};
static const struct field arrive_fields[] = {
    FIELD_IN(U32, C, arrive.source_shard, 0, QUEUE_SHARDS_MAX),
    FIELD_IN(U64, C, arrive.number, 1, TRANSFER_NUMBER_MAX),
    FIELD_IN(U64, C, arrive.after, 0, TRANSFER_NUMBER_MAX),
    FIELD_IN(U64, C, arrive.settled, 0, TRANSFER_NUMBER_MAX),
    FIELD(BOOL, C, arrive.fifo),
    FIELD(U64, C, arrive.destination_queue_id),
    FIELD(SLICE, C, arrive.destination_name),
    FIELD_IN(U64, C, arrive.source_queue_id, 0, QUEUE_ID_MAX),
    FIELD(U32, C, arrive.received_before),
    FIELD_IN(U64, C, arrive.sent_ms, 0, TIME_MS_MAX),
    FIELD(SLICE, C, arrive.record), /* last: referenced in place */
};
static const struct field departed_fields[] = {
    FIELD_IN(U32, C, departed.destination_shard, 0, QUEUE_SHARDS_MAX),
    FIELD_IN(U64, C, departed.number, 0, TRANSFER_NUMBER_MAX),
};
static const struct field refused_fields[] = {
    FIELD_IN(U32, C, refused.destination_shard, 0, QUEUE_SHARDS_MAX),
    FIELD_IN(U64, C, refused.first, 0, TRANSFER_NUMBER_MAX),
    FIELD_IN(U64, C, refused.last, 0, TRANSFER_NUMBER_MAX),
};
static const struct field blob_put_fields[] = {
    FIELD(BYTES32, C, blob_put.sha256), FIELD(U64, C, blob_put.total_bytes),
    FIELD(U64, C, blob_put.offset),
    FIELD_IN(SLICE, C, blob_put.piece, 0, BLOB_PIECE_BYTES_MAX), /* last: referenced in place */
};
static const struct field function_put_fields[] = {
    FIELD_IN(SLICE, C, function_put.name, 1, UINT32_MAX),
    FIELD(U64, C, function_put.version),
    FIELD(BYTES32, C, function_put.code_sha256),
    FIELD(SLICE, C, function_put.config),
};
static const struct field function_delete_fields[] = {
    FIELD(SLICE, C, function_delete.name),
};
static const struct field function_usage_fields[] = {
    FIELD(SLICE, C, function_usage.name),
    FIELDS_USAGE(C, function_usage.delta),
};
static const struct field usage_add_fields[] = {
    FIELD_IN(U64, C, usage_add.function_id, 1, QUEUE_ID_MAX),
    FIELDS_USAGE(C, usage_add.delta),
};
static const struct field usage_drop_fields[] = {
    FIELD_IN(U64, C, usage_drop.function_id, 1, QUEUE_ID_MAX),
};
static const struct field mapping_put_fields[] = {
    FIELD(BYTES16, C, mapping_put.uuid),        FIELD(U64, C, mapping_put.version),
    FIELD(SLICE, C, mapping_put.function_name), FIELD(SLICE, C, mapping_put.queue_name),
    FIELD(SLICE, C, mapping_put.config),
};
static const struct field mapping_delete_fields[] = {
    FIELD(BYTES16, C, mapping_delete.uuid),
};
static const struct field document_put_fields[] = {
    FIELD_IN(SLICE, C, document_put.name, 1, DOCUMENT_NAME_BYTES_MAX),
    FIELD(U64, C, document_put.version),
    FIELD_IN(SLICE, C, document_put.content, 0, DOCUMENT_BYTES_MAX),
};
static const struct field document_delete_fields[] = {
    FIELD_IN(SLICE, C, document_delete.name, 1, DOCUMENT_NAME_BYTES_MAX),
    FIELD(U64, C, document_delete.version),
};
#undef C

struct format {
    const char *name;
    const struct field *fields;
    size_t count;
};

#define FORMAT(NAME, type) [COMMAND_##NAME] = {#NAME, type##_fields, ARRAY_COUNT(type##_fields)}
static const struct format formats[] = {
    [COMMAND_TICK] = {"TICK", NULL, 0},
    [COMMAND_REHEARSE] = {"REHEARSE", NULL, 0},
    FORMAT(BOOTSTRAP, bootstrap),
    FORMAT(ORIGIN, origin),
    FORMAT(PLACE, place),
    FORMAT(CLUSTER_RENAME, cluster_rename),
    FORMAT(QUEUE_CREATE, queue_create),
    FORMAT(QUEUE_UPDATE, queue_update),
    FORMAT(QUEUE_DELETE, queue_delete),
    FORMAT(QUEUE_PURGE, queue_purge),
    FORMAT(QUEUE_TAG, queue_tag),
    FORMAT(SEND, send),
    FORMAT(RECEIVE, receive),
    FORMAT(DELETE, delete),
    FORMAT(CHANGE_VISIBILITY, change_visibility),
    FORMAT(MOVE_START, move_start),
    FORMAT(MOVE_CANCEL, move_cancel),
    FORMAT(ARRIVE, arrive),
    FORMAT(DEPARTED, departed),
    FORMAT(REFUSED, refused),
    FORMAT(BLOB_PUT, blob_put),
    FORMAT(FUNCTION_PUT, function_put),
    FORMAT(FUNCTION_DELETE, function_delete),
    FORMAT(FUNCTION_USAGE, function_usage),
    FORMAT(USAGE_ADD, usage_add),
    FORMAT(USAGE_DROP, usage_drop),
    FORMAT(MAPPING_PUT, mapping_put),
    FORMAT(MAPPING_DELETE, mapping_delete),
    FORMAT(DOCUMENT_PUT, document_put),
    FORMAT(DOCUMENT_DELETE, document_delete),
};

/* Every row of command.def has a format. */
#define COMMAND(NAME, number, type, doc)                                                           \
    _Static_assert(COMMAND_##NAME < ARRAY_COUNT(formats), #NAME " has no format");
#include "broker/core/command.def"
#undef COMMAND

static const struct format *format_of(unsigned number)
{
    if (number >= ARRAY_COUNT(formats) || formats[number].name == NULL)
        return NULL;
    return &formats[number];
}

/* The feature that a command came with; BASE for most. */
static const uint8_t features[ARRAY_COUNT(formats)] = {
#define COMMAND_LEVEL(NAME, feature) [COMMAND_##NAME] = FEATURE_##feature,
#include "broker/core/command_level.def"
#undef COMMAND_LEVEL
};

uint32_t command_level(enum command_type type)
{
    ASSERT(format_of((unsigned)type) != NULL);
    return feature_came_with((enum feature)features[type]);
}

const char *command_name(enum command_type type)
{
    const struct format *format = format_of((unsigned)type);
    return format != NULL ? format->name : "?";
}

void command_encode(struct buffer *out, const struct command *command)
{
    const struct format *format = format_of((unsigned)command->type);
    ASSERT(format != NULL);
    size_t start = out->length;
    buffer_add_u32(out, 0);
    buffer_add_u16(out, (uint16_t)command->type);
    buffer_add_u16(out, 0);
    fields_encode(out, format->fields, format->count, command);
    size_t payload_bytes = out->length - start - COMMAND_HEADER_BYTES;
    ASSERT(payload_bytes <= COMMAND_BYTES_MAX);
    bytes_put_u32(out->data + start, (uint32_t)payload_bytes);
}

struct command_open command_open(struct buffer *out, const struct command *command, size_t bytes)
{
    struct command_open open = {.start = out->length};
    buffer_reserve(out, COMMAND_HEADER_BYTES + FIXED_BYTES + bytes);
    command_encode(out, command);
    open.bytes_at = out->length;
    return open;
}

void command_close(struct buffer *out, struct command_open open)
{
    size_t bytes = out->length - open.bytes_at;
    size_t payload_bytes = out->length - open.start - COMMAND_HEADER_BYTES;
    ASSERT(payload_bytes <= COMMAND_BYTES_MAX);
    ASSERT(bytes_get_u32(out->data + open.bytes_at - sizeof(uint32_t)) == 0);
    bytes_put_u32(out->data + open.bytes_at - sizeof(uint32_t), (uint32_t)bytes);
    bytes_put_u32(out->data + open.start, (uint32_t)payload_bytes);
}

enum status command_decode(struct cursor *in, struct command *out)
{
    uint32_t length = cursor_u32(in);
    uint16_t number = cursor_u16(in);
    uint16_t zero = cursor_u16(in);
    struct slice payload = cursor_take(in, length);
    const struct format *format = format_of(number);
    if (in->bad || zero != 0 || length > COMMAND_BYTES_MAX || format == NULL ||
        !feature_in(feature_level(), (enum feature)features[number]))
        return STATUS_INVALID;
    *out = (struct command){.type = (enum command_type)number};
    struct cursor fields = cursor_of(payload);
    fields_decode(&fields, format->fields, format->count, out);
    return fields.bad || cursor_left(&fields) > 0 ? STATUS_INVALID : STATUS_OK;
}

void entry_begin(struct buffer *out)
{
    ASSERT(out->length == 0);
    static const uint8_t header[ENTRY_HEADER_BYTES] = {ENTRY_VERSION};
    buffer_add(out, header, sizeof header);
}

void entry_finish(struct buffer *out, uint32_t count, uint64_t now_ms)
{
    ASSERT(out->length >= ENTRY_HEADER_BYTES);
    ASSERT(now_ms <= TIME_MS_MAX);
    bytes_put_u32(out->data + 4, count);
    bytes_put_u64(out->data + 8, now_ms);
}

enum status entry_open(struct slice entry, struct cursor *in, uint32_t *count, uint64_t *now_ms)
{
    *in = cursor_of(entry);
    bool version_known = cursor_u32(in) == ENTRY_VERSION; /* with three zero bytes */
    *count = cursor_u32(in);
    *now_ms = cursor_u64(in);
    if (in->bad || !version_known || *now_ms > TIME_MS_MAX)
        return STATUS_INVALID;
    return *count <= cursor_left(in) / COMMAND_HEADER_BYTES ? STATUS_OK : STATUS_INVALID;
}
