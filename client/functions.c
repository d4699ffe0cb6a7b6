/* SPDX-License-Identifier: Apache-2.0 */
/* Functions and event source mappings, over the Lambda REST API.
 *
 * "Put" here means: afterwards it is so, whether it had to be made or changed. The API has no such
 * call, and between looking and creating somebody else may come first; then the creation is refused
 * with a conflict and the caller tries again. A function that is being created or changed refuses
 * further changes for a moment, so every step waits until the previous one has settled. */
#include "client/internal.h"

#include "proto/base/clock.h"
#include "proto/base/encode.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FUNCTIONS_PATH    "/2015-03-31/functions/"
#define MAPPINGS_PATH     "/2015-03-31/event-source-mappings/"
#define SETTLE_TIMEOUT_MS 60000u
#define SETTLE_STEP_MS    50
#define NS_PER_MS         1000000u
#define INVOKE_TIMEOUT_MS (930u * 1000u) /* the longest function (900 s), and the way to it */
#define LOCAL_ROLE        "arn:aws:iam::000000000000:role/millrace" /* required, not used */

/* base, the escaped name, tail: a path; free with buffer_free. */
static void function_path(struct buffer *path, const char *base, const char *name, const char *tail)
{
    buffer_add_text(path, base);
    encode_percent(path, slice_of(name), false);
    buffer_add_text(path, tail);
}

static enum status function_call(struct mr_client *client, const char *method, const char *name,
                                 const char *tail, json_t *input, json_t **output)
{
    struct buffer path = {0};
    function_path(&path, FUNCTIONS_PATH, name, tail);
    enum status status = mr_rest_call(client, method, buffer_c_string(&path), input, output);
    buffer_free(&path);
    return status;
}

enum status mr_function_get(struct mr_client *client, const char *name, json_t **configuration)
{
    return function_call(client, "GET", name, "/configuration", NULL, configuration);
}

enum status mr_function_delete(struct mr_client *client, const char *name)
{
    return function_call(client, "DELETE", name, "", NULL, NULL);
}

static bool text_is(const json_t *object, const char *member, const char *expected)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text != NULL && strcmp(text, expected) == 0;
}

/* Wait until neither a creation nor an update is under way. */
static enum status settle(struct mr_client *client, const char *name, json_t **configuration)
{
    uint64_t end_ns = clock_monotonic_ns() + (uint64_t)SETTLE_TIMEOUT_MS * NS_PER_MS;
    for (;;) {
        enum status status = mr_function_get(client, name, configuration);
        if (status != STATUS_OK)
            return status;
        if (!text_is(*configuration, "State", "Pending") &&
            !text_is(*configuration, "LastUpdateStatus", "InProgress"))
            return STATUS_OK;
        json_decref(*configuration);
        *configuration = NULL;
        if (clock_monotonic_ns() > end_ns)
            return client_fail(client, STATUS_TIMEOUT, "the function did not become active");
        nanosleep(&(struct timespec){.tv_nsec = SETTLE_STEP_MS * (long)NS_PER_MS}, NULL);
    }
}

static json_t *encoded_zip(struct slice zip)
{
    struct buffer text = {0};
    encode_base64(&text, zip);
    json_t *value = json_stringn((const char *)text.data, text.length);
    buffer_free(&text);
    return value;
}

static json_t *configuration_of(const struct mr_function *function)
{
    json_t *input =
        json_pack("{s:s,s:s}", "Runtime", function->runtime, "Handler", function->handler);
    if (input == NULL)
        return NULL;
    if (function->memory_mb != 0)
        json_object_set_new(input, "MemorySize", json_integer(function->memory_mb));
    if (function->timeout_s != 0)
        json_object_set_new(input, "Timeout", json_integer(function->timeout_s));
    if (function->environment != NULL)
        json_object_set_new(input, "Environment",
                            json_pack("{s:O}", "Variables", function->environment));
    return input;
}

