/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot and bodies from one log to another: equal bytes read back, before and after a restart;
 * what is not right is refused and changes nothing; what goes on meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/bytes.h"
#include "tests/unit/log/two_logs.h"

#include <sys/mman.h>

static void reopen_lag(struct pair *p)
{
    pair_close_lag(p);
    bench_open(p->lag);
}

/* go_on: it takes entries behind the snapshot, also over the end of a segment. */
static void go_on(struct bench *b)
{
    struct buffer bytes = {0};
    for (int i = 0; i < 60; i++) {
        uint64_t index = log_last_index(b->log) + 1;
        struct log_entry entry = {index, TERM + 1, 1, make_payload(index, 0, &bytes)};
        assert_int_equal(log_append_now(b->log, &entry, 1), STATUS_OK);
    }
    buffer_free(&bytes);
}

static void what_was_sent_is_there(void **state)
{
    struct pair *p = *state;
    uint64_t visited = 0;
    const char *error = NULL;
    assert_int_equal(transfer(p, KEEP), STATUS_OK);
    assert_int_equal(p->gone + p->damaged, 0);
    assert_installed(p, KEEP);
    log_reclaim_begin(p->lag->log);
    bench_run_ms(p->lag, 20);
    reopen_lag(p);
    assert_installed(p, KEEP);
    go_on(p->lag);
    log_reclaim_begin(p->lag->log);
    bench_run_ms(p->lag, 20);
    reopen_lag(p);
    assert_int_equal(log_last_index(p->lag->log), SNAPSHOT + 60);
    assert_int_equal(log_load(p->lag->log, SNAPSHOT + 1, visit_nothing, &visited, &error),
                     STATUS_OK);
    assert_int_equal(visited, 60);
}

/* However the bytes are cut: each block of its own, or all at once; and wherever the log is cut: in
 * a segment, at its begin, before everything. */
static void cuts(void **state)
{
    struct pair *p = *state;
    static const size_t limits[] = {1, 9000, 70000, 100u << 20};
    for (size_t i = 0; i < 4; i++) {
        p->limit = limits[i];
        p->piece = 14999 + limits[i] % 300000;
        uint64_t keep = KEEP - 5 * i;
        assert_int_equal(transfer(p, keep), STATUS_OK);
        assert_installed(p, keep);
        reopen_lag(p);
        assert_installed(p, keep);
        pair_close_lag(p);
        void *lag = p->lag;
        assert_int_equal(bench_teardown(&lag), 0);
        p->lag = new_bench(NULL);
        bench_open(p->lag);
        append_from(p->lag, KEEP, 0);
        append_from(p->lag, OWN_LAST, 99);
    }
}

/* A node that joins has nothing; one that lost all but its tail of uncommitted entries, too. */
static void an_empty_log_takes_it(void **state)
{
    struct pair *p = *state;
    for (int entries = 0; entries < 2; entries++) {
        pair_close_lag(p);
        void *lag = p->lag;
        assert_int_equal(bench_teardown(&lag), 0);
        p->lag = new_bench(NULL);
        bench_open(p->lag);
        if (entries > 0)
            append_from(p->lag, 30, 99);
        assert_int_equal(transfer(p, 0), STATUS_OK);
        assert_installed(p, 0);
        reopen_lag(p);
        assert_installed(p, 0);
    }
}

/* Nothing of the new state is behind keep_index: no segments come. And twice in a row. */
static void no_bodies_are_needed(void **state)
{
    struct pair *p = *state;
    struct buffer refs = {0};
    uint64_t index;
    begin_incoming(p, KEEP);
    assert_int_equal(copy_snapshot(p), STATUS_OK);
    assert_int_equal(restore(p), STATUS_OK);
    assert_int_equal(commit(p), STATUS_OK);
    refs_between(0, KEEP, &refs);
    hold_all(p->lag, &refs);
    assert_int_equal(log_missing(p->lag->log, &index), 0);
    log_reclaim_begin(p->lag->log);
    bench_run_ms(p->lag, 20);
    check_refs(p->lag, &refs);
    buffer_free(&refs);
    reopen_lag(p);
    assert_int_equal(log_last_index(p->lag->log), SNAPSHOT);
    go_on(p->lag);
    reopen_lag(p);
    assert_int_equal(log_last_index(p->lag->log), SNAPSHOT + 60);
}

