/* SPDX-License-Identifier: Apache-2.0 */
/* Gaps are between answers, as a client with enough calls in flight would see them, so they have
 * the waits for the disk in them. The lateness of a timer has not: it is what held up the loop
 * itself, be it our work or another program on the same processor. */
#include "tests/bench/measure.h"

#include "proto/base/clock.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define SAMPLE_MS    5u
#define MEMORY_EVERY 20u /* samples */
#define GAP_NS       UINT64_C(50000000)

static uint64_t micros(struct timeval t)
{
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_usec;
}

static uint64_t cpu_us(int who)
{
    struct rusage usage;
    if (getrusage(who, &usage) != 0)
        return 0;
    return micros(usage.ru_utime) + micros(usage.ru_stime);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

void phase_begin(struct phase *phase)
{
    *phase = (struct phase){.begun_ns = clock_monotonic_ns()};
    phase->last_ns = phase->begun_ns;
    phase->cpu_begun_us = cpu_us(RUSAGE_SELF) + cpu_us(RUSAGE_CHILDREN);
    phase->cpu_loop_begun_us = cpu_us(RUSAGE_THREAD);
}

void phase_answer(struct phase *phase, bool child)
{
    uint64_t now_ns = clock_monotonic_ns();
    uint64_t gap_ns = now_ns - phase->last_ns;
    phase->last_ns = now_ns;
    phase->answers++;
    phase->gap_ns_max = larger(phase->gap_ns_max, gap_ns);
    if (child)
        phase->gap_child_ns_max = larger(phase->gap_child_ns_max, gap_ns);
    if (gap_ns > GAP_NS)
        phase->gaps_over_50ms++;
}

void phase_end(struct phase *phase)
{
    phase->ended_ns = clock_monotonic_ns();
    phase->cpu_us = cpu_us(RUSAGE_SELF) + cpu_us(RUSAGE_CHILDREN) - phase->cpu_begun_us;
    phase->cpu_loop_us = cpu_us(RUSAGE_THREAD) - phase->cpu_loop_begun_us;
}

double phase_seconds(const struct phase *phase)
{
    return (double)(phase->ended_ns - phase->begun_ns) / 1e9;
}

/* ---- the sampler ---- */

static void on_sample(uv_timer_t *timer)
{
    struct sampler *sampler = timer->data;
    struct phase *phase = sampler->phase;
    uint64_t now_ns = clock_monotonic_ns();
    if (phase != NULL && now_ns > sampler->due_ns)
        phase->late_ns_max = larger(phase->late_ns_max, now_ns - sampler->due_ns);
    if (phase != NULL && sampler->count++ % MEMORY_EVERY == 0) {
        uint64_t rss;
        uint64_t anon;
        memory_now(&rss, &anon);
        phase->rss_bytes_max = larger(phase->rss_bytes_max, rss);
        phase->anon_bytes_max = larger(phase->anon_bytes_max, anon);
    }
    uv_update_time(timer->loop);
    sampler->due_ns = clock_monotonic_ns() + SAMPLE_MS * UINT64_C(1000000);
    uv_timer_start(timer, on_sample, SAMPLE_MS, 0);
}

void sampler_start(struct sampler *sampler, uv_loop_t *loop)
{
    uv_timer_init(loop, &sampler->timer);
    sampler->timer.data = sampler;
    sampler->phase = NULL;
    uv_timer_start(&sampler->timer, on_sample, SAMPLE_MS, 0);
}

void sampler_watch(struct sampler *sampler, struct phase *phase)
{
    sampler->phase = phase;
    sampler->due_ns = UINT64_MAX; /* as of the next sample */
}

void sampler_stop(struct sampler *sampler)
{
    uv_close((uv_handle_t *)&sampler->timer, NULL);
}

/* ---- memory and disk ---- */

void memory_now(uint64_t *rss_bytes, uint64_t *anon_bytes)
{
    unsigned long size = 0;
    unsigned long resident = 0;
    unsigned long shared = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file != NULL) {
        if (fscanf(file, "%lu %lu %lu", &size, &resident, &shared) != 3)
            resident = shared = 0;
        fclose(file);
    }
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    *rss_bytes = resident * page;
    *anon_bytes = (resident - shared) * page;
}

static uint64_t summed; /* nftw takes no argument for its callback */

static int add_size(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)path;
    (void)ftw;
    if (type == FTW_F)
        summed += (uint64_t)info->st_blocks * 512u;
    return 0;
}

uint64_t disk_bytes(const char *dir)
{
    summed = 0;
    nftw(dir, add_size, 16, FTW_PHYS);
    return summed;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

void remove_all(const char *dir)
{
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
