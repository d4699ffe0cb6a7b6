/* SPDX-License-Identifier: Apache-2.0 */
/* The names of queues that messages were redriven from, for the events that functions get: a queue
 * may be in a shard that is not here, and is asked for by its id then, before the event is built.
 * Ids are never used again and names do not change, so what was told is kept.
 *
 *   I1  an event waits for names, as long as a look takes (look.h): where nobody tells, it goes
 *       without. A dispatcher that closes does not wait for what nobody tells
 *   I2  what is kept is bounded: all of it is forgotten when it is ORIGINS_MAX queues
 */
#include "broker/dispatch/internal.h"

#include "broker/shards/look.h"

#include <stdlib.h>
#include <uthash.h>
#include <utlist.h>

#define ORIGINS_MAX 4096u
#define ROUNDS_MAX  64u

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

/* What a batch waits for: dispatch->origins_asked. */
struct origins {
    struct origins *prev, *next;
    struct dispatch *dispatch;
    struct batch *batch;
    void (*done)(struct batch *batch);
    struct shard_look look;
    struct arena arena;
    uint64_t ids[LOOK_ITEMS_MAX];
};

static void keep_told(struct origins *origins)
{
    const struct shard_look *look = &origins->look;
    for (uint32_t i = 0; i < look->count; i++)
        keep(origins->dispatch, look->views[i].queue_id, look->views[i].name);
    for (uint32_t i = 0; i < look->question.id_count; i++)
        keep(origins->dispatch, origins->ids[i], (struct slice){0}); /* of which nothing was told */
}

static void on_told(struct shard_look *look, enum status status)
{
    struct origins *origins = look->data;
    struct batch *batch = origins->batch;
    void (*done)(struct batch * batch) = origins->done;
    if (status == STATUS_OK)
        keep_told(origins);
    DL_DELETE(origins->dispatch->origins_asked, origins);
    arena_free(&origins->arena);
    free(origins);
    bool more = status == STATUS_OK && ++batch->origin_rounds < ROUNDS_MAX;
    if (!more || !origins_ask(batch, done)) /* I1 */
        done(batch);
}

static bool is_among(const struct origins *origins, uint64_t queue_id)
{
    for (uint32_t i = 0; i < origins->look.question.id_count; i++) {
        if (origins->ids[i] == queue_id)
            return true;
    }
    return false;
}

/* Up to as many as a look may ask for. */
static void gather(struct origins *origins)
{
    const struct batch *batch = origins->batch;
    struct look_question *question = &origins->look.question;
    for (uint32_t i = 0; i < batch->count && question->id_count < LOOK_ITEMS_MAX; i++) {
        uint64_t queue_id = batch->messages[i].source_queue_id;
        if (is_here(batch->dispatch, queue_id) || find(batch->dispatch, queue_id) != NULL ||
            is_among(origins, queue_id))
            continue;
        origins->ids[question->id_count++] = queue_id;
        shard_set_add(&origins->look.set, shard_of_queue_id(queue_id));
    }
    question->ids = origins->ids;
}

static bool any_unknown(const struct batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        uint64_t queue_id = batch->messages[i].source_queue_id;
        if (!is_here(batch->dispatch, queue_id) && find(batch->dispatch, queue_id) == NULL)
            return true;
    }
    return false;
}

bool origins_ask(struct batch *batch, void (*done)(struct batch *batch))
{
    struct shards *shards = batch->dispatch->shards;
    if (shards_away(shards) == NULL || batch->dispatch->closing || !any_unknown(batch))
        return false;
    struct origins *origins = memory_new(1, sizeof *origins);
    *origins = (struct origins){.dispatch = batch->dispatch, .batch = batch, .done = done};
    origins->look.since_ms = dispatch_now(batch->dispatch);
    origins->look.arena = &origins->arena;
    origins->look.done = on_told;
    origins->look.data = origins;
    gather(origins);
    DL_APPEND(batch->dispatch->origins_asked, origins);
    if (look_begin(&origins->look, shards, shards_away(shards)))
        return true;
    DL_DELETE(batch->dispatch->origins_asked, origins);
    arena_free(&origins->arena);
    free(origins);
    return false;
}

void origins_cancel(struct dispatch *dispatch)
{
    struct origins *origins;
    DL_FOREACH(dispatch->origins_asked, origins)
    {
        look_cancel(&origins->look);
    }
}
