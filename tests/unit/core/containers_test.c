/* SPDX-License-Identifier: Apache-2.0 */
/* The containers under the core, each against brute force: heap, message pool and map, lane, names,
 * dedup ids. */
#include "tests/unit/core/fixture.h"

#include "broker/core/dedup.h"
#include "broker/core/dedup_entry.h"
#include "broker/core/hashes.h"
#include "broker/core/heap.h"
#include "broker/core/lane.h"
#include "broker/core/message.h"
#include "broker/core/names.h"
#include "proto/base/plots.h"

#include <stdio.h>

#define ITEMS 200

/* A small linear congruential generator: the same numbers in every run. */
static uint32_t next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void remember(void *data, uint32_t item, uint32_t position)
{
    ((uint32_t *)data)[item] = position;
}

static void test_heap_against_brute_force(void **state)
{
    (void)state;
    uint32_t positions[ITEMS];
    uint64_t keys[ITEMS];
    bool present[ITEMS] = {false};
    struct heap heap;
    uint32_t seed = 1;
    heap_init(&heap, remember, positions);
    for (int step = 0; step < 20000; step++) {
        uint32_t item = next(&seed) % ITEMS;
        uint64_t key = next(&seed) % 50;
        if (!present[item])
            heap_push(&heap, key, item, item);
        else if (next(&seed) % 2 == 0)
            heap_set_key(&heap, positions[item], key);
        else
            heap_remove(&heap, positions[item]), key = UINT64_MAX;
        present[item] = key != UINT64_MAX;
        keys[item] = key;
        uint64_t least = UINT64_MAX;
        for (uint32_t i = 0; i < ITEMS; i++) {
            least = present[i] && keys[i] < least ? keys[i] : least;
            if (present[i])
                assert_int_equal(heap.entries[positions[i]].item, i);
        }
        assert_int_equal(heap_least_key(&heap), least);
    }
    assert_true(heap_ordered(&heap));
    heap.entries[0].key = 1000;
    assert_false(heap_ordered(&heap));
    heap_deinit(&heap);
}

/* Equal keys come out by their tie-breaker. */
static void test_heap_ties(void **state)
{
    (void)state;
    uint32_t positions[ITEMS];
    struct heap heap;
    heap_init(&heap, remember, positions);
    for (uint32_t i = 0; i < ITEMS; i++)
        heap_push(&heap, 5, ITEMS - i, i);
    for (uint32_t i = ITEMS; i-- > 0;) {
        assert_int_equal(heap.entries[0].item, i);
        heap_remove(&heap, 0);
    }
    assert_int_equal(heap_least_key(&heap), UINT64_MAX);
    heap_deinit(&heap);
}

static uint32_t message_make(struct messages *messages, uint32_t slot, uint64_t seq)
{
    uint32_t index = messages_take(messages);
    message_place(message_at(messages, index), slot, seq, seq, (struct body_ref){0});
    return index;
}

static void test_map_against_brute_force(void **state)
{
    (void)state;
    enum { SEQS = 3000 };
    static uint32_t indexes[2][SEQS];
    struct messages messages;
    uint32_t seed = 2;
    uint32_t count = 0;
    messages_init(&messages);
    memset(indexes, 0xff, sizeof indexes);
    assert_int_equal(messages_find(&messages, 0, 1), MESSAGE_NONE);
    for (int step = 0; step < 60000; step++) {
        uint32_t slot = next(&seed) % 2;
        uint32_t seq = next(&seed) % SEQS;
        uint32_t *index = &indexes[slot][seq];
        assert_int_equal(messages_find(&messages, slot, seq), *index);
        if (*index == MESSAGE_NONE) {
            *index = message_make(&messages, slot, seq);
            messages_map(&messages, *index);
            count++;
        } else {
            messages_unmap(&messages, *index);
            messages_give(&messages, *index);
            *index = MESSAGE_NONE;
            count--;
        }
        assert_int_equal(messages.count, count);
    }
    for (uint32_t slot = 0; slot < 2; slot++) {
        for (uint32_t seq = 0; seq < SEQS; seq++)
            assert_int_equal(messages_find(&messages, slot, seq), indexes[slot][seq]);
    }
    messages_deinit(&messages);
}

