/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. thread: loop. */
#ifndef BROKER_AUTH_INTERNAL_H
#define BROKER_AUTH_INTERNAL_H

#include "broker/auth/auth.h"
#include "broker/auth/policy.h"

#include <uthash.h>

#define SIGNING_KEYS 4 /* kept for each access key: a day and its successor, two services */
#define SCOPE_BYTES  64

struct signing_key {
    char scope[SCOPE_BYTES]; /* "20260131/us-east-1/sqs" */
    size_t scope_length;     /* 0: none */
    struct sigv4_key key;
};

/* An access key, decoded. */
struct key {
    struct arena arena; /* of the record and the texts */
    uint64_t version;   /* of the document that it was decoded from */
    struct key_record record;
    struct policy *policy; /* NULL: none */
    const char *arn;
    struct signing_key signing[SIGNING_KEYS];
    unsigned signing_next;
    UT_hash_handle hh; /* by record.id */
};

/* A queue's policy, parsed. */
struct queue_policy {
    uint64_t queue_id;
    uint64_t version;      /* of the queue that it was read from */
    struct policy *policy; /* NULL: none */
    bool unreadable;
    UT_hash_handle hh; /* by queue_id */
};

struct auth {
    struct auth_options options;
    struct key *keys;            /* uthash: a cache */
    struct queue_policy *queues; /* uthash: a cache */
    struct buffer scratch;       /* the canonical request of the call under way */
    uv_timer_t timer;            /* until the root key is seen to */
    unsigned ticks;
    bool root_done;
    bool root_under_way;
    struct shard_call root_call;
    void (*closed)(void *data);
    void *closed_data;
};

/* ---- authenticate.c ---- */

/* auth_fail: with the failure's own sentence; false. auth_describe: who has this key, in the arena.
 */
bool auth_fail(struct auth_failure *failure, enum auth_failure_code code);
void auth_describe(const struct key *key, struct arena *arena, struct auth_caller *out);

/* ---- keys.c ---- */

/* keys_find: the key as it is now in the catalog; NULL if there is none, or it cannot be read.
 * Valid until control returns to the loop. */
struct key *keys_find(struct auth *auth, struct slice id);
void keys_free(struct auth *auth);

/* keys_any: is there a key that is not disabled? */
bool keys_any(struct auth *auth);

/* keys_signing: the signing key of this claim's day, region and service. */
const struct sigv4_key *keys_signing(struct key *key, const struct sigv4_claim *claim,
                                     struct sigv4_key *scratch);

/* ---- queue_policies.c ---- */

/* queue_policy_of: NULL: it has none. */
const struct queue_policy *queue_policy_of(struct auth *auth, const struct queue_view *queue);
void queue_policies_free(struct auth *auth);

/* ---- root_key.c ---- */

/* root_key_step: put the root key into the catalog if it is not there as it should be. */
void root_key_step(struct auth *auth);

#endif
