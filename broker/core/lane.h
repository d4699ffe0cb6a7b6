/* SPDX-License-Identifier: Apache-2.0 */
/* A lane: messages of one queue in the order of a key that mostly grows as they are added. Private
 * to broker/core. thread: apply. */
#ifndef BROKER_CORE_LANE_H
#define BROKER_CORE_LANE_H

#include "broker/core/heap.h"
#include "broker/core/message.h"

enum lane_kind {
    LANE_READY, /* visible messages by seq */
    LANE_AGE    /* all messages by sent_ms */
};

struct lane {
    enum lane_kind kind;
    uint32_t first; /* MESSAGE_NONE: none */
    uint32_t last;
    struct heap *strays; /* NULL: there were none yet */
};

void lane_init(struct lane *lane, enum lane_kind kind);
void lane_deinit(struct lane *lane);

/* `messages`, here and below, is the same for the lane's life, and borrowed for it. */
void lane_add(struct lane *lane, struct messages *messages, uint32_t index);
/* lane_return: put one in at its place by seq, into a lane without strays. The place is looked for
 * from `near` on, which is in the lane; MESSAGE_NONE: from the front. */
void lane_return(struct lane *lane, struct messages *messages, uint32_t index, uint32_t near);
void lane_remove(struct lane *lane, struct messages *messages, uint32_t index);

static inline uint32_t lane_stray_count(const struct lane *lane)
{
    return lane->strays != NULL ? lane->strays->count : 0;
}

/* lane_least: the message with the least key, or MESSAGE_NONE. */
uint32_t lane_least(const struct lane *lane, const struct messages *messages);

/* lane_next: walk all messages, in no particular order of the strays. Zero-initialise the walk;
 * MESSAGE_NONE at the end. The lane must not change meanwhile. */
struct lane_walk {
    bool begun;
    uint32_t at; /* the list message given last; MESSAGE_NONE: the list is done */
    uint32_t stray;
};
uint32_t lane_next(const struct lane *lane, const struct messages *messages,
                   struct lane_walk *walk);

#endif
