/* SPDX-License-Identifier: Apache-2.0 */
/* The session.
 *
 *                     connected: Hello          Welcome
 *     WAITING --> CONNECTING --> GREETING -----------------> OPEN
 *        ^  pause      | failed      | refused, timeout        | link ended, silence
 *        +-------------+-------------+-------------------------+
 *
 * The brokers of the list are tried in turn, from a random one on, so that many workers spread.
 * Only the leader gives out work: another one refuses with the leader's address, which is tried at
 * once (I1); one that knows of no leader lets us wait. The pause doubles from 100 ms to 5 s and is
 * drawn from its upper half, so that workers which lost the same broker do not come back in step;
 * an open session sets it back. Three heartbeats without a word from the broker end the session. A
 * broker of another protocol version is refused here.
 *
 * A session's leases end with it, but for what the next broker takes over (claims.h).
 *
 * I1  no more than REDIRECTS_MAX in a row without a pause: two brokers may name each other */
#include "worker/broker_link.h"

#include "proto/base/arena.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/options.h"
#include "proto/base/trace.h"

#include <stdlib.h>

#define PROTOCOL         1u
#define PAUSE_FIRST_MS   100u
#define PAUSE_LONGEST_MS 5000u
#define CONNECT_MS       5000u
#define CONNECT_MANY_MS  1000u /* when there are others to try */
#define REDIRECTS_MAX    3u
#define GREETING_MS      10000u
#define HEARTBEAT_MS_MIN 100u
#define HEARTBEAT_MS_MAX 60000u
#define SILENT_BEATS     3u

enum state { WAITING, CONNECTING, GREETING, OPEN };

struct broker_link {
    struct broker_link_options options;
    enum state state;
    struct link *link;
    size_t next_address;
    struct arena leader_arena;
    struct broker_address leader; /* where to go next; host NULL: nowhere in particular */
    unsigned redirects;           /* in a row */
    uint32_t pause_ms;
    uint64_t session;
    uint32_t heartbeat_ms;
    uint64_t heard_ms; /* uv_now of the last frame */
    uint64_t sequence;
    uv_timer_t timer; /* the pause, the greeting's limit, or the heartbeat */
    bool closing;
    bool timer_closed;
    void (*closed)(void *data);
    void *closed_data;
};

static void close_if_done(struct broker_link *l)
{
    if (!l->closing || !l->timer_closed || l->link != NULL || l->state == CONNECTING)
        return;
    void (*closed)(void *data) = l->closed;
    void *data = l->closed_data;
    arena_free(&l->leader_arena);
    free(l);
    closed(data);
}

static void connect_next(uv_timer_t *timer);

static void pause_then_connect(struct broker_link *l)
{
    uint32_t random = 0;
    l->state = WAITING;
    if (l->closing) {
        close_if_done(l);
        return;
    }
    clock_random(&random, sizeof random);
    if (l->leader.host != NULL && l->redirects < REDIRECTS_MAX) {
        l->redirects++;
        uv_timer_start(&l->timer, connect_next, 0, 0); /* I1 */
        return;
    }
    l->redirects = 0;
    uint32_t half = l->pause_ms / 2;
    uv_timer_start(&l->timer, connect_next, half + random % (half + 1), 0);
    l->pause_ms = l->pause_ms * 2 > PAUSE_LONGEST_MS ? PAUSE_LONGEST_MS : l->pause_ms * 2;
}

enum status broker_link_send(struct broker_link *l, uint64_t session, uint16_t type,
                             const ProtobufCMessage *message)
{
    if (l->state != OPEN || (session != 0 && session != l->session))
        return STATUS_CLOSED;
    return link_send(l->link, type, message);
}

static void on_silence(uv_timer_t *timer)
{
    struct broker_link *l = timer->data;
    trace_warn("broker", "no_welcome", "peer=%s", link_peer(l->link));
    link_close(l->link);
}

