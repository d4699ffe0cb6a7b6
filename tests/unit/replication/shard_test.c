/* SPDX-License-Identifier: Apache-2.0 */
/* A shard: what it answers, what it keeps, what it refuses, its snapshots. */
#include "broker/log/log.h"
#include "proto/base/clock.h"
#include "tests/unit/replication/bench.h"

#include <signal.h>
#include <sys/stat.h>

static void sends_and_receives(void **state)
{
    struct bench *b = *state;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    send_text(b, queue_id, "one");
    send_text(b, queue_id, "two");
    assert_true(b->ready_queue_count > 0);
    struct answer got = receive_now(b, queue_id, 0, CORE_DEFAULT);
    assert_int_equal(got.result.message_count, 2);
    assert_body(b, got.messages[0].body, "one");
    assert_body(b, got.messages[1].body, "two");
    core_check(shard_core(b->shard));
    close_shard(b);
}

static void on_read(struct shard_read *read, enum status status)
{
    assert_int_equal(status, STATUS_OK);
    *(bool *)read->data = true;
}

static void keeps_everything_across_a_restart(void **state)
{
    struct bench *b = *state;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    for (int i = 0; i < 20; i++)
        send_text(b, queue_id, "something to keep");
    receive_now(b, queue_id, 0, CORE_DEFAULT);
    uint64_t digest = core_digest(shard_core(b->shard));
    uint64_t now_ms = core_now_ms(shard_core(b->shard));
    uint8_t before[2][32];
    uint8_t id[UUID_BYTES];
    assert_true(core_bootstrapped(shard_core(b->shard), id, before[0]));
    close_shard(b);

    load_shard(b);
    assert_int_equal(core_now_ms(shard_core(b->shard)), now_ms);
    assert_int_equal(core_digest(shard_core(b->shard)), digest);
    wait_leading(b);
    assert_true(core_bootstrapped(shard_core(b->shard), id, before[1]));
    assert_memory_equal(before[0], before[1], 32);
    core_check(shard_core(b->shard));

    struct answer got = receive_now(b, queue_id, 0, CORE_DEFAULT);
    assert_int_equal(got.result.message_count, 10);
    struct body_ref refs[10];
    for (int i = 0; i < 10; i++)
        refs[i] = got.messages[i].body;
    bool done = false;
    struct shard_read read = {.refs = refs, .count = 10, .done = on_read, .data = &done};
    shard_read(b->shard, &read);
    wait_for(b, &done);
    assert_int_equal(read.out.length, 10 * refs[0].length);
    buffer_free(&read.out);
    close_shard(b);
}

static void groups_calls_and_refuses_bad_ones(void **state)
{
    struct bench *b = *state;
    struct shard_call calls[50];
    struct answer answers[50];
    struct buffer record = {0};
    struct shard_stats before;
    struct shard_stats after;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    struct command command = send_of(queue_id, a_record(&record, "x"));
    shard_stats(b->shard, &before);
    for (int i = 0; i < 50; i++)
        start(b, &calls[i], &command, &answers[i]);
    for (int i = 0; i < 50; i++)
        wait_for(b, &answers[i].done);
    shard_stats(b->shard, &after);
    assert_int_equal(after.entries - before.entries, 1);
    assert_int_equal(after.commands - before.commands, 50);

    struct answer answer = {0};
    struct shard_call bad = {.done = on_called, .data = &answer, .count = 1};
    buffer_add_text(&bad.commands, "nonsense");
    shard_call(b->shard, &bad);
    assert_false(answer.done);
    wait_for(b, &answer.done);
    assert_int_equal(answer.status, STATUS_INVALID);
    assert_int_equal(answer.count, 0);
    buffer_free(&record);
    close_shard(b);
}

static void results_of_several_commands_stay_apart(void **state)
{
    struct bench *b = *state;
    struct buffer record = {0};
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    struct command send = send_of(queue_id, a_record(&record, "only"));
    struct command receive = {.type = COMMAND_RECEIVE};
    receive.receive = (struct command_receive){queue_id, 10, CORE_DEFAULT, 0, {0}};
    struct answer answer = {0};
    struct shard_call call = {.done = on_called, .data = &answer};
    shard_call_add(&call, &send);
    shard_call_add(&call, &receive);
    shard_call(b->shard, &call);
    wait_for(b, &answer.done);
    assert_int_equal(answer.count, 2);
    assert_int_equal(answer.result.message_count, 1);
    assert_body(b, answer.messages[0].body, "only");
    buffer_free(&record);
    close_shard(b);
}