/* So many that the map's parts are in plots. */
static void test_map_of_many(void **state)
{
    (void)state;
    enum { MANY = 300000 };
    struct messages messages;
    messages_init(&messages);
    for (uint32_t seq = 0; seq < MANY; seq++) {
        uint32_t index = message_make(&messages, 1, seq);
        messages_map(&messages, index);
        if (seq == 20000)
            assert_int_equal(plots_bytes(), 0);
    }
    assert_in_range(plots_bytes(), 1, (size_t)MANY * 4 * sizeof(uint32_t));
    for (uint32_t seq = 0; seq < MANY; seq += 2)
        messages_unmap(&messages, messages_find(&messages, 1, seq));
    for (uint32_t seq = 0; seq < MANY; seq++) {
        uint32_t index = messages_find(&messages, 1, seq);
        assert_int_equal(index == MESSAGE_NONE, seq % 2 == 0);
        assert_true(index == MESSAGE_NONE || message_at(&messages, index)->seq == seq);
    }
    messages_deinit(&messages);
    assert_int_equal(plots_bytes(), 0);
}

/* Joined and left in any order, a lane always shows the least. */
static void lane_against_brute_force(enum lane_kind kind)
{
    uint32_t indexes[ITEMS];
    bool present[ITEMS] = {false};
    struct messages messages;
    struct lane lane;
    uint32_t seed = 3;
    messages_init(&messages);
    lane_init(&lane, kind);
    for (uint32_t i = 0; i < ITEMS; i++)
        indexes[i] = message_make(&messages, 0, i + 1);
    for (int step = 0; step < 20000; step++) {
        uint32_t i = next(&seed) % ITEMS;
        if (present[i])
            lane_remove(&lane, &messages, indexes[i]);
        else
            lane_add(&lane, &messages, indexes[i]);
        present[i] = !present[i];
        uint32_t least = MESSAGE_NONE;
        uint32_t count = 0;
        for (uint32_t k = ITEMS; k-- > 0;) {
            least = present[k] ? indexes[k] : least;
            count += present[k];
        }
        assert_int_equal(lane_least(&lane, &messages), least);
        struct lane_walk walk = {0};
        uint32_t index;
        while ((index = lane_next(&lane, &messages, &walk)) != MESSAGE_NONE) {
            assert_true(present[message_at(&messages, index)->seq - 1]);
            count--;
        }
        assert_int_equal(count, 0);
    }
    lane_deinit(&lane);
    messages_deinit(&messages);
}

static void test_lanes(void **state)
{
    (void)state;
    lane_against_brute_force(LANE_READY);
    lane_against_brute_force(LANE_AGE);
}

/* By brute force: how many begin with it, and how many stand before it. */
static void check_names_within(const struct names *names, const char *prefix)
{
    size_t within = 0;
    size_t before = 0;
    for (size_t i = 0; i < names->count; i++) {
        within += slice_starts_with(names->entries[i].name, prefix);
        before += strcmp(names->entries[i].object, prefix) < 0;
    }
    assert_int_equal(names_within(names, slice_of(prefix)), within);
    assert_int_equal(names_from(names, slice_of(prefix)), before);
}

static void test_names(void **state)
{
    (void)state;
    char texts[ITEMS][8];
    struct names names = {0};
    uint32_t seed = 4;
    bool present[ITEMS] = {false};
    for (uint32_t i = 0; i < ITEMS; i++)
        snprintf(texts[i], sizeof texts[i], "%u", i);
    for (int step = 0; step < 5000; step++) {
        uint32_t i = next(&seed) % ITEMS;
        assert_ptr_equal(names_get(&names, slice_of(texts[i])), present[i] ? texts[i] : NULL);
        if (present[i])
            names_remove(&names, slice_of(texts[i]));
        else
            names_add(&names, slice_of(texts[i]), texts[i]);
        present[i] = !present[i];
    }
    size_t seen = 0;
    const char *last = "";
    for (const char *at; (at = names_after(&names, slice_of(last))) != NULL; last = at) {
        assert_true(strcmp(last, at) < 0);
        seen++;
    }
    assert_int_equal(seen, names.count);
    check_names_within(&names, "");
    check_names_within(&names, "x");
    for (uint32_t i = 0; i < ITEMS; i++)
        check_names_within(&names, texts[i]);
    names_deinit(&names);
}

