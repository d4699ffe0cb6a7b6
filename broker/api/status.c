/* SPDX-License-Identifier: Apache-2.0 */
/* /status: one JSON document for `millrace status` and for people: the node, its shards, the
 * workers, the queues, the functions with their usage, the mappings. `leads`, `leader` and `shard`
 * are of the catalog, which workers and functions depend on. Its keys are an interface:
 * fields may be added, none is renamed. Lists are bounded (STATUS_ITEMS_MAX), as this is a view,
 * not an export. Queues of shards that are not here were asked for (admin.c). */
#include "broker/api/internal.h"
#include "broker/dispatch/function_config.h"
#include "broker/feature/feature.h"
#include "broker/shards/queues.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/encode.h"

#include <inttypes.h>

static void write_text(struct buffer *out, struct slice text)
{
    buffer_add_byte(out, '"');
    for (size_t i = 0; i < text.length; i++) {
        uint8_t c = text.data[i];
        if (c < 0x20 || c == 0x7f) {
            buffer_printf(out, "\\u%04x", c);
            continue;
        }
        if (c == '"' || c == '\\')
            buffer_add_byte(out, '\\');
        buffer_add_byte(out, c);
    }
    buffer_add_byte(out, '"');
}

static void write_member(struct buffer *out, const char *key, struct slice text)
{
    buffer_printf(out, "\"%s\":", key);
    write_text(out, text);
}

static void write_node(struct api *api, struct buffer *out)
{
    uint8_t cluster_id[UUID_BYTES] = {0};
    uint8_t secret[32];
    char cluster[UUID_TEXT_LENGTH + 1] = "";
    if (core_bootstrapped(shard_core(api_catalog(api)), cluster_id, secret))
        uuid_text(cluster_id, cluster);
    struct arena arena = {0};
    write_member(out, "version", slice_of(api_config(api)->version));
    buffer_add_byte(out, ',');
    write_member(out, "leader_endpoint",
                 slice_of(api_node_endpoint(api, shard_leader(api_catalog(api)), &arena)));
    arena_free(&arena);
    buffer_printf(out, ",\"node_id\":%" PRIu64 ",", api_config(api)->node_id);
    write_member(out, "cluster_id", slice_of(cluster));
    buffer_printf(out, ",\"ready\":%s,\"leads\":%s,\"leader\":%" PRIu64 ",\"uptime_s\":%" PRIu64,
                  api_ready(api) ? "true" : "false",
                  shard_leads(api_catalog(api)) ? "true" : "false", shard_leader(api_catalog(api)),
                  (clock_now_ms() - api_started_ms(api)) / 1000);
}

/* What this program knows, the level in force, and what that allows. */
static void write_features(struct api *api, struct buffer *out)
{
    uint32_t level = shard_level(api_catalog(api));
    const char *before = "";
    buffer_printf(out, ",\"feature_level\":%u,\"program_feature_level\":%u,\"features\":[", level,
                  feature_level());
    for (unsigned i = 0; i < FEATURE_COUNT; i++) {
        if (!feature_in(level, (enum feature)i))
            continue;
        buffer_printf(out, "%s\"%s\"", before, feature_name((enum feature)i));
        before = ",";
    }
    buffer_add_byte(out, ']');
}

static void write_shard(struct buffer *out, const struct shard *shard, uint32_t id)
{
    struct shard_stats s;
    shard_stats(shard, &s);
    buffer_printf(out,
                  "{\"id\":%u,\"ready\":%s,\"leads\":%s,\"leader\":%" PRIu64 ",\"term\":%" PRIu64
                  ",\"last_index\":%" PRIu64 ",\"applied_index\":%" PRIu64
                  ",\"snapshot_index\":%" PRIu64 ",\"log_segments\":%" PRIu64
                  ",\"log_bytes_on_disk\":%" PRIu64 ",\"log_syncs\":%" PRIu64
                  ",\"entries\":%" PRIu64 ",\"commands\":%" PRIu64 ",\"disk_free_bytes\":%" PRIu64
                  ",\"disk_low\":%s",
                  id, shard_ready(shard) ? "true" : "false", shard_leads(shard) ? "true" : "false",
                  shard_leader(shard), s.term, s.last_index, s.applied_index, s.snapshot_index,
                  s.log_segments, s.log_bytes_on_disk, s.log_syncs, s.entries, s.commands,
                  s.disk_free_bytes, s.disk_low ? "true" : "false");
}