static void on_beat(uv_timer_t *timer)
{
    struct broker_link *l = timer->data;
    Millrace__Heartbeat beat = MILLRACE__HEARTBEAT__INIT;
    if (uv_now(l->options.loop) - l->heard_ms > (uint64_t)l->heartbeat_ms * SILENT_BEATS) {
        trace_warn("broker", "silent", "peer=%s", link_peer(l->link));
        uv_timer_stop(timer);
        link_close(l->link);
        return;
    }
    beat.sequence = ++l->sequence;
    enum status status = link_send(l->link, MILLRACE__TYPE__TYPE_HEARTBEAT, &beat.base);
    if (status != STATUS_OK)
        trace_debug("broker", "beat_not_sent", "error=\"%s\"", status_text(status));
}

/* ---- frames: each handler returns false if the frame is malformed ---- */

static bool on_welcome(struct broker_link *l, struct slice payload)
{
    Millrace__Welcome *welcome = millrace__welcome__unpack(NULL, payload.length, payload.data);
    bool good = welcome != NULL && l->state == GREETING && welcome->protocol == PROTOCOL;
    if (good) {
        l->state = OPEN;
        l->session++;
        l->pause_ms = PAUSE_FIRST_MS;
        l->redirects = 0;
        l->heartbeat_ms = welcome->heartbeat_ms < HEARTBEAT_MS_MIN   ? HEARTBEAT_MS_MIN
                          : welcome->heartbeat_ms > HEARTBEAT_MS_MAX ? HEARTBEAT_MS_MAX
                                                                     : welcome->heartbeat_ms;
        uv_timer_start(&l->timer, on_beat, l->heartbeat_ms, l->heartbeat_ms);
        trace_info("broker", "session", "peer=%s node=%llu version=\"%s\" endpoint=\"%s\"",
                   link_peer(l->link), (unsigned long long)welcome->node_id, welcome->version,
                   welcome->endpoint);
        l->options.on_welcome(l->options.data, l->session, welcome);
    }
    if (welcome != NULL)
        millrace__welcome__free_unpacked(welcome, NULL);
    return good;
}

static bool leader_named(struct broker_link *l, const char *address)
{
    const char *host;
    uint16_t port;
    arena_free(&l->leader_arena);
    l->leader = (struct broker_address){0};
    if (!address_split(address, &l->leader_arena, &host, &port))
        return false;
    l->leader = (struct broker_address){host, port};
    return true;
}

static bool on_refused(struct broker_link *l, struct slice payload)
{
    Millrace__Refused *refused = millrace__refused__unpack(NULL, payload.length, payload.data);
    if (refused == NULL)
        return false;
    if (leader_named(l, refused->leader_address))
        trace_info("broker", "redirected", "peer=%s leader=%s", link_peer(l->link),
                   refused->leader_address);
    else
        trace_warn("broker", "refused", "peer=%s reason=\"%s\"", link_peer(l->link),
                   refused->reason);
    millrace__refused__free_unpacked(refused, NULL);
    link_close(l->link);
    return true;
}

static bool on_assign(struct broker_link *l, struct slice payload)
{
    Millrace__Assign *order = millrace__assign__unpack(NULL, payload.length, payload.data);
    if (order == NULL)
        return false;
    l->options.on_assign(l->options.data, l->session, order);
    return true;
}

static bool on_heartbeat(struct broker_link *l, struct slice payload)
{
    (void)l; /* that it came is all that it says */
    (void)payload;
    return true;
}

static bool on_code_piece(struct broker_link *l, struct slice payload)
{
    Millrace__CodePiece *piece = millrace__code_piece__unpack(NULL, payload.length, payload.data);
    if (piece == NULL)
        return false;
    l->options.on_code_piece(l->options.data, piece);
    millrace__code_piece__free_unpacked(piece, NULL);
    return true;
}

static bool on_cancel(struct broker_link *l, struct slice payload)
{
    Millrace__Cancel *cancel = millrace__cancel__unpack(NULL, payload.length, payload.data);
    if (cancel == NULL)
        return false;
    l->options.on_cancel(l->options.data, cancel->lease_id);
    millrace__cancel__free_unpacked(cancel, NULL);
    return true;
}

