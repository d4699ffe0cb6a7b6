/* SPDX-License-Identifier: Apache-2.0 */
/* Segments that nobody needs any more, and what becomes of their files: they go one at a time, some
 * are written again, and whatever fails meanwhile, entries that were answered are there. And the
 * zeros that are written behind small writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/assert.h"
#include "tests/unit/log/bench.h"

#include <pthread.h>

#define SEGMENT_BYTES 8192u
#define ENTRY_BYTES   2000u
#define SPARES_MAX    16

static void fill_entry(uint8_t *out, uint64_t index)
{
    for (uint32_t i = 0; i < ENTRY_BYTES; i++)
        out[i] = (uint8_t)(index * 31 + i * 7);
}

/* append_some: false when one failed; *answered: the last that did not. */
static bool append_some(struct bench *b, int count, uint64_t *answered)
{
    uint8_t bytes[ENTRY_BYTES];
    for (int i = 0; i < count; i++) {
        uint64_t index = log_last_index(b->log) + 1;
        fill_entry(bytes, index);
        struct log_entry entry = {index, 1, 1, slice_make(bytes, sizeof bytes)};
        if (log_append_now(b->log, &entry, 1) != STATUS_OK)
            return false;
        *answered = index;
    }
    return true;
}

static void check_one(void *data, const struct log_entry *entry)
{
    uint8_t bytes[ENTRY_BYTES];
    uint64_t *next = data;
    assert_int_equal(entry->index, (*next)++);
    fill_entry(bytes, entry->index);
    assert_true(slice_equal(entry->payload, slice_make(bytes, sizeof bytes)));
}

/* check_from: all from `from` to `answered` at least are there. */
static void check_from(struct bench *b, uint64_t from, uint64_t answered)
{
    const char *error = NULL;
    assert_true(log_last_index(b->log) >= answered);
    if (log_last_index(b->log) == 0)
        return;
    uint64_t next = from > log_first_index(b->log) ? from : log_first_index(b->log);
    assert_true(answered == 0 || next <= answered);
    assert_int_equal(log_load(b->log, next, check_one, &next, &error), STATUS_OK);
}

static int files(const struct bench *b, const char *suffix, const char *prefix)
{
    char path[200];
    struct buffer names = {0};
    size_t count = 0;
    int found = 0;
    snprintf(path, sizeof path, "%s/segments", b->dir);
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    assert_true(fd >= 0);
    assert_int_equal(disk_names(fd, &names, &count), 0);
    close(fd);
    const char *name = (const char *)names.data;
    for (size_t i = 0; i < count; i++, name += strlen(name) + 1)
        found += strstr(name, suffix) != NULL && strncmp(name, prefix, strlen(prefix)) == 0;
    buffer_free(&names);
    return found;
}

static void open_small(struct bench *b)
{
    b->options.segment_bytes = SEGMENT_BYTES;
    b->options.unpacked = true;
    bench_open(b);
}

static void many_go_and_some_are_written_again(void **state)
{
    struct bench *b = *state;
    uint64_t answered = 0;
    open_small(b);
    assert_true(append_some(b, 90, &answered));
    int segments = files(b, ".seg", "");
    assert_true(segments > 25);
    log_reclaim_begin(b->log);
    log_prefix_done(b->log, answered);
    assert_true(files(b, ".seg", "") >= segments - 1); /* not all at once */
    bench_run_ms(b, 1);
    assert_int_equal(files(b, ".seg", ""), 1);
    assert_int_equal(files(b, "", "spare-"), SPARES_MAX);
    assert_true(append_some(b, 30, &answered));
    int spares = files(b, "", "spare-");
    assert_int_equal(spares, SPARES_MAX - files(b, ".seg", "") + 1);
    bench_close(b);
    open_small(b);
    check_from(b, 89, answered);
    assert_int_equal(files(b, "", "spare-"), spares);
    bench_close(b);
}

/* A segment whose file was closed to make room for others goes like any other. */
static void closing_the_log_waits_for_one_on_its_way(void **state)
{
    struct bench *b = *state;
    uint64_t answered = 0;
    open_small(b);
    assert_true(append_some(b, 20, &answered));
    bench_close(b);
    open_small(b); /* none but the last is open now */
    log_reclaim_begin(b->log);
    log_prefix_done(b->log, answered);
    bench_close(b);
    open_small(b);
    check_from(b, 20, answered);
    bench_close(b);
}

