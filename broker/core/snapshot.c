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
#include "broker/core/fields.h"
#include "broker/core/limits.h"
#include "broker/core/place.h"
#include "broker/core/record.h"
#include "broker/core/state.h"

#include <stdlib.h>

#define SNAPSHOT_VERSION          4
#define VERSION_WITHOUT_PLACE     3
#define VERSION_WITHOUT_DOCUMENTS 2 /* the oldest that is read */
#define MESSAGE_BYTES             64
#define MESSAGE_WORDS             (MESSAGE_BYTES / 4)
#define PIECE_BYTES               16
#define LEASE_BYTES               20
#define STREAM_BYTES              (255u << 10) /* gathered before they are handed on */

/* Numbers that only grow stay far from wrapping. */
#define NUMBER_MAX (UINT64_MAX / 2)

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

static const struct field blob_fields[] = {
    FIELD(BYTES32, struct blob, sha256),
    FIELD_IN(U64, struct blob, total_bytes, 1, BLOB_BYTES_MAX),
    FIELD(U64, struct blob, created_ms),
};

static const struct field function_fields[] = {
    FIELD_IN(SLICE, struct function_view, name, 1, UINT32_MAX),
    FIELD(U64, struct function_view, version),
    FIELD(SLICE, struct function_view, config),
    FIELD(BYTES32, struct function_view, code_sha256),
    FIELDS_USAGE(struct function_view, usage),
};

static const struct field tally_fields[] = {
    FIELD_IN(U64, struct tally, function_id, 1, QUEUE_ID_MAX),
    FIELDS_USAGE(struct tally, usage),
};

static const struct field mapping_fields[] = {
    FIELD(BYTES16, struct mapping_view, uuid),        FIELD(U64, struct mapping_view, version),
    FIELD(SLICE, struct mapping_view, function_name), FIELD(SLICE, struct mapping_view, queue_name),
    FIELD(SLICE, struct mapping_view, config),
};

static const struct field document_fields[] = {
    FIELD_IN(SLICE, struct document_view, name, 1, DOCUMENT_NAME_BYTES_MAX),
    FIELD(U64, struct document_view, version),
    FIELD_IN(SLICE, struct document_view, content, 0, DOCUMENT_BYTES_MAX),
};

static const struct field queue_fields[] = {
    FIELD(U64, struct queue, view.queue_id),
    FIELD(U64, struct queue, view.version),
    FIELD_IN(SLICE, struct queue, view.name, 1, UINT32_MAX),
    FIELDS_SETTINGS(struct queue, view.settings),
    FIELD(SLICE, struct queue, view.tags),
    FIELD(U64, struct queue, view.created_ms),
    FIELD(U64, struct queue, view.modified_ms),
    FIELD_IN(U64, struct queue, seq_last, 0, NUMBER_MAX),
    FIELD(U64, struct queue, view.sent_total),
    FIELD(U64, struct queue, view.received_total),
    FIELD(U64, struct queue, view.deleted_total),
    FIELD(U64, struct queue, view.empty_receives_total),
};

/* Not before version 4. */
static const struct field queue_more_fields[] = {
    FIELD_IN(U64, struct queue, purged_seq, 0, NUMBER_MAX),
};

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

static const struct field dedup_fields[] = {
    FIELD_IN(SLICE, struct dedup, key, 1, 1 + 2 * RECORD_ID_BYTES_MAX),
    FIELD(BYTES16, struct dedup, message_id),
    FIELD_IN(U64, struct dedup, seq, 1, NUMBER_MAX),
    FIELD_IN(U64, struct dedup, sent_ms, 0, TIME_MS_MAX),
};

static const struct field move_fields[] = {
    FIELD(BYTES16, struct move, view.handle),
    FIELD(U64, struct move, view.source_queue_id),
    FIELD(U64, struct move, view.destination_queue_id),
    FIELD(U32, struct move, view.per_second_max),
    FIELD_IN(U64, struct move, view.moved, 0, NUMBER_MAX),
    FIELD(U64, struct move, view.to_move),
    FIELD_IN(U64, struct move, view.started_ms, 0, TIME_MS_MAX),
    FIELD(U64, struct move, seq_max),
    FIELD_IN(U64, struct move, next_ms, 0, TIME_MS_MAX + SECOND_MS),
    FIELD_IN(U64, struct move, window_ms, 0, TIME_MS_MAX),
    FIELD(U32, struct move, window_moved),
};

