/* SPDX-License-Identifier: Apache-2.0 */
/* From JSON to a policy: every member is known and has the right type, or the whole is refused. A
 * policy that is half understood would allow what it does not say, or deny what it does not mean.
 *
 * Lists may be written as their only item, as the language allows everywhere. A document without a
 * statement says nothing, and is accepted. */
#include "broker/auth/policy_internal.h"

#include "proto/base/assert.h"

#include <jansson.h>
#include <stdlib.h>

#define STATEMENTS_MAX 100
#define LIST_MAX       1000

struct reader {
    struct policy *policy;
    enum policy_kind kind;
    bool variables;
    const char *why;
};

static bool refuse(struct reader *r, const char *why)
{
    if (r->why == NULL)
        r->why = why;
    return false;
}

static struct slice text_of(const json_t *value)
{
    return slice_make(json_string_value(value), json_string_length(value));
}

/* The items of a list, or the one that stands for it. */
static size_t item_count(const json_t *value)
{
    return json_is_array(value) ? json_array_size(value) : value != NULL;
}

static const json_t *item_at(const json_t *value, size_t i)
{
    return json_is_array(value) ? json_array_get(value, i) : value;
}

/* ---- actions and resources ---- */

/* "*", or a service, a colon and a name. */
static bool action_valid(struct slice text)
{
    ptrdiff_t colon = slice_find(text, ':');
    if (slice_is(text, "*"))
        return true;
    if (colon <= 0 || (size_t)colon + 1 == text.length)
        return false;
    for (size_t i = 0; i < text.length; i++) {
        uint8_t c = text.data[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!word && (c == '\0' || strchr("*?-_.", c) == NULL) && (ptrdiff_t)i != colon)
            return false;
    }
    return true;
}

static bool resource_valid(struct slice text)
{
    return slice_is(text, "*") || slice_starts_with(text, "arn:") || slice_find(text, '*') >= 0;
}

static bool read_patterns(struct reader *r, const json_t *value, bool actions,
                          struct pattern_list *out)
{
    size_t count = item_count(value);
    if (count == 0 || count > LIST_MAX)
        return refuse(r, "Action and Resource must be a text or a list of 1 to 1000 texts.");
    out->items = arena_alloc(&r->policy->arena, count * sizeof *out->items);
    for (; out->count < count; out->count++) {
        const json_t *item = item_at(value, out->count);
        struct slice text = text_of(item);
        if (!json_is_string(item))
            return refuse(r, "Action and Resource must be a text or a list of 1 to 1000 texts.");
        if (actions && !action_valid(text))
            return refuse(r, "An action must look like sqs:SendMessage, sqs:* or *.");
        if (!actions && !resource_valid(text))
            return refuse(r, "A resource must be an ARN, or * for all.");
        struct pattern_rules rules = {true, !actions && r->variables};
        const char *why = pattern_compile(text, rules, &r->policy->arena, &out->items[out->count]);
        if (why != NULL)
            return refuse(r, why);
    }
    return true;
}

/* Exactly one of a member and its negation ("Action", "NotAction"). */
static bool read_either(struct reader *r, const json_t *statement, const char *name,
                        const char *negation, bool actions, struct pattern_list *out, bool *negated)
{
    const json_t *plain = json_object_get(statement, name);
    const json_t *inverse = json_object_get(statement, negation);
    *negated = inverse != NULL;
    if (plain != NULL && inverse != NULL)
        return refuse(r, "A statement must not have both a member and its Not... form.");
    return read_patterns(r, plain != NULL ? plain : inverse, actions, out);
}

/* ---- principals ---- */

static bool is_account(struct slice text)
{
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
    }
    return text.length == ACCOUNT_DIGITS;
}

/* An account is written as its digits or as the ARN of its root. */
static bool read_aws_principal(struct slice text, struct principal *out)
{
    static const char prefix[] = "arn:aws:iam::";
    static const char suffix[] = ":root";
    size_t around = sizeof prefix - 1 + sizeof suffix - 1;
    out->text = text;
    if (slice_is(text, "*")) {
        out->kind = PRINCIPAL_ANYONE;
    } else if (is_account(text)) {
        out->kind = PRINCIPAL_ACCOUNT;
    } else if (slice_starts_with(text, prefix) && text.length == around + ACCOUNT_DIGITS &&
               memcmp(text.data + text.length - 5, suffix, 5) == 0) {
        out->kind = PRINCIPAL_ACCOUNT;
        out->text = slice_make(text.data + sizeof prefix - 1, ACCOUNT_DIGITS);
        return is_account(out->text);
    } else {
        out->kind = PRINCIPAL_ARN;
        return slice_starts_with(text, "arn:") && slice_find(text, '*') < 0;
    }
    return true;
}

