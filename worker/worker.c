/* SPDX-License-Identifier: Apache-2.0 */
/* Wiring: orders go from the session to the pool, results and capacity back, code between the
 * session and the store. What the broker says about itself at the start of a session (endpoint,
 * region) is kept for the environments to come.
 *
 * The data folder, all of it the worker's own:
 *     lock       held while a worker runs
 *     code/      unpacked packages by digest; kept across restarts
 *     logs/      output of functions; kept
 *     runtime/   our bootstraps, written at every start
 *     root/      empty: where environments' file trees are mounted, each in its own namespace
 *     tmp/       private folders of environments without namespaces; emptied at start
 *
 * What runs with a claim outlives its session: the next broker is shown it right after its Welcome,
 * and takes it over or cancels it (claims.h). Everything else belongs to the session it came in.
 *
 * Capacity is sent a moment after it changed, not at once, so that a burst of results is one
 * message; a result itself is never held back. */
#include "worker/worker.h"

#include "proto/base/assert.h"
#include "proto/base/trace.h"
#include "worker/claims.h"
#include "worker/file_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define CAPACITY_DELAY_MS 2
#define DRAIN_LOOK_MS     50

struct worker {
    struct worker_options options;
    int lock_fd;
    char worker_id[UUID_TEXT_LENGTH + 1];
    char host[256];
    char *runtime_ids[RUNTIMES_MAX];
    Millrace__Hello hello;
    char *data_dir, *code_dir, *logs_dir;
    char endpoint[512], region[128];
    struct broker_link *link;
    struct pool *pool;
    struct claims *claims;
    struct code_store *code_store;
    struct log_files *log_files;
    uv_timer_t capacity_timer;
    uv_timer_t drain_timer;
    bool draining;
    uint64_t drain_until_ms;
    unsigned timers_closing;
    void (*closed)(void *data);
    void *closed_data;
};

/* ---- between session and pool ---- */

static void send_capacity(uv_timer_t *timer)
{
    struct worker *w = timer->data;
    struct pool_capacity capacity;
    Millrace__Capacity message = MILLRACE__CAPACITY__INIT;
    Millrace__Warm rows[ENVIRONMENTS_MAX];
    Millrace__Warm *pointers[ENVIRONMENTS_MAX];
    pool_capacity(w->pool, &capacity);
    for (uint32_t i = 0; i < capacity.warm_count; i++) {
        millrace__warm__init(&rows[i]);
        rows[i].function = (char *)(uintptr_t)capacity.warm[i].function;
        rows[i].revision = capacity.warm[i].revision;
        rows[i].idle = capacity.warm[i].idle;
        pointers[i] = &rows[i];
    }
    message.slots_free = w->draining ? 0 : capacity.slots_free;
    message.memory_free_bytes = capacity.memory_free_bytes;
    message.n_warm = capacity.warm_count;
    message.warm = pointers;
    enum status status = broker_link_send(w->link, 0, MILLRACE__TYPE__TYPE_CAPACITY, &message.base);
    if (status != STATUS_OK)
        trace_debug("worker", "capacity_not_sent", "error=\"%s\"", status_text(status));
}

static void on_change(void *data)
{
    struct worker *w = data;
    if (!uv_is_active((uv_handle_t *)&w->capacity_timer))
        uv_timer_start(&w->capacity_timer, send_capacity, CAPACITY_DELAY_MS, 0);
}

static void on_result(void *data, uint64_t session, const Millrace__Result *result)
{
    struct worker *w = data;
    if (w->link == NULL)
        return;
    bool claimed = claims_has(w->claims, result->lease_id);
    enum status status = broker_link_send(w->link, claimed ? 0 : session,
                                          MILLRACE__TYPE__TYPE_RESULT, &result->base);
    if (status == STATUS_OK)
        claims_sent(w->claims, result->lease_id);
    else if (!claims_keep(w->claims, result, uv_now(w->options.loop)))
        trace_info("worker", "result_dropped", "lease=%llu why=\"%s\"",
                   (unsigned long long)result->lease_id, status_text(status));
}

static bool show(void *data, uint16_t type, const ProtobufCMessage *message)
{
    struct worker *w = data;
    return broker_link_send(w->link, 0, type, message) == STATUS_OK;
}

static void on_welcome(void *data, uint64_t session, const Millrace__Welcome *welcome)
{
    struct worker *w = data;
    (void)session;
    claims_show(w->claims, uv_now(w->options.loop), show, w);
    snprintf(w->endpoint, sizeof w->endpoint, "%s", welcome->endpoint);
    snprintf(w->region, sizeof w->region, "%s", welcome->region);
    on_change(w);
}

static void on_lost(void *data, uint64_t session)
{
    struct worker *w = data;
    trace_debug("worker", "session_lost", "session=%llu", (unsigned long long)session);
    code_store_session_ended(w->code_store);
}

