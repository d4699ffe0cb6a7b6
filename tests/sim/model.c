/* SPDX-License-Identifier: Apache-2.0 */
/* Plain arrays, walked from end to end for every question. Nothing is cached and nothing is counted
 * ahead: what this file says must be right at a glance, for it is the judge of the core. */
#include "tests/sim/model.h"

#include "proto/base/assert.h"

#include <stdlib.h>

#define HOUR_MS 3600000u

struct model *model_new(uint32_t step)
{
    struct model *model = calloc(1, sizeof *model);
    ASSERT(model != NULL);
    model->received = calloc(10000, sizeof model->received[0]);
    ASSERT(model->received != NULL);
    model->step = step;
    return model;
}

static void queue_memory_free(struct model_queue *queue)
{
    for (size_t i = 0; i < queue->attempt_count; i++)
        free(queue->attempts[i].messages);
    free(queue->attempts);
    free(queue->dedups);
    free(queue->messages);
}

void model_free(struct model *model)
{
    for (size_t i = 0; i < MODEL_QUEUES; i++)
        queue_memory_free(&model->queues[i]);
    free(model->received);
    free(model);
}

void model_text_set(struct model_text *text, struct slice s)
{
    ASSERT(s.length <= sizeof text->bytes);
    memset(text, 0, sizeof *text);
    if (s.length > 0)
        memcpy(text->bytes, s.data, s.length);
    text->length = s.length;
}

bool model_text_is(const struct model_text *text, struct slice s)
{
    return slice_equal(slice_make(text->bytes, text->length), s);
}

bool model_text_same(const struct model_text *a, const struct model_text *b)
{
    return model_text_is(a, slice_make(b->bytes, b->length));
}

/* ---- queues ---- */

struct model_queue *model_by_id(struct model *model, uint64_t queue_id)
{
    for (size_t i = 0; i < MODEL_QUEUES; i++) {
        if (model->queues[i].exists && model->queues[i].queue_id == queue_id)
            return &model->queues[i];
    }
    return NULL;
}

struct model_queue *model_by_name(struct model *model, struct slice name)
{
    for (size_t i = 0; i < MODEL_QUEUES; i++) {
        if (model->queues[i].exists && model_text_is(&model->queues[i].name, name))
            return &model->queues[i];
    }
    return NULL;
}

static void settings_set(struct model_queue *queue, const struct queue_settings *settings)
{
    queue->settings = *settings;
    model_text_set(&queue->dead_letter, settings->dead_letter);
    model_text_set(&queue->extras, settings->extras);
    queue->settings.dead_letter = slice_make(queue->dead_letter.bytes, queue->dead_letter.length);
    queue->settings.extras = slice_make(queue->extras.bytes, queue->extras.length);
}

struct model_message *model_message_add(struct model_queue *queue)
{
    if (queue->count == queue->capacity) {
        queue->capacity = queue->capacity * 2 + 16;
        queue->messages = realloc(queue->messages, queue->capacity * sizeof queue->messages[0]);
        ASSERT(queue->messages != NULL);
    }
    struct model_message *message = &queue->messages[queue->count++];
    *message = (struct model_message){.seq = ++queue->seq_last};
    return message;
}

void model_message_remove(struct model_queue *queue, size_t i)
{
    memmove(&queue->messages[i], &queue->messages[i + 1],
            (queue->count - i - 1) * sizeof queue->messages[0]);
    queue->count--;
}

void model_message_show(struct model_queue *queue, struct model_message *message)
{
    message->state = MODEL_VISIBLE;
    queue->ready = true;
}

static uint64_t retention_end_ms(const struct model_queue *queue, size_t i)
{
    return queue->messages[i].sent_ms + (uint64_t)queue->settings.retention_s * 1000;
}

/* ---- time ---- */

