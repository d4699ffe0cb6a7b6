/* SPDX-License-Identifier: Apache-2.0 */
/* The family of pages about the broker itself: is it alive, can it serve, what does it do. They
 * work while the shard does not lead, which is when they are needed most. "Live" means that the
 * loop answers; "ready" that requests would be served. Who may read those that tell more is for
 * page_guard.c to say. */
#include "broker/api/internal.h"
#include "broker/api/page_guard.h"
#include "broker/shards/look.h"
#include "broker/shards/tallies.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"

#include <jansson.h>
#include <stdlib.h>
#include <utlist.h>

#define ADMIN_BODY_BYTES_MAX 65536
#define LOOK_MS              1500u /* pages do not wait for others for longer */

/* What other nodes were asked for: views of queues of their shards. */
struct elsewhere {
    const struct queue_view *queues;
    uint32_t count;
};

struct page {
    struct slice path;
    const char *action;
    const char *content_type;
    const char *permit; /* what a key must be allowed where there is a guard; NULL: everybody may */
    /* write: returns the HTTP status. */
    int (*write)(struct api *api, const struct elsewhere *elsewhere, struct buffer *out);
    bool usage;  /* it shows what functions used, also in shards that are not here; */
    bool queues; /* and the queues of those */
};

static int write_live(struct api *api, const struct elsewhere *elsewhere, struct buffer *out)
{
    (void)api, (void)elsewhere;
    buffer_add_text(out, "{\"status\":\"live\"}\n");
    return 200;
}

static int write_ready(struct api *api, const struct elsewhere *elsewhere, struct buffer *out)
{
    (void)elsewhere;
    bool ready = api_ready(api);
    buffer_printf(out, "{\"status\":\"%s\"}\n", ready ? "ready" : "not ready");
    return ready ? 200 : 503;
}

static int write_metrics(struct api *api, const struct elsewhere *elsewhere, struct buffer *out)
{
    (void)elsewhere;
    metrics_write(api, out);
    return 200;
}

static int write_status(struct api *api, const struct elsewhere *elsewhere, struct buffer *out)
{
    status_write(api, elsewhere->queues, elsewhere->count, out);
    return 200;
}

static const struct page pages[] = {
    {SLICE_LITERAL("/health/live"), "HealthLive", "application/json", NULL, write_live, false,
     false},
    {SLICE_LITERAL("/health/ready"), "HealthReady", "application/json", NULL, write_ready, false,
     false},
    {SLICE_LITERAL("/metrics"), "Metrics", "text/plain; version=0.0.4; charset=utf-8",
     "millrace:GetMetrics", write_metrics, true, false},
    {SLICE_LITERAL("/status"), "Status", "application/json", "millrace:GetStatus", write_status,
     true, true},
};

static const struct page *page_of(const struct http_request *request)
{
    for (size_t i = 0; i < ARRAY_COUNT(pages); i++) {
        if (slice_equal(request->path, pages[i].path))
            return &pages[i];
    }
    return NULL;
}

static bool admin_matches(const struct http_request *request)
{
    return page_of(request) != NULL;
}

/* 401, so that a client that has credentials sends them; 403 for those that will not do. */
static void refuse(struct http_request *request, const struct page *page, uint64_t started_ns,
                   struct api *api, const struct auth_failure *failure)
{
    bool missing = failure->code == AUTH_MISSING_TOKEN;
    const char *code = auth_failure_exception(failure->code);
    const struct http_header headers[] = {
        {SLICE_LITERAL("Content-Type"), SLICE_LITERAL("application/json")},
        {SLICE_LITERAL("Cache-Control"), SLICE_LITERAL("no-store")},
        {SLICE_LITERAL("x-amzn-ErrorType"), slice_of(code)},
        {SLICE_LITERAL("WWW-Authenticate"), SLICE_LITERAL("Bearer realm=\"millrace\"")}};
    json_t *said = json_pack("{s:s, s:s}", "Type", "User", "Message", failure->message);
    char *text = said != NULL ? json_dumps(said, JSON_COMPACT) : NULL;
    struct buffer body = {0};
    buffer_add_text(&body, text != NULL ? text : "{}");
    free(text);
    json_decref(said);
    api_count(api, "admin", page->action, code, started_ns);
    http_respond(request, missing ? 401 : auth_failure_status(failure->code), headers,
                 missing ? 4 : 3, &body);
    buffer_free(&body);
}

/* False: it was answered. */
static bool let_in(struct api *api, struct http_request *request, const struct page *page,
                   uint64_t started_ns)
{
    struct page_guard *guard = api_page_guard(api);
    struct arena arena = {0};
    struct auth_failure failure;
    bool lets = guard == NULL || page->permit == NULL ||
                page_guard_lets(guard, api, request, page->permit, &arena, &failure);
    if (!lets)
        refuse(request, page, started_ns, api, &failure);
    arena_free(&arena);
    return lets;
}

