/* SPDX-License-Identifier: Apache-2.0 */
/* Synchronous invocations of a node that does not lead: the leader's dispatcher runs them.
 *
 *     remote_begin ──> waiting ──leader connected──> sent ──ANSWER──> answered
 *                        │  ^                        │ ^
 *                        │  └──NOT_LEADER: not run───┤ └──ADOPTED──────┐
 *                        ├──leads here──> run here   └──CLOSED, gone──> drifting ──> lost
 *                        └──too long──> UNAVAILABLE                     └──shown here──> run here
 *
 * What was sent is never sent again, as the function may have run; only the leader's own word that
 * it has not run lets it be tried elsewhere. When that leader is gone the run may go on: its worker
 * shows the ticket (ticket.h) to the next leader, which takes it over and tells the origin, where
 * it drifts meanwhile.
 *
 * On PEER_CHANNEL_DISPATCH, integers little-endian, each u8 kind, u64 id:
 *     1 INVOKE   then, as u32 length and bytes: request id, function, context, payload
 *     2 CANCEL
 *     3 ANSWER   then u8 enum status; if that is OK: the packed Millrace__Result
 *     4 ADOPTED  the sender has it now, and the answer will come from there
 * The id is the asking node's, of this run of its process; the first is random. ADOPTED, and ANSWER
 * with CLOSED, came with FEATURE_INVOCATION_KEPT.
 *
 *   I1  a remote is in dispatch->remotes until it has ended; `node_id` != 0 exactly while it is
 *       sent, and not while it drifts
 *   I2  a served is in dispatch->served until its answer, if the other node is still there, is sent
 */
#include "broker/dispatch/internal.h"
#include "broker/dispatch/ticket.h"
#include "broker/feature/feature.h"

#include "proto/base/assert.h"
#include "proto/base/bytes.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <utlist.h>

#define INVOKE_MESSAGE  1
#define CANCEL_MESSAGE  2
#define ANSWER_MESSAGE  3
#define ADOPTED_MESSAGE 4
#define ANSWER_HEAD     10u /* bytes before the result */
#define SERVED_MAX      (4u * INVOKE_WAITING_MAX)

/* An invocation of ours. */
struct remote {
    struct dispatch *dispatch;
    struct waiting *waiting;
    uint64_t id;
    uint64_t node_id; /* it was sent there; 0: it waits */
    uint64_t began_ms;
    bool drifts;
    uint64_t drifts_ms;    /* since then, */
    uint64_t left_node_id; /* and who had it */
    struct remote *prev, *next;
};

/* An invocation of another node. */
struct served {
    struct dispatch *dispatch;
    uint64_t node_id, id;
    struct buffer message; /* what was asked */
    struct invocation invocation;
    bool gone; /* nobody waits for the answer */
    struct served *prev, *next;
};

/* ---- messages ---- */

/* One message on its way; it owns its bytes, and frees itself. When too much is unsent it is tried
 * again at the next tick: nobody asks twice for an answer. */
struct letter {
    struct peer_send send;
    struct iovec part;
    struct buffer bytes;
    struct dispatch *dispatch;
    uint64_t node_id;
    struct letter *prev, *next; /* in dispatch->delayed */
};

static void letter_free(struct letter *letter)
{
    struct dispatch *dispatch = letter->dispatch;
    buffer_free(&letter->bytes);
    free(letter);
    dispatch_operation_end(dispatch);
}

static void letter_done(struct peer_send *send, enum status status)
{
    struct letter *letter = send->data;
    if (status == STATUS_BUSY && !letter->dispatch->closing)
        DL_APPEND(letter->dispatch->delayed, letter);
    else
        letter_free(letter); /* a lost connection is told by itself */
}

