/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshot files: opaque bytes with the index and term that they stand for. */
#ifndef BROKER_LOG_SNAPSHOT_FILE_H
#define BROKER_LOG_SNAPSHOT_FILE_H

#include "broker/log/disk.h"

#define SNAPSHOT_BLOCK_BYTES (256u << 10)
#define SNAPSHOT_NAME_BYTES  32
#define SNAPSHOT_HEAD_BYTES  64u

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

/* A snapshot that is being written, piece by piece. Memory: one compressed block, reserved at the
 * start. */
struct snapshot_sink {
    const struct log_disk *disk;
    const struct log_snapshot *what;
    int fd;
    int error; /* the first; 0 so far. What comes later is dropped. */
    uint64_t at;
    uint64_t raw_bytes;
    uint64_t synced;
    uint32_t blocks;
    struct buffer scratch;
};

/* snapshot_create: the empty file that a snapshot is written to, under its temporary name; its fd,
 * or -1 and errno. */
MUST_CHECK int snapshot_create(int dir_fd);

/* snapshot_begin, any number of snapshot_add, snapshot_end: compress the data into `fd`, then head
 * and sync. snapshot_end gives 0 or the first errno, and frees. what->data is not used.
 * thread: any; between begin and end they take no lock and no memory. */
void snapshot_begin(struct snapshot_sink *sink, const struct log_disk *disk, int fd,
                    const struct log_snapshot *what);
void snapshot_add(struct snapshot_sink *sink, struct slice data);
MUST_CHECK int snapshot_end(struct snapshot_sink *sink);

/* snapshot_publish: give what was written its name, on disk when this returns 0; else an errno.
 * snapshot_discard: remove it. thread: pool. */
MUST_CHECK int snapshot_publish(const struct log_disk *disk, int dir_fd, uint64_t index);
void snapshot_discard(int dir_fd);

/* snapshot_peek: index, term and config_index from the first SNAPSHOT_HEAD_BYTES of a file, which
 * match their checksum; the rest of *out is zero. */
MUST_CHECK bool snapshot_peek(struct slice head, struct log_snapshot *out);

/* snapshot_decode: a whole file. CORRUPT leaves *out empty. Memory taken is bounded by 256 times
 * the length of the file. */
MUST_CHECK enum status snapshot_decode(struct slice file, struct log_snapshot *out);

#endif
