/* SPDX-License-Identifier: Apache-2.0 */
/* The errors of SQS, made from sqs_errors.def. thread: any. */
#ifndef PROTO_SQS_ERRORS_H
#define PROTO_SQS_ERRORS_H

#include "proto/sqs/shapes.h"

enum sqs_error_code {
    SQS_OK,
#define ERROR(name, type, query, http, fault, text, query_text) SQS_ERROR_##name,
#include "proto/sqs/sqs_errors.def"
#undef ERROR
    SQS_ERROR_COUNT
};

struct sqs_error_row {
    const char *json_type;  /* "com.amazonaws.sqs#QueueDoesNotExist" */
    const char *query_code; /* "AWS.SimpleQueueService.NonExistentQueue" */
    int http_status;
    bool sender_fault;
    const char *text;
    const char *query_text; /* NULL: as text */
};
extern const struct sqs_error_row sqs_errors[SQS_ERROR_COUNT];

/* What went wrong with a request. `message` NULL: the row's text; else in the call's arena. */
struct sqs_error {
    enum sqs_error_code code;
    const char *message;
};

/* sqs_error_text: the sentence that the client is told. */
const char *sqs_error_text(enum sqs_protocol protocol, const struct sqs_error *error);

/* sqs_error_short_code: the code that a batch's failed entry carries: as in the Query protocol, in
 * both protocols. */
const char *sqs_error_short_code(enum sqs_error_code code);

/* sqs_error_query_header: true if the JSON protocol sends x-amzn-query-error with this error, which
 * is so for the errors of SQS itself and for those about the caller, not for the others of the
 * framework around it. */
bool sqs_error_query_header(enum sqs_error_code code);

#endif
