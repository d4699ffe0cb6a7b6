/* SPDX-License-Identifier: Apache-2.0 */
/* Reading ahead changes nothing: random entries, read with foresight and without, give the same
 * commands, results and state, whatever stands between them; and the hashes that come with a SEND
 * are those that would have been made without. */
#include "tests/unit/core/fixture.h"

#include "broker/core/dedup.h"
#include "broker/core/foresee.h"
#include "broker/core/group.h"
#include "broker/core/record.h"

#include <inttypes.h>
#include <stdio.h>

#define QUEUES      4u
#define LEASES      64u
#define COMMANDS    33u /* of an entry, at most, and one more */
#define ENTRIES     200
#define CHECK_EVERY 20

/* ---- random entries ---- */

struct given {
    uint64_t queue_id;
    struct core_lease lease;
};

struct world {
    uint32_t seed;
    struct core *plain; /* applies what is decoded */
    struct core *ahead; /* applies what was foreseen */
    uint64_t index;
    uint64_t now_ms;
    struct given leases[LEASES]; /* the last ones that were given */
    unsigned given;
    unsigned hashed; /* SENDs that came with hashes, */
    unsigned stale;  /* and those of them that were made with another setting or key */
};

static uint32_t below(struct world *w, uint32_t bound)
{
    w->seed = w->seed * 1664525u + 1013904223u;
    return (w->seed >> 8) % bound;
}

static bool chance(struct world *w, uint32_t percent)
{
    return below(w, 100) < percent;
}

static struct slice name_of(uint32_t n)
{
    static const char *const names[QUEUES + 1] = {"q0.fifo", "q1.fifo", "q2.fifo", "q3", "q4"};
    return slice_of(names[n]);
}

/* The last one is no FIFO queue, and there is one more name that none has. */
static uint64_t queue_id(struct world *w)
{
    struct queue_view queue;
    bool there = core_queue_by_name(w->plain, name_of(below(w, QUEUES + 1)), &queue);
    return there ? queue.queue_id : below(w, 50);
}

static struct queue_settings settings(struct world *w, bool fifo)
{
    return (struct queue_settings){.message_bytes_max = 1024,
                                   .retention_s = 60 + below(w, 600),
                                   .visibility_s = below(w, 20),
                                   .fifo = fifo,
                                   .dedup_per_group = chance(w, 50)};
}

static void make_create(struct world *w, struct command *command)
{
    uint32_t n = below(w, QUEUES);
    command->type = COMMAND_QUEUE_CREATE;
    command->queue_create.name = name_of(n);
    command->queue_create.settings = settings(w, n < QUEUES - 1);
    command->queue_create.tags = SLICE_LITERAL("{}");
}

static void make_update(struct world *w, struct command *command)
{
    struct queue_view queue = {0};
    uint64_t id = queue_id(w);
    bool there = core_queue_by_id(w->plain, id, &queue);
    command->type = COMMAND_QUEUE_UPDATE;
    command->queue_update.queue_id = id;
    command->queue_update.version = queue.version;
    command->queue_update.settings = settings(w, there && queue.settings.fifo);
}

/* Of few groups and ids, so that they meet; some are none, and some records are none. */
static void make_send(struct world *w, struct command *command, struct buffer *record)
{
    static const char *const groups[] = {"", "a", "b", "a group with quite a long name"};
    static const char *const ids[] = {"", "1", "2", "3", "an id that is quite long as well"};
    struct record r = {.body = SLICE_LITERAL("body"),
                       .group_id = slice_of(groups[below(w, ARRAY_COUNT(groups))]),
                       .dedup_id = slice_of(ids[below(w, ARRAY_COUNT(ids))])};
    buffer_clear(record);
    for (uint32_t i = 0; i < UUID_BYTES; i++)
        r.message_id[i] = (uint8_t)below(w, 256);
    if (chance(w, 95))
        record_encode(record, &r);
    else
        buffer_add_text(record, "no record");
    command->type = COMMAND_SEND;
    command->send = (struct command_send){queue_id(w), CORE_DEFAULT, buffer_slice(record)};
}

static struct given lease(struct world *w)
{
    if (w->given > 0 && chance(w, 80))
        return w->leases[below(w, w->given < LEASES ? w->given : LEASES)];
    return (struct given){queue_id(w), {below(w, 300), 1}};
}

