/* SPDX-License-Identifier: Apache-2.0 */
/* A network in memory between nodes on one loop: what is sent waits until the test lets it go on,
 * so that a connection can end before, between or behind two messages. */
#ifndef TESTS_UNIT_AWAY_NETWORK_H
#define TESTS_UNIT_AWAY_NETWORK_H

#include "broker/away/away.h"
#include "proto/base/assert.h"

#include <stdlib.h>
#include <utlist.h>

#define NODES_MAX 5

struct network;

struct fake_peers {
    struct peers peers; /* first */
    struct network *network;
    uint64_t id;
    struct peer_handler handler; /* of PEER_CHANNEL_AWAY */
};

struct parcel {
    struct peer_send *send; /* NULL: `done` has run */
    struct buffer bytes;
    uint64_t from, to;
    struct parcel *prev, *next;
};

struct network {
    struct fake_peers nodes[1 + NODES_MAX]; /* by id */
    bool up[1 + NODES_MAX][1 + NODES_MAX];
    struct parcel *parcels;
    unsigned no_room;             /* so many sends find none */
    size_t unsent;                /* what others have queued, for each */
    bool slow_done;               /* `done` runs behind the delivery, when the test says so */
    unsigned sent[1 + NODES_MAX]; /* to each */
};

static inline void network_send(struct peers *peers, uint64_t to, uint16_t channel,
                                struct peer_send *send)
{
    struct fake_peers *from = (struct fake_peers *)peers;
    struct parcel *parcel = calloc(1, sizeof *parcel);
    ASSERT(channel == PEER_CHANNEL_AWAY);
    parcel->send = send;
    parcel->from = from->id;
    parcel->to = to;
    for (uint32_t i = 0; i < send->part_count; i++)
        buffer_add(&parcel->bytes, send->parts[i].iov_base, send->parts[i].iov_len);
    DL_APPEND(from->network->parcels, parcel);
}

static inline bool network_connected(const struct peers *peers, uint64_t to)
{
    const struct fake_peers *from = (const struct fake_peers *)peers;
    return from->network->up[from->id][to];
}

static inline size_t network_unsent(const struct peers *peers, uint64_t to)
{
    (void)to;
    return ((const struct fake_peers *)peers)->network->unsent;
}

static inline void network_handle(struct peers *peers, uint16_t channel,
                                  const struct peer_handler *handler)
{
    ASSERT(channel == PEER_CHANNEL_AWAY);
    ((struct fake_peers *)peers)->handler = handler != NULL ? *handler : (struct peer_handler){0};
}

static inline void network_open(struct network *network)
{
    for (uint64_t id = 1; id <= NODES_MAX; id++) {
        network->nodes[id] = (struct fake_peers){.peers = {.send = network_send,
                                                           .connected = network_connected,
                                                           .unsent = network_unsent,
                                                           .handle = network_handle},
                                                 .network = network,
                                                 .id = id};
        for (uint64_t to = 1; to <= NODES_MAX; to++)
            network->up[id][to] = id != to;
    }
}

static inline void parcel_done(struct parcel *parcel, enum status status)
{
    struct peer_send *send = parcel->send;
    parcel->send = NULL;
    if (send != NULL)
        send->done(send, status);
}

static inline void parcel_free(struct network *network, struct parcel *parcel)
{
    DL_DELETE(network->parcels, parcel);
    buffer_free(&parcel->bytes);
    free(parcel);
}

/* network_step: the oldest message arrives. False: there is none. */
static inline bool network_step(struct network *network)
{
    struct parcel *parcel = network->parcels;
    if (parcel == NULL)
        return false;
    struct fake_peers *to = &network->nodes[parcel->to];
    bool up = network->up[parcel->from][parcel->to];
    if (!up || network->no_room > 0) {
        if (up)
            network->no_room--;
        parcel_done(parcel, up ? STATUS_BUSY : STATUS_UNAVAILABLE);
        parcel_free(network, parcel);
        return true;
    }
    network->sent[parcel->to]++;
    if (!network->slow_done)
        parcel_done(parcel, STATUS_OK);
    if (to->handler.message != NULL)
        to->handler.message(to->handler.data, parcel->from, buffer_slice(&parcel->bytes));
    parcel_done(parcel, STATUS_OK);
    parcel_free(network, parcel);
    return true;
}

static inline void network_tell(struct network *network, uint64_t a, uint64_t b, bool up)
{
    network->up[a][b] = up;
    if (network->nodes[a].handler.connection != NULL)
        network->nodes[a].handler.connection(network->nodes[a].handler.data, b, up);
}

/* network_cut: the connection ends, and what is on its way between the two is lost. */
static inline void network_cut(struct network *network, uint64_t a, uint64_t b)
{
    struct parcel *parcel;
    struct parcel *next;
    DL_FOREACH_SAFE(network->parcels, parcel, next)
    {
        if (!((parcel->from == a && parcel->to == b) || (parcel->from == b && parcel->to == a)))
            continue;
        parcel_done(parcel, STATUS_CLOSED);
        parcel_free(network, parcel);
    }
    network_tell(network, a, b, false);
    network_tell(network, b, a, false);
}

static inline void network_join(struct network *network, uint64_t a, uint64_t b)
{
    network_tell(network, a, b, true);
    network_tell(network, b, a, true);
}

#endif
