/* SPDX-License-Identifier: Apache-2.0 */
/* The messages on PEER_CHANNEL_AWAY. One header, integers little-endian, then what is asked or
 * answered:
 *     OFFSET SIZE  MEANING
 *     0      1     version, 1. What has another is read as far as `number`, whose place is fixed
 *     1      1     type: 1 ASK, 2 CANCEL, 3 ANSWER
 *     2      1     ASK: kind (enum away_kind). ANSWER: enum status. CANCEL: 0
 *     3      1     zero
 *     4      4     ASK: shard; else zero
 *     8      8     number: the asking process's, new for each time that it asks
 *     16     4     ASK: milliseconds that are left; else zero
 *     20     4     zero
 *     24     ...   ASK: the request. ANSWER with OK: the answer
 * Times are durations: clocks of two nodes differ. thread: any. */
#ifndef BROKER_AWAY_WIRE_H
#define BROKER_AWAY_WIRE_H

#include "proto/base/slice.h"
#include "proto/base/status.h"

#define AWAY_HEAD_BYTES 24u

enum away_message_type { AWAY_ASK = 1, AWAY_CANCEL = 2, AWAY_ANSWER = 3 };

struct away_message {
    enum away_message_type type;
    uint8_t kind;       /* ASK; 0: of another version, or one that nobody knows */
    enum status status; /* ANSWER; what is unknown is read as CLOSED */
    uint32_t shard;
    uint64_t number;
    uint32_t rest_ms;
    struct slice body; /* decoded: borrowed; not looked at by away_encode */
};

/* away_encode: the head, of AWAY_HEAD_BYTES. */
void away_encode(uint8_t *out, const struct away_message *message);

/* away_decode: INVALID: malformed. An ASK that this program cannot read decodes with kind 0, so
 * that it can be answered. */
MUST_CHECK enum status away_decode(struct slice message, struct away_message *out);

#endif