/* What nobody holds of what was there and of what came goes in the end. */
static void holds_begin_anew(void **state)
{
    struct pair *p = *state;
    struct buffer refs = {0};
    struct log_stats stats;
    uint64_t index;
    refs_between(0, OWN_LAST, &refs);
    hold_all(p->lag, &refs); /* also what is dropped */
    log_reclaim_begin(p->lag->log);
    assert_int_equal(transfer(p, KEEP), STATUS_OK);
    log_stats(p->lag->log, &stats);
    assert_int_equal(stats.holds, 0);
    assert_int_equal(log_missing(p->lag->log, &index), 0);
    log_hold(p->lag->log, (struct body_ref){1, 0, 10});
    log_hold(p->lag->log, (struct body_ref){HUGE_INDEX, 9000, 10});
    log_reclaim_begin(p->lag->log);
    bench_run_ms(p->lag, 50);
    log_stats(p->lag->log, &stats);
    assert_int_equal(stats.holds, 2);
    assert_int_equal(stats.segments, 3); /* one for each, and the last */
    assert_true(stats.bytes_on_disk < 5 * SEGMENT_BYTES);
    buffer_free(&refs);
}

/* ---- what is refused ---- */

static void offers_that_make_no_sense(void **state)
{
    struct pair *p = *state;
    static const struct log_offer offers[] = {
        {SNAPSHOT, SNAPSHOT, TERM, 1000},          {OWN_LAST + 1, SNAPSHOT, TERM, 1000},
        {KEEP / 2 - 1, SNAPSHOT, TERM, 1000},      {KEEP, SNAPSHOT, TERM, 63},
        {KEEP, SNAPSHOT, TERM, UINT64_C(1) << 60}, {KEEP, UINT64_MAX, TERM, 1000},
    };
    for (size_t i = 0; i < sizeof offers / sizeof offers[0]; i++)
        assert_int_equal(log_incoming_begin(p->lag->log, &offers[i], &p->incoming), STATUS_INVALID);
    struct log_incoming *another;
    struct log_offer good = {KEEP, SNAPSHOT, TERM, 1000};
    assert_int_equal(log_incoming_begin(p->lag->log, &good, &p->incoming), STATUS_OK);
    assert_int_equal(log_incoming_begin(p->lag->log, &good, &another), STATUS_BUSY);
    log_incoming_abort(p->incoming);
    assert_int_equal(log_incoming_begin(p->lag->log, &good, &another), STATUS_OK);
    log_incoming_abort(another);
    assert_before(p);
}

static void requests_out_of_order(void **state)
{
    struct pair *p = *state;
    assert_int_equal(begin_incoming(p, KEEP), STATUS_OK);
    assert_int_equal(give_snapshot(p, 1, slice_of("x")), STATUS_INVALID);
    assert_int_equal(give_bodies(p, slice_of("x")), STATUS_INVALID);
    assert_int_equal(restore(p), STATUS_INVALID);
    assert_int_equal(commit(p), STATUS_INVALID);
    assert_int_equal(copy_snapshot(p), STATUS_OK);
    struct log_incoming_stats stats;
    log_incoming_stats(p->incoming, &stats);
    assert_int_equal(give_snapshot(p, stats.snapshot_bytes, slice_of("x")), STATUS_INVALID);
    assert_int_equal(give_snapshot(p, 0, slice_of("x")), STATUS_INVALID);
    assert_int_equal(give_bodies(p, slice_of("x")), STATUS_INVALID);
    assert_int_equal(restore(p), STATUS_OK);
    assert_int_equal(give_snapshot(p, 0, slice_of("x")), STATUS_INVALID);
    assert_int_equal(copy_bodies(p, KEEP), STATUS_OK);
    assert_int_equal(commit(p), STATUS_OK);
    assert_installed(p, KEEP);
}

