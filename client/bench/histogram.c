/* SPDX-License-Identifier: Apache-2.0 */
/* Bucket of a value: below 128 the value itself; above, its 8 highest bits and how far they were
 * shifted. The value that is reported is the upper end of the bucket, so no latency is understated.
 */
#include "client/bench/histogram.h"

#define SUB_COUNT (UINT64_C(1) << HISTOGRAM_SUB_BITS)

static unsigned bucket_of(uint64_t value)
{
    if (value < SUB_COUNT)
        return (unsigned)value;
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
    return (unsigned)((shift << HISTOGRAM_SUB_BITS) + (value >> shift));
}

static uint64_t bucket_end(unsigned bucket)
{
    if (bucket < SUB_COUNT)
        return bucket;
    unsigned shift = (bucket >> HISTOGRAM_SUB_BITS) - 1;
    uint64_t high = bucket - ((uint64_t)shift << HISTOGRAM_SUB_BITS);
    return ((high + 1) << shift) - 1;
}

void histogram_add(struct histogram *h, uint64_t value_us)
{
    unsigned bucket = bucket_of(value_us);
    h->counts[bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1]++;
    h->total++;
    if (value_us > h->max)
        h->max = value_us;
}

uint64_t histogram_at(const struct histogram *h, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)h->total + 0.5);
    uint64_t seen = 0;
    if (h->total == 0)
        return 0;
    if (wanted == 0)
        wanted = 1;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->counts[i];
        if (seen >= wanted)
            return bucket_end(i) < h->max ? bucket_end(i) : h->max;
    }
    return h->max;
}
