/* SPDX-License-Identifier: Apache-2.0 */
/* Members: who they are, and how that changes; the planned handover.
 *
 *     add:      raft_add (a spare, which gets nothing) -> raft_assign (a learner) -> done
 *     promote:  raft_assign (a voter), after the library's rounds of catching up
 *     remove:   raft_remove; a leader that is one of two voters hands over instead of removing
 * itself transfer: calls wait -> nothing in flight, and the successor has it all -> raft_transfer
 *               -> another leads: done; or still leading at the deadline: TIMEOUT, calls go on
 *
 * One change at a time; the library's callbacks only note what happened, and the next step is taken
 * at the end of the turn. The library's own transfer blocks calls for an election timeout when its
 * one message goes astray: so it is begun only when that message will be right when it arrives. */
#include "broker/replication/internal.h"
#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>

#define TRANSFER_MS  3000u
#define ROUND_MS_MAX 60000u

enum change_step {
    STEP_ADD,
    STEP_LEARN,
    STEP_PROMOTE,
    STEP_REMOVE,
    STEP_DRAIN,
    STEP_TRANSFER,
    STEP_DONE
};

struct change {
    struct shard_change *user;
    enum change_step step;
    bool handover;   /* it began with STEP_DRAIN */
    bool running;    /* the library has it */
    bool leads_away; /* a removal that the next leader has to make */
    enum status status;
    uint64_t node_id;
    char *address;
    uint64_t deadline_ms;
    struct raft_change request;
    struct raft_transfer transfer;
};

static const int roles[] = {
    [RAFT_STANDBY] = SHARD_LEARNER, [RAFT_VOTER] = SHARD_VOTER, [RAFT_SPARE] = SHARD_SPARE};

static const struct raft_server *server_of(const struct raft *raft, uint64_t node_id)
{
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        if (raft->configuration.servers[i].id == node_id)
            return &raft->configuration.servers[i];
    }
    return NULL;
}

static uint64_t match_of(const struct raft *raft, const struct raft_server *server)
{
    if (raft->state != RAFT_LEADER)
        return 0;
    return raft->leader_state.progress[server - raft->configuration.servers].match_index;
}

size_t shard_members(const struct shard *shard, struct shard_member_view *out)
{
    const struct raft *raft = &shard->raft;
    size_t count = 0;
    for (unsigned i = 0; i < raft->configuration.n && count < SHARD_MEMBERS_MAX; i++) {
        const struct raft_server *server = &raft->configuration.servers[i];
        bool self = server->id == raft->id;
        out[count++] = (struct shard_member_view){
            .id = server->id,
            .address = server->address,
            .role = (enum shard_role)roles[server->role],
            .connected = self || (shard_in_company(shard) &&
                                  peers_connected(shard->options.peers, server->id)),
            .leads = server->id == shard_leader(shard),
            .match_index = match_of(raft, server)};
    }
    return count;
}

/* ---- steps ---- */

static enum status from_raft(int rv)
{
    static const struct {
        int rv;
        enum status status;
    } table[] = {{0, STATUS_OK},
                 {RAFT_NOTLEADER, STATUS_NOT_LEADER},
                 {RAFT_LEADERSHIPLOST, STATUS_NOT_LEADER},
                 {RAFT_CANTCHANGE, STATUS_BUSY},
                 {RAFT_NOTFOUND, STATUS_NOT_FOUND},
                 {RAFT_BADID, STATUS_NOT_FOUND},
                 {RAFT_DUPLICATEID, STATUS_EXISTS},
                 {RAFT_DUPLICATEADDRESS, STATUS_EXISTS},
                 {RAFT_BADROLE, STATUS_EXISTS},
                 {RAFT_NOCONNECTION, STATUS_TIMEOUT}};
    for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
        if (table[i].rv == rv)
            return table[i].status;
    }
    return STATUS_INVALID;
}