static enum status create(struct mr_client *client, const struct mr_function *function)
{
    json_t *input = configuration_of(function);
    if (input == NULL)
        return client_fail(client, STATUS_INVALID, "the input is not valid UTF-8 text");
    json_object_set_new(input, "FunctionName", json_string(function->name));
    json_object_set_new(input, "Role", json_string(LOCAL_ROLE));
    json_object_set_new(input, "Code", json_pack("{s:o}", "ZipFile", encoded_zip(function->zip)));
    return mr_rest_call(client, "POST", FUNCTIONS_PATH, input, NULL);
}

static enum status update(struct mr_client *client, const struct mr_function *function)
{
    json_t *settled;
    json_t *configuration = configuration_of(function);
    if (configuration == NULL)
        return client_fail(client, STATUS_INVALID, "the input is not valid UTF-8 text");
    json_t *code = json_pack("{s:o}", "ZipFile", encoded_zip(function->zip));
    enum status status = function_call(client, "PUT", function->name, "/code", code, NULL);
    if (status == STATUS_OK)
        status = settle(client, function->name, &settled);
    if (status != STATUS_OK) {
        json_decref(configuration);
        return status;
    }
    json_decref(settled);
    return function_call(client, "PUT", function->name, "/configuration", configuration, NULL);
}

enum status mr_function_put(struct mr_client *client, const struct mr_function *function,
                            json_t **configuration, bool *created)
{
    *configuration = NULL;
    enum status status = settle(client, function->name, configuration);
    *created = status == STATUS_NOT_FOUND;
    if (status != STATUS_OK && !*created)
        return status;
    json_decref(*configuration);
    *configuration = NULL;
    status = *created ? create(client, function) : update(client, function);
    return status == STATUS_OK ? settle(client, function->name, configuration) : status;
}

/* Every page of a list: `path` has its '?' already; the pages' `member` arrays are joined. */
static enum status list_all(struct mr_client *client, const char *path, const char *member,
                            json_t **out)
{
    json_t *all = json_array();
    struct buffer page = {0};
    enum status status;
    bool more;
    buffer_add_text(&page, path);
    do {
        json_t *reply;
        more = false;
        status = mr_rest_call(client, "GET", buffer_c_string(&page), NULL, &reply);
        if (status != STATUS_OK)
            break;
        json_array_extend(all, json_object_get(reply, member));
        const char *marker = json_string_value(json_object_get(reply, "NextMarker"));
        more = marker != NULL && marker[0] != 0;
        buffer_clear(&page);
        function_path(&page, path, "", "&Marker=");
        encode_percent(&page, slice_of(marker), false);
        json_decref(reply);
    } while (more);
    buffer_free(&page);
    if (status != STATUS_OK) {
        json_decref(all);
        all = NULL;
    }
    *out = all;
    return status;
}

enum status mr_function_list(struct mr_client *client, json_t **functions)
{
    return list_all(client, FUNCTIONS_PATH "?MaxItems=50", "Functions", functions);
}

static void copy_header(char *out, size_t size, const struct mr_response *response,
                        const char *name)
{
    struct slice value = mr_response_header(response, name);
    snprintf(out, size, "%.*s", SLICE_ARGS(value));
}

enum status mr_function_invoke(struct mr_client *client, const char *name,
                               const struct mr_invoke *invoke, struct mr_invocation *out)
{
    const char *headers[] = {invoke->async ? "X-Amz-Invocation-Type: Event"
                                           : "X-Amz-Invocation-Type: RequestResponse",
                             invoke->tail ? "X-Amz-Log-Type: Tail" : "X-Amz-Log-Type: None",
                             "Content-Type: application/json", NULL};
    struct mr_response response = {0};
    struct buffer path = {0};
    function_path(&path, FUNCTIONS_PATH, name, "/invocations");
    struct mr_request request = {.method = "POST",
                                 .path = buffer_c_string(&path),
                                 .headers = headers,
                                 .body = invoke->payload,
                                 .timeout_ms = INVOKE_TIMEOUT_MS};
    enum status status = mr_http(client, &request, &response);
    if (status == STATUS_OK) {
        out->http_status = response.http_status;
        copy_header(out->function_error, sizeof out->function_error, &response,
                    "X-Amz-Function-Error");
        copy_header(out->version, sizeof out->version, &response, "X-Amz-Executed-Version");
        if (decode_base64(&out->output, mr_response_header(&response, "X-Amz-Log-Result")) !=
            STATUS_OK)
            status = client_fail(client, STATUS_CORRUPT, "X-Amz-Log-Result is not base64");
        buffer_add_slice(&out->payload, buffer_slice(&response.body));
    }
    buffer_free(&path);
    mr_response_free(&response);
    return status;
}

