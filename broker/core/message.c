/* SPDX-License-Identifier: Apache-2.0 */
/* Messages live in slabs that never move, so a 32-bit index replaces pointers and the free list
 * costs nothing. The map holds only indexes (4 bytes at a load of 3/8 to 3/4) and reads the key
 * from the message; removal shifts the following entries back, so there are no tombstones to sweep.
 *
 * The map is made of 1024 parts by hash, each of which grows by itself: to double one table for 20
 * million messages would stop everything for seconds, and a part of it takes a few milliseconds.
 *
 * In all a waiting message costs 72 bytes, about 8 in the map, and 16 in the heap of deadlines
 * while it is delayed or in flight. Slabs are kept for reuse until the core goes. */
#include "broker/core/message.h"

#include "proto/base/assert.h"
#include "proto/base/pages.h"
#include "proto/base/plots.h"

#include <stdlib.h>

#define MAP_CAPACITY_MIN 4u
#define REHASH_AHEAD     8u /* messages that are on their way to the cache meanwhile */

/* Parts of the map that have grown to this are in plots, if they fit: from some 100,000 messages
 * on. */
#define PLOT_SLOTS_MIN 256u
#define PLOT_SLOTS_MAX (PLOT_BYTES_MAX / sizeof(uint32_t))

/* Slabs are cut from regions of whole huge pages. */
#define REGION_SLABS 64u
#define REGION_BYTES (REGION_SLABS * SLAB_COUNT * sizeof(struct message))
_Static_assert(REGION_BYTES % PAGES_UNIT == 0, "a region is made of whole huge pages");

void messages_init(struct messages *messages)
{
    *messages = (struct messages){.free_first = MESSAGE_NONE};
    messages->map = calloc(MAP_PARTS, sizeof *messages->map);
    ASSERT(messages->map != NULL);
}

static bool in_plot(const struct message_map *map)
{
    return map->capacity >= PLOT_SLOTS_MIN && map->capacity <= PLOT_SLOTS_MAX;
}

static void slots_take(struct message_map *map, uint32_t capacity)
{
    size_t bytes = capacity * sizeof *map->slots;
    map->capacity = capacity;
    map->slots = in_plot(map) ? plot_take(bytes) : malloc(bytes);
    ASSERT(map->slots != NULL);
    memset(map->slots, 0xff, bytes);
}

static void slots_give(const struct message_map *map)
{
    if (in_plot(map))
        plot_give(map->slots, map->capacity * sizeof *map->slots);
    else
        free(map->slots);
}

void messages_deinit(struct messages *messages)
{
    for (uint32_t i = 0; i < messages->slab_count; i += REGION_SLABS)
        pages_give(messages->slabs[i], REGION_BYTES);
    free(messages->slabs);
    for (uint32_t i = 0; i < MAP_PARTS; i++)
        slots_give(&messages->map[i]);
    free(messages->map);
    *messages = (struct messages){.free_first = MESSAGE_NONE};
}

static void slabs_grow(struct messages *messages)
{
    uint32_t capacity = messages->slab_capacity == 0 ? 16 : messages->slab_capacity * 2;
    messages->slabs = realloc(messages->slabs, capacity * sizeof messages->slabs[0]);
    ASSERT(messages->slabs != NULL);
    messages->slab_capacity = capacity;
}

/* Add a slab and put its messages on the free list, lowest index first. */
static void slab_add(struct messages *messages)
{
    ASSERT(messages->slab_count < (MESSAGE_NONE >> SLAB_SHIFT) - 1);
    if (messages->slab_count == messages->slab_capacity)
        slabs_grow(messages);
    bool first_of_region = messages->slab_count % REGION_SLABS == 0;
    struct message *slab = first_of_region ? pages_take(REGION_BYTES)
                                           : messages->slabs[messages->slab_count - 1] + SLAB_COUNT;
    uint32_t first = messages->slab_count << SLAB_SHIFT;
    messages->slabs[messages->slab_count++] = slab;
    for (uint32_t i = 0; i < SLAB_COUNT; i++)
        slab[i].age.next = i + 1 < SLAB_COUNT ? first + i + 1 : messages->free_first;
    messages->free_first = first;
}

uint32_t messages_take(struct messages *messages)
{
    if (messages->free_first == MESSAGE_NONE)
        slab_add(messages);
    uint32_t index = messages->free_first;
    struct message *message = message_at(messages, index);
    messages->free_first = message->age.next;
    *message = (struct message){0};
    messages->count++;
    if (messages->free_first != MESSAGE_NONE)
        __builtin_prefetch(&message_at(messages, messages->free_first)->age, 1);
    return index;
}

void messages_give(struct messages *messages, uint32_t index)
{
    ASSERT(messages->count > 0);
    message_at(messages, index)->age.next = messages->free_first;
    messages->free_first = index;
    messages->count--;
}

