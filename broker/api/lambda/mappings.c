/* SPDX-License-Identifier: Apache-2.0 */
/* Event source mappings: which queue feeds which function, and how.
 *
 * A mapping is a record in the catalog under its UUID, replaced under its version like a function.
 * It takes effect with its commit; answers to changes show the state in which AWS would be then
 * (Creating, Updating, Deleting), reads show Enabled or Disabled.
 *
 * Only SQS queues are event sources. A filter is refused, because to accept and not apply it would
 * hand the function messages that it must never see. */
#include "broker/api/lambda/actions.h"
#include "broker/api/lambda/permit.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"

#define ATTEMPTS_MAX   8
#define PAGE_MAX       100

#define FIFO_BATCH_MAX 10

struct mapping_change {
    uint8_t uuid[UUID_BYTES];
    uint64_t version; /* 0: to be created */
    struct slice function_name;
    struct slice queue_name;
    struct mapping_config config;
    unsigned attempts;
};

static bool refuse(struct lambda_call *call, const char *text)
{
    return failure_set(&call->failure, &call->arena, LAMBDA_PARAMETER, "%s", text);
}

static void answer_mapping(struct lambda_call *call, int status, const struct mapping_view *view,
                           const struct mapping_config *config, const char *state)
{
    const char *last_result = NULL;
    if (state == NULL && api_dispatch(call->api) != NULL) {
        struct dispatch_mapping_view live = {0};
        dispatch_mapping(api_dispatch(call->api), view->uuid, &live);
        last_result = live.last_result;
    }
    call_answer(call, status,
                render_mapping(&call->arena, &call->place, view, config, state, last_result));
}

/* ---- members of a request ---- */

/* The queue's name out of arn:aws:sqs:REGION:ACCOUNT:NAME. */
static bool read_queue_arn(struct lambda_call *call, struct slice arn, struct slice *name)
{
    struct slice parts[6] = {0};
    struct slice rest = arn;
    for (size_t i = 0; i < 5; i++) {
        ptrdiff_t colon = slice_find(rest, ':');
        if (colon < 0) {
            return failure_set(
                &call->failure, &call->arena, LAMBDA_VALIDATION,
                "1 validation error detected: Value '%.*s' at 'eventSourceArn' failed to satisfy "
                "constraint: Member must satisfy regular expression pattern: "
                "arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\\-])+:([a-z]{2}(-gov)?-[a-z]+-\\d{1})?:"
                "(\\d{12})?:(.*)",
                SHOWN(arn));
        }
        parts[i] = slice_make(rest.data, (size_t)colon);
        rest = slice_sub(rest, (size_t)colon + 1);
    }
    if (!slice_is(parts[0], "arn") || !slice_is(parts[2], "sqs")) {
        return failure_set(&call->failure, &call->arena, LAMBDA_PARAMETER,
                           "Unrecognized event source, must be sqs: %.*s", SHOWN(arn));
    }
    if (!slice_is(parts[3], call->place.region) || !slice_is(parts[4], call->place.account) ||
        slice_find(rest, '/') >= 0) {
        rest = (struct slice){0}; /* names no queue of this broker */
    }
    *name = rest;
    return true;
}

static bool read_function(struct lambda_call *call, struct slice text, struct slice *out)
{
    struct function_name name;
    if (!function_name_read(text, (struct slice){0}, call->place.region, call->place.account,
                            &call->arena, &call->failure, &name)) {
        return false;
    }
    *out = name.name;
    return true;
}

static void read_response_types(struct input *in, struct mapping_config *config)
{
    json_t *list;
    if (!input_list(in, NULL, "FunctionResponseTypes", &list)) {
        return;
    }
    config->report_item_failures = false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (text == NULL || strcmp(text, "ReportBatchItemFailures") != 0) {
            input_violation(in,
                            "Value '[%.*s]' at 'functionResponseTypes' failed to satisfy "
                            "constraint: Member must satisfy constraint: [Member must satisfy enum "
                            "value set: [ReportBatchItemFailures]]",
                            SHOWN(slice_of(text)));
            return;
        }
        config->report_item_failures = true;
    }
}

static void read_scaling(struct input *in, struct mapping_config *config)
{
    json_t *scaling;
    int64_t value;
    if (!input_object(in, NULL, "ScalingConfig", &scaling)) {
        return;
    }
    config->concurrency_max = 0;
    if (input_integer(in, scaling, "MaximumConcurrency", &value)) {
        input_between(in, "scalingConfig.maximumConcurrency", value, 2, 1000);
        config->concurrency_max = (uint32_t)value;
    }
}

