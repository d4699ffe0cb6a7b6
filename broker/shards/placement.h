/* SPDX-License-Identifier: Apache-2.0 */
/* On which nodes a queue shard is, as the catalog says: documents "cluster/replicas/K", a list of
 * node ids, the one that is to lead first; behind a '-' one that is letting go of its replica
 * (docs/replication.md, P1 to P5). And "cluster/replication": how many there are to be of each.
 * Data of versions before have neither: then a shard is on all voters of the catalog. thread: loop.
 */
#ifndef BROKER_SHARDS_PLACEMENT_H
#define BROKER_SHARDS_PLACEMENT_H

#include "broker/replication/shard.h"

#define REPLICATION_DEFAULT 3u
#define REPLICATION_MAX     7u

struct replica {
    uint64_t node_id;
    bool leaving;
};

struct replica_list {
    struct replica at[SHARD_MEMBERS_MAX];
    size_t count;
    uint64_t version; /* of the document; 0: there is none */
};

/* replicas_get: false: there is no (good) list of this shard. replicas_find: NULL: not in it. */
bool replicas_get(const struct core *catalog, uint32_t shard, struct replica_list *out);
const struct replica *replicas_find(const struct replica_list *list, uint64_t node_id);

/* replicas_drop: take it out, if it is in. */
void replicas_drop(struct replica_list *list, uint64_t node_id);

/* replicas_parse: "3 1 -2"; false: not such a list. replicas_print: append it. */
MUST_CHECK bool replicas_parse(struct slice text, struct replica_list *out);
void replicas_print(struct buffer *out, const struct replica_list *list);

/* replicas_command: what to commit in the catalog, for one who saw list->version; CONFLICT (EXISTS)
 * where another was faster. The command's texts are in `out`, which the caller keeps until the
 * command is encoded, and frees. */
struct command replicas_command(uint32_t shard, const struct replica_list *list,
                                struct buffer *out);

/* replication_get: how many replicas there are to be of each; 0: the catalog does not say yet.
 * replication_command: as above, where it does not. */
uint32_t replication_get(const struct core *catalog);
struct command replication_command(uint32_t replication, struct buffer *out);

#endif
