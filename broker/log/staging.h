/* SPDX-License-Identifier: Apache-2.0 */
/* What another node sends, on its way to disk: a folder beside the log with a snapshot and sealed
 * sparse segments, made so that only renames are left to do. Private to broker/log. thread: pool,
 * one call at a time. Functions that return int give 0 or an errno. */
#ifndef BROKER_LOG_STAGING_H
#define BROKER_LOG_STAGING_H

#include "broker/log/internal.h"
#include "broker/log/plan.h"

struct staging {
    struct log *log; /* only what never changes is used */
    struct log_offer offer;
    char name[NAME_BYTES];
    int dir_fd; /* -1: nothing is there yet */
    /* the snapshot */
    int snapshot_fd;
    uint64_t snapshot_bytes;
    /* the segment that is being written */
    int fd;
    struct segment_head head;
    uint32_t count; /* frames */
    uint64_t written;
    uint64_t unsynced; /* of whichever file is written */
    struct buffer out; /* not yet written */
    struct buffer footer;
    /* the entry that is being gathered; it may come in several pieces */
    struct frame frame;       /* index 0: none */
    struct buffer frame_head; /* fields and table */
    struct buffer frame_map;
    struct buffer frame_blocks;
    uint32_t frame_next; /* blocks behind it may still come */
    struct packer packer;
    struct buffer packed; /* the payload of that entry, when all of it came and packing pays */
    /* out */
    struct segment **segments; /* sealed; the last one, after staging_end: where entries go on */
    size_t segment_count;
    uint64_t body_bytes;
    uint64_t entries;
};

void staging_init(struct staging *s, struct log *log, const struct log_offer *offer,
                  uint64_t number);
/* staging_free: also what `segments` has; not the folder. */
void staging_free(struct staging *s);

MUST_CHECK int staging_snapshot(struct staging *s, struct slice bytes);
/* staging_restore: sync and read back the snapshot. errors: CORRUPT, NO_MEMORY and those of errno
 */
MUST_CHECK enum status staging_restore(struct staging *s, struct log_snapshot *out);
/* staging_bodies: errors: CORRUPT: nothing of `piece` was taken; and those of errno */
MUST_CHECK enum status staging_bodies(struct staging *s, struct slice piece);
/* staging_end: seal what is open, add the empty segment in which the log goes on, the plan, and
 * make it all durable. */
MUST_CHECK int staging_end(struct staging *s);
/* staging_remove: the folder and all that is in it, as far as it goes. */
void staging_remove(struct staging *s);

/* folder_remove: DIR/name and the files in it. */
void folder_remove(int dir_fd, const char *name);

#endif
