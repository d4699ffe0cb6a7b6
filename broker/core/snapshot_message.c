/* SPDX-License-Identifier: Apache-2.0 */
/* The messages of a queue in a snapshot, each MESSAGE_BYTES, stored as differences: snapshot.c has
 * the table. */
#include "broker/core/limits.h"
#include "broker/core/snapshot.h"
#include "broker/core/state.h"

#define MESSAGE_BYTES 64
#define MESSAGE_WORDS (MESSAGE_BYTES / 4)

/* The words of the message before. */
struct words {
    uint32_t at[MESSAGE_WORDS];
};

static void to_differences(struct words *previous, uint8_t *bytes)
{
    for (size_t i = 0; i < MESSAGE_WORDS; i++) {
        uint32_t word = bytes_get_u32(bytes + 4 * i);
        bytes_put_u32(bytes + 4 * i, word - previous->at[i]);
        previous->at[i] = word;
    }
}

static void from_differences(struct words *previous, uint8_t *bytes)
{
    for (size_t i = 0; i < MESSAGE_WORDS; i++) {
        previous->at[i] += bytes_get_u32(bytes + 4 * i);
        bytes_put_u32(bytes + 4 * i, previous->at[i]);
    }
}

/* ---- writing ---- */

static void encode_message(const struct core *core, const struct message *message, uint8_t *at)
{
    bytes_put_u64(at, message->seq);
    bytes_put_u64(at + 8, message->sent_ms);
    bytes_put_u64(at + 16, message->body_index);
    bytes_put_u32(at + 24, message->body_offset);
    bytes_put_u32(at + 28, message->body_length);
    bytes_put_u32(at + 32, message->receive_count);
    bytes_put_u32(at + 36, message->first_receive_after_ms);
    bytes_put_u32(at + 40, message->leased_after_ms);
    bytes_put_u32(at + 44, message->due_after_ms);
    struct origin_key origin = origin_of(core, message);
    bytes_put_u32(at + 48, (uint32_t)origin.received << 2 | message->state);
    uint32_t number = message->group != 0 ? group_of(core, message)->number : 0;
    bytes_put_u32(at + 52, number | (uint32_t)message->stays << 31);
    bytes_put_u64(at + 56, origin.queue_id);
}

void snapshot_write_messages(const struct core *core, const struct queue *queue,
                             const struct snapshot_stream *stream)
{
    struct lane_walk walk = {0};
    struct words previous = {0};
    uint32_t index;
    while ((index = lane_next(&queue->age, &core->messages, &walk)) != MESSAGE_NONE) {
        uint8_t *at = buffer_reserve(stream->out, MESSAGE_BYTES);
        encode_message(core, message_at(&core->messages, index), at);
        to_differences(&previous, at);
        buffer_added(stream->out, MESSAGE_BYTES);
        snapshot_hand_on(stream, SNAPSHOT_STREAM_BYTES);
    }
}

/* ---- reading ---- */

/* Could a message of this age be in this state? That it is due says nothing: many can be. */
static bool times_ok(const struct message *message, uint64_t age_ms)
{
    uint64_t due_ms = message->due_after_ms;
    if (message->receive_count == 0 && message->first_receive_after_ms != 0)
        return false;
    if (message->first_receive_after_ms > age_ms)
        return false;
    switch ((enum message_state)message->state) {
    case MESSAGE_DELAYED:
        return message->receive_count == 0 && message->leased_after_ms == 0 && due_ms > 0 &&
               due_ms <= DELAY_S_MAX * SECOND_MS;
    case MESSAGE_VISIBLE:
        return message->leased_after_ms == 0 && due_ms == 0;
    case MESSAGE_IN_FLIGHT:
        return message->receive_count > 0 && message->leased_after_ms <= age_ms &&
               message->first_receive_after_ms <= message->leased_after_ms &&
               due_ms >= message->leased_after_ms &&
               due_ms <= (uint64_t)message->leased_after_ms + LEASE_MS_MAX;
    case MESSAGE_STATE_COUNT:
        break;
    }
    return false;
}

