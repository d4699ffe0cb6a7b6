/* SPDX-License-Identifier: Apache-2.0 */
/* `struct peers` over TCP: one connection for each pair of nodes, on the caller's loop.
 *
 * Both nodes of a pair dial while they have no connection; the one with the higher id chooses which
 * one counts (connection.c), so two at once never make the connection flap. Addresses are resolved
 * by DNS at each dial. A peer that is silent for PEER_SILENCE_MS is reported as down. Nodes that
 * nobody named with peers_set_address may connect too, as a node that joins does: who they are is
 * checked by the handshake. thread: loop. */
#ifndef BROKER_PEER_TCP_H
#define BROKER_PEER_TCP_H

#include "broker/peer/handshake.h"
#include "broker/peer/peers.h"

#include <uv.h>

#define PEER_HEARTBEAT_MS 250u  /* how often something is said */
#define PEER_SILENCE_MS   1500u /* after that long without a byte the connection is given up */
#define PEER_NODES_MAX    64u   /* nodes that are known at a time */

struct peers_tcp_options {
    uv_loop_t *loop;
    uint64_t node_id;
    struct tls_context *tls;           /* for TLS_MUTUAL among brokers; NULL: plain */
    const char *host;                  /* to listen on; numeric or a name, resolved at once */
    uint16_t port;                     /* 0: any */
    uint8_t cluster_id[PEER_ID_BYTES]; /* zeros: taken over from the first node that has one */
    uint8_t data_id[PEER_ID_BYTES];    /* zeros: not told */
    uint64_t founders;                 /* see handshake.h */
    uint32_t feature_level;            /* what this program can do */
    uint32_t feature_level_min;        /* the lowest level that it can work with */
    uint32_t feature_level_now;        /* in force; 0: not known yet */
    const char *version;               /* of the program, for people; at most HELLO_VERSION_MAX */
    /* learned: a node's data id is known now, or the cluster id is (node_id 0). What is worth
     * keeping across restarts: see peers_tcp_know. May be NULL. */
    void (*learned)(void *data, uint64_t node_id, const uint8_t id[PEER_ID_BYTES]);
    void *data;
};

/* What is known of another node; texts are borrowed until control returns to the loop. */
struct peer_about {
    bool connected;
    const char *address; /* as peers_set_address gave it; NULL: never */
    const char *peer;    /* as the node told it last, like the following; "" = not told */
    const char *http;
    const char *rpc;
    const char *version;        /* of its program; "" = not told */
    uint32_t feature_level;     /* of its program, as it told last; 0 = it never did */
    uint32_t feature_level_min; /* what it takes to be let in there */
    int64_t wall_ahead_ms;      /* its wall clock minus ours, as of its last heartbeat */
    uint64_t silent_ms;         /* while it is connected: since its last byte */
    uint64_t boot;              /* changes when its process does; 0 = never connected */
    uint64_t connections;       /* how often it was connected */
    enum refusal refused;       /* why the last attempt was, by either side */
    enum status failed;         /* why the last attempt or connection ended */
    uint64_t bytes_in, bytes_out, messages_in, messages_out;
};

/* peers_tcp_open: listen. Nothing is dialed before peers_set_address.
 *   errors: EXISTS: the address is in use; INVALID: it is no address of this machine */
MUST_CHECK enum status peers_tcp_open(struct peers **out, const struct peers_tcp_options *options);

/* peers_tcp_close: sends under way end with CLOSED; connections are not reported any more. */
void peers_tcp_close(struct peers *peers, void (*closed)(void *data), void *data);

uint16_t peers_tcp_port(const struct peers *peers);

/* peers_tcp_advertise: the addresses that others are told from now on, HOST:PORT each; copied. */
void peers_tcp_advertise(struct peers *peers, const char *peer, const char *http, const char *rpc);

/* peers_tcp_set_cluster: the cluster has its id now, or it was found in the state. */
void peers_tcp_set_cluster(struct peers *peers, const uint8_t cluster_id[PEER_ID_BYTES]);

/* peers_tcp_set_spare: another address to try for a node, besides that of peers_set_address and the
 * one that it told last: what the command line says, or the catalog. They take turns, one for each
 * attempt; who answers is checked. NULL: none. Copied. */
enum peer_spare { PEER_SPARE_GIVEN, PEER_SPARE_RECORDED, PEER_SPARES };
void peers_tcp_set_spare(struct peers *peers, uint64_t node_id, enum peer_spare which,
                         const char *address);

/* peers_tcp_set_level: the level in force in the cluster: all must know it from now on, and be able
 * to work with it. */
void peers_tcp_set_level(struct peers *peers, uint32_t feature_level);

/* peers_tcp_know: `node_id` is only the node that has these data. Otherwise the first that comes
 * under an id is believed, and what comes with other data later is refused (REFUSAL_DATA). */
void peers_tcp_know(struct peers *peers, uint64_t node_id, const uint8_t data_id[PEER_ID_BYTES]);

/* peers_tcp_node: false if nothing is known of it. */
MUST_CHECK bool peers_tcp_node(const struct peers *peers, uint64_t node_id, struct peer_about *out);

/* peers_tcp_nodes: the ids of the nodes that are known, ascending. Returns the count, at most max.
 */
size_t peers_tcp_nodes(const struct peers *peers, uint64_t *ids, size_t max);

#endif
