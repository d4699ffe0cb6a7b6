/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base/buffer.h"

#include "proto/base/assert.h"
#include "proto/base/blocks.h"
#include "proto/base/bytes.h"

#include <stdio.h>
#include <stdlib.h>

#define CAPACITY_MIN  64
#define PRINTED_BYTES 128u /* mostly; more takes a second try */

/* begin: the first memory of a buffer that begins with so much. */
static void begin(struct buffer *b, size_t needed)
{
    if (needed <= BLOCK_BYTES_MIN / 2 || needed > BLOCK_BYTES_MAX)
        return;
    b->capacity = needed <= BLOCK_BYTES_MIN ? BLOCK_BYTES_MIN : BLOCK_BYTES_MAX;
    b->data = block_take(b->capacity);
}

uint8_t *buffer_reserve(struct buffer *b, size_t extra)
{
    size_t needed;
    ASSERT(!__builtin_add_overflow(b->length, extra, &needed));
    if (b->data == NULL)
        begin(b, needed);
    if (needed > b->capacity) {
        size_t capacity = b->capacity < CAPACITY_MIN ? CAPACITY_MIN : b->capacity;
        while (capacity < needed)
            capacity += capacity / 2;
        b->data = realloc(b->data, capacity);
        ASSERT(b->data != NULL);
        b->capacity = capacity;
    }
    return b->data != NULL ? b->data + b->length : NULL; /* NULL + 0 is undefined */
}

void buffer_add_decimal(struct buffer *b, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    buffer_add(b, digits + at, sizeof digits - at);
}

void buffer_printf(struct buffer *b, const char *format, ...)
{
    va_list args;
    va_list again;
    size_t room = PRINTED_BYTES;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf((char *)buffer_reserve(b, room), room, format, args);
    va_end(args);
    ASSERT(length >= 0);
    if ((size_t)length >= room) {
        room = (size_t)length + 1;
        vsnprintf((char *)buffer_reserve(b, room), room, format, again);
    }
    va_end(again);
    b->length += (size_t)length;
}

void buffer_add_u16(struct buffer *b, uint16_t value)
{
    bytes_put_u16(buffer_room(b, 2), value);
    b->length += 2;
}

void buffer_add_u32(struct buffer *b, uint32_t value)
{
    bytes_put_u32(buffer_room(b, 4), value);
    b->length += 4;
}

void buffer_add_u64(struct buffer *b, uint64_t value)
{
    bytes_put_u64(buffer_room(b, 8), value);
    b->length += 8;
}

void buffer_free(struct buffer *b)
{
    if (block_is(b->capacity))
        block_give(b->data, b->capacity);
    else
        free(b->data);
    *b = (struct buffer){0};
}

const char *buffer_c_string(struct buffer *b)
{
    *buffer_reserve(b, 1) = 0;
    return (const char *)b->data;
}
