/* SPDX-License-Identifier: Apache-2.0 */
/* A worker and a broker made of a link_listen, on one loop, and ways to run functions on them. */
#ifndef TESTS_UNIT_WORKER_FIXTURE_H
#define TESTS_UNIT_WORKER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/encode.h"
#include "proto/base/trace.h"
#include "proto/package/package.h"
#include "proto/rpc/link.h"
#include "worker/file_tree.h"
#include "worker/worker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define RESULTS_MAX 64
#define WAIT_MS     60000

static const char REQUEST_ID[] = "8d3f6ad2-0000-4000-8000-000000000001";

struct seen_result {
    uint64_t lease_id;
    Millrace__Outcome outcome;
    bool cold;
    uint64_t billed_ms, init_us, memory_bytes;
    char *payload;
    char *tail;
};

/* One broker and one worker on one loop. */
struct fixture {
    uv_loop_t loop;
    char dir[64];
    struct launcher *launcher;
    struct link_listener *listener;
    struct link *link;
    struct worker *worker;
    struct broker_address address;
    struct isolation isolation;
    unsigned sessions;
    unsigned code_requests;
    unsigned refusals_of_code;
    bool drained;
    Millrace__Capacity *capacity;
    struct buffer zip;
    size_t piece_bytes;
    uint8_t sha256[SHA256_BYTES];
    struct seen_result results[RESULTS_MAX];
    unsigned result_count;
    uint64_t next_lease;
    bool closed;
    uv_timer_t clock;
    bool late;
};

static struct isolation whole_isolation;
static struct runtimes all_runtimes;

/* ---- the broker ---- */

/* Protobuf-c has no const texts. */
static char *loose(const char *text)
{
    return (char *)(uintptr_t)text;
}

static char *text_of(ProtobufCBinaryData bytes)
{
    char *text = calloc(1, bytes.len + 1);
    assert_non_null(text);
    if (bytes.len > 0)
        memcpy(text, bytes.data, bytes.len);
    return text;
}

static void broker_send(struct fixture *f, uint16_t type, const ProtobufCMessage *message)
{
    assert_non_null(f->link);
    assert_int_equal(link_send(f->link, type, message), STATUS_OK);
}

/* own_region: a mark in the environment of every function of this test process, so that copies of
 * this test that run at the same time do not take each other's processes for their own. */
static char *own_region(void)
{
    static char region[32]; /* of the first process: the children that the tests fork share it */
    if (region[0] == '\0')
        snprintf(region, sizeof region, "eu-test-%d", (int)getpid());
    return region;
}

static void broker_welcome(struct fixture *f)
{
    Millrace__Welcome welcome = MILLRACE__WELCOME__INIT;
    welcome.protocol = 1;
    welcome.version = loose("test");
    welcome.heartbeat_ms = 500;
    welcome.endpoint = loose("http://127.0.0.1:9324");
    welcome.region = own_region();
    welcome.account_id = loose("000000000000");
    broker_send(f, MILLRACE__TYPE__TYPE_WELCOME, &welcome.base);
}

static void broker_send_code(struct fixture *f, struct slice payload)
{
    Millrace__CodeRequest *request =
        millrace__code_request__unpack(NULL, payload.length, payload.data);
    assert_non_null(request);
    f->code_requests++;
    Millrace__CodePiece piece = MILLRACE__CODE_PIECE__INIT;
    piece.sha256 = request->sha256;
    piece.offset = request->offset;
    piece.total_bytes = f->zip.length;
    if (f->refusals_of_code > 0) {
        f->refusals_of_code--;
        piece.missing = true;
    } else {
        size_t left = f->zip.length - (size_t)request->offset;
        piece.data.data = f->zip.data + request->offset;
        piece.data.len = left < f->piece_bytes ? left : f->piece_bytes;
    }
    broker_send(f, MILLRACE__TYPE__TYPE_CODE_PIECE, &piece.base);
    millrace__code_request__free_unpacked(request, NULL);
}