static const struct frame_row {
    bool before_welcome; /* else only in an open session */
    bool (*handle)(struct broker_link *l, struct slice payload);
} frames[] = {
    [MILLRACE__TYPE__TYPE_WELCOME] = {true, on_welcome},
    [MILLRACE__TYPE__TYPE_REFUSED] = {true, on_refused},
    [MILLRACE__TYPE__TYPE_ASSIGN] = {false, on_assign},
    [MILLRACE__TYPE__TYPE_HEARTBEAT] = {true, on_heartbeat},
    [MILLRACE__TYPE__TYPE_CODE_PIECE] = {false, on_code_piece},
    [MILLRACE__TYPE__TYPE_CANCEL] = {false, on_cancel},
};

static void on_frame(struct link *link, void *data, uint16_t type, struct slice payload)
{
    struct broker_link *l = data;
    l->heard_ms = uv_now(l->options.loop);
    if (type >= ARRAY_COUNT(frames) || frames[type].handle == NULL)
        return; /* a newer broker may say more than we know */
    const struct frame_row *row = &frames[type];
    if ((l->state == OPEN || row->before_welcome) && row->handle(l, payload))
        return;
    trace_warn("broker", "malformed", "peer=%s type=%u", link_peer(link), type);
    link_close(link);
}

static void on_closed(struct link *link, void *data, enum status why)
{
    struct broker_link *l = data;
    bool open = l->state == OPEN;
    trace_info("broker", "link_ended", "peer=%s why=\"%s\"", link_peer(link), status_text(why));
    l->link = NULL;
    l->state = WAITING;
    if (!l->closing)
        uv_timer_stop(&l->timer);
    if (open)
        l->options.on_lost(l->options.data, l->session);
    pause_then_connect(l);
}

static void on_connected(struct link *link, void *data)
{
    struct broker_link *l = data;
    l->link = link;
    l->state = GREETING;
    l->heard_ms = uv_now(l->options.loop);
    if (l->closing) {
        link_close(link);
        return;
    }
    enum status status = link_send(link, MILLRACE__TYPE__TYPE_HELLO, &l->options.hello->base);
    if (status != STATUS_OK)
        link_close(link);
    else
        uv_timer_start(&l->timer, on_silence, GREETING_MS, 0);
}

static void on_failed(void *data, enum status why)
{
    struct broker_link *l = data;
    trace_debug("broker", "not_connected", "error=\"%s\"", status_text(why));
    pause_then_connect(l);
}

static void connect_next(uv_timer_t *timer)
{
    static const struct link_handler handler = {.on_frame = on_frame, .on_closed = on_closed};
    struct broker_link *l = timer->data;
    struct broker_address address = l->leader;
    if (address.host == NULL) {
        address = l->options.addresses[l->next_address];
        l->next_address = (l->next_address + 1) % l->options.address_count;
    }
    l->leader.host = NULL; /* its text stays until another is named */
    l->state = CONNECTING;
    link_connect(l->options.loop, address.host, address.port,
                 l->options.address_count > 1 ? CONNECT_MANY_MS : CONNECT_MS, l->options.tls,
                 &handler, l, on_connected, on_failed);
}

struct broker_link *broker_link_open(const struct broker_link_options *options)
{
    struct broker_link *l = calloc(1, sizeof *l);
    uint32_t random = 0;
    ASSERT(l != NULL && options->address_count > 0);
    l->options = *options;
    l->pause_ms = PAUSE_FIRST_MS;
    clock_random(&random, sizeof random);
    l->next_address = random % options->address_count;
    int error = uv_timer_init(options->loop, &l->timer);
    ASSERT(error == 0);
    l->timer.data = l;
    uv_timer_start(&l->timer, connect_next, 0, 0);
    return l;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct broker_link *l = handle->data;
    l->timer_closed = true;
    close_if_done(l);
}

void broker_link_close(struct broker_link *l, void (*closed)(void *data), void *data)
{
    l->closing = true;
    l->closed = closed;
    l->closed_data = data;
    if (l->link != NULL)
        link_close(l->link);
    uv_close((uv_handle_t *)&l->timer, on_timer_closed);
}