static void on_assign(void *data, uint64_t session, Millrace__Assign *order)
{
    struct worker *w = data;
    claims_add(w->claims, order, uv_now(w->options.loop));
    pool_assign(w->pool, session, order);
}

static void on_cancel(void *data, uint64_t lease_id)
{
    struct worker *w = data;
    pool_cancel(w->pool, lease_id);
}

static void on_code_piece(void *data, const Millrace__CodePiece *piece)
{
    struct worker *w = data;
    code_store_piece(w->code_store, slice_make(piece->sha256.data, piece->sha256.len),
                     piece->offset, slice_make(piece->data.data, piece->data.len),
                     piece->total_bytes, piece->missing);
}

static bool request_code(void *data, const uint8_t sha256[SHA256_BYTES], uint64_t offset)
{
    struct worker *w = data;
    Millrace__CodeRequest request = MILLRACE__CODE_REQUEST__INIT;
    request.sha256 = (ProtobufCBinaryData){SHA256_BYTES, (uint8_t *)(uintptr_t)sha256};
    request.offset = offset;
    return broker_link_send(w->link, 0, MILLRACE__TYPE__TYPE_CODE_REQUEST, &request.base) ==
           STATUS_OK;
}

/* ---- the data folder ---- */

static char *path_below(const struct worker *w, const char *name)
{
    char *path = NULL;
    int length = asprintf(&path, "%s/%s", w->data_dir, name);
    ASSERT(length > 0);
    return path;
}

static enum status make_folder(const struct worker *w, const char *name, mode_t mode)
{
    char *path = path_below(w, name);
    enum status status = STATUS_OK;
    if (mkdir(path, mode) != 0 && errno != EEXIST)
        status = status_from_errno(errno);
    if (status == STATUS_OK && chmod(path, mode) != 0)
        status = status_from_errno(errno);
    free(path);
    return status;
}

