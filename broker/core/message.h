/* SPDX-License-Identifier: Apache-2.0 */
/* The pool of messages of a shard: 72 bytes each, named by a 32-bit index, found by queue and
 * sequence number. Private to broker/core. thread: apply. */
#ifndef BROKER_CORE_MESSAGE_H
#define BROKER_CORE_MESSAGE_H

#include "broker/core/types.h"

#define MESSAGE_NONE UINT32_MAX

enum message_state { MESSAGE_DELAYED, MESSAGE_VISIBLE, MESSAGE_IN_FLIGHT, MESSAGE_STATE_COUNT };

/* A place in a lane (lane.h). */
struct message_link {
    uint32_t previous;
    uint32_t next;
};

/* Times are kept as milliseconds after sent_ms: a message lives for 14 days at most, and a delay or
 * lease ends within 12 hours of its life, which fits 32 bits. */
struct message {
    uint64_t seq;
    uint64_t sent_ms : 48;
    uint64_t origin : 16; /* where it was redriven from (origin.c); 0 = nowhere */
    uint64_t body_index : 42;
    uint64_t body_length : 22;
    uint32_t body_offset;
    uint32_t queue_slot : 29;
    uint32_t stays : 1; /* came back from another shard: is given out before it is redriven */
    uint32_t state : 2; /* enum message_state */
    uint32_t receive_count;
    uint32_t first_receive_after_ms; /* while receive_count > 0 */
    uint32_t leased_after_ms;        /* in flight: when the lease was made */
    uint32_t due_after_ms;           /* delayed, in flight: when it becomes visible */
    uint32_t deadline_at;            /* delayed, in flight: position in the heap of deadlines */
    uint32_t group;                  /* its message group (group.h); 0 = none */
    struct message_link ready; /* visible: place in a ready lane; FIFO: in its group, always */
    struct message_link age;   /* place in the age lane; free: `next` free one */
};
_Static_assert(sizeof(struct message) == 72, "memory per message is a promise");

#define QUEUE_SLOT_MAX      ((1u << 29) - 1)
#define BODY_INDEX_MAX      ((UINT64_C(1) << 42) - 1) /* at 10,000 entries a second: 13 years */
#define BODY_LENGTH_MAX     ((1u << 22) - 1)          /* more than COMMAND_BYTES_MAX */
#define ORIGIN_INDEX_MAX    ((1u << 16) - 1)
#define RECEIVED_BEFORE_MAX ((1u << 30) - 1) /* it stays there */

/* One part of the map: open addressing, linear probing. */
struct message_map {
    uint32_t *slots; /* MESSAGE_NONE = empty */
    uint32_t capacity;
    uint32_t count;
};

#define MAP_PARTS_SHIFT 10
#define MAP_PARTS       (1u << MAP_PARTS_SHIFT)

struct messages {
    struct message **slabs;
    uint32_t slab_count;
    uint32_t slab_capacity;
    uint32_t free_first; /* MESSAGE_NONE: none free */
    uint32_t count;      /* in use */
    uint32_t map_count;
    struct message_map *map; /* MAP_PARTS of them */
};

#define SLAB_SHIFT 12
#define SLAB_COUNT (1u << SLAB_SHIFT)

static inline struct message *message_at(const struct messages *messages, uint32_t index)
{
    return &messages->slabs[index >> SLAB_SHIFT][index & (SLAB_COUNT - 1)];
}

/* In 64 bits: sums of the bit-field itself would be cut to its width. */
static inline uint64_t message_sent_ms(const struct message *message)
{
    return message->sent_ms;
}

static inline uint64_t message_due_ms(const struct message *message)
{
    return message_sent_ms(message) + message->due_after_ms;
}

static inline struct body_ref message_body(const struct message *message)
{
    return (struct body_ref){message->body_index, message->body_offset,
                             (uint32_t)message->body_length};
}

/* message_place: say where it is, when it was sent and where its record is. */
static inline void message_place(struct message *message, uint32_t queue_slot, uint64_t seq,
                                 uint64_t sent_ms, struct body_ref body)
{
    message->queue_slot = queue_slot & QUEUE_SLOT_MAX;
    message->seq = seq;
    message->sent_ms = sent_ms & ((UINT64_C(1) << 48) - 1);
    message->body_index = body.index & BODY_INDEX_MAX;
    message->body_offset = body.offset;
    message->body_length = body.length & BODY_LENGTH_MAX;
}

void messages_init(struct messages *messages);
void messages_deinit(struct messages *messages);

/* messages_take: the index of a zeroed message, not yet in the map. messages_give: back to the
 * pool; it must have left the map. */
uint32_t messages_take(struct messages *messages);
void messages_give(struct messages *messages, uint32_t index);

/* messages_map: make it findable by its queue_slot and seq, which must be new. messages_unmap:
 * undo. messages_find: MESSAGE_NONE when there is none. messages_expect: `count` more will come
 * soon; only saves time. */
void messages_map(struct messages *messages, uint32_t index);
void messages_unmap(struct messages *messages, uint32_t index);
uint32_t messages_find(const struct messages *messages, uint32_t queue_slot, uint64_t seq);
void messages_expect(struct messages *messages, uint32_t count);
/* messages_place: where messages_find will look; NULL: nowhere. messages_part: what leads there. */
const void *messages_part(const struct messages *messages, uint32_t queue_slot, uint64_t seq);
const void *messages_place(const struct messages *messages, uint32_t queue_slot, uint64_t seq);

#endif
