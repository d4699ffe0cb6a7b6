/* SPDX-License-Identifier: Apache-2.0 */
/* The counters behind /metrics: one row each, and a bound that no family can break. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/api/internal.h"

#include <stdio.h>
#include <stdlib.h>

static const struct api_counter *find(const struct api_counters *counters, const char *action,
                                      const char *code)
{
    for (size_t i = 0; i < API_COUNTERS_MAX; i++) {
        const struct api_counter *row = &counters->rows[i];
        if (row->family != NULL && strcmp(row->action, action) == 0 && strcmp(row->code, code) == 0)
            return row;
    }
    return NULL;
}

static void counts_by_family_action_and_code(void **state)
{
    (void)state;
    struct api_counters *counters = calloc(1, sizeof *counters);
    assert_non_null(counters);
    api_counters_add(counters, "sqs", "SendMessage", "", 5);
    api_counters_add(counters, "sqs", "SendMessage", "", 7);
    api_counters_add(counters, "sqs", "SendMessage", "InvalidAction", 1);
    assert_int_equal(counters->used, 2);
    assert_int_equal(find(counters, "SendMessage", "")->count, 2);
    assert_int_equal(find(counters, "SendMessage", "")->total_ns, 12);
    assert_int_equal(find(counters, "SendMessage", "InvalidAction")->count, 1);
    free(counters);
}

static void too_many_kinds_become_one(void **state)
{
    (void)state;
    static char names[2000][16];
    struct api_counters *counters = calloc(1, sizeof *counters);
    assert_non_null(counters);
    for (int i = 0; i < 2000; i++) {
        snprintf(names[i], sizeof names[i], "code-%d", i);
        api_counters_add(counters, "sqs", "SendMessage", names[i], 1);
    }
    assert_true(counters->used < API_COUNTERS_MAX);
    assert_int_equal(find(counters, "SendMessage", "code-0")->count, 1);
    assert_null(find(counters, "SendMessage", "code-1999"));
    const struct api_counter *other = find(counters, "other", "other");
    assert_non_null(other);
    assert_int_equal(other->count + counters->used - 1, 2000);
    api_counters_add(counters, "sqs", "SendMessage", "code-0", 1);
    assert_int_equal(find(counters, "SendMessage", "code-0")->count, 2);
    free(counters);
}

static bool gone(const void *data, uint64_t queue_id)
{
    (void)data;
    (void)queue_id;
    return false;
}

/* Queues that are gone (here, all of them): their rows do not add up for ever. */
static void forgets_deleted_queues(void **state)
{
    (void)state;
    enum { ROWS = 100000 };
    struct queue_counters *counters = queue_counters_new();
    for (uint64_t i = 1; i <= ROWS; i++) {
        queue_counters_of(counters, gone, NULL, i)->empty_receives++;
        queue_counters_of(counters, gone, NULL, i)->empty_receives++;
        assert_int_equal(queue_counters_get(counters, i).empty_receives, 2);
    }
    unsigned left = 0;
    for (uint64_t i = 1; i <= ROWS; i++)
        left += queue_counters_get(counters, i).empty_receives > 0;
    assert_true(left > 0 && left <= 1024);
    assert_int_equal(queue_counters_get(counters, ROWS + 1).sent, 0);
    queue_counters_free(counters);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_by_family_action_and_code),
        cmocka_unit_test(too_many_kinds_become_one),
        cmocka_unit_test(forgets_deleted_queues),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