static void broker_keep_result(struct fixture *f, struct slice payload)
{
    Millrace__Result *result = millrace__result__unpack(NULL, payload.length, payload.data);
    assert_non_null(result);
    assert_true(f->result_count < RESULTS_MAX);
    f->results[f->result_count++] = (struct seen_result){
        .lease_id = result->lease_id,
        .outcome = result->outcome,
        .cold = result->cold_start,
        .billed_ms = result->billed_ms,
        .init_us = result->init_us,
        .memory_bytes = result->memory_max_bytes,
        .payload = text_of(result->payload),
        .tail = text_of(result->log_tail),
    };
    millrace__result__free_unpacked(result, NULL);
}

static void on_frame(struct link *link, void *data, uint16_t type, struct slice payload)
{
    struct fixture *f = data;
    Millrace__Heartbeat beat = MILLRACE__HEARTBEAT__INIT;
    f->link = link;
    switch (type) {
    case MILLRACE__TYPE__TYPE_HELLO:
        f->sessions++;
        broker_welcome(f);
        break;
    case MILLRACE__TYPE__TYPE_CODE_REQUEST:
        broker_send_code(f, payload);
        break;
    case MILLRACE__TYPE__TYPE_RESULT:
        broker_keep_result(f, payload);
        break;
    case MILLRACE__TYPE__TYPE_HEARTBEAT:
        broker_send(f, MILLRACE__TYPE__TYPE_HEARTBEAT, &beat.base);
        break;
    case MILLRACE__TYPE__TYPE_CAPACITY:
        if (f->capacity != NULL)
            millrace__capacity__free_unpacked(f->capacity, NULL);
        f->capacity = millrace__capacity__unpack(NULL, payload.length, payload.data);
        break;
    case MILLRACE__TYPE__TYPE_DRAIN:
        f->drained = true;
        break;
    default:
        break;
    }
}

static void on_link_closed(struct link *link, void *data, enum status why)
{
    struct fixture *f = data;
    (void)why;
    if (f->link == link)
        f->link = NULL;
}

static void on_accepted(struct link *link, void *data)
{
    static const struct link_handler handler = {.on_frame = on_frame, .on_closed = on_link_closed};
    link_start(link, &handler, data);
}

/* ---- waiting ---- */

static void on_late(uv_timer_t *timer)
{
    struct fixture *f = timer->data;
    f->late = true;
}

