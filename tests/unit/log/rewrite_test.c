/* SPDX-License-Identifier: Apache-2.0 */
/* Segments in which little is held are rewritten: what is held stays readable through it, through a
 * restart and through a crash at any write; the rest gives its disk back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/log/unit.h"
#include "tests/unit/log/bench.h"

#define SEGMENT_BYTES (128u << 10)
#define ENTRY_BYTES   20000u /* five blocks, the last one short: six entries in a segment */
#define ENTRIES       40u    /* packed, nine or ten in a segment */

/* byte_of: 7 of 16 bytes are as if by chance, the others always the same: so packing leaves about
 * three fifths. */
static uint8_t byte_of(uint64_t index, uint32_t offset)
{
    uint64_t seed = index * 1000003u + offset;
    if (offset % 16 > 6)
        return (uint8_t)(offset % 16);
    return (uint8_t)((seed * UINT64_C(0x9e3779b97f4a7c15)) >> 40);
}

/* segments_held: in how many segments something is held, after which they are rewritten. */
static uint64_t segments_held(const struct bench *b)
{
    return b->options.unpacked ? 4 : 3;
}

static void append(struct bench *b, uint32_t count, uint32_t length)
{
    uint8_t *bytes = malloc(length);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t index = log_last_index(b->log) + 1;
        for (uint32_t at = 0; at < length; at++)
            bytes[at] = byte_of(index, at);
        struct log_entry entry = {index, 1, 1, slice_make(bytes, length)};
        assert_int_equal(log_append_now(b->log, &entry, 1), STATUS_OK);
    }
    free(bytes);
}

/* Bodies at the begin, across blocks, at the end, neighbours, and a whole payload. */
static const struct body_ref held[] = {
    {3, 0, 100},      {3, 100, 50},   {3, 8190, 10},    {5, 19990, 10},
    {14, 4096, 4096}, {14, 12288, 1}, {20, 5000, 3000}, {26, 0, ENTRY_BYTES},
};
#define HELD (sizeof held / sizeof held[0])

static void hold_all(struct bench *b)
{
    for (size_t i = 0; i < HELD; i++)
        log_hold(b->log, held[i]);
}

static void release_all(struct bench *b, size_t from)
{
    for (size_t i = from; i < HELD; i++)
        log_release(b->log, held[i]);
}

static struct log_stats stats_of(struct bench *b)
{
    struct log_stats stats;
    log_stats(b->log, &stats);
    return stats;
}

/* settle: let everything end that is to be done, the pause between rewrites being short. */
static void settle(struct bench *b)
{
    for (uint64_t before = UINT64_MAX; before != stats_of(b).rewrites;) {
        before = stats_of(b).rewrites;
        bench_run_ms(b, 10);
    }
}

static void check_body(struct bench *b, struct body_ref ref)
{
    struct buffer out = {0};
    assert_true(log_read_now(b->log, ref, &out));
    assert_int_equal(out.length, ref.length);
    for (uint32_t i = 0; i < ref.length; i++)
        assert_int_equal(out.data[i], byte_of(ref.index, ref.offset + i));
    buffer_free(&out);
}

static void on_read(struct log_read *read, enum status status)
{
    *(enum status *)read->data = status;
}

static enum status read_refs(struct bench *b, const struct body_ref *refs, size_t count)
{
    enum status status = STATUS_CLOSED;
    struct log_read read = {.refs = refs, .count = count, .done = on_read, .data = &status};
    log_read(b->log, &read);
    while (status == STATUS_CLOSED)
        uv_run(&b->loop, UV_RUN_ONCE);
    size_t at = 0;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        for (uint32_t n = 0; n < refs[i].length; n++)
            assert_int_equal(read.out.data[at++], byte_of(refs[i].index, refs[i].offset + n));
    }
    buffer_free(&read.out);
    return status;
}

static void check_held(struct bench *b)
{
    for (size_t i = 0; i < HELD; i++)
        check_body(b, held[i]);
    assert_int_equal(read_refs(b, held, HELD), STATUS_OK);
}

static void begin(struct bench *b)
{
    uint64_t index;
    b->options.segment_bytes = SEGMENT_BYTES;
    b->options.rewrite_rate = UINT64_C(1) << 40;
    bench_open(b);
    assert_int_equal(log_missing(b->log, &index), 0);
}

