/* SPDX-License-Identifier: Apache-2.0 */
#include "client/bench/body.h"

#include "proto/base/assert.h"
#include "proto/base/crc32c.h"

#define CRC_DIGITS  8
#define LETTERS     "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-."
#define LETTER_MASK 63

static void write_hex(uint8_t *out, unsigned digits, uint64_t value)
{
    for (unsigned i = digits; i-- > 0; value >>= 4)
        out[i] = (uint8_t) "0123456789abcdef"[value & 15];
}

static bool read_hex(const uint8_t *in, unsigned digits, uint64_t *out)
{
    *out = 0;
    for (unsigned i = 0; i < digits; i++) {
        uint8_t c = in[i];
        bool digit = c >= '0' && c <= '9';
        if (!digit && (c < 'a' || c > 'f'))
            return false;
        *out = *out << 4 | (uint64_t)(digit ? c - '0' : c - 'a' + 10);
    }
    return true;
}

/* A run of letters that begins elsewhere for each number, doubled until it is long enough. */
static void fill(uint8_t *out, size_t bytes, uint64_t number)
{
    size_t done = bytes < LETTER_MASK + 1 ? bytes : LETTER_MASK + 1;
    for (size_t i = 0; i < done; i++)
        out[i] = (uint8_t)LETTERS[(number + i) & LETTER_MASK];
    while (done < bytes) {
        size_t more = bytes - done < done ? bytes - done : done;
        memcpy(out + done, out, more);
        done += more;
    }
}

void body_write(uint8_t *out, size_t bytes, const struct body_facts *facts)
{
    ASSERT(bytes >= BODY_BYTES_MIN);
    write_hex(out + 8, 16, facts->number);
    write_hex(out + 24, 16, facts->due_ns);
    write_hex(out + 40, 8, facts->run);
    fill(out + BODY_BYTES_MIN, bytes - BODY_BYTES_MIN, facts->number);
    write_hex(out, CRC_DIGITS, crc32c(0, slice_make(out + CRC_DIGITS, bytes - CRC_DIGITS)));
}

bool body_read(struct slice body, struct body_facts *out)
{
    uint64_t crc = 0;
    uint64_t run = 0;
    if (body.length < BODY_BYTES_MIN || !read_hex(body.data, CRC_DIGITS, &crc) ||
        crc32c(0, slice_sub(body, CRC_DIGITS)) != (uint32_t)crc)
        return false;
    bool good = read_hex(body.data + 8, 16, &out->number) &&
                read_hex(body.data + 24, 16, &out->due_ns) && read_hex(body.data + 40, 8, &run);
    out->run = (uint32_t)run;
    return good;
}
