/* SPDX-License-Identifier: Apache-2.0 */
/* A growable run of owned bytes. Zero-initialise to begin; buffer_free to end. Memory exhaustion
 * aborts: every buffer is bounded by its caller against the limits of the protocol, so running out
 * means that the process as a whole is misconfigured. */
#ifndef PROTO_BASE_BUFFER_H
#define PROTO_BASE_BUFFER_H

#include "proto/base/slice.h"

#include <stdarg.h>

struct buffer {
    uint8_t *data;
    size_t length;
    size_t capacity;
};

/* buffer_reserve: room for `extra` more bytes; returns where they go. Follow with buffer_added. */
uint8_t *buffer_reserve(struct buffer *b, size_t extra);

static inline void buffer_added(struct buffer *b, size_t count)
{
    b->length += count;
}

/* buffer_room: the same, mostly without a call. */
static inline uint8_t *buffer_room(struct buffer *b, size_t extra)
{
    return extra <= b->capacity - b->length && b->data != NULL ? b->data + b->length
                                                               : buffer_reserve(b, extra);
}

/* buffer_add...: append bytes; the sources are copied. */
static inline void buffer_add(struct buffer *b, const void *data, size_t length)
{
    if (length == 0)
        return;
    memcpy(buffer_room(b, length), data, length);
    b->length += length;
}

static inline void buffer_add_slice(struct buffer *b, struct slice s)
{
    buffer_add(b, s.data, s.length);
}

static inline void buffer_add_text(struct buffer *b, const char *text)
{
    buffer_add(b, text, strlen(text));
}

static inline void buffer_add_byte(struct buffer *b, uint8_t byte)
{
    *buffer_room(b, 1) = byte;
    b->length++;
}

void buffer_add_decimal(struct buffer *b, uint64_t value);
void buffer_printf(struct buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Little-endian integers, the byte order of everything that Millrace stores or frames itself. */
void buffer_add_u16(struct buffer *b, uint16_t value);
void buffer_add_u32(struct buffer *b, uint32_t value);
void buffer_add_u64(struct buffer *b, uint64_t value);

/* buffer_add_bytes: a u32 length and the bytes, as cursor_bytes reads them. */
static inline void buffer_add_bytes(struct buffer *b, struct slice bytes)
{
    buffer_add_u32(b, (uint32_t)bytes.length);
    buffer_add_slice(b, bytes);
}

/* buffer_slice: a borrowed view, valid until the buffer is next changed. */
static inline struct slice buffer_slice(const struct buffer *b)
{
    return (struct slice){b->data, b->length};
}

/* buffer_clear: forget the bytes, keep the memory. buffer_free: release it and zero the struct. */
static inline void buffer_clear(struct buffer *b)
{
    b->length = 0;
}
void buffer_free(struct buffer *b);

/* buffer_c_string: append a NUL that is not counted in length, and return the text (borrowed). */
const char *buffer_c_string(struct buffer *b);

#endif
