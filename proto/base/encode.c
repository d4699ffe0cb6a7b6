/* SPDX-License-Identifier: Apache-2.0 */
/* For SHA256_Init and its like, see block_state. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "proto/base/encode.h"

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/scan.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <pthread.h>

#define SHA256_BLOCK_BYTES 64

/* Both digits of each byte. */
#define HEX_DIGITS(high)                                                                           \
    high "0" high "1" high "2" high "3" high "4" high "5" high "6" high "7" high "8" high "9" high \
         "a" high "b" high "c" high "d" high "e" high "f"
static const char hex_digits[2 * 256 + 1] =
    HEX_DIGITS("0") HEX_DIGITS("1") HEX_DIGITS("2") HEX_DIGITS("3") HEX_DIGITS("4") HEX_DIGITS("5")
        HEX_DIGITS("6") HEX_DIGITS("7") HEX_DIGITS("8") HEX_DIGITS("9") HEX_DIGITS("a")
            HEX_DIGITS("b") HEX_DIGITS("c") HEX_DIGITS("d") HEX_DIGITS("e") HEX_DIGITS("f");

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

char *hex_text(char *at, const uint8_t *in, size_t count)
{
    for (size_t i = 0; i < count; i++, at += 2)
        memcpy(at, hex_digits + 2 * in[i], 2);
    return at;
}

void encode_hex(struct buffer *out, struct slice in)
{
    (void)hex_text((char *)buffer_reserve(out, in.length * 2), in.data, in.length);
    buffer_added(out, in.length * 2);
}

size_t encode_base64_into(uint8_t *to, struct slice in)
{
    return (size_t)EVP_EncodeBlock(to, in.data, (int)in.length);
}

void encode_base64(struct buffer *out, struct slice in)
{
    if (in.length == 0)
        return;
    buffer_added(out, encode_base64_into(buffer_reserve(out, (in.length + 2) / 3 * 4 + 1), in));
}

/* What the characters from '+' to 'z' stand for; -1: nothing. */
static const int8_t base64_values[] = {
    62, -1, -1, -1, 63, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, -1, -1, -1, -1, -1,
    -1, -1, 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17,
    18, 19, 20, 21, 22, 23, 24, 25, -1, -1, -1, -1, -1, -1, 26, 27, 28, 29, 30, 31,
    32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51};
_Static_assert(sizeof base64_values == 'z' - '+' + 1, "one for each");

static int32_t base64_value(uint8_t c)
{
    unsigned at = (unsigned)c - '+';
    return at < sizeof base64_values ? base64_values[at] : -1;
}

/* base64_group: three bytes of four characters; negative if one of them stands for nothing. */
static int32_t base64_group(const uint8_t *in)
{
    int32_t a = base64_value(in[0]);
    int32_t b = base64_value(in[1]);
    int32_t c = base64_value(in[2]);
    int32_t d = base64_value(in[3]);
    int32_t bad = (a | b | c | d) & INT32_MIN;
    return bad | (a & 63) << 18 | (b & 63) << 12 | (c & 63) << 6 | (d & 63);
}

bool decode_base64_into(uint8_t *to, struct slice in, size_t *length)
{
    int32_t bad = 0;
    size_t padding = 0;
    if (in.length % 4 != 0)
        return false;
    while (padding < 2 && padding < in.length && in.data[in.length - 1 - padding] == '=')
        padding++;
    size_t whole = in.length - (padding > 0 ? 4 : 0);
    for (size_t i = 0; i < whole; i += 4) {
        int32_t group = base64_group(in.data + i);
        bad |= group;
        *to++ = (uint8_t)(group >> 16);
        *to++ = (uint8_t)(group >> 8);
        *to++ = (uint8_t)group;
    }
    if (padding > 0) {
        const uint8_t *last = in.data + whole;
        int32_t group =
            base64_group((uint8_t[]){last[0], last[1], padding > 1 ? 'A' : last[2], 'A'});
        bad |= group;
        *to++ = (uint8_t)(group >> 16);
        if (padding == 1)
            *to = (uint8_t)(group >> 8);
    }
    *length = in.length / 4 * 3 - padding;
    return bad >= 0;
}

enum status decode_base64(struct buffer *out, struct slice in)
{
    size_t length;
    uint8_t *to = buffer_reserve(out, in.length / 4 * 3);
    if (!decode_base64_into(to, in, &length))
        return STATUS_INVALID;
    buffer_added(out, length);
    return STATUS_OK;
}

