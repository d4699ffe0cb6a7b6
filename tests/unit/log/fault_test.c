/* SPDX-License-Identifier: Apache-2.0 */
/* What the log does when the world is not as it should be: a full disk, writes and syncs that fail,
 * half-written files, wrong permissions, a second process. The process ends with code 70 and one
 * sentence where going on would be a lie, and refuses to start with the file's name elsewhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/log/bench.h"
#include "tests/unit/log/child.h"

#include <signal.h>
#include <sys/mman.h>

#define NOBODY      65534
#define ENTRY_BYTES 1000u

static void fill_entry(uint8_t *out, uint64_t index)
{
    for (uint32_t i = 0; i < ENTRY_BYTES; i++)
        out[i] = (uint8_t)(index * 31 + i * 7);
}

/* What a child did, shared with the test. */
struct shared {
    uint64_t answered;
};

struct scene {
    struct bench *b;
    struct shared *shared;
    int error; /* of the call that fails */
    int64_t fail_from;
};

static void check_one(void *data, const struct log_entry *entry)
{
    uint8_t bytes[ENTRY_BYTES];
    uint64_t *next = data;
    CHECK(entry->index == (*next)++);
    fill_entry(bytes, entry->index);
    CHECK(slice_equal(entry->payload, slice_make(bytes, sizeof bytes)));
}

/* open_real: as in production: what is fatal ends the process. */
static void open_real(struct bench *b)
{
    const char *error = NULL;
    uv_loop_init(&b->loop);
    b->options.segment_bytes = 64u << 10;
    b->options.loop = &b->loop;
    b->options.dir = b->dir;
    b->options.node_id = 1;
    enum status status = log_open(&b->log, &b->options, &error);
    if (status != STATUS_OK)
        fprintf(stderr, "refused: %s\n", error);
    CHECK(status == STATUS_OK);
}

static void append_one(struct bench *b, struct shared *shared)
{
    uint8_t bytes[ENTRY_BYTES];
    uint64_t index = log_last_index(b->log) + 1;
    fill_entry(bytes, index);
    struct log_entry entry = {index, 1, 1, slice_make(bytes, sizeof bytes)};
    CHECK(log_append_now(b->log, &entry, 1) == STATUS_OK);
    shared->answered = index;
}

static void append_until_it_ends(void *data)
{
    struct scene *scene = data;
    open_real(scene->b);
    for (int i = 0; i < 100000; i++)
        append_one(scene->b, scene->shared);
}

/* ---- a full disk ---- */

static void fill_the_disk(void *data)
{
    struct scene *scene = data;
    struct bench *b = scene->b;
    char ballast[160];
    const char *error = NULL;
    uint64_t next = 1;
    CHECK(child_mount(b->dir, "1m"));
    snprintf(ballast, sizeof ballast, "%s/ballast", b->dir);
    child_fill(ballast, 300u << 10);
    struct child_end end = child_run(append_until_it_ends, scene);
    fprintf(stderr, "%s", end.text);
    CHECK(end.code == LOG_EXIT_CODE);
    CHECK(strstr(end.text, "No space left on device") != NULL);
    CHECK(strstr(end.text, b->dir) != NULL);
    CHECK(scene->shared->answered > 100);
    /* It cannot start while there is no room for its next segment, or can, and then serves. */
    CHECK(unlink(ballast) == 0);
    open_real(b);
    CHECK(log_last_index(b->log) >= scene->shared->answered);
    CHECK(log_load(b->log, 1, check_one, &next, &error) == STATUS_OK);
    CHECK(next == log_last_index(b->log) + 1);
    append_one(b, scene->shared);
}

