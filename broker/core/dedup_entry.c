/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/core/dedup_entry.h"

#include "proto/base/assert.h"
#include "proto/base/bytes.h"

#define GAP         0x8000u
#define FORM_SHIFT  13
#define FORM_MASK   3u
#define SCOPED      0x1000u
#define LENGTH_MASK 0x01ffu
#define UUID_CHARS  36u
#define HEAD_BYTES  (2 + UUID_BYTES)

_Static_assert(DEDUP_KEY_BYTES_MAX <= LENGTH_MASK, "the length fits its bits");

enum form { FORM_PLAIN, FORM_HEX, FORM_UUID };

/* ---- digits, eight at a time in the bytes of a word ---- */

#define EACH(byte) ((byte)*UINT64_C(0x0101010101010101))

/* In the first four bytes of what is returned; `bad` is set if there is another character. */
static inline uint32_t digits_pack(uint64_t digits, bool *bad)
{
    uint64_t letter = (digits & EACH(0x40)) >> 6;
    uint64_t least = EACH('0') + letter * ('a' - '0');
    uint64_t most = EACH(9) - letter * 4; /* above the least */
    uint64_t above = (digits | EACH(0x80)) - least;
    uint64_t value = above & EACH(0x7f);
    *bad |= ((digits | ~above | (value + EACH(0x7f) - most)) & EACH(0x80)) != 0;
    value += letter * 10;
    value = (value << 4 | value >> 8) & UINT64_C(0x00ff00ff00ff00ff);
    value = (value | value >> 8) & UINT64_C(0x0000ffff0000ffff);
    return (uint32_t)(value | value >> 16);
}

static inline uint64_t digits_unpack(uint32_t packed)
{
    uint64_t value = packed;
    value = (value | value << 16) & UINT64_C(0x0000ffff0000ffff);
    value = (value | value << 8) & UINT64_C(0x00ff00ff00ff00ff);
    value = (value >> 4 | value << 8) & EACH(0x0f);
    uint64_t letter = (value + EACH(0x76)) >> 7 & EACH(1);
    return value + EACH('0') + letter * ('a' - '0' - 10);
}

/* `length`: of digits, even. */
static bool run_pack(const uint8_t *digits, size_t length, uint8_t *out)
{
    bool bad = false;
    uint8_t rest[8] = "00000000";
    uint8_t packed[4];
    for (; length >= 8; length -= 8, digits += 8, out += 4)
        bytes_put_u32(out, digits_pack(bytes_get_u64(digits), &bad));
    memcpy(rest, digits, length);
    bytes_put_u32(packed, digits_pack(bytes_get_u64(rest), &bad));
    memcpy(out, packed, length / 2);
    return !bad;
}

static void run_unpack(const uint8_t *packed, size_t length, uint8_t *out)
{
    uint8_t rest[4] = {0};
    uint8_t digits[8];
    for (; length >= 8; length -= 8, packed += 4, out += 8)
        bytes_put_u64(out, digits_unpack(bytes_get_u32(packed)));
    memcpy(rest, packed, length / 2);
    bytes_put_u64(digits, digits_unpack(bytes_get_u32(rest)));
    memcpy(out, digits, length);
}

/* ---- forms of a dedup id ---- */

/* The runs of digits in a UUID, behind each but the last a dash. */
static const uint8_t uuid_runs[] = {8, 4, 4, 4, 12};

static bool uuid_pack(const uint8_t *id, uint8_t *out)
{
    uint8_t digits[2 * UUID_BYTES];
    memcpy(digits, id, 8);
    memcpy(digits + 8, id + 9, 4);
    memcpy(digits + 12, id + 14, 4);
    memcpy(digits + 16, id + 19, 4);
    memcpy(digits + 20, id + 24, 12);
    return id[8] == '-' && id[13] == '-' && id[18] == '-' && id[23] == '-' &&
           run_pack(digits, sizeof digits, out);
}

static void uuid_unpack(const uint8_t *packed, uint8_t *out)
{
    uint8_t digits[2 * UUID_BYTES];
    const uint8_t *from = digits;
    run_unpack(packed, sizeof digits, digits);
    for (size_t i = 0; i < sizeof uuid_runs; i++) {
        memcpy(out, from, uuid_runs[i]);
        out += uuid_runs[i];
        from += uuid_runs[i];
        if (i + 1 < sizeof uuid_runs)
            *out++ = '-';
    }
}

static size_t id_pack(struct slice id, uint8_t *out, enum form *form)
{
    if (id.length == UUID_CHARS && uuid_pack(id.data, out)) {
        *form = FORM_UUID;
        return UUID_BYTES;
    }
    if (id.length > 0 && id.length % 2 == 0 && run_pack(id.data, id.length, out)) {
        *form = FORM_HEX;
        return id.length / 2;
    }
    *form = FORM_PLAIN;
    memcpy(out, id.data, id.length);
    return id.length;
}

