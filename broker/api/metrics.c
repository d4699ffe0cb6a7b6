/* SPDX-License-Identifier: Apache-2.0 */
/* /metrics: Prometheus' text format, made anew for each scrape from what the layers know anyway;
 * only the request counters are kept for it.
 *
 * What is shown is metrics.def, one row and one small writer for each metric, so that no metric can
 * be without its HELP and TYPE. Label values are escaped as the format asks. The number of queues
 * shown is bounded (--metrics-queues-max: the first by name), because a scrape must stay cheap, and
 * a metric says how many are left out. Queues whose names begin with '/' are the broker's own and
 * not shown.
 *
 * What is of a shard has its number as a label: 0 is the catalog. Queues are those of the shards
 * that this node has a replica of: who scrapes all nodes has all.
 *
 * Counts of a queue come from two places: the core's are the same on every node that has the
 * queue's shard, and survive it; those of queue_counts.h are of this node since it started. Their
 * help says which. */
#include "broker/api/internal.h"
#include "broker/shards/queues.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define METRICS_FUNCTIONS_MAX 1000
#define COUNTERS_FULL         (API_COUNTERS_MAX / 4 * 3)

/* ---- counting requests ---- */

static uint64_t hash_text(uint64_t hash, const char *text)
{
    for (; *text != 0; text++)
        hash = (hash ^ (uint8_t)*text) * UINT64_C(0x100000001b3); /* FNV-1a */
    return hash * 31;
}

static bool same(const struct api_counter *row, const char *family, const char *action,
                 const char *code)
{
    return strcmp(row->family, family) == 0 && strcmp(row->action, action) == 0 &&
           strcmp(row->code, code) == 0;
}

static struct api_counter *find_row(struct api_counters *counters, const char *family,
                                    const char *action, const char *code)
{
    uint64_t hash =
        hash_text(hash_text(hash_text(UINT64_C(0xcbf29ce484222325), family), action), code);
    for (uint64_t i = hash;; i++) {
        struct api_counter *row = &counters->rows[i % API_COUNTERS_MAX];
        if (row->family == NULL || same(row, family, action, code))
            return row;
    }
}

void api_counters_add(struct api_counters *counters, const char *family, const char *action,
                      const char *code, uint64_t elapsed_ns)
{
    struct api_counter *row = find_row(counters, family, action, code);
    if (row->family == NULL && counters->used >= COUNTERS_FULL)
        row = find_row(counters, "other", "other", code = "other");
    if (row->family == NULL) {
        bool full = counters->used >= COUNTERS_FULL;
        *row = (struct api_counter){full ? "other" : family, full ? "other" : action, code, 0, 0};
        counters->used++;
    }
    row->count++;
    row->total_ns += elapsed_ns;
}

/* ---- writing ---- */

struct writer {
    struct api *api;
    struct buffer *out;
    const char *name;
    uint64_t now_ms;
    struct shard_stats *stats; /* of each open shard */
    uint32_t shards;
    uint64_t queue_count;
    struct queue_sample *queues;
    uint64_t queues_shown;
    struct function_sample *functions;
    uint32_t functions_shown;
};

static void write_label(struct buffer *out, const char *before, const char *label,
                        struct slice value)
{
    buffer_printf(out, "%s%s=\"", before, label);
    for (size_t i = 0; i < value.length; i++) {
        uint8_t c = value.data[i];
        if (c == '"' || c == '\\')
            buffer_add_byte(out, '\\');
        if (c == '\n')
            buffer_add_text(out, "\\n");
        else
            buffer_add_byte(out, c);
    }
    buffer_add_byte(out, '"');
}

static void write_plain(struct writer *w, uint64_t value)
{
    buffer_printf(w->out, "%s %" PRIu64 "\n", w->name, value);
}

static void write_requests(struct writer *w, bool seconds)
{
    const struct api_counters *counters = api_counters(w->api);
    for (size_t i = 0; i < API_COUNTERS_MAX; i++) {
        const struct api_counter *row = &counters->rows[i];
        if (row->family == NULL)
            continue;
        buffer_add_text(w->out, w->name);
        write_label(w->out, "{", "family", slice_of(row->family));
        write_label(w->out, ",", "action", slice_of(row->action));
        write_label(w->out, ",", "code", slice_of(row->code));
        if (seconds)
            buffer_printf(w->out, "} %.6f\n", (double)row->total_ns / 1e9);
        else
            buffer_printf(w->out, "} %" PRIu64 "\n", row->count);
    }
}

/* ---- queues: walked once, for all metrics ---- */

struct queue_sample {
    struct slice label; /* {queue="NAME"} and a blank */
    uint64_t visible, in_flight, delayed, sent, received, deleted, oldest_s;
    struct queue_counts here;
};

