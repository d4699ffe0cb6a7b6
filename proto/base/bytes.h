/* SPDX-License-Identifier: Apache-2.0 */
/* Fixed-width little-endian integers in memory, and a cursor that reads untrusted bytes. */
#ifndef PROTO_BASE_BYTES_H
#define PROTO_BASE_BYTES_H

#include "proto/base/slice.h"

#include <endian.h>

static inline void bytes_put_u16(uint8_t *at, uint16_t value)
{
    value = htole16(value);
    memcpy(at, &value, sizeof value);
}
static inline void bytes_put_u32(uint8_t *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof value);
}
static inline void bytes_put_u64(uint8_t *at, uint64_t value)
{
    value = htole64(value);
    memcpy(at, &value, sizeof value);
}
static inline uint16_t bytes_get_u16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return le16toh(value);
}
static inline uint32_t bytes_get_u32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return le32toh(value);
}
static inline uint64_t bytes_get_u64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return le64toh(value);
}

/* A cursor over untrusted bytes. A read past the end sets `bad`, returns zeros, and moves no
 * further; check `bad` once at the end instead of after every field. */
struct cursor {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
};

static inline struct cursor cursor_of(struct slice s)
{
    return (struct cursor){s.data, s.length > 0 ? s.data + s.length : s.data, false};
}

static inline size_t cursor_left(const struct cursor *c)
{
    return (size_t)(c->end - c->at);
}

/* cursor_take: the next `length` bytes, borrowed; an absent slice and `bad` if there are fewer. */
static inline struct slice cursor_take(struct cursor *c, size_t length)
{
    if (c->bad || cursor_left(c) < length) {
        c->bad = true;
        return (struct slice){NULL, 0};
    }
    struct slice taken = {c->at, length};
    c->at = length > 0 ? c->at + length : c->at;
    return taken;
}

static inline uint8_t cursor_u8(struct cursor *c)
{
    struct slice s = cursor_take(c, 1);
    return s.data != NULL ? s.data[0] : 0;
}
static inline uint16_t cursor_u16(struct cursor *c)
{
    struct slice s = cursor_take(c, 2);
    return s.data != NULL ? bytes_get_u16(s.data) : 0;
}
static inline uint32_t cursor_u32(struct cursor *c)
{
    struct slice s = cursor_take(c, 4);
    return s.data != NULL ? bytes_get_u32(s.data) : 0;
}
static inline uint64_t cursor_u64(struct cursor *c)
{
    struct slice s = cursor_take(c, 8);
    return s.data != NULL ? bytes_get_u64(s.data) : 0;
}

/* cursor_bytes: a u32 length and that many bytes, borrowed. */
static inline struct slice cursor_bytes(struct cursor *c)
{
    uint32_t length = cursor_u32(c);
    return cursor_take(c, length);
}

#endif
