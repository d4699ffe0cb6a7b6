/* SPDX-License-Identifier: Apache-2.0 */
/* GetFunction, GetFunctionConfiguration, ListFunctions, GetAccountSettings, and the package itself.
 *
 * AWS gives a signed S3 URL for a function's package; here it is a path of this same API, so that
 * whatever downloads it needs to reach nothing else. */
#include "broker/api/lambda/actions.h"
#include "proto/base/assert.h"
#include "proto/base/trace.h"

#define PAGE_MAX   50
#define PIECES_MAX 128 /* 50 MB in pieces of 512 KiB are 100 */
#define LOCATION_S 600

void lambda_run_configuration_get(struct lambda_call *call)
{
    struct function_name name;
    struct function_view view;
    struct function_config config;
    if (!call_function(call, &name, &view, &config)) {
        call_refuse(call);
        return;
    }
    call_answer(call, 200,
                render_function(&call->arena, &call->place, &view, &config,
                                name.qualifier.data != NULL, RENDER_STORED));
}

/* Where the package can be downloaded for some minutes, by whoever is told, as with AWS's URL. */
static const char *code_location(struct lambda_call *call, struct slice name)
{
    const char *base = api_base_url(call->api, call->request);
    const char *path =
        arena_printf(&call->arena, "/2015-03-31/functions/%.*s/code/zip", SLICE_ARGS(name));
    const char *host = strstr(base, "://");
    struct slice query =
        auth_presign(api_auth(call->api), &call->caller, slice_of(path),
                     slice_of(host != NULL ? host + 3 : base), "lambda", LOCATION_S, &call->arena);
    return arena_printf(&call->arena, "%s%s%s%.*s", base, path, query.length > 0 ? "?" : "",
                        SLICE_ARGS(query));
}

void lambda_run_function_get(struct lambda_call *call)
{
    struct function_name name;
    struct function_view view;
    struct function_config config;
    if (!call_function(call, &name, &view, &config)) {
        call_refuse(call);
        return;
    }
    const char *location = code_location(call, name.name);
    json_t *out = json_pack("{s:o, s:{s:s, s:s}}", "Configuration",
                            render_function(&call->arena, &call->place, &view, &config,
                                            name.qualifier.data != NULL, RENDER_STORED),
                            "Code", "RepositoryType", "S3", "Location", location);
    if (config.tag_count > 0) {
        json_object_set_new(out, "Tags", render_pairs(config.tags, config.tag_count));
    }
    call_answer(call, 200, out);
}

void lambda_run_function_list(struct lambda_call *call)
{
    const struct core *core = shard_core(api_catalog(call->api));
    struct slice after = query_get(call->query, &call->arena, "Marker");
    struct function_view view;
    uint32_t size;
    if (!call_page_size(call, PAGE_MAX, &size)) {
        call_refuse(call);
        return;
    }
    json_t *list = json_array();
    json_t *out = json_pack("{s:o}", "Functions", list);
    while (json_array_size(list) < size && core_function_next(core, after, &view)) {
        struct function_config config;
        after = arena_copy(&call->arena, view.name);
        if (function_config_decode(view.config, &call->arena, &config) != STATUS_OK) {
            trace_error("lambda", "function_unreadable", "name=\"%.*s\"", SLICE_ARGS(view.name));
            continue;
        }
        json_array_append_new(list, render_function(&call->arena, &call->place, &view, &config,
                                                    false, RENDER_LISTED));
    }
    if (core_function_next(core, after, &view)) {
        json_object_set_new(out, "NextMarker",
                            json_stringn((const char *)after.data, after.length));
    }
    call_answer(call, 200, out);
}

void lambda_run_account_get(struct lambda_call *call)
{
    const struct core *core = shard_core(api_catalog(call->api));
    struct slice after = {0};
    struct function_view view;
    json_int_t count = 0;
    json_int_t bytes = 0;
    while (core_function_next(core, after, &view)) {
        after = view.name;
        count++;
        bytes += (json_int_t)view.code_bytes;
    }
    call_answer(call, 200,
                json_pack("{s:{s:I, s:i, s:i, s:i, s:i}, s:{s:I, s:I}}", "AccountLimit",
                          "TotalCodeSize", (json_int_t)80530636800, "CodeSizeUnzipped", 262144000,
                          "CodeSizeZipped", 52428800, "ConcurrentExecutions", 1000,
                          "UnreservedConcurrentExecutions", 1000, "AccountUsage", "TotalCodeSize",
                          bytes, "FunctionCount", count));
}

/* ---- the package ---- */

struct package_read {
    struct shard_read read;
    struct body_ref refs[PIECES_MAX];
};

static void on_package(struct shard_read *read, enum status status)
{
    struct lambda_call *call = read->data;
    struct http_header type = {SLICE_LITERAL("Content-Type"), SLICE_LITERAL("application/zip")};
    if (call->request != NULL && status == STATUS_OK) {
        call_answer_raw(call, 200, &type, 1, &read->out);
    } else if (call->request != NULL) {
        call_fail(call, LAMBDA_INTERNAL, "The function's code could not be read: %s.",
                  status_text(status));
    }
    buffer_free(&read->out);
    call_unref(call);
}

void lambda_run_code_get(struct lambda_call *call)
{
    const struct core *core = shard_core(api_catalog(call->api));
    struct function_name name;
    struct function_view view;
    if (!call_function(call, &name, &view, NULL)) {
        call_refuse(call);
        return;
    }
    struct package_read *package = arena_alloc(&call->arena, sizeof *package);
    size_t count = 0;
    while (count < PIECES_MAX &&
           core_blob_piece(core, view.code_sha256, count, &package->refs[count])) {
        count++;
    }
    package->read = (struct shard_read){
        .refs = package->refs, .count = count, .done = on_package, .data = call};
    call_ref(call);
    shard_read(api_catalog(call->api), &package->read);
}
