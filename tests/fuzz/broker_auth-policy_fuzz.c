/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a policy, and lines behind it as what is asked:
 *   - a document without an Allow allows nothing, one without a Deny denies nothing;
 *   - the same question has the same answer;
 *   - nobody (no account, no ARN) is never allowed by account. */
#include "broker/auth/policy.h"
#include "proto/base/assert.h"

#define INPUT_BYTES_MAX 2048

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice line(struct slice *rest)
{
    ptrdiff_t end = slice_find(*rest, '\n');
    struct slice taken = slice_make(rest->data, end < 0 ? rest->length : (size_t)end);
    *rest = slice_sub(*rest, end < 0 ? rest->length : (size_t)end + 1);
    return taken;
}

/* Keys with a 'n' have no value. */
static bool get_value(void *data, struct slice key, struct slice *out)
{
    *out = *(const struct slice *)data;
    return slice_find(key, 'n') < 0;
}

static bool contains(struct slice text, const char *part)
{
    return memmem(text.data, text.length, part, strlen(part)) != NULL;
}

static void check(struct slice json, enum policy_kind kind, const struct policy_request *request)
{
    struct policy *policy;
    const char *why = NULL;
    if (policy_parse(&policy, json, kind, &why) != STATUS_OK) {
        ASSERT(policy == NULL);
        ASSERT(why != NULL);
        return;
    }
    enum policy_effect effect = policy_evaluate(policy, request);
    ASSERT(policy_evaluate(policy, request) == effect);
    bool escapes = contains(json, "\\");
    if (!escapes && !contains(json, "Allow"))
        ASSERT(effect == POLICY_SILENT || effect == POLICY_DENIES);
    if (!escapes && !contains(json, "Deny"))
        ASSERT(effect != POLICY_DENIES);
    struct policy_request nobody = *request;
    nobody.account = nobody.principal_arn = (struct slice){0};
    ASSERT(policy_evaluate(policy, &nobody) != POLICY_ALLOWS_ACCOUNT);
    policy_free(policy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = slice_make(data, size < INPUT_BYTES_MAX ? size : INPUT_BYTES_MAX);
    struct slice action = line(&rest);
    struct slice resource = line(&rest);
    struct slice value = line(&rest);
    struct policy_request request = {.account = SLICE_LITERAL("123456789012"),
                                     .principal_arn = value,
                                     .action = action,
                                     .resource = resource,
                                     .values = {get_value, &value}};
    if (rest.length == 0)
        return 0;
    check(rest, contains(rest, "Principal") ? POLICY_RESOURCE : POLICY_IDENTITY, &request);
    return 0;
}