static void make(struct world *w, struct command *command, struct buffer *record)
{
    uint32_t kind = below(w, 100);
    struct given given = lease(w);
    *command = (struct command){.type = COMMAND_TICK};
    if (kind < 50) {
        make_send(w, command, record);
    } else if (kind < 65) {
        command->type = COMMAND_RECEIVE;
        command->receive =
            (struct command_receive){queue_id(w), 1 + below(w, 4), CORE_DEFAULT, 0, {0}};
    } else if (kind < 77) {
        command->type = COMMAND_DELETE;
        command->delete = (struct command_delete){given.queue_id, given.lease, chance(w, 50)};
    } else if (kind < 82) {
        command->type = COMMAND_CHANGE_VISIBILITY;
        command->change_visibility =
            (struct command_change_visibility){given.queue_id, given.lease, below(w, 10)};
    } else if (kind < 88) {
        make_update(w, command);
    } else if (kind < 94) {
        make_create(w, command);
    } else if (kind < 96) {
        command->type = COMMAND_QUEUE_DELETE;
        command->queue_delete.queue_id = queue_id(w);
    } else if (kind < 97) {
        command->type = COMMAND_QUEUE_PURGE;
        command->queue_purge.queue_id = queue_id(w);
    } else if (kind < 98) { /* a key for the hashes, in the middle of it all; once */
        command->type = COMMAND_BOOTSTRAP;
        memset(command->bootstrap.secret, 0x5a, sizeof command->bootstrap.secret);
    }
}

/* An entry of 0 to COMMANDS - 1 commands; how many. */
static uint32_t make_entry(struct world *w, struct buffer *out)
{
    uint32_t count = below(w, COMMANDS);
    struct buffer record = {0};
    w->now_ms += below(w, 3000);
    buffer_clear(out);
    entry_begin(out);
    for (uint32_t i = 0; i < count; i++) {
        struct command command;
        make(w, &command, &record);
        command_encode(out, &command);
    }
    entry_finish(out, count, w->now_ms);
    buffer_free(&record);
    return count;
}

/* ---- comparing ---- */

static void same_command(const struct command *a, const struct command *b)
{
    struct buffer as = {0};
    struct buffer bs = {0};
    assert_int_equal(a->type, b->type);
    command_encode(&as, a);
    command_encode(&bs, b);
    assert_true(slice_equal(buffer_slice(&as), buffer_slice(&bs)));
    buffer_free(&as);
    buffer_free(&bs);
}

/* key_of: what a core hashes with, zeros before it was given a secret (core_hash_key). */
static struct siphash_key key_of(const struct core *core)
{
    uint8_t cluster_id[UUID_BYTES];
    uint8_t secret[32] = {0};
    (void)core_bootstrapped(core, cluster_id, secret);
    return (struct siphash_key){{bytes_get_u64(secret), bytes_get_u64(secret + 8)}};
}

static void right_hashes(struct world *w, const struct command *command)
{
    const struct send_hashes *hashes = command->hashes;
    struct record_ids ids;
    struct queue_view queue;
    if (hashes == NULL)
        return;
    assert_int_equal(command->type, COMMAND_SEND);
    assert_true(record_read_ids(command->send.record, &ids) && ids.group_id.length > 0);
    assert_int_equal(hashes->dedup, dedup_hash(hashes->key, hashes->dedup_per_group, &ids));
    assert_int_equal(hashes->group, group_hash(hashes->key, ids.group_id));
    w->hashed++;
    bool there = core_queue_by_id(w->ahead, command->send.queue_id, &queue);
    w->stale += !there || queue.settings.dedup_per_group != hashes->dedup_per_group ||
                !siphash_key_equal(hashes->key, key_of(w->ahead));
}

static void same_result(const struct core_result *a, const struct core_result *b)
{
    assert_int_equal(a->code, b->code);
    assert_int_equal(a->queue_id, b->queue_id);
    assert_int_equal(a->seq, b->seq);
    assert_int_equal(a->duplicate, b->duplicate);
    assert_int_equal(a->message_count, b->message_count);
    for (uint32_t i = 0; i < a->message_count; i++) {
        assert_int_equal(a->messages[i].seq, b->messages[i].seq);
        assert_int_equal(a->messages[i].receive_count, b->messages[i].receive_count);
    }
}

