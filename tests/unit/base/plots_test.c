/* SPDX-License-Identifier: Apache-2.0 */
/* Plots: zeros, nothing in common, nothing left behind; also when several threads take them and
 * another gives them back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/plots.h"

#include <pthread.h>
#include <stdbool.h>

#define PLOTS   300
#define THREADS 3

/* One thread's, each filled with its number. */
struct garden {
    uint32_t seed;
    bool bad;
    struct {
        uint64_t *at;
        size_t count;
    } plots[PLOTS];
};

static uint32_t next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void expect(struct garden *g, uint32_t i, uint64_t value)
{
    for (size_t at = 0; at < g->plots[i].count; at++)
        g->bad |= g->plots[i].at[at] != value;
}

static void give(struct garden *g, uint32_t i)
{
    expect(g, i, i + 1);
    plot_give(g->plots[i].at, g->plots[i].count * sizeof(uint64_t));
    g->plots[i].at = NULL;
}

static void take(struct garden *g, uint32_t i)
{
    size_t count = 1 + next(&g->seed) % (PLOT_BYTES_MAX / sizeof(uint64_t));
    g->plots[i].count = count;
    g->plots[i].at = plot_take(count * sizeof(uint64_t));
    g->bad |= (uintptr_t)g->plots[i].at % PLOT_UNIT != 0;
    expect(g, i, 0);
    for (size_t at = 0; at < count; at++)
        g->plots[i].at[at] = i + 1;
}

static void *work(void *data)
{
    struct garden *g = data;
    for (uint32_t step = 0; step < 10 * PLOTS; step++) {
        uint32_t i = next(&g->seed) % PLOTS;
        if (g->plots[i].at != NULL)
            give(g, i);
        else
            take(g, i);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    static struct garden gardens[THREADS];
    pthread_t threads[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        gardens[i].seed = i;
        assert_int_equal(pthread_create(&threads[i], NULL, work, &gardens[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_in_range(plots_bytes(), 1, (size_t)THREADS * PLOTS * PLOT_BYTES_MAX);
    for (uint32_t i = 0; i < THREADS; i++) {
        for (uint32_t k = 0; k < PLOTS; k++) {
            if (gardens[i].plots[k].at != NULL)
                give(&gardens[i], k);
        }
        assert_false(gardens[i].bad);
    }
    assert_int_equal(plots_bytes(), 0);
}

/* What is given back is found again, so no memory is taken for it. */
static void test_used_again(void **state)
{
    (void)state;
    void *stays = plot_take(PLOT_UNIT);
    for (int i = 0; i < 1000; i++) {
        void *plot = plot_take(PLOT_BYTES_MAX);
        plot_give(plot, PLOT_BYTES_MAX);
    }
    assert_in_range(plots_bytes(), 1, 2 << 20);
    plot_give(stays, PLOT_UNIT);
    assert_int_equal(plots_bytes(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
