/* SPDX-License-Identifier: Apache-2.0 */
/* A shard whose broker is stopped: who its members are, and making one node the only one.
 *
 * The latter is what the library's raft_recover does, with one difference: the new member list
 * stands in a term of its own, so that no node which comes back takes an entry of its own at that
 * index for this one. Everything in the log counts as committed from then on. Blocking; thread:
 * main, where nothing else runs. */
#ifndef BROKER_REPLICATION_ALONE_H
#define BROKER_REPLICATION_ALONE_H

#include "broker/replication/shard.h"

#define ALONE_ADDRESS_BYTES 512

struct alone_member {
    uint64_t id;
    char address[ALONE_ADDRESS_BYTES];
    bool voter;
};

struct alone_report {
    uint64_t last_index;
    uint64_t last_term;
    uint64_t term;
    struct alone_member members[SHARD_MEMBERS_MAX];
    size_t member_count;
};

struct alone_place {
    const char *dir; /* the shard's folder */
    uint16_t shard_id;
    uint64_t node_id; /* whose it is */
    /* alone_make: UUID_BYTES: the shard is of this cluster from now on; NULL: of the one it was. */
    const uint8_t *cluster_id;
};

/* alone_look: what is in it. alone_make: its node is the only member, a voter at `address`, in one
 * durable step. On failure *error is a sentence, in static storage.
 *   errors: as log_open; NOT_FOUND: there is nothing in it; CORRUPT: its members make no sense */
MUST_CHECK enum status alone_look(const struct alone_place *place, struct alone_report *out,
                                  const char **error);
MUST_CHECK enum status alone_make(const struct alone_place *place, const char *address,
                                  const char **error);

#endif