#define ENCODE(out, table, object) fields_encode(out, table, ARRAY_COUNT(table), object)
#define DECODE(in, table, object)  fields_decode(in, table, ARRAY_COUNT(table), object)

/* ---- writing ---- */

static void encode_blob(const struct blob *blob, struct buffer *out)
{
    ENCODE(out, blob_fields, blob);
    buffer_add_u32(out, blob->piece_count);
    for (uint32_t i = 0; i < blob->piece_count; i++) {
        buffer_add_u64(out, blob->pieces[i].index);
        buffer_add_u32(out, blob->pieces[i].offset);
        buffer_add_u32(out, blob->pieces[i].length);
    }
}

void snapshot_encode_catalog(const struct core *core, struct buffer *out)
{
    buffer_add_u32(out, SNAPSHOT_VERSION); /* with the three zero bytes */
    ENCODE(out, core_fields, core);
    ENCODE(out, place_fields, core);
    buffer_add_u32(out, HASH_COUNT(core->blobs));
    for (const struct blob *blob = core->blobs; blob != NULL; blob = blob->hh.next)
        encode_blob(blob, out);
    buffer_add_u32(out, (uint32_t)core->function_names.count);
    for (size_t i = 0; i < core->function_names.count; i++) {
        const struct function *function = core->function_names.entries[i].object;
        ENCODE(out, function_fields, &function->view);
    }
    buffer_add_u32(out, (uint32_t)core->mapping_count);
    for (size_t i = 0; i < core->mapping_count; i++)
        ENCODE(out, mapping_fields, &core->mappings[i]->view);
    buffer_add_u32(out, (uint32_t)core->document_names.count);
    for (size_t i = 0; i < core->document_names.count; i++) {
        const struct document *document = core->document_names.entries[i].object;
        ENCODE(out, document_fields, &document->view);
    }
    buffer_add_u32(out, (uint32_t)core->tally_count);
    for (size_t i = 0; i < core->tally_count; i++)
        ENCODE(out, tally_fields, &core->tallies[i]);
    buffer_add_u32(out, (uint32_t)core->queue_names.count);
}

/* Where a stream goes; `take` NULL: nowhere, all of it stays in the buffer. */
struct stream {
    struct buffer *out;
    core_snapshot_take_fn take;
    void *data;
};

static void hand_on(const struct stream *stream, size_t at_least)
{
    if (stream->take != NULL && stream->out->length >= at_least)
        stream->take(stream->data, stream->out);
}

/* Groups get the number that their messages show. */
static void encode_groups(const struct queue *queue, const struct stream *stream)
{
    uint32_t number = 0;
    buffer_add_u32(stream->out, HASH_COUNT(queue->groups));
    for (struct group *group = queue->groups; group != NULL; group = group->hh.next) {
        group->number = ++number;
        buffer_add_u32(stream->out, group->id_length);
        buffer_add_slice(stream->out, group_id(group));
        hand_on(stream, STREAM_BYTES);
    }
}

static void encode_dedups(const struct queue *queue, const struct stream *stream)
{
    struct dedup_walk walk = {0};
    struct dedup dedup;
    buffer_add_u32(stream->out, queue->dedups.count);
    while (dedup_next(&queue->dedups, &walk, &dedup)) {
        ENCODE(stream->out, dedup_fields, &dedup);
        hand_on(stream, STREAM_BYTES);
    }
}

static void encode_attempts(const struct queue *queue, const struct stream *stream)
{
    struct buffer *out = stream->out;
    buffer_add_u32(out, HASH_COUNT(queue->attempts));
    for (const struct attempt *attempt = queue->attempts; attempt != NULL;
         attempt = attempt->hh.next) {
        buffer_add_u32(out, (uint32_t)attempt->id.length);
        buffer_add_slice(out, attempt->id);
        buffer_add_u64(out, attempt->received_ms);
        buffer_add_u32(out, attempt->count);
        for (uint32_t i = 0; i < attempt->count; i++) {
            buffer_add_u64(out, attempt->leases[i].seq);
            buffer_add_u64(out, attempt->leases[i].due_ms);
            buffer_add_u32(out, attempt->leases[i].receive_count);
        }
        hand_on(stream, STREAM_BYTES);
    }
}

