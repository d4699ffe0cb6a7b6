/* SPDX-License-Identifier: Apache-2.0 */
/* Reading an entry's commands some ahead of their turn, so that what they will look up is on its
 * way to the cache meanwhile. See foresee.c. thread: apply. */
#ifndef BROKER_CORE_FORESEE_H
#define BROKER_CORE_FORESEE_H

#include "broker/core/command.h"
#include "proto/base/siphash.h"

#define FORESIGHT_DEPTH 6u /* commands ahead: one for each step of fetching */
#define FORESIGHT_ROOM  8u /* a power of two above it */

/* What the ids of a SEND to a FIFO queue hash to under `key`. */
struct send_hashes {
    struct siphash_key key;
    uint32_t dedup;
    uint32_t group;
    bool dedup_per_group; /* how the queue was set */
};

/* A command that is decoded, and how far its fetching is. */
struct foreseen {
    struct command command;
    struct send_hashes hashes;
    const uint8_t *at; /* where it begins */
    struct cursor behind;
    uint64_t queue_id; /* 0: there is nothing to fetch */
    uint32_t queue_slot;
    uint32_t index; /* of its group or message, perhaps */
    bool apart;     /* the command before, of those with a queue, is of another one */
};

/* Zeros: nothing is foreseen. */
struct foresight {
    struct foreseen ring[FORESIGHT_ROOM];
    uint32_t first;          /* the command whose turn is next */
    uint32_t count;          /* that are decoded, from there on */
    uint64_t queue_id;       /* of the last command that is decoded */
    uint64_t found_queue_id; /* the queue found last */
    uint32_t found_slot;
};

struct core;

/* foresight_begin: an entry begins. foresight_next: the next command of it, valid until the one
 * behind it is asked for; NULL, and `in` stays, if it does not decode. */
void foresight_begin(struct foresight *foresight);
const struct command *foresight_next(struct foresight *foresight, const struct core *core,
                                     struct cursor *in);

#endif
