/* SPDX-License-Identifier: Apache-2.0 */
/* Worker sessions.
 *
 *     accepted ──ClientHello──> handed over: a native client, no session any more
 *     accepted ──Hello──> greeted ──shard ready, Welcome──> welcomed ──Drain──> draining
 *        │                   │                                 │                   │
 *        └─silent, refused───┴──────────silent, broken, closed─┴───────────────────┴──> ended
 *
 * A session is the life of one connection. Everything that a worker holds, it holds for its
 * session: when the session ends, for whatever reason, its batches are made visible again at once
 * and its synchronous invocations are answered with an error, so nothing waits for a deadline
 * because a worker died. Only where this node does not lead (any more) nothing is given back: its
 * workers are sent to the leader, and show it what they run (running.c).
 *
 * Frames come from outside. Whatever does not decode, comes out of order or asks for too much ends
 * the session; a type that this version does not know is skipped, so that versions can be mixed.
 * What a worker calls itself is shown in /status, /metrics and traces, so it is made plain ASCII.
 *
 *   I1  only a welcomed session that has not ended or begun to drain is given work
 *   I2  `ended` is set before its assignments are lost, so that none is placed there meanwhile
 */
#include "broker/dispatch/internal.h"

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <utlist.h>

#define PROTOCOL        1u
#define HELLO_BYTES_MAX 65536u /* what a connection that has not said who it is may send */
#define WORKER_TEXT_MAX 256u   /* id, version, host, isolation, a runtime's name */
/* Of a result; generous, because what a function may answer is the worker's to judge. */
#define RESULT_PAYLOAD_BYTES_MAX ((6u << 20) + 65536u)
#define RESULT_TAIL_BYTES_MAX    16384u /* goes into a header of Invoke's answer */

/* One piece of code on its way from the log to a worker. */
struct code_read {
    struct session *session; /* NULL: gone meanwhile */
    struct dispatch *dispatch;
    uint8_t sha256[SHA256_BYTES];
    uint64_t offset, total;
    uint64_t skip; /* bytes of the stored piece before `offset` */
    struct body_ref ref;
    struct shard_read read;
    struct code_read *prev, *next;
};

bool session_available(const struct session *session)
{
    return session->welcomed && !session->draining && !session->ended &&
           dispatch_now(session->dispatch) >= session->hold_until_ms; /* I1 */
}

bool sessions_could_run(const struct dispatch *dispatch, const struct room_need *need)
{
    const struct session *session;
    DL_FOREACH(dispatch->sessions, session)
    {
        if (session->welcomed && !session->ended && !session->draining &&
            room_possible(&session->room, need))
            return true;
    }
    return false;
}

static void session_send(struct session *session, uint16_t type, const ProtobufCMessage *message)
{
    if (session->ended)
        return;
    enum status status = link_send(session->link, type, message);
    if (status != STATUS_OK)
        session_end(session, status_text(status));
}

void session_end(struct session *session, const char *why)
{
    if (session->ended)
        return;
    session->ended = true; /* I2 */
    if (session->greeted)
        trace_info("dispatch", "worker_left", "worker=%s host=\"%s\" why=\"%s\"",
                   session->worker_id, session->host, why);
    assignments_lose(session);
    if (session->link != NULL)
        link_close(session->link);
}

static void session_free(struct session *session)
{
    struct dispatch *dispatch = session->dispatch;
    struct code_read *read;
    DL_FOREACH(session->reads, read)
    {
        read->session = NULL;
    }
    DL_DELETE(dispatch->sessions, session);
    dispatch->session_count--;
    free(session->worker_id);
    free(session->host);
    free(session->version);
    free(session->isolation);
    for (size_t i = 0; i < session->runtime_count; i++)
        free(session->runtimes[i]);
    free(session->runtimes);
    free(session);
    dispatch_operation_end(dispatch);
}

static void session_refuse(struct session *session, const char *reason)
{
    trace_warn("dispatch", "worker_refused", "peer=%s reason=\"%s\"", link_peer(session->link),
               reason);
    Millrace__Refused refused = MILLRACE__REFUSED__INIT;
    refused.reason = (char *)(uintptr_t)reason;
    session_send(session, MILLRACE__TYPE__TYPE_REFUSED, &refused.base);
    session_end(session, "refused");
}

/* Only the leader gives out work: tell a worker where that is. */
static void session_redirect(struct session *session)
{
    Millrace__Refused refused = MILLRACE__REFUSED__INIT;
    refused.reason = (char *)(uintptr_t) "another broker leads";
    refused.leader_address = session->dispatch->leader;
    session_send(session, MILLRACE__TYPE__TYPE_REFUSED, &refused.base);
    session_end(session, "another broker leads");
}