/* dedup_numbered: one whose key has the number in it, and any length up to the longest. */
static struct dedup dedup_numbered(uint64_t number, char bytes[257])
{
    size_t length = 12 + number * 7 % 246;
    memset(bytes, 'k', 257);
    snprintf(bytes, 13, "%012u", (uint32_t)number);
    bytes[12] = 'k';
    struct dedup dedup = {.seq = number + 1, .sent_ms = number / 3};
    memset(dedup.message_id, (int)number, UUID_BYTES);
    dedup.key = slice_make((const uint8_t *)bytes, length);
    return dedup;
}

/* assert_dedups: those numbered [first, end), in this order, with all that belongs to them. */
static void assert_dedups(const struct dedups *dedups, uint64_t first, uint64_t end)
{
    struct dedup_walk walk = {0};
    struct dedup got;
    char bytes[257];
    for (uint64_t number = first; number < end; number++) {
        struct dedup expected = dedup_numbered(number, bytes);
        assert_true(dedup_next(dedups, &walk, &got));
        assert_int_equal(got.seq, expected.seq);
        assert_int_equal(got.sent_ms, expected.sent_ms);
        assert_memory_equal(got.message_id, expected.message_id, UUID_BYTES);
        assert_true(slice_equal(got.key, expected.key));
    }
    assert_false(dedup_next(dedups, &walk, &got));
    assert_int_equal(dedups->count, end - first);
}

/* It grows, shrinks, empties, and goes round its chunks; what is there cannot be put again, and
 * what has left can. */
static void test_dedups(void **state)
{
    (void)state;
    static const uint32_t rounds[][2] = {{1, 1},       {5, 2},      {3000, 10}, {20, 2900},
                                         {2000, 1000}, {300, 1400}, {9, 18}};
    struct dedups dedups = {0};
    uint64_t first = 0;
    uint64_t end = 0;
    char bytes[257];
    for (size_t i = 0; i < ARRAY_COUNT(rounds); i++) {
        for (uint32_t n = 0; n < rounds[i][0]; n++) {
            struct dedup dedup = dedup_numbered(end++, bytes);
            assert_true(dedup_put(&dedups, (struct siphash_key){{12345, i}}, &dedup));
        }
        assert_dedups(&dedups, first, end);
        for (uint64_t number = first; number < end; number += 7) {
            struct dedup dedup = dedup_numbered(number, bytes);
            assert_false(dedup_put(&dedups, (struct siphash_key){{12345, i}}, &dedup));
        }
        for (uint32_t n = 0; n < rounds[i][1]; n++, first++)
            dedup_drop_oldest(&dedups);
        assert_dedups(&dedups, first, end);
    }
    while (first < end)
        dedup_drop_oldest(&dedups), first++;
    /* The first of a queue may be longer than its first chunk is otherwise. */
    for (uint64_t number = 0; number < 246; number++) {
        struct dedup dedup = dedup_numbered(number, bytes);
        assert_true(dedup_put(&dedups, (struct siphash_key){{12345, 0}}, &dedup));
        assert_dedups(&dedups, number, number + 1);
        dedup_drop_oldest(&dedups);
    }
    assert_null(dedups.chunks);
    assert_null(dedups.places.parts);
    struct dedup again = dedup_numbered(3, bytes);
    assert_true(dedup_put(&dedups, (struct siphash_key){{0, 0}}, &again));
    assert_dedups(&dedups, 3, 4);
    dedups_free(&dedups);
}

/* Values by hash, some hashes shared by several and all of them in one corner of the range or
 * spread over it: every value is found under its hash, and no other. */
