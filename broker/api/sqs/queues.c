/* SPDX-License-Identifier: Apache-2.0 */
/* The actions on queues. Reading is done at once from the applied state; each change is one
 * command.
 *
 * Two clients may create or change the same queue at once. CreateQueue looks, then proposes, and
 * when the core says that the name was taken meanwhile it looks again: the answer is as if it had
 * come second. SetQueueAttributes carries the version that it read and starts over when another
 * change came in between, a bounded number of times. */
#include "broker/api/sqs/attributes.h"
#include "broker/api/sqs/call.h"
#include "broker/api/sqs/cooldown.h"
#include "broker/api/sqs/queue_name.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"

#define LIST_MAX            1000
#define UPDATE_ATTEMPTS_MAX 5
#define TAGS_MAX            50
#define TAG_KEY_BYTES_MAX   512 /* 128 characters */
#define TAG_VALUE_BYTES_MAX 1024

/* ---- create, find ---- */

static void reply_url(struct sqs_call *call, struct slice name)
{
    struct sqs_queue_url_result result = {.queue_url = queue_url_text(call, name)};
    sqs_reply(call, &result);
}

static bool check_name(struct sqs_call *call, struct slice name)
{
    struct sqs_error error;
    if (name.length == 0)
        error = (struct sqs_error){SQS_ERROR_INVALID_PARAMETER, "Queue name cannot be empty"};
    else if (queue_name_is_fifo(name))
        error = (struct sqs_error){SQS_ERROR_UNSUPPORTED,
                                   "FIFO queues are not supported by this version."};
    else if (!sqs_name_valid(name))
        error = (struct sqs_error){SQS_ERROR_INVALID_PARAMETER,
                                   "Can only include alphanumeric characters, hyphens, or "
                                   "underscores. 1 to 80 in length"};
    else
        return true;
    sqs_fail(call, error);
    return false;
}

static bool check_tags(struct sqs_call *call, const struct sqs_list *tags)
{
    const struct sqs_pair *pairs = tags->items;
    const char *wrong = tags->count > TAGS_MAX ? "Too many tags: at most 50 are allowed." : NULL;
    for (uint32_t i = 0; i < tags->count && wrong == NULL; i++) {
        if (pairs[i].key.length == 0 || pairs[i].key.length > TAG_KEY_BYTES_MAX)
            wrong = "Tag keys must be between 1 and 128 characters in length.";
        else if (pairs[i].value.length > TAG_VALUE_BYTES_MAX)
            wrong = "Tag values must be between 0 and 256 characters in length.";
    }
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
    struct queue_view queue;
    if (results[0].code == CORE_OK)
        reply_url(call, input->queue_name);
    else if (results[0].code == CORE_EXISTS &&
             core_queue_by_name(shard_core(call->shard), input->queue_name, &queue))
        answer_existing(call, &queue);
    else
        sqs_fail_core(call, results[0].code);
}