/* ---- pieces ---- */

#define BIG_BYTES   (2u << 20)
#define PIECE_BYTES (512u << 10)

/* add_big: segments with one large entry each. */
static void add_big(struct bench *b, int count)
{
    static uint8_t bytes[BIG_BYTES - 4096];
    for (int i = 0; i < count; i++) {
        struct log_entry entry = {log_last_index(b->log) + 1, 1, 1,
                                  slice_make(bytes, sizeof bytes)};
        assert_int_equal(log_append_now(b->log, &entry, 1), STATUS_OK);
    }
}

static off_t bytes_of(int fd)
{
    struct stat about;
    assert_int_equal(fstat(fd, &about), 0);
    return about.st_size;
}

static int open_segment(const struct bench *b, int index)
{
    char path[200];
    snprintf(path, sizeof path, "%s/segments/%020d.seg", b->dir, index);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    return fd;
}

/* Of what is neither a spare nor linked elsewhere, the last piece goes with the last close, and all
 * before it went one by one; also where the log had closed the file. */
static void blocks_go_in_pieces(void **state)
{
    struct bench *b = *state;
    char path[200];
    enum { COUNT = SPARES_MAX + 3 };
    int fds[COUNT];
    int whole = 0;
    snprintf(path, sizeof path, "%s/kept", b->dir);
    b->options.segment_bytes = BIG_BYTES;
    b->options.unpacked = true;
    bench_open(b);
    add_big(b, COUNT + 1);
    bench_close(b);
    bench_open(b);
    for (int i = 0; i < COUNT; i++)
        fds[i] = open_segment(b, i + 1);
    char first[200];
    snprintf(first, sizeof first, "%s/segments/%020d.seg", b->dir, 1);
    assert_int_equal(link(first, path), 0); /* as a backup does */
    log_reclaim_begin(b->log);
    log_prefix_done(b->log, COUNT);
    while (files(b, ".seg", "") > 1)
        bench_run_ms(b, 1);
    bench_run_ms(b, 100);
    for (int i = 0; i < COUNT; i++) {
        whole += bytes_of(fds[i]) > (off_t)PIECE_BYTES ? 1 : 0;
        close(fds[i]);
    }
    assert_int_equal(whole, SPARES_MAX + 1);
    assert_int_equal(unlink(path), 0);
    bench_close(b);
}

/* open_large: each large entry has a segment of its own, too large to become a spare. */
static void open_large(struct bench *b)
{
    b->options.segment_bytes = SEGMENT_BYTES;
    b->options.rewrite_rate = UINT64_C(1) << 40;
    b->options.unpacked = true;
    bench_open(b);
}

/* is_last_piece: of a file that has no name any more: is that all that is left? */
static bool is_last_piece(int fd)
{
    return bytes_of(fd) <= (off_t)PIECE_BYTES;
}

/* I1 of shrink.c: a power failure may bring the name back, and then the file must be whole. */
static void nothing_is_cut_whose_name_may_come_back(void **state)
{
    struct bench *b = *state;
    open_large(b);
    add_big(b, 2);
    int fd = open_segment(b, 1);
    off_t bytes = bytes_of(fd);
    b->fail_from = b->calls + 1; /* the sync of the folder */
    log_reclaim_begin(b->log);
    log_prefix_done(b->log, 1);
    bench_run_ms(b, 1);
    assert_true(b->fatal[0] != '\0');
    assert_int_equal(files(b, ".seg", ""), 1);
    assert_int_equal(bytes_of(fd), bytes);
    close(fd);
    bench_close(b);
}

static void what_is_truncated_goes_in_pieces(void **state)
{
    struct bench *b = *state;
    open_large(b);
    add_big(b, 4);
    int third = open_segment(b, 3);
    int fourth = open_segment(b, 4);
    log_truncate(b->log, 2);
    bench_run_ms(b, 1);
    assert_true(is_last_piece(third) && is_last_piece(fourth));
    close(third);
    close(fourth);
    bench_close(b);
}

static void what_is_rewritten_goes_in_pieces(void **state)
{
    struct bench *b = *state;
    struct log_stats stats;
    open_large(b);
    add_big(b, 2);
    int fd = open_segment(b, 1);
    log_hold(b->log, (struct body_ref){1, 0, 100});
    log_reclaim_begin(b->log);
    log_prefix_done(b->log, 1);
    bench_run_ms(b, 1);
    log_stats(b->log, &stats);
    assert_int_equal(stats.rewrites, 1);
    assert_true(is_last_piece(fd));
    close(fd);
    bench_close(b);
}

