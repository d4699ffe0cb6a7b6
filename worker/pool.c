/* SPDX-License-Identifier: Apache-2.0 */
/* The pool.
 *
 * An assignment goes, in this order, to: an idle environment of the same function and revision; one
 * that has just answered and is about to be idle; a new one, if a slot and the memory are free;
 * else it waits, and idle environments of others are stopped, the longest idle first, until there
 * will be room. Whatever becomes free looks at the waiting ones first.
 *
 * An idle environment is kept for keep_alive_ms, a quarter of that while memory is tight, and no
 * longer than the next tick once a newer revision of its function is known here. So a worker
 * without work shrinks to nothing.
 *
 * Memory is what functions are configured with, not what they use at the moment: a promise that all
 * can be kept at once.
 *
 * I1  environments <= environments_max, and the sum of their memory <= memory_bytes.
 * I2  waiting <= WAITING_MAX; what does not fit is REJECTED, so that the broker runs it elsewhere.
 */
#include "worker/pool.h"

#include "proto/base/assert.h"
#include "proto/base/trace.h"
#include "worker/error_object.h"

#include <ctype.h>
#include <stdlib.h>

#define TICK_MS        250
#define WAITING_MAX    ENVIRONMENTS_MAX
#define MEMORY_MB_MAX  10240u
#define TIMEOUT_MS_MAX 900000u
#define NAME_BYTES_MAX 140u
#define VARIABLES_MAX  1024u
#define CODE_BYTES_MAX 52428800u
#define REQUEST_ID_MAX 128u

struct place {
    struct environment *environment; /* NULL: free */
    uint64_t outdated;               /* a newer revision was asked for: stop it when idle */
};

struct pool {
    struct pool_options options;
    struct place places[ENVIRONMENTS_MAX];
    uint32_t count;
    uint64_t memory_used;
    struct assignment *waiting; /* oldest first */
    uint32_t waiting_count;
    uint32_t next_id;
    uv_timer_t tick;
    struct pool_warm warm[ENVIRONMENTS_MAX];
    bool closing;
    bool tick_closed;
    void (*closed)(void *data);
    void *closed_data;
};

static uint64_t memory_of(const Millrace__Function *function)
{
    return (uint64_t)function->memory_mb << 20;
}

static void changed(struct pool *pool)
{
    if (!pool->closing)
        pool->options.on_change(pool->options.data);
}

static void free_assignment(struct assignment *assignment)
{
    millrace__assign__free_unpacked(assignment->order, NULL);
    free(assignment);
}

/* ---- results that need no environment ---- */

/* reject: takes the assignment. */
static void reject(struct pool *pool, struct assignment *assignment, Millrace__Outcome outcome,
                   const char *type, const char *message)
{
    struct buffer payload = {0};
    Millrace__Result result = MILLRACE__RESULT__INIT;
    error_object(&payload, type, message);
    result.lease_id = assignment->order->lease_id;
    result.outcome = outcome;
    result.payload = (ProtobufCBinaryData){payload.length, payload.data};
    pool->options.on_result(pool->options.data, assignment->session, &result);
    buffer_free(&payload);
    free_assignment(assignment);
}

/* Names become file names and log lines. */
static bool valid_name(const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)name[i]) && name[i] != '-' && name[i] != '_')
            return false;
    return length > 0 && length <= NAME_BYTES_MAX;
}

/* A request id ends up in headers, paths and log lines. */
static bool valid_id(const char *id)
{
    size_t length = strlen(id);
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)id[i]) && id[i] != '-' && id[i] != '_')
            return false;
    return length > 0 && length <= REQUEST_ID_MAX;
}

static const char *refusal(const struct pool *pool, const Millrace__Assign *order)
{
    const Millrace__Function *function = order->function;
    if (pool->closing)
        return "the worker is shutting down";
    if (function == NULL || !valid_name(function->name) || !valid_id(order->request_id))
        return "the order names no valid function or request";
    if (runtime_get(pool->options.setup.runtimes, function->runtime) == NULL)
        return "this worker does not have the runtime";
    if (function->memory_mb == 0 || function->memory_mb > MEMORY_MB_MAX ||
        function->ephemeral_mb == 0 || function->ephemeral_mb > MEMORY_MB_MAX ||
        function->timeout_ms == 0 || function->timeout_ms > TIMEOUT_MS_MAX)
        return "the function's limits are out of range";
    if (function->code_sha256.len != SHA256_BYTES || function->code_bytes == 0 ||
        function->code_bytes > CODE_BYTES_MAX || function->n_environment > VARIABLES_MAX)
        return "the function's configuration is out of range";
    if (memory_of(function) > pool->options.memory_bytes)
        return "the function needs more memory than this worker has in all";
    return NULL;
}