static void hashes_against_brute_force(uint32_t mask, uint32_t items)
{
    struct hashes hashes = {0};
    uint32_t *hash_of = calloc(items, sizeof *hash_of);
    bool *there = calloc(items, sizeof *there);
    uint32_t seed = 7 + items;
    uint32_t count = 0;
    assert_non_null(hash_of);
    assert_non_null(there);
    for (uint32_t step = 0; step < 6 * items; step++) {
        bool filling = step / items % 2 == 0;
        uint32_t item = next(&seed) % items;
        if (there[item] && (!filling || step % 3 == 0)) {
            hashes_remove(&hashes, hash_of[item], item);
            there[item] = false;
            count--;
        } else if (!there[item] && (filling || step % 5 == 0)) {
            hash_of[item] = (next(&seed) << 16 ^ next(&seed)) & mask;
            hashes_add(&hashes, hash_of[item], item);
            there[item] = true;
            count++;
        }
        if (step % (items / 8 + 1) != 0)
            continue;
        uint32_t found = 0;
        assert_true(hashes_ordered(&hashes, &found));
        assert_int_equal(found, count);
        for (uint32_t i = 0; i < items; i++) {
            struct hashes_walk walk = hashes_begin(&hashes, hash_of[i]);
            bool seen = false;
            for (uint32_t value; hashes_next(&walk, &value);) {
                assert_true(there[value]);
                assert_int_equal(hash_of[value], hash_of[i]);
                seen |= value == i;
            }
            assert_int_equal(seen, there[i]);
        }
    }
    hashes_free(&hashes);
    assert_null(hashes.parts);
    free(hash_of);
    free(there);
}

static void test_hashes(void **state)
{
    (void)state;
    hashes_against_brute_force(UINT32_MAX, 3);
    hashes_against_brute_force(UINT32_MAX, 15000);
    hashes_against_brute_force(UINT32_MAX, 150000); /* in plots */
    hashes_against_brute_force(0xffu, 300);         /* the first ones of the range */
    hashes_against_brute_force(0xfff00000u, 5000);  /* each several times */
    hashes_against_brute_force(0x0000ffffu, 5000);  /* deep */
}

/* The table stays between 68 and 85 % full, whatever the number of values. */
static void test_hashes_are_dense(void **state)
{
    (void)state;
    struct hashes hashes = {0};
    uint32_t seed = 1;
    for (uint32_t i = 1; i <= 300000; i++) {
        hashes_add(&hashes, next(&seed) << 16 ^ next(&seed), i);
        if (i >= 20000 && i % 10000 == 0)
            assert_in_range(hashes_bytes(&hashes), 0, i * 13);
        if (i == 20000)
            assert_int_equal(plots_bytes(), 0); /* a table that is not large takes no huge page */
    }
    assert_in_range(plots_bytes(), hashes_bytes(&hashes) / 2, 2 * hashes_bytes(&hashes));
    hashes_free(&hashes);
    assert_int_equal(plots_bytes(), 0);
}