static void keep_leases(struct world *w, const struct command *command,
                        const struct core_result *result)
{
    for (uint32_t i = 0; i < result->message_count; i++) {
        const struct core_message *message = &result->messages[i];
        w->leases[w->given++ % LEASES] =
            (struct given){command->receive.queue_id, {message->seq, message->receive_count}};
    }
}

/* One entry on both cores. Now and then what was foreseen is forgotten in the middle. */
static void apply_both(struct world *w, struct foresight *foresight, struct slice entry)
{
    struct cursor in;
    struct cursor ahead;
    uint32_t count;
    uint64_t now_ms;
    assert_int_equal(entry_open(entry, &in, &count, &now_ms), STATUS_OK);
    ahead = in;
    core_begin(w->plain, ++w->index, now_ms);
    core_begin(w->ahead, w->index, now_ms);
    foresight_begin(foresight);
    for (uint32_t i = 0; i < count; i++) {
        struct command command;
        struct core_result result;
        struct core_result other;
        if (chance(w, 5))
            foresight_begin(foresight);
        const struct command *foreseen = foresight_next(foresight, w->ahead, &ahead);
        assert_int_equal(command_decode(&in, &command), STATUS_OK);
        assert_non_null(foreseen);
        assert_ptr_equal(ahead.at, in.at);
        assert_null(command.hashes);
        same_command(&command, foreseen);
        right_hashes(w, foreseen);
        core_apply(w->plain, &command, entry, &result);
        core_apply(w->ahead, foreseen, entry, &other);
        same_result(&result, &other);
        keep_leases(w, &command, &result);
    }
    assert_null(foresight_next(foresight, w->ahead, &ahead));
    assert_int_equal(core_digest(w->plain), core_digest(w->ahead));
}

static void world_init(struct world *w, uint32_t seed)
{
    static const struct core_events none;
    *w = (struct world){.seed = seed, .now_ms = 1000000};
    w->plain = core_new(&none);
    w->ahead = core_new(&none);
}

static void world_deinit(struct world *w)
{
    core_free(w->plain);
    core_free(w->ahead);
}

/* Each entry stands where the one before it stood. */
static void test_as_without_it(void **state)
{
    (void)state;
    unsigned hashed = 0;
    unsigned stale = 0;
    for (uint32_t seed = 1; seed <= 8; seed++) {
        struct world w;
        struct foresight foresight = {0};
        struct buffer entry = {0};
        world_init(&w, seed);
        print_message("seed %u\n", seed);
        for (int i = 0; i < ENTRIES; i++) {
            make_entry(&w, &entry);
            apply_both(&w, &foresight, buffer_slice(&entry));
            if (i % CHECK_EVERY == 0)
                core_check(w.ahead);
        }
        hashed += w.hashed;
        stale += w.stale;
        buffer_free(&entry);
        world_deinit(&w);
    }
    assert_true(hashed > 2000);
    assert_true(stale > 50);
}

/* ---- what does not decode ---- */

/* read_both: until the first command that does not decode, on which foresight stays. */
static uint32_t read_both(struct world *w, struct slice commands)
{
    struct foresight foresight;
    struct cursor in = cursor_of(commands);
    struct cursor ahead = in;
    struct command command;
    uint32_t count = 0;
    foresight_begin(&foresight);
    for (;; count++) {
        const uint8_t *at = ahead.at;
        bool good = cursor_left(&in) > 0 && command_decode(&in, &command) == STATUS_OK;
        const struct command *foreseen = foresight_next(&foresight, w->ahead, &ahead);
        assert_int_equal(good, foreseen != NULL);
        if (foreseen == NULL) {
            assert_ptr_equal(ahead.at, at);
            assert_null(foresight_next(&foresight, w->ahead, &ahead));
            return count;
        }
        assert_ptr_equal(ahead.at, in.at);
        same_command(&command, foreseen);
        right_hashes(w, foreseen);
    }
}

/* In memory of just that length, for the address sanitizer. */
static uint32_t read_copy(struct world *w, struct slice commands, size_t flipped)
{
    uint8_t *copy = malloc(commands.length > 0 ? commands.length : 1);
    assert_non_null(copy);
    memcpy(copy, commands.data, commands.length);
    if (flipped < commands.length)
        copy[flipped] ^= (uint8_t)(1u << below(w, 8));
    uint32_t count = read_both(w, slice_make(copy, commands.length));
    free(copy);
    return count;
}

