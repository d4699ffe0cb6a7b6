/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of members, as --cluster and --join give them: "1=host:port,2=host:port,3=[::1]:9326". */
#ifndef BROKER_MEMBERS_H
#define BROKER_MEMBERS_H

#include "proto/base/arena.h"
#include "proto/base/status.h"

#define MEMBERS_MAX 16u

struct member {
    uint64_t id;         /* 1..UINT32_MAX */
    const char *address; /* HOST:PORT, at most 255 bytes */
};

/* members_parse: into `out`, ascending by id; texts are in the arena. NULL when all is well, else
 * what is wrong, to be read after the option's name; static storage. thread: any. */
MUST_CHECK const char *members_parse(const char *text, struct arena *arena,
                                     struct member out[MEMBERS_MAX], size_t *count);

const struct member *members_find(const struct member *members, size_t count, uint64_t id);

/* members_digest: the same on all nodes that were given the same list, in whatever order; not 0. */
uint64_t members_digest(const struct member *members, size_t count);

#endif