static size_t id_unpack(enum form form, struct slice packed, uint8_t *out)
{
    switch (form) {
    case FORM_UUID:
        uuid_unpack(packed.data, out);
        return UUID_CHARS;
    case FORM_HEX:
        run_unpack(packed.data, 2 * packed.length, out);
        return 2 * packed.length;
    case FORM_PLAIN:
        break;
    }
    memcpy(out, packed.data, packed.length);
    return packed.length;
}

/* ---- numbers ---- */

static uint8_t *number_put(uint8_t *at, uint64_t number)
{
    for (; number >= 0x80; number >>= 7)
        *at++ = (uint8_t)(number | 0x80);
    *at++ = (uint8_t)number;
    return at;
}

static const uint8_t *number_get(const uint8_t *at, uint64_t *number)
{
    unsigned shift = 0;
    for (*number = 0; (*at & 0x80) != 0; shift += 7)
        *number |= (uint64_t)(*at++ & 0x7f) << shift;
    *number |= (uint64_t)*at++ << shift;
    return at;
}

/* ---- entries ---- */

/* How much of a key comes before its dedup id: the scope is one more than the group id's length,
 * or 0. */
static size_t scope_bytes(struct slice key)
{
    size_t bytes = key.data[0] > 0 ? key.data[0] : 1;
    return bytes < key.length ? bytes : key.length;
}

uint32_t dedup_entry_write(uint8_t out[DEDUP_ENTRY_BYTES_MAX], const struct dedup_base *base,
                           const struct dedup *what)
{
    ASSERT(what->key.length > 0);
    ASSERT(what->key.length <= DEDUP_KEY_BYTES_MAX);
    size_t scope = scope_bytes(what->key);
    struct slice id = slice_make(what->key.data + scope, what->key.length - scope);
    enum form form;
    bool scoped = what->key.data[0] != 0;
    memcpy(out + 2, what->message_id, UUID_BYTES);
    uint8_t *key = number_put(out + HEAD_BYTES, what->seq - base->seq);
    key = number_put(key, what->sent_ms - base->sent_ms);
    size_t length = 0;
    if (scoped) {
        memcpy(key, what->key.data, scope);
        length = scope;
    }
    length += id_pack(id, key + length, &form);
    bytes_put_u16(out, (uint16_t)(form << FORM_SHIFT | (scoped ? SCOPED : 0) | length));
    return ((uint32_t)(key - out) + (uint32_t)length + 1) & ~1u;
}

/* whole_bytes: of an entry whose scope and ids begin at `stored`. */
static uint32_t whole_bytes(const uint8_t *entry, const uint8_t *stored)
{
    return ((uint32_t)(stored - entry) + (bytes_get_u16(entry) & LENGTH_MASK) + 1) & ~1u;
}

uint32_t dedup_entry_bytes(const uint8_t *entry)
{
    uint64_t number;
    const uint8_t *key = number_get(number_get(entry + HEAD_BYTES, &number), &number);
    return whole_bytes(entry, key);
}

uint32_t dedup_entry_read(const uint8_t *entry, const struct dedup_base *base, struct dedup *out,
                          uint8_t key[DEDUP_KEY_BYTES_MAX])
{
    uint16_t head = bytes_get_u16(entry);
    uint64_t seq;
    uint64_t sent_ms;
    const uint8_t *stored = number_get(number_get(entry + HEAD_BYTES, &seq), &sent_ms);
    size_t length = head & LENGTH_MASK;
    size_t scope = 0;  /* of what is stored */
    size_t before = 1; /* of the key, in front of the id */
    if ((head & SCOPED) != 0) {
        scope = before = scope_bytes(slice_make(stored, length));
        memcpy(key, stored, scope);
    } else {
        key[0] = 0;
    }
    size_t id = id_unpack((enum form)(head >> FORM_SHIFT & FORM_MASK),
                          slice_make(stored + scope, length - scope), key + before);
    out->seq = base->seq + seq;
    out->sent_ms = base->sent_ms + sent_ms;
    memcpy(out->message_id, entry + 2, UUID_BYTES);
    out->key = slice_make(key, before + id);
    return whole_bytes(entry, stored);
}

uint64_t dedup_entry_sent_ms(const uint8_t *entry, const struct dedup_base *base)
{
    uint64_t number;
    number_get(number_get(entry + HEAD_BYTES, &number), &number);
    return base->sent_ms + number;
}

void dedup_entry_empty(uint8_t *entry)
{
    bytes_put_u16(entry, (uint16_t)(bytes_get_u16(entry) | GAP));
}

bool dedup_entry_is_gap(const uint8_t *entry)
{
    return (bytes_get_u16(entry) & GAP) != 0;
}