typedef uint64_t (*queue_value_fn)(const struct queue_sample *queue);

static bool queue_shown(const struct queue_view *queue)
{
    return !slice_starts_with(queue->name, "/");
}

static uint64_t queue_count(const struct api *api)
{
    return shards_queue_count(api_shards(api), (struct slice){0}) -
           shards_queue_count(api_shards(api), SLICE_LITERAL("/"));
}

static void sample_queue(struct writer *w, const struct queue_view *view, struct arena *arena)
{
    struct buffer label = {0};
    uint64_t oldest_ms = view->oldest_sent_ms;
    write_label(&label, "{", "queue", view->name);
    buffer_add_text(&label, "} ");
    w->queues[w->queues_shown++] = (struct queue_sample){
        .label = arena_copy(arena, buffer_slice(&label)),
        .visible = view->visible,
        .in_flight = view->in_flight,
        .delayed = view->delayed,
        .sent = view->sent_total,
        .received = view->received_total,
        .deleted = view->deleted_total,
        .oldest_s = oldest_ms == 0 || oldest_ms > w->now_ms ? 0 : (w->now_ms - oldest_ms) / 1000,
        .here = queue_counters_get(api_queue_counters(w->api), view->queue_id)};
    buffer_free(&label);
}

static void sample_queues(struct writer *w, struct arena *arena)
{
    uint64_t most = api_config(w->api)->metrics_queues_max;
    struct queue_walk walk;
    struct queue_view view;
    w->queue_count = queue_count(w->api);
    most = most < w->queue_count ? most : w->queue_count;
    w->queues = arena_alloc(arena, most * sizeof *w->queues + 1);
    queue_walk_begin(&walk, api_shards(w->api), (struct slice){0});
    while (w->queues_shown < most && queue_walk_next(&walk, &view)) {
        if (queue_shown(&view))
            sample_queue(w, &view, arena);
    }
}

/* `suffix`: behind the metric's name, for a sum and a count. */
static void write_queues(struct writer *w, const char *suffix, queue_value_fn value)
{
    for (uint64_t i = 0; i < w->queues_shown; i++) {
        buffer_add_text(w->out, w->name);
        buffer_add_text(w->out, suffix);
        buffer_add_slice(w->out, w->queues[i].label);
        buffer_add_decimal(w->out, value(&w->queues[i]));
        buffer_add_byte(w->out, '\n');
    }
}

static void metric_queues(struct writer *w)
{
    write_plain(w, w->queue_count);
}

static void metric_queues_left_out(struct writer *w)
{
    write_plain(w, w->queue_count - w->queues_shown);
}

#define QUEUE_VALUE(metric, expression)                                                            \
    static uint64_t value_##metric(const struct queue_sample *queue)                               \
    {                                                                                              \
        return expression;                                                                         \
    }
