/* SPDX-License-Identifier: Apache-2.0 */
/* One broker process.
 *
 * Opening goes from the bottom up: data folder and its lock, certificates, the way to other nodes,
 * shard, public port, dispatcher (which tells workers the public port's number), native clients.
 * Closing goes from the top down, each step after the one before has called back: native clients
 * and then the public port finish what they answer, the dispatcher gives back what workers hold,
 * the shard writes what is under way, the connections to other nodes end. Then the loop runs empty
 * and node_run returns.
 *
 * This file wires and does not decide: requests belong to the families it registers, work to the
 * dispatcher, state to the shard.
 *
 *     start ──shard ready──> serving ──SIGTERM──> native ──> api ──> dispatcher ──> shard ──> away
 *           ──> cluster ──> exit 0
 */
#include "broker/node.h"

#include "broker/api/api.h"
#include "broker/api/native/native.h"
#include "broker/api/sqs/away.h"
#include "broker/away/away.h"
#include "broker/cluster.h"
#include "broker/dispatch/dispatch.h"
#include "broker/log/log.h"
#include "broker/page_options.h"
#include "broker/shards/look.h"
#include "broker/shards/shards.h"
#include "broker/signatures.h"
#include "broker/tls.h"
#include "proto/base/arena.h"
#include "proto/base/assert.h"
#include "proto/base/options.h"
#include "proto/base/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>
#include <uv.h>

#define LOCK_WAIT_MS       5000u /* a killed predecessor may still be dying */
#define LINGER_MS          300u
#define API_GRACE_MS       2000u
#define DRAIN_MS           300u
#define DRAIN_STEP_MS      5u
#define DISK_RESERVE_BYTES ((uint64_t)256 << 20)

static const struct api_family *const families[] = {
    &api_family_admin,  &api_family_keys,   &api_family_cluster,
    &api_family_backup, &api_family_lambda, &api_family_sqs,
};

struct node {
    const struct node_options *options;
    struct arena arena;
    uv_loop_t loop;
    uv_signal_t sigterm, sigint;
    uv_timer_t linger; /* after a handover; while draining */
    uint64_t drain_until_ms;
    size_t step; /* of closing: the next one */
    struct node_lock lock;
    struct cluster *cluster;
    struct away *away;
    struct node_tls tls;
    struct shards *shards;
    struct auth *auth;
    struct api *api;
    struct dispatch *dispatch;
    struct native *native;
    bool stopping;
    int code; /* of the process */
};

/* ---- the data folder ---- */

/* Make the folder and what is missing above it, for this user only. NULL, or what went wrong. */
static const char *folder_make(const char *path, struct arena *arena)
{
    char *copy = arena_alloc(arena, strlen(path) + 1);
    memcpy(copy, path, strlen(path));
    for (char *at = copy; at != NULL;) {
        at = strchr(at + 1, '/');
        if (at != NULL)
            *at = '\0';
        bool made = mkdir(copy, 0700) == 0;
        int error = made ? disk_sync_parent(&log_disk_real, copy) : errno;
        if (error != 0 && error != EEXIST)
            return strerror(error);
        if (at != NULL)
            *at = '/';
    }
    struct stat about;
    if (stat(path, &about) != 0)
        return strerror(errno);
    return S_ISDIR(about.st_mode) ? NULL : strerror(ENOTDIR);
}

static int folder_take(struct node *node)
{
    const char *dir = node->options->data_dir;
    const char *error = folder_make(dir, &node->arena);
    if (error == NULL && node_lock_take(&node->lock, dir, LOCK_WAIT_MS, &error) == STATUS_OK)
        return EX_OK;
    trace_error("node", "data_dir_unusable", "dir=\"%s\" why=\"%s\"", dir, error);
    arena_free(&node->arena);
    return EX_CANTCREAT;
}

/* ---- events of the shards ---- */

static struct shard *catalog_of(const struct node *node)
{
    return node->shards != NULL ? shards_catalog(node->shards) : NULL;
}

