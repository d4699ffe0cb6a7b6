/* SPDX-License-Identifier: Apache-2.0 */
/* A log in a directory of its own, on the real file system, with a disk whose writes, syncs
 * and renames a test can make fail; and files changed by hand. */
#ifndef TESTS_UNIT_LOG_BENCH_H
#define TESTS_UNIT_LOG_BENCH_H

#include "broker/log/frame.h"
#include "broker/log/log.h"
#include "tests/unit/log/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct bench {
    uv_loop_t loop;
    char dir[128];
    struct log *log;
    struct log_options options;
    char fatal[512];
    bool closed;
    /* the disk */
    struct log_disk disk;
    _Atomic int64_t calls;
    _Atomic int64_t fail_from; /* this call and all later ones fail; 0 = none */
    int error;                 /* with this */
    bool quick;                /* syncs that do not fail do nothing */
};

static inline bool bench_fails(struct bench *b)
{
    int64_t call = ++b->calls;
    errno = b->error != 0 ? b->error : EIO;
    return b->fail_from > 0 && call >= b->fail_from;
}

static inline ssize_t bench_write(void *data, int fd, const struct iovec *parts, int count,
                                  off_t offset)
{
    return bench_fails(data) ? -1 : log_disk_real.write(NULL, fd, parts, count, offset);
}

static inline int bench_sync(void *data, int fd, bool whole)
{
    const struct bench *b = data;
    if (bench_fails(data))
        return -1;
    return b->quick ? 0 : log_disk_real.sync(NULL, fd, whole);
}

static inline int bench_rename(void *data, int from_fd, const char *from, int to_fd, const char *to)
{
    return bench_fails(data) ? -1 : log_disk_real.rename(NULL, from_fd, from, to_fd, to);
}

static inline void bench_fatal(void *data, const char *sentence)
{
    struct bench *b = data;
    snprintf(b->fatal, sizeof b->fatal, "%s", sentence);
}

static inline enum status bench_try_open(struct bench *b, const char **error)
{
    b->disk = (struct log_disk){b, bench_write, bench_sync, bench_rename};
    b->calls = 0;
    b->options.loop = &b->loop;
    b->options.dir = b->dir;
    b->options.node_id = b->options.node_id > 0 ? b->options.node_id : 1;
    b->options.disk = &b->disk;
    b->options.fatal = bench_fatal;
    b->options.fatal_data = b;
    return log_open(&b->log, &b->options, error);
}

static inline void bench_open(struct bench *b)
{
    const char *error = NULL;
    if (bench_try_open(b, &error) != STATUS_OK)
        fail_msg("%s", error);
}

static inline void bench_on_closed(void *data)
{
    ((struct bench *)data)->closed = true;
}

static inline void bench_close(struct bench *b)
{
    b->closed = false;
    log_close(b->log, bench_on_closed, b);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    assert_true(b->closed);
}

static inline void bench_on_timer(uv_timer_t *timer)
{
    uv_close((uv_handle_t *)timer, NULL);
}

/* bench_run_ms: run the loop until nothing is left to do, and `ms` at least. */
static inline void bench_run_ms(struct bench *b, uint64_t ms)
{
    uv_timer_t timer; /* the log's own timers do not keep the loop alive */
    uv_timer_init(&b->loop, &timer);
    uv_update_time(&b->loop);
    uv_timer_start(&timer, bench_on_timer, ms, 0);
    uv_run(&b->loop, UV_RUN_DEFAULT);
}

/* BENCH_TEST, BENCH_UNPACKED: a test of a log that packs, and the same of one that does not. */
#define BENCH_TEST(name) cmocka_unit_test_setup_teardown(name, bench_setup, bench_teardown)
#define BENCH_UNPACKED(name)                                                                       \
    {                                                                                              \
#name "_unpacked", name, bench_setup, bench_teardown, &bench_unpacked                      \
    }
static char bench_unpacked;

/* bench_setup: *state is &bench_unpacked, or NULL. */
static inline int bench_setup(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    b->options.unpacked = *state == &bench_unpacked;
    const char *base = getenv("TMPDIR");
    snprintf(b->dir, sizeof b->dir, "%s/millrace-log-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(b->dir) == NULL)
        return -1;
    uv_loop_init(&b->loop);
    *state = b;
    return 0;
}

static inline int bench_remove_one(const char *path, const struct stat *info, int type,
                                   struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void bench_remove(const char *dir)
{
    nftw(dir, bench_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static inline int bench_teardown(void **state)
{
    struct bench *b = *state;
    assert_int_equal(uv_loop_close(&b->loop), 0);
    bench_remove(b->dir);
    free(b);
    return 0;
}

/* ---- files by hand ---- */

static inline void bench_segment_path(struct bench *b, uint64_t first_index, char out[256])
{
    snprintf(out, 256, "%s/segments/%020" PRIu64 ".seg", b->dir, first_index);
}

static inline void bench_write_at(const char *path, uint64_t offset, const void *bytes,
                                  size_t length)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, length, (off_t)offset), length);
    close(fd);
}

static inline void bench_flip(const char *path, uint64_t offset)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

/* bench_copy_tree: `to` must not exist. */
static inline void bench_copy_tree(const char *from, const char *to)
{
    assert_int_equal(tool_run("cp", "-a", from, to), 0);
}

#endif