static void closing_ends_what_is_under_way(void **state)
{
    struct bench *b = *state;
    struct shard_call call;
    struct answer called;
    struct shard_receive receive;
    struct answer received;
    struct buffer record = {0};
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    start_receive(b, &receive, &received, queue_id, 20000, CORE_DEFAULT);
    struct command command = send_of(queue_id, a_record(&record, "x"));
    start(b, &call, &command, &called);
    close_shard(b);
    assert_true(called.done);
    assert_int_equal(called.status, STATUS_CLOSED);
    assert_true(received.done);
    assert_int_equal(received.status, STATUS_CLOSED);
    buffer_free(&record);
}

static void refuses_another_nodes_folder(void **state)
{
    struct bench *b = *state;
    const char *error = NULL;
    open_shard(b);
    close_shard(b);
    b->options.node_id = 2;
    assert_int_equal(try_open(b, &error), STATUS_INVALID);
    assert_non_null(strstr(error, "belongs to node 1"));
}

static void refuses_sends_when_the_disk_is_low(void **state)
{
    struct bench *b = *state;
    struct buffer record = {0};
    b->options.disk_reserve_bytes = UINT64_MAX;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    struct command command = send_of(queue_id, a_record(&record, "x"));
    struct answer answer = call_one(b, &command);
    assert_int_equal(answer.status, STATUS_DISK_FULL);
    answer = receive_now(b, queue_id, 0, CORE_DEFAULT);
    assert_int_equal(answer.status, STATUS_OK);
    buffer_free(&record);
    close_shard(b);
}

static void delete_all(struct bench *b, uint64_t queue_id)
{
    for (;;) {
        struct answer got = receive_now(b, queue_id, 0, CORE_DEFAULT);
        if (got.result.message_count == 0)
            return;
        for (uint32_t i = 0; i < got.result.message_count; i++) {
            struct command command = {.type = COMMAND_DELETE};
            command.delete = (struct command_delete){
                queue_id, {got.messages[i].seq, got.messages[i].receive_count}, false};
            assert_int_equal(call_one(b, &command).result.code, CORE_OK);
        }
    }
}

/* A snapshot is made by a child, in its own time: messages are sent until it is there. */
#define SENDS_MAX 20000

/* Snapshots every 64 KiB of log: segments go when their messages have gone, bodies of those that
 * stay are found again behind gaps, and the state is the same after a restart. */
static void snapshots_and_frees_segments(void **state)
{
    struct bench *b = *state;
    struct shard_stats full;
    struct shard_stats after;
    char text[2048];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    b->options.snapshot_bytes = 64u << 10;
    b->options.unpacked = true; /* so that there is something to free */
    open_shard(b);
    uint64_t kept = make_queue(b, "kept");
    uint64_t passing = make_queue(b, "passing");
    send_text(b, kept, "an old one");
    full.snapshot_index = 0;
    for (int i = 0; i < 300 || (full.snapshot_index == 0 && i < SENDS_MAX); i++) {
        send_text(b, passing, text);
        shard_stats(b->shard, &full);
    }
    assert_true(full.snapshot_index > 0);
    assert_true(full.log_segments > 8);
    delete_all(b, passing);
    after = full;
    /* So that snapshots are taken after the deletes. */
    for (int i = 0; i < 300 || (after.log_segments >= full.log_segments && i < SENDS_MAX); i++) {
        send_text(b, passing, text);
        delete_all(b, passing);
        shard_stats(b->shard, &after);
    }
    assert_true(after.log_segments < full.log_segments);
    uint64_t digest = core_digest(shard_core(b->shard));
    close_shard(b);

    load_shard(b);
    assert_int_equal(core_digest(shard_core(b->shard)), digest);
    wait_leading(b);
    core_check(shard_core(b->shard));
    struct answer got = receive_now(b, kept, 0, CORE_DEFAULT);
    assert_int_equal(got.result.message_count, 1);
    assert_body(b, got.messages[0].body, "an old one");
    close_shard(b);
}

