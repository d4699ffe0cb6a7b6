/* SPDX-License-Identifier: Apache-2.0 */
/* Claims that may be good, though this node does not know of the leases: the queue's shard is led
 * elsewhere, and its replica here lags, or there is none. The batch is taken over meanwhile, so
 * that a result which comes right behind is not lost; when a replica has seen all that the claim
 * can rest on, it decides. Until then the messages are not leased on: that would give leases back
 * to who has lost them. A batch without leases does no harm: its deletes are exact, and nobody
 * waits for it.
 */
#include "broker/dispatch/internal.h"

#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>

struct doubt {
    struct door_held held;
    struct dispatch *dispatch;
    uint64_t lease_id;
    struct core_lease *leases;
};

/* NULL: the batch has ended. */
static struct assignment *assignment_of(const struct doubt *doubt)
{
    struct assignment *assignment = NULL;
    HASH_FIND(hh, doubt->dispatch->assignments, &doubt->lease_id, sizeof doubt->lease_id,
              assignment);
    return assignment;
}

static void doubt_ended(struct door_held *held, enum status status, bool yes)
{
    struct doubt *doubt = held->data;
    struct dispatch *dispatch = doubt->dispatch;
    struct assignment *assignment = assignment_of(doubt);
    bool refuted = status == STATUS_OK && !yes;
    if (assignment != NULL && refuted) {
        trace_info("dispatch", "taken_over_too_late", "function=%s lease=%" PRIu64,
                   assignment->function->name, doubt->lease_id);
        assignment_cancel(assignment);
    } else if (assignment != NULL) {
        ((struct batch *)assignment->owner)->doubted = false;
    }
    free(doubt->leases);
    free(doubt);
    dispatch_operation_end(dispatch);
}

void claim_doubt(struct batch *batch)
{
    struct dispatch *dispatch = batch->dispatch;
    struct doubt *doubt = memory_new(1, sizeof *doubt);
    batch->doubted = true;
    doubt->dispatch = dispatch;
    doubt->lease_id = batch->assignment->lease_id;
    doubt->leases = memory_new(batch->count, sizeof *doubt->leases);
    for (uint32_t i = 0; i < batch->count; i++)
        doubt->leases[i] =
            (struct core_lease){batch->messages[i].seq, batch->messages[i].receive_count};
    doubt->held.leases = (struct held_question){batch->queue_id, doubt->leases, batch->count};
    doubt->held.done = doubt_ended;
    doubt->held.data = doubt;
    dispatch_operation_begin(dispatch);
    door_held(dispatch->shards, batch->shard_id, &doubt->held);
}
