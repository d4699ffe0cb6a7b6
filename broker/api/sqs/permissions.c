/* SPDX-License-Identifier: Apache-2.0 */
/* AddPermission and RemovePermission: both edit the queue's Policy attribute, one statement each,
 * whose Sid is the label. A queue without a policy gets one that looks as at AWS:
 *
 *     {"Version":"2008-10-17","Id":"ARN/SQSDefaultPolicy","Statement":[
 *         {"Sid":LABEL,"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::ACCOUNT:root"},
 *          "Action":"SQS:SendMessage","Resource":ARN}]}
 *
 * A list of one is written as its item, as AWS does. With its last statement the policy goes. */
#include "broker/api/sqs/attributes.h"
#include "broker/api/sqs/queue_name.h"
#include "broker/api/sqs/update.h"
#include "proto/base/assert.h"

#include <jansson.h>
#include <stdlib.h>

#define ACTIONS_MAX    7 /* in a statement */
#define STATEMENTS_MAX 20

/* What the owner of a queue can let others do. */
static const char *const grantable[] = {
    "*",           "ChangeMessageVisibility",    "DeleteMessage", "GetQueueAttributes",
    "GetQueueUrl", "ListDeadLetterSourceQueues", "PurgeQueue",    "ReceiveMessage",
    "SendMessage",
};

#define REFUSE(call, error, code, ...)                                                             \
    do {                                                                                           \
        *(error) = sqs_error_make(call, code, __VA_ARGS__);                                        \
        return false;                                                                              \
    } while (0)

/* ---- the request ---- */

static bool is_grantable(struct slice action)
{
    for (size_t i = 0; i < ARRAY_COUNT(grantable); i++) {
        if (slice_is(action, grantable[i]))
            return true;
    }
    return false;
}

static bool check_actions(struct sqs_call *call, const struct sqs_list *actions,
                          struct sqs_error *error)
{
    const struct slice *items = actions->items;
    if (actions->count == 0)
        REFUSE(call, error, SQS_ERROR_MISSING_PARAMETER,
               "The request must contain the parameter %s.",
               call->protocol == SQS_JSON ? "Actions" : "ActionName");
    if (actions->count > ACTIONS_MAX)
        REFUSE(call, error, SQS_ERROR_OVER_LIMIT, "%u Actions were found, maximum allowed is %d.",
               actions->count, ACTIONS_MAX);
    for (uint32_t i = 0; i < actions->count; i++) {
        enum sqs_action known;
        if (is_grantable(items[i]))
            continue;
        bool batch =
            items[i].length > 5 && memcmp(items[i].data + items[i].length - 5, "Batch", 5) == 0;
        bool owners = sqs_action_find(items[i], &known) && !batch;
        REFUSE(call, error, SQS_ERROR_INVALID_PARAMETER,
               "Value SQS:%s for parameter ActionName is invalid. Reason: %s",
               sqs_quote(call, items[i]),
               owners ? "Only the queue owner is allowed to invoke this action."
                      : "Please refer to the appropriate WSDL for a list of valid actions.");
    }
    return true;
}

static bool check_accounts(struct sqs_call *call, const struct sqs_list *accounts,
                           struct sqs_error *error)
{
    const struct slice *items = accounts->items;
    if (accounts->count == 0)
        REFUSE(call, error, SQS_ERROR_INVALID_PARAMETER,
               "Value [] for parameter PrincipalId is invalid. Reason: Unable to verify.");
    for (uint32_t i = 0; i < accounts->count; i++) {
        if (!account_id_valid(items[i]))
            REFUSE(call, error, SQS_ERROR_INVALID_PARAMETER,
                   "Value [%s] for parameter PrincipalId is invalid. Reason: Unable to verify.",
                   sqs_quote(call, items[i]));
    }
    return true;
}

static bool check_label(struct sqs_call *call, struct slice label, struct sqs_error *error)
{
    if (label.length == 0)
        REFUSE(call, error, SQS_ERROR_MISSING_PARAMETER,
               "The request must contain the parameter Label.");
    if (!sqs_name_valid(label))
        REFUSE(call, error, SQS_ERROR_INVALID_PARAMETER,
               "Value %s for parameter Label is invalid. Reason: Can only include alphanumeric "
               "characters, hyphens, or underscores. 1 to 80 in length.",
               sqs_quote(call, label));
    return true;
}

/* ---- the policy ---- */

static struct slice get_attribute(struct sqs_call *call, const struct queue_view *queue,
                                  const char *name)
{
    struct slice wanted = slice_of(name);
    struct sqs_list names = {&wanted, 1, true};
    struct sqs_list found = {0};
    struct sqs_error error = {0};
    bool known = attributes_get(call, queue, &names, &found, &error);
    ASSERT(known);
    return found.count > 0 ? ((const struct sqs_pair *)found.items)->value : (struct slice){0};
}

/* What is stored was checked to be an object when it was set. */
static json_t *load_policy(struct sqs_call *call, const struct queue_view *queue)
{
    struct slice text = get_attribute(call, queue, "Policy");
    json_t *policy =
        text.length > 0 ? json_loadb((const char *)text.data, text.length, 0, NULL) : NULL;
    if (policy != NULL)
        return policy;
    struct slice arn = get_attribute(call, queue, "QueueArn");
    return json_pack("{s:s,s:s,s:[]}", "Version", "2008-10-17", "Id",
                     arena_printf(&call->arena, "%.*s/SQSDefaultPolicy", SLICE_ARGS(arn)),
                     "Statement");
}

