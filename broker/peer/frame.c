/* SPDX-License-Identifier: Apache-2.0 */
/* Frames: the layout and the reader's idea are in frame.h.
 *
 * Invariants of the reader:
 * I1  start <= end <= PEER_FRAME_SMALL_BYTES; when `where` is called there is room.
 * I2  in_large: small is empty, and large.length <= frame.length.
 * I3  no memory for a payload before its length was judged against length_max. */
#include "broker/peer/frame.h"

#include "proto/base/assert.h"
#include "proto/base/bytes.h"

#include <stdlib.h>

#define LARGE_KEPT_BYTES (1u << 20) /* memory that is kept for the next large frame */

void peer_frame_encode(uint8_t out[PEER_FRAME_HEADER_BYTES], const struct peer_frame *frame)
{
    bytes_put_u32(out, frame->length);
    bytes_put_u16(out + 4, frame->channel);
    out[6] = frame->kind;
    out[7] = 0;
}

uint8_t *peer_frame_reader_where(struct peer_frame_reader *reader, size_t *room)
{
    if (reader->in_large) {
        *room = reader->frame.length - reader->large.length;
        ASSERT(*room > 0);
        return reader->large.data + reader->large.length;
    }
    if (reader->small == NULL) {
        reader->small = malloc(PEER_FRAME_SMALL_BYTES);
        ASSERT(reader->small != NULL);
    }
    *room = PEER_FRAME_SMALL_BYTES - reader->end;
    ASSERT(*room > 0); /* I1 */
    return reader->small + reader->end;
}

void peer_frame_reader_came(struct peer_frame_reader *reader, size_t count)
{
    if (reader->in_large) {
        ASSERT(count <= reader->frame.length - reader->large.length);
        buffer_added(&reader->large, count);
    } else {
        ASSERT(count <= PEER_FRAME_SMALL_BYTES - reader->end);
        reader->end += count;
    }
}

/* The large frame was handed out: forget it. */
static void large_over(struct peer_frame_reader *reader)
{
    reader->in_large = reader->large_given = false;
    if (reader->large.capacity > LARGE_KEPT_BYTES)
        buffer_free(&reader->large);
    else
        buffer_clear(&reader->large);
}

static void large_begin(struct peer_frame_reader *reader)
{
    ASSERT(reader->large.length == 0);
    const uint8_t *rest = reader->small + reader->start + PEER_FRAME_HEADER_BYTES;
    size_t here = reader->end - reader->start - PEER_FRAME_HEADER_BYTES;
    ASSERT(here < reader->frame.length);
    memcpy(buffer_reserve(&reader->large, reader->frame.length), rest, here);
    buffer_added(&reader->large, here);
    reader->start = reader->end = 0;
    reader->in_large = true;
}

static void small_compact(struct peer_frame_reader *reader)
{
    if (reader->start == 0)
        return;
    memmove(reader->small, reader->small + reader->start, reader->end - reader->start);
    reader->end -= reader->start;
    reader->start = 0;
}

static enum status header_read(const struct peer_frame_reader *reader, struct peer_frame *frame)
{
    const uint8_t *at = reader->small + reader->start;
    *frame = (struct peer_frame){
        .length = bytes_get_u32(at), .channel = bytes_get_u16(at + 4), .kind = at[6]};
    if (frame->kind > PEER_FRAME_HEARTBEAT || at[7] != 0 ||
        (frame->kind != PEER_FRAME_MESSAGE && frame->channel != 0))
        return STATUS_INVALID;
    return frame->length > reader->length_max ? STATUS_TOO_LARGE : STATUS_OK;
}

static enum status large_next(struct peer_frame_reader *reader, struct peer_frame *frame,
                              struct slice *payload)
{
    if (reader->large.length < reader->frame.length)
        return STATUS_NOT_FOUND;
    reader->large_given = true;
    *frame = reader->frame;
    *payload = buffer_slice(&reader->large);
    return STATUS_OK;
}

static enum status small_next(struct peer_frame_reader *reader, struct peer_frame *frame,
                              struct slice *payload)
{
    size_t here = reader->end - reader->start;
    if (here < PEER_FRAME_HEADER_BYTES)
        return STATUS_NOT_FOUND;
    enum status status = header_read(reader, &reader->frame);
    if (status != STATUS_OK)
        return status; /* I3 */
    size_t whole = PEER_FRAME_HEADER_BYTES + (size_t)reader->frame.length;
    if (whole > here) {
        if (whole > PEER_FRAME_SMALL_BYTES)
            large_begin(reader);
        return STATUS_NOT_FOUND;
    }
    *frame = reader->frame;
    *payload =
        slice_make(reader->small + reader->start + PEER_FRAME_HEADER_BYTES, reader->frame.length);
    reader->start += whole;
    return STATUS_OK;
}

enum status peer_frame_reader_next(struct peer_frame_reader *reader, struct peer_frame *frame,
                                   struct slice *payload)
{
    if (reader->large_given)
        large_over(reader);
    if (reader->in_large)
        return large_next(reader, frame, payload);
    enum status status = small_next(reader, frame, payload);
    if (status == STATUS_NOT_FOUND)
        small_compact(reader);
    return status;
}

void peer_frame_reader_free(struct peer_frame_reader *reader)
{
    free(reader->small);
    buffer_free(&reader->large);
    *reader = (struct peer_frame_reader){0};
}
