/* SPDX-License-Identifier: Apache-2.0 */
/* The shapes FunctionConfiguration and EventSourceMappingConfiguration.
 *
 * A function here is Active as soon as its record is committed. AWS takes seconds for that, and its
 * answers to CreateFunction and UpdateFunction... show the state in between ("Pending",
 * "InProgress"). Tools are written for that order of events, so the answers to changes keep it; any
 * read afterwards shows the truth. */
#include "broker/api/lambda/render.h"

#include "proto/base/assert.h"

#include <time.h>

#define PACKAGE_ARN_RUNTIME                                                                        \
    "arn:aws:lambda:%s::runtime:"                                                                  \
    "0000000000000000000000000000000000000000000000000000000000000000"

const char *render_function_arn(struct arena *arena, const struct render_place *place,
                                struct slice name)
{
    return arena_printf(arena, "arn:aws:lambda:%s:%s:function:%.*s", place->region, place->account,
                        SLICE_ARGS(name));
}

const char *render_queue_arn(struct arena *arena, const struct render_place *place,
                             struct slice name)
{
    return arena_printf(arena, "arn:aws:sqs:%s:%s:%.*s", place->region, place->account,
                        SLICE_ARGS(name));
}

struct slice render_time(struct arena *arena, uint64_t epoch_ms)
{
    time_t seconds = (time_t)(epoch_ms / 1000);
    struct tm utc;
    char day[32];
    gmtime_r(&seconds, &utc);
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &utc);
    return slice_of(arena_printf(arena, "%s.%03u+0000", day, (unsigned)(epoch_ms % 1000)));
}

static json_t *text(struct slice s)
{
    json_t *value = json_stringn(s.data != NULL ? (const char *)s.data : "", s.length);
    ASSERT(value != NULL); /* the catalog holds UTF-8 only */
    return value;
}

json_t *render_pairs(const struct config_pair *pairs, uint32_t count)
{
    json_t *object = json_object();
    for (uint32_t i = 0; i < count; i++) {
        json_object_setn_new(object, (const char *)pairs[i].key.data, pairs[i].key.length,
                             text(pairs[i].value));
    }
    return object;
}

/* ---- functions ---- */

static void add_settings(json_t *out, const struct function_config *config)
{
    json_object_set_new(out, "Runtime", text(config->runtime));
    json_object_set_new(out, "Role", text(config->role));
    json_object_set_new(out, "Handler", text(config->handler));
    json_object_set_new(out, "Description", text(config->description));
    json_object_set_new(out, "Timeout", json_integer(config->timeout_s));
    json_object_set_new(out, "MemorySize", json_integer(config->memory_mb));
    json_object_set_new(out, "LastModified", text(config->last_modified));
    json_object_set_new(out, "RevisionId", text(config->revision_id));
    json_object_set_new(out, "Architectures", json_pack("[o]", text(config->architecture)));
    json_object_set_new(out, "EphemeralStorage",
                        json_pack("{s:i}", "Size", (int)config->ephemeral_mb));
    if (config->environment_count > 0) {
        json_object_set_new(
            out, "Environment",
            json_pack("{s:o}", "Variables",
                      render_pairs(config->environment, config->environment_count)));
    }
}

static void add_code(json_t *out, const struct function_view *view)
{
    struct buffer digest = {0};
    encode_base64(&digest, slice_make(view->code_sha256, SHA256_BYTES));
    json_object_set_new(out, "CodeSize", json_integer((json_int_t)view->code_bytes));
    json_object_set_new(out, "CodeSha256", text(buffer_slice(&digest)));
    buffer_free(&digest);
}

