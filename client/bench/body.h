/* SPDX-License-Identifier: Apache-2.0 */
/* Message bodies that can be checked: each carries its number, the time it was due, and a checksum
 * over all of it. Plain ASCII without quotes or backslashes, so that JSON leaves it as it is.
 *
 *     OFFSET SIZE  MEANING, in lower-case hex
 *     0      8     CRC-32C of the rest
 *     8      16    number of the message in its run
 *     24     16    clock_monotonic_ns when it was due to be sent
 *     40     8     the run: bodies of another are not ours
 *     48     ...   letters, chosen by the number
 * thread: any. */
#ifndef CLIENT_BENCH_BODY_H
#define CLIENT_BENCH_BODY_H

#include "proto/base/slice.h"

#define BODY_BYTES_MIN 48
#define BODY_BYTES_MAX 1048576

struct body_facts {
    uint64_t number;
    uint64_t due_ns;
    uint32_t run;
};

/* body_write: fill `bytes` (BODY_BYTES_MIN..BODY_BYTES_MAX) bytes at `out`. */
void body_write(uint8_t *out, size_t bytes, const struct body_facts *facts);

/* body_read: false if it is no body of ours or was changed. */
bool body_read(struct slice body, struct body_facts *out);

#endif
