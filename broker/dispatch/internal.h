/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the dispatcher share among themselves. Nothing outside this folder includes it.
 *
 *     dispatch.c    owns everything; the pump and the tick that drive the rest
 *     sessions.c    workers: greeting, capacity, heartbeats, code
 *     assign.c      one piece of work given to one session
 *     catalog.c     the functions and sources that the core's catalog describes, parsed once
 *     sources.c     when a source (mapping or asynchronous queue) starts a batch
 *     watch.c       queues whose shard is on other nodes
 *     origin.c      names of queues that messages were redriven from
 *     batch.c       the life of one batch: lease, read, send, result
 *     running.c     batches that a worker runs for an earlier broker
 *     doubt.c       those of which the replica here cannot say yet whether they still are ours
 *     settle.c      what a batch's result does to its messages
 *     usage.c       what runs cost, and where that is counted
 *     async.c       retries of asynchronous events
 *     invoke.c      synchronous invocations
 *     remote.c      those of nodes that do not lead, or lead no more
 *
 * thread: loop. */
#ifndef BROKER_DISPATCH_INTERNAL_H
#define BROKER_DISPATCH_INTERNAL_H

#include "broker/dispatch/claim.h"
#include "broker/dispatch/state.h"

/* ---- dispatch.c ---- */

/* dispatch_pump_soon: look for work to assign in the next turn of the loop. */
void dispatch_pump_soon(struct dispatch *dispatch);

/* dispatch_operation_begin, _end: something is under way that must end before the dispatcher may be
 * freed. The dispatcher may be gone after the last end. */
void dispatch_operation_begin(struct dispatch *dispatch);
void dispatch_operation_end(struct dispatch *dispatch);

/* dispatch_now: the loop's clock in milliseconds, for spans and deadlines. */
uint64_t dispatch_now(const struct dispatch *dispatch);

/* text_new: an owned C string. memory_new: zeroed memory. Both are released with free; running out
 * of memory aborts. */
char *text_new(struct slice text);
void *memory_new(size_t count, size_t bytes);

/* ---- sessions.c ---- */

/* session_accepted: a worker has connected; `data` is the dispatcher. For link_listen. */
void session_accepted(struct link *link, void *data);

/* sessions_welcome: greet the workers that came before the shard was ready. */
void sessions_welcome(struct dispatch *dispatch);

/* sessions_redirect: another broker leads, at dispatch->leader: send all workers there. */
void sessions_redirect(struct dispatch *dispatch);

/* sessions_tick: heartbeats, both ways. */
void sessions_tick(struct dispatch *dispatch);

/* session_end: give back its work and close its link; it is freed later. Harmless when repeated. */
void session_end(struct session *session, const char *why);

/* session_available: may be given work now. */
bool session_available(const struct session *session);

/* sessions_could_run: a connected worker has the runtime and the memory, if not the room. */
bool sessions_could_run(const struct dispatch *dispatch, const struct room_need *need);

/* ---- assign.c ---- */

/* function_need: what an invocation of this function asks of a worker. Borrows from it. */
struct room_need function_need(const struct function_entry *function);

/* assignment_reserve: take room on the best worker; NULL when none has any. Ends with
 * assignment_release or, once sent, with `done`. */
struct assignment *assignment_reserve(struct dispatch *dispatch, struct function_entry *function,
                                      void (*done)(struct assignment *, const Millrace__Result *),
                                      void *owner);

/* assignment_send: hand it to the worker. False when that worker is gone or does not read: not
 * sent; the caller releases it.
 * assignment_release: give up what was not sent; `done` does not run. */
struct assignment_input {
    const char *request_id; /* a UUID's text */
    struct slice payload;
    struct slice trace_id; /* these three may be absent */
    struct slice client_context;
    struct slice claim;
};
MUST_CHECK bool assignment_send(struct assignment *assignment,
                                const struct assignment_input *input);
void assignment_release(struct assignment *assignment);

/* assignment_adopt: the worker runs this already, for another broker; it counts as sent. NULL: its
 * lease id is in use, or the worker cannot have room for it. */
