/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/shards/shards.h"

#include "proto/base/arena.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <stdlib.h>

#define WATCH_MS 20u

/* One open shard, and where its events go. */
struct place {
    struct shards *shards;
    struct shard *shard;
};

struct shards {
    struct shards_options options;
    struct arena arena;
    struct place places[1 + QUEUE_SHARDS_MAX];
    uint32_t count; /* open ones */
    struct shard_founding founding;
    uv_timer_t watch; /* until the queue shards are open */
    uint32_t closing;
    void (*closed)(void *data);
    void *closed_data;
};

/* ---- events ---- */

static void on_leading_changed(void *data, bool leads)
{
    struct place *place = data;
    struct shards_events *events = &place->shards->options.events;
    events->leading_changed(events->data, place->shard, leads);
}

static void on_catalog_changed(void *data)
{
    struct place *place = data;
    struct shards_events *events = &place->shards->options.events;
    events->catalog_changed(events->data);
}

static void on_queue_ready(void *data, uint64_t queue_id)
{
    struct place *place = data;
    struct shards_events *events = &place->shards->options.events;
    events->queue_ready(events->data, queue_id);
}

/* ---- opening ---- */

static enum status open_one(struct shards *s, uint32_t id, const char **error, const char **folder)
{
    const struct shards_options *o = &s->options;
    struct place *place = &s->places[id];
    struct shard_options options = {.loop = o->loop,
                                    .dir = arena_printf(&s->arena, "%s/shard-%u", o->data_dir, id),
                                    .node_id = o->node_id,
                                    .address = o->address,
                                    .shard_id = (uint16_t)id,
                                    .peers = o->peers,
                                    .members = o->members,
                                    .member_count = o->member_count,
                                    .founding = &s->founding,
                                    .join = o->join,
                                    .disk_reserve_bytes = o->disk_reserve_bytes,
                                    .leading_changed = on_leading_changed,
                                    .catalog_changed = on_catalog_changed,
                                    .queue_ready = on_queue_ready,
                                    .data = place};
    place->shards = s;
    *folder = options.dir;
    enum status status = shard_open(&place->shard, &options, error);
    if (status == STATUS_OK)
        s->count++;
    else
        place->shard = NULL;
    return status;
}

/* What the catalog says; false: nothing yet. */
static bool catalog_read(struct shards *s)
{
    const struct core *core = shard_core(s->places[0].shard);
    uint32_t shard;
    if (!core_bootstrapped(core, s->founding.cluster_id, s->founding.secret))
        return false;
    core_place(core, &shard, &s->founding.queue_shards);
    return true;
}

static enum status open_queue_shards(struct shards *s, const char **error, const char **folder)
{
    enum status status = STATUS_OK;
    while (status == STATUS_OK && s->count <= s->founding.queue_shards)
        status = open_one(s, s->count, error, folder);
    return status;
}

static void on_watch(uv_timer_t *timer)
{
    struct shards *s = timer->data;
    const char *error = NULL;
    const char *folder;
    if (!catalog_read(s))
        return;
    uv_timer_stop(&s->watch);
    enum status status = open_queue_shards(s, &error, &folder);
    if (status == STATUS_OK)
        return;
    trace_error("shards", "unusable", "dir=\"%s\" status=%s why=\"%s\"", folder,
                status_name(status), error != NULL ? error : status_text(status));
    s->options.events.failed(s->options.events.data);
}

static void found(struct shards *s)
{
    uuid_random(s->founding.cluster_id);
    clock_random(s->founding.secret, sizeof s->founding.secret);
    s->founding.queue_shards = s->options.queue_shards;
}

enum status shards_open(struct shards **out, const struct shards_options *options,
                        const char **error, const char **folder)
{
    struct shards *s = calloc(1, sizeof *s);
    ASSERT(s != NULL);
    ASSERT(options->queue_shards <= QUEUE_SHARDS_MAX);
    s->options = *options;
    uv_timer_init(options->loop, &s->watch);
    s->watch.data = s;
    found(s);
    *out = s;
    enum status status = open_one(s, 0, error, folder);
    if (status == STATUS_OK && catalog_read(s))
        return open_queue_shards(s, error, folder);
    if (status == STATUS_OK)
        uv_timer_start(&s->watch, on_watch, WATCH_MS, WATCH_MS);
    return status;
}

/* ---- closing ---- */

static void on_watch_closed(uv_handle_t *handle)
{
    struct shards *s = handle->data;
    void (*closed)(void *data) = s->closed;
    void *data = s->closed_data;
    arena_free(&s->arena);
    free(s);
    closed(data);
}

static void on_closed(void *data)
{
    struct place *place = data;
    struct shards *s = place->shards;
    place->shard = NULL;
    if (--s->closing == 0)
        uv_close((uv_handle_t *)&s->watch, on_watch_closed);
}

void shards_close(struct shards *s, void (*closed)(void *data), void *data)
{
    s->closed = closed;
    s->closed_data = data;
    uv_timer_stop(&s->watch);
    s->closing = s->count;
    if (s->count == 0)
        uv_close((uv_handle_t *)&s->watch, on_watch_closed);
    for (uint32_t id = 0, count = s->count; id < count; id++)
        shard_close(s->places[id].shard, on_closed, &s->places[id]);
}

/* ---- finding ---- */

struct shard *shards_catalog(const struct shards *s)
{
    return s->places[0].shard;
}

uint32_t shards_count(const struct shards *s)
{
    return s->count;
}

struct shard *shards_at(const struct shards *s, uint32_t id)
{
    return id < s->count ? s->places[id].shard : NULL;
}

struct shard *shards_of_name(const struct shards *s, struct slice name)
{
    uint32_t shard;
    uint32_t queue_shards;
    core_place(shard_core(s->places[0].shard), &shard, &queue_shards);
    return shards_at(s, shard_of_queue_name(name, queue_shards));
}

struct shard *shards_of_queue(const struct shards *s, uint64_t queue_id)
{
    return shards_at(s, shard_of_queue_id(queue_id));
}

bool shards_ready(const struct shards *s)
{
    uint8_t cluster_id[UUID_BYTES];
    uint8_t secret[32];
    uint32_t shard;
    uint32_t queue_shards;
    core_place(shard_core(s->places[0].shard), &shard, &queue_shards);
    bool ready = s->count == 1 + queue_shards;
    for (uint32_t id = 0; id < s->count && ready; id++)
        ready = shard_ready(s->places[id].shard) &&
                core_bootstrapped(shard_core(s->places[id].shard), cluster_id, secret);
    return ready;
}
