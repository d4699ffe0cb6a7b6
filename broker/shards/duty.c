/* SPDX-License-Identifier: Apache-2.0 */
/* Changing what the catalog says of a node, and removing one: out of the queue shards first, which
 * their leaders do (follow.c) once the catalog says that it is leaving; then out of the catalog.
 *
 *     remove: LEAVING ──committed──> wait until no queue shard has it ──> shard_member_remove
 *             ──> the document is dropped ──> done
 *
 * The steps can be repeated: who asks again after a TIMEOUT, or another leader, goes on where it
 * stands. */
#include "broker/shards/internal.h"
#include "proto/base/assert.h"

#include <stdlib.h>

#define WAIT_MS      2000u /* for the queue shards, before the caller hears that it takes longer */
#define WAIT_TICK_MS 50u

struct duty_change {
    struct shards *shards;
    struct shard_change *user;
    uint64_t node_id;
    bool removes;
    enum status status;
    struct shard_call call;
    struct shard_change member;
    uv_timer_t timer;
    uint64_t deadline_ms;
};

static struct shard *catalog_of(const struct duty_change *change)
{
    return change->shards->places[0].shard;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct duty_change *change = handle->data;
    struct shard_change *user = change->user;
    enum status status = change->status;
    free(change);
    user->done(user, status);
}

static void end(struct duty_change *change, enum status status)
{
    change->status = status;
    uv_close((uv_handle_t *)&change->timer, on_timer_closed);
}

uint32_t shards_of_node(const struct shards *s, uint64_t node_id)
{
    uint32_t found = 0;
    for (uint32_t id = 1; id < places_end(s); id++) {
        struct shard_member_view members[SHARD_MEMBERS_MAX];
        struct replica_list list;
        bool has = replicas_get(shard_core(s->places[0].shard), id, &list) &&
                   replicas_find(&list, node_id) != NULL;
        size_t count = s->places[id].serves ? shard_members(s->places[id].shard, members) : 0;
        for (size_t i = 0; i < count && !has; i++)
            has = members[i].id == node_id;
        found += has;
    }
    return found;
}

/* ---- steps ---- */

static void propose(struct duty_change *change, enum node_duty duty, shard_call_cb done)
{
    struct buffer name = {0};
    struct command command =
        node_duty_command(shard_core(catalog_of(change)), change->node_id, duty, &name);
    change->call = (struct shard_call){.done = done, .data = change};
    shard_call_add(&change->call, &command);
    buffer_free(&name);
    shard_call(catalog_of(change), &change->call);
}

static void on_dropped(struct shard_call *call, enum status status,
                       const struct core_result *results, uint32_t count)
{
    (void)status, (void)results, (void)count; /* a document of a node that is gone says nothing */
    end(call->data, STATUS_OK);
}

static void on_removed(struct shard_change *member, enum status status)
{
    struct duty_change *change = member->data;
    if (status == STATUS_OK)
        propose(change, NODE_ACTIVE, on_dropped);
    else
        end(change, status);
}

static void on_wait(uv_timer_t *timer)
{
    struct duty_change *change = timer->data;
    if (!shard_leads(catalog_of(change))) {
        uv_timer_stop(timer);
        end(change, STATUS_NOT_LEADER);
    } else if (shards_of_node(change->shards, change->node_id) == 0) {
        uv_timer_stop(timer);
        change->member = (struct shard_change){.done = on_removed, .data = change};
        shard_member_remove(catalog_of(change), &change->member, change->node_id);
    } else if (shards_now_ms(change->shards) >= change->deadline_ms) {
        uv_timer_stop(timer);
        end(change, STATUS_TIMEOUT);
    }
}

static void on_said(struct shard_call *call, enum status status, const struct core_result *results,
                    uint32_t count)
{
    struct duty_change *change = call->data;
    ASSERT(status != STATUS_OK || count == 1);
    if (status == STATUS_OK && results[0].code == CORE_CONFLICT)
        status = STATUS_BUSY;
    if (status == STATUS_OK && change->removes)
        uv_timer_start(&change->timer, on_wait, 0, WAIT_TICK_MS);
    else
        end(change, status);
}

/* ---- from outside ---- */

/* It is a member, and without it there is one that may lead. */
static enum status check(const struct shards *s, uint64_t node_id, enum node_duty duty)
{
    struct shard_member_view members[SHARD_MEMBERS_MAX];
    struct shard *catalog = s->places[0].shard;
    size_t count = shard_members(catalog, members);
    size_t others = 0;
    bool there = false;
    for (size_t i = 0; i < count; i++) {
        there = there || members[i].id == node_id;
        others += members[i].id != node_id && members[i].role == SHARD_VOTER &&
                  node_duty(shard_core(catalog), members[i].id) == NODE_ACTIVE;
    }
    if (!shard_leads(catalog))
        return STATUS_NOT_LEADER;
    if (!there)
        return STATUS_NOT_FOUND;
    return others == 0 && duty != NODE_ACTIVE ? STATUS_INVALID : STATUS_OK;
}

static void on_refused(uv_timer_t *timer)
{
    struct duty_change *change = timer->data;
    end(change, change->status);
}

static void begin(struct shards *s, struct shard_change *user, uint64_t node_id,
                  enum node_duty duty, bool removes)
{
    struct duty_change *change = calloc(1, sizeof *change);
    ASSERT(change != NULL);
    change->shards = s;
    change->user = user;
    change->node_id = node_id;
    change->removes = removes;
    change->deadline_ms = shards_now_ms(s) + WAIT_MS;
    change->status = check(s, node_id, duty);
    uv_timer_init(s->options.loop, &change->timer);
    change->timer.data = change;
    if (change->status == STATUS_OK)
        propose(change, duty, on_said);
    else
        uv_timer_start(&change->timer, on_refused, 0, 0);
}

void shards_node_duty(struct shards *s, struct shard_change *user, uint64_t node_id,
                      enum node_duty duty)
{
    begin(s, user, node_id, duty, false);
}

void shards_node_remove(struct shards *s, struct shard_change *user, uint64_t node_id)
{
    begin(s, user, node_id, NODE_LEAVING, true);
}