static bool add_principal(struct reader *r, struct statement *statement, const char *type,
                          const json_t *item)
{
    if (!json_is_string(item) || statement->principal_count == LIST_MAX)
        return refuse(r, "A principal must be a text or a list of at most 1000 texts.");
    struct principal *out = &statement->principals[statement->principal_count++];
    struct slice text = arena_copy(&r->policy->arena, text_of(item));
    if (strcmp(type, "AWS") != 0)
        *out = (struct principal){PRINCIPAL_OTHER, text};
    else if (!read_aws_principal(text, out))
        return refuse(r, "An AWS principal must be *, 12 digits, or the ARN of a user, a role or "
                         "an account's root.");
    return true;
}

static bool read_principals_object(struct reader *r, struct statement *statement,
                                   const json_t *object)
{
    const char *type;
    json_t *value;
    size_t total = 0;
    json_object_foreach((json_t *)(uintptr_t)object, type, value) total += item_count(value);
    if (total == 0 || total > LIST_MAX)
        return refuse(r, "A Principal must name 1 to 1000 principals.");
    statement->principals = arena_alloc(&r->policy->arena, total * sizeof *statement->principals);
    json_object_foreach((json_t *)(uintptr_t)object, type, value)
    {
        if (strcmp(type, "AWS") != 0 && strcmp(type, "Service") != 0 &&
            strcmp(type, "Federated") != 0 && strcmp(type, "CanonicalUser") != 0)
            return refuse(r, "A Principal has AWS, Service, Federated or CanonicalUser.");
        for (size_t i = 0; i < item_count(value); i++) {
            if (!add_principal(r, statement, type, item_at(value, i)))
                return false;
        }
    }
    return true;
}

static bool read_principals(struct reader *r, struct statement *statement, const json_t *json)
{
    const json_t *plain = json_object_get(json, "Principal");
    const json_t *inverse = json_object_get(json, "NotPrincipal");
    const json_t *value = plain != NULL ? plain : inverse;
    statement->not_principals = inverse != NULL;
    if (r->kind == POLICY_IDENTITY)
        return value == NULL || refuse(r, "The policy of a key must not have a Principal: it is "
                                          "the key that it belongs to.");
    if ((plain != NULL) == (inverse != NULL))
        return refuse(r, "A statement must have one of Principal and NotPrincipal.");
    if (json_is_object(value))
        return read_principals_object(r, statement, value);
    if (!json_is_string(value) || !slice_is(text_of(value), "*"))
        return refuse(r, "A Principal must be * or an object.");
    statement->principals = arena_alloc(&r->policy->arena, sizeof *statement->principals);
    return add_principal(r, statement, "AWS", value);
}

/* ---- conditions ---- */

/* A text; numbers and truth values may be written as such. */
static bool value_text(const json_t *value, struct arena *arena, struct slice *out)
{
    if (json_is_string(value))
        *out = text_of(value);
    else if (json_is_boolean(value))
        *out = json_is_true(value) ? SLICE_LITERAL("true") : SLICE_LITERAL("false");
    else if (json_is_integer(value))
        *out = slice_of(arena_printf(arena, "%" JSON_INTEGER_FORMAT, json_integer_value(value)));
    return json_is_string(value) || json_is_boolean(value) || json_is_integer(value);
}

static bool read_condition(struct reader *r, struct condition *condition, const json_t *value)
{
    struct arena *arena = &r->policy->arena;
    size_t count = item_count(value);
    if (count == 0 || count > LIST_MAX)
        return refuse(r, "A condition must have 1 to 1000 values.");
    condition->values = arena_alloc(arena, count * sizeof *condition->values);
    for (; condition->value_count < count; condition->value_count++) {
        struct slice text;
        if (!value_text(item_at(value, condition->value_count), arena, &text))
            return refuse(r, "A value of a condition must be a text, a number, true or false.");
        const char *why = condition_value_read(condition, text, r->variables, arena,
                                               &condition->values[condition->value_count]);
        if (why != NULL)
            return refuse(r, why);
    }
    return true;
}

static bool read_operator(struct reader *r, struct statement *statement, const char *name,
                          const json_t *keys)
{
    const char *key;
    json_t *value;
    if (!json_is_object(keys))
        return refuse(r, "A condition operator must have an object of keys and values.");
    json_object_foreach((json_t *)(uintptr_t)keys, key, value)
    {
        struct condition *condition = &statement->conditions[statement->condition_count++];
        if (!condition_operator_read(slice_of(name), condition))
            return refuse(r, "There is a condition operator that is not known.");
        condition->key = arena_copy(&r->policy->arena, slice_of(key));
        if (slice_find(condition->key, ':') <= 0)
            return refuse(r, "The key of a condition must look like aws:SourceIp.");
        if (!read_condition(r, condition, value))
            return false;
    }
    return true;
}