/* One that this node has no replica of: what its leader said lately. */
static void write_shard_elsewhere(struct api *api, struct buffer *out, uint32_t id)
{
    struct shard_state state;
    bool told = shards_state(api_shards(api), id, &state);
    buffer_printf(out,
                  "{\"id\":%u,\"ready\":%s,\"leads\":false,\"leader\":%" PRIu64
                  ",\"last_index\":%" PRIu64,
                  id, told ? "true" : "false", state.leader, state.last_index);
}

static void write_replicas(struct api *api, struct buffer *out, uint32_t id)
{
    uint64_t nodes[SHARD_MEMBERS_MAX];
    size_t count = shards_replicas(api_shards(api), id, nodes, ARRAY_COUNT(nodes));
    buffer_add_text(out, ",\"replicas\":[");
    for (size_t i = 0; i < count; i++)
        buffer_printf(out, "%s%" PRIu64, i > 0 ? "," : "", nodes[i]);
    buffer_add_text(out, "]}");
}

static void write_shards(struct api *api, struct buffer *out)
{
    for (uint32_t id = 0; id < shards_total(api_shards(api)); id++) {
        const struct shard *shard = shards_here(api_shards(api), id);
        buffer_add_text(out, id > 0 ? "," : "");
        if (shard != NULL)
            write_shard(out, shard, id);
        else
            write_shard_elsewhere(api, out, id);
        buffer_printf(out, ",\"here\":%s", shard != NULL ? "true" : "false");
        write_replicas(api, out, id);
    }
}

static void write_workers(struct api *api, struct buffer *out)
{
    struct dispatch_worker_view worker;
    size_t position = 0;
    const char *before = "";
    while (api_dispatch(api) != NULL &&
           dispatch_worker_next(api_dispatch(api), &position, &worker)) {
        buffer_printf(out, "%s{", before);
        write_member(out, "id", slice_of(worker.worker_id));
        buffer_add_byte(out, ',');
        write_member(out, "host", slice_of(worker.host));
        buffer_add_byte(out, ',');
        write_member(out, "version", slice_of(worker.version));
        buffer_add_byte(out, ',');
        write_member(out, "isolation", slice_of(worker.isolation));
        buffer_printf(
            out, ",\"concurrency_max\":%u,\"running\":%u,\"warm\":%u,\"memory_bytes\":%" PRIu64 "}",
            worker.concurrency_max, worker.running, worker.warm, worker.memory_bytes);
        before = ",";
    }
}

static void write_queues(struct api *api, const struct queue_view *elsewhere, uint32_t count,
                         struct buffer *out)
{
    struct queue_walk walk;
    struct queue_view queue;
    queue_walk_begin(&walk, api_shards(api), (struct slice){0});
    queue_walk_with(&walk, elsewhere, count, (struct slice){0});
    for (unsigned shown = 0; shown < STATUS_ITEMS_MAX && queue_walk_next(&walk, &queue);) {
        if (slice_starts_with(queue.name, "/"))
            continue;
        buffer_add_text(out, shown++ > 0 ? ",{" : "{");
        write_member(out, "name", queue.name);
        buffer_printf(out,
                      ",\"shard\":%u,\"visible\":%" PRIu64 ",\"in_flight\":%" PRIu64
                      ",\"delayed\":%" PRIu64 "}",
                      shard_of_queue_id(queue.queue_id), queue.visible, queue.in_flight,
                      queue.delayed);
    }
}

