/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/shards/question.h"

#include "proto/base/assert.h"

#include <stdlib.h>

#define MESSAGE_BYTES     64u
#define RESULT_BYTES      60u
#define GLANCE_ITEM_BYTES 12u
#define GLANCE_COUNT_AT   4u
#define GLANCE_BYTES      52u
#define HELD_LEASE_BYTES  12u
#define TALLY_BYTES       (8u + 8u * USAGE_COUNTERS)
#define USAGE_COUNTERS    8u
#define MARK_NONE         1u /* there is no such queue */
#define FLAG_GROWS        1u
#define FLAG_DUPLICATE    1u
#define FLAG_THERE        1u
#define FLAG_FIFO         2u

static bool cursor_ended(const struct cursor *in)
{
    return !in->bad && cursor_left(in) == 0;
}

/* ---- outcomes ---- */

static const enum status outcomes[OUTCOME_COUNT] = {
    [OUTCOME_OK] = STATUS_OK,
    [OUTCOME_DISK_FULL] = STATUS_DISK_FULL,
    [OUTCOME_INVALID] = STATUS_INVALID,
    [OUTCOME_TOO_LARGE] = STATUS_TOO_LARGE,
    [OUTCOME_UNSUPPORTED] = STATUS_UNSUPPORTED,
    [OUTCOME_CORRUPT] = STATUS_CORRUPT,
    [OUTCOME_IO_ERROR] = STATUS_IO_ERROR,
    [OUTCOME_CANCELLED] = STATUS_CANCELLED,
};

bool outcome_of(enum status status, enum outcome *out)
{
    for (unsigned i = 0; i < OUTCOME_COUNT; i++) {
        if (outcomes[i] == status) {
            *out = (enum outcome)i;
            return true;
        }
    }
    return false;
}

enum status outcome_status(enum outcome outcome)
{
    ASSERT(outcome < OUTCOME_COUNT);
    return outcomes[outcome];
}

static enum outcome read_outcome(struct cursor *in)
{
    uint32_t number = cursor_u32(in);
    in->bad |= number >= OUTCOME_COUNT;
    return in->bad ? OUTCOME_OK : (enum outcome)number;
}

/* ---- results ---- */

static void message_encode(struct buffer *out, const struct core_message *message)
{
    buffer_add_u64(out, message->body.index);
    buffer_add_u32(out, message->body.offset);
    buffer_add_u32(out, message->body.length);
    buffer_add_u64(out, message->seq);
    buffer_add_u64(out, message->sent_ms);
    buffer_add_u64(out, message->first_receive_ms);
    buffer_add_u64(out, message->visible_at_ms);
    buffer_add_u32(out, message->receive_count);
    buffer_add_u32(out, message->received_before);
    buffer_add_u64(out, message->source_queue_id);
}

static void message_decode(struct cursor *in, struct core_message *out)
{
    out->body.index = cursor_u64(in);
    out->body.offset = cursor_u32(in);
    out->body.length = cursor_u32(in);
    out->seq = cursor_u64(in);
    out->sent_ms = cursor_u64(in);
    out->first_receive_ms = cursor_u64(in);
    out->visible_at_ms = cursor_u64(in);
    out->receive_count = cursor_u32(in);
    out->received_before = cursor_u32(in);
    out->source_queue_id = cursor_u64(in);
}

static void result_encode(struct buffer *out, const struct core_result *result)
{
    buffer_add_u32(out, result->code);
    buffer_add_u32(out, result->duplicate ? FLAG_DUPLICATE : 0);
    buffer_add_u64(out, result->queue_id);
    buffer_add_u64(out, result->version);
    buffer_add_u64(out, result->seq);
    buffer_add_u64(out, result->moved);
    buffer_add(out, result->message_id, sizeof result->message_id);
    buffer_add_u32(out, result->message_count);
    for (uint32_t i = 0; i < result->message_count; i++)
        message_encode(out, &result->messages[i]);
}

static void messages_decode(struct cursor *in, struct arena *arena, struct core_result *out)
{
    uint32_t count = cursor_u32(in);
    in->bad |= count > QUESTION_MESSAGES_MAX || count > cursor_left(in) / MESSAGE_BYTES;
    if (in->bad || count == 0)
        return;
    struct core_message *messages = arena_alloc(arena, count * sizeof *messages);
    for (uint32_t i = 0; i < count; i++)
        message_decode(in, &messages[i]);
    out->messages = messages;
    out->message_count = count;
}

