/* SPDX-License-Identifier: Apache-2.0 */
/* What a node believes of its connections (`up` in its end) follows what is so (`up` of the link) a
 * little later, through its loop; what it sends meanwhile is lost. Of a new connection it hears
 * before it sends or receives anything on it (broker/peer/nodes.c, N2). */
#include "tests/sim/cluster/network.h"

#include "proto/base/assert.h"
#include "proto/base/buffer.h"

#include <stdlib.h>

#define HANDLERS_MAX  8
#define KNOWN_MAX     32
#define LATENCY_US    60u
#define RETRY_MS      150u
#define NOTICE_MS_MAX 6000u

struct message {
    struct message *next; /* on its way in this direction */
    uint64_t arrives_ns;
    uint32_t line; /* of the connection that carries it */
    bool arrived;
    unsigned from;
    unsigned to;
    uint64_t from_id;
    uint16_t channel;
    struct buffer bytes;
};

/* One direction of a link. */
struct direction {
    bool cut;
    struct message *first;
    struct message *last;
    uint64_t free_ns; /* when it can take the next message */
    uint64_t last_ns; /* when the last one arrives */
    size_t unsent;
};

struct link {
    bool up;
    uint32_t line; /* counts connections, so that an old one's messages are known */
    uint64_t ids[2];
    struct direction directions[2]; /* from the lower number to the higher; back */
    bool retrying;
    uint64_t whole_ns; /* since it is as it is */
};

struct network_end {
    struct peers peers; /* first */
    struct node *node;
    struct {
        uint16_t channel;
        bool used;
        struct peer_handler handler;
    } handlers[HANDLERS_MAX];
    uint64_t known[KNOWN_MAX]; /* ids that have an address */
    struct {
        bool up;
        uint64_t id;
        uint32_t line;
    } seen[NODES_MAX + 1];
};

static struct link links[NODES_MAX + 1][NODES_MAX + 1]; /* [lower][higher] */
static uint64_t latency_us;
static uint64_t bytes_per_ms;

void network_begin(void)
{
    static const uint64_t latencies_us[] = {LATENCY_US, LATENCY_US, 1000, 10000, 60000};
    static const uint64_t rates[] = {1000000, 1000000, 20000, 1000};
    latency_us = latencies_us[chance_below(&world.chance, ARRAY_COUNT(latencies_us))];
    bytes_per_ms = rates[chance_below(&world.chance, ARRAY_COUNT(rates))];
}

static struct link *link_of(unsigned a, unsigned b)
{
    return a < b ? &links[a][b] : &links[b][a];
}

static struct direction *direction_of(unsigned from, unsigned to)
{
    return &link_of(from, to)->directions[from > to];
}

/* ---- connections ---- */

struct notice {
    struct network_end *end;
    unsigned other;
    uint64_t id;
    uint32_t line;
    bool up;
};

static void tell(struct network_end *end, uint64_t id, bool up)
{
    for (int i = 0; i < HANDLERS_MAX; i++) {
        const struct peer_handler *handler = &end->handlers[i].handler;
        if (end->handlers[i].used && handler->connection != NULL)
            handler->connection(handler->data, id, up);
    }
}

static void notice(void *data)
{
    struct notice *n = data;
    struct network_end *end = n->end;
    bool was = end->seen[n->other].up;
    if (was && (!n->up || end->seen[n->other].id != n->id)) {
        end->seen[n->other].up = false;
        tell(end, end->seen[n->other].id, false);
    }
    if (n->up) {
        end->seen[n->other].up = true;
        end->seen[n->other].id = n->id;
        end->seen[n->other].line = n->line;
        tell(end, n->id, true);
    }
    free(n);
}

static void let_notice(unsigned number, unsigned other, uint64_t id, bool up)
{
    struct node *node = &world.nodes[number];
    if (!node->up || node->network == NULL)
        return;
    struct notice *n = calloc(1, sizeof *n);
    ASSERT(n != NULL);
    *n = (struct notice){node->network, other, id, link_of(number, other)->line, up};
    uint64_t at_ns = sim_now_ns() + chance_between(&world.chance, 10, 500) * US;
    if (up)
        direction_of(other, number)->free_ns = at_ns;
    node_at(node, at_ns, notice, n);
}

