/* SPDX-License-Identifier: Apache-2.0 */
/* A table of 32-bit values by a 32-bit hash: the index of what stands elsewhere (dedup.c, group.c,
 * queue.c). Several values may share a hash; the caller compares. 8 bytes a place, of which 68 to
 * 85 % are taken; no step of it takes longer than moving 32 KiB. Private to broker/core. thread:
 * apply. */
#ifndef BROKER_CORE_HASHES_H
#define BROKER_CORE_HASHES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HASHES_VALUE_MAX (UINT32_MAX - 1)

/* Zeros: empty. See hashes.c. */
struct hashes {
    struct hashes_part *parts; /* `part_count` of them, room for the next power of two */
    uint32_t *table;           /* 1 << depth numbers of parts */
    uint32_t part_count;
    uint32_t depth;
};

/* A way through the values of one hash. Lasts until the next change. */
struct hashes_walk {
    const uint64_t *at;
    uint32_t hash;
};

/* hashes_begin: before the first value of `hash`. hashes_next: false at the end. */
struct hashes_walk hashes_begin(const struct hashes *hashes, uint32_t hash);
bool hashes_next(struct hashes_walk *walk, uint32_t *value);

/* hashes_add: `value` <= HASHES_VALUE_MAX. hashes_remove: it is there. */
void hashes_add(struct hashes *hashes, uint32_t hash, uint32_t value);
void hashes_remove(struct hashes *hashes, uint32_t hash, uint32_t value);

/* hashes_place: where hashes_begin will look; NULL: nowhere. */
const void *hashes_place(const struct hashes *hashes, uint32_t hash);

/* hashes_free: leaves zeros. hashes_bytes: of memory. hashes_ordered: for checks. */
void hashes_free(struct hashes *hashes);
size_t hashes_bytes(const struct hashes *hashes);
bool hashes_ordered(const struct hashes *hashes, uint32_t *count);

#endif