static void result_decode(struct cursor *in, struct arena *arena, struct core_result *out)
{
    uint32_t code = cursor_u32(in);
    uint32_t flags = cursor_u32(in);
    *out = (struct core_result){.duplicate = flags == FLAG_DUPLICATE};
    out->queue_id = cursor_u64(in);
    out->version = cursor_u64(in);
    out->seq = cursor_u64(in);
    out->moved = cursor_u64(in);
    struct slice id = cursor_take(in, sizeof out->message_id);
    in->bad |= code > CORE_NO_DOCUMENT || flags > FLAG_DUPLICATE;
    if (in->bad)
        return;
    out->code = (enum core_code)code;
    memcpy(out->message_id, id.data, id.length);
    messages_decode(in, arena, out);
}

/* ---- calls ---- */

void call_question_encode(struct buffer *out, const struct call_question *question)
{
    buffer_add_u32(out, question->count);
    buffer_add_u32(out, question->grows ? FLAG_GROWS : 0);
    buffer_add_slice(out, question->commands);
}

bool call_question_decode(struct slice in, struct call_question *out)
{
    struct cursor at = cursor_of(in);
    out->count = cursor_u32(&at);
    uint32_t flags = cursor_u32(&at);
    out->grows = flags == FLAG_GROWS;
    out->commands = cursor_take(&at, cursor_left(&at));
    return !at.bad && flags <= FLAG_GROWS && out->count > 0 && out->count <= QUESTION_RESULTS_MAX;
}

void call_answer_encode(struct buffer *out, enum outcome outcome, const struct core_result *results,
                        uint32_t count)
{
    buffer_add_u32(out, outcome);
    buffer_add_u32(out, count);
    for (uint32_t i = 0; i < count; i++)
        result_encode(out, &results[i]);
}

bool call_answer_decode(struct slice in, struct arena *arena, struct call_answer *out)
{
    struct cursor at = cursor_of(in);
    *out = (struct call_answer){.outcome = read_outcome(&at)};
    uint32_t count = cursor_u32(&at);
    if (at.bad || count > QUESTION_RESULTS_MAX || count > cursor_left(&at) / RESULT_BYTES ||
        (count > 0) != (out->outcome == OUTCOME_OK))
        return false;
    out->count = count;
    out->results = arena_alloc(arena, count * sizeof *out->results);
    for (uint32_t i = 0; i < count && !at.bad; i++)
        result_decode(&at, arena, &out->results[i]);
    return cursor_ended(&at);
}

/* ---- receives ---- */

void receive_question_encode(struct buffer *out, const struct receive_question *question)
{
    struct command command = {.type = COMMAND_RECEIVE, .receive = question->command};
    buffer_add_u32(out, question->wait_ms);
    command_encode(out, &command);
}

bool receive_question_decode(struct slice in, struct receive_question *out)
{
    struct cursor at = cursor_of(in);
    struct command command;
    out->wait_ms = cursor_u32(&at);
    if (at.bad || out->wait_ms > QUESTION_WAIT_MS_MAX ||
        command_decode(&at, &command) != STATUS_OK || command.type != COMMAND_RECEIVE)
        return false;
    out->command = command.receive;
    return cursor_ended(&at);
}

void receive_answer_encode(struct buffer *out, const struct receive_answer *answer)
{
    buffer_add_u32(out, answer->outcome);
    buffer_add_u32(out, 0);
    buffer_add_u64(out, answer->now_ms);
    result_encode(out, &answer->result);
    buffer_add_bytes(out, answer->records);
}

static uint64_t records_bytes(const struct core_result *result)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < result->message_count; i++)
        bytes += result->messages[i].body.length;
    return bytes;
}

bool receive_answer_decode(struct slice in, struct arena *arena, struct receive_answer *out)
{
    struct cursor at = cursor_of(in);
    *out = (struct receive_answer){.outcome = read_outcome(&at)};
    at.bad |= cursor_u32(&at) != 0;
    out->now_ms = cursor_u64(&at);
    result_decode(&at, arena, &out->result);
    out->records = cursor_bytes(&at);
    if (!cursor_ended(&at))
        return false;
    return out->records.length ==
           (out->outcome == OUTCOME_OK ? records_bytes(&out->result) : UINT64_C(0));
}

