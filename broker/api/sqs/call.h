/* SPDX-License-Identifier: Apache-2.0 */
/* One SQS call, from the decoded request to its answer: what handlers work with. thread: loop. */
#ifndef BROKER_API_SQS_CALL_H
#define BROKER_API_SQS_CALL_H

#include "broker/api/access.h"
#include "broker/api/api.h"
#include "broker/dispatch/receipt.h"
#include "broker/shards/queues.h"
#include "broker/shards/set.h"
#include "proto/sqs/codec.h"

#define SQS_BATCH_MAX 10
#define SQS_ANONYMOUS "anonymous" /* the sender who did not say who it is */

struct cooldowns;
struct sqs_call;
struct sqs_digest_job;

/* What the family keeps between calls. */
struct sqs_state {
    struct cooldowns *cooldowns;
    struct sqs_call *waiting;                          /* long polls under way */
    struct sqs_digest_job *digest_first, *digest_last; /* digests.h: until the turn's end */
};

/* How a call came, and so how it is answered: over HTTP (sqs.c) or natively (broker/api/native). */
struct sqs_carrier {
    /* reply, fail: answer the client, who is there; the call is freed behind it. */
    void (*reply)(struct sqs_call *call, const void *result);
    void (*fail)(struct sqs_call *call, const struct sqs_error *error);
    /* freed: the call ends, answered or not. May be NULL. */
    void (*freed)(struct sqs_call *call);
    /* park: the call may wait long, and nothing but its answer is left to do with the client: give
     * back what that does not need. No base_url behind it. May be NULL. */
    void (*park)(struct sqs_call *call);
    /* base_url: "http://host:port" as this client can dial it; alive until the call ends. */
    const char *(*base_url)(struct sqs_call *call);
    bool no_md5; /* of bodies: its frames have checksums */
    /* No call about messages of a queue that is known here waits until this node is up to date
     * (run.c); else some do. */
    bool may_lag;
    /* caller: fill in call->caller, in memory that lives as long as the call. False, and why it
     * cannot be. NULL: the HTTP request says who. */
    bool (*caller)(struct sqs_call *call, struct auth_failure *failure);
    /* refuse: of calls that another node has sent here (away_serve.c), else NULL. NOT_LEADER: this
     * node cannot carry it out and has done nothing of it, another one is to be asked. CLOSED:
     * nobody knows whether it was done. Frees the call. */
    void (*refuse)(struct sqs_call *call, enum status status);
};

typedef void (*sqs_results_fn)(struct sqs_call *call, const struct core_result *results,
                               uint32_t count);

struct sqs_call {
    struct api *api;
    struct shard *shard; /* of the queue that it is about, once that has been looked up, and held
                          * until the call ends (sqs_use_shard); else NULL */
    uint32_t shard_id;   /* of that one */
    const struct sqs_carrier *carrier;
    void *carried;                /* the carrier's */
    bool gone;                    /* the client has gone: nobody is to be answered */
    struct http_request *request; /* of HTTP; NULL once the client has gone */
    struct arena arena;           /* outlives the request */
    enum sqs_protocol protocol;
    enum sqs_action action;
    const char *action_name;   /* static storage */
    void *input;               /* struct of the action's input shape */
    uint8_t (*md5)[MD5_BYTES]; /* of the bodies in it (digests.h); NULL: not made yet */
    struct sqs_error wrong;    /* why that could not be read; SQS_OK: it was */
    struct slice key;       /* the core's name of the queue that it names; empty: it names none */
    uint32_t own;           /* where it names one: its shard, by what the catalog says here */
    struct shard_set reads; /* the shards that its input names (subject.h), on this node; */
    struct shard_set lacks; /* more of them, which are on other nodes only */
    struct queue_view *looked; /* queues of those that it looks at (look.h); in name order */
    uint32_t looked_count;
    struct looking *looking; /* while it waits for them */
    struct shard_set fresh;  /* in these it has seen all that was answered before it came */
    struct slice sender_id;
    struct auth_caller caller; /* known once the action is */
    bool away;                 /* its queue is of a shard that is on other nodes (away.h) */
    struct slice region;       /* that it was signed for; empty: the node's own (region.h) */
    uint8_t secret[RECEIPT_SECRET_BYTES];
    uint64_t started_ns;
    uint64_t since_ms; /* when it arrived, of the loop's clock: its deadline counts from there */
    char request_id[UUID_TEXT_LENGTH + 1];
    /* The asynchronous step under way: exactly one, whenever the call is not answered and control
     * is with the loop. It ends in sqs_reply or sqs_fail, also when the client has gone. */
    struct shard_call proposal;
    sqs_results_fn on_results;
    void (*on_abort)(struct sqs_call *call); /* may be NULL: wait for the step to end */
    void *state;                             /* the handler's */
    /* While in sqs_state.waiting: the node is stopping, so wait no longer. */
    void (*on_closing)(struct sqs_call *call);
    struct sqs_call *prev, *next;
};

