/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a segment.
 *
 * A segment is a header, frames, and, once it is full, a footer. One frame is one Raft entry. All
 * integers are little-endian; docs/format.md shows the same tables with examples.
 *
 *     HEADER (64 bytes)                     FRAME HEADER (40 bytes + table)
 *     0   8  magic "MRSEGMT1"               0   4  magic "MRFR"
 *     8   8  segment id, random             4   4  payload length
 *     16  8  index of the first frame       8   8  index
 *     24  8  last index if rewritten, or 0  16  8  term
 *     32  28 zero
 *     60  4  CRC-32C of bytes 0..59         24  8  synced index
 *                                           32  2  type
 *     TRAILER (40 bytes, last in the file)  34  2  flags: 1 = sparse (sparse.c), 2 = packed
 * (unit.c) 0   4  magic "MRFT"                   36  4  CRC-32C 4   4  count of frames 40  4n
 * CRC-32C of each 4096-byte block of the payload 8   8  index of the first frame       ... to a
 * multiple of 8, then the payload, to a multiple 16  8  where the frames end               of 8 24
 * 4  rows of the table: 0 or 1 28  4  zero 32  4  CRC-32C of table and trailer 36  4  zero Between
 * the frames and the trailer stands the table, padded to 8: for each frame u32 file offset and u32
 * count of blocks (rows 1); in format 1 the offset only (rows 0), since the size of a frame that is
 * not packed tells its blocks.
 *
 * I1  Every checksum of frames and footer starts from the segment id, so what an earlier use of a
 *     recycled file left behind is never valid: a new use has a new id.
 * I2  A body can be verified without reading the frame around it: header and table have one
 *     checksum, and each 4 KiB of the payload its own in the table.
 * I3  "synced index" tells a torn write from damage. One write is under way at a time, so frames
 *     behind a bad one that say that the bad one was synced prove damage (refuse); frames that do
 *     not were part of the same unfinished write, and nobody was told of them (cut).
 *
 * What cannot be told apart: damage to frames of the very last write looks like a torn write. */
#include "broker/log/frame.h"
#include "broker/log/sparse.h"
#include "broker/log/unit.h"

#include "proto/base/assert.h"
#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"

static const char segment_magic[8] = {'M', 'R', 'S', 'E', 'G', 'M', 'T', '1'};
#define FRAME_MAGIC 0x5246524du /* "MRFR" */

static uint32_t align8(uint32_t n)
{
    return (n + 7u) & ~7u;
}

static uint32_t crc_seed(uint64_t segment_id)
{
    uint8_t bytes[8];
    bytes_put_u64(bytes, segment_id);
    return crc32c(0, slice_make(bytes, sizeof bytes));
}

void segment_head_encode(const struct segment_head *head, uint8_t out[SEGMENT_HEAD_BYTES])
{
    memset(out, 0, SEGMENT_HEAD_BYTES);
    memcpy(out, segment_magic, sizeof segment_magic);
    bytes_put_u64(out + 8, head->id);
    bytes_put_u64(out + 16, head->first_index);
    bytes_put_u64(out + 24, head->last_index);
    bytes_put_u32(out + 60, crc32c(0, slice_make(out, 60)));
}

bool segment_head_decode(struct slice in, struct segment_head *out)
{
    if (in.length < SEGMENT_HEAD_BYTES ||
        memcmp(in.data, segment_magic, sizeof segment_magic) != 0 ||
        bytes_get_u32(in.data + 60) != crc32c(0, slice_make(in.data, 60)))
        return false;
    out->id = bytes_get_u64(in.data + 8);
    out->first_index = bytes_get_u64(in.data + 16);
    out->last_index = bytes_get_u64(in.data + 24);
    return out->first_index > 0 && (out->last_index == 0 || out->last_index >= out->first_index);
}

uint32_t frame_block_count(uint32_t length)
{
    return (length + FRAME_BLOCK_BYTES - 1) / FRAME_BLOCK_BYTES;
}