static void encode_queue(const struct queue *queue, const struct stream *stream)
{
    ENCODE(stream->out, queue_fields, queue);
    ENCODE(stream->out, queue_more_fields, queue);
    encode_groups(queue, stream);
    encode_dedups(queue, stream);
    encode_attempts(queue, stream);
    buffer_add_u32(stream->out, queue->move_count);
    for (uint32_t i = 0; i < queue->move_count; i++) {
        ENCODE(stream->out, move_fields, &queue->moves[i]);
        buffer_add_byte(stream->out, (uint8_t)queue->moves[i].view.status);
        buffer_add_byte(stream->out, (uint8_t)queue->moves[i].view.failure);
    }
    uint64_t count = queue->view.visible + queue->view.delayed + queue->view.in_flight;
    buffer_add_u32(stream->out, (uint32_t)count);
}

void snapshot_encode_queue(const struct queue *queue, struct buffer *out)
{
    encode_queue(queue, &(struct stream){.out = out});
}

/* The words of the message before. */
struct words {
    uint32_t at[MESSAGE_WORDS];
};

static void to_differences(struct words *previous, uint8_t *bytes)
{
    for (size_t i = 0; i < MESSAGE_WORDS; i++) {
        uint32_t word = bytes_get_u32(bytes + 4 * i);
        bytes_put_u32(bytes + 4 * i, word - previous->at[i]);
        previous->at[i] = word;
    }
}

static void from_differences(struct words *previous, uint8_t *bytes)
{
    for (size_t i = 0; i < MESSAGE_WORDS; i++) {
        previous->at[i] += bytes_get_u32(bytes + 4 * i);
        bytes_put_u32(bytes + 4 * i, previous->at[i]);
    }
}

static void encode_message(const struct core *core, const struct message *message, uint8_t *at)
{
    bytes_put_u64(at, message->seq);
    bytes_put_u64(at + 8, message->sent_ms);
    bytes_put_u64(at + 16, message->body_index);
    bytes_put_u32(at + 24, message->body_offset);
    bytes_put_u32(at + 28, message->body_length);
    bytes_put_u32(at + 32, message->receive_count);
    bytes_put_u32(at + 36, message->first_receive_after_ms);
    bytes_put_u32(at + 40, message->leased_after_ms);
    bytes_put_u32(at + 44, message->due_after_ms);
    struct origin_key origin = origin_of(core, message);
    bytes_put_u32(at + 48, (uint32_t)origin.received << 2 | message->state);
    uint32_t number = message->group != 0 ? group_of(core, message)->number : 0;
    bytes_put_u32(at + 52, number | (uint32_t)message->stays << 31);
    bytes_put_u64(at + 56, origin.queue_id);
}

static void encode_messages(const struct core *core, const struct queue *queue,
                            const struct stream *stream)
{
    struct lane_walk walk = {0};
    struct words previous = {0};
    uint32_t index;
    while ((index = lane_next(&queue->age, &core->messages, &walk)) != MESSAGE_NONE) {
        uint8_t *at = buffer_reserve(stream->out, MESSAGE_BYTES);
        encode_message(core, message_at(&core->messages, index), at);
        to_differences(&previous, at);
        buffer_added(stream->out, MESSAGE_BYTES);
        hand_on(stream, STREAM_BYTES);
    }
}

static bool is_used(const struct passage *passage)
{
    return passage->number_last > 0 || passage->accepted > 0;
}

static void encode_passages(const struct core *core, const struct stream *stream)
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
            hand_on(stream, STREAM_BYTES);
        }
    }
}

void snapshot_encode_passages(const struct core *core, struct buffer *out)
{
    encode_passages(core, &(struct stream){.out = out});
}

static void encode_core(const struct core *core, const struct stream *stream)
{
    snapshot_encode_catalog(core, stream->out);
    for (size_t i = 0; i < core->queue_names.count; i++) {
        const struct queue *queue = core->queue_names.entries[i].object;
        encode_queue(queue, stream);
        encode_messages(core, queue, stream);
    }
    encode_passages(core, stream);
    hand_on(stream, 1);
}

