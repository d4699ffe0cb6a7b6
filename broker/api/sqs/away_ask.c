/* SPDX-License-Identifier: Apache-2.0 */
/* The asking side: a call becomes a question, and its answer the call's.
 *
 *     sqs_away_ask -> asked -> on_answered -> answered, or -- the client has gone, and the answer
 *                       |                     brings messages -- give_back -> on_given_back
 *                       └─ client gone, or the node stops: cancelled; the answer may come all the
 *                          same
 *
 * I1  messages that another node leased for a client that has gone are made visible again
 *     (docs/replication.md, R5): by that node, when it hears in time that nobody waits; else from
 *     here, with the handles that came; at worst the connection broke, and their leases run out */
#include "broker/api/sqs/away.h"

#include "broker/api/sqs/away_message.h"
#include "broker/api/sqs/queue_name.h"
#include "broker/api/sqs/subject.h"
#include "broker/away/away.h"
#include "proto/base/assert.h"

#include <utlist.h>

#define WAIT_MS 20000u /* the longest wait of a receive */

struct errand {
    struct sqs_call *call;
    struct away_question question;
    struct buffer request;
    bool waiting; /* in sqs_state.waiting */
    bool closing; /* the node stops: nobody waits any longer */
};

/* A node of a small cluster has all of them, and need not find out which one is meant. */
static bool all_here(const struct shards *shards)
{
    bool all = true;
    for (uint32_t i = shards_total(shards); all && i-- > 0;)
        all = shards_at(shards, i) != NULL;
    return all;
}

bool sqs_away_expected(struct sqs_call *call)
{
    const struct shards *shards = api_shards(call->api);
    if (api_away(call->api) == NULL || all_here(shards))
        return false;
    struct slice key = sqs_key_named(call);
    return key.length > 0 && shards_at(shards, shards_id_of_name(shards, key)) == NULL;
}

bool sqs_away_wanted(const struct sqs_call *call)
{
    return call->carrier->refuse == NULL && api_away(call->api) != NULL &&
           shards_at(api_shards(call->api), call->own) == NULL;
}

uint64_t sqs_away_node(const struct sqs_call *call)
{
    uint64_t first = 0;
    (void)shards_replicas(api_shards(call->api), call->own, &first, 1);
    return first;
}

/* ---- the question ---- */

/* What was sent to a node that has died: does it do no harm to do it again? */
static bool repeatable(const struct sqs_call *call)
{
    enum sqs_again again = sqs_actions[call->action].again;
    return again == SQS_AGAIN ||
           (again == SQS_IF_FIFO && queue_name_is_fifo(queue_name_of_url(sqs_first_member(call))));
}

static void encode(struct sqs_call *call, enum sqs_action action, const void *input, unsigned flags,
                   struct buffer *out)
{
    uint64_t age_ms = uv_now(api_loop(call->api)) - call->since_ms;
    struct sqs_away_call said = {
        .action = action,
        .protocol = call->protocol,
        .flags = (uint8_t)flags,
        .age_ms = age_ms < UINT32_MAX ? (uint32_t)age_ms : UINT32_MAX,
        .sender_id = call->sender_id,
        .region = call->region,
        .base_url = slice_of(call->gone ? "" : call->carrier->base_url(call)),
        .request_id = slice_of(call->request_id),
        .caller = call->caller,
        .input = input,
    };
    sqs_away_call_encode(out, &said);
}

static void ask(struct errand *errand, bool again, uint64_t deadline_ms,
                void (*done)(struct away_question *, enum status, struct slice))
{
    struct sqs_call *call = errand->call;
    errand->question = (struct away_question){.shard = call->own,
                                              .kind = AWAY_SQS,
                                              .request = buffer_slice(&errand->request),
                                              .repeatable = again,
                                              .ordered = call->action != SQS_ACTION_ReceiveMessage,
                                              .deadline_ms = deadline_ms,
                                              .done = done,
                                              .data = errand};
    away_ask(api_away(call->api), &errand->question);
}

/* ---- giving back ---- */

static void on_given_back(struct away_question *question, enum status status, struct slice answer)
{
    struct errand *errand = question->data;
    (void)status; /* then their leases run out */
    (void)answer;
    buffer_free(&errand->request);
    sqs_call_free(errand->call);
}

