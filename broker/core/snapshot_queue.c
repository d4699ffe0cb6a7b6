/* SPDX-License-Identifier: Apache-2.0 */
/* The part of a snapshot with what queues have besides messages: groups, dedup ids, attempts,
 * moves. */
#include "broker/core/limits.h"
#include "broker/core/record.h"
#include "broker/core/snapshot.h"
#include "broker/core/state.h"

#include <stdlib.h>

#define LEASE_BYTES 20

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

/* ---- writing ---- */

/* Groups get the number that their messages show. */
static void encode_groups(const struct queue *queue, const struct snapshot_stream *stream)
{
    uint32_t number = 0;
    buffer_add_u32(stream->out, queue->groups.count);
    for (struct group *group = queue->groups.list; group != NULL; group = group->next) {
        group->number = ++number;
        buffer_add_u32(stream->out, group->id_length);
        buffer_add_slice(stream->out, group_id(group));
        snapshot_hand_on(stream, SNAPSHOT_STREAM_BYTES);
    }
}

/* encode_dedup: as dedup_fields says. There are hundreds of thousands of them, so they do not go by
 * the table. */
static void encode_dedup(struct buffer *out, const struct dedup *dedup)
{
    size_t length = dedup->key.length;
    uint8_t *at = buffer_room(out, 4 + length + UUID_BYTES + 16);
    bytes_put_u32(at, (uint32_t)length);
    memcpy(at + 4, dedup->key.data, length);
    at += 4 + length;
    memcpy(at, dedup->message_id, UUID_BYTES);
    bytes_put_u64(at + UUID_BYTES, dedup->seq);
    bytes_put_u64(at + UUID_BYTES + 8, dedup->sent_ms);
    buffer_added(out, 4 + length + UUID_BYTES + 16);
}

static void encode_dedups(const struct queue *queue, const struct snapshot_stream *stream)
{
    struct dedup_walk walk = {0};
    struct dedup dedup;
    buffer_add_u32(stream->out, queue->dedups.count);
    while (dedup_next(&queue->dedups, &walk, &dedup)) {
        encode_dedup(stream->out, &dedup);
        snapshot_hand_on(stream, SNAPSHOT_STREAM_BYTES);
    }
}

static void encode_attempts(const struct queue *queue, const struct snapshot_stream *stream)
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
        snapshot_hand_on(stream, SNAPSHOT_STREAM_BYTES);
    }
}

void snapshot_write_queue(const struct queue *queue, const struct snapshot_stream *stream)
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
    snapshot_write_queue(queue, &(struct snapshot_stream){.out = out});
}

/* ---- reading ---- */

/* Each is joined once for itself, so that it exists before its messages, and left at the end. */
static bool decode_groups(struct core *core, struct cursor *in, struct queue *queue,
                          struct snapshot_groups *groups)
{
    uint32_t count;
    if (!snapshot_count(in, 5, &count))
        return false;
    groups->indexes = malloc((count + 1) * sizeof groups->indexes[0]);
    ASSERT(groups->indexes != NULL);
    for (; groups->count < count; groups->count++) {
        struct slice id = cursor_bytes(in);
        uint32_t known = queue->groups.count;
        if (in->bad || id.length == 0 || id.length > RECORD_ID_BYTES_MAX)
            return false;
        groups->indexes[groups->count] = group_join(core, queue, id, NULL);
        if (queue->groups.count == known)
            return false;
    }
    return true;
}

static bool leave_groups(struct core *core, struct queue *queue,
                         const struct snapshot_groups *groups)
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
    if (!snapshot_count(in, 1, &count) || (count > 0 && !queue->view.settings.fifo))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct dedup read = {0};
        DECODE(in, dedup_fields, &read);
        if (in->bad || read.sent_ms > core->now_ms || read.sent_ms < last_ms ||
            read.seq > queue->seq_last || !dedup_put(&queue->dedups, core_hash_key(core), &read))
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
    if (in->bad || !snapshot_count(in, LEASE_BYTES, &count) || count == 0 || count > 10000)
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
    if (!snapshot_count(in, 1, &count) || count > ATTEMPTS_MAX ||
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
    if (!snapshot_count(in, 1, &count) || count > MOVES_KEPT)
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

bool snapshot_read_queue(struct core *core, struct cursor *in, uint32_t version)
{
    struct queue read = {0};
    DECODE(in, queue_fields, &read);
    if (version > VERSION_WITHOUT_PLACE)
        DECODE(in, queue_more_fields, &read);
    if (in->bad || !snapshot_version_ok(core, read.view.version) ||
        !snapshot_queue_id_ok(core, read.view.queue_id))
        return false;
    if (read.view.created_ms > read.view.modified_ms || read.view.modified_ms > core->now_ms)
        return false;
    if (queue_find(core, read.view.queue_id) != NULL || queue_named(core, read.view.name) != NULL)
        return false;
    struct queue *queue = queue_add(core, &read.view);
    struct snapshot_groups groups = {0};
    queue->seq_last = read.seq_last;
    queue->purged_seq = read.purged_seq;
    bool good = read.purged_seq <= read.seq_last && decode_groups(core, in, queue, &groups) &&
                decode_dedups(core, in, queue) && decode_attempts(core, in, queue) &&
                decode_moves(core, in, queue) && snapshot_read_messages(core, in, queue, &groups);
    good = leave_groups(core, queue, &groups) && good;
    free(groups.indexes);
    queue_chores_follow(core, queue);
    return good;
}
