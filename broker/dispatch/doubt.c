/* SPDX-License-Identifier: Apache-2.0 */
/* Claims that may be good: the queue's shard is led elsewhere, and its replica here, which may lag,
 * knows nothing of the leases. The batch is taken over meanwhile, so that a result which comes
 * right behind is not lost; when the replica has seen all that the claim can rest on, it decides.
 * A batch without leases does no harm until then: its deletes are exact, and nobody waits for it.
 */
#include "broker/dispatch/internal.h"

#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>

struct doubt {
    struct shard_sync sync;
    struct dispatch *dispatch;
    struct shard *shard;
    struct claim claim;
};

static void doubt_ended(struct shard_sync *sync, enum status status)
{
    struct doubt *doubt = sync->data;
    struct dispatch *dispatch = doubt->dispatch;
    uint64_t lease_id = doubt->claim.lease_id;
    struct assignment *assignment = NULL;
    HASH_FIND(hh, dispatch->assignments, &lease_id, sizeof lease_id, assignment);
    bool refuted = status == STATUS_OK && !claim_held(doubt->shard, &doubt->claim);
    if (assignment != NULL && refuted) {
        trace_info("dispatch", "taken_over_too_late", "function=%s lease=%" PRIu64,
                   assignment->function->name, lease_id);
        assignment_cancel(assignment);
    }
    free(doubt->claim.messages);
    free(doubt);
    dispatch_operation_end(dispatch);
}

void claim_doubt(struct dispatch *dispatch, struct shard *shard, struct claim *claim)
{
    struct doubt *doubt = memory_new(1, sizeof *doubt);
    doubt->dispatch = dispatch;
    doubt->shard = shard;
    doubt->claim = *claim;
    claim->messages = NULL;
    doubt->sync.done = doubt_ended;
    doubt->sync.data = doubt;
    dispatch_operation_begin(dispatch);
    shard_sync(shard, &doubt->sync);
}
