/* SPDX-License-Identifier: Apache-2.0 */
/* What consumers may rely on, each promise by itself. A message is known by where its record is,
 * which stays the same when it moves to another queue. Whoever keeps to these rules may still be
 * wrong in many ways that the model finds; whoever breaks one is wrong whatever the model says.
 *
 *   lease     nothing is handed out before its lease has ended, but to the attempt that has it
 *   count     in its queue, a message's receive count grows by one with every receive
 *   order     in a FIFO group, first receives are in order of sending
 *   blocking  nothing of a FIFO group is handed out while another receive holds some of it
 *   dedup     no id is accepted twice within five minutes; a duplicate tells of the first
 *   delete    what was deleted is not handed out
 * While a message is on its way to another shard its group goes on; so of those that may have been,
 * and came back, the first of order is not asked. */
#include "tests/sim/checker.h"

#include "proto/base/assert.h"

#include <stdlib.h>

#define WINDOW_MS        300000u
#define RETENTION_MS_MIN 60000u
#define TEXT_BYTES       40

struct text {
    uint8_t bytes[TEXT_BYTES];
    size_t length;
};

struct seen {
    struct body_ref body;
    uint64_t sent_to;  /* queue id */
    uint64_t queue_id; /* where it was last received; 0: nowhere yet */
    uint64_t seq;      /* there */
    uint64_t queued_ms;
    uint64_t leased_until_ms;
    uint64_t attempt; /* a number for the receive that gave it out */
    uint32_t receive_count;
    bool gone;
    struct text group;
    struct text dedup;
    uint64_t sent_ms;
    uint64_t sent_seq;
    bool by_group;
};

struct shape {
    uint64_t queue_id;
    bool fifo;
    bool by_group;
};

struct checker {
    struct seen *seen;
    size_t count;
    size_t capacity;
    struct shape *queues;
    size_t queue_count;
    uint64_t receives;
    size_t sure_from; /* messages before this one may have come back from another shard */
};

struct checker *checker_new(void)
{
    struct checker *checker = calloc(1, sizeof *checker);
    ASSERT(checker != NULL);
    return checker;
}

void checker_free(struct checker *checker)
{
    free(checker->seen);
    free(checker->queues);
    free(checker);
}

static struct text text_of(struct slice s)
{
    struct text text = {.length = s.length};
    ASSERT(s.length <= TEXT_BYTES);
    if (s.length > 0)
        memcpy(text.bytes, s.data, s.length);
    return text;
}

static bool same(const struct text *a, const struct text *b)
{
    return a->length == b->length && memcmp(a->bytes, b->bytes, TEXT_BYTES) == 0;
}

static struct shape *shape_of(struct checker *checker, uint64_t queue_id)
{
    for (size_t i = 0; i < checker->queue_count; i++) {
        if (checker->queues[i].queue_id == queue_id)
            return &checker->queues[i];
    }
    return NULL;
}

static void see_create(struct checker *checker, const struct queue_settings *settings,
                       uint64_t queue_id)
{
    checker->queues =
        realloc(checker->queues, (checker->queue_count + 1) * sizeof checker->queues[0]);
    ASSERT(checker->queues != NULL);
    checker->queues[checker->queue_count++] =
        (struct shape){queue_id, settings->fifo, settings->dedup_per_group};
}

/* ---- sends ---- */

static struct seen *seen_add(struct checker *checker)
{
    if (checker->count == checker->capacity) {
        checker->capacity = checker->capacity * 2 + 64;
        checker->seen = realloc(checker->seen, checker->capacity * sizeof checker->seen[0]);
        ASSERT(checker->seen != NULL);
    }
    checker->seen[checker->count] = (struct seen){0};
    return &checker->seen[checker->count++];
}