static void drop_messages(struct direction *direction)
{
    direction->first = direction->last = NULL;
    direction->unsent = 0;
    direction->free_ns = direction->last_ns = 0;
}

static bool knows(const struct node *node, uint64_t id)
{
    for (int i = 0; node->network != NULL && i < KNOWN_MAX; i++) {
        if (node->network->known[i] == id)
            return true;
    }
    return false;
}

static void try_to_connect(unsigned a, unsigned b);

struct pair {
    unsigned a;
    unsigned b;
};

static void on_retry(void *data)
{
    struct pair *pair = data;
    link_of(pair->a, pair->b)->retrying = false;
    try_to_connect(pair->a, pair->b);
    free(pair);
}

static void retry(unsigned a, unsigned b)
{
    struct link *link = link_of(a, b);
    if (link->retrying)
        return;
    struct pair *pair = calloc(1, sizeof *pair);
    ASSERT(pair != NULL);
    *pair = (struct pair){a, b};
    link->retrying = true;
    world_at(sim_now_ns() + chance_between(&world.chance, 1, RETRY_MS * 2) * MS, on_retry, pair);
}

static void try_to_connect(unsigned a, unsigned b)
{
    struct link *link = link_of(a, b);
    struct node *one = &world.nodes[a < b ? a : b];
    struct node *two = &world.nodes[a < b ? b : a];
    if (link->up || !one->up || !two->up || one->network == NULL || two->network == NULL)
        return; /* tried again when a process starts */
    if (!knows(one, two->id) && !knows(two, one->id))
        return; /* tried again when one of them is told */
    if (link->directions[0].cut || link->directions[1].cut) {
        retry(a, b);
        return;
    }
    link->up = true;
    link->line++;
    link->whole_ns = sim_now_ns();
    link->ids[0] = one->id;
    link->ids[1] = two->id;
    let_notice(one->number, two->number, two->id, true);
    let_notice(two->number, one->number, one->id, true);
}

void network_break(unsigned a, unsigned b)
{
    struct link *link = link_of(a, b);
    if (!link->up)
        return;
    link->up = false;
    link->line++;
    drop_messages(&link->directions[0]);
    drop_messages(&link->directions[1]);
    unsigned low = a < b ? a : b;
    unsigned high = a < b ? b : a;
    let_notice(low, high, link->ids[1], false);
    let_notice(high, low, link->ids[0], false);
    retry(a, b);
}

uint64_t network_whole_ns(unsigned a, unsigned b)
{
    const struct link *link = link_of(a, b);
    bool whole = link->up && !link->directions[0].cut && !link->directions[1].cut;
    return whole ? link->whole_ns : world.now_ns;
}

/* ---- cuts ---- */

static void arrive(void *data);

/* time_out: a connection that is still cut is given up. */
static void time_out(void *data)
{
    struct pair *pair = data;
    const struct link *link = link_of(pair->a, pair->b);
    if (link->directions[0].cut || link->directions[1].cut)
        network_break(pair->a, pair->b);
    free(pair);
}

void network_cut(unsigned from, unsigned to, bool cut)
{
    struct direction *direction = direction_of(from, to);
    if (direction->cut == cut)
        return;
    direction->cut = cut;
    link_of(from, to)->whole_ns = world.now_ns;
    if (cut) {
        struct pair *pair = calloc(1, sizeof *pair);
        ASSERT(pair != NULL);
        *pair = (struct pair){from, to};
        uint64_t most_ms = chance_in(&world.chance, 2) ? NOTICE_MS_MAX : NOTICE_MS_MAX / 10;
        world_after(chance_between(&world.chance, 100, most_ms) * MS, time_out, pair);
        return;
    }
    for (struct message *m = direction->first; m != NULL; m = m->next) {
        if (m->arrives_ns <= world.now_ns)
            world_at(world.now_ns, arrive, m);
    }
}

