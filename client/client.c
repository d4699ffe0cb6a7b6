/* SPDX-License-Identifier: Apache-2.0 */
/* One endpoint, and the way of every call there and back.
 *
 * A client holds one curl handle, so that calls in a row use one connection. Proxies of the
 * environment are not used: a broker is one's own server, most often on loopback, where a proxy for
 * the outside world would only break the call.
 *
 * An error is told in three places, by family: SQS puts {"__type": "com.amazonaws.sqs#Code",
 * "message": ...} in the body; Lambda puts the code in the header x-amzn-ErrorType and the message
 * in the body, with a capital M or not, by shape; a proxy in between answers whatever it likes.
 * error_decode reads them all into a code and one printable line. Nothing here retries: whether a
 * call may be made twice is known to the caller only. */
#include "client/internal.h"

#include <stdio.h>
#include <stdlib.h>

#define CONNECT_TIMEOUT_MS 5000
#define USUAL_TIMEOUT_MS   30000
#define HEADER_BYTES_MAX   65536

/* What the two curl callbacks fill. */
struct receipt {
    struct mr_response *response;
    bool too_large;
};

static size_t take_body(char *data, size_t size, size_t count, void *opaque)
{
    struct receipt *receipt = opaque;
    size_t bytes = size * count;
    if (receipt->response->body.length + bytes > MR_ANSWER_BYTES_MAX) {
        receipt->too_large = true;
        return 0;
    }
    buffer_add(&receipt->response->body, data, bytes);
    return bytes;
}

static size_t take_header(char *data, size_t size, size_t count, void *opaque)
{
    struct receipt *receipt = opaque;
    size_t bytes = size * count;
    if (receipt->response->headers.length + bytes > HEADER_BYTES_MAX) {
        receipt->too_large = true;
        return 0;
    }
    buffer_add(&receipt->response->headers, data, bytes);
    return bytes;
}

enum status mr_client_new(struct mr_client **out, const char *endpoint)
{
    *out = NULL;
    bool plain = strncmp(endpoint, "http://", 7) == 0 && endpoint[7] != 0;
    bool tls = strncmp(endpoint, "https://", 8) == 0 && endpoint[8] != 0;
    if (!plain && !tls)
        return STATUS_INVALID;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return STATUS_NO_MEMORY;
    struct mr_client *client = calloc(1, sizeof *client);
    CURL *curl = curl_easy_init();
    char *copy = strdup(endpoint);
    if (client == NULL || curl == NULL || copy == NULL)
        goto err_after_parts;
    size_t length = strlen(copy);
    while (length > 0 && copy[length - 1] == '/')
        copy[--length] = 0;
    client->curl = curl;
    client->endpoint = copy;
    *out = client;
    return STATUS_OK;

err_after_parts:
    free(copy);
    if (curl != NULL)
        curl_easy_cleanup(curl);
    free(client);
    return STATUS_NO_MEMORY;
}

static void forget_tls(struct mr_client *client)
{
    free(client->ca_file);
    free(client->certificate_file);
    free(client->key_file);
    client->ca_file = client->certificate_file = client->key_file = NULL;
}

enum status mr_client_tls(struct mr_client *client, const char *ca_file,
                          const char *certificate_file, const char *key_file)
{
    char **const into[] = {&client->ca_file, &client->certificate_file, &client->key_file};
    const char *const from[] = {ca_file, certificate_file, key_file};
    forget_tls(client);
    client->any_name = false;
    for (size_t i = 0; i < 3; i++) {
        *into[i] = from[i] != NULL ? strdup(from[i]) : NULL;
        if (from[i] != NULL && *into[i] == NULL)
            return STATUS_NO_MEMORY;
    }
    return STATUS_OK;
}

enum status mr_client_pin(struct mr_client *client, const char *peer_certificate_file,
                          const char *certificate_file, const char *key_file)
{
    enum status status = mr_client_tls(client, peer_certificate_file, certificate_file, key_file);
    client->any_name = status == STATUS_OK;
    return status;
}

void mr_client_free(struct mr_client *client)
{
    if (client == NULL)
        return;
    curl_easy_cleanup(client->curl);
    forget_tls(client);
    client_forget_key(client);
    (void)!mr_client_set_token(client, NULL);
    free(client->endpoint);
    free(client->queue_name);
    free(client->queue_url);
    free(client);
}