struct assignment *assignment_adopt(struct session *session, struct function_entry *function,
                                    const Millrace__Running *running,
                                    void (*done)(struct assignment *, const Millrace__Result *),
                                    void *owner);

/* assignment_cancel: tell the worker that nobody wants the result; `done` runs all the same. */
void assignment_cancel(struct assignment *assignment);

/* assignment_result: a result came from `session`; one for an unknown lease is ignored. */
void assignment_result(struct session *session, const Millrace__Result *result);

/* assignments_lose: the session has ended; `done` runs for all that were sent to it. */
void assignments_lose(struct session *session);

/* assignments_tick: give up those whose worker should have answered long ago. */
void assignments_tick(struct dispatch *dispatch);

/* ---- catalog.c ---- */

/* catalog_refresh: bring functions and sources in line with the core, if it has changed.
 * catalog_free: forget them all, when nothing refers to them any more. */
void catalog_refresh(struct dispatch *dispatch);
void catalog_free(struct dispatch *dispatch);

/* catalog_function: the current entry, or NULL. */
struct function_entry *catalog_function(struct dispatch *dispatch, struct slice name);

/* function_ref, function_unref, source_unref: keep an entry while work refers to it; the last one
 * frees what is no longer in the catalog. */
void function_ref(struct function_entry *function);
void function_unref(struct dispatch *dispatch, struct function_entry *function);
void source_unref(struct source *source);

/* ---- sources.c ---- */

/* source_start: lease one batch if there is work, the control law allows it and a worker has room.
 */
bool source_start(struct source *source);

/* source_measure: recompute the target; true when the source has messages to lease. */
bool source_measure(struct source *source, struct glance *seen);

/* source_seen: its queue, whose shard is not here, is so by now. source_received: a receive took so
 * many of its messages since: what is known says so until there is news. */
void source_seen(struct source *source, const struct glance *seen);
void source_received(struct source *source, uint32_t count);

/* source_back_off: a batch came back undone; wait a little longer each time. */
void source_back_off(struct source *source);

/* ---- watch.c ---- */

/* watches_tick: ask about the queues of shards that are not here, and of those alone.
 * watches_end: ask no more. */
void watches_tick(struct dispatch *dispatch);
void watches_end(struct dispatch *dispatch);

/* ---- origin.c ---- */

/* origin_name: of the queue that a message was redriven from, or absent: there is none, or nobody
 * tells. Borrowed until control returns to the loop. */
struct slice origin_name(const struct dispatch *dispatch, uint64_t queue_id);

/* origins_ask: have the names that the batch needs. False: they are all known; else `done` runs,
 * later. origins_cancel, origins_forget: when closing begins, and ends. */
MUST_CHECK bool origins_ask(struct batch *batch, void (*done)(struct batch *batch));
void origins_cancel(struct dispatch *dispatch);
void origins_forget(struct dispatch *dispatch);

/* ---- batch.c ---- */

/* batch_start: reserve room on a worker and lease up to the source's batch size for it. False when
 * no worker has room. */
MUST_CHECK bool batch_start(struct source *source, uint64_t queue_id);

/* batch_ended: `done` of a batch's assignment. batch_leased: its messages are leased, since
 * `now_ms` of the loop's clock and `at_ms` of core time. */
void batch_ended(struct assignment *assignment, const Millrace__Result *result);
void batch_leased(struct batch *batch, uint64_t now_ms, uint64_t at_ms);

/* batch_rest_s: how long its messages may still be kept, rounded up. batches_tick: lease again what
 * is due. */
uint32_t batch_rest_s(const struct batch *batch);
void batches_tick(struct dispatch *dispatch);

/* ---- running.c ---- */

/* running_came: a worker shows what it still runs for an earlier broker. Take it over, or have it
 * cancelled. */
void running_came(struct session *session, const Millrace__Running *running);

/* claim_held: as far as this node's replica of its queue's shard knows, one of its messages is
 * leased under it. False where there is none. */
bool claim_held(const struct dispatch *dispatch, const struct claim *claim);

/* ---- doubt.c ---- */