static const char *const unsupported[] = {
    "AmazonManagedKafkaEventSourceConfig",
    "DestinationConfig",
    "KMSKeyArn",
    "ProvisionedPollerConfig",
    "SelfManagedEventSource",
    "SourceAccessConfigurations",
};

static bool refuse_unsupported(struct lambda_call *call)
{
    const json_t *root = call->input.root;
    const json_t *filters = json_object_get(json_object_get(root, "FilterCriteria"), "Filters");
    if (json_array_size(filters) > 0) {
        return refuse(call, "FilterCriteria is not supported by this version of Millrace.");
    }
    for (size_t i = 0; i < ARRAY_COUNT(unsupported); i++) {
        const json_t *value = json_object_get(root, unsupported[i]);
        if (value != NULL && !json_is_null(value) && json_object_size(value) > 0) {
            return failure_set(&call->failure, &call->arena, LAMBDA_PARAMETER,
                               "%s is not supported for queues by this version of Millrace.",
                               unsupported[i]);
        }
    }
    return true;
}

/* Everything that CreateEventSourceMapping and UpdateEventSourceMapping have in common. */
static bool read_settings(struct lambda_call *call, struct mapping_config *config)
{
    struct input *in = &call->input;
    int64_t number;
    input_bool(in, NULL, "Enabled", &config->enabled);
    if (input_integer(in, NULL, "BatchSize", &number)) {
        input_between(in, "batchSize", number, 1, 10000);
        config->batch_size = (uint32_t)number;
    }
    if (input_integer(in, NULL, "MaximumBatchingWindowInSeconds", &number)) {
        input_between(in, "maximumBatchingWindowInSeconds", number, 0, 300);
        config->batching_window_s = (uint32_t)number;
    }
    read_response_types(in, config);
    read_scaling(in, config);
    if (!input_finish(in) || !refuse_unsupported(call)) {
        return false;
    }
    if (config->batch_size > 10 && config->batching_window_s == 0) {
        return refuse(call, "Maximum batch window in seconds must be greater than 0 if maximum "
                            "batch size is greater than 10");
    }
    return true;
}

/* ---- what must be there ---- */

static bool check_parties(struct lambda_call *call, const struct mapping_change *change)
{
    const struct core *core = shard_core(api_catalog(call->api));
    struct function_view function;
    struct function_config config;
    struct queue_view queue;
    bool there;
    if (!call_permit_source(call, change->queue_name)) {
        return false;
    }
    if (!core_function_get(core, change->function_name, &function)) {
        return refuse(call, "Function does not exist");
    }
    if (!call_load_function(call, change->function_name, &function, &config)) {
        return false;
    }
    if (!call_queue(call, change->queue_name, &queue, &there)) {
        return false;
    }
    if (!there) {
        return refuse(call, "Error occurred while ReceiveMessage. SQS Error Code: "
                            "AWS.SimpleQueueService.NonExistentQueue. SQS Error Message: The "
                            "specified queue does not exist.");
    }
    if (queue.settings.fifo && change->config.batch_size > FIFO_BATCH_MAX) {
        return refuse(call, "The maximum batch size for an Amazon SQS FIFO queue is 10.");
    }
    if (queue.settings.fifo && change->config.batching_window_s > 0) {
        return refuse(call, "Batching window is not supported for FIFO queues");
    }
    if (queue.settings.visibility_s < config.timeout_s) {
        return failure_set(&call->failure, &call->arena, LAMBDA_PARAMETER,
                           "Queue visibility timeout: %u seconds is less than Function timeout: "
                           "%u seconds",
                           queue.settings.visibility_s, config.timeout_s);
    }
    return true;
}

static bool check_unique(struct lambda_call *call, const struct mapping_change *change)
{
    const struct core *core = shard_core(api_catalog(call->api));
    struct mapping_view other;
    size_t position = 0;
    while (core_mapping_next(core, &position, &other)) {
        if (slice_equal(other.queue_name, change->queue_name) &&
            slice_equal(other.function_name, change->function_name) &&
            memcmp(other.uuid, change->uuid, UUID_BYTES) != 0) {
            char uuid[UUID_TEXT_LENGTH + 1];
            uuid_text(other.uuid, uuid);
            return failure_set(
                &call->failure, &call->arena, LAMBDA_CONFLICT,
                "An event source mapping with SQS arn (\" %s \") and function (\" %.*s \") already "
                "exists. Please update or delete the existing mapping with UUID %s",
                render_queue_arn(&call->arena, &call->place, change->queue_name),
                SLICE_ARGS(change->function_name), uuid);
        }
    }
    return true;
}

