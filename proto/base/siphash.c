/* SPDX-License-Identifier: Apache-2.0 */
/* Written from the paper: four words of state, `per_word` rounds for each eight bytes of input and
 * `at_end` rounds behind the last. */
#include "proto/base/siphash.h"

#include "proto/base/bytes.h"

struct state {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate(uint64_t word, unsigned bits)
{
    return word << bits | word >> (64 - bits);
}

static inline void mix(struct state *s)
{
    s->v0 += s->v1;
    s->v1 = rotate(s->v1, 13) ^ s->v0;
    s->v0 = rotate(s->v0, 32);
    s->v2 += s->v3;
    s->v3 = rotate(s->v3, 16) ^ s->v2;
    s->v0 += s->v3;
    s->v3 = rotate(s->v3, 21) ^ s->v0;
    s->v2 += s->v1;
    s->v1 = rotate(s->v1, 17) ^ s->v2;
    s->v2 = rotate(s->v2, 32);
}

static inline void take(struct state *s, uint64_t word, unsigned per_word)
{
    s->v3 ^= word;
    for (unsigned i = 0; i < per_word; i++)
        mix(s);
    s->v0 ^= word;
}

/* The bytes behind the last whole word, and the length in the highest byte. */
static inline uint64_t last_word(struct slice bytes)
{
    uint64_t word = (uint64_t)bytes.length << 56;
    size_t rest = bytes.length & 7;
    if (rest > 0 && bytes.length > 8) /* shift out what belongs to the word before */
        return word | bytes_get_u64(bytes.data + bytes.length - 8) >> (8 * (8 - rest));
    for (size_t i = 0; i < rest; i++)
        word |= (uint64_t)bytes.data[i] << (8 * i);
    return word;
}

static inline uint64_t hash(struct siphash_key key, struct slice bytes, unsigned per_word,
                            unsigned at_end)
{
    struct state s = {
        key.words[0] ^ UINT64_C(0x736f6d6570736575),
        key.words[1] ^ UINT64_C(0x646f72616e646f6d),
        key.words[0] ^ UINT64_C(0x6c7967656e657261),
        key.words[1] ^ UINT64_C(0x7465646279746573),
    };
    for (size_t at = 0; at + 8 <= bytes.length; at += 8)
        take(&s, bytes_get_u64(bytes.data + at), per_word);
    take(&s, last_word(bytes), per_word);
    s.v2 ^= 0xff;
    for (unsigned i = 0; i < at_end; i++)
        mix(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

uint64_t siphash(struct siphash_key key, struct slice bytes)
{
    return hash(key, bytes, 1, 3);
}

uint64_t siphash_24(struct siphash_key key, struct slice bytes)
{
    return hash(key, bytes, 2, 4);
}