/* Cut short at each byte, and with one bit of each byte turned over. */
static void test_what_does_not_decode(void **state)
{
    (void)state;
    struct world w;
    struct foresight foresight = {0};
    struct buffer entry = {0};
    world_init(&w, 77);
    for (int i = 0; i < 60; i++) {
        make_entry(&w, &entry);
        apply_both(&w, &foresight, buffer_slice(&entry));
    }
    for (int i = 0; i < 10; i++) {
        uint32_t count = make_entry(&w, &entry);
        struct slice commands = slice_sub(buffer_slice(&entry), ENTRY_HEADER_BYTES);
        assert_int_equal(read_copy(&w, commands, SIZE_MAX), count);
        for (size_t n = 0; n < commands.length; n++) {
            uint32_t cut = read_copy(&w, slice_make(commands.data, n), SIZE_MAX);
            assert_true(cut < count);
            assert_true(read_copy(&w, commands, n) <= count);
        }
    }
    buffer_free(&entry);
    world_deinit(&w);
}

/* ---- a setting that changes under what is foreseen ---- */

static void add_send(struct buffer *entry, uint64_t queue_id, const char *group, const char *id)
{
    struct buffer bytes = {0};
    struct record record = {.group_id = slice_of(group), .dedup_id = slice_of(id)};
    struct command command = {.type = COMMAND_SEND};
    record_encode(&bytes, &record);
    command.send = (struct command_send){queue_id, CORE_DEFAULT, buffer_slice(&bytes)};
    command_encode(entry, &command);
    buffer_free(&bytes);
}

/* The last two commands are foreseen while ids are of the queue, and applied when they are of
 * groups: the same id in the same group, so that the second must be found to be a duplicate. Those
 * in front are there because the first of an entry are not foreseen. */
static void test_a_setting_changes_in_between(void **state)
{
    struct fixture *f = *state;
    struct queue_settings s = settings_default();
    struct foresight foresight;
    struct cursor in;
    uint32_t count;
    uint64_t now_ms;
    s.fifo = true;
    uint64_t queue_id = create(f, "q.fifo", s).queue_id;
    struct command update = {.type = COMMAND_QUEUE_UPDATE};
    s.dedup_per_group = true;
    update.queue_update = (struct command_queue_update){queue_id, view(f, queue_id).version, s};
    buffer_clear(&f->entry);
    entry_begin(&f->entry);
    for (uint32_t i = 0; i < FORESIGHT_DEPTH; i++)
        add_send(&f->entry, queue_id, "a", (char[]){(char)('a' + i), '\0'});
    command_encode(&f->entry, &update);
    add_send(&f->entry, queue_id, "b", "2");
    add_send(&f->entry, queue_id, "b", "2");
    entry_finish(&f->entry, FORESIGHT_DEPTH + 3, f->now_ms);
    struct slice entry = buffer_slice(&f->entry);
    assert_int_equal(entry_open(entry, &in, &count, &now_ms), STATUS_OK);
    core_begin(f->core, ++f->index, now_ms);
    foresight_begin(&foresight);
    for (uint32_t i = 0; i < count; i++) {
        struct core_result result;
        const struct command *command = foresight_next(&foresight, f->core, &in);
        assert_true(i <= FORESIGHT_DEPTH ||
                    (command->hashes != NULL && !command->hashes->dedup_per_group));
        core_apply(f->core, command, entry, &result);
        assert_int_equal(result.code, CORE_OK);
        assert_int_equal(result.duplicate, i == FORESIGHT_DEPTH + 2);
    }
    core_check(f->core);
    /* Nor is it forgotten afterwards. */
    buffer_clear(&f->entry);
    entry_begin(&f->entry);
    add_send(&f->entry, queue_id, "b", "2");
    entry_finish(&f->entry, 1, f->now_ms);
    assert_int_equal(core_apply_entry(f->core, ++f->index, buffer_slice(&f->entry)), STATUS_OK);
    assert_int_equal(view(f, queue_id).visible, FORESIGHT_DEPTH + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_without_it),
        cmocka_unit_test(test_what_does_not_decode),
        FIXTURE_TEST(test_a_setting_changes_in_between),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
