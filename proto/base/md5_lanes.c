/* SPDX-License-Identifier: Apache-2.0 */
/* MD5 of several texts at once. Each step of MD5 waits for the one before it, so a processor that
 * could do four things at a time does one; with a text in each lane of a vector it does eight. Of
 * one text alone OpenSSL's is the faster one. Where the processor has vectors of eight words two of
 * them take turns, so that the one has something to do while the other waits.
 *
 * The lanes go block by block together, until the longest text has ended. One that has ended before
 * goes on with its last block, which changes nothing: its digest has been taken by then. */
#include "proto/base/assert.h"
#include "proto/base/bytes.h"
#include "proto/base/encode.h"

#define LANES        8
#define GROUPS_MAX   2
#define TEXTS_MAX    (GROUPS_MAX * LANES)
#define BLOCK_BYTES  64
#define BLOCK_WORDS  16
#define LENGTH_BYTES 8
#define LANES_COST   2 /* of a block in all lanes, in blocks of one text by itself */

/* For functions that are compiled for several processors. */
#define INLINE __attribute__((always_inline)) static inline

#if defined(__x86_64__)
#define AVX2      __attribute__((target("avx2")))
#define HAVE_AVX2 (__builtin_cpu_supports("avx2") != 0)
#endif

typedef uint32_t lanes __attribute__((vector_size(LANES * sizeof(uint32_t))));

/* A text, and what MD5 puts behind it: a bit, zeros, its length. */
struct text {
    const uint8_t *data;
    size_t whole;  /* blocks of it that hold nothing else */
    size_t blocks; /* with those of the tail */
    uint8_t tail[2 * BLOCK_BYTES];
};

static size_t blocks_of(struct slice in)
{
    return (in.length + 1 + LENGTH_BYTES + BLOCK_BYTES - 1) / BLOCK_BYTES;
}

static void text_begin(struct text *text, struct slice in)
{
    size_t rest = in.length % BLOCK_BYTES;
    *text =
        (struct text){.data = in.data, .whole = in.length / BLOCK_BYTES, .blocks = blocks_of(in)};
    if (rest > 0)
        memcpy(text->tail, in.data + in.length - rest, rest);
    text->tail[rest] = 0x80;
    size_t end = (text->blocks - text->whole) * BLOCK_BYTES;
    bytes_put_u64(text->tail + end - LENGTH_BYTES, (uint64_t)in.length * 8);
}

static const uint8_t *block_at(const struct text *text, size_t i)
{
    if (i >= text->blocks)
        i = text->blocks - 1;
    return i < text->whole ? text->data + i * BLOCK_BYTES
                           : text->tail + (i - text->whole) * BLOCK_BYTES;
}

/* Word k of what lies at each of `at`, in words[k]. */
INLINE void gather(const uint8_t *const at[LANES], lanes words[BLOCK_WORDS])
{
    for (size_t lane = 0; lane < LANES; lane++) {
        for (size_t k = 0; k < BLOCK_WORDS; k++)
            words[k][lane] = bytes_get_u32(at[lane] + k * sizeof(uint32_t));
    }
}

#define F(x, y, z)    ((z) ^ ((x) & ((y) ^ (z))))
#define G(x, y, z)    ((y) ^ ((z) & ((x) ^ (y))))
#define H(x, y, z)    ((x) ^ (y) ^ (z))
#define I(x, y, z)    ((y) ^ ((x) | ~(z)))
#define ROTATE(x, by) ((x) << (by) | (x) >> (32 - (by)))
#define STEP_OF(function, w, x, y, z, word, by, addend)                                            \
    w += function(x, y, z) + (word) + UINT32_C(addend);                                            \
    w = ROTATE(w, by) + (x);

INLINE void add_block(lanes state[4], const lanes words[BLOCK_WORDS])
{
    lanes a = state[0];
    lanes b = state[1];
    lanes c = state[2];
    lanes d = state[3];
#define STEP(function, w, x, y, z, word, by, addend)                                               \
    STEP_OF(function, w, x, y, z, words[word], by, addend)
#include "proto/base/md5_steps.def"
#undef STEP
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
}

static void take_digest(const lanes state[4], size_t lane, uint8_t out[MD5_BYTES])
{
    for (size_t k = 0; k < 4; k++)
        bytes_put_u32(out + k * sizeof(uint32_t), state[k][lane]);
}

/* What a group of lanes is at. */
struct group {
    lanes state[4];
    lanes words[BLOCK_WORDS];
};

