/* SPDX-License-Identifier: Apache-2.0 */
/* Text forms, digests and checksums against published vectors, and the edges of each decoder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/assert.h"
#include "proto/base/crc32c.h"
#include "proto/base/encode.h"
#include "proto/base/scan.h"

#include <openssl/hmac.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void expect_text(struct buffer *b, const char *text)
{
    assert_string_equal(b->length > 0 ? buffer_c_string(b) : "", text);
    assert_int_equal(b->length, strlen(text));
    buffer_free(b);
}

/* RFC 4648 section 10. */
static const char *const base64_vectors[][2] = {{"", ""},
                                                {"f", "Zg=="},
                                                {"fo", "Zm8="},
                                                {"foo", "Zm9v"},
                                                {"foob", "Zm9vYg=="},
                                                {"fooba", "Zm9vYmE="},
                                                {"foobar", "Zm9vYmFy"}};

static void test_base64(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(base64_vectors); i++) {
        struct buffer out = {0};
        encode_base64(&out, slice_of(base64_vectors[i][0]));
        expect_text(&out, base64_vectors[i][1]);
        assert_int_equal(decode_base64(&out, slice_of(base64_vectors[i][1])), STATUS_OK);
        expect_text(&out, base64_vectors[i][0]);
    }
    struct buffer out = {0};
    assert_int_equal(decode_base64(&out, SLICE_LITERAL("+/+/")), STATUS_OK);
    static const uint8_t bytes[] = {0xfb, 0xff, 0xbf};
    assert_memory_equal(out.data, bytes, 3);
    buffer_free(&out);
}

static void test_base64_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {"Z",    "Zg",       "Zg=",      "Zm9vY",  "====",
                                      "=Zg=", "Z===",     "Zg==Zg==", "Zm9v\n", "Zm 9",
                                      "Zm-_", "Zm9v====", "Zg=a",     "\x80m9v"};
    struct buffer out = {0};
    buffer_add_text(&out, "kept");
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        assert_int_equal(decode_base64(&out, slice_of(bad[i])), STATUS_INVALID);
        assert_int_equal(out.length, 4);
    }
    expect_text(&out, "kept");
}

static void test_hex(void **state)
{
    (void)state;
    struct buffer out = {0};
    static const uint8_t bytes[] = {0x00, 0x01, 0x7f, 0x80, 0xab, 0xff};
    encode_hex(&out, slice_make(bytes, sizeof bytes));
    expect_text(&out, "00017f80abff");
    encode_hex(&out, slice_make(NULL, 0));
    assert_int_equal(out.length, 0);
    buffer_free(&out);
}

static void test_percent(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        bool form;
        const char *out;
    } cases[] = {{"", true, ""},
                 {"a%20b", false, "a b"},
                 {"a+b", true, "a b"},
                 {"a+b", false, "a+b"},
                 {"%2B%2b", true, "++"},
                 {"%c3%A4", false, "\xc3\xa4"},
                 {"%25%32%35", false, "%25"}};
    struct buffer out = {0};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        assert_int_equal(decode_percent(&out, slice_of(cases[i].in), cases[i].form), STATUS_OK);
        expect_text(&out, cases[i].out);
    }
    static const char *const bad[] = {"%",   "a%",   "%4",   "%zz",  "%4g",
                                      "%g4", "% 41", "%%41", "ok%+1"};
    buffer_add_text(&out, "kept");
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        assert_int_equal(decode_percent(&out, slice_of(bad[i]), true), STATUS_INVALID);
        assert_int_equal(out.length, 4);
    }
    expect_text(&out, "kept");
    /* An escape that is cut off by the end of the slice, though bytes follow it in memory. */
    assert_int_equal(decode_percent(&out, slice_make("%41", 2), true), STATUS_INVALID);
    assert_int_equal(decode_percent(&out, SLICE_LITERAL("%00"), true), STATUS_OK);
    assert_int_equal(out.length, 1);
    assert_int_equal(out.data[0], 0);
    buffer_free(&out);
}

static void test_encode_percent(void **state)
{
    (void)state;
    struct buffer out = {0};
    encode_percent(&out, SLICE_LITERAL("AZaz09-._~/ +\xff\x01"), false);
    expect_text(&out, "AZaz09-._~%2F%20%2B%FF%01");
    encode_percent(&out, SLICE_LITERAL("/a/"), true);
    expect_text(&out, "/a/");
}