/* A policy may have one statement that is not in a list. */
static json_t *statements_of(json_t *policy)
{
    json_t *list = json_object_get(policy, "Statement");
    if (json_is_array(list))
        return list;
    json_t *made = json_array();
    if (json_is_object(list))
        json_array_append(made, list);
    json_object_set_new(policy, "Statement", made);
    return made;
}

static size_t find_label(const json_t *statements, struct slice label)
{
    for (size_t i = 0; i < json_array_size(statements); i++) {
        const char *sid = json_string_value(json_object_get(json_array_get(statements, i), "Sid"));
        if (sid != NULL && slice_is(label, sid))
            return i;
    }
    return SIZE_MAX;
}

static bool store_policy(struct sqs_call *call, const struct queue_view *queue,
                         const json_t *policy, struct command *command, struct sqs_error *error)
{
    char *text = json_array_size(json_object_get(policy, "Statement")) > 0
                     ? json_dumps(policy, JSON_COMPACT)
                     : NULL;
    struct sqs_pair pair = {SLICE_LITERAL("Policy"), text != NULL
                                                         ? arena_copy(&call->arena, slice_of(text))
                                                         : SLICE_LITERAL("")};
    struct sqs_list given = {&pair, 1, true};
    free(text);
    *command = sqs_update_command(queue);
    return attributes_set(call, queue->name, false, &given, &command->queue_update.settings, error);
}

/* ---- add ---- */

/* A list of one is its item. `prefix` and `suffix` stand around each. */
static json_t *one_or_many(struct sqs_call *call, const struct sqs_list *texts, const char *prefix,
                           const char *suffix)
{
    const struct slice *items = texts->items;
    json_t *list = json_array();
    for (uint32_t i = 0; i < texts->count; i++)
        json_array_append_new(list, json_string(arena_printf(&call->arena, "%s%.*s%s", prefix,
                                                             SLICE_ARGS(items[i]), suffix)));
    if (texts->count != 1)
        return list;
    json_t *only = json_incref(json_array_get(list, 0));
    json_decref(list);
    return only;
}

static json_t *make_statement(struct sqs_call *call, const struct queue_view *queue)
{
    const struct sqs_add_permission_input *input = call->input;
    struct slice arn = get_attribute(call, queue, "QueueArn");
    return json_pack(
        "{s:s%,s:s,s:{s:o},s:o,s:s%}", "Sid", input->label.data, input->label.length, "Effect",
        "Allow", "Principal", "AWS", one_or_many(call, &input->accounts, "arn:aws:iam::", ":root"),
        "Action", one_or_many(call, &input->actions, "SQS:", ""), "Resource", arn.data, arn.length);
}

static bool add_statement(struct sqs_call *call, const struct queue_view *queue, json_t *policy,
                          struct sqs_error *error)
{
    const struct sqs_add_permission_input *input = call->input;
    json_t *statements = statements_of(policy);
    if (find_label(statements, input->label) != SIZE_MAX)
        REFUSE(call, error, SQS_ERROR_INVALID_PARAMETER,
               "Value %s for parameter Label is invalid. Reason: Already exists.",
               sqs_quote(call, input->label));
    if (json_array_size(statements) >= STATEMENTS_MAX)
        REFUSE(call, error, SQS_ERROR_OVER_LIMIT,
               "%zu Statements were found, maximum allowed is %d.", json_array_size(statements) + 1,
               STATEMENTS_MAX);
    json_array_append_new(statements, make_statement(call, queue));
    return true;
}

static bool edit_add(struct sqs_call *call, const struct queue_view *queue, struct command *command,
                     struct sqs_error *error)
{
    json_t *policy = load_policy(call, queue);
    bool ok = add_statement(call, queue, policy, error) &&
              store_policy(call, queue, policy, command, error);
    json_decref(policy);
    return ok;
}

void handle_add_permission(struct sqs_call *call)
{
    const struct sqs_add_permission_input *input = call->input;
    struct sqs_error error = {0};
    if (!check_label(call, input->label, &error) ||
        !check_accounts(call, &input->accounts, &error) ||
        !check_actions(call, &input->actions, &error))
        sqs_fail(call, error);
    else
        sqs_update(call, input->queue_url, edit_add);
}

/* ---- remove ---- */

static bool edit_remove(struct sqs_call *call, const struct queue_view *queue,
                        struct command *command, struct sqs_error *error)
{
    const struct sqs_remove_permission_input *input = call->input;
    json_t *policy = load_policy(call, queue);
    json_t *statements = statements_of(policy);
    size_t at = find_label(statements, input->label);
    bool ok = at != SIZE_MAX;
    if (!ok)
        *error = sqs_error_make(call, SQS_ERROR_INVALID_PARAMETER,
                                "Value %s for parameter Label is invalid. Reason: can't find "
                                "label.",
                                sqs_quote(call, input->label));
    else
        json_array_remove(statements, at);
    ok = ok && store_policy(call, queue, policy, command, error);
    json_decref(policy);
    return ok;
}

void handle_remove_permission(struct sqs_call *call)
{
    const struct sqs_remove_permission_input *input = call->input;
    struct sqs_error error = {0};
    if (!check_label(call, input->label, &error))
        sqs_fail(call, error);
    else
        sqs_update(call, input->queue_url, edit_remove);
}
