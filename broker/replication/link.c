/* SPDX-License-Identifier: Apache-2.0 */
/* The other members: who they are, whether they can be reached, and what is on its way to them.
 *
 * Messages to one node leave in the order in which they were made. One whose payloads have to be
 * read from the log first holds up those behind it: an append that overtakes another would be
 * refused by its receiver.
 *
 * I1  An outgoing message ends exactly once: when the network is done with it, or when it is
 * dropped because there is no connection. I2  What its parts point to stays as it is until then:
 * links_pinned says from which entry on. */
#include "broker/replication/outgoing.h"
#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- messages ---- */

struct outgoing *outgoing_new(struct shard *shard, struct buffer *head, uint32_t parts)
{
    struct outgoing *out = calloc(1, sizeof *out);
    ASSERT(out != NULL);
    out->shard = shard;
    out->head = *head;
    *head = (struct buffer){0};
    out->parts = calloc(parts + 1, sizeof *out->parts);
    ASSERT(out->parts != NULL);
    out->parts[0] = (struct iovec){out->head.data, out->head.length};
    out->part_count = 1;
    return out;
}

/* end: the library changes nothing when a message has left, so nobody is woken for that. */
static void end(struct outgoing *out, enum status status)
{
    struct shard *shard = out->shard;
    if (out->cb != NULL)
        out->cb(out->request, status == STATUS_OK ? 0 : RAFT_NOCONNECTION);
    buffer_free(&out->head);
    buffer_free(&out->fetch.out);
    free(out->refs);
    free(out->parts);
    free(out);
    if (status != STATUS_OK)
        shard_settle(shard);
    if (shard->stage == STAGE_CLOSING)
        raft_disk_idle(&shard->disk);
}

static void unhand(struct link *link, struct outgoing *out)
{
    struct outgoing **at = &link->handed;
    while (*at != out)
        at = &(*at)->next;
    *at = out->next;
    out->next = NULL;
}

static void on_sent(struct peer_send *send, enum status status)
{
    struct outgoing *out = send->data;
    unhand(out->link, out);
    if (status == STATUS_BUSY && out->cb == NULL) { /* the library repeats what is its own */
        out->link->lost = true;
        out->shard->forward.hold_until_ms = uv_now(out->shard->options.loop) + HOLD_MS;
    }
    end(out, status);
}

static void drain(struct link *link)
{
    while (link->first != NULL && !link->first->fetching) {
        struct outgoing *out = link->first;
        struct shard *shard = out->shard;
        link->first = out->next;
        link->last = link->first != NULL ? link->last : NULL;
        out->next = link->handed;
        link->handed = out;
        out->send = (struct peer_send){
            .parts = out->parts, .part_count = out->part_count, .done = on_sent, .data = out};
        peers_send(shard->options.peers, link->node_id, shard->options.shard_id, &out->send);
    }
}

void outgoing_send(struct outgoing *out, struct link *link)
{
    out->link = link;
    for (uint32_t i = 0; i < out->part_count; i++)
        out->bytes += out->parts[i].iov_len;
    if (link->last != NULL)
        link->last->next = out;
    else
        link->first = out;
    link->last = out;
    drain(link);
}

void outgoing_fetched(struct outgoing *out, enum status status)
{
    struct link *link = out->link;
    out->fetching = false;
    shard_wake(out->shard); /* for what waits for room */
    if (status == STATUS_OK) {
        drain(link);
        return;
    }
    struct outgoing **at = &link->first;
    struct outgoing *previous = NULL;
    for (; *at != out; at = &(*at)->next)
        previous = *at;
    *at = out->next;
    link->last = link->last == out ? previous : link->last;
    end(out, status);
    drain(link);
}

size_t outgoing_unsent(const struct link *link)
{
    size_t bytes = 0;
    for (const struct outgoing *out = link->first; out != NULL; out = out->next)
        bytes += out->bytes;
    for (const struct outgoing *out = link->handed; out != NULL; out = out->next)
        bytes += out->bytes;
    return bytes;
}