/* Functions run where the catalog is led. */
static void on_leading_changed(void *data, struct shard *shard, bool leads)
{
    struct node *node = data;
    if ((node->stopping && leads) || shard != catalog_of(node))
        return;
    if (node->dispatch != NULL)
        dispatch_set_ready(node->dispatch, leads);
    trace_info("node", leads ? "leads" : "leads_no_more", "node=%" PRIu64, node->options->node_id);
}

static void on_leader_changed(void *data, uint64_t node_id, const char *rpc_address)
{
    struct node *node = data;
    if (node->dispatch == NULL)
        return;
    trace_info("node", "leader", "leader=%" PRIu64 " rpc=%s", node_id,
               rpc_address != NULL ? rpc_address : "none");
    dispatch_set_leader(node->dispatch, node_id == node->options->node_id ? 0 : node_id,
                        rpc_address);
}

static void on_catalog_changed(void *data)
{
    struct node *node = data;
    if (node->dispatch != NULL)
        dispatch_catalog_changed(node->dispatch);
}

static void on_queue_ready(void *data, uint64_t queue_id)
{
    struct node *node = data;
    if (node->dispatch != NULL)
        dispatch_queue_ready(node->dispatch, queue_id);
}

/* ---- closing ---- */

static void close_next(void *data);

static bool close_native(struct node *node)
{
    if (node->native == NULL)
        return false;
    native_close(node->native, API_GRACE_MS, close_next, node);
    return true;
}

static bool close_api(struct node *node)
{
    node->native = NULL;
    if (node->dispatch != NULL)
        dispatch_set_clients(node->dispatch, NULL, NULL);
    if (node->api == NULL)
        return false;
    api_close(node->api, API_GRACE_MS, close_next, node);
    return true;
}

static void on_drain(uv_timer_t *timer)
{
    struct node *node = timer->data;
    if (away_serving(node->away) > 0 && uv_now(&node->loop) < node->drain_until_ms)
        return;
    uv_timer_stop(timer);
    close_next(node);
}

/* What other nodes sent here is finished first; what is new they send elsewhere. */
static bool drain(struct node *node)
{
    node->api = NULL;
    if (node->away == NULL)
        return false;
    away_serve(node->away, AWAY_SQS, NULL);
    node->drain_until_ms = uv_now(&node->loop) + DRAIN_MS;
    uv_timer_start(&node->linger, on_drain, 0, DRAIN_STEP_MS);
    return true;
}

static bool close_dispatch(struct node *node)
{
    if (node->dispatch == NULL)
        return false;
    dispatch_close(node->dispatch, close_next, node);
    return true;
}

static bool close_shards(struct node *node)
{
    node->dispatch = NULL;
    if (node->away != NULL)
        look_serve_end(node->away);
    if (node->cluster != NULL)
        cluster_unwatch(node->cluster);
    if (node->shards == NULL)
        return false;
    shards_close(node->shards, close_next, node);
    return true;
}

/* Behind the shards, which may still have ended a call of its. */
static bool close_auth(struct node *node)
{
    node->shards = NULL;
    if (node->auth == NULL)
        return false;
    auth_close(node->auth, close_next, node);
    return true;
}

/* What is asked of other nodes, and by them, has ended with those above that ask and answer. */
static bool close_away(struct node *node)
{
    node->auth = NULL;
    if (node->away == NULL)
        return false;
    away_close(node->away, close_next, node);
    return true;
}

static bool close_cluster(struct node *node)
{
    node->away = NULL;
    if (node->cluster == NULL)
        return false;
    cluster_close(node->cluster, close_next, node);
    return true;
}

static bool close_handles(struct node *node)
{
    node->cluster = NULL;
    node_tls_close(&node->tls);
    uv_close((uv_handle_t *)&node->linger, NULL);
    uv_close((uv_handle_t *)&node->sigterm, NULL);
    uv_close((uv_handle_t *)&node->sigint, NULL);
    return true;
}

