/* SPDX-License-Identifier: Apache-2.0 */
/* Several shards in one process and on one loop, with real disks and a network that the test holds
 * in its hands: links can be cut, one way or both, messages lost, doubled and overtaken, and a node
 * can be stopped and started again. For what one looks at closely; tests/sim/cluster is for what
 * chance finds. Some of the nodes may be played by the test: script.h. */
#ifndef TESTS_UNIT_REPLICATION_CLUSTER_H
#define TESTS_UNIT_REPLICATION_CLUSTER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/core/record.h"
#include "broker/replication/shard.h"
#include "proto/base/assert.h"
#include "proto/base/buffer.h"
#include "proto/base/trace.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NODES_MAX 5

struct cluster;

struct packet {
    struct packet *next;
    uint64_t from;
    uint64_t to;
    struct buffer bytes;
    struct peer_send *send; /* NULL: its sender has been told */
    bool refused;           /* there was no room for it */
    unsigned turns;         /* to wait yet */
    bool asked;
};

struct bus {
    struct peers peers;
    struct cluster *cluster;
    uint64_t node_id;
    struct peer_handler handler;
    bool handling;
};

struct member {
    struct bus bus;
    struct shard *shard;
    struct shard_options options;
    char dir[160];
    bool closed;
};

struct cluster {
    uv_loop_t loop;
    char dir[128];
    uint64_t count;
    struct member nodes[NODES_MAX + 1]; /* by id */
    struct shard_member members[NODES_MAX];
    char addresses[NODES_MAX][32];
    bool cut[NODES_MAX + 1][NODES_MAX + 1]; /* from, to */
    struct packet *first;
    struct packet *last;
    uv_prepare_t prepare;
    uv_idle_t idle;
    /* drop: a test may look at every message, and swallow it. */
    bool (*drop)(struct cluster *c, uint64_t from, uint64_t to, struct slice message);
    /* twice: it is delivered now, and once more in a later turn. later: others overtake it, for
     * later_turns (0: 20), or until there is no `later` any more. Each packet is asked about once.
     */
    bool (*twice)(struct cluster *c, uint64_t from, uint64_t to, struct slice message);
    bool (*later)(struct cluster *c, uint64_t from, uint64_t to, struct slice message);
    unsigned later_turns;
    size_t unsent; /* bytes that others have queued, for every node */
    void *data;
};

static inline struct member *node_of(struct cluster *c, uint64_t id)
{
    return &c->nodes[id];
}

/* present: something listens there. alive: a shard does. */
static inline bool present(struct cluster *c, uint64_t id)
{
    return id >= 1 && id <= NODES_MAX && c->nodes[id].bus.handling;
}

static inline bool alive(struct cluster *c, uint64_t id)
{
    return present(c, id) && c->nodes[id].shard != NULL;
}

static inline void on_nothing(uv_idle_t *idle)
{
    (void)idle;
}

static inline void put_packet(struct cluster *c, struct packet *packet)
{
    if (c->last != NULL)
        c->last->next = packet;
    else
        c->first = packet;
    c->last = packet;
    uv_idle_start(&c->idle, on_nothing);
}

static inline void bus_send(struct peers *peers, uint64_t node_id, uint16_t channel,
                            struct peer_send *send)
{
    struct bus *bus = (struct bus *)peers;
    struct cluster *c = bus->cluster;
    struct packet *packet = calloc(1, sizeof *packet);
    (void)channel;
    packet->from = bus->node_id;
    packet->to = node_id;
    packet->send = send;
    for (uint32_t i = 0; i < send->part_count; i++)
        buffer_add(&packet->bytes, send->parts[i].iov_base, send->parts[i].iov_len);
    packet->refused = c->unsent > 0 && c->unsent + packet->bytes.length > PEER_UNSENT_BYTES_MAX;
    put_packet(c, packet);
}

static inline bool bus_connected(const struct peers *peers, uint64_t node_id)
{
    const struct bus *bus = (const struct bus *)peers;
    struct cluster *c = bus->cluster;
    return present(c, node_id) && !c->cut[bus->node_id][node_id] && !c->cut[node_id][bus->node_id];
}