/* The message, of all queues, whose retention or lease or delay ends first; NULL = none. */
static struct model_queue *first_due(struct model *model, bool retention, size_t *at,
                                     uint64_t *due_ms)
{
    struct model_queue *first = NULL;
    *due_ms = UINT64_MAX;
    for (size_t q = 0; q < MODEL_QUEUES; q++) {
        struct model_queue *queue = &model->queues[q];
        for (size_t i = 0; queue->exists && i < queue->count; i++) {
            uint64_t ms = retention ? retention_end_ms(queue, i) : queue->messages[i].due_ms;
            if (ms >= *due_ms || (!retention && queue->messages[i].state == MODEL_VISIBLE))
                continue;
            first = queue;
            *at = i;
            *due_ms = ms;
        }
    }
    return first;
}

/* Up to `left` messages, and then all others of the same millisecond. */
static void run_due(struct model *model, bool retention, uint32_t *left)
{
    uint64_t last_ms = UINT64_MAX;
    uint64_t due_ms;
    size_t i;
    struct model_queue *queue;
    while ((queue = first_due(model, retention, &i, &due_ms)) != NULL && due_ms <= model->now_ms) {
        if (*left == 0 && due_ms != last_ms)
            return;
        *left -= *left > 0;
        last_ms = due_ms;
        if (retention)
            model_message_remove(queue, i);
        else
            model_message_show(queue, &queue->messages[i]);
        queue->ready = true;
    }
}

uint64_t model_grave_messages(const struct model *model)
{
    uint64_t messages = 0;
    for (size_t i = 0; i < model->grave_count; i++)
        messages += model->graves[i].messages;
    return messages;
}

static void grave_dig(struct model *model, uint64_t messages, uint64_t dedups)
{
    ASSERT(model->grave_count < MODEL_GRAVES);
    model->graves[model->grave_count++] = (struct model_grave){messages, dedups};
}

static void graves_run(struct model *model)
{
    while (model->grave_count > 0) {
        struct model_grave *grave = &model->graves[0];
        if (grave->messages + grave->dedups == 0) {
            model->grave_count--;
            memmove(grave, grave + 1, model->grave_count * sizeof *grave);
            continue;
        }
        if (model->graves_left == 0)
            return;
        model->graves_left--;
        if (grave->messages > 0)
            grave->messages--;
        else
            grave->dedups--;
    }
}

static bool blob_used(const struct model *model, const struct model_blob *blob)
{
    for (size_t i = 0; i < MODEL_FUNCTIONS; i++) {
        const struct model_function *function = &model->functions[i];
        if (function->exists && memcmp(function->code_sha256, blob->sha256, SHA256_BYTES) == 0)
            return true;
    }
    return false;
}