/* The send before this one, within the window, that it repeats; NULL = none. */
static const struct seen *original(const struct checker *checker, const struct seen *message)
{
    for (size_t i = checker->count; i-- > 0;) {
        const struct seen *other = &checker->seen[i];
        if (other->sent_ms + WINDOW_MS <= message->sent_ms)
            return NULL;
        if (other->sent_to == message->sent_to && other->by_group == message->by_group &&
            same(&other->dedup, &message->dedup) &&
            (!message->by_group || same(&other->group, &message->group)))
            return other;
    }
    return NULL;
}

static void read_ids(struct seen *message, struct slice record)
{
    if (record.length < 76 || record.data[0] != 2)
        return;
    const uint8_t *at =
        record.data + 76 + bytes_get_u32(record.data + 52) + bytes_get_u32(record.data + 56);
    uint32_t group = bytes_get_u32(record.data + 60);
    message->group = text_of(slice_make(at, group));
    message->dedup = text_of(slice_make(at + group, bytes_get_u32(record.data + 64)));
}

/* From another shard, if it was not here before: then it is never seen. Deduplication does not know
 * it. */
static void see_arrive(struct checker *checker, struct slice record, struct body_ref body,
                       uint64_t now_ms)
{
    struct seen message = {.body = body, .sent_ms = now_ms};
    read_ids(&message, record);
    *seen_add(checker) = message;
}

static const char *see_send(struct checker *checker, const struct shape *queue, struct slice record,
                            struct body_ref body, const struct core_result *result, uint64_t now_ms)
{
    struct seen message = {.body = body, .sent_to = queue->queue_id, .sent_ms = now_ms};
    read_ids(&message, record);
    message.by_group = queue->by_group;
    message.sent_seq = result->seq;
    if (queue->fifo) {
        const struct seen *first = original(checker, &message);
        if (result->duplicate && (first == NULL || first->sent_seq != result->seq))
            return "dedup: a duplicate of nothing";
        if (!result->duplicate && first != NULL)
            return "dedup: one id was accepted twice within the window";
    }
    if (!result->duplicate)
        *seen_add(checker) = message;
    return NULL;
}

/* ---- receives ---- */

static struct seen *by_body(struct checker *checker, struct body_ref body)
{
    for (size_t i = checker->count; i-- > 0;) {
        struct seen *seen = &checker->seen[i];
        if (seen->body.index == body.index && seen->body.offset == body.offset)
            return seen;
    }
    return NULL;
}

/* Of a FIFO queue: what else of the group consumers have been given. */
static const char *check_group(const struct checker *checker, const struct seen *message,
                               const struct core_message *given, uint64_t queue_id, uint64_t now_ms)
{
    for (size_t i = 0; i < checker->count; i++) {
        const struct seen *other = &checker->seen[i];
        if (other == message || other->queue_id != queue_id || other->receive_count == 0 ||
            !same(&other->group, &message->group))
            continue;
        bool came_back = (size_t)(message - checker->seen) < checker->sure_from;
        if (given->receive_count == 1 && other->seq > given->seq && !came_back)
            return "order: a message was overtaken in its group";
        bool may_be_expired = other->queued_ms + RETENTION_MS_MIN <= now_ms;
        if (!other->gone && !may_be_expired && other->leased_until_ms > now_ms &&
            other->attempt != checker->receives)
            return "blocking: a group with a message in flight gave out another";
        if (other->attempt == checker->receives && other->seq > given->seq)
            return "order: one receive gave a group out of order";
    }
    return NULL;
}