/* What a carrier does with a call, in this order. sqs_call_new: one from this client, of `bytes` in
 * its protocol.
 * sqs_call_begin: it is for `action`, so `input` can be filled in. sqs_call_run: it is, or `wrong`
 * says why not (NULL: it is); from here on the call goes its way and answers itself, perhaps at
 * once. sqs_call_abandon: the client has gone before it was answered. sqs_call_park: as of struct
 * sqs_carrier. sqs_call_free: it has ended.
 */
struct sqs_call *sqs_call_new(struct api *api, const struct sqs_carrier *carrier, size_t bytes);
void sqs_call_begin(struct sqs_call *call, enum sqs_action action);
void sqs_call_run(struct sqs_call *call, const struct sqs_error *wrong);
void sqs_call_abandon(struct sqs_call *call);
void sqs_call_park(struct sqs_call *call);
void sqs_call_free(struct sqs_call *call);

/* sqs_end_waiting: the node is stopping: answer all long polls now, empty. */
void sqs_end_waiting(struct api *api);

/* sqs_reply: answer with `result` (a struct of the action's result shape; NULL if it has none) and
 * free the call. */
void sqs_reply(struct sqs_call *call, const void *result);

/* sqs_fail: answer with an error and free the call. sqs_fail_status: the same for what the shard
 * said. sqs_unavailable: for what this node cannot carry out now, and has done nothing of; one that
 * came from another node goes on to the next one instead. */
void sqs_fail(struct sqs_call *call, struct sqs_error error);
void sqs_unavailable(struct sqs_call *call);
void sqs_fail_status(struct sqs_call *call, enum status status);

/* sqs_fail_core: the same for the code of a command. */
void sqs_fail_core(struct sqs_call *call, enum core_code code);
enum sqs_error_code sqs_core_error(enum core_code code);

/* sqs_error_make: an error with a formatted sentence in the call's arena. */
struct sqs_error sqs_error_make(struct sqs_call *call, enum sqs_error_code code, const char *format,
                                ...) __attribute__((format(printf, 3, 4)));

/* sqs_propose: have call->proposal committed, then call `on_results` with as many results as
 * commands. If the shard refuses, or the client has gone meanwhile, the call ends without it; so
 * `on_results` may be NULL when the client has gone already. */
void sqs_propose(struct sqs_call *call, sqs_results_fn on_results);

/* sqs_use_shard: the call goes on in this shard, if a replica here answers requests; that one stays
 * open as long as the call. */
void sqs_use_shard(struct sqs_call *call, uint32_t id);

/* sqs_find: is there a queue of this key? The call goes on in the key's shard, which is open: only
 * for the queue that its input names (sqs_permits.def). Others: sqs_queue_by_name (look.h). */
bool sqs_find(struct sqs_call *call, struct slice key, struct queue_view *out);

/* sqs_queue: find the queue that a QueueUrl names; if there is none, the call has been answered and
 * false is returned. As sqs_find. */
MUST_CHECK bool sqs_queue(struct sqs_call *call, struct slice queue_url, struct queue_view *out);

/* queue_url_text: the address of the queue of this key (queue_name.h), as the client of this call
 * can dial it; queue_arn_text: its ARN. In the call's arena. */
struct slice queue_url_text(struct sqs_call *call, struct slice key);
const char *queue_arn_text(struct sqs_call *call, struct slice key);

/* sqs_state: the family's; NULL when the family is not registered. */
struct sqs_state *sqs_state(struct sqs_call *call);

/* sqs_cooldowns: NULL when the broker runs without them. */
struct cooldowns *sqs_cooldowns(struct sqs_call *call);

/* sqs_quote: `text` for use in an error's sentence with %s: bounded, so that no answer is as long
 * as a bad request. In the call's arena. */
const char *sqs_quote(struct sqs_call *call, struct slice text);

/* sqs_hex: lower-case hex in the call's arena. */
struct slice sqs_hex(struct sqs_call *call, const uint8_t *bytes, size_t count);

/* The handlers: one for each ACTION row. Each ends in sqs_reply, sqs_fail or sqs_propose. */
#define ACTION(Name, name, input, result, doc) void handle_##name(struct sqs_call *call);
#include "proto/sqs/sqs_actions.def"
#undef ACTION

#endif
