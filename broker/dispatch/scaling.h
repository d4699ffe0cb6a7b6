/* SPDX-License-Identifier: Apache-2.0 */
/* The control law: how many batches of one event source should run at once. Pure arithmetic on what
 * it is told; it reads no clock. Soft state: lost with the process, found again within seconds.
 * thread: any. */
#ifndef BROKER_DISPATCH_SCALING_H
#define BROKER_DISPATCH_SCALING_H

#include <stdint.h>

/* Zero-initialise through scaling_init. */
struct scaling {
    double arrivals_per_s; /* smoothed over SCALING_ARRIVALS_S seconds */
    double duration_s;     /* smoothed: how long a batch occupies an environment */
    double fill;           /* smoothed: messages in a batch */
    uint64_t updated_ms;   /* 0: never */
    uint64_t sent_total;
    uint64_t panic_until_ms;
    uint32_t target;
};

struct scaling_input {
    uint64_t now_ms;          /* any clock that does not go back; > 0 */
    uint64_t visible;         /* messages that could be leased now */
    uint64_t oldest_age_ms;   /* of the messages present */
    uint64_t sent_total;      /* messages ever sent to the queue */
    uint32_t running;         /* batches leased or being leased */
    uint32_t batch_size;      /* 1.. */
    uint32_t concurrency_max; /* 0: none */
};

void scaling_init(struct scaling *scaling, uint32_t batch_size);

/* scaling_batch_done: learn from one batch that ended. */
void scaling_batch_done(struct scaling *scaling, double duration_s, uint32_t messages);

/* scaling_target: the number of batches that should be running, from 0. Never more than what is
 * running and what the visible messages would fill, nor more than concurrency_max. */
uint32_t scaling_target(struct scaling *scaling, const struct scaling_input *input);

#endif
