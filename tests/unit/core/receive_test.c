/* SPDX-License-Identifier: Apache-2.0 */
/* Receiving: order, leases, limits, redrive. */
#include "tests/unit/core/fixture.h"

static void test_in_sending_order(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    for (int i = 0; i < 5; i++)
        send(f, queue_id, 0);
    struct core_result result = receive(f, queue_id, 3, 10);
    assert_int_equal(result.message_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(result.messages[i].seq, i + 1);
        assert_int_equal(result.messages[i].receive_count, 1);
        assert_int_equal(result.messages[i].visible_at_ms, f->now_ms + 10000);
        assert_int_equal(result.messages[i].first_receive_ms, f->now_ms);
    }
    assert_int_equal(receive(f, queue_id, 10, 10).message_count, 2);
    assert_int_equal(receive(f, queue_id, 10, 10).message_count, 0);
}

/* Returned messages come before newer ones, in their order, whatever the order of their return. */
static void test_returned_messages_come_first(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    for (int i = 0; i < 6; i++)
        send(f, queue_id, 0);
    receive(f, queue_id, 1, 30); /* 1 */
    receive(f, queue_id, 1, 20); /* 2 */
    receive(f, queue_id, 1, 10); /* 3 */
    tick(f, 10000);
    tick(f, 10000);
    tick(f, 10000);
    struct core_result result = receive(f, queue_id, 10, 10);
    assert_int_equal(result.message_count, 6);
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(result.messages[i].seq, i + 1);
        assert_int_equal(result.messages[i].receive_count, i < 3 ? 2 : 1);
    }
}

static void test_body_points_into_the_entry(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    send(f, queue_id, 0);
    uint64_t sent_index = f->index;
    struct buffer sent = {0};
    buffer_add_slice(&sent, buffer_slice(&f->entry));
    struct core_result result = receive(f, queue_id, 1, 10);
    struct body_ref body = result.messages[0].body;
    assert_int_equal(body.index, sent_index);
    assert_int_equal(body.length, 10);
    assert_memory_equal(sent.data + body.offset, "0123456789", 10);
    struct body_ref again = {0};
    assert_true(core_message_body(f->core, queue_id, (struct core_lease){1, 1}, &again));
    assert_int_equal(again.offset, body.offset);
    assert_false(core_message_body(f->core, queue_id, (struct core_lease){1, 2}, &again));
    assert_false(core_message_body(f->core, queue_id, (struct core_lease){1, 0}, &again));
    assert_false(core_message_body(f->core, queue_id + 1, (struct core_lease){1, 1}, &again));
    buffer_free(&sent);
}

static void test_first_receive_time_stays(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    send(f, queue_id, 0);
    tick(f, 500);
    uint64_t first_ms = f->now_ms;
    receive(f, queue_id, 1, 1);
    tick(f, 5000);
    struct core_result result = receive(f, queue_id, 1, 1);
    assert_int_equal(result.messages[0].first_receive_ms, first_ms);
    assert_int_equal(result.messages[0].sent_ms, first_ms - 500);
    assert_int_equal(result.messages[0].receive_count, 2);
}

/* A lease of 0 seconds counts as a receive, and the message is visible at once, but not twice in
 * one receive. */
static void test_visibility_zero(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    send(f, queue_id, 0);
    struct core_result result = receive(f, queue_id, 10, 0);
    assert_int_equal(result.message_count, 1);
    assert_int_equal(f->ready, 1);
    assert_int_equal(view(f, queue_id).visible, 1);
    result = receive(f, queue_id, 10, 5);
    assert_int_equal(result.messages[0].receive_count, 2);
}

static void test_bytes_max(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    for (int i = 0; i < 5; i++)
        send(f, queue_id, 0); /* 10 bytes each */
    struct command command = {.type = COMMAND_RECEIVE, .receive = {queue_id, 10, 30, 25, {0}}};
    assert_int_equal(apply(f, &command).message_count, 2);
    command.receive.bytes_max = 5; /* one is given in any case */
    assert_int_equal(apply(f, &command).message_count, 1);
    command.receive.bytes_max = 20;
    assert_int_equal(apply(f, &command).message_count, 2);
}

