/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as a snapshot file; once as they are, once with the checksum of the header put
 * right, so that the configuration and the blocks behind it are reached. */
#include "broker/log/snapshot_file.h"
#include "proto/base/assert.h"
#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(struct slice file)
{
    struct log_snapshot snapshot;
    if (snapshot_decode(file, &snapshot) == STATUS_OK)
        ASSERT(snapshot.index > 0);
    else
        ASSERT(snapshot.data.data == NULL && snapshot.config.data == NULL);
    log_snapshot_free(&snapshot);
}

/* mend: set the checksums that a damaged file would fail first. */
static void mend(uint8_t *file, size_t size)
{
    memcpy(file, "MRSNAP01", 8);
    size_t config = bytes_get_u32(file + 32) % 64;
    bytes_put_u32(file + 32, (uint32_t)config);
    size_t at = 64 + config;
    if (at > size)
        return;
    bytes_put_u32(file + 52, crc32c(0, slice_make(file + 64, config)));
    bytes_put_u32(file + 60, crc32c(0, slice_make(file, 60)));
    while (size - at >= 12) {
        size_t stored = bytes_get_u32(file + at + 4);
        if (stored > size - at - 12)
            return;
        uint32_t crc = crc32c(0, slice_make(file + at, 8));
        bytes_put_u32(file + at + 8, crc32c(crc, slice_make(file + at + 12, stored)));
        at += 12 + stored;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    decode(slice_make(data, size));
    if (size < 64)
        return 0;
    uint8_t *file = malloc(size);
    ASSERT(file != NULL);
    memcpy(file, data, size);
    mend(file, size);
    decode(slice_make(file, size));
    free(file);
    return 0;
}
