/* SPDX-License-Identifier: Apache-2.0 */
/* The policy language: what is refused, who, what and when matches, and that Deny wins. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/auth/policy.h"
#include "proto/base/assert.h"

#include <stdio.h>

#define ACCOUNT "123456789012"
#define ME      "arn:aws:iam::" ACCOUNT ":user/alice"
#define QUEUE   "arn:aws:sqs:us-east-1:" ACCOUNT ":orders"

static const struct {
    const char *key;
    const char *value;
} values[] = {
    {"aws:username", "alice"},
    {"aws:SourceIp", "192.0.2.77"},
    {"aws:CurrentTime", "2026-06-01T12:00:00Z"},
    {"aws:EpochTime", "1780315200"},
    {"aws:SecureTransport", "false"},
    {"aws:PrincipalArn", ME},
    {"sqs:Count", "10"},
    {"aws:odd", "a*b"},
};

static bool get_value(void *data, struct slice key, struct slice *out)
{
    (void)data;
    for (size_t i = 0; i < ARRAY_COUNT(values); i++) {
        if (slice_is_nocase(key, values[i].key)) {
            *out = slice_of(values[i].value);
            return true;
        }
    }
    return false;
}

static enum policy_effect ask(const char *json, enum policy_kind kind, const char *arn,
                              const char *action, const char *resource)
{
    struct policy *policy;
    const char *why;
    enum status status = policy_parse(&policy, slice_of(json), kind, &why);
    if (status != STATUS_OK)
        fail_msg("%s: %s", json, why);
    struct policy_request request = {.account =
                                         arn != NULL ? slice_make(arn + 13, 12) : (struct slice){0},
                                     .principal_arn = slice_of(arn),
                                     .action = slice_of(action),
                                     .resource = slice_of(resource),
                                     .values = {get_value, NULL}};
    enum policy_effect effect = policy_evaluate(policy, &request);
    policy_free(policy);
    return effect;
}

#define ALLOW(more) "{\"Version\":\"2012-10-17\",\"Statement\":{\"Effect\":\"Allow\"," more "}}"

static enum policy_effect identity(const char *json)
{
    return ask(json, POLICY_IDENTITY, ME, "sqs:SendMessage", QUEUE);
}

static void test_actions_and_resources(void **state)
{
    (void)state;
    static const struct {
        const char *action;
        const char *resource;
        bool allows;
    } rows[] = {
        {"\"sqs:SendMessage\"", "\"*\"", true},
        {"\"SQS:sendmessage\"", "\"*\"", true},
        {"\"sqs:Send*\"", "\"*\"", true},
        {"\"sqs:Se?dMessage\"", "\"*\"", true},
        {"\"*\"", "\"*\"", true},
        {"[\"lambda:Invoke\",\"sqs:*\"]", "\"*\"", true},
        {"\"sqs:ReceiveMessage\"", "\"*\"", false},
        {"\"lambda:*\"", "\"*\"", false},
        {"\"sqs:*\"", "\"" QUEUE "\"", true},
        {"\"sqs:*\"", "\"arn:aws:sqs:*:*:ord*\"", true},
        {"\"sqs:*\"", "\"arn:aws:sqs:us-east-1:" ACCOUNT ":Orders\"", false},
        {"\"sqs:*\"", "\"arn:aws:sqs:us-east-1:" ACCOUNT ":order\"", false},
        {"\"sqs:*\"", "[\"arn:aws:sqs:*:*:other\",\"arn:aws:sqs:*:*:orders\"]", true},
        {"\"sqs:*\"", "\"arn:aws:sqs:*:*:${aws:username}\"", false},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        char json[1024];
        snprintf(json, sizeof json, ALLOW("\"Action\":%s,\"Resource\":%s"), rows[i].action,
                 rows[i].resource);
        if (identity(json) != (rows[i].allows ? POLICY_ALLOWS : POLICY_SILENT))
            fail_msg("%s", json);
    }
}

static void test_not_forms(void **state)
{
    (void)state;
    assert_int_equal(identity(ALLOW("\"NotAction\":\"lambda:*\",\"Resource\":\"*\"")),
                     POLICY_ALLOWS);
    assert_int_equal(identity(ALLOW("\"NotAction\":\"sqs:*\",\"Resource\":\"*\"")), POLICY_SILENT);
    assert_int_equal(identity(ALLOW("\"Action\":\"*\",\"NotResource\":\"arn:aws:sqs:*:*:other\"")),
                     POLICY_ALLOWS);
    assert_int_equal(identity(ALLOW("\"Action\":\"*\",\"NotResource\":\"" QUEUE "\"")),
                     POLICY_SILENT);
    /* Nobody knows what it excludes, so nothing is allowed. */
    assert_int_equal(
        identity(ALLOW("\"Action\":\"*\",\"NotResource\":\"arn:aws:sqs:*:*:${aws:none}\"")),
        POLICY_SILENT);
}

