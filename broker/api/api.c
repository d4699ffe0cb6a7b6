/* SPDX-License-Identifier: Apache-2.0 */
/* The public HTTP port: which family answers a request, and what all families share.
 *
 * Families are asked in the order in which the node registered them, once the request's head is
 * here; the first that matches serves the request, which keeps it (request->route).
 *
 * A request that no family wants gets a small JSON 404. One that reads the state of a shard that
 * another node leads waits until that is fresh (fresh.c). A family that cannot work while the
 * catalog is not ready is not called then; the answer is 503 with Retry-After. SQS does both
 * itself: it knows which shards a request is about once it has decoded it, and answers in the
 * protocol that it was asked in.
 *
 * Closing has three steps: stop accepting, let requests finish for the grace, then close what is
 * left (long polls are aborted by then, which gives nothing to a consumer that has gone). */
#include "broker/api/api.h"

#include "broker/api/fresh.h"
#include "broker/api/internal.h"
#include "broker/api/page_guard.h"
#include "broker/peer/tcp.h"
#include "broker/shards/queues.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <stdlib.h>

#define BODY_BYTES_UNMATCHED 65536
#define GRACE_STEP_MS        20

struct api {
    struct api_config config;
    struct shards *shards;
    struct auth *auth;
    struct peers *peers;
    struct away *away;
    struct page_guard *page_guard;
    struct dispatch *dispatch;
    struct http_server *server;
    struct api_tls tls;
    const struct api_family *const *families;
    void **family_states;
    size_t family_count;
    uint64_t started_ms;
    struct api_counters counters;
    struct fresh *fresh; /* requests that wait until this node is up to date */
    struct queue_counters *queues;
    uv_idle_t turn; /* active: a turn's end was asked for */
    /* closing */
    uv_timer_t grace_timer;
    uint64_t grace_until_ns;
    bool closing;
    bool is_closed;
    unsigned holds; /* calls that have not ended */
    void (*closed)(void *data);
    void *closed_data;
};

bool api_ready(const struct api *api)
{
    return shards_ready(api->shards);
}

/* It is in a cluster, too: a new one gets its identity with its first command. */
static bool catalog_ready(const struct api *api)
{
    uint8_t cluster_id[UUID_BYTES];
    uint8_t secret[32];
    const struct shard *catalog = api_catalog(api);
    return shard_ready(catalog) && core_bootstrapped(shard_core(catalog), cluster_id, secret);
}

static const struct api_family *family_of(const struct api *api, const struct http_request *request)
{
    for (size_t i = 0; i < api->family_count; i++) {
        if (api->families[i]->matches(request))
            return api->families[i];
    }
    return NULL;
}

static void respond_json(struct http_request *request, int status, const char *json)
{
    static const struct http_header headers[] = {
        {{(const uint8_t *)"Content-Type", 12}, {(const uint8_t *)"application/json", 16}},
    };
    struct buffer body = {0};
    buffer_add_text(&body, json);
    http_respond(request, status, headers, ARRAY_COUNT(headers), &body);
    buffer_free(&body);
}

static void respond_unready(struct http_request *request)
{
    const struct http_header headers[] = {
        {SLICE_LITERAL("Content-Type"), SLICE_LITERAL("application/json")},
        {SLICE_LITERAL("Retry-After"), SLICE_LITERAL("1")},
        {SLICE_LITERAL("x-amzn-ErrorType"), SLICE_LITERAL("ServiceException")},
    };
    struct buffer body = {0};
    buffer_add_text(&body,
                    "{\"Type\":\"Service\",\"Message\":\"This node does not serve requests at "
                    "the moment. Try again after a moment.\"}");
    http_respond(request, 503, headers, ARRAY_COUNT(headers), &body);
    buffer_free(&body);
}

static size_t on_body_bytes_max(void *data, struct http_request *request)
{
    const struct api_family *family = family_of(data, request);
    request->route = family;
    if (family == NULL)
        return BODY_BYTES_UNMATCHED;
    if (family->body_limit == NULL)
        return family->body_bytes_max;
    size_t limit = family->body_limit(request);
    return limit < family->body_bytes_max ? limit : family->body_bytes_max;
}

static void on_too_large(void *data, struct http_request *request)
{
    struct api *api = data;
    const struct api_family *family = request->route;
    if (family != NULL && family->too_large != NULL)
        family->too_large(api, request);
    else
        respond_json(request, 413, "{\"message\":\"The request body is too large.\"}");
}

