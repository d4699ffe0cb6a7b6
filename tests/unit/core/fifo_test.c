/* SPDX-License-Identifier: Apache-2.0 */
/* FIFO queues, fair queues, moves and bounded steps, each by its plainest case; core_sim has the
 * combinations. */
#include "tests/unit/core/fixture.h"

#include "broker/core/record.h"

#define MINUTE_MS 60000u

static uint64_t create_fifo(struct fixture *f, const char *name, bool per_group)
{
    struct queue_settings settings = settings_default();
    settings.fifo = true;
    settings.dedup_per_group = per_group;
    return create(f, name, settings).queue_id;
}

static struct core_result send_ids(struct fixture *f, uint64_t queue_id, const char *group,
                                   const char *dedup)
{
    struct record record = {.body = SLICE_LITERAL("body")};
    struct buffer bytes = {0};
    record.group_id = slice_of(group);
    record.dedup_id = slice_of(dedup);
    memset(record.message_id, (int)(f->index & 0xff), UUID_BYTES);
    record_encode(&bytes, &record);
    struct command command = {.type = COMMAND_SEND, .send = {queue_id, 0, buffer_slice(&bytes)}};
    struct core_result result = apply(f, &command);
    buffer_free(&bytes);
    return result;
}

static void test_group_is_blocked_in_flight(void **state)
{
    struct fixture *f = *state;
    uint64_t q = create_fifo(f, "q.fifo", false);
    send_ids(f, q, "a", "1");
    send_ids(f, q, "a", "2");
    send_ids(f, q, "b", "3");
    struct core_lease first = receive_one(f, q, 1);
    receive_one(f, q, 3);
    assert_int_equal(receive(f, q, 10, 30).message_count, 0);
    assert_int_equal(delete_message(f, q, first, false), CORE_OK);
    assert_int_equal(f->ready, 1); /* who waits must look again */
    receive_one(f, q, 2);
}

static void test_many_of_one_group_in_order(void **state)
{
    struct fixture *f = *state;
    uint64_t q = create_fifo(f, "q.fifo", false);
    send_ids(f, q, "a", "1");
    send_ids(f, q, "b", "2");
    send_ids(f, q, "a", "3");
    struct core_result result = receive(f, q, 10, 30);
    assert_int_equal(result.message_count, 3);
    static const uint64_t order[] = {1, 3, 2};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(result.messages[i].seq, order[i]);
    /* A partial delete keeps the rest blocked; its end gives the rest again, in order. */
    send_ids(f, q, "a", "4");
    assert_int_equal(delete_message(f, q, (struct core_lease){1, 1}, false), CORE_OK);
    assert_int_equal(receive(f, q, 10, 30).message_count, 0);
    assert_int_equal(change_visibility(f, q, (struct core_lease){3, 1}, 0), CORE_OK);
    result = receive(f, q, 10, 30);
    assert_int_equal(result.message_count, 2);
    assert_int_equal(result.messages[0].seq, 3);
    assert_int_equal(result.messages[1].seq, 4);
}

static void test_deduplication(void **state)
{
    struct fixture *f = *state;
    uint64_t q = create_fifo(f, "q.fifo", false);
    struct core_result first = send_ids(f, q, "a", "1");
    receive_one(f, q, 1);
    assert_int_equal(delete_message(f, q, (struct core_lease){1, 1}, false), CORE_OK);
    f->now_ms += 5 * MINUTE_MS - 1;
    struct core_result again = send_ids(f, q, "b", "1"); /* the scope is the queue */
    assert_true(again.duplicate);
    assert_int_equal(again.seq, first.seq);
    assert_memory_equal(again.message_id, first.message_id, UUID_BYTES);
    assert_int_equal(f->held, 0);
    f->now_ms++;
    assert_false(send_ids(f, q, "a", "1").duplicate);
    uint64_t g = create_fifo(f, "g.fifo", true);
    assert_false(send_ids(f, g, "a", "1").duplicate);
    assert_false(send_ids(f, g, "b", "1").duplicate);
    assert_true(send_ids(f, g, "b", "1").duplicate);
    assert_int_equal(send_ids(f, g, "", "1").code, CORE_INVALID);
    assert_int_equal(send_ids(f, g, "a", "").code, CORE_INVALID);
}

