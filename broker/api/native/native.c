/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions of native clients. A CALL frame becomes a struct sqs_call, as an HTTP request does, and
 * goes to the same handlers: rules, errors and counters are those of broker/api/sqs, and nothing is
 * decided here but how many calls may be under way.
 *
 *     ClientHello ─ names no key ────────────────────────> open ── calls and answers ──> link ends,
 *         └─ Challenge ─> proving ─ Proof ─> Welcome ───────┘ or native_close
 *                            └─ wrong, or not in time ─> Refused
 *
 * Who greets without a key is nobody in particular: where signatures are required, only what a
 * queue's policy allows everyone is allowed. With a key all calls of the connection are that key's,
 * as long as it is there and has the secret that was proven (identity.c).
 *
 * A call outlives its frame, so the frame's bytes are copied once, and everything decoded borrows
 * from the copy. Answers go out as they come about: the id says which call each belongs to.
 *
 * I1  a call is in its session's list until it is answered or the link has ended; then it is
 *     abandoned, and the handler gives back what it leased
 * I2  the calls and bytes that a session and all sessions hold are bounded: beyond, a call is
 *     refused as throttled and nothing of it is kept */
#include "broker/api/native/native.h"

#include "broker/api/native/identity.h"
#include "broker/api/sqs/away.h"
#include "proto/base/assert.h"
#include "proto/base/trace.h"
#include "proto/sqs/native.h"

#include <stdlib.h>
#include <utlist.h>

#define CALLS_MAX         16384u       /* of one connection */
#define SESSION_BYTES_MAX (64u << 20)  /* of inputs, of one connection */
#define ALL_BYTES_MAX     (256u << 20) /* of all connections */
#define CLOSE_STEP_MS     10u
#define PROVE_MS          5000u /* for the answer to a challenge */
#define PROVE_STEP_MS     1000u

struct session;

struct native_call {
    struct session *session; /* NULL: the link has ended */
    struct identity *identity;
    struct sqs_call *call;
    uint32_t id;
    size_t bytes;
    struct native_call *prev, *next;
};

/* A challenge that waits until this node knows the keys that others have made. */
struct asking {
    struct session *session; /* NULL: it has ended */
    uint8_t nonce[PROOF_NONCE_BYTES];
    const char *time; /* the identity's */
};

struct session {
    struct native *native;
    struct link *link;
    struct identity *identity;
    struct asking *asking;     /* NULL: none */
    uint64_t prove_until_ms;   /* 0: it is not to prove anything any more */
    struct native_call *calls; /* I1 */
    uint32_t call_count;
    size_t bytes;
    struct session *prev, *next;
};

struct native {
    struct api *api;
    struct session *sessions;
    unsigned session_count;
    uint32_t call_count;
    size_t bytes;
    unsigned proving; /* sessions that have been challenged */
    uv_timer_t timer; /* ends those that are late; closing */
    bool closing;
    uint64_t close_until_ms;
    void (*closed)(void *data);
    void *closed_data;
};

/* ---- answers ---- */

/* ask_node: who is the quickest to ask for the call's queue. */
static uint64_t ask_node(struct sqs_call *call)
{
    if (call->away)
        return sqs_away_node(call);
    return call->shard != NULL ? shard_leader(call->shard) : 0;
}

static void send_answer(struct native_call *nc, bool refused, enum sqs_shape shape,
                        const void *result, const struct sqs_error *error)
{
    struct link *link = nc->session->link;
    struct buffer *out = link_frame_begin(link);
    if (out != NULL) {
        native_answer_header(out, nc->id, refused, ask_node(nc->call));
        if (error != NULL)
            native_write_error(out, error);
        else if (result != NULL)
            native_write(out, shape, result);
    }
    if (out == NULL || link_frame_end(link, MILLRACE__TYPE__TYPE_ANSWER) != STATUS_OK)
        link_close(link); /* a client that does not read its answers */
}

static void reply(struct sqs_call *call, const void *result)
{
    send_answer(call->carried, false, sqs_actions[call->action].result, result, NULL);
}

