/* SPDX-License-Identifier: Apache-2.0 */
/* A histogram of times with constant relative error, after HdrHistogram: buckets are powers of two,
 * each divided into 128, so a value is known to within 0.8 %, from 1 us to hours, in a fixed 28
 * KiB. thread: any, one at a time. */
#ifndef CLIENT_BENCH_HISTOGRAM_H
#define CLIENT_BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 7
#define HISTOGRAM_GROUPS   28 /* the largest value is 2^34 us, five hours */
#define HISTOGRAM_BUCKETS  (HISTOGRAM_GROUPS << HISTOGRAM_SUB_BITS)

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t total;
    uint64_t max;
};

/* histogram_add: one value; what is too large counts as the largest. */
void histogram_add(struct histogram *h, uint64_t value_us);

/* histogram_at: the value that a share of 0..1 of all values do not exceed; 0 when there are none.
 */
uint64_t histogram_at(const struct histogram *h, double share);

#endif