void handle_create_queue(struct sqs_call *call)
{
    const struct sqs_create_queue_input *input = call->input;
    if (!check_name(call, input->queue_name) || !check_tags(call, &input->tags))
        return;
    struct queue_view existing;
    if (core_queue_by_name(shard_core(call->shard), input->queue_name, &existing)) {
        answer_existing(call, &existing);
        return;
    }
    struct cooldowns *cooldowns = sqs_cooldowns(call);
    if (cooldowns != NULL &&
        cooldowns_active(cooldowns, COOLDOWN_DELETE, input->queue_name, clock_now_ms())) {
        sqs_fail(call, (struct sqs_error){SQS_ERROR_QUEUE_DELETED_RECENTLY, NULL});
        return;
    }
    struct command command = {.type = COMMAND_QUEUE_CREATE,
                              .queue_create = {.name = input->queue_name,
                                               .settings = attributes_default,
                                               .tags = tags_encode(call, &input->tags)}};
    struct sqs_error error = {0};
    if (!attributes_set(call, input->queue_name, true, &input->attributes,
                        &command.queue_create.settings, &error)) {
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
    if ((sqs_name_valid(input->queue_name) || queue_name_is_fifo(input->queue_name)) &&
        core_queue_by_name(shard_core(call->shard), input->queue_name, &queue))
        reply_url(call, queue.name);
    else
        sqs_fail(call, (struct sqs_error){SQS_ERROR_QUEUE_DOES_NOT_EXIST, NULL});
}

/* ---- list ---- */

/* A token is the last name of the page before, in base64. */
static bool read_token(struct sqs_call *call, struct slice token, struct slice *name)
{
    struct buffer bytes = {0};
    bool ok = decode_base64(&bytes, token) == STATUS_OK && sqs_name_valid(buffer_slice(&bytes));
    if (ok)
        *name = arena_copy(&call->arena, buffer_slice(&bytes));
    buffer_free(&bytes);
    return ok;
}

static struct slice make_token(struct sqs_call *call, struct slice name)
{
    struct buffer text = {0};
    encode_base64(&text, name);
    struct slice token = arena_copy(&call->arena, buffer_slice(&text));
    buffer_free(&text);
    return token;
}

static bool has_prefix(struct slice name, struct slice prefix)
{
    return name.length >= prefix.length &&
           (prefix.length == 0 || memcmp(name.data, prefix.data, prefix.length) == 0);
}

/* Names after `after` that begin with `prefix`, up to `most`; true if there are more. Names are
 * walked in order, so those with a prefix stand together and begin right after the prefix itself.
 */
static bool collect_names(struct sqs_call *call, struct slice prefix, struct slice after,
                          uint32_t most, struct sqs_list *urls, struct slice *last)
{
    const struct core *core = shard_core(call->shard);
    struct slice *items = urls->items;
    struct queue_view queue;
    bool found;
    if (after.length == 0 && prefix.length > 0) {
        found = core_queue_by_name(core, prefix, &queue) || core_queue_next(core, prefix, &queue);
    } else {
        found = core_queue_next(core, after, &queue);
    }
    for (; found && has_prefix(queue.name, prefix);
         found = core_queue_next(core, queue.name, &queue)) {
        if (!sqs_name_valid(queue.name) && !queue_name_is_fifo(queue.name))
            continue;
        if (urls->count == most)
            return true;
        items[urls->count++] = queue_url_text(call, queue.name);
        *last = queue.name;
    }
    return false;
}

void handle_list_queues(struct sqs_call *call)
{
    const struct sqs_list_queues_input *input = call->input;
    uint32_t most = LIST_MAX;
    if (input->results_max.given) {
        if (input->results_max.value < 1 || input->results_max.value > LIST_MAX) {
            sqs_fail(call, sqs_error_make(call, SQS_ERROR_INVALID_PARAMETER,
                                          "Value %d for parameter MaxResults is invalid. Reason: "
                                          "MaxResults must be an integer between 1 and 1000.",
                                          input->results_max.value));
            return;
        }
        most = (uint32_t)input->results_max.value;
    }
    struct slice after = {0};
    if (input->next_token.length > 0 && !read_token(call, input->next_token, &after)) {
        sqs_fail(call,
                 (struct sqs_error){SQS_ERROR_INVALID_PARAMETER, "Invalid or expired next token."});
        return;
    }
    struct sqs_list_queues_result result = {
        .queue_urls = {arena_alloc(&call->arena, most * sizeof(struct slice)), 0, true}};
    struct slice last = {0};
    bool more = collect_names(call, input->prefix, after, most, &result.queue_urls, &last);
    if (more && input->results_max.given)
        result.next_token = make_token(call, last);
    sqs_reply(call, &result);
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
                                      sqs_quote(call, queue.name)));
        return;
    }
    if (cooldowns != NULL)
        cooldowns_begin(cooldowns, COOLDOWN_PURGE, queue.name, now_ms);
    struct command command = {.type = COMMAND_QUEUE_PURGE,
                              .queue_purge = {.queue_id = queue.queue_id}};
    shard_call_add(&call->proposal, &command);
    sqs_propose(call, on_deleted);
}

/* ---- attributes, tags ---- */

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

struct updating {
    uint32_t attempts;
};

static void propose_update(struct sqs_call *call);

static void on_updated(struct sqs_call *call, const struct core_result *results, uint32_t count)
{
    ASSERT(count == 1);
    struct updating *updating = call->state;
    if (results[0].code == CORE_OK)
        sqs_reply(call, NULL);
    else if (results[0].code == CORE_CONFLICT && ++updating->attempts < UPDATE_ATTEMPTS_MAX)
        propose_update(call);
    else
        sqs_fail_core(call, results[0].code);
}

static void propose_update(struct sqs_call *call)
{
    const struct sqs_set_queue_attributes_input *input = call->input;
    struct queue_view queue;
    if (!sqs_queue(call, input->queue_url, &queue))
        return;
    struct command command = {.type = COMMAND_QUEUE_UPDATE,
                              .queue_update = {.queue_id = queue.queue_id,
                                               .version = queue.version,
                                               .settings = queue.settings}};
    struct sqs_error error = {0};
    if (!attributes_set(call, queue.name, false, &input->attributes, &command.queue_update.settings,
                        &error)) {
        sqs_fail(call, error);
        return;
    }
    call->proposal = (struct shard_call){0};
    shard_call_add(&call->proposal, &command);
    sqs_propose(call, on_updated);
}

void handle_set_queue_attributes(struct sqs_call *call)
{
    call->state = arena_alloc(&call->arena, sizeof(struct updating));
    propose_update(call);
}

void handle_list_queue_tags(struct sqs_call *call)
{
    const struct sqs_queue_input *input = call->input;
    struct queue_view queue;
    if (!sqs_queue(call, input->queue_url, &queue))
        return;
    struct sqs_queue_tags_result result = {0};
    tags_decode(call, queue.tags, &result.tags);
    sqs_reply(call, &result);
}
