/* SPDX-License-Identifier: Apache-2.0 */
/* What a connection still has to send. One write is in flight at a time; what is sent meanwhile, or
 * within one turn of the loop, goes out together as the next one. Messages are never copied: a
 * write is a list of parts, our headers between the caller's memory. Our own frames (greetings,
 * heartbeats) are few and small, are copied, and go first.
 *
 * Invariants:
 * I1  unsent_bytes = the payloads of `writing` and of first..last.
 * I2  unsent_bytes <= PEER_UNSENT_BYTES_MAX, unless it is one message alone.
 * I3  `done` runs exactly once for each message that peer_outgoing_add took. */
#include "broker/peer/internal.h"

#include "proto/base/assert.h"

#include <stdlib.h>

#define BATCH_BYTES_MAX (1u << 20)
#define BATCH_SENDS_MAX 256u
#define KEPT_BYTES      65536u

void peer_outgoing_init(struct peer_outgoing *out)
{
    *out = (struct peer_outgoing){0};
    out->last = &out->first;
}

void peer_outgoing_control(struct peer_outgoing *out, uint8_t kind, struct slice payload)
{
    uint8_t header[PEER_FRAME_HEADER_BYTES];
    peer_frame_encode(header,
                      &(struct peer_frame){.length = (uint32_t)payload.length, .kind = kind});
    buffer_add(&out->control, header, sizeof header);
    buffer_add_slice(&out->control, payload);
}

static size_t send_bytes(const struct peer_send *send)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < send->part_count; i++)
        bytes += send->parts[i].iov_len;
    return bytes;
}

bool peer_outgoing_add(struct peer_outgoing *out, uint16_t channel, struct peer_send *send)
{
    size_t bytes = send_bytes(send);
    ASSERT(bytes <= PEER_MESSAGE_BYTES_MAX);
    if (out->unsent_bytes > 0 && out->unsent_bytes + bytes > PEER_UNSENT_BYTES_MAX) /* I2 */
        return false;
    out->unsent_bytes += bytes;
    send->channel = channel;
    send->bytes = (uint32_t)bytes;
    send->next = NULL;
    *out->last = send;
    out->last = &send->next;
    return true;
}

bool peer_outgoing_pending(const struct peer_outgoing *out)
{
    return out->first != NULL || out->control.length > 0;
}

static void part_add(struct peer_outgoing *out, size_t *count, struct iovec part)
{
    if (*count == out->part_capacity) {
        out->part_capacity = *count == 0 ? 64 : 2 * *count;
        out->parts = realloc(out->parts, out->part_capacity * sizeof *out->parts);
        ASSERT(out->parts != NULL);
    }
    out->parts[(*count)++] = part;
}

/* Move the messages of the next write from the queue to `writing`; their headers do not move in
 * memory any more. */
static void batch_take(struct peer_outgoing *out)
{
    struct peer_send **end = &out->first;
    size_t sends = 0;
    out->writing_bytes = 0;
    while (*end != NULL && sends < BATCH_SENDS_MAX && out->writing_bytes < BATCH_BYTES_MAX) {
        struct peer_send *send = *end;
        struct peer_frame frame = {
            .length = send->bytes, .channel = send->channel, .kind = PEER_FRAME_MESSAGE};
        peer_frame_encode(buffer_reserve(&out->headers, PEER_FRAME_HEADER_BYTES), &frame);
        buffer_added(&out->headers, PEER_FRAME_HEADER_BYTES);
        out->writing_bytes += send->bytes;
        sends++;
        end = &send->next;
    }
    out->writing = sends > 0 ? out->first : NULL;
    struct peer_send *rest = *end;
    if (sends > 0)
        *end = NULL;
    out->first = rest;
    if (rest == NULL)
        out->last = &out->first;
}

size_t peer_outgoing_batch(struct peer_outgoing *out)
{
    ASSERT(!out->in_flight);
    ASSERT(out->writing == NULL);
    size_t count = 0;
    struct buffer empty = out->control_writing;
    out->control_writing = out->control;
    out->control = empty;
    if (out->control_writing.length > 0)
        part_add(out, &count,
                 (struct iovec){out->control_writing.data, out->control_writing.length});
    batch_take(out);
    size_t at = 0;
    for (struct peer_send *send = out->writing; send != NULL; send = send->next) {
        part_add(out, &count, (struct iovec){out->headers.data + at, PEER_FRAME_HEADER_BYTES});
        at += PEER_FRAME_HEADER_BYTES;
        for (uint32_t i = 0; i < send->part_count; i++)
            if (send->parts[i].iov_len > 0)
                part_add(out, &count, send->parts[i]);
    }
    out->in_flight = count > 0;
    return count;
}

static void all_done(struct peer_send *send, enum status status)
{
    while (send != NULL) {
        struct peer_send *next = send->next;
        send->done(send, status); /* the memory is the caller's again */
        send = next;
    }
}

void peer_outgoing_written(struct peer_outgoing *out, enum status status)
{
    struct peer_send *sends = out->writing;
    ASSERT(out->in_flight);
    out->in_flight = false;
    out->writing = NULL;
    out->unsent_bytes -= out->writing_bytes;
    out->writing_bytes = 0;
    buffer_clear(&out->headers);
    if (out->control_writing.capacity > KEPT_BYTES)
        buffer_free(&out->control_writing);
    buffer_clear(&out->control_writing);
    all_done(sends, status);
}

void peer_outgoing_fail(struct peer_outgoing *out, enum status why)
{
    struct peer_send *sends = out->first;
    out->first = NULL;
    out->last = &out->first;
    out->unsent_bytes = out->writing_bytes;
    all_done(sends, why);
}

void peer_outgoing_free(struct peer_outgoing *out)
{
    ASSERT(out->first == NULL);
    ASSERT(out->writing == NULL);
    buffer_free(&out->control);
    buffer_free(&out->control_writing);
    buffer_free(&out->headers);
    free(out->parts);
    *out = (struct peer_outgoing){0};
}
