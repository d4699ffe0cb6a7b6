/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a call.
 *
 *     call_new --> decode (loop, or a pool thread for large bodies) --> run --> answer --> freed
 *                       |                                                |
 *                       +--- failure set ---> call_refuse                +-- commits, reads, jobs
 *
 * References: one for the request, until it is answered or left; one for everything that will call
 * back. (I1) A call with request == NULL is never answered. (I2) A callback holds a reference until
 * it returns. (I3) Nothing in a call points into the http_request but call->request itself. */
#include "broker/api/lambda/call.h"

#include "broker/shards/look.h"

#include "proto/base/assert.h"
#include "proto/base/clock.h"

#include <stdio.h>
#include <stdlib.h>

#define ANSWER_HEADERS_MAX 8
#define MAX_ITEMS          10000

static struct slice own_header(struct lambda_call *call, const char *name)
{
    struct slice value = http_header(call->request, name);
    return value.data != NULL ? arena_copy(&call->arena, value) : value;
}

struct lambda_call *call_new(struct api *api, struct http_request *request)
{
    struct lambda_call *call = calloc(1, sizeof *call);
    ASSERT(call != NULL);
    uint8_t id[UUID_BYTES];
    uuid_random(id);
    uuid_text(id, call->request_id);
    call->api = api;
    api_hold(api);
    call->request = request;
    call->started_ns = clock_monotonic_ns();
    call->references = 1;
    const struct api_config *config = api_config(api);
    call->place = (struct render_place){config->region, config->account_id};
    call->query = arena_copy(&call->arena, request->query);
    call->body = arena_copy(&call->arena, request->body);
    call->invocation_type = own_header(call, "X-Amz-Invocation-Type");
    call->log_type = own_header(call, "X-Amz-Log-Type");
    call->client_context = own_header(call, "X-Amz-Client-Context");
    request->data = call;
    return call;
}

void call_ref(struct lambda_call *call)
{
    call->references++;
}

void call_unref(struct lambda_call *call)
{
    ASSERT(call->references > 0);
    if (--call->references > 0) {
        return;
    }
    ASSERT(call->request == NULL);
    input_close(&call->input);
    package_input_free(&call->package);
    buffer_free(&call->commit.commands);
    arena_free(&call->arena);
    struct api *api = call->api;
    free(call);
    api_release(api);
}

void call_left(struct lambda_call *call)
{
    call->request = NULL; /* I1 */
    if (call->left != NULL) {
        call->left(call);
    }
    call_unref(call);
}

/* ---- answers ---- */

void call_answer_raw(struct lambda_call *call, int status, const struct http_header *headers,
                     unsigned header_count, struct buffer *body)
{
    struct buffer empty = {0};
    struct buffer *content = body != NULL ? body : &empty;
    if (call->request == NULL) {
        buffer_free(content);
        return;
    }
    ASSERT(header_count < ANSWER_HEADERS_MAX);
    struct http_header all[ANSWER_HEADERS_MAX];
    for (unsigned i = 0; i < header_count; i++) {
        all[i] = headers[i];
    }
    all[header_count++] =
        (struct http_header){SLICE_LITERAL("x-amzn-RequestId"), slice_of(call->request_id)};
    api_count(call->api, "lambda", call->route != NULL ? call->route->name : "none",
              failure_code(call->failure.error), call->started_ns);
    struct http_request *request = call->request;
    call->request = NULL;
    request->data = NULL; /* I1: nothing finds the call through an answered request */
    http_respond(request, status, all, header_count, content);
    call_unref(call);
}

static int add_to_buffer(const char *text, size_t length, void *data)
{
    buffer_add(data, text, length);
    return 0;
}

void call_answer(struct lambda_call *call, int status, json_t *body)
{
    struct http_header type = {SLICE_LITERAL("Content-Type"), SLICE_LITERAL("application/json")};
    struct buffer text = {0};
    if (body != NULL) {
        int failed = json_dump_callback(body, add_to_buffer, &text, JSON_COMPACT);
        ASSERT(failed == 0);
        json_decref(body);
    }
    call_answer_raw(call, status, &type, body != NULL ? 1 : 0, &text);
}

