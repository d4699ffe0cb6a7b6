/* SPDX-License-Identifier: Apache-2.0 */
/* What a FIFO queue remembers of sends, so that one sent again is not stored again: by dedup id, in
 * order of time. About 50 bytes and the id each. Private to broker/core. thread: apply. */
#ifndef BROKER_CORE_DEDUP_H
#define BROKER_CORE_DEDUP_H

#include "proto/base/encode.h"
#include "proto/base/slice.h"

struct core;
struct queue;
struct record_ids;

/* One send. The key is borrowed until the next change. */
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
    uint64_t *slots; /* the table of keys */
    uint64_t seed;   /* of their hashes */
    uint32_t capacity;
    uint32_t count;
};

/* A place on the way through all of them, the oldest first; zeros: before the first. */
struct dedup_walk {
    bool begun;
    uint32_t chunk;
    uint32_t offset;
};

/* dedup_find: what was sent under the ids of `ids` within the window. dedup_add: remember.
 * dedup_put: the same as stored; false unless its key is new. `seed`: dedup_seed. dedup_next: false
 * at the end. */
bool dedup_find(const struct core *core, const struct queue *queue, const struct record_ids *ids,
                struct dedup *out);
void dedup_add(struct core *core, struct queue *queue, const struct record_ids *ids, uint64_t seq);
bool dedup_put(struct dedups *dedups, uint64_t seed, const struct dedup *what);
uint64_t dedup_seed(const struct core *core);
bool dedup_next(const struct dedups *dedups, struct dedup_walk *walk, struct dedup *out);
/* dedup_place: where dedup_find will look; NULL: nowhere. */
const void *dedup_place(const struct queue *queue, const struct record_ids *ids);

/* dedup_drop_oldest: there is one. dedups_free: all; leaves zeros. */
void dedup_drop_oldest(struct dedups *dedups);
void dedups_free(struct dedups *dedups);

/* dedup_sweep: forget what is past the window. dedup_due_ms: when to; UINT64_MAX: never. */
void dedup_sweep(struct core *core, struct queue *queue);
uint64_t dedup_due_ms(const struct queue *queue);

#endif