const char *mr_client_endpoint(const struct mr_client *client)
{
    return client->endpoint;
}

const struct mr_error *mr_client_error(const struct mr_client *client)
{
    return &client->error;
}

/* Texts of the other side end up on terminals and in traces: one line, no control bytes. */
static void copy_line(char *out, size_t size, struct slice text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.length && n + 1 < size; i++) {
        unsigned char c = text.data[i];
        out[n++] = (char)(c < 0x20 || c == 0x7f ? ' ' : c);
    }
    out[n] = 0;
}

enum status client_fail(struct mr_client *client, enum status status, const char *message)
{
    client->error.http_status = 0;
    client->error.code[0] = 0;
    copy_line(client->error.message, sizeof client->error.message, slice_of(message));
    return status;
}

void mr_response_free(struct mr_response *response)
{
    buffer_free(&response->headers);
    buffer_free(&response->body);
    response->http_status = 0;
}

static struct slice trimmed(struct slice s)
{
    while (s.length > 0 && (s.data[0] == ' ' || s.data[0] == '\t'))
        s = slice_sub(s, 1);
    while (s.length > 0 && (s.data[s.length - 1] == '\r' || s.data[s.length - 1] == ' '))
        s.length--;
    return s;
}

struct slice mr_response_header(const struct mr_response *response, const char *name)
{
    struct slice left = buffer_slice(&response->headers);
    while (left.length > 0) {
        ptrdiff_t end = slice_find(left, '\n');
        struct slice line = {left.data, end < 0 ? left.length : (size_t)end};
        ptrdiff_t colon = slice_find(line, ':');
        if (colon > 0 && slice_is_nocase(slice_make(line.data, (size_t)colon), name))
            return trimmed(slice_sub(line, (size_t)colon + 1));
        left = end < 0 ? (struct slice){NULL, 0} : slice_sub(left, (size_t)end + 1);
    }
    return (struct slice){NULL, 0};
}

/* "com.amazonaws.sqs#QueueDoesNotExist" and "ResourceNotFoundException:http://..." to the name. */
static struct slice bare_code(struct slice code)
{
    ptrdiff_t hash = slice_find(code, '#');
    if (hash >= 0)
        code = slice_sub(code, (size_t)hash + 1);
    ptrdiff_t colon = slice_find(code, ':');
    if (colon >= 0)
        code.length = (size_t)colon;
    return code;
}

static const char *text_member(const json_t *object, const char *lower, const char *upper)
{
    const char *text = json_string_value(json_object_get(object, lower));
    return text != NULL ? text : json_string_value(json_object_get(object, upper));
}

static enum status error_status(const struct mr_error *error)
{
    if (error->http_status >= 500)
        return STATUS_UNAVAILABLE;
    bool missing = strcmp(error->code, "QueueDoesNotExist") == 0 ||
                   strcmp(error->code, "ResourceNotFoundException") == 0;
    return missing ? STATUS_NOT_FOUND : STATUS_INVALID;
}

static enum status error_decode(struct mr_client *client, const struct mr_response *response)
{
    struct mr_error *error = &client->error;
    json_t *body = json_loadb((const char *)response->body.data, response->body.length, 0, NULL);
    struct slice code = slice_of(text_member(body, "__type", "Code"));
    if (code.length == 0)
        code = mr_response_header(response, "x-amzn-ErrorType");
    struct slice message = slice_of(text_member(body, "message", "Message"));
    if (message.length == 0)
        message = buffer_slice(&response->body);
    error->http_status = response->http_status;
    copy_line(error->code, sizeof error->code, bare_code(code));
    copy_line(error->message, sizeof error->message, message);
    json_decref(body);
    return error_status(error);
}

static enum status curl_failure(struct mr_client *client, CURLcode code, bool too_large)
{
    if (too_large)
        return client_fail(client, STATUS_TOO_LARGE, "the answer is larger than a client takes");
    char text[CURL_ERROR_SIZE + 256];
    bool late = code == CURLE_OPERATION_TIMEDOUT;
    snprintf(text, sizeof text, "%s %s: %s", late ? "no answer in time from" : "cannot reach",
             client->endpoint,
             client->curl_error[0] != 0 ? client->curl_error : curl_easy_strerror(code));
    return client_fail(client, late ? STATUS_TIMEOUT : STATUS_UNAVAILABLE, text);
}

