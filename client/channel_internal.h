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

/* Slots, in the order in which their calls were made; linked by call_slot.next. */
struct slot_list {
    uint32_t first, last; /* SLOT_COUNT: none */
};

/* Where the calls of one queue go. */
struct route {
    uint8_t line;     /* now */
    uint8_t next;     /* as soon as nothing is ordered on `line` */
    uint32_t calls;   /* under way, wherever */
    uint32_t ordered; /* sent, not answered, all but receives */
    uint32_t again;   /* of these, that wait to be sent again */
    uint64_t moved_ms;
    struct slot_list held; /* until those before them are answered, or sent again, elsewhere */
    UT_hash_handle hh;
    char queue[]; /* as calls name it */
};

struct call_slot {
    mr_answer_fn done; /* NULL: free */
    void *data;
    enum sqs_action action;
    uint32_t use;        /* of the slot, in the id */
    uint32_t next;       /* in the list of free, unsent, held, or repeated ones */
    enum status refusal; /* of an unsent one */
    struct route *route; /* NULL: it names no queue */
    uint8_t line;        /* that it was sent on; LINE_NONE: not sent */
    bool repeats;        /* it may be sent again, */
    bool repeated;       /* and was, or waits to be */
    uint64_t number;     /* of the call */
    uint64_t made_ms;
    struct buffer payload; /* while it is held, or if it repeats */
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
    uint32_t repeat_ms;
    bool repeat_sends;
    enum status why; /* home ended, last */
    char why_text[MR_WHY_BYTES];
    const char *access_key_id; /* NULL: none */
    char *secret;              /* wiped at the end */
    const char *region;
    struct tls_context *tls; /* NULL: plain */
    struct call_slot *slots;
    uint32_t free_first; /* SLOT_COUNT: none */
    struct slot_list unsent;
    struct slot_list again;
    uint64_t calls_made;
    uint32_t call_count;
    uint32_t called_back; /* in this run */
    struct route *routes;
    size_t held_bytes;
    bool closing;
};

/* ---- channel_line.c ---- */

/* line_connect: an idle one. It becomes ready, or idle again with channel_line_lost. */
void line_connect(struct line *line);

/* ---- channel.c ---- */

/* channel_answer: a frame ANSWER came. channel_line_lost: the line is idle from now on. */
void channel_answer(struct line *line, struct slice payload);
void channel_line_lost(struct line *line);
/* channel_unsent: the call ends with `refusal` in the next run. channel_closed: it ends now. */
void channel_unsent(struct mr_channel *channel, uint32_t slot, enum status refusal);
void channel_closed(struct mr_channel *channel, uint32_t slot);

/* slots_add: at the end. slots_take: the first; SLOT_COUNT: there is none. */
void slots_add(struct mr_channel *channel, struct slot_list *list, uint32_t slot);
uint32_t slots_take(struct mr_channel *channel, struct slot_list *list);

/* ---- channel_again.c ---- */

/* again_wanted: may this call be made again? */
bool again_wanted(const struct mr_channel *channel, enum sqs_action action, const void *input);
/* again_lost: those of a line that is lost which may be sent again wait for that from now on. */
void again_lost(struct mr_channel *channel, uint8_t line);
/* again_send: if home is ready. again_expire: those that found no broker in time end.
 * again_until_ms: when the first one does; UINT64_MAX: none waits. again_close: all end. */
void again_send(struct mr_channel *channel);
void again_expire(struct mr_channel *channel);
uint64_t again_until_ms(const struct mr_channel *channel);
void again_close(struct mr_channel *channel);

/* ---- channel_route.c ---- */

/* route_of: that of the queue which this input names; NULL: it names none, or there is no room. */
struct route *route_of(struct mr_channel *channel, enum sqs_action action, const void *input);
/* route_send: the call in `slot`, whose route and action are set, or hold it. `input` is NULL if
 * its payload is kept. errors: BUSY, UNAVAILABLE, TOO_LARGE: it was not sent. */
enum status route_send(struct mr_channel *channel, uint32_t slot, const void *input);
/* route_answered: a call that was sent is under way no more. */
void route_answered(struct mr_channel *channel, const struct call_slot *slot);
/* route_take_back: it is to be sent again. route_again: it has been, or it has ended. */
void route_take_back(struct call_slot *slot);
void route_again(struct mr_channel *channel, struct route *route);
/* call_write: its payload. */
void call_write(struct buffer *out, const struct call_slot *s, uint32_t slot, const void *input);
/* route_hint: an answer named the node to ask for this queue. */
void route_hint(struct mr_channel *channel, struct route *route, uint64_t node_id);
/* routes_lost: this line is gone: `home` is the one to use instead. */
void routes_lost(struct mr_channel *channel, uint8_t line);
/* routes_close: what is held ends unsent. routes_free: no call has one any more. */
void routes_close(struct mr_channel *channel);
void routes_free(struct mr_channel *channel);

#endif