static void write_functions(struct api *api, struct buffer *out)
{
    const struct core *core = shard_core(api_catalog(api));
    struct function_view function;
    struct slice after = {0};
    for (unsigned shown = 0; shown < STATUS_ITEMS_MAX && core_function_next(core, after, &function);
         shown++) {
        after = function.name;
        struct dispatch_function_view now = {0};
        if (api_dispatch(api) != NULL)
            dispatch_function(api_dispatch(api), function.name, &now);
        struct usage usage = {0};
        (void)shards_function_usage(api_shards(api), function.name, &usage);
        const struct usage *u = &usage;
        buffer_add_text(out, shown > 0 ? ",{" : "{");
        write_member(out, "name", function.name);
        buffer_printf(out, ",\"running\":%u,\"running_peak\":%u,\"waiting\":%u", now.running,
                      now.running_peak, now.waiting);
        buffer_printf(out,
                      ",\"usage\":{\"invocations\":%" PRIu64 ",\"errors\":%" PRIu64
                      ",\"timeouts\":%" PRIu64 ",\"throttles\":%" PRIu64 ",\"cold_starts\":%" PRIu64
                      ",\"duration_ms\":%.3f,\"billed_ms\":%" PRIu64 ",\"gb_seconds\":%.6f}}",
                      u->invocations, u->errors, u->timeouts, u->throttles, u->cold_starts,
                      (double)u->duration_us / 1000, u->billed_ms,
                      (double)u->billed_mb_ms / 1024 / 1000);
    }
}

/* A record that cannot be read shows as disabled: the dispatcher does not run it either. */
static bool mapping_enabled(const struct mapping_view *mapping)
{
    struct arena arena = {0};
    struct mapping_config config = {0};
    bool enabled =
        mapping_config_decode(mapping->config, &arena, &config) == STATUS_OK && config.enabled;
    arena_free(&arena);
    return enabled;
}

static void write_mappings(struct api *api, struct buffer *out)
{
    const struct core *core = shard_core(api_catalog(api));
    struct mapping_view mapping;
    size_t position = 0;
    for (unsigned shown = 0;
         shown < STATUS_ITEMS_MAX && core_mapping_next(core, &position, &mapping); shown++) {
        struct dispatch_mapping_view now = {0};
        if (api_dispatch(api) != NULL)
            dispatch_mapping(api_dispatch(api), mapping.uuid, &now);
        char uuid[UUID_TEXT_LENGTH + 1];
        uuid_text(mapping.uuid, uuid);
        buffer_printf(out, "%s{\"uuid\":\"%s\",", shown > 0 ? "," : "", uuid);
        write_member(out, "function", mapping.function_name);
        buffer_add_byte(out, ',');
        write_member(out, "queue", mapping.queue_name);
        buffer_printf(out, ",\"enabled\":%s,\"running\":%u,\"concurrency_target\":%u,",
                      mapping_enabled(&mapping) ? "true" : "false", now.running,
                      now.concurrency_target);
        write_member(out, "last_result", slice_of(now.last_result != NULL ? now.last_result : ""));
        buffer_add_byte(out, '}');
    }
}

void status_write(struct api *api, const struct queue_view *elsewhere, uint32_t count,
                  struct buffer *out)
{
    buffer_add_byte(out, '{');
    write_node(api, out);
    write_features(api, out);
    buffer_add_text(out, ",\"shard\":");
    write_shard(out, api_catalog(api), 0);
    buffer_add_text(out, "},\"queues\":[");
    write_queues(api, elsewhere, count, out);
    buffer_add_byte(out, ']');
    static const struct {
        const char *key;
        void (*write)(struct api *api, struct buffer *out);
    } lists[] = {{"shards", write_shards},
                 {"workers", write_workers},
                 {"functions", write_functions},
                 {"mappings", write_mappings}};
    for (size_t i = 0; i < ARRAY_COUNT(lists); i++) {
        buffer_printf(out, ",\"%s\":[", lists[i].key);
        lists[i].write(api, out);
        buffer_add_byte(out, ']');
    }
    buffer_add_text(out, "}\n");
}
