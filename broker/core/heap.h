/* SPDX-License-Identifier: Apache-2.0 */
/* A binary min-heap of 32-bit items by a 64-bit key, which tells each item where it stands, so that
 * any item can be removed or moved in O(log n). Private to broker/core. thread: apply. */
#ifndef BROKER_CORE_HEAP_H
#define BROKER_CORE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_entry {
    uint64_t key;
    uint32_t tie; /* orders equal keys */
    uint32_t item;
};

/* `item` is at `position` from now on. */
typedef void (*heap_moved_fn)(void *data, uint32_t item, uint32_t position);

struct heap {
    struct heap_entry *entries; /* entries[0] is the least */
    uint32_t count;
    uint32_t capacity;
    heap_moved_fn moved;
    void *data;
};

void heap_init(struct heap *heap, heap_moved_fn moved, void *data);
void heap_deinit(struct heap *heap);

void heap_push(struct heap *heap, uint64_t key, uint32_t tie, uint32_t item);

/* heap_remove, heap_set_key: the entry at `position` < count. */
void heap_remove(struct heap *heap, uint32_t position);
void heap_set_key(struct heap *heap, uint32_t position, uint64_t key);

/* heap_least_key: UINT64_MAX when it is empty. */
static inline uint64_t heap_least_key(const struct heap *heap)
{
    return heap->count > 0 ? heap->entries[0].key : UINT64_MAX;
}

/* heap_ordered: no entry is less than its parent. For checks. */
bool heap_ordered(const struct heap *heap);

#endif