void core_snapshot(const struct core *core, struct buffer *out)
{
    encode_core(core, &(struct stream){.out = out});
}

void core_snapshot_stream(const struct core *core, struct buffer *scratch,
                          core_snapshot_take_fn take, void *data)
{
    encode_core(core, &(struct stream){scratch, take, data});
}

/* ---- reading: each returns false for what no core can have written ---- */

/* A count of things that take `bytes` each at least. */
static bool decode_count(struct cursor *in, size_t bytes, uint32_t *count)
{
    *count = cursor_u32(in);
    return !in->bad && *count <= cursor_left(in) / bytes;
}

static bool decode_piece(struct core *core, struct cursor *in, struct blob *blob)
{
    struct body_ref piece;
    piece.index = cursor_u64(in);
    piece.offset = cursor_u32(in);
    piece.length = cursor_u32(in);
    if (piece.length == 0 || piece.length > BLOB_PIECE_BYTES_MAX || piece.index == 0 ||
        piece.index > core->applied_index)
        return false;
    if (piece.length > blob->total_bytes - blob->stored_bytes)
        return false;
    blob_append(core, blob, piece);
    return true;
}

static bool decode_blob(struct core *core, struct cursor *in)
{
    struct blob read = {0};
    uint32_t count;
    DECODE(in, blob_fields, &read);
    if (in->bad || !decode_count(in, PIECE_BYTES, &count) || count == 0)
        return false;
    if (read.created_ms > core->now_ms || blob_find(core, read.sha256) != NULL)
        return false;
    /* In order of creation, or they would not be dropped in order. */
    if (core->unused_blobs != NULL && core->unused_blobs->prev->created_ms > read.created_ms)
        return false;
    struct blob *blob = blob_add(core, read.sha256, read.total_bytes, read.created_ms);
    for (uint32_t i = 0; i < count; i++) {
        if (!decode_piece(core, in, blob))
            return false;
    }
    return true;
}

static bool version_ok(const struct core *core, uint64_t version)
{
    return version > 0 && version <= core->version_last;
}

static bool decode_function(struct core *core, struct cursor *in)
{
    struct function_view view = {0};
    DECODE(in, function_fields, &view);
    if (in->bad || !version_ok(core, view.version) ||
        names_get(&core->function_names, view.name) != NULL)
        return false;
    struct blob *blob = blob_find(core, view.code_sha256);
    if (blob == NULL || blob->stored_bytes != blob->total_bytes)
        return false;
    view.code_bytes = blob->total_bytes;
    function_add(core, &view, blob);
    return true;
}

static bool decode_mapping(struct core *core, struct cursor *in)
{
    struct mapping_view view = {0};
    struct mapping_view other;
    DECODE(in, mapping_fields, &view);
    if (in->bad || !version_ok(core, view.version) || core_mapping_get(core, view.uuid, &other) ||
        names_get(&core->function_names, view.function_name) == NULL)
        return false;
    mapping_add(core, &view);
    return true;
}

static bool decode_document(struct core *core, struct cursor *in)
{
    struct document_view view = {0};
    DECODE(in, document_fields, &view);
    if (in->bad || !version_ok(core, view.version) ||
        names_get(&core->document_names, view.name) != NULL)
        return false;
    document_add(core, &view);
    return true;
}

static bool decode_tally(struct core *core, struct cursor *in)
{
    struct tally read = {0};
    DECODE(in, tally_fields, &read);
    return !in->bad && tally_add(core, &read);
}

/* The groups of the queue being read: their indexes, by number less one. */
struct group_list {
    uint32_t *indexes;
    uint32_t count;
};

