/* SPDX-License-Identifier: Apache-2.0 */
/* One message on its way to another node, from being made until the network is done with it. Shared
 * by link.c, which keeps the order, and raft_net.c, which makes the messages that point into the
 * library's memory. */
#ifndef BROKER_REPLICATION_OUTGOING_H
#define BROKER_REPLICATION_OUTGOING_H

#include "broker/replication/internal.h"

struct outgoing {
    struct peer_send send;
    struct outgoing *next;
    struct shard *shard;
    struct link *link;
    struct buffer head;
    struct iovec *parts; /* `head` first */
    uint32_t part_count;
    size_t bytes;
    uint64_t first_index; /* of the entries that `parts` point to; 0 = none */
    /* the library's, told when the network is done; NULL = nobody is waiting */
    struct raft_io_send *request;
    raft_io_send_cb cb;
    /* payloads that are no longer in memory: read from the log, for parts[1] */
    bool fetching;
    struct shard_read fetch;
    struct body_ref *refs;
};

/* outgoing_new: with room for `parts` parts besides the head, which is moved. */
struct outgoing *outgoing_new(struct shard *shard, struct buffer *head, uint32_t parts);
/* outgoing_send: queue it behind what is queued for the link. outgoing_fetched: it may go. */
void outgoing_send(struct outgoing *out, struct link *link);
void outgoing_fetched(struct outgoing *out, enum status status);
/* outgoing_unsent: queued for the link, or given to the network and not yet done. */
size_t outgoing_unsent(const struct link *link);

#endif
