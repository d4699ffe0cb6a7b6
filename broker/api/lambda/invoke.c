/* SPDX-License-Identifier: Apache-2.0 */
/* Invoke, in its three types.
 *
 *     RequestResponse   the dispatcher runs it; the answer is the function's, byte for byte
 *     Event             a message in the function's hidden queue; answered when it is committed, so
 *                       an accepted event survives anything a message survives
 *     DryRun            everything is checked, nothing is run
 *
 * An error of the function is an answer (200) with the header X-Amz-Function-Error, which AWS sets
 * to "Unhandled" for reported errors, crashes and timeouts alike. Only what kept the function from
 * being run is an error of the call. */
#include "broker/api/lambda/actions.h"
#include "broker/api/lambda/json_check.h"
#include "broker/core/record.h"
#include "proto/base/assert.h"

#define SYNC_BYTES_MAX           6291556u
#define EVENT_BYTES_MAX          1048576u
#define CLIENT_CONTEXT_BYTES_MAX 3583

enum invoke_type { INVOKE_SYNC, INVOKE_EVENT, INVOKE_DRY };
static const char *const type_names[] = {"RequestResponse", "Event", "DryRun"};
static const char *const log_names[] = {"None", "Tail"};

struct invoke {
    enum invoke_type type;
    bool tail;
    struct slice client_context; /* JSON on one line, as the runtime gets it */
    struct function_name name;
    struct invocation invocation;
};

/* ---- reading the request ---- */

static bool read_choice(struct lambda_call *call, struct slice text, const char *member,
                        const char *const *names, size_t count, size_t *out)
{
    *out = 0;
    if (text.length == 0) {
        return true;
    }
    const char *list = names[0];
    for (size_t i = 0; i < count; i++) {
        if (slice_is(text, names[i])) {
            *out = i;
            return true;
        }
        list = i > 0 ? arena_printf(&call->arena, "%s, %s", list, names[i]) : list;
    }
    return failure_set(&call->failure, &call->arena, LAMBDA_VALIDATION,
                       "1 validation error detected: Value '%.*s' at '%s' failed to satisfy "
                       "constraint: Member must satisfy enum value set: [%s]",
                       SHOWN(text), member, list);
}

/* It becomes a header of the Runtime API: so it is parsed and written again, as one line of ASCII.
 */
