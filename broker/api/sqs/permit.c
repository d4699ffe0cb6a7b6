/* SPDX-License-Identifier: Apache-2.0 */
/* Authentication and authorisation of SQS calls. What an action needs is a row of sqs_permits.def;
 * the resource is the ARN of the queue that the input names, whether or not the queue exists, so
 * that who may not use a queue does not learn that it is there.
 *
 * One broker is one account. A queue that is named as another account's is nobody's here: with
 * signatures checked that is refused, rather than taken for the queue of ours with the same name.
 */
#include "broker/api/sqs/permit.h"

#include "broker/api/sqs/look.h"
#include "broker/api/sqs/moves.h"
#include "broker/api/sqs/queue_name.h"
#include "broker/api/sqs/region.h"
#include "broker/api/sqs/subject.h"
#include "proto/base/assert.h"

#include <ctype.h>

/* ---- failures ---- */

static const enum sqs_error_code errors[AUTH_FAILURE_COUNT] = {
    [AUTH_MISSING_TOKEN] = SQS_ERROR_MISSING_TOKEN,
    [AUTH_INCOMPLETE] = SQS_ERROR_INCOMPLETE_SIGNATURE,
    [AUTH_UNKNOWN_KEY] = SQS_ERROR_UNKNOWN_KEY,
    [AUTH_BAD_SIGNATURE] = SQS_ERROR_BAD_SIGNATURE,
    [AUTH_EXPIRED] = SQS_ERROR_REQUEST_EXPIRED,
    [AUTH_DENIED] = SQS_ERROR_ACCESS_DENIED,
};

static bool fail(struct sqs_call *call, const struct auth_failure *failure)
{
    ASSERT(failure->code > AUTH_OK && failure->code < AUTH_FAILURE_COUNT);
    sqs_fail(call, sqs_error_make(call, errors[failure->code], "%s", failure->message));
    return false;
}

bool sqs_permit_caller(struct sqs_call *call)
{
    struct auth_failure failure = {0};
    bool known = call->carrier->caller != NULL
                     ? call->carrier->caller(call, &failure)
                     : access_authenticate(call->api, call->request, "sqs", NULL, &call->arena,
                                           &call->caller, &failure);
    if (!known)
        return fail(call, &failure);
    if (call->caller.kind == AUTH_KEY)
        call->sender_id = call->caller.key_id;
    else if (call->caller.kind == AUTH_ANONYMOUS)
        call->sender_id = SLICE_LITERAL(SQS_ANONYMOUS);
    return true;
}

/* ---- names ---- */

/* The account before the name in ".../123456789012/orders"; absent if there is none. */
static struct slice account_of_url(struct slice url)
{
    struct slice name = queue_name_of_url(url);
    if (name.length == 0 || name.data - url.data < ACCOUNT_DIGITS + 1)
        return (struct slice){0};
    struct slice account = slice_make(name.data - ACCOUNT_DIGITS - 1, ACCOUNT_DIGITS);
    bool whole = account.data == url.data || account.data[-1] == '/';
    return whole && name.data[-1] == '/' && account_id_valid(account) ? account : (struct slice){0};
}

/* "arn:aws:sqs:REGION:ACCOUNT:NAME" */
static struct slice account_of_arn(struct slice arn)
{
    for (int part = 0; part < 4; part++) {
        ptrdiff_t colon = slice_find(arn, ':');
        if (colon < 0)
            return (struct slice){0};
        arn = slice_sub(arn, (size_t)colon + 1);
    }
    ptrdiff_t colon = slice_find(arn, ':');
    struct slice account = slice_make(arn.data, colon < 0 ? arn.length : (size_t)colon);
    return account_id_valid(account) ? account : (struct slice){0};
}

/* ---- asking ---- */

static bool deny_foreign(struct sqs_call *call, struct slice shown)
{
    sqs_fail(call, sqs_error_make(call, SQS_ERROR_ACCESS_DENIED,
                                  "Access to the resource %s is denied.", sqs_quote(call, shown)));
    return false;
}

static bool foreign(const struct sqs_call *call, struct slice account)
{
    return account.length > 0 && !slice_is(account, api_config(call->api)->account_id);
}

static const char *lower_case(struct sqs_call *call, const char *text)
{
    char *copy = arena_alloc(&call->arena, strlen(text) + 1);
    for (size_t i = 0; text[i] != '\0'; i++)
        copy[i] = (char)tolower((unsigned char)text[i]);
    return copy;
}

