/* SPDX-License-Identifier: Apache-2.0 */
/* From the proof of a connection to a caller (proto/sigv4/proof.h), and whether it still holds. The
 * answers are those that a signed request gets. */
#include "broker/auth/internal.h"

#include "proto/base/assert.h"

static bool matches(const struct key *key, const struct auth_proof *proof)
{
    uint8_t expected[PROOF_BYTES];
    proof_make(key->record.secret, &proof->terms, expected);
    bool same = hash_equal(expected, proof->proof, PROOF_BYTES);
    hash_wipe(expected, sizeof expected);
    return same;
}

static const struct key *prove(struct auth *auth, struct auth_proof *proof,
                               struct auth_failure *failure)
{
    const struct key *key = keys_find(auth, proof->terms.access_key_id);
    if (key == NULL || key->record.disabled) {
        auth_fail(failure, AUTH_UNKNOWN_KEY);
        return NULL;
    }
    if (key->version != proof->version && !matches(key, proof)) {
        auth_fail(failure, AUTH_BAD_SIGNATURE);
        return NULL;
    }
    proof->version = key->version;
    return key;
}

bool auth_prove(struct auth *auth, struct auth_proof *proof, struct arena *arena,
                struct auth_caller *out, struct auth_failure *failure)
{
    ASSERT(auth_required(auth));
    proof->version = 0;
    const struct key *key = prove(auth, proof, failure);
    if (key == NULL)
        return false;
    *out = (struct auth_caller){.region = arena_copy(arena, proof->terms.region)};
    auth_describe(key, arena, out);
    return true;
}

bool auth_proof_holds(struct auth *auth, struct auth_proof *proof, struct auth_failure *failure)
{
    return prove(auth, proof, failure) != NULL;
}
