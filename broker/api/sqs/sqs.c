/* SPDX-License-Identifier: Apache-2.0 */
/* The SQS family: from an HTTP request to a decoded call for one handler.
 *
 *     X-Amz-Target present, or a JSON content type   JSON 1.0 protocol; the action is in the header
 *     otherwise                                      Query protocol; the action is in form or query
 *
 * Requests come to "/" or to a queue's own path. Everything that fails here is answered in the
 * shape of the protocol it was asked in, because an SDK that cannot parse an error shows its user
 * nothing. What comes behind the decoding is in run.c. Where signatures are not checked the access
 * key still becomes the message's SenderId. */
#include "broker/api/sqs/call.h"

#include "broker/api/sqs/cooldown.h"
#include "broker/api/sqs/digests.h"
#include "broker/api/sqs/queue_name.h"
#include "broker/api/sqs/region.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"

#include <stdlib.h>
#include <utlist.h>

#define TARGET_PREFIX        "AmazonSQS."
#define ACCESS_KEY_BYTES_MAX 128
#define ANSWER_BYTES_USUAL   512

static bool contains(struct slice text, const char *part)
{
    return text.length > 0 && memmem(text.data, text.length, part, strlen(part)) != NULL;
}

static bool sqs_matches(const struct http_request *request)
{
    bool post = slice_is(request->method, "POST");
    if (!post && !slice_is(request->method, "GET"))
        return false;
    if (queue_path_match(request->path))
        return true;
    if (slice_is(request->path, "/"))
        return post || contains(request->query, "Action=");
    return post && slice_starts_with(http_header(request, "X-Amz-Target"), TARGET_PREFIX);
}

static enum sqs_protocol protocol_of(const struct http_request *request)
{
    if (http_header(request, "X-Amz-Target").data != NULL)
        return SQS_JSON;
    return slice_starts_with(http_header(request, "Content-Type"), "application/x-amz-json")
               ? SQS_JSON
               : SQS_QUERY;
}

/* The part of `text` after `mark`, up to '/' , or nothing. */
static struct slice credential_key(struct slice text, const char *mark)
{
    const uint8_t *at = text.length > 0 ? memmem(text.data, text.length, mark, strlen(mark)) : NULL;
    if (at == NULL)
        return (struct slice){0};
    struct slice rest = slice_sub(text, (size_t)(at - text.data) + strlen(mark));
    size_t length = 0;
    while (length < rest.length && length < ACCESS_KEY_BYTES_MAX) {
        uint8_t c = rest.data[length];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '-' || c == '_' || c == '.';
        if (!good)
            break;
        length++;
    }
    return slice_make(rest.data, length);
}

static struct slice sender_of(struct sqs_call *call, const struct http_request *request)
{
    struct slice key = credential_key(http_header(request, "Authorization"), "Credential=");
    if (key.length == 0)
        key = credential_key(request->query, "X-Amz-Credential=");
    return key.length > 0 ? arena_copy(&call->arena, key) : SLICE_LITERAL(SQS_ANONYMOUS);
}

/* ---- answering over HTTP ---- */

static void respond(struct sqs_call *call, int status, const char *query_error, struct buffer *body)
{
    bool json = call->protocol == SQS_JSON;
    struct http_header headers[3] = {
        {SLICE_LITERAL("Content-Type"),
         json ? SLICE_LITERAL("application/x-amz-json-1.0") : SLICE_LITERAL("text/xml")},
        {SLICE_LITERAL("x-amzn-RequestId"), slice_of(call->request_id)},
        {SLICE_LITERAL("x-amzn-query-error"), slice_of(query_error)},
    };
    call->request->data = NULL;
    http_respond(call->request, status, headers, query_error != NULL ? 3 : 2, body);
    buffer_free(body);
    call->request = NULL;
}

static void http_reply(struct sqs_call *call, const void *result)
{
    struct buffer body = {0};
    (void)buffer_reserve(&body, ANSWER_BYTES_USUAL);
    sqs_result_encode(&body, call->protocol, call->action, result, call->request_id);
    respond(call, 200, NULL, &body);
}

static void http_fail(struct sqs_call *call, const struct sqs_error *error)
{
    const struct sqs_error_row *row = &sqs_errors[error->code];
    struct buffer body = {0};
    sqs_error_encode(&body, call->protocol, error, call->request_id);
    const char *header = NULL;
    if (call->protocol == SQS_JSON && sqs_error_query_header(error->code))
        header = arena_printf(&call->arena, "%s;%s", row->query_code,
                              row->sender_fault ? "Sender" : "Receiver");
    respond(call, row->http_status, header, &body);
}

static const char *http_base_url(struct sqs_call *call)
{
    return api_base_url(call->api, call->request);
}

static void http_parked(struct sqs_call *call)
{
    http_park(call->request);
}

static const struct sqs_carrier http_carrier = {
    .reply = http_reply, .fail = http_fail, .park = http_parked, .base_url = http_base_url};

/* ---- from a request to a call ---- */

static struct sqs_call *call_new(struct api *api, struct http_request *request)
{
    struct sqs_call *call =
        sqs_call_new(api, &http_carrier, request->query.length + request->body.length);
    call->request = request;
    call->since_ms = request->arrived_ms;
    call->protocol = protocol_of(request);
    uint8_t id[UUID_BYTES];
    uuid_random(id);
    uuid_text(id, call->request_id);
    request->data = call;
    return call;
}

static void fail(struct sqs_call *call, enum sqs_error_code code)
{
    sqs_fail(call, (struct sqs_error){code, NULL});
}

