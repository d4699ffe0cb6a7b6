/* SPDX-License-Identifier: Apache-2.0 */
/* The digest of the logical state. It must not depend on pool indexes, heap layouts or the order in
 * which lanes hold strays, for those differ between a core that lived through its entries and one
 * restored from a snapshot. So the parts with one canonical form are hashed as their snapshot
 * bytes, and a queue's messages as the sum of one hash each. It finds divergence, not malice. */
#include "broker/core/snapshot.h"
#include "broker/core/state.h"

static uint64_t mix(uint64_t hash, uint64_t word)
{
    uint64_t h = hash * UINT64_C(0x9e3779b97f4a7c15) + word;
    h = (h ^ (h >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    h = (h ^ (h >> 27)) * UINT64_C(0x94d049bb133111eb);
    return h ^ (h >> 31);
}

static uint64_t mix_bytes(uint64_t hash, struct slice bytes)
{
    size_t at = 0;
    for (; bytes.length - at >= 8; at += 8)
        hash = mix(hash, bytes_get_u64(bytes.data + at));
    uint64_t rest = 0;
    for (; at < bytes.length; at++)
        rest = rest << 8 | bytes.data[at];
    return mix(mix(hash, rest), bytes.length);
}

static uint64_t message_digest(const struct core *core, const struct message *message)
{
    uint64_t hash = mix(message->seq, message->sent_ms);
    struct origin_key origin = origin_of(core, message);
    hash = mix(hash, origin.queue_id);
    if (origin.received > 0)
        hash = mix(hash, origin.received);
    if (message->group != 0)
        hash = mix_bytes(hash, group_id(group_of(core, message)));
    hash = mix(hash, message->body_index);
    hash = mix(hash, (uint64_t)message->body_offset << 32 | message->body_length);
    hash = mix(hash, (uint64_t)message->receive_count << 32 | message->first_receive_after_ms);
    hash = mix(hash, (uint64_t)message->leased_after_ms << 32 | message->due_after_ms);
    return mix(hash, (uint64_t)message->stays << 2 | message->state);
}

static uint64_t queue_digest(const struct core *core, const struct queue *queue, uint64_t hash)
{
    struct buffer bytes = {0};
    snapshot_encode_queue(queue, &bytes);
    hash = mix_bytes(hash, buffer_slice(&bytes));
    buffer_free(&bytes);
    uint64_t sum = 0;
    struct lane_walk walk = {0};
    uint32_t index;
    while ((index = lane_next(&queue->age, &core->messages, &walk)) != MESSAGE_NONE)
        sum += message_digest(core, message_at(&core->messages, index));
    return mix(hash, sum);
}

uint64_t core_digest(const struct core *core)
{
    struct buffer bytes = {0};
    snapshot_encode_head(core, &bytes);
    uint64_t hash = mix_bytes(0, buffer_slice(&bytes));
    for (size_t i = 0; i < core->queue_names.count; i++)
        hash = queue_digest(core, core->queue_names.entries[i].object, hash);
    buffer_clear(&bytes);
    snapshot_encode_passages(core, &bytes);
    hash = mix_bytes(hash, buffer_slice(&bytes));
    buffer_free(&bytes);
    return hash;
}
