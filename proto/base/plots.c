/* SPDX-License-Identifier: Apache-2.0 */
/* A field is one huge page: a head, with a bit for each unit, and the plots. A plot is the first
 * run of free units that is long enough, in the first field that has one: tables take plots of few
 * sizes, seldom, and for long.
 *
 * A state may be restored by one thread and used by another, so all fields have one lock.
 *
 * I1  a field's bit is set exactly while its unit is in the head or in a plot */
#include "proto/base/plots.h"

#include "proto/base/assert.h"
#include "proto/base/pages.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <utlist.h>

#define UNITS      (PAGES_UNIT / PLOT_UNIT)
#define WORD_UNITS 64u
#define HEAD_UNITS ((sizeof(struct field) + PLOT_UNIT - 1) / PLOT_UNIT)

struct field {
    struct field *prev, *next;
    uint32_t taken;
    uint32_t fresh; /* units from here on were never taken, and are zeros */
    uint64_t bits[UNITS / WORD_UNITS];
};

static struct {
    pthread_mutex_t lock;
    struct field *first; /* utlist */
    size_t count;
} fields = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint32_t units_of(size_t bytes)
{
    ASSERT(bytes > 0 && bytes <= PLOT_BYTES_MAX);
    return (uint32_t)((bytes + PLOT_UNIT - 1) / PLOT_UNIT);
}

static void mark(struct field *field, uint32_t from, uint32_t count, bool taken)
{
    for (uint32_t i = from; i < from + count; i++) {
        uint64_t bit = UINT64_C(1) << i % WORD_UNITS;
        ASSERT(((field->bits[i / WORD_UNITS] & bit) != 0) != taken); /* I1 */
        field->bits[i / WORD_UNITS] ^= bit;
    }
    field->taken += taken ? count : -count;
}

static struct field *field_add(void)
{
    struct field *field = pages_take(PAGES_UNIT);
    madvise(field, PAGES_UNIT, MADV_DONTFORK); /* only saves time */
    mark(field, 0, HEAD_UNITS, true);
    field->fresh = HEAD_UNITS;
    DL_APPEND(fields.first, field);
    fields.count++;
    return field;
}

/* find_run: where `count` units are free; UNITS: nowhere. */
static uint32_t find_run(const struct field *field, uint32_t count)
{
    uint32_t free = 0;
    for (uint32_t i = 0; i < UNITS && UNITS - field->taken >= count; i++) {
        uint64_t word = field->bits[i / WORD_UNITS];
        if (i % WORD_UNITS == 0 && word == UINT64_MAX) {
            free = 0;
            i += WORD_UNITS - 1;
            continue;
        }
        free = (word >> i % WORD_UNITS & 1) != 0 ? 0 : free + 1;
        if (free == count)
            return i + 1 - count;
    }
    return UNITS;
}

/* take_run: `*dirty`: it is not all zeros. The lock is held. */
static uint8_t *take_run(uint32_t count, bool *dirty)
{
    uint32_t at = UNITS;
    struct field *field = fields.first;
    for (; field != NULL; field = field->next) {
        at = find_run(field, count);
        if (at < UNITS)
            break;
    }
    if (field == NULL) {
        field = field_add();
        at = HEAD_UNITS;
    }
    mark(field, at, count, true);
    *dirty = at < field->fresh;
    field->fresh = at + count > field->fresh ? at + count : field->fresh;
    return (uint8_t *)field + (size_t)at * PLOT_UNIT;
}

void *plot_take(size_t bytes)
{
    bool dirty;
    pthread_mutex_lock(&fields.lock);
    uint8_t *plot = take_run(units_of(bytes), &dirty);
    pthread_mutex_unlock(&fields.lock);
    return dirty ? memset(plot, 0, bytes) : plot;
}

/* give_run: the lock is held. */
static void give_run(struct field *field, uint32_t at, uint32_t count)
{
    mark(field, at, count, false);
    if (field->taken > HEAD_UNITS)
        return;
    DL_DELETE(fields.first, field);
    fields.count--;
    pages_give(field, PAGES_UNIT);
}

void plot_give(void *plot, size_t bytes)
{
    uintptr_t in_field = (uintptr_t)plot % PAGES_UNIT;
    struct field *field = (struct field *)(void *)((uint8_t *)plot - in_field);
    pthread_mutex_lock(&fields.lock);
    give_run(field, (uint32_t)(in_field / PLOT_UNIT), units_of(bytes));
    pthread_mutex_unlock(&fields.lock);
}

size_t plots_bytes(void)
{
    pthread_mutex_lock(&fields.lock);
    size_t bytes = fields.count * PAGES_UNIT;
    pthread_mutex_unlock(&fields.lock);
    return bytes;
}
