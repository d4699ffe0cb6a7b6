/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a channel share: its lines, one to each broker, and the routes of queues to
 * them. thread: the channel's. */
#ifndef CLIENT_CHANNEL_INTERNAL_H
#define CLIENT_CHANNEL_INTERNAL_H

#include "client/channel.h"
#include "proto/rpc/link.h"
#include "proto/sigv4/proof.h"

#include <uthash.h>

#define SLOT_BITS  14
#define SLOT_COUNT (1u << SLOT_BITS)
#define LINE_NONE  UINT8_MAX

_Static_assert(SLOT_COUNT == MR_CHANNEL_CALLS_MAX, "a slot for each call");
_Static_assert(MR_CHANNEL_BROKERS_MAX < LINE_NONE, "a line for each broker");

enum line_state { LINE_IDLE, LINE_CONNECTING, LINE_GREETING, LINE_READY };

/* One connection, or the lack of one, to one broker of the list. */
struct line {
    struct mr_channel *channel;
    const char *broker;
    enum line_state state;
    struct link *link;
    uint64_t node_id; /* as its broker said; 0: it is not ready */
    bool served;      /* it was ready before it ended */
    uint64_t retry_at_ms;
    enum status why; /* it ended */
    char why_text[MR_WHY_BYTES];
    uint8_t nonce[PROOF_NONCE_BYTES]; /* of this greeting */
};

/* A call whose order counts, until those before it are answered through another broker. */
struct held_call {
    uint32_t slot;
    struct buffer payload;
    struct held_call *next;
};

/* Where the calls of one queue go. */
struct route {
    char *queue;
    uint8_t line;     /* now */
    uint8_t next;     /* as soon as nothing is ordered on `line` */
    uint32_t calls;   /* under way, wherever */
    uint32_t ordered; /* sent, not answered, all but receives */
    uint64_t moved_ms;
    struct held_call *held_first, *held_last;
    UT_hash_handle hh;
};

struct call_slot {
    mr_answer_fn done; /* NULL: free */
    void *data;
    enum sqs_action action;
    uint32_t use;        /* of the slot, in the id */
    uint32_t next;       /* in the list of free, or of unsent ones */
    enum status refusal; /* of an unsent one */
    struct route *route; /* NULL: it names no queue */
    uint8_t line;        /* that it was sent on; LINE_NONE: not sent */
};

struct mr_channel {
    uv_loop_t loop;
    uv_timer_t timer; /* ends a run, or wakes it to connect */
    struct arena arena;
    struct line lines[MR_CHANNEL_BROKERS_MAX];
    size_t line_count;
    size_t home;          /* the line for all that has no better one */
    uint64_t retry_at_ms; /* home, if it is idle */
    uint32_t timeout_ms;
    enum status why; /* home ended, last */
    char why_text[MR_WHY_BYTES];
    const char *access_key_id; /* NULL: none */
    char *secret;              /* wiped at the end */
    const char *region;
    struct tls_context *tls; /* NULL: plain */
    struct call_slot *slots;
    uint32_t free_first, unsent_first, unsent_last; /* SLOT_COUNT: none */
    uint32_t call_count;
    uint32_t called_back; /* in this run */
    struct route *routes;
    size_t held_bytes;
    bool closing;
};

/* ---- channel_line.c ---- */

/* line_connect: an idle one. It becomes ready, or idle again with line_lost. */
void line_connect(struct line *line);

/* ---- channel.c ---- */

/* channel_answer: a frame ANSWER came. channel_line_lost: the line is idle from now on. */
void channel_answer(struct line *line, struct slice payload);
void channel_line_lost(struct line *line);
/* channel_unsent: the call ends with `refusal` in the next run. */
void channel_unsent(struct mr_channel *channel, uint32_t slot, enum status refusal);

/* ---- channel_route.c ---- */

/* route_of: that of the queue which this input names; NULL: it names none, or there is no room. */
struct route *route_of(struct mr_channel *channel, enum sqs_action action, const void *input);
/* route_send: the call in `slot`, whose route and action are set, or hold it. errors: BUSY,
 * UNAVAILABLE, TOO_LARGE: it was not sent. */
enum status route_send(struct mr_channel *channel, uint32_t slot, const void *input);
/* route_answered: a call that was sent is under way no more. */
void route_answered(struct mr_channel *channel, const struct call_slot *slot);
/* route_hint: an answer named the node to ask for this queue. */
void route_hint(struct mr_channel *channel, struct route *route, uint64_t node_id);
/* routes_lost: this line is gone: `home` is the one to use instead. */
void routes_lost(struct mr_channel *channel, uint8_t line);
/* routes_close: what is held ends unsent. routes_free: no call has one any more. */
void routes_close(struct mr_channel *channel);
void routes_free(struct mr_channel *channel);

#endif
