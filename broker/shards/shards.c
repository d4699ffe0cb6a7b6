/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/shards/internal.h"
#include "proto/base/assert.h"
#include "proto/base/beat.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define TICK_MS         50u
#define COURIER_KEEP_MS 3000u
#define BEGUN_REST_MS   1000u

/* ---- events ---- */

static void on_leading_changed(void *data, bool leads)
{
    struct place *place = data;
    struct shards_events *events = &place->shards->options.events;
    place->led_since_ms = leads ? shards_now_ms(place->shards) : 0;
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
    if (!place->serves)
        return;
    glances_queue_ready(place->shards, queue_id);
    events->queue_ready(events->data, queue_id);
}

static void on_departs(void *data)
{
    courier_look(((struct place *)data)->courier);
}

/* ---- opening ---- */

void place_dir(const struct place *place, const char *suffix, char out[PLACE_DIR_MAX])
{
    int length = snprintf(out, PLACE_DIR_MAX, "%s/shard-%u%s", place->shards->options.data_dir,
                          place->id, suffix);
    ASSERT(length > 0 && length < (int)PLACE_DIR_MAX);
}

static uint64_t bit_of(uint32_t id)
{
    return UINT64_C(1) << (id - 1);
}

/* A folder that is gone took votes and entries with it that others rely on. */
static bool is_lost(const struct shards *s, uint32_t id, const char *dir)
{
    struct stat about;
    return id > 0 && (s->options.begun & bit_of(id)) != 0 && stat(dir, &about) != 0;
}

/* Who has let go of a shard, or is to, does not found it again. */
static void choose_members(struct shards *s, uint32_t id, struct shard_member *founders,
                           struct shard_options *options)
{
    bool again = s->places[id].unkept || release_was_here(&s->places[id]);
    size_t count = again ? 0 : founders_of(s, id, founders);
    options->join = true;
    options->members = NULL;
    options->member_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (founders[i].id != s->options.node_id)
            continue;
        options->join = false;
        options->members = founders;
        options->member_count = count;
    }
}

static struct shard_options options_for(struct shards *s, uint32_t id)
{
    const struct shards_options *o = &s->options;
    return (struct shard_options){.loop = o->loop,
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
                                  .move_rate = o->move_rate,
                                  .leading_changed = on_leading_changed,
                                  .catalog_changed = on_catalog_changed,
                                  .queue_ready = on_queue_ready,
                                  .departs = on_departs,
                                  .data = &s->places[id]};
}

static enum status open_one(struct shards *s, uint32_t id, const char **error, const char **folder)
{
    struct place *place = &s->places[id];
    struct shard_member founders[SHARD_MEMBERS_MAX];
    struct shard_options options = options_for(s, id);
    *folder = options.dir;
    if (is_lost(s, id, options.dir)) {
        *error = "the folder is missing, and this node had it: restore it, or replace the node";
        return STATUS_CORRUPT;
    }
    if (id > 0) {
        release_take_up(place);
        choose_members(s, id, founders, &options);
    }
    enum status status = shard_open(&place->shard, &options, error);
    if (status != STATUS_OK) {
        place->shard = NULL;
        return status;
    }
    place->unkept = false;
    place->serves = place_serves(place);
    place->courier = courier_new(&(struct courier_options){
        .loop = s->options.loop, .shard = place->shard, .shards = s, .keep_ms = COURIER_KEEP_MS});
    return status;
}

/* What the catalog says; false: not enough yet. */
static bool catalog_read(struct shards *s)
{
    const struct core *core = shard_core(s->places[0].shard);
    uint32_t shard;
    if (!core_bootstrapped(core, s->founding.cluster_id, s->founding.secret))
        return false;
    core_place(core, &shard, &s->founding.queue_shards);
    s->catalog_known = s->founding.queue_shards == 0 || founders_known(s);
    return s->catalog_known;
}

/* A folder is taken up again at once; a new one is begun when the catalog is likely to be up to
 * date: it may have named this node once. */
static bool is_to_open(const struct place *place)
{
    const struct shards *s = place->shards;
    if (place->shard != NULL || place->release != RELEASE_NONE)
        return false;
    if (place->unkept || (!s->opened && (s->options.begun & bit_of(place->id)) != 0))
        return true;
    return shard_ready(s->places[0].shard) && place_is_listed(place);
}

static enum status open_queue_shards(struct shards *s, const char **error, const char **folder)
{
    enum status status = STATUS_OK;
    for (uint32_t id = 1; status == STATUS_OK && id < places_end(s); id++) {
        if (is_to_open(&s->places[id]))
            status = open_one(s, id, error, folder);
    }
    return status;
}

uint64_t shards_begun(const struct shards *s)
{
    uint64_t begun = 0;
    for (uint32_t id = 1; id < places_end(s); id++) {
        const struct place *place = &s->places[id];
        bool kept = place->release == RELEASE_CLOSING || place->release == RELEASE_KEEPING;
        begun |= place->shard != NULL || kept ? bit_of(id) : 0;
    }
    return begun;
}

