/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of broker/peer know of each other. Private to broker/peer.
 *
 *     tcp.c         the interface, the listener, and the tick that drives all that takes time
 *     nodes.c       other nodes: who they are, which connection counts, when to dial
 *     connection.c  one connection's life, from greeting to end
 *     outgoing.c    what a connection still has to send
 *     dial.c        from a name to a connected socket */
#ifndef BROKER_PEER_INTERNAL_H
#define BROKER_PEER_INTERNAL_H

#include "broker/peer/frame.h"
#include "broker/peer/stream.h"
#include "broker/peer/tcp.h"

#define TICK_MS             100u
#define HANDSHAKE_MS        5000u
#define FLUSH_MS            1000u /* for a refusal to get out */
#define DIAL_MS             3000u
#define BACKOFF_MS_MIN      100u
#define BACKOFF_MS_MAX      2000u
#define REFUSED_BACKOFF_MS  2000u /* what was refused is not tried again sooner */
#define STRANGERS_MAX       64u   /* accepted connections that have not greeted */
#define PEER_HOST_MAX       255u
#define NODE_CHANNELS       4u  /* PEER_CHANNEL_NODE and those right below it */
#define REFUSALS_TOLD_EVERY 30u /* the same refusal of a node is traced once in so many, */
#define FAILURES_TOLD_EVERY 30u /* and the same failure to connect */

/* What waits to be sent, in order; see outgoing.c. */
struct peer_outgoing {
    struct peer_send *first, **last;
    struct peer_send *writing; /* of the write under way */
    struct buffer control;     /* whole frames of ours, before the messages */
    struct buffer control_writing;
    struct buffer headers; /* of the messages of the write under way */
    struct iovec *parts;
    size_t part_capacity;
    size_t unsent_bytes; /* of messages, including those being written */
    size_t writing_bytes;
    bool in_flight;
};

/* A connection's states, and what moves it on:
 *     NEW --socket--> CONNECTED --their HELLO is good--> GREETED --chosen--> UP
 * and from each of them, upon any end: ENDING while a refusal gets out, then CLOSING. */
enum peer_connection_state {
    CONNECTION_NEW,
    CONNECTION_CONNECTED,
    CONNECTION_GREETED,
    CONNECTION_UP,
    CONNECTION_ENDING,
    CONNECTION_CLOSING,
};

struct peer_connection {
    struct peer_stream stream;
    struct tcp_peers *tcp;
    struct peer_node *node;       /* NULL: accepted, and has not greeted */
    struct peer_connection *next; /* of the node's, or of the strangers */
    enum peer_connection_state state;
    bool dialed;
    bool agreed; /* their READY has come: they find our HELLO good */
    uint64_t deadline_ms;
    uint64_t heard_ms, spoke_ms;
    uint64_t boot;
    struct peer_frame_reader reader;
    struct peer_outgoing out;
    struct peer_connection *next_dirty;
    bool dirty;                   /* in tcp->dirty: has something to send */
    char host[PEER_HOST_MAX + 1]; /* that was dialed: its certificate must be for it */
    char remote[64];
};

struct peer_dial;

struct peer_node {
    struct tcp_peers *tcp;
    struct peer_node *next; /* by id */
    uint64_t id;
    char *address; /* to be kept connected; NULL: not */
    char spares[PEER_SPARES][HELLO_ADDRESS_MAX + 1];
    unsigned turn;              /* of its addresses */
    bool leaving;               /* the address was taken away; connections end in the next turn */
    struct peer_connection *up; /* the one that counts */
    struct peer_connection *connections; /* all, newest first */
    struct peer_dial *dial;
    uint64_t dial_at_ms;
    uint32_t backoff_ms;
    uint8_t data_id[PEER_ID_BYTES];
    uint64_t refusals; /* of the same kind in a row */
    uint64_t failures; /* of the same kind in a row */
    char peer[HELLO_ADDRESS_MAX + 1], http[HELLO_ADDRESS_MAX + 1], rpc[HELLO_ADDRESS_MAX + 1];
    char version[HELLO_VERSION_MAX + 1];
    struct peer_about about; /* the texts are set when it is asked for */
};

struct tcp_peers {
    struct peers peers; /* first */
    uv_loop_t *loop;
    struct peers_tcp_options options;
    uint64_t boot;
    char *peer, *http, *rpc; /* what is advertised */
    uv_tcp_t listener;
    uv_timer_t tick;
    uv_timer_t soon;    /* runs what may not run within a caller's call */
    uv_prepare_t flush; /* active while `dirty` is not empty: one write for a turn's messages */
    uv_idle_t awake;    /* likewise: where this turn's flush was over, the loop must not sleep */
    unsigned parts;     /* handles, connections and dials that are not gone yet */
    uint64_t ticked_ms;
    bool closing;
    void (*closed)(void *data);
    void *closed_data;
    struct peer_node *nodes;
    struct peer_connection *strangers;
    unsigned stranger_count;
    uint64_t stranger_told; /* the node and the reason of the last refusal of a stranger, */
    enum refusal stranger_why;
    uint64_t stranger_refusals; /* how often in a row */
    uint8_t dropped[4096];      /* where bytes go that nobody reads any more */
    struct peer_connection *dirty;
    struct peer_send *failed, **failed_last; /* `done` is due */
    struct peer_handler *handlers;           /* by channel */
    size_t handler_count;
    struct peer_handler node_handlers[NODE_CHANNELS]; /* from PEER_CHANNEL_NODE down */
};