static void fail(struct sqs_call *call, const struct sqs_error *error)
{
    send_answer(call->carried, true, SQS_SHAPE_call_error, NULL, error);
}

static void forget(struct native_call *nc)
{
    struct session *session = nc->session;
    if (session == NULL)
        return;
    DL_DELETE(session->calls, nc);
    session->call_count--;
    session->bytes -= nc->bytes;
    session->native->call_count--;
    session->native->bytes -= nc->bytes;
    nc->session = NULL;
}

static void freed(struct sqs_call *call)
{
    struct native_call *nc = call->carried;
    forget(nc);
    identity_release(nc->identity);
}

static bool caller(struct sqs_call *call, struct auth_failure *failure)
{
    const struct native_call *nc = call->carried;
    return identity_caller(nc->identity, &call->caller, failure);
}

static const char *base_url(struct sqs_call *call)
{
    const char *url = api_config(call->api)->public_url;
    return url != NULL ? url
                       : arena_printf(&call->arena, "http://127.0.0.1:%u", api_port(call->api));
}

static const struct sqs_carrier carrier = {.reply = reply,
                                           .fail = fail,
                                           .freed = freed,
                                           .base_url = base_url,
                                           .no_md5 = true,
                                           .may_lag = true,
                                           .caller = caller};

/* ---- calls ---- */

static void remember(struct session *session, struct sqs_call *call, uint32_t id, size_t bytes)
{
    struct native_call *nc = arena_alloc(&call->arena, sizeof *nc);
    *nc = (struct native_call){.session = session,
                               .identity = identity_hold(session->identity),
                               .call = call,
                               .id = id,
                               .bytes = bytes};
    DL_APPEND(session->calls, nc);
    session->call_count++;
    session->bytes += bytes;
    session->native->call_count++;
    session->native->bytes += bytes;
    call->carried = nc;
}

static enum sqs_error_code admit(const struct session *session, uint16_t action)
{
    const struct native *native = session->native;
    if (native->closing)
        return SQS_ERROR_UNAVAILABLE;
    if (action >= SQS_ACTION_COUNT)
        return SQS_ERROR_INVALID_ACTION;
    bool full = session->call_count > CALLS_MAX || session->bytes > SESSION_BYTES_MAX ||
                native->bytes > ALL_BYTES_MAX;
    return full ? SQS_ERROR_THROTTLED : SQS_OK; /* I2 */
}

static void on_call(struct session *session, struct slice payload)
{
    struct native_header header;
    struct slice body;
    if (!native_header_read(payload, &header, &body)) {
        link_close(session->link);
        return;
    }
    struct sqs_call *call = sqs_call_new(session->native->api, &carrier, body.length);
    call->protocol = SQS_JSON; /* for the wording of errors */
    call->sender_id = SLICE_LITERAL(SQS_ANONYMOUS);
    call->region = identity_region(session->identity);
    remember(session, call, header.id, body.length);
    enum sqs_error_code code = admit(session, header.action);
    if (code != SQS_OK) {
        sqs_fail(call, (struct sqs_error){code, NULL});
        return;
    }
    static const struct sqs_error unreadable = {SQS_ERROR_SERIALIZATION, NULL};
    sqs_call_begin(call, (enum sqs_action)header.action);
    body = arena_copy(&call->arena, body);
    bool good = native_read(body, sqs_actions[call->action].input, &call->arena, call->input);
    sqs_call_run(call, good ? NULL : &unreadable);
}

/* ---- greetings ---- */

static void welcome(struct session *session)
{
    struct native *native = session->native;
    Millrace__ClientWelcome welcome = MILLRACE__CLIENT_WELCOME__INIT;
    welcome.protocol = NATIVE_PROTOCOL;
    welcome.version = (char *)(uintptr_t)api_config(native->api)->version;
    welcome.node_id = api_config(native->api)->node_id;
    welcome.calls_max = CALLS_MAX;
    link_frame_max(session->link, NATIVE_CALL_BYTES_MAX + NATIVE_HEADER_BYTES);
    if (link_send(session->link, MILLRACE__TYPE__TYPE_CLIENT_WELCOME, &welcome.base) != STATUS_OK)
        link_close(session->link);
}

