/* SPDX-License-Identifier: Apache-2.0 */
/*     OFFSET SIZE  MEANING (little-endian; 32 bytes)
 *     0      8     magic "MRPLAN01"
 *     8      8     index of the last entry that stays
 *     16     8     index of the snapshot
 *     24     4     zero
 *     28     4     CRC-32C of bytes 0..27 */
#include "broker/log/plan.h"

#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"

static const char magic[8] = {'M', 'R', 'P', 'L', 'A', 'N', '0', '1'};

void plan_encode(const struct install_plan *plan, uint8_t out[PLAN_BYTES])
{
    memset(out, 0, PLAN_BYTES);
    memcpy(out, magic, sizeof magic);
    bytes_put_u64(out + 8, plan->keep_index);
    bytes_put_u64(out + 16, plan->index);
    bytes_put_u32(out + 28, crc32c(0, slice_make(out, 28)));
}

bool plan_decode(struct slice in, struct install_plan *out)
{
    if (in.length != PLAN_BYTES || memcmp(in.data, magic, sizeof magic) != 0 ||
        bytes_get_u32(in.data + 28) != crc32c(0, slice_make(in.data, 28)))
        return false;
    *out = (struct install_plan){bytes_get_u64(in.data + 8), bytes_get_u64(in.data + 16)};
    return out->index > out->keep_index;
}