/* ---- glances ---- */

/* These are counters of one queue, not somebody's input. What was received is among them: messages
 * that were leased and given back meanwhile are news to who counted on their being leased. */
static uint64_t mark_of(const struct queue_view *view)
{
    const uint64_t parts[] = {view->queue_id,   view->version,        view->visible,
                              view->in_flight,  view->delayed,        view->oldest_sent_ms,
                              view->sent_total, view->received_total, view->deleted_total};
    uint64_t mark = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++)
        mark = (mark ^ parts[i]) * UINT64_C(0x9e3779b97f4a7c15) ^ mark >> 29;
    return mark > MARK_NONE ? mark : MARK_NONE + 1;
}

struct glance glance_of(const struct queue_view *view)
{
    if (view == NULL)
        return (struct glance){.mark = MARK_NONE};
    return (struct glance){.there = true,
                           .fifo = view->settings.fifo,
                           .visibility_s = view->settings.visibility_s,
                           .mark = mark_of(view),
                           .queue_id = view->queue_id,
                           .visible = view->visible,
                           .oldest_sent_ms = view->oldest_sent_ms,
                           .sent_total = view->sent_total};
}

static void add_one(struct buffer *out, size_t at)
{
    bytes_put_u32(out->data + at, bytes_get_u32(out->data + at) + 1);
}

void glance_question_begin(struct buffer *out, uint32_t hold_ms)
{
    ASSERT(out->length == 0);
    buffer_add_u32(out, hold_ms);
    buffer_add_u32(out, 0);
}

void glance_question_add(struct buffer *out, const struct glance_item *item)
{
    buffer_add_u64(out, item->mark);
    buffer_add_bytes(out, item->name);
    add_one(out, GLANCE_COUNT_AT);
}

bool glance_question_decode(struct slice in, struct arena *arena, struct glance_question *out)
{
    struct cursor at = cursor_of(in);
    *out = (struct glance_question){.hold_ms = cursor_u32(&at)};
    out->count = cursor_u32(&at);
    if (at.bad || out->count > QUESTION_QUEUES_MAX ||
        out->count > cursor_left(&at) / GLANCE_ITEM_BYTES)
        return false;
    out->items = arena_alloc(arena, out->count * sizeof *out->items);
    for (uint32_t i = 0; i < out->count && !at.bad; i++) {
        struct glance_item *item = &out->items[i];
        item->mark = cursor_u64(&at);
        item->name = cursor_bytes(&at);
    }
    return cursor_ended(&at);
}

void glance_answer_begin(struct buffer *out)
{
    ASSERT(out->length == 0);
    buffer_add_u32(out, 0);
}

void glance_answer_add(struct buffer *out, uint32_t which, const struct glance *glance)
{
    buffer_add_u32(out, which);
    buffer_add_u32(out, (glance->there ? FLAG_THERE : 0) | (glance->fifo ? FLAG_FIFO : 0));
    buffer_add_u64(out, glance->mark);
    buffer_add_u64(out, glance->queue_id);
    buffer_add_u64(out, glance->visible);
    buffer_add_u64(out, glance->oldest_sent_ms);
    buffer_add_u64(out, glance->sent_total);
    buffer_add_u32(out, glance->visibility_s);
    add_one(out, 0);
}

static void glance_decode(struct cursor *in, struct glance *out)
{
    uint32_t flags = cursor_u32(in);
    out->there = (flags & FLAG_THERE) != 0;
    out->fifo = (flags & FLAG_FIFO) != 0;
    out->mark = cursor_u64(in);
    out->queue_id = cursor_u64(in);
    out->visible = cursor_u64(in);
    out->oldest_sent_ms = cursor_u64(in);
    out->sent_total = cursor_u64(in);
    out->visibility_s = cursor_u32(in);
    in->bad |= flags > (FLAG_THERE | FLAG_FIFO) || out->mark == 0;
}

