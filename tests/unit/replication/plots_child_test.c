/* SPDX-License-Identifier: Apache-2.0 */
/* The child that writes a snapshot has none of the large tables of the core (proto/base/plots.h):
 * what it writes must not need them. Here all of them are so large that they are in plots: the map
 * of messages, the table of deduplication ids, and that of the groups of a FIFO queue. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/core/core.h"
#include "broker/core/record.h"
#include "broker/core/state.h"
#include "proto/base/assert.h"
#include "proto/base/plots.h"
#include "tests/unit/log/bench.h"

#include <sys/mman.h>

#define PER_ENTRY 5000u
#define ENTRIES   26u /* 130,000 messages: the last parts of the map get into plots at 100,000 */
#define START_MS  1000000u

/* A core with one queue. What is in the log's entries is not looked at: snapshots are. */
struct rig {
    struct bench *bench;
    struct core *core;
    uint64_t index;
    struct buffer entry;
    const struct queue *queue;
    struct buffer scratch; /* of the child */
    bool done;
    enum status status;
};

/* What the child has come to; in memory that both share. */
enum stage { BEFORE, LOOKS, AFTER };
struct look {
    struct rig *rig;
    void (*into)(const struct rig *rig);
    _Atomic int *stage;
};

static void apply_entry(struct rig *rig, uint32_t count)
{
    entry_finish(&rig->entry, count, START_MS + rig->index);
    assert_int_equal(core_apply_entry(rig->core, ++rig->index, buffer_slice(&rig->entry)),
                     STATUS_OK);
    struct log_entry logged = {rig->index, 1, 1, SLICE_LITERAL("an entry")};
    assert_int_equal(log_append_now(rig->bench->log, &logged, 1), STATUS_OK);
    buffer_clear(&rig->entry);
    entry_begin(&rig->entry);
}

static struct command send_of(uint32_t number, struct buffer *bytes)
{
    char id[16];
    snprintf(id, sizeof id, "id-%u", number);
    struct record record = {.no_md5 = true,
                            .body = SLICE_LITERAL("text"),
                            .group_id = slice_of(id),
                            .dedup_id = slice_of(id)};
    buffer_clear(bytes);
    record_encode(bytes, &record);
    struct command command = {.type = COMMAND_SEND};
    command.send = (struct command_send){1, CORE_DEFAULT, buffer_slice(bytes)};
    return command;
}

static void make_queue(struct rig *rig)
{
    struct command whose = {.type = COMMAND_BOOTSTRAP, .bootstrap = {{1}, {2}}};
    struct command queue = {.type = COMMAND_QUEUE_CREATE};
    queue.queue_create.name = SLICE_LITERAL("orders.fifo");
    queue.queue_create.settings = (struct queue_settings){
        .message_bytes_max = 262144, .retention_s = 3600, .visibility_s = 30, .fifo = true};
    queue.queue_create.tags = SLICE_LITERAL("{}");
    entry_begin(&rig->entry);
    command_encode(&rig->entry, &whose);
    command_encode(&rig->entry, &queue);
    apply_entry(rig, 2);
    rig->queue = rig->core->queue_names.entries[0].object;
    assert_int_equal(rig->queue->view.queue_id, 1);
}

/* Each message with a group and a deduplication id of its own. */
static void send_many(struct rig *rig)
{
    struct buffer bytes = {0};
    for (uint32_t i = 0; i < ENTRIES * PER_ENTRY; i++) {
        struct command command = send_of(i, &bytes);
        command_encode(&rig->entry, &command);
        if (i % PER_ENTRY == PER_ENTRY - 1)
            apply_entry(rig, PER_ENTRY);
    }
    buffer_free(&bytes);
    assert_int_equal(rig->queue->view.visible, ENTRIES * PER_ENTRY);
    assert_int_equal(rig->queue->dedups.count, ENTRIES * PER_ENTRY);
    assert_int_equal(rig->queue->groups.count, ENTRIES * PER_ENTRY);
}

static void on_put(struct log_snapshot_put *put, enum status status)
{
    struct rig *rig = put->data;
    rig->done = true;
    rig->status = status;
}

