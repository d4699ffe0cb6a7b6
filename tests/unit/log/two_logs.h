/* SPDX-License-Identifier: Apache-2.0 */
/* Two logs: one that has everything, and one that lags, with entries of its own that will have to
 * go. Entries are made from their index, so both have the same ones up to KEEP. */
#ifndef TESTS_UNIT_LOG_TWO_LOGS_H
#define TESTS_UNIT_LOG_TWO_LOGS_H

#include "broker/log/transfer.h"
#include "tests/unit/log/bench.h"

#define SEGMENT_BYTES (64u << 10)
#define LAST          150u /* entry of the one that has everything */
#define SNAPSHOT      140u
#define TERM          7u
#define KEEP          40u /* what both have in common */
#define OWN_LAST      44u /* what the one that lags has beyond */
#define HUGE_INDEX    90u
#define HUGE_BYTES    500000u

struct pair {
    struct bench *full;
    struct bench *lag;
    struct log_export *export;
    struct log_incoming *incoming;
    struct buffer state; /* of the snapshot */
    /* how the bytes are cut */
    size_t piece;
    size_t limit;
    uint32_t from;
    /* of the last request */
    bool done;
    enum status status;
    size_t gone;
    size_t damaged;
};

static inline uint32_t length_of(uint64_t index)
{
    return index == HUGE_INDEX ? HUGE_BYTES : index % 3 == 0 ? 300 : 2000 + (uint32_t)index * 100;
}

