/* SPDX-License-Identifier: Apache-2.0 */
/* One call of the Lambda API, from the request to its answer. thread: loop, but for decoding.
 *
 * The client may leave at any moment and takes the http_request with it, while a commit, a read or
 * a pool job of the call is under way. So a call owns what it works with, and lives until it has
 * been answered (or left) and nothing of it is under way any more. */
#ifndef BROKER_API_LAMBDA_CALL_H
#define BROKER_API_LAMBDA_CALL_H

#include "broker/api/access.h"
#include "broker/api/api.h"
#include "broker/api/lambda/input.h"
#include "broker/api/lambda/package_input.h"
#include "broker/api/lambda/render.h"
#include "broker/api/lambda/route.h"

struct lambda_call;
/* results: as of shard_call, all of the call's commands; borrowed. Only called while the client is
 * there and if the commands were done. */
typedef void (*call_committed_fn)(struct lambda_call *call, const struct core_result *results,
                                  uint32_t count);

struct lambda_call {
    struct api *api;
    struct http_request *request; /* NULL: answered, or the client has gone */
    const struct route *route;
    uint64_t started_ns;
    char request_id[UUID_TEXT_LENGTH + 1];
    struct render_place place;
    struct auth_caller caller;

    struct arena arena; /* everything below lives in it */
    struct slice labels[ROUTE_LABELS_MAX];
    struct slice query;
    struct slice body;
    struct slice invocation_type, log_type, client_context; /* headers of Invoke */

    struct failure failure;
    struct input input;                     /* the body, if the action has one */
    struct package_input package;           /* the code, if the action has one */
    void *state;                            /* of the action, in the arena */
    void (*left)(struct lambda_call *call); /* the client has gone; may be NULL */

    struct call_look *looks; /* at queues of shards elsewhere; in the arena */
    unsigned references;
    struct shard_call commit;
    call_committed_fn committed;
};

/* ---- for lambda.c ---- */

/* call_new: a call for this request, which gets it as its data; copies what is needed of it.
 * call_left: the client has gone. */
struct lambda_call *call_new(struct api *api, struct http_request *request);
void call_left(struct lambda_call *call);

/* ---- for actions ---- */

/* call_ref, call_unref: something that will call back is under way. The last call_unref frees. */
void call_ref(struct lambda_call *call);
void call_unref(struct lambda_call *call);

/* call_answer: status 200 and the like with a JSON body; takes the reference `body`, NULL for none.
 * call_answer_raw: with further headers; `body` is moved, NULL for none.
 * call_refuse: the failure that is set in the call.
 * After any of them the call may be freed: do not touch it. Nothing happens if the client has gone.
 */
void call_answer(struct lambda_call *call, int status, json_t *body);
void call_answer_raw(struct lambda_call *call, int status, const struct http_header *headers,
                     unsigned header_count, struct buffer *body);
void call_refuse(struct lambda_call *call);

/* call_fail: failure_set and call_refuse. */
void call_fail(struct lambda_call *call, enum lambda_error error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* call_commit: propose the commands added to call->commit, then go on in `committed`; what the
 * shard refuses is answered here. call_status_failure: the error for a status of the shard. */
void call_commit(struct lambda_call *call, bool grows, call_committed_fn committed);
void call_status_failure(struct lambda_call *call, enum status status);

/* call_function: read label 0 as a function's name, and find it.
 *   returns  false: the failure is set (and nothing answered)
 *   config   may be NULL. Both stay valid until the catalog changes: until control returns to the
 *            loop; the config's texts as long as the call. */
bool call_function_name(struct lambda_call *call, struct function_name *name);
bool call_function(struct lambda_call *call, struct function_name *name, struct function_view *view,
                   struct function_config *config);
/* call_load_function: the same for a name read before. */
bool call_load_function(struct lambda_call *call, struct slice name, struct function_view *view,
                        struct function_config *config);

/* call_queue: find a user's queue by its name, in its shard; *there tells whether it is there.
 *   returns  false: this node does not know: the failure is set, or it has to be looked at first
 * call_looks: true: what call_queue did not know is being asked of a node that has the queue's
 * shard, and `again` is called then, unless it cannot be had, which is answered then. False: it
 * was something else, and the failure is set. */
MUST_CHECK bool call_queue(struct lambda_call *call, struct slice name, struct queue_view *view,
                           bool *there);
MUST_CHECK bool call_looks(struct lambda_call *call, void (*again)(struct lambda_call *call));

/* call_page_size: how many items a page may have: the query parameter MaxItems (1..10000), but at
 * most `most`, as AWS does. false: the failure is set. */
bool call_page_size(struct lambda_call *call, uint32_t most, uint32_t *out);

#endif
