/* SPDX-License-Identifier: Apache-2.0 */
/* A consistent copy of a log that goes on: its files as they are up to one entry.
 *
 * The files that a start would need are linked into DIR/backup in one turn of the loop, and read
 * from there at leisure: the log may write, rewrite and remove as ever, since bytes of entries that
 * are on disk never change in place (a removed file that has a link is not used again). One at a
 * time; what a crash leaves is removed by log_open. thread: loop. */
#ifndef BROKER_LOG_BACKUP_H
#define BROKER_LOG_BACKUP_H

#include "broker/log/log.h"

#define LOG_BACKUP_NAME_BYTES 64
#define LOG_BACKUP_READ_MAX   (4u << 20)

struct log_backup;

struct log_backup_file {
    char name[LOG_BACKUP_NAME_BYTES]; /* in the shard's folder: "segments/...", "snapshots/..." */
    uint64_t bytes;                   /* the first so many are the file */
};

struct log_backup_view {
    uint64_t index; /* the last entry in it */
    uint64_t term;  /* of the node when it was begun */
    const struct log_backup_file *files;
    size_t file_count;
};

/* log_backup_begin: as of entry `index`, which is committed and applied.
 *   errors: BUSY: it is not on disk yet, or older than the newest snapshot, or another node's
 * snapshot is being taken over: again soon; EXISTS: there is one; NOT_FOUND: nothing to copy;
 * IO_ERROR and others: links cannot be made */
MUST_CHECK enum status log_backup_begin(struct log *log, uint64_t index, struct log_backup **out);
void log_backup_view(const struct log_backup *backup, struct log_backup_view *out);

struct log_backup_read;
typedef void (*log_backup_read_cb)(struct log_backup_read *read, enum status status);
struct log_backup_read {
    size_t file; /* of the view */
    uint64_t offset;
    size_t length;     /* at most LOG_BACKUP_READ_MAX; fewer bytes come only at the file's end */
    struct buffer out; /* the caller's, also to free; what is in it is dropped */
    log_backup_read_cb done;
    void *data; /* errors: IO_ERROR, also for a file that is too short */
    /* private */
    uv_work_t work;
    struct log_backup *backup;
    int error;
};
void log_backup_read(struct log_backup *backup, struct log_backup_read *read);

/* log_backup_end: remove the links; reads under way still end, with their callbacks. All must be
 * ended before log_close. */
void log_backup_end(struct log_backup *backup);

#endif
