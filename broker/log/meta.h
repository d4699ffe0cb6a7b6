/* SPDX-License-Identifier: Apache-2.0 */
/* The two meta files: whose log this is, its term and its vote. thread: loop (blocking). */
#ifndef BROKER_LOG_META_H
#define BROKER_LOG_META_H

#include "broker/log/disk.h"

#define META_BYTES 64u

/* META_FORMAT: of the whole folder. 1: no frame is packed (unit.h), and the footers of segments
 * have offsets only. */
#define META_FORMAT 2u

struct log_meta {
    uint64_t node_id;
    uint64_t shard_id;
    uint64_t term;
    uint64_t vote;
    uint64_t sequence; /* of the write; 0 = never written */
    uint32_t format;   /* as read, 1 to META_FORMAT; what is written has META_FORMAT */
};

void meta_encode(const struct log_meta *meta, uint8_t out[META_BYTES]);
MUST_CHECK bool meta_decode(struct slice in, struct log_meta *out);

/* meta_load: the newest valid of both. *out is zero when neither file exists.
 *   errors: CORRUPT: there are files, but none is valid; UNSUPPORTED: of a later format */
MUST_CHECK enum status meta_load(int dir_fd, struct log_meta *out);

/* meta_store: write the file that is not the newest, and sync it. Returns 0 or an errno. */
MUST_CHECK int meta_store(const struct log_disk *disk, int dir_fd, struct log_meta *meta);

/* meta_is_first: there was no second write, which makes the other file. */
MUST_CHECK bool meta_is_first(int dir_fd);

/* meta_sync: both files as they are. Returns 0 or an errno. */
MUST_CHECK int meta_sync(const struct log_disk *disk, int dir_fd);

#endif
