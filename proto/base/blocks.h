/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks: memory of a size that every request needs, kept by the thread that gave it back for its
 * next one. malloc has no list of its own for such sizes: it searches, splits and joins them, which
 * was a tenth of what a broker did with a message. A block is malloc's, and may be given to realloc
 * or free as well. Nothing is kept under AddressSanitizer, which finds uses after the end. */
#ifndef PROTO_BASE_BLOCKS_H
#define PROTO_BASE_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>

#define BLOCK_BYTES_MIN 2048u
#define BLOCK_BYTES_MAX 4096u

/* block_is: whether blocks of exactly this size are kept. */
static inline bool block_is(size_t bytes)
{
    return bytes == BLOCK_BYTES_MIN || bytes == BLOCK_BYTES_MAX;
}

/* block_take: one of such a size; block_give: it is not needed any more. thread: any; a block may
 * be given by another thread than the one that took it. */
void *block_take(size_t bytes);
void block_give(void *block, size_t bytes);

#endif
