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

static void prepare(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++)
            value = value & 1 ? value >> 1 ^ POLYNOMIAL : value >> 1;
        table[i] = value;
    }
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
__attribute__((target("sse4.2"))) static uint32_t hardware(uint32_t crc, struct slice in)
{
    uint64_t state = ~crc;
    const uint8_t *at = in.data;
    size_t left = in.length;
    for (; left >= 8; left -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        state = _mm_crc32_u64(state, word);
    }
    uint32_t small = (uint32_t)state;
    for (; left > 0; left--, at++)
        small = _mm_crc32_u8(small, *at);
    return ~small;
}
#elif defined(__aarch64__)
__attribute__((target("+crc"))) static uint32_t hardware(uint32_t crc, struct slice in)
{
    uint32_t state = ~crc;
    const uint8_t *at = in.data;
    size_t left = in.length;
    for (; left >= 8; left -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        state = __crc32cd(state, word);
    }
    for (; left > 0; left--, at++)
        state = __crc32cb(state, *at);
    return ~state;
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