static enum status lock_folder(struct worker *w)
{
    char *path = path_below(w, "lock");
    w->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    free(path);
    if (w->lock_fd < 0)
        return status_from_errno(errno);
    if (flock(w->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return STATUS_OK;
    return errno == EWOULDBLOCK ? STATUS_LOCKED : status_from_errno(errno);
}

/* Functions with a user of their own but without mounts reach code/, runtime/ and tmp/N by path, so
 * these and the data folder itself may be walked through, though not listed. */
static enum status make_folders(struct worker *w)
{
    static const struct {
        const char *name;
        mode_t mode;
    } folders[] = {{"code", 0711}, {"logs", 0700}, {"root", 0700}, {"tmp", 0711}};
    enum status status = lock_folder(w);
    char *tmp = path_below(w, "tmp");
    char *runtime = path_below(w, "runtime");
    if (status == STATUS_OK && chmod(w->data_dir, 0711) != 0)
        status = status_from_errno(errno);
    if (status == STATUS_OK)
        status = file_tree_remove(tmp);
    for (size_t i = 0; i < ARRAY_COUNT(folders) && status == STATUS_OK; i++)
        status = make_folder(w, folders[i].name, folders[i].mode);
    if (status == STATUS_OK)
        status = runtimes_install(runtime);
    free(tmp);
    free(runtime);
    return status;
}

/* ---- opening ---- */

static void make_hello(struct worker *w)
{
    const struct worker_options *options = &w->options;
    uint8_t uuid[UUID_BYTES];
    uuid_random(uuid);
    uuid_text(uuid, w->worker_id);
    if (gethostname(w->host, sizeof w->host - 1) != 0)
        snprintf(w->host, sizeof w->host, "unknown");
    for (unsigned i = 0; i < options->runtimes->count; i++)
        w->runtime_ids[i] = (char *)(uintptr_t)options->runtimes->rows[i].id;
    millrace__hello__init(&w->hello);
    w->hello.protocol = 1;
    w->hello.worker_id = w->worker_id;
    w->hello.version = (char *)(uintptr_t)MILLRACE_VERSION;
    w->hello.host = w->host;
    w->hello.memory_bytes = options->memory_bytes;
    w->hello.concurrency_max = options->environments_max;
    w->hello.n_runtimes = options->runtimes->count;
    w->hello.runtimes = w->runtime_ids;
    w->hello.isolation = (char *)(uintptr_t)options->isolation->text;
}

static enum status open_pool(struct worker *w)
{
    const struct worker_options *options = &w->options;
    struct pool_options pool = {
        .setup = {.loop = options->loop,
                  .launcher = options->launcher,
                  .isolation = options->isolation,
                  .runtimes = options->runtimes,
                  .code_store = w->code_store,
                  .log_files = w->log_files,
                  .data_dir = w->data_dir,
                  .endpoint = w->endpoint,
                  .region = w->region,
                  .init_timeout_ms = options->init_timeout_ms},
        .memory_bytes = options->memory_bytes,
        .environments_max = options->environments_max,
        .keep_alive_ms = options->keep_alive_ms,
        .on_result = on_result,
        .on_change = on_change,
        .data = w,
    };
    return pool_open(&w->pool, &pool);
}

static void open_link(struct worker *w)
{
    struct broker_link_options options = {
        .loop = w->options.loop,
        .addresses = w->options.addresses,
        .address_count = w->options.address_count,
        .tls = w->options.tls,
        .hello = &w->hello,
        .on_welcome = on_welcome,
        .on_lost = on_lost,
        .on_assign = on_assign,
        .on_cancel = on_cancel,
        .on_code_piece = on_code_piece,
        .data = w,
    };
    w->link = broker_link_open(&options);
}

static void free_worker(struct worker *w)
{
    if (w->lock_fd >= 0)
        close(w->lock_fd);
    free(w->data_dir);
    free(w->code_dir);
    free(w->logs_dir);
    claims_free(w->claims);
    free(w);
}

static void nothing(void *data)
{
    (void)data;
}

enum status worker_open(struct worker **out, const struct worker_options *options)
{
    struct worker *w = calloc(1, sizeof *w);
    ASSERT(w != NULL);
    w->options = *options;
    w->claims = claims_new();
    w->lock_fd = -1;
    w->data_dir = strdup(options->data_dir);
    ASSERT(w->data_dir != NULL);
    w->code_dir = path_below(w, "code");
    w->logs_dir = path_below(w, "logs");
    enum status status = make_folders(w);
    if (status != STATUS_OK)
        goto err;
    struct code_store_options code = {.loop = options->loop,
                                      .dir = w->code_dir,
                                      .bytes_max = options->code_bytes_max,
                                      .request = request_code,
                                      .data = w};
    status = code_store_open(&w->code_store, &code);
    if (status != STATUS_OK)
        goto err;
    w->log_files = log_files_open(options->loop, w->logs_dir);
    status = open_pool(w);
    if (status != STATUS_OK)
        goto err_after_store;
    int error = uv_timer_init(options->loop, &w->capacity_timer);
    ASSERT(error == 0);
    error = uv_timer_init(options->loop, &w->drain_timer);
    ASSERT(error == 0);
    w->capacity_timer.data = w->drain_timer.data = w;
    make_hello(w);
    open_link(w);
    *out = w;
    return STATUS_OK;

err_after_store:
    log_files_close(w->log_files, nothing, NULL);
    code_store_close(w->code_store, nothing, NULL);
err:
    free_worker(w);
    return status;
}

/* ---- closing: pool, then session (its last results are flushed), then the rest ---- */

static void on_timer_closed(uv_handle_t *handle)
{
    struct worker *w = handle->data;
    if (--w->timers_closing > 0)
        return;
    void (*closed)(void *data) = w->closed;
    void *data = w->closed_data;
    free_worker(w);
    closed(data);
}

static void on_store_closed(void *data)
{
    struct worker *w = data;
    w->timers_closing = 2;
    uv_close((uv_handle_t *)&w->capacity_timer, on_timer_closed);
    uv_close((uv_handle_t *)&w->drain_timer, on_timer_closed);
}

static void on_logs_closed(void *data)
{
    struct worker *w = data;
    code_store_close(w->code_store, on_store_closed, w);
}

static void on_link_closed(void *data)
{
    struct worker *w = data;
    w->link = NULL;
    log_files_close(w->log_files, on_logs_closed, w);
}

static void on_pool_closed(void *data)
{
    struct worker *w = data;
    w->pool = NULL;
    uv_timer_stop(&w->capacity_timer);
    broker_link_close(w->link, on_link_closed, w);
}

static void look(uv_timer_t *timer)
{
    struct worker *w = timer->data;
    if (pool_running(w->pool) > 0 && uv_now(w->options.loop) < w->drain_until_ms)
        return;
    uv_timer_stop(timer);
    pool_close(w->pool, on_pool_closed, w);
}

void worker_drain(struct worker *w, uint32_t grace_ms, void (*closed)(void *data), void *data)
{
    Millrace__Drain drain = MILLRACE__DRAIN__INIT;
    w->drain_until_ms = uv_now(w->options.loop) + grace_ms;
    w->closed = closed;
    w->closed_data = data;
    if (w->draining)
        return;
    w->draining = true;
    enum status status = broker_link_send(w->link, 0, MILLRACE__TYPE__TYPE_DRAIN, &drain.base);
    if (status != STATUS_OK)
        trace_debug("worker", "drain_not_sent", "error=\"%s\"", status_text(status));
    uv_timer_start(&w->drain_timer, look, 0, DRAIN_LOOK_MS);
}