static struct curl_slist *headers_of(const struct mr_request *request)
{
    /* No "Expect: 100-continue": it costs a round trip, and brokers check the length first. */
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    for (size_t i = 0; request->headers != NULL && request->headers[i] != NULL; i++)
        list = curl_slist_append(list, request->headers[i]);
    return list;
}

static void set_request(struct mr_client *client, const struct mr_request *request)
{
    CURL *curl = client->curl;
    bool has_body = request->body.length > 0 || strcmp(request->method, "POST") == 0 ||
                    strcmp(request->method, "PUT") == 0;
    curl_easy_reset(curl);
    if (has_body) {
        const void *body = request->body.length > 0 ? (const void *)request->body.data : "";
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.length);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    }
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    if (client->ca_file != NULL)
        curl_easy_setopt(curl, CURLOPT_CAINFO, client->ca_file);
    if (client->any_name)
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    if (client->certificate_file != NULL)
        curl_easy_setopt(curl, CURLOPT_SSLCERT, client->certificate_file);
    if (client->key_file != NULL)
        curl_easy_setopt(curl, CURLOPT_SSLKEY, client->key_file);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS,
                     (long)(request->timeout_ms != 0 ? request->timeout_ms : USUAL_TIMEOUT_MS));
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "millrace/" MILLRACE_VERSION);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, client->curl_error);
}

enum status mr_http(struct mr_client *client, const struct mr_request *request,
                    struct mr_response *response)
{
    struct buffer url = {0};
    struct receipt receipt = {.response = response};
    struct curl_slist *headers = client_sign(client, request, headers_of(request));

    buffer_printf(&url, "%s%s", client->endpoint, request->path);
    buffer_clear(&response->headers);
    buffer_clear(&response->body);
    client->error = (struct mr_error){0};
    client->curl_error[0] = 0;
    set_request(client, request);
    curl_easy_setopt(client->curl, CURLOPT_URL, buffer_c_string(&url));
    curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, &receipt);
    curl_easy_setopt(client->curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(client->curl, CURLOPT_HEADERDATA, &receipt);
    CURLcode code = curl_easy_perform(client->curl);
    long http_status = 0;
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &http_status);
    curl_slist_free_all(headers);
    buffer_free(&url);

    response->http_status = (int)http_status;
    if (code != CURLE_OK)
        return curl_failure(client, code, receipt.too_large);
    return http_status >= 400 ? error_decode(client, response) : STATUS_OK;
}

/* The answer's body as JSON; null when there is none. */
static enum status decode_body(struct mr_client *client, const struct mr_response *response,
                               json_t **output)
{
    if (output == NULL)
        return STATUS_OK;
    if (response->body.length == 0) {
        *output = json_null();
        return STATUS_OK;
    }
    *output = json_loadb((const char *)response->body.data, response->body.length,
                         JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    return *output != NULL ? STATUS_OK
                           : client_fail(client, STATUS_CORRUPT, "the answer is not valid JSON");
}

enum status client_json(struct mr_client *client, struct mr_request *request, json_t *input,
                        json_t **output)
{
    struct mr_response response = {0};
    char *body = input != NULL ? json_dumps(input, JSON_COMPACT) : NULL;
    if (output != NULL)
        *output = NULL;
    request->body = slice_of(body);
    enum status status = mr_http(client, request, &response);
    if (status == STATUS_OK)
        status = decode_body(client, &response, output);
    free(body);
    json_decref(input);
    mr_response_free(&response);
    return status;
}

enum status mr_rest_call(struct mr_client *client, const char *method, const char *path,
                         json_t *input, json_t **output)
{
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    struct mr_request request = {
        .method = method, .path = path, .headers = input != NULL ? headers : NULL};
    return client_json(client, &request, input, output);
}

enum status mr_status(struct mr_client *client, json_t **status)
{
    enum status result = mr_rest_call(client, "GET", "/status", NULL, status);
    if (result == STATUS_OK && !json_is_object(*status)) {
        json_decref(*status);
        *status = NULL;
        return client_fail(client, STATUS_CORRUPT, "the answer is not a status");
    }
    return result;
}

enum status mr_ready(struct mr_client *client)
{
    struct mr_response response = {0};
    struct mr_request request = {.method = "GET", .path = "/health/ready", .timeout_ms = 2000};
    enum status status = mr_http(client, &request, &response);
    mr_response_free(&response);
    return status;
}
