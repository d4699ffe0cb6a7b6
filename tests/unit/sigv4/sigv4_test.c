/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures: published examples and botocore's, what a claim must look like, and what must be
 * signed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/assert.h"
#include "proto/sigv4/sigv4.h"

#define SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define DAY_S  UINT64_C(1440938160) /* 2015-08-30 12:36:00 UTC */
#define HOST                                                                                       \
    {                                                                                              \
        SLICE_LITERAL("Host"), SLICE_LITERAL("example.amazonaws.com")                              \
    }
#define DATE                                                                                       \
    {                                                                                              \
        SLICE_LITERAL("X-Amz-Date"), SLICE_LITERAL("20150830T123600Z")                             \
    }
#define TEXT_TIME "20150830T123600Z"

static struct sigv4_signer signer_of(const char *service)
{
    return (struct sigv4_signer){SLICE_LITERAL("AKIDEXAMPLE"), SLICE_LITERAL(SECRET),
                                 SLICE_LITERAL("us-east-1"), slice_of(service), DAY_S};
}

static void assert_signature(const char *method, const char *path, const char *query,
                             const struct sigv4_header *headers, size_t count, const char *body,
                             const char *service, const char *signature)
{
    struct arena arena = {0};
    struct sigv4_request request = {slice_of(method), slice_of(path), slice_of(query), headers,
                                    count};
    struct sigv4_signer signer = signer_of(service);
    const char *value = sigv4_sign(&request, &signer, slice_of(body), &arena);
    const char *at = strstr(value, "Signature=");
    assert_non_null(at);
    assert_string_equal(at + 10, signature);
    arena_free(&arena);
}

