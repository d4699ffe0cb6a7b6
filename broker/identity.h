/* SPDX-License-Identifier: Apache-2.0 */
/* Whose data directory this is: DIR/node.json. It is written before anything else in the directory,
 * and says which node and which cluster the data are of, so that a wrong --node-id, another
 * cluster's data and a node that lost its data are refused by name (docs/replication.md). It is
 * JSON for people to read; nothing in it is secret.
 *
 *     {"format": 1, "node_id": 2, "data_id": UUID, "founders": "9f...", "cluster_id": UUID or "",
 *      "shards_begun": [1, 3], "feature_level": 2, "nodes": {"1": UUID of the data, "3": ...}}
 * and "shards": how many queue shards the cluster has, once that is known;
 * and "restored_from": UUID while that is not zeros. "shards_begun": true stands for all that the
 * cluster has.
 * thread: loop (blocking; at start, and when something new is learned). */
#ifndef BROKER_IDENTITY_H
#define BROKER_IDENTITY_H

#include "proto/base/encode.h"

#define IDENTITY_NODES_MAX 64u

struct identity_node {
    uint64_t id;
    uint8_t data_id[UUID_BYTES];
};

struct identity {
    uint64_t node_id;
    uint8_t data_id[UUID_BYTES];
    uint8_t cluster_id[UUID_BYTES]; /* zeros: not known yet */
    /* Of a restored node: the cluster that its backup was of; zeros once its state says the new id.
     */
    uint8_t restored_from[UUID_BYTES];
    uint64_t founders;      /* members_digest of the list it was founded with; 0: it joined */
    uint64_t shards_begun;  /* bit K - 1: queue shard K has its folder here; all set: each has */
    uint32_t shards;        /* queue shards of the cluster; 0: not known, or none */
    uint32_t feature_level; /* of the cluster, when last seen; 0: never */
    struct identity_node nodes[IDENTITY_NODES_MAX]; /* others, whose data are known */
    size_t node_count;
};

/* identity_load: NOT_FOUND: there is no such file; CORRUPT: it is not one; UNSUPPORTED: of a later
 * format; PERMISSION and others of the file system. */
MUST_CHECK enum status identity_load(const char *dir, struct identity *out);

/* identity_store: write it in one durable step: the old file or the new one, never half of one. */
MUST_CHECK enum status identity_store(const char *dir, const struct identity *identity);

/* identity_learn: these are the data of that node. False if it was known, or there is no room. */
bool identity_learn(struct identity *identity, uint64_t node_id, const uint8_t data_id[UUID_BYTES]);

#endif
