/* SPDX-License-Identifier: Apache-2.0 */
/* Time, and what happens next: the earliest of the waiting events and of the nodes' next turns. */
#include "tests/sim/cluster/world.h"

#include "proto/base/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct world world;

struct event {
    uint64_t at_ns;
    uint64_t order;
    void (*fn)(void *data);
    void *data;
    struct node *node; /* NULL: of the world */
    uint32_t life;
    bool pool;
};

static struct event *heap;
static size_t heap_count;
static size_t heap_capacity;
static uint64_t heap_order;

static double now_s(void)
{
    return (double)world.now_ns / 1e9;
}

void sim_fail(const char *format, ...)
{
    va_list args;
    fprintf(stderr, "seed %llu, %.6f s: ", (unsigned long long)world.options.seed, now_s());
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
    fflush(NULL);
    exit(1);
}

void sim_say(const char *format, ...)
{
    va_list args;
    if (!world.options.verbose)
        return;
    fprintf(stderr, "%12.6f %s%c ", now_s(), current != NULL ? "node " : "------",
            current != NULL ? (char)('0' + current->number) : '-');
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
}

bool mutated(const char *name)
{
    return world.options.mutation != NULL && strcmp(world.options.mutation, name) == 0;
}

/* ---- events ---- */

static bool before(const struct event *a, const struct event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void add(struct event event)
{
    event.order = heap_order++;
    if (heap_count == heap_capacity) {
        heap_capacity = heap_capacity * 2 + 64;
        heap = realloc(heap, heap_capacity * sizeof *heap);
        ASSERT(heap != NULL);
    }
    size_t slot = heap_count++;
    for (; slot > 0 && before(&event, &heap[(slot - 1) / 2]); slot = (slot - 1) / 2)
        heap[slot] = heap[(slot - 1) / 2];
    heap[slot] = event;
}

static struct event take(void)
{
    struct event first = heap[0];
    struct event moved = heap[--heap_count];
    size_t slot = 0;
    for (;;) {
        size_t child = 2 * slot + 1;
        if (child >= heap_count)
            break;
        if (child + 1 < heap_count && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &moved))
            break;
        heap[slot] = heap[child];
        slot = child;
    }
    heap[slot] = moved;
    return first;
}

void world_at(uint64_t at_ns, void (*fn)(void *data), void *data)
{
    add((struct event){.at_ns = at_ns, .fn = fn, .data = data});
}

void node_at(struct node *node, uint64_t at_ns, void (*fn)(void *data), void *data)
{
    add((struct event){at_ns, 0, fn, data, node, node->life, false});
}

void node_pool_at(struct node *node, uint64_t at_ns, void (*fn)(void *data), void *data)
{
    add((struct event){at_ns, 0, fn, data, node, node->life, true});
}

static void happen(const struct event *event)
{
    struct node *node = event->node;
    if (node == NULL) {
        event->fn(event->data);
        return;
    }
    if (!node->up || node->life != event->life)
        return;
    if (event->pool)
        event->fn(event->data);
    else
        vloop_ready(node->loop, event->fn, event->data);
}

/* ---- running ---- */

static struct node *next_node(uint64_t *at_ns)
{
    struct node *next = NULL;
    *at_ns = UINT64_MAX;
    for (unsigned i = 1; i <= world.node_count; i++) {
        uint64_t ns = node_next_ns(&world.nodes[i]);
        if (ns < *at_ns) {
            *at_ns = ns;
            next = &world.nodes[i];
        }
    }
    return next;
}

void world_run(uint64_t until_ns, bool (*done)(void))
{
    while (!done()) {
        uint64_t at_ns;
        struct node *node = next_node(&at_ns);
        bool event_first = heap_count > 0 && heap[0].at_ns <= at_ns;
        if (event_first)
            at_ns = heap[0].at_ns;
        if (at_ns > until_ns) {
            world.now_ns = until_ns;
            return;
        }
        if (at_ns > world.now_ns)
            world.now_ns = at_ns;
        if (event_first) {
            struct event event = take();
            happen(&event);
        } else {
            node_turn(node);
        }
    }
}
