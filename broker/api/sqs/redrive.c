/* SPDX-License-Identifier: Apache-2.0 */
/* RedrivePolicy and RedriveAllowPolicy.
 *
 * The first is taken apart when it is set, because the core acts on it, and put together again when
 * it is read. The second is kept as it was written, and asked when a queue wants the one that has
 * it as its dead-letter queue: as at AWS, only then. Policies that were set before it stay in
 * force.
 *
 *     redrivePermission   who may name this queue in its RedrivePolicy
 *     allowAll, none      every queue of the same kind
 *     byQueue             those whose ARN is in sourceQueueArns, at most ten
 *     denyAll             none */
#include "broker/api/sqs/redrive.h"

#include "broker/api/sqs/look.h"
#include "broker/api/sqs/queue_name.h"
#include "broker/api/sqs/region.h"
#include "proto/base/assert.h"

#include <jansson.h>
#include <stdlib.h>

#define RECEIVE_COUNT_MAX 1000
#define SOURCE_ARNS_MAX   10
#define ALLOW_NAME        "RedriveAllowPolicy"

struct redrive {
    struct sqs_call *call;
    struct slice name;
    struct slice value;
    struct queue_settings *settings;
    struct sqs_error *error;
};

/* ---- RedriveAllowPolicy ---- */

static bool allow_unsupported(struct sqs_call *call, struct sqs_error *error)
{
    *error =
        sqs_error_make(call, SQS_ERROR_INVALID_ATTRIBUTE_VALUE,
                       "Invalid value for the parameter " ALLOW_NAME
                       ". Reason: Amazon SQS can't create the redrive allow policy, as it\u2019s "
                       "in an unsupported format.");
    return false;
}

static bool allow_wrong(struct sqs_call *call, struct slice value, const char *why,
                        struct sqs_error *error)
{
    *error =
        sqs_error_make(call, SQS_ERROR_INVALID_PARAMETER,
                       "Value %s for parameter " ALLOW_NAME
                       " is invalid. Reason: Amazon SQS can't create the redrive allow policy. "
                       "%s",
                       sqs_quote(call, value), why);
    return false;
}

/* Only the members that it has, of the types that they have. */
static bool allow_well_formed(const json_t *policy)
{
    const json_t *permission = json_object_get(policy, "redrivePermission");
    const json_t *arns = json_object_get(policy, "sourceQueueArns");
    if (!json_is_string(permission) || (arns != NULL && !json_is_array(arns)) ||
        json_object_size(policy) != (arns != NULL ? 2 : 1))
        return false;
    for (size_t i = 0; i < json_array_size(arns); i++) {
        if (!json_is_string(json_array_get(arns, i)))
            return false;
    }
    struct slice text = slice_of(json_string_value(permission));
    return slice_is(text, "allowAll") || slice_is(text, "denyAll") || slice_is(text, "byQueue");
}

static bool allow_check(struct sqs_call *call, struct slice value, const json_t *policy,
                        struct sqs_error *error)
{
    if (!allow_well_formed(policy))
        return allow_unsupported(call, error);
    size_t count = json_array_size(json_object_get(policy, "sourceQueueArns"));
    const char *permission = json_string_value(json_object_get(policy, "redrivePermission"));
    bool by_queue = strcmp(permission, "byQueue") == 0;
    if (by_queue && count == 0)
        return allow_wrong(call, value,
                           "When you specify the byQueue permission type, you must also specify "
                           "one or more sourceQueueArns values.",
                           error);
    if (!by_queue && count > 0)
        return allow_wrong(call, value,
                           "To specify one or more source queue ARNs, you must set "
                           "redrivePermission to byQueue.",
                           error);
    if (count > SOURCE_ARNS_MAX)
        return allow_wrong(call, value,
                           "The maximum number of source queue ARNs you can specify is 10.", error);
    return true;
}

bool redrive_allow_check(struct sqs_call *call, struct slice value, struct sqs_error *error)
{
    if (value.length == 0)
        return true;
    json_t *policy = json_loadb((const char *)value.data, value.length, 0, NULL);
    bool ok = allow_check(call, value, policy, error);
    json_decref(policy);
    return ok;
}

static bool allow_lists(struct sqs_call *call, const json_t *policy, struct slice name)
{
    const json_t *arns = json_object_get(policy, "sourceQueueArns");
    for (size_t i = 0; i < json_array_size(arns); i++) {
        const char *arn = json_string_value(json_array_get(arns, i));
        if (slice_equal(queue_key_of_arn(call, slice_of(arn)), name))
            return true;
    }
    return false;
}

/* May the queue `name` have `target` as its dead-letter queue? */
static bool allowed_by(struct sqs_call *call, const struct queue_view *target, struct slice name)
{
    struct slice text = target->settings.extras;
    json_t *extras =
        text.length > 0 ? json_loadb((const char *)text.data, text.length, 0, NULL) : NULL;
    const char *stored = json_string_value(json_object_get(extras, ALLOW_NAME));
    json_t *policy = stored != NULL ? json_loads(stored, 0, NULL) : NULL;
    const char *permission = json_string_value(json_object_get(policy, "redrivePermission"));
    bool allowed = permission == NULL || strcmp(permission, "allowAll") == 0 ||
                   (strcmp(permission, "byQueue") == 0 && allow_lists(call, policy, name));
    json_decref(policy);
    json_decref(extras);
    return allowed;
}

/* ---- RedrivePolicy ---- */