static void on_changed(struct raft_change *request, int status)
{
    struct change *change = CONTAINER_OF(request, struct change, request);
    change->running = false;
    change->status = from_raft(status);
    if (status == 0 && change->step == STEP_ADD)
        change->step = STEP_LEARN;
    else
        change->step = STEP_DONE;
}

static void on_transferred(struct raft_transfer *request)
{
    struct change *change = CONTAINER_OF(request, struct change, transfer);
    change->running = false;
    change->step = STEP_DONE; /* members_settle looks at who leads */
    change->status = STATUS_TIMEOUT;
}

/* successor: the voter to lead next, if it has everything and can be reached. */
static uint64_t successor(struct shard *shard, const struct change *change)
{
    const struct raft *raft = &shard->raft;
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        const struct raft_server *server = &raft->configuration.servers[i];
        struct link *link = links_find(shard, server->id);
        bool wanted = change->node_id == 0 || change->node_id == server->id;
        if (wanted && server->role == RAFT_VOTER && link != NULL && link->up &&
            match_of(raft, server) == guard_last_index(raft))
            return server->id;
    }
    return 0;
}

static void step_transfer(struct shard *shard, struct change *change)
{
    uint64_t id = shard->batch.in_flight == 0 ? successor(shard, change) : 0;
    if (id != 0) {
        change->step = STEP_TRANSFER;
        change->running = true;
        if (raft_transfer(&shard->raft, &change->transfer, id, on_transferred) == 0) {
            shard_settle(shard);
            return;
        }
        change->running = false;
        change->step = STEP_DRAIN;
    }
    if (uv_now(shard->options.loop) >= change->deadline_ms) {
        change->step = STEP_DONE;
        change->status = STATUS_TIMEOUT;
    }
}

static int start(struct shard *shard, struct change *change)
{
    struct raft *raft = &shard->raft;
    switch (change->step) {
    case STEP_ADD:
        return raft_add(raft, &change->request, change->node_id, change->address, on_changed);
    case STEP_LEARN:
        return raft_assign(raft, &change->request, change->node_id, RAFT_STANDBY, on_changed);
    case STEP_PROMOTE:
        return raft_assign(raft, &change->request, change->node_id, RAFT_VOTER, on_changed);
    default:
        return raft_remove(raft, &change->request, change->node_id, on_changed);
    }
}

static void step(struct shard *shard, struct change *change)
{
    change->running = true;
    int rv = start(shard, change);
    if (rv != 0) {
        change->running = false;
        change->step = STEP_DONE;
        change->status = from_raft(rv);
    }
}

static void finish(struct shard *shard, struct change *change)
{
    struct shard_change *user = change->user;
    shard->change = NULL;
    if (change->handover && change->status == STATUS_TIMEOUT && !shard_leading(shard))
        change->status = STATUS_OK; /* another leads, or is about to */
    if (change->leads_away && change->status == STATUS_OK)
        change->status = STATUS_NOT_LEADER;
    trace_info("shard", "members-changed", "dir=\"%s\" node=%" PRIu64 " status=%s",
               shard->options.dir, change->node_id, status_name(change->status));
    user->done(user, change->status);
    free(change->address);
    free(change);
}

void members_settle(struct shard *shard)
{
    struct change *change = shard->change;
    if (change == NULL)
        return;
    if (!change->running && change->step != STEP_DONE) {
        if (raft_state(&shard->raft) != RAFT_LEADER) {
            change->status = change->handover ? STATUS_OK : STATUS_NOT_LEADER;
            change->step = STEP_DONE;
        } else if (change->handover) {
            step_transfer(shard, change);
        } else {
            step(shard, change);
            shard_settle(shard);
        }
    }
    if (change->step == STEP_DONE && !change->running)
        finish(shard, change);
}

void members_abort(struct shard *shard, enum status status)
{
    struct change *change = shard->change;
    if (change == NULL || change->running)
        return;
    change->status = status;
    finish(shard, change);
}