static void test_deny_beats_allow(void **state)
{
    (void)state;
    static const char allow[] = "{\"Effect\":\"Allow\",\"Action\":\"*\",\"Resource\":\"*\"}";
    static const char deny[] =
        "{\"Effect\":\"Deny\",\"Action\":\"sqs:SendMessage\",\"Resource\":\"*\"}";
    char json[512];
    snprintf(json, sizeof json, "{\"Statement\":[%s,%s]}", allow, deny);
    assert_int_equal(identity(json), POLICY_DENIES);
    snprintf(json, sizeof json, "{\"Statement\":[%s,%s]}", deny, allow);
    assert_int_equal(identity(json), POLICY_DENIES);
    assert_int_equal(ask(json, POLICY_IDENTITY, ME, "sqs:ReceiveMessage", QUEUE), POLICY_ALLOWS);
    assert_int_equal(identity("{}"), POLICY_SILENT);
    assert_int_equal(identity("{\"Statement\":[]}"), POLICY_SILENT);
}

static void test_conditions(void **state)
{
    (void)state;
    static const struct {
        const char *condition;
        bool holds;
    } rows[] = {
        {"{\"StringEquals\":{\"aws:username\":\"alice\"}}", true},
        {"{\"StringEquals\":{\"AWS:UserName\":[\"bob\",\"alice\"]}}", true},
        {"{\"StringEquals\":{\"aws:username\":\"al*\"}}", false},
        {"{\"StringEquals\":{\"aws:username\":\"Alice\"}}", false},
        {"{\"StringEqualsIgnoreCase\":{\"aws:username\":\"Alice\"}}", true},
        {"{\"StringLike\":{\"aws:username\":\"al*\"}}", true},
        {"{\"StringNotEquals\":{\"aws:username\":[\"bob\",\"carol\"]}}", true},
        {"{\"StringNotEquals\":{\"aws:username\":[\"bob\",\"alice\"]}}", false},
        {"{\"StringNotLike\":{\"aws:username\":\"a*\"}}", false},
        {"{\"StringEquals\":{\"aws:none\":\"x\"}}", false},
        {"{\"StringNotEquals\":{\"aws:none\":\"x\"}}", true},
        {"{\"StringEqualsIfExists\":{\"aws:none\":\"x\"}}", true},
        {"{\"StringEqualsIfExists\":{\"aws:username\":\"x\"}}", false},
        {"{\"ForAnyValue:StringNotEquals\":{\"aws:none\":\"x\"}}", false},
        {"{\"ForAllValues:StringEquals\":{\"aws:none\":\"x\"}}", true},
        {"{\"StringEquals\":{\"aws:PrincipalArn\":\"arn:aws:iam::" ACCOUNT
         ":user/${aws:username}\"}}",
         true},
        {"{\"StringNotEquals\":{\"aws:username\":\"${aws:none}\"}}", false},
        /* What a variable brings in is no wildcard. */
        {"{\"StringLike\":{\"aws:username\":\"${aws:odd}\"}}", false},
        {"{\"StringLike\":{\"aws:odd\":\"a${*}b\"}}", true},
        {"{\"ArnLike\":{\"aws:PrincipalArn\":\"arn:aws:iam::*:user/a*\"}}", true},
        {"{\"ArnEquals\":{\"aws:PrincipalArn\":\"arn:aws:iam::*:user/b*\"}}", false},
        {"{\"ArnNotEquals\":{\"aws:PrincipalArn\":\"" ME "\"}}", false},
        {"{\"NumericEquals\":{\"sqs:Count\":10}}", true},
        {"{\"NumericLessThan\":{\"sqs:Count\":\"9.5\"}}", false},
        {"{\"NumericGreaterThanEquals\":{\"sqs:Count\":\"10\"}}", true},
        {"{\"NumericEquals\":{\"aws:username\":\"10\"}}", false},
        {"{\"DateLessThan\":{\"aws:CurrentTime\":\"2026-06-01T12:00:01Z\"}}", true},
        {"{\"DateGreaterThan\":{\"aws:CurrentTime\":\"2026-06-02\"}}", false},
        {"{\"DateEquals\":{\"aws:CurrentTime\":\"1780315200\"}}", true},
        {"{\"NumericGreaterThan\":{\"aws:EpochTime\":\"1780315199\"}}", true},
        {"{\"Bool\":{\"aws:SecureTransport\":\"false\"}}", true},
        {"{\"Bool\":{\"aws:SecureTransport\":true}}", false},
        {"{\"IpAddress\":{\"aws:SourceIp\":\"192.0.2.0/24\"}}", true},
        {"{\"IpAddress\":{\"aws:SourceIp\":\"192.0.2.76/30\"}}", true},
        {"{\"IpAddress\":{\"aws:SourceIp\":\"192.0.2.72/30\"}}", false},
        {"{\"IpAddress\":{\"aws:SourceIp\":[\"2001:db8::/32\",\"192.0.2.77\"]}}", true},
        {"{\"NotIpAddress\":{\"aws:SourceIp\":\"0.0.0.0/0\"}}", false},
        {"{\"Null\":{\"aws:none\":\"true\"}}", true},
        {"{\"Null\":{\"aws:username\":\"true\"}}", false},
        {"{\"Null\":{\"aws:username\":false}}", true},
        {"{\"Bool\":{\"aws:SecureTransport\":false},\"StringEquals\":{\"aws:username\":\"bob\"}}",
         false},
        {"{\"StringEquals\":{\"aws:username\":\"alice\",\"aws:none\":\"x\"}}", false},
        {"{}", true},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        char json[1024];
        snprintf(json, sizeof json, ALLOW("\"Action\":\"*\",\"Resource\":\"*\",\"Condition\":%s"),
                 rows[i].condition);
        if (identity(json) != (rows[i].holds ? POLICY_ALLOWS : POLICY_SILENT))
            fail_msg("%s should %shold", rows[i].condition, rows[i].holds ? "" : "not ");
    }
    /* A Deny with a variable that has no value denies. */
    assert_int_equal(identity("{\"Version\":\"2012-10-17\",\"Statement\":{\"Effect\":\"Deny\","
                              "\"Action\":\"*\",\"Resource\":\"*\",\"Condition\":{"
                              "\"StringNotEquals\":{\"aws:username\":\"${aws:none}\"}}}}"),
                     POLICY_DENIES);
}