/* What is left of it then goes at once. */
static void closing_the_log_ends_the_pieces(void **state)
{
    struct bench *b = *state;
    open_large(b);
    add_big(b, 2);
    int fd = open_segment(b, 1);
    off_t bytes = bytes_of(fd);
    log_reclaim_begin(b->log);
    log_prefix_done(b->log, 1);
    while (bytes_of(fd) == bytes)
        uv_run(&b->loop, UV_RUN_NOWAIT);
    bench_close(b);
    assert_false(is_last_piece(fd));
    close(fd);
}

/* life: what a log does when segments go and come; how far it came in *answered. */
static void life(struct bench *b, uint64_t *answered, uint64_t *done)
{
    log_reclaim_begin(b->log);
    for (int round = 0; round < 2 && append_some(b, 14, answered); round++) {
        *done = *answered - 2;
        log_prefix_done(b->log, *done);
        bench_run_ms(b, 1);
    }
}

static void whatever_fails_answered_entries_are_there(void **state)
{
    struct bench *b = *state;
    bool failed = true;
    for (int64_t n = 1; failed; n++) {
        uint64_t answered = 0;
        uint64_t done = 0;
        struct bench *fresh = NULL;
        void *made = NULL;
        assert_int_equal(bench_setup(&made), 0);
        fresh = made;
        open_small(fresh);
        fresh->quick = b->quick = true;
        fresh->fail_from = fresh->calls + n;
        life(fresh, &answered, &done);
        failed = fresh->fatal[0] != '\0';
        assert_true(failed || answered == 28);
        bench_close(fresh);
        fresh->fail_from = 0;
        open_small(fresh);
        check_from(fresh, done + 1, answered);
        bench_close(fresh);
        bench_teardown(&made);
    }
}

/* ---- names ---- */

#define FILES_MAX 256
#define PAUSE_US  2000u

/* A disk that knows which files have a name that a power failure would take back: renamed, and the
 * folder not synced since. A folder's sync takes a while, so that much else is done meanwhile. */
struct names {
    struct log_disk disk;
    pthread_mutex_t mutex;
    ino_t folder;
    ino_t spares[FILES_MAX]; /* in the order in which they became spares */
    unsigned count;
    unsigned durable; /* so many of these are spares for good */
    unsigned reused;  /* writes to files that were spares */
    unsigned early;   /* of these, while the old name could have come back */
};

static ssize_t names_write(void *data, int fd, const struct iovec *parts, int count, off_t offset)
{
    struct names *n = data;
    struct stat about;
    ASSERT(fstat(fd, &about) == 0);
    pthread_mutex_lock(&n->mutex);
    for (unsigned i = 0; i < n->count; i++) {
        n->reused += n->spares[i] == about.st_ino;
        n->early += n->spares[i] == about.st_ino && i >= n->durable;
    }
    pthread_mutex_unlock(&n->mutex);
    return log_disk_real.write(NULL, fd, parts, count, offset);
}

static int names_sync(void *data, int fd, bool whole)
{
    struct names *n = data;
    struct stat about;
    ASSERT(fstat(fd, &about) == 0);
    if (!S_ISDIR(about.st_mode))
        return 0; /* not what is looked at here */
    pthread_mutex_lock(&n->mutex);
    unsigned before = n->folder == about.st_ino ? n->count : 0;
    pthread_mutex_unlock(&n->mutex);
    usleep(PAUSE_US);
    int result = log_disk_real.sync(NULL, fd, whole);
    pthread_mutex_lock(&n->mutex);
    n->durable = before > n->durable ? before : n->durable;
    pthread_mutex_unlock(&n->mutex);
    return result;
}

static int names_rename(void *data, int from_fd, const char *from, int to_fd, const char *to)
{
    struct names *n = data;
    struct stat file;
    struct stat folder;
    pthread_mutex_lock(&n->mutex);
    ASSERT(fstatat(from_fd, from, &file, 0) == 0 && fstat(to_fd, &folder) == 0);
    int result = log_disk_real.rename(NULL, from_fd, from, to_fd, to);
    if (result == 0 && strncmp(to, "spare-", 6) == 0) {
        ASSERT(n->count < FILES_MAX);
        n->folder = folder.st_ino;
        n->spares[n->count++] = file.st_ino;
    }
    pthread_mutex_unlock(&n->mutex);
    return result;
}

