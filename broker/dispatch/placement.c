/* SPDX-License-Identifier: Apache-2.0 */
/* Placement.
 *
 * An idle environment of the same revision wins, because it answers in a fraction of a millisecond;
 * else the worker with the most free slots that has the runtime and the memory.
 *
 * A worker's capacity report may have been sent before it saw our last assignments. Believing it
 * would assign too much; ignoring it would miss what only the worker knows (memory that idle
 * environments hold). So both are kept: our own count of what it has from us, and its last word
 * moved on by what we gave and got back since. The smaller of the two decides.
 *
 *   I1  taken <= slots_max, memory_taken <= memory_max, as long as only what fits is taken
 *   I2  after as many gives as takes, taken and memory_taken are 0
 */
#include "broker/dispatch/placement.h"

#include "proto/base/assert.h"

#define SCORE_WARM ((uint64_t)1 << 40)

void room_init(struct room *room, uint32_t slots_max, uint64_t memory_max,
               const char *const *runtimes, size_t runtime_count)
{
    memset(room, 0, sizeof *room);
    room->slots_max = room->slots_reported = slots_max;
    room->memory_max = room->memory_reported = memory_max;
    room->runtimes = runtimes;
    room->runtime_count = runtime_count;
}

void room_report(struct room *room, uint32_t slots_free, uint64_t memory_free)
{
    room->slots_reported = slots_free;
    room->memory_reported = memory_free;
    room->warm_count = 0;
}

static const struct room_warm *room_warm_find(const struct room *room, struct slice function,
                                              uint64_t revision)
{
    for (size_t i = 0; i < room->warm_count; i++) {
        const struct room_warm *warm = &room->warm[i];
        if (warm->revision == revision && slice_is(function, warm->function))
            return warm;
    }
    return NULL;
}

void room_warm_add(struct room *room, struct slice function, uint64_t revision, uint32_t idle)
{
    const struct room_warm *known = room_warm_find(room, function, revision);
    if (known != NULL) {
        struct room_warm *warm = &room->warm[known - room->warm];
        warm->idle = idle > UINT32_MAX - warm->idle ? UINT32_MAX : warm->idle + idle;
        return;
    }
    if (room->warm_count == ROOM_WARM_MAX || function.length > ROOM_NAME_MAX)
        return;
    struct room_warm *warm = &room->warm[room->warm_count++];
    *warm = (struct room_warm){.revision = revision, .idle = idle};
    memcpy(warm->function, function.data, function.length);
}

static bool room_has_idle(const struct room *room, const struct room_need *need)
{
    const struct room_warm *warm = room_warm_find(room, need->function, need->revision);
    return warm != NULL && warm->idle > 0;
}

bool room_possible(const struct room *room, const struct room_need *need)
{
    if (room->slots_max == 0 || need->memory_bytes > room->memory_max)
        return false;
    for (size_t i = 0; i < room->runtime_count; i++)
        if (slice_is(need->runtime, room->runtimes[i]))
            return true;
    return false;
}

uint32_t room_slots(const struct room *room)
{
    uint32_t own =
        room->slots_max - (room->taken < room->slots_max ? room->taken : room->slots_max);
    return own < room->slots_reported ? own : room->slots_reported;
}

bool room_holds(const struct room *room, const struct room_need *need)
{
    return room->taken < room->slots_max && need->memory_bytes <= room->memory_max &&
           room->memory_taken <= room->memory_max - need->memory_bytes;
}

bool room_fits(const struct room *room, const struct room_need *need)
{
    if (room_slots(room) == 0 || !room_possible(room, need))
        return false;
    if (room->memory_taken > room->memory_max - need->memory_bytes)
        return false;
    return room_has_idle(room, need) || room->memory_reported >= need->memory_bytes;
}

void room_take(struct room *room, const struct room_need *need)
{
    room->taken++;
    room->memory_taken += need->memory_bytes;
    room->slots_reported -= room->slots_reported > 0 ? 1 : 0;
    const struct room_warm *warm = room_warm_find(room, need->function, need->revision);
    if (warm != NULL && warm->idle > 0)
        room->warm[warm - room->warm].idle--;
    else
        room->memory_reported -=
            room->memory_reported < need->memory_bytes ? room->memory_reported : need->memory_bytes;
}

void room_give(struct room *room, const struct room_need *need, bool reusable)
{
    ASSERT(room->taken > 0);
    ASSERT(room->memory_taken >= need->memory_bytes);
    room->taken--;
    room->memory_taken -= need->memory_bytes;
    if (room->slots_reported < room->slots_max)
        room->slots_reported++;
    if (reusable)
        room_warm_add(room, need->function, need->revision, 1);
    else if (room->memory_reported <= room->memory_max - need->memory_bytes)
        room->memory_reported += need->memory_bytes;
}

uint64_t room_score(const struct room *room, const struct room_need *need)
{
    if (!room_fits(room, need))
        return 0;
    return room_slots(room) + (room_has_idle(room, need) ? SCORE_WARM : 0);
}
