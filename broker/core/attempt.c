/* SPDX-License-Identifier: Apache-2.0 */
/* Receive attempts: a consumer of a FIFO queue that lost the answer to a receive asks again with
 * the same attempt id and is given the same leases, instead of finding its groups blocked by
 * messages that nobody has. It begins their visibility timeout anew, as SQS does, but is no receive
 * more: the counts stay, so the receipt handles stay.
 *
 * Nothing is kept up to date here. An attempt names its leases with the time they end at, and it
 * stands while every message still has just this lease; a change, an end or a deletion shows. */
#include "broker/core/limits.h"
#include "broker/core/state.h"

#include <stdlib.h>

struct attempt *attempt_find(const struct queue *queue, struct slice id)
{
    struct attempt *attempt;
    HASH_FIND(hh, queue->attempts, id.data, id.length, attempt);
    return attempt;
}

static bool is_past(const struct core *core, const struct attempt *attempt)
{
    return attempt->received_ms + DEDUP_WINDOW_MS <= core->now_ms;
}

static bool stands(const struct core *core, const struct queue *queue,
                   const struct attempt *attempt)
{
    for (uint32_t i = 0; i < attempt->count; i++) {
        const struct attempt_lease *lease = &attempt->leases[i];
        uint32_t index = messages_find(&core->messages, queue->slot, lease->seq);
        if (index == MESSAGE_NONE)
            return false;
        const struct message *message = message_at(&core->messages, index);
        if (message->state != MESSAGE_IN_FLIGHT || message->receive_count != lease->receive_count ||
            message_due_ms(message) != lease->due_ms)
            return false;
    }
    return true;
}

static void lease_anew(struct core *core, struct queue *queue, struct attempt_lease *lease,
                       uint32_t visibility_s, uint32_t place)
{
    uint32_t index = messages_find(&core->messages, queue->slot, lease->seq);
    struct message *message = message_at(&core->messages, index);
    queue_withdraw(core, queue, index);
    message->leased_after_ms = (uint32_t)(core->now_ms - message_sent_ms(message));
    message->due_after_ms = message->leased_after_ms + visibility_s * SECOND_MS;
    queue_hide(core, queue, index, MESSAGE_IN_FLIGHT);
    lease->due_ms = message_due_ms(message);
    received_add(core, place, message_describe(core, message));
}

bool attempt_replay(struct core *core, struct queue *queue, struct slice id, uint32_t visibility_s,
                    uint32_t *count)
{
    struct attempt *attempt = attempt_find(queue, id);
    if (attempt == NULL || is_past(core, attempt) || !stands(core, queue, attempt))
        return false;
    for (uint32_t i = 0; i < attempt->count; i++)
        lease_anew(core, queue, &attempt->leases[i], visibility_s, i);
    *count = attempt->count;
    return true;
}

struct attempt *attempt_put(struct queue *queue, struct slice id, uint64_t received_ms,
                            uint32_t count)
{
    struct attempt *attempt = calloc(1, sizeof *attempt);
    ASSERT(attempt != NULL);
    attempt->id = slice_own(id);
    attempt->received_ms = received_ms;
    attempt->count = count;
    attempt->leases = calloc(count, sizeof attempt->leases[0]);
    ASSERT(attempt->leases != NULL);
    HASH_ADD_KEYPTR(hh, queue->attempts, attempt->id.data, attempt->id.length, attempt);
    return attempt;
}

void attempt_keep(struct core *core, struct queue *queue, struct slice id, uint32_t count)
{
    struct attempt *past = attempt_find(queue, id);
    if (past != NULL)
        attempt_drop(queue, past);
    if (HASH_COUNT(queue->attempts) == ATTEMPTS_MAX)
        attempt_drop(queue, queue->attempts);
    if (count > 0) {
        struct attempt *attempt = attempt_put(queue, id, core->now_ms, count);
        for (uint32_t i = 0; i < count; i++) {
            const struct core_message *message = &core->received[i];
            attempt->leases[i] = (struct attempt_lease){message->seq, message->visible_at_ms,
                                                        message->receive_count};
        }
    }
    queue_chores_follow(core, queue);
}

void attempt_drop(struct queue *queue, struct attempt *attempt)
{
    HASH_DELETE(hh, queue->attempts, attempt);
    slice_disown(&attempt->id);
    free(attempt->leases);
    free(attempt);
}

void attempt_sweep(struct core *core, struct queue *queue)
{
    while (queue->attempts != NULL && is_past(core, queue->attempts))
        attempt_drop(queue, queue->attempts);
}

uint64_t attempt_due_ms(const struct queue *queue)
{
    return queue->attempts != NULL ? queue->attempts->received_ms + DEDUP_WINDOW_MS + DEDUP_SLACK_MS
                                   : UINT64_MAX;
}
