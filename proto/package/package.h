/* SPDX-License-Identifier: Apache-2.0 */
/* Function packages: zips that come from strangers, on their way in (checked by the broker,
 * unpacked by the worker) and out (packed by the command line). libarchive reads and writes them.
 *
 * Refused: absolute paths and "..", anything but files and folders (so no links and no devices),
 * more than PACKAGE_FILES_MAX files, more than PACKAGE_UNPACKED_BYTES_MAX bytes (counted while
 * unpacking, whatever the headers claim), names that are empty or too long, encrypted entries.
 * Set-id bits are dropped; the executable bits are kept. thread: any (blocking; call from a pool).
 */
#ifndef PROTO_PACKAGE_PACKAGE_H
#define PROTO_PACKAGE_PACKAGE_H

#include "proto/base/buffer.h"
#include "proto/base/status.h"

#define PACKAGE_ZIPPED_BYTES_MAX   52428800u  /* Lambda quota: 50 MB direct upload */
#define PACKAGE_UNPACKED_BYTES_MAX 262144000u /* Lambda quota: 250 MB unzipped */
#define PACKAGE_FILES_MAX          100000u

struct package_facts {
    uint64_t files;
    uint64_t unpacked_bytes;
};

/* package_check: read the whole zip without writing anything.
 *   errors: INVALID (no zip, damaged, a refused entry), TOO_LARGE; `why` names the entry, static.
 */
MUST_CHECK enum status package_check(struct slice zip, struct package_facts *facts,
                                     const char **why);

/* package_unpack: into the existing empty folder `dir` (O_NOFOLLOW all the way, files 0644 or 0755,
 * folders 0755). On an error what was written is left for the caller to remove. */
MUST_CHECK enum status package_unpack(struct slice zip, const char *dir, const char **why);

/* package_pack: a zip of the files below `dir`, in a stable order with fixed times, so that the
 * same files give the same bytes. Symbolic links are followed if they stay inside `dir`, else
 * refused. */
MUST_CHECK enum status package_pack(const char *dir, struct buffer *zip, const char **why);

#endif