enum status decode_percent(struct buffer *out, struct slice in, bool form)
{
    if (in.length == 0)
        return STATUS_OK;
    uint8_t *to = buffer_reserve(out, in.length); /* it never grows */
    size_t length = 0;
    for (size_t i = 0; i < in.length; i++) {
        uint8_t c = in.data[i];
        if (c == '%') {
            int high = i + 2 < in.length ? hex_value(in.data[i + 1]) : -1;
            int low = i + 2 < in.length ? hex_value(in.data[i + 2]) : -1;
            if (high < 0 || low < 0)
                return STATUS_INVALID;
            c = (uint8_t)(high << 4 | low);
            i += 2;
        } else if (form && c == '+') {
            c = ' ';
        }
        to[length++] = c;
    }
    out->length += length;
    return STATUS_OK;
}

static bool unreserved(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

void encode_percent(struct buffer *out, struct slice in, bool keep_slash)
{
    static const char digits[] = "0123456789ABCDEF";
    uint8_t *start = buffer_reserve(out, in.length * 3);
    uint8_t *at = start;
    for (size_t i = 0; i < in.length; i++) {
        uint8_t c = in.data[i];
        if (unreserved(c) || (keep_slash && c == '/')) {
            *at++ = c;
            continue;
        }
        *at++ = '%';
        *at++ = (uint8_t)digits[c >> 4];
        *at++ = (uint8_t)digits[c & 15];
    }
    buffer_added(out, (size_t)(at - start));
}

/* Random bytes are drawn for many UUIDs at once, since each draw is a system call. */
static _Thread_local uint8_t ahead[64 * UUID_BYTES];
static _Thread_local size_t ahead_left;
static pthread_once_t ahead_once = PTHREAD_ONCE_INIT;

/* A child must not repeat what its parent draws. */
static void forget_ahead(void)
{
    ahead_left = 0;
}

static void watch_forks(void)
{
    ASSERT(pthread_atfork(NULL, NULL, forget_ahead) == 0);
}

void uuid_random(uint8_t out[UUID_BYTES])
{
    if (ahead_left == 0) {
        ASSERT(pthread_once(&ahead_once, watch_forks) == 0);
        clock_random(ahead, sizeof ahead);
        ahead_left = sizeof ahead;
    }
    ahead_left -= UUID_BYTES;
    memcpy(out, ahead + ahead_left, UUID_BYTES);
    out[6] = (uint8_t)((out[6] & 0x0f) | 0x40); /* version 4 */
    out[8] = (uint8_t)((out[8] & 0x3f) | 0x80); /* RFC 9562 variant */
}

void uuid_text(const uint8_t in[UUID_BYTES], char out[UUID_TEXT_LENGTH + 1])
{
    static const uint8_t lengths[] = {4, 2, 2, 2, 6}; /* in bytes, of what dashes stand between */
    char *at = out;
    for (size_t i = 0; i < sizeof lengths; in += lengths[i++]) {
        if (i > 0)
            *at++ = '-';
        at = hex_text(at, in, lengths[i]);
    }
    *at = 0;
}

bool uuid_parse(struct slice text, uint8_t out[UUID_BYTES])
{
    if (text.length != UUID_TEXT_LENGTH)
        return false;
    size_t at = 0;
    for (size_t i = 0; i < UUID_BYTES; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            if (text.data[at++] != '-')
                return false;
        }
        int high = hex_value(text.data[at]);
        int low = hex_value(text.data[at + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    return true;
}

/* EVP_md5() and EVP_sha256() are looked up again by every digest, for as long as a small digest
 * takes; these were looked up once. */
static EVP_MD *md5;
static EVP_MD *sha256;
static pthread_once_t digests_once = PTHREAD_ONCE_INIT;

static void fetch_digests(void)
{
    md5 = EVP_MD_fetch(NULL, "MD5", NULL);
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    ASSERT(md5 != NULL);
    ASSERT(sha256 != NULL);
}

static void digest(EVP_MD *const *kind, struct slice in, uint8_t *out)
{
    unsigned length = 0;
    ASSERT(pthread_once(&digests_once, fetch_digests) == 0);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    ASSERT(context != NULL);
    ASSERT(EVP_DigestInit_ex(context, *kind, NULL) == 1);
    ASSERT(EVP_DigestUpdate(context, in.data, in.length) == 1);
    ASSERT(EVP_DigestFinal_ex(context, out, &length) == 1);
    EVP_MD_CTX_free(context);
}

void digest_md5(struct slice in, uint8_t out[MD5_BYTES])
{
    digest(&md5, in, out);
}

void digest_sha256(struct slice in, uint8_t out[SHA256_BYTES])
{
    digest(&sha256, in, out);
}

/* What SHA-256 has come to after one block. Without EVP, whose look-ups and allocations cost more
 * than the blocks of a receipt handle do; below both is the same code. */
static void block_state(const uint8_t block[SHA256_BLOCK_BYTES], uint32_t out[8])
{
    SHA256_CTX context;
    ASSERT(SHA256_Init(&context) == 1);
    SHA256_Transform(&context, block);
    memcpy(out, context.h, sizeof context.h);
    OPENSSL_cleanse(&context, sizeof context);
}

/* go_on: from there to the digest of that block and `in`. */
static void go_on(const uint32_t state[8], struct slice in, uint8_t out[SHA256_BYTES])
{
    SHA256_CTX context;
    ASSERT(SHA256_Init(&context) == 1);
    memcpy(context.h, state, sizeof context.h);
    context.Nl = SHA256_BLOCK_BYTES * 8; /* bits so far */
    ASSERT(SHA256_Update(&context, in.data, in.length) == 1);
    ASSERT(SHA256_Final(out, &context) == 1); /* clears it */
}

void hmac_sha256_prepare(struct hmac_sha256_key *out, struct slice key)
{
    uint8_t block[SHA256_BLOCK_BYTES] = {0};
    if (key.length > sizeof block)
        digest_sha256(key, block);
    else if (key.length > 0)
        memcpy(block, key.data, key.length);
    for (size_t i = 0; i < sizeof block; i++)
        block[i] ^= 0x36;
    block_state(block, out->inner);
    for (size_t i = 0; i < sizeof block; i++)
        block[i] ^= 0x36 ^ 0x5c;
    block_state(block, out->outer);
    OPENSSL_cleanse(block, sizeof block);
}

void hmac_sha256(const struct hmac_sha256_key *key, struct slice in, uint8_t out[SHA256_BYTES])
{
    uint8_t inner[SHA256_BYTES];
    go_on(key->inner, in, inner);
    go_on(key->outer, slice_make(inner, sizeof inner), out);
}

void digest_hmac_sha256(struct slice key, struct slice in, uint8_t out[SHA256_BYTES])
{
    struct hmac_sha256_key prepared;
    hmac_sha256_prepare(&prepared, key);
    hmac_sha256(&prepared, in, out);
    OPENSSL_cleanse(&prepared, sizeof prepared);
}

/* The length of the sequence that `lead` begins, or 0. */
static size_t sequence_length(uint8_t lead)
{
    if (lead < 0x80)
        return 1;
    if (lead >= 0xc2 && lead <= 0xdf)
        return 2;
    if (lead >= 0xe0 && lead <= 0xef)
        return 3;
    return lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
}

static const struct scan_plain ascii = {.low = 0, .high = 0x7f, .but = {0xff, 0xff, 0xff}};

bool utf8_valid(struct slice in)
{
    for (size_t i = scan_run(ascii, in); i < in.length;) {
        size_t length = sequence_length(in.data[i]);
        if (length == 0 || in.length - i < length)
            return false;
        for (size_t k = 1; k < length; k++) {
            if ((in.data[i + k] & 0xc0) != 0x80)
                return false;
        }
        uint8_t lead = in.data[i];
        uint8_t second = length > 1 ? in.data[i + 1] : 0;
        bool overlong = (lead == 0xe0 && second < 0xa0) || (lead == 0xf0 && second < 0x90);
        bool outside = (lead == 0xed && second > 0x9f) || (lead == 0xf4 && second > 0x8f);
        if (overlong || outside)
            return false;
        i += length;
    }
    return true;
}

uint32_t utf8_next(struct slice in, size_t *offset)
{
    ASSERT(*offset < in.length);
    const uint8_t *at = in.data + *offset;
    size_t length = sequence_length(at[0]);
    ASSERT(length > 0 && *offset + length <= in.length);
    static const uint8_t lead_mask[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t point = at[0] & lead_mask[length];
    for (size_t k = 1; k < length; k++)
        point = point << 6 | (at[k] & 0x3f);
    *offset += length;
    return point;
}
