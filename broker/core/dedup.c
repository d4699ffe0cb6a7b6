/* SPDX-License-Identifier: Apache-2.0 */
/* What FIFO queues remember of the last five minutes' sends, so that one sent again is not stored
 * again. It has nothing to do with the messages themselves: they may be received, deleted, purged
 * or expired long before.
 *
 * A key is one byte of scope and the dedup id; where dedup ids belong to their message group, the
 * scope is 1 more than the length of the group id, which stands in between. So no two pairs of ids
 * have one key, and keys of both scopes can stand side by side after a change of the setting.
 *
 * Entries come in order of time and leave from the front. They are swept some seconds after their
 * time, many at once; until then they count as gone. So they stand one behind the other in chunks
 * of memory, with their keys, and a chunk is freed when the last of it has left. One that is
 * replaced before it is swept stays as a gap (seq 0) until the front reaches it.
 *
 * The table finds them: open addressing, linear probing, 8 bytes a slot: half a hash of the key,
 * and the place. A look-up reads an entry only when its half hash is the same, so a new id, which
 * is what mostly comes, costs one access to the table and none to the entries.
 *
 * I1  The hash is seeded with the cluster's secret, so that nobody can choose ids that share a
 * slot. A queue keeps its seed until it remembers nothing. No order in the state comes from it. */
#include "broker/core/dedup.h"

#include "broker/core/limits.h"
#include "broker/core/record.h"
#include "broker/core/state.h"
#include "proto/base/bytes.h"

#include <stdlib.h>

#define KEY_BYTES_MAX (1 + 2 * RECORD_ID_BYTES_MAX)
#define CHUNK_SHIFT   14
#define CHUNK_BYTES   (1u << CHUNK_SHIFT)
#define PLACE_SHIFT   (CHUNK_SHIFT - 3) /* places are multiples of 8 bytes */
#define CHUNKS_MAX    (1u << (32 - PLACE_SHIFT - 1))
#define CAPACITY_MIN  16u

struct entry {
    uint64_t seq; /* 0: a gap */
    uint64_t sent_ms;
    uint8_t message_id[UUID_BYTES];
    uint16_t key_length;
    uint8_t key[];
};

struct dedup_chunk {
    uint32_t next; /* number */
    uint32_t used;
    uint8_t bytes[CHUNK_BYTES] __attribute__((aligned(8)));
};

/* ---- entries ---- */

static uint32_t entry_bytes(size_t key_length)
{
    return (uint32_t)(offsetof(struct entry, key) + key_length + 7) & ~7u;
}

static struct entry *entry_in(const struct dedups *d, uint32_t chunk, uint32_t offset)
{
    return (struct entry *)(void *)(d->chunks[chunk]->bytes + offset);
}

static uint32_t place_of(uint32_t chunk, uint32_t offset)
{
    return chunk << PLACE_SHIFT | offset >> 3;
}

static struct entry *entry_at(const struct dedups *d, uint32_t place)
{
    return entry_in(d, place >> PLACE_SHIFT, (place & ((1u << PLACE_SHIFT) - 1)) << 3);
}

static struct dedup view_of(const struct entry *entry)
{
    struct dedup view = {.seq = entry->seq,
                         .sent_ms = entry->sent_ms,
                         .key = slice_make(entry->key, entry->key_length)};
    memcpy(view.message_id, entry->message_id, UUID_BYTES);
    return view;
}

/* free_number: the next number that no chunk has; they come free in the order of taking. */
static uint32_t free_number(struct dedups *d)
{
    for (uint32_t i = 1; i <= d->chunk_capacity; i++) {
        uint32_t number = (d->last + i) & (d->chunk_capacity - 1);
        if (d->chunks[number] == NULL)
            return number;
    }
    uint32_t capacity = d->chunk_capacity > 0 ? 2 * d->chunk_capacity : 4;
    ASSERT(capacity <= CHUNKS_MAX);
    d->chunks = reallocarray(d->chunks, capacity, sizeof(struct dedup_chunk *));
    ASSERT(d->chunks != NULL);
    for (uint32_t i = d->chunk_capacity; i < capacity; i++)
        d->chunks[i] = NULL;
    uint32_t number = d->chunk_capacity;
    d->chunk_capacity = capacity;
    return number;
}

static void add_chunk(struct dedups *d)
{
    bool first = d->chunk_capacity == 0;
    uint32_t number = free_number(d);
    struct dedup_chunk *chunk = malloc(sizeof *chunk);
    ASSERT(chunk != NULL);
    chunk->used = 0;
    chunk->next = number;
    d->chunks[number] = chunk;
    if (first)
        d->first = number;
    else
        d->chunks[d->last]->next = number;
    d->last = number;
}

