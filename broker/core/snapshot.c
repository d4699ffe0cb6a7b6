/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots: the whole state as bytes, without the bodies, which stay in the log.
 *
 * Integers are little-endian; the parts in the order of the bytes:
 *     SIZE  MEANING
 *     1     format version, 1
 *     3     zero
 *     ...   core_fields
 *     4     count of blobs, in order of creation; each:
 *               blob_fields, u32 count of pieces; each: u64 index, u32 offset, u32 length
 *     4     count of functions, in name order; each: function_fields
 *     4     count of mappings, in order of creation; each: mapping_fields
 *     4     count of queues, in name order; each:
 *               queue_fields, u32 count of messages, in any order; each MESSAGE_BYTES:
 *     OFFSET SIZE  MEANING
 *     0      8     seq
 *     8      8     sent_ms
 *     16     8     index, 4 offset, 4 length of the body
 *     32     4     receive_count
 *     36     4     first_receive_after_ms, 4 leased_after_ms, 4 due_after_ms
 *     48     4     state
 * The u32 words of a message are stored as differences to those of the message before it in the
 * queue (the first: to zero). Neighbours differ in few words and by the same amounts, so that the
 * compression of the file makes a fiftieth of them or less.
 * Counters, deadlines, lanes and references are not stored: they are found again, so they cannot
 * contradict the messages.
 *
 * A snapshot may come from another node or from a damaged file, so restoring believes nothing:
 * every value is checked against the invariants that the rest of the core rests on, and what is
 * accepted passes core_check. To change the format: a new version number, and keep reading the old
 * one. */
#include "broker/core/fields.h"
#include "broker/core/limits.h"
#include "broker/core/state.h"

#define SNAPSHOT_VERSION 1
#define MESSAGE_BYTES    52
#define MESSAGE_WORDS    (MESSAGE_BYTES / 4)
#define PIECE_BYTES      16
#define STREAM_BYTES     (255u << 10) /* gathered before they are handed on */

/* Numbers that only grow stay far from wrapping. */
#define NUMBER_MAX (UINT64_MAX / 2)

static const struct field core_fields[] = {
    FIELD_IN(U64, struct core, now_ms, 0, TIME_MS_MAX),
    FIELD_IN(U64, struct core, applied_index, 0, NUMBER_MAX),
    FIELD_IN(U64, struct core, version_last, 0, NUMBER_MAX),
    FIELD_IN(U64, struct core, queue_id_last, 0, NUMBER_MAX),
    FIELD(BOOL, struct core, bootstrapped),
    FIELD(BYTES16, struct core, cluster_id),
    FIELD(BYTES32, struct core, secret),
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
    FIELD(U64, struct function_view, usage.invocations),
    FIELD(U64, struct function_view, usage.errors),
    FIELD(U64, struct function_view, usage.timeouts),
    FIELD(U64, struct function_view, usage.throttles),
    FIELD(U64, struct function_view, usage.cold_starts),
    FIELD(U64, struct function_view, usage.duration_us),
    FIELD(U64, struct function_view, usage.billed_ms),
    FIELD(U64, struct function_view, usage.billed_mb_ms),
};

static const struct field mapping_fields[] = {
    FIELD(BYTES16, struct mapping_view, uuid),        FIELD(U64, struct mapping_view, version),
    FIELD(SLICE, struct mapping_view, function_name), FIELD(SLICE, struct mapping_view, queue_name),
    FIELD(SLICE, struct mapping_view, config),
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
    buffer_add_u32(out, (uint32_t)core->queue_names.count);
}

