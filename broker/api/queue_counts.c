/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/api/queue_counts.h"

#include "proto/base/assert.h"

#include <stdlib.h>
#include <uthash.h>

#define SWEEP_ABOVE_MIN 1024u

struct row {
    uint64_t queue_id;
    struct queue_counts counts;
    UT_hash_handle hh;
};

struct queue_counters {
    struct row *rows;
    unsigned sweep_above; /* as many rows make queue_counters_of look for deleted queues */
};

struct queue_counters *queue_counters_new(void)
{
    struct queue_counters *counters = calloc(1, sizeof *counters);
    ASSERT(counters != NULL);
    counters->sweep_above = SWEEP_ABOVE_MIN;
    return counters;
}

static void drop(struct queue_counters *counters, struct row *row)
{
    HASH_DEL(counters->rows, row);
    free(row);
}

void queue_counters_free(struct queue_counters *counters)
{
    struct row *row;
    struct row *next;
    HASH_ITER(hh, counters->rows, row, next)
    drop(counters, row);
    free(counters);
}

static void sweep(struct queue_counters *counters, queue_exists_fn exists, const void *data)
{
    struct row *row;
    struct row *next;
    HASH_ITER(hh, counters->rows, row, next)
    {
        if (!exists(data, row->queue_id))
            drop(counters, row);
    }
    unsigned twice = 2 * HASH_COUNT(counters->rows);
    counters->sweep_above = twice > SWEEP_ABOVE_MIN ? twice : SWEEP_ABOVE_MIN;
}

static struct row *find(const struct queue_counters *counters, uint64_t queue_id)
{
    struct row *row;
    HASH_FIND(hh, counters->rows, &queue_id, sizeof queue_id, row);
    return row;
}

struct queue_counts *queue_counters_of(struct queue_counters *counters, queue_exists_fn exists,
                                       const void *data, uint64_t queue_id)
{
    struct row *row = find(counters, queue_id);
    if (row != NULL)
        return &row->counts;
    if (HASH_COUNT(counters->rows) >= counters->sweep_above)
        sweep(counters, exists, data);
    row = calloc(1, sizeof *row);
    ASSERT(row != NULL);
    row->queue_id = queue_id;
    HASH_ADD(hh, counters->rows, queue_id, sizeof row->queue_id, row);
    return &row->counts;
}

struct queue_counts queue_counters_get(const struct queue_counters *counters, uint64_t queue_id)
{
    const struct row *row = find(counters, queue_id);
    return row != NULL ? row->counts : (struct queue_counts){0};
}
