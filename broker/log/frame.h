/* SPDX-License-Identifier: Apache-2.0 */
/* Segment headers, frames and footers as bytes. Pure functions over memory; the layout is described
 * in frame.c. Decoders accept any bytes safely. thread: any. */
#ifndef BROKER_LOG_FRAME_H
#define BROKER_LOG_FRAME_H

#include "proto/base/buffer.h"
#include "proto/base/slice.h"
#include "proto/base/status.h"

#define SEGMENT_HEAD_BYTES    64u
#define SEGMENT_TRAILER_BYTES 40u
#define FRAME_HEAD_BYTES      40u
#define FRAME_BLOCK_BYTES     4096u
#define FRAME_PAYLOAD_MAX     (1u << 30)
#define FRAME_FLAG_SPARSE     1u
#define FRAME_FLAG_PACKED     2u
#define FOOTER_MAGIC          0x5446524du /* "MRFT" */

struct segment_head {
    uint64_t id; /* random; mixed into every checksum of this use of the file */
    uint64_t first_index;
    uint64_t last_index; /* of a rewritten segment (sparse.h): where it ends; else 0 */
};

struct frame {
    uint64_t index;
    uint64_t term;
    uint64_t synced_index; /* everything up to here was on disk before this frame was written */
    uint32_t length;       /* of the payload, unpacked */
    uint16_t type;
    bool sparse; /* some blocks of the payload are gone (sparse.h) */
    bool packed; /* the payload is stored in compressed units (unit.h) */
};

/* Where a frame stands in its segment, and how many blocks its payload has. */
struct frame_place {
    uint32_t offset;
    uint32_t blocks;
};

void segment_head_encode(const struct segment_head *head, uint8_t out[SEGMENT_HEAD_BYTES]);
MUST_CHECK bool segment_head_decode(struct slice in, struct segment_head *out);

/* frame_block_count: how many checksummed blocks a payload has. frame_head_size: the header of such
 * a frame with its tables, padded. frame_head_bytes, frame_bytes: the header, and the whole frame,
 * of one that is neither packed nor sparse. length <= FRAME_PAYLOAD_MAX. */
uint32_t frame_block_count(uint32_t length);
uint32_t frame_head_size(const struct frame *frame);
uint32_t frame_head_bytes(uint32_t length);
uint32_t frame_bytes(uint32_t length);

/* frame_blocks_in: how many blocks the payload of a whole, unpacked frame of `bytes` has. */
uint32_t frame_blocks_in(uint32_t bytes);

/* frame_head_encode: write frame_head_size(frame) bytes; reads the whole payload, as it was before
 * packing. units: of a packed frame, the stored bytes of each unit; else NULL. Not for sparse ones.
 */
void frame_head_encode(const struct frame *frame, uint64_t segment_id, const uint8_t *payload,
                       const uint16_t *units, uint8_t *out);

/* frame_peek_bytes: how long the header at `in` claims to be, 0 if it is no header at all. Needs
 * the first FRAME_HEAD_BYTES; nothing is verified. */
uint32_t frame_peek_bytes(struct slice in);

/* frame_seal_head: put the checksum into a header of `head_bytes` that is complete otherwise. */
void frame_seal_head(uint8_t *head, uint32_t head_bytes, uint64_t segment_id);

/* frame_head_decode: `in` starts at a frame; false unless a whole header with a matching checksum
 * is there. */
MUST_CHECK bool frame_head_decode(struct slice in, uint64_t segment_id, struct frame *out);

/* frame_blocks_match: verify `blocks` (whole blocks, the last one as short as the payload ends)
 * that begin at block `first`. `head` is a decoded header of a payload of `length` bytes. */
MUST_CHECK bool frame_blocks_match(const uint8_t *head, uint32_t length, uint32_t first,
                                   struct slice blocks);

/* What a trailer says of the file before it. */
struct segment_trailer {
    uint32_t count; /* of frames */
    uint32_t end;   /* of the frames: where the table begins */
    uint32_t rows;  /* of an ordinary segment: FOOTER_ROWS_... */
};
#define FOOTER_ROWS_OFFSETS 0u /* format 1: offsets only; no frame is packed */
#define FOOTER_ROWS_PLACES  1u

/* footer_crc: of a table and the first 32 bytes of a trailer. */
uint32_t footer_crc(const struct segment_head *head, struct slice table, const uint8_t *trailer);

/* footer_trailer_encode: fill in a trailer of zeros behind `table`. */
void footer_trailer_encode(uint8_t *trailer, const struct segment_head *head, struct slice table,
                           const struct segment_trailer *what);

/* segment_footer_encode: append the frame table and the trailer. */
void segment_footer_encode(struct buffer *out, const struct segment_head *head,
                           const struct frame_place *places, uint32_t count, uint32_t end);

/* segment_trailer_decode: from the last SEGMENT_TRAILER_BYTES of a file of `file_bytes`; false when
 * this is no trailer (then the segment is not sealed). Nothing but the sizes is verified. */
MUST_CHECK bool segment_trailer_decode(struct slice in, uint64_t file_bytes,
                                       struct segment_trailer *out);

/* segment_footer_decode: `in` is the file from the end of the frames on. False when it does not
 * match its checksum or holds impossible places. places: caller's array of `count`. */
MUST_CHECK bool segment_footer_decode(struct slice in, const struct segment_head *head,
                                      const struct segment_trailer *trailer,
                                      struct frame_place *places);

/* segment_scan: find the frames of an unsealed segment in its bytes (the whole file).
 *   places   appended as struct frame_place; *end is where the next frame goes
 *   *torn    bytes that are not a whole frame were found behind the end: they must be cut
 *   errors   CORRUPT: *end is the offset of a frame that was on disk once and is damaged */
MUST_CHECK enum status segment_scan(struct slice file, const struct segment_head *head,
                                    struct buffer *places, uint32_t *end, bool *torn);

#endif
