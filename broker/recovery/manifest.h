/* SPDX-License-Identifier: Apache-2.0 */
/* What a backup consists of: its manifest.json, as `millrace backup` writes it (docs/format.md,
 * "Backups"). The bytes come from anywhere: nothing in them is believed. thread: any. */
#ifndef BROKER_RECOVERY_MANIFEST_H
#define BROKER_RECOVERY_MANIFEST_H

#include "proto/base/arena.h"
#include "proto/base/encode.h"
#include "proto/base/status.h"

#define MANIFEST_NAME      "manifest.json"
#define MANIFEST_BYTES_MAX (64u << 20)

struct manifest_file {
    const char *name; /* "segments/DIGITS.seg" or "snapshots/DIGITS.snap" and nothing else */
    uint64_t bytes;
    uint32_t crc;
};

struct manifest_shard {
    uint32_t id;
    const char *folder; /* of its files in the backup: "shard-3/", or "" in format 1 */
    uint64_t index;
    uint64_t term;
    struct manifest_file *files;
    size_t file_count;
};

struct manifest {
    uint8_t cluster_id[UUID_BYTES];
    struct manifest_shard *shards; /* 0, 1, ...: all of the cluster */
    size_t shard_count;
};

/* manifest_decode: into `arena`. *error is a sentence, static.
 *   errors: CORRUPT: it is not one, or does not match its checksum; UNSUPPORTED: of a later format
 */
MUST_CHECK enum status manifest_decode(struct slice in, struct arena *arena, struct manifest *out,
                                       const char **error);

#endif