static void letters_again(struct dispatch *dispatch)
{
    struct letter *list = dispatch->delayed;
    dispatch->delayed = NULL;
    while (list != NULL) {
        struct letter *letter = list;
        DL_DELETE(list, letter);
        peers_send(dispatch->peers, letter->node_id, PEER_CHANNEL_DISPATCH, &letter->send);
    }
}

/* Takes the bytes. */
static void letter_send(struct dispatch *dispatch, uint64_t node_id, struct buffer *bytes)
{
    struct letter *letter = memory_new(1, sizeof *letter);
    letter->bytes = *bytes;
    *bytes = (struct buffer){0};
    letter->dispatch = dispatch;
    letter->node_id = node_id;
    letter->part = (struct iovec){letter->bytes.data, letter->bytes.length};
    letter->send = (struct peer_send){
        .parts = &letter->part, .part_count = 1, .done = letter_done, .data = letter};
    dispatch_operation_begin(dispatch);
    peers_send(dispatch->peers, node_id, PEER_CHANNEL_DISPATCH, &letter->send);
}

static void head(struct buffer *out, uint8_t kind, uint64_t id)
{
    buffer_add_byte(out, kind);
    buffer_add_u64(out, id);
}

/* ---- ours ---- */

static void remote_end(struct remote *remote)
{
    DL_DELETE(remote->dispatch->remotes, remote);
    free(remote);
}

static void remote_send(struct remote *remote)
{
    struct dispatch *dispatch = remote->dispatch;
    const struct invocation *invocation = waiting_invocation(remote->waiting);
    struct buffer out = {0};
    head(&out, INVOKE_MESSAGE, remote->id);
    buffer_add_bytes(&out, slice_of(invocation->request_id));
    buffer_add_bytes(&out, invocation->function_name);
    buffer_add_bytes(&out, invocation->client_context);
    buffer_add_bytes(&out, invocation->payload);
    remote->node_id = dispatch->leader_id;
    letter_send(dispatch, remote->node_id, &out);
}

static bool leader_reachable(const struct dispatch *dispatch)
{
    return dispatch->leader_id != 0 && peers_connected(dispatch->peers, dispatch->leader_id);
}

struct remote *remote_begin(struct dispatch *dispatch, struct waiting *waiting)
{
    struct remote *remote = memory_new(1, sizeof *remote);
    remote->dispatch = dispatch;
    remote->waiting = waiting;
    remote->id = ++dispatch->remote_id;
    remote->began_ms = dispatch_now(dispatch);
    DL_APPEND(dispatch->remotes, remote);
    if (leader_reachable(dispatch))
        remote_send(remote);
    return remote;
}

bool remotes_keep(const struct dispatch *dispatch)
{
    return dispatch->peers != NULL &&
           feature_in(shard_level(dispatch->catalog), FEATURE_INVOCATION_KEPT);
}

static void drift(struct remote *remote)
{
    remote->drifts = true;
    remote->drifts_ms = dispatch_now(remote->dispatch);
    remote->left_node_id = remote->node_id;
    remote->node_id = 0;
}

struct remote *remote_drift(struct dispatch *dispatch, struct waiting *waiting, uint64_t id)
{
    struct remote *remote = memory_new(1, sizeof *remote);
    remote->dispatch = dispatch;
    remote->waiting = waiting;
    remote->id = id;
    DL_APPEND(dispatch->remotes, remote);
    drift(remote);
    return remote;
}

static void remote_lost(struct remote *remote)
{
    struct waiting *waiting = remote->waiting;
    remote_end(remote);
    waiting_lost(waiting);
}

void remote_cancel(struct remote *remote)
{
    struct buffer out = {0};
    if (remote->node_id != 0) {
        head(&out, CANCEL_MESSAGE, remote->id);
        letter_send(remote->dispatch, remote->node_id, &out);
    }
    remote_end(remote);
}

