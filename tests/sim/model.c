/* SPDX-License-Identifier: Apache-2.0 */
/* Plain arrays, walked from end to end for every question. Nothing is cached and nothing is counted
 * ahead: what this file says must be right at a glance, for it is the judge of the core. */
#include "tests/sim/model.h"

#include "proto/base/assert.h"

#include <stdlib.h>

#define HOUR_MS 3600000u

struct model *model_new(void)
{
    struct model *model = calloc(1, sizeof *model);
    ASSERT(model != NULL);
    model->received = calloc(10000, sizeof model->received[0]);
    ASSERT(model->received != NULL);
    return model;
}

void model_free(struct model *model)
{
    for (size_t i = 0; i < MODEL_QUEUES; i++)
        free(model->queues[i].messages);
    free(model->received);
    free(model);
}

static void text_set(struct model_text *text, struct slice s)
{
    ASSERT(s.length <= sizeof text->bytes);
    memset(text, 0, sizeof *text);
    if (s.length > 0)
        memcpy(text->bytes, s.data, s.length);
    text->length = s.length;
}

static bool text_is(const struct model_text *text, struct slice s)
{
    return slice_equal(slice_make(text->bytes, text->length), s);
}

/* ---- queues ---- */

static struct model_queue *by_id(struct model *model, uint64_t queue_id)
{
    for (size_t i = 0; i < MODEL_QUEUES; i++) {
        if (model->queues[i].exists && model->queues[i].queue_id == queue_id)
            return &model->queues[i];
    }
    return NULL;
}

static struct model_queue *by_name(struct model *model, struct slice name)
{
    for (size_t i = 0; i < MODEL_QUEUES; i++) {
        if (model->queues[i].exists && text_is(&model->queues[i].name, name))
            return &model->queues[i];
    }
    return NULL;
}

static void settings_set(struct model_queue *queue, const struct queue_settings *settings)
{
    queue->settings = *settings;
    text_set(&queue->dead_letter, settings->dead_letter);
    text_set(&queue->extras, settings->extras);
    queue->settings.dead_letter = slice_make(queue->dead_letter.bytes, queue->dead_letter.length);
    queue->settings.extras = slice_make(queue->extras.bytes, queue->extras.length);
}

static struct model_message *message_add(struct model_queue *queue)
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

static void message_remove(struct model_queue *queue, size_t i)
{
    memmove(&queue->messages[i], &queue->messages[i + 1],
            (queue->count - i - 1) * sizeof queue->messages[0]);
    queue->count--;
}

static void message_show(struct model_queue *queue, struct model_message *message)
{
    message->state = MODEL_VISIBLE;
    queue->ready = true;
}

static uint64_t retention_end_ms(const struct model_queue *queue, size_t i)
{
    return queue->messages[i].sent_ms + (uint64_t)queue->settings.retention_s * 1000;
}

/* ---- time ---- */

static void queue_due(struct model *model, struct model_queue *queue)
{
    for (size_t i = queue->count; i-- > 0;) {
        if (retention_end_ms(queue, i) <= model->now_ms)
            message_remove(queue, i);
    }
    for (size_t i = 0; i < queue->count; i++) {
        struct model_message *message = &queue->messages[i];
        if (message->state != MODEL_VISIBLE && message->due_ms <= model->now_ms)
            message_show(queue, message);
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
    for (size_t i = 0; i < MODEL_QUEUES; i++) {
        if (model->queues[i].exists)
            queue_due(model, &model->queues[i]);
    }
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
    }
    for (size_t i = 0; i < MODEL_BLOBS; i++) {
        const struct model_blob *blob = &model->blobs[i];
        if (blob->exists && !blob_used(model, blob))
            next_ms = least(next_ms, blob->created_ms + HOUR_MS);
    }
    return next_ms;
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
    model->now_ms = now_ms > model->now_ms ? now_ms : model->now_ms;
    due(model);
}

/* ---- commands ---- */

#define HANDLER(name)                                                                              \
    static void apply_##name(struct model *model, const struct command *command,                   \
                             struct body_ref body, struct core_result *result)
#define UNUSED_BODY (void)body
#define FIND_QUEUE(field)                                                                          \
    struct model_queue *queue = by_id(model, command->field.queue_id);                             \
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
    struct model_queue *queue = by_name(model, command->queue_create.name);
    if (queue != NULL) {
        result->code = CORE_EXISTS;
    } else {
        size_t i = 0;
        while (model->queues[i].exists)
            i++;
        ASSERT(i < MODEL_QUEUES);
        queue = &model->queues[i];
        *queue = (struct model_queue){.exists = true,
                                      .queue_id = ++model->queue_id_last,
                                      .version = ++model->version_last,
                                      .created_ms = model->now_ms,
                                      .modified_ms = model->now_ms};
        text_set(&queue->name, command->queue_create.name);
        text_set(&queue->tags, command->queue_create.tags);
        settings_set(queue, &command->queue_create.settings);
    }
    result->queue_id = queue->queue_id;
    result->version = queue->version;
}

HANDLER(queue_update)
{
    UNUSED_BODY;
    FIND_QUEUE(queue_update)
    if (queue->version == command->queue_update.version) {
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
        text_set(&queue->tags, command->queue_tag.tags);
        queue->version = ++model->version_last;
    } else {
        result->code = CORE_CONFLICT;
    }
    result->queue_id = queue->queue_id;
    result->version = queue->version;
}

static void queue_remove(struct model *model, struct model_queue *queue)
{
    free(queue->messages);
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
    queue->count = 0;
}