static void due(struct model *model)
{
    run_due(model, true, &model->retention_left);
    run_due(model, false, &model->deadlines_left);
    model_chores(model);
    graves_run(model);
    for (size_t i = 0; i < MODEL_BLOBS; i++) {
        struct model_blob *blob = &model->blobs[i];
        if (blob->exists && !blob_used(model, blob) && blob->created_ms + HOUR_MS <= model->now_ms)
            blob->exists = false;
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t model_next_deadline_ms(const struct model *model)
{
    uint64_t next_ms = UINT64_MAX;
    for (size_t q = 0; q < MODEL_QUEUES; q++) {
        const struct model_queue *queue = &model->queues[q];
        for (size_t i = 0; queue->exists && i < queue->count; i++) {
            next_ms = least(next_ms, retention_end_ms(queue, i));
            if (queue->messages[i].state != MODEL_VISIBLE)
                next_ms = least(next_ms, queue->messages[i].due_ms);
        }
        if (queue->exists)
            next_ms = least(next_ms, model_chore_ms(queue));
    }
    if (model->grave_count > 0)
        next_ms = least(next_ms, model->now_ms);
    for (size_t i = 0; i < MODEL_BLOBS; i++) {
        const struct model_blob *blob = &model->blobs[i];
        if (blob->exists && !blob_used(model, blob))
            next_ms = least(next_ms, blob->created_ms + HOUR_MS);
    }
    return next_ms > model->now_ms ? next_ms : model->now_ms;
}

static void ready_clear(struct model *model)
{
    for (size_t i = 0; i < MODEL_QUEUES; i++)
        model->queues[i].ready = false;
}

void model_begin(struct model *model, uint64_t index, uint64_t now_ms)
{
    ready_clear(model);
    model->index = index;
    model->retention_left = model->step;
    model->deadlines_left = model->step;
    model->graves_left = model->step;
    model->now_ms = now_ms > model->now_ms ? now_ms : model->now_ms;
    due(model);
}

/* ---- commands ---- */

#define HANDLER(name)                                                                              \
    static void apply_##name(struct model *model, const struct command *command,                   \
                             struct body_ref body, struct core_result *result)
#define UNUSED_BODY (void)body
#define FIND_QUEUE(field)                                                                          \
    struct model_queue *queue = model_by_id(model, command->field.queue_id);                       \
    if (queue == NULL) {                                                                           \
        result->code = CORE_NO_QUEUE;                                                              \
        return;                                                                                    \
    }

HANDLER(tick)
{
    UNUSED_BODY;
    (void)model, (void)command, (void)result;
}

HANDLER(bootstrap)
{
    UNUSED_BODY;
    (void)result;
    if (!model->bootstrapped)
        model->bootstrap = command->bootstrap;
    model->bootstrapped = true;
}

HANDLER(queue_create)
{
    UNUSED_BODY;
    struct model_queue *queue = model_by_name(model, command->queue_create.name);
    if (queue != NULL) {
        result->code = CORE_EXISTS;
    } else {
        size_t i = 0;
        while (model->queues[i].exists)
            i++;
        ASSERT(i < MODEL_QUEUES);
        queue = &model->queues[i];
        *queue =
            (struct model_queue){.exists = true,
                                 .queue_id = (uint64_t)model->shard << 32 | ++model->queue_id_last,
                                 .version = ++model->version_last,
                                 .created_ms = model->now_ms,
                                 .modified_ms = model->now_ms};
        model_text_set(&queue->name, command->queue_create.name);
        model_text_set(&queue->tags, command->queue_create.tags);
        settings_set(queue, &command->queue_create.settings);
    }
    result->queue_id = queue->queue_id;
    result->version = queue->version;
}

HANDLER(queue_update)
{
    UNUSED_BODY;
    FIND_QUEUE(queue_update)
    if (queue->version == command->queue_update.version &&
        queue->settings.fifo != command->queue_update.settings.fifo) {
        result->code = CORE_INVALID;
    } else if (queue->version == command->queue_update.version) {
        settings_set(queue, &command->queue_update.settings);
        queue->version = ++model->version_last;
        queue->modified_ms = model->now_ms;
    } else {
        result->code = CORE_CONFLICT;
    }
    result->queue_id = queue->queue_id;
    result->version = queue->version;
}

HANDLER(queue_tag)
{
    UNUSED_BODY;
    FIND_QUEUE(queue_tag)
    if (queue->version == command->queue_tag.version) {
        model_text_set(&queue->tags, command->queue_tag.tags);
        queue->version = ++model->version_last;
    } else {
        result->code = CORE_CONFLICT;
    }
    result->queue_id = queue->queue_id;
    result->version = queue->version;
}

static void queue_remove(struct model *model, struct model_queue *queue)
{
    grave_dig(model, queue->count, queue->dedup_count);
    queue_memory_free(queue);
    *queue = (struct model_queue){0};
    model->queues_gone++;
}

HANDLER(queue_delete)
{
    UNUSED_BODY;
    FIND_QUEUE(queue_delete)
    queue_remove(model, queue);
}

HANDLER(queue_purge)
{
    UNUSED_BODY;
    FIND_QUEUE(queue_purge)
    grave_dig(model, queue->count, 0);
    queue->count = 0;
    queue->purged_seq = queue->seq_last;
}

HANDLER(send)
{
    FIND_QUEUE(send)
    model_send(model, queue, &command->send, body, result);
}

HANDLER(receive)
{
    UNUSED_BODY;
    FIND_QUEUE(receive)
    const struct command_receive *receive = &command->receive;
    uint32_t visibility_s = receive->visibility_s;
    uint32_t count = 0;
    if (visibility_s == CORE_DEFAULT)
        visibility_s = queue->settings.visibility_s;
    result->messages = model->received;
    if (queue->settings.fifo && receive->attempt_id.length > 0 &&
        model_replay(model, queue, receive, visibility_s, &count)) {
        result->message_count = count;
        return;
    }
    if (!model_overdue(model, queue)) {
        count = model_take(model, queue, receive, visibility_s);
        if (queue->settings.fifo && receive->attempt_id.length > 0)
            model_attempt_keep(model, queue, receive->attempt_id, count);
    }
    queue->received_total += count;
    if (count == 0)
        queue->empty_receives_total++;
    result->message_count = count;
}

/* The message that `lease` is or was one of, or `count`. */
static size_t by_lease(const struct model_queue *queue, struct core_lease lease)
{
    size_t i = 0;
    while (i < queue->count && queue->messages[i].seq != lease.seq)
        i++;
    if (i == queue->count || lease.receive_count == 0)
        return queue->count;
    return lease.receive_count <= queue->messages[i].receive_count ? i : queue->count;
}

/* `fifo`: a lease that has run out is none. On standard queues the last one still is. */
static enum core_code is_current(const struct model_message *message, struct core_lease lease,
                                 bool fifo)
{
    if (message->receive_count == lease.receive_count && (message->state == MODEL_LEASED || !fifo))
        return CORE_OK;
    return message->state == MODEL_LEASED ? CORE_STALE_LEASE : CORE_NOT_IN_FLIGHT;
}

HANDLER(delete)
{
    UNUSED_BODY;
    FIND_QUEUE(delete)
    size_t i = by_lease(queue, command->delete.lease);
    if (i == queue->count)
        result->code = CORE_NO_MESSAGE;
    else if (queue->settings.fifo &&
             is_current(&queue->messages[i], command->delete.lease, true) != CORE_OK)
        result->code = CORE_EXPIRED_LEASE;
    else if (command->delete.exact &&
             queue->messages[i].receive_count != command->delete.lease.receive_count)
        result->code = CORE_STALE_LEASE;
    if (result->code == CORE_OK) {
        queue->ready |= queue->settings.fifo; /* the group may go on */
        model_message_remove(queue, i);
        queue->deleted_total++;
    }
}

HANDLER(change_visibility)
{
    UNUSED_BODY;
    FIND_QUEUE(change_visibility)
    const struct command_change_visibility *change = &command->change_visibility;
    size_t i = by_lease(queue, change->lease);
    if (i == queue->count) {
        result->code = CORE_NO_MESSAGE;
        return;
    }
    struct model_message *message = &queue->messages[i];
    result->code = is_current(message, change->lease, queue->settings.fifo);
    if (result->code != CORE_OK) {
        if (queue->settings.fifo)
            result->code = CORE_EXPIRED_LEASE;
        return;
    }
    uint64_t due_ms = model->now_ms + (uint64_t)change->visibility_s * 1000;
    bool ended = message->state == MODEL_VISIBLE;
    if (ended && change->visibility_s == 0)
        return;
    if (ended)
        message->leased_ms = model->now_ms;
    if (due_ms > message->leased_ms + 12 * HOUR_MS) {
        result->code = CORE_INVALID;
        return;
    }
    message->due_ms = due_ms;
    message->state = MODEL_LEASED;
    if (change->visibility_s == 0)
        model_message_show(queue, message);
}

HANDLER(move_start)
{
    UNUSED_BODY;
    model_move_start(model, &command->move_start, result);
}

HANDLER(move_cancel)
{
    UNUSED_BODY;
    model_move_cancel(model, &command->move_cancel, result);
}

static struct model_blob *blob_find(struct model *model, const uint8_t *sha256)
{
    for (size_t i = 0; i < MODEL_BLOBS; i++) {
        if (model->blobs[i].exists && memcmp(model->blobs[i].sha256, sha256, SHA256_BYTES) == 0)
            return &model->blobs[i];
    }
    return NULL;
}

uint64_t model_blob_bytes(const struct model_blob *blob)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < blob->piece_count; i++)
        bytes += blob->pieces[i].length;
    return bytes;
}

