/* SPDX-License-Identifier: Apache-2.0 */
/* Queues: names, versions, settings, counters, purge and delete. */
#include "tests/unit/core/fixture.h"

static enum core_code simple(struct fixture *f, enum command_type type, uint64_t queue_id)
{
    struct command command = {.type = type};
    if (type == COMMAND_QUEUE_DELETE)
        command.queue_delete.queue_id = queue_id;
    else
        command.queue_purge.queue_id = queue_id;
    return apply(f, &command).code;
}

static struct core_result update(struct fixture *f, uint64_t queue_id, uint64_t version,
                                 struct queue_settings settings)
{
    struct command command = {.type = COMMAND_QUEUE_UPDATE};
    command.queue_update.queue_id = queue_id;
    command.queue_update.version = version;
    command.queue_update.settings = settings;
    return apply(f, &command);
}

static void test_create_and_find(void **state)
{
    struct fixture *f = *state;
    struct core_result result = create(f, "orders", settings_default());
    struct queue_view out;
    assert_int_equal(result.code, CORE_OK);
    assert_true(core_queue_by_name(f->core, SLICE_LITERAL("orders"), &out));
    assert_int_equal(out.queue_id, result.queue_id);
    assert_int_equal(out.version, result.version);
    assert_int_equal(out.created_ms, f->now_ms);
    assert_int_equal(out.settings.visibility_s, 30);
    assert_true(slice_is(out.tags, "{}"));
    assert_int_equal(out.oldest_sent_ms, 0);
    assert_false(core_queue_by_name(f->core, SLICE_LITERAL("order"), &out));
    assert_false(core_queue_by_id(f->core, result.queue_id + 1, &out));
}

static void test_name_taken(void **state)
{
    struct fixture *f = *state;
    struct core_result first = create(f, "orders", settings_default());
    struct core_result second = create(f, "orders", settings_default());
    assert_int_equal(second.code, CORE_EXISTS);
    assert_int_equal(second.queue_id, first.queue_id);
    assert_int_equal(second.version, first.version);
}

static void test_update_checks_the_version(void **state)
{
    struct fixture *f = *state;
    struct core_result created = create(f, "orders", settings_default());
    struct queue_settings settings = settings_default();
    settings.visibility_s = 5;
    settings.extras = SLICE_LITERAL("{\"Policy\":\"p\"}");
    f->now_ms += 1000;
    struct core_result updated = update(f, created.queue_id, created.version, settings);
    assert_int_equal(updated.code, CORE_OK);
    assert_true(updated.version > created.version);
    struct queue_view out = view(f, created.queue_id);
    assert_int_equal(out.settings.visibility_s, 5);
    assert_true(slice_is(out.settings.extras, "{\"Policy\":\"p\"}"));
    assert_int_equal(out.modified_ms, out.created_ms + 1000);
    settings.visibility_s = 6;
    struct core_result stale = update(f, created.queue_id, created.version, settings);
    assert_int_equal(stale.code, CORE_CONFLICT);
    assert_int_equal(stale.version, updated.version);
    assert_int_equal(view(f, created.queue_id).settings.visibility_s, 5);
    assert_int_equal(update(f, 99, 1, settings).code, CORE_NO_QUEUE);
}

static void test_walk_in_name_order(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"b", "a", "ba", "Z", "a-"};
    static const char *const sorted[] = {"Z", "a", "a-", "b", "ba"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++)
        create_default(f, names[i]);
    struct queue_view out = {0};
    for (size_t i = 0; i < ARRAY_COUNT(sorted); i++) {
        assert_true(core_queue_next(f->core, out.name, &out));
        assert_true(slice_is(out.name, sorted[i]));
    }
    assert_false(core_queue_next(f->core, out.name, &out));
    /* A name that has gone meanwhile is still a place to go on from. */
    assert_true(core_queue_next(f->core, SLICE_LITERAL("aa"), &out));
    assert_true(slice_is(out.name, "b"));
}

static void fill(struct fixture *f, uint64_t queue_id)
{
    send(f, queue_id, 0);
    send(f, queue_id, 0);
    send(f, queue_id, 60);
    receive_one(f, queue_id, 1);
}

static void test_counters(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    fill(f, queue_id);
    receive(f, queue_id, 10, 1);
    receive(f, queue_id, 10, 1);
    struct queue_view out = view(f, queue_id);
    assert_int_equal(out.visible, 0);
    assert_int_equal(out.in_flight, 2);
    assert_int_equal(out.delayed, 1);
    assert_int_equal(out.sent_total, 3);
    assert_int_equal(out.received_total, 2);
    assert_int_equal(out.empty_receives_total, 1);
    assert_int_equal(out.oldest_sent_ms, f->now_ms);
}

