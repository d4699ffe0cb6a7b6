/* SPDX-License-Identifier: Apache-2.0 */
/* With -Wl,--wrap=clock_random,--wrap=clock_steady_ms: 32 random bits are always the same, so that
 * an election timer runs for 999 ms (500 + 499) and the short one of a leader that has gone for 129
 * ms (20 + 109). on_clock is called where the steady clock is read: the first thing that is done
 * with an append. */
#ifndef TESTS_UNIT_REPLICATION_FIXED_RANDOM_H
#define TESTS_UNIT_REPLICATION_FIXED_RANDOM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

void __real_clock_random(void *out, size_t length); /* NOLINT: the linker's name */
void __wrap_clock_random(void *out, size_t length); /* NOLINT */

void __wrap_clock_random(void *out, size_t length)
{
    uint32_t bits = 499;
    if (length == sizeof bits)
        memcpy(out, &bits, sizeof bits);
    else
        __real_clock_random(out, length);
}

uint64_t __real_clock_steady_ms(void); /* NOLINT */
uint64_t __wrap_clock_steady_ms(void); /* NOLINT */
static void (*on_clock)(void);

uint64_t __wrap_clock_steady_ms(void)
{
    if (on_clock != NULL)
        on_clock();
    return __real_clock_steady_ms();
}

#endif
