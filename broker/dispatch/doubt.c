/* SPDX-License-Identifier: Apache-2.0 */
/* Claims that may be good, though this node does not know of the leases: the queue's shard is led
 * elsewhere, and its replica here lags, or there is none. The batch is taken over meanwhile, so
 * that a result which comes right behind is not lost. Then its messages are leased anew for what is
 * left, which the shard does only for who holds them: that decides. A batch without leases does no
 * harm until then: its deletes are exact, and nobody waits for it.
 */
#include "broker/dispatch/internal.h"

#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>

struct doubt {
    struct door_call renewal;
    struct dispatch *dispatch;
    uint64_t lease_id;
};

static bool all_refused(const struct core_result *results, uint32_t count)
{
    bool refused = true;
    for (uint32_t i = 0; i < count && refused; i++)
        refused = results[i].code != CORE_OK;
    return refused;
}

static void doubt_ended(struct shard_call *call, enum status status,
                        const struct core_result *results, uint32_t count)
{
    struct doubt *doubt = call->data;
    struct dispatch *dispatch = doubt->dispatch;
    struct assignment *assignment = NULL;
    HASH_FIND(hh, dispatch->assignments, &doubt->lease_id, sizeof doubt->lease_id, assignment);
    bool refuted = status == STATUS_OK && all_refused(results, count);
    if (assignment != NULL && refuted) {
        trace_info("dispatch", "taken_over_too_late", "function=%s lease=%" PRIu64,
                   assignment->function->name, doubt->lease_id);
        assignment_cancel(assignment);
    }
    free(doubt);
    dispatch_operation_end(dispatch);
}

static void add_renewals(struct shard_call *call, const struct batch *batch)
{
    uint32_t rest_s = batch_rest_s(batch);
    for (uint32_t i = 0; i < batch->count; i++) {
        struct command command = {
            .type = COMMAND_CHANGE_VISIBILITY,
            .change_visibility = {
                .queue_id = batch->queue_id,
                .lease = {batch->messages[i].seq, batch->messages[i].receive_count},
                .visibility_s = rest_s < LEASE_S ? rest_s : LEASE_S}};
        shard_call_add(call, &command);
    }
}

void claim_doubt(const struct batch *batch)
{
    struct dispatch *dispatch = batch->dispatch;
    struct doubt *doubt = memory_new(1, sizeof *doubt);
    doubt->dispatch = dispatch;
    doubt->lease_id = batch->assignment->lease_id;
    doubt->renewal.repeatable = true;
    doubt->renewal.call = (struct shard_call){.done = doubt_ended, .data = doubt};
    add_renewals(&doubt->renewal.call, batch);
    dispatch_operation_begin(dispatch);
    door_call(dispatch->shards, batch->shard_id, &doubt->renewal);
}
