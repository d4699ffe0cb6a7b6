/* SPDX-License-Identifier: Apache-2.0 */
/* Message move tasks: StartMessageMoveTask, CancelMessageMoveTask, ListMessageMoveTasks. The core
 * does the moving and remembers the last ten moves of a queue; here are the rules of the API and
 * its task handles.
 *
 * A handle is base64 of {"taskId":UUID,"sourceArn":ARN}, as at AWS: it holds all that is needed to
 * find the move, and nothing secret. It is shown only while the move runs, when it is of use. */
#include "broker/api/sqs/moves.h"

#include "broker/api/sqs/look.h"
#include "broker/api/sqs/queue_name.h"
#include "broker/api/sqs/region.h"
#include "proto/base/assert.h"
#include "proto/base/encode.h"

#include <jansson.h>

#define RATE_MAX        500
#define LIST_MAX        10
#define HANDLE_JSON_MAX 1024

static void fail_text(struct sqs_call *call, enum sqs_error_code code, const char *text)
{
    sqs_fail(call, (struct sqs_error){code, text});
}

/* ---- ARNs ---- */

static bool looks_like_arn(struct slice text)
{
    size_t colons = 0;
    for (size_t i = 0; i < text.length; i++)
        colons += text.data[i] == ':';
    return colons == 5 && slice_starts_with(text, "arn:");
}

/* Find the queue that `arn`, the parameter `name`, names, in any shard. False: the call was
 * answered. */
static bool find_queue(struct sqs_call *call, struct slice arn, const char *name,
                       struct queue_view *out)
{
    struct slice queue = queue_key_of_arn(call, arn);
    if (!looks_like_arn(arn)) {
        sqs_fail(call,
                 sqs_error_make(call, SQS_ERROR_INVALID_PARAMETER,
                                "You must use this format to specify the %s: "
                                "arn:<partition>:<service>:<region>:<account-id>:<resource-id>",
                                name));
        return false;
    }
    if (queue.length > 0 && sqs_queue_by_name(call, queue, out))
        return true;
    sqs_fail(call,
             sqs_error_make(call, SQS_ERROR_RESOURCE_NOT_FOUND,
                            "The resource that you specified for the %s parameter doesn't exist.",
                            name));
    return false;
}

/* The ARN of a queue by its id; absent when it is gone. */
static struct slice arn_of(struct sqs_call *call, uint64_t queue_id)
{
    struct queue_view queue;
    if (!sqs_queue_by_id(call, queue_id, &queue))
        return (struct slice){0};
    return slice_of(queue_arn_text(call, queue.name));
}

/* The queue that messages are moved from, whose shard knows of its moves. */
static bool find_source(struct sqs_call *call, struct slice arn, struct queue_view *out)
{
    if (!find_queue(call, arn, "SourceArn", out))
        return false;
    sqs_use_shard(call, shard_of_queue_id(out->queue_id));
    return true;
}

/* ---- handles ---- */

static struct slice handle_text(struct sqs_call *call, const uint8_t id[UUID_BYTES],
                                struct slice source_arn)
{
    char uuid[UUID_TEXT_LENGTH + 1];
    uuid_text(id, uuid);
    struct slice json = slice_of(arena_printf(
        &call->arena, "{\"taskId\":\"%s\",\"sourceArn\":\"%.*s\"}", uuid, SLICE_ARGS(source_arn)));
    struct buffer text = {0};
    encode_base64(&text, json);
    struct slice handle = arena_copy(&call->arena, buffer_slice(&text));
    buffer_free(&text);
    return handle;
}

static bool handle_read_json(struct sqs_call *call, const json_t *object, uint8_t id[UUID_BYTES],
                             struct slice *source_arn)
{
    const json_t *task = json_object_get(object, "taskId");
    const json_t *arn = json_object_get(object, "sourceArn");
    if (!json_is_string(task) || !json_is_string(arn) ||
        !uuid_parse(slice_of(json_string_value(task)), id))
        return false;
    *source_arn = arena_copy(&call->arena, slice_of(json_string_value(arn)));
    return looks_like_arn(*source_arn);
}

