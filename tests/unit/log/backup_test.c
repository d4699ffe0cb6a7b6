/* SPDX-License-Identifier: Apache-2.0 */
/* A copy of a log that goes on: it opens as the log up to one entry, wherever that stands; what the
 * log does meanwhile (removing, recycling, appending) does not show in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/log/backup.h"
#include "broker/log/meta.h"
#include "tests/unit/log/bench.h"

#define TERM    3
#define ENTRIES 40u
#define PIECE   777u

static size_t length_of(uint64_t index)
{
    return (size_t)(50 + index * 397 % 1500);
}

static void fill(uint64_t index, uint8_t *out)
{
    for (size_t i = 0; i < length_of(index); i++)
        out[i] = (uint8_t)(index * 31 + i * 7);
}

static void append_until(struct bench *b, uint64_t last)
{
    uint8_t bytes[2048];
    while (log_last_index(b->log) < last) {
        uint64_t index = log_last_index(b->log) + 1;
        fill(index, bytes);
        struct log_entry entry = {index, TERM, 1, slice_make(bytes, length_of(index))};
        assert_int_equal(log_append_now(b->log, &entry, 1), STATUS_OK);
    }
}

static int setup(void **state)
{
    int rv = bench_setup(state);
    struct bench *b = *state;
    b->options.segment_bytes = LOG_SEGMENT_BYTES_MIN;
    b->quick = true;
    bench_open(b);
    return rv != 0 || log_set_term(b->log, TERM) != STATUS_OK ? -1 : 0;
}

static int teardown(void **state)
{
    bench_close(*state);
    return bench_teardown(state);
}

/* ---- copying ---- */

static void on_read(struct log_backup_read *read, enum status status)
{
    assert_int_equal(status, STATUS_OK);
    *(bool *)read->data = true;
}

static void copy_file(struct bench *b, struct log_backup *backup, size_t file, uint64_t bytes,
                      const char *path)
{
    bool done = false;
    struct log_backup_read read = {.file = file, .done = on_read, .data = &done};
    bench_write_at(path, 0, "", 0);
    for (uint64_t at = 0; at < bytes; at += read.out.length) {
        read.offset = at;
        read.length = PIECE;
        done = false;
        log_backup_read(backup, &read);
        while (!done)
            uv_run(&b->loop, UV_RUN_ONCE);
        assert_true(read.out.length > 0);
        bench_write_at(path, at, read.out.data, read.out.length);
    }
    buffer_free(&read.out);
}

static void copy(struct bench *b, struct log_backup *backup, const char *to)
{
    char path[512];
    struct log_backup_view view;
    log_backup_view(backup, &view);
    snprintf(path, sizeof path, "%s/segments", to);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/snapshots", to);
    assert_int_equal(mkdir(path, 0700), 0);
    for (size_t i = 0; i < view.file_count; i++) {
        snprintf(path, sizeof path, "%s/%s", to, view.files[i].name);
        copy_file(b, backup, i, view.files[i].bytes, path);
    }
    int fd = open(to, O_RDONLY | O_DIRECTORY);
    struct log_meta meta = {.node_id = 1, .term = view.term};
    assert_int_equal(meta_store(&log_disk_real, fd, &meta), 0);
    close(fd);
}

static void check_entry(void *data, const struct log_entry *entry)
{
    uint8_t bytes[2048];
    uint64_t *next = data;
    fill(entry->index, bytes);
    assert_int_equal(entry->index, (*next)++);
    assert_int_equal(entry->payload.length, length_of(entry->index));
    assert_memory_equal(entry->payload.data, bytes, entry->payload.length);
}

/* The copy opens as a log of first..last, and goes on. */
static void check_copy(struct bench *b, struct log_backup *backup, uint64_t first, uint64_t last)
{
    void *state = NULL;
    const char *error = NULL;
    uint64_t next = first;
    assert_int_equal(bench_setup(&state), 0);
    struct bench *other = state;
    other->options.segment_bytes = LOG_SEGMENT_BYTES_MIN;
    other->quick = true;
    copy(b, backup, other->dir);
    bench_open(other);
    assert_int_equal(log_last_index(other->log), last);
    assert_int_equal(log_term(other->log), TERM);
    assert_int_equal(log_load(other->log, first, check_entry, &next, &error), STATUS_OK);
    assert_int_equal(next, last + 1);
    append_until(other, last + 3);
    bench_close(other);
    bench_open(other);
    assert_int_equal(log_last_index(other->log), last + 3);
    bench_close(other);
    assert_int_equal(bench_teardown(&state), 0);
}