/* An action's name comes from outside and goes into an answer: show it only if it could be one. */
static struct sqs_error unknown_action(struct sqs_call *call, struct slice name)
{
    if (!sqs_name_valid(name))
        return (struct sqs_error){SQS_ERROR_INVALID_ACTION, NULL};
    return sqs_error_make(call, SQS_ERROR_INVALID_ACTION,
                          "The action %s is not valid for this endpoint.", sqs_quote(call, name));
}

/* What makes or lists queues cannot be asked of one. */
static bool wrong_for_path(const struct sqs_call *call)
{
    return (call->action == SQS_ACTION_CreateQueue || call->action == SQS_ACTION_ListQueues) &&
           queue_path_match(call->request->path);
}

static bool find_action(struct sqs_call *call, struct slice name)
{
    enum sqs_action action;
    bool found = sqs_action_find(name, &action);
    if (found)
        sqs_call_begin(call, action);
    else
        sqs_fail(call, unknown_action(call, name));
    return found;
}

/* A Query request to a queue's own path need not repeat the queue. */
static void queue_from_path(struct sqs_call *call)
{
    const struct sqs_member *first = &sqs_shapes[sqs_actions[call->action].input].members[0];
    struct slice *url = sqs_field(first, call->input);
    if (strcmp(first->json_name, "QueueUrl") == 0 && url->data == NULL &&
        queue_path_match(call->request->path))
        *url = arena_copy(&call->arena, call->request->path);
}

static void run(struct sqs_call *call, const struct sqs_error *wrong)
{
    if (wrong != NULL || !sqs_digest(call))
        sqs_call_run(call, wrong);
}

static void handle_json(struct sqs_call *call)
{
    struct slice target = http_header(call->request, "X-Amz-Target");
    if (!slice_starts_with(target, TARGET_PREFIX)) {
        fail(call, SQS_ERROR_INVALID_ACTION);
        return;
    }
    if (!find_action(call, slice_sub(target, strlen(TARGET_PREFIX))))
        return;
    struct sqs_error error = {0};
    bool good = sqs_json_decode(call->request->body, sqs_actions[call->action].input, &call->arena,
                                call->input, &error);
    run(call, good ? NULL : &error);
}

/* What AWS answers to a plain GET of a queue's address. */
static void answer_bare_get(struct sqs_call *call)
{
    struct buffer body = {0};
    buffer_add_text(&body, "<UnknownOperationException/>\n");
    const struct http_header headers[] = {
        {SLICE_LITERAL("Content-Type"), SLICE_LITERAL("text/xml")},
        {SLICE_LITERAL("x-amzn-RequestId"), slice_of(call->request_id)},
    };
    api_count(call->api, "sqs", call->action_name, "UnknownOperationException", call->started_ns);
    call->request->data = NULL;
    http_respond(call->request, 404, headers, ARRAY_COUNT(headers), &body);
    buffer_free(&body);
    call->request = NULL;
    sqs_call_free(call);
}

static void handle_query(struct sqs_call *call)
{
    struct sqs_form form;
    struct sqs_error error = {0};
    if (!sqs_form_parse(call->request->query, call->request->body, &call->arena, &form, &error)) {
        sqs_fail(call, error);
        return;
    }
    struct slice name = sqs_form_get(&form, "Action");
    if (name.data == NULL && slice_is(call->request->method, "GET")) {
        answer_bare_get(call);
        return;
    }
    if (name.data == NULL) {
        fail(call, SQS_ERROR_MISSING_ACTION);
        return;
    }
    if (!find_action(call, name))
        return;
    bool good = false;
    if (wrong_for_path(call))
        error = unknown_action(call, name);
    else
        good = sqs_form_decode(&form, sqs_actions[call->action].input, &call->arena, call->input,
                               &error);
    if (good)
        queue_from_path(call);
    run(call, good ? NULL : &error);
}

static void sqs_handle(struct api *api, struct http_request *request)
{
    struct sqs_call *call = call_new(api, request);
    call->sender_id = sender_of(call, request);
    call->region = region_of_request(call, request);
    if (call->protocol == SQS_JSON)
        handle_json(call);
    else
        handle_query(call);
}

static void sqs_too_large(struct api *api, struct http_request *request)
{
    fail(call_new(api, request), SQS_ERROR_TOO_LARGE);
}

static void sqs_abort(struct api *api, struct http_request *request)
{
    (void)api;
    struct sqs_call *call = request->data;
    if (call == NULL)
        return;
    ASSERT(call->request == request);
    call->request = NULL;
    sqs_call_abandon(call);
}

/* Long polls are answered empty now rather than cut off when the grace is over. */
void sqs_end_waiting(struct api *api)
{
    struct sqs_state *state = api_family_state(api, &api_family_sqs);
    struct sqs_call *call;
    struct sqs_call *after;
    DL_FOREACH_SAFE(state->waiting, call, after)
    {
        call->on_closing(call);
    }
}

static void *state_new(void)
{
    struct sqs_state *state = calloc(1, sizeof *state);
    ASSERT(state != NULL);
    state->cooldowns = cooldowns_new();
    return state;
}

static void state_free(void *data)
{
    struct sqs_state *state = data;
    ASSERT(state->waiting == NULL);
    ASSERT(state->digest_first == NULL);
    cooldowns_free(state->cooldowns);
    free(state);
}

const struct api_family api_family_sqs = {
    .name = "sqs",
    .matches = sqs_matches,
    .body_bytes_max = SQS_BODY_BYTES_MAX,
    .handle = sqs_handle,
    .too_large = sqs_too_large,
    .abort = sqs_abort,
    .turn_end = sqs_turn_end,
    .closing = sqs_end_waiting,
    .works_unready = true, /* sees to it itself, and answers in the protocol asked in */
    .state_new = state_new,
    .state_free = state_free,
};
