/* SPDX-License-Identifier: Apache-2.0 */
/* Settling a received message: delete and change visibility, with current, old and false leases. */
#include "tests/unit/core/fixture.h"

static void test_delete(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    send(f, queue_id, 0);
    struct core_lease lease = receive_one(f, queue_id, 1);
    assert_int_equal(delete_message(f, queue_id, lease, true), CORE_OK);
    assert_int_equal(f->held, 0);
    assert_int_equal(view(f, queue_id).deleted_total, 1);
    assert_int_equal(delete_message(f, queue_id, lease, false), CORE_NO_MESSAGE);
    assert_int_equal(delete_message(f, queue_id + 1, lease, false), CORE_NO_QUEUE);
    assert_int_equal(view(f, queue_id).deleted_total, 1);
}

static void test_older_lease_deletes_unless_exact(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    send(f, queue_id, 0);
    struct core_lease old = receive_one(f, queue_id, 1);
    tick(f, 30000);
    receive_one(f, queue_id, 1);
    assert_int_equal(delete_message(f, queue_id, old, true), CORE_STALE_LEASE);
    assert_int_equal(delete_message(f, queue_id, old, false), CORE_OK);
}

static void test_exact_delete_after_the_lease_ran_out(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    send(f, queue_id, 0);
    struct core_lease lease = receive_one(f, queue_id, 1);
    tick(f, 30000);
    assert_int_equal(view(f, queue_id).visible, 1);
    assert_int_equal(delete_message(f, queue_id, lease, true), CORE_OK);
    assert_int_equal(view(f, queue_id).visible, 0);
}

static void test_delete_when_visible_again(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    send(f, queue_id, 0);
    send(f, queue_id, 0);
    struct core_lease lease = receive_one(f, queue_id, 1);
    tick(f, 30000);
    assert_int_equal(view(f, queue_id).visible, 2);
    assert_int_equal(delete_message(f, queue_id, lease, false), CORE_OK);
    receive_one(f, queue_id, 2);
}

static void test_leases_that_never_were(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    send(f, queue_id, 0);
    send(f, queue_id, 60);
    receive_one(f, queue_id, 1);
    struct core_lease later = {1, 2};
    struct core_lease none = {1, 0};
    struct core_lease delayed = {2, 1};
    assert_int_equal(delete_message(f, queue_id, later, false), CORE_NO_MESSAGE);
    assert_int_equal(delete_message(f, queue_id, none, false), CORE_NO_MESSAGE);
    assert_int_equal(delete_message(f, queue_id, delayed, false), CORE_NO_MESSAGE);
    assert_int_equal(change_visibility(f, queue_id, later, 1), CORE_NO_MESSAGE);
    assert_int_equal(f->held, 2);
}

static void test_change_visibility(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    send(f, queue_id, 0);
    struct core_lease lease = receive_one(f, queue_id, 1);
    tick(f, 1000);
    assert_int_equal(change_visibility(f, queue_id, lease, 100), CORE_OK);
    assert_int_equal(core_next_deadline_ms(f->core), f->now_ms + 100000);
    tick(f, 99999);
    assert_int_equal(view(f, queue_id).in_flight, 1);
    tick(f, 1); /* a deadline that is exactly due runs */
    assert_int_equal(f->ready, 1);
    assert_int_equal(view(f, queue_id).visible, 1);
}

/* Nobody else has received it meanwhile: it may still be extended, for twelve hours from now. */
static void test_change_after_the_end_of_a_lease(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    send(f, queue_id, 0);
    struct core_lease lease = receive_one(f, queue_id, 1);
    tick(f, 13 * 3600 * 1000);
    assert_int_equal(view(f, queue_id).visible, 1);
    assert_int_equal(change_visibility(f, queue_id, lease, 0), CORE_OK);
    assert_int_equal(view(f, queue_id).visible, 1);
    assert_int_equal(change_visibility(f, queue_id, lease, 43201), CORE_INVALID);
    assert_int_equal(view(f, queue_id).visible, 1);
    assert_int_equal(change_visibility(f, queue_id, lease, 43200), CORE_OK);
    assert_int_equal(view(f, queue_id).in_flight, 1);
    assert_int_equal(view(f, queue_id).visible, 0);
    tick(f, 1000);
    assert_int_equal(change_visibility(f, queue_id, lease, 43200), CORE_INVALID);
    assert_int_equal(change_visibility(f, queue_id, lease, 1), CORE_OK);
    tick(f, 1000);
    assert_int_equal(receive_one(f, queue_id, 1).receive_count, 2);
    assert_int_equal(change_visibility(f, queue_id, lease, 5), CORE_STALE_LEASE);
    tick(f, 43200 * 1000);
    assert_int_equal(change_visibility(f, queue_id, lease, 5), CORE_NOT_IN_FLIGHT);
}

static void test_change_visibility_to_zero(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    send(f, queue_id, 0);
    struct core_lease lease = receive_one(f, queue_id, 1);
    assert_int_equal(change_visibility(f, queue_id, lease, 0), CORE_OK);
    assert_int_equal(f->ready, 1);
    assert_int_equal(f->ready_queue_id, queue_id);
    assert_int_equal(receive_one(f, queue_id, 1).receive_count, 2);
    assert_int_equal(change_visibility(f, queue_id, lease, 5), CORE_STALE_LEASE);
    assert_int_equal(change_visibility(f, 99, lease, 5), CORE_NO_QUEUE);
}

/* Twelve hours from the receive, not from the change; more changes nothing. */
static void test_lease_is_twelve_hours_at_most(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = create_default(f, "q");
    send(f, queue_id, 0);
    struct core_lease lease = receive_one(f, queue_id, 1);
    tick(f, 10000);
    uint64_t due_ms = core_next_deadline_ms(f->core);
    assert_int_equal(change_visibility(f, queue_id, lease, 43191), CORE_INVALID);
    assert_int_equal(change_visibility(f, queue_id, lease, UINT32_MAX), CORE_INVALID);
    assert_int_equal(core_next_deadline_ms(f->core), due_ms);
    assert_int_equal(change_visibility(f, queue_id, lease, 43190), CORE_OK);
    /* The limit starts anew with the next receive. */
    assert_int_equal(change_visibility(f, queue_id, lease, 0), CORE_OK);
    lease = receive_one(f, queue_id, 1);
    assert_int_equal(change_visibility(f, queue_id, lease, 43200), CORE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_delete),
        FIXTURE_TEST(test_older_lease_deletes_unless_exact),
        FIXTURE_TEST(test_exact_delete_after_the_lease_ran_out),
        FIXTURE_TEST(test_delete_when_visible_again),
        FIXTURE_TEST(test_leases_that_never_were),
        FIXTURE_TEST(test_change_visibility),
        FIXTURE_TEST(test_change_after_the_end_of_a_lease),
        FIXTURE_TEST(test_change_visibility_to_zero),
        FIXTURE_TEST(test_lease_is_twelve_hours_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
