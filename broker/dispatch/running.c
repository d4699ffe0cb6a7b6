/* SPDX-License-Identifier: Apache-2.0 */
/* Taking over what a worker runs for an earlier broker.
 *
 * When the leader changes, the batches that workers run are not run again: each worker shows them
 * to the new leader, with the claim that it was given along (claim.h), and the new leader goes on
 * as if it had leased and sent them itself. The messages were leased all the time, so nobody else
 * has had them; a claim whose leases have all run out is not taken over, because somebody else may,
 * and the worker is told to stop.
 *
 *   I1  a batch is taken over only while at least one of its messages is leased under its claim;
 *       for the others deletes are exact (settle.c). A replica of a queue's shard that does not
 *       lead may not know of the leases yet, and there may be none here: doubt.c
 *   I2  what this process gave back itself is not taken over: that its messages are still leased
 * may only mean that giving them back is under way */
#include "broker/dispatch/claim.h"
#include "broker/dispatch/internal.h"
#include "broker/dispatch/ticket.h"

#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>

static struct source *claim_source(struct dispatch *dispatch, const struct claim *claim,
                                   struct slice function_name)
{
    struct function_entry *function = catalog_function(dispatch, function_name);
    struct source *source = NULL;
    if (function == NULL || !function->present || !function->usable)
        return NULL;
    if (claim->async)
        return function->async;
    HASH_FIND(hh, dispatch->mappings, claim->uuid, UUID_BYTES, source);
    return source != NULL && source->present && source->function == function ? source : NULL;
}

bool claim_held(const struct dispatch *dispatch, const struct claim *claim)
{
    const struct shard *shard = shards_of_queue(dispatch->shards, claim->queue_id);
    for (uint32_t i = 0; i < claim->count && shard != NULL; i++) {
        if (core_lease_held(shard_core(shard), claim->queue_id, claim->messages[i].lease))
            return true;
    }
    return false;
}

static bool given_back_here(const struct dispatch *dispatch, uint64_t lease_id)
{
    return lease_id - dispatch->first_lease_id <= dispatch->lease_id - dispatch->first_lease_id &&
           lease_id - dispatch->first_lease_id >
               dispatch->abandoned_lease_id - dispatch->first_lease_id;
}

/* The batch as it was when it was sent, but for what only sending needs. */
static struct batch *batch_of(struct source *source, const struct claim *claim)
{
    struct dispatch *dispatch = source->dispatch;
    struct shard *shard = shards_of_queue(dispatch->shards, claim->queue_id);
    struct batch *batch = memory_new(1, sizeof *batch);
    /* The time of a shard that is not here is about that of the catalog. */
    uint64_t at_ms = shard_now_ms(shard != NULL ? shard : dispatch->catalog);
    uint64_t age_ms = at_ms > claim->leased_ms ? at_ms - claim->leased_ms : 0;
    uint64_t now_ms = dispatch_now(dispatch);
    batch->dispatch = dispatch;
    batch->source = source;
    batch->shard_id = shard_of_queue_id(claim->queue_id);
    batch->queue_id = claim->queue_id;
    batch->visibility_s = claim->visibility_s;
    batch->count = claim->count;
    batch->started_ms = now_ms;
    batch->messages = memory_new(claim->count, sizeof *batch->messages);
    batch->ids = memory_new(claim->count, sizeof *batch->ids);
    batch->groups = claim->fifo ? memory_new(claim->count, sizeof *batch->groups) : NULL;
    for (uint32_t i = 0; i < claim->count; i++) {
        batch->messages[i].seq = claim->messages[i].lease.seq;
        batch->messages[i].receive_count = claim->messages[i].lease.receive_count;
        memcpy(batch->ids[i], claim->messages[i].id, UUID_BYTES);
        if (claim->fifo)
            batch->groups[i] = claim->messages[i].group;
    }
    source->refs++;
    source->running++;
    dispatch_operation_begin(dispatch);
    batch_leased(batch, now_ms > age_ms ? now_ms - age_ms : 0, claim->leased_ms);
    if (batch->renew_ms != UINT64_MAX)
        batch->renew_ms = now_ms; /* at once: the old leader cannot any more */
    return batch;
}

static void running_refuse(struct session *session, const Millrace__Running *running,
                           const char *why)
{
    Millrace__Cancel cancel = MILLRACE__CANCEL__INIT;
    cancel.lease_id = running->lease_id;
    trace_info("dispatch", "not_taken_over", "worker=%s lease=%" PRIu64 " why=\"%s\"",
               session->worker_id, running->lease_id, why);
    enum status status = link_send(session->link, MILLRACE__TYPE__TYPE_CANCEL, &cancel.base);
    if (status != STATUS_OK)
        session_end(session, status_text(status));
}

static const char *running_judge(const struct dispatch *dispatch, const struct claim *claim,
                                 const struct source *source, const Millrace__Running *running)
{
    uint32_t shard_id = shard_of_queue_id(claim->queue_id);
    const struct shard *shard = shards_at(dispatch->shards, shard_id);
    if (claim->lease_id != running->lease_id)
        return "the claim is of another assignment";
    if (given_back_here(dispatch, claim->lease_id))
        return "its messages were given back"; /* I2 */
    if (source == NULL)
        return "the function or its trigger is gone";
    if (shard_id >= shards_total(dispatch->shards))
        return "there is no such shard";
    bool sure = shard != NULL && shard_leads(shard);
    return claim_held(dispatch, claim) || !sure ? NULL : "its leases have run out"; /* I1 */
}

static void running_adopt(struct session *session, const Millrace__Running *running,
                          struct source *source, struct claim *claim)
{
    struct assignment *assignment =
        assignment_adopt(session, source->function, running, batch_ended, NULL);
    if (assignment == NULL) {
        running_refuse(session, running, "it is known, or the worker has no room for it");
        return;
    }
    struct batch *batch = batch_of(source, claim);
    batch->assignment = assignment;
    assignment->owner = batch;
    trace_info("dispatch", "taken_over", "worker=%s function=%s lease=%" PRIu64 " messages=%u",
               session->worker_id, source->function->name, running->lease_id, claim->count);
    if (!claim_held(session->dispatch, claim))
        claim_doubt(batch);
}

/* A synchronous invocation: somebody waits for it at the origin. */
static void ticket_came(struct session *session, const Millrace__Running *running)
{
    struct ticket ticket;
    const char *why = "the ticket is not of this cluster";
    if (ticket_decode(slice_make(running->claim.data, running->claim.len),
                      session->dispatch->secret, slice_of(running->function), &ticket))
        why = remote_ticket_came(session, running, &ticket);
    if (why != NULL)
        running_refuse(session, running, why);
}

void running_came(struct session *session, const Millrace__Running *running)
{
    struct dispatch *dispatch = session->dispatch;
    struct slice function = slice_of(running->function);
    struct claim claim;
    if (!dispatch->ready || dispatch->closing)
        return; /* the worker will show it to whoever leads */
    catalog_refresh(dispatch);
    if (ticket_is(slice_make(running->claim.data, running->claim.len))) {
        ticket_came(session, running);
        return;
    }
    if (!claim_decode(slice_make(running->claim.data, running->claim.len), dispatch->secret,
                      function, &claim)) {
        running_refuse(session, running, "the claim is not of this cluster");
        return;
    }
    struct source *source = claim_source(dispatch, &claim, function);
    const char *why = running_judge(dispatch, &claim, source, running);
    if (why != NULL)
        running_refuse(session, running, why);
    else
        running_adopt(session, running, source, &claim);
    free(claim.messages);
}
