/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots and the digest: a restored core is the same core; damaged bytes are refused or
 * harmless. */
#include "tests/unit/core/fixture.h"

/* Something of everything, in every state. */
static void fill(struct fixture *f)
{
    struct queue_settings settings = settings_default();
    settings.receive_count_max = 3;
    settings.dead_letter = SLICE_LITERAL("dead");
    settings.extras = SLICE_LITERAL("{\"Policy\":1}");
    apply(f, &(struct command){.type = COMMAND_BOOTSTRAP, .bootstrap = {{1}, {2}}});
    uint64_t queue_id = create(f, "q", settings).queue_id;
    create_default(f, "dead");
    for (int i = 0; i < 6; i++)
        send(f, queue_id, 0);
    send(f, queue_id, 50);
    receive(f, queue_id, 3, 20);
    receive(f, queue_id, 1, 1);
    tick(f, 1000); /* 4 is visible again */
    assert_int_equal(delete_message(f, queue_id, (struct core_lease){2, 1}, true), CORE_OK);
    blob_put(f, 1, 4, 0, SLICE_LITERAL("code"));
    blob_put(f, 2, 4, 0, SLICE_LITERAL("co"));
    function_put(f, "f", 0, 1);
    mapping_put(f, 8, 0, "f");
    mapping_put(f, 7, 0, "f");
    document_put(f, "key/b", 0, "secret");
    document_put(f, "key/a", 0, "");
    apply(f, &(struct command){.type = COMMAND_USAGE_ADD, .usage_add = {9, {.invocations = 1}}});
    apply(f, &(struct command){.type = COMMAND_USAGE_ADD, .usage_add = {4, {.errors = 2}}});
}

static struct fixture restored(const struct fixture *f, struct fixture *owner)
{
    struct buffer bytes = {0};
    core_snapshot(f->core, &bytes);
    struct core_events events = fixture_events(owner);
    struct fixture copy = {.core = core_new(&events), .index = f->index, .now_ms = f->now_ms};
    assert_int_equal(core_restore(copy.core, buffer_slice(&bytes)), STATUS_OK);
    buffer_free(&bytes);
    core_check(copy.core);
    return copy;
}

static void test_restored_is_the_same(void **state)
{
    struct fixture *f = *state;
    struct fixture owner = {0};
    fill(f);
    struct fixture copy = restored(f, &owner);
    assert_int_equal(core_digest(copy.core), core_digest(f->core));
    assert_int_equal(owner.held, f->held);
    assert_int_equal(owner.held_bytes, f->held_bytes);
    assert_int_equal(owner.ready, 0);
    assert_int_equal(core_next_deadline_ms(copy.core), core_next_deadline_ms(f->core));
    assert_int_equal(core_applied_index(copy.core), f->index);
    struct queue_view out = view(&copy, 1);
    assert_int_equal(out.visible, 3);
    assert_int_equal(out.in_flight, 2);
    assert_int_equal(out.delayed, 1);
    assert_int_equal(out.sent_total, 7);
    core_free(copy.core);
}

/* Both go on in the same way: order, leases, deadlines, new ids and versions. */
static void test_restored_evolves_the_same(void **state)
{
    struct fixture *f = *state;
    struct fixture owner = {0};
    fill(f);
    struct fixture copy = restored(f, &owner);
    struct fixture *both[] = {f, &copy};
    for (int step = 0; step < 40; step++) {
        for (size_t i = 0; i < ARRAY_COUNT(both); i++) {
            receive(both[i], 1, 2, 3);
            send(both[i], 1, CORE_DEFAULT);
            tick(both[i], 2500);
        }
        assert_int_equal(core_digest(copy.core), core_digest(f->core));
    }
    struct core_result a = create(f, "new", settings_default());
    struct core_result b = create(&copy, "new", settings_default());
    assert_int_equal(a.queue_id, b.queue_id);
    assert_int_equal(a.version, b.version);
    buffer_free(&copy.entry);
    core_free(copy.core);
}