/* ---- placing ---- */

static bool fits(const struct pool *pool, uint32_t count, uint64_t memory_used, uint64_t need)
{
    return count < pool->options.environments_max && memory_used <= pool->options.memory_bytes &&
           need <= pool->options.memory_bytes - memory_used;
}

static struct environment *find_warm(struct pool *pool, const Millrace__Function *function,
                                     enum environment_state state)
{
    /* The one that was used last: its caches are warm, and the others get to their end. */
    struct environment *best = NULL;
    for (unsigned i = 0; i < ENVIRONMENTS_MAX; i++) {
        struct environment *e = pool->places[i].environment;
        if (e == NULL || environment_state(e) != state ||
            !environment_takes(e, function->name, function->revision))
            continue;
        if (best == NULL || environment_idle_since_ms(e) > environment_idle_since_ms(best))
            best = e;
    }
    return best;
}

static void mark_outdated(struct pool *pool, const Millrace__Function *function)
{
    for (unsigned i = 0; i < ENVIRONMENTS_MAX; i++) {
        struct environment *e = pool->places[i].environment;
        const Millrace__Function *other = e != NULL ? environment_function(e) : NULL;
        if (other != NULL && other->revision < function->revision &&
            strcmp(other->name, function->name) == 0)
            pool->places[i].outdated = function->revision;
    }
}

static void start_new(struct pool *pool, struct assignment *assignment)
{
    uint32_t slot = 0;
    while (pool->places[slot].environment != NULL)
        slot++;
    ASSERT(slot < ENVIRONMENTS_MAX);
    pool->count++;
    pool->memory_used += memory_of(assignment->order->function);
    pool->places[slot] = (struct place){0};
    pool->places[slot].environment =
        environment_new(&pool->options.setup, ++pool->next_id, slot, assignment);
}

/* place: true if it is in an environment now. */
static bool place(struct pool *pool, struct assignment *assignment)
{
    const Millrace__Function *function = assignment->order->function;
    struct environment *warm = find_warm(pool, function, ENVIRONMENT_IDLE);
    if (warm == NULL)
        warm = find_warm(pool, function, ENVIRONMENT_RETURNING);
    if (warm != NULL) {
        environment_assign(warm, assignment);
        return true;
    }
    if (!fits(pool, pool->count, pool->memory_used, memory_of(function)))
        return false;
    start_new(pool, assignment);
    return true;
}

/* make_room: stop idle environments until, once all that are stopping have ended, `need` fits. */
static void make_room(struct pool *pool, uint64_t need)
{
    uint32_t count = pool->count;
    uint64_t memory = pool->memory_used;
    for (unsigned i = 0; i < ENVIRONMENTS_MAX; i++) {
        const struct environment *e = pool->places[i].environment;
        if (e != NULL && environment_state(e) == ENVIRONMENT_STOPPING) {
            count--;
            memory -= memory_of(environment_function(e));
        }
    }
    while (!fits(pool, count, memory, need)) {
        struct environment *oldest = NULL;
        for (unsigned i = 0; i < ENVIRONMENTS_MAX; i++) {
            struct environment *e = pool->places[i].environment;
            if (e != NULL && environment_state(e) == ENVIRONMENT_IDLE &&
                environment_assignment(e) == NULL &&
                (oldest == NULL ||
                 environment_idle_since_ms(e) < environment_idle_since_ms(oldest)))
                oldest = e;
        }
        if (oldest == NULL)
            return;
        count--;
        memory -= memory_of(environment_function(oldest));
        environment_stop(oldest);
    }
}

/* place_waiting: in order, but one that does not fit does not hold up those behind it. */
static void place_waiting(struct pool *pool)
{
    struct assignment **at = &pool->waiting;
    while (*at != NULL) {
        struct assignment *assignment = *at;
        struct assignment *next = assignment->next;
        if (place(pool, assignment)) {
            *at = next;
            pool->waiting_count--;
        } else {
            at = &assignment->next;
        }
    }
    if (pool->waiting != NULL)
        make_room(pool, memory_of(pool->waiting->order->function));
}