/* ---- tcp.c ---- */

uint64_t tcp_now_ms(const struct tcp_peers *tcp);
void tcp_soon(struct tcp_peers *tcp);
void tcp_send_failed(struct tcp_peers *tcp, struct peer_send *send, enum status why);
void tcp_part_gone(struct tcp_peers *tcp);

/* tcp_mark_dirty: flush it at the end of this turn of the loop. */
void tcp_mark_dirty(struct peer_connection *connection);
void tcp_unmark_dirty(struct peer_connection *connection);

/* tcp_stranger_refused: trace that we refuse one that says it is `node_id` (0: nothing). */
void tcp_stranger_refused(const struct peer_connection *connection, enum refusal why,
                          uint64_t node_id);
void tcp_message(struct tcp_peers *tcp, uint64_t node_id, uint16_t channel, struct slice message);
void tcp_report(struct tcp_peers *tcp, uint64_t node_id, bool up);
void tcp_hello(const struct tcp_peers *tcp, uint64_t to_node_id, struct hello *out);

/* ---- nodes.c ---- */

struct peer_node *peer_node_find(const struct tcp_peers *tcp, uint64_t id);

/* peer_node_get: found or made; NULL: PEER_NODES_MAX are known. */
struct peer_node *peer_node_get(struct tcp_peers *tcp, uint64_t id);

/* peer_nodes_forget: when many are known, free those that came by themselves and have gone. No
 * pointer to a node may be held across this. */
void peer_nodes_forget(struct tcp_peers *tcp);
/* peer_node_turn: the address whose turn it is. */
const char *peer_node_turn(const struct peer_node *node);
void peer_node_set_address(struct peer_node *node, const char *address);
void peer_node_tick(struct peer_node *node);
void peer_node_accepted(struct peer_node *node, struct peer_connection *connection);
void peer_node_dialed(struct peer_node *node, struct peer_connection *connection);
void peer_node_dial_failed(struct peer_node *node, enum status why);

/* peer_node_admit: what they greeted with fits what is known of the node; then it is kept. */
enum refusal peer_node_admit(struct peer_node *node, const struct hello *theirs);

/* peer_node_levels: what a program there said of itself; 0: it did not. */
void peer_node_levels(struct peer_node *node, uint32_t level, uint32_t level_min);
void peer_node_agreed(struct peer_node *node, struct peer_connection *connection);
void peer_node_refused(struct peer_node *node, const struct peer_connection *connection,
                       enum refusal why, bool by_us);

/* peer_node_connection_gone: it is ending, for `why`; it counts no more. */
void peer_node_connection_gone(struct peer_node *node, struct peer_connection *connection,
                               enum status why);

/* peer_node_leave: end all that goes on with it. */
void peer_node_leave(struct peer_node *node);
void peer_node_free(struct peer_node *node);

/* ---- connection.c ---- */

struct peer_connection *peer_connection_new(struct tcp_peers *tcp, struct peer_node *node);

/* peer_connection_begin: the socket is connected: greet, or wait to be greeted. */
void peer_connection_begin(struct peer_connection *connection);
void peer_connection_tick(struct peer_connection *connection);
void peer_connection_ready(struct peer_connection *connection); /* send READY */
void peer_connection_up(struct peer_connection *connection);
void peer_connection_send(struct peer_connection *connection, uint16_t channel,
                          struct peer_send *send);
void peer_connection_flush(struct peer_connection *connection);
void peer_connection_end(struct peer_connection *connection, enum status why);

/* ---- outgoing.c ---- */

void peer_outgoing_init(struct peer_outgoing *out);
void peer_outgoing_control(struct peer_outgoing *out, uint8_t kind, struct slice payload);
bool peer_outgoing_add(struct peer_outgoing *out, uint16_t channel, struct peer_send *send);
bool peer_outgoing_pending(const struct peer_outgoing *out);

/* peer_outgoing_batch: gather what the next write takes; parts in out->parts, their count returned.
 */
size_t peer_outgoing_batch(struct peer_outgoing *out);
void peer_outgoing_written(struct peer_outgoing *out, enum status status);

/* peer_outgoing_fail: what is queued, and not being written, ends with `why`. */
void peer_outgoing_fail(struct peer_outgoing *out, enum status why);
void peer_outgoing_free(struct peer_outgoing *out);

/* ---- dial.c ---- */

void peer_dial_start(struct peer_node *node);
void peer_dial_cancel(struct peer_dial *dial);

#endif