/* Could a message of this age be in this state? That it is due says nothing: many can be. */
static bool times_ok(const struct message *message, uint64_t age_ms)
{
    uint64_t due_ms = message->due_after_ms;
    if (message->receive_count == 0 && message->first_receive_after_ms != 0)
        return false;
    if (message->first_receive_after_ms > age_ms)
        return false;
    switch ((enum message_state)message->state) {
    case MESSAGE_DELAYED:
        return message->receive_count == 0 && message->leased_after_ms == 0 && due_ms > 0 &&
               due_ms <= DELAY_S_MAX * SECOND_MS;
    case MESSAGE_VISIBLE:
        return message->leased_after_ms == 0 && due_ms == 0;
    case MESSAGE_IN_FLIGHT:
        return message->receive_count > 0 && message->leased_after_ms <= age_ms &&
               message->first_receive_after_ms <= message->leased_after_ms &&
               due_ms >= message->leased_after_ms &&
               due_ms <= (uint64_t)message->leased_after_ms + LEASE_MS_MAX;
    case MESSAGE_STATE_COUNT:
        break;
    }
    return false;
}

/* In a FIFO queue messages follow each other in order, and no delay ends before an earlier one. */
static bool follows(const struct core *core, const struct queue *queue,
                    const struct message *message, const struct group *group)
{
    if (!queue->view.settings.fifo)
        return true;
    uint32_t last = queue->age.last;
    if (group == NULL ||
        (last != MESSAGE_NONE && (message_at(&core->messages, last)->seq >= message->seq ||
                                  message_at(&core->messages, last)->sent_ms > message->sent_ms)))
        return false;
    if (group->lane.last == MESSAGE_NONE)
        return true;
    const struct message *before = message_at(&core->messages, group->lane.last);
    return before->state != MESSAGE_DELAYED || message_due_ms(before) <= core->now_ms ||
           (message->state == MESSAGE_DELAYED && message_due_ms(message) >= message_due_ms(before));
}

static bool message_ok(const struct core *core, const struct queue *queue,
                       const struct message *message)
{
    if (message->seq == 0 || message->seq > queue->seq_last)
        return false;
    if (message->body_index == 0 || message->body_index > core->applied_index)
        return false;
    if (message->sent_ms > core->now_ms)
        return false;
    return times_ok(message, core->now_ms - message->sent_ms) &&
           messages_find(&core->messages, queue->slot, message->seq) == MESSAGE_NONE;
}

static bool decode_message(struct core *core, struct cursor *bytes, struct queue *queue,
                           struct words *previous, const struct group_list *groups)
{
    uint8_t copy[MESSAGE_BYTES];
    struct slice taken = cursor_take(bytes, MESSAGE_BYTES);
    if (bytes->bad)
        return false;
    memcpy(copy, taken.data, MESSAGE_BYTES);
    from_differences(previous, copy);
    struct cursor fields = cursor_of(slice_make(copy, MESSAGE_BYTES));
    struct cursor *in = &fields;
    struct message read = {0};
    uint64_t seq = cursor_u64(in);
    uint64_t sent_ms = cursor_u64(in);
    struct body_ref body;
    body.index = cursor_u64(in);
    body.offset = cursor_u32(in);
    body.length = cursor_u32(in);
    read.receive_count = cursor_u32(in);
    read.first_receive_after_ms = cursor_u32(in);
    read.leased_after_ms = cursor_u32(in);
    read.due_after_ms = cursor_u32(in);
    uint32_t state_word = cursor_u32(in);
    uint32_t state = state_word & 3;
    struct origin_key origin = {.received = state_word >> 2};
    uint32_t group_word = cursor_u32(in);
    uint32_t number = group_word & (UINT32_MAX >> 1);
    origin.queue_id = cursor_u64(in);
    if (state >= MESSAGE_STATE_COUNT || sent_ms > TIME_MS_MAX || body.index > BODY_INDEX_MAX ||
        body.length > BODY_LENGTH_MAX || number > groups->count || origin.queue_id > QUEUE_ID_MAX ||
        (origin.queue_id == 0 && origin.received > 0))
        return false;
    message_place(&read, queue->slot, seq, sent_ms, body);
    read.state = state & 3;
    read.stays = group_word != number;
    struct group *group = number > 0 ? core->groups[groups->indexes[number - 1]] : NULL;
    if (!message_ok(core, queue, &read) || !follows(core, queue, &read, group))
        return false;
    read.origin = origin_ref(core, origin) & ORIGIN_INDEX_MAX;
    uint32_t index = messages_take(&core->messages);
    *message_at(&core->messages, index) = read;
    body_hold(core, body);
    queue_store(core, queue, index, group_id(group));
    if (state == MESSAGE_VISIBLE)
        queue_show(core, queue, index);
    else
        queue_hide(core, queue, index, (enum message_state)state);
    return true;
}

