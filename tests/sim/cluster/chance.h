/* SPDX-License-Identifier: Apache-2.0 */
/* Chance that comes from the seed alone, so that a run can be repeated. */
#ifndef TESTS_SIM_CLUSTER_CHANCE_H
#define TESTS_SIM_CLUSTER_CHANCE_H

#include <stdbool.h>
#include <stdint.h>

struct chance {
    uint64_t state;
};

static inline uint64_t chance_next(struct chance *chance)
{
    uint64_t z = chance->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* chance_below: 0..bound-1; bound > 0. */
static inline uint64_t chance_below(struct chance *chance, uint64_t bound)
{
    return chance_next(chance) % bound;
}

/* chance_between: low..high, both included. */
static inline uint64_t chance_between(struct chance *chance, uint64_t low, uint64_t high)
{
    return low + chance_below(chance, high - low + 1);
}

/* chance_in: true once in `n` times. */
static inline bool chance_in(struct chance *chance, uint64_t n)
{
    return chance_below(chance, n) == 0;
}

/* chance_percent: true with `percent` in 100. */
static inline bool chance_percent(struct chance *chance, uint32_t percent)
{
    return chance_below(chance, 100) < percent;
}

#endif
