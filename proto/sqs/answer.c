/* SPDX-License-Identifier: Apache-2.0 */
/* Whole answers: what stands around a result or an error in each protocol. In JSON an action
 * without a result answers with an empty body, as AWS does. */
#include "proto/sqs/codec.h"

#include "proto/base/assert.h"

#define XML_BEGIN     "<?xml version=\"1.0\"?>"
#define XML_NAMESPACE " xmlns=\"http://queue.amazonaws.com/doc/2012-11-05/\">"

static void xml_result(struct buffer *out, const struct sqs_action_row *row, const void *result,
                       const char *request_id)
{
    buffer_printf(out, XML_BEGIN "<%sResponse" XML_NAMESPACE, row->name);
    if (row->result != SQS_SHAPE_none) {
        buffer_printf(out, "<%sResult>", row->name);
        sqs_xml_write(out, row->result, result);
        buffer_printf(out, "</%sResult>", row->name);
    }
    buffer_printf(out,
                  "<ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata></%sResponse>",
                  request_id, row->name);
}

void sqs_result_encode(struct buffer *out, enum sqs_protocol protocol, enum sqs_action action,
                       const void *result, const char *request_id)
{
    ASSERT(action < SQS_ACTION_COUNT);
    const struct sqs_action_row *row = &sqs_actions[action];
    ASSERT((row->result == SQS_SHAPE_none) == (result == NULL));
    if (protocol == SQS_QUERY)
        xml_result(out, row, result, request_id);
    else if (result != NULL)
        sqs_json_write(out, row->result, result);
}

static void xml_error(struct buffer *out, const struct sqs_error *error, const char *request_id)
{
    const struct sqs_error_row *row = &sqs_errors[error->code];
    buffer_printf(out,
                  XML_BEGIN "<ErrorResponse" XML_NAMESPACE "<Error><Type>%s</Type><Code>%s</Code>"
                            "<Message>",
                  row->sender_fault ? "Sender" : "Receiver", row->query_code);
    sqs_xml_write_text(out, slice_of(sqs_error_text(SQS_QUERY, error)));
    buffer_printf(out, "</Message><Detail/></Error><RequestId>%s</RequestId></ErrorResponse>",
                  request_id);
}

void sqs_error_encode(struct buffer *out, enum sqs_protocol protocol, const struct sqs_error *error,
                      const char *request_id)
{
    if (protocol == SQS_QUERY) {
        xml_error(out, error, request_id);
        return;
    }
    buffer_printf(out, "{\"__type\":\"%s\",\"message\":", sqs_errors[error->code].json_type);
    sqs_json_write_text(out, slice_of(sqs_error_text(SQS_JSON, error)));
    buffer_add_byte(out, '}');
}
