/* SPDX-License-Identifier: Apache-2.0 */
/* The part of a snapshot with what goes to and comes from other shards. */
#include "broker/core/limits.h"
#include "broker/core/record.h"
#include "broker/core/snapshot.h"
#include "broker/core/state.h"

static const struct field passage_fields[] = {
    FIELD_IN(U64, struct passage, number_last, 0, TRANSFER_NUMBER_MAX),
    FIELD_IN(U64, struct passage, accepted, 0, TRANSFER_NUMBER_MAX),
    FIELD_IN(U64, struct passage, refused_from, 0, TRANSFER_NUMBER_MAX),
};

static const struct field parcel_fields[] = {
    FIELD_IN(U64, struct parcel, number, 1, TRANSFER_NUMBER_MAX),
    FIELD(U64, struct parcel, queue_id),
    FIELD(BOOL, struct parcel, fifo),
    FIELD(U64, struct parcel, destination_id),
    FIELD(SLICE, struct parcel, destination_name),
    FIELD(BYTES16, struct parcel, move),
    FIELD_IN(U64, struct parcel, seq, 1, NUMBER_MAX),
    FIELD_IN(U64, struct parcel, sent_ms, 0, TIME_MS_MAX),
    FIELD_IN(U64, struct parcel, body.index, 1, BODY_INDEX_MAX),
    FIELD(U32, struct parcel, body.offset),
    FIELD_IN(U32, struct parcel, body.length, 0, BODY_LENGTH_MAX),
    FIELD(U32, struct parcel, receive_count),
    FIELD(U32, struct parcel, first_receive_after_ms),
    FIELD_IN(SLICE, struct parcel, group, 0, RECORD_ID_BYTES_MAX),
};

static bool is_used(const struct passage *passage)
{
    return passage->number_last > 0 || passage->accepted > 0;
}

/* ---- writing ---- */

void snapshot_write_passages(const struct core *core, const struct snapshot_stream *stream)
{
    struct buffer *out = stream->out;
    uint32_t used = 0;
    for (uint32_t shard = 0; shard < ARRAY_COUNT(core->passages); shard++)
        used += is_used(&core->passages[shard]);
    buffer_add_u32(out, used);
    for (uint32_t shard = 0; shard < ARRAY_COUNT(core->passages); shard++) {
        const struct passage *passage = &core->passages[shard];
        if (!is_used(passage))
            continue;
        buffer_add_u32(out, shard);
        ENCODE(out, passage_fields, passage);
        buffer_add_u32(out, passage->count);
        for (const struct parcel *at = passage->parcels; at != NULL; at = at->next) {
            ENCODE(out, parcel_fields, at);
            struct origin_key origin = origin_at(core, at->origin);
            buffer_add_u64(out, origin.queue_id);
            buffer_add_u32(out, (uint32_t)origin.received);
            snapshot_hand_on(stream, SNAPSHOT_STREAM_BYTES);
        }
    }
}

void snapshot_encode_passages(const struct core *core, struct buffer *out)
{
    snapshot_write_passages(core, &(struct snapshot_stream){.out = out});
}

/* ---- reading ---- */

static bool parcel_ok(const struct core *core, const struct passage *passage,
                      const struct parcel *parcel)
{
    const struct queue *queue = queue_find(core, parcel->queue_id);
    uint64_t age_ms = core->now_ms - parcel->sent_ms;
    if (parcel->number <= passage->number_last || parcel->body.index > core->applied_index ||
        parcel->sent_ms > core->now_ms || parcel->first_receive_after_ms > age_ms ||
        (parcel->receive_count == 0 && parcel->first_receive_after_ms != 0))
        return false;
    if (parcel->fifo && parcel->group.length == 0)
        return false;
    return snapshot_queue_id_ok(core, parcel->queue_id) &&
           (queue == NULL || parcel->seq <= queue->seq_last);
}

static bool decode_parcel(struct core *core, struct cursor *in, uint32_t shard)
{
    struct parcel read = {0};
    DECODE(in, parcel_fields, &read);
    struct origin_key origin = {.queue_id = cursor_u64(in)};
    origin.received = cursor_u32(in);
    if (in->bad || origin.queue_id > QUEUE_ID_MAX || origin.received > RECEIVED_BEFORE_MAX ||
        !parcel_ok(core, &core->passages[shard], &read))
        return false;
    read.origin = origin_ref(core, origin);
    outbox_add(core, shard, &read);
    body_hold(core, read.body);
    struct queue *queue = read.destination_id != 0 ? queue_find(core, read.queue_id) : NULL;
    struct move *move = queue != NULL ? move_find(queue, read.move) : NULL;
    if (move != NULL)
        move->under_way++;
    return true;
}

/* number_last is that of each parcel for a while, and at the end what was read. */
static bool decode_passage(struct core *core, struct cursor *in)
{
    struct passage read = {0};
    uint32_t count;
    uint32_t shard = cursor_u32(in);
    DECODE(in, passage_fields, &read);
    if (in->bad || !snapshot_count(in, 1, &count) || count > OUTBOX_REDRIVE_MAX ||
        !outbox_is_away(core, shard) || is_used(&core->passages[shard]) || !is_used(&read) ||
        read.refused_from > read.accepted)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (!decode_parcel(core, in, shard))
            return false;
    }
    struct passage *passage = &core->passages[shard];
    if (passage->number_last > read.number_last)
        return false;
    passage->number_last = read.number_last;
    passage->accepted = read.accepted;
    passage->refused_from = read.refused_from;
    return true;
}

bool snapshot_read_passages(struct core *core, struct cursor *in)
{
    return snapshot_decode_all(core, in, decode_passage);
}
