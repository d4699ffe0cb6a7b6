/* SPDX-License-Identifier: Apache-2.0 */
/* ListTags, TagResource, UntagResource, for functions. Tags live in the function's record; changing
 * them gives it no new RevisionId, as in AWS, but the record is replaced under its version as in
 * every change. */
#include "broker/api/lambda/actions.h"
#include "broker/api/lambda/settings.h"
#include "proto/base/assert.h"

#define ATTEMPTS_MAX 8
#define KEYS_MAX     TAGS_MAX

struct tagging {
    struct function_name name;
    bool remove;
    struct slice keys[KEYS_MAX]; /* to remove */
    size_t key_count;
    unsigned attempts;
};

static bool read_resource(struct lambda_call *call, struct function_name *name)
{
    if (!slice_starts_with(call->labels[0], "arn:") ||
        !function_name_parse(call->labels[0], name)) {
        return failure_set(&call->failure, &call->arena, LAMBDA_VALIDATION,
                           "1 validation error detected: Value '%.*s' at 'resource' failed to "
                           "satisfy constraint: Member must satisfy regular expression pattern: "
                           "arn:(aws[a-zA-Z-]*):lambda:[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-"
                           "\\d{1}:\\d{12}:function:[a-zA-Z0-9-_]+(:(\\$LATEST|[a-zA-Z0-9-_]+))?",
                           SHOWN(call->labels[0]));
    }
    if (name->qualifier.data != NULL) {
        return failure_set(&call->failure, &call->arena, LAMBDA_PARAMETER,
                           "Tags on function aliases and versions are not supported. Please "
                           "specify a function ARN.");
    }
    return call_function_name(call, name);
}

void lambda_run_tags_list(struct lambda_call *call)
{
    struct function_name name;
    struct function_view view;
    struct function_config config;
    if (!read_resource(call, &name) || !call_load_function(call, name.name, &view, &config)) {
        call_refuse(call);
        return;
    }
    call_answer(call, 200, json_pack("{s:o}", "Tags", render_pairs(config.tags, config.tag_count)));
}

static void remove_tags(const struct tagging *tagging, struct function_config *config)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < config->tag_count; i++) {
        bool gone = false;
        for (size_t k = 0; k < tagging->key_count; k++) {
            gone = gone || slice_equal(config->tags[i].key, tagging->keys[k]);
        }
        if (!gone) {
            config->tags[kept++] = config->tags[i];
        }
    }
    config->tag_count = kept;
}

static void change_tags(struct lambda_call *call);

static void on_changed(struct lambda_call *call, const struct core_result *results, uint32_t count)
{
    struct tagging *tagging = call->state;
    ASSERT(count == 1);
    if (results[0].code == CORE_OK) {
        call_answer(call, 204, NULL);
    } else if (++tagging->attempts == ATTEMPTS_MAX) {
        call_fail(call, LAMBDA_CONFLICT, "The function is being changed by others. Try again.");
    } else {
        change_tags(call);
    }
}

static void change_tags(struct lambda_call *call)
{
    struct tagging *tagging = call->state;
    struct function_view view;
    struct function_config config;
    if (!call_load_function(call, tagging->name.name, &view, &config)) {
        call_refuse(call);
        return;
    }
    if (tagging->remove) {
        remove_tags(tagging, &config);
    } else {
        settings_tags(&call->input, &config);
        if (!input_finish(&call->input) || !settings_small_enough(&call->input, &config)) {
            call_refuse(call);
            return;
        }
    }
    struct buffer record = {0};
    function_config_encode(&record, &config);
    struct command command = {.type = COMMAND_FUNCTION_PUT};
    command.function_put.name = tagging->name.name;
    command.function_put.version = view.version;
    memcpy(command.function_put.code_sha256, view.code_sha256, SHA256_BYTES);
    command.function_put.config = buffer_slice(&record);
    shard_call_add(&call->commit, &command);
    buffer_free(&record);
    call_commit(call, true, on_changed);
}

void lambda_run_tags_put(struct lambda_call *call)
{
    struct tagging *tagging = arena_alloc(&call->arena, sizeof *tagging);
    json_t *tags;
    call->state = tagging;
    if (!input_object(&call->input, NULL, "Tags", &tags)) {
        input_required(&call->input, "tags");
    }
    if (!input_finish(&call->input) || !read_resource(call, &tagging->name)) {
        call_refuse(call);
        return;
    }
    change_tags(call);
}

void lambda_run_tags_delete(struct lambda_call *call)
{
    struct tagging *tagging = arena_alloc(&call->arena, sizeof *tagging);
    struct slice query = call->query;
    struct slice name;
    struct slice value;
    call->state = tagging;
    tagging->remove = true;
    while (tagging->key_count < KEYS_MAX && query_next(&query, &call->arena, &name, &value)) {
        if (slice_is(name, "tagKeys")) {
            tagging->keys[tagging->key_count++] = value;
        }
    }
    if (tagging->key_count == 0) {
        call_fail(call, LAMBDA_VALIDATION,
                  "1 validation error detected: Value null at 'tagKeys' failed to satisfy "
                  "constraint: Member must not be null");
        return;
    }
    if (!read_resource(call, &tagging->name)) {
        call_refuse(call);
        return;
    }
    change_tags(call);
}
