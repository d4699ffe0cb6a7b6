/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base/arena.h"

#include "proto/base/assert.h"
#include "proto/base/blocks.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ALIGNMENT     16
#define PRINTED_BYTES 128u /* mostly; more is printed once more */

struct arena_block {
    struct arena_block *next;
    size_t used;
    size_t capacity;
    _Alignas(ALIGNMENT) uint8_t bytes[];
};

/* `bytes` with the block itself. */
static struct arena_block *block_new(struct arena *arena, size_t bytes)
{
    struct arena_block *block = block_is(bytes) ? block_take(bytes) : malloc(bytes);
    ASSERT(block != NULL);
    *block = (struct arena_block){.next = arena->blocks, .capacity = bytes - sizeof *block};
    arena->blocks = block;
    return block;
}

static struct arena_block *block_for(struct arena *arena, size_t bytes)
{
    size_t usual = BLOCK_BYTES_MAX - sizeof(struct arena_block);
    return block_new(arena, sizeof(struct arena_block) + (bytes > usual ? bytes : usual));
}

void arena_begin_small(struct arena *arena)
{
    ASSERT(arena->blocks == NULL);
    (void)block_new(arena, BLOCK_BYTES_MIN);
}

/* take: the memory, whatever is in it. */
static void *take(struct arena *arena, size_t bytes)
{
    size_t rounded;
    ASSERT(!__builtin_add_overflow(bytes, (size_t)(ALIGNMENT - 1), &rounded));
    rounded &= ~(size_t)(ALIGNMENT - 1);
    struct arena_block *block = arena->blocks;
    if (block == NULL || block->capacity - block->used < rounded)
        block = block_for(arena, rounded);
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
    char few[PRINTED_BYTES];
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(few, sizeof few, format, args);
    va_end(args);
    ASSERT(length >= 0);
    char *text = take(arena, (size_t)length + 1);
    if ((size_t)length < sizeof few)
        memcpy(text, few, (size_t)length + 1);
    else
        vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

void arena_free(struct arena *arena)
{
    while (arena->blocks != NULL) {
        struct arena_block *next = arena->blocks->next;
        size_t bytes = sizeof *next + arena->blocks->capacity;
        if (block_is(bytes))
            block_give(arena->blocks, bytes);
        else
            free(arena->blocks);
        arena->blocks = next;
    }
}