static bool handle_read(struct sqs_call *call, struct slice text, uint8_t id[UUID_BYTES],
                        struct slice *source_arn)
{
    struct buffer json = {0};
    json_t *object = NULL;
    if (text.length <= HANDLE_JSON_MAX * 4 / 3 && decode_base64(&json, text) == STATUS_OK &&
        json.length > 0)
        object = json_loadb((const char *)json.data, json.length, 0, NULL);
    bool ok = handle_read_json(call, object, id, source_arn);
    json_decref(object);
    buffer_free(&json);
    return ok;
}

struct slice move_handle_source(struct sqs_call *call, struct slice handle)
{
    uint8_t id[UUID_BYTES];
    struct slice source_arn;
    return handle_read(call, handle, id, &source_arn) ? source_arn : (struct slice){0};
}

/* ---- start ---- */

struct starting {
    uint8_t id[UUID_BYTES];
    struct slice source_arn;
};

static void on_started(struct sqs_call *call, const struct core_result *results, uint32_t count)
{
    ASSERT(count == 1);
    const struct starting *starting = call->state;
    struct sqs_start_move_result result = {
        .task_handle = handle_text(call, starting->id, starting->source_arn)};
    if (results[0].code == CORE_OK)
        sqs_reply(call, &result);
    else if (results[0].code == CORE_EXISTS)
        fail_text(call, SQS_ERROR_INVALID_PARAMETER,
                  "There is already a task running. Only one active task is allowed for a source "
                  "queue arn at a given time.");
    else
        sqs_fail_core(call, results[0].code);
}

static bool is_dead_letter_queue(struct sqs_call *call, struct slice name)
{
    struct queue_walk walk;
    struct queue_view queue;
    sqs_walk_begin(call, &walk, (struct slice){0});
    while (queue_walk_next(&walk, &queue)) {
        if (slice_equal(queue.settings.dead_letter, name))
            return true;
    }
    return false;
}

/* `destination` may be NULL. The sentence of what is wrong with the two, or NULL. */
static const char *wrong_pair(struct sqs_call *call, const struct queue_view *source,
                              const struct queue_view *destination)
{
    if (!is_dead_letter_queue(call, source->name))
        return "Source queue must be configured as a Dead Letter Queue.";
    if (destination != NULL && destination->queue_id == source->queue_id)
        return "Source queue arn and destination queue arn cannot be the same.";
    if (destination != NULL && destination->settings.fifo != source->settings.fifo)
        return "The source queue and destination queue must be of the same queue type.";
    return NULL;
}

void handle_start_message_move_task(struct sqs_call *call)
{
    const struct sqs_start_move_input *input = call->input;
    bool directed = input->destination_arn.data != NULL;
    struct queue_view source;
    struct queue_view destination;
    if (!find_source(call, input->source_arn, &source) ||
        (directed && !find_queue(call, input->destination_arn, "DestinationArn", &destination)))
        return;
    const char *wrong = wrong_pair(call, &source, directed ? &destination : NULL);
    if (wrong == NULL && input->rate.given &&
        (input->rate.value < 1 || input->rate.value > RATE_MAX))
        wrong = "Value for parameter MaxNumberOfMessagesPerSecond is invalid. Reason: You must "
                "enter a number that's between 1 and 500.";
    if (wrong != NULL) {
        fail_text(call, SQS_ERROR_INVALID_PARAMETER, wrong);
        return;
    }
    struct starting *starting = arena_alloc(&call->arena, sizeof *starting);
    uuid_random(starting->id);
    starting->source_arn = slice_of(queue_arn_text(call, source.name));
    struct command command = {
        .type = COMMAND_MOVE_START,
        .move_start = {.source_queue_id = source.queue_id,
                       .destination_queue_id = directed ? destination.queue_id : 0,
                       .per_second_max = input->rate.given ? (uint32_t)input->rate.value : 0}};
    memcpy(command.move_start.handle, starting->id, UUID_BYTES);
    call->state = starting;
    shard_call_add(&call->proposal, &command);
    sqs_propose(call, on_started);
}

/* ---- cancel ---- */

static void on_cancelled(struct sqs_call *call, const struct core_result *results, uint32_t count)
{
    ASSERT(count == 1);
    struct sqs_cancel_move_result result = {.moved = {(int64_t)results[0].moved, true}};
    switch (results[0].code) {
    case CORE_OK:
        sqs_reply(call, &result);
        return;
    case CORE_NO_MOVE:
    case CORE_NO_QUEUE: /* a queue's moves go with it */
        fail_text(call, SQS_ERROR_RESOURCE_NOT_FOUND, "Task does not exist.");
        return;
    case CORE_CONFLICT:
        fail_text(call, SQS_ERROR_INVALID_PARAMETER, "Only active tasks can be cancelled.");
        return;
    default:
        sqs_fail_core(call, results[0].code);
    }
}

