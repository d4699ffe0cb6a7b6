/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots: the whole state as bytes, without the bodies, which stay in the log.
 *
 * Integers are little-endian; the parts in the order of the bytes:
 *     SIZE  MEANING
 *     1     format version, 4; 2 and 3 are read too
 *     3     zero
 *     ...   core_fields; place_fields (not before version 4)
 *     4     count of blobs, in order of creation; each:
 *               blob_fields, u32 count of pieces; each: u64 index, u32 offset, u32 length
 *     4     count of functions, in name order; each: function_fields
 *     4     count of mappings, in order of creation; each: mapping_fields
 *     4     count of documents, in name order; each: document_fields (not in version 2)
 *     4     count of tallies, by function id; each: tally_fields (not before version 4)
 *     4     count of queues, in name order; each:
 *               queue_fields; queue_more_fields (not before version 4)
 *               u32 count of groups; each: u32 length, id
 *               u32 count of dedup ids, the oldest first; each: dedup_fields
 *               u32 count of attempts, the oldest first; each:
 *                   u32 length, id, u64 received_ms, u32 count of leases; each:
 *                   u64 seq, u64 due_ms, u32 receive_count
 *               u32 count of moves, the latest first; each: move_fields, u8 status, u8 failure
 *               u32 count of messages, of a FIFO queue in order; each MESSAGE_BYTES:
 *     then (not before version 4) count of other shards that messages went to or came from, in
 *           order; each: u32 shard, passage_fields, u32 count of messages that wait for it, in
 *           order; each: parcel_fields, u64 id of the queue that it was redriven from before, u32
 *           how often it was received until then
 * A message in its queue:
 *     OFFSET SIZE  MEANING
 *     0      8     seq
 *     8      8     sent_ms
 *     16     8     index, 4 offset, 4 length of the body
 *     32     4     receive_count
 *     36     4     first_receive_after_ms, 4 leased_after_ms, 4 due_after_ms
 *     48     4     state in the two low bits; above them, how often it was received in the
 *                  queues that it was redriven from (zero in older files)
 *     52     4     group: place in the list above, from 1; 0 = none; bit 31: came back from another
 *                  shard
 *     56     8     id of the queue that it was redriven from; 0 = none
 * The u32 words of a message are stored as differences to those of the message before it in the
 * queue (the first: to zero). Neighbours differ in few words and by the same amounts, so that the
 * compression of the file makes a fiftieth of them or less.
 * Counters, deadlines, lanes, references and what is left of purged queues are not stored: they are
 * found again, so they cannot contradict the messages.
 *
 * A snapshot may come from another node or from a damaged file, so restoring believes nothing:
 * every value is checked against the invariants that the rest of the core rests on, and what is
 * accepted passes core_check. To change the format: a new version number, and keep reading the old
 * one. */
#include "broker/core/snapshot.h"

#include "broker/core/limits.h"
#include "broker/core/place.h"
#include "broker/core/state.h"

static const struct field core_fields[] = {
    FIELD_IN(U64, struct core, now_ms, 0, TIME_MS_MAX),
    FIELD_IN(U64, struct core, applied_index, 0, BODY_INDEX_MAX),
    FIELD_IN(U64, struct core, version_last, 0, NUMBER_MAX),
    FIELD_IN(U64, struct core, queue_id_last, 0, UINT32_MAX),
    FIELD(BOOL, struct core, bootstrapped),
    FIELD(BYTES16, struct core, cluster_id),
    FIELD(BYTES32, struct core, secret),
};

static const struct field place_fields[] = {
    FIELD_IN(U32, struct core, shard, 0, QUEUE_SHARDS_MAX),
    FIELD_IN(U32, struct core, queue_shards, 0, QUEUE_SHARDS_MAX),
};

/* ---- writing ---- */

void snapshot_hand_on(const struct snapshot_stream *stream, size_t at_least)
{
    if (stream->take != NULL && stream->out->length >= at_least)
        stream->take(stream->data, stream->out);
}

void snapshot_encode_head(const struct core *core, struct buffer *out)
{
    buffer_add_u32(out, SNAPSHOT_VERSION); /* with the three zero bytes */
    ENCODE(out, core_fields, core);
    ENCODE(out, place_fields, core);
    snapshot_write_catalog(core, out);
    buffer_add_u32(out, (uint32_t)core->queue_names.count);
}

static void encode_core(const struct core *core, const struct snapshot_stream *stream)
{
    snapshot_encode_head(core, stream->out);
    for (size_t i = 0; i < core->queue_names.count; i++) {
        const struct queue *queue = core->queue_names.entries[i].object;
        snapshot_write_queue(queue, stream);
        snapshot_write_messages(core, queue, stream);
    }
    snapshot_write_passages(core, stream);
    snapshot_hand_on(stream, 1);
}

void core_snapshot(const struct core *core, struct buffer *out)
{
    encode_core(core, &(struct snapshot_stream){.out = out});
}

void core_snapshot_stream(const struct core *core, struct buffer *scratch,
                          core_snapshot_take_fn take, void *data)
{
    encode_core(core, &(struct snapshot_stream){scratch, take, data});
}

/* ---- reading ---- */

bool snapshot_count(struct cursor *in, size_t bytes, uint32_t *count)
{
    *count = cursor_u32(in);
    return !in->bad && *count <= cursor_left(in) / bytes;
}

bool snapshot_version_ok(const struct core *core, uint64_t version)
{
    return version > 0 && version <= core->version_last;
}

bool snapshot_queue_id_ok(const struct core *core, uint64_t queue_id)
{
    uint64_t first = queue_id_make(core->shard, 1);
    return queue_id >= first && queue_id < first + core->queue_id_last;
}

bool snapshot_decode_all(struct core *core, struct cursor *in, snapshot_decode_fn decode)
{
    uint32_t count;
    if (!snapshot_count(in, 1, &count))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (!decode(core, in))
            return false;
    }
    return true;
}

static bool decode_queues(struct core *core, struct cursor *in, uint32_t version)
{
    uint32_t count;
    if (!snapshot_count(in, 1, &count))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (!snapshot_read_queue(core, in, version))
            return false;
    }
    return true;
}

/* Messages that were visible before are no news. */
static void ready_forget(struct core *core)
{
    for (uint32_t i = 0; i < core->ready_count; i++)
        core->queues[core->ready[i]]->ready_noted = false;
    core->ready_count = 0;
}

enum status core_restore(struct core *core, struct slice snapshot)
{
    ASSERT(core->applied_index == 0);
    ASSERT(core->queue_names.count == 0);
    struct cursor in = cursor_of(snapshot);
    uint32_t version = cursor_u32(&in);
    if (version > SNAPSHOT_VERSION || version < VERSION_WITHOUT_DOCUMENTS)
        return STATUS_INVALID;
    bool shards = version > VERSION_WITHOUT_PLACE;
    DECODE(&in, core_fields, core);
    if (shards)
        DECODE(&in, place_fields, core);
    bool good = !in.bad && snapshot_read_catalog(core, &in, version) &&
                decode_queues(core, &in, version) &&
                (!shards || snapshot_read_passages(core, &in)) && cursor_left(&in) == 0;
    ready_forget(core);
    /* Code that is due to go is gone: there is no backlog of that. */
    const struct blob *unused = core->unused_blobs;
    good = good && (unused == NULL || unused->created_ms + BLOB_UNUSED_MS > core->now_ms);
    return good ? STATUS_OK : STATUS_INVALID;
}
