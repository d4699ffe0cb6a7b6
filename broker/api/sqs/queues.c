/* SPDX-License-Identifier: Apache-2.0 */
/* The actions on queues. Reading is done at once from the applied state; each change is one
 * command.
 *
 * Two clients may create or change the same queue at once. CreateQueue looks, then proposes, and
 * when the core says that the name was taken meanwhile it looks again: the answer is as if it had
 * come second. Changes of a queue go through update.c. */
#include "broker/api/sqs/attributes.h"
#include "broker/api/sqs/call.h"
#include "broker/api/sqs/cooldown.h"
#include "broker/api/sqs/queue_name.h"
#include "broker/api/sqs/region.h"
#include "broker/api/sqs/tags.h"
#include "broker/api/sqs/update.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"

/* ---- create, find ---- */

static void reply_url(struct sqs_call *call, struct slice key)
{
    struct sqs_queue_url_result result = {.queue_url = queue_url_text(call, key)};
    sqs_reply(call, &result);
}

static bool check_name(struct sqs_call *call, struct slice name, bool fifo)
{
    const char *wrong = NULL;
    if (name.length == 0)
        wrong = "Queue name cannot be empty";
    else if (fifo && !(queue_name_is_fifo(name) && queue_name_valid(name)))
        wrong = "The name of a FIFO queue can only include alphanumeric characters, hyphens, or "
                "underscores, must end with .fifo suffix and be 1 to 80 in length";
    else if (!fifo && !sqs_name_valid(name))
        wrong = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in "
                "length";
    if (wrong != NULL)
        sqs_fail(call, (struct sqs_error){SQS_ERROR_INVALID_PARAMETER, wrong});
    return wrong == NULL;
}

static void answer_existing(struct sqs_call *call, const struct queue_view *queue)
{
    const struct sqs_create_queue_input *input = call->input;
    struct sqs_error error = {0};
    const char *different;
    if (!attributes_differ(call, queue, &input->attributes, &different, &error))
        sqs_fail(call, error);
    else if (different != NULL)
        sqs_fail(call, sqs_error_make(call, SQS_ERROR_QUEUE_NAME_EXISTS,
                                      "A queue already exists with the same name and a different "
                                      "value for attribute %s",
                                      different));
    else
        reply_url(call, queue->name);
}

static void on_created(struct sqs_call *call, const struct core_result *results, uint32_t count)
{
    ASSERT(count == 1);
    const struct sqs_create_queue_input *input = call->input;
    struct slice key = queue_key_here(call, input->queue_name);
    struct queue_view queue;
    if (results[0].code == CORE_OK)
        reply_url(call, key);
    else if (results[0].code == CORE_EXISTS && sqs_find(call, key, &queue))
        answer_existing(call, &queue);
    else
        sqs_fail_core(call, results[0].code);
}

void handle_create_queue(struct sqs_call *call)
{
    const struct sqs_create_queue_input *input = call->input;
    struct slice key = queue_key_here(call, input->queue_name);
    struct command command = {.type = COMMAND_QUEUE_CREATE,
                              .queue_create = {.name = key, .settings = attributes_default}};
    struct sqs_error error = {0};
    if (!check_name(call, input->queue_name, attributes_ask_fifo(&input->attributes)))
        return;
    if (!tags_merge(call, input->queue_name, (struct slice){0}, &input->tags,
                    &command.queue_create.tags, &error)) {
        sqs_fail(call, error);
        return;
    }
    struct queue_view existing;
    if (sqs_find(call, key, &existing)) {
        answer_existing(call, &existing);
        return;
    }
    struct cooldowns *cooldowns = sqs_cooldowns(call);
    if (cooldowns != NULL && cooldowns_active(cooldowns, COOLDOWN_DELETE, key, clock_now_ms())) {
        sqs_fail(call, (struct sqs_error){SQS_ERROR_QUEUE_DELETED_RECENTLY, NULL});
        return;
    }
    if (!attributes_set(call, key, true, &input->attributes, &command.queue_create.settings,
                        &error)) {
        sqs_fail(call, error);
        return;
    }
    shard_call_add(&call->proposal, &command);
    sqs_propose(call, on_created);
}