void handle_cancel_message_move_task(struct sqs_call *call)
{
    const struct sqs_cancel_move_input *input = call->input;
    struct command command = {.type = COMMAND_MOVE_CANCEL};
    struct slice source_arn;
    struct queue_view source;
    if (!handle_read(call, input->task_handle, command.move_cancel.handle, &source_arn)) {
        fail_text(call, SQS_ERROR_INVALID_PARAMETER, "Value for parameter TaskHandle is invalid.");
        return;
    }
    if (!find_source(call, source_arn, &source))
        return;
    command.move_cancel.source_queue_id = source.queue_id;
    shard_call_add(&call->proposal, &command);
    sqs_propose(call, on_cancelled);
}

/* ---- list ---- */

static const char *const status_names[] = {
    [MOVE_RUNNING] = "RUNNING",
    [MOVE_COMPLETED] = "COMPLETED",
    [MOVE_CANCELLED] = "CANCELLED",
    [MOVE_FAILED] = "FAILED",
};

static const char *const failure_names[] = {
    [MOVE_FAILURE_NONE] = NULL,
    [MOVE_FAILURE_NO_SOURCE] = "CouldNotDetermineMessageSource",
    [MOVE_FAILURE_NO_QUEUE] = "AWS.SimpleQueueService.NonExistentQueue",
};

struct listing {
    struct slice source_arn;
    struct move_view moves[LIST_MAX];
    uint64_t ids[LIST_MAX]; /* of destinations */
    uint32_t count;
};

static struct sqs_move_entry describe(struct sqs_call *call, const struct move_view *move,
                                      struct slice source_arn)
{
    struct sqs_move_entry entry = {
        .status = slice_of(status_names[move->status]),
        .source_arn = source_arn,
        .destination_arn = arn_of(call, move->destination_queue_id),
        .rate = {(int32_t)move->per_second_max, move->per_second_max > 0},
        .moved = {(int64_t)move->moved, true},
        .to_move = {(int64_t)move->to_move, true},
        .failure_reason = slice_of(failure_names[move->failure]),
        .started_ms = {(int64_t)move->started_ms, true},
    };
    if (move->status == MOVE_RUNNING)
        entry.task_handle = handle_text(call, move->handle, source_arn);
    return entry;
}

static void reply_list(struct sqs_call *call)
{
    const struct listing *listing = call->state;
    struct sqs_move_entry *entries = arena_alloc(&call->arena, sizeof *entries * LIST_MAX);
    struct sqs_list_moves_result result = {.results = {entries, 0, true}};
    for (uint32_t i = 0; i < listing->count; i++)
        entries[result.results.count++] = describe(call, &listing->moves[i], listing->source_arn);
    sqs_reply(call, &result);
}

/* The moves first, since they say which destinations to look for. */
void handle_list_message_move_tasks(struct sqs_call *call)
{
    const struct sqs_list_moves_input *input = call->input;
    struct queue_view source;
    if (!find_source(call, input->source_arn, &source))
        return;
    if (input->results_max.given &&
        (input->results_max.value < 1 || input->results_max.value > LIST_MAX)) {
        fail_text(call, SQS_ERROR_INVALID_PARAMETER,
                  "Value for parameter MaxResults is invalid. Reason: You must enter a number "
                  "that's between 1 and 10.");
        return;
    }
    uint32_t most = input->results_max.given ? (uint32_t)input->results_max.value : 1;
    struct listing *listing = arena_alloc(&call->arena, sizeof *listing);
    size_t position = 0;
    listing->source_arn = slice_of(queue_arn_text(call, source.name));
    while (listing->count < most && core_move_next(shard_core(call->shard), source.queue_id,
                                                   &position, &listing->moves[listing->count]))
        listing->count++;
    uint32_t ids = 0;
    for (uint32_t i = 0; i < listing->count; i++) {
        if (listing->moves[i].destination_queue_id != 0)
            listing->ids[ids++] = listing->moves[i].destination_queue_id;
    }
    call->state = listing;
    sqs_look_ids(call, listing->ids, ids, reply_list);
}