void network_mend_all(void)
{
    for (unsigned a = 1; a <= world.node_count; a++) {
        for (unsigned b = 1; b <= world.node_count; b++) {
            if (a != b)
                network_cut(a, b, false);
        }
    }
}

/* ---- messages ---- */

static void take_in(void *data)
{
    struct message *m = data;
    struct node *node = &world.nodes[m->to];
    struct network_end *end = node->network;
    for (int i = 0; i < HANDLERS_MAX; i++) {
        if (end->handlers[i].used && end->handlers[i].channel == m->channel)
            end->handlers[i].handler.message(end->handlers[i].handler.data, m->from_id,
                                             buffer_slice(&m->bytes));
    }
}

static void unlink_message(struct direction *direction, struct message *m)
{
    struct message *previous = NULL;
    for (struct message *at = direction->first; at != m; at = at->next)
        previous = at;
    if (previous != NULL)
        previous->next = m->next;
    else
        direction->first = m->next;
    if (direction->last == m)
        direction->last = previous;
}

/* arrive_again: duplicates end with their connection, as everything on it does. */
static void arrive_again(void *data)
{
    struct message *m = data;
    if (m->line == link_of(m->from, m->to)->line)
        node_at(&world.nodes[m->to], world.now_ns, take_in, m);
}

static void arrive(void *data)
{
    struct message *m = data;
    struct link *link = link_of(m->from, m->to);
    struct direction *direction = direction_of(m->from, m->to);
    if (m->arrived || m->line != link->line || direction->cut)
        return;
    m->arrived = true;
    unlink_message(direction, m);
    struct node *node = &world.nodes[m->to];
    uint64_t again_ns = chance_between(&world.chance, 0, 50 * latency_us) * US;
    node_at(node, world.now_ns, take_in, m);
    if (world.faults[FAULT_DISORDER] && !world.healing && chance_in(&world.chance, 20))
        world_after(again_ns, arrive_again, m);
}

static void put_on_the_way(struct direction *direction, struct message *m)
{
    m->next = NULL;
    if (direction->last != NULL)
        direction->last->next = m;
    else
        direction->first = m;
    direction->last = m;
    world_at(m->arrives_ns, arrive, m);
}

/* ---- struct peers ---- */

struct sending {
    struct peer_send *send;
    enum status status;
    struct direction *direction; /* NULL: nothing was counted */
    const struct link *link;
    uint32_t line;
    size_t bytes;
};

static void sent(void *data)
{
    struct sending *s = data;
    struct peer_send *send = s->send;
    enum status status = s->status;
    if (s->direction != NULL && s->line != s->link->line)
        status = STATUS_CLOSED;
    else if (s->direction != NULL)
        s->direction->unsent -= s->bytes;
    free(s);
    send->done(send, status);
}

static void tell_sent(struct node *node, struct sending sending, uint64_t at_ns)
{
    struct sending *copy = calloc(1, sizeof *copy);
    ASSERT(copy != NULL);
    *copy = sending;
    node_at(node, at_ns, sent, copy);
}

static struct message *make_message(const struct network_end *end, unsigned to, uint16_t channel,
                                    const struct peer_send *send)
{
    struct message *m = calloc(1, sizeof *m);
    ASSERT(m != NULL);
    m->from = end->node->number;
    m->to = to;
    m->from_id = end->node->id;
    m->channel = channel;
    m->line = link_of(m->from, to)->line;
    for (uint32_t i = 0; i < send->part_count; i++)
        buffer_add(&m->bytes, send->parts[i].iov_base, send->parts[i].iov_len);
    return m;
}

static unsigned machine_of(const struct network_end *end, uint64_t id)
{
    for (unsigned i = 1; i <= world.node_count; i++) {
        if (end->seen[i].up && end->seen[i].id == id)
            return i;
    }
    return 0;
}

