/* SPDX-License-Identifier: Apache-2.0 */
/* From a caller, an action and a resource to yes or no ("Policy evaluation logic" in the AWS
 * documentation, for the two kinds of policy that there are):
 *
 *     the key's policy or the queue's denies                          no
 *     the key is of the account that owns the resource                one of them must allow
 *     the key is of another account                                   both must allow
 *     nobody (not signed)                                             the queue's must allow
 *     the root key of the account                                     yes, unless the queue's
 * denies
 *
 * A queue's policy that allows an account allows nobody of the same account by itself. The root key
 * can always read, replace and delete a queue's policy and the queue: a policy that denies everyone
 * must not be for ever. */
#include "broker/auth/internal.h"

#include "proto/base/assert.h"

#include <stdio.h>

/* What values a request has for conditions and variables. Most policies ask for none, so times are
 * written when they are asked for. */
struct context {
    const struct auth_caller *caller;
    char now[24];
    char epoch[24];
};

static void write_times(struct context *context)
{
    uint64_t now_s = context->caller->now_s;
    char moment[MOMENT_LENGTH + 1];
    moment_format(now_s, moment);
    snprintf(context->now, sizeof context->now, "%.4s-%.2s-%.2sT%.2s:%.2s:%.2sZ", moment,
             moment + 4, moment + 6, moment + 9, moment + 11, moment + 13);
    snprintf(context->epoch, sizeof context->epoch, "%llu", (unsigned long long)now_s);
}

static const char *principal_type(const struct auth_caller *caller)
{
    return caller->kind == AUTH_ANONYMOUS ? "Anonymous" : caller->root ? "Account" : "User";
}

static bool get_value(void *data, struct slice key, struct slice *out)
{
    struct context *context = data;
    const struct auth_caller *caller = context->caller;
    if (context->now[0] == '\0')
        write_times(context);
    const struct {
        const char *key;
        struct slice value;
    } rows[] = {
        {"aws:SourceIp", caller->source_ip},
        {"aws:SecureTransport", slice_of(caller->secure ? "true" : "false")},
        {"aws:CurrentTime", slice_of(context->now)},
        {"aws:EpochTime", slice_of(context->epoch)},
        {"aws:UserAgent", caller->user_agent},
        {"aws:PrincipalArn", caller->arn},
        {"aws:PrincipalAccount", caller->account},
        {"aws:PrincipalType", slice_of(principal_type(caller))},
        {"aws:username", caller->root ? (struct slice){0} : caller->name},
        {"aws:userid", caller->key_id},
        {"aws:RequestedRegion", caller->region},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        if (slice_is_nocase(key, rows[i].key)) {
            *out = rows[i].value;
            return out->length > 0;
        }
    }
    return false;
}

/* Who may undo a queue's policy that denies everyone. */
static bool unlocks(const struct auth_caller *caller, const char *action)
{
    static const char *const actions[] = {"sqs:GetQueueAttributes", "sqs:SetQueueAttributes",
                                          "sqs:RemovePermission", "sqs:DeleteQueue"};
    for (size_t i = 0; i < ARRAY_COUNT(actions); i++) {
        if (caller->root && strcmp(action, actions[i]) == 0)
            return true;
    }
    return false;
}

static bool deny(struct auth_failure *failure, const struct auth_caller *caller,
                 const struct auth_question *question, const char *because, struct arena *arena)
{
    failure->code = AUTH_DENIED;
    const char *shown = question->shown != NULL ? question->shown : question->action;
    if (caller->kind == AUTH_ANONYMOUS) {
        failure->message = arena_printf(arena, "Access to the resource %.*s is denied.",
                                        SLICE_ARGS(question->resource));
        return false;
    }
    failure->message =
        arena_printf(arena, "User: %.*s is not authorized to perform: %s on resource: %.*s %s",
                     SLICE_ARGS(caller->arn), shown, SLICE_ARGS(question->resource), because);
    return false;
}

static const char *no_policy_allows(const char *kind, const struct auth_question *question,
                                    struct arena *arena)
{
    return arena_printf(arena, "because no %s-based policy allows the %s action", kind,
                        question->shown != NULL ? question->shown : question->action);
}

/* What the two policies say. */
struct opinions {
    enum policy_effect identity;
    enum policy_effect resource;
};

static bool ask(struct auth *auth, const struct auth_caller *caller,
                const struct auth_question *question, struct opinions *out)
{
    struct context context = {.caller = caller};
    struct policy_request request = {.account = caller->account,
                                     .principal_arn = caller->arn,
                                     .action = slice_of(question->action),
                                     .resource = question->resource,
                                     .values = {get_value, &context}};
    *out = (struct opinions){POLICY_SILENT, POLICY_SILENT};
    if (caller->kind == AUTH_KEY) {
        const struct key *key = keys_find(auth, caller->key_id);
        if (key == NULL || key->record.disabled)
            return false;
        if (key->policy != NULL)
            out->identity = policy_evaluate(key->policy, &request);
        if (caller->root && out->identity != POLICY_DENIES)
            out->identity = POLICY_ALLOWS;
    }
    const struct queue_policy *own =
        question->queue != NULL ? queue_policy_of(auth, question->queue) : NULL;
    if (own != NULL && own->unreadable)
        out->resource = POLICY_DENIES;
    else if (own != NULL && own->policy != NULL)
        out->resource = policy_evaluate(own->policy, &request);
    return true;
}

bool auth_authorize(struct auth *auth, const struct auth_caller *caller,
                    const struct auth_question *question, struct arena *arena,
                    struct auth_failure *failure)
{
    struct opinions opinions;
    if (caller->kind == AUTH_UNCHECKED)
        return true;
    if (caller->kind == AUTH_ANONYMOUS && !question->of_queue) {
        *failure =
            (struct auth_failure){AUTH_MISSING_TOKEN, "Request is missing Authentication Token"};
        return false;
    }
    if (!ask(auth, caller, question, &opinions)) {
        *failure = (struct auth_failure){AUTH_UNKNOWN_KEY,
                                         "The security token included in the request is invalid."};
        return false;
    }
    if (unlocks(caller, question->action) && opinions.resource == POLICY_DENIES)
        opinions.resource = POLICY_SILENT;
    if (opinions.identity == POLICY_DENIES)
        return deny(failure, caller, question, "with an explicit deny in an identity-based policy",
                    arena);
    if (opinions.resource == POLICY_DENIES)
        return deny(failure, caller, question, "with an explicit deny in a resource-based policy",
                    arena);
    bool identity = opinions.identity == POLICY_ALLOWS;
    bool resource = opinions.resource == POLICY_ALLOWS;
    if (caller->kind == AUTH_ANONYMOUS)
        return resource || deny(failure, caller, question, "", arena);
    if (slice_is(caller->account, auth->options.account_id))
        return identity || resource ||
               deny(failure, caller, question, no_policy_allows("identity", question, arena),
                    arena);
    if (opinions.resource < POLICY_ALLOWS_ACCOUNT)
        return deny(failure, caller, question, no_policy_allows("resource", question, arena),
                    arena);
    return identity ||
           deny(failure, caller, question, no_policy_allows("identity", question, arena), arena);
}

const char *auth_policy_check(struct slice json, bool of_queue)
{
    struct policy *policy;
    const char *why;
    if (policy_parse(&policy, json, of_queue ? POLICY_RESOURCE : POLICY_IDENTITY, &why) !=
        STATUS_OK)
        return why;
    policy_free(policy);
    return NULL;
}