/* The condition may be true for a moment only, so it is looked at once a turn. */
#define WAIT_FOR(f, condition)                                                                     \
    do {                                                                                           \
        bool met;                                                                                  \
        (f)->late = false;                                                                         \
        uv_timer_start(&(f)->clock, on_late, WAIT_MS, 0);                                          \
        while (!(met = (condition)) && !(f)->late)                                                 \
            uv_run(&(f)->loop, UV_RUN_ONCE);                                                       \
        uv_timer_stop(&(f)->clock);                                                                \
        if (!met)                                                                                  \
            fail_msg("waited in vain for %s", #condition);                                         \
    } while (0)

/* ---- set-up ---- */

static void open_worker(struct fixture *f, uint32_t keep_alive_ms, uint32_t environments)
{
    f->address = (struct broker_address){"127.0.0.1", link_listener_port(f->listener)};
    struct worker_options options = {.loop = &f->loop,
                                     .launcher = f->launcher,
                                     .isolation = &f->isolation,
                                     .runtimes = &all_runtimes,
                                     .addresses = &f->address,
                                     .address_count = 1,
                                     .data_dir = f->dir,
                                     .memory_bytes = 2048ull << 20,
                                     .environments_max = environments,
                                     .keep_alive_ms = keep_alive_ms,
                                     .init_timeout_ms = 10000,
                                     .code_bytes_max = 64u << 20};
    assert_int_equal(worker_open(&f->worker, &options), STATUS_OK);
    WAIT_FOR(f, f->sessions == 1 && f->capacity != NULL);
}

static struct fixture *fixture_new(const struct isolation *isolation)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    const char *base = getenv("TMPDIR");
    snprintf(f->dir, sizeof f->dir, "%.40s/millrace-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    f->isolation = *isolation;
    f->piece_bytes = 100;
    /* Before the loop: as in the program, the launcher is forked without descriptors of ours. */
    assert_int_equal(launcher_start(&f->launcher, &f->isolation), STATUS_OK);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    assert_int_equal(uv_timer_init(&f->loop, &f->clock), 0);
    f->clock.data = f;
    assert_int_equal(link_listen(&f->listener, &f->loop, "127.0.0.1", 0, on_accepted, f),
                     STATUS_OK);
    return f;
}

static void on_closed(void *data)
{
    struct fixture *f = data;
    f->closed = true;
}

static void nothing(void *data)
{
    (void)data;
}

static void fixture_free(struct fixture *f)
{
    if (f->worker != NULL) {
        worker_drain(f->worker, 0, on_closed, f);
        WAIT_FOR(f, f->closed);
    }
    WAIT_FOR(f, f->link == NULL);
    link_listener_close(f->listener, nothing, NULL);
    uv_close((uv_handle_t *)&f->clock, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    launcher_stop(f->launcher);
    assert_int_equal(file_tree_remove(f->dir), STATUS_OK);
    for (unsigned i = 0; i < f->result_count; i++) {
        free(f->results[i].payload);
        free(f->results[i].tail);
    }
    if (f->capacity != NULL)
        millrace__capacity__free_unpacked(f->capacity, NULL);
    buffer_free(&f->zip);
    free(f);
}

static int set_up(void **state)
{
    struct fixture *f = fixture_new(&whole_isolation);
    open_worker(f, 60000, 8);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture_free(*state);
    return 0;
}

/* Two processes and signals only: what a plain user or a strict container has. */
static int set_up_without_groups(void **state, bool namespaces)
{
    struct isolation less = whole_isolation;
    less.namespaces = less.namespaces && namespaces;
    less.cgroups.kind = CGROUP_NONE;
    isolation_describe(&less);
    struct fixture *f = fixture_new(&less);
    open_worker(f, 60000, 8);
    *state = f;
    return 0;
}

static int set_up_bare(void **state)
{
    return set_up_without_groups(state, false);
}

static int set_up_ungrouped(void **state)
{
    return set_up_without_groups(state, true);
}

static int set_up_same_user(void **state)
{
    struct isolation bare = whole_isolation;
    bare.namespaces = bare.own_uids = false;
    bare.cgroups.kind = CGROUP_NONE;
    isolation_describe(&bare);
    struct fixture *f = fixture_new(&bare);
    open_worker(f, 60000, 8);
    *state = f;
    return 0;
}

/* ---- functions ---- */

struct function {
    const char *name;
    const char *runtime;
    const char *handler;
    const char *file; /* in the package; may have one folder */
    const char *text;
    uint32_t timeout_ms;
    uint32_t memory_mb;
};

static void write_text(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void deploy(struct fixture *f, const char *file, const char *text)
{
    char dir[128], path[256];
    const char *why = NULL;
    snprintf(dir, sizeof dir, "%s/package", f->dir);
    assert_int_equal(file_tree_remove(dir), STATUS_OK);
    assert_int_equal(mkdir(dir, 0755), 0);
    const char *slash = strchr(file, '/');
    if (slash != NULL) {
        snprintf(path, sizeof path, "%s/%.*s", dir, (int)(slash - file), file);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    snprintf(path, sizeof path, "%s/%s", dir, file);
    write_text(path, text, strcmp(file, "bootstrap") == 0 ? 0755 : 0644);
    buffer_clear(&f->zip);
    assert_int_equal(package_pack(dir, &f->zip, &why), STATUS_OK);
    digest_sha256(buffer_slice(&f->zip), f->sha256);
}

static uint64_t assign(struct fixture *f, const struct function *function, const char *event)
{
    Millrace__Assign order = MILLRACE__ASSIGN__INIT;
    Millrace__Function message = MILLRACE__FUNCTION__INIT;
    Millrace__KeyValue own = MILLRACE__KEY_VALUE__INIT;
    Millrace__KeyValue stolen = MILLRACE__KEY_VALUE__INIT;
    Millrace__KeyValue *pairs[] = {&own, &stolen};
    char request_id[64];
    own.key = loose("GREETING");
    own.value = loose("hello");
    stolen.key = loose("AWS_LAMBDA_RUNTIME_API");
    stolen.value = loose("evil:1");
    snprintf(request_id, sizeof request_id, "%s", REQUEST_ID);
    message.name = loose(function->name);
    message.arn = loose("arn:aws:lambda:eu-central-1:000000000000:function:f");
    message.version = loose("$LATEST");
    message.revision = 1;
    message.runtime = loose(function->runtime);
    message.handler = loose(function->handler);
    message.timeout_ms = function->timeout_ms != 0 ? function->timeout_ms : 20000;
    message.memory_mb = function->memory_mb != 0 ? function->memory_mb : 256;
    message.ephemeral_mb = 512;
    message.code_sha256 = (ProtobufCBinaryData){SHA256_BYTES, f->sha256};
    message.code_bytes = f->zip.length;
    message.n_environment = 2;
    message.environment = pairs;
    order.lease_id = ++f->next_lease;
    order.request_id = request_id;
    order.function = &message;
    order.payload = (ProtobufCBinaryData){strlen(event), (uint8_t *)(uintptr_t)event};
    broker_send(f, MILLRACE__TYPE__TYPE_ASSIGN, &order.base);
    return order.lease_id;
}

static const struct seen_result *find_result(const struct fixture *f, uint64_t lease_id)
{
    for (unsigned i = 0; i < f->result_count; i++)
        if (f->results[i].lease_id == lease_id)
            return &f->results[i];
    return NULL;
}

static const struct seen_result *wait_result(struct fixture *f, uint64_t lease_id)
{
    WAIT_FOR(f, find_result(f, lease_id) != NULL);
    return find_result(f, lease_id);
}

static const struct seen_result *run(struct fixture *f, const struct function *function,
                                     const char *event)
{
    return wait_result(f, assign(f, function, event));
}

static const struct seen_result *deploy_and_run(struct fixture *f, const struct function *function,
                                                const char *event)
{
    deploy(f, function->file, function->text);
    return run(f, function, event);
}

static void expect(const struct seen_result *result, Millrace__Outcome outcome, const char *part)
{
    if (result->outcome != outcome || strstr(result->payload, part) == NULL)
        fail_msg("outcome %d, payload %s, output:\n%s", result->outcome, result->payload,
                 result->tail);
}

#define OK        MILLRACE__OUTCOME__OUTCOME_OK
#define HANDLED   MILLRACE__OUTCOME__OUTCOME_HANDLED
#define TIMEOUT   MILLRACE__OUTCOME__OUTCOME_TIMEOUT
#define CRASH     MILLRACE__OUTCOME__OUTCOME_CRASH
#define INIT      MILLRACE__OUTCOME__OUTCOME_INIT_ERROR
#define TOO_LARGE MILLRACE__OUTCOME__OUTCOME_TOO_LARGE
#define REJECTED  MILLRACE__OUTCOME__OUTCOME_REJECTED

static bool has_runtime(const char *id)
{
    if (runtime_get(&all_runtimes, id) != NULL)
        return true;
    print_message("skipped: %s is not installed here\n", id);
    return false;
}

/* processes_with: how many processes of functions of this test have `mark` in their environment,
 * where the function's name is. */
static unsigned processes_with(const char *mark)
{
    unsigned found = 0;
    DIR *proc = opendir("/proc");
    assert_non_null(proc);
    for (struct dirent *entry; (entry = readdir(proc)) != NULL;) {
        static char text[65536];
        char path[300];
        if (strtol(entry->d_name, NULL, 10) <= 0)
            continue;
        snprintf(path, sizeof path, "/proc/%s/environ", entry->d_name);
        int fd = open(path, O_RDONLY);
        ssize_t length = fd >= 0 ? read(fd, text, sizeof text) : 0;
        if (fd >= 0)
            close(fd);
        found += length > 0 && memmem(text, (size_t)length, mark, strlen(mark)) != NULL &&
                 memmem(text, (size_t)length, own_region(), strlen(own_region())) != NULL;
    }
    closedir(proc);
    return found;
}

#define PYTHON(name_, text_, ...)                                                                  \
    {                                                                                              \
        .name = name_, .runtime = "python3.11", .handler = "app.handler", .file = "app.py",        \
        .text = text_, __VA_ARGS__                                                                 \
    }

#endif