static void transmit(struct network_end *end, unsigned to, uint16_t channel, struct peer_send *send)
{
    struct link *link = link_of(end->node->number, to);
    struct direction *direction = direction_of(end->node->number, to);
    struct message *m = make_message(end, to, channel, send);
    size_t bytes = m->bytes.length;
    uint64_t now_ns = sim_now_ns();
    uint64_t start_ns = direction->free_ns > now_ns ? direction->free_ns : now_ns;
    direction->free_ns = start_ns + bytes * MS / bytes_per_ms + 1;
    direction->unsent += bytes;
    tell_sent(end->node, (struct sending){send, STATUS_OK, direction, link, link->line, bytes},
              direction->free_ns);
    uint64_t delay_us = chance_between(&world.chance, latency_us / 2, latency_us * 2);
    bool wild = world.faults[FAULT_DISORDER] && !world.healing && chance_in(&world.chance, 10);
    m->arrives_ns = direction->free_ns + delay_us * US * (wild ? 20 : 1);
    if (!wild && m->arrives_ns < direction->last_ns)
        m->arrives_ns = direction->last_ns;
    if (!wild)
        direction->last_ns = m->arrives_ns;
    put_on_the_way(direction, m);
}

static void end_send(struct peers *peers, uint64_t node_id, uint16_t channel,
                     struct peer_send *send)
{
    struct network_end *end = (struct network_end *)peers;
    unsigned to = machine_of(end, node_id);
    struct sending refused = {.send = send, .status = STATUS_UNAVAILABLE};
    if (to == 0) {
        tell_sent(end->node, refused, sim_now_ns());
        return;
    }
    const struct link *link = link_of(end->node->number, to);
    const struct direction *direction = direction_of(end->node->number, to);
    if (!link->up || end->seen[to].line != link->line)
        refused.status = STATUS_CLOSED; /* it has not noticed yet */
    else if (direction->unsent > PEER_UNSENT_BYTES_MAX)
        refused.status = STATUS_BUSY;
    else {
        transmit(end, to, channel, send);
        return;
    }
    tell_sent(end->node, refused, sim_now_ns());
}

static bool end_connected(const struct peers *peers, uint64_t node_id)
{
    return machine_of((const struct network_end *)peers, node_id) != 0;
}

static size_t end_unsent(const struct peers *peers, uint64_t node_id)
{
    const struct network_end *end = (const struct network_end *)peers;
    unsigned to = machine_of(end, node_id);
    return to != 0 ? direction_of(end->node->number, to)->unsent : 0;
}

static void end_handle(struct peers *peers, uint16_t channel, const struct peer_handler *handler)
{
    struct network_end *end = (struct network_end *)peers;
    int slot = -1;
    for (int i = HANDLERS_MAX - 1; i >= 0; i--) {
        if (!end->handlers[i].used && slot < 0)
            slot = i;
        if (end->handlers[i].used && end->handlers[i].channel == channel) {
            slot = i;
            break;
        }
    }
    ASSERT(slot >= 0);
    end->handlers[slot].used = handler != NULL;
    end->handlers[slot].channel = channel;
    if (handler != NULL)
        end->handlers[slot].handler = *handler;
}

static void end_set_address(struct peers *peers, uint64_t node_id, const char *address)
{
    struct network_end *end = (struct network_end *)peers;
    int slot = -1;
    for (int i = 0; i < KNOWN_MAX; i++) {
        if (end->known[i] == node_id || (slot < 0 && end->known[i] == 0))
            slot = i;
        if (end->known[i] == node_id)
            break;
    }
    ASSERT(slot >= 0);
    end->known[slot] = address != NULL ? node_id : 0;
    for (unsigned i = 1; i <= world.node_count && address != NULL; i++) {
        if (world.nodes[i].id == node_id && i != end->node->number)
            retry(end->node->number, i);
    }
}

struct peers *network_join(struct node *node)
{
    struct network_end *end = calloc(1, sizeof *end);
    ASSERT(end != NULL);
    end->peers = (struct peers){end_send, end_connected, end_unsent, end_handle, end_set_address};
    end->node = node;
    node->network = end;
    for (unsigned i = 1; i <= world.node_count; i++) {
        if (i != node->number)
            retry(node->number, i);
    }
    return &end->peers;
}

void network_leave(struct node *node)
{
    node->network = NULL;
    for (unsigned i = 1; i <= world.node_count; i++) {
        if (i != node->number)
            network_break(node->number, i);
    }
}
