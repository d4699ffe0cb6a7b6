/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/api/sqs/away_message.h"

#include "broker/api/sqs/queue_name.h"
#include "proto/base/bytes.h"
#include "proto/base/encode.h"
#include "proto/sqs/native.h"

#define VERSION       1u
#define TEXTS         11u
#define ANSWER_RESULT 0u
#define ANSWER_ERROR  1u

/* In the order of the wire. */
static void texts_of(const struct sqs_away_call *call, struct slice texts[TEXTS])
{
    const struct auth_caller *caller = &call->caller;
    const struct slice list[TEXTS] = {call->sender_id,    call->region,   call->base_url,
                                      call->request_id,   caller->key_id, caller->account,
                                      caller->arn,        caller->name,   caller->source_ip,
                                      caller->user_agent, caller->region};
    memcpy(texts, list, sizeof list);
}

static void set_texts(struct sqs_away_call *call, const struct slice texts[TEXTS])
{
    struct auth_caller *caller = &call->caller;
    struct slice *const list[TEXTS] = {&call->sender_id,    &call->region,   &call->base_url,
                                       &call->request_id,   &caller->key_id, &caller->account,
                                       &caller->arn,        &caller->name,   &caller->source_ip,
                                       &caller->user_agent, &caller->region};
    for (unsigned i = 0; i < TEXTS; i++)
        *list[i] = texts[i];
}

void sqs_away_call_encode(struct buffer *out, const struct sqs_away_call *call)
{
    struct slice texts[TEXTS];
    unsigned flags = call->flags | (call->caller.secure ? SQS_AWAY_SECURE : 0) |
                     (call->caller.root ? SQS_AWAY_ROOT : 0);
    buffer_add_byte(out, VERSION);
    buffer_add_byte(out, (uint8_t)call->protocol);
    buffer_add_byte(out, (uint8_t)call->caller.kind);
    buffer_add_byte(out, (uint8_t)flags);
    buffer_add_u16(out, (uint16_t)call->action);
    buffer_add_u16(out, 0);
    buffer_add_u32(out, call->age_ms);
    buffer_add_u64(out, call->caller.now_s);
    texts_of(call, texts);
    for (unsigned i = 0; i < TEXTS; i++)
        buffer_add_bytes(out, texts[i]);
    native_write(out, sqs_actions[call->action].input, call->input);
}

/* Texts that come out again, in errors, URLs and policies. */
static bool texts_good(const struct sqs_away_call *call, const struct slice texts[TEXTS])
{
    for (unsigned i = 0; i < TEXTS; i++) {
        if (!utf8_valid(texts[i]) || memchr(texts[i].data, 0, texts[i].length) != NULL)
            return false;
    }
    return (call->region.length == 0 || region_valid(call->region)) &&
           call->request_id.length <= UUID_TEXT_LENGTH;
}

bool sqs_away_call_decode(struct slice in, struct arena *arena, struct sqs_away_call *out)
{
    struct cursor c = cursor_of(in);
    struct slice texts[TEXTS];
    unsigned version = cursor_u8(&c);
    unsigned protocol = cursor_u8(&c);
    unsigned kind = cursor_u8(&c);
    *out = (struct sqs_away_call){.flags = cursor_u8(&c)};
    unsigned action = cursor_u16(&c);
    unsigned zero = cursor_u16(&c);
    out->age_ms = cursor_u32(&c);
    out->caller.now_s = cursor_u64(&c);
    for (unsigned i = 0; i < TEXTS; i++)
        texts[i] = cursor_bytes(&c);
    if (c.bad || version != VERSION || protocol > SQS_QUERY || kind > AUTH_KEY || zero != 0 ||
        action >= SQS_ACTION_COUNT || (out->flags & ~SQS_AWAY_FLAGS) != 0)
        return false;
    out->action = (enum sqs_action)action;
    out->protocol = (enum sqs_protocol)protocol;
    out->caller.kind = (enum auth_caller_kind)kind;
    out->caller.secure = (out->flags & SQS_AWAY_SECURE) != 0;
    out->caller.root = (out->flags & SQS_AWAY_ROOT) != 0;
    set_texts(out, texts);
    enum sqs_shape shape = sqs_actions[action].input;
    void *input = arena_alloc(arena, sqs_shapes[shape].bytes);
    out->input = input;
    return texts_good(out, texts) &&
           native_read(slice_make(c.at, cursor_left(&c)), shape, arena, input);
}

/* ---- answers ---- */

void sqs_away_result_encode(struct buffer *out, enum sqs_action action, const void *result)
{
    buffer_add_byte(out, ANSWER_RESULT);
    if (result != NULL)
        native_write(out, sqs_actions[action].result, result);
}

void sqs_away_error_encode(struct buffer *out, enum sqs_protocol protocol,
                           const struct sqs_error *error)
{
    const struct sqs_error_row *row = &sqs_errors[error->code];
    buffer_add_byte(out, ANSWER_ERROR);
    buffer_add_bytes(out, slice_of(row->json_type));
    buffer_add_bytes(out, slice_of(row->query_code));
    buffer_add_bytes(out, slice_of(sqs_error_text(protocol, error)));
}

static enum sqs_error_code code_of(struct slice json_type, struct slice query_code)
{
    for (unsigned code = SQS_OK + 1; code < SQS_ERROR_COUNT; code++) {
        if (slice_is(json_type, sqs_errors[code].json_type) &&
            slice_is(query_code, sqs_errors[code].query_code))
            return (enum sqs_error_code)code;
    }
    return SQS_ERROR_INTERNAL;
}

static bool error_decode(struct cursor *c, struct arena *arena, struct sqs_error *error)
{
    struct slice json_type = cursor_bytes(c);
    struct slice query_code = cursor_bytes(c);
    struct slice sentence = cursor_bytes(c);
    if (c->bad || cursor_left(c) > 0 || !utf8_valid(sentence))
        return false;
    *error = (struct sqs_error){code_of(json_type, query_code), arena_text(arena, sentence)};
    return true;
}

bool sqs_away_answer_decode(struct slice in, enum sqs_action action, struct arena *arena,
                            void *result, struct sqs_error *error)
{
    struct cursor c = cursor_of(in);
    unsigned what = cursor_u8(&c);
    *error = (struct sqs_error){SQS_OK, NULL};
    if (c.bad || what > ANSWER_ERROR)
        return false;
    if (what == ANSWER_ERROR)
        return error_decode(&c, arena, error);
    return native_read(slice_make(c.at, cursor_left(&c)), sqs_actions[action].result, arena,
                       result);
}
