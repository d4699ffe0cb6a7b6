/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/api/sqs/look.h"

#include "broker/api/sqs/list.h"
#include "broker/api/sqs/region.h"
#include "broker/api/sqs/subject.h"
#include "proto/base/assert.h"

#define NAMES_MAX 1u

struct looking {
    struct shard_look look;
    struct slice names[NAMES_MAX];
    void (*then)(struct sqs_call *call);
};

/* ---- what an action needs ---- */

static void look_for_name(struct looking *looking, struct slice key)
{
    struct look_question *question = &looking->look.question;
    looking->names[0] = key;
    question->names = looking->names;
    question->name_count = key.length > 0 ? 1 : 0;
}

/* The destination, and whatever redrives to the source: only a dead-letter queue is moved from, and
 * back to those. */
static void look_for_move(struct sqs_call *call, struct looking *looking)
{
    const struct sqs_start_move_input *input = call->input;
    struct look_question *question = &looking->look.question;
    look_for_name(looking, queue_key_of_arn(call, input->destination_arn));
    question->dead_letter = queue_key_of_arn(call, input->source_arn);
    question->run_max = question->dead_letter.length > 0 ? UINT32_MAX : 0;
}

static void look_for(struct sqs_call *call, struct looking *looking)
{
    switch (call->action) {
    case SQS_ACTION_CreateQueue:
    case SQS_ACTION_SetQueueAttributes:
        look_for_name(looking, sqs_target_named(call));
        break;
    case SQS_ACTION_ListQueues:
    case SQS_ACTION_ListDeadLetterSourceQueues:
        list_look(call, &looking->look);
        break;
    case SQS_ACTION_StartMessageMoveTask:
        look_for_move(call, looking);
        break;
    default: /* ListMessageMoveTasks knows the ids when it runs */
        break;
    }
}

/* ---- looking ---- */

static void on_looked(struct shard_look *look, enum status status)
{
    struct looking *looking = CONTAINER_OF(look, struct looking, look);
    struct sqs_call *call = looking->look.data;
    call->on_abort = NULL;
    if (status == STATUS_OK) {
        call->looked = look->views;
        call->looked_count = look->count;
    }
    if (call->gone && !look->optional)
        sqs_fail_status(call, STATUS_CANCELLED);
    else if (status == STATUS_OK || look->optional)
        looking->then(call);
    else
        sqs_fail_status(call, status);
}

static void on_abort(struct sqs_call *call)
{
    look_cancel(&call->looking->look);
}

static void begin(struct sqs_call *call, struct looking *looking,
                  void (*then)(struct sqs_call *call))
{
    looking->then = then;
    looking->look.data = call;
    looking->look.arena = &call->arena;
    looking->look.done = on_looked;
    call->looking = looking;
    call->on_abort = on_abort;
    if (look_begin(&looking->look, api_shards(call->api), api_away(call->api)))
        return;
    call->on_abort = NULL;
    then(call);
}

void sqs_look(struct sqs_call *call, void (*then)(struct sqs_call *call))
{
    if (shard_set_empty(&call->lacks)) {
        then(call);
        return;
    }
    struct looking *looking = arena_alloc(&call->arena, sizeof *looking);
    looking->look.set = call->lacks;
    looking->look.since_ms = call->since_ms;
    look_for(call, looking);
    begin(call, looking, then);
}

void sqs_look_ids(struct sqs_call *call, const uint64_t *ids, uint32_t count,
                  void (*then)(struct sqs_call *call))
{
    struct looking *looking = arena_alloc(&call->arena, sizeof *looking);
    looking->look.question = (struct look_question){.ids = ids, .id_count = count};
    looking->look.since_ms = uv_now(api_loop(call->api)); /* a receive may have waited for long */
    looking->look.optional = true;
    for (uint32_t i = 0; i < count; i++)
        shard_set_add(&looking->look.set, shard_of_queue_id(ids[i]));
    if (api_away(call->api) != NULL && count > 0)
        begin(call, looking, then);
    else
        then(call);
}

/* ---- finding ---- */

static bool find_looked(const struct sqs_call *call, struct slice key, uint64_t queue_id,
                        struct queue_view *out)
{
    for (uint32_t i = 0; i < call->looked_count; i++) {
        const struct queue_view *view = &call->looked[i];
        if (queue_id != 0 ? view->queue_id != queue_id : !slice_equal(view->name, key))
            continue;
        *out = *view;
        return true;
    }
    return false;
}

bool sqs_queue_by_name(struct sqs_call *call, struct slice key, struct queue_view *out)
{
    return shards_queue_by_name(api_shards(call->api), key, out) || find_looked(call, key, 0, out);
}

bool sqs_queue_by_id(struct sqs_call *call, uint64_t queue_id, struct queue_view *out)
{
    return queue_id != 0 && (shards_queue_by_id(api_shards(call->api), queue_id, out) ||
                             find_looked(call, (struct slice){0}, queue_id, out));
}

void sqs_walk_begin(struct sqs_call *call, struct queue_walk *walk, struct slice after)
{
    queue_walk_begin(walk, api_shards(call->api), after);
    queue_walk_with(walk, call->looked, call->looked_count, after);
}
