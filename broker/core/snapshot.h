/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of a snapshot share: snapshot.c says what the bytes are and puts the parts in
 * their order; each part has a file that writes and reads it. Private to broker/core. thread:
 * apply; writing also in a forked child.
 *
 * What is read may come from another node or from a damaged file: whatever reads returns false for
 * what no core can have written. */
#ifndef BROKER_CORE_SNAPSHOT_H
#define BROKER_CORE_SNAPSHOT_H

#include "broker/core/fields.h"
#include "broker/core/state.h"

#define SNAPSHOT_VERSION          4
#define VERSION_WITHOUT_PLACE     3
#define VERSION_WITHOUT_DOCUMENTS 2 /* the oldest that is read */

/* Gathered before they are handed on. */
#define SNAPSHOT_STREAM_BYTES (255u << 10)

/* Numbers that only grow stay far from wrapping. */
#define NUMBER_MAX                 (UINT64_MAX / 2)

#define ENCODE(out, table, object) fields_encode(out, table, ARRAY_COUNT(table), object)
#define DECODE(in, table, object)  fields_decode(in, table, ARRAY_COUNT(table), object)

/* Where a stream goes; `take` NULL: nowhere, all of it stays in the buffer. */
struct snapshot_stream {
    struct buffer *out;
    core_snapshot_take_fn take;
    void *data;
};

/* snapshot_hand_on: what has gathered, if that is much. */
void snapshot_hand_on(const struct snapshot_stream *stream, size_t at_least);

/* snapshot_count: a count of things that take `bytes` each at least. snapshot_decode_all: a count,
 * and so many things. */
bool snapshot_count(struct cursor *in, size_t bytes, uint32_t *count);
typedef bool (*snapshot_decode_fn)(struct core *core, struct cursor *in);
bool snapshot_decode_all(struct core *core, struct cursor *in, snapshot_decode_fn decode);

/* snapshot_version_ok: one that this core gave. snapshot_queue_id_ok: one that this shard gave. */
bool snapshot_version_ok(const struct core *core, uint64_t version);
bool snapshot_queue_id_ok(const struct core *core, uint64_t queue_id);

/* ---- snapshot.c: the parts that have one form for one state, everything but the messages, which
 * may stand in any order. For core_digest. ---- */

void snapshot_encode_head(const struct core *core, struct buffer *out);
void snapshot_encode_queue(const struct queue *queue, struct buffer *out);
void snapshot_encode_passages(const struct core *core, struct buffer *out);

/* ---- snapshot_catalog.c: blobs, functions, mappings, documents, tallies ---- */

void snapshot_write_catalog(const struct core *core, struct buffer *out);
bool snapshot_read_catalog(struct core *core, struct cursor *in, uint32_t version);

/* ---- snapshot_queue.c: a queue without its messages, but for their count; reading reads them
 * too ---- */

void snapshot_write_queue(const struct queue *queue, const struct snapshot_stream *stream);
bool snapshot_read_queue(struct core *core, struct cursor *in, uint32_t version);

/* ---- snapshot_message.c ---- */

/* The groups of the queue being read: their indexes, by number less one. */
struct snapshot_groups {
    uint32_t *indexes;
    uint32_t count;
};

/* Writing leaves out the count, which stands with the queue. */
void snapshot_write_messages(const struct core *core, const struct queue *queue,
                             const struct snapshot_stream *stream);
bool snapshot_read_messages(struct core *core, struct cursor *in, struct queue *queue,
                            const struct snapshot_groups *groups);

/* ---- snapshot_passage.c: what goes to and comes from other shards ---- */

void snapshot_write_passages(const struct core *core, const struct snapshot_stream *stream);
bool snapshot_read_passages(struct core *core, struct cursor *in);

#endif
