/* SPDX-License-Identifier: Apache-2.0 */
/* Signing requests, once the client has an access key. All headers that the caller gave are signed,
 * and the two that signing wants: Host, set here as it will be sent, and X-Amz-Date. */
#include "client/internal.h"

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/sigv4/sigv4.h"

#include <stdlib.h>

#define HEADERS_MAX 32

enum status mr_client_set_key(struct mr_client *client, const char *access_key_id,
                              const char *secret_access_key, const char *region)
{
    char *id = strdup(access_key_id);
    char *secret = strdup(secret_access_key);
    char *place = strdup(region);
    if (id == NULL || secret == NULL || place == NULL) {
        free(id);
        free(secret);
        free(place);
        return STATUS_NO_MEMORY;
    }
    client_forget_key(client);
    client->key_id = id;
    client->key_secret = secret;
    client->region = place;
    return STATUS_OK;
}

void client_forget_key(struct mr_client *client)
{
    if (client->key_secret != NULL)
        hash_wipe(client->key_secret, strlen(client->key_secret));
    free(client->key_id);
    free(client->key_secret);
    free(client->region);
    client->key_id = client->key_secret = client->region = NULL;
}

enum status mr_client_set_token(struct mr_client *client, const char *token)
{
    char *copy = token != NULL ? strdup(token) : NULL;
    if (token != NULL && copy == NULL)
        return STATUS_NO_MEMORY;
    if (client->token != NULL)
        hash_wipe(client->token, strlen(client->token));
    free(client->token);
    client->token = copy;
    return STATUS_OK;
}

static struct curl_slist *add_token(const struct mr_client *client, struct curl_slist *list)
{
    struct arena arena = {0};
    list = curl_slist_append(list, arena_printf(&arena, "Authorization: Bearer %s", client->token));
    arena_free(&arena);
    return list;
}

/* The service is told by the path: /admin/... and /status, a date of the Lambda API, or SQS. */
static struct slice service_of(const char *path)
{
    if (strncmp(path, "/admin/", 7) == 0 || strcmp(path, "/status") == 0)
        return SLICE_LITERAL("millrace");
    if (strlen(path) > 11 && path[1] == '2' && path[5] == '-' && path[8] == '-')
        return SLICE_LITERAL("lambda");
    return SLICE_LITERAL("sqs");
}

/* "https://host:port/prefix" into host and prefix. A port that the scheme implies is not sent. */
static struct slice host_of(const char *endpoint, struct slice *prefix)
{
    bool tls = strncmp(endpoint, "https://", 8) == 0;
    struct slice rest = slice_of(endpoint + (tls ? 8 : 7));
    ptrdiff_t slash = slice_find(rest, '/');
    *prefix = slash < 0 ? (struct slice){0} : slice_sub(rest, (size_t)slash);
    struct slice host = slice_make(rest.data, slash < 0 ? rest.length : (size_t)slash);
    const char *implied = tls ? ":443" : ":80";
    size_t length = strlen(implied);
    if (host.length > length && memcmp(host.data + host.length - length, implied, length) == 0)
        host.length -= length;
    return host;
}

static struct sigv4_header split_header(const char *line)
{
    struct slice text = slice_of(line);
    ptrdiff_t colon = slice_find(text, ':');
    ASSERT(colon > 0);
    return (struct sigv4_header){slice_make(text.data, (size_t)colon),
                                 slice_sub(text, (size_t)colon + 1)};
}

struct curl_slist *client_sign(struct mr_client *client, const struct mr_request *request,
                               struct curl_slist *list)
{
    if (client->token != NULL && strcmp(request->path, "/status") == 0)
        return add_token(client, list);
    if (client->key_id == NULL)
        return list;
    struct arena arena = {0};
    struct sigv4_header headers[HEADERS_MAX];
    struct slice prefix;
    struct slice host = host_of(client->endpoint, &prefix);
    char time[MOMENT_LENGTH + 1];
    struct sigv4_signer signer = {slice_of(client->key_id), slice_of(client->key_secret),
                                  slice_of(client->region), service_of(request->path),
                                  clock_now_ms() / 1000};
    moment_format(signer.now_s, time);
    size_t count = 0;
    for (; request->headers != NULL && request->headers[count] != NULL; count++) {
        ASSERT(count + 2 < HEADERS_MAX);
        headers[count] = split_header(request->headers[count]);
    }
    headers[count++] = (struct sigv4_header){SLICE_LITERAL("Host"), host};
    headers[count++] = (struct sigv4_header){SLICE_LITERAL("X-Amz-Date"), slice_of(time)};
    const char *target = arena_printf(&arena, "%.*s%s", SLICE_ARGS(prefix), request->path);
    const char *query = strchr(target, '?');
    struct slice path =
        slice_make(target, query != NULL ? (size_t)(query - target) : strlen(target));
    struct sigv4_request signed_request = {slice_of(request->method), path,
                                           slice_of(query != NULL ? query + 1 : NULL), headers,
                                           count};
    const char *value = sigv4_sign(&signed_request, &signer, request->body, &arena);
    list = curl_slist_append(list, arena_printf(&arena, "Host: %.*s", SLICE_ARGS(host)));
    list = curl_slist_append(list, arena_printf(&arena, "X-Amz-Date: %s", time));
    list = curl_slist_append(list, arena_printf(&arena, "Authorization: %s", value));
    arena_free(&arena);
    return list;
}