/* Ids that are past their time but not swept yet may be sent again in any order. */
static void test_ids_past_their_time_come_back(void **state)
{
    static const char *const order[] = {"2", "4", "1", "3"};
    static const char *const sent[] = {"1", "2", "3", "4", "5"};
    struct fixture *f = *state;
    uint64_t q = create_fifo(f, "q.fifo", false);
    for (int i = 0; i < 5; i++)
        assert_false(send_ids(f, q, "a", sent[i]).duplicate);
    f->now_ms += 5 * MINUTE_MS + 1000;
    for (int i = 0; i < 4; i++) {
        struct core_result first = send_ids(f, q, "a", order[i]);
        struct core_result again = send_ids(f, q, "a", order[i]);
        assert_false(first.duplicate);
        assert_true(again.duplicate);
        assert_int_equal(again.seq, first.seq);
    }
    tick(f, 10000); /* "5" is swept, the others are not */
    assert_false(send_ids(f, q, "a", "5").duplicate);
    for (int i = 0; i < 4; i++)
        assert_true(send_ids(f, q, "a", order[i]).duplicate);
    tick(f, 6 * MINUTE_MS);
    assert_false(send_ids(f, q, "a", "2").duplicate);
}

static void test_ended_lease(void **state)
{
    struct fixture *f = *state;
    uint64_t q = create_fifo(f, "q.fifo", false);
    send_ids(f, q, "a", "1");
    struct core_lease lease = receive_one(f, q, 1);
    tick(f, 30000);
    assert_int_equal(delete_message(f, q, lease, false), CORE_EXPIRED_LEASE);
    assert_int_equal(delete_message(f, q, lease, true), CORE_EXPIRED_LEASE);
    assert_int_equal(change_visibility(f, q, lease, 5), CORE_EXPIRED_LEASE);
    struct core_lease second = receive_one(f, q, 1);
    assert_int_equal(delete_message(f, q, lease, false), CORE_EXPIRED_LEASE);
    assert_int_equal(delete_message(f, q, second, false), CORE_OK);
    assert_int_equal(delete_message(f, q, second, false), CORE_NO_MESSAGE);
}

static struct core_result attempt(struct fixture *f, uint64_t q, const char *id)
{
    struct command command = {.type = COMMAND_RECEIVE, .receive = {q, 10, 30, 0, slice_of(id)}};
    return apply(f, &command);
}

static void test_attempts(void **state)
{
    struct fixture *f = *state;
    uint64_t q = create_fifo(f, "q.fifo", false);
    send_ids(f, q, "a", "1");
    send_ids(f, q, "a", "2");
    assert_int_equal(attempt(f, q, "x").message_count, 2);
    f->now_ms += 10000;
    struct core_result again = attempt(f, q, "x");
    assert_int_equal(again.message_count, 2);
    assert_int_equal(again.messages[0].receive_count, 1);
    assert_int_equal(again.messages[0].visible_at_ms, f->now_ms + 30000); /* begun anew */
    assert_int_equal(attempt(f, q, "y").message_count, 0);
    change_visibility(f, q, (struct core_lease){2, 1}, 40);
    assert_int_equal(attempt(f, q, "x").message_count, 0); /* one of them was changed */
}

