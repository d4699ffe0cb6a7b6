/* SPDX-License-Identifier: Apache-2.0 */
/* Other nodes: who they are, which of their connections counts, and when to dial.
 *
 * Invariants:
 * N1  node->up is in node->connections and in state UP, and no other of them is.
 * N2  `connection` is reported for every change of node->up, before anything is received on it.
 * N3  A node is dialed only while it has an address and no connection that counts, by one dial at a
 *     time, not before dial_at_ms. */
#include "broker/peer/internal.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>

struct peer_node *peer_node_find(const struct tcp_peers *tcp, uint64_t id)
{
    struct peer_node *node = tcp->nodes;
    while (node != NULL && node->id < id)
        node = node->next;
    return node != NULL && node->id == id ? node : NULL;
}

static size_t node_count(const struct tcp_peers *tcp)
{
    size_t count = 0;
    for (const struct peer_node *node = tcp->nodes; node != NULL; node = node->next)
        count++;
    return count;
}

static bool node_idle(const struct peer_node *node)
{
    return node->address == NULL && node->connections == NULL && node->dial == NULL &&
           !node->leaving;
}

void peer_nodes_forget(struct tcp_peers *tcp)
{
    size_t count = node_count(tcp);
    for (struct peer_node **at = &tcp->nodes; *at != NULL && count > PEER_NODES_MAX / 2;) {
        struct peer_node *node = *at;
        if (!node_idle(node)) {
            at = &node->next;
            continue;
        }
        *at = node->next;
        peer_node_free(node);
        count--;
    }
}

struct peer_node *peer_node_get(struct tcp_peers *tcp, uint64_t id)
{
    ASSERT(id != 0);
    struct peer_node *node = peer_node_find(tcp, id);
    if (node != NULL)
        return node;
    if (node_count(tcp) >= PEER_NODES_MAX)
        return NULL;
    node = calloc(1, sizeof *node);
    ASSERT(node != NULL);
    node->tcp = tcp;
    node->id = id;
    struct peer_node **at = &tcp->nodes;
    while (*at != NULL && (*at)->id < id)
        at = &(*at)->next;
    node->next = *at;
    *at = node;
    return node;
}

void peer_node_free(struct peer_node *node)
{
    ASSERT(node->connections == NULL);
    ASSERT(node->dial == NULL);
    free(node->address);
    free(node);
}

/* ---- when to dial ---- */

/* Half of the time for sure, the other half by chance, so that nodes do not dial in step. */
static uint64_t with_jitter(uint32_t ms)
{
    uint32_t chance;
    clock_random(&chance, sizeof chance);
    return ms / 2 + chance % (ms / 2 + 1);
}

static void dial_not_before(struct peer_node *node, uint64_t ms)
{
    uint64_t at_ms = tcp_now_ms(node->tcp) + ms;
    if (node->dial_at_ms < at_ms)
        node->dial_at_ms = at_ms;
}

static void back_off(struct peer_node *node)
{
    dial_not_before(node, with_jitter(node->backoff_ms));
    node->backoff_ms *= 2;
    if (node->backoff_ms > BACKOFF_MS_MAX)
        node->backoff_ms = BACKOFF_MS_MAX;
}

static void dial_soon(struct peer_node *node)
{
    node->backoff_ms = 2 * BACKOFF_MS_MIN;
    node->dial_at_ms = 0;
    tcp_soon(node->tcp);
}

/* All that is known, without what says the same. */
static size_t addresses_of(const struct peer_node *node, const char *out[PEER_SPARES + 2])
{
    const char *all[PEER_SPARES + 2] = {node->address, node->peer};
    size_t count = 0;
    for (unsigned i = 0; i < PEER_SPARES; i++)
        all[2 + i] = node->spares[i];
    for (size_t i = 0; i < ARRAY_COUNT(all); i++) {
        bool known = all[i] == NULL || all[i][0] == '\0';
        for (size_t j = 0; j < count && !known; j++)
            known = strcmp(out[j], all[i]) == 0;
        if (!known)
            out[count++] = all[i];
    }
    return count;
}

const char *peer_node_turn(const struct peer_node *node)
{
    const char *addresses[PEER_SPARES + 2];
    size_t count = addresses_of(node, addresses);
    ASSERT(count > 0); /* N3 */
    return addresses[node->turn % count];
}