/* Of a small state, those that follow within ten seconds are spaced further. */
static void snapshots_are_spaced(void **state)
{
    struct bench *b = *state;
    struct shard_stats stats;
    char text[2048];
    int count = 0;
    memset(text, 's', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    b->options.snapshot_bytes = 16u << 10;
    b->options.snapshot_spaced_bytes = 128u << 10;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    uint64_t begun_ms = uv_now(&b->loop);
    uint64_t index = 0;
    size_t sent = 0;
    for (int i = 0; i < 200 || (count == 0 && i < SENDS_MAX); i++, sent += sizeof text) {
        send_text(b, queue_id, text);
        shard_stats(b->shard, &stats);
        count += stats.snapshot_index > index ? 1 : 0;
        index = stats.snapshot_index;
    }
    assert_in_range(count, 1, sent / (16u << 10) + 1);
    if (uv_now(&b->loop) - begun_ms < 10000)
        assert_true((size_t)count <= sent / (128u << 10) + 2);
    close_shard(b);
}

/* kill_snapshots: end every child that writes a snapshot, while messages are sent. */
static int kill_snapshots(struct bench *b, uint64_t queue_id, const char *text, int sends)
{
    int killed = 0;
    for (int i = 0; i < sends; i++) {
        struct shard_stats stats;
        send_text(b, queue_id, text);
        shard_stats(b->shard, &stats);
        if (stats.snapshot_pid > 0 && kill(stats.snapshot_pid, SIGKILL) == 0)
            killed++;
    }
    return killed;
}

/* Snapshots that are killed are taken again, and nothing is lost; what is restored from one that
 * was written under load, and the log behind it, is the same state. */
static void killed_snapshots_do_no_harm(void **state)
{
    struct bench *b = *state;
    struct shard_stats stats;
    struct shard_stats killed;
    char text[2048];
    memset(text, 'b', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    b->options.snapshot_bytes = 64u << 10;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    assert_true(kill_snapshots(b, queue_id, text, 600) > 1);
    shard_stats(b->shard, &killed);
    /* Now one may live. Its index tells it from one that ended before it could be killed. */
    int sends = 0;
    do {
        send_text(b, queue_id, text);
        shard_stats(b->shard, &stats);
    } while (stats.snapshot_index <= killed.last_index && ++sends < SENDS_MAX);
    assert_true(stats.snapshot_index > killed.last_index);
    receive_now(b, queue_id, 0, CORE_DEFAULT);
    uint64_t digest = core_digest(shard_core(b->shard));
    close_shard(b);
    load_shard(b);
    assert_int_equal(core_digest(shard_core(b->shard)), digest);
    wait_leading(b);
    core_check(shard_core(b->shard));
    shard_stats(b->shard, &stats);
    assert_true(stats.snapshot_index > 0);
    /* It is a snapshot and a log to go on with. */
    for (int i = 0; i < 300; i++)
        send_text(b, queue_id, text);
    digest = core_digest(shard_core(b->shard));
    close_shard(b);
    load_shard(b);
    assert_int_equal(core_digest(shard_core(b->shard)), digest);
    wait_leading(b);
    close_shard(b);
}

/* Large payloads do not stay in memory, except for the latest 8 MiB, and can be read all the same.
 */
static void applied_entries_leave_memory(void **state)
{
    struct bench *b = *state;
    struct shard_stats stats;
    const size_t length = 200000;
    char *text = malloc(length + 1);
    memset(text, 'c', length);
    text[length] = '\0';
    b->options.snapshot_bytes = UINT32_MAX; /* never */
    b->options.segment_bytes = 4u << 20;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "large");
    for (int i = 0; i < 100; i++)
        send_text(b, queue_id, text);
    shard_stats(b->shard, &stats);
    assert_true(stats.unstored_log_bytes > 100 * length);
    assert_true(stats.unstored_memory_bytes < (8u << 20) + 5 * length);
    assert_int_equal(stats.snapshots, 0);
    struct answer got = receive_now(b, queue_id, 0, CORE_DEFAULT);
    assert_int_equal(got.result.message_count, 10);
    assert_body(b, got.messages[9].body, text);
    close_shard(b);
    open_shard(b); /* all of it is replayed */
    assert_int_equal(receive_now(b, queue_id, 0, CORE_DEFAULT).result.message_count, 10);
    close_shard(b);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SHARD_TEST(sends_and_receives),
        SHARD_TEST(keeps_everything_across_a_restart),
        SHARD_TEST(groups_calls_and_refuses_bad_ones),
        SHARD_TEST(results_of_several_commands_stay_apart),
        SHARD_TEST(closing_ends_what_is_under_way),
        SHARD_TEST(refuses_another_nodes_folder),
        SHARD_TEST(refuses_sends_when_the_disk_is_low),
        SHARD_TEST(snapshots_and_frees_segments),
        SHARD_TEST(snapshots_are_spaced),
        SHARD_TEST(killed_snapshots_do_no_harm),
        SHARD_TEST(applied_entries_leave_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