/* append: the place of a new entry. */
static uint32_t append(struct dedups *d, const struct dedup *what)
{
    uint32_t bytes = entry_bytes(what->key.length);
    if (d->chunk_capacity == 0 || d->chunks[d->last]->used + bytes > CHUNK_BYTES)
        add_chunk(d);
    struct dedup_chunk *chunk = d->chunks[d->last];
    uint32_t offset = chunk->used;
    struct entry *entry = entry_in(d, d->last, offset);
    chunk->used += bytes;
    entry->seq = what->seq;
    entry->sent_ms = what->sent_ms;
    entry->key_length = (uint16_t)what->key.length;
    memcpy(entry->message_id, what->message_id, UUID_BYTES);
    memcpy(entry->key, what->key.data, what->key.length);
    return place_of(d->last, offset);
}

void dedups_free(struct dedups *d)
{
    for (uint32_t i = 0; i < d->chunk_capacity; i++)
        free(d->chunks[i]);
    free(d->chunks);
    free(d->slots);
    *d = (struct dedups){0};
}

/* advance: over gaps at the front, and over chunks that have been left. There is an entry. */
static void advance(struct dedups *d)
{
    for (;;) {
        struct dedup_chunk *chunk = d->chunks[d->first];
        if (d->front == chunk->used) {
            d->chunks[d->first] = NULL;
            d->first = chunk->next;
            d->front = 0;
            free(chunk);
            continue;
        }
        const struct entry *entry = entry_in(d, d->first, d->front);
        if (entry->seq != 0)
            return;
        d->front += entry_bytes(entry->key_length);
    }
}

/* ---- the table ---- */

