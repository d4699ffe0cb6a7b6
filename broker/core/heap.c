/* SPDX-License-Identifier: Apache-2.0 */
/* The heap of deadlines, and of messages out of order. Entries carry their key, so that sifting
 * touches the heap's own memory and not the items'. */
#include "broker/core/heap.h"

#include "proto/base/assert.h"

#include <stdlib.h>

#define CAPACITY_MIN 4 /* a FIFO queue has a heap, with as few groups as it has */

void heap_init(struct heap *heap, heap_moved_fn moved, void *data)
{
    *heap = (struct heap){.moved = moved, .data = data};
}

void heap_deinit(struct heap *heap)
{
    free(heap->entries);
    *heap = (struct heap){0};
}

static bool less(const struct heap_entry *a, const struct heap_entry *b)
{
    return a->key != b->key ? a->key < b->key : a->tie < b->tie;
}

static void place(struct heap *heap, uint32_t position, struct heap_entry entry)
{
    heap->entries[position] = entry;
    heap->moved(heap->data, entry.item, position);
}

static void sift_up(struct heap *heap, uint32_t position, struct heap_entry entry)
{
    while (position > 0) {
        uint32_t parent = (position - 1) / 2;
        if (!less(&entry, &heap->entries[parent]))
            break;
        place(heap, position, heap->entries[parent]);
        position = parent;
    }
    place(heap, position, entry);
}

static void sift_down(struct heap *heap, uint32_t position, struct heap_entry entry)
{
    for (;;) {
        uint64_t child = (uint64_t)position * 2 + 1;
        if (child >= heap->count)
            break;
        if (child + 1 < heap->count && less(&heap->entries[child + 1], &heap->entries[child]))
            child++;
        if (!less(&heap->entries[child], &entry))
            break;
        place(heap, position, heap->entries[child]);
        position = (uint32_t)child;
    }
    place(heap, position, entry);
}

/* Put `entry` where the entry at `position` was. */
static void sift(struct heap *heap, uint32_t position, struct heap_entry entry)
{
    if (position > 0 && less(&entry, &heap->entries[(position - 1) / 2]))
        sift_up(heap, position, entry);
    else
        sift_down(heap, position, entry);
}

static void grow(struct heap *heap)
{
    ASSERT(heap->capacity <= UINT32_MAX / 2);
    heap->capacity = heap->capacity < CAPACITY_MIN ? CAPACITY_MIN : heap->capacity * 2;
    heap->entries = realloc(heap->entries, heap->capacity * sizeof heap->entries[0]);
    ASSERT(heap->entries != NULL);
}

void heap_push(struct heap *heap, uint64_t key, uint32_t tie, uint32_t item)
{
    if (heap->count == heap->capacity)
        grow(heap);
    sift_up(heap, heap->count++, (struct heap_entry){key, tie, item});
}

void heap_remove(struct heap *heap, uint32_t position)
{
    ASSERT(position < heap->count);
    struct heap_entry last = heap->entries[--heap->count];
    if (position < heap->count)
        sift(heap, position, last);
}

void heap_set_key(struct heap *heap, uint32_t position, uint64_t key)
{
    ASSERT(position < heap->count);
    struct heap_entry entry = heap->entries[position];
    entry.key = key;
    sift(heap, position, entry);
}

bool heap_ordered(const struct heap *heap)
{
    for (uint32_t i = 1; i < heap->count; i++) {
        if (less(&heap->entries[i], &heap->entries[(i - 1) / 2]))
            return false;
    }
    return true;
}