static void test_uuid(void **state)
{
    (void)state;
    static const char text[] = "00112233-4455-6677-8899-aabbccddeeff";
    static const uint8_t bytes[] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
                                    0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
    uint8_t parsed[UUID_BYTES];
    assert_true(uuid_parse(slice_of(text), parsed));
    assert_memory_equal(parsed, bytes, UUID_BYTES);
    assert_true(uuid_parse(SLICE_LITERAL("00112233-4455-6677-8899-AABBCCDDEEFF"), parsed));
    char back[UUID_TEXT_LENGTH + 1];
    uuid_text(bytes, back);
    assert_string_equal(back, text);
    static const char *const bad[] = {"",
                                      "00112233-4455-6677-8899-aabbccddeef",
                                      "00112233-4455-6677-8899-aabbccddeeff0",
                                      "00112233+4455-6677-8899-aabbccddeeff",
                                      "0011223g-4455-6677-8899-aabbccddeeff",
                                      "001122334455-6677-8899-aabbccddeeff--"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        assert_false(uuid_parse(slice_of(bad[i]), parsed));
    uint8_t a[UUID_BYTES];
    uint8_t b[UUID_BYTES];
    uuid_random(a);
    uuid_random(b);
    assert_int_equal(a[6] >> 4, 4);
    assert_int_equal(a[8] >> 6, 2);
    assert_memory_not_equal(a, b, UUID_BYTES);
}

static void expect_hex(const uint8_t *bytes, size_t length, const char *hex)
{
    struct buffer out = {0};
    encode_hex(&out, slice_make(bytes, length));
    expect_text(&out, hex);
}

static void test_digests(void **state)
{
    (void)state;
    uint8_t out[SHA256_BYTES];
    digest_md5(slice_make(NULL, 0), out); /* RFC 1321 A.5 */
    expect_hex(out, MD5_BYTES, "d41d8cd98f00b204e9800998ecf8427e");
    digest_md5(SLICE_LITERAL("message digest"), out);
    expect_hex(out, MD5_BYTES, "f96b697d7cb7938d525a2f31aaf161d0");
    digest_sha256(SLICE_LITERAL("abc"), out); /* FIPS 180-2 B.1 */
    expect_hex(out, SHA256_BYTES,
               "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    /* RFC 4231 test case 2. */
    digest_hmac_sha256(SLICE_LITERAL("Jefe"), SLICE_LITERAL("what do ya want for nothing?"), out);
    expect_hex(out, SHA256_BYTES,
               "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    /* RFC 4231, test case 6: a key that is longer than a block. */
    uint8_t long_key[131];
    memset(long_key, 0xaa, sizeof long_key);
    digest_hmac_sha256(slice_make(long_key, sizeof long_key),
                       SLICE_LITERAL("Test Using Larger Than Block-Size Key - Hash Key First"),
                       out);
    expect_hex(out, SHA256_BYTES,
               "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    digest_hmac_sha256(slice_make(NULL, 0), slice_make(NULL, 0), out);
    expect_hex(out, SHA256_BYTES,
               "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
    /* A prepared key serves any number of texts, of any length around the ends of blocks. */
    struct hmac_sha256_key prepared;
    uint8_t again[SHA256_BYTES];
    hmac_sha256_prepare(&prepared, SLICE_LITERAL("Jefe"));
    for (size_t length = 0; length <= sizeof long_key; length++) {
        hmac_sha256(&prepared, slice_make(long_key, length), again);
        unsigned bytes = 0;
        assert_non_null(HMAC(EVP_sha256(), "Jefe", 4, long_key, length, out, &bytes));
        assert_memory_equal(again, out, SHA256_BYTES);
    }
}

/* One bad byte anywhere in a text that is read by eights. */
/* Groups of every size, of texts of all lengths around the ends of blocks, and one much longer. */
static void test_md5_each(void **state)
{
    (void)state;
    enum { TEXTS = 20 };
    static uint8_t bytes[20000];
    struct slice texts[TEXTS];
    uint8_t each[TEXTS][MD5_BYTES];
    uint8_t portable[TEXTS][MD5_BYTES];
    uint8_t alone[MD5_BYTES];
    uint32_t seed = 7;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
    for (size_t round = 0; round < 600; round++) {
        size_t count = round % (TEXTS + 1);
        for (size_t i = 0; i < count; i++) {
            size_t length = round % 50 == 17 && i == 3 ? 15000 : (round / 3 + i * 37) % 260;
            texts[i] = slice_make(length == 0 ? NULL : bytes + (round * 31 + i) % 4000, length);
        }
        digest_md5_each(texts, count, each);
        digest_md5_each_portable(texts, count, portable);
        for (size_t i = 0; i < count; i++) {
            digest_md5(texts[i], alone);
            assert_memory_equal(each[i], alone, MD5_BYTES);
            assert_memory_equal(portable[i], alone, MD5_BYTES);
        }
    }
}

static size_t run_by_bytes(struct scan_plain plain, struct slice in)
{
    size_t i = 0;
    while (i < in.length && scan_byte_plain(plain, in.data[i]))
        i++;
    return i;
}

/* Each byte at each place of runs up to three vectors long, in and out of what is plain. */
static void test_scan(void **state)
{
    (void)state;
    static const struct scan_plain plains[] = {{0x20, 0xff, {'"', '\\', 0x7f}},
                                               {0, 0x7f, {0xff, 0xff, 0xff}},
                                               {0x20, 0x7f, {'"', '\\', '\\'}},
                                               {0x20, 0xff, {0xef, 0xef, 0xef}}};
    uint8_t bytes[97];
    assert_int_equal(scan_run(plains[0], (struct slice){NULL, 0}), 0);
    for (size_t length = 1; length <= sizeof bytes; length += 3) {
        for (unsigned c = 0; c < 256; c++) {
            size_t at = (c * 7) % length;
            memset(bytes, 'x', length);
            bytes[at] = (uint8_t)c;
            struct slice in = slice_make(bytes, length);
            for (size_t i = 0; i < ARRAY_COUNT(plains); i++)
                assert_int_equal(scan_run(plains[i], in), run_by_bytes(plains[i], in));
        }
    }
}

static void test_utf8_far_in(void **state)
{
    (void)state;
    for (size_t at = 0; at < 40; at++) {
        char text[] = "0123456789012345678901234567890123456789";
        struct slice whole = slice_make(text, 40);
        assert_true(utf8_valid(whole));
        text[at] = (char)0xff;
        assert_false(utf8_valid(whole));
        memcpy(text + (at < 38 ? at : 38), "\xc3\xa9", 2);
        assert_true(at >= 38 || utf8_valid(whole));
    }
}

/* UUIDs are drawn ahead; a child must not draw what its parent will. */
static void test_uuids_differ_after_a_fork(void **state)
{
    (void)state;
    uint8_t ours[UUID_BYTES];
    uint8_t theirs[UUID_BYTES];
    int ends[2];
    uuid_random(ours); /* draws ahead */
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        uuid_random(theirs);
        _exit(write(ends[1], theirs, sizeof theirs) == sizeof theirs ? 0 : 1);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(read(ends[0], theirs, sizeof theirs), sizeof theirs);
    for (int i = 0; i < 100; i++) {
        uuid_random(ours);
        assert_memory_not_equal(ours, theirs, sizeof ours);
    }
    close(ends[0]);
    close(ends[1]);
}

static void test_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {
        {"", true},
        {"plain", true},
        {"\x7f", true},
        {"\xc2\x80", true},
        {"\xdf\xbf", true},
        {"\xe0\xa0\x80", true},
        {"\xed\x9f\xbf", true}, /* the last before the surrogates */
        {"\xee\x80\x80", true},
        {"\xef\xbf\xbf", true},
        {"\xf0\x90\x80\x80", true},
        {"\xf4\x8f\xbf\xbf", true}, /* U+10FFFF */
        {"\x80", false},
        {"\xbf", false},
        {"\xc0\x80", false}, /* overlong */
        {"\xc1\xbf", false},
        {"\xe0\x9f\xbf", false},
        {"\xf0\x8f\xbf\xbf", false},
        {"\xed\xa0\x80", false}, /* surrogates */
        {"\xed\xbf\xbf", false},
        {"\xf4\x90\x80\x80", false}, /* above U+10FFFF */
        {"\xf5\x80\x80\x80", false},
        {"\xff", false},
        {"\xc2", false}, /* cut off */
        {"\xe2\x82", false},
        {"\xf0\x9f\x98", false},
        {"\xc2\x41", false},
        {"\xe2\x82\x41", false},
        {"\xe2\x41\x82", false},
        {"a\xf0\x9f\x98\x80z", true},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        if (utf8_valid(slice_of(cases[i].text)) != cases[i].valid)
            fail_msg("case %zu", i);
    }
}

/* Every code point, encoded here in the plain way, is valid and decodes to itself. */
static void test_utf8_all(void **state)
{
    (void)state;
    for (uint32_t point = 0; point <= 0x10ffff; point++) {
        uint8_t bytes[4];
        size_t length = 0;
        if (point < 0x80) {
            bytes[length++] = (uint8_t)point;
        } else {
            unsigned tail = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
            static const uint8_t leads[] = {0, 0xc0, 0xe0, 0xf0};
            bytes[length++] = (uint8_t)(leads[tail] | point >> 6 * tail);
            while (tail-- > 0)
                bytes[length++] = (uint8_t)(0x80 | (point >> 6 * tail & 0x3f));
        }
        struct slice in = slice_make(bytes, length);
        bool surrogate = point >= 0xd800 && point <= 0xdfff;
        assert_int_equal(utf8_valid(in), !surrogate);
        size_t offset = 0;
        if (!surrogate)
            assert_int_equal(utf8_next(in, &offset), point);
        assert_int_equal(offset, surrogate ? 0 : length);
    }
}

static void test_crc32c(void **state)
{
    (void)state;
    uint8_t bytes[32]; /* RFC 3720 B.4 */
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(crc32c(0, slice_make(bytes, 32)), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(crc32c(0, slice_make(bytes, 32)), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = i;
    assert_int_equal(crc32c(0, slice_make(bytes, 32)), 0x46dd794e);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = (uint8_t)(31 - i);
    assert_int_equal(crc32c(0, slice_make(bytes, 32)), 0x113fdb5c);
    assert_int_equal(crc32c(0, SLICE_LITERAL("123456789")), 0xe3069283);
    assert_int_equal(crc32c(0, slice_make(NULL, 0)), 0);
}

/* Hardware and table agree at every length and alignment, and in pieces. */
static void test_crc32c_portable(void **state)
{
    (void)state;
    uint8_t bytes[300];
    uint32_t seed = 1;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
    for (size_t start = 0; start < 9; start++) {
        for (size_t length = 0; start + length <= sizeof bytes; length++) {
            struct slice in = slice_make(bytes + start, length);
            uint32_t whole = crc32c(0, in);
            assert_int_equal(whole, crc32c_portable(0, in));
            size_t cut = length / 3;
            uint32_t first = crc32c(0, slice_make(in.data, cut));
            assert_int_equal(whole, crc32c(first, slice_sub(in, cut)));
        }
    }
}

/* Long enough for all the runs that are taken at once, and just not. */
static void test_crc32c_long(void **state)
{
    (void)state;
    static uint8_t bytes[20000];
    uint32_t seed = 7;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
    for (size_t length = 1000; length < 9000; length += 1 + length % 7) {
        struct slice in = slice_make(bytes + length % 13, length);
        assert_int_equal(crc32c(seed, in), crc32c_portable(seed, in));
    }
    struct slice all = slice_make(bytes, sizeof bytes);
    assert_int_equal(crc32c(0, all), crc32c_portable(0, all));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_base64_refuses),
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_percent),
        cmocka_unit_test(test_encode_percent),
        cmocka_unit_test(test_uuid),
        cmocka_unit_test(test_digests),
        cmocka_unit_test(test_md5_each),
        cmocka_unit_test(test_scan),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_utf8_far_in),
        cmocka_unit_test(test_uuids_differ_after_a_fork),
        cmocka_unit_test(test_utf8_all),
        cmocka_unit_test(test_crc32c),
        cmocka_unit_test(test_crc32c_portable),
        cmocka_unit_test(test_crc32c_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