/* In this order. True: it is under way, and goes on to the next one when it has ended; false: there
 * was nothing to do. What a step closes is gone when the next one begins. */
static bool (*const closing[])(struct node *node) = {
    close_native, close_api,  drain,         close_dispatch, close_shards,
    close_auth,   close_away, close_cluster, close_handles,
};

static void close_next(void *data)
{
    struct node *node = data;
    while (!closing[node->step++](node))
        ASSERT(node->step < ARRAY_COUNT(closing));
}

static void linger_over(uv_timer_t *timer)
{
    close_next(timer->data);
}

/* Workers are sent to the new leader meanwhile, and show it what they run: nothing is run twice. */
static void on_handed_over(void *data, enum status status)
{
    struct node *node = data;
    uv_timer_start(&node->linger, linger_over, status == STATUS_OK ? LINGER_MS : 0, 0);
}

/* The leader lets others lead first, while it still serves: clients notice nothing. */
static void node_stop(struct node *node)
{
    node->stopping = true;
    if (node->shards == NULL || !shards_hand_over(node->shards, on_handed_over, node))
        close_next(node);
}

static void on_failed(void *data, int code)
{
    struct node *node = data;
    if (node->stopping)
        return;
    node->code = code;
    node_stop(node);
}

static void on_signal(uv_signal_t *handle, int signum)
{
    struct node *node = handle->data;
    if (node->stopping)
        _exit(128 + signum); /* asked twice */
    trace_info("node", "stopping", "signal=%d", signum);
    node_stop(node);
}

/* ---- opening ---- */

/* Who has the shard: the one that leads it, or is to, comes last (broker/away). */
static size_t replicas_of(void *data, uint32_t shard, uint64_t *out, size_t max)
{
    const struct node *node = data;
    if (node->shards == NULL)
        return 0;
    size_t count = shards_replicas(node->shards, shard, out, max);
    uint64_t leader = shards_leader(node->shards, shard);
    size_t at = 0;
    while (at < count && out[at] != leader)
        at++;
    at = at < count ? at : 0;
    for (; at + 1 < count; at++) {
        uint64_t moved = out[at];
        out[at] = out[at + 1];
        out[at + 1] = moved;
    }
    return count;
}

static void open_away(struct node *node)
{
    struct away_options options = {.loop = &node->loop,
                                   .node_id = node->options->node_id,
                                   .peers = cluster_peers(node->cluster),
                                   .replicas = replicas_of,
                                   .data = node};
    node->away = away_open(&options);
}

static bool host_is_loopback(const char *host)
{
    return strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 ||
           strncmp(host, "127.", 4) == 0;
}

static void warn_if_open(const char *option, const char *address, const char *host)
{
    if (!host_is_loopback(host))
        trace_warn("node", "open_to_the_network",
                   "option=%s addr=%s why=\"this port checks no credentials: whoever reaches this "
                   "address can use it; bind a loopback address or put a firewall in front\"",
                   option, address);
}

static void on_no_key(void *data)
{
    struct node *node = data;
    if (node->stopping)
        return;
    signatures_explain_no_key();
    node->code = EX_CONFIG;
    node_stop(node);
}

static void on_shards_failed(void *data)
{
    on_failed(data, EX_IOERR);
}

static bool on_shards_begun(void *data)
{
    struct node *node = data;
    return cluster_set_shards_begun(node->cluster, shards_begun(node->shards),
                                    shards_total(node->shards) - 1);
}

