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

struct manifest {
    uint64_t index;
    uint64_t term;
    uint64_t time_ms;
    uint8_t cluster_id[UUID_BYTES];
    struct manifest_file *files;
    size_t file_count;
};

/* manifest_decode: into `arena`. *error is a sentence, static.
 *   errors: CORRUPT: it is not one, or does not match its checksum; UNSUPPORTED: of a later format
 */
MUST_CHECK enum status manifest_decode(struct slice in, struct arena *arena, struct manifest *out,
                                       const char **error);

#endif