static uint64_t redriving(struct fixture *f, const char *name, const char *dead_letter,
                          uint32_t count_max)
{
    struct queue_settings settings = settings_default();
    settings.receive_count_max = count_max;
    settings.dead_letter = slice_of(dead_letter);
    settings.visibility_s = 1;
    return create(f, name, settings).queue_id;
}

static uint64_t with_dead_letter(struct fixture *f, const char *dead_letter, uint32_t count_max)
{
    return redriving(f, "q", dead_letter, count_max);
}

static void test_redrive_on_the_next_receive(void **state)
{
    struct fixture *f = *state;
    uint64_t dead_id = create_default(f, "dead");
    uint64_t queue_id = with_dead_letter(f, "dead", 2);
    send(f, queue_id, 0);
    uint64_t sent_ms = f->now_ms;
    send(f, queue_id, 0);
    for (uint32_t n = 1; n <= 2; n++) {
        assert_int_equal(receive_one(f, queue_id, 1).receive_count, n);
        tick(f, 1000);
    }
    /* The third attempt moves it, and goes on to the next message. */
    struct core_result result = receive(f, queue_id, 1, 1);
    assert_int_equal(result.message_count, 1);
    assert_int_equal(result.messages[0].seq, 2);
    assert_int_equal(f->ready, 1);
    assert_int_equal(f->ready_queue_id, dead_id);
    assert_int_equal(f->held, 2);
    assert_int_equal(view(f, dead_id).visible, 1);
    result = receive(f, dead_id, 1, 30);
    assert_int_equal(result.messages[0].receive_count, 1);
    assert_int_equal(result.messages[0].received_before, 2);
    assert_int_equal(result.messages[0].sent_ms, sent_ms);
    assert_int_equal(result.messages[0].body.length, 10);
    /* The old lease names nothing in the source any more. */
    assert_int_equal(delete_message(f, queue_id, (struct core_lease){1, 2}, false),
                     CORE_NO_MESSAGE);
}

/* One receive, and wait until the message is visible again. */
static void expect_counts(struct fixture *f, uint64_t queue_id, uint32_t before, uint32_t count)
{
    struct core_result result = receive(f, queue_id, 1, 1);
    assert_int_equal(result.message_count, 1);
    assert_int_equal(result.messages[0].received_before, before);
    assert_int_equal(result.messages[0].receive_count, count);
    tick(f, 1000);
}

static void reload(struct fixture *f)
{
    struct buffer bytes = {0};
    uint64_t digest = core_digest(f->core);
    core_snapshot(f->core, &bytes);
    core_free(f->core);
    struct core_events events = fixture_events(f);
    f->core = core_new(&events);
    assert_int_equal(core_restore(f->core, buffer_slice(&bytes)), STATUS_OK);
    assert_int_equal(core_digest(f->core), digest);
    buffer_free(&bytes);
}

/* Each queue delivers as often as it should, and the counts of those before are kept, also when
 * two queues are each other's dead-letter queue, and in a snapshot. */
static void test_redrive_goes_on_counting(void **state)
{
    struct fixture *f = *state;
    uint64_t first = redriving(f, "first", "second", 2);
    uint64_t second = redriving(f, "second", "first", 1);
    send(f, first, 0);
    expect_counts(f, first, 0, 1);
    expect_counts(f, first, 0, 2);
    assert_int_equal(receive(f, first, 1, 1).message_count, 0);
    expect_counts(f, second, 2, 1);
    reload(f);
    assert_int_equal(receive(f, second, 1, 1).message_count, 0);
    expect_counts(f, first, 3, 1);
    expect_counts(f, first, 3, 2);
    assert_int_equal(receive(f, first, 1, 1).message_count, 0);
    expect_counts(f, second, 5, 1);
    /* What a move takes is new. */
    struct command move = {.type = COMMAND_MOVE_START, .move_start = {.source_queue_id = second}};
    assert_int_equal(apply(f, &move).code, CORE_OK);
    tick(f, 1000);
    expect_counts(f, first, 0, 1);
}

static void test_redrive_to_nowhere_delivers(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = with_dead_letter(f, "missing", 1);
    send(f, queue_id, 0);
    for (uint32_t n = 1; n <= 3; n++) {
        assert_int_equal(receive_one(f, queue_id, 1).receive_count, n);
        tick(f, 1000);
    }
}