#define QUEUE_METRIC(metric, expression)                                                           \
    QUEUE_VALUE(metric, expression)                                                                \
    static void metric_##metric(struct writer *w)                                                  \
    {                                                                                              \
        write_queues(w, "", value_##metric);                                                       \
    }
QUEUE_METRIC(queue_visible, queue->visible)
QUEUE_METRIC(queue_in_flight, queue->in_flight)
QUEUE_METRIC(queue_delayed, queue->delayed)
QUEUE_METRIC(queue_sent, queue->sent)
QUEUE_METRIC(queue_received, queue->received)
QUEUE_METRIC(queue_deleted, queue->deleted)
QUEUE_METRIC(queue_oldest, queue->oldest_s)
QUEUE_METRIC(queue_empty_receives, queue->here.empty_receives)
QUEUE_VALUE(queue_sent_here, queue->here.sent)
QUEUE_VALUE(queue_sent_bytes, queue->here.sent_bytes)

static void metric_queue_sent_size(struct writer *w)
{
    write_queues(w, "_sum", value_queue_sent_bytes);
    write_queues(w, "_count", value_queue_sent_here);
}

/* ---- shards: one row for each that is on this node ---- */

typedef uint64_t (*shard_value_fn)(const struct shard *shard, const struct shard_stats *stats);

static void write_shards(struct writer *w, shard_value_fn value)
{
    for (uint32_t id = 0; id < w->shards; id++) {
        const struct shard *shard = shards_here(api_shards(w->api), id);
        if (shard != NULL)
            buffer_printf(w->out, "%s{shard=\"%u\"} %" PRIu64 "\n", w->name, id,
                          value(shard, &w->stats[id]));
    }
}

#define SHARD_METRIC(metric, expression)                                                           \
    static uint64_t value_##metric(const struct shard *shard, const struct shard_stats *stats)     \
    {                                                                                              \
        (void)shard;                                                                               \
        (void)stats;                                                                               \
        return expression;                                                                         \
    }                                                                                              \
    static void metric_##metric(struct writer *w)                                                  \
    {                                                                                              \
        write_shards(w, value_##metric);                                                           \
    }
static uint64_t outbox_total(const struct core *core)
{
    uint64_t total = 0;
    for (uint32_t to = 0; to <= QUEUE_SHARDS_MAX; to++)
        total += core_outbox_count(core, to);
    return total;
}

SHARD_METRIC(shard_ready, shard_ready(shard))
SHARD_METRIC(shard_leads, shard_leads(shard))
SHARD_METRIC(shard_term, stats->term)
SHARD_METRIC(shard_last_index, stats->last_index)
SHARD_METRIC(shard_applied_index, stats->applied_index)
SHARD_METRIC(shard_snapshot_index, stats->snapshot_index)
SHARD_METRIC(shard_entries, stats->entries)
SHARD_METRIC(shard_commands, stats->commands)
SHARD_METRIC(shard_waiting, stats->waiting)
SHARD_METRIC(shard_outbox, outbox_total(shard_core(shard)))
SHARD_METRIC(log_written, stats->log_bytes_written)
SHARD_METRIC(log_saved, stats->log_bytes_saved)
SHARD_METRIC(log_syncs, stats->log_syncs)
SHARD_METRIC(log_segments, stats->log_segments)
SHARD_METRIC(log_on_disk, stats->log_bytes_on_disk)

/* All shards are on one disk; each looks at it for itself. */
static void metric_disk_free(struct writer *w)
{
    write_plain(w, w->stats[0].disk_free_bytes);
}

static void metric_disk_low(struct writer *w)
{
    bool low = false;
    for (uint32_t id = 0; id < w->shards; id++)
        low = low || w->stats[id].disk_low;
    write_plain(w, low);
}

static void metric_requests(struct writer *w)
{
    write_requests(w, false);
}

static void metric_request_seconds(struct writer *w)
{
    write_requests(w, true);
}

static void metric_connections(struct writer *w)
{
    write_plain(w, api_connections(w->api));
}

/* ---- TLS: one row for each port that speaks it ---- */

static void write_port(struct writer *w, const struct tls_context *tls, const char *port,
                       double (*value)(const struct tls_context_stats *stats))
{
    if (tls == NULL)
        return;
    struct tls_context_stats stats = tls_context_stats(tls);
    buffer_add_text(w->out, w->name);
    write_label(w->out, "{", "port", slice_of(port));
    buffer_printf(w->out, "} %.15g\n", value(&stats));
}

#define TLS_METRIC(metric, expression)                                                             \
    static double value_##metric(const struct tls_context_stats *stats)                            \
    {                                                                                              \
        return (double)(expression);                                                               \
    }                                                                                              \
    static void metric_##metric(struct writer *w)                                                  \
    {                                                                                              \
        const struct api_tls *tls = api_tls(w->api);                                               \
        write_port(w, tls->http, "http", value_##metric);                                          \
        write_port(w, tls->rpc, "rpc", value_##metric);                                            \
        write_port(w, tls->peer, "peer", value_##metric);                                          \
    }
TLS_METRIC(tls_expiry, stats->expires_s)
TLS_METRIC(tls_handshakes, stats->handshakes)
TLS_METRIC(tls_failures, stats->failures)
TLS_METRIC(tls_reloads, stats->loads - 1)
TLS_METRIC(tls_reload_failures, stats->refusals)

static void metric_workers(struct writer *w)
{
    struct dispatch *dispatch = api_dispatch(w->api);
    struct dispatch_worker_view worker;
    size_t position = 0;
    uint64_t count = 0;
    while (dispatch != NULL && dispatch_worker_next(dispatch, &position, &worker))
        count++;
    write_plain(w, count);
}

static void write_workers(struct writer *w, bool warm)
{
    struct dispatch *dispatch = api_dispatch(w->api);
    struct dispatch_worker_view worker;
    size_t position = 0;
    while (dispatch != NULL && dispatch_worker_next(dispatch, &position, &worker)) {
        buffer_add_text(w->out, w->name);
        write_label(w->out, "{", "worker", slice_of(worker.worker_id));
        buffer_printf(w->out, "} %u\n", warm ? worker.warm : worker.running);
    }
}

static void metric_workers_running(struct writer *w)
{
    write_workers(w, false);
}

static void metric_workers_warm(struct writer *w)
{
    write_workers(w, true);
}

/* ---- functions: walked once too, since each asks all shards what it used there ---- */

struct function_sample {
    struct slice label; /* {function="NAME"} and a blank */
    struct usage usage;
    struct dispatch_function_view now;
};

typedef double (*function_value_fn)(const struct usage *usage,
                                    const struct dispatch_function_view *now);

static void sample_function(struct writer *w, struct slice name, struct arena *arena)
{
    struct function_sample *sample = &w->functions[w->functions_shown++];
    struct buffer label = {0};
    write_label(&label, "{", "function", name);
    buffer_add_text(&label, "} ");
    *sample = (struct function_sample){.label = arena_copy(arena, buffer_slice(&label))};
    (void)shards_function_usage(api_shards(w->api), name, &sample->usage);
    if (api_dispatch(w->api) != NULL)
        dispatch_function(api_dispatch(w->api), name, &sample->now);
    buffer_free(&label);
}

static void sample_functions(struct writer *w, struct arena *arena)
{
    const struct core *core = shard_core(api_catalog(w->api));
    struct function_view function;
    struct slice after = {0};
    w->functions = arena_alloc(arena, METRICS_FUNCTIONS_MAX * sizeof *w->functions);
    while (w->functions_shown < METRICS_FUNCTIONS_MAX &&
           core_function_next(core, after, &function)) {
        sample_function(w, function.name, arena);
        after = function.name;
    }
}

static void write_functions(struct writer *w, function_value_fn value)
{
    for (uint32_t i = 0; i < w->functions_shown; i++) {
        const struct function_sample *sample = &w->functions[i];
        buffer_add_text(w->out, w->name);
        buffer_add_slice(w->out, sample->label);
        buffer_printf(w->out, "%.15g\n", value(&sample->usage, &sample->now));
    }
}

#define FUNCTION_METRIC(metric, expression)                                                        \
    static double value_##metric(const struct usage *usage,                                        \
                                 const struct dispatch_function_view *now)                         \
    {                                                                                              \
        (void)usage;                                                                               \
        (void)now;                                                                                 \
        return expression;                                                                         \
    }                                                                                              \
    static void metric_##metric(struct writer *w)                                                  \
    {                                                                                              \
        write_functions(w, value_##metric);                                                        \
    }
FUNCTION_METRIC(function_running, now->running)
FUNCTION_METRIC(function_waiting, now->waiting)
FUNCTION_METRIC(function_invocations, (double)usage->invocations)
FUNCTION_METRIC(function_errors, (double)usage->errors)
FUNCTION_METRIC(function_timeouts, (double)usage->timeouts)
FUNCTION_METRIC(function_throttles, (double)usage->throttles)
FUNCTION_METRIC(function_cold_starts, (double)usage->cold_starts)
FUNCTION_METRIC(function_duration, (double)usage->duration_us / 1e6)
FUNCTION_METRIC(function_gb_seconds, (double)usage->billed_mb_ms / 1024 / 1000)

static void metric_process_memory(struct writer *w)
{
    unsigned long total = 0;
    unsigned long resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL)
        return;
    if (fscanf(file, "%lu %lu", &total, &resident) == 2)
        write_plain(w, (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE));
    fclose(file);
}

static void metric_process_cpu(struct writer *w)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return;
    double seconds = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                     (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    buffer_printf(w->out, "%s %.6f\n", w->name, seconds);
}

static void metric_process_fds(struct writer *w)
{
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL)
        return;
    uint64_t count = 0;
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
        count += entry->d_name[0] != '.';
    closedir(dir);
    write_plain(w, count - 1); /* without the one that counted */
}

static void metric_process_start(struct writer *w)
{
    write_plain(w, api_started_ms(w->api) / 1000);
}

static const struct {
    const char *name;
    const char *type;
    const char *help;
    void (*write)(struct writer *w);
} metrics[] = {
#define METRIC(writer, name, type, help) {name, type, help, metric_##writer},
#include "broker/api/metrics.def"
#undef METRIC
};

void metrics_write(struct api *api, struct buffer *out)
{
    struct arena arena = {0};
    struct writer writer = {
        .api = api, .out = out, .now_ms = clock_now_ms(), .shards = shards_total(api_shards(api))};
    writer.stats = arena_alloc(&arena, writer.shards * sizeof *writer.stats);
    for (uint32_t id = 0; id < writer.shards; id++) {
        const struct shard *shard = shards_here(api_shards(api), id);
        if (shard != NULL)
            shard_stats(shard, &writer.stats[id]);
    }
    sample_queues(&writer, &arena);
    sample_functions(&writer, &arena);
    for (size_t i = 0; i < ARRAY_COUNT(metrics); i++) {
        writer.name = metrics[i].name;
        buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", metrics[i].name, metrics[i].help,
                      metrics[i].name, metrics[i].type);
        metrics[i].write(&writer);
    }
    arena_free(&arena);
}
