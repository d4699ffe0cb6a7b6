/* SPDX-License-Identifier: Apache-2.0 */
/* A bump allocator for one call: everything a request creates, freed at once. */
#ifndef PROTO_BASE_ARENA_H
#define PROTO_BASE_ARENA_H

#include "proto/base/slice.h"

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first; zero-initialise to begin */
};

/* arena_begin_small: little will be in this empty arena, for long: its first block is a small one.
 */
void arena_begin_small(struct arena *arena);

/* arena_alloc: `bytes` zeroed bytes, aligned for any object, valid until arena_free. Never NULL. */
void *arena_alloc(struct arena *arena, size_t bytes);

/* arena_copy: a copy of `s`, followed by a NUL that is not counted. */
struct slice arena_copy(struct arena *arena, struct slice s);

/* arena_text: the same copy as a C string. */
const char *arena_text(struct arena *arena, struct slice s);

/* arena_printf: a formatted C string in the arena. */
const char *arena_printf(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* arena_free: release everything and zero the struct. */
void arena_free(struct arena *arena);

#endif
