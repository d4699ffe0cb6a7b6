/* SPDX-License-Identifier: Apache-2.0 */
/* The clients of a run: each makes one call after the other, mostly at the node that it knows, and
 * keeps the leases that it got, to settle some of them, in time or late. When the world has healed,
 * one client for each queue receives and deletes until nothing is left. */
#include "tests/sim/cluster/calls.h"

#include "proto/base/assert.h"

#include <stdlib.h>

#define CLIENTS_MAX   6
#define LEASES_MAX    24
#define PATIENCE      (25 * SECOND)
#define DRAIN_LEASE_S 20u
#define GROUPS        4u
#define DEDUP_IDS     12u

struct client {
    struct chance chance;
    struct node *node;
    struct call *call;
    struct lease leases[LEASES_MAX];
    size_t lease_count;
    int queue;
    bool drained;
    bool idle;
    bool watches; /* it only looks, at any node, until the others are done; not counted as steps */
};

static struct client clients[CLIENTS_MAX];
static size_t client_count;
static struct client drains[QUEUE_COUNT];
static uint32_t weights[CALL_KINDS];
static uint32_t think_ms;
static bool set_up;

static void think(void *data);

/* ---- choosing ---- */

static struct node *choose_node(struct chance *chance, struct node *known)
{
    struct node *node = known;
    for (unsigned tries = 0; tries < 20; tries++) {
        if (node != NULL && node->up && !node->removed && !chance_in(chance, 8))
            return node;
        node = &world.nodes[chance_between(chance, 1, world.node_count)];
    }
    return node;
}

static enum call_kind choose_kind(struct client *client)
{
    uint64_t total = 0;
    for (int i = CALL_SEND; i < CALL_KINDS; i++)
        total += weights[i];
    uint64_t at = chance_below(&client->chance, total);
    int kind = CALL_SEND;
    while (at >= weights[kind])
        at -= weights[kind++];
    bool settles = kind == CALL_DELETE || kind == CALL_VISIBILITY;
    return settles && client->lease_count == 0 ? CALL_RECEIVE : (enum call_kind)kind;
}

static int choose_queue(struct chance *chance)
{
    static const int queues[] = {QUEUE_PLAIN,         QUEUE_PLAIN, QUEUE_REDRIVEN,
                                 QUEUE_FIFO,          QUEUE_FIFO,  QUEUE_FIFO_REDRIVEN,
                                 QUEUE_FIFO_REDRIVEN, QUEUE_GROUPS};
    return queues[chance_below(chance, ARRAY_COUNT(queues))];
}

static void fill_send(struct client *client, struct call *call)
{
    struct chance *chance = &client->chance;
    call->count = chance_in(chance, 4) ? (uint32_t)chance_between(chance, 1, BATCH_MAX) : 1;
    bool fifo = call->queue >= QUEUE_FIFO;
    for (uint32_t i = 0; i < call->count; i++) {
        struct sent *sent = &call->sends[i];
        *sent = (struct sent){.queue = call->queue};
        if (fifo) {
            sent->group = (uint32_t)chance_between(chance, 1, GROUPS);
            sent->dedup = chance_in(chance, 3) ? (uint32_t)chance_between(chance, 1, DEDUP_IDS)
                                               : (uint32_t)(chance_next(chance) >> 40) + 100;
        } else if (chance_in(chance, 5)) {
            sent->delay_s = (uint32_t)chance_between(chance, 1, 5);
        }
    }
}

static void fill_receive(struct client *client, struct call *call)
{
    struct chance *chance = &client->chance;
    if (chance_in(chance, 8)) /* at times what is in the dead-letter queues */
        call->queue = chance_in(chance, 2) ? QUEUE_DEAD : QUEUE_FIFO_DEAD;
    call->max = chance_in(chance, 2) ? (uint32_t)chance_between(chance, 1, BATCH_MAX) : 1;
    call->visibility_s = (uint32_t)chance_between(chance, 1, 6);
    if (chance_in(chance, 3))
        call->wait_ms = (uint32_t)chance_between(chance, 100, 4000);
    if (call->wait_ms > 0 && chance_in(chance, 6))
        call->cancel_ns = chance_below(chance, call->wait_ms) * MS;
}

