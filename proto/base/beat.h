/* SPDX-License-Identifier: Apache-2.0 */
/* When periodic work of a node is due: all of it at multiples of its period, so that what has the
 * same period, or a multiple of it, shares one turn of the loop and one wake-up. Each node has a
 * phase of its own, since on one machine all nodes share the clock. */
#ifndef PROTO_BASE_BEAT_H
#define PROTO_BASE_BEAT_H

#include <stdint.h>

#define BEAT_PHASE_MS 7u

/* beat_in_ms: how long until the next beat, 1..period_ms. */
static inline uint64_t beat_in_ms(uint64_t now_ms, uint64_t period_ms, uint64_t node_id)
{
    return period_ms - (now_ms + BEAT_PHASE_MS * node_id) % period_ms;
}

#endif
