/* SPDX-License-Identifier: Apache-2.0 */
/* Whole error answers in both protocols, of the errors that no request can bring about while a
 * broker is well; the others have transcripts (tests/wire/sqs_transcripts.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/sqs/codec.h"

static void check(enum sqs_protocol protocol, struct sqs_error error, const char *expected)
{
    struct buffer out = {0};
    sqs_error_encode(&out, protocol, &error, "ID");
    assert_int_equal(out.length, strlen(expected));
    assert_memory_equal(out.data, expected, out.length);
    buffer_free(&out);
}

#define XML_HEAD                                                                                   \
    "<?xml version=\"1.0\"?><ErrorResponse "                                                       \
    "xmlns=\"http://queue.amazonaws.com/doc/2012-11-05/\"><Error>"
#define XML_TAIL "<Detail/></Error><RequestId>ID</RequestId></ErrorResponse>"

static void errors_of_the_broker(void **state)
{
    (void)state;
    static const struct {
        enum sqs_error_code code;
        int status;
        bool header; /* x-amzn-query-error */
        const char *json;
        const char *xml;
    } rows[] = {
        {SQS_ERROR_THROTTLED, 403, true,
         "{\"__type\":\"com.amazonaws.sqs#RequestThrottled\",\"message\":\"The request was denied "
         "due to request throttling. Try again after a moment.\"}",
         XML_HEAD "<Type>Sender</Type><Code>RequestThrottled</Code><Message>The request was denied "
                  "due to request throttling. Try again after a moment.</Message>" XML_TAIL},
        {SQS_ERROR_UNAVAILABLE, 503, false,
         "{\"__type\":\"com.amazon.coral.service#ServiceUnavailableException\",\"message\":\"This "
         "node does not serve requests at the moment. Try again after a moment.\"}",
         XML_HEAD "<Type>Receiver</Type><Code>ServiceUnavailable</Code><Message>This node does not "
                  "serve requests at the moment. Try again after a moment.</Message>" XML_TAIL},
        {SQS_ERROR_INTERNAL, 500, false,
         "{\"__type\":\"com.amazon.coral.service#InternalFailure\",\"message\":\"The request could "
         "not be carried out because of an internal error.\"}",
         XML_HEAD "<Type>Receiver</Type><Code>InternalFailure</Code><Message>The request could not "
                  "be carried out because of an internal error.</Message>" XML_TAIL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sqs_error error = {rows[i].code, NULL};
        assert_int_equal(sqs_errors[rows[i].code].http_status, rows[i].status);
        assert_int_equal(sqs_error_query_header(rows[i].code), rows[i].header);
        check(SQS_JSON, error, rows[i].json);
        check(SQS_QUERY, error, rows[i].xml);
    }
}

static void a_sentence_of_its_own(void **state)
{
    (void)state;
    struct sqs_error error = {SQS_ERROR_UNAVAILABLE, "\"<&>\"\r"};
    check(SQS_JSON, error,
          "{\"__type\":\"com.amazon.coral.service#ServiceUnavailableException\","
          "\"message\":\"\\\"<&>\\\"\\r\"}");
    check(SQS_QUERY, error,
          XML_HEAD "<Type>Receiver</Type><Code>ServiceUnavailable</Code>"
                   "<Message>&quot;&lt;&amp;&gt;&quot;&#13;</Message>" XML_TAIL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_of_the_broker),
        cmocka_unit_test(a_sentence_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