static bool refuse(struct redrive *r, const char *reason)
{
    *r->error = sqs_error_make(r->call, SQS_ERROR_INVALID_PARAMETER,
                               "Value %s for parameter RedrivePolicy is invalid. Reason: %s",
                               sqs_quote(r->call, r->value), reason);
    return false;
}

/* maxReceiveCount as a number or a text; 0 if it is neither or out of range. */
static uint32_t receive_count(const json_t *value)
{
    json_int_t number = json_integer_value(value);
    struct slice text = slice_make(json_string_value(value), json_string_length(value));
    if (json_is_string(value) && text.length > 0 && text.length <= 4) {
        for (size_t i = 0; i < text.length; i++) {
            if (text.data[i] < '0' || text.data[i] > '9')
                return 0;
            number = number * 10 + (text.data[i] - '0');
        }
    }
    return number > 0 && number <= RECEIVE_COUNT_MAX ? (uint32_t)number : 0;
}

/* What the client wrote there, for the sentence that says that it is wrong. */
static bool refuse_count(struct redrive *r, const json_t *count)
{
    char *text = json_is_string(count) ? NULL : json_dumps(count, JSON_ENCODE_ANY);
    struct slice shown = json_is_string(count)
                             ? slice_make(json_string_value(count), json_string_length(count))
                             : slice_of(text);
    const char *quoted = sqs_quote(r->call, shown);
    free(text);
    return refuse(r, arena_printf(&r->call->arena,
                                  "Invalid value for maxReceiveCount: %s, valid values are from 1 "
                                  "to 1000 both inclusive.",
                                  quoted));
}

static bool check_target(struct redrive *r, struct slice name)
{
    struct queue_view target;
    bool near = slice_equal(queue_key_region(name), queue_key_region(r->name));
    if (!near || !sqs_queue_by_name(r->call, name, &target))
        return refuse(r, "Dead letter target does not exist.");
    if (slice_equal(name, r->name))
        return refuse(r, "A queue cannot be its own dead letter target.");
    if (target.settings.fifo != r->settings->fifo) /* AWS ends this one with two periods */
        return refuse(r, "Dead-letter queue must be same type of queue as the source..");
    if (!allowed_by(r->call, &target, r->name))
        return refuse(r, "The " ALLOW_NAME " of the dead letter target does not allow this queue.");
    return true;
}

static bool read_policy(struct redrive *r, const json_t *policy)
{
    const json_t *arn = json_object_get(policy, "deadLetterTargetArn");
    const json_t *count = json_object_get(policy, "maxReceiveCount");
    if (count == NULL)
        return refuse(r, "Redrive policy does not contain mandatory attribute: maxReceiveCount.");
    if (arn == NULL)
        return refuse(r,
                      "Redrive policy does not contain mandatory attribute: deadLetterTargetArn.");
    if (json_object_size(policy) > 2)
        return refuse(r, "Only following attributes are supported: [maxReceiveCount, "
                         "deadLetterTargetArn].");
    uint32_t receives = receive_count(count);
    if (receives == 0)
        return refuse_count(r, count);
    struct slice name = queue_key_of_arn(r->call, slice_of(json_string_value(arn)));
    if (name.length == 0)
        return refuse(r, "Invalid value for deadLetterTargetArn.");
    if (!check_target(r, name))
        return false;
    r->settings->dead_letter = arena_copy(&r->call->arena, name);
    r->settings->receive_count_max = receives;
    return true;
}

bool redrive_set(struct sqs_call *call, struct slice name, struct slice value,
                 struct queue_settings *settings, struct sqs_error *error)
{
    if (value.length == 0) {
        settings->dead_letter = (struct slice){0};
        settings->receive_count_max = 0;
        return true;
    }
    struct redrive r = {call, name, value, settings, error};
    json_t *policy = json_loadb((const char *)value.data, value.length, 0, NULL);
    bool ok = json_is_object(policy);
    if (!ok)
        *error = (struct sqs_error){SQS_ERROR_INVALID_ATTRIBUTE_VALUE,
                                    "Invalid value for the parameter RedrivePolicy. Reason: "
                                    "Redrive policy is not a valid JSON map."};
    else
        ok = read_policy(&r, policy);
    json_decref(policy);
    return ok;
}

static struct slice target_of(struct sqs_call *call, struct slice value)
{
    json_t *policy =
        value.length > 0 ? json_loadb((const char *)value.data, value.length, 0, NULL) : NULL;
    const char *arn = json_string_value(json_object_get(policy, "deadLetterTargetArn"));
    struct slice key = queue_key_of_arn(call, slice_of(arn));
    key = key.length > 0 ? arena_copy(&call->arena, key) : (struct slice){0};
    json_decref(policy);
    return key;
}

struct slice redrive_target(struct sqs_call *call, const struct sqs_list *attributes)
{
    const struct sqs_pair *pairs = attributes->items;
    struct slice key = {0};
    for (uint32_t i = 0; i < attributes->count && key.length == 0; i++) {
        if (slice_is(pairs[i].key, "RedrivePolicy"))
            key = target_of(call, pairs[i].value);
    }
    return key;
}

struct slice redrive_get(struct sqs_call *call, const struct queue_settings *settings)
{
    if (settings->dead_letter.length == 0)
        return (struct slice){0};
    return slice_of(
        arena_printf(&call->arena, "{\"deadLetterTargetArn\":\"%s\",\"maxReceiveCount\":%u}",
                     queue_arn_text(call, settings->dead_letter), settings->receive_count_max));
}