/* ---- reading what queues have besides messages ---- */

/* Each is joined once for itself, so that it exists before its messages, and left at the end. */
static bool decode_groups(struct core *core, struct cursor *in, struct queue *queue,
                          struct group_list *groups)
{
    uint32_t count;
    if (!decode_count(in, 5, &count))
        return false;
    groups->indexes = malloc((count + 1) * sizeof groups->indexes[0]);
    ASSERT(groups->indexes != NULL);
    for (; groups->count < count; groups->count++) {
        struct slice id = cursor_bytes(in);
        uint32_t known = HASH_COUNT(queue->groups);
        if (in->bad || id.length == 0 || id.length > RECORD_ID_BYTES_MAX)
            return false;
        groups->indexes[groups->count] = group_join(core, queue, id);
        if (HASH_COUNT(queue->groups) == known)
            return false;
    }
    return true;
}

static bool leave_groups(struct core *core, struct queue *queue, const struct group_list *groups)
{
    bool all_used = true;
    for (uint32_t i = 0; i < groups->count; i++) {
        struct group *group = core->groups[groups->indexes[i]];
        all_used &= group->messages > 1;
        group_leave(core, queue, group);
    }
    return all_used;
}

static bool decode_dedups(struct core *core, struct cursor *in, struct queue *queue)
{
    uint32_t count;
    uint64_t last_ms = 0;
    if (!decode_count(in, 1, &count) || (count > 0 && !queue->view.settings.fifo))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct dedup read = {0};
        DECODE(in, dedup_fields, &read);
        if (in->bad || read.sent_ms > core->now_ms || read.sent_ms < last_ms ||
            read.seq > queue->seq_last || !dedup_put(&queue->dedups, dedup_seed(core), &read))
            return false;
        last_ms = read.sent_ms;
    }
    return true;
}

static bool decode_attempt(struct core *core, struct cursor *in, struct queue *queue,
                           uint64_t *last_ms)
{
    uint32_t count;
    struct slice id = cursor_bytes(in);
    uint64_t received_ms = cursor_u64(in);
    if (in->bad || !decode_count(in, LEASE_BYTES, &count) || count == 0 || count > 10000)
        return false;
    if (id.length == 0 || id.length > ATTEMPT_ID_BYTES_MAX || received_ms < *last_ms ||
        received_ms > core->now_ms || attempt_find(queue, id) != NULL)
        return false;
    *last_ms = received_ms;
    struct attempt *attempt = attempt_put(queue, id, received_ms, count);
    for (uint32_t i = 0; i < count; i++) {
        struct attempt_lease *lease = &attempt->leases[i];
        lease->seq = cursor_u64(in);
        lease->due_ms = cursor_u64(in);
        lease->receive_count = cursor_u32(in);
    }
    return true;
}

static bool decode_attempts(struct core *core, struct cursor *in, struct queue *queue)
{
    uint32_t count;
    uint64_t last_ms = 0;
    if (!decode_count(in, 1, &count) || count > ATTEMPTS_MAX ||
        (count > 0 && !queue->view.settings.fifo))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (!decode_attempt(core, in, queue, &last_ms))
            return false;
    }
    return true;
}

static bool move_ok(const struct core *core, const struct queue *queue, const struct move *move,
                    bool latest)
{
    bool runs = move->view.status == MOVE_RUNNING;
    bool failed = move->view.status == MOVE_FAILED;
    return move->view.source_queue_id == queue->view.queue_id &&
           move->view.started_ms <= core->now_ms && move->window_ms <= core->now_ms &&
           move->next_ms <= core->now_ms + SECOND_MS && move->seq_max <= queue->seq_last &&
           (move->view.per_second_max == 0 || move->window_moved <= move->view.per_second_max) &&
           (latest || !runs) && failed == (move->view.failure != MOVE_FAILURE_NONE);
}