static void let_reclaim(struct bench *b)
{
    log_prefix_done(b->log, ENTRIES);
    log_reclaim_begin(b->log);
    settle(b);
}

static void what_is_held_survives(void **state)
{
    struct bench *b = *state;
    uint64_t index;
    begin(b);
    append(b, ENTRIES, ENTRY_BYTES);
    hold_all(b);
    uint64_t before = stats_of(b).bytes_on_disk;
    let_reclaim(b);
    assert_true(stats_of(b).rewrites >= segments_held(b));
    assert_int_equal(stats_of(b).holds, HELD);
    assert_true(stats_of(b).bytes_on_disk < before * 3 / 4);
    check_held(b);
    /* What nobody held is gone, and says so. */
    const struct body_ref gone[] = {{3, 12288, 10}, {4, 0, 10}, {14, 8192, 10}, {20, 0, 10}};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(read_refs(b, &gone[i], 1), STATUS_CORRUPT);
    assert_int_equal(log_last_index(b->log), ENTRIES);
    bench_close(b);

    begin(b); /* again, as after a restart from a snapshot that knows of more */
    hold_all(b);
    for (size_t i = 0; i < 4; i++)
        log_hold(b->log, gone[i]);
    assert_int_equal(log_missing(b->log, &index), 4);
    for (size_t i = 0; i < 4; i++)
        log_release(b->log, gone[i]);
    assert_int_equal(log_missing(b->log, &index), 0);
    check_held(b);
    append(b, 3, ENTRY_BYTES);
    let_reclaim(b);
    assert_int_equal(stats_of(b).rewrites, 0); /* nothing is left to gain */
    check_held(b);
    bench_close(b);
}

/* A reader keeps headers of frames (reader.c), and those of the fresh file are other ones: blocks
 * stand where they did not before. Nothing but time would be lost: the pool reads it all. */
static void what_was_read_before_is_read_on_the_loop_again(void **state)
{
    struct bench *b = *state;
    begin(b);
    append(b, ENTRIES, ENTRY_BYTES);
    hold_all(b);
    for (size_t i = 0; i < HELD; i++)
        check_body(b, (struct body_ref){held[i].index, ENTRY_BYTES - 10, 10});
    let_reclaim(b);
    assert_true(stats_of(b).rewrites >= segments_held(b));
    check_held(b);
    bench_close(b);
}

static void shrinks_again_and_goes_in_the_end(void **state)
{
    struct bench *b = *state;
    begin(b);
    append(b, ENTRIES, ENTRY_BYTES);
    for (uint32_t at = 0; at < 16000; at += 400) /* a quarter and less of one segment */
        log_hold(b->log, (struct body_ref){3, at, 400});
    let_reclaim(b);
    uint64_t first = stats_of(b).bytes_on_disk;
    assert_int_equal(stats_of(b).rewrites, 1);
    for (uint32_t at = 0; at < 16000; at += 400)
        if (at != 8400)
            log_release(b->log, (struct body_ref){3, at, 400});
    settle(b);
    assert_true(stats_of(b).rewrites >= 2);
    assert_true(stats_of(b).bytes_on_disk + 8192 <= first);
    check_body(b, (struct body_ref){3, 8400, 400});
    uint64_t segments = stats_of(b).segments;
    log_release(b->log, (struct body_ref){3, 8400, 400});
    settle(b);
    assert_int_equal(stats_of(b).segments, segments - 1);
    assert_int_equal(stats_of(b).holds, 0);
    bench_close(b);
    begin(b);
    assert_int_equal(log_last_index(b->log), ENTRIES);
    bench_close(b);
}

