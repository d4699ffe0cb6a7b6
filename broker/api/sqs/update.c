/* SPDX-License-Identifier: Apache-2.0 */
/* Read, edit, write back, under the queue's version: when another change came in between, the core
 * says CONFLICT and the edit is done again on what is there now, a bounded number of times. So two
 * clients that change different things at once both succeed, and neither undoes the other. */
#include "broker/api/sqs/update.h"

#include "proto/base/assert.h"

#define ATTEMPTS_MAX 5

struct updating {
    struct slice queue_url;
    queue_edit_fn edit;
    uint32_t attempts;
};

static void propose_update(struct sqs_call *call);

static void on_updated(struct sqs_call *call, const struct core_result *results, uint32_t count)
{
    ASSERT(count == 1);
    struct updating *updating = call->state;
    if (results[0].code == CORE_OK)
        sqs_reply(call, NULL);
    else if (results[0].code == CORE_CONFLICT && ++updating->attempts < ATTEMPTS_MAX)
        propose_update(call);
    else
        sqs_fail_core(call, results[0].code);
}

static void propose_update(struct sqs_call *call)
{
    const struct updating *updating = call->state;
    struct queue_view queue;
    if (!sqs_queue(call, updating->queue_url, &queue))
        return;
    struct command command = {0};
    struct sqs_error error = {0};
    if (!updating->edit(call, &queue, &command, &error)) {
        sqs_fail(call, error);
        return;
    }
    call->proposal = (struct shard_call){0};
    shard_call_add(&call->proposal, &command);
    sqs_propose(call, on_updated);
}

void sqs_update(struct sqs_call *call, struct slice queue_url, queue_edit_fn edit)
{
    struct updating *updating = arena_alloc(&call->arena, sizeof *updating);
    *updating = (struct updating){queue_url, edit, 0};
    call->state = updating;
    propose_update(call);
}

struct command sqs_update_command(const struct queue_view *queue)
{
    return (struct command){.type = COMMAND_QUEUE_UPDATE,
                            .queue_update = {.queue_id = queue->queue_id,
                                             .version = queue->version,
                                             .settings = queue->settings}};
}

struct command sqs_tag_command(const struct queue_view *queue, struct slice tags)
{
    return (struct command){
        .type = COMMAND_QUEUE_TAG,
        .queue_tag = {.queue_id = queue->queue_id, .version = queue->version, .tags = tags}};
}