static bool decode_moves(struct core *core, struct cursor *in, struct queue *queue)
{
    uint32_t count;
    if (!decode_count(in, 1, &count) || count > MOVES_KEPT)
        return false;
    if (count == 0)
        return true;
    queue->moves = calloc(MOVES_KEPT, sizeof queue->moves[0]);
    ASSERT(queue->moves != NULL);
    for (uint32_t i = 0; i < count; i++) {
        struct move *move = &queue->moves[i];
        DECODE(in, move_fields, move);
        uint8_t status = cursor_u8(in);
        uint8_t failure = cursor_u8(in);
        if (in->bad || status > MOVE_FAILED || failure > MOVE_FAILURE_NO_QUEUE)
            return false;
        move->view.status = (enum move_status)status;
        move->view.failure = (enum move_failure)failure;
        if (!move_ok(core, queue, move, i == 0))
            return false;
        queue->move_count++;
    }
    return true;
}

static bool decode_messages(struct core *core, struct cursor *in, struct queue *queue,
                            const struct group_list *groups)
{
    uint32_t count;
    struct words previous = {0};
    if (!decode_count(in, MESSAGE_BYTES, &count))
        return false;
    messages_expect(&core->messages, count);
    for (uint32_t i = 0; i < count; i++) {
        if (!decode_message(core, in, queue, &previous, groups))
            return false;
    }
    return queue->view.in_flight <= IN_FLIGHT_MAX;
}

/* One that this shard gave to a queue. */
static bool queue_id_ok(const struct core *core, uint64_t queue_id)
{
    uint64_t first = queue_id_make(core->shard, 1);
    return queue_id >= first && queue_id < first + core->queue_id_last;
}

static bool decode_queue(struct core *core, struct cursor *in, uint32_t version)
{
    struct queue read = {0};
    DECODE(in, queue_fields, &read);
    if (version > VERSION_WITHOUT_PLACE)
        DECODE(in, queue_more_fields, &read);
    if (in->bad || !version_ok(core, read.view.version) || !queue_id_ok(core, read.view.queue_id))
        return false;
    if (read.view.created_ms > read.view.modified_ms || read.view.modified_ms > core->now_ms)
        return false;
    if (queue_find(core, read.view.queue_id) != NULL ||
        names_get(&core->queue_names, read.view.name) != NULL)
        return false;
    struct queue *queue = queue_add(core, &read.view);
    struct group_list groups = {0};
    queue->seq_last = read.seq_last;
    queue->purged_seq = read.purged_seq;
    bool good = read.purged_seq <= read.seq_last && decode_groups(core, in, queue, &groups) &&
                decode_dedups(core, in, queue) && decode_attempts(core, in, queue) &&
                decode_moves(core, in, queue) && decode_messages(core, in, queue, &groups);
    good = leave_groups(core, queue, &groups) && good;
    free(groups.indexes);
    queue_chores_follow(core, queue);
    return good;
}

/* ---- reading what goes to and comes from other shards ---- */

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
    return queue_id_ok(core, parcel->queue_id) && (queue == NULL || parcel->seq <= queue->seq_last);
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
    if (in->bad || !decode_count(in, 1, &count) || count > OUTBOX_REDRIVE_MAX ||
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

typedef bool (*decode_fn)(struct core *core, struct cursor *in);

static bool decode_all(struct core *core, struct cursor *in, decode_fn decode)
{
    uint32_t count;
    if (!decode_count(in, 1, &count))
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
    if (!decode_count(in, 1, &count))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (!decode_queue(core, in, version))
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
    bool documents = version > VERSION_WITHOUT_DOCUMENTS;
    bool shards = version > VERSION_WITHOUT_PLACE;
    DECODE(&in, core_fields, core);
    if (shards)
        DECODE(&in, place_fields, core);
    bool good = !in.bad && decode_all(core, &in, decode_blob) &&
                decode_all(core, &in, decode_function) && decode_all(core, &in, decode_mapping) &&
                (!documents || decode_all(core, &in, decode_document)) &&
                (!shards || decode_all(core, &in, decode_tally)) &&
                decode_queues(core, &in, version) &&
                (!shards || decode_all(core, &in, decode_passage)) && cursor_left(&in) == 0;
    ready_forget(core);
    /* Code that is due to go is gone: there is no backlog of that. */
    const struct blob *unused = core->unused_blobs;
    good = good && (unused == NULL || unused->created_ms + BLOB_UNUSED_MS > core->now_ms);
    return good ? STATUS_OK : STATUS_INVALID;
}