void remotes_leader_changed(struct dispatch *dispatch)
{
    struct remote *remote;
    struct remote *after;
    DL_FOREACH_SAFE(dispatch->remotes, remote, after)
    {
        if (remote->node_id != 0 || remote->drifts)
            continue;
        if (dispatch->ready) {
            struct waiting *waiting = remote->waiting;
            remote_end(remote);
            waiting_run_here(waiting);
        } else if (leader_reachable(dispatch)) {
            remote_send(remote);
        }
    }
}

void remotes_tick(struct dispatch *dispatch)
{
    uint64_t now = dispatch_now(dispatch);
    struct remote *remote;
    struct remote *after;
    letters_again(dispatch);
    remotes_leader_changed(dispatch);
    DL_FOREACH_SAFE(dispatch->remotes, remote, after)
    {
        if (remote->drifts && now - remote->drifts_ms >= DRIFT_MS) {
            remote_lost(remote);
            continue;
        }
        if (remote->drifts || remote->node_id != 0 || now - remote->began_ms < INVOKE_NO_WORKER_MS)
            continue;
        struct waiting *waiting = remote->waiting;
        remote_end(remote);
        waiting_answer(waiting, STATUS_UNAVAILABLE, NULL);
    }
}

static void answer_came(struct dispatch *dispatch, uint64_t node_id, struct cursor *c)
{
    uint64_t id = cursor_u64(c);
    uint8_t status = cursor_u8(c);
    struct remote *remote;
    DL_SEARCH_SCALAR(dispatch->remotes, remote, id, id);
    if (c->bad || remote == NULL || remote->node_id != node_id)
        return; /* cancelled meanwhile */
    if (status == STATUS_NOT_LEADER) {
        remote->node_id = 0; /* not run: to whoever leads now */
        return;
    }
    if (status == STATUS_CLOSED) {
        drift(remote);
        return;
    }
    Millrace__Result *result =
        status == STATUS_OK ? millrace__result__unpack(NULL, cursor_left(c), c->at) : NULL;
    struct waiting *waiting = remote->waiting;
    remote_end(remote);
    if (status == STATUS_OK && result == NULL)
        waiting_lost(waiting);
    else
        waiting_answer(waiting,
                       status <= STATUS_UNSUPPORTED ? (enum status)status : STATUS_UNAVAILABLE,
                       result);
    if (result != NULL)
        millrace__result__free_unpacked(result, NULL);
}

/* Whatever was heard of it before, from other nodes: this one has it. */
static void adopted_came(struct dispatch *dispatch, uint64_t node_id, uint64_t id)
{
    struct remote *remote;
    DL_SEARCH_SCALAR(dispatch->remotes, remote, id, id);
    if (remote != NULL) {
        remote->drifts = false;
        remote->node_id = node_id;
        return;
    }
    struct buffer out = {0};
    head(&out, CANCEL_MESSAGE, id);
    letter_send(dispatch, node_id, &out);
}

/* ---- other nodes' ---- */

static void served_end(struct served *served)
{
    struct dispatch *dispatch = served->dispatch;
    DL_DELETE(dispatch->served, served);
    dispatch->served_count--;
    buffer_free(&served->message);
    free(served);
    dispatch_operation_end(dispatch);
}

static void answer(struct dispatch *dispatch, uint64_t node_id, uint64_t id, enum status status,
                   const Millrace__Result *result)
{
    struct buffer out = {0};
    head(&out, ANSWER_MESSAGE, id);
    buffer_add_byte(&out, (uint8_t)status);
    if (result != NULL) {
        size_t bytes = millrace__result__get_packed_size(result);
        millrace__result__pack(result, buffer_reserve(&out, bytes));
        buffer_added(&out, bytes);
    }
    letter_send(dispatch, node_id, &out);
}

static void served_done(struct invocation *invocation, enum status status,
                        const Millrace__Result *result)
{
    struct served *served = invocation->data;
    if (!served->gone)
        answer(served->dispatch, served->node_id, served->id, status, result);
    served_end(served);
}

