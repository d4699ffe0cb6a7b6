/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmarks measure: rates, gaps, CPU time, memory, disk. */
#ifndef TESTS_BENCH_MEASURE_H
#define TESTS_BENCH_MEASURE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/* One phase of a run. */
struct phase {
    uint64_t begun_ns;
    uint64_t last_ns; /* of the last answer */
    uint64_t ended_ns;
    uint64_t cpu_begun_us;
    uint64_t cpu_us;      /* of this process and its children that have ended */
    uint64_t cpu_loop_us; /* of the thread with the loop */
    uint64_t cpu_loop_begun_us;
    uint64_t answers;
    uint64_t busy;             /* calls to be made again */
    uint64_t gap_ns_max;       /* between two answers */
    uint64_t gap_child_ns_max; /* while a snapshot was begun or written */
    uint64_t gaps_over_50ms;
    uint64_t late_ns_max; /* of a timer: how long the loop was held up, by us or by the machine */
    uint64_t rss_bytes_max;
    uint64_t anon_bytes_max;
};

void phase_begin(struct phase *phase);
/* phase_answer: one came; `child`: a snapshot is under way. */
void phase_answer(struct phase *phase, bool child);
void phase_end(struct phase *phase);
double phase_seconds(const struct phase *phase);

/* A timer that samples memory and notes by how much it is late. */
struct sampler {
    uv_timer_t timer;
    struct phase *phase; /* NULL: nothing is sampled */
    uint64_t due_ns;
    unsigned count;
};
void sampler_start(struct sampler *sampler, uv_loop_t *loop);
/* sampler_watch: from now on into `phase`. */
void sampler_watch(struct sampler *sampler, struct phase *phase);
void sampler_stop(struct sampler *sampler);

/* memory_now: resident bytes, and those of them that no file backs. */
void memory_now(uint64_t *rss_bytes, uint64_t *anon_bytes);

/* disk_bytes: what the files below `dir` take. */
uint64_t disk_bytes(const char *dir);

/* remove_all: `dir` with everything in it. */
void remove_all(const char *dir);

#endif