static void test_purge_takes_all_states(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    fill(f, queue_id);
    assert_int_equal(f->held, 3);
    assert_int_equal(simple(f, COMMAND_QUEUE_PURGE, queue_id), CORE_OK);
    assert_int_equal(f->held, 0);
    struct queue_view out = view(f, queue_id);
    assert_int_equal(out.visible + out.in_flight + out.delayed, 0);
    assert_int_equal(core_next_deadline_ms(f->core), UINT64_MAX);
    assert_int_equal(delete_message(f, queue_id, (struct core_lease){1, 1}, false),
                     CORE_NO_MESSAGE);
    assert_int_equal(send(f, queue_id, 0), 4); /* sequence numbers are never reused */
    assert_int_equal(simple(f, COMMAND_QUEUE_PURGE, 77), CORE_NO_QUEUE);
}

static void test_delete_and_create_again(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    uint64_t other_id = create_default(f, "other");
    fill(f, queue_id);
    send(f, other_id, 0);
    assert_int_equal(simple(f, COMMAND_QUEUE_DELETE, queue_id), CORE_OK);
    assert_int_equal(f->gone, 1);
    assert_int_equal(f->held, 1);
    assert_int_equal(simple(f, COMMAND_QUEUE_DELETE, queue_id), CORE_NO_QUEUE);
    uint64_t again_id = create_default(f, "q");
    assert_true(again_id > other_id);
    assert_int_equal(receive(f, again_id, 10, 1).message_count, 0);
    assert_int_equal(receive(f, queue_id, 10, 1).code, CORE_NO_QUEUE);
    receive_one(f, other_id, 1);
}

static void test_retention_change_takes_effect(void **state)
{
    struct fixture *f = *state;
    struct core_result created = create(f, "q", settings_default());
    send(f, created.queue_id, 0);
    f->now_ms += 100000;
    send(f, created.queue_id, 0);
    struct queue_settings settings = settings_default();
    settings.retention_s = 60;
    struct core_result result = update(f, created.queue_id, created.version, settings);
    assert_int_equal(view(f, created.queue_id).visible, 1); /* the first is over 60 s old */
    assert_int_equal(f->held, 1);
    assert_int_equal(core_next_deadline_ms(f->core), f->now_ms + 60000);
    settings.retention_s = 120;
    assert_int_equal(update(f, created.queue_id, result.version, settings).code, CORE_OK);
    assert_int_equal(core_next_deadline_ms(f->core), f->now_ms + 120000);
}

static void test_changed_delay_is_for_new_messages(void **state)
{
    struct fixture *f = *state;
    struct core_result created = create(f, "q", settings_default());
    struct queue_settings settings = settings_default();
    send(f, created.queue_id, CORE_DEFAULT);
    settings.delay_s = 10;
    update(f, created.queue_id, created.version, settings);
    send(f, created.queue_id, CORE_DEFAULT);
    send(f, created.queue_id, 0); /* the message's own delay wins, also 0 */
    assert_int_equal(view(f, created.queue_id).visible, 2);
    assert_int_equal(view(f, created.queue_id).delayed, 1);
}

static void test_send_to_no_queue_holds_nothing(void **state)
{
    struct fixture *f = *state;
    struct command command = {.type = COMMAND_SEND, .send = {5, CORE_DEFAULT, SLICE_LITERAL("x")}};
    assert_int_equal(apply(f, &command).code, CORE_NO_QUEUE);
    assert_int_equal(f->held, 0);
}

static void test_bootstrap_once(void **state)
{
    struct fixture *f = *state;
    uint8_t cluster_id[UUID_BYTES];
    uint8_t secret[32];
    assert_false(core_bootstrapped(f->core, cluster_id, secret));
    struct command command = {.type = COMMAND_BOOTSTRAP, .bootstrap = {{1}, {2}}};
    assert_int_equal(apply(f, &command).code, CORE_OK);
    command.bootstrap.secret[0] = 9;
    assert_int_equal(apply(f, &command).code, CORE_OK);
    assert_true(core_bootstrapped(f->core, cluster_id, secret));
    assert_int_equal(cluster_id[0], 1);
    assert_int_equal(secret[0], 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_create_and_find),
        FIXTURE_TEST(test_name_taken),
        FIXTURE_TEST(test_update_checks_the_version),
        FIXTURE_TEST(test_walk_in_name_order),
        FIXTURE_TEST(test_counters),
        FIXTURE_TEST(test_purge_takes_all_states),
        FIXTURE_TEST(test_delete_and_create_again),
        FIXTURE_TEST(test_retention_change_takes_effect),
        FIXTURE_TEST(test_changed_delay_is_for_new_messages),
        FIXTURE_TEST(test_send_to_no_queue_holds_nothing),
        FIXTURE_TEST(test_bootstrap_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