/* False: it does not decode. */
static bool served_read(struct served *served)
{
    struct cursor c = cursor_of(slice_sub(buffer_slice(&served->message), 9));
    struct slice request_id = cursor_bytes(&c);
    struct slice function = cursor_bytes(&c);
    struct slice context = cursor_bytes(&c);
    struct slice payload = cursor_bytes(&c);
    served->invocation = (struct invocation){.function_name = function,
                                             .client_context = context,
                                             .payload = payload,
                                             .done = served_done,
                                             .data = served,
                                             .only_here = true,
                                             .origin_node_id = served->node_id,
                                             .origin_id = served->id};
    if (c.bad || cursor_left(&c) > 0 || request_id.length != UUID_TEXT_LENGTH)
        return false;
    memcpy(served->invocation.request_id, request_id.data, UUID_TEXT_LENGTH);
    return true;
}

static struct served *served_new(struct dispatch *dispatch, uint64_t node_id, uint64_t id)
{
    struct served *served = memory_new(1, sizeof *served);
    served->dispatch = dispatch;
    served->node_id = node_id;
    served->id = id;
    DL_APPEND(dispatch->served, served);
    dispatch->served_count++;
    dispatch_operation_begin(dispatch);
    return served;
}

static void invoke_came(struct dispatch *dispatch, uint64_t node_id, uint64_t id,
                        struct slice message)
{
    if (!dispatch->ready || dispatch->closing || dispatch->served_count >= SERVED_MAX) {
        answer(dispatch, node_id, id,
               !dispatch->ready || dispatch->closing ? STATUS_NOT_LEADER : STATUS_BUSY, NULL);
        return;
    }
    struct served *served = served_new(dispatch, node_id, id);
    buffer_add_slice(&served->message, message);
    if (served_read(served)) {
        dispatch_invoke(dispatch, &served->invocation);
        return;
    }
    answer(dispatch, node_id, id, STATUS_INVALID, NULL);
    served_end(served);
}

static void served_adopt(struct dispatch *dispatch, const struct ticket *ticket,
                         struct assignment *assignment)
{
    struct served *served = served_new(dispatch, ticket->node_id, ticket->id);
    buffer_add_text(&served->message, assignment->function->name);
    served->invocation = (struct invocation){.function_name = buffer_slice(&served->message),
                                             .done = served_done,
                                             .data = served,
                                             .only_here = true,
                                             .origin_node_id = ticket->node_id,
                                             .origin_id = ticket->id};
    memcpy(served->invocation.request_id, ticket->request_id, sizeof ticket->request_id);
    waiting_adopt(dispatch, &served->invocation, assignment);
    struct buffer out = {0};
    head(&out, ADOPTED_MESSAGE, ticket->id);
    letter_send(dispatch, ticket->node_id, &out);
}

const char *remote_ticket_came(struct session *session, const Millrace__Running *running,
                               const struct ticket *ticket)
{
    struct dispatch *dispatch = session->dispatch;
    struct function_entry *function = catalog_function(dispatch, slice_of(running->function));
    bool own = ticket->node_id == dispatch->node_id;
    struct remote *remote = NULL;
    if (ticket->lease_id != running->lease_id)
        return "the ticket is of another assignment";
    if (function == NULL || !function->present || !function->usable)
        return "the function is gone";
    if (own)
        DL_SEARCH_SCALAR(dispatch->remotes, remote, id, ticket->id);
    if (own ? remote == NULL : !peers_connected(dispatch->peers, ticket->node_id))
        return "nobody waits for it";
    struct assignment *assignment =
        assignment_adopt(session, function, running, waiting_ended, NULL);
    if (assignment == NULL)
        return "it is known, or the worker has no room for it";
    if (own) {
        waiting_taken_over(remote->waiting, assignment);
        remote_end(remote);
    } else {
        served_adopt(dispatch, ticket, assignment);
    }
    trace_info("dispatch", "taken_over", "worker=%s function=%s lease=%" PRIu64 " origin=%" PRIu64,
               session->worker_id, function->name, running->lease_id, ticket->node_id);
    return NULL;
}

