/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base/arena.h"

#include "proto/base/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCK_BYTES 4096
#define ALIGNMENT   16

struct arena_block {
    struct arena_block *next;
    size_t used;
    size_t capacity;
    _Alignas(ALIGNMENT) uint8_t bytes[];
};

static struct arena_block *block_new(struct arena *arena, size_t bytes)
{
    size_t capacity = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
    struct arena_block *block = malloc(sizeof *block + capacity);
    ASSERT(block != NULL);
    *block = (struct arena_block){.next = arena->blocks, .capacity = capacity};
    arena->blocks = block;
    return block;
}

/* take: the memory, whatever is in it. */
static void *take(struct arena *arena, size_t bytes)
{
    size_t rounded;
    ASSERT(!__builtin_add_overflow(bytes, (size_t)(ALIGNMENT - 1), &rounded));
    rounded &= ~(size_t)(ALIGNMENT - 1);
    struct arena_block *block = arena->blocks;
    if (block == NULL || block->capacity - block->used < rounded)
        block = block_new(arena, rounded);
    void *result = block->bytes + block->used;
    block->used += rounded;
    return result;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    return memset(take(arena, bytes), 0, bytes);
}

struct slice arena_copy(struct arena *arena, struct slice s)
{
    uint8_t *copy = take(arena, s.length + 1);
    if (s.length > 0)
        memcpy(copy, s.data, s.length);
    copy[s.length] = 0;
    return slice_make(copy, s.length);
}

const char *arena_text(struct arena *arena, struct slice s)
{
    return (const char *)arena_copy(arena, s).data;
}

const char *arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args;
    va_list again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    ASSERT(length >= 0);
    char *text = arena_alloc(arena, (size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

void arena_free(struct arena *arena)
{
    while (arena->blocks != NULL) {
        struct arena_block *next = arena->blocks->next;
        free(arena->blocks);
        arena->blocks = next;
    }
}
