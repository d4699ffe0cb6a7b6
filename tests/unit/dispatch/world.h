/* SPDX-License-Identifier: Apache-2.0 */
/* A dispatcher with real shards on a temporary folder, and workers that are played by the test:
 * they speak the real protocol over loopback, but their functions are lines of the test. Everything
 * runs on one loop, which turns only inside until(). */
#ifndef TESTS_UNIT_DISPATCH_WORLD_H
#define TESTS_UNIT_DISPATCH_WORLD_H

#include "broker/core/record.h"
#include "broker/dispatch/dispatch.h"
#include "broker/dispatch/function_config.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"

#include <ftw.h>
#include <stdlib.h>
#include <unistd.h>

#define PATIENCE_MS     20000u /* for anything to happen; a test that waits longer has failed */
#define ASSIGNMENTS_MAX 64

struct world {
    uv_loop_t loop;
    uv_timer_t waker;
    char dir[64];
    struct shards *shards;
    struct shard *shard; /* the catalog, which has the queues too unless there are queue shards */
    struct shards *far;  /* of another node, where the queues are; NULL: they are here */
    struct dispatch *dispatch;
    bool ready, closed;
    unsigned readies; /* queue_ready of any queue */
};

struct worker {
    struct world *world;
    struct link *link; /* NULL: not connected */
    bool welcomed, refused, ended;
    Millrace__Assign *assigned[ASSIGNMENTS_MAX];
    unsigned assigned_count;
    unsigned cancelled_count;
    char leader[64]; /* where it was sent when it was refused */
    Millrace__CodePiece *piece;
};

static void world_wake(uv_timer_t *timer)
{
    (void)timer; /* only there so that the loop turns while nothing else happens */
}

