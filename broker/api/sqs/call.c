/* SPDX-License-Identifier: Apache-2.0 */
/* The life of one SQS call after decoding: its answer, its errors, its one step through the shard.
 *
 * A call has memory of its own, apart from the HTTP request, because the request dies with its
 * connection while a command may still be on its way to the disk. When the client goes, `gone` is
 * set; the step under way runs to its end and then the call is freed without an answer. */
#include "broker/api/sqs/call.h"

#include "broker/api/sqs/queue_name.h"
#include "broker/api/sqs/region.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define QUOTE_BYTES_MAX    512
#define SENTENCE_BYTES_MAX 2048

/* What is asked for in a few words lasts longest: many receives wait. */
#define BYTES_FEW 512

struct sqs_call *sqs_call_new(struct api *api, const struct sqs_carrier *carrier, size_t bytes)
{
    struct arena arena = {0};
    if (bytes <= BYTES_FEW)
        arena_begin_small(&arena);
    struct sqs_call *call = arena_alloc(&arena, sizeof *call); /* beside what it will need */
    call->arena = arena;
    call->api = api;
    api_hold(api);
    call->carrier = carrier;
    call->action_name = "unknown";
    call->started_ns = clock_monotonic_ns();
    call->since_ms = uv_now(api_loop(api));
    return call;
}

void sqs_call_free(struct sqs_call *call)
{
    struct api *api = call->api;
    if (call->carrier->freed != NULL)
        call->carrier->freed(call);
    if (call->shard != NULL)
        shards_let_go(api_shards(api), call->shard_id);
    struct arena arena = call->arena; /* the call is in it */
    arena_free(&arena);
    api_release(api);
}

void sqs_call_park(struct sqs_call *call)
{
    if (call->carrier->park != NULL && !call->gone)
        call->carrier->park(call);
}

void sqs_call_abandon(struct sqs_call *call)
{
    call->gone = true;
    if (call->on_abort != NULL)
        call->on_abort(call);
}

/* What came from another node is counted there. */
static void count(const struct sqs_call *call, const char *code)
{
    if (call->carrier->refuse == NULL)
        api_count(call->api, "sqs", call->action_name, code, call->started_ns);
}

void sqs_reply(struct sqs_call *call, const void *result)
{
    if (!call->gone) {
        count(call, NULL);
        call->carrier->reply(call, result);
    }
    sqs_call_free(call);
}

void sqs_fail(struct sqs_call *call, struct sqs_error error)
{
    ASSERT(error.code > SQS_OK && error.code < SQS_ERROR_COUNT);
    if (!call->gone) {
        count(call, sqs_errors[error.code].query_code);
        call->carrier->fail(call, &error);
    }
    sqs_call_free(call);
}

void sqs_unavailable(struct sqs_call *call)
{
    if (call->carrier->refuse != NULL)
        call->carrier->refuse(call, STATUS_NOT_LEADER);
    else
        sqs_fail(call, (struct sqs_error){SQS_ERROR_UNAVAILABLE, NULL});
}

void sqs_fail_status(struct sqs_call *call, enum status status)
{
    struct sqs_error error = {SQS_ERROR_INTERNAL, NULL};
    if (call->carrier->refuse != NULL &&
        (status == STATUS_NOT_LEADER || status == STATUS_CLOSED || status == STATUS_CANCELLED)) {
        call->carrier->refuse(call, status);
        return;
    }
    if (status == STATUS_BUSY)
        error.code = SQS_ERROR_THROTTLED;
    else if (status == STATUS_NOT_LEADER || status == STATUS_CLOSED || status == STATUS_CANCELLED)
        error.code = SQS_ERROR_UNAVAILABLE;
    else if (status == STATUS_DISK_FULL)
        error = (struct sqs_error){SQS_ERROR_UNAVAILABLE,
                                   "The broker's disk is nearly full: messages can be received and "
                                   "deleted, but none can be sent."};
    sqs_fail(call, error);
}

enum sqs_error_code sqs_core_error(enum core_code code)
{
    switch (code) {
    case CORE_NO_QUEUE:
        return SQS_ERROR_QUEUE_DOES_NOT_EXIST;
    case CORE_LIMIT:
        return SQS_ERROR_OVER_LIMIT;
    case CORE_NOT_IN_FLIGHT:
        return SQS_ERROR_NOT_IN_FLIGHT;
    case CORE_CONFLICT:
        return SQS_ERROR_THROTTLED;
    default:
        return SQS_ERROR_INTERNAL;
    }
}

void sqs_fail_core(struct sqs_call *call, enum core_code code)
{
    sqs_fail(call, (struct sqs_error){sqs_core_error(code), NULL});
}