/* I1 */
static void give_back(struct errand *errand, const struct sqs_receive_message_result *result)
{
    struct sqs_call *call = errand->call;
    const struct sqs_receive_message_input *received = call->input;
    const struct sqs_message *messages = result->messages.items;
    uint32_t count = result->messages.count;
    struct sqs_change_visibility_entry entries[SQS_BATCH_MAX] = {0};
    ASSERT(call->gone);
    if (count > SQS_BATCH_MAX)
        count = SQS_BATCH_MAX;
    for (uint32_t i = 0; i < count; i++)
        entries[i] = (struct sqs_change_visibility_entry){
            .id = slice_of(arena_printf(&call->arena, "%u", i)),
            .receipt_handle = messages[i].receipt_handle,
            .visibility_s = {0, true}};
    struct sqs_change_visibility_batch_input input = {.queue_url = received->queue_url,
                                                      .entries = {entries, count, true}};
    call->since_ms = uv_now(api_loop(call->api));
    encode(call, SQS_ACTION_ChangeMessageVisibilityBatch, &input, SQS_AWAY_OURS, &errand->request);
    ask(errand, true, call->since_ms + SHARD_CALL_MS, on_given_back);
}

/* ---- the answer ---- */

static void stop_waiting(struct errand *errand)
{
    struct sqs_state *state = sqs_state(errand->call);
    if (errand->waiting)
        DL_DELETE(state->waiting, errand->call);
    errand->waiting = false;
}

static void take(struct errand *errand, struct slice answer)
{
    struct sqs_call *call = errand->call;
    enum sqs_shape shape = sqs_actions[call->action].result;
    void *result = arena_alloc(&call->arena, sqs_shapes[shape].bytes + 1);
    const struct sqs_receive_message_result *received = result;
    struct sqs_error error;
    if (!sqs_away_answer_decode(answer, call->action, &call->arena, result, &error))
        sqs_fail_status(call, STATUS_CLOSED); /* it was done; nobody can read how */
    else if (error.code != SQS_OK)
        sqs_fail(call, error);
    else if (call->gone && call->action == SQS_ACTION_ReceiveMessage &&
             received->messages.count > 0)
        give_back(errand, received);
    else
        sqs_reply(call, shape == SQS_SHAPE_none ? NULL : result);
}

static void on_answered(struct away_question *question, enum status status, struct slice answer)
{
    static const struct sqs_receive_message_result nothing;
    struct errand *errand = question->data;
    struct sqs_call *call = errand->call;
    buffer_free(&errand->request);
    stop_waiting(errand);
    call->on_abort = NULL;
    if (status == STATUS_OK)
        take(errand, answer);
    else if (status == STATUS_CANCELLED && errand->closing)
        sqs_reply(call, &nothing);
    else
        sqs_fail_status(call, status);
}

/* ---- the call ---- */

static void on_abort(struct sqs_call *call)
{
    struct errand *errand = call->state;
    if (call->action == SQS_ACTION_ReceiveMessage)
        away_cancel(api_away(call->api), &errand->question);
}

static void on_closing(struct sqs_call *call)
{
    struct errand *errand = call->state;
    errand->closing = true;
    away_cancel(api_away(call->api), &errand->question);
}

/* Receives may wait; the node's stop ends that. */
static void start_waiting(struct errand *errand)
{
    struct sqs_call *call = errand->call;
    struct sqs_state *state = sqs_state(call);
    call->on_closing = on_closing;
    DL_APPEND(state->waiting, call);
    errand->waiting = true;
}

void sqs_away_ask(struct sqs_call *call)
{
    struct errand *errand = arena_alloc(&call->arena, sizeof *errand);
    bool receives = call->action == SQS_ACTION_ReceiveMessage;
    unsigned flags = (call->carrier->no_md5 ? SQS_AWAY_NO_MD5 : 0) |
                     (call->carrier->may_lag ? SQS_AWAY_MAY_LAG : 0);
    errand->call = call;
    call->state = errand;
    call->on_abort = on_abort;
    if (receives)
        start_waiting(errand);
    encode(call, call->action, call->input, flags, &errand->request);
    if (receives)
        sqs_call_park(call);
    ask(errand, repeatable(call), call->since_ms + SHARD_CALL_MS + (receives ? WAIT_MS : 0),
        on_answered);
}