static void test_principals(void **state)
{
    (void)state;
    static const char other[] = "arn:aws:iam::210987654321:user/alice";
    static const struct {
        const char *principal;
        enum policy_effect me, other, nobody;
    } rows[] = {
        {"\"Principal\":\"*\"", POLICY_ALLOWS, POLICY_ALLOWS, POLICY_ALLOWS},
        {"\"Principal\":{\"AWS\":\"*\"}", POLICY_ALLOWS, POLICY_ALLOWS, POLICY_ALLOWS},
        {"\"Principal\":{\"AWS\":\"" ACCOUNT "\"}", POLICY_ALLOWS_ACCOUNT, POLICY_SILENT,
         POLICY_SILENT},
        {"\"Principal\":{\"AWS\":\"arn:aws:iam::" ACCOUNT ":root\"}", POLICY_ALLOWS_ACCOUNT,
         POLICY_SILENT, POLICY_SILENT},
        {"\"Principal\":{\"AWS\":[\"210987654321\",\"" ME "\"]}", POLICY_ALLOWS,
         POLICY_ALLOWS_ACCOUNT, POLICY_SILENT},
        {"\"Principal\":{\"Service\":\"sns.amazonaws.com\"}", POLICY_SILENT, POLICY_SILENT,
         POLICY_SILENT},
        {"\"NotPrincipal\":{\"AWS\":\"" ME "\"}", POLICY_SILENT, POLICY_ALLOWS, POLICY_ALLOWS},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        char json[1024];
        snprintf(json, sizeof json, ALLOW("%s,\"Action\":\"SQS:SendMessage\",\"Resource\":\"%s\""),
                 rows[i].principal, QUEUE);
        print_message("%s\n", rows[i].principal);
        assert_int_equal(ask(json, POLICY_RESOURCE, ME, "sqs:SendMessage", QUEUE), rows[i].me);
        assert_int_equal(ask(json, POLICY_RESOURCE, other, "sqs:SendMessage", QUEUE),
                         rows[i].other);
        assert_int_equal(ask(json, POLICY_RESOURCE, NULL, "sqs:SendMessage", QUEUE),
                         rows[i].nobody);
    }
}

