/* SPDX-License-Identifier: Apache-2.0 */
/* Frames and the messages in them: what decodes, encodes again, and the messages unpack or do not,
 * without harm. The fuzzer cannot guess checksums, so the payload is also tried bare. */
#include "proto/base/assert.h"
#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"
#include "proto/rpc/link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ProtobufCMessageDescriptor *const messages[] = {
    &millrace__hello__descriptor,      &millrace__welcome__descriptor,
    &millrace__refused__descriptor,    &millrace__capacity__descriptor,
    &millrace__assign__descriptor,     &millrace__result__descriptor,
    &millrace__heartbeat__descriptor,  &millrace__code_request__descriptor,
    &millrace__code_piece__descriptor, &millrace__cancel__descriptor,
    &millrace__drain__descriptor,      &millrace__running__descriptor,
};

static void unpack(uint16_t type, struct slice payload)
{
    const ProtobufCMessageDescriptor *descriptor = messages[type % ARRAY_COUNT(messages)];
    ProtobufCMessage *message =
        protobuf_c_message_unpack(descriptor, NULL, payload.length, payload.data);
    if (message == NULL)
        return;
    struct buffer out = {0};
    frame_encode(&out, type, message);
    uint16_t type_again;
    struct slice payload_again;
    size_t used;
    ASSERT(frame_decode(buffer_slice(&out), &type_again, &payload_again, &used) == STATUS_OK);
    ASSERT(type_again == type);
    ASSERT(used == out.length);
    buffer_free(&out);
    protobuf_c_message_free_unpacked(message, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint16_t type;
    struct slice payload;
    size_t used;
    struct slice rest = slice_make(data, size);
    while (frame_decode(rest, &type, &payload, &used) == STATUS_OK) {
        ASSERT(used == FRAME_HEADER_BYTES + payload.length);
        ASSERT(crc32c(0, payload) == bytes_get_u32(rest.data + 8));
        unpack(type, payload);
        rest = slice_sub(rest, used);
    }
    if (size >= 2)
        unpack(bytes_get_u16(data), slice_make(data + 2, size - 2));
    return 0;
}