/* Ids in all the forms that entries have, and those that only look like one: nothing is lost. */
static void test_dedup_forms(void **state)
{
    (void)state;
    static const struct {
        const char *id;
        uint32_t bytes; /* of an entry without scope, with a seq and a time like the base's */
    } rows[] = {
        {"00112233-4455-6677-8899-aabbccddeeff", 36}, /* a UUID */
        {"00112233-4455-6677-8899-AABBCCDDEEFF", 56},
        {"001122334455-6677-8899-aabb-ccddeeff", 56},
        {"00112233-4455-6677-8899-aabbccddeef", 56},
        {"-0112233-4455-6677-8899-aabbccddeeff", 56},
        {"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 52},
        {"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85", 84},
        {"12", 22},
        {"1", 22},
        {"", 20},
        {"order-17", 28},
        {"12g4", 24},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        for (size_t group = 0; group <= 128; group += 16) {
            uint8_t entry[DEDUP_ENTRY_BYTES_MAX];
            uint8_t key[DEDUP_KEY_BYTES_MAX] = {0};
            uint8_t got_key[DEDUP_KEY_BYTES_MAX];
            struct dedup_base base = {1000, 5000};
            struct dedup what = {.seq = 1000, .sent_ms = 5001, .message_id = "0123456789abcde"};
            struct dedup got;
            key[0] = (uint8_t)(group > 0 ? 1 + group : 0);
            memset(key + 1, 'a', group);
            memcpy(key + 1 + group, rows[i].id, strlen(rows[i].id));
            what.key = slice_make(key, 1 + group + strlen(rows[i].id));
            uint32_t bytes = dedup_entry_write(entry, &base, &what);
            if (group == 0)
                assert_int_equal(bytes, rows[i].bytes);
            assert_int_equal(dedup_entry_bytes(entry), bytes);
            assert_int_equal(dedup_entry_read(entry, &base, &got, got_key), bytes);
            assert_true(slice_equal(got.key, what.key));
            assert_int_equal(got.seq, what.seq);
            assert_int_equal(got.sent_ms, what.sent_ms);
            assert_int_equal(dedup_entry_sent_ms(entry, &base), what.sent_ms);
            assert_memory_equal(got.message_id, what.message_id, UUID_BYTES);
            assert_false(dedup_entry_is_gap(entry));
            dedup_entry_empty(entry);
            assert_true(dedup_entry_is_gap(entry));
            assert_int_equal(dedup_entry_bytes(entry), bytes);
        }
    }
}

/* A character of any kind at any place of what else would be digits or a UUID. */
static void test_dedup_characters(void **state)
{
    (void)state;
    static const char *ids[] = {"00112233-4455-6677-8899-aabbccddeeff", "0123456789abcdef0f"};
    for (size_t i = 0; i < ARRAY_COUNT(ids); i++) {
        for (size_t at = 0; at < strlen(ids[i]); at++) {
            for (unsigned c = 0; c < 256; c++) {
                uint8_t entry[DEDUP_ENTRY_BYTES_MAX];
                uint8_t key[DEDUP_KEY_BYTES_MAX] = {0};
                uint8_t got_key[DEDUP_KEY_BYTES_MAX];
                struct dedup_base base = {1, 1};
                struct dedup what = {.seq = 1, .sent_ms = 1};
                struct dedup got;
                memcpy(key + 1, ids[i], strlen(ids[i]));
                key[1 + at] = (uint8_t)c;
                what.key = slice_make(key, 1 + strlen(ids[i]));
                bool digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
                bool packs = ids[i][at] == '-' ? c == '-' : digit;
                uint32_t bytes = dedup_entry_write(entry, &base, &what);
                assert_int_equal(bytes < 20 + strlen(ids[i]), packs);
                (void)dedup_entry_read(entry, &base, &got, got_key);
                assert_true(slice_equal(got.key, what.key));
            }
        }
    }
}

/* Numbers of any size, also below the base's: damaged snapshots may have them in any order. */
static void test_dedup_numbers(void **state)
{
    (void)state;
    static const uint64_t numbers[] = {0,     1,      127,        128,       16383,
                                       16384, 300000, UINT32_MAX, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(numbers); i++) {
        for (size_t j = 0; j < ARRAY_COUNT(numbers); j++) {
            uint8_t entry[DEDUP_ENTRY_BYTES_MAX];
            uint8_t bytes[DEDUP_KEY_BYTES_MAX] = {0};
            struct dedup_base base = {numbers[j], numbers[i]};
            struct dedup what = {
                .seq = numbers[i], .sent_ms = numbers[j], .key = slice_make(bytes, sizeof bytes)};
            struct dedup got;
            uint32_t length = dedup_entry_write(entry, &base, &what);
            assert_true(length <= sizeof entry);
            assert_int_equal(dedup_entry_bytes(entry), length);
            assert_int_equal(dedup_entry_read(entry, &base, &got, bytes), length);
            assert_int_equal(got.seq, what.seq);
            assert_int_equal(got.sent_ms, what.sent_ms);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heap_against_brute_force),
        cmocka_unit_test(test_heap_ties),
        cmocka_unit_test(test_map_against_brute_force),
        cmocka_unit_test(test_map_of_many),
        cmocka_unit_test(test_lanes),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_hashes),
        cmocka_unit_test(test_hashes_are_dense),
        cmocka_unit_test(test_dedup_forms),
        cmocka_unit_test(test_dedup_characters),
        cmocka_unit_test(test_dedup_numbers),
        cmocka_unit_test(test_dedups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