static const char *see_message(struct checker *checker, const struct shape *queue,
                               const struct core_message *given, bool may_repeat, uint64_t now_ms)
{
    struct seen *message = by_body(checker, given->body);
    if (message == NULL)
        return "lease: a message that was never sent";
    if (message->gone)
        return "delete: a deleted message was handed out";
    bool known = message->queue_id == queue->queue_id && message->seq == given->seq;
    bool held = known && message->leased_until_ms > now_ms;
    bool repeats = known && may_repeat && given->receive_count == message->receive_count;
    if (held && !repeats)
        return "lease: a message was handed out before its lease had ended";
    if (!repeats && given->receive_count != (known ? message->receive_count : 0) + 1)
        return "count: a receive count did not grow by one";
    const char *wrong = NULL;
    if (queue->fifo && !repeats)
        wrong = check_group(checker, message, given, queue->queue_id, now_ms);
    message->queue_id = queue->queue_id;
    message->seq = given->seq;
    message->receive_count = given->receive_count;
    message->queued_ms = given->sent_ms;
    message->leased_until_ms = given->visible_at_ms;
    message->attempt = checker->receives;
    return wrong;
}

static const char *see_receive(struct checker *checker, const struct shape *queue,
                               const struct command_receive *receive,
                               const struct core_result *result, uint64_t now_ms)
{
    checker->receives++;
    for (uint32_t i = 0; i < result->message_count; i++) {
        const char *wrong = see_message(checker, queue, &result->messages[i],
                                        receive->attempt_id.length > 0, now_ms);
        if (wrong != NULL)
            return wrong;
    }
    return NULL;
}

/* ---- settling ---- */

static void see_settled(struct checker *checker, uint64_t queue_id, struct core_lease lease,
                        bool deleted, uint64_t leased_until_ms)
{
    for (size_t i = 0; i < checker->count; i++) {
        struct seen *seen = &checker->seen[i];
        if (seen->queue_id != queue_id || seen->seq != lease.seq)
            continue;
        seen->gone |= deleted;
        seen->leased_until_ms = leased_until_ms;
    }
}

static void see_purge(struct checker *checker, uint64_t queue_id)
{
    for (size_t i = 0; i < checker->count; i++) {
        if (checker->seen[i].queue_id == queue_id)
            checker->seen[i].leased_until_ms = 0;
    }
}

/* What the queue that a command names looks like; NULL = unknown. */
static const struct shape *queue_of(struct checker *checker, const struct command *command)
{
    if (command->type == COMMAND_SEND)
        return shape_of(checker, command->send.queue_id);
    if (command->type == COMMAND_RECEIVE)
        return shape_of(checker, command->receive.queue_id);
    return NULL;
}

static void see_update(struct checker *checker, const struct command_queue_update *update)
{
    struct shape *queue = shape_of(checker, update->queue_id);
    if (queue != NULL)
        queue->by_group = update->settings.dedup_per_group;
}

const char *checker_see(struct checker *checker, const struct command *command,
                        struct body_ref body, const struct core_result *result, uint64_t now_ms)
{
    const struct shape *queue = queue_of(checker, command);
    const struct command_change_visibility *change = &command->change_visibility;
    if (result->code != CORE_OK)
        return NULL;
    if (command->type == COMMAND_QUEUE_CREATE)
        see_create(checker, &command->queue_create.settings, result->queue_id);
    else if (command->type == COMMAND_QUEUE_UPDATE)
        see_update(checker, &command->queue_update);
    else if (command->type == COMMAND_SEND && queue != NULL)
        return see_send(checker, queue, command->send.record, body, result, now_ms);
    else if (command->type == COMMAND_RECEIVE && queue != NULL)
        return see_receive(checker, queue, &command->receive, result, now_ms);
    else if (command->type == COMMAND_ARRIVE)
        see_arrive(checker, command->arrive.record, body, now_ms);
    else if (command->type == COMMAND_REFUSED)
        checker->sure_from = checker->count;
    else if (command->type == COMMAND_DELETE)
        see_settled(checker, command->delete.queue_id, command->delete.lease, true, 0);
    else if (command->type == COMMAND_CHANGE_VISIBILITY)
        see_settled(checker, change->queue_id, change->lease, false,
                    now_ms + (uint64_t)change->visibility_s * 1000);
    else if (command->type == COMMAND_QUEUE_PURGE)
        see_purge(checker, command->queue_purge.queue_id);
    return NULL;
}
