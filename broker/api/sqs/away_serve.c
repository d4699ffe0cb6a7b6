/* SPDX-License-Identifier: Apache-2.0 */
/* The answering side: a call of another node is carried out like one of a client of ours, with a
 * carrier that answers the node. What it borrows are the question's bytes, so the task stays until
 * the call has ended.
 *
 * Where this node cannot do it (the shard is not here either, or not ready; it stops) the asker is
 * told that nothing was done, and asks the next one. Calls are counted where they came from. */
#include "broker/api/sqs/away.h"

#include "broker/api/sqs/away_message.h"
#include "broker/away/away.h"
#include "proto/base/assert.h"

struct served {
    struct away_task *task; /* NULL: answered */
    struct sqs_call *call;
    struct sqs_away_call said;
    struct sqs_carrier carrier;
};

static void answer(struct sqs_call *call, struct buffer *bytes)
{
    struct served *served = call->carried;
    struct away_task *task = served->task;
    served->task = NULL;
    away_answer_moved(task, bytes);
}

static void reply(struct sqs_call *call, const void *result)
{
    struct buffer bytes = {0};
    sqs_away_result_encode(&bytes, call->action, result);
    answer(call, &bytes);
}

static void fail(struct sqs_call *call, const struct sqs_error *error)
{
    struct buffer bytes = {0};
    sqs_away_error_encode(&bytes, call->protocol, error);
    answer(call, &bytes);
}

/* Its client has gone: whatever there was to undo has been undone. */
static void freed(struct sqs_call *call)
{
    const struct served *served = call->carried;
    if (served->task != NULL)
        away_answer(served->task, STATUS_CANCELLED, (struct slice){0});
}

static void refuse(struct sqs_call *call, enum status status)
{
    struct served *served = call->carried;
    struct away_task *task = served->task;
    served->task = NULL;
    away_answer(task, call->gone ? STATUS_CANCELLED : status, (struct slice){0});
    sqs_call_free(call);
}

static const char *base_url(struct sqs_call *call)
{
    const struct served *served = call->carried;
    return arena_text(&call->arena, served->said.base_url);
}

/* It was proven where the call came in. A node there that checks nothing is no proof. */
static bool caller(struct sqs_call *call, struct auth_failure *failure)
{
    const struct served *served = call->carried;
    call->caller = served->said.caller;
    if ((served->said.flags & SQS_AWAY_OURS) != 0)
        call->caller.kind = AUTH_UNCHECKED;
    else if (call->caller.kind == AUTH_UNCHECKED && auth_required(api_auth(call->api))) {
        *failure =
            (struct auth_failure){AUTH_MISSING_TOKEN, "Request is missing Authentication Token"};
        return false;
    }
    return true;
}

static void begin(void *data, struct away_task *task)
{
    struct api *api = data;
    struct sqs_call *call = sqs_call_new(api, NULL, task->request.length);
    struct served *served = arena_alloc(&call->arena, sizeof *served);
    served->task = task;
    served->call = call;
    task->state = served;
    call->carried = served;
    call->carrier = &served->carrier;
    served->carrier = (struct sqs_carrier){.reply = reply,
                                           .fail = fail,
                                           .freed = freed,
                                           .refuse = refuse,
                                           .base_url = base_url,
                                           .caller = caller};
    const struct sqs_away_call *said = &served->said;
    if (api_closing(api) || !sqs_away_call_decode(task->request, &call->arena, &served->said)) {
        refuse(call, STATUS_NOT_LEADER);
        return;
    }
    served->carrier.no_md5 = (said->flags & SQS_AWAY_NO_MD5) != 0;
    served->carrier.may_lag = (said->flags & SQS_AWAY_MAY_LAG) != 0;
    uint64_t now_ms = uv_now(api_loop(api));
    call->since_ms = said->age_ms < now_ms ? now_ms - said->age_ms : 1;
    call->protocol = said->protocol;
    call->sender_id = said->sender_id;
    call->region = said->region;
    memcpy(call->request_id, said->request_id.data, said->request_id.length);
    sqs_call_begin(call, said->action);
    call->input = (void *)(uintptr_t)said->input;
    sqs_call_run(call, NULL);
}

static void cancel(void *data, struct away_task *task)
{
    const struct served *served = task->state;
    (void)data;
    sqs_call_abandon(served->call);
}

void sqs_away_serve(struct api *api)
{
    const struct away_server server = {.begin = begin, .cancel = cancel, .data = api};
    if (api_away(api) != NULL)
        away_serve(api_away(api), AWAY_SQS, &server);
}
