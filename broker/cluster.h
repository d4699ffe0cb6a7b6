/* SPDX-License-Identifier: Apache-2.0 */
/* What this node is in its cluster: its identity on disk, the members it was told of, and the
 * connections to other nodes. Opened before the shard, which talks through it, and closed after it.
 * thread: loop. */
#ifndef BROKER_CLUSTER_H
#define BROKER_CLUSTER_H

#include "broker/members.h"
#include "broker/node.h"
#include "broker/peer/tcp.h"
#include "broker/replication/shard.h"

struct cluster;

/* cluster_open: check the options against DIR/node.json, which is made in a new directory, and
 * listen for other nodes. Returns an exit code of sysexits.h, after a trace that says what is
 * wrong. `options` and `tls` (among brokers; NULL: plain) are borrowed until the cluster is closed.
 */
int cluster_open(struct cluster **out, uv_loop_t *loop, const struct node_options *options,
                 struct tls_context *tls);
void cluster_close(struct cluster *cluster, void (*closed)(void *data), void *data);

struct peers *cluster_peers(struct cluster *cluster);

/* cluster_address: of this node, as other nodes dial it. */
const char *cluster_address(const struct cluster *cluster);

/* cluster_members: the voters of a new group, for shard_open; none: this node alone, or it joins
 * one (cluster_joins). Valid until the cluster is closed. */
const struct shard_member *cluster_members(const struct cluster *cluster, size_t *count);
bool cluster_joins(const struct cluster *cluster);

/* cluster_shards_begun: of struct shards_options; kept in DIR/node.json, with how many queue shards
 * the cluster has. cluster_set_shards_begun: false, after a trace: it is not on the disk yet. */
uint64_t cluster_shards_begun(const struct cluster *cluster);
MUST_CHECK bool cluster_set_shards_begun(struct cluster *cluster, uint64_t begun, uint32_t shards);

/* cluster_watch: the shard is open: keep the cluster's id once its state has one. `failed` is
 * called with an exit code, after a trace, if the state is of another cluster than DIR/node.json.
 */
void cluster_watch(struct cluster *cluster, struct shard *shard,
                   void (*failed)(void *data, int code), void *data);

/* cluster_unwatch: the shard is about to be closed. */
void cluster_unwatch(struct cluster *cluster);

/* cluster_on_leader: `changed` is told which node leads, as far as this one knows, and where its
 * workers connect: at the first look and whenever either changes. (0, NULL): none is known; the
 * address is NULL for this node, and for one that did not tell it yet. */
void cluster_on_leader(struct cluster *cluster,
                       void (*changed)(void *data, uint64_t node_id, const char *rpc_address),
                       void *data);

/* cluster_advertise: the ports of this node's clients and workers are open; tell other nodes. */
void cluster_advertise(struct cluster *cluster, const char *http_host, uint16_t http_port,
                       const char *rpc_host, uint16_t rpc_port);

#endif