static void small_entries_go_as_a_whole(void **state)
{
    struct bench *b = *state;
    begin(b);
    append(b, 4000, 200);
    for (uint64_t i = 1; i < 2000; i += 100)
        log_hold(b->log, (struct body_ref){i, 10, 100});
    uint64_t before = stats_of(b).bytes_on_disk;
    log_prefix_done(b->log, 3000);
    log_reclaim_begin(b->log);
    settle(b);
    assert_true(stats_of(b).bytes_on_disk < before / 2 + 2 * SEGMENT_BYTES);
    bench_close(b);
    begin(b);
    for (uint64_t i = 1; i < 2000; i += 100) {
        log_hold(b->log, (struct body_ref){i, 10, 100});
        check_body(b, (struct body_ref){i, 10, 100});
        assert_int_equal(read_refs(b, &(struct body_ref){i + 1, 10, 100}, 1), STATUS_CORRUPT);
    }
    uint64_t index;
    assert_int_equal(log_missing(b->log, &index), 0);
    assert_true(log_first_index(b->log) > 1); /* the unbroken run begins behind what is rewritten */
    bench_close(b);
}

static void reads_go_on_through_a_switch(void **state)
{
    struct bench *b = *state;
    enum { READS = 32 };
    struct log_read reads[READS];
    enum status statuses[READS];
    begin(b);
    append(b, ENTRIES, ENTRY_BYTES);
    hold_all(b);
    log_prefix_done(b->log, ENTRIES);
    log_reclaim_begin(b->log);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < READS; i++) {
            statuses[i] = STATUS_CLOSED;
            reads[i] = (struct log_read){
                .refs = held, .count = HELD, .done = on_read, .data = &statuses[i]};
            log_read(b->log, &reads[i]);
        }
        uv_run(&b->loop, UV_RUN_DEFAULT);
        for (int i = 0; i < READS; i++) {
            assert_int_equal(statuses[i], STATUS_OK);
            buffer_free(&reads[i].out);
        }
    }
    settle(b);
    assert_true(stats_of(b).rewrites >= segments_held(b));
    check_held(b);
    bench_close(b);
}

static void released_while_it_is_copied(void **state)
{
    struct bench *b = *state;
    char path[256];
    begin(b);
    append(b, ENTRIES, ENTRY_BYTES);
    hold_all(b);
    log_prefix_done(b->log, ENTRIES);
    log_reclaim_begin(b->log); /* the first rewrite is under way now */
    release_all(b, 0);
    settle(b);
    assert_int_equal(stats_of(b).holds, 0);
    assert_true(stats_of(b).segments <= 2);
    snprintf(path, sizeof path, "%s/segments/rewrite.tmp", b->dir);
    assert_int_not_equal(access(path, F_OK), 0);
    bench_close(b);
}

static void closing_in_the_middle_is_safe(void **state)
{
    struct bench *b = *state;
    begin(b);
    append(b, ENTRIES, ENTRY_BYTES);
    hold_all(b);
    log_prefix_done(b->log, ENTRIES);
    log_reclaim_begin(b->log);
    bench_close(b);
    begin(b);
    hold_all(b);
    check_held(b);
    bench_close(b);
}

static void the_pace_is_kept(void **state)
{
    struct bench *b = *state;
    begin(b);
    append(b, ENTRIES, ENTRY_BYTES);
    bench_close(b);
    b->options.rewrite_rate = 1; /* the next one in some hours */
    bench_open(b);
    hold_all(b);
    log_prefix_done(b->log, ENTRIES);
    log_reclaim_begin(b->log);
    settle(b);
    assert_int_equal(stats_of(b).rewrites, 1);
    bench_close(b);
}

static void a_damaged_block_is_not_copied(void **state)
{
    struct bench *b = *state;
    char path[256];
    begin(b);
    append(b, ENTRIES, ENTRY_BYTES);
    hold_all(b);
    bench_segment_path(b, 1, path);
    /* Entry 3, the block with the byte 8190: three frame headers of 64 bytes and two payloads. */
    bench_flip(path, SEGMENT_HEAD_BYTES + 3 * 64 + 2 * ENTRY_BYTES + 8191);
    let_reclaim(b);
    assert_int_equal(stats_of(b).rewrites, 3); /* of the four */
    assert_int_equal(read_refs(b, &held[2], 1), STATUS_CORRUPT);
    check_body(b, held[0]);
    check_body(b, held[3]);
    bench_close(b);
}