/* send_many: in one entry, since what `apply` does is checked after each command. */
static void send_many(struct fixture *f, uint64_t queue_id, uint32_t count)
{
    struct command command = {.type = COMMAND_SEND};
    command.send.queue_id = queue_id;
    command.send.record = SLICE_LITERAL("0123456789");
    buffer_clear(&f->entry);
    entry_begin(&f->entry);
    for (uint32_t i = 0; i < count; i++)
        command_encode(&f->entry, &command);
    entry_finish(&f->entry, count, f->now_ms);
    assert_int_equal(core_apply_entry(f->core, ++f->index, buffer_slice(&f->entry)), STATUS_OK);
}

struct gathered {
    struct buffer bytes;
    size_t pieces;
};

static void gather(void *data, struct buffer *piece)
{
    struct gathered *g = data;
    buffer_add_slice(&g->bytes, buffer_slice(piece));
    buffer_clear(piece);
    g->pieces++;
}

static void test_a_stream_has_the_same_bytes(void **state)
{
    struct fixture *f = *state;
    struct buffer whole = {0};
    struct gathered g = {0};
    fill(f);
    send_many(f, 1, 12000);
    core_snapshot(f->core, &whole);
    struct buffer scratch = {0};
    core_snapshot_stream(f->core, &scratch, gather, &g);
    buffer_free(&scratch);
    assert_true(g.pieces > 2);
    assert_int_equal(g.bytes.length, whole.length);
    assert_memory_equal(g.bytes.data, whole.data, whole.length);
    buffer_free(&g.bytes);
    buffer_free(&whole);
    struct fixture owner = {0};
    struct fixture copy = restored(f, &owner);
    assert_int_equal(core_digest(copy.core), core_digest(f->core));
    core_free(copy.core);
}

static void test_empty_core(void **state)
{
    struct fixture *f = *state;
    struct fixture owner = {0};
    struct fixture copy = restored(f, &owner);
    assert_int_equal(core_digest(copy.core), core_digest(f->core));
    core_free(copy.core);
}

static enum status restore(struct slice bytes)
{
    struct core *core = core_new(NULL);
    enum status status = core_restore(core, bytes);
    if (status == STATUS_OK)
        core_check(core);
    core_free(core);
    return status;
}

static void test_every_truncation_is_refused(void **state)
{
    struct fixture *f = *state;
    struct buffer bytes = {0};
    fill(f);
    core_snapshot(f->core, &bytes);
    for (size_t length = 0; length < bytes.length; length++)
        assert_int_equal(restore(slice_make(bytes.data, length)), STATUS_INVALID);
    buffer_add_byte(&bytes, 0);
    assert_int_equal(restore(buffer_slice(&bytes)), STATUS_INVALID);
    bytes.length--;
    bytes.data[0]++;
    assert_int_equal(restore(buffer_slice(&bytes)), STATUS_INVALID);
    buffer_free(&bytes);
}

#define PLACE_AT    (4 + 4 * 8 + 1 + 16 + 32) /* behind core_fields */
#define PLACE_BYTES 8

/* Version 3 had no place, no tallies and (at the end, a count) no passages; version 2 no documents
 * either: of an empty core the counts are the last, and the last but one, before that of queues. */
static void test_older_versions_are_read(void **state)
{
    struct fixture *f = *state;
    struct buffer bytes = {0};
    core_snapshot(f->core, &bytes);
    assert_int_equal(bytes.data[0], 4);
    bytes.data[0] = 3;
    assert_int_equal(restore(buffer_slice(&bytes)), STATUS_INVALID);
    memmove(bytes.data + PLACE_AT, bytes.data + PLACE_AT + PLACE_BYTES,
            bytes.length - PLACE_AT - PLACE_BYTES);
    bytes.length -= PLACE_BYTES + 8;
    assert_int_equal(restore(buffer_slice(&bytes)), STATUS_OK);
    bytes.data[0] = 2;
    assert_int_equal(restore(buffer_slice(&bytes)), STATUS_INVALID);
    bytes.length -= 4;
    assert_int_equal(restore(buffer_slice(&bytes)), STATUS_OK);
    bytes.data[0] = 1;
    assert_int_equal(restore(buffer_slice(&bytes)), STATUS_INVALID);
    buffer_free(&bytes);
}