static void handle(struct api *api, struct http_request *request)
{
    const struct api_family *family = request->route;
    if (family == NULL) {
        uint64_t now = clock_monotonic_ns();
        api_count(api, "none", "none", "NotFound", now);
        respond_json(request, 404, "{\"message\":\"There is nothing at this path.\"}");
    } else if (!family->works_unready && !catalog_ready(api)) {
        api_count(api, family->name, "unready", "ServiceUnavailable", clock_monotonic_ns());
        respond_unready(request);
    } else {
        family->handle(api, request);
    }
}

static struct shard_set shards_read(const struct api *api, enum api_reads reads)
{
    struct shard_set set = {.catalog = reads != API_READS_NOTHING};
    if (reads == API_READS_ALL)
        shard_set_add_queues(&set, api->shards);
    return set;
}

static void on_request(void *data, struct http_request *request)
{
    struct api *api = data;
    const struct api_family *family = request->route;
    struct shard_set set = {0};
    if (family != NULL && family->reads != NULL && !api->closing)
        set = shards_read(api, family->reads(request));
    if (!fresh_wait(&api->fresh, api, &set, request, handle))
        handle(api, request);
}

static void on_abort(void *data, struct http_request *request)
{
    struct api *api = data;
    const struct api_family *family = request->route;
    if (fresh_abort(api->fresh, request))
        return;
    if (family != NULL && family->abort != NULL)
        family->abort(api, request);
}

static void api_free(struct api *api)
{
    for (size_t i = 0; i < api->family_count; i++) {
        if (api->family_states[i] != NULL)
            api->families[i]->state_free(api->family_states[i]);
    }
    free(api->family_states);
    queue_counters_free(api->queues);
    page_guard_free(api->page_guard);
    free(api);
}

enum status api_open(struct api **out, const struct api_options *options)
{
    struct api *api = calloc(1, sizeof *api);
    ASSERT(api != NULL);
    api->config = options->config;
    api->shards = options->shards;
    api->tls = options->tls;
    api->auth = options->auth;
    api->peers = options->peers;
    api->away = options->away;
    api->page_guard = options->page_guard;
    api->families = options->families;
    api->family_count = options->family_count;
    api->started_ms = clock_now_ms();
    api->queues = queue_counters_new();
    api->family_states = calloc(options->family_count + 1, sizeof *api->family_states);
    ASSERT(api->family_states != NULL);
    for (size_t i = 0; i < api->family_count; i++) {
        if (api->families[i]->state_new != NULL)
            api->family_states[i] = api->families[i]->state_new();
    }
    struct http_handler handler = {.data = api,
                                   .body_bytes_max = on_body_bytes_max,
                                   .on_too_large = on_too_large,
                                   .on_request = on_request,
                                   .on_abort = on_abort};
    enum status status = http_server_open(&api->server, options->loop, options->host, options->port,
                                          &options->limits, &handler);
    if (status != STATUS_OK) {
        api_free(api);
        return status;
    }
    http_server_use_tls(api->server, api->tls.http);
    ASSERT(uv_timer_init(options->loop, &api->grace_timer) == 0);
    api->grace_timer.data = api;
    ASSERT(uv_idle_init(options->loop, &api->turn) == 0);
    api->turn.data = api;
    *out = api;
    return STATUS_OK;
}

void api_set_dispatch(struct api *api, struct dispatch *dispatch)
{
    api->dispatch = dispatch;
}

/* The end of a turn. Idle handles have theirs before the shards make entries of what has come. */

static void on_turn_end(uv_idle_t *idle)
{
    struct api *api = idle->data;
    uv_idle_stop(idle);
    for (size_t i = 0; i < api->family_count; i++) {
        if (api->families[i]->turn_end != NULL)
            api->families[i]->turn_end(api);
    }
}

void api_want_turn_end(struct api *api)
{
    ASSERT(!uv_is_closing((uv_handle_t *)&api->turn));
    if (!uv_is_active((uv_handle_t *)&api->turn))
        uv_idle_start(&api->turn, on_turn_end);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct api *api = handle->data;
    void (*closed)(void *data) = api->closed;
    void *data = api->closed_data;
    fresh_detach(&api->fresh);
    api->is_closed = true;
    api->dispatch = NULL;
    if (api->holds == 0)
        api_free(api);
    closed(data);
}

void api_hold(struct api *api)
{
    api->holds++;
}

void api_release(struct api *api)
{
    ASSERT(api->holds > 0);
    if (--api->holds == 0 && api->is_closed)
        api_free(api);
}

static void on_turn_closed(uv_handle_t *handle)
{
    struct api *api = handle->data;
    uv_close((uv_handle_t *)&api->grace_timer, on_timer_closed);
}