static void keep_begun(struct shards *s)
{
    uint64_t begun = shards_begun(s);
    if (!s->opened || s->options.begun == begun || shards_now_ms(s) < s->begun_at_ms)
        return;
    if (s->options.events.begun(s->options.events.data))
        s->options.begun = begun;
    else
        s->begun_at_ms = shards_now_ms(s) + BEGUN_REST_MS;
}

static void open_late(struct shards *s)
{
    const char *error = NULL;
    const char *folder;
    if (!s->catalog_known && !catalog_read(s))
        return;
    enum status status = open_queue_shards(s, &error, &folder);
    if (status != STATUS_OK) {
        uv_timer_stop(&s->tick);
        trace_error("shards", "unusable", "dir=\"%s\" status=%s why=\"%s\"", folder,
                    status_name(status), error != NULL ? error : status_text(status));
        s->options.events.failed(s->options.events.data);
        return;
    }
    s->opened = s->opened || shard_ready(s->places[0].shard);
    keep_begun(s);
}

static void found(struct shards *s)
{
    uuid_random(s->founding.cluster_id);
    clock_random(s->founding.secret, sizeof s->founding.secret);
    s->founding.queue_shards = s->options.queue_shards;
}

/* ---- what there is to do now and then ---- */

static void on_changed(struct shard_change *change, enum status status)
{
    struct place *place = change->data;
    place->changing = false;
    trace_info("shards", "changed", "shard=%u status=%s", place->id, status_name(status));
}

bool place_may_change(const struct place *place)
{
    return !place->changing && !place->shards->handing_over && shard_leads(place->shard) &&
           shards_now_ms(place->shards) >= place->rest_until_ms;
}

void place_change(struct place *place, place_change_fn begin, uint64_t node_id, uint64_t rest_ms)
{
    place->changing = true;
    place->rest_until_ms = shards_now_ms(place->shards) + rest_ms;
    begin(place->shard, &place->change, node_id);
}

static void on_synced(struct shard_sync *sync, enum status status)
{
    struct shards *s = sync->data;
    s->syncing = false;
    if (status == STATUS_OK)
        s->synced_ms = s->sync_began_ms;
}

bool place_sees_catalog(const struct place *place)
{
    struct shards *s = place->shards;
    if (place->id == 0 || s->synced_ms > place->led_since_ms)
        return true;
    if (!s->syncing && shards_now_ms(s) > place->led_since_ms) {
        s->syncing = true;
        s->sync_began_ms = shards_now_ms(s);
        s->sync = (struct shard_sync){.done = on_synced, .data = s};
        shard_sync(s->places[0].shard, &s->sync);
    }
    return false;
}

static void tick_one(struct place *place)
{
    place->serves = place->out_since_ms == 0 && place_serves(place);
    if (place->releases && place->id > 0 && !shard_leads(place->shard))
        return;
    level_tick(place);
    courier_look(place->courier);
    if (!place_may_change(place) || !place_sees_catalog(place))
        return;
    place->change = (struct shard_change){.done = on_changed, .data = place};
    if (place->id == 0 || !follow_tick(place))
        balance_tick(place);
}

/* Couriers of shards that are not here any more, once nobody is to answer them. */
static void free_spent(struct shards *s)
{
    struct spent **at = &s->spent;
    while (*at != NULL) {
        struct spent *spent = *at;
        if (!courier_ended(spent->courier)) {
            at = &spent->next;
            continue;
        }
        *at = spent->next;
        courier_free(spent->courier);
        free(spent);
    }
}

static void on_tick(uv_timer_t *timer);

static void arm_tick(struct shards *s)
{
    uint64_t now_ms = uv_now(s->options.loop);
    uv_timer_start(&s->tick, on_tick, beat_in_ms(now_ms, TICK_MS, s->options.node_id), 0);
}

static void on_tick(uv_timer_t *timer)
{
    struct shards *s = timer->data;
    arm_tick(s);
    free_spent(s);
    open_late(s);
    watch_tick(s);
    plan_tick(s);
    tallies_tick(s);
    for (uint32_t id = 0; id < places_end(s); id++) {
        release_tick(&s->places[id]);
        if (s->places[id].shard != NULL && s->places[id].release == RELEASE_NONE)
            tick_one(&s->places[id]);
    }
}

static struct shards *make(const struct shards_options *options)
{
    struct shards *s = calloc(1, sizeof *s);
    ASSERT(s != NULL);
    ASSERT(options->queue_shards <= QUEUE_SHARDS_MAX);
    ASSERT(options->replication <= REPLICATION_MAX);
    s->options = *options;
    if (s->options.replication == 0)
        s->options.replication = REPLICATION_DEFAULT;
    for (uint32_t id = 0; id <= QUEUE_SHARDS_MAX; id++)
        s->places[id] = (struct place){.shards = s, .id = id};
    uv_timer_init(options->loop, &s->tick);
    s->tick.data = s;
    found(s);
    clock_random(&s->asked,
                 sizeof s->asked); /* what was told to a process before is not for this */
    return s;
}

