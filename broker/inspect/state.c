/* SPDX-License-Identifier: Apache-2.0 */
/* What the state machine says: of itself, and of entries. */
#include "broker/core/place.h"
#include "broker/inspect/internal.h"
#include "proto/base/assert.h"

#include <inttypes.h>
#include <stdio.h>

/* The Raft library's numbers; see docs/format.md. */
static const char *const type_names[] = {[1] = "command", [2] = "barrier", [3] = "configuration"};

const char *state_type_name(uint16_t type)
{
    const char *name = type < ARRAY_COUNT(type_names) ? type_names[type] : NULL;
    return name != NULL ? name : "unknown";
}

/* Commands that name a queue by its id. */
static const struct {
    enum command_type type;
    size_t offset;
} queue_ids[] = {
    {COMMAND_QUEUE_UPDATE, offsetof(struct command, queue_update.queue_id)},
    {COMMAND_QUEUE_DELETE, offsetof(struct command, queue_delete.queue_id)},
    {COMMAND_QUEUE_PURGE, offsetof(struct command, queue_purge.queue_id)},
    {COMMAND_QUEUE_TAG, offsetof(struct command, queue_tag.queue_id)},
    {COMMAND_SEND, offsetof(struct command, send.queue_id)},
    {COMMAND_RECEIVE, offsetof(struct command, receive.queue_id)},
    {COMMAND_DELETE, offsetof(struct command, delete.queue_id)},
    {COMMAND_CHANGE_VISIBILITY, offsetof(struct command, change_visibility.queue_id)},
    {COMMAND_MOVE_START, offsetof(struct command, move_start.source_queue_id)},
    {COMMAND_MOVE_CANCEL, offsetof(struct command, move_cancel.source_queue_id)},
};

static json_t *text(struct slice s)
{
    json_t *value = json_stringn((const char *)s.data, s.length);
    return value != NULL ? value : json_string("(not UTF-8)");
}

static void name_queue(json_t *row, const struct command *command, const struct core *core)
{
    struct queue_view view;
    for (size_t i = 0; i < ARRAY_COUNT(queue_ids); i++) {
        uint64_t queue_id;
        if (queue_ids[i].type != command->type)
            continue;
        memcpy(&queue_id, (const uint8_t *)command + queue_ids[i].offset, sizeof queue_id);
        json_object_set_new(row, "queue_id", json_integer((json_int_t)queue_id));
        if (core != NULL && core_queue_by_id(core, queue_id, &view))
            json_object_set_new(row, "queue", text(view.name));
    }
    if (command->type == COMMAND_QUEUE_CREATE)
        json_object_set_new(row, "queue", text(command->queue_create.name));
    else if (command->type == COMMAND_FUNCTION_PUT)
        json_object_set_new(row, "function", text(command->function_put.name));
    else if (command->type == COMMAND_DOCUMENT_PUT)
        json_object_set_new(row, "document", text(command->document_put.name));
    else if (command->type == COMMAND_DOCUMENT_DELETE)
        json_object_set_new(row, "document", text(command->document_delete.name));
}

/* Between shards. */
static void name_transfer(json_t *row, const struct command *command)
{
    const struct command_arrive *arrive = &command->arrive;
    const struct command_refused *refused = &command->refused;
    if (command->type == COMMAND_ARRIVE) {
        json_object_set_new(row, "from_shard", json_integer(arrive->source_shard));
        json_object_set_new(row, "number", json_integer((json_int_t)arrive->number));
        if (arrive->destination_queue_id != 0)
            json_object_set_new(row, "queue_id",
                                json_integer((json_int_t)arrive->destination_queue_id));
        else
            json_object_set_new(row, "queue", text(arrive->destination_name));
    } else if (command->type == COMMAND_DEPARTED) {
        json_object_set_new(row, "to_shard", json_integer(command->departed.destination_shard));
        json_object_set_new(row, "number", json_integer((json_int_t)command->departed.number));
    } else if (command->type == COMMAND_REFUSED) {
        json_object_set_new(row, "to_shard", json_integer(refused->destination_shard));
        json_object_set_new(row, "number", json_integer((json_int_t)refused->last));
    }
}

