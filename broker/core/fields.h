/* SPDX-License-Identifier: Apache-2.0 */
/* Fields: how a struct becomes bytes, by a table. Commands, snapshots and the digest share it, so
 * that a format is a table to read and not code to follow. Private to broker/core. thread: any. */
#ifndef BROKER_CORE_FIELDS_H
#define BROKER_CORE_FIELDS_H

#include "proto/base/buffer.h"
#include "proto/base/bytes.h"

enum field_kind {
    FIELD_BOOL,    /* bool: one byte, 0 or 1 */
    FIELD_U32,     /* uint32_t */
    FIELD_U64,     /* uint64_t */
    FIELD_BYTES16, /* uint8_t[16] */
    FIELD_BYTES32, /* uint8_t[32] */
    FIELD_SLICE    /* struct slice: u32 length, bytes */
};

struct field {
    enum field_kind kind;
    bool or_default; /* CORE_DEFAULT is legal besides min..max */
    size_t offset;   /* of the member in its struct */
    uint64_t min;    /* of the value, or of the length of a slice */
    uint64_t max;
};

#define FIELD(kind, type, member)                                                                  \
    {                                                                                              \
        FIELD_##kind, false, offsetof(type, member), 0, UINT64_MAX                                 \
    }
#define FIELD_IN(kind, type, member, min, max)                                                     \
    {                                                                                              \
        FIELD_##kind, false, offsetof(type, member), min, max                                      \
    }
#define FIELD_OR_DEFAULT(kind, type, member, min, max)                                             \
    {                                                                                              \
        FIELD_##kind, true, offsetof(type, member), min, max                                       \
    }

/* FIELDS_SETTINGS: the fields of a struct queue_settings that is member `member` of `type`. */
#define FIELDS_SETTINGS(type, member)                                                              \
    FIELD_IN(U32, type, member.delay_s, 0, DELAY_S_MAX),                                           \
        FIELD_IN(U32, type, member.message_bytes_max, 1024, 1048576),                              \
        FIELD_IN(U32, type, member.retention_s, RETENTION_S_MIN, RETENTION_S_MAX),                 \
        FIELD_IN(U32, type, member.receive_wait_s, 0, 20),                                         \
        FIELD_IN(U32, type, member.visibility_s, 0, VISIBILITY_S_MAX),                             \
        FIELD(U32, type, member.receive_count_max), FIELD(BOOL, type, member.fifo),                \
        FIELD(BOOL, type, member.content_based_dedup), FIELD(BOOL, type, member.dedup_per_group),  \
        FIELD(BOOL, type, member.throughput_per_group), FIELD(SLICE, type, member.dead_letter),    \
        FIELD(SLICE, type, member.extras)

/* FIELDS_USAGE: the fields of a struct usage that is member `member` of `type`. */
#define FIELDS_USAGE(type, member)                                                                 \
    FIELD(U64, type, member.invocations), FIELD(U64, type, member.errors),                         \
        FIELD(U64, type, member.timeouts), FIELD(U64, type, member.throttles),                     \
        FIELD(U64, type, member.cold_starts), FIELD(U64, type, member.duration_us),                \
        FIELD(U64, type, member.billed_ms), FIELD(U64, type, member.billed_mb_ms)

/* fields_encode: append `object`'s fields in table order. A value out of its range is a programmer
 * error: bytes that cannot be read back must not reach a log. */
void fields_encode(struct buffer *out, const struct field *fields, size_t count,
                   const void *object);

/* fields_decode: read them into `object`; slices borrow from the cursor's bytes. A short input or a
 * value out of its range sets in->bad. */
void fields_decode(struct cursor *in, const struct field *fields, size_t count, void *object);

#endif
