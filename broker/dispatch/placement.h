/* SPDX-License-Identifier: Apache-2.0 */
/* Placement: which worker runs the next assignment. Knows nothing of sessions and links: a worker
 * is what it has room for. thread: loop. */
#ifndef BROKER_DISPATCH_PLACEMENT_H
#define BROKER_DISPATCH_PLACEMENT_H

#include "proto/base/slice.h"

#include <stddef.h>

#define ROOM_WARM_MAX 256 /* kinds of idle environments that are remembered of one worker */
#define ROOM_NAME_MAX 64  /* Lambda: the longest function name */

/* What an assignment asks for. */
struct room_need {
    struct slice function;
    uint64_t revision;
    struct slice runtime;
    uint64_t memory_bytes;
};

struct room_warm {
    char function[ROOM_NAME_MAX + 1];
    uint64_t revision;
    uint32_t idle;
};

/* What one worker has. `slots_reported` and `memory_reported` are its own last words, moved on by
 * what was given to it since; `taken` and `memory_taken` are what we know that it has from us. */
struct room {
    uint32_t slots_max;
    uint64_t memory_max;
    uint32_t taken;
    uint64_t memory_taken;
    uint32_t slots_reported;
    uint64_t memory_reported;
    const char *const *runtimes; /* borrowed */
    size_t runtime_count;
    struct room_warm warm[ROOM_WARM_MAX];
    size_t warm_count;
};

void room_init(struct room *room, uint32_t slots_max, uint64_t memory_max,
               const char *const *runtimes, size_t runtime_count);

/* room_report: the worker's latest word. Follow with room_warm_add for each idle environment; more
 * than ROOM_WARM_MAX are not remembered. */
void room_report(struct room *room, uint32_t slots_free, uint64_t memory_free);
void room_warm_add(struct room *room, struct slice function, uint64_t revision, uint32_t idle);

/* room_possible: could it ever run this: runtime and memory in all. room_fits: can it now.
 * room_slots: how many more assignments it takes, memory aside. */
bool room_possible(const struct room *room, const struct room_need *need);
bool room_fits(const struct room *room, const struct room_need *need);

/* room_holds: by our own count there is room, whatever the worker reported: for what it runs
 * already. */
bool room_holds(const struct room *room, const struct room_need *need);
uint32_t room_slots(const struct room *room);

/* room_take: give it an assignment; room_give: that one ended (`reusable`: its environment is idle
 * now rather than gone). Every take is followed by one give with the same need. */
void room_take(struct room *room, const struct room_need *need);
void room_give(struct room *room, const struct room_need *need, bool reusable);

/* room_score: 0 when it does not fit now; else more is better: an idle environment of the same
 * revision first, then the most free slots. */
uint64_t room_score(const struct room *room, const struct room_need *need);

#endif
