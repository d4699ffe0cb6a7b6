/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots by a forked child: what it has of its parent, and every way in which it can end. What
 * the child sees comes back through memory that both share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/log/bench.h"

#include <dirent.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define DATA_BYTES 600000u

struct shared {
    _Atomic int stage; /* of the child: 1 = making */
    _Atomic int go_on; /* 0: it waits */
    _Atomic int files; /* that it has open */
    _Atomic int death_signal;
    _Atomic int nice;
    _Atomic int handler_is_default;
};

struct snapshotter {
    struct bench *bench;
    struct shared *shared;
    struct log_snapshot_put put;
    uint8_t *data;
    bool done;
    enum status status;
};

static struct shared *share(void)
{
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    return shared;
}

/* Bytes of which half compresses. */
static uint8_t *some_data(uint8_t salt)
{
    uint8_t *data = malloc(DATA_BYTES);
    assert_non_null(data);
    memset(data, salt, DATA_BYTES);
    for (uint32_t i = DATA_BYTES / 2; i < DATA_BYTES; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 13 ^ i * i >> 5);
    return data;
}

static int count_files(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
    return count;
}

static void look_around(struct shared *shared)
{
    int death_signal = 0;
    struct sigaction action;
    prctl(PR_GET_PDEATHSIG, &death_signal);
    sigaction(SIGTERM, NULL, &action);
    shared->death_signal = death_signal;
    shared->files = count_files();
    shared->nice = getpriority(PRIO_PROCESS, 0);
    shared->handler_is_default = action.sa_handler == SIG_DFL ? 1 : 0;
}

static void make(void *make_data, struct snapshot_sink *sink)
{
    struct snapshotter *s = make_data;
    look_around(s->shared);
    s->shared->stage = 1;
    snapshot_add(sink, slice_make(s->data, 1000));
    while (s->shared->go_on == 0)
        usleep(1000);
    snapshot_add(sink, slice_make(s->data + 1000, DATA_BYTES - 1000));
}

static void on_put(struct log_snapshot_put *put, enum status status)
{
    struct snapshotter *s = put->data;
    s->done = true;
    s->status = status;
}

static void begin(struct snapshotter *s, struct bench *b, uint64_t index, bool go_on)
{
    *s = (struct snapshotter){.bench = b, .shared = share(), .data = some_data((uint8_t)index)};
    s->shared->go_on = go_on;
    s->put = (struct log_snapshot_put){.make = make, .make_data = s, .done = on_put, .data = s};
    s->put.snapshot.index = index;
    s->put.snapshot.term = 1;
    s->put.snapshot.config_index = 1;
    buffer_add_text(&s->put.snapshot.config, "members");
    log_snapshot_put(b->log, &s->put);
    assert_false(s->done);
}

static enum status finish(struct snapshotter *s)
{
    while (!s->done)
        uv_run(&s->bench->loop, UV_RUN_ONCE);
    buffer_free(&s->put.snapshot.config);
    free(s->data);
    munmap(s->shared, sizeof *s->shared);
    return s->status;
}

static pid_t child_of(struct bench *b)
{
    struct log_stats stats;
    log_stats(b->log, &stats);
    return stats.snapshot_pid;
}

static void append(struct bench *b, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        struct log_entry entry = {log_last_index(b->log) + 1, 1, 1, slice_of("an entry")};
        assert_int_equal(log_append_now(b->log, &entry, 1), STATUS_OK);
    }
}

/* The newest snapshot is of this index, and whole. */
static void assert_snapshot(struct bench *b, uint64_t index)
{
    struct log_snapshot snapshot;
    const char *error = NULL;
    uint8_t *expected = some_data((uint8_t)index);
    if (log_snapshot_load(b->log, &snapshot, &error) != STATUS_OK)
        fail_msg("%s", error);
    assert_int_equal(snapshot.index, index);
    assert_int_equal(snapshot.data.length, DATA_BYTES);
    assert_memory_equal(snapshot.data.data, expected, DATA_BYTES);
    assert_true(slice_is(buffer_slice(&snapshot.config), "members"));
    log_snapshot_free(&snapshot);
    free(expected);
}

static void assert_no_leftovers(struct bench *b)
{
    char path[256];
    snprintf(path, sizeof path, "%s/snapshots/new.tmp", b->dir);
    assert_int_equal(access(path, F_OK), -1);
}

/* ---- tests ---- */

static void a_child_has_nothing_but_memory(void **state)
{
    struct bench *b = *state;
    struct snapshotter s;
    struct sigaction handler = {.sa_handler = SIG_IGN};
    struct sigaction before;
    bench_open(b);
    append(b, 10);
    sigaction(SIGTERM, &handler, &before);
    begin(&s, b, 5, false);
    sigaction(SIGTERM, &before, NULL);
    assert_true(child_of(b) > 0);
    while (s.shared->stage == 0)
        usleep(1000);
    assert_int_equal(s.shared->files, 3); /* stderr, the file, the report */
    assert_int_equal(s.shared->death_signal, SIGKILL);
    assert_true(s.shared->nice > 0);
    assert_int_equal(s.shared->handler_is_default, 1);
    append(b, 10); /* nobody waits for it */
    assert_int_equal(log_snapshot_index(b->log), 0);
    s.shared->go_on = 1;
    assert_int_equal(finish(&s), STATUS_OK);
    assert_int_equal(s.put.raw_bytes, DATA_BYTES);
    assert_true(s.put.file_bytes < DATA_BYTES);
    assert_int_equal(child_of(b), 0);
    assert_int_equal(log_snapshot_index(b->log), 5);
    assert_snapshot(b, 5);
    bench_close(b);
}

