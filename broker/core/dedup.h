/* SPDX-License-Identifier: Apache-2.0 */
/* What a FIFO queue remembers of sends, so that one sent again is not stored again: by dedup id, in
 * order of time. With an id that is a UUID about 50 bytes each. Private to broker/core.
 * thread: apply. */
#ifndef BROKER_CORE_DEDUP_H
#define BROKER_CORE_DEDUP_H

#include "broker/core/hashes.h"
#include "proto/base/encode.h"
#include "proto/base/siphash.h"
#include "proto/base/slice.h"

#define DEDUP_KEY_BYTES_MAX 257u /* 1 + 2 * RECORD_ID_BYTES_MAX */

struct core;
struct queue;
struct record_ids;
struct send_hashes;

/* One send. The key is borrowed: from a walk, until its next step. */
struct dedup {
    uint64_t seq;
    uint64_t sent_ms;
    uint8_t message_id[UUID_BYTES];
    struct slice key;
};

/* All of a queue; zeros: none. See dedup.c. */
struct dedups {
    struct dedup_chunk **chunks; /* by number; NULL: a free number */
    uint32_t chunk_capacity;
    uint32_t first; /* chunk with the oldest, which stands at `front` in it */
    uint32_t last;
    uint32_t front;
    uint32_t count;
    struct hashes places;        /* by key */
    struct siphash_key hash_key; /* of the keys' hashes */
};

/* A key that is looked for, and what came of it. */
struct dedup_search {
    struct siphash_key hash_key;
    uint32_t hash;
    bool found; /* within the window or not */
    uint32_t place;
    uint32_t length;
    uint8_t bytes[DEDUP_KEY_BYTES_MAX];
};

/* A place on the way through all of them, the oldest first; zeros: before the first. */
struct dedup_walk {
    bool begun;
    uint32_t chunk;
    uint32_t offset;
    uint8_t key[DEDUP_KEY_BYTES_MAX];
};

/* dedup_search_begin: for the ids of `ids`; `hashes` of them, or NULL. dedup_find: what was sent
 * under them within the window, without its key. dedup_add: remember, after dedup_find was false
 * and nothing else was done with the queue's dedup ids. */
void dedup_search_begin(const struct core *core, const struct queue *queue,
                        const struct record_ids *ids, const struct send_hashes *hashes,
                        struct dedup_search *search);
bool dedup_find(const struct core *core, const struct queue *queue, struct dedup_search *search,
                struct dedup *out);
void dedup_add(struct core *core, struct queue *queue, const struct dedup_search *search,
               const uint8_t message_id[UUID_BYTES], uint64_t seq);

/* dedup_put: the same as stored; false unless its key is new. `hash_key`: core_hash_key.
 * dedup_next: false at the end. */
bool dedup_put(struct dedups *dedups, struct siphash_key hash_key, const struct dedup *what);
bool dedup_next(const struct dedups *dedups, struct dedup_walk *walk, struct dedup *out);
/* dedup_hash: what dedup_search_begin makes of them. */
uint32_t dedup_hash(struct siphash_key hash_key, bool per_group, const struct record_ids *ids);

/* dedup_drop_oldest: there is one. dedups_free: all; leaves zeros. */
void dedup_drop_oldest(struct dedups *dedups);
void dedups_free(struct dedups *dedups);

/* dedup_sweep: forget what is past the window. dedup_due_ms: when to; UINT64_MAX: never. */
void dedup_sweep(struct core *core, struct queue *queue);
uint64_t dedup_due_ms(const struct queue *queue);

#endif
