/* SPDX-License-Identifier: Apache-2.0 */
/* What time does: delays, retention, the order of both, and a clock that goes back. */
#include "tests/unit/core/fixture.h"

static void test_delay(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    send(f, queue_id, 5);
    assert_int_equal(f->ready, 0);
    assert_int_equal(core_next_deadline_ms(f->core), f->now_ms + 5000);
    tick(f, 4999);
    assert_int_equal(receive(f, queue_id, 1, 1).message_count, 0);
    tick(f, 1);
    assert_int_equal(f->ready, 1);
    receive_one(f, queue_id, 1);
}

/* A delayed message that is older than visible ones is handed out first. */
static void test_delayed_message_keeps_its_place(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    send(f, queue_id, 5);
    send(f, queue_id, 0);
    send(f, queue_id, 0);
    receive_one(f, queue_id, 2);
    tick(f, 5000);
    receive_one(f, queue_id, 1);
    receive_one(f, queue_id, 3);
}

static void test_ready_is_told_once_per_queue(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    uint64_t other_id = create_default(f, "other");
    for (int i = 0; i < 4; i++)
        send(f, queue_id, 5);
    send(f, other_id, 5);
    tick(f, 5000);
    assert_int_equal(f->ready, 2);
}

static void test_retention_in_every_state(void **state)
{
    struct fixture *f = *state;
    struct queue_settings settings = settings_default();
    settings.retention_s = 60;
    settings.visibility_s = 100;
    uint64_t queue_id = create(f, "q", settings).queue_id;
    send(f, queue_id, 0);
    send(f, queue_id, 0);
    send(f, queue_id, 200);
    receive_one(f, queue_id, 1);
    assert_int_equal(core_next_deadline_ms(f->core), f->now_ms + 60000);
    tick(f, 59999);
    assert_int_equal(f->held, 3);
    tick(f, 1);
    assert_int_equal(f->held, 0);
    assert_int_equal(core_next_deadline_ms(f->core), UINT64_MAX);
}

/* A message whose lease and retention are both over is not seen again, and nobody is woken. */
static void test_retention_before_visibility(void **state)
{
    struct fixture *f = *state;
    struct queue_settings settings = settings_default();
    settings.retention_s = 60;
    uint64_t queue_id = create(f, "q", settings).queue_id;
    send(f, queue_id, 0);
    receive_one(f, queue_id, 1);
    tick(f, 3600000);
    assert_int_equal(f->ready, 0);
    assert_int_equal(view(f, queue_id).visible, 0);
}

static void test_time_does_not_go_back(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    uint64_t now_ms = f->now_ms;
    f->now_ms -= 5000;
    send(f, queue_id, 0);
    assert_int_equal(core_now_ms(f->core), now_ms);
    assert_int_equal(receive(f, queue_id, 1, 1).messages[0].sent_ms, now_ms);
}

static void test_events_may_be_absent(void **state)
{
    (void)state;
    struct fixture f = {.core = core_new(NULL), .now_ms = 1};
    uint64_t queue_id = create_default(&f, "q");
    send(&f, queue_id, 0);
    receive_one(&f, queue_id, 1);
    assert_int_equal(core_applied_index(f.core), 3);
    core_free(f.core);
    core_free(NULL);
    buffer_free(&f.entry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_delay),
        FIXTURE_TEST(test_delayed_message_keeps_its_place),
        FIXTURE_TEST(test_ready_is_told_once_per_queue),
        FIXTURE_TEST(test_retention_in_every_state),
        FIXTURE_TEST(test_retention_before_visibility),
        FIXTURE_TEST(test_time_does_not_go_back),
        cmocka_unit_test(test_events_may_be_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
