/* SPDX-License-Identifier: Apache-2.0 */
/* Most messages join a lane in key order: a new message has the highest seq and the latest sent_ms.
 * They form a doubly linked list, O(1) to join and to leave. The others - returned by an expired
 * lease, shown after a delay, moved by a redrive - are strays in a heap, O(log n). The least of
 * both heads is the least of all, so the order is exact and no pattern of returns makes it slow: a
 * sorted list would cost O(n) per return when leases expire in an unlucky order.
 *
 * A stray is marked by link.previous == STRAY, and link.next is its position in the heap. */
#include "broker/core/lane.h"

#include "proto/base/assert.h"

#include <stdlib.h>

#define STRAY (MESSAGE_NONE - 1)

static struct message_link *link_at(const struct lane *lane, const struct messages *messages,
                                    uint32_t index)
{
    struct message *message = message_at(messages, index);
    return lane->kind == LANE_READY ? &message->ready : &message->age;
}

static uint64_t key_at(const struct lane *lane, const struct messages *messages, uint32_t index)
{
    const struct message *message = message_at(messages, index);
    return lane->kind == LANE_READY ? message->seq : message->sent_ms;
}

static void ready_moved(void *data, uint32_t item, uint32_t position)
{
    message_at(data, item)->ready = (struct message_link){STRAY, position};
}

static void age_moved(void *data, uint32_t item, uint32_t position)
{
    message_at(data, item)->age = (struct message_link){STRAY, position};
}

void lane_init(struct lane *lane, enum lane_kind kind)
{
    *lane = (struct lane){.kind = kind, .first = MESSAGE_NONE, .last = MESSAGE_NONE};
}

void lane_deinit(struct lane *lane)
{
    if (lane->strays != NULL)
        heap_deinit(lane->strays);
    free(lane->strays);
    lane->strays = NULL;
}

static struct heap *strays_of(struct lane *lane, struct messages *messages)
{
    if (lane->strays == NULL) {
        lane->strays = malloc(sizeof *lane->strays);
        ASSERT(lane->strays != NULL);
        heap_init(lane->strays, lane->kind == LANE_READY ? ready_moved : age_moved, messages);
    }
    return lane->strays;
}

void lane_add(struct lane *lane, struct messages *messages, uint32_t index)
{
    uint64_t key = key_at(lane, messages, index);
    if (lane->last != MESSAGE_NONE && key < key_at(lane, messages, lane->last)) {
        heap_push(strays_of(lane, messages), key, (uint32_t)message_at(messages, index)->seq,
                  index);
        return;
    }
    *link_at(lane, messages, index) = (struct message_link){lane->last, MESSAGE_NONE};
    if (lane->last == MESSAGE_NONE)
        lane->first = index;
    else
        link_at(lane, messages, lane->last)->next = index;
    lane->last = index;
}

/* The one that it stands in front of; MESSAGE_NONE: it is the last. */
static uint32_t follower(const struct lane *lane, const struct messages *messages, uint64_t seq,
                         uint32_t near)
{
    uint32_t at = near != MESSAGE_NONE ? near : lane->first;
    while (at != MESSAGE_NONE && message_at(messages, at)->seq < seq)
        at = link_at(lane, messages, at)->next;
    while (at != MESSAGE_NONE) {
        uint32_t before = link_at(lane, messages, at)->previous;
        if (before == MESSAGE_NONE || message_at(messages, before)->seq < seq)
            break;
        at = before;
    }
    return at;
}

void lane_return(struct lane *lane, struct messages *messages, uint32_t index, uint32_t near)
{
    ASSERT(lane_stray_count(lane) == 0);
    uint32_t next = follower(lane, messages, message_at(messages, index)->seq, near);
    uint32_t previous = next != MESSAGE_NONE ? link_at(lane, messages, next)->previous : lane->last;
    *link_at(lane, messages, index) = (struct message_link){previous, next};
    if (previous == MESSAGE_NONE)
        lane->first = index;
    else
        link_at(lane, messages, previous)->next = index;
    if (next == MESSAGE_NONE)
        lane->last = index;
    else
        link_at(lane, messages, next)->previous = index;
}

void lane_remove(struct lane *lane, struct messages *messages, uint32_t index)
{
    struct message_link link = *link_at(lane, messages, index);
    if (link.previous == STRAY) {
        ASSERT(lane->strays->entries[link.next].item == index);
        heap_remove(lane->strays, link.next);
        return;
    }
    if (link.previous == MESSAGE_NONE)
        lane->first = link.next;
    else
        link_at(lane, messages, link.previous)->next = link.next;
    if (link.next == MESSAGE_NONE)
        lane->last = link.previous;
    else
        link_at(lane, messages, link.next)->previous = link.previous;
}

uint32_t lane_least(const struct lane *lane, const struct messages *messages)
{
    if (lane_stray_count(lane) == 0)
        return lane->first;
    const struct heap_entry *stray = &lane->strays->entries[0];
    if (lane->first != MESSAGE_NONE && key_at(lane, messages, lane->first) <= stray->key)
        return lane->first;
    return stray->item;
}

uint32_t lane_next(const struct lane *lane, const struct messages *messages, struct lane_walk *walk)
{
    if (!walk->begun || walk->at != MESSAGE_NONE) {
        walk->at = walk->begun ? link_at(lane, messages, walk->at)->next : lane->first;
        walk->begun = true;
        if (walk->at != MESSAGE_NONE)
            return walk->at;
    }
    if (walk->stray < lane_stray_count(lane))
        return lane->strays->entries[walk->stray++].item;
    return MESSAGE_NONE;
}
