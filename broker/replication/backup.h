/* SPDX-License-Identifier: Apache-2.0 */
/* A consistent copy of a shard that is in use, as its users take it (broker/api/backup.c): begin,
 * read the files piece by piece, end. It holds the state after one entry of the log: everything
 * that was answered before the beginning is in it. Only the node that leads gives one, one at a
 * time; it is over when nobody has read for ten minutes, or the node leads no more. thread: loop.
 */
#ifndef BROKER_REPLICATION_BACKUP_H
#define BROKER_REPLICATION_BACKUP_H

#include "broker/log/backup.h"
#include "broker/replication/shard.h"

struct shard_backup_begin;
typedef void (*shard_backup_begin_cb)(struct shard_backup_begin *begin, enum status status);
/* The caller's memory, alive until `done`. */
struct shard_backup_begin {
    shard_backup_begin_cb done; /* OK; NOT_LEADER; EXISTS: one is under way; BUSY: the disk is
                                   behind for seconds; CLOSED; others: links cannot be made */
    void *data;
    uint64_t number;             /* out: of the backup, for the calls below */
    struct log_backup_view view; /* out: borrowed until control returns to the loop */
};
/* shard_backup_begin: may call back before it returns. */
void shard_backup_begin(struct shard *shard, struct shard_backup_begin *begin);
/* shard_backup_forget: the caller has gone; `done` is not called any more. */
void shard_backup_forget(struct shard *shard, struct shard_backup_begin *begin);

/* shard_backup_read: a piece of the file `name`, by offset and length (broker/log/backup.h).
 *   errors: NOT_FOUND: no such backup (any more), or no such file in it; else read->done tells */
MUST_CHECK enum status shard_backup_read(struct shard *shard, uint64_t number, struct slice name,
                                         struct log_backup_read *read);
/* shard_backup_end: errors: NOT_FOUND */
MUST_CHECK enum status shard_backup_end(struct shard *shard, uint64_t number);

#endif
