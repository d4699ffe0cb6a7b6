/* SPDX-License-Identifier: Apache-2.0 */
/* CreateFunction, UpdateFunctionCode, UpdateFunctionConfiguration, DeleteFunction.
 *
 * A function is one record in the catalog, and its code a blob that the record names by SHA-256;
 * the code is stored first. Records are replaced under their version: an update reads the record,
 * puts its changes over it and proposes the result for that version only. If someone else was
 * faster it starts again from the new record, so neither change is lost; a client that wants to
 * know gives the RevisionId that it saw. A function's hidden queue for asynchronous events comes
 * and goes with it, in the same entry. */
#include "broker/api/lambda/actions.h"
#include "broker/api/lambda/code_store.h"
#include "broker/api/lambda/permit.h"
#include "broker/api/lambda/settings.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"

#define ATTEMPTS_MAX 8 /* against others who change the same function at the same time */

struct change {
    struct function_name name;
    struct function_config config; /* as it will be stored */
    struct slice revision_id;      /* that the client saw; absent: any */
    bool code;                     /* changes the code, not the settings */
    bool dry_run;
    unsigned attempts;
};

static struct slice async_queue_name(struct lambda_call *call, struct slice function)
{
    return slice_of(arena_printf(&call->arena, ASYNC_QUEUE_PREFIX "%.*s", SLICE_ARGS(function)));
}

static void stamp(struct lambda_call *call, struct function_config *config)
{
    uint8_t id[UUID_BYTES];
    char text[UUID_TEXT_LENGTH + 1];
    uuid_random(id);
    uuid_text(id, text);
    config->revision_id = arena_copy(&call->arena, slice_of(text));
    config->last_modified = render_time(&call->arena, clock_now_ms());
}

static void add_function_put(struct lambda_call *call, struct slice name, uint64_t version,
                             const uint8_t sha256[SHA256_BYTES],
                             const struct function_config *config)
{
    struct buffer record = {0};
    function_config_encode(&record, config);
    struct command command = {.type = COMMAND_FUNCTION_PUT};
    command.function_put.name = name;
    command.function_put.version = version;
    memcpy(command.function_put.code_sha256, sha256, SHA256_BYTES);
    command.function_put.config = buffer_slice(&record);
    shard_call_add(&call->commit, &command);
    buffer_free(&record);
}

static void answer_function(struct lambda_call *call, int status, const struct function_view *view,
                            const struct function_config *config, enum render_moment moment)
{
    call_answer(call, status,
                render_function(&call->arena, &call->place, view, config, false, moment));
}

/* ---- create ---- */

bool lambda_decode_create(struct lambda_call *call)
{
    struct change *change = arena_alloc(&call->arena, sizeof *change);
    struct input *in = &call->input;
    struct slice name = {0};
    json_t *code;
    call->state = change;
    if (!input_open(in, call->body, &call->arena, &call->failure)) {
        return false;
    }
    input_text(in, NULL, "FunctionName", &name);
    if (call->failure.error != LAMBDA_OK ||
        !function_name_read(name, (struct slice){0}, call->place.region, call->place.account,
                            &call->arena, &call->failure, &change->name)) {
        return false;
    }
    if (!input_object(in, NULL, "Code", &code)) {
        input_required(in, "code");
    }
    settings_default(&change->config);
    return settings_read(in, true, &change->config) && package_input_read(in, code, &call->package);
}

static void create_put(struct lambda_call *call);

static void refuse_existing(struct lambda_call *call, struct slice name)
{
    call_fail(call, LAMBDA_CONFLICT, "Function already exist: %.*s", SLICE_ARGS(name));
}

