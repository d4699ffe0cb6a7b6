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
 * replaced before it is swept stays as a gap until the front reaches it. What an entry shares with
 * its neighbours or can be written shorter is not stored in full (dedup_entry.h), but the key is
 * there to the last bit: two ids are never taken for one.
 *
 * A table finds them by a hash of the key (hashes.h). A look-up reads an entry only when its hash
 * is the same, so a new id, which is what mostly comes, costs one access to the table and none to
 * the entries.
 *
 * I1  The hash is keyed with the cluster's secret, so that nobody can choose ids that share one. A
 * queue keeps its hash key until it remembers nothing. No order in the state comes from it. */
#include "broker/core/dedup.h"

#include "broker/core/dedup_entry.h"
#include "broker/core/foresee.h"
#include "broker/core/limits.h"
#include "broker/core/record.h"
#include "broker/core/state.h"
#include "proto/base/bytes.h"

#include <stdlib.h>

#define CHUNK_SHIFT 14
#define CHUNK_BYTES (1u << CHUNK_SHIFT)
/* The first of a queue is this large, or as its entry; each is twice the one before it, up to that.
 */
#define CHUNK_BYTES_MIN 128u
#define PLACE_SHIFT     (CHUNK_SHIFT - 1) /* places are even offsets */
#define CHUNKS_MAX      ((1u << (32 - PLACE_SHIFT)) - 1)

_Static_assert(DEDUP_KEY_BYTES_MAX == 1 + 2 * RECORD_ID_BYTES_MAX, "a scope and two ids");
_Static_assert(CHUNK_BYTES >= DEDUP_ENTRY_BYTES_MAX, "an entry fits a chunk");

struct dedup_chunk {
    uint32_t next; /* number */
    uint32_t used;
    uint32_t capacity;
    struct dedup_base base; /* of its first entry */
    uint8_t bytes[];
};

/* ---- chunks ---- */

static uint8_t *entry_in(const struct dedups *d, uint32_t chunk, uint32_t offset)
{
    return d->chunks[chunk]->bytes + offset;
}

static uint32_t place_make(uint32_t chunk, uint32_t offset)
{
    return chunk << PLACE_SHIFT | offset >> 1;
}

static const struct dedup_chunk *chunk_of(const struct dedups *d, uint32_t place)
{
    return d->chunks[place >> PLACE_SHIFT];
}

static uint8_t *entry_at(const struct dedups *d, uint32_t place)
{
    return entry_in(d, place >> PLACE_SHIFT, (place & ((1u << PLACE_SHIFT) - 1)) << 1);
}

static void read_at(const struct dedups *d, uint32_t place, struct dedup *out,
                    uint8_t key[DEDUP_KEY_BYTES_MAX])
{
    (void)dedup_entry_read(entry_at(d, place), &chunk_of(d, place)->base, out, key);
}

static uint64_t sent_ms_at(const struct dedups *d, uint32_t place)
{
    return dedup_entry_sent_ms(entry_at(d, place), &chunk_of(d, place)->base);
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

/* add_chunk: with room for `least` bytes. */
static void add_chunk(struct dedups *d, struct dedup_base base, uint32_t least)
{
    bool first = d->chunk_capacity == 0;
    uint32_t capacity = first ? CHUNK_BYTES_MIN : 2 * d->chunks[d->last]->capacity;
    uint32_t number = free_number(d);
    capacity = capacity < CHUNK_BYTES ? capacity : CHUNK_BYTES;
    capacity = capacity > least ? capacity : least;
    struct dedup_chunk *chunk = malloc(sizeof *chunk + capacity);
    ASSERT(chunk != NULL);
    *chunk = (struct dedup_chunk){.next = number, .capacity = capacity, .base = base};
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
    uint8_t bytes[DEDUP_ENTRY_BYTES_MAX];
    const struct dedup_chunk *last = d->chunk_capacity > 0 ? d->chunks[d->last] : NULL;
    uint32_t length = last != NULL ? dedup_entry_write(bytes, &last->base, what) : 0;
    if (last == NULL || last->used + length > last->capacity) {
        struct dedup_base base = {what->seq, what->sent_ms};
        length = dedup_entry_write(bytes, &base, what);
        add_chunk(d, base, length);
    }
    struct dedup_chunk *chunk = d->chunks[d->last];
    uint32_t offset = chunk->used;
    memcpy(chunk->bytes + offset, bytes, length);
    chunk->used += length;
    return place_make(d->last, offset);
}

void dedups_free(struct dedups *d)
{
    for (uint32_t i = 0; i < d->chunk_capacity; i++)
        free(d->chunks[i]);
    free(d->chunks);
    hashes_free(&d->places);
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
        const uint8_t *entry = chunk->bytes + d->front;
        if (!dedup_entry_is_gap(entry))
            return;
        d->front += dedup_entry_bytes(entry);
    }
}

/* ---- by key ---- */

static uint32_t hash_of(struct siphash_key hash_key, struct slice key)
{
    return (uint32_t)(siphash(hash_key, key) >> 32);
}

/* What a queue that remembers something, or will, hashes with. */
static struct siphash_key hash_key_of(const struct dedups *d, struct siphash_key otherwise)
{
    return d->count > 0 ? d->hash_key : otherwise; /* I1 */
}

static bool find(const struct dedups *d, struct slice key, uint32_t hash, uint32_t *place)
{
    struct hashes_walk walk = hashes_begin(&d->places, hash);
    while (hashes_next(&walk, place)) {
        uint8_t bytes[DEDUP_KEY_BYTES_MAX];
        struct dedup there;
        read_at(d, *place, &there, bytes);
        if (slice_equal(key, there.key))
            return true;
    }
    return false;
}