/* damaged_snapshot: with the byte at `offset` changed, or in another term than was offered. */
static enum status damaged_snapshot(struct pair *p, uint64_t offset, uint64_t term)
{
    struct log_export_about about;
    struct log_export_read read = {.done = pair_on_export_read, .data = p};
    assert_int_equal(log_export_open(p->full->log, SNAPSHOT, &p->export), STATUS_OK);
    log_export_about(p->export, &about);
    struct log_offer offer = {KEEP, SNAPSHOT, term, about.bytes};
    assert_int_equal(log_incoming_begin(p->lag->log, &offer, &p->incoming), STATUS_OK);
    read.length = (size_t)about.bytes;
    log_export_read(p->export, &read);
    assert_int_equal(pair_wait(p, p->full), STATUS_OK);
    log_export_close(p->export);
    if (offset < read.out.length)
        read.out.data[offset] ^= 1;
    assert_int_equal(give_snapshot(p, 0, buffer_slice(&read.out)), STATUS_OK);
    buffer_free(&read.out);
    enum status status = restore(p);
    log_incoming_abort(p->incoming);
    return status;
}

static void a_damaged_snapshot(void **state)
{
    struct pair *p = *state;
    assert_int_equal(damaged_snapshot(p, 9, TERM), STATUS_CORRUPT);
    assert_int_equal(damaged_snapshot(p, 66, TERM), STATUS_CORRUPT);
    assert_int_equal(damaged_snapshot(p, 5000, TERM), STATUS_CORRUPT);
    assert_int_equal(damaged_snapshot(p, UINT64_MAX, TERM + 1), STATUS_CORRUPT);
    assert_int_equal(damaged_snapshot(p, UINT64_MAX, TERM), STATUS_OK);
    bench_run_ms(p->lag, 10);
    assert_no_folder(p->lag);
    assert_before(p);
}

static void begin_with_state(struct pair *p)
{
    assert_int_equal(begin_incoming(p, KEEP), STATUS_OK);
    assert_int_equal(copy_snapshot(p), STATUS_OK);
    assert_int_equal(restore(p), STATUS_OK);
}

/* one_piece: of all that is wanted of the entries after `after` up to `last`. */
static struct buffer one_piece(struct pair *p, uint64_t after, uint64_t last)
{
    struct buffer refs = {0};
    struct buffer out = {0};
    size_t at = 0;
    p->limit = 100u << 20;
    refs_between(after, last, &refs);
    sort_refs(&refs);
    assert_int_equal(take_bodies(p, ref_array(&refs), ref_count(&refs), &at, &out), STATUS_OK);
    assert_int_equal(at, ref_count(&refs));
    buffer_free(&refs);
    return out;
}

/* Every bit that counts: padding is under no checksum. */
static void damaged_bodies(void **state)
{
    struct pair *p = *state;
    begin_with_state(p);
    struct buffer piece = one_piece(p, 60, 62);
    struct buffer copy = {0};
    size_t refused = 0;
    struct log_incoming_stats stats;
    for (size_t at = 0; at < piece.length; at += at < 200 ? 1 : 97) {
        buffer_clear(&copy);
        buffer_add_slice(&copy, buffer_slice(&piece));
        copy.data[at] ^= (uint8_t)(1u << at % 8);
        refused += give_bodies(p, buffer_slice(&copy)) == STATUS_CORRUPT ? 1 : 0;
    }
    assert_true(refused > 200);
    for (size_t length = 1; length < piece.length; length += 197)
        assert_int_equal(give_bodies(p, slice_make(piece.data, length)), STATUS_CORRUPT);
    log_incoming_stats(p->incoming, &stats);
    assert_int_equal(stats.entries, 0);
    /* Nothing was taken, so it can be asked for again. */
    assert_int_equal(give_bodies(p, buffer_slice(&piece)), STATUS_OK);
    buffer_free(&piece);
    buffer_free(&copy);
    log_incoming_abort(p->incoming);
    bench_run_ms(p->lag, 10);
    assert_no_folder(p->lag);
    assert_before(p);
}

