/* SPDX-License-Identifier: Apache-2.0 */
/* Packed frames: the documented bytes; every flipped bit is found or does not matter; what does not
 * pack costs next to nothing; and a log of entries that pack more or less keeps what it was told,
 * through truncation while writes are under way, restarts, torn ends and damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/log/packer.h"
#include "proto/base/bytes.h"
#include "tests/unit/log/bench.h"

#define SEGMENT_BYTES (64u << 10)

/* ---- bytes ---- */

enum kind { KIND_TEXT, KIND_NOISE, KIND_HALF, KIND_COUNT };

static uint8_t noise(uint64_t seed, uint64_t at)
{
    uint64_t x = (seed * 1000003 + at + 1) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint8_t)((x ^ x >> 29) * UINT64_C(0xbf58476d1ce4e5b9) >> 48);
}

/* byte_of: text packs to a third or so, noise not at all, and of half every other 32 KiB does. */
static uint8_t byte_of(enum kind kind, uint64_t seed, uint32_t at)
{
    static const char words[] =
        "{\"order\":\"0000\",\"customer\":\"Ada\",\"status\":\"paid\",\"id\":";
    bool text = kind == KIND_TEXT || (kind == KIND_HALF && at / 32768 % 2 == 0);
    if (!text || at % 64 >= sizeof words - 1)
        return noise(seed, at);
    return (uint8_t)words[at % 64];
}

static void fill(struct buffer *out, enum kind kind, uint64_t seed, uint32_t length)
{
    uint8_t *bytes = (buffer_clear(out), buffer_reserve(out, length + 1));
    for (uint32_t i = 0; i < length; i++)
        bytes[i] = byte_of(kind, seed, i);
    buffer_added(out, length);
}

/* make_frame: a packed frame with segment id 77; false: it does not pay. */
static bool make_frame(struct slice payload, struct frame *frame, struct buffer *out)
{
    uint16_t units[UNITS_MAX];
    struct packer packer = {0};
    struct buffer stored = {0};
    *frame = (struct frame){
        .index = 9, .term = 2, .type = 1, .length = (uint32_t)payload.length, .packed = true};
    uint32_t bytes = 0;
    if (packer_wants(&packer, frame->length))
        bytes = packer_pack(&packer, payload, units, buffer_reserve(&stored, payload.length));
    buffer_clear(out);
    if (bytes > 0) {
        uint32_t head_bytes = frame_head_size(frame);
        frame_head_encode(frame, 77, payload.data, units, buffer_reserve(out, head_bytes));
        buffer_added(out, head_bytes);
        buffer_add(out, stored.data, bytes);
    }
    buffer_free(&stored);
    packer_free(&packer);
    return bytes > 0;
}

/* docs/format.md, "Packed frames": 512 times the letter a. */
static void the_documented_example(void **state)
{
    static const uint8_t expected[60] = {
        0x4d, 0x52, 0x46, 0x52, 0x00, 0x02, 0,    0,    1,    0,    0,    0,    0,    0,    0,
        0,    1,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,
        0,    0,    1,    0,    2,    0,    0x7b, 0x83, 0x2c, 0x65, 0x1f, 0xa6, 0x32, 0x6f, 12,
        0,    0,    0,    0x1f, 'a',  1,    0,    0xff, 0xe8, 0x50, 'a',  'a',  'a',  'a',  'a'};
    static const uint16_t units[1] = {12};
    (void)state;
    uint8_t payload[512];
    uint8_t head[48];
    struct buffer scratch = {0};
    struct slice out;
    struct frame frame = {.index = 1, .term = 1, .length = 512, .type = 1, .packed = true};
    memset(payload, 'a', sizeof payload);
    assert_int_equal(frame_head_size(&frame), 48);
    frame_head_encode(&frame, 0, payload, units, head);
    assert_memory_equal(head, expected, sizeof head);
    struct slice whole = {expected, sizeof expected};
    assert_true(frame_head_decode(whole, 0, &frame));
    assert_int_equal(frame_payload_end(expected, &frame), sizeof expected);
    assert_true(frame_payload(whole, &frame, &scratch, &out));
    assert_true(slice_equal(out, slice_make(payload, sizeof payload)));
    buffer_free(&scratch);
}