static bool read_client_context(struct lambda_call *call, struct invoke *invoke)
{
    if (call->client_context.length == 0) {
        return true;
    }
    struct buffer text = {0};
    json_t *context = NULL;
    if (call->client_context.length <= CLIENT_CONTEXT_BYTES_MAX &&
        decode_base64(&text, call->client_context) == STATUS_OK) {
        context = json_loadb((const char *)text.data, text.length, 0, NULL);
    }
    buffer_free(&text);
    char *line =
        json_is_object(context) ? json_dumps(context, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    json_decref(context);
    if (line == NULL) {
        return failure_set(&call->failure, &call->arena, LAMBDA_CONTENT,
                           "Client context must be a valid Base64-encoded JSON object.");
    }
    invoke->client_context = arena_copy(&call->arena, slice_of(line));
    free(line);
    return true;
}

static bool check_payload(struct lambda_call *call, enum invoke_type type)
{
    size_t max = type == INVOKE_EVENT ? EVENT_BYTES_MAX : SYNC_BYTES_MAX;
    size_t at = 0;
    if (call->body.length > max) {
        return failure_set(&call->failure, &call->arena, LAMBDA_TOO_LARGE,
                           "Request must be smaller than %zu bytes for the InvokeFunction "
                           "operation",
                           max);
    }
    if (call->body.length == 0) {
        call->body = SLICE_LITERAL("{}");
        return true;
    }
    return json_check(call->body, &at) ||
           failure_set(&call->failure, &call->arena, LAMBDA_CONTENT,
                       "Could not parse request body into json: Could not parse payload into "
                       "json: not JSON at byte %zu",
                       at);
}

bool lambda_decode_payload(struct lambda_call *call)
{
    struct invoke *invoke = arena_alloc(&call->arena, sizeof *invoke);
    size_t type;
    size_t log;
    call->state = invoke;
    if (!read_choice(call, call->invocation_type, "invocationType", type_names,
                     ARRAY_COUNT(type_names), &type) ||
        !read_choice(call, call->log_type, "logType", log_names, ARRAY_COUNT(log_names), &log)) {
        return false;
    }
    invoke->type = (enum invoke_type)type;
    invoke->tail = log == 1;
    return read_client_context(call, invoke) && check_payload(call, invoke->type);
}

/* ---- synchronous ---- */

static void answer_result(struct lambda_call *call, const Millrace__Result *result)
{
    const struct invoke *invoke = call->state;
    struct http_header headers[4] = {
        {SLICE_LITERAL("Content-Type"), SLICE_LITERAL("application/json")},
        {SLICE_LITERAL("X-Amz-Executed-Version"), SLICE_LITERAL("$LATEST")},
    };
    unsigned count = 2;
    struct buffer log = {0};
    struct buffer body = {0};
    if (result->outcome != MILLRACE__OUTCOME__OUTCOME_OK) {
        headers[count++] =
            (struct http_header){SLICE_LITERAL("X-Amz-Function-Error"), SLICE_LITERAL("Unhandled")};
    }
    if (invoke->tail) {
        encode_base64(&log, slice_make(result->log_tail.data, result->log_tail.len));
        headers[count++] =
            (struct http_header){SLICE_LITERAL("X-Amz-Log-Result"), buffer_slice(&log)};
    }
    buffer_add(&body, result->payload.data, result->payload.len);
    call_answer_raw(call, 200, headers, count, &body);
    buffer_free(&log);
}

static void answer_not_run(struct lambda_call *call, enum status status)
{
    const struct invoke *invoke = call->state;
    switch (status) {
    case STATUS_BUSY:
        call->failure.reason = "ConcurrentInvocationLimitExceeded";
        call_fail(call, LAMBDA_THROTTLED, "Rate Exceeded.");
        break;
    case STATUS_NOT_FOUND:
        call_fail(call, LAMBDA_NOT_FOUND, "Function not found: %s",
                  render_function_arn(&call->arena, &call->place, invoke->name.name));
        break;
    case STATUS_UNAVAILABLE:
        call_fail(call, LAMBDA_UNAVAILABLE,
                  "No worker that can run this function is connected. Start one (millrace-worker "
                  "--brokers ...), or see `millrace status`.");
        break;
    default:
        call_status_failure(call, status);
        call_refuse(call);
        break;
    }
}

static void on_invoked(struct invocation *invocation, enum status status,
                       const Millrace__Result *result)
{
    struct lambda_call *call = invocation->data;
    call->left = NULL;
    if (call->request == NULL) {
        call_unref(call);
        return;
    }
    if (status != STATUS_OK) {
        answer_not_run(call, status);
    } else if (result->outcome == MILLRACE__OUTCOME__OUTCOME_REJECTED) {
        call_fail(call, LAMBDA_INTERNAL, "The worker could not start the function: %.*s",
                  SHOWN(slice_make(result->payload.data, result->payload.len)));
    } else {
        answer_result(call, result);
    }
    call_unref(call);
}

static void on_left(struct lambda_call *call)
{
    struct invoke *invoke = call->state;
    dispatch_invoke_cancel(api_dispatch(call->api), &invoke->invocation);
}

static void run_sync(struct lambda_call *call)
{
    struct invoke *invoke = call->state;
    if (api_dispatch(call->api) == NULL) {
        answer_not_run(call, STATUS_UNAVAILABLE);
        return;
    }
    invoke->invocation = (struct invocation){
        .function_name = invoke->name.name,
        .payload = call->body,
        .client_context = invoke->client_context,
        .done = on_invoked,
        .data = call,
    };
    memcpy(invoke->invocation.request_id, call->request_id, sizeof call->request_id);
    call->left = on_left;
    call_ref(call);
    dispatch_invoke(api_dispatch(call->api), &invoke->invocation);
}

/* ---- asynchronous ---- */

static void on_accepted(struct lambda_call *call, const struct core_result *results, uint32_t count)
{
    ASSERT(count == 1);
    if (results[0].code == CORE_OK) {
        call_answer(call, 202, NULL);
    } else {
        answer_not_run(call, STATUS_NOT_FOUND); /* deleted meanwhile, and its queue with it */
    }
}

static void run_event(struct lambda_call *call)
{
    const struct invoke *invoke = call->state;
    const char *name =
        arena_printf(&call->arena, ASYNC_QUEUE_PREFIX "%.*s", SLICE_ARGS(invoke->name.name));
    struct queue_view queue;
    if (!core_queue_by_name(shard_core(api_catalog(call->api)), slice_of(name), &queue)) {
        call_fail(call, LAMBDA_INTERNAL, "The function has no queue for asynchronous events.");
        return;
    }
    struct record record = {.sender_id = slice_of(call->place.account), .body = call->body};
    bool parsed = uuid_parse(slice_of(call->request_id), record.message_id);
    ASSERT(parsed); /* it was made here */
    struct command command = {.type = COMMAND_SEND};
    command.send.queue_id = queue.queue_id;
    command.send.delay_s = CORE_DEFAULT;
    shard_call_send(&call->commit, &command, &record);
    call_commit(call, true, on_accepted);
}

void lambda_run_invoke(struct lambda_call *call)
{
    struct invoke *invoke = call->state;
    struct function_view view;
    if (!call_function(call, &invoke->name, &view, NULL)) {
        call_refuse(call);
    } else if (invoke->type == INVOKE_DRY) {
        call_answer(call, 204, NULL);
    } else if (invoke->type == INVOKE_EVENT) {
        run_event(call);
    } else {
        run_sync(call);
    }
}
