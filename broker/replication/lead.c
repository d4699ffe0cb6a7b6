/* SPDX-License-Identifier: Apache-2.0 */
/* Beginning and ending to lead: shard.c's stages from FOLLOWING to READY and back. */
#include "broker/replication/internal.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <stdlib.h>

/* What a new leader proposes before all else. */
struct first_call {
    struct shard_call call;
    struct shard *shard;
    uint64_t term;
};

static struct first_call *first_begin(struct shard *shard, shard_call_cb done)
{
    struct first_call *first = calloc(1, sizeof *first);
    ASSERT(first != NULL);
    first->shard = shard;
    first->term = shard->leading_term;
    first->call.done = done;
    return first;
}

/* first_ended: true if it did what it was for. */
static bool first_ended(struct shard_call *call, enum status status, enum stage stage)
{
    struct first_call *first = CONTAINER_OF(call, struct first_call, call);
    struct shard *shard = first->shard;
    bool good = status == STATUS_OK && shard->stage == stage && first->term == shard->leading_term;
    shard_wake(shard);
    free(first);
    return good;
}

static void on_founded(struct shard_call *call, enum status status,
                       const struct core_result *results, uint32_t count)
{
    struct shard *shard = CONTAINER_OF(call, struct first_call, call)->shard;
    (void)results;
    (void)count;
    if (first_ended(call, status, STAGE_FOUNDING))
        shard->stage = STAGE_READY;
}

static void found(struct shard *shard)
{
    const struct shard_founding *founding = shard->options.founding;
    struct command whose = {.type = COMMAND_BOOTSTRAP};
    struct command place = {.type = COMMAND_PLACE, .place = {.shard = shard->options.shard_id}};
    struct command level;
    struct buffer level_text = {0};
    uuid_random(whose.bootstrap.cluster_id);
    clock_random(whose.bootstrap.secret, sizeof whose.bootstrap.secret);
    if (founding != NULL) {
        memcpy(whose.bootstrap.cluster_id, founding->cluster_id, UUID_BYTES);
        memcpy(whose.bootstrap.secret, founding->secret, sizeof whose.bootstrap.secret);
        place.place.queue_shards = founding->queue_shards;
    }
    level_first(&level, &level_text);
    struct first_call *first = first_begin(shard, on_founded);
    shard_call_add(&first->call, &whose);
    shard_call_add(&first->call, &place);
    shard_call_add(&first->call, &level);
    buffer_free(&level_text);
    shard->stage = STAGE_FOUNDING;
    batch_add_first(shard, &first->call);
}

static void on_barrier(struct shard_call *call, enum status status,
                       const struct core_result *results, uint32_t count)
{
    struct shard *shard = CONTAINER_OF(call, struct first_call, call)->shard;
    uint8_t cluster_id[UUID_BYTES];
    uint8_t secret[32];
    (void)results;
    (void)count;
    if (!first_ended(call, status, STAGE_BARRIER))
        return;
    if (core_bootstrapped(shard->core, cluster_id, secret))
        shard->stage = STAGE_READY;
    else
        found(shard);
}

static void begin_leading(struct shard *shard)
{
    struct command command = {.type = COMMAND_TICK};
    catch_up_abort(shard);
    shard->stage = STAGE_BARRIER;
    shard->leading_term = shard->raft.current_term;
    for (size_t i = 0; i < shard->links.count; i++)
        raft_net_hurry(shard, shard->links.list[i]); /* this entry ends doubts there */
    struct first_call *first = first_begin(shard, on_barrier);
    shard_call_add(&first->call, &command);
    batch_add_first(shard, &first->call);
}

static void stop_leading(struct shard *shard)
{
    shard->stage = STAGE_FOLLOWING;
    wait_send_away(shard);
    batch_refuse_pending(shard, STATUS_NOT_LEADER, !shard_in_company(shard));
}

/* The library says nothing when its state changes. */
void lead_watch(struct shard *shard)
{
    int state = raft_state(&shard->raft);
    if (state == RAFT_UNAVAILABLE)
        shard_fatal(shard, "the Raft library gave up (a failed write, or a conflict in the log)");
    if (shard_leading(shard) &&
        (state != RAFT_LEADER || shard->raft.current_term != shard->leading_term))
        stop_leading(shard);
    if (state == RAFT_LEADER && shard->stage == STAGE_FOLLOWING)
        begin_leading(shard);
    if (shard->stage == STAGE_READY && !shard->at_home)
        forward_wait_home(shard);
    shard->at_home = shard->stage == STAGE_READY;
}

void lead_tell(struct shard *shard)
{
    bool leads = shard->stage == STAGE_READY;
    if (leads == shard->told_leading)
        return;
    shard->told_leading = leads;
    trace_info("shard", leads ? "leads" : "follows", "dir=\"%s\" term=%llu applied=%llu",
               shard->options.dir, shard->raft.current_term, raft_last_applied(&shard->raft));
    if (shard->options.leading_changed != NULL)
        shard->options.leading_changed(shard->options.data, leads);
}