static struct scene scene_of(struct bench *b)
{
    struct scene scene = {.b = b};
    scene.shared =
        mmap(NULL, sizeof *scene.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(scene.shared, MAP_FAILED);
    return scene;
}

static void a_full_disk_ends_the_process_and_loses_nothing(void **state)
{
    struct bench *b = *state;
    if (!child_may_mount(b->dir)) {
        print_message("skipped: mounting a tmpfs needs CAP_SYS_ADMIN\n");
        skip();
    }
    struct scene scene = scene_of(b);
    struct child_end end = child_run(fill_the_disk, &scene);
    if (end.code != 0)
        fail_msg("%s", end.text);
    munmap(scene.shared, sizeof *scene.shared);
}

static void on_read(struct log_read *read, enum status status)
{
    *(enum status *)read->data = status;
}

static void rewrite_without_room(void *data)
{
    struct scene *scene = data;
    struct bench *b = scene->b;
    char ballast[160];
    struct body_ref ref = {3, 0, 100};
    enum status read_status = STATUS_CLOSED;
    struct log_read read = {.refs = &ref, .count = 1, .done = on_read, .data = &read_status};
    struct log_stats stats;
    CHECK(child_mount(b->dir, "2m"));
    snprintf(ballast, sizeof ballast, "%s/ballast", b->dir);
    b->options.unpacked = true;
    open_real(b);
    for (int i = 0; i < 200; i++)
        append_one(b, scene->shared);
    log_hold(b->log, ref);
    log_prefix_done(b->log, 130);
    child_fill(ballast, 0);
    log_reclaim_begin(b->log);
    bench_run_ms(b, 20);
    log_stats(b->log, &stats);
    CHECK(stats.rewrites == 0);
    log_read(b->log, &read);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    CHECK(read_status == STATUS_OK);
    buffer_free(&read.out);
    fprintf(stderr, "goes on\n");
}

static void a_rewrite_that_finds_no_room_is_put_off(void **state)
{
    struct bench *b = *state;
    if (!child_may_mount(b->dir)) {
        print_message("skipped: mounting a tmpfs needs CAP_SYS_ADMIN\n");
        skip();
    }
    struct scene scene = scene_of(b);
    struct child_end end = child_run(rewrite_without_room, &scene);
    if (end.code != 0)
        fail_msg("%s", end.text);
    assert_non_null(strstr(end.text, "rewrite-failed"));
    assert_non_null(strstr(end.text, "No space left on device"));
    assert_non_null(strstr(end.text, "goes on"));
    munmap(scene.shared, sizeof *scene.shared);
}

/* ---- writes and syncs that fail ---- */

static void run_with_failing_disk(void *data)
{
    struct scene *scene = data;
    struct bench *b = scene->b;
    b->disk = (struct log_disk){b, bench_write, bench_sync, bench_rename};
    b->options.disk = &b->disk;
    b->error = scene->error;
    open_real(b);
    for (int i = 0; i < 20; i++)
        append_one(b, scene->shared);
    b->fail_from = b->calls + scene->fail_from;
    for (int i = 0; i < 100; i++)
        append_one(b, scene->shared);
}

static void verify_after(struct bench *b, const struct shared *shared)
{
    uint64_t next = 1;
    const char *error = NULL;
    bench_open(b);
    assert_true(log_last_index(b->log) >= shared->answered);
    assert_int_equal(log_load(b->log, 1, check_one, &next, &error), STATUS_OK);
    bench_close(b);
}

static void a_failing_write_or_sync_ends_the_process(void **state)
{
    struct bench *b = *state;
    static const int errors[] = {EIO, ENOSPC, EDQUOT, EROFS};
    struct scene scene = scene_of(b);
    b->options.segment_bytes = 64u << 10;
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        scene.error = errors[i];
        for (scene.fail_from = 1; scene.fail_from <= 4; scene.fail_from++) {
            struct child_end end = child_run(run_with_failing_disk, &scene);
            assert_int_equal(end.code, LOG_EXIT_CODE);
            assert_non_null(strstr(end.text, strerror(errors[i])));
            assert_non_null(strstr(end.text, b->dir));
            assert_non_null(strstr(end.text, "check the disk, then start the node again"));
        }
    }
    verify_after(b, scene.shared);
    munmap(scene.shared, sizeof *scene.shared);
}

static void set_term_on_failing_disk(void *data)
{
    struct scene *scene = data;
    struct bench *b = scene->b;
    b->disk = (struct log_disk){b, bench_write, bench_sync, bench_rename};
    b->options.disk = &b->disk;
    open_real(b);
    CHECK(log_set_term(b->log, 5) == STATUS_OK);
    b->fail_from = b->calls + scene->fail_from;
    CHECK(log_set_term(b->log, 6) == STATUS_OK);
}

static void a_vote_that_cannot_be_stored_ends_the_process(void **state)
{
    struct bench *b = *state;
    struct scene scene = scene_of(b);
    for (scene.fail_from = 1; scene.fail_from <= 2; scene.fail_from++) {
        struct child_end end = child_run(set_term_on_failing_disk, &scene);
        assert_int_equal(end.code, LOG_EXIT_CODE);
        assert_non_null(strstr(end.text, "storing the term or vote"));
    }
    bench_open(b);
    assert_true(log_term(b->log) == 5 || log_term(b->log) == 6);
    bench_close(b);
    munmap(scene.shared, sizeof *scene.shared);
}