static json_t *describe_command(struct cursor *in, const struct core *core)
{
    struct command command;
    size_t before = cursor_left(in);
    if (command_decode(in, &command) != STATUS_OK)
        return NULL;
    json_t *row = json_pack("{s:s, s:I}", "command", command_name(command.type), "bytes",
                            (json_int_t)(before - cursor_left(in)));
    name_queue(row, &command, core);
    name_transfer(row, &command);
    return row;
}

static void describe_commands(json_t *out, struct slice payload, const struct core *core)
{
    struct cursor in;
    uint32_t count;
    uint64_t now_ms;
    json_t *list = json_array();
    bool good = entry_open(payload, &in, &count, &now_ms) == STATUS_OK;
    for (uint32_t i = 0; good && i < count; i++) {
        json_t *row = describe_command(&in, core);
        good = row != NULL;
        if (good)
            json_array_append_new(list, row);
    }
    if (good)
        json_object_set_new(out, "now_ms", json_integer((json_int_t)now_ms));
    json_object_set_new(out, "decodes", json_boolean(good));
    json_object_set_new(out, "commands", list);
}

json_t *state_entry(const struct frame *frame, struct slice payload, const struct core *core)
{
    json_t *out =
        json_pack("{s:I, s:I, s:s, s:I, s:I}", "index", (json_int_t)frame->index, "term",
                  (json_int_t)frame->term, "type", state_type_name(frame->type), "bytes",
                  (json_int_t)frame->length, "synced_index", (json_int_t)frame->synced_index);
    if (frame->sparse)
        json_object_set_new(out, "sparse", json_true());
    else if (frame->type == 1)
        describe_commands(out, payload, core);
    return out;
}

/* ---- the state ---- */

static json_t *describe_queue(const struct queue_view *view)
{
    return json_pack("{s:o, s:I, s:I, s:I, s:I}", "name", text(view->name), "queue_id",
                     (json_int_t)view->queue_id, "visible", (json_int_t)view->visible, "in_flight",
                     (json_int_t)view->in_flight, "delayed", (json_int_t)view->delayed);
}

static json_int_t count_functions(const struct core *core)
{
    json_int_t count = 0;
    struct function_view view;
    for (struct slice after = {0}; core_function_next(core, after, &view); after = view.name)
        count++;
    return count;
}

static json_int_t count_mappings(const struct core *core)
{
    json_int_t count = 0;
    size_t position = 0;
    struct mapping_view view;
    while (core_mapping_next(core, &position, &view))
        count++;
    return count;
}

static json_int_t count_documents(const struct core *core)
{
    json_int_t count = 0;
    struct document_view view;
    for (struct slice after = {0}; core_document_next(core, after, &view); after = view.name)
        count++;
    return count;
}

/* Messages on their way to other shards, which no queue counts. */
static json_int_t count_outbox(const struct core *core)
{
    json_int_t count = 0;
    for (uint32_t shard = 0; shard <= QUEUE_SHARDS_MAX; shard++)
        count += (json_int_t)core_outbox_count(core, shard);
    return count;
}

json_t *state_describe(const struct core *core, bool queues)
{
    char digest[20];
    json_int_t messages = 0;
    json_int_t count = 0;
    json_t *list = json_array();
    struct queue_view view;
    for (struct slice after = {0}; core_queue_next(core, after, &view); after = view.name) {
        messages += (json_int_t)(view.visible + view.in_flight + view.delayed);
        count++;
        if (queues)
            json_array_append_new(list, describe_queue(&view));
    }
    snprintf(digest, sizeof digest, "%016" PRIx64, core_digest(core));
    json_t *out =
        json_pack("{s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:I}", "applied_index",
                  (json_int_t)core_applied_index(core), "now_ms", (json_int_t)core_now_ms(core),
                  "digest", digest, "queue_count", count, "message_count", messages,
                  "function_count", count_functions(core), "mapping_count", count_mappings(core),
                  "document_count", count_documents(core));
    json_int_t outbox = count_outbox(core);
    if (outbox > 0)
        json_object_set_new(out, "outbox_count", json_integer(outbox));
    if (queues)
        json_object_set(out, "queues", list);
    json_decref(list);
    return out;
}