/* No request is left, but the turn in which the last ones came may have to end yet. */
static void on_server_closed(void *data)
{
    struct api *api = data;
    api->server = NULL;
    if (uv_is_active((uv_handle_t *)&api->turn))
        on_turn_end(&api->turn);
    uv_close((uv_handle_t *)&api->turn, on_turn_closed);
}

static void on_grace_step(uv_timer_t *timer)
{
    struct api *api = timer->data;
    if (http_server_connections(api->server) > 0 && clock_monotonic_ns() < api->grace_until_ns)
        return;
    uv_timer_stop(timer);
    http_server_close(api->server, on_server_closed, api);
}

void api_close(struct api *api, uint32_t grace_ms, void (*closed)(void *data), void *data)
{
    ASSERT(!api->closing);
    api->closing = true;
    api->closed = closed;
    api->closed_data = data;
    api->grace_until_ns = clock_monotonic_ns() + grace_ms * UINT64_C(1000000);
    http_server_stop_accepting(api->server);
    for (size_t i = 0; i < api->family_count; i++) {
        if (api->families[i]->closing != NULL)
            api->families[i]->closing(api);
    }
    ASSERT(uv_timer_start(&api->grace_timer, on_grace_step, 0, GRACE_STEP_MS) == 0);
}

bool api_closing(const struct api *api)
{
    return api->closing;
}

uint16_t api_port(const struct api *api)
{
    return http_server_port(api->server);
}

struct shards *api_shards(const struct api *api)
{
    return api->shards;
}

struct shard *api_catalog(const struct api *api)
{
    return shards_catalog(api->shards);
}

struct page_guard *api_page_guard(const struct api *api)
{
    return api->page_guard;
}

struct away *api_away(const struct api *api)
{
    return api->away;
}

struct peers *api_peers(struct api *api)
{
    return api->peers;
}

struct auth *api_auth(struct api *api)
{
    return api->auth;
}

uv_loop_t *api_loop(const struct api *api)
{
    return api->grace_timer.loop;
}

struct dispatch *api_dispatch(struct api *api)
{
    return api->dispatch;
}

const struct api_config *api_config(const struct api *api)
{
    return &api->config;
}

void *api_family_state(struct api *api, const struct api_family *family)
{
    for (size_t i = 0; i < api->family_count; i++) {
        if (api->families[i] == family)
            return api->family_states[i];
    }
    return NULL;
}

/* A Host header goes into URLs that clients will dial: only what a host and port can consist of. */
static bool host_usable(struct slice host)
{
    if (host.length == 0 || host.length > 255)
        return false;
    for (size_t i = 0; i < host.length; i++) {
        uint8_t c = host.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && strchr(".-_:[]", c) == NULL)
            return false;
    }
    return true;
}

const char *api_base_url(struct api *api, struct http_request *request)
{
    if (api->config.public_url != NULL)
        return api->config.public_url;
    struct slice host = http_header(request, "Host");
    const char *scheme = api->tls.http != NULL ? "https" : "http";
    if (!host_usable(host))
        return arena_printf(&request->arena, "%s://127.0.0.1:%u", scheme, api_port(api));
    return arena_printf(&request->arena, "%s://%.*s", scheme, SLICE_ARGS(host));
}

void api_count(struct api *api, const char *family, const char *action, const char *code,
               uint64_t started_ns)
{
    api_counters_add(&api->counters, family, action, code != NULL ? code : "",
                     clock_monotonic_ns() - started_ns);
}

static bool queue_exists(const void *shards, uint64_t queue_id)
{
    struct queue_view view;
    return shards_queue_by_id(shards, queue_id, &view);
}

struct queue_counts *api_queue_counts(struct api *api, uint64_t queue_id)
{
    return queue_counters_of(api->queues, queue_exists, api->shards, queue_id);
}

const struct queue_counters *api_queue_counters(const struct api *api)
{
    return api->queues;
}

const struct api_counters *api_counters(const struct api *api)
{
    return &api->counters;
}

uint64_t api_started_ms(const struct api *api)
{
    return api->started_ms;
}

const char *api_node_endpoint(struct api *api, uint64_t node_id, struct arena *arena)
{
    struct peer_about about;
    const char *scheme = api->tls.http != NULL ? "https" : "http";
    return node_id != 0 && node_id != api->config.node_id && api->peers != NULL &&
                   peers_tcp_node(api->peers, node_id, &about) && about.http[0] != '\0'
               ? arena_printf(arena, "%s://%s", scheme, about.http)
               : "";
}

const struct api_tls *api_tls(const struct api *api)
{
    return &api->tls;
}

unsigned api_connections(const struct api *api)
{
    return http_server_connections(api->server);
}