/* ---- half-written files ---- */

static void file_of(struct bench *b, const char *name, char out[256])
{
    snprintf(out, 256, "%s/%s", b->dir, name);
}

static void some_entries(struct bench *b, int count)
{
    struct shared shared;
    for (int i = 0; i < count; i++)
        append_one(b, &shared);
}

static void half_a_meta_file(void **state)
{
    struct bench *b = *state;
    char path[256];
    const char *error = NULL;
    bench_open(b);
    assert_int_equal(log_set_term(b->log, 7), STATUS_OK); /* write 2: meta-1 */
    assert_int_equal(log_set_term(b->log, 8), STATUS_OK); /* write 3: meta-2 */
    some_entries(b, 1);
    bench_close(b);
    file_of(b, "meta-2", path);
    assert_int_equal(truncate(path, 30), 0);
    bench_open(b);
    assert_int_equal(log_term(b->log), 7);
    bench_close(b);
    file_of(b, "meta-1", path);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(bench_try_open(b, &error), STATUS_CORRUPT);
    assert_non_null(strstr(error, "neither meta-1 nor meta-2 is readable and whole"));
}

/* The very first write of a new folder: there is nothing that it could lose. */
static void half_of_the_first_meta_file(void **state)
{
    struct bench *b = *state;
    char path[256];
    bench_open(b);
    bench_close(b);
    file_of(b, "meta-2", path);
    assert_int_equal(truncate(path, 30), 0);
    bench_open(b);
    assert_int_equal(log_term(b->log), 0);
    some_entries(b, 1);
    bench_close(b);
    bench_open(b);
    assert_int_equal(log_last_index(b->log), 1);
    bench_close(b);
}

static void half_written_leftovers_go(void **state)
{
    struct bench *b = *state;
    static const char *const names[] = {"segments/new.tmp", "segments/rewrite.tmp",
                                        "snapshots/new.tmp"};
    char path[256];
    bench_open(b);
    some_entries(b, 3);
    bench_close(b);
    for (size_t i = 0; i < 3; i++) {
        file_of(b, names[i], path);
        bench_write_at(path, 0, "half", 4);
    }
    bench_open(b);
    assert_int_equal(log_last_index(b->log), 3);
    for (size_t i = 0; i < 3; i++) {
        file_of(b, names[i], path);
        assert_int_not_equal(access(path, F_OK), 0);
    }
    bench_close(b);
}

/* last_segment: by its file. */
static uint64_t last_segment(struct bench *b, uint64_t index)
{
    char path[256];
    for (; index > 0; index--) {
        bench_segment_path(b, index, path);
        if (access(path, F_OK) == 0)
            break;
    }
    return index;
}

/* A segment gets its name when its header is on disk, so one without is damage. */
static void half_a_segment_is_refused_by_name(void **state)
{
    struct bench *b = *state;
    const char *error = NULL;
    char path[256];
    char place[64];
    b->options.segment_bytes = 8192;
    bench_open(b);
    some_entries(b, 30);
    bench_close(b);
    uint64_t last = last_segment(b, 30);
    assert_true(last > 1);
    bench_segment_path(b, last, path);
    snprintf(place, sizeof place, "%020" PRIu64 ".seg is damaged at byte 0", last);
    for (int length = 63; length >= 0; length -= 21) {
        assert_int_equal(truncate(path, length), 0);
        assert_int_equal(bench_try_open(b, &error), STATUS_CORRUPT);
        assert_non_null(strstr(error, place));
        assert_non_null(strstr(error, b->dir));
    }
}

static void damage_is_refused_with_file_and_offset(void **state)
{
    struct bench *b = *state;
    const char *error = NULL;
    char path[256];
    char place[64];
    b->options.unpacked = true;
    bench_open(b);
    some_entries(b, 10);
    bench_close(b);
    bench_segment_path(b, 1, path);
    bench_flip(path, SEGMENT_HEAD_BYTES + 2 * 1048 + 500); /* in the third entry */
    assert_int_equal(bench_try_open(b, &error), STATUS_CORRUPT);
    snprintf(place, sizeof place, ".seg is damaged at byte %u:", SEGMENT_HEAD_BYTES + 2 * 1048);
    assert_non_null(strstr(error, place));
    assert_non_null(strstr(error, "Restore the file from a copy, or replace this node"));
}

