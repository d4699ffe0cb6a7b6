/* SPDX-License-Identifier: Apache-2.0 */
/* Rewritten segments: frames of which some blocks are gone, and a footer that says which frames are
 * left. Pure functions over memory; the layout is described in sparse.c. Decoders accept any bytes
 * safely. thread: any. */
#ifndef BROKER_LOG_SPARSE_H
#define BROKER_LOG_SPARSE_H

#include "broker/log/frame.h"

/* sparse_map_bytes: of the bitmap over a payload's blocks; bit b % 8 of byte b / 8 stands for block
 * b. sparse_head_bytes: the header of a sparse frame that is not packed: with the table, the
 * bitmap, and padding. */
uint32_t sparse_map_bytes(uint32_t blocks);
uint32_t sparse_head_bytes(uint32_t length);

static inline bool sparse_bit(const uint8_t *map, uint32_t block)
{
    return (map[block / 8] >> block % 8 & 1) != 0;
}

/* sparse_head_encode: write the header at `head` anew for a frame with only the blocks in `map`.
 *   as   the frame as it shall be: sparse; and packed only if the one at `head` is
 *   out  frame_head_size(as) bytes */
void sparse_head_encode(const uint8_t *head, const struct frame *as, uint64_t segment_id,
                        const uint8_t *map, uint8_t *out);

/* frame_block_there: is the block stored? frame_block_at: where, from the frame's begin on; for
 * the number of blocks: where the payload ends; not of a packed frame (unit.h). `head` is the
 * decoded header of `frame`. */
bool frame_block_there(const uint8_t *head, const struct frame *frame, uint32_t block);
uint32_t frame_block_at(const uint8_t *head, const struct frame *frame, uint32_t block);

/* One frame of a rewritten segment. */
struct kept_frame {
    uint32_t number;    /* its index less the segment's first */
    uint32_t offset;    /* in the file */
    uint32_t length;    /* of the whole payload */
    const uint8_t *map; /* of the blocks that are left */
};

/* sparse_footer_add: append one row of the table. sparse_footer_finish: pad `footer`, which holds
 * the table and nothing else, and append the trailer. */
void sparse_footer_add(struct buffer *footer, const struct kept_frame *frame);
void sparse_footer_finish(struct buffer *footer, const struct segment_head *head, uint32_t count,
                          uint32_t end);

/* sparse_trailer_decode: as segment_trailer_decode. sparse_footer_decode: `in` is the file from
 * `end` on; frames: caller's array of `count`; their maps borrow from `in`. */
MUST_CHECK bool sparse_trailer_decode(struct slice in, uint64_t file_bytes,
                                      struct segment_trailer *out);
MUST_CHECK bool sparse_footer_decode(struct slice in, const struct segment_head *head,
                                     uint32_t count, uint32_t end, struct kept_frame *frames);

#endif