/* What is stored and echoed, and AWS's defaults for what was never given. */
static void add_extras(json_t *out, struct arena *arena, const struct render_place *place,
                       const struct function_view *view, const struct function_config *config)
{
    json_t *extras = json_loadb((const char *)config->extras.data, config->extras.length, 0, NULL);
    if (extras != NULL) {
        json_object_update_missing(out, extras);
        json_decref(extras);
    }
    const char *group = arena_printf(arena, "/aws/lambda/%.*s", SLICE_ARGS(view->name));
    json_t *defaults =
        json_pack("{s:s, s:{s:s}, s:{s:s, s:s}, s:{s:s, s:s}, s:{s:s}}", "PackageType", "Zip",
                  "TracingConfig", "Mode", "PassThrough", "SnapStart", "ApplyOn", "None",
                  "OptimizationStatus", "Off", "LoggingConfig", "LogFormat", "Text", "LogGroup",
                  group, "RuntimeVersionConfig", "RuntimeVersionArn",
                  arena_printf(arena, PACKAGE_ARN_RUNTIME, place->region));
    json_object_update_missing(out, defaults);
    json_decref(defaults);
}

static void add_state(json_t *out, enum render_moment moment)
{
    json_t *state = NULL;
    switch (moment) {
    case RENDER_LISTED:
        return;
    case RENDER_STORED:
        state = json_pack("{s:s, s:s}", "State", "Active", "LastUpdateStatus", "Successful");
        break;
    case RENDER_CREATED:
        state = json_pack("{s:s, s:s, s:s}", "State", "Pending", "StateReason",
                          "The function is being created.", "StateReasonCode", "Creating");
        break;
    case RENDER_UPDATED:
        state = json_pack("{s:s, s:s, s:s, s:s}", "State", "Active", "LastUpdateStatus",
                          "InProgress", "LastUpdateStatusReason", "The function is being created.",
                          "LastUpdateStatusReasonCode", "Creating");
        break;
    }
    json_object_update(out, state);
    json_decref(state);
}

json_t *render_function(struct arena *arena, const struct render_place *place,
                        const struct function_view *view, const struct function_config *config,
                        bool qualified, enum render_moment moment)
{
    json_t *out = json_object();
    const char *arn = render_function_arn(arena, place, view->name);
    json_object_set_new(out, "FunctionName", text(view->name));
    json_object_set_new(out, "FunctionArn",
                        json_string(qualified ? arena_printf(arena, "%s:$LATEST", arn) : arn));
    json_object_set_new(out, "Version", json_string("$LATEST"));
    add_settings(out, config);
    add_code(out, view);
    add_state(out, moment);
    add_extras(out, arena, place, view, config);
    return out;
}

/* ---- event source mappings ---- */

json_t *render_mapping(struct arena *arena, const struct render_place *place,
                       const struct mapping_view *view, const struct mapping_config *config,
                       const char *state, const char *last_result)
{
    char uuid[UUID_TEXT_LENGTH + 1];
    uuid_text(view->uuid, uuid);
    const char *own = arena_printf(arena, "arn:aws:lambda:%s:%s:event-source-mapping:%s",
                                   place->region, place->account, uuid);
    const char *settled = config->enabled ? "Enabled" : "Disabled";
    json_t *out = json_pack(
        "{s:s, s:s, s:s, s:s, s:i, s:i, s:f, s:s, s:s, s:s*, s:o}", "UUID", uuid,
        "EventSourceMappingArn", own, "EventSourceArn",
        render_queue_arn(arena, place, view->queue_name), "FunctionArn",
        render_function_arn(arena, place, view->function_name), "BatchSize",
        (int)config->batch_size, "MaximumBatchingWindowInSeconds", (int)config->batching_window_s,
        "LastModified", (double)config->last_modified_ms / 1000.0, "State",
        state != NULL ? state : settled, "StateTransitionReason", "USER_INITIATED",
        "LastProcessingResult", last_result, "FunctionResponseTypes",
        config->report_item_failures ? json_pack("[s]", "ReportBatchItemFailures") : json_array());
    ASSERT(out != NULL);
    if (config->concurrency_max > 0) {
        json_object_set_new(out, "ScalingConfig",
                            json_pack("{s:i}", "MaximumConcurrency", (int)config->concurrency_max));
    }
    return out;
}
