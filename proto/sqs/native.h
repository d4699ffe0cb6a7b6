/* SPDX-License-Identifier: Apache-2.0 */
/* The native protocol: the SQS API in binary, for calls that are many and must be cheap. The same
 * actions, shapes, rules and errors as over HTTP; only the bytes differ. A connection to the RPC
 * port greets with ClientHello, is answered ClientWelcome (where it names an access key that has to
 * be proven, after ClientChallenge and ClientProof, see proto/sigv4/proof.h), and then carries
 * (proto/rpc/link.h):
 *
 *     frame CALL                               frame ANSWER
 *     OFFSET SIZE MEANING                      OFFSET SIZE MEANING
 *     0      4    id, the caller's choice      0      4    id of the call
 *     4      2    action                       4      1    0 done, 1 refused
 *     6      2    zero                         5      3    node to ask for this queue
 *     8      ...  its input                    8      ...  its result, or a call_error
 *
 * Answers come in any order; many calls may be under way. All integers are little-endian. The node
 * is the id of the one that leads the queue's shard, as far as is known; 0: not known, or not about
 * one queue, or an id of more than three bytes. Any broker takes any call: it only is the shortest
 * way. Brokers before it was added wrote zeros there, and clients before it read none of it.
 *
 * A struct is its members that are given, each: u8 tag (1 + its row in the shape), u32 length,
 * value. TEXT, KEY          UTF-8                  BLOB        bytes, not base64 NUMBER 4 bytes,
 * signed        LONG        8 bytes, signed        BOOL   1 byte TEXTS              u32 count;
 * each: u32 length, bytes MAP, TAGS          u32 count; each: u32 length, key, u32 length, value
 *     STRUCTS, _MAP      u32 count; each: u32 length, struct (the KEY is a member like others)
 * Actions and tags are positions in sqs_actions.def and sqs_shapes.def: rows are only ever
 * appended. A tag that the receiver does not know is skipped, so that versions can be mixed.
 * MD5s of bodies are left out (frames have checksums), unless the message came over HTTP.
 * thread: any. */
#ifndef PROTO_SQS_NATIVE_H
#define PROTO_SQS_NATIVE_H

#include "proto/base/buffer.h"
#include "proto/base/status.h"
#include "proto/sqs/errors.h"

#define NATIVE_PROTOCOL       1
#define NATIVE_HEADER_BYTES   8
#define NATIVE_CALL_BYTES_MAX (8u << 20)
#define NATIVE_VALUES_MAX     20000 /* list elements in one call or answer */

struct native_header {
    uint32_t id;
    uint16_t action; /* of a CALL */
    bool refused;    /* of an ANSWER */
    uint32_t ask_node;
};

void native_call_header(struct buffer *out, uint32_t id, enum sqs_action action);
void native_answer_header(struct buffer *out, uint32_t id, bool refused, uint64_t ask_node);

/* native_header_read: the header of either; `body` is the rest. False: too short. */
MUST_CHECK bool native_header_read(struct slice payload, struct native_header *header,
                                   struct slice *body);

/* native_write: append `object`, a struct of `shape`. */
void native_write(struct buffer *out, enum sqs_shape shape, const void *object);

/* native_read: fill `out`, a zeroed struct of `shape`. Texts borrow from `in`, lists are in the
 * arena. False for anything malformed, texts that are not UTF-8, or too many values; `out` is then
 * half filled and to be dropped. */
MUST_CHECK bool native_read(struct slice in, enum sqs_shape shape, struct arena *arena, void *out);

/* native_write_error: append the call_error that tells of `error`. */
void native_write_error(struct buffer *out, const struct sqs_error *error);

#endif