static bool read_conditions(struct reader *r, struct statement *statement, const json_t *json)
{
    const char *name;
    json_t *keys;
    size_t total = 0;
    const json_t *conditions = json_object_get(json, "Condition");
    if (conditions != NULL && !json_is_object(conditions))
        return refuse(r, "A Condition must be an object.");
    json_object_foreach((json_t *)(uintptr_t)conditions, name, keys) total +=
        json_object_size(keys);
    statement->conditions =
        arena_alloc(&r->policy->arena, (total + 1) * sizeof *statement->conditions);
    json_object_foreach((json_t *)(uintptr_t)conditions, name, keys)
    {
        if (!read_operator(r, statement, name, keys))
            return false;
    }
    return true;
}

/* ---- statements ---- */

static bool members_known(struct reader *r, const json_t *object, const char *const *known)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        size_t i = 0;
        while (known[i] != NULL && strcmp(known[i], name) != 0)
            i++;
        if (known[i] == NULL)
            return refuse(r, "The policy has a member that the language does not have.");
    }
    return true;
}

static bool read_statement(struct reader *r, const json_t *json, struct statement *statement)
{
    static const char *const known[] = {"Sid",       "Effect",    "Principal", "NotPrincipal",
                                        "Action",    "NotAction", "Resource",  "NotResource",
                                        "Condition", NULL};
    const char *effect = json_string_value(json_object_get(json, "Effect"));
    const json_t *sid = json_object_get(json, "Sid");
    if (!json_is_object(json) || !members_known(r, json, known))
        return refuse(r, "A statement must be an object.");
    if (effect == NULL || (strcmp(effect, "Allow") != 0 && strcmp(effect, "Deny") != 0))
        return refuse(r, "The Effect of a statement must be Allow or Deny.");
    if (sid != NULL && !json_is_string(sid))
        return refuse(r, "A Sid must be a text.");
    statement->denies = effect[0] == 'D';
    if (!read_principals(r, statement, json) ||
        !read_either(r, json, "Action", "NotAction", true, &statement->actions,
                     &statement->not_actions))
        return false;
    /* A queue's policy is about the queue, also when it does not say so. */
    bool about = json_object_get(json, "Resource") != NULL ||
                 json_object_get(json, "NotResource") != NULL || r->kind == POLICY_IDENTITY;
    if (about && !read_either(r, json, "Resource", "NotResource", false, &statement->resources,
                              &statement->not_resources))
        return false;
    return read_conditions(r, statement, json);
}

static bool read_version(struct reader *r, const json_t *root)
{
    const json_t *version = json_object_get(root, "Version");
    struct slice text = text_of(version);
    r->variables = version != NULL && slice_is(text, "2012-10-17");
    if (version != NULL && !r->variables && !slice_is(text, "2008-10-17"))
        return refuse(r, "The Version of a policy must be 2012-10-17 or 2008-10-17.");
    return true;
}

static bool read_root(struct reader *r, const json_t *root)
{
    static const char *const known[] = {"Version", "Id", "Statement", NULL};
    const json_t *statements = json_object_get(root, "Statement");
    size_t count = item_count(statements);
    if (!json_is_object(root) || !members_known(r, root, known) || !read_version(r, root))
        return refuse(r, "A policy must be a JSON object.");
    if (count > STATEMENTS_MAX)
        return refuse(r, "A policy must have at most 100 statements.");
    struct policy *policy = r->policy;
    policy->statements = arena_alloc(&policy->arena, (count + 1) * sizeof *policy->statements);
    for (; policy->count < count; policy->count++) {
        if (!read_statement(r, item_at(statements, policy->count),
                            &policy->statements[policy->count]))
            return false;
    }
    return true;
}

enum status policy_parse(struct policy **out, struct slice json, enum policy_kind kind,
                         const char **why)
{
    *out = NULL;
    *why = "A policy must be at most 20480 bytes.";
    if (json.length > POLICY_BYTES_MAX)
        return STATUS_INVALID;
    json_t *root = json_loadb((const char *)json.data, json.length, JSON_REJECT_DUPLICATES, NULL);
    *why = "A policy must be valid JSON, without a member given twice.";
    if (root == NULL)
        return STATUS_INVALID;
    struct policy *policy = calloc(1, sizeof *policy);
    ASSERT(policy != NULL);
    struct reader reader = {.policy = policy, .kind = kind};
    bool good = read_root(&reader, root);
    json_decref(root);
    *why = reader.why;
    if (!good) {
        policy_free(policy);
        return STATUS_INVALID;
    }
    *out = policy;
    return STATUS_OK;
}

void policy_free(struct policy *policy)
{
    if (policy == NULL)
        return;
    arena_free(&policy->arena);
    free(policy);
}
