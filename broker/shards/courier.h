/* SPDX-License-Identifier: Apache-2.0 */
/* The courier of one shard: carries the messages that have left its queues to the shards of the
 * queues that they go to (broker/core/outbox.c), while this node leads the shard.
 *
 * For each other shard it reads the head of the outbox, offers a batch there (ARRIVE), and tells
 * its own shard what became of it (DEPARTED, REFUSED); then the next. It keeps nothing that
 * matters: a step that fails, or of which nobody knows whether it was done, is made again from what
 * the outbox says, and the core on the other side knows what it has had. So two of them, on a
 * leader and on one that does not know yet that it is none, do no harm either. thread: loop. */
#ifndef BROKER_SHARDS_COURIER_H
#define BROKER_SHARDS_COURIER_H

#include "broker/shards/door.h"

struct courier;

struct courier_options {
    uv_loop_t *loop; /* its clock */
    struct shard *shard;
    struct shards *shards; /* the doors to the others */
    /* How long what has arrived is kept here before it is let go. A backup cuts the shards one
     * after the other, faster than this (client/cli/backup_commands.c): so the cut of the shard
     * that let a message go is never later than one which has not got it. */
    uint64_t keep_ms;
};

struct courier *courier_new(const struct courier_options *options);

/* courier_look: messages may wait, or the time may have come to try again what failed: to be called
 * when the shard says so and every now and then. */
void courier_look(struct courier *courier);

/* courier_stop: it begins nothing more. To be called before its shard is closed, and before any
 * other one is that is not closed alone. courier_ended: and nothing that it began is under way.
 * courier_free: then. */
void courier_stop(struct courier *courier);
bool courier_ended(const struct courier *courier);
void courier_free(struct courier *courier);

#endif