/* The generator only makes pieces that lie within the whole and none that are empty. */
HANDLER(blob_put)
{
    const struct command_blob_put *put = &command->blob_put;
    struct model_blob *blob = blob_find(model, put->sha256);
    uint64_t stored = blob != NULL ? model_blob_bytes(blob) : 0;
    if (blob != NULL && blob->total_bytes != put->total_bytes) {
        result->code = CORE_INVALID;
        return;
    }
    if (put->offset + put->piece.length <= stored)
        return;
    if (put->offset != stored) {
        result->code = CORE_INVALID;
        return;
    }
    if (blob == NULL) {
        size_t i = 0;
        while (model->blobs[i].exists)
            i++;
        ASSERT(i < MODEL_BLOBS);
        blob = &model->blobs[i];
        *blob = (struct model_blob){
            .exists = true, .total_bytes = put->total_bytes, .created_ms = model->now_ms};
        memcpy(blob->sha256, put->sha256, SHA256_BYTES);
    }
    ASSERT(blob->piece_count < MODEL_PIECES);
    blob->pieces[blob->piece_count++] = body;
}

static struct model_function *function_find(struct model *model, struct slice name)
{
    for (size_t i = 0; i < MODEL_FUNCTIONS; i++) {
        if (model->functions[i].exists && model_text_is(&model->functions[i].name, name))
            return &model->functions[i];
    }
    return NULL;
}

