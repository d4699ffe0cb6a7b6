/* SPDX-License-Identifier: Apache-2.0 */
/* What this node alone has counted of each queue since it started, for /metrics: what never gets to
 * the core, and what the core has no use for. thread: loop. */
#ifndef BROKER_API_QUEUE_COUNTS_H
#define BROKER_API_QUEUE_COUNTS_H

#include <stdbool.h>
#include <stdint.h>

struct queue_counts {
    uint64_t sent;           /* messages that clients sent here */
    uint64_t sent_bytes;     /* bodies and attributes of them */
    uint64_t empty_receives; /* calls of ReceiveMessage that were answered without a message */
};

struct queue_counters;

struct queue_counters *queue_counters_new(void);
void queue_counters_free(struct queue_counters *counters);

/* queue_counters_of: the counts of a queue, to add to; valid until the next call. Those of queues
 * of which `exists` says that they are no more are forgotten now and then, so that queues that come
 * and go cost no memory. */
typedef bool (*queue_exists_fn)(const void *data, uint64_t queue_id);
struct queue_counts *queue_counters_of(struct queue_counters *counters, queue_exists_fn exists,
                                       const void *data, uint64_t queue_id);

/* queue_counters_get: zeros for a queue of which nothing was counted. */
struct queue_counts queue_counters_get(const struct queue_counters *counters, uint64_t queue_id);

#endif
