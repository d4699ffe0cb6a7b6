/* SPDX-License-Identifier: Apache-2.0 */
/* A table with open addressing, since every send looks its queue up: with many queues one access to
 * memory, not a chain of them. A row is never taken out by itself: when the table is full, those of
 * queues that are gone stay behind in the making of the next one. */
#include "broker/api/queue_counts.h"

#include "proto/base/assert.h"

#include <stdlib.h>

#define BITS_MIN 6u

struct row {
    uint64_t queue_id; /* 0: free; queues are numbered from 1 */
    struct queue_counts counts;
};

struct queue_counters {
    struct row *rows;
    unsigned bits; /* 1 << bits rows */
    size_t used;   /* three quarters of them at most */
};

static void rows_new(struct queue_counters *counters, unsigned bits)
{
    counters->rows = calloc((size_t)1 << bits, sizeof counters->rows[0]);
    ASSERT(counters->rows != NULL);
    counters->bits = bits;
    counters->used = 0;
}

struct queue_counters *queue_counters_new(void)
{
    struct queue_counters *counters = calloc(1, sizeof *counters);
    ASSERT(counters != NULL);
    rows_new(counters, BITS_MIN);
    return counters;
}

void queue_counters_free(struct queue_counters *counters)
{
    free(counters->rows);
    free(counters);
}

/* The queue's row, or the free one that would be it. */
static struct row *place_of(const struct queue_counters *counters, uint64_t queue_id)
{
    size_t mask = ((size_t)1 << counters->bits) - 1;
    size_t at = (size_t)(queue_id * UINT64_C(0x9e3779b97f4a7c15) >> (64 - counters->bits));
    while (counters->rows[at].queue_id != queue_id && counters->rows[at].queue_id != 0)
        at = (at + 1) & mask;
    return &counters->rows[at];
}

static struct row *take(struct queue_counters *counters, uint64_t queue_id)
{
    struct row *row = place_of(counters, queue_id);
    ASSERT(row->queue_id == 0);
    row->queue_id = queue_id;
    counters->used++;
    return row;
}

/* A new table, at most half full, of the queues that are there. */
static void renew(struct queue_counters *counters, queue_exists_fn exists, const void *data)
{
    struct row *old = counters->rows;
    size_t count = (size_t)1 << counters->bits;
    size_t kept = 0;
    unsigned bits = BITS_MIN;
    for (size_t i = 0; i < count; i++) {
        if (old[i].queue_id != 0 && !exists(data, old[i].queue_id))
            old[i].queue_id = 0;
        kept += old[i].queue_id != 0;
    }
    while ((size_t)1 << bits < 2 * (kept + 1))
        bits++;
    rows_new(counters, bits);
    for (size_t i = 0; i < count; i++) {
        if (old[i].queue_id != 0)
            *take(counters, old[i].queue_id) = old[i];
    }
    free(old);
}

struct queue_counts *queue_counters_of(struct queue_counters *counters, queue_exists_fn exists,
                                       const void *data, uint64_t queue_id)
{
    ASSERT(queue_id != 0);
    struct row *row = place_of(counters, queue_id);
    if (row->queue_id != 0)
        return &row->counts;
    if ((counters->used + 1) * 4 > 3 * ((size_t)1 << counters->bits))
        renew(counters, exists, data);
    return &take(counters, queue_id)->counts;
}

struct queue_counts queue_counters_get(const struct queue_counters *counters, uint64_t queue_id)
{
    const struct row *row = place_of(counters, queue_id);
    return row->queue_id == queue_id ? row->counts : (struct queue_counts){0};
}