static void bodies_out_of_order(void **state)
{
    struct pair *p = *state;
    begin_with_state(p);
    struct buffer early = one_piece(p, 60, 65);
    struct buffer late = one_piece(p, 65, 70);
    struct buffer kept = one_piece(p, KEEP - 2, KEEP);
    struct buffer behind = one_piece(p, SNAPSHOT, SNAPSHOT + 2);
    assert_int_equal(give_bodies(p, buffer_slice(&kept)), STATUS_CORRUPT);
    assert_int_equal(give_bodies(p, buffer_slice(&behind)), STATUS_CORRUPT);
    assert_int_equal(give_bodies(p, buffer_slice(&late)), STATUS_OK);
    assert_int_equal(give_bodies(p, buffer_slice(&early)), STATUS_CORRUPT);
    assert_int_equal(give_bodies(p, buffer_slice(&late)), STATUS_CORRUPT);
    assert_int_equal(give_bodies(p, slice_of("")), STATUS_OK);
    buffer_free(&early);
    buffer_free(&late);
    buffer_free(&kept);
    buffer_free(&behind);
    log_incoming_abort(p->incoming);
    assert_before(p);
}

static void refs_from_elsewhere_are_not_believed(void **state)
{
    struct pair *p = *state;
    struct body_ref backwards[] = {{70, 0, 10}, {69, 0, 10}};
    struct body_ref offsets[] = {{70, 10, 10}, {70, 9, 10}};
    struct body_ref zero[] = {{0, 0, 10}};
    struct body_ref beyond[] = {
        {70, 0, UINT32_MAX}, {70, UINT32_MAX, UINT32_MAX}, {71, 1 << 20, 1}, {1000, 0, 10}};
    struct buffer out = {0};
    size_t at = 0;
    assert_int_equal(take_bodies(p, backwards, 2, &at, &out), STATUS_INVALID);
    assert_int_equal(take_bodies(p, offsets, 2, &at, &out), STATUS_INVALID);
    assert_int_equal(take_bodies(p, zero, 1, &at, &out), STATUS_INVALID);
    p->limit = UINT32_MAX * UINT64_C(16);
    assert_int_equal(take_bodies(p, beyond, 4, &at, &out), STATUS_OK);
    assert_int_equal(at, 4);
    assert_int_equal(p->gone, 4);
    buffer_free(&out);
}

/* ---- what goes on meanwhile ---- */

static void what_is_gone_is_left_out(void **state)
{
    struct pair *p = *state;
    struct buffer refs = {0};
    uint64_t index;
    struct body_ref held = {60, 0, 100};
    log_hold(p->full->log, held);
    log_prefix_done(p->full->log, SNAPSHOT);
    log_reclaim_begin(p->full->log); /* goes on with one entry, and those behind the snapshot */
    bench_run_ms(p->full, 50);
    begin_with_state(p);
    assert_int_equal(copy_bodies(p, KEEP), STATUS_OK);
    refs_between(KEEP, SNAPSHOT, &refs);
    assert_true(p->gone > 0 && p->gone < ref_count(&refs));
    assert_int_equal(commit(p), STATUS_OK);
    hold_all(p->lag, &refs);
    assert_int_equal(log_missing(p->lag->log, &index), p->gone);
    for (size_t i = 0; i < ref_count(&refs); i++)
        log_release(p->lag->log, ref_array(&refs)[i]);
    assert_int_equal(log_missing(p->lag->log, &index), 0);
    buffer_free(&refs);
}

/* flip_in: change a byte of the payload of `index` on disk. */
static void flip_in(struct bench *b, uint64_t index, uint32_t offset)
{
    static uint8_t bytes[2 * SEGMENT_BYTES];
    struct buffer payload = {0};
    char path[256];
    struct slice whole = make_payload(index, 0, &payload);
    for (uint64_t first = index; first > 0; first--) {
        bench_segment_path(b, first, path);
        if (access(path, F_OK) == 0)
            break;
    }
    int fd = open(path, O_RDONLY);
    ssize_t length = read(fd, bytes, sizeof bytes);
    close(fd);
    assert_true(length > 0);
    uint8_t *found = memmem(bytes, (size_t)length, whole.data, 4096);
    assert_non_null(found);
    bench_flip(path, (uint64_t)(found - bytes) + offset);
    buffer_free(&payload);
}