void snapshot_encode_queue(const struct queue *queue, struct buffer *out)
{
    ENCODE(out, queue_fields, queue);
    uint64_t count = queue->view.visible + queue->view.delayed + queue->view.in_flight;
    buffer_add_u32(out, (uint32_t)count);
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

static void encode_message(const struct message *message, uint8_t *at)
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
    bytes_put_u32(at + 48, message->state);
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

static void encode_messages(const struct core *core, const struct queue *queue,
                            const struct stream *stream)
{
    struct lane_walk walk = {0};
    struct words previous = {0};
    uint32_t index;
    while ((index = lane_next(&queue->age, &core->messages, &walk)) != MESSAGE_NONE) {
        uint8_t *at = buffer_reserve(stream->out, MESSAGE_BYTES);
        encode_message(message_at(&core->messages, index), at);
        to_differences(&previous, at);
        buffer_added(stream->out, MESSAGE_BYTES);
        hand_on(stream, STREAM_BYTES);
    }
}

static void encode_core(const struct core *core, const struct stream *stream)
{
    snapshot_encode_catalog(core, stream->out);
    for (size_t i = 0; i < core->queue_names.count; i++) {
        const struct queue *queue = core->queue_names.entries[i].object;
        snapshot_encode_queue(queue, stream->out);
        encode_messages(core, queue, stream);
    }
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

/* Could a message of this age be in this state? */
static bool times_ok(const struct message *message, uint64_t age_ms)
{
    uint64_t due_ms = message->due_after_ms;
    if (message->receive_count == 0 && message->first_receive_after_ms != 0)
        return false;
    if (message->first_receive_after_ms > age_ms)
        return false;
    switch ((enum message_state)message->state) {
    case MESSAGE_DELAYED:
        return message->receive_count == 0 && message->leased_after_ms == 0 && due_ms > age_ms &&
               due_ms <= DELAY_S_MAX * SECOND_MS;
    case MESSAGE_VISIBLE:
        return message->leased_after_ms == 0 && due_ms == 0;
    case MESSAGE_IN_FLIGHT:
        return message->receive_count > 0 && message->leased_after_ms <= age_ms &&
               message->first_receive_after_ms <= message->leased_after_ms && due_ms > age_ms &&
               due_ms <= (uint64_t)message->leased_after_ms + LEASE_MS_MAX;
    case MESSAGE_STATE_COUNT:
        break;
    }
    return false;
}

static bool message_ok(const struct core *core, const struct queue *queue,
                       const struct message *message)
{
    uint64_t retention_ms = (uint64_t)queue->view.settings.retention_s * SECOND_MS;
    if (message->seq == 0 || message->seq > queue->seq_last)
        return false;
    if (message->body_index == 0 || message->body_index > core->applied_index)
        return false;
    if (message->sent_ms > core->now_ms || message->sent_ms + retention_ms <= core->now_ms)
        return false;
    return times_ok(message, core->now_ms - message->sent_ms) &&
           messages_find(&core->messages, queue->slot, message->seq) == MESSAGE_NONE;
}

static bool decode_message(struct core *core, struct cursor *bytes, struct queue *queue,
                           struct words *previous)
{
    uint8_t copy[MESSAGE_BYTES];
    struct slice taken = cursor_take(bytes, MESSAGE_BYTES);
    if (bytes->bad)
        return false;
    memcpy(copy, taken.data, MESSAGE_BYTES);
    from_differences(previous, copy);
    struct cursor fields = cursor_of(slice_make(copy, MESSAGE_BYTES));
    struct cursor *in = &fields;
    struct message read = {.queue_slot = queue->slot & QUEUE_SLOT_MAX};
    read.seq = cursor_u64(in);
    read.sent_ms = cursor_u64(in);
    read.body_index = cursor_u64(in);
    read.body_offset = cursor_u32(in);
    read.body_length = cursor_u32(in);
    read.receive_count = cursor_u32(in);
    read.first_receive_after_ms = cursor_u32(in);
    read.leased_after_ms = cursor_u32(in);
    read.due_after_ms = cursor_u32(in);
    uint32_t state = cursor_u32(in);
    if (state >= MESSAGE_STATE_COUNT)
        return false;
    read.state = state & 3;
    if (!message_ok(core, queue, &read))
        return false;
    uint32_t index = messages_take(&core->messages);
    *message_at(&core->messages, index) = read;
    body_hold(core, message_body(&read));
    queue_store(core, queue, index);
    if (state == MESSAGE_VISIBLE)
        queue_show(core, queue, index);
    else
        queue_hide(core, queue, index, (enum message_state)state);
    return true;
}

static bool decode_queue(struct core *core, struct cursor *in)
{
    struct queue read = {0};
    uint32_t count;
    DECODE(in, queue_fields, &read);
    if (in->bad || !decode_count(in, MESSAGE_BYTES, &count) ||
        !version_ok(core, read.view.version) || read.view.queue_id == 0 ||
        read.view.queue_id > core->queue_id_last)
        return false;
    if (read.view.created_ms > read.view.modified_ms || read.view.modified_ms > core->now_ms)
        return false;
    if (queue_find(core, read.view.queue_id) != NULL ||
        names_get(&core->queue_names, read.view.name) != NULL)
        return false;
    struct queue *queue = queue_add(core, &read.view);
    queue->seq_last = read.seq_last;
    struct words previous = {0};
    messages_expect(&core->messages, count);
    for (uint32_t i = 0; i < count; i++) {
        if (!decode_message(core, in, queue, &previous))
            return false;
    }
    return queue->view.in_flight <= IN_FLIGHT_MAX;
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
    if (cursor_u32(&in) != SNAPSHOT_VERSION)
        return STATUS_INVALID;
    DECODE(&in, core_fields, core);
    bool good = !in.bad && decode_all(core, &in, decode_blob) &&
                decode_all(core, &in, decode_function) && decode_all(core, &in, decode_mapping) &&
                decode_all(core, &in, decode_queue) && cursor_left(&in) == 0;
    ready_forget(core);
    /* What is due at core time has been done by whoever wrote it. */
    return good && core_next_deadline_ms(core) > core->now_ms ? STATUS_OK : STATUS_INVALID;
}
