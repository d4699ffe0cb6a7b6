/* SPDX-License-Identifier: Apache-2.0 */
/* Cluster time: what entries are stamped with.
 *
 *     cluster time = steady time of this machine + offset
 *
 * A follower learns the offset from what the leader says its clock shows; a message takes its time,
 * so what is learnt is at most the true offset, and the largest one heard in a term is the best.
 * When it leads, it goes on with that. Each leader moves the offset towards its own wall clock, by
 * SLEW at most: a wall clock that is wrong by minutes makes time run a little fast or slow, and
 * never jump. A node that knows nothing yet takes the word of those who vote for it.
 *
 * R6  Time never runs faster than real time by more than the slew, whoever leads
 *     (docs/replication.md). Where nothing was heard (all nodes were down) the middle one of the
 * wall clocks is where time begins, unless the log has seen a later one. */
#include "broker/replication/internal.h"
#include "proto/base/clock.h"

#include <stdlib.h>

#define SLEW_PER_MS 2000u /* one millisecond in so many: 500 ppm */
#define DECAY_PER_MS                                                                               \
    1000u /* an offset that was heard may be too large by what the leader slewed                   \
           */

void time_heard(struct shard *shard, uint64_t term, uint64_t now_ms)
{
    struct cluster_time *t = &shard->time;
    uint64_t steady_ms = clock_steady_ms();
    int64_t heard = (int64_t)(now_ms - steady_ms);
    if (shard_leading(shard))
        return;
    if (term > t->term) { /* another leader's clock: an earlier one may have been ahead of it */
        t->term = term;
        t->known = false;
    }
    if (t->known)
        t->offset_ms -= (int64_t)((steady_ms - t->moved_at_ms) / DECAY_PER_MS);
    if (!t->known || heard > t->offset_ms)
        t->offset_ms = heard;
    if (!t->known || steady_ms - t->moved_at_ms >= DECAY_PER_MS)
        t->moved_at_ms = steady_ms;
    t->known = true;
}

void time_told(struct shard *shard, uint64_t now_ms)
{
    struct cluster_time *t = &shard->time;
    if (now_ms == 0 || t->known)
        return;
    t->known = true;
    t->moved_at_ms = clock_steady_ms();
    t->offset_ms = (int64_t)(now_ms - t->moved_at_ms);
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

uint64_t time_known_ms(const struct shard *shard)
{
    return shard->time.known ? clock_steady_ms() + (uint64_t)shard->time.offset_ms : 0;
}

/* wall_offset: of the clocks of this node and of those that voted, the middle one, or the slower of
 * two: one that is wrong decides nothing, and nothing expires early. */
static int64_t wall_offset(const struct shard *shard, uint64_t steady_ms)
{
    int64_t offsets[SHARD_MEMBERS_MAX + 1];
    size_t count = 0;
    offsets[count++] = (int64_t)(clock_now_ms() - steady_ms);
    for (size_t i = 0; i < shard->links.count; i++) {
        if (shard->links.list[i]->wall_known)
            offsets[count++] = shard->links.list[i]->wall_offset_ms;
    }
    qsort(offsets, count, sizeof offsets[0], ascending);
    return offsets[(count - 1) / 2];
}

void time_lead(struct shard *shard)
{
    struct cluster_time *t = &shard->time;
    uint64_t steady_ms = clock_steady_ms();
    uint64_t core_ms = core_now_ms(shard->core);
    uint64_t wall_ms = steady_ms + (uint64_t)wall_offset(shard, steady_ms);
    if (!t->known)
        t->offset_ms = (int64_t)((wall_ms > core_ms ? wall_ms : core_ms) - steady_ms);
    t->known = true;
    t->moved_at_ms = steady_ms;
}

/* steer: towards the wall clock, as far as the time since the last step allows. */
static void steer(struct cluster_time *t, uint64_t steady_ms)
{
    int64_t wanted = (int64_t)(clock_now_ms() - steady_ms) - t->offset_ms;
    int64_t step_max = (int64_t)((steady_ms - t->moved_at_ms) / SLEW_PER_MS);
    if (step_max == 0)
        return;
    t->moved_at_ms = steady_ms;
    t->offset_ms += wanted > step_max ? step_max : wanted < -step_max ? -step_max : wanted;
}

uint64_t time_now_ms(struct shard *shard)
{
    struct cluster_time *t = &shard->time;
    uint64_t steady_ms = clock_steady_ms();
    if (!t->known)
        return clock_now_ms();
    if (shard_leading(shard))
        steer(t, steady_ms);
    return steady_ms + (uint64_t)t->offset_ms;
}

uint64_t shard_now_ms(const struct shard *shard)
{
    return time_now_ms((struct shard *)(uintptr_t)shard);
}