bool links_room(const struct link *link, size_t bytes)
{
    return outgoing_unsent(link) < bytes;
}

bool links_fits(const struct shard *shard, const struct link *link, size_t bytes)
{
    size_t unsent = peers_unsent(shard->options.peers, link->node_id);
    return link->first == NULL && (unsent == 0 || unsent + bytes <= PEER_UNSENT_BYTES_MAX);
}

void links_send(struct shard *shard, struct link *link, struct buffer *bytes)
{
    outgoing_send(outgoing_new(shard, bytes, 0), link);
}

static uint64_t least_pinned(const struct outgoing *out, uint64_t least)
{
    for (; out != NULL; out = out->next) {
        if (out->first_index > 0 && out->first_index < least)
            least = out->first_index;
    }
    return least;
}

uint64_t links_pinned(const struct shard *shard)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < shard->links.count; i++) {
        least = least_pinned(shard->links.list[i]->first, least);
        least = least_pinned(shard->links.list[i]->handed, least);
    }
    return least;
}

/* ---- members ---- */

struct link *links_find(const struct shard *shard, uint64_t node_id)
{
    for (size_t i = 0; i < shard->links.count; i++) {
        if (shard->links.list[i]->node_id == node_id)
            return shard->links.list[i];
    }
    return NULL;
}

static void link_free(struct link *link)
{
    buffer_free(&link->refused);
    buffer_free(&link->waits_ended);
    free(link->address);
    free(link->taken);
    free(link);
}

/* is_past: of a node that is no member any more, and is gone; and all that its process may send
 * again was sent in an earlier term (forward.c, R2). */
static bool is_past(const struct shard *shard, const struct link *link)
{
    return !link->up && link->address[0] == '\0' && link->first == NULL && link->handed == NULL &&
           (link->taken == NULL || link->taken->term != shard->raft.current_term);
}

/* make_room: members come and go for as long as this process lives. */
static bool make_room(struct shard *shard)
{
    struct links *l = &shard->links;
    for (size_t i = 0; i < l->count && l->count == SHARD_MEMBERS_MAX; i++) {
        const struct taken *taken = l->list[i]->taken;
        if (!is_past(shard, l->list[i]))
            continue;
        if (taken != NULL && taken->term > shard->forward.begun_term)
            shard->forward.begun_term = taken->term; /* what was taken then, nobody knows now */
        link_free(l->list[i]);
        l->count--;
        memmove(&l->list[i], &l->list[i + 1], (l->count - i) * sizeof l->list[0]);
    }
    return l->count < SHARD_MEMBERS_MAX;
}

static struct link *find_or_add(struct shard *shard, uint64_t node_id)
{
    struct links *l = &shard->links;
    struct link *link = links_find(shard, node_id);
    if (link != NULL || !make_room(shard))
        return link;
    link = calloc(1, sizeof *link);
    ASSERT(link != NULL);
    link->node_id = node_id;
    link->address = strdup("");
    ASSERT(link->address != NULL);
    link->up = peers_connected(shard->options.peers, node_id);
    l->list[l->count++] = link;
    return link;
}

static void set_address(struct shard *shard, struct link *link, const char *address)
{
    if (strcmp(link->address, address) == 0)
        return;
    free(link->address);
    link->address = strdup(address);
    ASSERT(link->address != NULL);
    /* A node is a member of the catalog as long as of any other shard: only the catalog lets go. */
    if (address[0] != '\0' || shard->options.shard_id == 0)
        peers_set_address(shard->options.peers, link->node_id, address[0] != '\0' ? address : NULL);
}

static const char *address_in(const struct raft_configuration *members, uint64_t node_id)
{
    for (unsigned i = 0; i < members->n; i++) {
        if (members->servers[i].id == node_id)
            return members->servers[i].address;
    }
    return "";
}