/* until(world, condition): turn the loop until the condition holds. */
#define until(world, condition)                                                                    \
    do {                                                                                           \
        uint64_t until_start = clock_monotonic_ns();                                               \
        while (!(condition)) {                                                                     \
            if (clock_monotonic_ns() - until_start > PATIENCE_MS * 1000000ull)                     \
                fail_msg("waited too long for: %s", #condition);                                   \
            uv_run(&(world)->loop, UV_RUN_ONCE);                                                   \
        }                                                                                          \
    } while (0)

/* Let everything that is under way happen, without knowing what to wait for. */
static void world_settle(struct world *world, uint64_t ms)
{
    uint64_t start = clock_monotonic_ns();
    while (clock_monotonic_ns() - start < ms * 1000000ull)
        uv_run(&world->loop, UV_RUN_ONCE);
}

/* ---- the shards ---- */

static void world_ready_changed(void *data, struct shard *shard, bool ready)
{
    struct world *world = data;
    if (shard == shards_catalog(world->shards))
        world->ready = ready;
}

static bool world_begun(void *data)
{
    (void)data; /* no test starts twice */
    return true;
}

static void world_failed(void *data)
{
    (void)data;
    fail_msg("a queue shard cannot be opened");
}

static void world_catalog_changed(void *data)
{
    struct world *world = data;
    if (world->dispatch != NULL)
        dispatch_catalog_changed(world->dispatch);
}

static void world_queue_ready(void *data, uint64_t queue_id)
{
    struct world *world = data;
    world->readies++;
    if (world->dispatch != NULL)
        dispatch_queue_ready(world->dispatch, queue_id);
}

struct done {
    bool yes;
    enum status status;
    struct core_result result; /* of the first command */
};

static void world_called(struct shard_call *call, enum status status,
                         const struct core_result *results, uint32_t count)
{
    struct done *done = call->data;
    done->yes = true;
    done->status = status;
    if (count > 0)
        done->result = results[0];
}

static struct core_result world_call_at(struct world *world, struct shard *shard,
                                        const struct command *command)
{
    struct done done = {0};
    struct shard_call call = {.done = world_called, .data = &done};
    shard_call_add(&call, command);
    shard_call(shard, &call);
    until(world, done.yes);
    assert_int_equal(done.status, STATUS_OK);
    return done.result;
}

static struct core_result world_call(struct world *world, const struct command *command)
{
    return world_call_at(world, world->shard, command);
}

static inline struct shards *world_queues(const struct world *world)
{
    return world->far != NULL ? world->far : world->shards;
}

static inline uint64_t world_queue_make(struct world *world, const char *name, bool fifo)
{
    struct command command = {.type = COMMAND_QUEUE_CREATE};
    async_queue_settings(&command.queue_create.settings);
    command.queue_create.settings.fifo = fifo;
    command.queue_create.settings.visibility_s = 30;
    command.queue_create.name = slice_of(name);
    command.queue_create.tags = SLICE_LITERAL("{}");
    struct core_result result =
        world_call_at(world, shards_of_name(world_queues(world), slice_of(name)), &command);
    assert_int_equal(result.code, CORE_OK);
    return result.queue_id;
}

static inline uint64_t world_queue_new(struct world *world, const char *name)
{
    return world_queue_make(world, name, false);
}

/* `group` NULL: to a standard queue; else the body is the deduplication id too. */
static inline void world_send_group(struct world *world, uint64_t queue_id, const char *body,
                                    const char *group)
{
    struct record record = {.sender_id = SLICE_LITERAL("000000000000"), .body = slice_of(body)};
    record.group_id = slice_of(group);
    record.dedup_id = group != NULL ? slice_of(body) : (struct slice){0};
    struct buffer bytes = {0};
    uuid_random(record.message_id);
    record_encode(&bytes, &record);
    struct command command = {
        .type = COMMAND_SEND,
        .send = {.queue_id = queue_id, .delay_s = CORE_DEFAULT, .record = buffer_slice(&bytes)}};
    struct shard *shard = shards_of_queue(world_queues(world), queue_id);
    assert_int_equal(world_call_at(world, shard, &command).code, CORE_OK);
    buffer_free(&bytes);
}

static inline void world_send(struct world *world, uint64_t queue_id, const char *body)
{
    world_send_group(world, queue_id, body, NULL);
}

static inline struct queue_view world_queue(struct world *world, uint64_t queue_id)
{
    struct queue_view view = {0};
    const struct shard *shard = shards_of_queue(world_queues(world), queue_id);
    assert_true(core_queue_by_id(shard_core(shard), queue_id, &view));
    return view;
}

static struct usage world_usage(struct world *world, const char *function)
{
    struct usage usage = {0};
    assert_true(shards_function_usage(world->shards, slice_of(function), &usage));
    return usage;
}

/* Two pieces of code, the same for every function. */
#define CODE_FIRST  "first piece of code"
#define CODE_SECOND "second"

static void world_code_put(struct world *world, uint8_t sha256[SHA256_BYTES])
{
    struct slice first = SLICE_LITERAL(CODE_FIRST);
    struct slice second = SLICE_LITERAL(CODE_SECOND);
    digest_sha256(SLICE_LITERAL(CODE_FIRST CODE_SECOND), sha256);
    struct command command = {
        .type = COMMAND_BLOB_PUT,
        .blob_put = {.total_bytes = first.length + second.length, .offset = 0, .piece = first}};
    memcpy(command.blob_put.sha256, sha256, SHA256_BYTES);
    assert_int_equal(world_call(world, &command).code, CORE_OK);
    command.blob_put.offset = first.length;
    command.blob_put.piece = second;
    assert_int_equal(world_call(world, &command).code, CORE_OK);
}

static void world_function_new(struct world *world, const char *name)
{
    struct function_config config = {.runtime = SLICE_LITERAL("python3.11"),
                                     .handler = SLICE_LITERAL("app.handler"),
                                     .timeout_s = 3,
                                     .memory_mb = 128,
                                     .ephemeral_mb = 512,
                                     .architecture = SLICE_LITERAL("x86_64"),
                                     .extras = SLICE_LITERAL("{}")};
    struct buffer json = {0};
    struct command command = {.type = COMMAND_FUNCTION_PUT};
    function_config_encode(&json, &config);
    world_code_put(world, command.function_put.code_sha256);
    command.function_put.name = slice_of(name);
    command.function_put.config = buffer_slice(&json);
    assert_int_equal(world_call(world, &command).code, CORE_OK);
    buffer_free(&json);
}

/* Creates the mapping, or replaces the one whose version is given. */
static inline uint64_t world_mapping_put(struct world *world, const uint8_t uuid[UUID_BYTES],
                                         const char *function, const char *queue, uint64_t version,
                                         struct mapping_config config)
{
    struct buffer json = {0};
    struct command command = {.type = COMMAND_MAPPING_PUT,
                              .mapping_put = {.version = version,
                                              .function_name = slice_of(function),
                                              .queue_name = slice_of(queue)}};
    config.extras = SLICE_LITERAL("{}");
    memcpy(command.mapping_put.uuid, uuid, UUID_BYTES);
    mapping_config_encode(&json, &config);
    command.mapping_put.config = buffer_slice(&json);
    struct core_result result = world_call(world, &command);
    assert_int_equal(result.code, CORE_OK);
    buffer_free(&json);
    return result.version;
}

/* ---- the worker ---- */

static void worker_on_frame(struct link *link, void *data, uint16_t type, struct slice payload)
{
    struct worker *worker = data;
    (void)link;
    if (type == MILLRACE__TYPE__TYPE_ASSIGN) {
        assert_true(worker->assigned_count < ASSIGNMENTS_MAX);
        worker->assigned[worker->assigned_count++] =
            millrace__assign__unpack(NULL, payload.length, payload.data);
    } else if (type == MILLRACE__TYPE__TYPE_CODE_PIECE) {
        assert_null(worker->piece);
        worker->piece = millrace__code_piece__unpack(NULL, payload.length, payload.data);
    } else if (type == MILLRACE__TYPE__TYPE_WELCOME) {
        worker->welcomed = true;
    } else if (type == MILLRACE__TYPE__TYPE_REFUSED) {
        Millrace__Refused *refused = millrace__refused__unpack(NULL, payload.length, payload.data);
        assert_non_null(refused);
        worker->refused = true;
        snprintf(worker->leader, sizeof worker->leader, "%s", refused->leader_address);
        millrace__refused__free_unpacked(refused, NULL);
    } else if (type == MILLRACE__TYPE__TYPE_CANCEL) {
        worker->cancelled_count++;
    }
}

static void worker_on_closed(struct link *link, void *data, enum status why)
{
    struct worker *worker = data;
    (void)link;
    (void)why;
    worker->link = NULL;
    worker->ended = true;
}

static const struct link_handler worker_handler = {worker_on_frame, worker_on_closed};

static void worker_connected(struct link *link, void *data)
{
    ((struct worker *)data)->link = link;
}

static void worker_failed(void *data, enum status why)
{
    (void)data;
    fail_msg("cannot connect: %s", status_text(why));
}

static void worker_say(struct worker *worker, uint16_t type, const ProtobufCMessage *message)
{
    assert_int_equal(link_send(worker->link, type, message), STATUS_OK);
}

static void worker_dial(struct world *world, struct worker *worker)
{
    *worker = (struct worker){.world = world};
    link_connect(&world->loop, "127.0.0.1", dispatch_rpc_port(world->dispatch), 5000, NULL,
                 &worker_handler, worker, worker_connected, worker_failed);
    until(world, worker->link != NULL);
}

static void worker_hello(struct worker *worker, const char *id, uint32_t slots, uint32_t protocol)
{
    char *runtimes[] = {(char *)(uintptr_t) "python3.11"};
    Millrace__Hello hello = MILLRACE__HELLO__INIT;
    hello.protocol = protocol;
    hello.worker_id = (char *)(uintptr_t)id;
    hello.memory_bytes = 1u << 30;
    hello.concurrency_max = slots;
    hello.n_runtimes = 1;
    hello.runtimes = runtimes;
    worker_say(worker, MILLRACE__TYPE__TYPE_HELLO, &hello.base);
}

static void worker_join(struct world *world, struct worker *worker, const char *id, uint32_t slots)
{
    worker_dial(world, worker);
    worker_hello(worker, id, slots, 1);
    until(world, worker->welcomed);
}

static void worker_answer(struct worker *worker, unsigned i, Millrace__Outcome outcome,
                          const char *payload)
{
    Millrace__Result result = MILLRACE__RESULT__INIT;
    assert_true(i < worker->assigned_count);
    result.lease_id = worker->assigned[i]->lease_id;
    result.outcome = outcome;
    result.payload = (ProtobufCBinaryData){strlen(payload), (uint8_t *)(uintptr_t)payload};
    result.duration_us = 1500;
    result.billed_ms = 2;
    result.cold_start = i == 0;
    worker_say(worker, MILLRACE__TYPE__TYPE_RESULT, &result.base);
}

static void worker_leave(struct worker *worker)
{
    if (worker->link != NULL)
        link_close(worker->link);
    until(worker->world, worker->ended);
    for (unsigned i = 0; i < worker->assigned_count; i++)
        millrace__assign__free_unpacked(worker->assigned[i], NULL);
    if (worker->piece != NULL)
        millrace__code_piece__free_unpacked(worker->piece, NULL);
    worker->assigned_count = 0;
    worker->piece = NULL;
}

/* ---- the whole ---- */

static struct dispatch *world_dispatch_open(struct world *world, struct peers *peers)
{
    struct dispatch *dispatch = NULL;
    struct dispatch_options options = {.loop = &world->loop,
                                       .shards = world->shards,
                                       .rpc_host = "127.0.0.1",
                                       .endpoint = "http://127.0.0.1:9324",
                                       .region = "us-east-1",
                                       .account_id = "000000000000",
                                       .version = "test",
                                       .node_id = 1,
                                       .peers = peers};
    assert_int_equal(dispatch_open(&dispatch, &options), STATUS_OK);
    return dispatch;
}

static inline void world_dir_make(struct world *world)
{
    const char *base = getenv("TMPDIR");
    snprintf(world->dir, sizeof world->dir, "%s/dispatch-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(world->dir));
}

/* Opens the shards in world->dir, with the events of this world. `options` are completed. */
static inline void world_shards_open(struct world *world, struct shards_options options)
{
    const char *error = NULL;
    const char *folder = NULL;
    options.data_dir = world->dir;
    options.disk_reserve_bytes = 1;
    options.events = (struct shards_events){.leading_changed = world_ready_changed,
                                            .catalog_changed = world_catalog_changed,
                                            .queue_ready = world_queue_ready,
                                            .begun = world_begun,
                                            .failed = world_failed,
                                            .data = world};
    enum status status = shards_open(&world->shards, &options, &error, &folder);
    if (status != STATUS_OK)
        fail_msg("shards_open: %s: %s", folder, error);
    world->shard = shards_catalog(world->shards);
}

static inline int world_setup_shards(void **state, uint32_t queue_shards)
{
    struct world *world = calloc(1, sizeof *world);
    world_dir_make(world);
    uv_loop_init(&world->loop);
    uv_timer_init(&world->loop, &world->waker);
    uv_timer_start(&world->waker, world_wake, 20, 20);
    world_shards_open(world, (struct shards_options){.loop = &world->loop,
                                                     .node_id = 1,
                                                     .address = "127.0.0.1:1",
                                                     .queue_shards = queue_shards});
    until(world, world->ready && shards_ready(world->shards));
    world->dispatch = world_dispatch_open(world, NULL);
    dispatch_set_ready(world->dispatch, true);
    *state = world;
    return 0;
}

static inline int world_setup(void **state)
{
    return world_setup_shards(state, 0);
}

static void world_closed(void *data)
{
    struct world *world = data;
    world->closed = true;
    world->dispatch = NULL; /* closed first, so gone in either case */
}

static int world_remove(const char *path, const struct stat *about, int flag, struct FTW *ftw)
{
    (void)about;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static inline int world_teardown(void **state)
{
    struct world *world = *state;
    dispatch_close(world->dispatch, world_closed, world);
    until(world, world->closed);
    world->closed = false;
    shards_close(world->shards, world_closed, world);
    until(world, world->closed);
    uv_close((uv_handle_t *)&world->waker, NULL);
    uv_run(&world->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&world->loop), 0);
    nftw(world->dir, world_remove, 16, FTW_DEPTH | FTW_PHYS);
    free(world);
    return 0;
}

#endif