/* An attempt has failed. One alone is no news: nodes start and stop, and of two connections that
 * are made at the same time one is closed. */
static void attempt_failed(struct peer_node *node, enum status why)
{
    node->failures = node->about.failed == why ? node->failures + 1 : 1;
    node->about.failed = why;
    if (node->failures % FAILURES_TOLD_EVERY == 2)
        trace_warn("peer", "unreachable",
                   "node=%" PRIu64 " addr=%s attempts=%" PRIu64 " why=\"%s\"", node->id,
                   node->address != NULL ? peer_node_turn(node) : "none", node->failures,
                   why == STATUS_NOT_FOUND ? "the name does not resolve" : status_text(why));
    node->turn++;
    back_off(node);
}

void peer_node_dial_failed(struct peer_node *node, enum status why)
{
    attempt_failed(node, why);
}

void peer_node_set_address(struct peer_node *node, const char *address)
{
    bool same = address != NULL && node->address != NULL && strcmp(address, node->address) == 0;
    if (same)
        return;
    free(node->address);
    node->address = address != NULL ? strdup(address) : NULL;
    if (node->dial != NULL)
        peer_dial_cancel(node->dial);
    if (address == NULL) {
        node->leaving = true;
        tcp_soon(node->tcp);
    } else {
        dial_soon(node);
    }
}

static bool is_being_dialed(const struct peer_node *node)
{
    bool dialed = node->dial != NULL;
    for (const struct peer_connection *c = node->connections; c != NULL; c = c->next)
        dialed = dialed || c->dialed;
    return dialed;
}

void peer_node_tick(struct peer_node *node)
{
    for (struct peer_connection *c = node->connections, *next; c != NULL; c = next) {
        next = c->next;
        peer_connection_tick(c);
    }
    if (node->address != NULL && node->up == NULL && !node->leaving && !is_being_dialed(node) &&
        tcp_now_ms(node->tcp) >= node->dial_at_ms)
        peer_dial_start(node);
}

/* ---- which connection counts ---- */

static void add_connection(struct peer_node *node, struct peer_connection *c)
{
    c->next = node->connections;
    node->connections = c;
}

void peer_node_dialed(struct peer_node *node, struct peer_connection *c)
{
    add_connection(node, c);
}

void peer_node_accepted(struct peer_node *node, struct peer_connection *c)
{
    add_connection(node, c);
}

static void went_down(struct peer_node *node, const struct peer_connection *c, enum status why)
{
    node->up = NULL;
    node->about.failed = why;
    node->about.connected = false;
    node->failures = 1;
    if (!node->tcp->closing)
        trace_warn("peer", "disconnected", "node=%" PRIu64 " remote=%s why=\"%s\"", node->id,
                   c->remote, why == STATUS_TIMEOUT ? "it is silent" : status_text(why));
    tcp_report(node->tcp, node->id, false);
}

static void end_all_but(struct peer_node *node, const struct peer_connection *kept, enum status why)
{
    struct peer_connection *c = node->connections;
    while (c != NULL) {
        if (c == kept) {
            c = c->next;
        } else {
            peer_connection_end(c, why);
            c = node->connections; /* ending tells the users, who may do anything */
        }
    }
}

static void went_up(struct peer_node *node, struct peer_connection *c)
{
    if (node->up != NULL) {
        struct peer_connection *old = node->up;
        went_down(node, old, STATUS_CLOSED); /* and ended with the others below */
    }
    peer_connection_up(c);
    node->up = c;
    end_all_but(node, c, STATUS_CANCELLED);
    if (node->dial != NULL)
        peer_dial_cancel(node->dial);
    node->failures = 0;
    node->refusals = 0;
    node->backoff_ms = BACKOFF_MS_MIN;
    node->about.connected = true;
    node->about.connections++;
    node->about.refused = REFUSAL_NONE;
    node->about.failed = STATUS_OK;
    trace_info("peer", "connected", "node=%" PRIu64 " remote=%s dialed=%s features=%" PRIu32,
               node->id, c->remote, c->dialed ? "yes" : "no", node->about.feature_level);
    tcp_report(node->tcp, node->id, true);
}

static void choose(struct peer_node *node, struct peer_connection *c)
{
    peer_connection_ready(c); /* before anything else is sent on it */
    went_up(node, c);
}

