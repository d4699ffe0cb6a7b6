/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshot files: opaque bytes with the index and term that they stand for. */
#ifndef BROKER_LOG_SNAPSHOT_FILE_H
#define BROKER_LOG_SNAPSHOT_FILE_H

#include "broker/log/disk.h"

#define SNAPSHOT_BLOCK_BYTES (256u << 10)
#define SNAPSHOT_NAME_BYTES  32

struct log_snapshot {
    uint64_t index;
    uint64_t term;
    uint64_t config_index;
    struct buffer config; /* opaque here */
    struct buffer data;   /* opaque here */
};

void log_snapshot_free(struct log_snapshot *snapshot);

/* snapshot_name: "INDEX.snap"; snapshot_name_parse: its index, or 0 for another name. */
void snapshot_name(uint64_t index, char out[SNAPSHOT_NAME_BYTES]);
uint64_t snapshot_name_parse(const char *name);

/* snapshot_write: compress into a temporary file, sync, rename, sync the folder. `parts` are the
 * data, one after the other; what->data is not used. Returns 0 or an errno, and leaves nothing
 * behind then. thread: pool. */
MUST_CHECK int snapshot_write(const struct log_disk *disk, int dir_fd,
                              const struct log_snapshot *what, const struct slice *parts,
                              size_t part_count);

/* snapshot_decode: a whole file. CORRUPT leaves *out empty. Memory taken is bounded by 256 times
 * the length of the file. */
MUST_CHECK enum status snapshot_decode(struct slice file, struct log_snapshot *out);

#endif
