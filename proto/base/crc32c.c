/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base/crc32c.h"

#include <pthread.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif
#endif

#define POLYNOMIAL 0x82f63b78u /* Castagnoli, bit-reversed */

static uint32_t table[256];
static bool have_hardware;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Three runs of bytes that follow each other are taken at once. A checksum is linear: that of the
 * first two runs is that of the first, moved behind as many zeros as the second is long, xor the
 * second's. `shift` says what each byte of it becomes there. Three runs are nearly a block of the
 * log, or nearly 1 KiB. */
#define RUNS 2
static struct run {
    size_t bytes; /* a multiple of 8 */
    uint32_t shift[4][256];
} runs[RUNS] = {{.bytes = 1360}, {.bytes = 336}};

static void prepare_run(struct run *run)
{
    for (uint32_t byte = 0; byte < 4; byte++) {
        for (uint32_t bit = 0; bit < 8; bit++) {
            uint32_t state = UINT32_C(1) << (8 * byte + bit);
            for (size_t i = 0; i < run->bytes; i++)
                state = state >> 8 ^ table[state & 0xff];
            for (uint32_t value = 0; value < 256; value++)
                run->shift[byte][value] ^= value >> bit & 1 ? state : 0;
        }
    }
}

static void prepare(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++)
            value = value & 1 ? value >> 1 ^ POLYNOMIAL : value >> 1;
        table[i] = value;
    }
    for (size_t i = 0; i < RUNS; i++)
        prepare_run(&runs[i]);
#if defined(__x86_64__)
    have_hardware = __builtin_cpu_supports("sse4.2") != 0;
#elif defined(__aarch64__)
    have_hardware = (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
#endif
}

uint32_t crc32c_portable(uint32_t crc, struct slice in)
{
    pthread_once(&once, prepare);
    crc = ~crc;
    for (size_t i = 0; i < in.length; i++)
        crc = crc >> 8 ^ table[(crc ^ in.data[i]) & 0xff];
    return ~crc;
}

#if defined(__x86_64__)
#define WITH_CRC          __attribute__((target("sse4.2")))
#define WORD(state, word) _mm_crc32_u64(state, word)
#define BYTE(state, byte) _mm_crc32_u8((uint32_t)(state), byte)
#elif defined(__aarch64__)
#define WITH_CRC          __attribute__((target("+crc")))
#define WORD(state, word) __crc32cd((uint32_t)(state), word)
#define BYTE(state, byte) __crc32cb((uint32_t)(state), byte)
#endif

#ifdef WITH_CRC
static uint32_t behind(const struct run *run, uint64_t state)
{
    return run->shift[0][state & 0xff] ^ run->shift[1][state >> 8 & 0xff] ^
           run->shift[2][state >> 16 & 0xff] ^ run->shift[3][state >> 24 & 0xff];
}

static uint64_t word_at(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* in_three: three times run->bytes. The instruction takes three cycles, but one can begin in each.
 */
WITH_CRC static uint64_t in_three(const struct run *run, uint64_t first, const uint8_t *at)
{
    uint64_t second = 0;
    uint64_t third = 0;
    const uint8_t *end = at + run->bytes;
    for (; at < end; at += 8) {
        first = WORD(first, word_at(at));
        second = WORD(second, word_at(at + run->bytes));
        third = WORD(third, word_at(at + 2 * run->bytes));
    }
    second ^= behind(run, first);
    return third ^ behind(run, second);
}

WITH_CRC static uint32_t hardware(uint32_t crc, struct slice in)
{
    uint64_t state = ~crc;
    const uint8_t *at = in.data;
    size_t left = in.length;
    for (size_t i = 0; i < RUNS && left >= 3 * runs[RUNS - 1].bytes; i++) {
        size_t bytes = 3 * runs[i].bytes;
        for (; left >= bytes; left -= bytes, at += bytes)
            state = in_three(&runs[i], state, at);
    }
    for (; left >= 8; left -= 8, at += 8)
        state = WORD(state, word_at(at));
    for (; left > 0; left--, at++)
        state = BYTE(state, *at);
    return ~(uint32_t)state;
}
#else
static uint32_t hardware(uint32_t crc, struct slice in)
{
    return crc32c_portable(crc, in);
}
#endif

uint32_t crc32c(uint32_t crc, struct slice in)
{
    pthread_once(&once, prepare);
    return have_hardware ? hardware(crc, in) : crc32c_portable(crc, in);
}