void peer_node_agreed(struct peer_node *node, struct peer_connection *c)
{
    if (node->tcp->options.node_id < node->id)
        went_up(node, c); /* the other one chose */
    else if (node->up == NULL || node->up->boot != c->boot)
        choose(node, c);
}

static void choose_waiting(struct peer_node *node)
{
    if (node->tcp->options.node_id < node->id || node->tcp->closing || node->leaving)
        return;
    for (struct peer_connection *c = node->connections; c != NULL; c = c->next) {
        if (c->agreed && c->state == CONNECTION_GREETED) {
            choose(node, c);
            return;
        }
    }
}

void peer_node_connection_gone(struct peer_node *node, struct peer_connection *c, enum status why)
{
    struct peer_connection **at = &node->connections;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    c->next = NULL;
    if (node->up == c) {
        node->backoff_ms = BACKOFF_MS_MIN;
        back_off(node);
        went_down(node, c, why);
        if (node->up == NULL)
            choose_waiting(node);
    } else if (node->up == NULL && c->dialed) {
        attempt_failed(node, why);
    }
}

void peer_node_leave(struct peer_node *node)
{
    end_all_but(node, NULL, STATUS_CLOSED);
    node->leaving = false;
    if (node->dial != NULL)
        peer_dial_cancel(node->dial);
}

/* ---- what they say ---- */

static void keep_text(char *out, struct slice text)
{
    ASSERT(text.length <= HELLO_ADDRESS_MAX);
    if (text.length > 0)
        memcpy(out, text.data, text.length);
    out[text.length] = '\0';
}

static void keep_data_id(struct peer_node *node, const struct hello *theirs)
{
    struct peers_tcp_options *own = &node->tcp->options;
    if (!peer_id_known(node->data_id) && peer_id_known(theirs->data_id)) {
        memcpy(node->data_id, theirs->data_id, PEER_ID_BYTES);
        if (own->learned != NULL)
            own->learned(own->data, node->id, node->data_id);
    }
    if (!peer_id_known(own->cluster_id) && peer_id_known(theirs->cluster_id)) {
        memcpy(own->cluster_id, theirs->cluster_id, PEER_ID_BYTES);
        if (own->learned != NULL)
            own->learned(own->data, 0, own->cluster_id);
    }
}

void peer_node_levels(struct peer_node *node, uint32_t level, uint32_t level_min)
{
    node->about.feature_level = level;
    node->about.feature_level_min = level_min;
}

enum refusal peer_node_admit(struct peer_node *node, const struct hello *theirs)
{
    if (peer_id_known(node->data_id) && peer_id_known(theirs->data_id) &&
        memcmp(node->data_id, theirs->data_id, PEER_ID_BYTES) != 0)
        return REFUSAL_DATA;
    keep_data_id(node, theirs);
    keep_text(node->peer, theirs->peer);
    keep_text(node->http, theirs->http);
    keep_text(node->rpc, theirs->rpc);
    keep_text(node->version, theirs->version);
    node->about.boot = theirs->boot;
    peer_node_levels(node, theirs->feature_level, hello_level_needed(theirs));
    node->about.wall_ahead_ms = (int64_t)(theirs->wall_ms - clock_now_ms());
    return REFUSAL_NONE;
}

void peer_node_refused(struct peer_node *node, const struct peer_connection *c, enum refusal why,
                       bool by_us)
{
    node->refusals = node->about.refused == why ? node->refusals + 1 : 1;
    node->about.refused = why;
    if (c->dialed) /* what others try does not hold us up */
        dial_not_before(node, REFUSED_BACKOFF_MS + with_jitter(REFUSED_BACKOFF_MS));
    if (node->refusals % REFUSALS_TOLD_EVERY == 1)
        trace_error("peer", by_us ? "refused_it" : "was_refused",
                    "node=%" PRIu64 " addr=%s remote=%s reason=%s times=%" PRIu64
                    " levels=%u-%u their_levels=%u-%u why=\"%s\"",
                    node->id, node->address != NULL ? peer_node_turn(node) : "none", c->remote,
                    refusal_name(why), node->refusals, node->tcp->options.feature_level_min,
                    node->tcp->options.feature_level, node->about.feature_level_min,
                    node->about.feature_level, refusal_text(why));
}