bool members_hands_over(const struct shard *shard)
{
    return shard->change != NULL &&
           (shard->change->step == STEP_DRAIN || shard->change->step == STEP_TRANSFER);
}

/* ---- from outside ---- */

static void begin(struct shard *shard, struct shard_change *user, enum change_step step,
                  uint64_t node_id, const char *address)
{
    struct change *change = calloc(1, sizeof *change);
    ASSERT(change != NULL);
    ASSERT(shard->change == NULL);
    change->user = user;
    change->step = step;
    change->handover = step == STEP_DRAIN;
    change->node_id = node_id;
    change->address = strdup(address);
    ASSERT(change->address != NULL);
    change->deadline_ms = uv_now(shard->options.loop) + TRANSFER_MS;
    shard->change = change;
    raft_set_max_catch_up_round_duration(&shard->raft, ROUND_MS_MAX);
    shard_wake(shard);
}

/* refuse: at the end of the turn, as everything else. */
static void refuse(struct shard *shard, struct shard_change *user, enum status status)
{
    struct change *change = calloc(1, sizeof *change);
    ASSERT(change != NULL);
    change->user = user;
    change->step = STEP_DONE;
    change->status = status;
    user->private_state = shard->refused_changes;
    change->address = NULL;
    shard->refused_changes = change;
    shard_wake(shard);
}

void members_deliver(struct shard *shard)
{
    while (shard->refused_changes != NULL) {
        struct change *change = shard->refused_changes;
        struct shard_change *user = change->user;
        enum status status = change->status;
        shard->refused_changes = user->private_state;
        free(change);
        user->done(user, status);
    }
}

static void begin_or_refuse(struct shard *shard, struct shard_change *user, enum change_step step,
                            uint64_t node_id, const char *address)
{
    if (shard->stage != STAGE_READY)
        refuse(shard, user, STATUS_NOT_LEADER);
    else if (shard->change != NULL)
        refuse(shard, user, STATUS_BUSY);
    else
        begin(shard, user, step, node_id, address);
}

void shard_member_add(struct shard *shard, struct shard_change *change, uint64_t node_id,
                      const char *address)
{
    const struct raft_server *server = server_of(&shard->raft, node_id);
    bool half_added = server != NULL && server->role == RAFT_SPARE;
    if (node_id == 0 || (server != NULL && !half_added))
        refuse(shard, change, node_id == 0 ? STATUS_INVALID : STATUS_EXISTS);
    else
        begin_or_refuse(shard, change, half_added ? STEP_LEARN : STEP_ADD, node_id, address);
}

void shard_member_promote(struct shard *shard, struct shard_change *change, uint64_t node_id)
{
    begin_or_refuse(shard, change, STEP_PROMOTE, node_id, "");
}

/* is_one_of_two: a leader that removes itself from two voters, and stops in the middle of it, has
 * the longer log and does not stand for election any more: nobody could lead again. */
static bool is_one_of_two(const struct raft *raft, uint64_t node_id)
{
    unsigned voters = 0;
    for (unsigned i = 0; i < raft->configuration.n; i++)
        voters += raft->configuration.servers[i].role == RAFT_VOTER;
    return node_id == raft->id && voters == 2;
}

void shard_member_remove(struct shard *shard, struct shard_change *change, uint64_t node_id)
{
    if (!is_one_of_two(&shard->raft, node_id)) {
        begin_or_refuse(shard, change, STEP_REMOVE, node_id, "");
        return;
    }
    begin_or_refuse(shard, change, STEP_DRAIN, 0, "");
    if (shard->change != NULL && shard->change->user == change)
        shard->change->leads_away = true;
}

void shard_transfer(struct shard *shard, struct shard_change *change, uint64_t node_id)
{
    begin_or_refuse(shard, change, STEP_DRAIN, node_id, "");
}