static void take_in(struct pool *pool, struct assignment *assignment)
{
    struct assignment **at = &pool->waiting;
    mark_outdated(pool, assignment->order->function);
    if (pool->waiting == NULL && place(pool, assignment))
        return;
    if (pool->waiting_count >= WAITING_MAX) {
        reject(pool, assignment, MILLRACE__OUTCOME__OUTCOME_REJECTED, "Runtime.InitError",
               "the worker has no room");
        return;
    }
    while (*at != NULL)
        at = &(*at)->next;
    assignment->next = NULL;
    *at = assignment;
    pool->waiting_count++;
    place_waiting(pool);
}

void pool_assign(struct pool *pool, uint64_t session, Millrace__Assign *order)
{
    struct assignment *assignment = calloc(1, sizeof *assignment);
    ASSERT(assignment != NULL);
    assignment->order = order;
    assignment->session = session;
    const char *why = refusal(pool, order);
    if (why != NULL) {
        trace_warn("pool", "refused", "lease=%llu why=\"%s\"", (unsigned long long)order->lease_id,
                   why);
        reject(pool, assignment, MILLRACE__OUTCOME__OUTCOME_REJECTED, "Runtime.InitError", why);
        return;
    }
    take_in(pool, assignment);
    changed(pool);
}

static bool is_lease(const struct assignment *assignment, uint64_t lease_id)
{
    return assignment != NULL && assignment->order->lease_id == lease_id;
}

void pool_cancel(struct pool *pool, uint64_t lease_id)
{
    for (struct assignment **at = &pool->waiting; *at != NULL; at = &(*at)->next)
        if (is_lease(*at, lease_id)) {
            struct assignment *assignment = *at;
            *at = assignment->next;
            pool->waiting_count--;
            /* Not REJECTED: nobody wants it to be run elsewhere. */
            reject(pool, assignment, MILLRACE__OUTCOME__OUTCOME_CRASH, "Runtime.ExitError",
                   "the invocation was cancelled");
            return;
        }
    for (unsigned i = 0; i < ENVIRONMENTS_MAX; i++) {
        struct environment *e = pool->places[i].environment;
        if (e != NULL && is_lease(environment_assignment(e), lease_id)) {
            environment_stop(e);
            return;
        }
    }
}

/* ---- what environments say ---- */

static void on_result(void *data, struct assignment *assignment, const Millrace__Result *result)
{
    struct pool *pool = data;
    pool->options.on_result(pool->options.data, assignment->session, result);
    free_assignment(assignment);
    changed(pool);
}

static void on_idle(void *data, struct environment *environment)
{
    struct pool *pool = data;
    (void)environment;
    place_waiting(pool);
    changed(pool);
}

static void on_orphan(void *data, struct assignment *assignment)
{
    struct pool *pool = data;
    if (pool->closing)
        reject(pool, assignment, MILLRACE__OUTCOME__OUTCOME_REJECTED, "Runtime.InitError",
               "the worker is shutting down");
    else
        take_in(pool, assignment);
}

static void finish_closing(struct pool *pool)
{
    if (!pool->closing || !pool->tick_closed || pool->count > 0)
        return;
    void (*closed)(void *data) = pool->closed;
    void *data = pool->closed_data;
    free(pool);
    closed(data);
}

static void on_ended(void *data, struct environment *environment)
{
    struct pool *pool = data;
    struct place *place = &pool->places[environment_slot(environment)];
    ASSERT(place->environment == environment && pool->count > 0);
    pool->count--;
    pool->memory_used -= memory_of(environment_function(environment));
    place->environment = NULL;
    environment_free(environment);
    if (!pool->closing)
        place_waiting(pool);
    changed(pool);
    finish_closing(pool);
}

static void on_report(void *data, const struct sandbox_report *report)
{
    struct pool *pool = data;
    for (unsigned i = 0; i < ENVIRONMENTS_MAX; i++) {
        struct environment *e = pool->places[i].environment;
        if (e != NULL && environment_id(e) == report->id) {
            environment_on_report(e, report);
            return;
        }
    }
}

/* The launcher holds every environment; without it this process can do nothing more. */
static void on_launcher_lost(void *data)
{
    (void)data;
    trace_error("pool", "launcher_lost", "effect=\"the worker ends\"");
    exit(1);
}