static int open_shards(struct node *node)
{
    const char *error = NULL;
    const char *folder = NULL;
    struct shards_options options = {.loop = &node->loop,
                                     .data_dir = node->options->data_dir,
                                     .node_id = node->options->node_id,
                                     .address = cluster_address(node->cluster),
                                     .peers = cluster_peers(node->cluster),
                                     .away = node->away,
                                     .join = cluster_joins(node->cluster),
                                     .begun = cluster_shards_begun(node->cluster),
                                     .disk_reserve_bytes = DISK_RESERVE_BYTES,
                                     .move_rate = node->options->move_rate_mb * 1000000,
                                     .queue_shards = (uint32_t)node->options->queue_shards,
                                     .replication = (uint32_t)node->options->replicas,
                                     .events = {.leading_changed = on_leading_changed,
                                                .catalog_changed = on_catalog_changed,
                                                .queue_ready = on_queue_ready,
                                                .begun = on_shards_begun,
                                                .failed = on_shards_failed,
                                                .data = node}};
    options.members = cluster_members(node->cluster, &options.member_count);
    enum status status = shards_open(&node->shards, &options, &error, &folder);
    if (status == STATUS_OK) {
        look_serve(node->away, node->shards);
        cluster_watch(node->cluster, catalog_of(node), on_failed, node);
        return EX_OK;
    }
    trace_error("node", "shard_unusable", "dir=\"%s\" status=%s why=\"%s\"", folder,
                status_name(status), error != NULL ? error : status_text(status));
    return status == STATUS_UNSUPPORTED ? EX_CONFIG : EX_IOERR;
}

static int cannot_listen(const char *option, const char *address, enum status status)
{
    trace_error("node", "cannot_listen", "option=%s addr=%s why=\"%s\"", option, address,
                status == STATUS_EXISTS ? "the address is in use" : status_text(status));
    return EX_UNAVAILABLE;
}

static struct http_limits http_limits_of(const struct node_options *options)
{
    struct http_limits limits = http_limits_default;
    limits.idle_timeout_ms = (uint32_t)options->http_keepalive_timeout_s * 1000;
    limits.requests_max = (uint32_t)options->http_keepalive_requests;
    return limits;
}

static int open_api(struct node *node, const char *host, uint16_t port)
{
    const struct node_options *options = node->options;
    struct api_options api = {
        .loop = &node->loop,
        .shards = node->shards,
        .auth = node->auth,
        .peers = cluster_peers(node->cluster),
        .away = node->away,
        .host = host,
        .port = port,
        .limits = http_limits_of(options),
        .tls = {.http = node->tls.http, .rpc = node->tls.rpc, .peer = node->tls.peer},
        .config = {.region = options->region,
                   .account_id = options->account_id,
                   .public_url = options->public_url,
                   .version = MILLRACE_VERSION,
                   .regions_separate = strcmp(options->regions, "separate") == 0,
                   .aws_cooldowns = strcmp(options->aws_cooldowns, "on") == 0,
                   .node_id = options->node_id,
                   .metrics_queues_max = options->metrics_queues_max},
        .families = families,
        .family_count = ARRAY_COUNT(families)};
    int code = page_options_open(options, node->auth, &api.page_guard);
    if (code != EX_OK)
        return code;
    enum status status = api_open(&node->api, &api);
    return status == STATUS_OK ? EX_OK : cannot_listen("--http", options->http, status);
}

/* What functions are told to call: an address that can be dialled, with the real port. */
static const char *function_endpoint(struct node *node, const char *http_host)
{
    if (node->options->public_url != NULL)
        return node->options->public_url;
    bool any = strcmp(http_host, "0.0.0.0") == 0 || strcmp(http_host, "::") == 0;
    const char *host = any ? "127.0.0.1" : http_host;
    const char *scheme = node->tls.http != NULL ? "https" : "http";
    return strchr(host, ':') != NULL
               ? arena_printf(&node->arena, "%s://[%s]:%u", scheme, host, api_port(node->api))
               : arena_printf(&node->arena, "%s://%s:%u", scheme, host, api_port(node->api));
}

