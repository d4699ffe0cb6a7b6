/* SPDX-License-Identifier: Apache-2.0 */
/* SipHash (Aumasson and Bernstein, 2012): a hash under a key, for tables whose keys a client
 * chooses. Who does not know the key cannot choose two inputs that share a hash, which plain
 * multiplicative hashes allow whatever their seed. thread: any. */
#ifndef PROTO_BASE_SIPHASH_H
#define PROTO_BASE_SIPHASH_H

#include "proto/base/slice.h"

struct siphash_key {
    uint64_t words[2];
};

static inline bool siphash_key_equal(struct siphash_key a, struct siphash_key b)
{
    return a.words[0] == b.words[0] && a.words[1] == b.words[1];
}

/* siphash: SipHash-1-3, which is what tables need. siphash_24: the original, stronger and slower
 * one. */
uint64_t siphash(struct siphash_key key, struct slice bytes);
uint64_t siphash_24(struct siphash_key key, struct slice bytes);

#endif