static void test_redrive_keeps_the_group(void **state)
{
    struct fixture *f = *state;
    struct queue_settings settings = settings_default();
    settings.fifo = true;
    settings.receive_count_max = 1;
    settings.dead_letter = SLICE_LITERAL("dead.fifo");
    uint64_t dead = create_fifo(f, "dead.fifo", false);
    uint64_t q = create(f, "q.fifo", settings).queue_id;
    send_ids(f, q, "a", "1");
    send_ids(f, q, "a", "2");
    receive(f, q, 10, 1);
    tick(f, 1000);
    assert_int_equal(receive(f, q, 10, 1).message_count, 0);
    struct core_result result = receive(f, dead, 1, 30);
    assert_int_equal(result.message_count, 1);
    assert_int_equal(result.messages[0].sent_ms, f->now_ms);
    assert_int_equal(result.messages[0].source_queue_id, q);
    assert_int_equal(receive(f, dead, 1, 30).message_count, 0); /* still one group */
    struct command move = {.type = COMMAND_MOVE_START, .move_start = {{7}, dead, 0, 0}};
    assert_int_equal(delete_message(f, dead, (struct core_lease){1, 1}, false), CORE_OK);
    assert_int_equal(apply(f, &move).code, CORE_OK);
    assert_int_equal(view(f, q).visible, 1);
    assert_int_equal(view(f, dead).visible, 0);
}

static void test_quiet_groups_first(void **state)
{
    struct fixture *f = *state;
    uint64_t q = create_default(f, "q");
    for (int i = 0; i < 60; i++)
        send_ids(f, q, "noisy", "");
    assert_int_equal(receive(f, q, 30, 300).message_count, 30);
    uint64_t quiet = send_ids(f, q, "quiet", "").seq;
    uint64_t alone = send(f, q, 0);
    receive_one(f, q, quiet);
    receive_one(f, q, alone);
    receive_one(f, q, 31); /* nobody is in its way any more */
}

static void test_move_with_rate_and_cancel(void **state)
{
    struct fixture *f = *state;
    uint64_t from = create_default(f, "from");
    uint64_t to = create_default(f, "to");
    for (int i = 0; i < 10; i++)
        send(f, from, 0);
    struct command start = {.type = COMMAND_MOVE_START, .move_start = {{1}, from, to, 3}};
    struct command cancel = {.type = COMMAND_MOVE_CANCEL, .move_cancel = {{1}, from}};
    assert_int_equal(apply(f, &start).code, CORE_OK);
    assert_int_equal(apply(f, &start).code, CORE_EXISTS);
    assert_int_equal(view(f, to).visible, 3);
    assert_int_equal(core_next_deadline_ms(f->core), f->now_ms + 1000);
    tick(f, 999);
    assert_int_equal(view(f, to).visible, 3);
    tick(f, 1);
    assert_int_equal(view(f, to).visible, 6);
    struct core_result result = apply(f, &cancel);
    assert_int_equal(result.code, CORE_OK);
    assert_int_equal(result.moved, 6);
    assert_int_equal(apply(f, &cancel).code, CORE_CONFLICT);
    cancel.move_cancel.handle[0] = 2;
    assert_int_equal(apply(f, &cancel).code, CORE_NO_MOVE);
    start.move_start.destination_queue_id = 0;
    assert_int_equal(apply(f, &start).code, CORE_OK);
    struct move_view move;
    size_t position = 0;
    assert_true(core_move_next(f->core, from, &position, &move));
    assert_int_equal(move.status, MOVE_FAILED);
    assert_int_equal(move.failure, MOVE_FAILURE_NO_SOURCE);
    assert_true(core_move_next(f->core, from, &position, &move));
    assert_int_equal(move.status, MOVE_CANCELLED);
    assert_int_equal(move.to_move, 10);
    assert_false(core_move_next(f->core, from, &position, &move));
}