static int open_dispatch(struct node *node, const char *http_host, const char *host, uint16_t port)
{
    struct dispatch_options options = {.loop = &node->loop,
                                       .shards = node->shards,
                                       .rpc_host = host,
                                       .rpc_port = port,
                                       .tls = node->tls.rpc,
                                       .endpoint = function_endpoint(node, http_host),
                                       .region = node->options->region,
                                       .account_id = node->options->account_id,
                                       .version = MILLRACE_VERSION,
                                       .node_id = node->options->node_id,
                                       .peers = cluster_peers(node->cluster)};
    if (node->tls.rpc == NULL)
        warn_if_open("--rpc", node->options->rpc, host);
    enum status status = dispatch_open(&node->dispatch, &options);
    if (status != STATUS_OK) {
        node->dispatch = NULL;
        return cannot_listen("--rpc", node->options->rpc, status);
    }
    api_set_dispatch(node->api, node->dispatch);
    node->native = native_open(node->api);
    dispatch_set_clients(node->dispatch, native_accept, node->native);
    return EX_OK;
}

static int node_open(struct node *node)
{
    const char *http_host;
    const char *rpc_host;
    uint16_t http_port;
    uint16_t rpc_port;
    if (!address_split(node->options->http, &node->arena, &http_host, &http_port) ||
        !address_split(node->options->rpc, &node->arena, &rpc_host, &rpc_port))
        return EX_USAGE;
    int code = node_tls_open(&node->tls, &node->loop, node->options, &node->arena);
    if (code == EX_OK)
        code = cluster_open(&node->cluster, &node->loop, node->options, node->tls.peer);
    if (code == EX_OK)
        open_away(node);
    if (code == EX_OK)
        code = open_shards(node);
    if (code == EX_OK)
        node->auth = signatures_open(node->options, host_is_loopback(http_host), &node->loop,
                                     catalog_of(node), on_no_key, node);
    if (code == EX_OK)
        code = open_api(node, http_host, http_port);
    if (code == EX_OK)
        sqs_away_serve(node->api);
    if (code == EX_OK)
        code = open_dispatch(node, http_host, rpc_host, rpc_port);
    if (code != EX_OK)
        return code;
    uint16_t http = api_port(node->api);
    uint16_t rpc = dispatch_rpc_port(node->dispatch);
    cluster_on_leader(node->cluster, on_leader_changed, node);
    cluster_advertise(node->cluster, http_host, http, rpc_host, rpc);
    trace_info("node", "listening",
               "node=%" PRIu64 " http=%s:%u rpc=%s:%u peer=%s https=%s tls=%s version=%s",
               node->options->node_id, http_host, http, rpc_host, rpc,
               cluster_address(node->cluster), node->tls.http != NULL ? "yes" : "no",
               node->tls.rpc != NULL ? "yes" : "no", MILLRACE_VERSION);
    return EX_OK;
}

static void node_watch_signals(struct node *node)
{
    signal(SIGPIPE, SIG_IGN); /* a peer that went away is seen by the write's error */
    node->sigterm.data = node->sigint.data = node;
    node->linger.data = node;
    uv_timer_init(&node->loop, &node->linger);
    uv_signal_init(&node->loop, &node->sigterm);
    uv_signal_init(&node->loop, &node->sigint);
    uv_signal_start(&node->sigterm, on_signal, SIGTERM);
    uv_signal_start(&node->sigint, on_signal, SIGINT);
}

int node_run(const struct node_options *options)
{
    struct node node = {.options = options};
    int code = folder_take(&node);
    if (code != EX_OK)
        return code;
    if (uv_loop_init(&node.loop) != 0) {
        node_lock_drop(&node.lock);
        return EX_SOFTWARE;
    }
    node_watch_signals(&node);
    node.code = node_open(&node);
    if (node.code != EX_OK)
        node_stop(&node); /* what was opened is closed in order */
    uv_run(&node.loop, UV_RUN_DEFAULT);
    int left = uv_loop_close(&node.loop);
    if (left != 0)
        trace_error("node", "loop_not_empty", "why=%s", uv_err_name(left));
    node_lock_drop(&node.lock);
    arena_free(&node.arena);
    trace_info("node", "stopped", "code=%d", node.code);
    return node.code == EX_OK && left != 0 ? EX_SOFTWARE : node.code;
}
