/* SPDX-License-Identifier: Apache-2.0 */
/* Huge pages need an address that is a multiple of their size: one unit more than asked for is
 * mapped, and what lies before and behind the aligned part goes back. */
#include "proto/base/pages.h"

#include "proto/base/assert.h"

#include <stdint.h>
#include <sys/mman.h>

static void trim(uint8_t *begin, uint8_t *end)
{
    if (begin < end)
        munmap(begin, (size_t)(end - begin));
}

void *pages_take(size_t bytes)
{
    ASSERT(bytes > 0 && bytes % PAGES_UNIT == 0);
    uint8_t *mapped =
        mmap(NULL, bytes + PAGES_UNIT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT(mapped != MAP_FAILED);
    uint8_t *pages = mapped + (PAGES_UNIT - (uintptr_t)mapped % PAGES_UNIT) % PAGES_UNIT;
    trim(mapped, pages);
    trim(pages + bytes, mapped + bytes + PAGES_UNIT);
    madvise(pages, bytes, MADV_HUGEPAGE); /* where it is refused, pages are small */
    return pages;
}

void pages_give(void *pages, size_t bytes)
{
    trim(pages, (uint8_t *)pages + bytes);
}
