/* SPDX-License-Identifier: Apache-2.0 */
/* The start of an execution environment: its code, its folders, its control group, the launch. */
#include "worker/environment_internal.h"

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"
#include "worker/variables.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PROCESSES_OWN    1024u /* Lambda's quota */
#define PROCESSES_SHARED 4096u /* counted with all of the user's others, so only a backstop */

static const char *make_log_stream(struct arena *arena, const char *version)
{
    uint8_t random[UUID_BYTES];
    char date[16] = "";
    struct buffer hex = {0};
    time_t now = (time_t)(clock_now_ms() / 1000);
    struct tm tm;
    if (gmtime_r(&now, &tm) != NULL)
        strftime(date, sizeof date, "%Y/%m/%d", &tm);
    clock_random(random, sizeof random);
    encode_hex(&hex, slice_make(random, sizeof random));
    const char *name = arena_printf(arena, "%s/[%s]%s", date, version, buffer_c_string(&hex));
    buffer_free(&hex);
    return name;
}

/* make_tmp: without mounts of its own, an environment's /tmp is a folder of ours. */
static bool make_tmp(struct environment *e, uid_t uid)
{
    if (e->setup->isolation->namespaces)
        return true;
    int length = asprintf(&e->tmp_dir, "%s/tmp/%u", e->setup->data_dir, e->id);
    ASSERT(length > 0);
    return mkdir(e->tmp_dir, 0700) == 0 &&
           (!e->setup->isolation->own_uids || chown(e->tmp_dir, uid, uid) == 0);
}

static enum status launch(struct environment *e, uid_t uid, int output_fd)
{
    const struct environment_setup *setup = e->setup;
    bool inside = setup->isolation->namespaces;
    struct arena arena = {0};
    const char *runtime_dir = arena_printf(&arena, "%s/runtime", setup->data_dir);
    const char *task_root = inside ? SANDBOX_TASK : code_dir(e->code);
    const char *runtime_root = inside ? SANDBOX_RUNTIME : runtime_dir;
    struct variables_input input = {
        .function = e->function,
        .execution_env = e->runtime->execution_env,
        .task_root = task_root,
        .runtime_root = runtime_root,
        .home = inside ? "/tmp" : e->tmp_dir,
        .runtime_api = arena_printf(&arena, "127.0.0.1:%u", runtime_api_port(e->api)),
        .log_stream = make_log_stream(&arena, e->function->version),
        .endpoint = setup->endpoint,
        .region = setup->region,
    };
    struct sandbox_spec spec = {
        .namespaces = inside,
        .own_uid = setup->isolation->own_uids,
        .uid = setup->isolation->own_uids ? uid : 0,
        .tmp_mb = e->function->ephemeral_mb,
        .processes_max = setup->isolation->own_uids ? PROCESSES_OWN : PROCESSES_SHARED,
        .root_dir = arena_printf(&arena, "%s/root", setup->data_dir),
        .task_dir = code_dir(e->code),
        .runtime_dir = runtime_dir,
        .group_dirs = {e->cgroup.memory_dir, e->cgroup.pids_dir},
        .argv = runtime_argv(e->runtime, task_root, runtime_root, &arena),
        .envp = variables_build(&input, &arena),
    };
    if (e->cgroup.kind == CGROUP_NONE)
        spec.group_dirs[0] = spec.group_dirs[1] = "";
    enum status status = launcher_launch(setup->launcher, e->id, &spec, output_fd);
    arena_free(&arena);
    return status;
}

static enum status start(struct environment *e)
{
    const struct environment_setup *setup = e->setup;
    bool own = setup->isolation->own_uids;
    uid_t uid = own ? setup->isolation->uid_base + e->slot : (uid_t)-1;
    int output_fd = -1;
    enum status status = output_open(&e->output, setup->loop, e->log, &output_fd);
    if (status != STATUS_OK)
        return status;
    e->output_is_open = true;
    status = runtime_api_open(&e->api, setup->loop, uid, &environment_api_events, e);
    if (status == STATUS_OK)
        status = cgroup_make(&setup->isolation->cgroups, e->id,
                             (uint64_t)e->function->memory_mb << 20, PROCESSES_OWN, &e->cgroup);
    if (status == STATUS_OK && !make_tmp(e, uid))
        status = status_from_errno(errno);
    e->started_ns = clock_monotonic_ns();
    if (status == STATUS_OK)
        status = launch(e, uid, output_fd);
    e->launched = status == STATUS_OK;
    close(output_fd);
    return status;
}

static void on_code(void *data, enum status status, struct code *code)
{
    struct environment *e = data;
    if (status != STATUS_OK) {
        environment_stop_with(e, status == STATUS_INVALID ? FATE_BAD_CODE : FATE_NO_CODE);
        return;
    }
    e->code = code;
    status = start(e);
    if (status != STATUS_OK) {
        trace_error("environment", "not_started", "id=%u function=%s error=\"%s\"", e->id,
                    e->function->name, status_text(status));
        environment_stop_with(e, FATE_NO_LAUNCH);
        return;
    }
    environment_move(e, ENVIRONMENT_STARTING);
    uv_timer_start(&e->timer, environment_on_deadline, e->setup->init_timeout_ms, 0);
}

/* The first look at the code store happens in the next turn: no callback from environment_new. */
static void on_first_turn(uv_timer_t *timer)
{
    struct environment *e = timer->data;
    e->code_wait.done = on_code;
    e->code_wait.data = e;
    code_store_get(e->setup->code_store, e->function->code_sha256.data, e->function->code_bytes,
                   &e->code_wait);
}

void environment_start(struct environment *e)
{
    uv_timer_start(&e->timer, on_first_turn, 0, 0);
}