void call_refuse(struct lambda_call *call)
{
    ASSERT(call->failure.error != LAMBDA_OK);
    if (call->request == NULL) {
        return;
    }
    struct buffer body = {0};
    failure_body(&body, &call->failure);
    const struct http_header headers[] = {
        {SLICE_LITERAL("Content-Type"), SLICE_LITERAL("application/json")},
        {SLICE_LITERAL("x-amzn-ErrorType"), slice_of(failure_code(call->failure.error))},
        {SLICE_LITERAL("Allow"), slice_of(call->route != NULL ? call->route->method : "")},
    };
    unsigned count = call->failure.error == LAMBDA_METHOD ? 3 : 2;
    call_answer_raw(call, failure_status(call->failure.error), headers, count, &body);
}

void call_fail(struct lambda_call *call, enum lambda_error error, const char *format, ...)
{
    char text[2 * SHOWN_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    failure_set(&call->failure, &call->arena, error, "%s", text);
    call_refuse(call);
}

/* ---- commits ---- */

void call_status_failure(struct lambda_call *call, enum status status)
{
    switch (status) {
    case STATUS_BUSY:
        failure_set(&call->failure, &call->arena, LAMBDA_THROTTLED, "Rate Exceeded.");
        call->failure.reason = "CallerRateLimitExceeded";
        break;
    case STATUS_DISK_FULL:
        failure_set(&call->failure, &call->arena, LAMBDA_UNAVAILABLE,
                    "The broker's disk is nearly full: nothing more is stored.");
        break;
    case STATUS_NOT_LEADER:
    case STATUS_CLOSED:
        failure_set(&call->failure, &call->arena, LAMBDA_UNAVAILABLE,
                    "This broker cannot commit changes now. Try again.");
        break;
    default:
        failure_set(&call->failure, &call->arena, LAMBDA_INTERNAL, "The service failed: %s.",
                    status_text(status));
        break;
    }
}

static void on_committed(struct shard_call *commit, enum status status,
                         const struct core_result *results, uint32_t count)
{
    struct lambda_call *call = commit->data;
    commit->commands = (struct buffer){0};
    commit->count = 0;
    if (call->request != NULL && status == STATUS_OK) {
        call->committed(call, results, count);
    } else if (call->request != NULL) {
        call_status_failure(call, status);
        call_refuse(call);
    }
    call_unref(call);
}

void call_commit(struct lambda_call *call, bool grows, call_committed_fn committed)
{
    call->committed = committed;
    call->commit.grows = grows;
    call->commit.done = on_committed;
    call->commit.data = call;
    call->commit.since_ms = call->request != NULL ? call->request->arrived_ms : 0;
    call_ref(call);
    shard_call(api_catalog(call->api), &call->commit);
}

/* ---- what many actions need ---- */

bool call_function_name(struct lambda_call *call, struct function_name *name)
{
    struct slice qualifier = query_get(call->query, &call->arena, "Qualifier");
    return function_name_read(call->labels[0], qualifier, call->place.region, call->place.account,
                              &call->arena, &call->failure, name);
}

bool call_load_function(struct lambda_call *call, struct slice name, struct function_view *view,
                        struct function_config *config)
{
    if (!core_function_get(shard_core(api_catalog(call->api)), name, view)) {
        return failure_set(&call->failure, &call->arena, LAMBDA_NOT_FOUND, "Function not found: %s",
                           render_function_arn(&call->arena, &call->place, name));
    }
    if (config != NULL && function_config_decode(view->config, &call->arena, config) != STATUS_OK) {
        return failure_set(&call->failure, &call->arena, LAMBDA_INTERNAL,
                           "The stored settings of function %.*s cannot be read.",
                           SLICE_ARGS(name));
    }
    return true;
}

/* A queue whose shard is on other nodes: asked for once, and kept for as long as the call. */
struct call_look {
    struct slice name;
    struct lambda_call *call;
    bool asked, known;
    struct shard_look look;
    void (*again)(struct lambda_call *call);
    struct call_look *next;
};

static struct call_look *look_at(struct lambda_call *call, struct slice name)
{
    struct call_look *look = call->looks;
    while (look != NULL && !slice_equal(look->name, name)) {
        look = look->next;
    }
    if (look == NULL) {
        look = arena_alloc(&call->arena, sizeof *look);
        look->name = arena_copy(&call->arena, name);
        look->call = call;
        look->next = call->looks;
        call->looks = look;
    }
    return look;
}

static void on_looked(struct shard_look *part, enum status status)
{
    struct call_look *look = part->data;
    struct lambda_call *call = look->call;
    look->known = status == STATUS_OK;
    if (call->request != NULL && look->known) {
        look->again(call);
    } else if (call->request != NULL) {
        call_status_failure(call, STATUS_NOT_LEADER);
        call_refuse(call);
    }
    call_unref(call);
}

static bool look_ask(struct lambda_call *call, struct call_look *look)
{
    struct shards *shards = api_shards(call->api);
    look->asked = true;
    look->look = (struct shard_look){.question = {.names = &look->name, .name_count = 1},
                                     .since_ms = call->request->arrived_ms,
                                     .arena = &call->arena,
                                     .done = on_looked,
                                     .data = look};
    shard_set_add_name(&look->look.set, shards, look->name);
    return api_away(call->api) != NULL && look_begin(&look->look, shards, api_away(call->api));
}

bool call_looks(struct lambda_call *call, void (*again)(struct lambda_call *call))
{
    struct call_look *look = call->looks;
    while (look != NULL && look->asked) {
        look = look->next;
    }
    if (look == NULL) {
        return false;
    }
    look->again = again;
    call_ref(call);
    if (look_ask(call, look)) {
        return true;
    }
    call_unref(call);
    call_status_failure(call, STATUS_NOT_LEADER);
    return false;
}

bool call_queue(struct lambda_call *call, struct slice name, struct queue_view *view, bool *there)
{
    const struct shard *shard = shards_of_name(api_shards(call->api), name);
    if (shard == NULL) {
        const struct call_look *look = look_at(call, name);
        *there = look->known && look->look.count > 0;
        if (*there) {
            *view = look->look.views[0];
        }
        return look->known;
    }
    if (!shard_ready(shard)) {
        call_status_failure(call, STATUS_NOT_LEADER);
        return false;
    }
    *there = core_queue_by_name(shard_core(shard), name, view);
    return true;
}

bool call_function(struct lambda_call *call, struct function_name *name, struct function_view *view,
                   struct function_config *config)
{
    return call_function_name(call, name) && call_load_function(call, name->name, view, config);
}

bool call_page_size(struct lambda_call *call, uint32_t most, uint32_t *out)
{
    struct slice text = query_get(call->query, &call->arena, "MaxItems");
    *out = most;
    if (text.data == NULL) {
        return true;
    }
    uint64_t number = 0;
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || number > UINT32_MAX) {
            return failure_set(&call->failure, &call->arena, LAMBDA_SERIALIZATION,
                               "STRING_VALUE can not be converted to an Integer at 'MaxItems'");
        }
        number = number * 10 + (uint64_t)(text.data[i] - '0');
    }
    if (number < 1 || number > MAX_ITEMS) {
        return failure_set(&call->failure, &call->arena, LAMBDA_VALIDATION,
                           "1 validation error detected: Value '%.*s' at 'maxItems' failed to "
                           "satisfy constraint: Member must have value %s than or equal to %u",
                           SHOWN(text), number < 1 ? "greater" : "less",
                           number < 1 ? 1 : MAX_ITEMS);
    }
    *out = number < most ? (uint32_t)number : most;
    return true;
}
