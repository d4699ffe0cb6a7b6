/* SPDX-License-Identifier: Apache-2.0 */
/* Changing the lists of the shards, where the catalog is led (docs/replication.md, P1, P5): one
 * change (plan.h), then nothing until every shard is as its list says.
 *
 * A shard that waits for a node which cannot be reached, or that has no leader, is not waited for:
 * nothing is changed about it, and the others go on.
 *
 * Data of a version without lists get them first, as soon as all members know what they are: each
 * shard is where it was. */
#include "broker/feature/feature.h"
#include "broker/shards/internal.h"
#include "broker/shards/plan.h"
#include "proto/base/trace.h"

#include <stdlib.h>

#define SETTLE_MS 3000u /* from the beginning of leading to the first change */
#define REST_MS   200u  /* between two */
#define LAG_MAX   1000u /* entries */

/* ---- as it is ---- */

struct survey {
    struct plan plan;
    bool waits; /* something is under way that will end */
    struct plan_node nodes[SHARD_MEMBERS_MAX];
    struct plan_shard shards[QUEUE_SHARDS_MAX];
};

static const struct shard_state_member *find(const struct shard_state *state, uint64_t node_id)
{
    for (size_t i = 0; i < state->count; i++) {
        if (state->members[i].node_id == node_id)
            return &state->members[i];
    }
    return NULL;
}

static bool is_reached(const struct shards *s, uint64_t node_id)
{
    return node_id == s->options.node_id ||
           (s->options.peers != NULL && peers_connected(s->options.peers, node_id));
}

static bool is_active(const struct survey *survey, uint64_t node_id)
{
    for (size_t i = 0; i < survey->plan.node_count; i++) {
        if (survey->nodes[i].id == node_id)
            return survey->nodes[i].duty == NODE_ACTIVE;
    }
    return false;
}

/* Is this replica as the list says? If not: will that come about by itself? */
static bool is_done(const struct shards *s, const struct survey *survey,
                    const struct shard_state *state, const struct replica *replica, bool *waits)
{
    const struct shard_state_member *member = find(state, replica->node_id);
    if (replica->leaving) {
        *waits = *waits || member != NULL;
        return member == NULL;
    }
    if (!is_active(survey, replica->node_id))
        return true; /* nobody waits for it */
    if (member != NULL && member->role == SHARD_VOTER &&
        (!member->connected || member->lag <= LAG_MAX))
        return true; /* where it is only down, it keeps its place */
    *waits = *waits || is_reached(s, replica->node_id);
    return false;
}

static bool look_at_shard(const struct shards *s, uint32_t id, struct survey *out)
{
    struct shard_state state;
    struct plan_shard *shard = &out->shards[id - 1];
    bool stuck = false;
    bool waits = false;
    if (!replicas_get(shard_core(s->places[0].shard), id, &shard->list))
        return false;
    shard->moves = !shards_state(s, id, &state);
    for (size_t i = 0; i < shard->list.count && state.count > 0; i++) {
        const struct replica *replica = &shard->list.at[i];
        const struct shard_state_member *member = find(&state, replica->node_id);
        shard->lame = shard->lame || (member != NULL && !member->connected);
        bool done = is_done(s, out, &state, replica, &waits);
        shard->moves = shard->moves || !done;
        stuck = stuck || (!done && !replica->leaving && !is_reached(s, replica->node_id));
    }
    out->waits = out->waits || (waits && !stuck);
    return true;
}

/* false: some have no list. */
static bool look(const struct shards *s, struct survey *out)
{
    struct shard_member_view members[SHARD_MEMBERS_MAX];
    const struct core *catalog = shard_core(s->places[0].shard);
    size_t count = shard_members(s->places[0].shard, members);
    *out = (struct survey){.plan = {.nodes = out->nodes, .shards = out->shards}};
    for (size_t i = 0; i < count; i++) {
        if (members[i].role == SHARD_VOTER)
            out->nodes[out->plan.node_count++] =
                (struct plan_node){.id = members[i].id,
                                   .duty = node_duty(catalog, members[i].id),
                                   .reached = is_reached(s, members[i].id)};
    }
    out->plan.replication = replication_get(catalog);
    out->plan.shard_count = s->founding.queue_shards;
    bool listed = out->plan.replication > 0;
    for (uint32_t id = 1; id < places_end(s) && listed; id++)
        listed = look_at_shard(s, id, out);
    return listed;
}

