/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/api/sqs/subject.h"

#include "broker/api/sqs/moves.h"
#include "broker/api/sqs/queue_name.h"
#include "broker/api/sqs/redrive.h"
#include "broker/api/sqs/region.h"
#include "proto/base/assert.h"

const struct sqs_permit sqs_permits[SQS_ACTION_COUNT] = {
#define PERMIT(action, iam_action, resource, reads, again)                                         \
    [SQS_ACTION_##action] = {"sqs:" iam_action, resource, reads, again},
#include "broker/api/sqs/sqs_permits.def"
#undef PERMIT
};

_Static_assert(SQS_ACTION_ChangeMessageVisibilityBatch - SQS_ACTION_SendMessage == 6,
               "the actions on messages stand together");

bool sqs_of_messages(enum sqs_action action)
{
    return action >= SQS_ACTION_SendMessage && action <= SQS_ACTION_ChangeMessageVisibilityBatch;
}

struct slice sqs_first_member(const struct sqs_call *call)
{
    const struct sqs_member *first = &sqs_shapes[sqs_actions[call->action].input].members[0];
    ASSERT(first->kind == SQS_KIND_TEXT);
    return *(struct slice *)sqs_field(first, call->input);
}

struct slice sqs_key_named(struct sqs_call *call)
{
    switch (sqs_permits[call->action].resource) {
    case QUEUE_URL:
        return queue_key_of_url(call, sqs_first_member(call));
    case QUEUE_NAME:
        return queue_key_here(call, sqs_first_member(call));
    case SOURCE_ARN:
        return queue_key_of_arn(call, sqs_first_member(call));
    case HANDLE:
        return queue_key_of_arn(call, move_handle_source(call, sqs_first_member(call)));
    case EVERY:
        break;
    }
    return (struct slice){0};
}

bool sqs_queue_known(struct sqs_call *call)
{
    struct queue_view queue;
    return shards_queue_by_name(api_shards(call->api), call->key, &queue);
}

struct slice sqs_target_named(struct sqs_call *call)
{
    const struct sqs_create_queue_input *create = call->input;
    const struct sqs_set_queue_attributes_input *set = call->input;
    return redrive_target(call, call->action == SQS_ACTION_CreateQueue ? &create->attributes
                                                                       : &set->attributes);
}

struct shard_set sqs_shards_read(struct sqs_call *call)
{
    struct shard_set set = {.catalog = auth_required(api_auth(call->api))};
    if (call->wrong.code != SQS_OK || call->away)
        return set;
    if (call->key.length > 0)
        shard_set_add(&set, call->own);
    struct slice target = {0};
    if (sqs_permits[call->action].reads == TARGET)
        target = sqs_target_named(call);
    if (target.length > 0)
        shard_set_add_name(&set, api_shards(call->api), target);
    if (sqs_permits[call->action].reads == ALL)
        shard_set_add_queues(&set, api_shards(call->api));
    return set;
}
