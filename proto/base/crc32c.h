/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), in hardware where the processor has it. */
#ifndef PROTO_BASE_CRC32C_H
#define PROTO_BASE_CRC32C_H

#include "proto/base/slice.h"

/* crc32c: continue `crc` (0 to begin) over `in`. thread: any. */
uint32_t crc32c(uint32_t crc, struct slice in);

/* crc32c_portable: the same without special instructions; the tests compare the two. */
uint32_t crc32c_portable(uint32_t crc, struct slice in);

#endif
