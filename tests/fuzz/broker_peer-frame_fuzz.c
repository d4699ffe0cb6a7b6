/* SPDX-License-Identifier: Apache-2.0 */
/* Frames between nodes: the same bytes mean the same frames however they are cut, no payload is
 * above the limit, and no memory is taken for what is. */
#include "broker/peer/frame.h"
#include "proto/base/assert.h"
#include "proto/base/crc32c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LENGTH_MAX 200000u

struct seen {
    size_t frames;
    uint32_t digest;
    enum status end;
};

static struct seen read_all(struct slice in, size_t piece)
{
    struct peer_frame_reader reader = {.length_max = LENGTH_MAX};
    struct seen seen = {.end = STATUS_NOT_FOUND};
    while (in.length > 0 && seen.end == STATUS_NOT_FOUND) {
        size_t room;
        uint8_t *at = peer_frame_reader_where(&reader, &room);
        size_t count = in.length < piece ? in.length : piece;
        count = count < room ? count : room;
        memcpy(at, in.data, count);
        in = slice_sub(in, count);
        peer_frame_reader_came(&reader, count);
        struct peer_frame frame;
        struct slice payload;
        while ((seen.end = peer_frame_reader_next(&reader, &frame, &payload)) == STATUS_OK) {
            ASSERT(frame.length <= LENGTH_MAX);
            ASSERT(payload.length == frame.length);
            seen.frames++;
            seen.digest = crc32c(seen.digest + frame.channel + frame.kind, payload);
        }
        ASSERT(reader.large.capacity <= 2 * (1u << 20));
    }
    peer_frame_reader_free(&reader);
    return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    /* Repeated, so that small inputs also cross the reader's buffer. */
    struct buffer in = {0};
    size_t repeats = data[0] < 8 ? 1u << data[0] : 1;
    for (size_t i = 0; i < repeats && in.length < 4 * LENGTH_MAX; i++)
        buffer_add(&in, data + 1, size - 1);
    struct seen whole = read_all(buffer_slice(&in), SIZE_MAX);
    struct seen cut = read_all(buffer_slice(&in), 1 + data[0] * 37u);
    ASSERT(whole.frames == cut.frames);
    ASSERT(whole.digest == cut.digest);
    ASSERT(whole.end == cut.end);
    buffer_free(&in);
    return 0;
}
