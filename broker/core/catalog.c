/* SPDX-License-Identifier: Apache-2.0 */
/* Functions and event source mappings. The core stores their configuration without looking into it;
 * it keeps versions, so that of two concurrent changes one fails, and references, so that nothing
 * points at what is gone: a function's code is complete, a mapping's function exists. A mapping's
 * queue may be missing; whether that is an error is for its users to say. */
#include "broker/core/state.h"

#include <stdlib.h>

static void changed(const struct core *core)
{
    if (core->events.catalog_changed != NULL)
        core->events.catalog_changed(core->events.data);
}

/* ---- functions ---- */

void function_add(struct core *core, const struct function_view *view, struct blob *blob)
{
    struct function *function = calloc(1, sizeof *function);
    ASSERT(function != NULL);
    function->view = *view;
    function->view.name = slice_own(view->name);
    function->view.config = slice_own(view->config);
    function->blob = blob;
    blob_ref(core, blob);
    names_add(&core->function_names, function->view.name, function);
}

void function_free(struct function *function)
{
    slice_disown(&function->view.name);
    slice_disown(&function->view.config);
    free(function);
}

/* A new configuration and perhaps new code; the counters stay. */
static void function_replace(struct core *core, struct function *function,
                             const struct function_view *view, struct blob *blob)
{
    struct slice old_config = function->view.config;
    struct blob *old_blob = function->blob;
    function->view.version = view->version;
    function->view.config = slice_own(view->config);
    function->view.code_bytes = view->code_bytes;
    memcpy(function->view.code_sha256, view->code_sha256, SHA256_BYTES);
    function->blob = blob;
    blob_ref(core, blob); /* before the unref: it may be the same */
    blob_unref(core, old_blob);
    slice_disown(&old_config);
}

enum core_code version_code(uint64_t current, uint64_t expected, enum core_code missing)
{
    if (current == expected)
        return CORE_OK;
    if (expected == 0)
        return CORE_EXISTS;
    return current == 0 ? missing : CORE_CONFLICT;
}

void function_put(struct core *core, const struct command *command, struct core_result *result)
{
    const struct command_function_put *put = &command->function_put;
    struct function *function = names_get(&core->function_names, put->name);
    result->version = function != NULL ? function->view.version : 0;
    result->code = version_code(result->version, put->version, CORE_NO_FUNCTION);
    if (result->code != CORE_OK)
        return;
    struct blob *blob = blob_find(core, put->code_sha256);
    if (blob == NULL || blob->stored_bytes != blob->total_bytes) {
        result->code = CORE_NO_BLOB;
        return;
    }
    struct function_view view = {
        .name = put->name,
        .version = ++core->version_last,
        .config = put->config,
        .code_bytes = blob->total_bytes,
    };
    memcpy(view.code_sha256, put->code_sha256, SHA256_BYTES);
    if (function == NULL)
        function_add(core, &view, blob);
    else
        function_replace(core, function, &view, blob);
    result->version = view.version;
    changed(core);
}

static void mapping_remove(struct core *core, size_t position)
{
    struct mapping *mapping = core->mappings[position];
    core->mapping_count--;
    memmove(&core->mappings[position], &core->mappings[position + 1],
            (core->mapping_count - position) * sizeof core->mappings[0]);
    HASH_DELETE(hh, core->mappings_by_uuid, mapping);
    mapping_free(mapping);
}

static void mappings_remove_of(struct core *core, struct slice function_name)
{
    for (size_t i = core->mapping_count; i-- > 0;) {
        if (slice_equal(core->mappings[i]->view.function_name, function_name))
            mapping_remove(core, i);
    }
}

static struct queue *hidden_queue(const struct core *core, struct slice function_name)
{
    struct buffer name = {0};
    buffer_add_text(&name, HIDDEN_QUEUE_PREFIX);
    buffer_add_slice(&name, function_name);
    struct queue *queue = queue_named(core, buffer_slice(&name));
    buffer_free(&name);
    return queue;
}

static void hidden_queue_remove(struct core *core, struct slice function_name)
{
    struct queue *queue = hidden_queue(core, function_name);
    if (queue != NULL)
        queue_remove(core, queue);
}

void function_delete(struct core *core, const struct command *command, struct core_result *result)
{
    struct function *function = names_get(&core->function_names, command->function_delete.name);
    if (function == NULL) {
        result->code = CORE_NO_FUNCTION;
        return;
    }
    mappings_remove_of(core, function->view.name);
    hidden_queue_remove(core, function->view.name);
    names_remove(&core->function_names, function->view.name);
    blob_unref(core, function->blob);
    function_free(function);
    changed(core);
}

void function_usage(struct core *core, const struct command *command, struct core_result *result)
{
    const struct usage *delta = &command->function_usage.delta;
    struct function *function = names_get(&core->function_names, command->function_usage.name);
    if (function == NULL) {
        result->code = CORE_NO_FUNCTION;
        return;
    }
    core_usage_add(&function->view.usage, delta);
}

