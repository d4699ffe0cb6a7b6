/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of entries on their way to another node: sparse frames (sparse.h) that follow each other,
 * sealed with segment id 0, since the receiver has segments of its own. An entry may come in
 * several frames that follow each other, each with blocks behind those of the one before. Pure
 * functions over memory; the decoder accepts any bytes safely. thread: any. */
#ifndef BROKER_LOG_PIECE_H
#define BROKER_LOG_PIECE_H

#include "broker/log/sparse.h"

struct piece_frame {
    struct frame frame;
    const uint8_t *head; /* of frame_head_bytes: fields, table, map; borrowed */
    const uint8_t *map;
    struct slice blocks; /* those in `map`, without padding; verified */
    uint32_t first;      /* block of `map`; the count of blocks when there is none */
    uint32_t last;
};

/* piece_add_head: append the header of `from` (`head`: decoded, of any segment) with the blocks of
 * `map`. The caller appends these, then calls piece_pad. */
void piece_add_head(struct buffer *out, const uint8_t *head, const struct frame *from,
                    const uint8_t *map);
void piece_pad(struct buffer *out);

/* piece_next: take a frame off the begin of *in; false when it is not whole or not right. */
MUST_CHECK bool piece_next(struct slice *in, struct piece_frame *out);

#endif