static inline size_t bus_unsent(const struct peers *peers, uint64_t node_id)
{
    (void)node_id;
    return ((const struct bus *)peers)->cluster->unsent;
}

static inline void bus_handle(struct peers *peers, uint16_t channel,
                              const struct peer_handler *handler)
{
    struct bus *bus = (struct bus *)peers;
    (void)channel;
    bus->handling = handler != NULL;
    if (handler != NULL)
        bus->handler = *handler;
}

static inline void bus_set_address(struct peers *peers, uint64_t node_id, const char *address)
{
    (void)peers, (void)node_id, (void)address;
}

#define OVERTAKEN_TURNS 20u

/* held: it stays for some turns; a copy of it may. */
static inline bool held(struct cluster *c, struct packet *packet)
{
    struct slice message = buffer_slice(&packet->bytes);
    if (!packet->asked && c->twice != NULL && c->twice(c, packet->from, packet->to, message)) {
        struct packet *copy = calloc(1, sizeof *copy);
        *copy = (struct packet){
            .from = packet->from, .to = packet->to, .turns = OVERTAKEN_TURNS, .asked = true};
        buffer_add_slice(&copy->bytes, message);
        put_packet(c, copy);
    }
    if (!packet->asked && c->later != NULL && c->later(c, packet->from, packet->to, message))
        packet->turns = c->later_turns > 0 ? c->later_turns : OVERTAKEN_TURNS;
    packet->asked = true;
    if (packet->turns == 0 || (c->later == NULL && packet->send != NULL))
        return false;
    packet->turns--;
    put_packet(c, packet);
    return true;
}

static inline void deliver(struct cluster *c, struct packet *packet)
{
    struct slice message = buffer_slice(&packet->bytes);
    bool lost = packet->refused || !present(c, packet->to) || c->cut[packet->from][packet->to] ||
                (c->drop != NULL && c->drop(c, packet->from, packet->to, message));
    if (!lost) {
        struct bus *bus = &c->nodes[packet->to].bus;
        bus->handler.message(bus->handler.data, packet->from, message);
    }
    if (packet->send != NULL)
        packet->send->done(packet->send, packet->refused          ? STATUS_BUSY
                                         : present(c, packet->to) ? STATUS_OK
                                                                  : STATUS_CLOSED);
    buffer_free(&packet->bytes);
    free(packet);
}

static inline void on_cluster_turn(uv_prepare_t *prepare)
{
    struct cluster *c = prepare->data;
    struct packet *packet = c->first;
    c->first = c->last = NULL;
    uv_idle_stop(&c->idle);
    while (packet != NULL) {
        struct packet *next = packet->next;
        packet->next = NULL;
        if (!held(c, packet))
            deliver(c, packet);
        packet = next;
    }
}

static inline void run_ms(struct cluster *c, uint64_t ms)
{
    uint64_t end_ms = uv_now(&c->loop) + ms;
    while (uv_now(&c->loop) < end_ms)
        uv_run(&c->loop, UV_RUN_NOWAIT);
}

