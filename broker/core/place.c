/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/core/place.h"

/* FNV-1a, then mixed so that names which differ in their last letter spread. */
static uint64_t name_hash(struct slice name)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < name.length; i++)
        hash = (hash ^ name.data[i]) * UINT64_C(0x100000001b3);
    hash = (hash ^ (hash >> 33)) * UINT64_C(0xff51afd7ed558ccd);
    return hash ^ (hash >> 33);
}

uint32_t shard_of_queue_name(struct slice name, uint32_t queue_shards)
{
    if (queue_shards == 0 || name.length == 0 || name.data[0] == '/')
        return 0;
    return (uint32_t)(1 + name_hash(name) % queue_shards);
}