/* I1 of removal.c: else a power failure brings the old name back, with the new one's bytes. */
static void a_spare_is_written_when_its_old_name_is_gone_for_good(void **state)
{
    struct bench *b = *state;
    struct names n = {.disk = {&n, names_write, names_sync, names_rename}};
    const char *error = NULL;
    uint64_t answered = 0;
    pthread_mutex_init(&n.mutex, NULL);
    b->options.loop = &b->loop;
    b->options.dir = b->dir;
    b->options.node_id = 1;
    b->options.disk = &n.disk;
    b->options.segment_bytes = SEGMENT_BYTES;
    b->options.unpacked = true;
    assert_int_equal(log_open(&b->log, &b->options, &error), STATUS_OK);
    log_reclaim_begin(b->log);
    for (int i = 0; i < 100; i++) { /* a spare is taken as soon as there is one */
        assert_true(append_some(b, 1, &answered));
        log_prefix_done(b->log, answered);
    }
    for (int i = 0; i < 3; i++) { /* and the last one of several, first */
        assert_true(append_some(b, 12, &answered));
        log_prefix_done(b->log, answered);
        bench_run_ms(b, 1);
        assert_true(append_some(b, 4, &answered));
    }
    bench_close(b);
    assert_true(n.reused > 10);
    assert_int_equal(n.early, 0);
    pthread_mutex_destroy(&n.mutex);
}

/* ---- zeros ---- */

struct sizes {
    struct log_disk disk;
    size_t last; /* bytes of the last write of frames */
};

static ssize_t noting_write(void *data, int fd, const struct iovec *parts, int count, off_t offset)
{
    struct sizes *s = data;
    s->last = 0;
    for (int i = 0; i < count; i++)
        s->last += parts[i].iov_len;
    return log_disk_real.write(NULL, fd, parts, count, offset);
}

static size_t append_of(struct bench *b, struct sizes *s, size_t length)
{
    static uint8_t bytes[128u << 10];
    struct log_entry entry = {log_last_index(b->log) + 1, 1, 1, slice_make(bytes, length)};
    assert_int_equal(log_append_now(b->log, &entry, 1), STATUS_OK);
    return s->last;
}

static void small_writes_put_zeros_ahead(void **state)
{
    struct bench *b = *state;
    const char *error = NULL;
    struct sizes s = {.disk = {&s, noting_write, log_disk_real.sync, log_disk_real.rename}};
    b->options.loop = &b->loop;
    b->options.dir = b->dir;
    b->options.node_id = 1;
    b->options.disk = &s.disk;
    b->options.segment_bytes = 1u << 20;
    b->options.unpacked = true;
    assert_int_equal(log_open(&b->log, &b->options, &error), STATUS_OK);
    assert_true(append_of(b, &s, 1000) > 200u << 10); /* a piece */
    assert_true(append_of(b, &s, 1000) < 8u << 10);   /* it is there */
    assert_true(append_of(b, &s, 120u << 10) < 128u << 10);
    assert_true(append_of(b, &s, 120u << 10) < 128u << 10);
    assert_true(append_of(b, &s, 120u << 10) <
                128u << 10);                         /* big ones write no more than they are */
    assert_true(append_of(b, &s, 5000) > 64u << 10); /* behind them, again */
    assert_true(append_of(b, &s, 1000) < 8u << 10);
    bench_close(b);
    assert_int_equal(log_open(&b->log, &b->options, &error), STATUS_OK);
    assert_int_equal(log_last_index(b->log), 7);
    bench_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(many_go_and_some_are_written_again),
        BENCH_TEST(closing_the_log_waits_for_one_on_its_way),
        BENCH_TEST(blocks_go_in_pieces),
        BENCH_TEST(nothing_is_cut_whose_name_may_come_back),
        BENCH_TEST(what_is_truncated_goes_in_pieces),
        BENCH_TEST(what_is_rewritten_goes_in_pieces),
        BENCH_TEST(closing_the_log_ends_the_pieces),
        BENCH_TEST(whatever_fails_answered_entries_are_there),
        BENCH_TEST(a_spare_is_written_when_its_old_name_is_gone_for_good),
        BENCH_TEST(small_writes_put_zeros_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