/* make_payload: `salt` is for those that are not the same in both. */
static inline struct slice make_payload(uint64_t index, uint8_t salt, struct buffer *out)
{
    uint32_t length = length_of(index);
    uint8_t *bytes = buffer_reserve(out, length);
    for (uint32_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(index * 31 + i * 7 + i / 251 + salt);
    return slice_make(bytes, length);
}

static inline void append_from(struct bench *b, uint64_t last, uint8_t salt)
{
    struct buffer bytes = {0};
    while (log_last_index(b->log) < last) {
        uint64_t index = log_last_index(b->log) + 1;
        struct log_entry entry = {index, TERM, 1, make_payload(index, salt, &bytes)};
        assert_int_equal(log_append_now(b->log, &entry, 1), STATUS_OK);
    }
    buffer_free(&bytes);
}

/* wanted: bodies in three of four entries: at the begin, across blocks, whole, at the end. */
static inline void add_ref(struct buffer *refs, uint64_t index, uint32_t offset, uint32_t length)
{
    struct body_ref ref = {index, offset, length};
    if ((uint64_t)offset + length <= length_of(index))
        buffer_add(refs, &ref, sizeof ref);
}

static inline void refs_between(uint64_t after, uint64_t last, struct buffer *refs)
{
    for (uint64_t index = after + 1; index <= last; index++) {
        if (index % 4 == 0)
            continue;
        add_ref(refs, index, 0, 100);
        add_ref(refs, index, 100, 150);
        add_ref(refs, index, 4000, 200);
        if (index == HUGE_INDEX)
            add_ref(refs, index, 9000, HUGE_BYTES - 20000);
        else if (index % 5 == 0)
            add_ref(refs, index, 0, length_of(index));
        add_ref(refs, index, length_of(index) - 50, 50);
    }
}

static inline int by_place(const void *a, const void *b)
{
    const struct body_ref *x = a;
    const struct body_ref *y = b;
    if (x->index != y->index)
        return x->index < y->index ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static inline size_t ref_count(const struct buffer *refs)
{
    return refs->length / sizeof(struct body_ref);
}

static inline struct body_ref *ref_array(const struct buffer *refs)
{
    return (struct body_ref *)(void *)refs->data;
}

static inline void sort_refs(struct buffer *refs)
{
    qsort(refs->data, ref_count(refs), sizeof(struct body_ref), by_place);
}

static inline void hold_all(struct bench *b, const struct buffer *refs)
{
    for (size_t i = 0; i < ref_count(refs); i++)
        log_hold(b->log, ref_array(refs)[i]);
}

/* ---- snapshots ---- */

static inline void on_put(struct log_snapshot_put *put, enum status status)
{
    *(enum status *)put->data = status;
}

static inline void put_snapshot(struct bench *b, uint64_t index, struct slice state)
{
    enum status status = STATUS_BUSY;
    struct log_snapshot_put put = {
        .parts = &state, .part_count = 1, .done = on_put, .data = &status};
    put.snapshot.index = index;
    put.snapshot.term = TERM;
    put.snapshot.config_index = 1;
    buffer_add_text(&put.snapshot.config, "members");
    log_snapshot_put(b->log, &put);
    while (status == STATUS_BUSY)
        uv_run(&b->loop, UV_RUN_ONCE);
    buffer_free(&put.snapshot.config);
    assert_int_equal(status, STATUS_OK);
}

/* ---- both ---- */

static inline struct bench *new_bench(void *unpacked)
{
    void *b = unpacked;
    assert_int_equal(bench_setup(&b), 0);
    ((struct bench *)b)->quick = true;
    ((struct bench *)b)->options.segment_bytes = SEGMENT_BYTES;
    ((struct bench *)b)->options.rewrite_rate = UINT64_C(1) << 40;
    return b;
}

static inline int pair_setup(void **state)
{
    struct pair *p = calloc(1, sizeof *p);
    p->full = new_bench(*state);
    p->lag = new_bench(*state);
    p->piece = 100000;
    p->limit = 300000;
    for (uint32_t i = 0; i < 200000; i++)
        buffer_add_byte(&p->state, (uint8_t)(i * 2654435761u >> (i % 17)));
    bench_open(p->full);
    append_from(p->full, LAST, 0);
    put_snapshot(p->full, SNAPSHOT, buffer_slice(&p->state));
    bench_open(p->lag);
    append_from(p->lag, KEEP, 0);
    append_from(p->lag, OWN_LAST, 99);
    put_snapshot(p->lag, KEEP / 2, slice_of("an old state"));
    *state = p;
    return 0;
}

static inline int pair_teardown(void **state)
{
    struct pair *p = *state;
    void *full = p->full;
    void *lag = p->lag;
    if (p->full->log != NULL)
        bench_close(p->full);
    if (p->lag->log != NULL)
        bench_close(p->lag);
    buffer_free(&p->state);
    free(p);
    return bench_teardown(&full) + bench_teardown(&lag);
}

static inline void pair_close_lag(struct pair *p)
{
    bench_close(p->lag);
    p->lag->log = NULL;
}

/* ---- requests ---- */

static inline void pair_on_done(void *data, enum status status)
{
    struct pair *p = data;
    p->status = status;
    p->done = true;
}

static inline enum status pair_wait(struct pair *p, struct bench *b)
{
    while (!p->done)
        uv_run(&b->loop, UV_RUN_ONCE);
    p->done = false;
    return p->status;
}

static inline enum status give_snapshot(struct pair *p, uint64_t offset, struct slice bytes)
{
    log_incoming_snapshot(p->incoming, offset, bytes, pair_on_done, p);
    return pair_wait(p, p->lag);
}

static inline enum status give_bodies(struct pair *p, struct slice bytes)
{
    log_incoming_bodies(p->incoming, bytes, pair_on_done, p);
    return pair_wait(p, p->lag);
}

static inline enum status commit(struct pair *p)
{
    log_incoming_commit(p->incoming, pair_on_done, p);
    return pair_wait(p, p->lag);
}

static inline void pair_on_export_read(struct log_export_read *read, enum status status)
{
    pair_on_done(read->data, status);
}

static inline void pair_on_bodies(struct log_export_bodies *bodies, enum status status)
{
    pair_on_done(bodies->data, status);
}

/* take_bodies: one piece for refs[*at..]; moves on *at and p->from. */
static inline enum status take_bodies(struct pair *p, const struct body_ref *refs, size_t count,
                                      size_t *at, struct buffer *out)
{
    struct log_export_bodies bodies = {.refs = refs + *at,
                                       .count = count - *at,
                                       .from = p->from,
                                       .limit = p->limit,
                                       .done = pair_on_bodies,
                                       .data = p};
    log_export_bodies(p->full->log, &bodies);
    enum status status = pair_wait(p, p->full);
    assert_true(bodies.covered > 0 || bodies.next_from > p->from || status != STATUS_OK);
    assert_true(bodies.out.length <= p->limit + HUGE_BYTES / 512 + FRAME_BLOCK_BYTES);
    *at += bodies.covered;
    p->from = bodies.next_from;
    p->gone += bodies.gone;
    p->damaged += bodies.damaged;
    buffer_clear(out);
    buffer_add_slice(out, buffer_slice(&bodies.out));
    buffer_free(&bodies.out);
    return status;
}

static inline enum status begin_incoming(struct pair *p, uint64_t keep_index)
{
    struct log_export_about about;
    assert_int_equal(log_export_open(p->full->log, 0, &p->export), STATUS_OK);
    log_export_about(p->export, &about);
    assert_int_equal(about.index, SNAPSHOT);
    assert_int_equal(about.term, TERM);
    struct log_offer offer = {keep_index, about.index, about.term, about.bytes};
    return log_incoming_begin(p->lag->log, &offer, &p->incoming);
}

static inline enum status copy_snapshot(struct pair *p)
{
    struct log_export_about about;
    enum status status = STATUS_OK;
    struct log_export_read read = {.done = pair_on_export_read, .data = p};
    log_export_about(p->export, &about);
    while (read.offset < about.bytes && status == STATUS_OK) {
        read.length = p->piece;
        log_export_read(p->export, &read);
        assert_int_equal(pair_wait(p, p->full), STATUS_OK);
        status = give_snapshot(p, read.offset, buffer_slice(&read.out));
        read.offset += read.out.length;
    }
    buffer_free(&read.out);
    log_export_close(p->export);
    return status;
}

static inline enum status restore(struct pair *p)
{
    struct log_snapshot s;
    log_incoming_restore(p->incoming, &s, pair_on_done, p);
    enum status status = pair_wait(p, p->lag);
    if (status == STATUS_OK) {
        assert_int_equal(s.index, SNAPSHOT);
        assert_true(slice_equal(buffer_slice(&s.data), buffer_slice(&p->state)));
        assert_true(slice_is(buffer_slice(&s.config), "members"));
    }
    log_snapshot_free(&s);
    return status;
}

static inline enum status copy_bodies(struct pair *p, uint64_t keep_index)
{
    struct buffer refs = {0};
    struct buffer bytes = {0};
    enum status status = STATUS_OK;
    size_t at = 0;
    refs_between(keep_index, SNAPSHOT, &refs);
    sort_refs(&refs);
    while (at < ref_count(&refs) && status == STATUS_OK) {
        status = take_bodies(p, ref_array(&refs), ref_count(&refs), &at, &bytes);
        if (status == STATUS_OK)
            status = give_bodies(p, buffer_slice(&bytes));
    }
    buffer_free(&bytes);
    buffer_free(&refs);
    return status;
}

/* transfer: all of it; what it came to. An error leaves nothing behind. */
static inline enum status transfer(struct pair *p, uint64_t keep_index)
{
    enum status status = begin_incoming(p, keep_index);
    assert_int_equal(status, STATUS_OK);
    status = copy_snapshot(p);
    if (status == STATUS_OK)
        status = restore(p);
    if (status == STATUS_OK)
        status = copy_bodies(p, keep_index);
    if (status == STATUS_OK)
        status = commit(p);
    if (status != STATUS_OK && p->lag->fatal[0] == '\0')
        log_incoming_abort(p->incoming);
    return status;
}

/* ---- what must be there ---- */

static inline void pair_on_read(struct log_read *read, enum status status)
{
    *(enum status *)read->data = status;
}

static inline void check_refs(struct bench *b, const struct buffer *refs)
{
    struct buffer payload = {0};
    enum status status = STATUS_BUSY;
    size_t at = 0;
    struct log_read read = {
        .refs = ref_array(refs), .count = ref_count(refs), .done = pair_on_read, .data = &status};
    log_read(b->log, &read);
    while (status == STATUS_BUSY)
        uv_run(&b->loop, UV_RUN_ONCE);
    assert_int_equal(status, STATUS_OK);
    for (size_t i = 0; i < ref_count(refs); i++) {
        struct body_ref ref = ref_array(refs)[i];
        struct slice whole = make_payload(ref.index, 0, &payload);
        assert_memory_equal(read.out.data + at, whole.data + ref.offset, ref.length);
        at += ref.length;
    }
    buffer_free(&read.out);
    buffer_free(&payload);
}

static inline void visit_nothing(void *data, const struct log_entry *entry)
{
    (void)entry;
    ++*(uint64_t *)data;
}

static inline void assert_no_folder(struct bench *b)
{
    char path[256];
    snprintf(path, sizeof path, "%s/install", b->dir);
    assert_int_equal(access(path, F_OK), -1);
    for (int i = 1; i < 4; i++) {
        snprintf(path, sizeof path, "%s/incoming-%d", b->dir, i);
        assert_int_equal(access(path, F_OK), -1);
    }
}

static inline struct slice state_of(struct bench *b, struct log_snapshot *out)
{
    const char *error = NULL;
    if (log_snapshot_load(b->log, out, &error) != STATUS_OK)
        fail_msg("%s", error);
    return buffer_slice(&out->data);
}

/* assert_before: the log is what it was. */
static inline void assert_before(struct pair *p)
{
    struct log_snapshot s;
    struct buffer refs = {0};
    const char *error = NULL;
    uint64_t visited = 0;
    assert_int_equal(log_last_index(p->lag->log), OWN_LAST);
    assert_int_equal(log_snapshot_index(p->lag->log), KEEP / 2);
    assert_true(slice_is(state_of(p->lag, &s), "an old state"));
    log_snapshot_free(&s);
    assert_int_equal(log_load(p->lag->log, 1, visit_nothing, &visited, &error), STATUS_OK);
    assert_int_equal(visited, OWN_LAST);
    refs_between(0, KEEP, &refs);
    check_refs(p->lag, &refs);
    buffer_free(&refs);
}

/* assert_installed: the log is what the snapshot and the bodies make it. Holds all. */
static inline void assert_installed(struct pair *p, uint64_t keep_index)
{
    struct log_snapshot s;
    struct buffer refs = {0};
    uint64_t index;
    assert_int_equal(log_last_index(p->lag->log), SNAPSHOT);
    assert_int_equal(log_durable_index(p->lag->log), SNAPSHOT);
    assert_int_equal(log_first_index(p->lag->log), SNAPSHOT + 1);
    assert_int_equal(log_snapshot_index(p->lag->log), SNAPSHOT);
    assert_int_equal(log_snapshot_older(p->lag->log), 0);
    assert_true(slice_equal(state_of(p->lag, &s), buffer_slice(&p->state)));
    assert_int_equal(s.term, TERM);
    log_snapshot_free(&s);
    refs_between(0, keep_index, &refs);
    refs_between(keep_index, SNAPSHOT, &refs);
    hold_all(p->lag, &refs);
    assert_int_equal(log_missing(p->lag->log, &index), 0);
    check_refs(p->lag, &refs);
    assert_no_folder(p->lag);
    buffer_free(&refs);
}

#endif