void sessions_redirect(struct dispatch *dispatch)
{
    struct session *session;
    struct session *after;
    DL_FOREACH_SAFE(dispatch->sessions, session, after)
    {
        if (session->greeted && !session->ended)
            session_redirect(session);
    }
}

static void session_welcome(struct session *session)
{
    struct dispatch *dispatch = session->dispatch;
    char cluster_id[UUID_TEXT_LENGTH + 1];
    uuid_text(dispatch->cluster_id, cluster_id);
    Millrace__Welcome welcome = MILLRACE__WELCOME__INIT;
    welcome.protocol = PROTOCOL;
    welcome.version = dispatch->version;
    welcome.cluster_id = cluster_id;
    welcome.node_id = dispatch->node_id;
    welcome.heartbeat_ms = HEARTBEAT_MS;
    welcome.endpoint = dispatch->endpoint;
    welcome.region = dispatch->region;
    welcome.account_id = dispatch->account_id;
    session->welcomed = true;
    session_send(session, MILLRACE__TYPE__TYPE_WELCOME, &welcome.base);
    dispatch_pump_soon(dispatch);
}

void sessions_welcome(struct dispatch *dispatch)
{
    struct session *session;
    struct session *after;
    DL_FOREACH_SAFE(dispatch->sessions, session, after)
    {
        if (session->greeted && !session->welcomed && !session->ended)
            session_welcome(session);
    }
}

static const char *hello_refusal(const Millrace__Hello *hello)
{
    if (hello->protocol != PROTOCOL)
        return "this broker speaks protocol 1 only; use a worker of the same release";
    if (hello->worker_id[0] == '\0' || strlen(hello->worker_id) > WORKER_TEXT_MAX)
        return "the worker gave no valid id";
    if (hello->concurrency_max == 0 || hello->concurrency_max > SESSION_SLOTS_MAX)
        return "concurrency_max must be between 1 and 10000";
    if (hello->n_runtimes > SESSION_RUNTIMES_MAX)
        return "more than 64 runtimes";
    return NULL;
}

static char *session_text(const char *text)
{
    struct slice whole = slice_of(text);
    whole.length = whole.length > WORKER_TEXT_MAX ? WORKER_TEXT_MAX : whole.length;
    char *copy = text_new(whole);
    for (char *at = copy; *at != '\0'; at++)
        if (*at < ' ' || *at > '~')
            *at = '?';
    return copy;
}

static void session_greet(struct session *session, const Millrace__Hello *hello)
{
    session->greeted = true;
    link_frame_max(session->link, FRAME_BYTES_MAX);
    session->worker_id = session_text(hello->worker_id);
    session->host = session_text(hello->host);
    session->version = session_text(hello->version);
    session->isolation = session_text(hello->isolation);
    session->runtimes = memory_new(hello->n_runtimes + 1, sizeof *session->runtimes);
    session->runtime_count = hello->n_runtimes;
    for (size_t i = 0; i < hello->n_runtimes; i++)
        session->runtimes[i] = session_text(hello->runtimes[i]);
    room_init(&session->room, hello->concurrency_max, hello->memory_bytes,
              (const char *const *)session->runtimes, session->runtime_count);
    trace_info("dispatch", "worker_joined",
               "worker=%s host=\"%s\" version=\"%s\" slots=%u memory_mb=%" PRIu64
               " isolation=\"%s\"",
               session->worker_id, session->host, session->version, hello->concurrency_max,
               hello->memory_bytes >> 20, session->isolation);
}

/* A worker that reconnects before its old connection was missed must not count twice. */
static void session_replace(struct session *session)
{
    struct session *other;
    struct session *after;
    DL_FOREACH_SAFE(session->dispatch->sessions, other, after)
    {
        if (other != session && other->greeted && strcmp(other->worker_id, session->worker_id) == 0)
            session_end(other, "the worker connected again");
    }
}

static void on_hello(struct session *session, struct slice payload)
{
    Millrace__Hello *hello = millrace__hello__unpack(NULL, payload.length, payload.data);
    if (hello == NULL || session->greeted) {
        session_end(session, "malformed or repeated greeting");
    } else if (!link_peer_has_role(session->link, TLS_ROLE_WORKER)) {
        session_refuse(session, "its certificate is not a worker's (role " TLS_ROLE_WORKER ")");
    } else if (hello_refusal(hello) != NULL) {
        session_refuse(session, hello_refusal(hello));
    } else {
        session_greet(session, hello);
        session_replace(session);
        if (session->dispatch->ready)
            session_welcome(session);
        else if (session->dispatch->leader != NULL)
            session_redirect(session);
    }
    if (hello != NULL)
        millrace__hello__free_unpacked(hello, NULL);
}

