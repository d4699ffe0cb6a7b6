/* SPDX-License-Identifier: Apache-2.0 */
/* The errors of SQS as a table. Each has one name per protocol: the JSON `__type` that SDKs turn
 * into an exception class, and the older Query code that boto3 and others still show to their
 * users, which is why JSON answers carry it too, in the header x-amzn-query-error. */
#include "proto/sqs/errors.h"

#include "proto/base/assert.h"

enum { Sender = true, Receiver = false };

const struct sqs_error_row sqs_errors[SQS_ERROR_COUNT] = {
#define ERROR(name, type, query, http, fault, text, query_text)                                    \
    [SQS_ERROR_##name] = {type, query, http, fault, text, query_text},
#include "proto/sqs/sqs_errors.def"
#undef ERROR
};

const char *sqs_error_text(enum sqs_protocol protocol, const struct sqs_error *error)
{
    ASSERT(error->code > SQS_OK && error->code < SQS_ERROR_COUNT);
    if (error->message != NULL)
        return error->message;
    const struct sqs_error_row *row = &sqs_errors[error->code];
    return protocol == SQS_QUERY && row->query_text != NULL ? row->query_text : row->text;
}

const char *sqs_error_short_code(enum sqs_error_code code)
{
    ASSERT(code > SQS_OK && code < SQS_ERROR_COUNT);
    return sqs_errors[code].query_code;
}

bool sqs_error_query_header(enum sqs_error_code code)
{
    ASSERT(code > SQS_OK && code < SQS_ERROR_COUNT);
    return code >= SQS_ERROR_ACCESS_DENIED ||
           slice_starts_with(slice_of(sqs_errors[code].json_type), "com.amazonaws.sqs#");
}
