/* SPDX-License-Identifier: Apache-2.0 */
/* SipHash against values of others: the paper's appendix A, and CPython 3.11, which hashes bytes
 * with SipHash-1-3 under a key of zeros when PYTHONHASHSEED=0. */
#include "proto/base/siphash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct siphash_key paper = {
    {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)}};

static void test_paper(void **state)
{
    (void)state;
    uint8_t bytes[15];
    for (uint8_t i = 0; i < sizeof bytes; i++)
        bytes[i] = i;
    assert_int_equal(siphash_24(paper, slice_make(bytes, sizeof bytes)),
                     UINT64_C(0xa129ca6149be45e5));
    assert_int_equal(siphash_24(paper, slice_make(bytes, 0)), UINT64_C(0x726fdb47dd0e0e31));
}

static void test_python(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t hash;
    } rows[] = {
        {"a", UINT64_C(0x407448d2b89b1813)},
        {"sqs", UINT64_C(0xdf7a0dabbf896d55)},
        {"12345678", UINT64_C(0x3489982430560a87)},
        {"00000000-5717-4562-b3fc-000000000000", UINT64_C(0x3a53f7704329df89)},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(siphash((struct siphash_key){{0, 0}}, slice_of(rows[i].text)),
                         rows[i].hash);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paper),
        cmocka_unit_test(test_python),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
