/* SPDX-License-Identifier: Apache-2.0 */
/* Frames: the layout is in link.h. The checksum guards against broken middle boxes and broken
 * programs, not against attackers. Everything but the payload itself is checked here; what the
 * payload means is the business of whoever unpacks it. */
#include "proto/rpc/link.h"

#include "proto/base/assert.h"
#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"

#define FRAME_VERSION 1

enum status frame_decode(struct slice in, uint16_t *type, struct slice *payload, size_t *used)
{
    if (in.length < FRAME_HEADER_BYTES)
        return STATUS_NOT_FOUND;
    struct cursor c = cursor_of(in);
    uint32_t length = cursor_u32(&c);
    uint16_t frame_type = cursor_u16(&c);
    uint8_t version = cursor_u8(&c);
    uint8_t zero = cursor_u8(&c);
    uint32_t checksum = cursor_u32(&c);
    if (version != FRAME_VERSION || zero != 0)
        return STATUS_INVALID;
    if (length > FRAME_BYTES_MAX)
        return STATUS_TOO_LARGE;
    if (cursor_left(&c) < length)
        return STATUS_NOT_FOUND;
    struct slice body = cursor_take(&c, length);
    if (crc32c(0, body) != checksum)
        return STATUS_INVALID;
    *type = frame_type;
    *payload = body;
    *used = FRAME_HEADER_BYTES + length;
    return STATUS_OK;
}

void frame_seal(uint8_t *header, uint16_t type, struct slice payload)
{
    ASSERT(payload.length <= FRAME_BYTES_MAX);
    bytes_put_u32(header, (uint32_t)payload.length);
    bytes_put_u16(header + 4, type);
    header[6] = FRAME_VERSION;
    header[7] = 0;
    bytes_put_u32(header + 8, crc32c(0, payload));
}

void frame_encode(struct buffer *out, uint16_t type, const ProtobufCMessage *message)
{
    size_t length = protobuf_c_message_get_packed_size(message);
    ASSERT(length <= FRAME_BYTES_MAX);
    uint8_t *header = buffer_reserve(out, FRAME_HEADER_BYTES + length);
    uint8_t *body = header + FRAME_HEADER_BYTES;
    size_t packed = protobuf_c_message_pack(message, body);
    ASSERT(packed == length);
    frame_seal(header, type, slice_make(body, length));
    buffer_added(out, FRAME_HEADER_BYTES + length);
}
