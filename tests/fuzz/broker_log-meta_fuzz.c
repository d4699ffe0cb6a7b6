/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as a meta file: what decodes, of whatever format, encodes to the same in this
 * one. */
#include "broker/log/meta.h"
#include "proto/base/assert.h"
#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(struct slice in)
{
    struct log_meta meta;
    struct log_meta again;
    uint8_t bytes[META_BYTES];
    if (!meta_decode(in, &meta))
        return;
    meta_encode(&meta, bytes);
    ASSERT(meta_decode(slice_make(bytes, sizeof bytes), &again));
    ASSERT(again.node_id == meta.node_id && again.shard_id == meta.shard_id);
    ASSERT(again.term == meta.term && again.vote == meta.vote);
    ASSERT(again.sequence == meta.sequence && again.format == META_FORMAT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t mended[META_BYTES];
    decode(slice_make(data, size));
    if (size < META_BYTES)
        return 0;
    memcpy(mended, data, sizeof mended);
    memcpy(mended, "MRMETA01", 8);
    bytes_put_u32(mended + 8, 1 + mended[12] % META_FORMAT);
    bytes_put_u32(mended + 60, crc32c(0, slice_make(mended, 60)));
    decode(slice_make(mended, sizeof mended));
    return 0;
}