/* In a FIFO queue messages follow each other in order, and no delay ends before an earlier one. */
static bool follows(const struct core *core, const struct queue *queue,
                    const struct message *message, const struct group *group)
{
    if (!queue->view.settings.fifo)
        return true;
    uint32_t last = queue->age.last;
    if (group == NULL ||
        (last != MESSAGE_NONE && (message_at(&core->messages, last)->seq >= message->seq ||
                                  message_at(&core->messages, last)->sent_ms > message->sent_ms)))
        return false;
    if (group->lane.last == MESSAGE_NONE)
        return true;
    const struct message *before = message_at(&core->messages, group->lane.last);
    return before->state != MESSAGE_DELAYED || message_due_ms(before) <= core->now_ms ||
           (message->state == MESSAGE_DELAYED && message_due_ms(message) >= message_due_ms(before));
}

static bool message_ok(const struct core *core, const struct queue *queue,
                       const struct message *message)
{
    if (message->seq == 0 || message->seq > queue->seq_last)
        return false;
    if (message->body_index == 0 || message->body_index > core->applied_index)
        return false;
    if (message->sent_ms > core->now_ms)
        return false;
    return times_ok(message, core->now_ms - message->sent_ms) &&
           messages_find(&core->messages, queue->slot, message->seq) == MESSAGE_NONE;
}

static bool decode_message(struct core *core, struct cursor *bytes, struct queue *queue,
                           struct words *previous, const struct snapshot_groups *groups)
{
    uint8_t copy[MESSAGE_BYTES];
    struct slice taken = cursor_take(bytes, MESSAGE_BYTES);
    if (bytes->bad)
        return false;
    memcpy(copy, taken.data, MESSAGE_BYTES);
    from_differences(previous, copy);
    struct cursor fields = cursor_of(slice_make(copy, MESSAGE_BYTES));
    struct cursor *in = &fields;
    struct message read = {0};
    uint64_t seq = cursor_u64(in);
    uint64_t sent_ms = cursor_u64(in);
    struct body_ref body;
    body.index = cursor_u64(in);
    body.offset = cursor_u32(in);
    body.length = cursor_u32(in);
    read.receive_count = cursor_u32(in);
    read.first_receive_after_ms = cursor_u32(in);
    read.leased_after_ms = cursor_u32(in);
    read.due_after_ms = cursor_u32(in);
    uint32_t state_word = cursor_u32(in);
    uint32_t state = state_word & 3;
    struct origin_key origin = {.received = state_word >> 2};
    uint32_t group_word = cursor_u32(in);
    uint32_t number = group_word & (UINT32_MAX >> 1);
    origin.queue_id = cursor_u64(in);
    if (state >= MESSAGE_STATE_COUNT || sent_ms > TIME_MS_MAX || body.index > BODY_INDEX_MAX ||
        body.length > BODY_LENGTH_MAX || number > groups->count || origin.queue_id > QUEUE_ID_MAX ||
        (origin.queue_id == 0 && origin.received > 0))
        return false;
    message_place(&read, queue->slot, seq, sent_ms, body);
    read.state = state & 3;
    read.stays = group_word != number;
    struct group *group = number > 0 ? core->groups[groups->indexes[number - 1]] : NULL;
    if (!message_ok(core, queue, &read) || !follows(core, queue, &read, group))
        return false;
    read.origin = origin_ref(core, origin) & ORIGIN_INDEX_MAX;
    uint32_t index = messages_take(&core->messages);
    *message_at(&core->messages, index) = read;
    body_hold(core, body);
    if (group != NULL)
        group->messages++;
    queue_store(core, queue, index, group != NULL ? group->index : 0);
    if (state == MESSAGE_VISIBLE)
        queue_show(core, queue, index);
    else
        queue_hide(core, queue, index, (enum message_state)state);
    return true;
}

bool snapshot_read_messages(struct core *core, struct cursor *in, struct queue *queue,
                            const struct snapshot_groups *groups)
{
    uint32_t count;
    struct words previous = {0};
    if (!snapshot_count(in, MESSAGE_BYTES, &count))
        return false;
    messages_expect(&core->messages, count);
    for (uint32_t i = 0; i < count; i++) {
        if (!decode_message(core, in, queue, &previous, groups))
            return false;
    }
    return queue->view.in_flight <= IN_FLIGHT_MAX;
}