enum status shards_open(struct shards **out, const struct shards_options *options,
                        const char **error, const char **folder)
{
    struct shards *s = make(options);
    *out = s;
    doors_open(s, options->away);
    enum status status = open_one(s, 0, error, folder);
    if (status == STATUS_OK && options->begun != 0 && catalog_read(s))
        status = open_queue_shards(s, error, folder);
    if (status == STATUS_OK) {
        watch_open(s);
        arm_tick(s);
    }
    return status;
}

/* ---- closing ---- */

static void free_couriers(struct shards *s)
{
    for (uint32_t id = 0; id <= QUEUE_SHARDS_MAX; id++) {
        if (s->places[id].courier != NULL)
            courier_free(s->places[id].courier);
    }
    free_spent(s);
    ASSERT(s->spent == NULL);
}

static void on_tick_closed(uv_handle_t *handle)
{
    struct shards *s = handle->data;
    void (*closed)(void *data) = s->closed;
    void *data = s->closed_data;
    free_couriers(s);
    for (uint32_t id = 0; id <= QUEUE_SHARDS_MAX; id++)
        free(s->places[id].state);
    tallies_free(s);
    arena_free(&s->arena);
    free(s);
    closed(data);
}

static void on_doors_closed(uv_handle_t *handle)
{
    struct shards *s = handle->data;
    uv_close((uv_handle_t *)&s->tick, on_tick_closed);
}

/* Questions end soon after they were cancelled, and tasks with the shard that did them. */
static void close_when_ended(uv_timer_t *timer)
{
    struct shards *s = timer->data;
    if (!doors_ended(s))
        uv_timer_start(&s->tick, close_when_ended, 1, 0);
    else
        doors_close(s, on_doors_closed);
}

void shards_part_begin(struct shards *s)
{
    s->parts++;
}

void shards_part_closed(struct shards *s)
{
    if (--s->parts == 0 && s->closed != NULL)
        close_when_ended(&s->tick);
}

static void on_closed(void *data)
{
    struct place *place = data;
    place->shard = NULL;
    shards_part_closed(place->shards);
}

void shards_close(struct shards *s, void (*closed)(void *data), void *data)
{
    s->closed = closed;
    s->closed_data = data;
    uv_timer_stop(&s->tick);
    watch_close(s);
    doors_stop(s);
    shards_part_begin(s);
    for (uint32_t id = 0; id <= QUEUE_SHARDS_MAX; id++) {
        if (s->places[id].courier != NULL)
            courier_stop(s->places[id].courier);
    }
    for (uint32_t id = 0; id <= QUEUE_SHARDS_MAX; id++) {
        struct place *place = &s->places[id];
        if (place->shard == NULL || place->release == RELEASE_CLOSING)
            continue;
        shards_part_begin(s);
        shard_close(place->shard, on_closed, place);
    }
    shards_part_closed(s);
}

/* ---- finding ---- */

struct shard *shards_catalog(const struct shards *s)
{
    return s->places[0].shard;
}

uint32_t shards_total(const struct shards *s)
{
    uint32_t shard;
    uint32_t queue_shards;
    core_place(shard_core(s->places[0].shard), &shard, &queue_shards);
    return 1 + queue_shards;
}

struct shard *shards_here(const struct shards *s, uint32_t id)
{
    return id <= QUEUE_SHARDS_MAX ? s->places[id].shard : NULL;
}

struct shard *shards_at(const struct shards *s, uint32_t id)
{
    return id <= QUEUE_SHARDS_MAX && s->places[id].serves ? s->places[id].shard : NULL;
}

void shards_hold(struct shards *s, uint32_t id)
{
    ASSERT(s->places[id].shard != NULL);
    s->places[id].held++;
}

void shards_let_go(struct shards *s, uint32_t id)
{
    ASSERT(s->places[id].held > 0);
    s->places[id].held--;
}

uint32_t shards_id_of_name(const struct shards *s, struct slice name)
{
    return shard_of_queue_name(name, shards_total(s) - 1);
}

struct shard *shards_of_name(const struct shards *s, struct slice name)
{
    return shards_at(s, shards_id_of_name(s, name));
}

struct shard *shards_of_queue(const struct shards *s, uint64_t queue_id)
{
    return shards_at(s, shard_of_queue_id(queue_id));
}

bool shards_function_usage(const struct shards *s, struct slice name, struct usage *out)
{
    const struct core *catalog = shard_core(s->places[0].shard);
    struct function_view function;
    if (!core_function_get(catalog, name, &function))
        return false;
    *out = function.usage;
    uint64_t function_id = core_function_id(catalog, name);
    for (uint32_t id = 1; id < places_end(s) && function_id > 0; id++) {
        struct usage more;
        if (tallies_get(s, id, function_id, &more))
            core_usage_add(out, &more);
    }
    return true;
}

static bool is_ready(const struct place *place)
{
    uint8_t cluster_id[UUID_BYTES];
    uint8_t secret[32];
    return shard_ready(place->shard) &&
           core_bootstrapped(shard_core(place->shard), cluster_id, secret);
}

bool shards_ready(const struct shards *s)
{
    bool ready = s->opened && is_ready(&s->places[0]);
    for (uint32_t id = 1; id < places_end(s) && ready; id++) {
        if (s->places[id].serves)
            ready = is_ready(&s->places[id]);
    }
    return ready;
}