bool glance_answer_decode(struct slice in, uint32_t asked, struct arena *arena,
                          struct glance_news **news, uint32_t *count)
{
    struct cursor at = cursor_of(in);
    *count = cursor_u32(&at);
    if (at.bad || *count > asked || *count > cursor_left(&at) / GLANCE_BYTES)
        return false;
    struct glance_news *list = arena_alloc(arena, *count * sizeof *list);
    *news = list;
    for (uint32_t i = 0; i < *count && !at.bad; i++) {
        list[i].which = cursor_u32(&at);
        glance_decode(&at, &list[i].glance);
        at.bad |= list[i].which >= asked || (i > 0 && list[i].which <= list[i - 1].which);
    }
    return cursor_ended(&at);
}

/* ---- leases ---- */

void held_question_encode(struct buffer *out, const struct held_question *question)
{
    buffer_add_u64(out, question->queue_id);
    buffer_add_u32(out, question->count);
    for (uint32_t i = 0; i < question->count; i++) {
        buffer_add_u64(out, question->leases[i].seq);
        buffer_add_u32(out, question->leases[i].receive_count);
    }
}

bool held_question_decode(struct slice in, struct arena *arena, struct held_question *out)
{
    struct cursor at = cursor_of(in);
    *out = (struct held_question){.queue_id = cursor_u64(&at)};
    out->count = cursor_u32(&at);
    if (at.bad || out->count > QUESTION_MESSAGES_MAX ||
        cursor_left(&at) != (size_t)out->count * HELD_LEASE_BYTES)
        return false;
    struct core_lease *leases = arena_alloc(arena, out->count * sizeof *leases);
    for (uint32_t i = 0; i < out->count; i++) {
        leases[i].seq = cursor_u64(&at);
        leases[i].receive_count = cursor_u32(&at);
    }
    out->leases = leases;
    return cursor_ended(&at);
}

void held_answer_encode(struct buffer *out, bool held)
{
    buffer_add_u32(out, held ? 1 : 0);
}

bool held_answer_decode(struct slice in, bool *held)
{
    struct cursor at = cursor_of(in);
    uint32_t said = cursor_u32(&at);
    *held = said == 1;
    return cursor_ended(&at) && said <= 1;
}

/* ---- tallies ---- */

static void usage_encode(struct buffer *out, const struct usage *usage)
{
    buffer_add_u64(out, usage->invocations);
    buffer_add_u64(out, usage->errors);
    buffer_add_u64(out, usage->timeouts);
    buffer_add_u64(out, usage->throttles);
    buffer_add_u64(out, usage->cold_starts);
    buffer_add_u64(out, usage->duration_us);
    buffer_add_u64(out, usage->billed_ms);
    buffer_add_u64(out, usage->billed_mb_ms);
}
_Static_assert(sizeof(struct usage) == 8 * USAGE_COUNTERS, "every counter is sent");

static void usage_decode(struct cursor *in, struct usage *out)
{
    out->invocations = cursor_u64(in);
    out->errors = cursor_u64(in);
    out->timeouts = cursor_u64(in);
    out->throttles = cursor_u64(in);
    out->cold_starts = cursor_u64(in);
    out->duration_us = cursor_u64(in);
    out->billed_ms = cursor_u64(in);
    out->billed_mb_ms = cursor_u64(in);
}

void tallies_encode(struct buffer *out, const struct core *core)
{
    uint32_t count = 0;
    size_t at = out->length;
    struct usage usage;
    buffer_add_u32(out, 0);
    for (uint64_t id = 0; count < QUESTION_TALLIES_MAX && core_tally_next(core, id, &id); count++) {
        bool there = core_tally(core, id, &usage);
        ASSERT(there);
        buffer_add_u64(out, id);
        usage_encode(out, &usage);
    }
    bytes_put_u32(out->data + at, count);
}

bool tallies_decode(struct slice in, struct tally **items, uint32_t *count)
{
    struct cursor at = cursor_of(in);
    uint64_t last = 0;
    *count = cursor_u32(&at);
    *items = NULL;
    if (at.bad || *count > QUESTION_TALLIES_MAX || cursor_left(&at) != (size_t)*count * TALLY_BYTES)
        return false;
    struct tally *list = calloc(*count > 0 ? *count : 1, sizeof *list);
    ASSERT(list != NULL);
    for (uint32_t i = 0; i < *count; i++) {
        list[i].function_id = cursor_u64(&at);
        usage_decode(&at, &list[i].usage);
        at.bad |= list[i].function_id <= last;
        last = list[i].function_id;
    }
    if (at.bad) {
        free(list);
        return false;
    }
    *items = list;
    return true;
}
