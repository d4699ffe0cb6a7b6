/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between broker nodes, as their users see them: a shard talks to its replicas on other
 * nodes through this, and knows nothing of connections. broker/peer/tcp.h is the real one; the
 * simulation has its own (tests/sim).
 *
 * A message goes to a node and a channel there: a shard's id, or one of PEER_CHANNEL_... for what
 * is not about one shard. What is sent may be lost, and a connection may end at any time; between
 * two changes of `connection` messages of one direction arrive in order, each at most once. (The
 * simulation is worse on purpose: users must bear with duplicates and reordering.)
 * thread: loop. Callbacks never run before the call that started them has returned. */
#ifndef BROKER_PEER_PEERS_H
#define BROKER_PEER_PEERS_H

#include "proto/base/slice.h"
#include "proto/base/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define PEER_CHANNEL_NODE      UINT16_MAX
#define PEER_CHANNEL_DISPATCH  (UINT16_MAX - 1) /* invocations, between dispatchers */
#define PEER_CHANNEL_AWAY      (UINT16_MAX - 2) /* what only a replica can do: broker/away */
#define PEER_CHANNEL_SHARDS    (UINT16_MAX - 3) /* where shards are: broker/shards */
#define PEER_CHANNEL_SHARD_MAX 4095u            /* shards' ids are at most this */
#define PEER_MESSAGE_BYTES_MAX (48u << 20)
#define PEER_UNSENT_BYTES_MAX  (8u << 20) /* to one node; then sends fail, unless none is queued */

struct peers;

/* One outgoing message. The caller's memory, and all that `parts` point to, until `done`. */
struct peer_send {
    const struct iovec *parts;
    uint32_t part_count;
    /* OK: given to the network, which does not mean that it arrived. UNAVAILABLE: there is no
     * connection. BUSY: too much is unsent. CLOSED: the connection ended first. */
    void (*done)(struct peer_send *send, enum status status);
    void *data;
    /* private */
    struct peer_send *next;
    enum status status;
    uint32_t bytes;
    uint16_t channel;
};

/* Who receives on a channel. */
struct peer_handler {
    /* message: borrowed for the duration of the call. */
    void (*message)(void *data, uint64_t node_id, struct slice message);
    /* connection: messages can be sent to the node from now on, or no more (and what was sent may
     * be lost). Told for every change after peers_handle; ask peers_connected for the state then.
     */
    void (*connection)(void *data, uint64_t node_id, bool up);
    void *data;
};

/* The implementation: the first member of whatever it really is. */
struct peers {
    void (*send)(struct peers *peers, uint64_t node_id, uint16_t channel, struct peer_send *send);
    bool (*connected)(const struct peers *peers, uint64_t node_id);
    size_t (*unsent)(const struct peers *peers, uint64_t node_id);
    void (*handle)(struct peers *peers, uint16_t channel, const struct peer_handler *handler);
    void (*set_address)(struct peers *peers, uint64_t node_id, const char *address);
};

/* peers_send: queue one message; `done` runs exactly once, later. */
static inline void peers_send(struct peers *peers, uint64_t node_id, uint16_t channel,
                              struct peer_send *send)
{
    peers->send(peers, node_id, channel, send);
}

static inline bool peers_connected(const struct peers *peers, uint64_t node_id)
{
    return peers->connected(peers, node_id);
}

/* peers_unsent: bytes that are queued for the node, by all who send there: what a send must find
 * room beside. */
static inline size_t peers_unsent(const struct peers *peers, uint64_t node_id)
{
    return peers->unsent(peers, node_id);
}

/* peers_handle: `handler` is copied; NULL ends it. */
static inline void peers_handle(struct peers *peers, uint16_t channel,
                                const struct peer_handler *handler)
{
    peers->handle(peers, channel, handler);
}

/* peers_set_address: keep a connection to this node from now on, at HOST:PORT (copied; resolved at
 * each connect), or with NULL no longer. */
static inline void peers_set_address(struct peers *peers, uint64_t node_id, const char *address)
{
    peers->set_address(peers, node_id, address);
}

#endif
