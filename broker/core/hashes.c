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
#include "proto/base/plots.h"

#include <stdlib.h>
#include <string.h>

#define PART_PLACES_MAX 4096u
#define PART_PLACES_MIN 8u
#define DEPTH_MAX       16u /* beyond it parts only grow */
#define PARTS_FEW       16u /* as few are anywhere; the parts of larger tables in plots */

/* All but the places, which are far apart: of a part that is in no cache only the places that are
 * looked at have to be waited for. */
struct hashes_part {
    uint64_t *at;    /* hash in the high half, value + 1 in the low half; 0: empty */
    uint32_t places; /* the homes and some behind them; the last one is always empty */
    uint32_t homes;  /* the places that hashes have their home in */
    uint32_t count;
    uint16_t depth;
    bool in_plot;
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
    const uint64_t *slots = part->at;
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

/* `many`: it is one of many. */
static struct hashes_part part_new(uint32_t depth, uint32_t homes, bool many)
{
    uint32_t places = homes + homes / 32 + PART_PLACES_MIN;
    bool in_plot = many && places * sizeof(uint64_t) <= PLOT_BYTES_MAX;
    uint64_t *at = in_plot ? plot_take(places * sizeof *at) : calloc(places, sizeof *at);
    ASSERT(at != NULL);
    return (struct hashes_part){
        .at = at, .places = places, .homes = homes, .depth = (uint16_t)depth, .in_plot = in_plot};
}

static void part_free(const struct hashes_part *part)
{
    if (part->in_plot)
        plot_give(part->at, part->places * sizeof part->at[0]);
    else
        free(part->at);
}

/* Slots that come in order, the first `count` that are not empty; false: they do not fit. */
static bool part_fill(struct hashes_part *part, const uint64_t *from, uint32_t count)
{
    uint32_t next = 0;
    for (; part->count < count; from++) {
        if (*from == 0)
            continue;
        uint32_t home = home_of(part, slot_hash(*from));
        next = home > next ? home : next;
        if (next + 1 == part->places)
            return false;
        part->at[next++] = *from;
        part->count++;
    }
    return true;
}

/* As large as it takes: where many hashes are close to the end of the part, that may be more. */
static struct hashes_part part_of(uint32_t depth, uint32_t homes, bool many, const uint64_t *from,
                                  uint32_t count)
{
    struct hashes_part part = part_new(depth, homes, many);
    while (!part_fill(&part, from, count)) {
        part_free(&part);
        homes += homes / 4 + PART_PLACES_MIN;
        part = part_new(depth, homes, many);
    }
    return part;
}

/* ---- the table of parts ---- */

static struct hashes_part *part_for(const struct hashes *h, uint32_t hash)
{
    return &h->parts[h->table[first_bits(hash, h->depth)]];
}

static void add_part(struct hashes *h, struct hashes_part part)
{
    if ((h->part_count & (h->part_count - 1)) == 0) {
        uint32_t room = h->part_count > 0 ? 2 * h->part_count : 1;
        h->parts = reallocarray(h->parts, room, sizeof h->parts[0]);
        ASSERT(h->parts != NULL);
    }
    h->parts[h->part_count++] = part;
}

/* Let the part of this number stand for all hashes with as many first bits of `hash` as it has. */
static void set_part(struct hashes *h, uint32_t hash, uint32_t number)
{
    uint32_t depth = h->parts[number].depth;
    uint32_t count = 1u << (h->depth - depth);
    uint32_t first = first_bits(hash, depth) << (h->depth - depth);
    for (uint32_t i = 0; i < count; i++)
        h->table[first + i] = number;
}

static void deepen(struct hashes *h)
{
    uint32_t count = 1u << h->depth;
    uint32_t *table = reallocarray(NULL, count, 2 * sizeof table[0]);
    ASSERT(table != NULL);
    for (uint32_t i = 0; i < count; i++)
        table[2 * i] = table[2 * i + 1] = h->table[i];
    free(h->table);
    h->table = table;
    h->depth++;
}

static void begin(struct hashes *h)
{
    h->table = calloc(1, sizeof h->table[0]);
    ASSERT(h->table != NULL);
    add_part(h, part_new(0, PART_PLACES_MIN, false));
}

static void cut(struct hashes *h, uint32_t hash)
{
    const struct hashes_part part = *part_for(h, hash);
    uint32_t bit = UINT32_C(1) << (31 - part.depth);
    uint32_t middle = (hash & ~(bit - 1)) | bit; /* the first hash of the upper half */
    uint32_t cut_at = place_of(&part, middle);
    uint32_t lower = 0;
    for (uint32_t i = 0; i < cut_at; i++)
        lower += part.at[i] != 0;
    uint32_t upper = part.count - lower;
    uint32_t depth = part.depth + 1;
    if (part.depth == h->depth)
        deepen(h);
    bool many = h->part_count > PARTS_FEW;
    *part_for(h, hash) = part_of(depth, homes_for(lower), many, part.at, lower);
    add_part(h, part_of(depth, homes_for(upper), many, part.at + cut_at, upper));
    set_part(h, middle, h->part_count - 1);
    part_free(&part);
}

static void resize(struct hashes *h, uint32_t hash, uint32_t homes)
{
    struct hashes_part *part = part_for(h, hash);
    struct hashes_part old = *part;
    bool many = h->part_count > PARTS_FEW && homes > PART_PLACES_MAX / 4;
    *part = part_of(old.depth, homes, many, old.at, old.count);
    part_free(&old);
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
    return (struct hashes_walk){part->at + place_of(part, hash), hash};
}

bool hashes_next(struct hashes_walk *walk, uint32_t *value)
{
    if (walk->at == NULL || *walk->at == 0 || slot_hash(*walk->at) != walk->hash)
        return false;
    *value = (uint32_t)*walk->at++ - 1;
    return true;
}

/* The first empty place from `from` on. */
static uint32_t room_from(const struct hashes_part *part, uint32_t from)
{
    while (part->at[from] != 0)
        from++;
    return from;
}

static bool try_add(struct hashes_part *part, uint32_t hash, uint32_t value)
{
    if ((uint64_t)(part->count + 1) * 20 > (uint64_t)part->homes * 17)
        return false;
    uint32_t at = place_of(part, hash);
    uint32_t room = room_from(part, at);
    if (room + 1 == part->places)
        return false;
    memmove(&part->at[at + 1], &part->at[at], (room - at) * sizeof part->at[0]);
    part->at[at] = slot_make(hash, value);
    part->count++;
    return true;
}

void hashes_add(struct hashes *h, uint32_t hash, uint32_t value)
{
    ASSERT(value <= HASHES_VALUE_MAX);
    if (h->parts == NULL)
        begin(h);
    while (!try_add(part_for(h, hash), hash, value))
        grow(h, hash);
}

void hashes_remove(struct hashes *h, uint32_t hash, uint32_t value)
{
    struct hashes_part *part = part_for(h, hash);
    uint64_t *slots = part->at;
    uint32_t at = place_of(part, hash);
    while (slots[at] != slot_make(hash, value)) {
        ASSERT(slot_hash(slots[at]) == hash);
        at++;
    }
    /* Those behind move up, to the first that is at home. */
    for (; slots[at + 1] != 0 && home_of(part, slot_hash(slots[at + 1])) <= at; at++)
        slots[at] = slots[at + 1];
    slots[at] = 0;
    part->count--;
    if (part->homes > 8 * PART_PLACES_MIN && part->count < part->homes / 4)
        resize(h, hash, homes_for(part->count));
}

const void *hashes_place(const struct hashes *h, uint32_t hash)
{
    if (h->parts == NULL)
        return NULL;
    const struct hashes_part *part = part_for(h, hash);
    return &part->at[home_of(part, hash)];
}

void hashes_free(struct hashes *h)
{
    for (uint32_t i = 0; i < h->part_count; i++)
        part_free(&h->parts[i]);
    free(h->parts);
    free(h->table);
    *h = (struct hashes){0};
}

size_t hashes_bytes(const struct hashes *h)
{
    size_t bytes = h->parts != NULL ? sizeof h->table[0] << h->depth : 0;
    for (uint32_t i = 0; i < h->part_count; i++)
        bytes += sizeof h->parts[i] + h->parts[i].places * sizeof h->parts[i].at[0];
    return bytes;
}

static bool part_ordered(const struct hashes *h, const struct hashes_part *part)
{
    uint32_t count = 0;
    uint32_t empty = 0; /* the places behind the last empty one begin here */
    uint64_t last = 0;
    for (uint32_t i = 0; i < part->places; i++) {
        uint64_t slot = part->at[i];
        if (slot == 0) {
            empty = i + 1;
            continue;
        }
        uint32_t home = home_of(part, slot_hash(slot));
        if (slot_hash(slot) < slot_hash(last) || home > i || home < empty || /* I1, I2 */
            part_for(h, slot_hash(slot)) != part)
            return false;
        last = slot;
        count++;
    }
    return count == part->count && part->at[part->places - 1] == 0;
}

bool hashes_ordered(const struct hashes *h, uint32_t *count)
{
    *count = 0;
    for (uint32_t i = 0; i < h->part_count; i++) {
        if (!part_ordered(h, &h->parts[i]))
            return false;
        *count += h->parts[i].count;
    }
    return true;
}
