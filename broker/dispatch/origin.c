/* SPDX-License-Identifier: Apache-2.0 */
/* The names of queues that messages were redriven from, for the events that functions get: a queue
 * may be in a shard that is not here, and is asked for by its id then, before the event is built.
 * Ids are never used again and names do not change, so what was told is kept.
 *
 *   I1  an event waits for names, within ORIGIN_MS: where nobody tells, it goes without
 *   I2  what is kept is bounded: all of it is forgotten when it is ORIGINS_MAX queues
 */
#include "broker/dispatch/internal.h"

#include <stdlib.h>
#include <uthash.h>

#define ORIGIN_MS   2000u
#define ORIGINS_MAX 4096u

struct origin {
    uint64_t queue_id;
    char *name; /* "": there is no such queue */
    UT_hash_handle hh;
};

static struct origin *find(const struct dispatch *dispatch, uint64_t queue_id)
{
    struct origin *origin;
    HASH_FIND(hh, dispatch->origins, &queue_id, sizeof queue_id, origin);
    return origin;
}

static bool is_here(const struct dispatch *dispatch, uint64_t queue_id)
{
    return queue_id == 0 || shard_of_queue_id(queue_id) >= shards_total(dispatch->shards) ||
           door_here(dispatch->shards, shard_of_queue_id(queue_id));
}

struct slice origin_name(const struct dispatch *dispatch, uint64_t queue_id)
{
    const struct shard *shard = shards_of_queue(dispatch->shards, queue_id);
    struct queue_view view;
    if (queue_id == 0)
        return (struct slice){0};
    if (shard != NULL)
        return core_queue_by_id(shard_core(shard), queue_id, &view) ? view.name : (struct slice){0};
    const struct origin *origin = find(dispatch, queue_id);
    return slice_of(origin != NULL && origin->name[0] != '\0' ? origin->name : NULL);
}

void origins_forget(struct dispatch *dispatch)
{
    struct origin *origin;
    struct origin *next;
    HASH_ITER(hh, dispatch->origins, origin, next)
    {
        HASH_DEL(dispatch->origins, origin);
        free(origin->name);
        free(origin);
    }
}

static void keep(struct dispatch *dispatch, uint64_t queue_id, struct slice name)
{
    struct origin *origin = find(dispatch, queue_id);
    if (origin != NULL)
        return;
    if (HASH_COUNT(dispatch->origins) >= ORIGINS_MAX)
        origins_forget(dispatch); /* I2 */
    origin = memory_new(1, sizeof *origin);
    origin->queue_id = queue_id;
    origin->name = text_new(name);
    HASH_ADD(hh, dispatch->origins, queue_id, sizeof origin->queue_id, origin);
}

/* ---- asking ---- */

/* Those of one shard, which the first unknown one gives. */
struct origins {
    struct dispatch *dispatch;
    struct batch *batch;
    void (*done)(struct batch *batch);
    struct door_glance glance;
    uint64_t *ids;
};

static void on_told(struct door_glance *glance, enum status status, const struct glance_news *news,
                    uint32_t count)
{
    struct origins *origins = glance->data;
    struct dispatch *dispatch = origins->dispatch;
    struct batch *batch = origins->batch;
    void (*done)(struct batch * batch) = origins->done;
    for (uint32_t i = 0; i < count; i++)
        keep(dispatch, origins->ids[news[i].which], news[i].glance.name);
    free(origins->ids);
    free(origins);
    bool more = status == STATUS_OK && ++batch->origin_rounds < QUEUE_SHARDS_MAX;
    if (!more || !origins_ask(batch, done)) /* those of the next shard; I1 */
        done(batch);
}

static uint64_t first_unknown(const struct batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        uint64_t queue_id = batch->messages[i].source_queue_id;
        if (!is_here(batch->dispatch, queue_id) && find(batch->dispatch, queue_id) == NULL)
            return queue_id;
    }
    return 0;
}

bool origins_ask(struct batch *batch, void (*done)(struct batch *batch))
{
    uint64_t first = first_unknown(batch);
    if (first == 0)
        return false;
    struct origins *origins = memory_new(1, sizeof *origins);
    *origins = (struct origins){.dispatch = batch->dispatch, .batch = batch, .done = done};
    origins->ids = memory_new(batch->count, sizeof *origins->ids);
    origins->glance.done = on_told;
    origins->glance.data = origins;
    origins->glance.within_ms = ORIGIN_MS;
    glance_question_begin(&origins->glance.request, 0, true);
    for (uint32_t i = 0; i < batch->count; i++) {
        struct glance_item item = {.queue_id = batch->messages[i].source_queue_id};
        if (item.queue_id == 0 || shard_of_queue_id(item.queue_id) != shard_of_queue_id(first) ||
            find(batch->dispatch, item.queue_id) != NULL)
            continue;
        glance_question_add(&origins->glance.request, &item);
        origins->ids[origins->glance.count++] = item.queue_id;
    }
    door_glance(batch->dispatch->shards, shard_of_queue_id(first), &origins->glance);
    return true;
}
