/* SPDX-License-Identifier: Apache-2.0 */
/* Cluster time: what entries are stamped with.
 *
 *     cluster time = steady time of this machine + offset
 *
 * A follower learns the offset from what the leader says its clock shows; a message takes its time,
 * so what is learnt is at most the true offset, and the largest one heard in a term is the best.
 * When it leads, it goes on with that. Each leader moves the offset towards its own wall clock, by
 * SLEW at most: a wall clock that is wrong by minutes makes time run a little fast or slow, and
 * never jump. The offset is kept in a file for the next process on this machine (time_record.h).
 *
 * R6  Time never runs faster than real time by more than the slew, whoever leads
 *     (docs/replication.md). An entry that counts was acknowledged by a majority, who heard its
 *     leader's clock; so of those who vote for the next leader one knows that clock, and it goes on
 *     with what is known of the latest term. Where nobody knows anything (the machines were started
 *     anew) the middle one of the wall clocks is where time begins, unless the log has seen a later
 *     one. */
#include "broker/replication/internal.h"
#include "broker/replication/time_record.h"
#include "proto/base/clock.h"

#include <stdlib.h>

#define SLEW_PER_MS 2000u /* one millisecond in so many: 500 ppm */
#define SAVE_MS     50    /* a record that is off by less than this is good enough */
#define DECAY_PER_MS                                                                               \
    1000u /* an offset that was heard may be too large by what the leader slewed                   \
           */

void time_save(struct shard *shard)
{
    struct cluster_time *t = &shard->time;
    struct time_record record = {.term = t->term, .offset_ms = t->offset_ms};
    int64_t off_ms = t->offset_ms - t->saved_offset_ms;
    bool good = t->saved && t->term == t->saved_term && off_ms < SAVE_MS && off_ms > -SAVE_MS;
    if (!t->known || good || !clock_boot_id(record.boot_id))
        return;
    t->saved = true;
    t->saved_term = t->term;
    t->saved_offset_ms = t->offset_ms;
    time_record_save(shard->options.dir, &record);
}

void time_load(struct shard *shard)
{
    struct cluster_time *t = &shard->time;
    struct time_record record;
    if (!time_record_load(shard->options.dir, &record))
        return;
    *t = (struct cluster_time){.known = true,
                               .term = record.term,
                               .offset_ms = record.offset_ms,
                               .moved_at_ms = clock_steady_ms(),
                               .saved = true,
                               .saved_term = record.term,
                               .saved_offset_ms = record.offset_ms};
}

/* leads: the library begins to send appends, which say what time it is, before anyone knows. */
static bool leads(const struct shard *shard)
{
    return shard->raft.state == RAFT_LEADER;
}

/* offset_of: of a clock that showed this before now, at most: both are cut to whole milliseconds.
 */
static int64_t offset_of(uint64_t now_ms, uint64_t steady_ms)
{
    return (int64_t)(now_ms - steady_ms) - 1;
}

void time_heard(struct shard *shard, uint64_t term, uint64_t now_ms)
{
    struct cluster_time *t = &shard->time;
    uint64_t steady_ms = clock_steady_ms();
    int64_t heard = offset_of(now_ms, steady_ms);
    if (leads(shard) && term <= t->term)
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
    if (term != t->saved_term)
        time_save(shard); /* before what it came with is acknowledged */
}

void time_told(struct shard *shard, uint64_t term, uint64_t now_ms)
{
    struct cluster_time *t = &shard->time;
    uint64_t steady_ms = clock_steady_ms();
    int64_t told = offset_of(now_ms, steady_ms);
    bool better = !t->known || term > t->term || (term == t->term && told > t->offset_ms);
    if (now_ms == 0 || !better || leads(shard))
        return;
    t->known = true;
    t->term = term;
    t->moved_at_ms = steady_ms;
    t->offset_ms = told;
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

/* begin: this node's clock counts from now on. */
static void begin(struct shard *shard)
{
    struct cluster_time *t = &shard->time;
    uint64_t steady_ms = clock_steady_ms();
    uint64_t core_ms = core_now_ms(shard->core);
    uint64_t wall_ms = steady_ms + (uint64_t)wall_offset(shard, steady_ms);
    if (!t->known)
        t->offset_ms = (int64_t)((wall_ms > core_ms ? wall_ms : core_ms) - steady_ms);
    t->known = true;
    t->term = t->led_term = shard->raft.current_term;
    t->moved_at_ms = steady_ms;
    time_save(shard);
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
    if (leads(shard) && t->led_term != shard->raft.current_term)
        begin(shard);
    if (!t->known)
        return clock_now_ms();
    if (leads(shard))
        steer(t, steady_ms);
    if (leads(shard) && core_now_ms(shard->core) > steady_ms + (uint64_t)t->offset_ms)
        t->offset_ms =
            (int64_t)(core_now_ms(shard->core) - steady_ms); /* or time would stand still */
    return steady_ms + (uint64_t)t->offset_ms;
}

uint64_t shard_now_ms(const struct shard *shard)
{
    return time_now_ms((struct shard *)(uintptr_t)shard);
}