static size_t begin(const struct slice *in, size_t count, struct text *texts, struct group *groups)
{
    static const uint32_t first[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
    size_t longest = 0;
    for (size_t i = 0; i < count; i++) {
        text_begin(&texts[i], in[i]);
        if (texts[i].blocks > longest)
            longest = texts[i].blocks;
    }
    for (size_t i = 0; i < GROUPS_MAX * 4; i++)
        groups[i / 4].state[i % 4] = (lanes){0} + first[i % 4];
    return longest;
}

/* Where the i-th block of each text is; lanes without a text have the first one's. */
static void find_blocks(const struct text *texts, size_t count, size_t i,
                        const uint8_t *at[TEXTS_MAX])
{
    for (size_t lane = 0; lane < TEXTS_MAX; lane++)
        at[lane] = block_at(&texts[lane < count ? lane : 0], i);
}

static void take_digests(const struct text *texts, size_t count, size_t i,
                         const struct group *groups, uint8_t out[][MD5_BYTES])
{
    for (size_t lane = 0; lane < count; lane++) {
        if (texts[lane].blocks == i + 1)
            take_digest(groups[lane / LANES].state, lane % LANES, out[lane]);
    }
}

static void digest_plain(const struct slice *in, size_t count, uint8_t out[][MD5_BYTES])
{
    struct text texts[LANES];
    struct group groups[GROUPS_MAX];
    const uint8_t *at[TEXTS_MAX];
    ASSERT(count > 0 && count <= LANES);
    size_t longest = begin(in, count, texts, groups);
    for (size_t i = 0; i < longest; i++) {
        find_blocks(texts, count, i, at);
        gather(at, groups[0].words);
        add_block(groups[0].state, groups[0].words);
        take_digests(texts, count, i, groups, out);
    }
}

#if defined(AVX2)

/* gather, of eight words: rows to columns by pairs, fours and halves. */
AVX2 INLINE void turn(const uint8_t *const at[LANES], size_t offset, lanes out[LANES])
{
#define LOW(x, y)   __builtin_shufflevector(x, y, 0, 8, 1, 9, 4, 12, 5, 13)
#define HIGH(x, y)  __builtin_shufflevector(x, y, 2, 10, 3, 11, 6, 14, 7, 15)
#define LOW2(x, y)  __builtin_shufflevector(x, y, 0, 1, 8, 9, 4, 5, 12, 13)
#define HIGH2(x, y) __builtin_shufflevector(x, y, 2, 3, 10, 11, 6, 7, 14, 15)
#define LOW4(x, y)  __builtin_shufflevector(x, y, 0, 1, 2, 3, 8, 9, 10, 11)
#define HIGH4(x, y) __builtin_shufflevector(x, y, 4, 5, 6, 7, 12, 13, 14, 15)
    lanes r[LANES];
    for (size_t i = 0; i < LANES; i++)
        memcpy(&r[i], at[i] + offset, sizeof r[i]);
    for (size_t half = 0; half < LANES; half += 4) {
        lanes low01 = LOW(r[half], r[half + 1]);
        lanes high01 = HIGH(r[half], r[half + 1]);
        lanes low23 = LOW(r[half + 2], r[half + 3]);
        lanes high23 = HIGH(r[half + 2], r[half + 3]);
        r[half] = LOW2(low01, low23);
        r[half + 1] = HIGH2(low01, low23);
        r[half + 2] = LOW2(high01, high23);
        r[half + 3] = HIGH2(high01, high23);
    }
    for (size_t i = 0; i < 4; i++) {
        out[i] = LOW4(r[i], r[i + 4]);
        out[i + 4] = HIGH4(r[i], r[i + 4]);
    }
}

AVX2 INLINE void add_two_blocks(struct group groups[2])
{
    const lanes *words = groups[0].words;
    const lanes *words2 = groups[1].words;
    lanes a = groups[0].state[0];
    lanes b = groups[0].state[1];
    lanes c = groups[0].state[2];
    lanes d = groups[0].state[3];
    lanes a2 = groups[1].state[0];
    lanes b2 = groups[1].state[1];
    lanes c2 = groups[1].state[2];
    lanes d2 = groups[1].state[3];
#define STEP(function, w, x, y, z, word, by, addend)                                               \
    STEP_OF(function, w, x, y, z, words[word], by, addend)                                         \
    STEP_OF(function, w##2, x##2, y##2, z##2, words2[word], by, addend)
#include "proto/base/md5_steps.def"
#undef STEP
    groups[0].state[0] += a;
    groups[0].state[1] += b;
    groups[0].state[2] += c;
    groups[0].state[3] += d;
    groups[1].state[0] += a2;
    groups[1].state[1] += b2;
    groups[1].state[2] += c2;
    groups[1].state[3] += d2;
}

AVX2 static void digest_avx2(const struct slice *in, size_t count, uint8_t out[][MD5_BYTES])
{
    struct text texts[TEXTS_MAX];
    struct group groups[GROUPS_MAX];
    const uint8_t *at[TEXTS_MAX];
    ASSERT(count > 0 && count <= TEXTS_MAX);
    size_t longest = begin(in, count, texts, groups);
    for (size_t i = 0; i < longest; i++) {
        find_blocks(texts, count, i, at);
        for (size_t g = 0; g * LANES < count; g++) {
            turn(at + g * LANES, 0, groups[g].words);
            turn(at + g * LANES, LANES * sizeof(uint32_t), groups[g].words + LANES);
        }
        if (count > LANES)
            add_two_blocks(groups);
        else
            add_block(groups[0].state, groups[0].words);
        take_digests(texts, count, i, groups, out);
    }
}

#else
#define HAVE_AVX2   false
#define digest_avx2 digest_plain
#endif

/* Whether the lanes are full enough: of one long text and a short one they are not. */
static bool lanes_pay(const struct slice *in, size_t count)
{
    size_t all = 0;
    size_t longest = 0;
    for (size_t i = 0; i < count; i++) {
        all += blocks_of(in[i]);
        if (blocks_of(in[i]) > longest)
            longest = blocks_of(in[i]);
    }
    return all > LANES_COST * longest;
}

static void each(const struct slice *in, size_t count, uint8_t out[][MD5_BYTES], bool avx2)
{
    size_t together = avx2 ? TEXTS_MAX : LANES;
    for (size_t i = 0; i < count; i += together) {
        size_t some = count - i < together ? count - i : together;
        if (!lanes_pay(in + i, some)) {
            for (size_t k = i; k < i + some; k++)
                digest_md5(in[k], out[k]);
        } else if (avx2) {
            digest_avx2(in + i, some, out + i);
        } else {
            digest_plain(in + i, some, out + i);
        }
    }
}

void digest_md5_each(const struct slice *in, size_t count, uint8_t out[][MD5_BYTES])
{
    each(in, count, out, HAVE_AVX2);
}

void digest_md5_each_portable(const struct slice *in, size_t count, uint8_t out[][MD5_BYTES])
{
    each(in, count, out, false);
}