static void answer(struct api *api, struct http_request *request, uint64_t started_ns,
                   const struct elsewhere *elsewhere)
{
    const struct page *page = page_of(request);
    bool reads = slice_is(request->method, "GET") || slice_is(request->method, "HEAD");
    struct buffer body = {0};
    int status = 405;
    if (reads)
        status = page->write(api, elsewhere, &body);
    else
        buffer_add_text(&body, "{\"message\":\"This page is read with GET.\"}\n");
    const char *type = reads ? page->content_type : "application/json";
    struct http_header headers[] = {{SLICE_LITERAL("Content-Type"), slice_of(type)},
                                    {SLICE_LITERAL("Cache-Control"), SLICE_LITERAL("no-store")},
                                    {SLICE_LITERAL("Allow"), SLICE_LITERAL("GET, HEAD")}};
    const char *code = status == 200 ? NULL : status == 503 ? "NotReady" : "MethodNotAllowed";
    api_count(api, "admin", page->action, code, started_ns);
    http_respond(request, status, headers, reads ? 2 : 3, &body);
    buffer_free(&body);
}

/* ---- pages that wait for other nodes ---- */

/* It is in admin_state, and holds the api, until it has been answered; its memory stays until what
 * was asked has ended, which is later where a node says nothing. */
struct waiting {
    struct api *api;
    struct http_request *request; /* NULL: its client has gone */
    uint64_t started_ns;
    uint64_t deadline_ms; /* of the loop's clock */
    bool fetches, looks;  /* under way */
    bool answered;
    struct arena arena;
    struct shard_look look;
    struct waiting *prev, *next;
};

struct admin_state {
    struct waiting *waiting;
};

static void waiting_answer(struct waiting *waiting)
{
    struct api *api = waiting->api;
    struct admin_state *state = api_family_state(api, &api_family_admin);
    struct elsewhere elsewhere = {0};
    if (!waiting->looks)
        elsewhere = (struct elsewhere){waiting->look.views, waiting->look.count};
    else
        look_cancel(&waiting->look);
    waiting->answered = true;
    DL_DELETE(state->waiting, waiting);
    if (waiting->request != NULL)
        answer(api, waiting->request, waiting->started_ns, &elsewhere);
    api_release(api);
}

/* Something has ended. */
static void waiting_step(struct waiting *waiting)
{
    if (!waiting->answered && !waiting->fetches &&
        (!waiting->looks || uv_now(api_loop(waiting->api)) >= waiting->deadline_ms))
        waiting_answer(waiting);
    if (waiting->fetches || waiting->looks)
        return;
    arena_free(&waiting->arena);
    free(waiting);
}

static void on_fetched(void *data)
{
    struct waiting *waiting = data;
    waiting->fetches = false;
    waiting_step(waiting);
}

static void on_looked(struct shard_look *look, enum status status)
{
    struct waiting *waiting = look->data;
    if (status != STATUS_OK)
        look->count = 0; /* it was cancelled */
    waiting->looks = false;
    waiting_step(waiting);
}

/* The queues of all shards that are elsewhere, as far as somebody tells. */
static bool look_begins(struct waiting *waiting)
{
    struct shards *shards = api_shards(waiting->api);
    struct shard_look *look = &waiting->look;
    uint64_t now_ms = uv_now(api_loop(waiting->api));
    look->question.run_max = STATUS_ITEMS_MAX;
    look->since_ms = now_ms + LOOK_MS > SHARD_CALL_MS ? now_ms + LOOK_MS - SHARD_CALL_MS : 1;
    look->optional = true;
    look->arena = &waiting->arena;
    look->done = on_looked;
    look->data = waiting;
    shard_set_add_queues(&look->set, shards);
    return api_away(waiting->api) != NULL && look_begin(look, shards, api_away(waiting->api));
}

static bool waits(struct api *api, struct http_request *request, const struct page *page,
                  uint64_t started_ns)
{
    struct admin_state *state = api_family_state(api, &api_family_admin);
    struct waiting *waiting = calloc(1, sizeof *waiting);
    ASSERT(waiting != NULL);
    *waiting = (struct waiting){.api = api,
                                .request = request,
                                .started_ns = started_ns,
                                .deadline_ms = uv_now(api_loop(api)) + LOOK_MS};
    waiting->fetches = page->usage && tallies_fetch(api_shards(api), on_fetched, waiting);
    waiting->looks = page->queues && look_begins(waiting);
    if (!waiting->fetches && !waiting->looks) {
        arena_free(&waiting->arena);
        free(waiting);
        return false;
    }
    api_hold(api);
    DL_APPEND(state->waiting, waiting);
    return true;
}

static void admin_abort(struct api *api, struct http_request *request)
{
    struct admin_state *state = api_family_state(api, &api_family_admin);
    struct waiting *waiting;
    DL_FOREACH(state->waiting, waiting)
    {
        if (waiting->request == request)
            waiting->request = NULL;
    }
}

static void *state_new(void)
{
    struct admin_state *state = calloc(1, sizeof *state);
    ASSERT(state != NULL);
    return state;
}

/* ---- the family ---- */

static void admin_handle(struct api *api, struct http_request *request)
{
    const struct page *page = page_of(request);
    ASSERT(page != NULL);
    uint64_t started_ns = clock_monotonic_ns();
    if (!let_in(api, request, page, started_ns))
        return;
    static const struct elsewhere nothing;
    if (!waits(api, request, page, started_ns))
        answer(api, request, started_ns, &nothing);
}

const struct api_family api_family_admin = {
    .name = "admin",
    .matches = admin_matches,
    .body_bytes_max = ADMIN_BODY_BYTES_MAX,
    .handle = admin_handle,
    .abort = admin_abort,
    .works_unready = true,
    .state_new = state_new,
    .state_free = free,
};