/* `code`: of the API's error, or "". */
static void refuse(struct session *session, const char *code, const char *reason)
{
    struct link *link = session->link;
    trace_warn("native", "client_refused", "peer=%s code=\"%s\" reason=\"%s\"", link_peer(link),
               code, reason);
    Millrace__Refused refused = MILLRACE__REFUSED__INIT;
    refused.code = (char *)(uintptr_t)code;
    refused.reason = (char *)(uintptr_t)reason;
    (void)!link_send(link, MILLRACE__TYPE__TYPE_REFUSED, &refused.base); /* it ends anyway */
    link_close(link);
}

static void refuse_failed(struct session *session, const struct auth_failure *failure)
{
    refuse(session, auth_failure_exception(failure->code), failure->message);
}

static void proving_ended(struct session *session)
{
    if (session->prove_until_ms == 0)
        return;
    session->prove_until_ms = 0;
    session->native->proving--;
}

static void on_tick(uv_timer_t *timer);

/* Keys are of the catalog, so a node that does not know it yet cannot tell. */
static bool knows_keys(const struct native *native)
{
    uint8_t cluster_id[UUID_BYTES];
    uint8_t secret[RECEIPT_SECRET_BYTES];
    struct shard *shard = api_catalog(native->api);
    return shard_ready(shard) && core_bootstrapped(shard_core(shard), cluster_id, secret);
}

static void challenge(struct session *session, struct asking *asking)
{
    struct native *native = session->native;
    Millrace__ClientChallenge challenge = MILLRACE__CLIENT_CHALLENGE__INIT;
    challenge.nonce = (ProtobufCBinaryData){PROOF_NONCE_BYTES, asking->nonce};
    challenge.time = (char *)(uintptr_t)asking->time;
    if (!knows_keys(native))
        refuse(session, "", "this broker does not serve requests at the moment; try again");
    else if (link_send(session->link, MILLRACE__TYPE__TYPE_CLIENT_CHALLENGE, &challenge.base) !=
             STATUS_OK)
        link_close(session->link);
}

static void on_fresh(void *data, enum status status)
{
    struct asking *asking = data;
    struct session *session = asking->session;
    if (session != NULL)
        session->asking = NULL;
    if (session != NULL && status == STATUS_OK)
        challenge(session, asking);
    else if (session != NULL)
        refuse(session, "", "this broker cannot tell who has a key at the moment; try again");
    free(asking);
}

/* `asking` is taken over. */
static void ask(struct session *session, struct asking *asking)
{
    struct native *native = session->native;
    const struct shard_set keys = {.catalog = true};
    session->prove_until_ms = uv_now(native->timer.loop) + PROVE_MS;
    if (native->proving++ == 0)
        uv_timer_start(&native->timer, on_tick, PROVE_STEP_MS, PROVE_STEP_MS);
    session->asking = asking;
    if (!shard_set_sync(&keys, api_shards(native->api), 0, on_fresh, asking))
        on_fresh(asking, STATUS_OK);
}

static void on_hello(struct session *session, const Millrace__ClientHello *hello)
{
    struct asking *asking = calloc(1, sizeof *asking);
    ASSERT(asking != NULL);
    asking->session = session;
    const char *wrong;
    bool named = identity_challenge(session->identity, hello, asking->nonce, &asking->time, &wrong);
    if (named && wrong == NULL) {
        ask(session, asking);
        return;
    }
    free(asking);
    if (named)
        refuse(session, "", wrong);
    else
        welcome(session);
}

static void on_proof(struct session *session, struct slice payload)
{
    struct auth_failure failure = {0};
    Millrace__ClientProof *proof =
        millrace__client_proof__unpack(NULL, payload.length, payload.data);
    proving_ended(session);
    if (proof == NULL)
        refuse(session, "", "malformed proof");
    else if (identity_prove(session->identity, slice_make(proof->proof.data, proof->proof.len),
                            &failure))
        welcome(session);
    else
        refuse_failed(session, &failure);
    if (proof != NULL)
        millrace__client_proof__free_unpacked(proof, NULL);
}