static void on_capacity(struct session *session, struct slice payload)
{
    Millrace__Capacity *capacity = millrace__capacity__unpack(NULL, payload.length, payload.data);
    if (capacity == NULL) {
        session_end(session, "malformed capacity");
        return;
    }
    room_report(&session->room, capacity->slots_free, capacity->memory_free_bytes);
    for (size_t i = 0; i < capacity->n_warm; i++)
        room_warm_add(&session->room, slice_of(capacity->warm[i]->function),
                      capacity->warm[i]->revision, capacity->warm[i]->idle);
    millrace__capacity__free_unpacked(capacity, NULL);
    dispatch_pump_soon(session->dispatch);
}

static void on_result(struct session *session, struct slice payload)
{
    Millrace__Result *result = millrace__result__unpack(NULL, payload.length, payload.data);
    if (result == NULL) {
        session_end(session, "malformed result");
        return;
    }
    if (result->payload.len > RESULT_PAYLOAD_BYTES_MAX ||
        result->log_tail.len > RESULT_TAIL_BYTES_MAX)
        session_end(session, "a result that is too large");
    else
        assignment_result(session, result);
    millrace__result__free_unpacked(result, NULL);
}

static void on_running(struct session *session, struct slice payload)
{
    Millrace__Running *running = millrace__running__unpack(NULL, payload.length, payload.data);
    if (running == NULL || !session->welcomed)
        session_end(session, "malformed or untimely report of what runs");
    else
        running_came(session, running);
    if (running != NULL)
        millrace__running__free_unpacked(running, NULL);
}

static void on_heartbeat(struct session *session, struct slice payload)
{
    (void)session; /* that anything came is what counts */
    (void)payload;
}

static void on_drain(struct session *session, struct slice payload)
{
    (void)payload;
    if (!session->draining)
        trace_info("dispatch", "worker_draining", "worker=%s", session->worker_id);
    session->draining = true;
}

/* ---- code ---- */

static void code_answer(struct session *session, const struct code_read *read, struct slice data,
                        bool missing)
{
    Millrace__CodePiece piece = MILLRACE__CODE_PIECE__INIT;
    piece.sha256 = (ProtobufCBinaryData){SHA256_BYTES, (uint8_t *)(uintptr_t)read->sha256};
    piece.offset = read->offset;
    piece.data = (ProtobufCBinaryData){data.length, (uint8_t *)(uintptr_t)data.data};
    piece.total_bytes = read->total;
    piece.missing = missing;
    session_send(session, MILLRACE__TYPE__TYPE_CODE_PIECE, &piece.base);
}

static void code_read_done(struct shard_read *shard_read, enum status status)
{
    struct code_read *read = shard_read->data;
    struct dispatch *dispatch = read->dispatch;
    struct session *session = read->session;
    if (session != NULL) {
        DL_DELETE(session->reads, read);
        session->read_count--;
        struct slice stored = buffer_slice(&read->read.out);
        bool good = status == STATUS_OK && stored.length == read->ref.length;
        if (!good)
            trace_error("dispatch", "code_unreadable", "worker=%s why=\"%s\"", session->worker_id,
                        status_text(status));
        code_answer(session, read, good ? slice_sub(stored, read->skip) : slice_of(NULL), !good);
    }
    buffer_free(&read->read.out);
    free(read);
    dispatch_operation_end(dispatch);
}

/* Find the stored piece that holds read->offset, and the size of the whole. */
static bool code_locate(const struct core *core, struct code_read *read)
{
    struct body_ref ref;
    bool found = false;
    if (!core_blob_complete(core, read->sha256))
        return false;
    for (size_t n = 0; core_blob_piece(core, read->sha256, n, &ref); n++) {
        if (!found && read->offset >= read->total && read->offset - read->total < ref.length) {
            found = true;
            read->ref = ref;
            read->skip = read->offset - read->total;
        }
        read->total += ref.length;
    }
    return found;
}

static void code_begin(struct session *session, struct code_read *read)
{
    struct dispatch *dispatch = session->dispatch;
    read->read =
        (struct shard_read){.refs = &read->ref, .count = 1, .done = code_read_done, .data = read};
    DL_APPEND(session->reads, read);
    session->read_count++;
    dispatch_operation_begin(dispatch);
    shard_read(dispatch->catalog, &read->read);
}

static void on_code_request(struct session *session, struct slice payload)
{
    Millrace__CodeRequest *request =
        millrace__code_request__unpack(NULL, payload.length, payload.data);
    if (request == NULL || request->sha256.len != SHA256_BYTES ||
        session->read_count >= SESSION_READS_MAX) {
        session_end(session, "malformed or too many requests for code");
    } else {
        struct code_read *read = memory_new(1, sizeof *read);
        *read = (struct code_read){
            .session = session, .dispatch = session->dispatch, .offset = request->offset};
        memcpy(read->sha256, request->sha256.data, SHA256_BYTES);
        if (code_locate(shard_core(session->dispatch->catalog), read)) {
            code_begin(session, read);
        } else {
            code_answer(session, read, slice_of(NULL), true);
            free(read);
        }
    }
    if (request != NULL)
        millrace__code_request__free_unpacked(request, NULL);
}

