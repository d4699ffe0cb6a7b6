/* SPDX-License-Identifier: Apache-2.0 */
/* Queues by name, over the SQS JSON protocol.
 *
 * The API addresses a queue by its URL; people use names. The URL is asked for once and remembered
 * for the queue used last. A queue that was deleted and made again behind our back has the same
 * URL, so a remembered one is never wrong, only perhaps of a queue that is gone: the API says so.
 */
#include "client/internal.h"

#include <stdio.h>
#include <stdlib.h>

#define SQS_TARGET     "X-Amz-Target: AmazonSQS."
#define LIST_PAGE      1000
#define WAIT_MARGIN_MS 15000
#define MS_PER_S       1000u

enum status mr_sqs_call(struct mr_client *client, const char *action, json_t *input,
                        uint32_t timeout_ms, json_t **output)
{
    char target[128];
    snprintf(target, sizeof target, SQS_TARGET "%s", action);
    const char *headers[] = {"Content-Type: application/x-amz-json-1.0", target, NULL};
    struct mr_request request = {
        .method = "POST", .path = "/", .headers = headers, .timeout_ms = timeout_ms};
    if (input == NULL) {
        if (output != NULL)
            *output = NULL;
        return client_fail(client, STATUS_INVALID, "the input is not valid UTF-8 text");
    }
    return client_json(client, &request, input, output);
}

static enum status ask_url(struct mr_client *client, const char *name)
{
    json_t *reply;
    enum status status =
        mr_sqs_call(client, "GetQueueUrl", json_pack("{s:s}", "QueueName", name), 0, &reply);
    if (status != STATUS_OK)
        return status;
    const char *url = json_string_value(json_object_get(reply, "QueueUrl"));
    free(client->queue_name);
    free(client->queue_url);
    client->queue_name = url != NULL ? strdup(name) : NULL;
    client->queue_url = url != NULL ? strdup(url) : NULL;
    json_decref(reply);
    if (client->queue_url == NULL)
        return client_fail(client, STATUS_CORRUPT, "the answer has no QueueUrl");
    return STATUS_OK;
}

static enum status find_url(struct mr_client *client, const char *name)
{
    if (client->queue_name != NULL && strcmp(client->queue_name, name) == 0)
        return STATUS_OK;
    return ask_url(client, name);
}

enum status mr_queue_url(struct mr_client *client, const char *name, char **url)
{
    *url = NULL;
    enum status status = ask_url(client, name);
    if (status == STATUS_OK)
        *url = strdup(client->queue_url);
    return status;
}

/* One action on one queue; `input` is moved and gets the queue's URL. */
static enum status queue_call(struct mr_client *client, const char *name, const char *action,
                              json_t *input, uint32_t timeout_ms, json_t **output)
{
    if (output != NULL)
        *output = NULL;
    if (input == NULL)
        return client_fail(client, STATUS_INVALID, "the input is not valid UTF-8 text");
    enum status status = find_url(client, name);
    if (status != STATUS_OK) {
        json_decref(input);
        return status;
    }
    json_object_set_new(input, "QueueUrl", json_string(client->queue_url));
    return mr_sqs_call(client, action, input, timeout_ms, output);
}

enum status mr_queue_create(struct mr_client *client, const char *name, json_t *attributes,
                            json_t **reply)
{
    json_t *input = json_pack("{s:s}", "QueueName", name);
    if (input != NULL && attributes != NULL)
        json_object_set(input, "Attributes", attributes);
    json_decref(attributes);
    return mr_sqs_call(client, "CreateQueue", input, 0, reply);
}

enum status mr_queue_delete(struct mr_client *client, const char *name)
{
    return queue_call(client, name, "DeleteQueue", json_object(), 0, NULL);
}

enum status mr_queue_purge(struct mr_client *client, const char *name)
{
    return queue_call(client, name, "PurgeQueue", json_object(), 0, NULL);
}

enum status mr_queue_list(struct mr_client *client, const char *prefix, json_t **urls)
{
    json_t *all = json_array();
    char *token = NULL;
    enum status status;
    do {
        json_t *reply;
        json_t *input = json_pack("{s:i,s:s*,s:s*}", "MaxResults", LIST_PAGE, "QueueNamePrefix",
                                  prefix, "NextToken", token);
        status = mr_sqs_call(client, "ListQueues", input, 0, &reply);
        free(token);
        token = NULL;
        if (status == STATUS_OK) {
            const char *next = json_string_value(json_object_get(reply, "NextToken"));
            token = next != NULL ? strdup(next) : NULL;
            json_array_extend(all, json_object_get(reply, "QueueUrls"));
            json_decref(reply);
        }
    } while (token != NULL);
    if (status != STATUS_OK) {
        json_decref(all);
        all = NULL;
    }
    *urls = all;
    return status;
}

/* Take one member out of a reply; an absent one is `empty` (moved). */
static void pluck(json_t **reply, const char *member, json_t *empty)
{
    json_t *found = json_object_get(*reply, member);
    found = found != NULL ? json_incref(found) : json_incref(empty);
    json_decref(empty);
    json_decref(*reply);
    *reply = found;
}

enum status mr_queue_attributes(struct mr_client *client, const char *name, json_t **attributes)
{
    json_t *input = json_pack("{s:[s]}", "AttributeNames", "All");
    enum status status = queue_call(client, name, "GetQueueAttributes", input, 0, attributes);
    if (status == STATUS_OK)
        pluck(attributes, "Attributes", json_object());
    return status;
}

enum status mr_queue_send(struct mr_client *client, const char *name, const struct mr_send *send,
                          json_t **reply)
{
    json_t *body = json_stringn((const char *)send->body.data, send->body.length);
    json_t *input = body != NULL ? json_pack("{s:o}", "MessageBody", body) : NULL;
    if (input != NULL && send->delay_s != MR_DELAY_OF_QUEUE)
        json_object_set_new(input, "DelaySeconds", json_integer(send->delay_s));
    if (input != NULL && send->attributes != NULL)
        json_object_set(input, "MessageAttributes", send->attributes);
    json_decref(send->attributes);
    return queue_call(client, name, "SendMessage", input, 0, reply);
}

enum status mr_queue_receive(struct mr_client *client, const char *name,
                             const struct mr_receive *receive, json_t **messages)
{
    json_t *input = json_pack("{s:i,s:i,s:[s],s:[s]}", "MaxNumberOfMessages",
                              (int)receive->count_max, "WaitTimeSeconds", (int)receive->wait_s,
                              "AttributeNames", "All", "MessageAttributeNames", "All");
    if (receive->visibility_s != MR_VISIBILITY_OF_QUEUE)
        json_object_set_new(input, "VisibilityTimeout", json_integer(receive->visibility_s));
    uint32_t timeout_ms = receive->wait_s * MS_PER_S + WAIT_MARGIN_MS;
    enum status status = queue_call(client, name, "ReceiveMessage", input, timeout_ms, messages);
    if (status == STATUS_OK)
        pluck(messages, "Messages", json_array());
    return status;
}

enum status mr_queue_delete_message(struct mr_client *client, const char *name,
                                    const char *receipt_handle)
{
    json_t *input = json_pack("{s:s}", "ReceiptHandle", receipt_handle);
    return queue_call(client, name, "DeleteMessage", input, 0, NULL);
}