static void on_frame(struct link *link, void *data, uint16_t type, struct slice payload)
{
    struct session *session = data;
    (void)link;
    if (session->prove_until_ms > 0 && type == MILLRACE__TYPE__TYPE_CLIENT_PROOF)
        on_proof(session, payload);
    else if (session->prove_until_ms > 0)
        refuse(session, "", "a call before the proof of its key");
    else if (type == MILLRACE__TYPE__TYPE_CALL)
        on_call(session, payload);
}

/* ---- sessions ---- */

static void on_closed(struct link *link, void *data, enum status why)
{
    struct session *session = data;
    struct native *native = session->native;
    struct native_call *nc;
    struct native_call *after;
    trace_debug("native", "client_left", "peer=%s why=\"%s\"", link_peer(link), status_text(why));
    DL_FOREACH_SAFE(session->calls, nc, after)
    {
        forget(nc);
        sqs_call_abandon(nc->call); /* I1 */
    }
    DL_DELETE(native->sessions, session);
    native->session_count--;
    proving_ended(session);
    if (session->asking != NULL)
        session->asking->session = NULL;
    identity_release(session->identity);
    free(session);
}

static const struct link_handler handler = {on_frame, on_closed};

void native_accept(void *data, struct link *link, struct slice payload)
{
    struct native *native = data;
    struct session *session = calloc(1, sizeof *session);
    ASSERT(session != NULL);
    session->native = native;
    session->link = link;
    session->identity = identity_new(native->api, link);
    DL_APPEND(native->sessions, session);
    native->session_count++;
    link_hand_over(link, &handler, session);
    Millrace__ClientHello *hello =
        millrace__client_hello__unpack(NULL, payload.length, payload.data);
    if (native->closing)
        refuse(session, "", "the broker is shutting down");
    else if (hello == NULL || hello->protocol != NATIVE_PROTOCOL)
        refuse(session, "", "this broker speaks protocol 1 only; use a client of the same release");
    else
        on_hello(session, hello);
    if (hello != NULL)
        millrace__client_hello__free_unpacked(hello, NULL);
}

/* ---- opening and closing ---- */

struct native *native_open(struct api *api)
{
    struct native *native = calloc(1, sizeof *native);
    ASSERT(native != NULL);
    native->api = api;
    uv_timer_init(api_loop(api), &native->timer);
    native->timer.data = native;
    return native;
}

unsigned native_connections(const struct native *native)
{
    return native->session_count;
}

static void timer_closed(uv_handle_t *handle)
{
    struct native *native = handle->data;
    void (*closed)(void *data) = native->closed;
    void *data = native->closed_data;
    free(native);
    closed(data);
}

/* Those who do not answer their challenge are told, and go. */
static void end_late(struct native *native)
{
    struct session *session;
    uint64_t now_ms = uv_now(native->timer.loop);
    DL_FOREACH(native->sessions, session)
    {
        if (session->prove_until_ms == 0 || session->prove_until_ms > now_ms)
            continue;
        proving_ended(session);
        refuse(session, "", "its proof did not come in time");
    }
    if (native->proving == 0)
        uv_timer_stop(&native->timer);
}

static void close_step(uv_timer_t *timer)
{
    struct native *native = timer->data;
    struct session *session;
    struct session *after;
    if (native->call_count > 0 && uv_now(timer->loop) < native->close_until_ms)
        return;
    DL_FOREACH_SAFE(native->sessions, session, after)
    {
        link_close(session->link); /* harmless when repeated */
    }
    if (native->session_count == 0) {
        uv_timer_stop(timer);
        uv_close((uv_handle_t *)timer, timer_closed);
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct native *native = timer->data;
    if (native->closing)
        close_step(timer);
    else
        end_late(native);
}

void native_close(struct native *native, uint32_t grace_ms, void (*closed)(void *data), void *data)
{
    ASSERT(!native->closing);
    native->closing = true;
    native->closed = closed;
    native->closed_data = data;
    native->close_until_ms = uv_now(native->timer.loop) + grace_ms;
    sqs_end_waiting(native->api);
    uv_timer_start(&native->timer, on_tick, 0, CLOSE_STEP_MS);
}