struct sqs_error sqs_error_make(struct sqs_call *call, enum sqs_error_code code, const char *format,
                                ...)
{
    char sentence[SENTENCE_BYTES_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    return (struct sqs_error){code, arena_text(&call->arena, slice_of(sentence))};
}

static void on_proposal_done(struct shard_call *proposal, enum status status,
                             const struct core_result *results, uint32_t count)
{
    struct sqs_call *call = proposal->data;
    if (status != STATUS_OK) {
        sqs_fail_status(call, status);
    } else if (call->gone) {
        sqs_call_free(call);
    } else {
        ASSERT(count == proposal->count);
        call->on_results(call, results, count);
    }
}

void sqs_propose(struct sqs_call *call, sqs_results_fn on_results)
{
    ASSERT(call->proposal.count > 0);
    ASSERT(call->shard != NULL);
    call->on_results = on_results;
    call->proposal.done = on_proposal_done;
    call->proposal.data = call;
    call->proposal.since_ms = call->since_ms;
    shard_call(call->shard, &call->proposal);
}

void sqs_use_shard(struct sqs_call *call, uint32_t id)
{
    struct shards *shards = api_shards(call->api);
    struct shard *shard = shards_at(shards, id);
    if (shard == NULL || shard == call->shard)
        return;
    if (call->shard != NULL)
        shards_let_go(shards, call->shard_id);
    shards_hold(shards, id);
    call->shard = shard;
    call->shard_id = id;
}

/* A replica that is being taken from here still brings the answers of what it was asked: who looks
 * again then finds it by the call. */
bool sqs_find(struct sqs_call *call, struct slice key, struct queue_view *out)
{
    uint32_t id = shards_id_of_name(api_shards(call->api), key);
    ASSERT(shard_set_has(&call->reads, id)); /* so it is fresh, ready and open */
    sqs_use_shard(call, id);
    ASSERT(call->shard != NULL);
    return core_queue_by_name(shard_core(call->shard), key, out);
}

bool sqs_queue(struct sqs_call *call, struct slice queue_url, struct queue_view *out)
{
    struct slice name = queue_name_of_url(queue_url);
    struct slice key = queue_key_of_url(call, queue_url);
    if (name.length == 0) {
        sqs_fail(call, sqs_error_make(call, SQS_ERROR_INVALID_ADDRESS,
                                      "The address %s is not valid for this endpoint.",
                                      sqs_quote(call, queue_url)));
        return false;
    }
    /* Only a legal name is looked up: the broker's own queues have others. */
    if (!queue_name_valid(name) || !sqs_find(call, key, out)) {
        sqs_fail(call, (struct sqs_error){SQS_ERROR_QUEUE_DOES_NOT_EXIST, NULL});
        return false;
    }
    return true;
}

struct slice queue_url_text(struct sqs_call *call, struct slice key)
{
    const char *base = call->carrier->base_url(call);
    const char *account = api_config(call->api)->account_id;
    struct slice name = queue_key_name(key);
    struct slice region = queue_key_region(key);
    if (region.length == 0)
        return slice_of(arena_printf(&call->arena, "%s/%s/%.*s", base, account, SLICE_ARGS(name)));
    return slice_of(arena_printf(&call->arena, "%s/queue/%.*s/%s/%.*s", base, SLICE_ARGS(region),
                                 account, SLICE_ARGS(name)));
}

const char *queue_arn_text(struct sqs_call *call, struct slice key)
{
    const struct api_config *config = api_config(call->api);
    struct slice name = queue_key_name(key);
    struct slice region = queue_key_region(key);
    if (region.length == 0)
        region = slice_of(config->region);
    return arena_printf(&call->arena, "arn:aws:sqs:%.*s:%s:%.*s", SLICE_ARGS(region),
                        config->account_id, SLICE_ARGS(name));
}

struct sqs_state *sqs_state(struct sqs_call *call)
{
    return api_family_state(call->api, &api_family_sqs);
}

struct cooldowns *sqs_cooldowns(struct sqs_call *call)
{
    struct sqs_state *state = sqs_state(call);
    return state != NULL && api_config(call->api)->aws_cooldowns ? state->cooldowns : NULL;
}

const char *sqs_quote(struct sqs_call *call, struct slice text)
{
    size_t length = text.length;
    if (length > QUOTE_BYTES_MAX) {
        length = QUOTE_BYTES_MAX;
        while (length > 0 && (text.data[length] & 0xc0) == 0x80) /* not inside a character */
            length--;
    }
    return arena_text(&call->arena, slice_make(text.data, length));
}

struct slice sqs_hex(struct sqs_call *call, const uint8_t *bytes, size_t count)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t *text = arena_alloc(&call->arena, count * 2);
    for (size_t i = 0; i < count; i++) {
        text[2 * i] = (uint8_t)digits[bytes[i] >> 4];
        text[2 * i + 1] = (uint8_t)digits[bytes[i] & 15];
    }
    return slice_make(text, count * 2);
}
