/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base/blocks.h"

#include "proto/base/assert.h"

#include <stdint.h>
#include <stdlib.h>

#if defined(__has_feature) /* clang's way to say it */
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

#define KEPT_BYTES_MAX (4u << 20) /* of each size */

struct spare {
    struct spare *next;
};

static _Thread_local struct {
    struct spare *first;
    size_t count;
} kept[2];

void *block_take(size_t bytes)
{
    ASSERT(block_is(bytes));
    size_t i = bytes == BLOCK_BYTES_MAX;
    struct spare *spare = kept[i].first;
    if (spare == NULL) {
        spare = malloc(bytes);
        ASSERT(spare != NULL);
        return spare;
    }
    kept[i].first = spare->next;
    kept[i].count--;
    __builtin_prefetch(spare->next, 1); /* mostly cold, and the next to be taken */
    return spare;
}

void block_give(void *block, size_t bytes)
{
    ASSERT(block_is(bytes));
    size_t i = bytes == BLOCK_BYTES_MAX;
#ifdef __SANITIZE_ADDRESS__
    bool full = true;
#else
    bool full = (kept[i].count + 1) * bytes > KEPT_BYTES_MAX;
#endif
    if (full) {
        free(block);
        return;
    }
    struct spare *spare = block;
    spare->next = kept[i].first;
    kept[i].first = spare;
    kept[i].count++;
}