/* fill_settle: leases of one queue, taken out of those that the client has (mostly: to settle
 * something twice must be harmless). */
static void fill_settle(struct client *client, struct call *call)
{
    struct chance *chance = &client->chance;
    uint32_t most = chance_in(chance, 3) ? BATCH_MAX : 1;
    call->queue = client->leases[chance_below(chance, client->lease_count)].queue;
    call->visibility_s = chance_in(chance, 2) ? 0 : (uint32_t)chance_between(chance, 1, 8);
    for (size_t i = 0; i < client->lease_count && call->count < most;) {
        if (client->leases[i].queue != call->queue) {
            i++;
            continue;
        }
        call->leases[call->count++] = client->leases[i];
        if (chance_in(chance, 10) || call->kind == CALL_VISIBILITY)
            i++;
        else
            client->leases[i] = client->leases[--client->lease_count];
    }
}

/* ---- a client's life ---- */

static void give_up(void *data)
{
    call_give_up(data);
}

static void finished(struct call *call)
{
    struct client *client = call->data;
    client->call = NULL;
    if (call->outcome == OUTCOME_NOT_DONE || call->outcome == OUTCOME_UNKNOWN)
        client->node = NULL;
    for (uint32_t i = 0; i < call->got_count; i++) {
        size_t slot = client->lease_count < LEASES_MAX
                          ? client->lease_count++
                          : (size_t)chance_below(&client->chance, LEASES_MAX);
        client->leases[slot] = call->got[i];
    }
    uint64_t pause = chance_below(&client->chance, think_ms * 2 + 1) * MS;
    if (chance_in(&client->chance, 60))
        pause += chance_below(&client->chance, 4000) * MS;
    world_after(pause, think, client);
}

static struct call *new_call(struct client *client, enum call_kind kind)
{
    struct call *call = calloc(1, sizeof *call);
    ASSERT(call != NULL);
    client->node = choose_node(&client->chance, client->node);
    client->call = call;
    call->kind = kind;
    call->node = client->node;
    call->queue = choose_queue(&client->chance);
    call->finished = finished;
    call->data = client;
    world_after(PATIENCE, give_up, call);
    return call;
}

static void think(void *data)
{
    struct client *client = data;
    if (world.steps_done >= world.options.steps) {
        client->idle = true;
        return;
    }
    world.steps_done += !client->watches;
    if (client->watches)
        client->node = NULL;
    struct call *call = new_call(client, client->watches ? CALL_LOOK : choose_kind(client));
    if (call->kind == CALL_SEND)
        fill_send(client, call);
    else if (call->kind == CALL_RECEIVE)
        fill_receive(client, call);
    else if (call->kind == CALL_PURGE)
        call->count = 1;
    else if (call->kind != CALL_LOOK)
        fill_settle(client, call);
    call_begin(call);
}

bool clients_done(void)
{
    for (size_t i = 0; i < client_count; i++) {
        if (!clients[i].idle)
            return false;
    }
    return true;
}

void clients_node_ended(struct node *node)
{
    calls_node_ended(node);
}

/* ---- the beginning: queues ---- */

static void try_set_up(void *data);

static void on_set_up(struct call *call)
{
    if (call->outcome != OUTCOME_DONE) {
        world_after(100 * MS, try_set_up, NULL);
        return;
    }
    set_up = true;
    nemesis_begin();
    for (size_t i = 0; i < client_count; i++)
        world_after(chance_below(&world.chance, 50) * MS, think, &clients[i]);
}

static void try_set_up(void *data)
{
    struct call *call = new_call(&clients[0], CALL_SETUP);
    (void)data;
    if (world.now_ns > 60 * SECOND)
        sim_fail("no progress: the queues could not be created in a minute");
    call->finished = on_set_up;
    call_begin(call);
}