HANDLER(send)
{
    FIND_QUEUE(send)
    uint32_t delay_s = command->send.delay_s;
    if (delay_s == CORE_DEFAULT)
        delay_s = queue->settings.delay_s;
    struct model_message *message = message_add(queue);
    message->sent_ms = model->now_ms;
    message->body = body;
    message->state = MODEL_DELAYED;
    message->due_ms = model->now_ms + (uint64_t)delay_s * 1000;
    if (delay_s == 0)
        message_show(queue, message);
    queue->sent_total++;
    result->seq = message->seq;
}

/* The visible message that was sent first, or `count`. */
static size_t first_visible(const struct model_queue *queue)
{
    size_t i = 0;
    while (i < queue->count && queue->messages[i].state != MODEL_VISIBLE)
        i++;
    return i;
}

static bool move_to_dead_letter(struct model *model, struct model_queue *queue, size_t i)
{
    uint32_t most = queue->settings.receive_count_max;
    if (most == 0 || queue->messages[i].receive_count < most)
        return false;
    struct model_queue *target = by_name(model, queue->settings.dead_letter);
    if (target == NULL || target == queue)
        return false;
    struct model_message old = queue->messages[i];
    message_remove(queue, i);
    struct model_message *message = message_add(target);
    message->sent_ms = old.sent_ms;
    message->body = old.body;
    message_show(target, message);
    return true;
}

static void lease(struct model *model, struct model_message *message, uint32_t visibility_s,
                  struct core_message *out)
{
    message->state = MODEL_LEASED;
    message->receive_count++;
    message->leased_ms = model->now_ms;
    if (message->receive_count == 1)
        message->first_receive_ms = model->now_ms;
    message->due_ms = model->now_ms + (uint64_t)visibility_s * 1000;
    out->body = message->body;
    out->seq = message->seq;
    out->sent_ms = message->sent_ms;
    out->first_receive_ms = message->first_receive_ms;
    out->visible_at_ms = message->due_ms;
    out->receive_count = message->receive_count;
}

HANDLER(receive)
{
    UNUSED_BODY;
    FIND_QUEUE(receive)
    const struct command_receive *receive = &command->receive;
    uint32_t visibility_s = receive->visibility_s;
    if (visibility_s == CORE_DEFAULT)
        visibility_s = queue->settings.visibility_s;
    uint64_t bytes = 0;
    uint32_t count = 0;
    while (count < receive->max) {
        size_t i = first_visible(queue);
        if (i == queue->count)
            break;
        if (move_to_dead_letter(model, queue, i))
            continue;
        bytes += queue->messages[i].body.length;
        if (count > 0 && receive->bytes_max > 0 && bytes > receive->bytes_max)
            break;
        lease(model, &queue->messages[i], visibility_s, &model->received[count++]);
    }
    queue->received_total += count;
    if (count == 0)
        queue->empty_receives_total++;
    result->messages = model->received;
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

static enum core_code is_current(const struct model_message *message, struct core_lease lease)
{
    if (message->state != MODEL_LEASED)
        return CORE_NOT_IN_FLIGHT;
    return message->receive_count == lease.receive_count ? CORE_OK : CORE_STALE_LEASE;
}

HANDLER(delete)
{
    UNUSED_BODY;
    FIND_QUEUE(delete)
    size_t i = by_lease(queue, command->delete.lease);
    if (i == queue->count)
        result->code = CORE_NO_MESSAGE;
    else if (command->delete.exact &&
             queue->messages[i].receive_count != command->delete.lease.receive_count)
        result->code = CORE_STALE_LEASE;
    if (result->code == CORE_OK) {
        message_remove(queue, i);
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
    result->code = is_current(message, change->lease);
    if (result->code != CORE_OK)
        return;
    uint64_t due_ms = model->now_ms + (uint64_t)change->visibility_s * 1000;
    if (due_ms > message->leased_ms + 12 * HOUR_MS) {
        result->code = CORE_INVALID;
        return;
    }
    message->due_ms = due_ms;
    if (change->visibility_s == 0)
        message_show(queue, message);
}

HANDLER(move_start)
{
    UNUSED_BODY;
    result->code =
        by_id(model, command->move_start.source_queue_id) != NULL ? CORE_INVALID : CORE_NO_QUEUE;
}

HANDLER(move_cancel)
{
    UNUSED_BODY;
    (void)model, (void)command;
    result->code = CORE_NO_MOVE;
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
        if (model->functions[i].exists && text_is(&model->functions[i].name, name))
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
        text_set(&function->name, put->name);
    }
    memcpy(function->code_sha256, put->code_sha256, SHA256_BYTES);
    text_set(&function->config, put->config);
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
        if (text_is(&model->mappings[i].function_name, command->function_delete.name))
            model->mappings[i].exists = false;
    }
    char hidden[MODEL_TEXT + 8] = "/async/";
    memcpy(hidden + 7, function->name.bytes, function->name.length);
    struct model_queue *queue = by_name(model, slice_of(hidden));
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
    /* struct usage is eight counters. */
    const uint64_t *delta = (const uint64_t *)&command->function_usage.delta;
    for (size_t i = 0; i < sizeof function->usage / sizeof *delta; i++)
        ((uint64_t *)&function->usage)[i] += delta[i];
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
        if (other->exists && other != mapping && text_is(&other->queue_name, put->queue_name) &&
            text_is(&other->function_name, put->function_name)) {
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
    text_set(&mapping->function_name, put->function_name);
    text_set(&mapping->queue_name, put->queue_name);
    text_set(&mapping->config, put->config);
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