/* get-vanilla and get-vanilla-query-order of AWS's test suite; the others as botocore signs. */
static void test_known_signatures(void **state)
{
    (void)state;
    const struct sigv4_header plain[] = {HOST, DATE};
    const struct sigv4_header blanks[] = {
        HOST, DATE, {SLICE_LITERAL("My-Header1"), SLICE_LITERAL("  a   b\tc  ")}};
    const struct sigv4_header json[] = {
        {SLICE_LITERAL("X-Amz-Target"), SLICE_LITERAL("AmazonSQS.SendMessage")},
        {SLICE_LITERAL("content-type"), SLICE_LITERAL("application/x-amz-json-1.0")},
        HOST,
        DATE};
    assert_signature("GET", "/", "", plain, 2, "", "service",
                     "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
    assert_signature("GET", "/", "Param2=value2&Param1=value1", plain, 2, "", "service",
                     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500");
    assert_signature("GET", "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1/x%20y",
                     "b=%20&a=%2F&a=1&c", blanks, 3, "", "service",
                     "4f5c65b2c6c8b0549c484456a86c71098e1dd33c41e5f05d1597af5f0b6aa584");
    assert_signature("POST", "/", "", json, 4, "{\"a\":1}", "sqs",
                     "8d808f97cd080e8d9dd2bfe1f3d2bfd970bf5f3634012f5701de5170b2a7e58d");
}

static void test_known_presigned(void **state)
{
    (void)state;
    struct arena arena = {0};
    const struct sigv4_header headers[] = {HOST};
    struct sigv4_request request = {SLICE_LITERAL("GET"), SLICE_LITERAL("/123456789012/q"),
                                    SLICE_LITERAL("Action=SendMessage&MessageBody=a%20b%2Bc"),
                                    headers, 1};
    struct sigv4_signer signer = signer_of("sqs");
    const char *query = sigv4_presign(&request, &signer, 60, &arena);
    assert_string_equal(
        query, "Action=SendMessage&MessageBody=a%20b%2Bc&X-Amz-Algorithm=AWS4-HMAC-SHA256"
               "&X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Fsqs%2Faws4_request"
               "&X-Amz-Date=20150830T123600Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host"
               "&X-Amz-Signature=ac5024c78a231af05546e8130a0db799c0e03a54b0edce1ad18d15745aa683ed");
    struct sigv4_claim claim;
    const char *why;
    request.query = slice_of(query);
    assert_int_equal(sigv4_read(&request, &arena, &claim, &why), SIGV4_SIGNED);
    assert_true(claim.presigned);
    assert_int_equal(claim.expires_s, 60);
    assert_int_equal(claim.time_s, DAY_S);
    assert_int_equal(claim.parameter_count, 7);
    arena_free(&arena);
}

/* ---- reading ---- */

#define CREDENTIAL "Credential=AKID/20150830/us-east-1/sqs/aws4_request"
#define HEX        "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
#define NAMES      "SignedHeaders=host;x-amz-date"

static enum sigv4_reading read_value(const char *authorization, const char *date)
{
    struct arena arena = {0};
    struct sigv4_claim claim;
    const char *why = NULL;
    const struct sigv4_header headers[] = {
        HOST,
        {SLICE_LITERAL("x-amz-date"), slice_of(date)},
        {SLICE_LITERAL("authorization"), slice_of(authorization)}};
    struct sigv4_request request = {SLICE_LITERAL("GET"), SLICE_LITERAL("/"), (struct slice){0},
                                    headers, 3};
    enum sigv4_reading reading = sigv4_read(&request, &arena, &claim, &why);
    if (reading == SIGV4_INCOMPLETE)
        assert_non_null(why);
    arena_free(&arena);
    return reading;
}

static void test_headers_are_read(void **state)
{
    (void)state;
    static const char *const good[] = {
        "AWS4-HMAC-SHA256 " CREDENTIAL ", " NAMES ", " HEX,
        "AWS4-HMAC-SHA256 " HEX "," NAMES "," CREDENTIAL,
        "AWS4-HMAC-SHA256   " CREDENTIAL " ,  " NAMES " ,  " HEX "  ",
    };
    static const char *const bad[] = {
        "AWS4-HMAC-SHA256 " CREDENTIAL ", " NAMES,
        "AWS4-HMAC-SHA256 " CREDENTIAL ", " HEX,
        "AWS4-HMAC-SHA256 " NAMES ", " HEX,
        "AWS4-HMAC-SHA256 " CREDENTIAL ", " NAMES ", " HEX ", " HEX,
        "AWS4-HMAC-SHA256 " CREDENTIAL ", " NAMES ", " HEX ", More=1",
        "AWS4-HMAC-SHA256 " CREDENTIAL ", " NAMES ", " HEX "0",
        "AWS4-HMAC-SHA256 " CREDENTIAL "/x, " NAMES ", " HEX,
        "AWS4-HMAC-SHA256 Credential=AKID/20150830/us-east-1/aws4_request, " NAMES ", " HEX,
        "AWS4-HMAC-SHA256 Credential=/20150830/us-east-1/sqs/aws4_request, " NAMES ", " HEX,
        "AWS4-HMAC-SHA256 Credential=A D/20150830/us-east-1/sqs/aws4_request, " NAMES ", " HEX,
        "AWS4-HMAC-SHA256 Credential=AKID/20150831/us-east-1/sqs/aws4_request, " NAMES ", " HEX,
        "AWS4-HMAC-SHA256 Credential=AKID/20150830/us-east-1/sqs/aws4, " NAMES ", " HEX,
        "AWS4-ECDSA-P256-SHA256 " CREDENTIAL ", " NAMES ", " HEX,
        "AWS AKID:signature",
        "Bearer token",
        "AWS4-HMAC-SHA256",
        "",
    };
    for (size_t i = 0; i < ARRAY_COUNT(good); i++)
        assert_int_equal(read_value(good[i], TEXT_TIME), SIGV4_SIGNED);
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        assert_int_equal(read_value(bad[i], TEXT_TIME), SIGV4_INCOMPLETE);
    static const char *const times[] = {"20150830T123600", "20150830T253600Z", "20150830 123600Z",
                                        "Sun, 30 Aug 2015 12:36:00 GMT", ""};
    for (size_t i = 0; i < ARRAY_COUNT(times); i++)
        assert_int_equal(read_value(good[0], times[i]), SIGV4_INCOMPLETE);
}

static enum sigv4_reading read_request(const char *query, const struct sigv4_header *headers,
                                       size_t count)
{
    struct arena arena = {0};
    struct sigv4_claim claim;
    const char *why;
    struct sigv4_request request = {SLICE_LITERAL("GET"), SLICE_LITERAL("/"), slice_of(query),
                                    headers, count};
    enum sigv4_reading reading = sigv4_read(&request, &arena, &claim, &why);
    arena_free(&arena);
    return reading;
}

#define PRESIGNED                                                                                  \
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKID%2F20150830%2Fr%2Fsqs%2Faws4_request"   \
    "&X-Amz-Date=20150830T123600Z&X-Amz-SignedHeaders=host"                                        \
    "&X-Amz-Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"

static void test_queries_are_read(void **state)
{
    (void)state;
    const struct sigv4_header host[] = {HOST};
    assert_int_equal(read_request("", host, 1), SIGV4_UNSIGNED);
    assert_int_equal(read_request("Action=ListQueues", host, 1), SIGV4_UNSIGNED);
    assert_int_equal(read_request(PRESIGNED "&X-Amz-Expires=1", host, 1), SIGV4_SIGNED);
    assert_int_equal(read_request(PRESIGNED "&X-Amz-Expires=604800", host, 1), SIGV4_SIGNED);
    static const char *const bad[] = {
        PRESIGNED,
        PRESIGNED "&X-Amz-Expires=0",
        PRESIGNED "&X-Amz-Expires=604801",
        PRESIGNED "&X-Amz-Expires=-1",
        PRESIGNED "&X-Amz-Expires=4294967297",
        PRESIGNED "&X-Amz-Expires=60&X-Amz-Expires=60",
        PRESIGNED "&X-Amz-Expires=60&X-Amz-Signature=0",
        PRESIGNED "&X-Amz-Expires=60&a=%zz",
        "X-Amz-Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        assert_int_equal(read_request(bad[i], host, 1), SIGV4_INCOMPLETE);
}

static void test_ambiguous_claims_are_refused(void **state)
{
    (void)state;
    const struct sigv4_header authorization = {
        SLICE_LITERAL("Authorization"),
        SLICE_LITERAL("AWS4-HMAC-SHA256 " CREDENTIAL ", " NAMES ", " HEX)};
    const struct sigv4_header once[] = {HOST, DATE, authorization};
    const struct sigv4_header twice[] = {HOST, DATE, authorization, authorization};
    const struct sigv4_header dates[] = {HOST, DATE, DATE, authorization};
    assert_int_equal(read_request("", once, 3), SIGV4_SIGNED);
    assert_int_equal(read_request("", twice, 4), SIGV4_INCOMPLETE);
    assert_int_equal(read_request("", dates, 4), SIGV4_INCOMPLETE);
    assert_int_equal(read_request(PRESIGNED "&X-Amz-Expires=60", once, 3), SIGV4_INCOMPLETE);
}

/* ---- what must be signed ---- */

static const char *canonical_fails(const struct sigv4_header *headers, size_t count,
                                   const char *signed_headers)
{
    struct buffer out = {0};
    struct sigv4_request request = {SLICE_LITERAL("GET"), SLICE_LITERAL("/"), (struct slice){0},
                                    headers, count};
    struct sigv4_claim claim = {.signed_headers = slice_of(signed_headers)};
    const char *why = sigv4_canonical(&out, &request, &claim, SLICE_LITERAL("hash"));
    assert_int_equal(out.length == 0, why != NULL);
    buffer_free(&out);
    return why;
}

static void test_what_must_be_signed(void **state)
{
    (void)state;
    const struct sigv4_header headers[] = {
        HOST, DATE, {SLICE_LITERAL("X-Amz-Target"), SLICE_LITERAL("AmazonSQS.DeleteQueue")}};
    assert_null(canonical_fails(headers, 2, "host;x-amz-date"));
    assert_null(canonical_fails(headers, 3, "host;x-amz-date;x-amz-target"));
    assert_non_null(canonical_fails(headers, 3, "host;x-amz-date")); /* the target is not */
    assert_non_null(canonical_fails(headers, 2, "x-amz-date"));      /* the host is not */
    assert_non_null(canonical_fails(headers, 2, "host;host;x-amz-date"));
    assert_non_null(canonical_fails(headers, 2, "x-amz-date;host"));
    assert_non_null(canonical_fails(headers, 2, "Host;x-amz-date"));
    assert_non_null(canonical_fails(headers, 2, "host;not-there;x-amz-date"));
    assert_non_null(canonical_fails(headers, 2, "host;;x-amz-date"));
    assert_non_null(canonical_fails(headers, 2, "host;x-amz-date:\nx"));
    assert_non_null(canonical_fails(headers, 2, ""));
    const struct sigv4_header broken[] = {
        HOST, {SLICE_LITERAL("x-amz-date"), SLICE_LITERAL("a\nx-amz-target:b")}};
    assert_non_null(canonical_fails(broken, 2, "host;x-amz-date"));
}

static struct buffer canonical_of(const char *path, const char *query)
{
    struct arena arena = {0};
    struct buffer out = {0};
    const struct sigv4_header headers[] = {HOST, DATE};
    struct sigv4_request request = {SLICE_LITERAL("GET"), slice_of(path), slice_of(query), headers,
                                    2};
    struct sigv4_claim claim;
    const char *why;
    assert_int_equal(sigv4_read(&request, &arena, &claim, &why), SIGV4_UNSIGNED);
    claim.signed_headers = SLICE_LITERAL("host;x-amz-date");
    assert_null(sigv4_canonical(&out, &request, &claim, SLICE_LITERAL("hash")));
    arena_free(&arena);
    return out;
}

static void assert_canonical_same(const char *path_a, const char *query_a, const char *path_b,
                                  const char *query_b, bool same)
{
    struct buffer a = canonical_of(path_a, query_a);
    struct buffer b = canonical_of(path_b, query_b);
    assert_int_equal(slice_equal(buffer_slice(&a), buffer_slice(&b)), same);
    buffer_free(&a);
    buffer_free(&b);
}

/* One canonical form is one meaning. */
static void test_paths_and_queries(void **state)
{
    (void)state;
    assert_canonical_same("/a", "x=1&y=2", "/a", "y=2&x=1", true);
    assert_canonical_same("/a", "x=a+b", "/a", "x=a%20b", true);
    assert_canonical_same("/a", "x=%41", "/a", "x=A", true);
    assert_canonical_same("/a", "x", "/a", "x=", true);
    assert_canonical_same("/a", "x=1%262", "/a", "x=1&2", false);
    assert_canonical_same("/a", "x=1", "/a", "x=2", false);
    assert_canonical_same("/a/../b", "", "/b", "", false);
    assert_canonical_same("/a//b", "", "/a/b", "", false);
    assert_canonical_same("/a/./b", "", "/a/b", "", false);
    assert_canonical_same("/a%2Fb", "", "/a/b", "", false);
    assert_canonical_same("/a%0Ab", "", "/a\nb", "", false);
}

static void test_moments(void **state)
{
    (void)state;
    uint64_t seconds = 0;
    char text[MOMENT_LENGTH + 1];
    assert_true(moment_parse(SLICE_LITERAL("19700101T000000Z"), &seconds));
    assert_int_equal(seconds, 0);
    assert_true(moment_parse(SLICE_LITERAL("20240229T235959Z"), &seconds));
    moment_format(seconds, text);
    assert_string_equal(text, "20240229T235959Z");
    assert_false(moment_parse(SLICE_LITERAL("20230229T000000Z"), &seconds));
    assert_false(moment_parse(SLICE_LITERAL("20231301T000000Z"), &seconds));
    assert_false(moment_parse(SLICE_LITERAL("20230101T006000Z"), &seconds));
    assert_true(moment_parse_iso(SLICE_LITERAL("2024-02-29T23:59:59Z"), &seconds));
    moment_format(seconds, text);
    assert_string_equal(text, "20240229T235959Z");
    assert_true(moment_parse_iso(SLICE_LITERAL("2024-02-29"), &seconds));
    assert_false(moment_parse_iso(SLICE_LITERAL("2024-02-30"), &seconds));
    assert_false(moment_parse_iso(SLICE_LITERAL("2024-02-29T23:59:59"), &seconds));
}

static void test_hashes(void **state)
{
    (void)state;
    uint8_t ours[SHA256_BYTES];
    uint8_t theirs[SHA256_BYTES];
    uint8_t key[150];
    memset(key, 7, sizeof key);
    for (size_t length = 0; length <= sizeof key; length += 10) {
        struct hash_key prepared;
        struct slice bytes = slice_make(key, length);
        hash_key_init(&prepared, bytes);
        hash_hmac(&prepared, SLICE_LITERAL("message"), ours);
        digest_hmac_sha256(bytes, SLICE_LITERAL("message"), theirs);
        assert_memory_equal(ours, theirs, sizeof ours);
        hash_sha256(bytes, ours);
        digest_sha256(bytes, theirs);
        assert_memory_equal(ours, theirs, sizeof ours);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_signatures),
        cmocka_unit_test(test_known_presigned),
        cmocka_unit_test(test_headers_are_read),
        cmocka_unit_test(test_queries_are_read),
        cmocka_unit_test(test_ambiguous_claims_are_refused),
        cmocka_unit_test(test_what_must_be_signed),
        cmocka_unit_test(test_paths_and_queries),
        cmocka_unit_test(test_moments),
        cmocka_unit_test(test_hashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
