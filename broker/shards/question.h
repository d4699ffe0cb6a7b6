/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of a shard that is on another node, and the answers, as bytes: the kinds of
 * broker/away that this folder serves. Integers are little-endian, `bytes` is a u32 length and that
 * many bytes, and nothing may follow.
 *
 *     CALL      u32 count, u32 flags (1: grows), the commands
 *               u32 outcome, u32 count, results
 *     RECEIVE   u32 wait (ms), the command
 *               u32 outcome, u32 zero, u64 core time, one result, bytes: the records
 *     GLANCE    u32 hold (ms), u32 count; each: u64 mark, bytes name
 *               u32 count; each: u32 which, u32 flags (1: there, 2: FIFO), u64 mark, u64 queue id,
 *               u64 visible, u64 oldest sent (ms), u64 ever sent, u32 visibility (s)
 *     HELD      u64 queue id, u32 count; each: u64 seq, u32 receive count
 *               u32 1: one of the leases holds its message; 0: none does
 *     TALLIES   nothing
 *               u32 count; each: u64 function id, the counters of struct usage
 *
 *     result    u32 code, u32 flags (1: duplicate), u64 queue id, u64 version, u64 seq, u64 moved,
 *               16 message id, u32 count of messages; each: u64 entry, u32 offset, u32 length,
 *               u64 seq, u64 sent, u64 first received, u64 visible at (ms), u32 receive count,
 *               u32 received before, u64 source queue id
 *
 * Commands are as in an entry (broker/core/command.h). Decoding accepts any bytes safely; slices
 * borrow from them. Those of a call are for the shard to judge. thread: any. */
#ifndef BROKER_SHARDS_QUESTION_H
#define BROKER_SHARDS_QUESTION_H

#include "broker/core/core.h"
#include "proto/base/arena.h"

#define QUESTION_RESULTS_MAX  65536u /* in one call */
#define QUESTION_MESSAGES_MAX 10000u /* as of command_receive */
#define QUESTION_QUEUES_MAX   10000u
#define QUESTION_TALLIES_MAX  100000u
#define QUESTION_WAIT_MS_MAX  60000u

/* The statuses with which a shard refuses or ends something, on the wire: those that broker/away
 * does not carry itself. */
enum outcome {
    OUTCOME_OK,
    OUTCOME_DISK_FULL,
    OUTCOME_INVALID,
    OUTCOME_TOO_LARGE,
    OUTCOME_UNSUPPORTED,
    OUTCOME_CORRUPT,
    OUTCOME_IO_ERROR,
    OUTCOME_CANCELLED,
    OUTCOME_COUNT
};

/* outcome_of: false: it has none, and is away_answer's. */
bool outcome_of(enum status status, enum outcome *out);
enum status outcome_status(enum outcome outcome);

struct call_question {
    uint32_t count;
    bool grows;
    struct slice commands;
};
void call_question_encode(struct buffer *out, const struct call_question *question);
MUST_CHECK bool call_question_decode(struct slice in, struct call_question *out);

/* Results and their messages are in the arena. */
struct call_answer {
    enum outcome outcome;
    struct core_result *results;
    uint32_t count;
};
void call_answer_encode(struct buffer *out, enum outcome outcome, const struct core_result *results,
                        uint32_t count);
MUST_CHECK bool call_answer_decode(struct slice in, struct arena *arena, struct call_answer *out);

struct receive_question {
    struct command_receive command;
    uint32_t wait_ms;
};
void receive_question_encode(struct buffer *out, const struct receive_question *question);
MUST_CHECK bool receive_question_decode(struct slice in, struct receive_question *out);

/* The records are those of the result's messages, one after the other; none unless it is OK. */
struct receive_answer {
    enum outcome outcome;
    uint64_t now_ms;
    struct core_result result;
    struct slice records;
};
void receive_answer_encode(struct buffer *out, const struct receive_answer *answer);
MUST_CHECK bool receive_answer_decode(struct slice in, struct arena *arena,
                                      struct receive_answer *out);

/* How a queue is, in short. `mark` is another one once anything has happened to the queue; 0: not
 * known. */
struct glance {
    bool there;
    bool fifo;
    uint32_t visibility_s;
    uint64_t mark;
    uint64_t queue_id;
    uint64_t visible;
    uint64_t oldest_sent_ms;
    uint64_t sent_total;
};
/* glance_of: of a view, or of nothing (NULL). */
struct glance glance_of(const struct queue_view *view);

/* One queue that is asked about. What still has this mark is not told again. */
struct glance_item {
    uint64_t mark;
    struct slice name;
};

/* glance_question_begin, _add: build one; the count is kept in the bytes. */
void glance_question_begin(struct buffer *out, uint32_t hold_ms);
void glance_question_add(struct buffer *out, const struct glance_item *item);

struct glance_question {
    uint32_t hold_ms; /* for so long the answer may wait for something to tell */
    uint32_t count;
    struct glance_item *items; /* in the arena */
};
MUST_CHECK bool glance_question_decode(struct slice in, struct arena *arena,
                                       struct glance_question *out);

void glance_answer_begin(struct buffer *out);
void glance_answer_add(struct buffer *out, uint32_t which, const struct glance *glance);

/* News of one queue: `which` of those that were asked about. */
struct glance_news {
    uint32_t which;
    struct glance glance;
};
MUST_CHECK bool glance_answer_decode(struct slice in, uint32_t asked, struct arena *arena,
                                     struct glance_news **news, uint32_t *count);

/* The leases are in the arena. */
struct held_question {
    uint64_t queue_id;
    const struct core_lease *leases;
    uint32_t count;
};
void held_question_encode(struct buffer *out, const struct held_question *question);
MUST_CHECK bool held_question_decode(struct slice in, struct arena *arena,
                                     struct held_question *out);
void held_answer_encode(struct buffer *out, bool held);
MUST_CHECK bool held_answer_decode(struct slice in, bool *held);

/* tallies_encode: all that the core has, but for what is over the bound. tallies_decode: in rising
 * order of the id; `*items` is the caller's to free. */
void tallies_encode(struct buffer *out, const struct core *core);
MUST_CHECK bool tallies_decode(struct slice in, struct tally **items, uint32_t *count);

#endif