uint32_t frame_head_size(const struct frame *frame)
{
    uint32_t blocks = frame_block_count(frame->length);
    uint32_t units = frame->packed ? 2 * unit_count(frame->length) : 0;
    ASSERT(frame->length <= FRAME_PAYLOAD_MAX);
    return align8(FRAME_HEAD_BYTES + 4 * blocks + units +
                  (frame->sparse ? sparse_map_bytes(blocks) : 0));
}

uint32_t frame_head_bytes(uint32_t length)
{
    const struct frame frame = {.length = length};
    return frame_head_size(&frame);
}

uint32_t frame_bytes(uint32_t length)
{
    return frame_head_bytes(length) + align8(length);
}

/* Frames with n blocks are all shorter than those with n + 1, so the size tells the count. */
uint32_t frame_blocks_in(uint32_t bytes)
{
    uint64_t blocks = 0;
    if (bytes > FRAME_HEAD_BYTES)
        blocks = (bytes - FRAME_HEAD_BYTES) / (FRAME_BLOCK_BYTES + 4);
    while (align8(FRAME_HEAD_BYTES + 4 * (uint32_t)blocks) + blocks * FRAME_BLOCK_BYTES < bytes)
        blocks++;
    return (uint32_t)blocks;
}

static uint32_t frame_head_crc(const uint8_t *head, uint32_t head_bytes, uint64_t segment_id)
{
    uint32_t crc = crc32c(crc_seed(segment_id), slice_make(head, 36));
    return crc32c(crc, slice_make(head + FRAME_HEAD_BYTES, head_bytes - FRAME_HEAD_BYTES));
}

static uint32_t block_length(uint32_t length, uint32_t block)
{
    uint32_t left = length - block * FRAME_BLOCK_BYTES;
    return left < FRAME_BLOCK_BYTES ? left : FRAME_BLOCK_BYTES;
}

void frame_head_encode(const struct frame *frame, uint64_t segment_id, const uint8_t *payload,
                       const uint16_t *units, uint8_t *out)
{
    uint32_t head_bytes = frame_head_size(frame);
    uint32_t blocks = frame_block_count(frame->length);
    ASSERT(frame->packed == (units != NULL) && !frame->sparse);
    memset(out, 0, head_bytes);
    bytes_put_u32(out, FRAME_MAGIC);
    bytes_put_u32(out + 4, frame->length);
    bytes_put_u64(out + 8, frame->index);
    bytes_put_u64(out + 16, frame->term);
    bytes_put_u64(out + 24, frame->synced_index);
    bytes_put_u16(out + 32, frame->type);
    bytes_put_u16(out + 34, frame->packed ? FRAME_FLAG_PACKED : 0);
    for (uint32_t i = 0; i < blocks; i++) {
        struct slice block = {payload + (size_t)i * FRAME_BLOCK_BYTES,
                              block_length(frame->length, i)};
        bytes_put_u32(out + FRAME_HEAD_BYTES + 4 * i, crc32c(0, block));
    }
    for (uint32_t i = 0; frame->packed && i < unit_count(frame->length); i++)
        bytes_put_u16(out + FRAME_HEAD_BYTES + 4 * blocks + 2 * i, units[i]);
    frame_seal_head(out, head_bytes, segment_id);
}

/* peek: the fields that say how long the header is; false: it is none. */
static bool peek(struct slice in, struct frame *out)
{
    if (in.length < FRAME_HEAD_BYTES || bytes_get_u32(in.data) != FRAME_MAGIC)
        return false;
    uint16_t flags = bytes_get_u16(in.data + 34);
    out->length = bytes_get_u32(in.data + 4);
    out->sparse = (flags & FRAME_FLAG_SPARSE) != 0;
    out->packed = (flags & FRAME_FLAG_PACKED) != 0;
    /* Flags of a later version are not understood. */
    return out->length <= FRAME_PAYLOAD_MAX &&
           (flags & ~(FRAME_FLAG_SPARSE | FRAME_FLAG_PACKED)) == 0;
}

uint32_t frame_peek_bytes(struct slice in)
{
    struct frame frame;
    return peek(in, &frame) ? frame_head_size(&frame) : 0;
}

