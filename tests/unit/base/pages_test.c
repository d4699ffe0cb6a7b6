/* SPDX-License-Identifier: Apache-2.0 */
/* Memory in huge pages: aligned, zero, writable to its ends, and given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/pages.h"

#include <errno.h>
#include <sys/mman.h>

static void test_aligned_and_zero(void **state)
{
    (void)state;
    for (size_t units = 1; units <= 3; units++) {
        size_t bytes = units * PAGES_UNIT;
        uint8_t *pages = pages_take(bytes);
        assert_int_equal((uintptr_t)pages % PAGES_UNIT, 0);
        assert_int_equal(pages[0] | pages[bytes / 2] | pages[bytes - 1], 0);
        pages[0] = pages[bytes - 1] = 1;
        pages_give(pages, bytes);
        unsigned char in_core;
        assert_int_equal(mincore(pages, 1, &in_core), -1);
        assert_int_equal(errno, ENOMEM); /* nothing is mapped there any more */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_aligned_and_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
