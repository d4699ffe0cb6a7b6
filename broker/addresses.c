/* SPDX-License-Identifier: Apache-2.0 */
/* The document "cluster/address/ID": HOST:PORT of the peer port of node ID, where that differs from
 * the member list. The Raft library cannot change an address in its list without removing the
 * member, which would cost its vote meanwhile; so the list stays as it is, and every node tries
 * this one, too (broker/peer/tcp.h). */
#include "broker/addresses.h"

#include "broker/peer/tcp.h"
#include "broker/shards/nodes.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdio.h>

#define LOOK_MS 500u

static void on_recorded(struct shard_call *call, enum status status,
                        const struct core_result *results, uint32_t count)
{
    struct addresses *addresses = call->data;
    (void)status, (void)results, (void)count; /* if it is not there then, it is tried again */
    addresses->under_way = false;
}

static void record(struct addresses *a, struct shard *catalog, uint64_t id, const char *address)
{
    struct buffer text = {0};
    struct command command =
        node_address_command(shard_core(catalog), id, slice_of(address), &text);
    a->call = (struct shard_call){.done = on_recorded, .data = a};
    a->under_way = true;
    shard_call_add(&a->call, &command);
    buffer_free(&text);
    trace_info("cluster", "address_changed", "node=%" PRIu64 " addr=%s", id, address);
    shard_call(catalog, &a->call);
}

/* What the node itself says, if it is here to say it. */
static const char *told_by(struct peers *peers, uint64_t id, struct peer_about *about)
{
    return peers_tcp_node(peers, id, about) && about->connected ? about->peer : "";
}

static void look(struct addresses *a, struct shard *catalog, struct peers *peers, uint64_t own_id,
                 const char *own_address, const struct shard_member_view *member)
{
    struct peer_about about;
    char recorded[HELLO_ADDRESS_MAX + 1];
    struct slice address = node_address(shard_core(catalog), member->id);
    bool own = member->id == own_id;
    bool known = address.length > 0 && address.length < sizeof recorded;
    snprintf(recorded, sizeof recorded, "%.*s", SLICE_ARGS(known ? address : slice_of("")));
    if (known && !own)
        peers_tcp_set_spare(peers, member->id, PEER_SPARE_RECORDED, recorded);
    const char *told = own ? own_address : told_by(peers, member->id, &about);
    bool news = told[0] != '\0' && strcmp(told, known ? recorded : member->address) != 0;
    if (news && shard_leads(catalog) && !a->under_way)
        record(a, catalog, member->id, told);
}

void addresses_watch(struct addresses *a, struct shard *catalog, struct peers *peers,
                     uint64_t own_id, const char *own_address, uint64_t now_ms)
{
    struct shard_member_view members[SHARD_MEMBERS_MAX];
    if (now_ms - a->looked_ms < LOOK_MS)
        return;
    a->looked_ms = now_ms;
    size_t count = shard_members(catalog, members);
    for (size_t i = 0; i < count && count > 1; i++)
        look(a, catalog, peers, own_id, own_address, &members[i]);
}
