/* SPDX-License-Identifier: Apache-2.0 */
/* Which broker is asked for a queue. Any broker takes any call, and passes it on to the one that
 * leads the queue's shard: that costs a third more than asking the latter at once. Each answer
 * names it (proto/sqs/native.h), so the queue's next calls go there, if it is one of the channel's
 * brokers and can be reached. It is never more than a hint: what a broker says may be out of date.
 *
 * Calls that are under way together are carried out in the order in which they were made, as long
 * as one broker has them all; senders to a FIFO queue count on it. So a queue moves to another
 * broker when all but its receives are answered (which wait for long, and have no order), and
 * calls made meanwhile are held back, encoded.
 *
 * Where the line ends, calls that may be made again are taken back (channel_again.c): those that
 * were made after them are held until they have been sent to home.
 *
 * I1  ordered calls of a route are on one line, and what is held was made after them
 * I2  a route exists while a call has it */
#include "client/channel_internal.h"

#include "proto/base/assert.h"
#include "proto/sqs/native.h"

#include <stdlib.h>
#include <string.h>

#define ROUTES_MAX     65536u /* some 150 bytes each; a client of more queues asks at random */
#define HELD_BYTES_MAX (64u << 20)
#define MOVE_EVERY_MS  100u /* brokers that contradict each other must not stop a queue */
#define LINE_RETRY_MS  1000u
#define QUEUE_URL      "QueueUrl"

/* ---- routes ---- */

static void forget(struct mr_channel *channel, struct route *route)
{
    HASH_DEL(channel->routes, route);
    free(route);
}

/* make_room: the oldest that nobody uses goes. */
static bool make_room(struct mr_channel *channel)
{
    struct route *route;
    struct route *next;
    if (HASH_COUNT(channel->routes) < ROUTES_MAX)
        return true;
    HASH_ITER(hh, channel->routes, route, next)
    {
        if (route->calls > 0)
            continue;
        forget(channel, route);
        return true;
    }
    return false;
}

struct route *route_of(struct mr_channel *channel, enum sqs_action action, const void *input)
{
    const struct sqs_shape_row *row = &sqs_shapes[sqs_actions[action].input];
    struct route *route;
    if (channel->line_count < 2 || row->member_count == 0 ||
        strcmp(row->members[0].json_name, QUEUE_URL) != 0)
        return NULL;
    struct slice queue = *(const struct slice *)sqs_field(&row->members[0], input);
    if (queue.length == 0)
        return NULL;
    HASH_FIND(hh, channel->routes, queue.data, queue.length, route);
    if (route != NULL || !make_room(channel))
        return route;
    route = calloc(1, sizeof *route + queue.length);
    ASSERT(route != NULL);
    memcpy(route->queue, queue.data, queue.length);
    route->line = route->next = (uint8_t)channel->home;
    route->held = (struct slot_list){SLOT_COUNT, SLOT_COUNT};
    HASH_ADD_KEYPTR(hh, channel->routes, route->queue, queue.length, route);
    return route;
}

/* ---- sending ---- */

void call_write(struct buffer *out, const struct call_slot *s, uint32_t slot, const void *input)
{
    native_call_header(out, s->use << SLOT_BITS | slot, s->action);
    native_write(out, sqs_actions[s->action].input, input);
}

static bool is_ordered(const struct call_slot *s)
{
    return s->route != NULL && s->action != SQS_ACTION_ReceiveMessage;
}

/* keep: what was written behind `begun`, in memory of the right size at once. */
static void keep(struct call_slot *s, const struct buffer *written, size_t begun)
{
    buffer_add_slice(&s->payload, slice_sub(buffer_slice(written), begun));
}

static void note_sent(struct call_slot *s, uint8_t line)
{
    s->line = line;
    if (is_ordered(s))
        s->route->ordered++;
}

/* send_on: with `input`, which is kept if the call repeats, or, if that is NULL, what was kept. */
static enum status send_on(struct mr_channel *channel, uint8_t at, uint32_t slot, const void *input)
{
    struct line *line = &channel->lines[at];
    struct call_slot *s = &channel->slots[slot];
    struct buffer *out = line->state == LINE_READY ? link_frame_begin(line->link) : NULL;
    if (out == NULL)
        return line->state == LINE_READY ? STATUS_BUSY : STATUS_UNAVAILABLE;
    size_t begun = out->length;
    if (input != NULL)
        call_write(out, s, slot, input);
    else
        buffer_add_slice(out, buffer_slice(&s->payload));
    if (input != NULL && s->repeats)
        keep(s, out, begun);
    enum status status = link_frame_end(line->link, MILLRACE__TYPE__TYPE_CALL);
    if (status == STATUS_OK)
        note_sent(s, at);
    return status;
}