void clients_begin(void)
{
    static const uint32_t mixes[][CALL_KINDS] = {{0, 40, 30, 22, 7, 1, 5},
                                                 {0, 30, 40, 20, 10, 0, 5},
                                                 {0, 60, 20, 15, 5, 0, 0},
                                                 {0, 30, 30, 38, 2, 0, 20}};
    static const uint32_t pauses[] = {1, 5, 20, 100};
    const uint32_t *mix = mixes[chance_below(&world.chance, ARRAY_COUNT(mixes))];
    for (int i = 0; i < CALL_KINDS; i++)
        weights[i] = mix[i];
    think_ms = pauses[chance_below(&world.chance, ARRAY_COUNT(pauses))];
    client_count = (size_t)chance_between(&world.chance, 2, CLIENTS_MAX);
    for (size_t i = 0; i < client_count; i++)
        clients[i].chance.state = chance_next(&world.chance);
    if (client_count > 3 && chance_in(&world.chance, 2))
        clients[0].watches = clients[1].watches = true;
    queues_promised();
    try_set_up(NULL);
}

/* ---- the end: empty all queues ---- */

static void drain(void *data);

static bool is_empty(const struct node *node, int queue)
{
    struct queue_view view;
    if (node == NULL || node->shard == NULL ||
        !core_queue_by_id(shard_core(node->shard), queue_ids[queue], &view))
        return false;
    return view.visible + view.in_flight + view.delayed == 0;
}

static void on_drain_deleted(struct call *call)
{
    world_after(MS, drain, call->data);
}

static void on_drain_received(struct call *call)
{
    struct client *client = call->data;
    if (call->got_count == 0) {
        client->drained = call->outcome == OUTCOME_DONE && is_empty(client->node, client->queue);
        if (call->outcome != OUTCOME_DONE)
            client->node = NULL;
        if (!client->drained)
            world_after(300 * MS, drain, client);
        return;
    }
    struct call *next = new_call(client, CALL_DELETE);
    next->finished = on_drain_deleted;
    next->queue = client->queue;
    next->count = call->got_count;
    for (uint32_t i = 0; i < next->count; i++)
        next->leases[i] = call->got[i];
    call_begin(next);
}

static void drain(void *data)
{
    struct client *client = data;
    struct call *call = new_call(client, CALL_RECEIVE);
    call->finished = on_drain_received;
    call->queue = client->queue;
    call->max = BATCH_MAX;
    call->visibility_s = DRAIN_LEASE_S;
    call_begin(call);
}

/* Sources come before their dead-letter queues: these are empty for good only when those are. */
static bool may_drain(int queue)
{
    if (queue == QUEUE_DEAD)
        return drains[QUEUE_REDRIVEN].drained;
    return queue != QUEUE_FIFO_DEAD || drains[QUEUE_FIFO_REDRIVEN].drained;
}

static void begin_drain(void *data)
{
    struct client *client = data;
    if (may_drain(client->queue))
        drain(client);
    else
        world_after(200 * MS, begin_drain, client);
}

void clients_drain_begin(void)
{
    for (int i = 0; i < QUEUE_COUNT; i++) {
        drains[i].queue = i;
        drains[i].chance.state = chance_next(&world.chance);
        begin_drain(&drains[i]);
    }
}

/* A node that is behind may have seen its queues empty too early. */
static bool is_empty_everywhere(int queue)
{
    for (unsigned i = 1; i <= world.node_count; i++) {
        const struct node *node = &world.nodes[i];
        if (node->up && node->shard != NULL && !node->removed && !is_empty(node, queue))
            return false;
    }
    return true;
}

bool clients_drained(void)
{
    bool all = true;
    for (int i = 0; i < QUEUE_COUNT; i++)
        all = all && drains[i].drained;
    for (int i = 0; i < QUEUE_COUNT && all && digests_settled(); i++) {
        if (is_empty_everywhere(i))
            continue;
        all = drains[i].drained = false;
        begin_drain(&drains[i]);
    }
    return all;
}