/* ---- permissions ---- */

struct locked {
    struct bench *b;
    const char *path; /* that must be in the sentence */
};

static void open_as_nobody(void *data)
{
    struct locked *l = data;
    const char *error = NULL;
    if (geteuid() == 0)
        CHECK(setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0);
    uv_loop_init(&l->b->loop);
    enum status status = bench_try_open(l->b, &error);
    CHECK(status == STATUS_PERMISSION);
    fprintf(stderr, "%s", error);
    CHECK(strstr(error, l->path) != NULL);
    CHECK(strstr(error, "Permission denied") != NULL);
}

static void lock_as_nobody(void *data)
{
    struct locked *l = data;
    struct node_lock lock;
    const char *error = NULL;
    if (geteuid() == 0)
        CHECK(setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0);
    CHECK(node_lock_take(&lock, l->b->dir, 0, &error) == STATUS_PERMISSION);
    CHECK(strstr(error, "LOCK: Permission denied") != NULL);
}

static void must_end_well(struct child_end end)
{
    if (end.code != 0)
        fail_msg("%s", end.text);
}

static void own(const char *path)
{
    if (geteuid() == 0)
        assert_int_equal(chown(path, NOBODY, NOBODY), 0);
}

static void wrong_permissions_are_refused_by_name(void **state)
{
    struct bench *b = *state;
    struct locked l = {b, NULL};
    char segment[256];
    char segments[256];
    char snapshots[256];
    char lock[256];
    bench_open(b);
    some_entries(b, 3);
    bench_close(b);
    own(b->dir);
    bench_segment_path(b, 1, segment);
    file_of(b, "segments", segments);
    file_of(b, "LOCK", lock);
    file_of(b, "snapshots", snapshots);
    own(segments);
    l.path = snapshots;
    if (geteuid() == 0)
        must_end_well(child_run(open_as_nobody, &l));
    own(snapshots);
    assert_int_equal(chmod(segment, 0), 0);
    l.path = "segments/00000000000000000001.seg";
    must_end_well(child_run(open_as_nobody, &l));
    assert_int_equal(chmod(segments, 0), 0);
    l.path = segments;
    must_end_well(child_run(open_as_nobody, &l));
    assert_int_equal(chmod(segments, 0700), 0);
    bench_write_at(lock, 0, "1\n", 2);
    assert_int_equal(chmod(lock, 0), 0);
    must_end_well(child_run(lock_as_nobody, &l));
    assert_int_equal(chmod(b->dir, 0), 0);
    l.path = b->dir;
    must_end_well(child_run(open_as_nobody, &l));
    assert_int_equal(chmod(b->dir, 0700), 0);
}

/* ---- two processes ---- */

static void hold_the_lock(void *data)
{
    struct node_lock lock;
    const char *error = NULL;
    CHECK(node_lock_take(&lock, ((struct bench *)data)->dir, 0, &error) == STATUS_OK);
    fprintf(stderr, "held");
    for (;;)
        pause();
}

static void a_second_process_is_refused_until_the_first_is_gone(void **state)
{
    struct bench *b = *state;
    struct node_lock lock;
    const char *error = NULL;
    char expected[64];
    char text[8] = "";
    int err_fd;
    pid_t pid = child_fork(hold_the_lock, b, &err_fd);
    assert_int_equal(read(err_fd, text, 4), 4);
    assert_string_equal(text, "held");
    assert_int_equal(node_lock_take(&lock, b->dir, 120, &error), STATUS_LOCKED);
    snprintf(expected, sizeof expected, "held by another process, pid %d", (int)pid);
    assert_non_null(strstr(error, expected));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(child_wait(pid, err_fd).code, -1);
    assert_int_equal(node_lock_take(&lock, b->dir, 0, &error), STATUS_OK); /* at once */
    node_lock_drop(&lock);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_setup, bench_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_full_disk_ends_the_process_and_loses_nothing),
        TEST(a_rewrite_that_finds_no_room_is_put_off),
        TEST(a_failing_write_or_sync_ends_the_process),
        TEST(a_vote_that_cannot_be_stored_ends_the_process),
        TEST(half_a_meta_file),
        TEST(half_of_the_first_meta_file),
        TEST(half_written_leftovers_go),
        TEST(half_a_segment_is_refused_by_name),
        TEST(damage_is_refused_with_file_and_offset),
        TEST(wrong_permissions_are_refused_by_name),
        TEST(a_second_process_is_refused_until_the_first_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