static struct log_backup *begin(struct bench *b, uint64_t index)
{
    struct log_backup *backup = NULL;
    assert_int_equal(log_backup_begin(b->log, index, &backup), STATUS_OK);
    return backup;
}

/* ---- tests ---- */

static void a_copy_ends_with_its_entry(void **state)
{
    struct bench *b = *state;
    append_until(b, ENTRIES);
    for (uint64_t index = 1; index <= ENTRIES; index++) {
        struct log_backup *backup = begin(b, index);
        check_copy(b, backup, 1, index);
        log_backup_end(backup);
    }
}

/* Each removed segment would become a spare, and the next segment be written into it. */
static void what_is_removed_meanwhile_stays_in_it(void **state)
{
    struct bench *b = *state;
    append_until(b, ENTRIES);
    struct log_backup *backup = begin(b, ENTRIES);
    log_reclaim_begin(b->log);
    for (uint64_t last = ENTRIES; last < 5 * ENTRIES; last += 4) {
        append_until(b, last);
        log_prefix_done(b->log, last - 1);
        bench_run_ms(b, 1);
    }
    assert_true(log_first_index(b->log) > ENTRIES);
    check_copy(b, backup, 1, ENTRIES);
    log_backup_end(backup);
    append_until(b, 6 * ENTRIES);
    backup = begin(b, 6 * ENTRIES);
    check_copy(b, backup, log_first_index(b->log), 6 * ENTRIES);
    log_backup_end(backup);
}

static void on_put(struct log_snapshot_put *put, enum status status)
{
    assert_int_equal(status, STATUS_OK);
    *(bool *)put->data = true;
}

/* With a snapshot, the entries before it need not be there. */
static void a_snapshot_is_in_it(void **state)
{
    struct bench *b = *state;
    bool done = false;
    struct slice part = SLICE_LITERAL("the state");
    append_until(b, ENTRIES);
    struct log_snapshot_put put = {.snapshot = {.index = 20, .term = TERM, .config_index = 1},
                                   .parts = &part,
                                   .part_count = 1,
                                   .done = on_put,
                                   .data = &done};
    log_snapshot_put(b->log, &put);
    while (!done)
        uv_run(&b->loop, UV_RUN_ONCE);
    struct log_backup *refused = NULL;
    assert_int_equal(log_backup_begin(b->log, 19, &refused), STATUS_BUSY);
    struct log_backup *backup = begin(b, 30);
    struct log_backup_view view;
    log_backup_view(backup, &view);
    assert_string_equal(view.files[0].name, "snapshots/00000000000000000020.snap");
    check_copy(b, backup, 21, 30);
    log_backup_end(backup);
}

static void one_at_a_time_and_nothing_stays(void **state)
{
    struct bench *b = *state;
    char path[256];
    char file[512];
    struct stat about;
    struct log_backup *none = NULL;
    snprintf(path, sizeof path, "%s/backup", b->dir);
    assert_int_equal(log_backup_begin(b->log, 0, &none), STATUS_NOT_FOUND);
    append_until(b, 5);
    assert_int_equal(log_backup_begin(b->log, 6, &none), STATUS_BUSY); /* not on disk */
    struct log_backup *backup = begin(b, 5);
    assert_int_equal(log_backup_begin(b->log, 5, &none), STATUS_EXISTS);
    assert_int_equal(stat(path, &about), 0);
    log_backup_end(backup);
    assert_int_equal(stat(path, &about), -1);
    assert_int_equal(mkdir(path, 0700), 0); /* as a crash leaves it */
    snprintf(file, sizeof file, "%s/00000000000000000001.seg", path);
    bench_write_at(file, 0, "x", 1);
    bench_close(b);
    bench_open(b);
    assert_int_equal(stat(path, &about), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_copy_ends_with_its_entry, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_removed_meanwhile_stays_in_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_snapshot_is_in_it, setup, teardown),
        cmocka_unit_test_setup_teardown(one_at_a_time_and_nothing_stays, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
