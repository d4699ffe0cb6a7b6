/* SPDX-License-Identifier: Apache-2.0 */
/* Who makes a request, and what they may do.
 *
 * With AUTH_OFF every signature is taken and everything is allowed. With AUTH_REQUIRED a request is
 * either signed with an access key of the catalog, or made by nobody ("anonymous"), whom only a
 * queue's policy can allow anything.
 *
 * thread: loop. Nothing here waits; what is read is the applied state of the shard. */
#ifndef BROKER_AUTH_AUTH_H
#define BROKER_AUTH_AUTH_H

#include "broker/auth/key_record.h"
#include "broker/replication/shard.h"
#include "proto/sigv4/proof.h"
#include "proto/sigv4/sigv4.h"

#define AUTH_SKEW_S 900u /* a signature's time may differ so much from ours */

enum auth_mode { AUTH_OFF, AUTH_REQUIRED };

enum auth_failure_code {
    AUTH_OK,
#define AUTH_FAILURE(name, query_code, exception, status, text) AUTH_##name,
#include "broker/auth/failures.def"
#undef AUTH_FAILURE
    AUTH_FAILURE_COUNT
};
struct auth_failure {
    enum auth_failure_code code;
    const char *message; /* static, or in the arena of the call that failed */
};
/* auth_failure_exception: "AccessDeniedException"; auth_failure_status: 403. */
const char *auth_failure_exception(enum auth_failure_code code);
int auth_failure_status(enum auth_failure_code code);

struct auth;

struct auth_options {
    uv_loop_t *loop;
    enum auth_mode mode;
    struct shard *shard;
    const char *account_id;
    const char *root_id; /* of the root key to keep in the catalog; NULL: none */
    const char *root_secret;
    /* The mode is REQUIRED, and there is no key: nobody could ever get in. */
    void (*no_key)(void *data);
    void *data;
};

/* auth_open: begins to see to the root key once the shard is ready. auth_close: calls back when its
 * memory may go; no call of it may be under way. */
struct auth *auth_open(const struct auth_options *options);
void auth_close(struct auth *auth, void (*closed)(void *data), void *data);
bool auth_required(const struct auth *auth);

/* ---- authentication ---- */

enum auth_caller_kind {
    AUTH_UNCHECKED, /* mode off */
    AUTH_ANONYMOUS, /* the request is not signed */
    AUTH_KEY
};

/* Who calls, and from where. Its slices live as long as the arena it was made in. */
struct auth_caller {
    enum auth_caller_kind kind;
    struct slice key_id;
    struct slice account;
    struct slice arn; /* "arn:aws:iam::123456789012:user/NAME" */
    struct slice name;
    struct slice source_ip;
    struct slice user_agent;
    struct slice region; /* of the credential scope */
    bool root;
    bool secure; /* over TLS */
    uint64_t now_s;
};

/* What is known of a request besides its head. */
struct auth_input {
    struct sigv4_request request;
    const char *service; /* that the credential must be scoped to: "sqs" */
    struct slice body;
    const char *body_sha256; /* 64 hex digits, if the caller has it; NULL: it is computed */
    struct slice source_ip;
    struct slice user_agent;
    bool secure;
    bool unsigned_payload; /* UNSIGNED-PAYLOAD will do, over TLS */
    uint64_t now_s;
};

/* auth_authenticate: true, and `out` says who; or false and `failure` why not. */
bool auth_authenticate(struct auth *auth, const struct auth_input *input, struct arena *arena,
                       struct auth_caller *out, struct auth_failure *failure);

/* What a connection has said, and shown, of who it is; the texts are its owner's. */
struct auth_proof {
    struct proof_terms terms; /* valid */
    uint8_t proof[PROOF_BYTES];
    uint64_t version; /* of the key that it was last compared with; 0: none yet */
};

/* auth_prove: as auth_authenticate, for a connection; `out` has who, in the arena, and not from
 * where or when. auth_proof_holds: does it still, after the key may have changed? For each call on
 * the connection; it costs a look-up. Only where auth_required. */
bool auth_prove(struct auth *auth, struct auth_proof *proof, struct arena *arena,
                struct auth_caller *out, struct auth_failure *failure);
bool auth_proof_holds(struct auth *auth, struct auth_proof *proof, struct auth_failure *failure);

/* auth_presign: a query string that lets whoever has it make this GET request in the caller's name
 * for `expires_s`; the request's own query when signatures are not checked. In the arena. */
struct slice auth_presign(struct auth *auth, const struct auth_caller *caller, struct slice path,
                          struct slice host, const char *service, uint32_t expires_s,
                          struct arena *arena);

/* ---- authorisation ---- */

struct auth_question {
    const char *action; /* "sqs:SendMessage" */
    const char *shown;  /* how an error names it; NULL: as `action` */
    struct slice resource;
    bool of_queue;                  /* the resource is a queue, which need not exist */
    const struct queue_view *queue; /* whose policy has a say; NULL: none */
};

/* auth_authorize: may the caller do it? A key that was disabled or deleted since the request came
 * may nothing. */
bool auth_authorize(struct auth *auth, const struct auth_caller *caller,
                    const struct auth_question *question, struct arena *arena,
                    struct auth_failure *failure);

/* auth_policy_check: would this do as the policy of a key, or of a queue? NULL, or what is wrong
 * (static). */
const char *auth_policy_check(struct slice json, bool of_queue);

#endif
