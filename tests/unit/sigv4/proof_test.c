/* SPDX-License-Identifier: Apache-2.0 */
/* A proof against one that was computed elsewhere (Python's hmac), and that all of its terms are in
 * it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/sigv4/proof.h"

#define SECRET SLICE_LITERAL("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")

static struct proof_terms usual(void)
{
    struct proof_terms terms = {.access_key_id = SLICE_LITERAL("AKIDEXAMPLE"),
                                .region = SLICE_LITERAL("us-east-1"),
                                .time = SLICE_LITERAL("20260131T235959Z")};
    for (uint8_t i = 0; i < PROOF_NONCE_BYTES; i++) {
        terms.broker_nonce[i] = i;
        terms.client_nonce[i] = PROOF_NONCE_BYTES + i;
    }
    return terms;
}

static void assert_proof(const struct proof_terms *terms, struct slice secret, bool same)
{
    static const char expected[] =
        "c88c8297069e9298e57bcbd88747b36c8ab936c879cb779e2f054754a64be070";
    uint8_t proof[PROOF_BYTES];
    char hex[2 * PROOF_BYTES];
    proof_make(secret, terms, proof);
    hash_hex(proof, hex);
    assert_int_equal(memcmp(hex, expected, sizeof hex) == 0, same);
}

static void test_a_known_proof(void **state)
{
    (void)state;
    struct proof_terms terms = usual();
    assert_proof(&terms, SECRET, true);
    assert_proof(&terms, SLICE_LITERAL("another"), false);
}

static void test_every_term_counts(void **state)
{
    (void)state;
    struct proof_terms terms[5];
    for (size_t i = 0; i < 5; i++)
        terms[i] = usual();
    terms[0].access_key_id = SLICE_LITERAL("AKIDEXAMPLF");
    terms[1].region = SLICE_LITERAL("us-east-2");
    terms[2].time = SLICE_LITERAL("20260131T235958Z");
    terms[3].broker_nonce[31] ^= 1;
    terms[4].client_nonce[0] ^= 0x80;
    for (size_t i = 0; i < 5; i++)
        assert_proof(&terms[i], SECRET, false);
}

static void test_terms_have_a_form(void **state)
{
    (void)state;
    static const char *const regions[] = {"",     "US-EAST-1", "a b",
                                          "a\nb", "a/b",       "a23456789012345678901234567890123"};
    static const char *const times[] = {"", "20260131T235959", "20260231T235959Z",
                                        "20260131T235959Z ", "2026-01-31T23:59"};
    struct proof_terms terms = usual();
    assert_true(proof_terms_valid(&terms));
    for (size_t i = 0; i < sizeof regions / sizeof regions[0]; i++) {
        terms.region = slice_of(regions[i]);
        assert_false(proof_terms_valid(&terms));
    }
    terms = usual();
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        terms.time = slice_of(times[i]);
        assert_false(proof_terms_valid(&terms));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_known_proof),
        cmocka_unit_test(test_every_term_counts),
        cmocka_unit_test(test_terms_have_a_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
