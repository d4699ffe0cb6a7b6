/* SPDX-License-Identifier: Apache-2.0 */
/* The family of requests that is the Lambda API: everything below a path that begins with a date.
 *
 * A request is found in routes.def, permitted (permit.c), decoded, and run. Bodies beyond
 * LOOP_BYTES_MAX are decoded in a pool thread: parsing 70 MB of base64 and reading a zip must not
 * hold up everyone else's calls. */
#include "broker/api/lambda/actions.h"
#include "broker/api/lambda/permit.h"
#include "proto/base/assert.h"
#include "proto/sigv4/hash.h"

#include <stdlib.h>

#define LOOP_BYTES_MAX (64u << 10)
#define CODE_BYTES_MAX 70167211u

struct handler {
    lambda_decode_fn decode;
    lambda_run_fn run;
};
static const struct handler handlers[] = {
#define LAMBDA_ACTION(method, path, action, decode, run, bytes_max)                                \
    [LAMBDA_ACTION_##action] = {lambda_decode_##decode, lambda_run_##run},
#define LAMBDA_MISSING(method, path, action)
#include "broker/api/lambda/routes.def"
#undef LAMBDA_ACTION
#undef LAMBDA_MISSING
};

struct decode_job {
    uv_work_t work;
    struct lambda_call *call;
    bool good;
};

bool lambda_decode_none(struct lambda_call *call)
{
    (void)call;
    return true;
}

bool lambda_decode_json(struct lambda_call *call)
{
    return input_open(&call->input, call->body, &call->arena, &call->failure);
}

static void run_decoded(struct lambda_call *call, bool good)
{
    if (call->request == NULL) {
        return;
    }
    if (good) {
        handlers[call->route->action].run(call);
    } else {
        call_refuse(call);
    }
}

static void decode_in_pool(uv_work_t *work)
{
    struct decode_job *job = CONTAINER_OF(work, struct decode_job, work);
    job->good = handlers[job->call->route->action].decode(job->call);
}

static void on_decoded(uv_work_t *work, int cancelled)
{
    struct decode_job *job = CONTAINER_OF(work, struct decode_job, work);
    struct lambda_call *call = job->call;
    if (cancelled == 0) {
        run_decoded(call, job->good);
    } else if (call->request != NULL) {
        call_status_failure(call, STATUS_CANCELLED);
        call_refuse(call);
    }
    call_unref(call);
}

/* The loop of this API: the one that the shard's calls come back on. */
static void decode(struct lambda_call *call)
{
    if (call->body.length <= LOOP_BYTES_MAX) {
        call_ref(call);
        run_decoded(call, handlers[call->route->action].decode(call));
        call_unref(call);
        return;
    }
    struct decode_job *job = arena_alloc(&call->arena, sizeof *job);
    job->call = call;
    call_ref(call);
    int failed = uv_queue_work(api_loop(call->api), &job->work, decode_in_pool, on_decoded);
    ASSERT(failed == 0);
}

/* ---- who calls ---- */

static void permit(struct lambda_call *call, const char *body_sha256)
{
    if (!call_permit_caller(call, body_sha256) || !call_permit_route(call)) {
        call_refuse(call);
    } else if (call->route->action == LAMBDA_ACTION_NONE) {
        call_fail(call, LAMBDA_MISSING, "Millrace %s does not have the Lambda action %s yet.",
                  api_config(call->api)->version, call->route->name);
    } else {
        decode(call);
    }
}

struct hash_job {
    uv_work_t work;
    struct lambda_call *call;
    char sha256[2 * SHA256_BYTES];
};

static void hash_in_pool(uv_work_t *work)
{
    struct hash_job *job = CONTAINER_OF(work, struct hash_job, work);
    hash_sha256_hex(job->call->body, job->sha256);
}

static void on_hashed(uv_work_t *work, int cancelled)
{
    struct hash_job *job = CONTAINER_OF(work, struct hash_job, work);
    struct lambda_call *call = job->call;
    if (call->request != NULL && cancelled == 0) {
        permit(call, job->sha256);
    } else if (call->request != NULL) {
        call_status_failure(call, STATUS_CANCELLED);
        call_refuse(call);
    }
    call_unref(call);
}

/* The hash of a large body is a signature's one expensive part. */
static void begin(struct lambda_call *call)
{
    if (call->body.length <= LOOP_BYTES_MAX || !access_hash_wanted(call->api, call->request)) {
        permit(call, NULL);
        return;
    }
    struct hash_job *job = arena_alloc(&call->arena, sizeof *job);
    job->call = call;
    call_ref(call);
    int failed = uv_queue_work(api_loop(call->api), &job->work, hash_in_pool, on_hashed);
    ASSERT(failed == 0);
}

static void refuse_route(struct lambda_call *call, const struct http_request *request,
                         enum status status)
{
    if (status == STATUS_UNSUPPORTED) {
        call_fail(call, LAMBDA_METHOD, "The method %.*s is not allowed for this path.",
                  SHOWN(request->method));
    } else if (status == STATUS_INVALID) {
        call_fail(call, LAMBDA_SERIALIZATION, "The path has a malformed percent escape.");
    } else {
        call_fail(call, LAMBDA_UNKNOWN, "Unknown operation: %.*s %.*s", SHOWN(request->method),
                  SHOWN(request->path));
    }
}

static void refuse_size(struct lambda_call *call)
{
    bool invoke = call->route != NULL && call->route->action == LAMBDA_ACTION_Invoke;
    call_fail(call, invoke ? LAMBDA_TOO_LARGE : LAMBDA_ENTITY_TOO_LARGE,
              "Request must be smaller than %zu bytes for the %s operation",
              call->route != NULL ? call->route->body_bytes_max : 0,
              invoke                ? "InvokeFunction"
              : call->route != NULL ? call->route->name
                                    : "requested");
}

static void lambda_handle(struct api *api, struct http_request *request)
{
    struct lambda_call *call = call_new(api, request);
    enum status status =
        route_find(request->method, request->path, &call->arena, &call->route, call->labels);
    if (status != STATUS_OK) {
        refuse_route(call, request, status);
    } else if (call->body.length > call->route->body_bytes_max) {
        refuse_size(call);
    } else {
        begin(call);
    }
}

static void lambda_too_large(struct api *api, struct http_request *request)
{
    struct lambda_call *call = call_new(api, request);
    if (route_find(request->method, request->path, &call->arena, &call->route, call->labels) !=
        STATUS_OK) {
        call->route = NULL;
    }
    refuse_size(call);
}

/* The route of a request that is no call yet; NULL if there is none. */
static const struct route *route_of(const struct http_request *request)
{
    struct arena arena = {0};
    struct slice labels[ROUTE_LABELS_MAX];
    const struct route *route;
    enum status status = route_find(request->method, request->path, &arena, &route, labels);
    arena_free(&arena);
    return status == STATUS_OK ? route : NULL;
}

static size_t lambda_body_limit(const struct http_request *request)
{
    const struct route *route = route_of(request);
    return route != NULL ? route->body_bytes_max : LOOP_BYTES_MAX;
}

/* Functions, mappings and the queues for their events are in the catalog. What compares a function
 * with the queues that feed it looks at those, too: seldom enough for not asking which they are. */
static enum api_reads lambda_reads(const struct http_request *request)
{
    const struct route *route = route_of(request);
    bool of_queues = route != NULL && (route->action == LAMBDA_ACTION_CreateEventSourceMapping ||
                                       route->action == LAMBDA_ACTION_UpdateEventSourceMapping ||
                                       route->action == LAMBDA_ACTION_UpdateFunctionConfiguration);
    return of_queues ? API_READS_ALL : API_READS_CATALOG;
}

static bool lambda_matches(const struct http_request *request)
{
    return route_is_lambda(request->path);
}

static void lambda_abort(struct api *api, struct http_request *request)
{
    (void)api;
    if (request->data != NULL) {
        call_left(request->data);
    }
}

const struct api_family api_family_lambda = {
    .name = "lambda",
    .matches = lambda_matches,
    .body_bytes_max = CODE_BYTES_MAX,
    .body_limit = lambda_body_limit,
    .reads = lambda_reads,
    .handle = lambda_handle,
    .too_large = lambda_too_large,
    .abort = lambda_abort,
};