/* The code of a function that was replaced or deleted goes, if no other function has it. */
static void code_left(struct model *model, const uint8_t *sha256)
{
    struct model_blob *blob = blob_find(model, sha256);
    ASSERT(blob != NULL);
    if (!blob_used(model, blob))
        blob->exists = false;
}

HANDLER(function_put)
{
    UNUSED_BODY;
    const struct command_function_put *put = &command->function_put;
    struct model_function *function = function_find(model, put->name);
    uint64_t version = function != NULL ? function->version : 0;
    result->version = version;
    if (put->version != version) {
        result->code = put->version == 0 ? CORE_EXISTS
                       : version == 0    ? CORE_NO_FUNCTION
                                         : CORE_CONFLICT;
        return;
    }
    const struct model_blob *blob = blob_find(model, put->code_sha256);
    if (blob == NULL || model_blob_bytes(blob) < blob->total_bytes) {
        result->code = CORE_NO_BLOB;
        return;
    }
    uint8_t old_sha256[SHA256_BYTES];
    bool replaces = function != NULL;
    if (replaces) {
        memcpy(old_sha256, function->code_sha256, SHA256_BYTES);
    } else {
        size_t i = 0;
        while (model->functions[i].exists)
            i++;
        ASSERT(i < MODEL_FUNCTIONS);
        function = &model->functions[i];
        *function = (struct model_function){.exists = true};
        model_text_set(&function->name, put->name);
    }
    memcpy(function->code_sha256, put->code_sha256, SHA256_BYTES);
    model_text_set(&function->config, put->config);
    function->version = ++model->version_last;
    result->version = function->version;
    if (replaces)
        code_left(model, old_sha256);
    model->catalog_changes++;
}

HANDLER(function_delete)
{
    UNUSED_BODY;
    struct model_function *function = function_find(model, command->function_delete.name);
    if (function == NULL) {
        result->code = CORE_NO_FUNCTION;
        return;
    }
    function->exists = false;
    code_left(model, function->code_sha256);
    for (size_t i = 0; i < MODEL_MAPPINGS; i++) {
        if (model_text_is(&model->mappings[i].function_name, command->function_delete.name))
            model->mappings[i].exists = false;
    }
    char hidden[MODEL_TEXT + 8] = "/async/";
    memcpy(hidden + 7, function->name.bytes, function->name.length);
    struct model_queue *queue = model_by_name(model, slice_of(hidden));
    if (queue != NULL)
        queue_remove(model, queue);
    model->catalog_changes++;
}

HANDLER(function_usage)
{
    UNUSED_BODY;
    struct model_function *function = function_find(model, command->function_usage.name);
    if (function == NULL) {
        result->code = CORE_NO_FUNCTION;
        return;
    }
    model_usage_sum(&function->usage, &command->function_usage.delta);
}

HANDLER(usage_add)
{
    UNUSED_BODY;
    (void)result;
    model_usage_add(model, &command->usage_add);
}

HANDLER(usage_drop)
{
    UNUSED_BODY;
    model_usage_drop(model, &command->usage_drop, result);
}