static void cancel_came(struct dispatch *dispatch, uint64_t node_id, uint64_t id)
{
    struct served *served;
    DL_FOREACH(dispatch->served, served)
    {
        if (served->node_id != node_id || served->id != id)
            continue;
        served->gone = true;
        dispatch_invoke_cancel(dispatch, &served->invocation);
        return;
    }
}

/* ---- events of the connections ---- */

static void on_message(void *data, uint64_t node_id, struct slice message)
{
    struct dispatch *dispatch = data;
    struct cursor c = cursor_of(message);
    uint8_t kind = cursor_u8(&c);
    struct cursor rest = c;
    uint64_t id = cursor_u64(&rest);
    if (rest.bad)
        return;
    if (kind == INVOKE_MESSAGE)
        invoke_came(dispatch, node_id, id, message);
    else if (kind == CANCEL_MESSAGE)
        cancel_came(dispatch, node_id, id);
    else if (kind == ANSWER_MESSAGE)
        answer_came(dispatch, node_id, &c);
    else if (kind == ADOPTED_MESSAGE)
        adopted_came(dispatch, node_id, id);
}

static void served_leave(struct dispatch *dispatch, uint64_t node_id)
{
    struct served *served;
    struct served *after;
    DL_FOREACH_SAFE(dispatch->served, served, after)
    {
        if (served->node_id != node_id || served->gone)
            continue;
        served->gone = true;
        dispatch_invoke_cancel(dispatch, &served->invocation);
    }
}

static void remotes_lose(struct dispatch *dispatch, uint64_t node_id)
{
    struct remote *remote;
    struct remote *after;
    DL_FOREACH_SAFE(dispatch->remotes, remote, after)
    {
        if (remote->node_id != node_id)
            continue;
        if (remotes_keep(dispatch))
            drift(remote);
        else
            remote_lost(remote);
    }
}

/* Only the connection was gone, and the leader is the same: it has cancelled the run. */
static void remotes_return(struct dispatch *dispatch, uint64_t node_id)
{
    struct remote *remote;
    struct remote *after;
    DL_FOREACH_SAFE(dispatch->remotes, remote, after)
    {
        if (remote->drifts && remote->left_node_id == node_id && dispatch->leader_id == node_id)
            remote_lost(remote);
    }
}

static void on_connection(void *data, uint64_t node_id, bool up)
{
    struct dispatch *dispatch = data;
    dispatch_operation_begin(dispatch);
    if (up) {
        remotes_return(dispatch, node_id);
        remotes_leader_changed(dispatch);
    } else {
        remotes_lose(dispatch, node_id);
        served_leave(dispatch, node_id);
    }
    dispatch_operation_end(dispatch);
}

void remotes_open(struct dispatch *dispatch)
{
    struct peer_handler handler = {on_message, on_connection, dispatch};
    if (dispatch->peers != NULL)
        peers_handle(dispatch->peers, PEER_CHANNEL_DISPATCH, &handler);
}

void remotes_close(struct dispatch *dispatch)
{
    if (dispatch->peers == NULL)
        return;
    peers_handle(dispatch->peers, PEER_CHANNEL_DISPATCH, NULL);
    while (dispatch->delayed != NULL) {
        struct letter *letter = dispatch->delayed;
        DL_DELETE(dispatch->delayed, letter);
        letter_free(letter);
    }
    while (dispatch->remotes != NULL) {
        struct remote *remote = dispatch->remotes;
        struct waiting *waiting = remote->waiting;
        bool sent = remote->node_id != 0 || remote->drifts;
        remote_end(remote);
        if (sent)
            waiting_lost(waiting);
        else
            waiting_answer(waiting, STATUS_UNAVAILABLE, NULL);
    }
}