static void what_is_packed_unpacks(void **state)
{
    static const uint32_t lengths[] = {512,   513,   4095,  4096,  4097,  16383,
                                       16384, 16385, 16391, 32768, 50000, 300001};
    (void)state;
    struct buffer payload = {0};
    struct buffer bytes = {0};
    struct buffer scratch = {0};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct frame frame;
        struct frame read;
        struct slice out;
        fill(&payload, KIND_TEXT, i, lengths[i]);
        assert_true(make_frame(buffer_slice(&payload), &frame, &bytes));
        assert_true(bytes.length * 2 < lengths[i] + 100);
        assert_true(frame_head_decode(buffer_slice(&bytes), 77, &read));
        assert_true(read.packed);
        assert_int_equal(frame_payload_end(bytes.data, &read), bytes.length);
        assert_true(frame_payload(buffer_slice(&bytes), &read, &scratch, &out));
        assert_true(slice_equal(out, buffer_slice(&payload)));
        assert_false(
            frame_payload(slice_make(bytes.data, bytes.length - 1), &read, &scratch, &out));
    }
    buffer_free(&payload);
    buffer_free(&bytes);
    buffer_free(&scratch);
}

static void every_flipped_bit_is_found_or_does_not_matter(void **state)
{
    (void)state;
    struct buffer payload = {0};
    struct buffer bytes = {0};
    struct buffer scratch = {0};
    struct frame frame;
    struct frame read;
    struct slice out;
    size_t harmless = 0;
    fill(&payload, KIND_TEXT, 3, 20000);
    assert_true(make_frame(buffer_slice(&payload), &frame, &bytes));
    for (size_t bit = 0; bit < bytes.length * 8; bit++) {
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        bool good = frame_head_decode(buffer_slice(&bytes), 77, &read) &&
                    frame_payload(buffer_slice(&bytes), &read, &scratch, &out);
        assert_false(good && bit < frame_head_size(&frame) * 8);
        if (good)
            assert_true(slice_equal(out, buffer_slice(&payload)));
        harmless += good ? 1 : 0;
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    print_message("of %zu bits %zu do not matter\n", bytes.length * 8, harmless);
    assert_true(harmless * 10 < bytes.length * 8);
    buffer_free(&payload);
    buffer_free(&bytes);
    buffer_free(&scratch);
}

/* Sizes that cannot be, under a checksum that holds: a later version's, or a mistake of ours. */
static void impossible_sizes_are_refused(void **state)
{
    static const uint16_t sizes[] = {0, 16385, UINT16_MAX};
    (void)state;
    struct buffer payload = {0};
    struct buffer bytes = {0};
    struct frame frame;
    struct frame read;
    fill(&payload, KIND_TEXT, 3, 20000);
    assert_true(make_frame(buffer_slice(&payload), &frame, &bytes));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        bytes_put_u16(bytes.data + FRAME_HEAD_BYTES + 4 * 5, sizes[i]);
        frame_seal_head(bytes.data, frame_head_size(&frame), 77);
        assert_false(frame_head_decode(buffer_slice(&bytes), 77, &read));
    }
    buffer_free(&payload);
    buffer_free(&bytes);
}

/* ---- when it pays ---- */

static void what_does_not_pack_costs_next_to_nothing(void **state)
{
    (void)state;
    struct packer packer = {0};
    struct buffer payload = {0};
    uint16_t units[UNITS_MAX];
    uint8_t *out = malloc(40000);
    uint64_t seen = 0;
    fill(&payload, KIND_NOISE, 1, 40000);
    while (seen < (64u << 20)) {
        if (packer_wants(&packer, 40000))
            assert_int_equal(packer_pack(&packer, buffer_slice(&payload), units, out), 0);
        seen += payload.length;
    }
    print_message("tried %.2f %%\n", (double)packer.tried / (double)seen * 100);
    assert_true(packer.tried * 50 < seen);
    /* And what packs is found out about again. */
    uint64_t until = seen;
    fill(&payload, KIND_TEXT, 1, 40000);
    for (uint64_t packed = 0; packed == 0; until += 40000) {
        if (packer_wants(&packer, 40000))
            packed = packer_pack(&packer, buffer_slice(&payload), units, out);
    }
    assert_true(until - seen <= 2 * PACKER_WAIT_MAX);
    assert_false(packer_wants(&packer, PACKER_PAYLOAD_MIN - 1));
    assert_false(packer_wants(&packer, UNITS_PAYLOAD_MAX + 1));
    assert_true(packer_wants(&packer, UNITS_PAYLOAD_MAX));
    free(out);
    buffer_free(&payload);
    packer_free(&packer);
}