/* The image is that of the moment, whatever the parent does to its memory then. */
static void a_child_sees_the_moment(void **state)
{
    struct bench *b = *state;
    struct snapshotter s;
    bench_open(b);
    append(b, 10);
    begin(&s, b, 5, false);
    memset(s.data, 99, DATA_BYTES);
    s.shared->go_on = 1;
    assert_int_equal(finish(&s), STATUS_OK);
    assert_snapshot(b, 5);
    bench_close(b);
}

static void a_killed_child_changes_nothing(void **state)
{
    struct bench *b = *state;
    struct snapshotter s;
    bench_open(b);
    append(b, 10);
    begin(&s, b, 5, true);
    assert_int_equal(finish(&s), STATUS_OK);
    begin(&s, b, 8, false);
    while (s.shared->stage == 0)
        usleep(1000);
    assert_int_equal(kill(child_of(b), SIGKILL), 0);
    assert_int_equal(finish(&s), STATUS_IO_ERROR);
    assert_no_leftovers(b);
    assert_snapshot(b, 5);
    begin(&s, b, 9, true);
    assert_int_equal(finish(&s), STATUS_OK);
    assert_snapshot(b, 9);
    assert_int_equal(log_snapshot_older(b->log), 5);
    bench_close(b);
}

static void a_full_disk_is_reported(void **state)
{
    struct bench *b = *state;
    struct snapshotter s;
    bench_open(b);
    append(b, 10);
    b->error = ENOSPC;
    b->fail_from = b->calls + 2; /* in the child, whose copy counts by itself */
    begin(&s, b, 5, true);
    b->fail_from = 0;
    assert_int_equal(finish(&s), STATUS_DISK_FULL);
    assert_no_leftovers(b);
    assert_string_equal(b->fatal, "");
    begin(&s, b, 5, true);
    assert_int_equal(finish(&s), STATUS_OK);
    assert_snapshot(b, 5);
    bench_close(b);
}

static void closing_does_not_wait(void **state)
{
    struct bench *b = *state;
    struct snapshotter s;
    bench_open(b);
    append(b, 10);
    begin(&s, b, 5, false); /* it would never end */
    bench_close(b);
    assert_int_equal(finish(&s), STATUS_IO_ERROR);
    assert_no_leftovers(b);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* it has been waited for */
}

/* Without descriptors for a pipe the state is made in this process. */
static void without_a_child_it_works_too(void **state)
{
    struct bench *b = *state;
    struct snapshotter s;
    struct rlimit before;
    bench_open(b);
    append(b, 10);
    int lowest = dup(0);
    assert_true(lowest >= 0);
    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit tight = {(rlim_t)lowest + 1, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    begin(&s, b, 5, true);
    assert_int_equal(child_of(b), 0);
    memset(s.data, 99, DATA_BYTES); /* made already */
    enum status status = finish(&s);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(status, STATUS_OK);
    assert_snapshot(b, 5);
    bench_close(b);
}

/* ---- kill -9 of the parent ---- */

static void be_the_parent(struct bench *b, struct shared *shared)
{
    struct snapshotter s;
    uv_loop_fork(&b->loop);
    bench_open(b);
    append(b, 10);
    begin(&s, b, 5, true);
    if (finish(&s) != STATUS_OK)
        _exit(1);
    begin(&s, b, 8, false);
    while (s.shared->stage == 0)
        usleep(1000);
    shared->stage = 1;
    for (;;)
        uv_run(&b->loop, UV_RUN_ONCE);
}

static void a_child_dies_with_its_parent(void **state)
{
    struct bench *b = *state;
    struct shared *shared = share();
    int ended;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    pid_t parent = fork();
    if (parent == 0)
        be_the_parent(b, shared);
    while (shared->stage == 0)
        usleep(1000);
    assert_int_equal(kill(parent, SIGKILL), 0);
    assert_int_equal(waitpid(parent, &ended, 0), parent);
    assert_true(waitpid(-1, &ended, 0) > 0); /* the orphan is ours now */
    assert_true(WIFSIGNALED(ended));
    assert_int_equal(WTERMSIG(ended), SIGKILL);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
    bench_open(b);
    assert_no_leftovers(b);
    assert_int_equal(log_snapshot_index(b->log), 5);
    assert_snapshot(b, 5);
    bench_close(b);
    munmap(shared, sizeof *shared);
}

int main(void)
{
#define SNAPSHOT_TEST(f) cmocka_unit_test_setup_teardown(f, bench_setup, bench_teardown)
    const struct CMUnitTest tests[] = {
        /* First, while this process has no threads: after a fork of one that has, the thread
         * sanitizer lets none be started. */
        SNAPSHOT_TEST(a_child_dies_with_its_parent), SNAPSHOT_TEST(a_child_has_nothing_but_memory),
        SNAPSHOT_TEST(a_child_sees_the_moment),      SNAPSHOT_TEST(a_killed_child_changes_nothing),
        SNAPSHOT_TEST(a_full_disk_is_reported),      SNAPSHOT_TEST(closing_does_not_wait),
        SNAPSHOT_TEST(without_a_child_it_works_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
