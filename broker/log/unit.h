/* SPDX-License-Identifier: Apache-2.0 */
/* Packed frames: the payload stands in the file in units of 16 KiB, each compressed by itself, or
 * as it is where that does not help. Pure functions over memory; the layout is described in unit.c.
 * They accept any bytes safely.
 *
 * I1  The checksums of a frame are of the payload as it was before packing, so that nothing is
 *     trusted to the decompressor: what a reader hands out has been verified behind it.
 * I2  A body is found in a packed frame by index, offset and length, as in any other, and reading
 * it touches the units around it and no others. Holds, and what a rewrite leaves out, are counted
 *     in blocks of the unpacked payload as ever; a unit stands in the file as long as one of its
 *     blocks does.
 * I3  A packed frame is never longer than the same frame would be unpacked: room that was reserved
 *     for one will do.
 * I4  Nodes send each other unpacked blocks (piece.h): packing is no matter of two nodes.
 *
 * thread: any. */
#ifndef BROKER_LOG_UNIT_H
#define BROKER_LOG_UNIT_H

#include "broker/log/frame.h"

#define UNIT_BLOCKS       4u
#define UNIT_BYTES        (UNIT_BLOCKS * FRAME_BLOCK_BYTES)
#define UNITS_MAX         512u
#define UNITS_PAYLOAD_MAX (UNITS_MAX * UNIT_BYTES) /* longer payloads are not packed */

/* unit_count: of a payload. unit_bytes: of one unit, unpacked: only the last is shorter. */
uint32_t unit_count(uint32_t length);
uint32_t unit_bytes(uint32_t length, uint32_t unit);

/* units_are_possible: does the header of a packed frame say sizes that can be? */
MUST_CHECK bool units_are_possible(const uint8_t *head, const struct frame *frame);

/* unit_stored: how long a unit is in the file; 0: it is gone (sparse.h). unit_at: where it begins,
 * from the frame's begin on; for the number of units: where the payload ends. `head` is the decoded
 * header of the packed `frame`. */
uint32_t unit_stored(const uint8_t *head, const struct frame *frame, uint32_t unit);
uint32_t unit_at(const uint8_t *head, const struct frame *frame, uint32_t unit);

/* unit_unpack: `stored` as the file has it, to unit_bytes at `out`; false: it is damaged. What
 * comes out is still to be verified (frame_blocks_match). */
MUST_CHECK bool unit_unpack(const struct frame *frame, uint32_t unit, struct slice stored,
                            uint8_t *out);

/* ---- any frame ---- */

/* frame_payload_end: where the stored payload ends, from the frame's begin on, without padding. */
uint32_t frame_payload_end(const uint8_t *head, const struct frame *frame);

/* frame_payload: verify all that is there of the payload of the decoded frame at the begin of `at`.
 * *out: the payload, in `at` or in `scratch`; empty for a sparse frame. False: it is damaged, or
 * not all there. */
MUST_CHECK bool frame_payload(struct slice at, const struct frame *frame, struct buffer *scratch,
                              struct slice *out);

#endif