/* ---- native clients ---- */

/* It is no worker: whoever serves clients takes the link, and the session was never one. */
static void on_client_hello(struct session *session, struct slice payload)
{
    struct dispatch *dispatch = session->dispatch;
    if (session->greeted) {
        session_end(session, "a worker that greets as a client");
    } else if (dispatch->accept_client == NULL) {
        session_refuse(session, "this broker does not serve native clients at the moment");
    } else {
        dispatch->accept_client(dispatch->accept_data, session->link, payload);
        session_free(session);
    }
}

/* ---- frames ---- */

static const struct {
    uint16_t type;
    bool first; /* may come before the greeting */
    void (*handle)(struct session *session, struct slice payload);
} frame_handlers[] = {
    {MILLRACE__TYPE__TYPE_HELLO, true, on_hello},
    {MILLRACE__TYPE__TYPE_CAPACITY, false, on_capacity},
    {MILLRACE__TYPE__TYPE_RESULT, false, on_result},
    {MILLRACE__TYPE__TYPE_HEARTBEAT, false, on_heartbeat},
    {MILLRACE__TYPE__TYPE_CODE_REQUEST, false, on_code_request},
    {MILLRACE__TYPE__TYPE_DRAIN, false, on_drain},
    {MILLRACE__TYPE__TYPE_CLIENT_HELLO, true, on_client_hello},
    {MILLRACE__TYPE__TYPE_RUNNING, false, on_running},
};

static void session_on_frame(struct link *link, void *data, uint16_t type, struct slice payload)
{
    struct session *session = data;
    (void)link;
    if (session->ended)
        return;
    session->heard_ms = dispatch_now(session->dispatch);
    for (size_t i = 0; i < ARRAY_COUNT(frame_handlers); i++) {
        if (frame_handlers[i].type != type)
            continue;
        if (session->greeted || frame_handlers[i].first)
            frame_handlers[i].handle(session, payload);
        else
            session_end(session, "spoke before its greeting");
        return;
    }
}

static void session_on_closed(struct link *link, void *data, enum status why)
{
    struct session *session = data;
    (void)link;
    session->link = NULL;
    session_end(session, status_text(why));
    session_free(session);
}

static const struct link_handler session_handler = {session_on_frame, session_on_closed};

void session_accepted(struct link *link, void *data)
{
    struct dispatch *dispatch = data;
    struct session *session = memory_new(1, sizeof *session);
    session->dispatch = dispatch;
    session->link = link;
    session->connected_ms = clock_now_ms();
    session->heard_ms = session->beat_ms = dispatch_now(dispatch);
    DL_APPEND(dispatch->sessions, session);
    dispatch->session_count++;
    dispatch_operation_begin(dispatch);
    link_start(link, &session_handler, session);
    link_frame_max(link, HELLO_BYTES_MAX);
    if (dispatch->closing || dispatch->session_count > SESSIONS_MAX)
        session_refuse(session, dispatch->closing ? "the broker is shutting down"
                                                  : "too many workers are connected");
}

static void session_tick(struct session *session, uint64_t now)
{
    uint64_t silence_max = session->greeted ? HEARTBEATS_MISSED * HEARTBEAT_MS : HELLO_MS;
    if (now - session->heard_ms > silence_max) {
        session_end(session, session->greeted ? "silent for three heartbeats" : "sent no greeting");
        return;
    }
    if (!session->welcomed || now - session->beat_ms < HEARTBEAT_MS)
        return;
    session->beat_ms = now;
    Millrace__Heartbeat heartbeat = MILLRACE__HEARTBEAT__INIT;
    heartbeat.sequence = ++session->beat_sequence;
    session_send(session, MILLRACE__TYPE__TYPE_HEARTBEAT, &heartbeat.base);
}

void sessions_tick(struct dispatch *dispatch)
{
    uint64_t now = dispatch_now(dispatch);
    /* A process that was stopped or starved has not read what its workers sent: judge next time. */
    bool overslept = now - dispatch->ticked_ms > HEARTBEAT_MS;
    dispatch->ticked_ms = now;
    struct session *session;
    struct session *after;
    DL_FOREACH_SAFE(dispatch->sessions, session, after)
    {
        if (overslept)
            session->heard_ms = now;
        if (!session->ended)
            session_tick(session, now);
    }
}