static void on_created(struct lambda_call *call, const struct core_result *results, uint32_t count)
{
    struct change *change = call->state;
    ASSERT(count == 2);
    if (results[0].code == CORE_EXISTS || results[0].code == CORE_CONFLICT) {
        refuse_existing(call, change->name.name);
    } else if (results[0].code == CORE_NO_BLOB && ++change->attempts < ATTEMPTS_MAX) {
        code_store(call, create_put);
    } else if (results[0].code != CORE_OK) {
        call_fail(call, LAMBDA_INTERNAL, "The function could not be stored. Try again.");
    } else {
        struct function_view view = {.name = change->name.name,
                                     .code_bytes = call->package.zip.length};
        memcpy(view.code_sha256, call->package.sha256, SHA256_BYTES);
        answer_function(call, 201, &view, &change->config, RENDER_CREATED);
    }
}

static void create_put(struct lambda_call *call)
{
    struct change *change = call->state;
    stamp(call, &change->config);
    add_function_put(call, change->name.name, 0, call->package.sha256, &change->config);
    struct command queue = {.type = COMMAND_QUEUE_CREATE};
    queue.queue_create.name = async_queue_name(call, change->name.name);
    async_queue_settings(&queue.queue_create.settings);
    queue.queue_create.tags = SLICE_LITERAL("{}");
    shard_call_add(&call->commit, &queue);
    call_commit(call, true, on_created);
}

void lambda_run_function_create(struct lambda_call *call)
{
    struct change *change = call->state;
    struct function_view view;
    if (!call_permit_function(call, "lambda:CreateFunction", change->name.name)) {
        call_refuse(call);
        return;
    }
    if (core_function_get(shard_core(api_catalog(call->api)), change->name.name, &view)) {
        refuse_existing(call, change->name.name);
        return;
    }
    code_store(call, create_put);
}

/* ---- update ---- */

/* A longer timeout than the visibility timeout of a queue that feeds the function would have its
 * messages delivered again while they are worked on. */
static bool check_queues(struct lambda_call *call, struct slice function, uint32_t timeout_s)
{
    const struct core *core = shard_core(api_catalog(call->api));
    struct mapping_view mapping;
    struct queue_view queue;
    bool there;
    size_t position = 0;
    while (core_mapping_next(core, &position, &mapping)) {
        if (!slice_equal(mapping.function_name, function)) {
            continue;
        }
        if (!call_queue(call, mapping.queue_name, &queue, &there)) {
            return false;
        }
        if (there && queue.settings.visibility_s < timeout_s) {
            return failure_set(&call->failure, &call->arena, LAMBDA_PARAMETER,
                               "Queue visibility timeout: %u seconds is less than Function "
                               "timeout: %u seconds",
                               queue.settings.visibility_s, timeout_s);
        }
    }
    return true;
}

/* The record as it is now, with the changes over it. */
static bool prepare(struct lambda_call *call, struct function_view *view)
{
    struct change *change = call->state;
    struct function_config *config = &change->config;
    if (!call_load_function(call, change->name.name, view, config)) {
        return false;
    }
    if (change->revision_id.data != NULL &&
        !slice_equal(change->revision_id, config->revision_id)) {
        return failure_set(&call->failure, &call->arena, LAMBDA_PRECONDITION,
                           "The Revision Id provided does not match the latest Revision Id. Call "
                           "the GetFunction/GetAlias API to retrieve the latest Revision Id");
    }
    if (change->code) {
        settings_architectures(&call->input, config);
        memcpy(view->code_sha256, call->package.sha256, SHA256_BYTES);
        view->code_bytes = call->package.zip.length;
        return input_finish(&call->input);
    }
    return settings_read(&call->input, false, config) &&
           check_queues(call, change->name.name, config->timeout_s);
}

static void update_put(struct lambda_call *call);