bool shards_settled(const struct shards *s)
{
    struct replica_list next;
    size_t which;
    struct survey *survey = calloc(1, sizeof *survey);
    bool settled = survey != NULL && s->catalog_known && shard_leads(s->places[0].shard);
    if (settled && s->founding.queue_shards > 0) {
        settled = look(s, survey) && !survey->waits && !plan_next(&survey->plan, &which, &next);
        for (size_t i = 0; i < survey->plan.shard_count; i++)
            settled = settled && !survey->shards[i].moves;
    }
    free(survey);
    return settled;
}

/* ---- changing it ---- */

static void on_written(struct shard_call *call, enum status status,
                       const struct core_result *results, uint32_t count)
{
    struct shards *s = call->data;
    (void)status, (void)results, (void)count; /* if it is not there then, it is planned again */
    s->planning = false;
    s->plan_rest_ms = shards_now_ms(s) + REST_MS;
}

static void begin(struct shards *s)
{
    s->plan_call = (struct shard_call){.done = on_written, .data = s};
    s->planning = true;
}

static void add_list(struct shards *s, uint32_t shard, const struct replica_list *list)
{
    struct buffer text = {0};
    struct command command = replicas_command(shard, list, &text);
    shard_call_add(&s->plan_call, &command);
    buffer_free(&text);
}

static void trace_list(uint32_t shard, const struct replica_list *list)
{
    struct buffer text = {0};
    replicas_print(&text, list);
    trace_info("shards", "list", "shard=%u nodes=\"%.*s\"", shard, SLICE_ARGS(buffer_slice(&text)));
    buffer_free(&text);
}

static void write_first(struct shards *s)
{
    const struct core *catalog = shard_core(s->places[0].shard);
    struct replica_list list;
    begin(s);
    if (replication_get(catalog) == 0) {
        struct buffer text = {0};
        struct command command = replication_command(s->options.replication, &text);
        shard_call_add(&s->plan_call, &command);
        buffer_free(&text);
    }
    for (uint32_t id = 1; id < places_end(s); id++) {
        if (replicas_get(catalog, id, &list))
            continue;
        replicas_of(s, id, &list);
        list.version = 0;
        if (list.count > 0) /* else all nodes are leaving, for now */
            add_list(s, id, &list);
    }
    if (s->plan_call.count == 0)
        s->planning = false;
    else
        shard_call(s->places[0].shard, &s->plan_call);
}

static void plan(struct shards *s, struct survey *survey)
{
    struct replica_list next;
    size_t which;
    if (!look(s, survey)) {
        write_first(s);
        return;
    }
    if (survey->waits || !plan_next(&survey->plan, &which, &next))
        return;
    trace_list((uint32_t)which + 1, &next);
    begin(s);
    add_list(s, (uint32_t)which + 1, &next);
    shard_call(s->places[0].shard, &s->plan_call);
}

void plan_tick(struct shards *s)
{
    const struct place *catalog = &s->places[0];
    uint64_t now_ms = shards_now_ms(s);
    if (s->planning || !shard_leads(catalog->shard) || s->founding.queue_shards == 0 ||
        !s->catalog_known || now_ms < catalog->led_since_ms + SETTLE_MS ||
        now_ms < s->plan_rest_ms || s->handing_over ||
        !feature_in(shard_level(catalog->shard), FEATURE_REPLICAS))
        return;
    s->plan_rest_ms = now_ms + REST_MS;
    struct survey *survey = calloc(1, sizeof *survey);
    if (survey != NULL)
        plan(s, survey);
    free(survey);
}
