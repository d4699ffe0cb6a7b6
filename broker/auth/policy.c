/* SPDX-License-Identifier: Apache-2.0 */
/* What one policy says about one request: the strongest of what its statements say. A statement
 * speaks when its principal, action and resource match and all of its conditions hold.
 *
 * A variable without a value matches nothing. Where that would make a statement speak (NotResource,
 * StringNotEquals), a Deny does and an Allow does not.
 *
 * A resource policy that names an account (its digits, or its root) means "whomever that account
 * allows it": it is not enough by itself, so it is told apart from one that names the caller. */
#include "broker/auth/policy_internal.h"

static bool principal_is(const struct principal *principal, const struct policy_request *request)
{
    switch (principal->kind) {
    case PRINCIPAL_ANYONE:
        return true;
    case PRINCIPAL_ACCOUNT:
        return request->account.length > 0 && slice_equal(principal->text, request->account);
    case PRINCIPAL_ARN:
        return request->principal_arn.length > 0 &&
               slice_equal(principal->text, request->principal_arn);
    case PRINCIPAL_OTHER:
        break;
    }
    return false;
}

/* SILENT: does not match. */
static enum policy_effect match_principals(const struct statement *statement,
                                           const struct policy_request *request)
{
    enum policy_effect best = POLICY_SILENT;
    for (size_t i = 0; i < statement->principal_count; i++) {
        const struct principal *principal = &statement->principals[i];
        if (!principal_is(principal, request))
            continue;
        enum policy_effect effect =
            principal->kind == PRINCIPAL_ACCOUNT ? POLICY_ALLOWS_ACCOUNT : POLICY_ALLOWS;
        best = effect > best ? effect : best;
    }
    if (statement->not_principals)
        return best == POLICY_SILENT ? POLICY_ALLOWS : POLICY_SILENT;
    return statement->principal_count == 0 ? POLICY_ALLOWS : best;
}

static bool any_matches(const struct pattern_list *list, struct slice text, bool ignore_case,
                        const struct policy_values *values)
{
    for (size_t i = 0; i < list->count; i++) {
        if (pattern_matches(&list->items[i], text, ignore_case, values))
            return true;
    }
    return false;
}

static bool all_known(const struct pattern_list *list, const struct policy_values *values)
{
    for (size_t i = 0; i < list->count; i++) {
        if (!pattern_known(&list->items[i], values))
            return false;
    }
    return true;
}

static bool applies(const struct statement *statement, const struct policy_request *request)
{
    if (any_matches(&statement->actions, request->action, true, &request->values) ==
        statement->not_actions)
        return false;
    if (statement->resources.count > 0 &&
        any_matches(&statement->resources, request->resource, false, &request->values) ==
            statement->not_resources)
        return false;
    if (statement->not_resources && !statement->denies &&
        !all_known(&statement->resources, &request->values))
        return false;
    for (size_t i = 0; i < statement->condition_count; i++) {
        if (!condition_holds(&statement->conditions[i], &request->values, statement->denies))
            return false;
    }
    return true;
}

enum policy_effect policy_evaluate(const struct policy *policy,
                                   const struct policy_request *request)
{
    enum policy_effect strongest = POLICY_SILENT;
    for (size_t i = 0; i < policy->count; i++) {
        const struct statement *statement = &policy->statements[i];
        enum policy_effect effect = match_principals(statement, request);
        if (effect == POLICY_SILENT || !applies(statement, request))
            continue;
        if (statement->denies)
            return POLICY_DENIES;
        strongest = effect > strongest ? effect : strongest;
    }
    return strongest;
}
