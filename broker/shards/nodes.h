/* SPDX-License-Identifier: Apache-2.0 */
/* What the catalog says of nodes beyond its own configuration: documents "cluster/node/ID", which
 * exist while a node is not simply active, and where it is reached. thread: loop. */
#ifndef BROKER_SHARDS_NODES_H
#define BROKER_SHARDS_NODES_H

#include "broker/core/core.h"

enum node_duty {
    NODE_ACTIVE,
    NODE_DRAINED, /* leads no shard; keeps its replicas */
    NODE_LEAVING  /* the same, and is taken out of the queue shards: it is being removed */
};

enum node_duty node_duty(const struct core *catalog, uint64_t node_id);
const char *node_duty_name(enum node_duty duty);

/* node_duty_command: what to commit in the catalog to make it so. The command's texts are in `out`,
 * which the caller keeps until the command is encoded, and frees. */
struct command node_duty_command(const struct core *catalog, uint64_t node_id, enum node_duty duty,
                                 struct buffer *out);

/* node_address: HOST:PORT of its peer port, where that differs from the member list: the document
 * "cluster/address/ID" (broker/addresses.c). Borrowed until the catalog changes; absent: none.
 * node_address_command: as above. */
struct slice node_address(const struct core *catalog, uint64_t node_id);
struct command node_address_command(const struct core *catalog, uint64_t node_id,
                                    struct slice address, struct buffer *out);

#endif
