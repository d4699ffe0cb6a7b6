/* SPDX-License-Identifier: Apache-2.0 */
/* Packed frames. The input is a payload, as it comes or repeated, so that it packs: what was packed
 * unpacks to the same. Then bytes that it names are changed, in the units or in the header with its
 * checksum put right: whatever unpacks is still what was packed, or is refused. At last the input
 * is itself a unit of some length. Nothing is read or written outside. */
#include "broker/log/packer.h"
#include "broker/log/sparse.h"
#include "proto/base/assert.h"
#include "proto/base/bytes.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SEGMENT_ID  77u
#define PAYLOAD_MAX (4 * UNIT_BYTES)

struct packed_frame {
    struct buffer bytes;
    struct buffer payload;
};

/* make_payload: the input, so often as the first byte says. */
static void make_payload(struct cursor *in, struct buffer *out)
{
    uint32_t times = 1u + cursor_u8(in);
    struct slice part = slice_make(in->at, cursor_left(in));
    while (times-- > 0 && part.length > 0 && out->length + part.length <= PAYLOAD_MAX)
        buffer_add_slice(out, part);
}

static bool make_frame(struct packed_frame *f)
{
    uint16_t units[UNITS_MAX];
    struct packer packer = {0};
    struct buffer stored = {0};
    uint32_t length = (uint32_t)f->payload.length;
    struct frame frame = {.index = 9, .term = 1, .type = 1, .length = length, .packed = true};
    bool wanted = packer_wants(&packer, length);
    ASSERT(wanted == (length >= PACKER_PAYLOAD_MIN));
    uint8_t *out = buffer_reserve(&stored, length + 1);
    uint32_t bytes = wanted ? packer_pack(&packer, buffer_slice(&f->payload), units, out) : 0;
    if (bytes > 0) {
        ASSERT(bytes <= length - length / 8);
        frame_head_encode(&frame, SEGMENT_ID, f->payload.data, units,
                          buffer_reserve(&f->bytes, frame_head_size(&frame)));
        buffer_added(&f->bytes, frame_head_size(&frame));
        buffer_add(&f->bytes, out, bytes);
        ASSERT(f->bytes.length <= frame_bytes(length));
    }
    buffer_free(&stored);
    packer_free(&packer);
    return bytes > 0;
}

/* unpack: true: the same came out. */
static bool unpack(struct packed_frame *f)
{
    struct frame frame;
    struct buffer scratch = {0};
    struct slice payload;
    struct slice at = buffer_slice(&f->bytes);
    bool good =
        frame_head_decode(at, SEGMENT_ID, &frame) && frame_payload(at, &frame, &scratch, &payload);
    if (good && !frame.sparse && frame.length == f->payload.length)
        ASSERT(slice_equal(payload, buffer_slice(&f->payload)));
    buffer_free(&scratch);
    return good;
}

static void change(struct packed_frame *f, struct cursor *in)
{
    for (int i = 0; i < 4; i++) {
        size_t at = cursor_u16(in) % f->bytes.length;
        f->bytes.data[at] ^= cursor_u8(in);
        uint32_t head_bytes = frame_peek_bytes(buffer_slice(&f->bytes));
        if (cursor_u8(in) % 2 == 0 && head_bytes > 0 && head_bytes <= f->bytes.length)
            frame_seal_head(f->bytes.data, head_bytes, SEGMENT_ID);
        (void)unpack(f);
    }
}

static void as_a_unit(struct cursor *in)
{
    struct frame frame = {.length = 1u + cursor_u16(in) % UNIT_BYTES, .packed = true};
    uint8_t *out = malloc(frame.length);
    ASSERT(out != NULL);
    (void)!unit_unpack(&frame, 0, slice_make(in->at, cursor_left(in)), out);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cursor in = cursor_of(slice_make(data, size));
    struct packed_frame f = {0};
    make_payload(&in, &f.payload);
    if (make_frame(&f)) {
        bool good = unpack(&f);
        ASSERT(good);
        change(&f, &in);
    }
    in = cursor_of(slice_make(data, size));
    as_a_unit(&in);
    buffer_free(&f.bytes);
    buffer_free(&f.payload);
    return 0;
}