/* Queues of a shard have its number in their ids, before and after a snapshot. */
static void test_place(void **state)
{
    struct fixture *f = *state;
    struct buffer bytes = {0};
    uint32_t shard;
    uint32_t queue_shards;
    apply(f, &(struct command){.type = COMMAND_PLACE, .place = {3, 4}});
    uint64_t queue_id = create_default(f, "q");
    assert_int_equal(queue_id, queue_id_make(3, 1));
    assert_int_equal(shard_of_queue_id(queue_id), 3);
    apply(f, &(struct command){.type = COMMAND_PLACE, .place = {1, 1}}); /* ignored */
    core_place(f->core, &shard, &queue_shards);
    assert_int_equal(shard, 3);
    assert_int_equal(queue_shards, 4);
    core_snapshot(f->core, &bytes);
    assert_int_equal(restore(buffer_slice(&bytes)), STATUS_OK);
    buffer_free(&bytes);
}

/* The names' shards are on disk by their effects: they must never change. */
static void test_shard_of_name(void **state)
{
    (void)state;
    assert_int_equal(shard_of_queue_name(SLICE_LITERAL("orders"), 0), 0);
    assert_int_equal(shard_of_queue_name(SLICE_LITERAL("/async/f"), 4), 0);
    assert_int_equal(shard_of_queue_name(SLICE_LITERAL("orders"), 4), 2);
    assert_int_equal(shard_of_queue_name(SLICE_LITERAL("orders.fifo"), 4), 3);
    assert_int_equal(shard_of_queue_name(SLICE_LITERAL("q1"), 4), 2);
}

/* Whatever a flipped bit makes of it, it is refused or it keeps the invariants. */
static void test_flipped_bits(void **state)
{
    struct fixture *f = *state;
    struct buffer bytes = {0};
    size_t refused = 0;
    fill(f);
    core_snapshot(f->core, &bytes);
    for (size_t bit = 0; bit < bytes.length * 8; bit++) {
        uint8_t mask = (uint8_t)(1u << bit % 8);
        bytes.data[bit / 8] ^= mask;
        refused += restore(buffer_slice(&bytes)) == STATUS_INVALID;
        bytes.data[bit / 8] ^= mask;
    }
    assert_true(refused > bytes.length * 2); /* a quarter at least; the rest is names and numbers */
    buffer_free(&bytes);
}

/* The digest sees a change of any kind. */
static void test_digest_sees_changes(void **state)
{
    struct fixture *f = *state;
    fill(f);
    uint64_t last = core_digest(f->core);
    struct command commands[] = {
        {.type = COMMAND_SEND, .send = {1, 0, SLICE_LITERAL("x")}},
        {.type = COMMAND_RECEIVE, .receive = {1, 1, 5, 0, {0}}},
        {.type = COMMAND_RECEIVE, .receive = {2, 1, 5, 0, {0}}}, /* an empty one counts too */
        {.type = COMMAND_DELETE, .delete = {1, {1, 1}, false}},
        {.type = COMMAND_CHANGE_VISIBILITY, .change_visibility = {1, {3, 1}, 9}},
        {.type = COMMAND_FUNCTION_USAGE, .function_usage = {SLICE_LITERAL("f"), {.errors = 1}}},
        {.type = COMMAND_USAGE_ADD, .usage_add = {9, {.throttles = 1}}},
        {.type = COMMAND_USAGE_DROP, .usage_drop = {4}},
        {.type = COMMAND_QUEUE_PURGE, .queue_purge = {1}},
        {.type = COMMAND_DOCUMENT_PUT, .document_put = {SLICE_LITERAL("d"), 0, {0}}},
        {.type = COMMAND_DOCUMENT_DELETE, .document_delete = {SLICE_LITERAL("d"), 0}},
    };
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
        tick(f, 0);
        uint64_t ticked = core_digest(f->core);
        assert_int_not_equal(ticked, last); /* the applied index is state */
        apply(f, &commands[i]);
        last = core_digest(f->core);
        assert_int_not_equal(last, ticked);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_restored_is_the_same),
        FIXTURE_TEST(test_restored_evolves_the_same),
        FIXTURE_TEST(test_a_stream_has_the_same_bytes),
        FIXTURE_TEST(test_empty_core),
        FIXTURE_TEST(test_every_truncation_is_refused),
        FIXTURE_TEST(test_older_versions_are_read),
        FIXTURE_TEST(test_place),
        cmocka_unit_test(test_shard_of_name),
        FIXTURE_TEST(test_flipped_bits),
        FIXTURE_TEST(test_digest_sees_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
