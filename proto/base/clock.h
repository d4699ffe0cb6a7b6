/* SPDX-License-Identifier: Apache-2.0 */
/* The only file that reads clocks and the system's random source. broker/core must not include it:
 * time and random bits reach the core in commands. */
#ifndef PROTO_BASE_CLOCK_H
#define PROTO_BASE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* clock_now_ms: milliseconds since the epoch. thread: any. */
uint64_t clock_now_ms(void);

/* clock_monotonic_ns: for measuring spans; never goes back. thread: any. */
uint64_t clock_monotonic_ns(void);

/* clock_steady_ms: never goes back, and goes on while the machine sleeps; since some start. For
 * spans that others may rely on. thread: any. */
uint64_t clock_steady_ms(void);

/* clock_boot_id: of this start of the machine, for as long as clock_steady_ms counts from the same
 * point; false: the system does not tell. thread: any. */
#define BOOT_ID_BYTES 36
bool clock_boot_id(char out[BOOT_ID_BYTES]);

/* clock_random: fill with bytes from the kernel; aborts if there are none. thread: any. */
void clock_random(void *out, size_t length);

#endif