static void on_tick(uv_timer_t *timer)
{
    struct pool *pool = timer->data;
    uint64_t now = uv_now(pool->options.setup.loop);
    bool tight = pool->memory_used > pool->options.memory_bytes / 4 * 3;
    uint64_t keep = tight ? pool->options.keep_alive_ms / 4 : pool->options.keep_alive_ms;
    for (unsigned i = 0; i < ENVIRONMENTS_MAX; i++) {
        struct environment *e = pool->places[i].environment;
        if (e == NULL)
            continue;
        environment_watch_memory(e);
        if (environment_state(e) == ENVIRONMENT_IDLE && environment_assignment(e) == NULL &&
            (pool->places[i].outdated != 0 || now - environment_idle_since_ms(e) >= keep)) {
            environment_stop(e);
            changed(pool);
        }
    }
}

/* ---- seeing inside, opening, closing ---- */

uint32_t pool_running(const struct pool *pool)
{
    uint32_t running = pool->waiting_count;
    for (unsigned i = 0; i < ENVIRONMENTS_MAX; i++) {
        const struct environment *e = pool->places[i].environment;
        running += e != NULL && environment_assignment(e) != NULL;
    }
    return running;
}

static void add_warm(struct pool *pool, struct pool_capacity *out,
                     const Millrace__Function *function)
{
    for (uint32_t i = 0; i < out->warm_count; i++)
        if (pool->warm[i].revision == function->revision &&
            strcmp(pool->warm[i].function, function->name) == 0) {
            pool->warm[i].idle++;
            return;
        }
    pool->warm[out->warm_count++] = (struct pool_warm){function->name, function->revision, 1};
}

void pool_capacity(struct pool *pool, struct pool_capacity *out)
{
    uint32_t taken = pool->waiting_count;
    uint64_t memory = 0;
    *out = (struct pool_capacity){.warm = pool->warm};
    for (const struct assignment *at = pool->waiting; at != NULL; at = at->next)
        memory += memory_of(at->order->function);
    for (unsigned i = 0; i < ENVIRONMENTS_MAX; i++) {
        const struct environment *e = pool->places[i].environment;
        if (e == NULL)
            continue;
        const Millrace__Function *function = environment_function(e);
        if (pool->places[i].outdated == 0 &&
            environment_takes(e, function->name, function->revision)) {
            add_warm(pool, out, function);
        } else if (environment_state(e) != ENVIRONMENT_IDLE) {
            taken++;
            memory += memory_of(function);
        }
    }
    if (taken < pool->options.environments_max)
        out->slots_free = pool->options.environments_max - taken;
    if (memory < pool->options.memory_bytes)
        out->memory_free_bytes = pool->options.memory_bytes - memory;
}

enum status pool_open(struct pool **out, const struct pool_options *options)
{
    struct pool *pool = calloc(1, sizeof *pool);
    ASSERT(pool != NULL);
    ASSERT(options->environments_max >= 1 && options->environments_max <= ENVIRONMENTS_MAX);
    pool->options = *options;
    pool->options.setup.on_result = on_result;
    pool->options.setup.on_idle = on_idle;
    pool->options.setup.on_orphan = on_orphan;
    pool->options.setup.on_ended = on_ended;
    pool->options.setup.data = pool;
    enum status status = launcher_attach(options->setup.launcher, options->setup.loop, on_report,
                                         on_launcher_lost, pool);
    if (status != STATUS_OK) {
        free(pool);
        return status;
    }
    int error = uv_timer_init(options->setup.loop, &pool->tick);
    ASSERT(error == 0);
    pool->tick.data = pool;
    uv_timer_start(&pool->tick, on_tick, TICK_MS, TICK_MS);
    *out = pool;
    return STATUS_OK;
}

static void on_detached(void *data)
{
    struct pool *pool = data;
    pool->tick_closed = true;
    finish_closing(pool);
}

static void wait_for_end(uv_timer_t *timer)
{
    struct pool *pool = timer->data;
    if (pool->count > 0)
        return;
    uv_timer_stop(timer);
    uv_close((uv_handle_t *)timer, NULL);
    launcher_detach(pool->options.setup.launcher, on_detached, pool);
}

void pool_close(struct pool *pool, void (*closed)(void *data), void *data)
{
    pool->closing = true;
    pool->closed = closed;
    pool->closed_data = data;
    while (pool->waiting != NULL) {
        struct assignment *assignment = pool->waiting;
        pool->waiting = assignment->next;
        pool->waiting_count--;
        reject(pool, assignment, MILLRACE__OUTCOME__OUTCOME_REJECTED, "Runtime.InitError",
               "the worker is shutting down");
    }
    for (unsigned i = 0; i < ENVIRONMENTS_MAX; i++)
        if (pool->places[i].environment != NULL)
            environment_stop(pool->places[i].environment);
    uv_timer_start(&pool->tick, wait_for_end, 0, 5);
}
