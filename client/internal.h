/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the client library share and its users do not see. */
#ifndef CLIENT_INTERNAL_H
#define CLIENT_INTERNAL_H

#include "client/millrace.h"

#include <curl/curl.h>

struct mr_client {
    CURL *curl;
    char *endpoint;
    char *ca_file, *certificate_file, *key_file; /* NULL: none */
    bool any_name;                               /* of the other end's certificate */
    char *key_id;                                /* NULL: requests are not signed */
    char *key_secret;
    char *region;
    char *token; /* for /status; NULL: none */
    struct mr_error error;
    char curl_error[CURL_ERROR_SIZE];
    /* The queue used last and its URL, so that many sends in a row ask for it once. */
    char *queue_name;
    char *queue_url;
};

/* client_fail: note an error of this side (no answer), and return `status`. */
enum status client_fail(struct mr_client *client, enum status status, const char *message);

/* client_sign: append what a signed request has more, or the token; nothing without a key.
 * client_forget_key: free it. */
struct curl_slist *client_sign(struct mr_client *client, const struct mr_request *request,
                               struct curl_slist *list);
void client_forget_key(struct mr_client *client);

/* client_json: send `input` (moved; NULL: no body) as the request's body, and read JSON back.
 * `*output` is NULL on an error. */
MUST_CHECK enum status client_json(struct mr_client *client, struct mr_request *request,
                                   json_t *input, json_t **output);

#endif