static void a_damaged_unit_is_not_copied(void **state)
{
    struct bench *b = *state;
    char path[256];
    begin(b);
    append(b, ENTRIES, ENTRY_BYTES);
    hold_all(b);
    bench_segment_path(b, 1, path);
    /* The first literals of the first entry's first unit, behind a header and a token. */
    bench_flip(path, SEGMENT_HEAD_BYTES + 64 + 4);
    log_hold(b->log, (struct body_ref){1, 0, 10});
    let_reclaim(b);
    assert_int_equal(stats_of(b).rewrites, segments_held(b) - 1);
    assert_int_equal(read_refs(b, &(struct body_ref){1, 0, 10}, 1), STATUS_CORRUPT);
    check_body(b, (struct body_ref){1, UNIT_BYTES, 10});
    check_body(b, held[0]);
    check_body(b, held[3]);
    bench_close(b);
}

/* crash_at: the nth write or sync since the begin of the rewrites fails, and all behind it. */
static bool crash_at(struct bench *b, const char *original, int64_t n)
{
    uint64_t index;
    bench_remove(b->dir);
    bench_copy_tree(original, b->dir);
    begin(b);
    hold_all(b);
    b->fail_from = b->calls + n;
    let_reclaim(b);
    bool failed = b->calls >= b->fail_from;
    b->fail_from = 0;
    b->error = 0;
    bench_close(b);
    begin(b);
    hold_all(b);
    assert_int_equal(log_missing(b->log, &index), 0);
    assert_int_equal(log_last_index(b->log), ENTRIES);
    check_held(b);
    let_reclaim(b);
    check_held(b);
    bench_close(b);
    return failed;
}

static void a_crash_at_any_write_loses_nothing(void **state)
{
    struct bench *b = *state;
    char original[140];
    snprintf(original, sizeof original, "%s-original", b->dir);
    begin(b);
    append(b, ENTRIES, ENTRY_BYTES);
    bench_close(b);
    bench_copy_tree(b->dir, original);
    int64_t n = 1;
    while (n < 100 && crash_at(b, original, n))
        n++;
    bench_remove(original);
    assert_true(n > 10);
    assert_true(n < 100);
}

static void leftovers_are_removed(void **state)
{
    struct bench *b = *state;
    char path[256];
    begin(b);
    append(b, 3, 100);
    bench_close(b);
    snprintf(path, sizeof path, "%s/segments/rewrite.tmp", b->dir);
    bench_write_at(path, 0, "half", 4);
    begin(b);
    assert_int_not_equal(access(path, F_OK), 0);
    bench_close(b);
}

static void damage_to_a_rewritten_footer_is_refused(void **state)
{
    struct bench *b = *state;
    const char *error = NULL;
    char path[256];
    struct stat info;
    begin(b);
    append(b, ENTRIES, ENTRY_BYTES);
    hold_all(b);
    let_reclaim(b);
    bench_close(b);
    bench_segment_path(b, 1, path);
    assert_int_equal(stat(path, &info), 0);
    assert_true(info.st_size < SEGMENT_BYTES / 4);
    bench_flip(path, (uint64_t)info.st_size - SEGMENT_TRAILER_BYTES - 4);
    assert_int_equal(bench_try_open(b, &error), STATUS_CORRUPT);
    assert_non_null(strstr(error, "00000000000000000001.seg is damaged at byte"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(what_is_held_survives),
        BENCH_TEST(what_was_read_before_is_read_on_the_loop_again),
        BENCH_TEST(small_entries_go_as_a_whole),
        BENCH_TEST(reads_go_on_through_a_switch),
        BENCH_TEST(released_while_it_is_copied),
        BENCH_TEST(closing_in_the_middle_is_safe),
        BENCH_TEST(the_pace_is_kept),
        BENCH_TEST(a_damaged_unit_is_not_copied),
        BENCH_TEST(a_crash_at_any_write_loses_nothing),
        BENCH_TEST(leftovers_are_removed),
        BENCH_TEST(damage_to_a_rewritten_footer_is_refused),
        BENCH_UNPACKED(what_is_held_survives),
        BENCH_UNPACKED(what_was_read_before_is_read_on_the_loop_again),
        BENCH_UNPACKED(shrinks_again_and_goes_in_the_end),
        BENCH_UNPACKED(reads_go_on_through_a_switch),
        BENCH_UNPACKED(a_damaged_block_is_not_copied),
        BENCH_UNPACKED(a_crash_at_any_write_loses_nothing),
        BENCH_UNPACKED(damage_to_a_rewritten_footer_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