/* ---- a log ---- */

/* What an entry is, from its index and the term in which it was appended. */
static enum kind kind_of(uint64_t index, uint64_t term)
{
    return (enum kind)((index * 7 + term) % KIND_COUNT);
}

static uint32_t length_of(uint64_t index, uint64_t term)
{
    static const uint32_t lengths[] = {0, 1, 200, 700, 3000, 5000, 20000, 70000, 1000};
    return lengths[(index * 5 + term * 3) % (sizeof lengths / sizeof lengths[0])];
}

static void make(struct buffer *out, uint64_t index, uint64_t term)
{
    fill(out, kind_of(index, term), index * 100 + term, length_of(index, term));
}

#define ENTRIES_MAX 4000u

/* What the log must have: the term of each entry. */
struct model {
    struct bench *b;
    uint64_t term[ENTRIES_MAX];
    uint64_t last;
    uint64_t random;
};

static uint32_t draw(struct model *m, uint32_t below)
{
    m->random ^= m->random << 13;
    m->random ^= m->random >> 7;
    m->random ^= m->random << 17;
    return (uint32_t)(m->random >> 20) % below;
}

struct request {
    struct log_append append;
    struct buffer payload;
    bool done;
};

static void on_appended(struct log_append *append, enum status status)
{
    struct request *r = append->data;
    assert_int_equal(status, STATUS_OK);
    buffer_free(&r->payload);
    free(r);
}

static void append_one(struct model *m, uint64_t term)
{
    struct request *r = calloc(1, sizeof *r);
    uint64_t index = ++m->last;
    m->term[index] = term;
    make(&r->payload, index, term);
    r->append = (struct log_append){.done = on_appended, .data = r};
    struct log_entry entry = {index, term, 1, buffer_slice(&r->payload)};
    log_append(m->b->log, &r->append, &entry, 1);
}

static void check_one(void *data, const struct log_entry *entry)
{
    struct model *m = data;
    struct buffer expected = {0};
    assert_true(entry->index <= m->last);
    assert_int_equal(entry->term, m->term[entry->index]);
    make(&expected, entry->index, entry->term);
    assert_true(slice_equal(entry->payload, buffer_slice(&expected)));
    buffer_free(&expected);
}

static void check_body(struct model *m, struct body_ref ref)
{
    struct buffer out = {0};
    struct buffer expected = {0};
    make(&expected, ref.index, m->term[ref.index]);
    assert_true(log_read_now(m->b->log, ref, &out));
    assert_int_equal(out.length, ref.length);
    if (ref.length > 0)
        assert_memory_equal(out.data, expected.data + ref.offset, ref.length);
    buffer_free(&out);
    buffer_free(&expected);
}

static void check_bodies(struct model *m)
{
    for (int i = 0; i < 60 && log_durable_index(m->b->log) > 0; i++) {
        uint64_t index = 1 + draw(m, (uint32_t)log_durable_index(m->b->log));
        uint32_t length = length_of(index, m->term[index]);
        uint32_t offset = draw(m, length + 1);
        check_body(m, (struct body_ref){index, offset, draw(m, length - offset + 1)});
    }
}

static void reopen(struct model *m)
{
    const char *error = NULL;
    bench_close(m->b);
    bench_open(m->b);
    assert_int_equal(log_last_index(m->b->log), m->last);
    if (m->last > 0)
        assert_int_equal(log_load(m->b->log, 1, check_one, m, &error), STATUS_OK);
    check_bodies(m);
}

/* truncate_some: among what is on disk, being written, or still in the queue. Reads of what stays
 * go on. */
static void truncate_some(struct model *m)
{
    uint32_t back = 1 + draw(m, draw(m, 4) == 0 ? 60 : 8);
    m->last = m->last > back ? m->last - back : 0;
    log_truncate(m->b->log, m->last + 1);
    assert_true(log_durable_index(m->b->log) <= m->last);
}