/* The finaliser of splitmix64: neighbouring sequence numbers land far apart. */
static uint64_t hash(uint32_t queue_slot, uint64_t seq)
{
    uint64_t h = seq ^ ((uint64_t)queue_slot << 40 | queue_slot);
    h = (h ^ (h >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    h = (h ^ (h >> 27)) * UINT64_C(0x94d049bb133111eb);
    return h ^ (h >> 31);
}

static struct message_map *part_of(const struct messages *messages, uint64_t hash)
{
    return &messages->map[hash >> (64 - MAP_PARTS_SHIFT)];
}

static uint64_t hash_at(const struct messages *messages, uint32_t index)
{
    const struct message *message = message_at(messages, index);
    return hash(message->queue_slot, message->seq);
}

static void map_put(struct message_map *map, uint64_t hash, uint32_t index)
{
    uint32_t mask = map->capacity - 1;
    uint32_t at = (uint32_t)hash & mask;
    while (map->slots[at] != MESSAGE_NONE)
        at = (at + 1) & mask;
    map->slots[at] = index;
}

static void map_resize(struct messages *messages, struct message_map *map, uint32_t capacity)
{
    struct message_map old = *map;
    slots_take(map, capacity);
    for (uint32_t i = 0; i < old.capacity; i++) {
        uint32_t later =
            i + REHASH_AHEAD < old.capacity ? old.slots[i + REHASH_AHEAD] : MESSAGE_NONE;
        if (later != MESSAGE_NONE)
            __builtin_prefetch(message_at(messages, later));
        if (old.slots[i] != MESSAGE_NONE)
            map_put(map, hash_at(messages, old.slots[i]), old.slots[i]);
    }
    slots_give(&old);
}

static uint32_t room_of(uint32_t capacity)
{
    return capacity / 4 * 3;
}

/* map_ahead: the queue's next messages come soon, and their places are far from this one's: what is
 * fetched now need not be waited for then. (Not inlined, gcc takes it for a function that does
 * nothing, and drops it.) */
static inline __attribute__((always_inline)) void map_ahead(const struct messages *messages,
                                                            uint32_t index)
{
    const struct message *message = message_at(messages, index);
    uint64_t next = hash(message->queue_slot, message->seq + 1);
    const struct message_map *map = part_of(messages, next);
    __builtin_prefetch(part_of(messages, hash(message->queue_slot, message->seq + 2)), 1);
    if (map->capacity > 0)
        __builtin_prefetch(&map->slots[(uint32_t)next & (map->capacity - 1)], 1);
}

void messages_map(struct messages *messages, uint32_t index)
{
    uint64_t h = hash_at(messages, index);
    struct message_map *map = part_of(messages, h);
    if (map->count >= room_of(map->capacity))
        map_resize(messages, map, map->capacity == 0 ? MAP_CAPACITY_MIN : map->capacity * 2);
    map_put(map, h, index);
    map->count++;
    messages->map_count++;
    map_ahead(messages, index);
}

void messages_expect(struct messages *messages, uint32_t count)
{
    for (uint32_t i = 0; i < MAP_PARTS; i++) {
        struct message_map *map = &messages->map[i];
        uint32_t capacity = map->capacity == 0 ? MAP_CAPACITY_MIN : map->capacity;
        while (room_of(capacity) < map->count + count / MAP_PARTS)
            capacity *= 2;
        if (capacity > map->capacity && count >= MAP_PARTS)
            map_resize(messages, map, capacity);
    }
}

const void *messages_part(const struct messages *messages, uint32_t queue_slot, uint64_t seq)
{
    return part_of(messages, hash(queue_slot, seq));
}

const void *messages_place(const struct messages *messages, uint32_t queue_slot, uint64_t seq)
{
    uint64_t h = hash(queue_slot, seq);
    const struct message_map *map = part_of(messages, h);
    return map->capacity > 0 ? &map->slots[(uint32_t)h & (map->capacity - 1)] : NULL;
}

/* The position in the part of the map, or MESSAGE_NONE. */
static uint32_t map_position(const struct messages *messages, const struct message_map *map,
                             uint64_t hash, uint32_t queue_slot, uint64_t seq)
{
    if (map->count == 0)
        return MESSAGE_NONE;
    uint32_t mask = map->capacity - 1;
    for (uint32_t at = (uint32_t)hash & mask; map->slots[at] != MESSAGE_NONE;
         at = (at + 1) & mask) {
        const struct message *message = message_at(messages, map->slots[at]);
        if (message->seq == seq && message->queue_slot == queue_slot)
            return at;
    }
    return MESSAGE_NONE;
}

uint32_t messages_find(const struct messages *messages, uint32_t queue_slot, uint64_t seq)
{
    uint64_t h = hash(queue_slot, seq);
    const struct message_map *map = part_of(messages, h);
    uint32_t at = map_position(messages, map, h, queue_slot, seq);
    return at == MESSAGE_NONE ? MESSAGE_NONE : map->slots[at];
}

void messages_unmap(struct messages *messages, uint32_t index)
{
    const struct message *message = message_at(messages, index);
    uint64_t h = hash_at(messages, index);
    struct message_map *map = part_of(messages, h);
    uint32_t hole = map_position(messages, map, h, message->queue_slot, message->seq);
    ASSERT(hole != MESSAGE_NONE);
    ASSERT(map->slots[hole] == index);
    uint32_t mask = map->capacity - 1;
    for (uint32_t at = (hole + 1) & mask; map->slots[at] != MESSAGE_NONE; at = (at + 1) & mask) {
        /* An entry may move back into the hole unless its home lies behind the hole. */
        uint32_t home = (uint32_t)hash_at(messages, map->slots[at]) & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            map->slots[hole] = map->slots[at];
            hole = at;
        }
    }
    map->slots[hole] = MESSAGE_NONE;
    map->count--;
    messages->map_count--;
}
