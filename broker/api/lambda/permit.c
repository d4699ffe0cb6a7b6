/* SPDX-License-Identifier: Apache-2.0 */
/* Authentication and authorisation of Lambda calls. The action is the route's name with "lambda:"
 * before it; the resource is the function, the mapping, or everything, by the form of the path.
 *
 * A mapping lets a function take messages from a queue. At AWS the function's role must be allowed
 * that; here functions have no roles, so whoever makes the mapping must be: else a key for
 * functions would be a key for every queue. */
#include "broker/api/lambda/permit.h"

#include "proto/base/assert.h"

#define MAPPINGS "/2015-03-31/event-source-mappings/{}"

static const enum lambda_error errors[AUTH_FAILURE_COUNT] = {
    [AUTH_MISSING_TOKEN] = LAMBDA_MISSING_TOKEN, [AUTH_INCOMPLETE] = LAMBDA_INCOMPLETE_SIGNATURE,
    [AUTH_UNKNOWN_KEY] = LAMBDA_UNKNOWN_KEY,     [AUTH_BAD_SIGNATURE] = LAMBDA_BAD_SIGNATURE,
    [AUTH_EXPIRED] = LAMBDA_REQUEST_EXPIRED,     [AUTH_DENIED] = LAMBDA_ACCESS_DENIED,
};

static bool fail(struct lambda_call *call, const struct auth_failure *failure)
{
    ASSERT(failure->code > AUTH_OK && failure->code < AUTH_FAILURE_COUNT);
    return failure_set(&call->failure, &call->arena, errors[failure->code], "%s", failure->message);
}

bool call_permit_caller(struct lambda_call *call, const char *body_sha256)
{
    struct auth_failure failure = {0};
    return access_authenticate(call->api, call->request, "lambda", body_sha256, &call->arena,
                               &call->caller, &failure) ||
           fail(call, &failure);
}

static bool permit(struct lambda_call *call, const char *action, const char *resource,
                   const struct queue_view *queue)
{
    struct auth_failure failure = {0};
    struct auth_question question = {
        .action = action, .resource = slice_of(resource), .queue = queue};
    return auth_authorize(api_auth(call->api), &call->caller, &question, &call->arena, &failure) ||
           fail(call, &failure);
}

/* What IAM calls the action. */
static const char *action_of(struct lambda_call *call)
{
    const char *name = call->route->name;
    if (call->route->action == LAMBDA_ACTION_Invoke)
        name = "InvokeFunction";
    else if (call->route->action == LAMBDA_ACTION_GetFunctionCode)
        name = "GetFunction"; /* which tells where the code is */
    return arena_printf(&call->arena, "lambda:%s", name);
}

/* The function that a label names, as its ARN: with the region and account that it says, if it
 * does. What is no name is left to the action, which refuses it. */
static const char *function_arn(struct lambda_call *call, struct slice label)
{
    struct function_name name;
    if (!function_name_parse(label, &name))
        return "*";
    struct render_place place = call->place;
    if (name.region.data != NULL)
        place.region = arena_text(&call->arena, name.region);
    if (name.account.data != NULL)
        place.account = arena_text(&call->arena, name.account);
    return render_function_arn(&call->arena, &place, name.name);
}

static const char *resource_of(struct lambda_call *call)
{
    const char *path = call->route->path;
    if (strncmp(path, MAPPINGS, sizeof MAPPINGS - 1) == 0)
        return arena_printf(&call->arena, "arn:aws:lambda:%s:%s:event-source-mapping:%.*s",
                            call->place.region, call->place.account, SHOWN(call->labels[0]));
    /* "/2017-03-31/tags/{}" has an ARN; functions have paths of many dates. */
    bool of_function = strstr(path, "/functions/{}") != NULL || strstr(path, "/tags/{}") != NULL;
    return of_function ? function_arn(call, call->labels[0]) : "*";
}

bool call_permit_route(struct lambda_call *call)
{
    bool named_in_body = call->route->action == LAMBDA_ACTION_CreateFunction;
    if (call->caller.kind == AUTH_UNCHECKED || (named_in_body && call->caller.kind == AUTH_KEY))
        return true;
    return permit(call, action_of(call), resource_of(call), NULL);
}

bool call_permit_function(struct lambda_call *call, const char *action, struct slice name)
{
    return permit(call, action, render_function_arn(&call->arena, &call->place, name), NULL);
}

bool call_permit_source(struct lambda_call *call, struct slice queue_name)
{
    static const char *const actions[] = {"sqs:ReceiveMessage", "sqs:DeleteMessage",
                                          "sqs:GetQueueAttributes"};
    struct queue_view queue;
    bool there;
    if (!call_queue(call, queue_name, &queue, &there))
        return false;
    const char *arn = render_queue_arn(&call->arena, &call->place, queue_name);
    for (size_t i = 0; i < ARRAY_COUNT(actions); i++) {
        if (!permit(call, actions[i], arn, there ? &queue : NULL))
            return false;
    }
    return true;
}