void links_update(struct shard *shard)
{
    const struct raft *raft = &shard->raft;
    struct links *l = &shard->links;
    if (l->servers == raft->configuration.n &&
        l->configuration_index == raft->configuration_index &&
        l->uncommitted_index == raft->configuration_uncommitted_index)
        return;
    l->servers = raft->configuration.n;
    l->configuration_index = raft->configuration_index;
    l->uncommitted_index = raft->configuration_uncommitted_index;
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        const struct raft_server *server = &raft->configuration.servers[i];
        struct link *link = server->id != raft->id ? find_or_add(shard, server->id) : NULL;
        if (link != NULL)
            set_address(shard, link, server->address);
    }
    for (size_t i = 0; i < l->count; i++)
        set_address(shard, l->list[i], address_in(&raft->configuration, l->list[i]->node_id));
}

/* ---- from the network ---- */

static void take_in(struct shard *shard, struct link *link, const struct wire *wire)
{
    if (wire->type == WIRE_CALLS || wire->type == WIRE_WAITS || wire->type == WIRE_SYNC)
        raft_net_hurry(shard, link);
    if (wire->type == WIRE_OFFER)
        catch_up_offered(shard, link, wire);
    else if (wire->type <= WIRE_TIMEOUT_NOW)
        raft_net_receive(shard, link, wire);
    else if (wire->type == WIRE_SYNC || wire->type == WIRE_SYNCED || wire->type == WIRE_CONFIRM ||
             wire->type == WIRE_CONFIRMED)
        sync_receive(shard, link, wire);
    else if (wire->type <= WIRE_WAITS_ENDED)
        forward_receive(shard, link, wire);
    else if (wire->type == WIRE_FETCH || wire->type == WIRE_FETCH_BODIES)
        give_receive(shard, link, wire);
    else
        catch_up_receive(shard, link, wire);
}

static void on_message(void *data, uint64_t node_id, struct slice message)
{
    struct shard *shard = data;
    struct wire wire;
    struct link *link = find_or_add(shard, node_id);
    enum status status = wire_decode(message, &wire);
    if (link == NULL || shard->stage == STAGE_CLOSING || status != STATUS_OK) {
        if (status == STATUS_INVALID)
            trace_warn("shard", "bad-message", "dir=\"%s\" from=%" PRIu64, shard->options.dir,
                       node_id);
        return;
    }
    link->up = true;
    take_in(shard, link, &wire);
    shard_wake(shard);
}

static void on_connection(void *data, uint64_t node_id, bool up)
{
    struct shard *shard = data;
    struct link *link = find_or_add(shard, node_id);
    if (link == NULL || shard->stage == STAGE_CLOSING)
        return;
    link->up = up;
    link->sent_index = 0;                       /* whatever was on its way may be lost */
    link->sync_asked = link->sync_in_round = 0; /* and is asked again */
    link->lost = true;
    if (!up && node_id == shard_leader(shard))
        guard_leader_gone(shard);
    if (!up) {
        forward_wait_gone(shard, node_id);
        catch_up_gone(shard, node_id);
        give_gone(shard, node_id);
    }
    shard_wake(shard);
}

void links_open(struct shard *shard)
{
    struct peer_handler handler = {on_message, on_connection, shard};
    if (shard_in_company(shard))
        peers_handle(shard->options.peers, shard->options.shard_id, &handler);
}

void links_close(struct shard *shard)
{
    if (!shard_in_company(shard))
        return;
    peers_handle(shard->options.peers, shard->options.shard_id, NULL);
    for (size_t i = 0; i < shard->links.count; i++)
        set_address(shard, shard->links.list[i], "");
}

bool links_quiet(const struct shard *shard)
{
    for (size_t i = 0; i < shard->links.count; i++) {
        if (shard->links.list[i]->first != NULL || shard->links.list[i]->handed != NULL)
            return false;
    }
    return true;
}

void links_free(struct shard *shard)
{
    for (size_t i = 0; i < shard->links.count; i++)
        link_free(shard->links.list[i]);
    shard->links.count = 0;
}
