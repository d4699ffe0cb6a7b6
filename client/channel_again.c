/* SPDX-License-Identifier: Apache-2.0 */
/* Calls whose broker has gone away, and that are made again at another: those that do no harm when
 * they are done twice.
 *
 * They wait, in the order in which they were made, until home is ready, and are sent before all
 * else. Calls of the same queue that were made after them are held meanwhile (channel_route.c, I1):
 * so what a FIFO queue is sent stays in order, whichever broker had done which part of it.
 *
 * What a repeated call is answered says nothing of the first time: "not done" is CLOSED then. */
#include "client/channel_internal.h"

#include "proto/base/assert.h"

#define FIFO_ENDING ".fifo"

static bool ends_with(struct slice text, struct slice ending)
{
    return text.length >= ending.length &&
           slice_equal(slice_make(text.data + text.length - ending.length, ending.length), ending);
}

/* of_fifo: the queue that the call names first, by URL or name. */
static bool of_fifo(enum sqs_action action, const void *input)
{
    const struct sqs_shape_row *row = &sqs_shapes[sqs_actions[action].input];
    const struct slice *queue = sqs_field(&row->members[0], input);
    return ends_with(*queue, slice_of(FIFO_ENDING));
}

bool again_wanted(const struct mr_channel *channel, enum sqs_action action, const void *input)
{
    enum sqs_again again = sqs_actions[action].again;
    if (channel->repeat_ms == MR_REPEAT_NEVER)
        return false;
    return again == SQS_AGAIN ||
           (again == SQS_IF_FIFO && (channel->repeat_sends || of_fifo(action, input)));
}

/* insert: behind those that were made before it. Mostly it is the last. */
static void insert(struct mr_channel *channel, uint32_t slot)
{
    struct call_slot *slots = channel->slots;
    struct slot_list *list = &channel->again;
    uint32_t before = SLOT_COUNT;
    uint32_t at = list->first;
    if (at == SLOT_COUNT || slots[list->last].number < slots[slot].number) {
        slots_add(channel, list, slot);
        return;
    }
    while (slots[at].number < slots[slot].number) {
        before = at;
        at = slots[at].next;
    }
    slots[slot].next = at;
    if (before == SLOT_COUNT)
        list->first = slot;
    else
        slots[before].next = slot;
}

void again_lost(struct mr_channel *channel, uint8_t line)
{
    for (uint32_t i = 0; i < SLOT_COUNT && !channel->closing; i++) {
        struct call_slot *s = &channel->slots[i];
        if (s->done == NULL || s->line != line || !s->repeats)
            continue;
        s->repeated = true;
        route_take_back(s);
        insert(channel, i);
    }
}

static void note_again(struct mr_channel *channel, const struct call_slot *s)
{
    if (s->route != NULL && s->action != SQS_ACTION_ReceiveMessage)
        route_again(channel, s->route);
}

void again_send(struct mr_channel *channel)
{
    while (channel->again.first != SLOT_COUNT &&
           channel->lines[channel->home].state == LINE_READY) {
        uint32_t slot = channel->again.first;
        if (route_send(channel, slot, NULL) != STATUS_OK)
            return; /* too much is unsent */
        (void)slots_take(channel, &channel->again);
        note_again(channel, &channel->slots[slot]);
    }
}

static void end_first(struct mr_channel *channel)
{
    uint32_t slot = slots_take(channel, &channel->again);
    note_again(channel, &channel->slots[slot]);
    channel_closed(channel, slot);
}

uint64_t again_until_ms(const struct mr_channel *channel)
{
    uint32_t slot = channel->again.first;
    return slot != SLOT_COUNT ? channel->slots[slot].made_ms + channel->repeat_ms : UINT64_MAX;
}

void again_expire(struct mr_channel *channel)
{
    while (again_until_ms(channel) <= uv_now(&channel->loop))
        end_first(channel);
}

void again_close(struct mr_channel *channel)
{
    while (channel->again.first != SLOT_COUNT)
        end_first(channel);
}
