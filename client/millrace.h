/* SPDX-License-Identifier: Apache-2.0 */
/* libmillrace: queues and functions of a Millrace broker, for programs.
 *
 *     struct mr_client *client;
 *     if (mr_client_new(&client, "http://127.0.0.1:9324") != STATUS_OK) ...
 *     json_t *sent;
 *     if (mr_queue_send(client, "orders", &(struct mr_send){.body = SLICE_LITERAL("hi")}, &sent)
 *         != STATUS_OK)
 *         fprintf(stderr, "%s\n", mr_client_error(client)->message);
 *     mr_client_free(client);
 *
 * Every function blocks until it is answered. One client belongs to one thread at a time; threads
 * that call at once have a client each. Answers are the API's own JSON (names as in the AWS
 * documentation), owned by the caller (json_decref). Arguments are borrowed unless said otherwise.
 *
 * Results of every call:
 *   OK           done
 *   NOT_FOUND    the API says that the queue, function or mapping does not exist
 *   INVALID      the API refused the call, or an argument cannot be put into one
 *   UNAVAILABLE  the broker cannot be reached, or answered 5xx
 *   TIMEOUT      no answer in time; the call may have been carried out
 *   CORRUPT      the answer is not what the API promises
 *   TOO_LARGE    the answer is larger than MR_ANSWER_BYTES_MAX
 * mr_client_error tells the rest of the story. */
#ifndef CLIENT_MILLRACE_H
#define CLIENT_MILLRACE_H

#include "proto/base/buffer.h"
#include "proto/base/status.h"

#include <jansson.h>

#define MR_ENDPOINT_DEFAULT  "http://127.0.0.1:9324"
#define MR_ANSWER_BYTES_MAX  (64u << 20)
#define MR_QUEUE_BATCH_MAX   10 /* messages in one receive, as SQS has it */
#define MR_FUNCTION_NAME_MAX 64

struct mr_client;

struct mr_error {
    int http_status;    /* 0: there was no answer */
    char code[128];     /* the API's code, such as "QueueDoesNotExist"; "" when it gave none */
    char message[1024]; /* one line for a person */
};

/* mr_client_new: a client of the broker at `endpoint` ("http://host:port"); nothing is sent yet.
 *   errors: INVALID (not an http or https URL), NO_MEMORY; out is NULL then. */
MUST_CHECK enum status mr_client_new(struct mr_client **out, const char *endpoint);
void mr_client_free(struct mr_client *client);

/* mr_client_tls: for https endpoints: whom to trust instead of the system's authorities, and the
 * client's own certificate, all PEM files; each NULL: none. Copied; files that cannot be read fail
 * the next call.  errors: NO_MEMORY */
MUST_CHECK enum status mr_client_tls(struct mr_client *client, const char *ca_file,
                                     const char *certificate_file, const char *key_file);
/* mr_client_pin: for https endpoints of one's own: trust who has the key of the first certificate
 * in this file, whatever its name, and nobody else. The other two are as above. */
MUST_CHECK enum status mr_client_pin(struct mr_client *client, const char *peer_certificate_file,
                                     const char *certificate_file, const char *key_file);
/* mr_client_set_key: sign all requests from now on (AWS Signature Version 4). Copied.
 *   errors: NO_MEMORY; the key used before stays. */
MUST_CHECK enum status mr_client_set_key(struct mr_client *client, const char *access_key_id,
                                         const char *secret_access_key, const char *region);

/* mr_client_set_token: what to show for /status where it is not everybody's (the broker's
 * --metrics-token-file), instead of signing; NULL: nothing. Copied.  errors: NO_MEMORY */
MUST_CHECK enum status mr_client_set_token(struct mr_client *client, const char *token);

/* mr_client_endpoint: as given, without a slash at its end. Valid as long as the client. */
const char *mr_client_endpoint(const struct mr_client *client);

/* mr_client_error: why the last call failed; valid until the next call. */
const struct mr_error *mr_client_error(const struct mr_client *client);

/* ---- any call ------------------------------------------------------------------------------- */

struct mr_request {
    const char *method;
    const char *path;           /* with the query, percent-encoded: "/2015-03-31/functions/" */
    const char *const *headers; /* "Name: value", NULL-terminated; may be NULL */
    struct slice body;
    uint32_t timeout_ms; /* 0: the usual 30 s */
};

struct mr_response {
    int http_status;
    struct buffer headers; /* lines as they came */
    struct buffer body;
};

/* mr_http: one request; `response` is zero or was used before, and is freed by mr_response_free.
 * An answer of 4xx or 5xx is an error here too, decoded into mr_client_error. */
MUST_CHECK enum status mr_http(struct mr_client *client, const struct mr_request *request,
                               struct mr_response *response);
void mr_response_free(struct mr_response *response);

/* mr_response_header: the value of a header, borrowed; absent if there is none. */
struct slice mr_response_header(const struct mr_response *response, const char *name);

/* mr_sqs_call: an SQS action over the JSON protocol. `input` is moved (released even on an error);
 * NULL means that it could not be built, which is INVALID. `output` may be NULL. */