static enum status hold(struct mr_channel *channel, uint32_t slot, const void *input)
{
    struct call_slot *s = &channel->slots[slot];
    if (channel->held_bytes > HELD_BYTES_MAX)
        return STATUS_BUSY;
    if (input != NULL)
        call_write(&s->payload, s, slot, input);
    channel->held_bytes += s->payload.length;
    slots_add(channel, &s->route->held, slot);
    return STATUS_OK;
}

static uint32_t take_held(struct mr_channel *channel, struct route *route)
{
    uint32_t slot = slots_take(channel, &route->held);
    if (slot != SLOT_COUNT)
        channel->held_bytes -= channel->slots[slot].payload.length;
    return slot;
}

/* settle: if it may move, it does, and what was held for that goes out; or it does not move after
 * all. */
static void settle(struct mr_channel *channel, struct route *route)
{
    if (route->again > 0 || (route->ordered > 0 && route->next != route->line))
        return;
    route->line = route->next;
    for (uint32_t slot; (slot = take_held(channel, route)) != SLOT_COUNT;) { /* I1 */
        enum status status = send_on(channel, route->line, slot, NULL);
        if (status != STATUS_OK)
            channel_unsent(channel, slot, status);
        else if (!channel->slots[slot].repeats)
            buffer_free(&channel->slots[slot].payload);
    }
}

enum status route_send(struct mr_channel *channel, uint32_t slot, const void *input)
{
    const struct call_slot *s = &channel->slots[slot];
    struct route *route = s->route;
    if (route == NULL)
        return send_on(channel, (uint8_t)channel->home, slot, input);
    if (s->repeated) /* before all that is held */
        return send_on(channel, route->line, slot, input);
    settle(channel, route);
    if (is_ordered(s) && (route->next != route->line || route->again > 0))
        return hold(channel, slot, input);
    return send_on(channel, route->next, slot, input);
}

void route_answered(struct mr_channel *channel, const struct call_slot *slot)
{
    struct route *route = slot->route;
    if (slot->line == LINE_NONE || !is_ordered(slot))
        return;
    ASSERT(route->ordered > 0);
    route->ordered--;
    settle(channel, route);
}

void route_take_back(struct call_slot *slot)
{
    if (is_ordered(slot)) {
        slot->route->ordered--;
        slot->route->again++;
    }
    slot->line = LINE_NONE;
}

void route_again(struct mr_channel *channel, struct route *route)
{
    ASSERT(route->again > 0);
    route->again--;
    settle(channel, route);
}

/* ---- moving ---- */

static void dial(struct mr_channel *channel, struct line *line)
{
    uint64_t now_ms = uv_now(&channel->loop);
    if (line->state != LINE_IDLE || now_ms < line->retry_at_ms || channel->closing)
        return;
    line->retry_at_ms = now_ms + LINE_RETRY_MS;
    line_connect(line);
}

void route_hint(struct mr_channel *channel, struct route *route, uint64_t node_id)
{
    uint64_t now_ms = uv_now(&channel->loop);
    if (channel->lines[route->next].node_id == node_id)
        return;
    for (size_t i = 0; i < channel->line_count; i++) {
        if (channel->lines[i].node_id != node_id)
            continue;
        if (now_ms - route->moved_ms >= MOVE_EVERY_MS) {
            route->next = (uint8_t)i;
            route->moved_ms = now_ms;
        }
        return;
    }
    for (size_t i = 0; i < channel->line_count; i++)
        dial(channel, &channel->lines[i]); /* it may be one of those */
}

void routes_lost(struct mr_channel *channel, uint8_t line)
{
    struct route *route;
    struct route *next;
    uint8_t home = (uint8_t)channel->home;
    HASH_ITER(hh, channel->routes, route, next)
    {
        if (route->next == line)
            route->next = route->line != line ? route->line : home;
        if (route->line == line && route->again > 0) /* whatever is sent again goes there first */
            route->line = route->next = home;
        settle(channel, route);
    }
}

void routes_close(struct mr_channel *channel)
{
    struct route *route;
    struct route *next;
    HASH_ITER(hh, channel->routes, route, next)
    {
        for (uint32_t slot; (slot = take_held(channel, route)) != SLOT_COUNT;)
            channel_unsent(channel, slot, STATUS_UNAVAILABLE);
    }
}

void routes_free(struct mr_channel *channel)
{
    struct route *route;
    struct route *next;
    HASH_ITER(hh, channel->routes, route, next)
    {
        forget(channel, route);
    }
}