static void run_script(struct bench *b, uint64_t seed)
{
    struct model *m = calloc(1, sizeof *m);
    *m = (struct model){.b = b, .random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1};
    b->options.segment_bytes = SEGMENT_BYTES;
    bench_open(b);
    for (uint64_t term = 1; term < 40 && m->last + 100 < ENTRIES_MAX; term++) {
        for (uint32_t n = draw(m, 40); n > 0; n--)
            append_one(m, term);
        for (uint32_t n = draw(m, 4); n > 0; n--)
            uv_run(&b->loop, UV_RUN_NOWAIT);
        if (draw(m, 3) == 0)
            truncate_some(m);
        if (draw(m, 4) == 0)
            uv_run(&b->loop, UV_RUN_DEFAULT);
        check_bodies(m);
        if (draw(m, 10) == 0)
            reopen(m);
    }
    reopen(m);
    bench_close(b);
    free(m);
}

static void a_log_of_all_kinds(void **state)
{
    struct bench *b = *state;
    const char *seeds = getenv("SEEDS");
    b->quick = true;
    for (uint64_t seed = 1; seed <= (seeds != NULL ? strtoull(seeds, NULL, 10) : 2); seed++) {
        print_message("seed %" PRIu64 "\n", seed);
        run_script(b, seed);
        bench_remove(b->dir);
        assert_int_equal(mkdir(b->dir, 0700), 0);
    }
}

static struct log_stats stats_of(struct bench *b)
{
    struct log_stats stats;
    log_stats(b->log, &stats);
    return stats;
}

static void append_now(struct bench *b, enum kind kind, uint32_t length, uint32_t count)
{
    struct buffer payload = {0};
    for (uint32_t i = 0; i < count; i++) {
        uint64_t index = log_last_index(b->log) + 1;
        fill(&payload, kind, index, length);
        struct log_entry entry = {index, 1, 1, buffer_slice(&payload)};
        assert_int_equal(log_append_now(b->log, &entry, 1), STATUS_OK);
    }
    buffer_free(&payload);
}

static void text_takes_less_disk_and_noise_no_more(void **state)
{
    struct bench *b = *state;
    b->quick = true;
    b->options.segment_bytes = SEGMENT_BYTES;
    bench_open(b);
    append_now(b, KIND_NOISE, 10000, 50);
    assert_int_equal(stats_of(b).bytes_saved, 0);
    uint64_t before = stats_of(b).bytes_written;
    append_now(b, KIND_TEXT, 10000, 150); /* the first of them go by untried */
    assert_true(stats_of(b).bytes_written - before < 150u * 10000 * 2 / 3);
    assert_true(stats_of(b).bytes_saved > 150u * 10000 / 3);
    bench_close(b);
    b->options.unpacked = true; /* what was packed stays readable */
    bench_open(b);
    before = stats_of(b).bytes_written;
    append_now(b, KIND_TEXT, 10000, 5);
    assert_int_equal(stats_of(b).bytes_saved, 0);
    assert_true(stats_of(b).bytes_written - before >= 5u * 10000);
    struct buffer out = {0};
    struct buffer expected = {0};
    for (uint64_t index = 1; index <= 205; index += 6) {
        buffer_clear(&out);
        fill(&expected, index <= 50 ? KIND_NOISE : KIND_TEXT, index, 10000);
        assert_true(log_read_now(b->log, (struct body_ref){index, 0, 10000}, &out));
        assert_true(slice_equal(buffer_slice(&out), buffer_slice(&expected)));
    }
    buffer_free(&out);
    buffer_free(&expected);
    bench_close(b);
}

/* As receives from a FIFO queue have it: every 17th message of an entry, from an offset, and
 * then those between; of several entries in turn, with a large body now and then. */
static void bodies_here_and_there(void **state)
{
    enum { ENTRIES = 3, LENGTH = 500000, BODY = 1100, STRIDE = 17 };
    struct bench *b = *state;
    struct buffer entries[ENTRIES] = {0};
    struct buffer out = {0};
    bench_open(b);
    for (uint64_t i = 0; i < ENTRIES; i++) {
        append_now(b, i == 1 ? KIND_NOISE : KIND_TEXT, LENGTH, 1);
        fill(&entries[i], i == 1 ? KIND_NOISE : KIND_TEXT, i + 1, LENGTH);
    }
    for (uint32_t from = 0; from < STRIDE; from++) {
        for (uint32_t at = from; (at + 1) * BODY <= LENGTH; at += STRIDE) {
            uint32_t i = at / STRIDE % 5 == 0 ? at % ENTRIES : from % ENTRIES;
            uint32_t large = at % 50 == 0 ? 100000 : BODY;
            uint32_t offset = at * BODY + large <= LENGTH ? at * BODY : LENGTH - large;
            buffer_clear(&out);
            assert_true(log_read_now(b->log, (struct body_ref){i + 1, offset, large}, &out));
            assert_int_equal(out.length, large);
            assert_memory_equal(out.data, entries[i].data + offset, large);
        }
    }
    for (uint64_t i = 0; i < ENTRIES; i++)
        buffer_free(&entries[i]);
    buffer_free(&out);
    bench_close(b);
}