/* flip_unit_in: change a literal in the first unit of the packed frame `index` on disk. */
static void flip_unit_in(struct bench *b, uint64_t index)
{
    struct buffer file = {0};
    char path[256];
    uint8_t head[16] = {'M', 'R', 'F', 'R'};
    for (uint64_t first = index; first > 0; first--) {
        bench_segment_path(b, first, path);
        if (access(path, F_OK) == 0)
            break;
    }
    assert_int_equal(disk_read_file(AT_FDCWD, path, &file), 0);
    bytes_put_u32(head + 4, length_of(index));
    bytes_put_u64(head + 8, index);
    const uint8_t *found = memmem(file.data, file.length, head, sizeof head);
    assert_non_null(found);
    size_t at = (size_t)(found - file.data);
    assert_int_equal(bytes_get_u16(found + 34), FRAME_FLAG_PACKED);
    bench_flip(path, at + frame_peek_bytes(slice_sub(buffer_slice(&file), at)) + 4);
    buffer_free(&file);
}

static void a_damaged_unit_is_left_out(void **state)
{
    struct pair *p = *state;
    struct buffer out = {0};
    size_t at = 0;
    struct body_ref three[] = {
        {HUGE_INDEX, 0, 10}, {HUGE_INDEX, 5000, 10}, {HUGE_INDEX, 40000, 10}};
    flip_unit_in(p->full, HUGE_INDEX);
    assert_int_equal(take_bodies(p, three, 3, &at, &out), STATUS_OK);
    assert_int_equal(at, 3);
    assert_true(p->damaged > 0 && p->damaged < 3);
    buffer_free(&out);
}

/* What came whole is packed again, and takes less than what was sent. */
static void what_came_whole_is_packed(void **state)
{
    struct pair *p = *state;
    struct buffer out = {0};
    size_t at = 0;
    begin_with_state(p);
    struct body_ref whole = {HUGE_INDEX, 0, HUGE_BYTES};
    assert_true(HUGE_INDEX > KEEP && HUGE_INDEX <= SNAPSHOT);
    while (at == 0) {
        buffer_clear(&out);
        assert_int_equal(take_bodies(p, &whole, 1, &at, &out), STATUS_OK);
        assert_int_equal(give_bodies(p, buffer_slice(&out)), STATUS_OK);
    }
    assert_int_equal(commit(p), STATUS_OK);
    buffer_clear(&out);
    log_hold(p->lag->log, whole);
    assert_true(log_read_now(p->lag->log, whole, &out));
    assert_int_equal(out.length, HUGE_BYTES);
    char path[256];
    struct stat info;
    bench_segment_path(p->lag, HUGE_INDEX, path);
    assert_int_equal(stat(path, &info), 0);
    assert_true(info.st_size < HUGE_BYTES / 4);
    buffer_free(&out);
}

static void a_damaged_block_is_left_out(void **state)
{
    struct pair *p = *state;
    struct buffer out = {0};
    size_t at = 0;
    struct body_ref two[] = {{SNAPSHOT + 2, 0, 10}, {SNAPSHOT + 2, 5000, 10}};
    flip_in(p->full, SNAPSHOT + 2, 100);
    assert_int_equal(take_bodies(p, two, 2, &at, &out), STATUS_OK);
    assert_int_equal(at, 2);
    assert_int_equal(p->damaged, 1);
    assert_int_equal(p->gone, 0);
    assert_true(out.length > 4096 && out.length < 8192);
    buffer_free(&out);
}

/* The snapshot that is sent stays readable, though two newer ones are stored. */
static void an_open_export_is_kept(void **state)
{
    struct pair *p = *state;
    struct log_export *none;
    assert_int_equal(begin_incoming(p, KEEP), STATUS_OK);
    put_snapshot(p->full, SNAPSHOT + 1, slice_of("newer"));
    put_snapshot(p->full, SNAPSHOT + 2, slice_of("newest"));
    assert_int_equal(log_export_open(p->full->log, SNAPSHOT, &none), STATUS_NOT_FOUND);
    assert_int_equal(copy_snapshot(p), STATUS_OK);
    assert_int_equal(restore(p), STATUS_OK);
    assert_int_equal(copy_bodies(p, KEEP), STATUS_OK);
    assert_int_equal(commit(p), STATUS_OK);
    assert_installed(p, KEEP);
}