/* until: run the loop until `condition` holds; fails after 20 seconds. */
#define UNTIL(c, condition)                                                                        \
    do {                                                                                           \
        uv_update_time(&(c)->loop);                                                                \
        uint64_t end_ms_ = uv_now(&(c)->loop) + 20000;                                             \
        while (!(condition)) {                                                                     \
            uv_run(&(c)->loop, UV_RUN_NOWAIT);                                                     \
            if (uv_now(&(c)->loop) > end_ms_)                                                      \
                fail_msg("waited in vain for: %s", #condition);                                    \
        }                                                                                          \
    } while (0)

static inline void tell_connection(struct cluster *c, uint64_t of, uint64_t to, bool up)
{
    struct bus *bus = &c->nodes[of].bus;
    if (present(c, of))
        bus->handler.connection(bus->handler.data, to, up);
}

static inline void start_node(struct cluster *c, uint64_t id)
{
    const char *error = "";
    struct member *node = node_of(c, id);
    node->bus.peers =
        (struct peers){bus_send, bus_connected, bus_unsent, bus_handle, bus_set_address};
    node->bus.cluster = c;
    node->bus.node_id = id;
    snprintf(node->dir, sizeof node->dir, "%s/%d", c->dir, (int)id);
    node->options.loop = &c->loop;
    node->options.dir = node->dir;
    node->options.node_id = id;
    node->options.address = c->addresses[id - 1];
    if (node->options.segment_bytes == 0)
        node->options.segment_bytes = 64u << 10;
    node->options.disk_reserve_bytes = 1;
    node->options.members = c->members;
    node->options.member_count = c->count;
    node->options.peers = &node->bus.peers;
    enum status status = shard_open(&node->shard, &node->options, &error);
    if (status != STATUS_OK)
        fail_msg("%s: %s", status_name(status), error);
    for (uint64_t other = 1; other <= NODES_MAX; other++) {
        if (other != id && present(c, other)) {
            tell_connection(c, other, id, true);
            tell_connection(c, id, other, true);
        }
    }
}

static inline void on_node_closed(void *data)
{
    ((struct member *)data)->closed = true;
}

static inline void stop_node(struct cluster *c, uint64_t id)
{
    struct member *node = node_of(c, id);
    node->closed = false;
    shard_close(node->shard, on_node_closed, node);
    UNTIL(c, node->closed);
    node->shard = NULL;
    for (uint64_t other = 1; other <= NODES_MAX; other++)
        tell_connection(c, other, id, false);
}

static inline void cut(struct cluster *c, uint64_t a, uint64_t b, bool told)
{
    c->cut[a][b] = c->cut[b][a] = true;
    if (told) {
        tell_connection(c, a, b, false);
        tell_connection(c, b, a, false);
    }
}

static inline void heal(struct cluster *c, uint64_t a, uint64_t b)
{
    c->cut[a][b] = c->cut[b][a] = false;
    tell_connection(c, a, b, true);
    tell_connection(c, b, a, true);
}

/* isolate: nobody hears of it any more, nor it of them; nobody is told. */
static inline void isolate(struct cluster *c, uint64_t id, bool told)
{
    for (uint64_t other = 1; other <= c->count; other++) {
        if (other != id)
            cut(c, id, other, told);
    }
}

static inline void rejoin(struct cluster *c, uint64_t id)
{
    for (uint64_t other = 1; other <= c->count; other++) {
        if (other != id)
            heal(c, id, other);
    }
}

static inline uint64_t leader_of(struct cluster *c)
{
    for (uint64_t id = 1; id <= NODES_MAX; id++) {
        if (alive(c, id) && shard_leads(c->nodes[id].shard))
            return id;
    }
    return 0;
}

static inline bool all_ready(struct cluster *c)
{
    for (uint64_t id = 1; id <= c->count; id++) {
        if (!alive(c, id) || !shard_ready(c->nodes[id].shard))
            return false;
    }
    return leader_of(c) != 0;
}

/* cluster_make: the loop, the network and the folder; no node runs. */
static inline struct cluster *cluster_make(uint64_t count)
{
    struct cluster *c = calloc(1, sizeof *c);
    const char *base = getenv("TMPDIR");
    snprintf(c->dir, sizeof c->dir, "%s/millrace-cluster-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(c->dir));
    trace_configure(TRACE_WARN, false);
    uv_loop_init(&c->loop);
    uv_prepare_init(&c->loop, &c->prepare);
    uv_idle_init(&c->loop, &c->idle);
    c->prepare.data = c;
    uv_prepare_start(&c->prepare, on_cluster_turn);
    c->count = count;
    for (uint64_t id = 1; id <= NODES_MAX; id++) {
        snprintf(c->addresses[id - 1], sizeof c->addresses[0], "node-%d:9326", (int)id);
        c->members[id - 1] = (struct shard_member){id, c->addresses[id - 1]};
    }
    return c;
}

static inline struct cluster *cluster_new(uint64_t count)
{
    struct cluster *c = cluster_make(count);
    for (uint64_t id = 1; id <= count; id++)
        start_node(c, id);
    UNTIL(c, all_ready(c));
    return c;
}

static inline int remove_path(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info, (void)type, (void)ftw;
    return remove(path);
}

static inline void cluster_free(struct cluster *c)
{
    c->drop = c->twice = c->later = NULL;
    for (uint64_t id = 1; id <= NODES_MAX; id++) {
        if (c->nodes[id].shard != NULL)
            stop_node(c, id);
    }
    while (c->first != NULL)
        uv_run(&c->loop, UV_RUN_NOWAIT);
    uv_close((uv_handle_t *)&c->prepare, NULL);
    uv_close((uv_handle_t *)&c->idle, NULL);
    uv_run(&c->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&c->loop), 0);
    nftw(c->dir, remove_path, 8, FTW_DEPTH | FTW_PHYS);
    free(c);
}

/* ---- calls ---- */

struct outcome {
    struct shard_call call;
    struct shard_receive receive;
    bool done;
    enum status status;
    struct core_result result; /* of the last command */
    struct core_message messages[16];
};

static inline void keep_result(struct outcome *o, enum status status,
                               const struct core_result *result)
{
    assert_false(o->done);
    o->done = true;
    o->status = status;
    if (result == NULL)
        return;
    o->result = *result;
    assert_true(result->message_count <= 16);
    if (result->message_count > 0)
        memcpy(o->messages, result->messages, result->message_count * sizeof o->messages[0]);
}

static inline void on_call_done(struct shard_call *call, enum status status,
                                const struct core_result *results, uint32_t count)
{
    keep_result(call->data, status, count > 0 ? &results[count - 1] : NULL);
}

static inline void on_receive_done(struct shard_receive *receive, enum status status,
                                   const struct core_result *result)
{
    keep_result(receive->data, status, result);
}

static inline void begin_call(struct cluster *c, uint64_t id, struct outcome *o,
                              const struct command *command)
{
    *o = (struct outcome){.call = {.done = on_call_done, .data = o}};
    shard_call_add(&o->call, command);
    o->call.grows = command->type == COMMAND_SEND;
    shard_call(c->nodes[id].shard, &o->call);
}

static inline void begin_send(struct cluster *c, uint64_t id, struct outcome *o, uint64_t queue_id,
                              const char *text)
{
    struct buffer bytes = {0};
    struct record record = {.body = slice_of(text)};
    struct command command = {.type = COMMAND_SEND};
    record_encode(&bytes, &record);
    command.send = (struct command_send){queue_id, CORE_DEFAULT, buffer_slice(&bytes)};
    begin_call(c, id, o, &command);
    buffer_free(&bytes);
}

static inline void begin_receive(struct cluster *c, uint64_t id, struct outcome *o,
                                 uint64_t queue_id, uint32_t wait_ms)
{
    *o = (struct outcome){.receive = {.done = on_receive_done, .data = o}};
    o->receive.command =
        (struct command_receive){.queue_id = queue_id, .max = 10, .visibility_s = CORE_DEFAULT};
    o->receive.wait_ms = wait_ms;
    shard_receive(c->nodes[id].shard, &o->receive);
}

static inline uint64_t create_queue(struct cluster *c, uint64_t id, const char *name)
{
    struct outcome o;
    struct command command = {.type = COMMAND_QUEUE_CREATE};
    command.queue_create.name = slice_of(name);
    command.queue_create.settings = (struct queue_settings){
        .message_bytes_max = 1u << 20, .retention_s = 3600, .visibility_s = 30};
    command.queue_create.tags = slice_of("{}");
    begin_call(c, id, &o, &command);
    UNTIL(c, o.done);
    assert_int_equal(o.status, STATUS_OK);
    return o.result.queue_id;
}

/* converge: all nodes have applied the same, and it is the same. */
static inline bool converged(struct cluster *c)
{
    uint64_t index = 0;
    for (uint64_t id = 1; id <= NODES_MAX; id++) {
        if (!alive(c, id))
            continue;
        uint64_t applied = core_applied_index(shard_core(c->nodes[id].shard));
        if (index != 0 && applied != index)
            return false;
        index = applied;
    }
    return true;
}

static inline void assert_same_state(struct cluster *c)
{
    uint64_t digest = 0;
    UNTIL(c, converged(c));
    for (uint64_t id = 1; id <= NODES_MAX; id++) {
        if (!alive(c, id))
            continue;
        uint64_t own = core_digest(shard_core(c->nodes[id].shard));
        core_check(shard_core(c->nodes[id].shard));
        if (digest != 0)
            assert_int_equal(own, digest);
        digest = own;
    }
}

#endif