void mr_invocation_free(struct mr_invocation *invocation)
{
    buffer_free(&invocation->payload);
    buffer_free(&invocation->output);
}

enum status mr_mapping_list(struct mr_client *client, const char *function, json_t **mappings)
{
    struct buffer path = {0};
    buffer_add_text(&path, MAPPINGS_PATH "?MaxItems=100");
    if (function != NULL)
        function_path(&path, "&FunctionName=", function, "");
    enum status status = list_all(client, buffer_c_string(&path), "EventSourceMappings", mappings);
    buffer_free(&path);
    return status;
}

enum status mr_mapping_delete(struct mr_client *client, const char *uuid)
{
    struct buffer path = {0};
    function_path(&path, MAPPINGS_PATH, uuid, "");
    enum status status = mr_rest_call(client, "DELETE", buffer_c_string(&path), NULL, NULL);
    buffer_free(&path);
    return status;
}

/* The mapping from the queue to the function; `*found` is NULL when there is none. */
static enum status find_mapping(struct mr_client *client, const char *function, const char *arn,
                                json_t **found)
{
    json_t *mappings;
    *found = NULL;
    enum status status = mr_mapping_list(client, function, &mappings);
    if (status != STATUS_OK)
        return status;
    size_t i;
    json_t *mapping;
    json_array_foreach(mappings, i, mapping)
    {
        if (*found == NULL && text_is(mapping, "EventSourceArn", arn) &&
            !text_is(mapping, "State", "Deleting"))
            *found = json_incref(mapping);
    }
    json_decref(mappings);
    return STATUS_OK;
}

static enum status change_mapping(struct mr_client *client, json_t *existing, uint32_t batch_size,
                                  json_t **mapping)
{
    json_int_t current = json_integer_value(json_object_get(existing, "BatchSize"));
    if (batch_size == 0 || current == (json_int_t)batch_size) {
        *mapping = existing;
        return STATUS_OK;
    }
    struct buffer path = {0};
    const char *uuid = json_string_value(json_object_get(existing, "UUID"));
    function_path(&path, MAPPINGS_PATH, uuid != NULL ? uuid : "", "");
    json_t *input = json_pack("{s:i}", "BatchSize", (int)batch_size);
    enum status status = mr_rest_call(client, "PUT", buffer_c_string(&path), input, mapping);
    buffer_free(&path);
    json_decref(existing);
    return status;
}

enum status mr_mapping_put(struct mr_client *client, const char *function, const char *queue,
                           uint32_t batch_size, json_t **mapping, bool *created)
{
    json_t *attributes, *existing = NULL;
    *mapping = NULL;
    *created = false;
    enum status status = mr_queue_attributes(client, queue, &attributes);
    if (status != STATUS_OK)
        return status;
    const char *arn = json_string_value(json_object_get(attributes, "QueueArn"));
    if (arn == NULL)
        status = client_fail(client, STATUS_CORRUPT, "the queue has no QueueArn");
    else
        status = find_mapping(client, function, arn, &existing);
    if (status == STATUS_OK && existing != NULL) {
        status = change_mapping(client, existing, batch_size, mapping);
    } else if (status == STATUS_OK) {
        json_t *input = json_pack("{s:s,s:s}", "FunctionName", function, "EventSourceArn", arn);
        if (batch_size != 0)
            json_object_set_new(input, "BatchSize", json_integer(batch_size));
        *created = true;
        status = mr_rest_call(client, "POST", MAPPINGS_PATH, input, mapping);
    }
    json_decref(attributes);
    return status;
}