static void an_export_may_close_before_its_read_ends(void **state)
{
    struct pair *p = *state;
    struct log_export *export;
    struct log_export_read read = {.length = 1000, .done = pair_on_export_read, .data = p};
    assert_int_equal(log_export_open(p->full->log, 0, &export), STATUS_OK);
    log_export_read(export, &read);
    log_export_close(export);
    assert_int_equal(pair_wait(p, p->full), STATUS_OK);
    assert_int_equal(read.out.length, 1000);
    buffer_free(&read.out);
    assert_int_equal(log_export_open(p->lag->log, 77, &export), STATUS_NOT_FOUND);
}

static void slow_make(void *data, struct snapshot_sink *sink)
{
    _Atomic int *go_on = data;
    while (*go_on == 0)
        usleep(1000);
    snapshot_add(sink, slice_of("late"));
}

/* A snapshot that is being put ends first, and does not come to stand behind the new one. */
static void a_snapshot_put_ends_first(void **state)
{
    struct pair *p = *state;
    enum status put_status = STATUS_BUSY;
    _Atomic int *go_on_flag =
        mmap(NULL, sizeof *go_on_flag, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(go_on_flag != MAP_FAILED);
    struct log_snapshot_put put = {
        .make = slow_make, .make_data = (void *)go_on_flag, .done = on_put, .data = &put_status};
    put.snapshot.index = KEEP;
    put.snapshot.term = TERM;
    log_snapshot_put(p->lag->log, &put);
    begin_with_state(p);
    assert_int_equal(copy_bodies(p, KEEP), STATUS_OK);
    log_incoming_commit(p->incoming, pair_on_done, p);
    for (int i = 0; i < 20; i++) {
        uv_run(&p->lag->loop, UV_RUN_NOWAIT);
        usleep(1000);
        assert_false(p->done);
    }
    *go_on_flag = 1;
    assert_int_equal(pair_wait(p, p->lag), STATUS_OK);
    assert_int_equal(put_status, STATUS_OK);
    assert_installed(p, KEEP);
    reopen_lag(p);
    assert_installed(p, KEEP);
    munmap((void *)go_on_flag, sizeof *go_on_flag);
}

static void on_read(struct log_read *read, enum status status)
{
    *(enum status *)read->data = status;
}

/* Reads of what stays succeed whenever they begin; of what goes they end one way or the other. */
static void reads_go_on(void **state)
{
    struct pair *p = *state;
    struct body_ref stays = {5, 10, 500};
    struct body_ref goes = {OWN_LAST, 10, 500};
    enum status status[3] = {STATUS_BUSY, STATUS_BUSY, STATUS_BUSY};
    struct log_read reads[3] = {
        {.refs = &stays, .count = 1, .done = on_read, .data = &status[0]},
        {.refs = &goes, .count = 1, .done = on_read, .data = &status[1]},
        {.refs = &stays, .count = 1, .done = on_read, .data = &status[2]},
    };
    begin_with_state(p);
    log_read(p->lag->log, &reads[0]);
    assert_int_equal(copy_bodies(p, KEEP), STATUS_OK);
    log_read(p->lag->log, &reads[1]);
    log_incoming_commit(p->incoming, pair_on_done, p);
    log_read(p->lag->log, &reads[2]);
    assert_int_equal(pair_wait(p, p->lag), STATUS_OK);
    for (int i = 0; i < 3; i++) {
        while (status[i] == STATUS_BUSY)
            uv_run(&p->lag->loop, UV_RUN_ONCE);
        buffer_free(&reads[i].out);
    }
    assert_int_equal(status[0], STATUS_OK);
    assert_true(status[1] == STATUS_OK || status[1] == STATUS_CORRUPT);
    assert_int_equal(status[2], STATUS_OK);
    assert_installed(p, KEEP);
}

/* ---- giving up ---- */

static void giving_up_with_a_request_under_way(void **state)
{
    struct pair *p = *state;
    begin_with_state(p);
    struct buffer piece = one_piece(p, KEEP, 70);
    log_incoming_bodies(p->incoming, buffer_slice(&piece), pair_on_done, p);
    log_incoming_abort(p->incoming);
    assert_false(p->done);
    begin_incoming(p, KEEP); /* the next need not wait */
    assert_int_equal(pair_wait(p, p->lag), STATUS_CANCELLED);
    buffer_free(&piece);
    assert_int_equal(copy_snapshot(p), STATUS_OK);
    assert_int_equal(restore(p), STATUS_OK);
    p->limit = 300000;
    assert_int_equal(copy_bodies(p, KEEP), STATUS_OK);
    assert_int_equal(commit(p), STATUS_OK);
    assert_installed(p, KEEP);
}

static void closing_gives_up(void **state)
{
    struct pair *p = *state;
    begin_with_state(p);
    struct buffer piece = one_piece(p, KEEP, 70);
    log_incoming_bodies(p->incoming, buffer_slice(&piece), pair_on_done, p);
    pair_close_lag(p);
    assert_true(p->done);
    assert_int_equal(p->status, STATUS_CANCELLED);
    buffer_free(&piece);
    assert_no_folder(p->lag);
    bench_open(p->lag);
    assert_before(p);
}

static void closing_waits_for_a_commit(void **state)
{
    struct pair *p = *state;
    begin_with_state(p);
    assert_int_equal(copy_bodies(p, KEEP), STATUS_OK);
    log_incoming_commit(p->incoming, pair_on_done, p);
    pair_close_lag(p);
    assert_true(p->done);
    assert_int_equal(p->status, STATUS_OK);
    bench_open(p->lag);
    assert_installed(p, KEEP);
}

/* Some of what it refers to is gone, until a later entry is here: the next process must know that,
 * or it would take it for lost and refuse to start. */
static void what_is_owed_outlives_the_process(void **state)
{
    struct pair *p = *state;
    assert_int_equal(begin_incoming(p, KEEP), STATUS_OK);
    assert_int_equal(copy_snapshot(p), STATUS_OK);
    assert_int_equal(restore(p), STATUS_OK);
    assert_int_equal(copy_bodies(p, KEEP), STATUS_OK);
    log_incoming_owes(p->incoming, SNAPSHOT + 7);
    assert_int_equal(log_owed_index(p->lag->log), 0);
    assert_int_equal(commit(p), STATUS_OK);
    assert_int_equal(log_owed_index(p->lag->log), SNAPSHOT + 7);
    pair_close_lag(p);
    bench_open(p->lag);
    assert_int_equal(log_owed_index(p->lag->log), SNAPSHOT + 7);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)
#define UNPACKED(name)                                                                             \
    {                                                                                              \
#name "_unpacked", name, pair_setup, pair_teardown, &bench_unpacked                        \
    }
    const struct CMUnitTest tests[] = {
        TEST(what_was_sent_is_there),
        TEST(cuts),
        TEST(an_empty_log_takes_it),
        TEST(no_bodies_are_needed),
        TEST(holds_begin_anew),
        TEST(offers_that_make_no_sense),
        TEST(requests_out_of_order),
        TEST(a_damaged_snapshot),
        TEST(damaged_bodies),
        TEST(bodies_out_of_order),
        TEST(refs_from_elsewhere_are_not_believed),
        TEST(what_is_gone_is_left_out),
        TEST(a_damaged_unit_is_left_out),
        UNPACKED(a_damaged_block_is_left_out),
        TEST(what_came_whole_is_packed),
        TEST(an_open_export_is_kept),
        TEST(an_export_may_close_before_its_read_ends),
        TEST(a_snapshot_put_ends_first),
        TEST(reads_go_on),
        TEST(giving_up_with_a_request_under_way),
        TEST(closing_gives_up),
        TEST(closing_waits_for_a_commit),
        TEST(what_is_owed_outlives_the_process),
        UNPACKED(what_was_sent_is_there),
        UNPACKED(cuts),
        UNPACKED(damaged_bodies),
        UNPACKED(what_is_gone_is_left_out),
        UNPACKED(reads_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