/* ---- create and update ---- */

static bool prepare_update(struct lambda_call *call);

static void put(struct lambda_call *call);

static void run_update(struct lambda_call *call);

static void on_put(struct lambda_call *call, const struct core_result *results, uint32_t count)
{
    struct mapping_change *change = call->state;
    ASSERT(count == 1);
    bool created = change->version == 0;
    if (results[0].code == CORE_OK) {
        struct mapping_view view = {.function_name = change->function_name,
                                    .queue_name = change->queue_name};
        memcpy(view.uuid, change->uuid, UUID_BYTES);
        answer_mapping(call, 202, &view, &change->config, created ? "Creating" : "Updating");
    } else if (results[0].code == CORE_EXISTS && !check_unique(call, change)) {
        call_refuse(call); /* another was created at the same time */
    } else if (created || ++change->attempts == ATTEMPTS_MAX) {
        call_fail(call, LAMBDA_CONFLICT, "The mapping is being changed by others. Try again.");
    } else {
        run_update(call);
    }
}

static void put(struct lambda_call *call)
{
    struct mapping_change *change = call->state;
    struct buffer record = {0};
    change->config.last_modified_ms = clock_now_ms();
    mapping_config_encode(&record, &change->config);
    struct command command = {.type = COMMAND_MAPPING_PUT};
    memcpy(command.mapping_put.uuid, change->uuid, UUID_BYTES);
    command.mapping_put.version = change->version;
    command.mapping_put.function_name = change->function_name;
    command.mapping_put.queue_name = change->queue_name;
    command.mapping_put.config = buffer_slice(&record);
    shard_call_add(&call->commit, &command);
    buffer_free(&record);
    call_commit(call, true, on_put);
}

static bool prepare_create(struct lambda_call *call)
{
    struct mapping_change *change = call->state;
    struct input *in = &call->input;
    struct slice function = {0};
    struct slice arn = {0};
    change->config = (struct mapping_config){.enabled = true, .batch_size = 10};
    uuid_random(change->uuid);
    input_text(in, NULL, "FunctionName", &function);
    input_text(in, NULL, "EventSourceArn", &arn);
    if (!read_settings(call, &change->config) ||
        !read_function(call, function, &change->function_name)) {
        return false;
    }
    if (arn.data == NULL) {
        return refuse(call, "Unrecognized event source.");
    }
    return read_queue_arn(call, arn, &change->queue_name) && check_parties(call, change) &&
           check_unique(call, change);
}

static void run_create(struct lambda_call *call)
{
    if (prepare_create(call)) {
        put(call);
    } else if (!call_looks(call, run_create)) {
        call_refuse(call);
    }
}

void lambda_run_mapping_create(struct lambda_call *call)
{
    call->state = arena_alloc(&call->arena, sizeof(struct mapping_change));
    run_create(call);
}

static bool find_mapping(struct lambda_call *call, struct mapping_view *view,
                         struct mapping_config *config)
{
    uint8_t uuid[UUID_BYTES];
    if (!uuid_parse(call->labels[0], uuid) ||
        !core_mapping_get(shard_core(api_catalog(call->api)), uuid, view)) {
        return failure_set(&call->failure, &call->arena, LAMBDA_NOT_FOUND,
                           "The resource you requested does not exist.");
    }
    return mapping_config_decode(view->config, &call->arena, config) == STATUS_OK ||
           failure_set(&call->failure, &call->arena, LAMBDA_INTERNAL,
                       "The stored mapping cannot be read.");
}

/* Remember a mapping beyond the next change of the core. */
static void keep_mapping(struct lambda_call *call, const struct mapping_view *view)
{
    struct mapping_change *change = call->state;
    memcpy(change->uuid, view->uuid, UUID_BYTES);
    change->version = view->version;
    change->queue_name = arena_copy(&call->arena, view->queue_name);
    change->function_name = arena_copy(&call->arena, view->function_name);
}

static bool prepare_update(struct lambda_call *call)
{
    struct mapping_change *change = call->state;
    struct mapping_view view;
    struct slice function;
    if (!find_mapping(call, &view, &change->config)) {
        return false;
    }
    keep_mapping(call, &view);
    if (input_text(&call->input, NULL, "FunctionName", &function) &&
        !read_function(call, function, &change->function_name)) {
        return false;
    }
    return read_settings(call, &change->config) && check_parties(call, change) &&
           check_unique(call, change);
}