static struct model_mapping *mapping_find(struct model *model, const uint8_t *uuid)
{
    for (size_t i = 0; i < MODEL_MAPPINGS; i++) {
        if (model->mappings[i].exists && memcmp(model->mappings[i].uuid, uuid, UUID_BYTES) == 0)
            return &model->mappings[i];
    }
    return NULL;
}

HANDLER(mapping_put)
{
    UNUSED_BODY;
    const struct command_mapping_put *put = &command->mapping_put;
    struct model_mapping *mapping = mapping_find(model, put->uuid);
    uint64_t version = mapping != NULL ? mapping->version : 0;
    result->version = version;
    if (put->version != version) {
        result->code = put->version == 0 ? CORE_EXISTS
                       : version == 0    ? CORE_NO_MAPPING
                                         : CORE_CONFLICT;
        return;
    }
    if (function_find(model, put->function_name) == NULL) {
        result->code = CORE_NO_FUNCTION;
        return;
    }
    for (size_t i = 0; i < MODEL_MAPPINGS; i++) {
        const struct model_mapping *other = &model->mappings[i];
        if (other->exists && other != mapping &&
            model_text_is(&other->queue_name, put->queue_name) &&
            model_text_is(&other->function_name, put->function_name)) {
            result->code = CORE_EXISTS;
            return;
        }
    }
    if (mapping == NULL) {
        size_t i = 0;
        while (model->mappings[i].exists)
            i++;
        ASSERT(i < MODEL_MAPPINGS);
        mapping = &model->mappings[i];
        mapping->exists = true;
        memcpy(mapping->uuid, put->uuid, UUID_BYTES);
    }
    model_text_set(&mapping->function_name, put->function_name);
    model_text_set(&mapping->queue_name, put->queue_name);
    model_text_set(&mapping->config, put->config);
    mapping->version = ++model->version_last;
    result->version = mapping->version;
    model->catalog_changes++;
}

HANDLER(mapping_delete)
{
    UNUSED_BODY;
    struct model_mapping *mapping = mapping_find(model, command->mapping_delete.uuid);
    if (mapping == NULL) {
        result->code = CORE_NO_MAPPING;
        return;
    }
    mapping->exists = false;
    model->catalog_changes++;
}

/* Says who waits for results: nothing to the state. */
HANDLER(origin)
{
    (void)model, (void)command, (void)result;
    UNUSED_BODY;
}

HANDLER(place)
{
    (void)result;
    UNUSED_BODY;
    if (model->queue_id_last > 0 || model->queue_shards > 0)
        return;
    model->shard = command->place.shard;
    model->queue_shards = command->place.queue_shards;
}

HANDLER(arrive)
{
    model_arrive(model, &command->arrive, body, result);
}

HANDLER(departed)
{
    (void)result;
    UNUSED_BODY;
    model_departed(model, &command->departed);
}

HANDLER(refused)
{
    UNUSED_BODY;
    model_refused(model, &command->refused, result);
}

/* Only in the log of a restored shard. */
HANDLER(cluster_rename)
{
    (void)model, (void)command, (void)result;
    UNUSED_BODY;
}

/* Of a later level: nothing to the state, and never proposed here. */
HANDLER(rehearse)
{
    (void)model, (void)command, (void)result;
    UNUSED_BODY;
}

HANDLER(document_put)
{
    UNUSED_BODY;
    model_document_put(model, &command->document_put, result);
}

HANDLER(document_delete)
{
    UNUSED_BODY;
    model_document_delete(model, &command->document_delete, result);
}

typedef void (*handler_fn)(struct model *model, const struct command *command, struct body_ref body,
                           struct core_result *result);
static const handler_fn handlers[] = {
#define COMMAND(NAME, number, type, doc) [COMMAND_##NAME] = apply_##type,
#include "broker/core/command.def"
#undef COMMAND
};

void model_apply(struct model *model, const struct command *command, struct body_ref body,
                 struct core_result *result)
{
    ready_clear(model);
    *result = (struct core_result){.code = CORE_OK};
    handlers[command->type](model, command, body, result);
    due(model);
}
