/* SPDX-License-Identifier: Apache-2.0 */
/* MD5 of several texts at once. Each step of MD5 waits for the one before it, so a processor that
 * could do four things at a time does one; with a text in each lane of a vector it does eight. Of
 * one text alone OpenSSL's is the faster one.
 *
 * The lanes go block by block together, until the longest text has ended. One that has ended before
 * goes on with its last block, which changes nothing: its digest has been taken by then. */
#include "proto/base/assert.h"
#include "proto/base/bytes.h"
#include "proto/base/encode.h"

#define LANES        8
#define BLOCK_BYTES  64
#define BLOCK_WORDS  16
#define LENGTH_BYTES 8
#define LANES_COST   2 /* of a block in all lanes, in blocks of one text by itself */

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

/* Word k of the i-th block of each text, in words[k]. */
static void gather(const struct text texts[LANES], size_t i, lanes words[BLOCK_WORDS])
{
    for (size_t lane = 0; lane < LANES; lane++) {
        const uint8_t *at = block_at(&texts[lane], i);
        for (size_t k = 0; k < BLOCK_WORDS; k++)
            words[k][lane] = bytes_get_u32(at + k * sizeof(uint32_t));
    }
}

#define F(x, y, z)    ((z) ^ ((x) & ((y) ^ (z))))
#define G(x, y, z)    ((y) ^ ((z) & ((x) ^ (y))))
#define H(x, y, z)    ((x) ^ (y) ^ (z))
#define I(x, y, z)    ((y) ^ ((x) | ~(z)))
#define ROTATE(x, by) ((x) << (by) | (x) >> (32 - (by)))

static void add_block(lanes state[4], const lanes words[BLOCK_WORDS])
{
    lanes a = state[0];
    lanes b = state[1];
    lanes c = state[2];
    lanes d = state[3];
#define STEP(function, w, x, y, z, word, by, addend)                                               \
    w += function(x, y, z) + words[word] + UINT32_C(addend);                                       \
    w = ROTATE(w, by) + (x);
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

static void digest_lanes(const struct slice *in, size_t count, uint8_t out[][MD5_BYTES])
{
    static const uint32_t first[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
    struct text texts[LANES];
    lanes state[4];
    lanes words[BLOCK_WORDS];
    size_t longest = 0;
    ASSERT(count <= LANES);
    for (size_t lane = 0; lane < LANES; lane++) {
        text_begin(&texts[lane], lane < count ? in[lane] : (struct slice){NULL, 0});
        if (texts[lane].blocks > longest)
            longest = texts[lane].blocks;
    }
    for (size_t k = 0; k < 4; k++)
        state[k] = (lanes){0} + first[k];
    for (size_t i = 0; i < longest; i++) {
        gather(texts, i, words);
        add_block(state, words);
        for (size_t lane = 0; lane < count; lane++) {
            if (texts[lane].blocks == i + 1)
                take_digest(state, lane, out[lane]);
        }
    }
}

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

void digest_md5_each(const struct slice *in, size_t count, uint8_t out[][MD5_BYTES])
{
    for (size_t i = 0; i < count; i += LANES) {
        size_t some = count - i < LANES ? count - i : LANES;
        if (lanes_pay(in + i, some)) {
            digest_lanes(in + i, some, out + i);
            continue;
        }
        for (size_t k = i; k < i + some; k++)
            digest_md5(in[k], out[k]);
    }
}