/* claim_doubt: the claim of this batch was taken over, and is not held as far as is known here:
 * when it turns out that it is not, stop the run. */
void claim_doubt(struct batch *batch);

/* ---- settle.c ---- */

/* settle_renew: keep the batch's messages for `visibility_s` from now, those that are still ours.
 */
void settle_renew(const struct batch *batch, uint32_t visibility_s);

/* settle_give_back: make the messages from `from` on visible at once. */
void settle_give_back(const struct batch *batch, uint32_t from);

/* settle_batch: do what the result means for the messages and the usage. `result` is not REJECTED.
 */
void settle_batch(struct batch *batch, const Millrace__Result *result);

/* settle_tick: propose again what was not done; when closing, give it up. */
void settle_tick(struct dispatch *dispatch);

/* ---- usage.c ---- */

/* settle_run, settle_throttles: add the usage of one run, and of the calls refused since last time.
 * usage_tick: forget what was counted for functions that are gone. */
void settle_run(const struct assignment *assignment, const Millrace__Result *result);
void settle_throttles(struct dispatch *dispatch, struct function_entry *function);
void usage_tick(struct dispatch *dispatch);

/* ---- invoke.c ---- */

/* invoke_pump: give waiting invocations to workers. invoke_tick: give up those that waited too
 * long. invoke_finish: run the callbacks that are due. invoke_fail_waiting: end all that wait, as
 * not run. invoke_leave_waiting: this node leads no more: let the leader run them. */
void invoke_pump(struct dispatch *dispatch);
void invoke_tick(struct dispatch *dispatch);
void invoke_finish(struct dispatch *dispatch);
void invoke_fail_waiting(struct dispatch *dispatch, enum status why);
void invoke_leave_waiting(struct dispatch *dispatch);

/* ---- for remote.c: an invocation that it has, or had ---- */

/* waiting_invocation: NULL: cancelled. waiting_run_here: this node leads now. waiting_answer: the
 * end, as of invocation_cb. waiting_lost: whether it ran is not known. */
struct waiting;
const struct invocation *waiting_invocation(const struct waiting *waiting);
void waiting_run_here(struct waiting *waiting);
void waiting_answer(struct waiting *waiting, enum status status, const Millrace__Result *result);
void waiting_lost(struct waiting *waiting);
/* waiting_taken_over: a worker runs it, as `assignment`. waiting_adopt: the same for an invocation
 * of another node's that is new here. */
void waiting_taken_over(struct waiting *waiting, struct assignment *assignment);
void waiting_adopt(struct dispatch *dispatch, struct invocation *invocation,
                   struct assignment *assignment);
/* waiting_ended: `done` of its assignment; the owner is the waiting. */
void waiting_ended(struct assignment *assignment, const Millrace__Result *result);

/* ---- remote.c ---- */

/* remotes_open, remotes_close: listen to other dispatchers, and end everything with them. */
void remotes_open(struct dispatch *dispatch);
void remotes_close(struct dispatch *dispatch);

/* remote_begin: let the leader run it, as soon as there is one; it ends in one of the waiting_...
 * above. remote_cancel: nobody waits for it any more; it does not end in them then. */
struct remote *remote_begin(struct dispatch *dispatch, struct waiting *waiting);
void remote_cancel(struct remote *remote);

/* remote_drift: a worker has it, and this node leads no more: the next leader will tell. */
struct remote *remote_drift(struct dispatch *dispatch, struct waiting *waiting, uint64_t id);

/* remotes_keep: may invocations outlive their leader? remote_ticket_came: a worker shows one that
 * an earlier leader gave it. NULL: it is taken over; else why not. */
bool remotes_keep(const struct dispatch *dispatch);
struct ticket;
const char *remote_ticket_came(struct session *session, const Millrace__Running *running,
                               const struct ticket *ticket);

/* remotes_leader_changed: send what waits, or run it here. remotes_tick: give up what waits too
 * long. */
void remotes_leader_changed(struct dispatch *dispatch);
void remotes_tick(struct dispatch *dispatch);

#endif