void handle_get_queue_url(struct sqs_call *call)
{
    const struct sqs_get_queue_url_input *input = call->input;
    struct queue_view queue;
    /* Only a legal name is looked up: the broker's own queues have others. */
    if (queue_name_valid(input->queue_name) &&
        sqs_find(call, queue_key_here(call, input->queue_name), &queue))
        reply_url(call, queue.name);
    else
        sqs_fail(call, (struct sqs_error){SQS_ERROR_QUEUE_DOES_NOT_EXIST, NULL});
}

/* ---- delete, purge ---- */

static void on_deleted(struct sqs_call *call, const struct core_result *results, uint32_t count)
{
    ASSERT(count == 1);
    if (results[0].code == CORE_OK)
        sqs_reply(call, NULL);
    else
        sqs_fail_core(call, results[0].code);
}

void handle_delete_queue(struct sqs_call *call)
{
    const struct sqs_queue_input *input = call->input;
    struct queue_view queue;
    if (!sqs_queue(call, input->queue_url, &queue))
        return;
    struct cooldowns *cooldowns = sqs_cooldowns(call);
    if (cooldowns != NULL)
        cooldowns_begin(cooldowns, COOLDOWN_DELETE, queue.name, clock_now_ms());
    struct command command = {.type = COMMAND_QUEUE_DELETE,
                              .queue_delete = {.queue_id = queue.queue_id}};
    shard_call_add(&call->proposal, &command);
    sqs_propose(call, on_deleted);
}

void handle_purge_queue(struct sqs_call *call)
{
    const struct sqs_queue_input *input = call->input;
    struct queue_view queue;
    if (!sqs_queue(call, input->queue_url, &queue))
        return;
    struct cooldowns *cooldowns = sqs_cooldowns(call);
    uint64_t now_ms = clock_now_ms();
    if (cooldowns != NULL && cooldowns_active(cooldowns, COOLDOWN_PURGE, queue.name, now_ms)) {
        sqs_fail(call, sqs_error_make(call, SQS_ERROR_PURGE_IN_PROGRESS,
                                      "Only one PurgeQueue operation on %s is allowed every 60 "
                                      "seconds.",
                                      sqs_quote(call, queue_key_name(queue.name))));
        return;
    }
    if (cooldowns != NULL)
        cooldowns_begin(cooldowns, COOLDOWN_PURGE, queue.name, now_ms);
    struct command command = {.type = COMMAND_QUEUE_PURGE,
                              .queue_purge = {.queue_id = queue.queue_id}};
    shard_call_add(&call->proposal, &command);
    sqs_propose(call, on_deleted);
}

/* ---- attributes ---- */

void handle_get_queue_attributes(struct sqs_call *call)
{
    const struct sqs_get_queue_attributes_input *input = call->input;
    struct queue_view queue;
    if (!sqs_queue(call, input->queue_url, &queue))
        return;
    struct sqs_queue_attributes_result result = {0};
    struct sqs_error error = {0};
    if (attributes_get(call, &queue, &input->names, &result.attributes, &error))
        sqs_reply(call, &result);
    else
        sqs_fail(call, error);
}

static bool edit_attributes(struct sqs_call *call, const struct queue_view *queue,
                            struct command *command, struct sqs_error *error)
{
    const struct sqs_set_queue_attributes_input *input = call->input;
    *command = sqs_update_command(queue);
    return attributes_set(call, queue->name, false, &input->attributes,
                          &command->queue_update.settings, error);
}

void handle_set_queue_attributes(struct sqs_call *call)
{
    const struct sqs_set_queue_attributes_input *input = call->input;
    sqs_update(call, input->queue_url, edit_attributes);
}
