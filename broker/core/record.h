/* SPDX-License-Identifier: Apache-2.0 */
/* The record of a message: the bytes that a SEND command stores, opaque to the state machine and
 * read back when the message is received. Written once and never changed, also not by a redrive.
 *
 *     OFFSET SIZE  MEANING
 *     0      1     format version, 2
 *     1      1     flags: 1 = has attributes, 2 = the MD5 of the body was left out
 *     2      2     zero
 *     4      16    message id (UUID)
 *     20     16    MD5 of the body (zero if it was left out)
 *     36     16    MD5 of all attributes (zero without any)
 *     52     4     length of sender id; then 4 length of trace header; 4 group id; 4 dedup id;
 *                  4 attributes; 4 body
 *     76     ...   sender id, trace header, group id, dedup id, attributes, body, in that order
 * Attributes: u16 count; each: u16 name length, name, u16 type length, type (with its suffix, as in
 * "Number.int"), u8 kind (1 string, 2 binary), u32 value length, value. Sorted by name.
 * thread: any. */
#ifndef BROKER_CORE_RECORD_H
#define BROKER_CORE_RECORD_H

#include "broker/core/types.h"
#include "proto/base/buffer.h"
#include "proto/base/bytes.h"
#include "proto/base/encode.h"
#include "proto/base/status.h"

#define RECORD_ATTRIBUTES_MAX 10
#define RECORD_ID_BYTES_MAX   128 /* of a group or dedup id */

enum record_kind { RECORD_STRING = 1, RECORD_BINARY = 2 };

struct record_attribute {
    struct slice name;
    struct slice type; /* "String", "Number", "Binary", perhaps with ".suffix" */
    enum record_kind kind;
    struct slice value; /* text for String and Number, raw bytes for Binary */
};

struct record {
    uint8_t message_id[UUID_BYTES];
    uint8_t md5_body[MD5_BYTES]; /* read it with record_body_md5 */
    uint8_t md5_attributes[MD5_BYTES];
    bool no_md5; /* of the body: who sent it does not want to know, and it costs as much as the rest
                  */
    bool md5_known; /* to whoever encodes it: md5_body is that of the body already */
    struct slice sender_id;
    struct slice trace_header;
    struct slice group_id; /* MessageGroupId; empty = none */
    struct slice dedup_id; /* MessageDeduplicationId, given or made of the content; empty = none */
    struct slice body;
    struct record_attribute attributes[RECORD_ATTRIBUTES_MAX];
    uint32_t attribute_count;
};

struct record_ids {
    uint8_t message_id[UUID_BYTES];
    struct slice group_id;
    struct slice dedup_id;
};

/* record_bytes: how long record_encode makes it. */
size_t record_bytes(const struct record *record);

/* record_encode: append the bytes. Sorts record->attributes by name, and fills in both MD5s, but
 * for the body's if no_md5 or md5_known. */
void record_encode(struct buffer *out, struct record *record);

/* record_decode: slices borrow from `in`. INVALID for anything malformed. */
MUST_CHECK enum status record_decode(struct slice in, struct record *out);

/* record_body_md5: the stored one, or made now if it was left out. */
void record_body_md5(const struct record *record, uint8_t out[MD5_BYTES]);

/* record_read_ids: only what the state machine acts on: the message, group and dedup ids. False,
 * and all of them empty, for what is no record. Slices borrow from `in`. */
bool record_read_ids(struct slice in, struct record_ids *out);

/* record_attributes_md5: over `count` attributes sorted by name, by SQS's algorithm
 * ("Calculating the MD5 message digest for message attributes" in the SQS developer guide). */
void record_attributes_md5(const struct record_attribute *attributes, uint32_t count,
                           uint8_t out[MD5_BYTES]);

#endif
