/* SPDX-License-Identifier: Apache-2.0 */
/* From a decoded call to its handler, whichever way the call came.
 *
 * The order of errors is: node ready, caller known, input readable, nothing missing, caller
 * allowed; then the handler. But the input is read before all of that: it says which shards the
 * call is about (subject.h), so whom to wait for, and what must be ready.
 *
 *     sqs_call_run ──> go_on ──> wait until fresh ──> on_fresh ──> go_on ──> permitted ──> handler
 *                        └────────── nothing to wait for ───────────────────────^
 *
 * Where the call's queue is of a shard that other nodes have, all from "caller allowed" on is done
 * there (away.h). */
#include "broker/api/sqs/away.h"
#include "broker/api/sqs/look.h"
#include "broker/api/sqs/permit.h"
#include "broker/api/sqs/subject.h"
#include "proto/base/assert.h"

static void (*const handlers[SQS_ACTION_COUNT])(struct sqs_call *call) = {
#define ACTION(Name, name, input, result, doc) [SQS_ACTION_##Name] = handle_##name,
#include "proto/sqs/sqs_actions.def"
#undef ACTION
};

void sqs_call_begin(struct sqs_call *call, enum sqs_action action)
{
    call->action = action;
    call->action_name = sqs_actions[action].name;
    const struct sqs_shape_row *shape = &sqs_shapes[sqs_actions[call->action].input];
    call->input = arena_alloc(&call->arena, shape->bytes);
}

/* A shard may have been taken from this node while the call looked at others. */
static void handle(struct sqs_call *call)
{
    if (!shard_set_ready(&call->reads, api_shards(call->api)))
        sqs_unavailable(call);
    else if (sqs_permit_action(call))
        handlers[call->action](call);
}

static void permit_and_handle(struct sqs_call *call)
{
    if (!sqs_permit_caller(call))
        return;
    if (call->wrong.code != SQS_OK) {
        sqs_fail(call, call->wrong);
        return;
    }
    enum sqs_shape shape = sqs_actions[call->action].input;
    const char *missing = sqs_missing(call->protocol, shape, call->input, &call->arena);
    if (missing != NULL)
        sqs_fail(call, sqs_error_make(call, SQS_ERROR_MISSING_PARAMETER,
                                      "The request must contain the parameter %s.", missing));
    else if (call->away)
        sqs_away_ask(call);
    else
        sqs_look(call, handle);
}

static void on_fresh(void *data, enum status status);

/* A call about messages of a queue that is known here is judged when its command is applied, so it
 * need not wait until this node is up to date. Over HTTP it does where keys are checked, so that
 * one that was disabled ends at once, and a receive does, so that a short poll finds what was sent
 * to another node. */
static bool may_lag(struct sqs_call *call)
{
    bool all = call->carrier->may_lag;
    bool some = !auth_required(api_auth(call->api)) && call->action != SQS_ACTION_ReceiveMessage;
    return (all || some) && sqs_of_messages(call->action) && sqs_queue_known(call);
}

/* Wait until this node has seen what others have answered. The catalog may say only then how many
 * shards there are, and so which one is meant: hence it is asked until nothing new comes up. */
static bool wait_until_fresh(struct sqs_call *call)
{
    if (shard_set_within(&call->reads, &call->fresh) || api_closing(call->api))
        return false;
    if (may_lag(call))
        return false;
    call->fresh = call->reads;
    return shard_set_sync(&call->reads, api_shards(call->api), call->since_ms, on_fresh, call);
}

/* Which it reads here, and of which other nodes tell. Its own is one of the former, or is lost. */
static void find_shards(struct sqs_call *call)
{
    const struct shards *shards = api_shards(call->api);
    bool named = call->key.length > 0;
    if (named)
        call->own = shards_id_of_name(shards, call->key);
    call->away = named && sqs_away_wanted(call);
    call->reads = sqs_shards_read(call);
    if (api_away(call->api) == NULL)
        return;
    call->lacks = shard_set_elsewhere(&call->reads, shards);
    if (!named || !shard_set_has(&call->lacks, call->own))
        call->reads = shard_set_here(&call->reads, shards);
}

static void go_on(struct sqs_call *call)
{
    struct shards *shards = api_shards(call->api);
    uint8_t cluster_id[UUID_BYTES];
    find_shards(call);
    if (wait_until_fresh(call))
        return;
    if (shard_set_ready(&call->reads, shards) &&
        core_bootstrapped(shard_core(shards_catalog(shards)), cluster_id, call->secret))
        permit_and_handle(call);
    else
        sqs_unavailable(call);
}

/* Not to have been told is no reason to answer from what may be old. */
static void on_fresh(void *data, enum status status)
{
    struct sqs_call *call = data;
    if (call->gone || status == STATUS_NOT_LEADER)
        sqs_unavailable(call);
    else if (status != STATUS_OK)
        sqs_fail_status(call, status);
    else
        go_on(call);
}

void sqs_call_run(struct sqs_call *call, const struct sqs_error *wrong)
{
    if (wrong != NULL)
        call->wrong = *wrong;
    else
        call->key = sqs_key_named(call);
    go_on(call);
}
