/* SPDX-License-Identifier: Apache-2.0 */
/* What the replicas of a shard say to each other, as structs and as bytes. docs/replication.md says
 * why.
 *
 * Every message is one header and `count` items, all integers little-endian:
 *     OFFSET SIZE  MEANING
 *     0      1     type
 *     1      1     version, 1
 *     2      2     flags
 *     4      4     count of items
 *     8      8     term: of the sender
 *     16     32    four numbers: see the table of types
 *     48     ...   items, then what the type adds
 * A receiver ignores types that it does not know and drops what does not decode.
 * thread: any; nothing here calls back. */
#ifndef BROKER_REPLICATION_WIRE_H
#define BROKER_REPLICATION_WIRE_H

#include "broker/core/types.h"
#include "proto/base/buffer.h"
#include "proto/base/bytes.h"
#include "proto/base/status.h"

#define WIRE_HEADER_BYTES 48u
#define WIRE_ENTRY_BYTES  20u

enum wire_type {
    /* Raft's own; numbers: a, b, c, d */
    WIRE_APPEND = 1, /* prev index, prev term, commit index, leader's time; items: entries;
                        flags: WIRE_TELLS */
    WIRE_APPENDED,   /* rejected index or 0, last index; flags: WIRE_DISK_LOW */
    WIRE_VOTE,       /* candidate, last index, last term; flags: WIRE_PRE_VOTE, WIRE_DISRUPT */
    WIRE_VOTED,      /* term of the clock, term, wall clock, cluster time or 0; flags: WIRE_GRANTED,
                        WIRE_PRE_VOTE */
    WIRE_OFFER,      /* a snapshot: last index, last term, members' index; one item: members */
    WIRE_TIMEOUT_NOW, /* last index, last term */
    /* ours */
    WIRE_CALLS,       /* boot; items: calls. The term: only in this one may they be proposed */
    WIRE_WAITS,       /* boot; items: receives that wait */
    WIRE_CANCELS,     /* boot; items: sequence numbers of receives that nobody waits for any more */
    WIRE_REFUSED,     /* boot; items: verdicts. Calls that are not proposed, and never will be */
    WIRE_WAITS_ENDED, /* boot; items: verdicts. Receives that ended without a message */
    WIRE_SYNC,        /* number */
    WIRE_SYNCED,      /* number, commit index */
    /* catching up; each answer repeats the request's number; flags: an enum status */
    WIRE_FETCH,        /* number, snapshot index, offset, length */
    WIRE_PIECE,        /* number, offset, size of the file; then bytes of it */
    WIRE_FETCH_BODIES, /* number, from, limit, snapshot index; items: u64 index, u32 offset, u32
                          length */
    WIRE_BODIES,       /* number, covered, next from, 0 or what releases those that are gone comes
                          no later than this index; then what log_export_bodies made */
    /* is it still the leader? */
    WIRE_CONFIRM,   /* number of the round. The term: the leader's */
    WIRE_CONFIRMED, /* that number. The term: the same, the receiver is in it */
    WIRE_TYPE_COUNT
};

#define WIRE_PRE_VOTE 1u
#define WIRE_DISRUPT  2u
#define WIRE_GRANTED  4u
#define WIRE_DISK_LOW 8u
#define WIRE_TELLS    16u /* only tells of a commit: an answer is due if it is rejected */

struct wire {
    enum wire_type type;
    uint16_t flags;
    uint32_t count;
    uint64_t term;
    uint64_t a, b, c, d;
    struct slice items; /* decoded: borrowed; not looked at by wire_encode */
};

/* wire_encode: append the header; the items follow, as many as `count` says. */
void wire_encode(struct buffer *out, const struct wire *head);
/* wire_set_count: of a message that begins at `at` in `out`. */
void wire_set_count(struct buffer *out, size_t at, uint32_t count);
/* wire_decode: INVALID: malformed, UNSUPPORTED: of a later version, or unknown. */
MUST_CHECK enum status wire_decode(struct slice message, struct wire *out);

/* An entry of WIRE_APPEND: all heads come first, then all payloads. */
struct wire_entry {
    uint64_t term;
    uint32_t length;
    uint32_t crc32c; /* of the payload: memory and networks do flip bits */
    uint16_t type;
};
void wire_entry_encode(struct buffer *out, const struct wire_entry *entry);
/* wire_entries_check: the heads are whole, and the payloads behind them add up to the rest and
 * match their checksums. */
MUST_CHECK bool wire_entries_check(const struct wire *head);
void wire_entry_decode(struct cursor *in, struct wire_entry *out);

/* An item of WIRE_CALLS: flags: WIRE_CALL_GROWS. Of WIRE_WAITS: wait_ms, and one RECEIVE. */
#define WIRE_CALL_GROWS 1u
struct wire_call {
    uint64_t seq;
    uint32_t count; /* of commands; of WIRE_WAITS: milliseconds to wait */
    uint32_t flags;
    struct slice commands;
};
void wire_call_encode(struct buffer *out, const struct wire_call *call);
MUST_CHECK bool wire_call_decode(struct cursor *in, struct wire_call *out);

/* An item of WIRE_REFUSED and WIRE_WAITS_ENDED. */
struct wire_verdict {
    uint64_t seq;
    uint32_t status; /* enum status; an unknown one is read as CLOSED */
    uint32_t code;   /* enum core_code, of WIRE_WAITS_ENDED with OK */
};
void wire_verdict_encode(struct buffer *out, const struct wire_verdict *verdict);
MUST_CHECK bool wire_verdict_decode(struct cursor *in, struct wire_verdict *out);

#endif