static void test_purge_in_steps(void **state)
{
    struct fixture *f = *state;
    core_set_step(f->core, 4);
    uint64_t q = create_default(f, "q");
    for (int i = 0; i < 10; i++)
        send(f, q, 0);
    struct command purge = {.type = COMMAND_QUEUE_PURGE, .queue_purge = {q}};
    assert_int_equal(apply(f, &purge).code, CORE_OK);
    assert_int_equal(view(f, q).visible, 0);
    assert_int_equal(view(f, q).oldest_sent_ms, 0);
    assert_int_equal(f->held, 6);
    assert_int_equal(core_next_deadline_ms(f->core), f->now_ms);
    tick(f, 0);
    assert_int_equal(f->held, 2);
    tick(f, 0);
    assert_int_equal(f->held, 0);
    assert_int_equal(core_next_deadline_ms(f->core), UINT64_MAX);
    assert_int_equal(send(f, q, 0), 11); /* no seq is used twice */
}

/* Entries say what may be dropped, and the owner when: but for two that each send takes along. */
static void test_purge_is_dropped_at_leisure(void **state)
{
    struct fixture *f = *state;
    core_set_step(f->core, 8);
    f->buries_late = true;
    uint64_t q = create_default(f, "q");
    for (int i = 0; i < 10; i++)
        send(f, q, 0);
    struct command purge = {.type = COMMAND_QUEUE_PURGE, .queue_purge = {q}};
    assert_int_equal(apply(f, &purge).code, CORE_OK);
    assert_int_equal(view(f, q).visible, 0);
    assert_int_equal(f->held, 10);
    assert_int_equal(core_bury_left(f->core), 8);
    core_bury(f->core, 3);
    core_check(f->core);
    assert_int_equal(f->held, 7);
    assert_int_equal(core_bury_left(f->core), 5);
    assert_int_equal(core_next_deadline_ms(f->core), f->now_ms); /* for the other two */
    assert_int_equal(send(f, q, 0), 11);
    assert_int_equal(f->held, 7 + 1 - 2);
    assert_int_equal(core_next_deadline_ms(f->core), f->now_ms + 345600000);
    assert_int_equal(core_bury_left(f->core), 5);
    core_bury(f->core, 100);
    assert_int_equal(f->held, 1);
    assert_int_equal(core_bury_left(f->core), 0);
    core_check(f->core);
}

/* Nobody sees what is not dropped yet: not the digest, not a snapshot. */
static void test_what_is_buried_is_no_state(void **state)
{
    struct fixture *f = *state;
    struct buffer before = {0};
    struct buffer after = {0};
    f->buries_late = true;
    uint64_t q = create_fifo(f, "q.fifo", false);
    send_ids(f, q, "a", "1");
    send_ids(f, q, "b", "2");
    struct command delete = {.type = COMMAND_QUEUE_DELETE, .queue_delete = {q}};
    assert_int_equal(apply(f, &delete).code, CORE_OK);
    uint64_t digest = core_digest(f->core);
    core_snapshot(f->core, &before);
    assert_int_equal(core_bury_left(f->core), 4); /* two messages, two ids */
    core_bury(f->core, UINT64_MAX);
    core_snapshot(f->core, &after);
    assert_int_equal(core_digest(f->core), digest);
    assert_true(slice_equal(buffer_slice(&before), buffer_slice(&after)));
    assert_int_equal(f->held, 0);
    buffer_free(&before);
    buffer_free(&after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_group_is_blocked_in_flight),
        FIXTURE_TEST(test_many_of_one_group_in_order),
        FIXTURE_TEST(test_deduplication),
        FIXTURE_TEST(test_ids_past_their_time_come_back),
        FIXTURE_TEST(test_ended_lease),
        FIXTURE_TEST(test_attempts),
        FIXTURE_TEST(test_redrive_keeps_the_group),
        FIXTURE_TEST(test_quiet_groups_first),
        FIXTURE_TEST(test_move_with_rate_and_cancel),
        FIXTURE_TEST(test_purge_in_steps),
        FIXTURE_TEST(test_purge_is_dropped_at_leisure),
        FIXTURE_TEST(test_what_is_buried_is_no_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
