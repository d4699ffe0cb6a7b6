/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing in which the places are in the order of the hashes: a hash's home is its share of
 * the table, and what does not fit there stands behind it, moved along so that the order stays.
 *
 *   I1  the taken places are in order of hash
 *   I2  between a hash's home and its place no place is empty
 *
 * So a look-up ends at the first place that is empty or has a larger hash, which makes it short
 * also where few places are empty; and a larger table is made by one walk through the smaller one,
 * from front to back in both, so that growing by a quarter at a time costs little.
 *
 * The table is made of parts. A part has all hashes with some first bits, as many as its depth; a
 * table of parts by their first bits finds it (extendible hashing). A part that has grown to
 * PART_PLACES_MAX is cut in the middle, so no step moves more than one part, whatever the table
 * holds. Parts are never joined; a part that empties gets smaller. */
#include "broker/core/hashes.h"

#include "proto/base/assert.h"

#include <stdlib.h>
#include <string.h>

#define PART_PLACES_MAX 4096u
#define PART_PLACES_MIN 8u
#define DEPTH_MAX       16u /* beyond it parts only grow */

/* What a look-up has to know before it reaches the slots: small, and close to its neighbours. */
struct hashes_part {
    struct slots *slots;
    uint32_t homes; /* the places that hashes have their home in */
    uint32_t depth;
};

struct slots {
    uint32_t count;
    uint32_t places; /* the homes and some behind them; the last one is always empty */
    uint64_t at[];   /* hash in the high half, value + 1 in the low half; 0: empty */
};

static uint64_t slot_make(uint32_t hash, uint32_t value)
{
    return (uint64_t)hash << 32 | (value + 1);
}

static uint32_t slot_hash(uint64_t slot)
{
    return (uint32_t)(slot >> 32);
}

/* The first `depth` bits of a hash. */
static uint32_t first_bits(uint32_t hash, uint32_t depth)
{
    return (uint32_t)((uint64_t)hash << depth >> 32);
}

static uint32_t home_of(const struct hashes_part *part, uint32_t hash)
{
    return (uint32_t)((uint64_t)(hash << part->depth) * part->homes >> 32);
}

/* The first place from the home of `hash` on that does not belong to a smaller one. */
static uint32_t place_of(const struct hashes_part *part, uint32_t hash)
{
    const uint64_t *slots = part->slots->at;
    uint32_t at = home_of(part, hash);
    while (slots[at] != 0 && slot_hash(slots[at]) < hash)
        at++;
    return at;
}

/* ---- parts ---- */

static uint32_t homes_for(uint32_t count)
{
    uint32_t homes = count + count / 2;
    return homes < PART_PLACES_MIN ? PART_PLACES_MIN : homes;
}

static struct hashes_part part_new(uint32_t depth, uint32_t homes)
{
    uint32_t places = homes + homes / 32 + PART_PLACES_MIN;
    struct slots *slots = calloc(1, sizeof *slots + places * sizeof slots->at[0]);
    ASSERT(slots != NULL);
    slots->places = places;
    return (struct hashes_part){slots, homes, depth};
}

/* Slots that come in order, the first `count` that are not empty; false: they do not fit. */
static bool part_fill(struct hashes_part part, const uint64_t *from, uint32_t count)
{
    struct slots *slots = part.slots;
    uint32_t next = 0;
    for (; slots->count < count; from++) {
        if (*from == 0)
            continue;
        uint32_t home = home_of(&part, slot_hash(*from));
        next = home > next ? home : next;
        if (next + 1 == slots->places)
            return false;
        slots->at[next++] = *from;
        slots->count++;
    }
    return true;
}

/* As large as it takes: where many hashes are close to the end of the part, that may be more. */
static struct hashes_part part_of(uint32_t depth, uint32_t homes, const uint64_t *from,
                                  uint32_t count)
{
    struct hashes_part part = part_new(depth, homes);
    while (!part_fill(part, from, count)) {
        free(part.slots);
        homes += homes / 4 + PART_PLACES_MIN;
        part = part_new(depth, homes);
    }
    return part;
}

/* ---- the table of parts ---- */

static const struct hashes_part *part_for(const struct hashes *h, uint32_t hash)
{
    return &h->parts[first_bits(hash, h->depth)];
}

/* Let `part` stand for all hashes with the first `depth` bits of `hash`. */
static void set_part(struct hashes *h, uint32_t hash, struct hashes_part part)
{
    uint32_t count = 1u << (h->depth - part.depth);
    uint32_t first = first_bits(hash, part.depth) << (h->depth - part.depth);
    for (uint32_t i = 0; i < count; i++)
        h->parts[first + i] = part;
}

static void deepen(struct hashes *h)
{
    uint32_t count = 1u << h->depth;
    struct hashes_part *parts = reallocarray(NULL, count, 2 * sizeof parts[0]);
    ASSERT(parts != NULL);
    for (uint32_t i = 0; i < count; i++)
        parts[2 * i] = parts[2 * i + 1] = h->parts[i];
    free(h->parts);
    h->parts = parts;
    h->depth++;
}

static void cut(struct hashes *h, uint32_t hash)
{
    const struct hashes_part part = *part_for(h, hash);
    uint32_t bit = UINT32_C(1) << (31 - part.depth);
    uint32_t middle = (hash & ~(bit - 1)) | bit; /* the first hash of the upper half */
    uint32_t cut_at = place_of(&part, middle);
    uint32_t lower = 0;
    for (uint32_t i = 0; i < cut_at; i++)
        lower += part.slots->at[i] != 0;
    uint32_t upper = part.slots->count - lower;
    uint32_t depth = part.depth + 1;
    if (part.depth == h->depth)
        deepen(h);
    set_part(h, middle - bit, part_of(depth, homes_for(lower), part.slots->at, lower));
    set_part(h, middle, part_of(depth, homes_for(upper), part.slots->at + cut_at, upper));
    free(part.slots);
}

