/* SPDX-License-Identifier: Apache-2.0 */
/* Two nodes on one loop, which is the first world's: that one leads the catalog and has the
 * dispatcher; the queue shard is led by the second. */
#ifndef TESTS_UNIT_DISPATCH_NODES_H
#define TESTS_UNIT_DISPATCH_NODES_H

#include "tests/unit/dispatch/world.h"

#include "broker/away/away.h"
#include "broker/dispatch/claim.h"
#include "broker/peer/tcp.h"
#include "broker/shards/look.h"

#define NODES         2u
#define CALL_WAITS_MS 11000u /* a call for a leader, and a little (broker/replication) */

/* The first world has the loop. */
struct nodes {
    struct world *world[NODES];
    struct peers *peers[NODES];
    char addresses[NODES][32];
    struct shard_member members[NODES];
    struct away *away[NODES];
    uint32_t replication; /* replicas of the one queue shard: 2; or 1, which the second node has */
    bool closed;
};

static void on_changed(struct shard_change *change, enum status status)
{
    *(enum status *)change->data = status;
}

static struct shard *shard_on(const struct nodes *nodes, unsigned node, uint32_t id)
{
    return shards_at(nodes->world[node]->shards, id);
}

/* Let `node` (0 or 1) lead shard `id`. */
static void lead(struct nodes *nodes, unsigned node, uint32_t id)
{
    while (!shard_leads(shard_on(nodes, node, id))) {
        enum status status = STATUS_BUSY;
        struct shard_change change = {.done = on_changed, .data = &status};
        until(nodes->world[0],
              shard_leads(shard_on(nodes, node, id)) || shard_leads(shard_on(nodes, 1 - node, id)));
        if (shard_leads(shard_on(nodes, node, id)))
            break;
        shard_transfer(shard_on(nodes, 1 - node, id), &change, node + 1);
        until(nodes->world[0], status != STATUS_BUSY);
        world_settle(nodes->world[0], 100);
    }
}

/* As the catalog says; the first node alone has the list at once. */
static size_t replicas_of(void *data, uint32_t shard, uint64_t *out, size_t max)
{
    const struct world *world = data;
    return shards_replicas(world->shards, shard, out, max);
}

static void away_begin(struct nodes *nodes, unsigned node)
{
    nodes->away[node] = away_open(&(struct away_options){.loop = &nodes->world[0]->loop,
                                                         .node_id = node + 1,
                                                         .peers = nodes->peers[node],
                                                         .replicas = replicas_of,
                                                         .data = nodes->world[node]});
}

static void shards_begin(struct nodes *nodes, unsigned node)
{
    world_shards_open(nodes->world[node], (struct shards_options){.loop = &nodes->world[0]->loop,
                                                                  .node_id = node + 1,
                                                                  .address = nodes->addresses[node],
                                                                  .peers = nodes->peers[node],
                                                                  .away = nodes->away[node],
                                                                  .replication = nodes->replication,
                                                                  .members = nodes->members,
                                                                  .member_count = NODES,
                                                                  .queue_shards = 1});
    look_serve(nodes->away[node], nodes->world[node]->shards);
}

static void shards_end(struct nodes *nodes, unsigned node)
{
    look_serve_end(nodes->away[node]);
    nodes->world[node]->closed = false;
    shards_close(nodes->world[node]->shards, world_closed, nodes->world[node]);
}

static void nodes_open(struct nodes *nodes)
{
    for (unsigned i = 0; i < NODES; i++) {
        struct peers_tcp_options options = {
            .loop = &nodes->world[0]->loop, .node_id = i + 1, .host = "127.0.0.1"};
        assert_int_equal(peers_tcp_open(&nodes->peers[i], &options), STATUS_OK);
        snprintf(nodes->addresses[i], sizeof nodes->addresses[i], "127.0.0.1:%u",
                 peers_tcp_port(nodes->peers[i]));
        nodes->members[i] = (struct shard_member){i + 1, nodes->addresses[i]};
    }
    peers_set_address(nodes->peers[0], 2, nodes->addresses[1]);
    peers_set_address(nodes->peers[1], 1, nodes->addresses[0]);
    for (unsigned i = 0; i < NODES; i++) {
        away_begin(nodes, i);
        shards_begin(nodes, i);
    }
}

static int nodes_setup(void **state, uint32_t replication)
{
    struct nodes *nodes = calloc(1, sizeof *nodes);
    nodes->replication = replication;
    for (unsigned i = 0; i < NODES; i++) {
        nodes->world[i] = calloc(1, sizeof *nodes->world[i]);
        world_dir_make(nodes->world[i]);
    }
    struct world *world = nodes->world[0];
    uv_loop_init(&world->loop);
    uv_timer_init(&world->loop, &world->waker);
    uv_timer_start(&world->waker, world_wake, 20, 20);
    nodes_open(nodes);
    until(world, shards_ready(world->shards) && shards_ready(nodes->world[1]->shards));
    lead(nodes, 0, 0);
    if (replication > 1)
        lead(nodes, 1, 1);
    world->dispatch = world_dispatch_open(world, nodes->peers[0]);
    dispatch_set_ready(world->dispatch, true);
    *state = nodes;
    return 0;
}

static void on_closed(void *data)
{
    ((struct nodes *)data)->closed = true;
}

/* Both at the same time: one alone has no majority to end its calls with. */
static int nodes_teardown(void **state)
{
    struct nodes *nodes = *state;
    struct world *world = nodes->world[0];
    dispatch_close(world->dispatch, world_closed, world);
    until(world, world->closed);
    for (unsigned i = 0; i < NODES; i++)
        shards_end(nodes, i);
    until(world, world->closed && nodes->world[1]->closed);
    for (unsigned i = 0; i < NODES; i++) {
        nodes->closed = false;
        away_close(nodes->away[i], on_closed, nodes);
        until(world, nodes->closed);
        nodes->closed = false;
        peers_tcp_close(nodes->peers[i], on_closed, nodes);
        until(world, nodes->closed);
    }
    uv_close((uv_handle_t *)&world->waker, NULL);
    uv_run(&world->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&world->loop), 0);
    for (unsigned i = 0; i < NODES; i++) {
        nftw(nodes->world[i]->dir, world_remove, 16, FTW_DEPTH | FTW_PHYS);
        free(nodes->world[i]);
    }
    free(nodes);
    return 0;
}

/* Let time pass for a worker that lives. */
static inline void live(struct world *world, struct worker *worker, unsigned ms)
{
    Millrace__Heartbeat beat = MILLRACE__HEARTBEAT__INIT;
    for (unsigned i = 0; i < ms / 500; i++) {
        worker_say(worker, MILLRACE__TYPE__TYPE_HEARTBEAT, &beat.base);
        world_settle(world, 500);
    }
}

static inline void worker_claims(struct worker *worker, struct world *world, struct claim claim)
{
    uint8_t cluster_id[UUID_BYTES];
    uint8_t secret[RECEIPT_SECRET_BYTES];
    struct buffer bytes = {0};
    Millrace__Running running = MILLRACE__RUNNING__INIT;
    assert_true(core_bootstrapped(shard_core(world->shard), cluster_id, secret));
    claim_encode(&bytes, secret, SLICE_LITERAL("f"), &claim);
    running.lease_id = claim.lease_id;
    running.function = (char *)(uintptr_t) "f";
    running.revision = 1;
    running.claim = (ProtobufCBinaryData){bytes.length, bytes.data};
    worker_say(worker, MILLRACE__TYPE__TYPE_RUNNING, &running.base);
    buffer_free(&bytes);
}

#endif