/* ---- mappings ---- */

static struct mapping *mapping_find(const struct core *core, const uint8_t uuid[UUID_BYTES])
{
    struct mapping *mapping;
    HASH_FIND(hh, core->mappings_by_uuid, uuid, UUID_BYTES, mapping);
    return mapping;
}

static void mapping_own(struct mapping *mapping, const struct mapping_view *view)
{
    mapping->view = *view;
    mapping->view.function_name = slice_own(view->function_name);
    mapping->view.queue_name = slice_own(view->queue_name);
    mapping->view.config = slice_own(view->config);
}

static void mapping_disown(struct mapping_view *view)
{
    slice_disown(&view->function_name);
    slice_disown(&view->queue_name);
    slice_disown(&view->config);
}

void mapping_add(struct core *core, const struct mapping_view *view)
{
    struct mapping *mapping = calloc(1, sizeof *mapping);
    ASSERT(mapping != NULL);
    mapping_own(mapping, view);
    HASH_ADD(hh, core->mappings_by_uuid, view.uuid, UUID_BYTES, mapping);
    if (core->mapping_count == core->mapping_capacity) {
        core->mapping_capacity = core->mapping_capacity == 0 ? 16 : core->mapping_capacity * 2;
        core->mappings = realloc(core->mappings, core->mapping_capacity * sizeof core->mappings[0]);
        ASSERT(core->mappings != NULL);
    }
    core->mappings[core->mapping_count++] = mapping;
}

void mapping_free(struct mapping *mapping)
{
    mapping_disown(&mapping->view);
    free(mapping);
}

/* Is there a mapping of the same function and queue under another uuid? */
static bool pair_taken(const struct core *core, const struct command_mapping_put *put)
{
    for (size_t i = 0; i < core->mapping_count; i++) {
        const struct mapping_view *view = &core->mappings[i]->view;
        if (slice_equal(view->function_name, put->function_name) &&
            slice_equal(view->queue_name, put->queue_name) &&
            memcmp(view->uuid, put->uuid, UUID_BYTES) != 0)
            return true;
    }
    return false;
}

void mapping_put(struct core *core, const struct command *command, struct core_result *result)
{
    const struct command_mapping_put *put = &command->mapping_put;
    struct mapping *mapping = mapping_find(core, put->uuid);
    result->version = mapping != NULL ? mapping->view.version : 0;
    result->code = version_code(result->version, put->version, CORE_NO_MAPPING);
    if (result->code != CORE_OK)
        return;
    if (names_get(&core->function_names, put->function_name) == NULL) {
        result->code = CORE_NO_FUNCTION;
        return;
    }
    if (pair_taken(core, put)) {
        result->code = CORE_EXISTS;
        return;
    }
    struct mapping_view view = {
        .version = ++core->version_last,
        .function_name = put->function_name,
        .queue_name = put->queue_name,
        .config = put->config,
    };
    memcpy(view.uuid, put->uuid, UUID_BYTES);
    if (mapping == NULL) {
        mapping_add(core, &view);
    } else {
        struct mapping_view old = mapping->view;
        mapping_own(mapping, &view);
        mapping_disown(&old); /* after the copy: the command may have borrowed from it */
    }
    result->version = view.version;
    changed(core);
}

void mapping_delete(struct core *core, const struct command *command, struct core_result *result)
{
    const struct mapping *mapping = mapping_find(core, command->mapping_delete.uuid);
    if (mapping == NULL) {
        result->code = CORE_NO_MAPPING;
        return;
    }
    size_t position = 0;
    while (core->mappings[position] != mapping)
        position++;
    mapping_remove(core, position);
    changed(core);
}

/* ---- reading ---- */

bool core_function_get(const struct core *core, struct slice name, struct function_view *out)
{
    const struct function *function = names_get(&core->function_names, name);
    if (function != NULL)
        *out = function->view;
    return function != NULL;
}

uint64_t core_function_id(const struct core *core, struct slice name)
{
    const struct queue *queue = hidden_queue(core, name);
    return queue != NULL && names_get(&core->function_names, name) != NULL ? queue->view.queue_id
                                                                           : 0;
}

bool core_function_next(const struct core *core, struct slice after, struct function_view *out)
{
    const struct function *function = names_after(&core->function_names, after);
    if (function != NULL)
        *out = function->view;
    return function != NULL;
}

bool core_mapping_get(const struct core *core, const uint8_t uuid[UUID_BYTES],
                      struct mapping_view *out)
{
    const struct mapping *mapping = mapping_find(core, uuid);
    if (mapping != NULL)
        *out = mapping->view;
    return mapping != NULL;
}

bool core_mapping_next(const struct core *core, size_t *position, struct mapping_view *out)
{
    if (*position >= core->mapping_count)
        return false;
    *out = core->mappings[(*position)++]->view;
    return true;
}