static void test_what_is_refused(void **state)
{
    (void)state;
#define OK_PARTS "\"Action\":\"sqs:*\",\"Resource\":\"*\""
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "\"x\"",
        "{\"Statement\":[1]}",
        "{\"Version\":\"2020-01-01\"}",
        "{\"Version\":2012}",
        "{\"Statements\":[]}",
        "{\"Statement\":{}}",
        "{\"Statement\":{\"Effect\":\"allow\"," OK_PARTS "}}",
        "{\"Statement\":{" OK_PARTS "}}",
        ALLOW("\"Action\":\"sqs:*\""),
        ALLOW("\"Resource\":\"*\""),
        ALLOW("\"Action\":[],\"Resource\":\"*\""),
        ALLOW("\"Action\":1,\"Resource\":\"*\""),
        ALLOW("\"Action\":\"SendMessage\",\"Resource\":\"*\""),
        ALLOW("\"Action\":\"sqs:\",\"Resource\":\"*\""),
        ALLOW("\"Action\":\"sqs:Send Message\",\"Resource\":\"*\""),
        ALLOW("\"Action\":\"sqs:*\",\"Resource\":\"orders\""),
        ALLOW("\"Action\":\"sqs:*\",\"NotAction\":\"sqs:*\",\"Resource\":\"*\""),
        ALLOW(OK_PARTS ",\"Principal\":\"*\""),
        ALLOW(OK_PARTS ",\"Comment\":\"x\""),
        ALLOW(OK_PARTS ",\"Sid\":1"),
        ALLOW(OK_PARTS ",\"Condition\":[]"),
        ALLOW(OK_PARTS ",\"Condition\":{\"StringIs\":{\"aws:username\":\"x\"}}"),
        ALLOW(OK_PARTS ",\"Condition\":{\"StringEquals\":\"x\"}"),
        ALLOW(OK_PARTS ",\"Condition\":{\"StringEquals\":{\"username\":\"x\"}}"),
        ALLOW(OK_PARTS ",\"Condition\":{\"StringEquals\":{\"aws:username\":[]}}"),
        ALLOW(OK_PARTS ",\"Condition\":{\"StringEquals\":{\"aws:username\":{}}}"),
        ALLOW(OK_PARTS ",\"Condition\":{\"StringEquals\":{\"aws:username\":\"${x}\"}}"),
        ALLOW(OK_PARTS ",\"Condition\":{\"StringEquals\":{\"aws:username\":\"${aws:x,'d'}\"}}"),
        ALLOW(OK_PARTS ",\"Condition\":{\"IpAddress\":{\"aws:SourceIp\":\"10.0.0.0/33\"}}"),
        ALLOW(OK_PARTS ",\"Condition\":{\"IpAddress\":{\"aws:SourceIp\":\"10.0.0\"}}"),
        ALLOW(OK_PARTS ",\"Condition\":{\"IpAddress\":{\"aws:SourceIp\":\"10.0.0.0/ 8\"}}"),
        ALLOW(OK_PARTS ",\"Condition\":{\"NumericEquals\":{\"a:b\":\"ten\"}}"),
        ALLOW(OK_PARTS ",\"Condition\":{\"DateLessThan\":{\"a:b\":\"tomorrow\"}}"),
        ALLOW(OK_PARTS ",\"Condition\":{\"Null\":{\"a:b\":\"maybe\"}}"),
        ALLOW(OK_PARTS ",\"Condition\":{\"NullIfExists\":{\"a:b\":\"true\"}}"),
        "{\"Statement\":[],\"Statement\":[]}",
    };
    struct policy *policy;
    const char *why;
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        why = NULL;
        if (policy_parse(&policy, slice_of(bad[i]), POLICY_IDENTITY, &why) == STATUS_OK)
            fail_msg("accepted: %s", bad[i]);
        assert_non_null(why);
    }
    static const char *const bad_for_a_queue[] = {
        ALLOW(OK_PARTS),
        ALLOW(OK_PARTS ",\"Principal\":\"someone\""),
        ALLOW(OK_PARTS ",\"Principal\":{}"),
        ALLOW(OK_PARTS ",\"Principal\":{\"AWS\":\"alice\"}"),
        ALLOW(OK_PARTS ",\"Principal\":{\"AWS\":\"arn:aws:iam::" ACCOUNT ":user/*\"}"),
        ALLOW(OK_PARTS ",\"Principal\":{\"Who\":\"*\"}"),
        ALLOW(OK_PARTS ",\"Principal\":\"*\",\"NotPrincipal\":\"*\""),
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad_for_a_queue); i++) {
        if (policy_parse(&policy, slice_of(bad_for_a_queue[i]), POLICY_RESOURCE, &why) == STATUS_OK)
            fail_msg("accepted: %s", bad_for_a_queue[i]);
        assert_non_null(why);
    }
}

/* A pattern that would take a recursive matcher for ever. */
static void test_patterns_are_fast(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct pattern pattern;
    struct buffer text = {0};
    struct buffer stars = {0};
    for (int i = 0; i < 200; i++)
        buffer_add_text(&stars, "a*");
    buffer_add_byte(&stars, 'b');
    for (int i = 0; i < 2000; i++)
        buffer_add_byte(&text, 'a');
    assert_null(pattern_compile(buffer_slice(&stars), (struct pattern_rules){true, false}, &arena,
                                &pattern));
    assert_false(pattern_matches(&pattern, buffer_slice(&text), false, NULL));
    buffer_add_byte(&text, 'b');
    assert_true(pattern_matches(&pattern, buffer_slice(&text), false, NULL));
    buffer_free(&text);
    buffer_free(&stars);
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_actions_and_resources),
        cmocka_unit_test(test_not_forms),
        cmocka_unit_test(test_deny_beats_allow),
        cmocka_unit_test(test_conditions),
        cmocka_unit_test(test_principals),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_patterns_are_fast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
