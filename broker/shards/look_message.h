/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a look (look.h) at one shard. Integers are little-endian, `bytes` is a u32 length
 * and that many bytes, and nothing may follow:
 *
 *     question  u8 version, 1; 3 zero; u32 count of names, u32 of ids, u32 most of the run
 *               bytes: after, prefix, dead letter; the names, bytes each; the ids, u64 each
 *     answer    u8 version, 1; u8 the run goes on; 2 zero; u32 count, u32 of them of the run; each:
 *               u64 queue id, version, created, modified, visible, in flight, delayed, oldest sent,
 *               sent, received, deleted, empty receives; u32 delay, message bytes, retention,
 *               receive wait, visibility, receive count; u32 flags (1: FIFO, 2: content-based
 *               deduplication, 4: deduplication, 8: throughput per group)
 *               bytes: name, tags, dead letter, extras
 *
 * What is found by name and id comes first, then the run. thread: any. */
#ifndef BROKER_SHARDS_LOOK_MESSAGE_H
#define BROKER_SHARDS_LOOK_MESSAGE_H

#include "broker/shards/look.h"

void look_question_encode(struct buffer *out, const struct look_question *question);
/* look_question_decode: names and ids are in the arena; texts borrow from `in`. */
MUST_CHECK bool look_question_decode(struct slice in, struct arena *arena,
                                     struct look_question *out);

/* look_answer: append what this core has to say. */
void look_answer(struct buffer *out, const struct core *core, const struct look_question *question);

struct look_answer {
    struct queue_view *views; /* in the arena; texts borrow from `in` */
    uint32_t count;
    uint32_t run_count; /* the last so many */
    bool goes_on;
};
MUST_CHECK bool look_answer_decode(struct slice in, struct arena *arena, struct look_answer *out);

#endif