MUST_CHECK enum status mr_sqs_call(struct mr_client *client, const char *action, json_t *input,
                                   uint32_t timeout_ms, json_t **output);

/* mr_rest_call: a Lambda or admin call; `input` is moved and NULL means no body. `output` may be
 * NULL; it is JSON null when the answer has no body. */
MUST_CHECK enum status mr_rest_call(struct mr_client *client, const char *method, const char *path,
                                    json_t *input, json_t **output);

/* ---- queues, by name ------------------------------------------------------------------------ */

/* mr_queue_create: `attributes` is moved, an object of strings or NULL. */
MUST_CHECK enum status mr_queue_create(struct mr_client *client, const char *name,
                                       json_t *attributes, json_t **reply);
MUST_CHECK enum status mr_queue_delete(struct mr_client *client, const char *name);
MUST_CHECK enum status mr_queue_purge(struct mr_client *client, const char *name);

/* mr_queue_url: owned by the caller (free). */
MUST_CHECK enum status mr_queue_url(struct mr_client *client, const char *name, char **url);

/* mr_queue_list: an array of URLs, however many there are; `prefix` may be NULL. */
MUST_CHECK enum status mr_queue_list(struct mr_client *client, const char *prefix, json_t **urls);

/* mr_queue_attributes: an object of strings. */
MUST_CHECK enum status mr_queue_attributes(struct mr_client *client, const char *name,
                                           json_t **attributes);

#define MR_DELAY_OF_QUEUE UINT32_MAX
struct mr_send {
    struct slice body;  /* UTF-8 */
    uint32_t delay_s;   /* MR_DELAY_OF_QUEUE: as the queue has it */
    json_t *attributes; /* message attributes as the API takes them; moved, may be NULL */
};
MUST_CHECK enum status mr_queue_send(struct mr_client *client, const char *name,
                                     const struct mr_send *send, json_t **reply);

#define MR_VISIBILITY_OF_QUEUE UINT32_MAX
struct mr_receive {
    uint32_t count_max;    /* 1..10 */
    uint32_t wait_s;       /* 0..20 */
    uint32_t visibility_s; /* MR_VISIBILITY_OF_QUEUE: as the queue has it */
};
/* mr_queue_receive: an array of messages with all their attributes, perhaps empty. */
MUST_CHECK enum status mr_queue_receive(struct mr_client *client, const char *name,
                                        const struct mr_receive *receive, json_t **messages);
MUST_CHECK enum status mr_queue_delete_message(struct mr_client *client, const char *name,
                                               const char *receipt_handle);

/* ---- functions ------------------------------------------------------------------------------ */

struct mr_function {
    const char *name;
    const char *runtime;
    const char *handler;
    uint32_t memory_mb;  /* 0: unchanged, or the API's default for a new function */
    uint32_t timeout_s;  /* likewise */
    json_t *environment; /* object of strings; borrowed; NULL: unchanged */
    struct slice zip;
};
/* mr_function_put: create the function or bring it up to date, and wait until it can be used.
 * `created` tells which. errors: TIMEOUT also when it does not become active in a minute. */
MUST_CHECK enum status mr_function_put(struct mr_client *client, const struct mr_function *function,
                                       json_t **configuration, bool *created);
MUST_CHECK enum status mr_function_get(struct mr_client *client, const char *name,
                                       json_t **configuration);
MUST_CHECK enum status mr_function_delete(struct mr_client *client, const char *name);

/* mr_function_list: an array of configurations, however many there are. */
MUST_CHECK enum status mr_function_list(struct mr_client *client, json_t **functions);

struct mr_invocation {
    int http_status;
    struct buffer payload;
    char function_error[32]; /* "" when the function succeeded */
    char version[32];
    struct buffer output; /* the last 4 KiB of what it wrote, when asked for */
};
struct mr_invoke {
    struct slice payload; /* JSON; empty: none */
    bool async;
    bool tail;
};
/* mr_function_invoke: OK also when the function itself failed (see function_error). `out` is zero;
 * free it with mr_invocation_free. */
MUST_CHECK enum status mr_function_invoke(struct mr_client *client, const char *name,
                                          const struct mr_invoke *invoke,
                                          struct mr_invocation *out);
void mr_invocation_free(struct mr_invocation *invocation);

/* ---- event source mappings ------------------------------------------------------------------ */

/* mr_mapping_put: let the queue trigger the function; a mapping that is there already is changed
 * only if batch_size (0: leave it) differs. */
MUST_CHECK enum status mr_mapping_put(struct mr_client *client, const char *function,
                                      const char *queue, uint32_t batch_size, json_t **mapping,
                                      bool *created);
/* mr_mapping_list: an array; all of them when `function` is NULL. */
MUST_CHECK enum status mr_mapping_list(struct mr_client *client, const char *function,
                                       json_t **mappings);
MUST_CHECK enum status mr_mapping_delete(struct mr_client *client, const char *uuid);

/* ---- the node ------------------------------------------------------------------------------- */

/* mr_status: what GET /status tells. mr_ready: whether the broker takes work now. */
MUST_CHECK enum status mr_status(struct mr_client *client, json_t **status);
MUST_CHECK enum status mr_ready(struct mr_client *client);

#endif