/* put: as broker/replication/snapshot.c has it done. */
static enum status put(struct rig *rig, void (*make)(void *, struct snapshot_sink *), void *data)
{
    struct log_snapshot_put put = {.make = make, .make_data = data, .done = on_put, .data = rig};
    put.snapshot.index = rig->index;
    put.snapshot.term = put.snapshot.config_index = 1;
    buffer_add_text(&put.snapshot.config, "members");
    buffer_reserve(&rig->scratch, 1u << 20);
    rig->done = false;
    log_snapshot_put(rig->bench->log, &put);
    while (!rig->done)
        uv_run(&rig->bench->loop, UV_RUN_ONCE);
    buffer_free(&put.snapshot.config);
    return rig->status;
}

static void take_piece(void *data, struct buffer *piece)
{
    snapshot_add(data, buffer_slice(piece));
    buffer_clear(piece);
}

static void make_state(void *data, struct snapshot_sink *sink)
{
    struct rig *rig = data;
    core_snapshot_stream(rig->core, &rig->scratch, take_piece, sink);
}

static void what_the_child_writes_is_the_whole_state(void **state)
{
    struct rig *rig = *state;
    struct log_snapshot snapshot;
    const char *error = NULL;
    assert_int_equal(put(rig, make_state, rig), STATUS_OK);
    if (log_snapshot_load(rig->bench->log, &snapshot, &error) != STATUS_OK)
        fail_msg("%s", error);
    assert_int_equal(snapshot.index, rig->index);
    struct core *copy = core_new(NULL);
    assert_int_equal(core_restore(copy, buffer_slice(&snapshot.data)), STATUS_OK);
    assert_int_equal(core_digest(copy), core_digest(rig->core));
    core_free(copy);
    log_snapshot_free(&snapshot);
}

/* ---- the tables are where the test thinks that they are ---- */

static void look_for_messages(const struct rig *rig)
{
    struct body_ref ref;
    for (uint64_t seq = 1; seq <= ENTRIES * PER_ENTRY; seq++)
        (void)core_message_body(rig->core, 1, (struct core_lease){seq, 1}, &ref);
}

static void walk_through(const struct hashes *hashes)
{
    uint32_t value;
    for (uint64_t hash = 0; hash <= UINT32_MAX; hash += 1u << 16) {
        struct hashes_walk walk = hashes_begin(hashes, (uint32_t)hash);
        (void)hashes_next(&walk, &value);
    }
}

static void look_for_ids(const struct rig *rig)
{
    walk_through(&rig->queue->dedups.places);
}

static void look_for_groups(const struct rig *rig)
{
    walk_through(&rig->queue->groups.by_id);
}

static void make_look(void *data, struct snapshot_sink *sink)
{
    struct look *look = data;
    *look->stage = LOOKS;
    look->into(look->rig);
    *look->stage = AFTER;
    make_state(look->rig, sink);
}

static void a_child_that_looks_into_a_table_dies(void **state)
{
    struct rig *rig = *state;
    void (*const looks[])(const struct rig *) = {look_for_messages, look_for_ids, look_for_groups};
    struct look look = {.rig = rig};
    look.stage =
        mmap(NULL, sizeof *look.stage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(look.stage != MAP_FAILED);
    for (size_t i = 0; i < ARRAY_COUNT(looks); i++) {
        look.into = looks[i];
        look.into(rig); /* here it does no harm */
        *look.stage = BEFORE;
        assert_int_equal(put(rig, make_look, &look), STATUS_IO_ERROR);
        assert_int_equal(*look.stage, LOOKS);
    }
    munmap(look.stage, sizeof *look.stage);
}

static int rig_setup(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);
    void *bench = NULL;
    ASSERT(rig != NULL);
    if (bench_setup(&bench) != 0)
        return -1;
    rig->bench = bench;
    rig->bench->quick = true; /* no sync counts here */
    bench_open(rig->bench);
    rig->core = core_new(NULL);
    make_queue(rig);
    send_many(rig);
    *state = rig;
    return 0;
}

static int rig_teardown(void **state)
{
    struct rig *rig = *state;
    void *bench = rig->bench;
    core_free(rig->core);
    assert_int_equal(plots_bytes(), 0);
    buffer_free(&rig->entry);
    buffer_free(&rig->scratch);
    bench_close(rig->bench);
    free(rig);
    return bench_teardown(&bench);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_child_writes_is_the_whole_state),
        cmocka_unit_test(a_child_that_looks_into_a_table_dies),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