static void test_redrive_to_itself_delivers(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = with_dead_letter(f, "q", 1);
    send(f, queue_id, 0);
    for (uint32_t n = 1; n <= 3; n++) {
        assert_int_equal(receive_one(f, queue_id, 1).receive_count, n);
        tick(f, 1000);
    }
}

/* The retention of the dead-letter queue counts from the first sending. */
static void test_redrive_of_an_old_message(void **state)
{
    struct fixture *f = *state;
    struct queue_settings settings = settings_default();
    settings.retention_s = 60;
    uint64_t dead_id = create(f, "dead", settings).queue_id;
    uint64_t queue_id = with_dead_letter(f, "dead", 1);
    send(f, queue_id, 0);
    receive_one(f, queue_id, 1);
    tick(f, 61000);
    assert_int_equal(receive(f, queue_id, 1, 1).message_count, 0);
    assert_int_equal(view(f, dead_id).visible, 0);
    assert_int_equal(f->ready, 0);
    assert_int_equal(f->held, 0);
}

/* Messages that come into a dead-letter queue are not in order of age; expiry must be. */
static void test_expiry_order_after_redrive(void **state)
{
    struct fixture *f = *state;
    uint64_t dead_id = create_default(f, "dead");
    uint64_t queue_id = with_dead_letter(f, "dead", 1);
    send(f, queue_id, 0);
    uint64_t first_ms = f->now_ms;
    tick(f, 5000);
    send(f, dead_id, 0);
    receive_one(f, queue_id, 1);
    tick(f, 5000);
    receive(f, queue_id, 1, 1); /* moves the older one behind the newer one */
    assert_int_equal(view(f, dead_id).visible, 2);
    assert_int_equal(view(f, dead_id).oldest_sent_ms, first_ms);
    assert_int_equal(core_next_deadline_ms(f->core), first_ms + 345600000);
    f->now_ms = first_ms;
    tick(f, 345600000);
    assert_int_equal(view(f, dead_id).visible, 1);
    receive_one(f, dead_id, 1);
}

/* SQS's limit, reached by receives of 10,000. */
static void test_in_flight_limit(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    struct command send_one = {.type = COMMAND_SEND, .send = {queue_id, 0, SLICE_LITERAL("x")}};
    struct buffer entry = {0};
    entry_begin(&entry);
    for (uint32_t i = 0; i < 120005; i++)
        command_encode(&entry, &send_one);
    entry_finish(&entry, 120005, f->now_ms);
    assert_int_equal(core_apply_entry(f->core, ++f->index, buffer_slice(&entry)), STATUS_OK);
    buffer_free(&entry);
    for (uint32_t i = 0; i < 11; i++)
        assert_int_equal(receive(f, queue_id, 10000, 30).message_count, 10000);
    assert_int_equal(receive(f, queue_id, 9998, 30).message_count, 9998);
    struct core_result result = receive(f, queue_id, 10, 30);
    assert_int_equal(result.code, CORE_OK); /* what is possible is given */
    assert_int_equal(result.message_count, 2);
    assert_int_equal(receive(f, queue_id, 10, 30).code, CORE_LIMIT);
    assert_int_equal(f->ready, 0);
    assert_int_equal(delete_message(f, queue_id, (struct core_lease){7, 1}, true), CORE_OK);
    assert_int_equal(f->ready, 1); /* who waits is told */
    assert_int_equal(delete_message(f, queue_id, (struct core_lease){8, 1}, true), CORE_OK);
    assert_int_equal(f->ready, 0);
    assert_int_equal(receive(f, queue_id, 10, 30).message_count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_in_sending_order),
        FIXTURE_TEST(test_returned_messages_come_first),
        FIXTURE_TEST(test_body_points_into_the_entry),
        FIXTURE_TEST(test_first_receive_time_stays),
        FIXTURE_TEST(test_visibility_zero),
        FIXTURE_TEST(test_bytes_max),
        FIXTURE_TEST(test_redrive_on_the_next_receive),
        FIXTURE_TEST(test_redrive_goes_on_counting),
        FIXTURE_TEST(test_redrive_to_nowhere_delivers),
        FIXTURE_TEST(test_redrive_to_itself_delivers),
        FIXTURE_TEST(test_redrive_of_an_old_message),
        FIXTURE_TEST(test_expiry_order_after_redrive),
        FIXTURE_TEST(test_in_flight_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
