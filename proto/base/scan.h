/* SPDX-License-Identifier: Apache-2.0 */
/* How many bytes at the front of a text need no closer look. Most of what clients send is such
 * bytes (a body, the lines of a head), and looking at each of them by itself costs more than
 * storing them; so they are passed over by thirty-two, with the compiler's vectors. thread: any. */
#ifndef PROTO_BASE_SCAN_H
#define PROTO_BASE_SCAN_H

#include "proto/base/slice.h"

typedef uint8_t scan_bytes __attribute__((vector_size(16)));
typedef int8_t scan_signed __attribute__((vector_size(16)));
typedef uint64_t scan_words __attribute__((vector_size(16)));

/* What needs no look: bytes from `low` to `high` but for three. Constants, so that the compiler
 * makes a loop of its own for each use; who has fewer exceptions gives one twice. */
struct scan_plain {
    uint8_t low;
    uint8_t high;
    uint8_t but[3];
};

static inline bool scan_byte_plain(struct scan_plain plain, uint8_t c)
{
    return c >= plain.low && c <= plain.high && c != plain.but[0] && c != plain.but[1] &&
           c != plain.but[2];
}

static inline scan_bytes scan_marks(struct scan_plain plain, const uint8_t *at)
{
    scan_bytes in;
    memcpy(&in, at, sizeof in);
    scan_bytes marks = (scan_bytes)(in == plain.but[0]) | (scan_bytes)(in == plain.but[1]) |
                       (scan_bytes)(in == plain.but[2]);
    if (plain.high == INT8_MAX) /* those above are below it, with a sign: one look at both ends */
        return marks | (scan_bytes)((scan_signed)in < (int8_t)plain.low);
    if (plain.low > 0)
        marks |= (scan_bytes)(in < plain.low);
    if (plain.high < UINT8_MAX)
        marks |= (scan_bytes)(in > plain.high);
    return marks;
}

/* scan_run: the length of the run of plain bytes that `in` begins with. */
__attribute__((always_inline)) static inline size_t scan_run(struct scan_plain plain,
                                                             struct slice in)
{
    const uint8_t *at = in.data;
    size_t length = in.length;
    size_t i = 0;
    for (; length - i >= 2 * sizeof(scan_bytes); i += 2 * sizeof(scan_bytes)) {
        scan_words marks = (scan_words)(scan_marks(plain, at + i) |
                                        scan_marks(plain, at + i + sizeof(scan_bytes)));
        if ((marks[0] | marks[1]) != 0)
            break;
    }
    for (; length - i >= sizeof(scan_bytes); i += sizeof(scan_bytes)) {
        scan_words marks = (scan_words)scan_marks(plain, at + i);
        if ((marks[0] | marks[1]) != 0)
            break;
    }
    while (i < length && scan_byte_plain(plain, at[i]))
        i++;
    return i;
}

#endif