static uint32_t hash_of(const struct dedups *d, struct slice key)
{
    uint64_t hash = d->seed ^ key.length;
    for (size_t at = 0; at < key.length; at += 8) {
        uint64_t word = 0;
        memcpy(&word, key.data + at, key.length - at < 8 ? key.length - at : 8);
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    hash *= UINT64_C(0xbf58476d1ce4e5b9);
    return (uint32_t)(hash >> 32);
}

static uint64_t slot_make(uint32_t hash, uint32_t place)
{
    return (uint64_t)hash << 32 | (place + 1);
}

static uint32_t slot_hash(uint64_t slot)
{
    return (uint32_t)(slot >> 32);
}

static uint32_t slot_place(uint64_t slot)
{
    return (uint32_t)slot - 1;
}

static void insert(struct dedups *d, uint64_t slot)
{
    uint32_t i = slot_hash(slot) & (d->capacity - 1);
    while (d->slots[i] != 0)
        i = (i + 1) & (d->capacity - 1);
    d->slots[i] = slot;
}

static void resize(struct dedups *d, uint32_t capacity)
{
    uint64_t *old = d->slots;
    uint32_t old_capacity = d->capacity;
    d->slots = calloc(capacity, sizeof *d->slots);
    ASSERT(d->slots != NULL);
    d->capacity = capacity;
    for (uint32_t i = 0; i < old_capacity; i++) {
        if (old[i] != 0)
            insert(d, old[i]);
    }
    free(old);
}

/* find: where in the table, or `capacity`. */
static uint32_t find(const struct dedups *d, struct slice key, uint32_t hash)
{
    if (d->count == 0)
        return d->capacity;
    for (uint32_t i = hash & (d->capacity - 1); d->slots[i] != 0; i = (i + 1) & (d->capacity - 1)) {
        if (slot_hash(d->slots[i]) != hash)
            continue;
        const struct entry *entry = entry_at(d, slot_place(d->slots[i]));
        if (slice_equal(key, slice_make(entry->key, entry->key_length)))
            return i;
    }
    return d->capacity;
}

/* take_out: and move up those behind it that would not be found across the hole. */
static void take_out(struct dedups *d, uint32_t hole)
{
    uint32_t mask = d->capacity - 1;
    for (uint32_t i = (hole + 1) & mask; d->slots[i] != 0; i = (i + 1) & mask) {
        uint32_t home = slot_hash(d->slots[i]) & mask;
        if (((i - home) & mask) < ((i - hole) & mask))
            continue;
        d->slots[hole] = d->slots[i];
        hole = i;
    }
    d->slots[hole] = 0;
}

static void drop_at(struct dedups *d, uint32_t slot)
{
    entry_at(d, slot_place(d->slots[slot]))->seq = 0;
    take_out(d, slot);
    d->count--;
    if (d->count == 0) {
        dedups_free(d);
        return;
    }
    advance(d);
    if (d->capacity > CAPACITY_MIN && d->count < d->capacity / 8)
        resize(d, d->capacity / 2);
}

/* ---- a queue's ---- */

static struct slice key_of(const struct queue *queue, const struct record_ids *ids,
                           uint8_t bytes[KEY_BYTES_MAX])
{
    size_t length = 1;
    bytes[0] = 0;
    if (queue->view.settings.dedup_per_group) {
        bytes[0] = (uint8_t)(1 + ids->group_id.length);
        memcpy(bytes + length, ids->group_id.data, ids->group_id.length);
        length += ids->group_id.length;
    }
    memcpy(bytes + length, ids->dedup_id.data, ids->dedup_id.length);
    return slice_make(bytes, length + ids->dedup_id.length);
}

static bool is_past(const struct core *core, const struct entry *entry)
{
    return entry->sent_ms + DEDUP_WINDOW_MS <= core->now_ms;
}

const void *dedup_place(const struct queue *queue, const struct record_ids *ids)
{
    const struct dedups *d = &queue->dedups;
    uint8_t bytes[KEY_BYTES_MAX];
    if (d->count == 0)
        return NULL;
    return &d->slots[hash_of(d, key_of(queue, ids, bytes)) & (d->capacity - 1)];
}

bool dedup_find(const struct core *core, const struct queue *queue, const struct record_ids *ids,
                struct dedup *out)
{
    const struct dedups *d = &queue->dedups;
    uint8_t bytes[KEY_BYTES_MAX];
    struct slice key = key_of(queue, ids, bytes);
    uint32_t slot = find(d, key, hash_of(d, key));
    if (slot == d->capacity)
        return false;
    const struct entry *entry = entry_at(d, slot_place(d->slots[slot]));
    *out = view_of(entry);
    return !is_past(core, entry);
}

static void put(struct dedups *d, uint64_t seed, const struct dedup *what)
{
    d->seed = d->count == 0 ? seed : d->seed; /* I1 */
    if ((uint64_t)(d->count + 1) * 4 > (uint64_t)d->capacity * 3)
        resize(d, d->capacity > 0 ? 2 * d->capacity : CAPACITY_MIN);
    uint32_t place = append(d, what);
    insert(d, slot_make(hash_of(d, what->key), place));
    d->count++;
}

bool dedup_put(struct dedups *d, uint64_t seed, const struct dedup *what)
{
    if (find(d, what->key, hash_of(d, what->key)) != d->capacity)
        return false;
    put(d, seed, what);
    return true;
}

uint64_t dedup_seed(const struct core *core)
{
    return bytes_get_u64(core->secret);
}

void dedup_add(struct core *core, struct queue *queue, const struct record_ids *ids, uint64_t seq)
{
    struct dedups *d = &queue->dedups;
    uint8_t bytes[KEY_BYTES_MAX];
    struct dedup what = {.seq = seq, .sent_ms = core->now_ms, .key = key_of(queue, ids, bytes)};
    uint32_t past = find(d, what.key, hash_of(d, what.key));
    if (past != d->capacity)
        drop_at(d, past);
    memcpy(what.message_id, ids->message_id, UUID_BYTES);
    put(d, dedup_seed(core), &what);
    queue_chores_follow(core, queue);
}

bool dedup_next(const struct dedups *d, struct dedup_walk *walk, struct dedup *out)
{
    if (d->count == 0)
        return false;
    if (!walk->begun)
        *walk = (struct dedup_walk){true, d->first, d->front};
    for (;;) {
        const struct dedup_chunk *chunk = d->chunks[walk->chunk];
        if (walk->offset == chunk->used) {
            if (walk->chunk == d->last)
                return false;
            walk->chunk = chunk->next;
            walk->offset = 0;
            continue;
        }
        const struct entry *entry = entry_in(d, walk->chunk, walk->offset);
        walk->offset += entry_bytes(entry->key_length);
        if (entry->seq == 0)
            continue;
        *out = view_of(entry);
        return true;
    }
}

static const struct entry *oldest(const struct dedups *d)
{
    return d->count > 0 ? entry_in(d, d->first, d->front) : NULL;
}

void dedup_drop_oldest(struct dedups *d)
{
    const struct entry *entry = oldest(d);
    struct slice key = {entry->key, entry->key_length};
    drop_at(d, find(d, key, hash_of(d, key)));
}

void dedup_sweep(struct core *core, struct queue *queue)
{
    struct dedups *d = &queue->dedups;
    while (d->count > 0 && is_past(core, oldest(d)))
        dedup_drop_oldest(d);
}

uint64_t dedup_due_ms(const struct queue *queue)
{
    const struct entry *entry = oldest(&queue->dedups);
    return entry != NULL ? entry->sent_ms + DEDUP_WINDOW_MS + DEDUP_SLACK_MS : UINT64_MAX;
}
