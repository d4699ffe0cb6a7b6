/* SPDX-License-Identifier: Apache-2.0 */
/* Tags: up to 50 pairs, kept by the core as one JSON object that it never looks into. A tag that is
 * given again replaces its value; taking away what is not there is no error. */
#include "broker/api/sqs/tags.h"

#include "broker/api/sqs/queue_name.h"
#include "broker/api/sqs/update.h"
#include "proto/base/assert.h"

#include <jansson.h>
#include <stdlib.h>

#define TAGS_MAX                 50
#define TAG_KEY_CHARACTERS_MAX   128
#define TAG_VALUE_CHARACTERS_MAX 256

static json_t *load(struct slice json)
{
    json_t *object = NULL;
    if (json.length > 0)
        object = json_loadb((const char *)json.data, json.length, 0, NULL);
    return object != NULL ? object : json_object();
}

static struct slice dump(struct sqs_call *call, const json_t *object)
{
    if (json_object_size(object) == 0)
        return (struct slice){0};
    char *text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
    ASSERT(text != NULL);
    struct slice copy = arena_copy(&call->arena, slice_of(text));
    free(text);
    return copy;
}

/* Of well-formed UTF-8, as all that is decoded is. */
static size_t characters(struct slice text)
{
    size_t count = 0;
    for (size_t i = 0; i < text.length; i++)
        count += (text.data[i] & 0xc0) != 0x80;
    return count;
}

static const char *wrong_tag(const struct sqs_pair *tag)
{
    if (tag->key.length == 0 || characters(tag->key) > TAG_KEY_CHARACTERS_MAX ||
        slice_find(tag->key, 0) >= 0)
        return "Tag keys must be between 1 and 128 characters in length.";
    if (slice_starts_with(tag->key, "aws:"))
        return "Tag keys that begin with aws: are reserved.";
    if (characters(tag->value) > TAG_VALUE_CHARACTERS_MAX || slice_find(tag->value, 0) >= 0)
        return "Tag values must be between 0 and 256 characters in length.";
    return NULL;
}

static const char *add_all(json_t *object, struct sqs_call *call, struct slice name,
                           const struct sqs_list *given)
{
    const struct sqs_pair *pairs = given->items;
    for (uint32_t i = 0; i < given->count; i++) {
        const char *wrong = wrong_tag(&pairs[i]);
        if (wrong != NULL)
            return wrong;
        json_object_set_new(object, arena_text(&call->arena, pairs[i].key),
                            json_stringn((const char *)pairs[i].value.data, pairs[i].value.length));
    }
    if (json_object_size(object) <= TAGS_MAX)
        return NULL;
    return arena_printf(&call->arena, "Too many tags added for queue %s.",
                        sqs_quote(call, queue_key_name(name)));
}

bool tags_merge(struct sqs_call *call, struct slice name, struct slice json,
                const struct sqs_list *given, struct slice *out, struct sqs_error *error)
{
    json_t *object = load(json);
    const char *wrong = add_all(object, call, name, given);
    if (wrong == NULL)
        *out = dump(call, object);
    else
        *error = (struct sqs_error){SQS_ERROR_INVALID_PARAMETER, wrong};
    json_decref(object);
    return wrong == NULL;
}

/* A list that is given and empty is as good as none. */
static bool nothing_given(struct sqs_call *call, const struct sqs_list *list, const char *json_name,
                          const char *query_name)
{
    if (list->count > 0)
        return false;
    sqs_fail(call, sqs_error_make(call, SQS_ERROR_MISSING_PARAMETER,
                                  "The request must contain the parameter %s.",
                                  call->protocol == SQS_JSON ? json_name : query_name));
    return true;
}

static bool edit_tag(struct sqs_call *call, const struct queue_view *queue, struct command *command,
                     struct sqs_error *error)
{
    const struct sqs_tag_queue_input *input = call->input;
    struct slice tags;
    if (!tags_merge(call, queue->name, queue->tags, &input->tags, &tags, error))
        return false;
    *command = sqs_tag_command(queue, tags);
    return true;
}

void handle_tag_queue(struct sqs_call *call)
{
    const struct sqs_tag_queue_input *input = call->input;
    if (!nothing_given(call, &input->tags, "Tags", "Tag"))
        sqs_update(call, input->queue_url, edit_tag);
}

static bool edit_untag(struct sqs_call *call, const struct queue_view *queue,
                       struct command *command, struct sqs_error *error)
{
    (void)error;
    const struct sqs_untag_queue_input *input = call->input;
    const struct slice *keys = input->tag_keys.items;
    json_t *object = load(queue->tags);
    for (uint32_t i = 0; i < input->tag_keys.count; i++)
        json_object_del(object, arena_text(&call->arena, keys[i]));
    *command = sqs_tag_command(queue, dump(call, object));
    json_decref(object);
    return true;
}

void handle_untag_queue(struct sqs_call *call)
{
    const struct sqs_untag_queue_input *input = call->input;
    if (!nothing_given(call, &input->tag_keys, "TagKeys", "TagKey"))
        sqs_update(call, input->queue_url, edit_untag);
}

static void decode(struct sqs_call *call, struct slice json, struct sqs_list *out)
{
    json_t *object = load(json);
    struct sqs_pair *pairs = arena_alloc(&call->arena, json_object_size(object) * sizeof *pairs);
    *out = (struct sqs_list){pairs, 0, true};
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        const json_t *value = json_object_iter_value(at);
        pairs[out->count].key = arena_copy(&call->arena, slice_of(json_object_iter_key(at)));
        pairs[out->count++].value = arena_copy(
            &call->arena, slice_make(json_string_value(value), json_string_length(value)));
    }
    json_decref(object);
}

void handle_list_queue_tags(struct sqs_call *call)
{
    const struct sqs_queue_input *input = call->input;
    struct queue_view queue;
    if (!sqs_queue(call, input->queue_url, &queue))
        return;
    struct sqs_queue_tags_result result = {0};
    decode(call, queue.tags, &result.tags);
    sqs_reply(call, &result);
}