static void on_updated(struct lambda_call *call, const struct core_result *results, uint32_t count)
{
    struct change *change = call->state;
    struct function_view view;
    ASSERT(count == 1);
    if (results[0].code == CORE_OK) {
        if (!core_function_get(shard_core(api_catalog(call->api)), change->name.name, &view)) {
            view = (struct function_view){.name = change->name.name}; /* deleted right behind */
        }
        answer_function(call, 200, &view, &change->config, RENDER_UPDATED);
    } else if (++change->attempts == ATTEMPTS_MAX) {
        call_fail(call, LAMBDA_CONFLICT,
                  "The operation cannot be performed at this time. An update is in progress for "
                  "resource: %s",
                  render_function_arn(&call->arena, &call->place, change->name.name));
    } else if (results[0].code == CORE_NO_BLOB && change->code) {
        code_store(call, update_put);
    } else {
        update_put(call); /* says so if the function is gone by now */
    }
}

static void update_put(struct lambda_call *call)
{
    struct change *change = call->state;
    struct function_view view;
    if (!prepare(call, &view)) {
        if (!call_looks(call, update_put)) {
            call_refuse(call);
        }
        return;
    }
    stamp(call, &change->config);
    add_function_put(call, change->name.name, view.version, view.code_sha256, &change->config);
    call_commit(call, true, on_updated);
}

/* The record must not be there for another's qualifier, and the request must be good, before any
 * code is stored. */
static bool begin_update(struct lambda_call *call, struct function_view *view)
{
    struct change *change = call->state;
    return call_function_name(call, &change->name) && prepare(call, view);
}

void lambda_run_configuration_update(struct lambda_call *call)
{
    struct change *change = arena_alloc(&call->arena, sizeof *change);
    call->state = change;
    input_text(&call->input, NULL, "RevisionId", &change->revision_id);
    if (call_function_name(call, &change->name)) {
        update_put(call);
    } else {
        call_refuse(call);
    }
}

bool lambda_decode_code(struct lambda_call *call)
{
    struct change *change = arena_alloc(&call->arena, sizeof *change);
    struct input *in = &call->input;
    call->state = change;
    change->code = true;
    if (!input_open(in, call->body, &call->arena, &call->failure)) {
        return false;
    }
    input_bool(in, NULL, "DryRun", &change->dry_run);
    input_text(in, NULL, "RevisionId", &change->revision_id);
    return call->failure.error == LAMBDA_OK && settings_refuse_unsupported(in, NULL) &&
           package_input_read(in, in->root, &call->package);
}

void lambda_run_code_update(struct lambda_call *call)
{
    struct change *change = call->state;
    struct function_view view;
    if (!begin_update(call, &view)) {
        call_refuse(call);
    } else if (change->dry_run) {
        answer_function(call, 200, &view, &change->config, RENDER_STORED);
    } else {
        code_store(call, update_put);
    }
}

/* ---- delete ---- */

static void on_deleted(struct lambda_call *call, const struct core_result *results, uint32_t count)
{
    const struct function_name *name = call->state;
    ASSERT(count >= 1);
    if (results[0].code == CORE_OK) {
        call_answer(call, 204, NULL);
        return;
    }
    call_fail(call, LAMBDA_NOT_FOUND, "Function not found: %s",
              render_function_arn(&call->arena, &call->place, name->name));
}

void lambda_run_function_delete(struct lambda_call *call)
{
    struct function_name *name = arena_alloc(&call->arena, sizeof *name);
    struct function_view view;
    struct queue_view queue;
    call->state = name;
    if (!call_function(call, name, &view, NULL)) {
        call_refuse(call);
        return;
    }
    if (name->qualifier.data != NULL) {
        call_fail(call, LAMBDA_PARAMETER,
                  "$LATEST version cannot be deleted without deleting the function.");
        return;
    }
    struct command command = {.type = COMMAND_FUNCTION_DELETE};
    command.function_delete.name = name->name;
    shard_call_add(&call->commit, &command);
    if (core_queue_by_name(shard_core(api_catalog(call->api)), async_queue_name(call, name->name),
                           &queue)) {
        struct command hidden = {.type = COMMAND_QUEUE_DELETE};
        hidden.queue_delete.queue_id = queue.queue_id;
        shard_call_add(&call->commit, &hidden);
    }
    call_commit(call, false, on_deleted);
}