/* An entry may be applied, and so be held and released, before it has a place on disk. */
static void held_before_it_is_placed(void **state)
{
    struct bench *b = *state;
    struct model *m = calloc(1, sizeof *m);
    b->quick = true;
    b->options.segment_bytes = SEGMENT_BYTES;
    bench_open(b);
    m->b = b;
    for (int i = 0; i < 60; i++)
        append_one(m, 1);
    for (uint64_t index = 1; index <= m->last; index++) {
        uint32_t length = length_of(index, 1);
        log_hold(b->log, (struct body_ref){index, 0, length});
        log_hold(b->log, (struct body_ref){index, length / 2, length / 2});
        if (index % 3 == 0)
            log_release(b->log, (struct body_ref){index, 0, length});
    }
    assert_true(stats_of(b).live_bytes > 0);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    assert_true(stats_of(b).live_bytes <= stats_of(b).bytes_written);
    for (uint64_t index = 1; index <= m->last; index++) {
        uint32_t length = length_of(index, 1);
        log_release(b->log, (struct body_ref){index, length / 2, length / 2});
        if (index % 3 != 0)
            log_release(b->log, (struct body_ref){index, 0, length});
    }
    assert_int_equal(stats_of(b).live_bytes, 0);
    assert_int_equal(stats_of(b).holds, 0);
    bench_close(b);
    free(m);
}

/* ---- torn ends and damage ---- */

static void expect_text(void *data, const struct log_entry *entry)
{
    struct buffer expected = {0};
    uint64_t *next = data;
    assert_int_equal(entry->index, (*next)++);
    fill(&expected, KIND_TEXT, entry->index, 3000);
    assert_true(slice_equal(entry->payload, buffer_slice(&expected)));
    buffer_free(&expected);
}

/* frames_end: where the frames of the first segment end. */
static uint32_t frames_end(const char *path, uint32_t *last)
{
    struct buffer file = {0};
    struct segment_head head;
    struct buffer places = {0};
    uint32_t end;
    bool torn;
    assert_int_equal(disk_read_file(AT_FDCWD, path, &file), 0);
    assert_true(segment_head_decode(buffer_slice(&file), &head));
    assert_int_equal(segment_scan(buffer_slice(&file), &head, &places, &end, &torn), STATUS_OK);
    struct frame_place place;
    memcpy(&place, places.data + places.length - sizeof place, sizeof place);
    *last = place.offset;
    buffer_free(&file);
    buffer_free(&places);
    return end;
}

static void a_torn_packed_frame_is_cut(void **state)
{
    struct bench *b = *state;
    char path[256];
    char copy[160];
    const char *error = NULL;
    uint32_t last;
    b->quick = true;
    b->options.segment_bytes = SEGMENT_BYTES;
    bench_open(b);
    append_now(b, KIND_TEXT, 3000, 5);
    bench_close(b);
    bench_segment_path(b, 1, path);
    snprintf(copy, sizeof copy, "%s-copy", b->dir);
    bench_copy_tree(b->dir, copy);
    uint32_t end = frames_end(path, &last);
    assert_true(end - last < 2000);
    for (uint32_t at = last; at < end; at += 111) {
        uint64_t next = 1;
        bench_remove(b->dir);
        bench_copy_tree(copy, b->dir);
        assert_int_equal(truncate(path, at), 0);
        bench_open(b);
        assert_int_equal(log_last_index(b->log), 4);
        assert_int_equal(log_load(b->log, 1, expect_text, &next, &error), STATUS_OK);
        append_now(b, KIND_TEXT, 3000, 2);
        bench_close(b);
        bench_open(b);
        assert_int_equal(log_last_index(b->log), 6);
        next = 1;
        assert_int_equal(log_load(b->log, 1, expect_text, &next, &error), STATUS_OK);
        bench_close(b);
    }
    bench_remove(copy);
}