static void run_update(struct lambda_call *call)
{
    if (prepare_update(call)) {
        put(call);
    } else if (!call_looks(call, run_update)) {
        call_refuse(call);
    }
}

void lambda_run_mapping_update(struct lambda_call *call)
{
    call->state = arena_alloc(&call->arena, sizeof(struct mapping_change));
    run_update(call);
}

/* ---- delete ---- */

static void on_deleted(struct lambda_call *call, const struct core_result *results, uint32_t count)
{
    const struct mapping_change *change = call->state;
    ASSERT(count == 1);
    if (results[0].code != CORE_OK) {
        call_fail(call, LAMBDA_NOT_FOUND, "The resource you requested does not exist.");
        return;
    }
    struct mapping_view view = {.function_name = change->function_name,
                                .queue_name = change->queue_name};
    memcpy(view.uuid, change->uuid, UUID_BYTES);
    answer_mapping(call, 202, &view, &change->config, "Deleting");
}

void lambda_run_mapping_delete(struct lambda_call *call)
{
    struct mapping_change *change = arena_alloc(&call->arena, sizeof *change);
    struct mapping_view view;
    call->state = change;
    if (!find_mapping(call, &view, &change->config)) {
        call_refuse(call);
        return;
    }
    keep_mapping(call, &view);
    struct command command = {.type = COMMAND_MAPPING_DELETE};
    memcpy(command.mapping_delete.uuid, view.uuid, UUID_BYTES);
    shard_call_add(&call->commit, &command);
    call_commit(call, false, on_deleted);
}

/* ---- read ---- */

void lambda_run_mapping_get(struct lambda_call *call)
{
    struct mapping_view view;
    struct mapping_config config;
    if (!find_mapping(call, &view, &config)) {
        call_refuse(call);
        return;
    }
    answer_mapping(call, 200, &view, &config, NULL);
}

struct mapping_filter {
    struct slice function; /* empty: any */
    struct slice queue;    /* empty: any */
    bool by_queue;
};

static bool read_filter(struct lambda_call *call, struct mapping_filter *filter)
{
    struct slice function = query_get(call->query, &call->arena, "FunctionName");
    struct slice arn = query_get(call->query, &call->arena, "EventSourceArn");
    *filter = (struct mapping_filter){.by_queue = arn.length > 0};
    return (function.length == 0 || read_function(call, function, &filter->function)) &&
           (arn.length == 0 || read_queue_arn(call, arn, &filter->queue));
}

static bool filter_passes(const struct mapping_filter *filter, const struct mapping_view *view)
{
    return (filter->function.length == 0 || slice_equal(filter->function, view->function_name)) &&
           (!filter->by_queue || slice_equal(filter->queue, view->queue_name));
}

/* Move `position` behind the mapping that the marker names. One that is gone by now starts the list
 * again: to see some mappings twice is better than not at all. */
static size_t after_marker(struct lambda_call *call, const struct core *core)
{
    struct slice marker = query_get(call->query, &call->arena, "Marker");
    uint8_t uuid[UUID_BYTES];
    struct mapping_view view;
    size_t position = 0;
    if (marker.length == 0 || !uuid_parse(marker, uuid)) {
        return 0;
    }
    while (core_mapping_next(core, &position, &view)) {
        if (memcmp(view.uuid, uuid, UUID_BYTES) == 0) {
            return position;
        }
    }
    return 0;
}

void lambda_run_mapping_list(struct lambda_call *call)
{
    const struct core *core = shard_core(api_catalog(call->api));
    struct mapping_filter filter;
    struct mapping_view view;
    uint32_t size;
    if (!call_page_size(call, PAGE_MAX, &size) || !read_filter(call, &filter)) {
        call_refuse(call);
        return;
    }
    json_t *list = json_array();
    json_t *out = json_pack("{s:o}", "EventSourceMappings", list);
    char last[UUID_TEXT_LENGTH + 1] = "";
    size_t position = after_marker(call, core);
    while (core_mapping_next(core, &position, &view)) {
        struct mapping_config config;
        if (!filter_passes(&filter, &view) ||
            mapping_config_decode(view.config, &call->arena, &config) != STATUS_OK) {
            continue;
        }
        if (json_array_size(list) == size) {
            json_object_set_new(out, "NextMarker", json_string(last));
            break;
        }
        uuid_text(view.uuid, last);
        json_array_append_new(
            list, render_mapping(&call->arena, &call->place, &view, &config, NULL, NULL));
    }
    call_answer(call, 200, out);
}
