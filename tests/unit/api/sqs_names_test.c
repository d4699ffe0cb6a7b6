/* SPDX-License-Identifier: Apache-2.0 */
/* Queue names, addresses and ARNs, and the once-a-minute rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/api/sqs/cooldown.h"
#include "broker/api/sqs/queue_name.h"

#include <stdio.h>

static void check(struct slice actual, const char *expected)
{
    assert_int_equal(actual.length, strlen(expected));
    if (actual.length > 0)
        assert_memory_equal(actual.data, expected, actual.length);
}

static void names(void **state)
{
    (void)state;
    char longest[81];
    memset(longest, 'a', sizeof longest);
    assert_true(sqs_name_valid(slice_make(longest, 80)));
    assert_false(sqs_name_valid(slice_make(longest, 81)));
    assert_true(sqs_name_valid(SLICE_LITERAL("a-Z_09")));
    static const char *const bad[] = {"", "a b", "a.fifo", "/async/f", "a/b", "caf\xc3\xa9", "a\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(sqs_name_valid(slice_of(bad[i])));
    assert_true(queue_name_is_fifo(SLICE_LITERAL("a.fifo")));
    assert_false(queue_name_is_fifo(SLICE_LITERAL("fifo")));
    assert_false(queue_name_is_fifo(SLICE_LITERAL("")));
}

static void addresses(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        const char *name;
    } cases[] = {
        {"http://127.0.0.1:9324/000000000000/jobs", "jobs"},
        {"https://sqs.eu-west-1.amazonaws.com/123456789012/jobs", "jobs"},
        {"http://localhost/queue/us-east-1/000000000000/jobs/", "jobs"},
        {"/000000000000/jobs", "jobs"},
        {"jobs", "jobs"},
        {"", ""},
        {"/", ""},
        {"http://host", ""},
        {"http://host/", ""},
        {"//", ""},
        {"http://h/1//async/f", "f"}, /* never a name with a slash */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check(queue_name_of_url(slice_of(cases[i].url)), cases[i].name);
}

static void paths(void **state)
{
    (void)state;
    static const char *const good[] = {"/000000000000/q", "/1/q/", "/queue/us-east-1/1/q",
                                       "/queue/q"};
    static const char *const bad[] = {
        "",        "/",           "/1",         "/1/",
        "/a/q",    "/1/q/x",      "/queue/1/q", "/2015-03-31/functions",
        "/1/q//",  "1/q",         "//q",        "/queue",
        "/queue/", "/queue/r/a/q"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(queue_path_match(slice_of(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(queue_path_match(slice_of(bad[i])));
}

static void arns(void **state)
{
    (void)state;
    check(queue_name_of_arn(SLICE_LITERAL("arn:aws:sqs:us-east-1:000000000000:q-1")), "q-1");
    check(queue_name_of_arn(SLICE_LITERAL("arn:aws-cn:sqs:cn-north-1:1:q")), "q");
    static const char *const bad[] = {"",
                                      "q",
                                      "arn:aws:sqs:us-east-1:1:",
                                      "arn:aws:sqs:us-east-1:1:/async/f",
                                      "arn:aws:sqs:us-east-1:q",
                                      "arn:aws:sqs:us-east-1:1:a:b",
                                      "arn:aws:lambda:us-east-1:1:q"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        check(queue_name_of_arn(slice_of(bad[i])), "");
}

static void regions(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        const char *region;
    } cases[] = {
        {"http://127.0.0.1:9324/000000000000/jobs", ""},
        {"http://h:9324/queue/eu-west-1/000000000000/jobs", "eu-west-1"},
        {"/queue/eu-west-1/000000000000/jobs/", "eu-west-1"},
        {"https://sqs.eu-west-1.amazonaws.com/123456789012/jobs", "eu-west-1"},
        {"http://eu-west-1.queue.localhost:4566/000000000000/jobs", "eu-west-1"},
        {"http://sqs.localhost/1/jobs", ""},
        {"http://sqs.h:1/queue/eu-west-1/1/q", "eu-west-1"},
        {"http://a.b.c/queue/q", ""},
        {"http://queue/queue/1/q", ""},
        {"http://sqs.UP.x/1/q", ""},
        {"jobs", ""},
        {"", ""},
        {"//", ""},
        {"http://sqs.", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check(queue_region_of_url(slice_of(cases[i].url)), cases[i].region);
    check(queue_region_of_arn(SLICE_LITERAL("arn:aws:sqs:us-east-1:000000000000:q")), "us-east-1");
    check(queue_key_name(SLICE_LITERAL("us-east-1:q")), "q");
    check(queue_key_region(SLICE_LITERAL("us-east-1:q")), "us-east-1");
    check(queue_key_name(SLICE_LITERAL("q")), "q");
    check(queue_key_region(SLICE_LITERAL("q")), "");
    assert_false(region_valid(SLICE_LITERAL("")));
    assert_false(region_valid(SLICE_LITERAL("a:b")));
}

static void cooldowns_end_after_a_minute(void **state)
{
    (void)state;
    struct cooldowns *cooldowns = cooldowns_new();
    struct slice q = SLICE_LITERAL("q");
    assert_false(cooldowns_active(cooldowns, COOLDOWN_PURGE, q, 1000));
    cooldowns_begin(cooldowns, COOLDOWN_PURGE, q, 1000);
    assert_true(cooldowns_active(cooldowns, COOLDOWN_PURGE, q, 1000));
    assert_true(cooldowns_active(cooldowns, COOLDOWN_PURGE, q, 1000 + COOLDOWN_MS - 1));
    assert_false(cooldowns_active(cooldowns, COOLDOWN_PURGE, q, 1000 + COOLDOWN_MS));
    assert_false(cooldowns_active(cooldowns, COOLDOWN_DELETE, q, 1000));
    assert_false(cooldowns_active(cooldowns, COOLDOWN_PURGE, SLICE_LITERAL("qq"), 1000));
    cooldowns_free(cooldowns);
}

static void cooldowns_are_bounded(void **state)
{
    (void)state;
    struct cooldowns *cooldowns = cooldowns_new();
    char name[32];
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "queue-%d", i);
        cooldowns_begin(cooldowns, COOLDOWN_DELETE, slice_of(name), 1000);
    }
    assert_true(cooldowns_active(cooldowns, COOLDOWN_DELETE, slice_of(name), 1001));
    assert_false(cooldowns_active(cooldowns, COOLDOWN_DELETE, SLICE_LITERAL("queue-0"), 1001));
    cooldowns_free(cooldowns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(addresses),
        cmocka_unit_test(paths),
        cmocka_unit_test(arns),
        cmocka_unit_test(regions),
        cmocka_unit_test(cooldowns_end_after_a_minute),
        cmocka_unit_test(cooldowns_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