static void a_damaged_packed_frame_is_refused(void **state)
{
    struct bench *b = *state;
    char path[256];
    const char *error = NULL;
    struct buffer out = {0};
    b->quick = true;
    b->options.segment_bytes = SEGMENT_BYTES;
    bench_open(b);
    append_now(b, KIND_TEXT, 3000, 5);
    bench_segment_path(b, 1, path);
    /* A literal of the first entry: it is not read at first, then refused. */
    bench_flip(path, SEGMENT_HEAD_BYTES + frame_head_bytes(3000) + 4);
    assert_false(log_read_now(b->log, (struct body_ref){1, 0, 10}, &out));
    assert_int_equal(out.length, 0);
    assert_true(log_read_now(b->log, (struct body_ref){2, 0, 10}, &out));
    bench_close(b);
    assert_int_equal(bench_try_open(b, &error), STATUS_CORRUPT);
    assert_non_null(strstr(error, "is damaged at byte 64"));
    buffer_free(&out);
}

#define FEW_ENTRIES 3u
#define FEW_LENGTH  500000u

/* read_right: what is read is right; false: nothing is. */
static bool read_right(struct bench *b, const struct buffer *entry, struct body_ref ref)
{
    struct buffer out = {0};
    buffer_add_text(&out, "before");
    bool good = log_read_now(b->log, ref, &out);
    assert_int_equal(out.length, 6 + (good ? ref.length : 0));
    if (good)
        assert_memory_equal(out.data + 6, entry->data + ref.offset, ref.length);
    buffer_free(&out);
    return good;
}

/* read_everywhere: a body of each unit; how many were not read, and not at a second try. */
static uint32_t read_everywhere(struct bench *b, const struct buffer entries[FEW_ENTRIES])
{
    uint32_t failed = 0;
    for (uint32_t at = 0; at + 1000 <= FEW_LENGTH; at += UNIT_BYTES) {
        for (uint32_t i = 0; i < FEW_ENTRIES; i++) {
            struct body_ref ref = {i + 1, at, 1000};
            if (read_right(b, &entries[i], ref))
                continue;
            assert_false(read_right(b, &entries[i], ref));
            failed++;
        }
    }
    return failed;
}

/* Wherever in headers or units a bit is wrong, nothing wrong is given out; and where it was wrong
 * only for that once, as it may be on its way from a disk, nothing of that is kept. */
static void a_read_that_failed_leaves_nothing_behind(void **state)
{
    struct bench *b = *state;
    char path[256];
    struct buffer entries[FEW_ENTRIES] = {0};
    uint32_t failed = 0;
    b->quick = true;
    bench_open(b);
    append_now(b, KIND_TEXT, FEW_LENGTH, FEW_ENTRIES);
    for (uint32_t i = 0; i < FEW_ENTRIES; i++)
        fill(&entries[i], KIND_TEXT, i + 1, FEW_LENGTH);
    bench_segment_path(b, 1, path);
    for (uint64_t at = SEGMENT_HEAD_BYTES; at < FEW_ENTRIES * FEW_LENGTH; at += 20011) {
        bench_flip(path, at);
        failed += read_everywhere(b, entries);
        bench_flip(path, at);
        assert_int_equal(read_everywhere(b, entries), 0);
    }
    assert_true(failed > 10);
    for (uint32_t i = 0; i < FEW_ENTRIES; i++)
        buffer_free(&entries[i]);
    bench_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_documented_example),
        cmocka_unit_test(what_is_packed_unpacks),
        cmocka_unit_test(every_flipped_bit_is_found_or_does_not_matter),
        cmocka_unit_test(impossible_sizes_are_refused),
        cmocka_unit_test(what_does_not_pack_costs_next_to_nothing),
        BENCH_TEST(a_log_of_all_kinds),
        BENCH_UNPACKED(a_log_of_all_kinds),
        BENCH_TEST(text_takes_less_disk_and_noise_no_more),
        BENCH_TEST(bodies_here_and_there),
        BENCH_TEST(held_before_it_is_placed),
        BENCH_TEST(a_torn_packed_frame_is_cut),
        BENCH_TEST(a_damaged_packed_frame_is_refused),
        BENCH_TEST(a_read_that_failed_leaves_nothing_behind),
        BENCH_UNPACKED(a_read_that_failed_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