bool frame_head_decode(struct slice in, uint64_t segment_id, struct frame *out)
{
    if (!peek(in, out))
        return false;
    uint32_t head_bytes = frame_head_size(out);
    if (in.length < head_bytes ||
        bytes_get_u32(in.data + 36) != frame_head_crc(in.data, head_bytes, segment_id))
        return false;
    out->index = bytes_get_u64(in.data + 8);
    out->term = bytes_get_u64(in.data + 16);
    out->synced_index = bytes_get_u64(in.data + 24);
    out->type = bytes_get_u16(in.data + 32);
    return !out->packed || units_are_possible(in.data, out);
}

void frame_seal_head(uint8_t *head, uint32_t head_bytes, uint64_t segment_id)
{
    bytes_put_u32(head + 36, frame_head_crc(head, head_bytes, segment_id));
}

bool frame_blocks_match(const uint8_t *head, uint32_t length, uint32_t first, struct slice blocks)
{
    uint32_t count = frame_block_count(length);
    for (uint32_t i = first; blocks.length > 0; i++) {
        if (i >= count || blocks.length < block_length(length, i))
            return false;
        struct slice block = {blocks.data, block_length(length, i)};
        if (crc32c(0, block) != bytes_get_u32(head + FRAME_HEAD_BYTES + 4 * i))
            return false;
        blocks = slice_sub(blocks, block.length);
    }
    return true;
}

/* ---- footer ---- */

uint32_t footer_crc(const struct segment_head *head, struct slice table, const uint8_t *trailer)
{
    return crc32c(crc32c(crc_seed(head->id), table), slice_make(trailer, 32));
}

void footer_trailer_encode(uint8_t *trailer, const struct segment_head *head, struct slice table,
                           const struct segment_trailer *what)
{
    bytes_put_u32(trailer, FOOTER_MAGIC);
    bytes_put_u32(trailer + 4, what->count);
    bytes_put_u64(trailer + 8, head->first_index);
    bytes_put_u64(trailer + 16, what->end);
    bytes_put_u32(trailer + 24, what->rows);
    bytes_put_u32(trailer + 32, footer_crc(head, table, trailer));
}

static uint32_t row_bytes(uint32_t rows)
{
    return rows == FOOTER_ROWS_PLACES ? 8 : 4;
}

void segment_footer_encode(struct buffer *out, const struct segment_head *head,
                           const struct frame_place *places, uint32_t count, uint32_t end)
{
    const struct segment_trailer trailer = {count, end, FOOTER_ROWS_PLACES};
    uint32_t table_bytes = 8 * count;
    uint8_t *table = buffer_reserve(out, table_bytes + SEGMENT_TRAILER_BYTES);
    memset(table, 0, table_bytes + SEGMENT_TRAILER_BYTES);
    for (uint32_t i = 0; i < count; i++) {
        bytes_put_u32(table + 8 * (size_t)i, places[i].offset);
        bytes_put_u32(table + 8 * (size_t)i + 4, places[i].blocks);
    }
    footer_trailer_encode(table + table_bytes, head, slice_make(table, table_bytes), &trailer);
    buffer_added(out, table_bytes + SEGMENT_TRAILER_BYTES);
}

bool segment_trailer_decode(struct slice in, uint64_t file_bytes, struct segment_trailer *out)
{
    if (in.length != SEGMENT_TRAILER_BYTES || bytes_get_u32(in.data) != FOOTER_MAGIC)
        return false;
    uint64_t frames = bytes_get_u32(in.data + 4);
    uint64_t frames_end = bytes_get_u64(in.data + 16);
    uint32_t rows = bytes_get_u32(in.data + 24);
    if (frames == 0 || frames_end > UINT32_MAX || frames_end < SEGMENT_HEAD_BYTES ||
        frames > (frames_end - SEGMENT_HEAD_BYTES) / FRAME_HEAD_BYTES || rows > FOOTER_ROWS_PLACES)
        return false;
    if (frames_end + align8((uint32_t)(row_bytes(rows) * frames)) + SEGMENT_TRAILER_BYTES !=
        file_bytes)
        return false;
    *out = (struct segment_trailer){(uint32_t)frames, (uint32_t)frames_end, rows};
    return true;
}