static void drop_at(struct dedups *d, uint32_t hash, uint32_t place)
{
    dedup_entry_empty(entry_at(d, place));
    hashes_remove(&d->places, hash, place);
    d->count--;
    if (d->count == 0)
        dedups_free(d);
    else
        advance(d);
}

static void put(struct dedups *d, struct siphash_key hash_key, uint32_t hash,
                const struct dedup *what)
{
    d->hash_key = hash_key;
    hashes_add(&d->places, hash, append(d, what));
    d->count++;
}

bool dedup_put(struct dedups *d, struct siphash_key otherwise, const struct dedup *what)
{
    struct siphash_key hash_key = hash_key_of(d, otherwise);
    uint32_t hash = hash_of(hash_key, what->key);
    uint32_t place;
    if (find(d, what->key, hash, &place))
        return false;
    put(d, hash_key, hash, what);
    return true;
}

/* ---- a queue's ---- */

static uint32_t key_make(bool per_group, const struct record_ids *ids,
                         uint8_t bytes[DEDUP_KEY_BYTES_MAX])
{
    size_t length = 1;
    bytes[0] = 0;
    if (per_group) {
        bytes[0] = (uint8_t)(1 + ids->group_id.length);
        memcpy(bytes + length, ids->group_id.data, ids->group_id.length);
        length += ids->group_id.length;
    }
    memcpy(bytes + length, ids->dedup_id.data, ids->dedup_id.length);
    return (uint32_t)(length + ids->dedup_id.length);
}

static bool is_past(const struct core *core, uint64_t sent_ms)
{
    return sent_ms + DEDUP_WINDOW_MS <= core->now_ms;
}

uint32_t dedup_hash(struct siphash_key hash_key, bool per_group, const struct record_ids *ids)
{
    uint8_t bytes[DEDUP_KEY_BYTES_MAX];
    return hash_of(hash_key, slice_make(bytes, key_make(per_group, ids, bytes)));
}

void dedup_search_begin(const struct core *core, const struct queue *queue,
                        const struct record_ids *ids, const struct send_hashes *hashes,
                        struct dedup_search *search)
{
    bool per_group = queue->view.settings.dedup_per_group;
    search->found = false;
    search->hash_key = hash_key_of(&queue->dedups, core_hash_key(core));
    search->length = key_make(per_group, ids, search->bytes);
    if (hashes != NULL && hashes->dedup_per_group == per_group &&
        siphash_key_equal(hashes->key, search->hash_key))
        search->hash = hashes->dedup;
    else
        search->hash = hash_of(search->hash_key, slice_make(search->bytes, search->length));
}

bool dedup_find(const struct core *core, const struct queue *queue, struct dedup_search *search,
                struct dedup *out)
{
    const struct dedups *d = &queue->dedups;
    uint8_t bytes[DEDUP_KEY_BYTES_MAX];
    search->found =
        find(d, slice_make(search->bytes, search->length), search->hash, &search->place);
    if (!search->found)
        return false;
    read_at(d, search->place, out, bytes);
    out->key = (struct slice){0};
    return !is_past(core, out->sent_ms);
}

void dedup_add(struct core *core, struct queue *queue, const struct dedup_search *search,
               const uint8_t message_id[UUID_BYTES], uint64_t seq)
{
    struct dedups *d = &queue->dedups;
    struct dedup what = {
        .seq = seq, .sent_ms = core->now_ms, .key = slice_make(search->bytes, search->length)};
    memcpy(what.message_id, message_id, UUID_BYTES);
    bool first = d->count == 0 || search->found;
    if (search->found)
        drop_at(d, search->hash, search->place);
    put(d, search->hash_key, search->hash, &what);
    if (first)
        queue_chores_follow(core, queue);
}

bool dedup_next(const struct dedups *d, struct dedup_walk *walk, struct dedup *out)
{
    if (d->count == 0)
        return false;
    if (!walk->begun) {
        walk->begun = true;
        walk->chunk = d->first;
        walk->offset = d->front;
    }
    for (;;) {
        const struct dedup_chunk *chunk = d->chunks[walk->chunk];
        if (walk->offset == chunk->used) {
            if (walk->chunk == d->last)
                return false;
            walk->chunk = chunk->next;
            walk->offset = 0;
            continue;
        }
        const uint8_t *entry = chunk->bytes + walk->offset;
        if (!dedup_entry_is_gap(entry)) {
            walk->offset += dedup_entry_read(entry, &chunk->base, out, walk->key);
            return true;
        }
        walk->offset += dedup_entry_bytes(entry);
    }
}

/* The place of the oldest; there is one. */
static uint32_t oldest(const struct dedups *d)
{
    return place_make(d->first, d->front);
}

void dedup_drop_oldest(struct dedups *d)
{
    uint8_t key[DEDUP_KEY_BYTES_MAX];
    struct dedup entry;
    read_at(d, oldest(d), &entry, key);
    drop_at(d, hash_of(d->hash_key, entry.key), oldest(d));
}

void dedup_sweep(struct core *core, struct queue *queue)
{
    struct dedups *d = &queue->dedups;
    while (d->count > 0 && is_past(core, sent_ms_at(d, oldest(d))))
        dedup_drop_oldest(d);
}

uint64_t dedup_due_ms(const struct queue *queue)
{
    const struct dedups *d = &queue->dedups;
    return d->count > 0 ? sent_ms_at(d, oldest(d)) + DEDUP_WINDOW_MS + DEDUP_SLACK_MS : UINT64_MAX;
}