static void resize(struct hashes *h, uint32_t hash, uint32_t homes)
{
    const struct hashes_part old = *part_for(h, hash);
    set_part(h, hash, part_of(old.depth, homes, old.slots->at, old.slots->count));
    free(old.slots);
}

static void grow(struct hashes *h, uint32_t hash)
{
    const struct hashes_part *part = part_for(h, hash);
    uint32_t homes = part->homes + part->homes / 4 + 1;
    if (homes > PART_PLACES_MAX && part->depth < DEPTH_MAX)
        cut(h, hash);
    else
        resize(h, hash, homes);
}

/* ---- what callers see ---- */

struct hashes_walk hashes_begin(const struct hashes *h, uint32_t hash)
{
    if (h->parts == NULL)
        return (struct hashes_walk){NULL, hash};
    const struct hashes_part *part = part_for(h, hash);
    return (struct hashes_walk){part->slots->at + place_of(part, hash), hash};
}

bool hashes_next(struct hashes_walk *walk, uint32_t *value)
{
    if (walk->at == NULL || *walk->at == 0 || slot_hash(*walk->at) != walk->hash)
        return false;
    *value = (uint32_t)*walk->at++ - 1;
    return true;
}

/* The first empty place from `from` on. */
static uint32_t room_from(const struct slots *slots, uint32_t from)
{
    while (slots->at[from] != 0)
        from++;
    return from;
}

static bool try_add(const struct hashes_part *part, uint32_t hash, uint32_t value)
{
    struct slots *slots = part->slots;
    uint32_t at = place_of(part, hash);
    uint32_t room = room_from(slots, at);
    if (room + 1 == slots->places || (uint64_t)(slots->count + 1) * 20 > (uint64_t)part->homes * 17)
        return false;
    memmove(&slots->at[at + 1], &slots->at[at], (room - at) * sizeof slots->at[0]);
    slots->at[at] = slot_make(hash, value);
    slots->count++;
    return true;
}

void hashes_add(struct hashes *h, uint32_t hash, uint32_t value)
{
    ASSERT(value <= HASHES_VALUE_MAX);
    if (h->parts == NULL) {
        h->parts = malloc(sizeof h->parts[0]);
        ASSERT(h->parts != NULL);
        h->parts[0] = part_new(0, PART_PLACES_MIN);
    }
    while (!try_add(part_for(h, hash), hash, value))
        grow(h, hash);
}

void hashes_remove(struct hashes *h, uint32_t hash, uint32_t value)
{
    const struct hashes_part *part = part_for(h, hash);
    struct slots *slots = part->slots;
    uint32_t at = place_of(part, hash);
    while (slots->at[at] != slot_make(hash, value)) {
        ASSERT(slot_hash(slots->at[at]) == hash);
        at++;
    }
    /* Those behind move up, to the first that is at home. */
    for (; slots->at[at + 1] != 0 && home_of(part, slot_hash(slots->at[at + 1])) <= at; at++)
        slots->at[at] = slots->at[at + 1];
    slots->at[at] = 0;
    slots->count--;
    if (part->homes > 8 * PART_PLACES_MIN && slots->count < part->homes / 4)
        resize(h, hash, homes_for(slots->count));
}

const void *hashes_place(const struct hashes *h, uint32_t hash)
{
    if (h->parts == NULL)
        return NULL;
    const struct hashes_part *part = part_for(h, hash);
    return &part->slots->at[home_of(part, hash)];
}

/* The parts, each once; NULL at the end. */
static const struct hashes_part *next_part(const struct hashes *h, uint32_t *at)
{
    if (h->parts == NULL || *at >= 1u << h->depth)
        return NULL;
    const struct hashes_part *part = &h->parts[*at];
    *at += 1u << (h->depth - part->depth);
    return part;
}

void hashes_free(struct hashes *h)
{
    uint32_t at = 0;
    for (const struct hashes_part *part; (part = next_part(h, &at)) != NULL;)
        free(part->slots);
    free(h->parts);
    *h = (struct hashes){0};
}

size_t hashes_bytes(const struct hashes *h)
{
    size_t bytes = h->parts != NULL ? sizeof h->parts[0] << h->depth : 0;
    uint32_t at = 0;
    for (const struct hashes_part *part; (part = next_part(h, &at)) != NULL;)
        bytes += sizeof *part->slots + part->slots->places * sizeof part->slots->at[0];
    return bytes;
}

static bool part_ordered(const struct hashes *h, const struct hashes_part *part)
{
    const struct slots *slots = part->slots;
    uint32_t count = 0;
    uint32_t empty = 0; /* the places behind the last empty one begin here */
    uint64_t last = 0;
    for (uint32_t i = 0; i < slots->places; i++) {
        uint64_t slot = slots->at[i];
        if (slot == 0) {
            empty = i + 1;
            continue;
        }
        uint32_t home = home_of(part, slot_hash(slot));
        if (slot_hash(slot) < slot_hash(last) || home > i || home < empty || /* I1, I2 */
            part_for(h, slot_hash(slot))->slots != slots)
            return false;
        last = slot;
        count++;
    }
    return count == slots->count && slots->at[slots->places - 1] == 0;
}

bool hashes_ordered(const struct hashes *h, uint32_t *count)
{
    uint32_t at = 0;
    *count = 0;
    for (const struct hashes_part *part; (part = next_part(h, &at)) != NULL;) {
        if (!part_ordered(h, part))
            return false;
        *count += part->slots->count;
    }
    return true;
}