/* count_blocks: of a table with offsets only; the frames are not packed then. */
static void count_blocks(struct frame_place *places, uint32_t count, uint32_t end)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t next = i + 1 < count ? places[i + 1].offset : end;
        places[i].blocks = frame_blocks_in(next - places[i].offset);
    }
}

/* places_are_possible: the frames follow each other, and have room for their checksums. */
static bool places_are_possible(const struct frame_place *places, uint32_t count, uint32_t end)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t next = i + 1 < count ? places[i + 1].offset : end;
        uint64_t least = FRAME_HEAD_BYTES + UINT64_C(4) * places[i].blocks;
        if (places[i].blocks > FRAME_PAYLOAD_MAX / FRAME_BLOCK_BYTES ||
            places[i].offset + least > next)
            return false;
    }
    return places[0].offset == SEGMENT_HEAD_BYTES;
}

bool segment_footer_decode(struct slice in, const struct segment_head *head,
                           const struct segment_trailer *what, struct frame_place *places)
{
    uint32_t width = row_bytes(what->rows);
    uint32_t table_bytes = align8(width * what->count);
    if (in.length != (size_t)table_bytes + SEGMENT_TRAILER_BYTES)
        return false;
    const uint8_t *trailer = in.data + table_bytes;
    if (bytes_get_u64(trailer + 8) != head->first_index ||
        bytes_get_u32(trailer + 32) != footer_crc(head, slice_make(in.data, table_bytes), trailer))
        return false;
    for (uint32_t i = 0; i < what->count; i++) {
        const uint8_t *row = in.data + width * (size_t)i;
        places[i].offset = bytes_get_u32(row);
        places[i].blocks = what->rows == FOOTER_ROWS_PLACES ? bytes_get_u32(row + 4) : 0;
    }
    if (!places_are_possible(places, what->count, what->end))
        return false;
    if (what->rows == FOOTER_ROWS_OFFSETS)
        count_blocks(places, what->count, what->end);
    return true;
}

/* ---- finding the end of an unsealed segment ---- */

static bool whole_frame_at(struct slice file, uint32_t at, uint64_t segment_id, uint64_t index,
                           struct frame *out, struct buffer *scratch)
{
    struct slice rest = slice_sub(file, at);
    struct slice payload;
    return frame_head_decode(rest, segment_id, out) && out->index == index && !out->sparse &&
           frame_payload(rest, out, scratch, &payload);
}

/* proves_damage: some header behind `at` says that frame `index` had been synced (I3). */
static bool proves_damage(struct slice file, uint32_t at, uint64_t segment_id, uint64_t index)
{
    struct frame later;
    for (size_t offset = (size_t)at + 8; offset + FRAME_HEAD_BYTES <= file.length; offset += 8) {
        struct slice rest = slice_sub(file, offset);
        if (bytes_get_u32(rest.data) == FRAME_MAGIC &&
            frame_head_decode(rest, segment_id, &later) && later.synced_index >= index)
            return true;
    }
    return false;
}

/* is_blank: only zeros, which is what preallocation leaves. */
static bool is_blank(struct slice rest)
{
    return rest.length == 0 ||
           (rest.data[0] == 0 && memcmp(rest.data, rest.data + 1, rest.length - 1) == 0);
}

enum status segment_scan(struct slice file, const struct segment_head *head, struct buffer *places,
                         uint32_t *end, bool *torn)
{
    uint32_t at = SEGMENT_HEAD_BYTES;
    uint64_t index = head->first_index;
    struct frame frame;
    struct buffer scratch = {0};
    while (at < file.length && file.length <= UINT32_MAX &&
           whole_frame_at(file, at, head->id, index, &frame, &scratch)) {
        struct frame_place place = {at, frame_block_count(frame.length)};
        buffer_add(places, &place, sizeof place);
        uint64_t next = (uint64_t)at + align8(frame_payload_end(file.data + at, &frame));
        at = (uint32_t)(next <= file.length ? next : file.length);
        index++;
    }
    buffer_free(&scratch);
    *end = at;
    *torn = at < file.length && !is_blank(slice_sub(file, at));
    if (file.length > UINT32_MAX || (*torn && proves_damage(file, at, head->id, index)))
        return STATUS_CORRUPT;
    return STATUS_OK;
}