/* May the caller do it to this queue, which need not exist? `key` is the core's name of it
 * (region.h): what is judged must be the very queue that the handler will find. */
static bool permit_queue(struct sqs_call *call, const char *action, struct slice key)
{
    struct queue_view queue;
    struct auth_failure failure = {0};
    bool there = sqs_queue_by_name(call, key, &queue);
    struct auth_question question = {
        .action = action,
        .shown = lower_case(call, action),
        .resource = slice_of(queue_arn_text(call, slice_of(sqs_quote(call, key)))),
        .of_queue = true,
        .queue = there ? &queue : NULL,
    };
    return auth_authorize(api_auth(call->api), &call->caller, &question, &call->arena, &failure) ||
           fail(call, &failure);
}

static bool permit_every(struct sqs_call *call, const char *action)
{
    struct auth_failure failure = {0};
    struct auth_question question = {
        .action = action,
        .shown = lower_case(call, action),
        .resource = slice_of(queue_arn_text(call, queue_key_here(call, SLICE_LITERAL("*")))),
    };
    return auth_authorize(api_auth(call->api), &call->caller, &question, &call->arena, &failure) ||
           fail(call, &failure);
}

static bool permit_url(struct sqs_call *call, const char *action, struct slice url)
{
    struct slice name = queue_name_of_url(url);
    if (foreign(call, account_of_url(url)))
        return deny_foreign(call, url);
    /* Without a name: the handler says so. */
    return name.length == 0 || permit_queue(call, action, queue_key_of_url(call, url));
}

static bool permit_arn(struct sqs_call *call, const char *action, struct slice arn)
{
    struct slice name = queue_name_of_arn(arn);
    if (foreign(call, account_of_arn(arn)))
        return deny_foreign(call, arn);
    return name.length == 0 || permit_queue(call, action, queue_key_of_arn(call, arn));
}

/* Without a destination messages go back to the queues that redrive to the source. */
static bool permit_origins(struct sqs_call *call, struct slice source_key)
{
    struct queue_walk walk;
    struct queue_view queue;
    sqs_walk_begin(call, &walk, (struct slice){0});
    while (queue_walk_next(&walk, &queue)) {
        if (slice_equal(queue.settings.dead_letter, source_key) &&
            !permit_queue(call, "sqs:SendMessage", queue.name))
            return false;
    }
    return true;
}

/* Who moves messages takes them from one queue and puts them into another. */
static bool permit_move(struct sqs_call *call)
{
    const struct sqs_start_move_input *input = call->input;
    static const char *const on_source[] = {"sqs:StartMessageMoveTask", "sqs:ReceiveMessage",
                                            "sqs:DeleteMessage", "sqs:GetQueueAttributes"};
    for (size_t i = 0; i < ARRAY_COUNT(on_source); i++) {
        if (!permit_arn(call, on_source[i], input->source_arn))
            return false;
    }
    if (input->destination_arn.data != NULL)
        return permit_arn(call, "sqs:SendMessage", input->destination_arn);
    return permit_origins(call, queue_key_of_arn(call, input->source_arn));
}

static bool permit_named(struct sqs_call *call, const char *action, struct slice name)
{
    if (call->action == SQS_ACTION_GetQueueUrl) {
        const struct sqs_get_queue_url_input *input = call->input;
        if (foreign(call, input->owner))
            return deny_foreign(call, name);
    }
    return name.length == 0 || permit_queue(call, action, queue_key_here(call, name));
}

bool sqs_permit_action(struct sqs_call *call)
{
    const struct sqs_permit *permit = &sqs_permits[call->action];
    ASSERT(permit->action != NULL);
    if (call->caller.kind == AUTH_UNCHECKED)
        return true;
    if (call->action == SQS_ACTION_StartMessageMoveTask)
        return permit_move(call);
    switch (permit->resource) {
    case QUEUE_URL:
        return permit_url(call, permit->action, sqs_first_member(call));
    case QUEUE_NAME:
        return permit_named(call, permit->action, sqs_first_member(call));
    case SOURCE_ARN:
        return permit_arn(call, permit->action, sqs_first_member(call));
    case HANDLE:
        return permit_arn(call, permit->action, move_handle_source(call, sqs_first_member(call)));
    case EVERY:
        break;
    }
    return permit_every(call, permit->action);
}
