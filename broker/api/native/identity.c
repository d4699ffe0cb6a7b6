/* SPDX-License-Identifier: Apache-2.0 */
/* Where signatures are not checked a key that is named need not be proven: its calls are as
 * unchecked as all others, and a client with a key can use any broker. */
#include "broker/api/native/identity.h"

#include "broker/api/access.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/sigv4/moment.h"

#include <stdlib.h>

#define MS_PER_S 1000u

struct identity {
    struct api *api;
    unsigned references;
    struct arena arena;
    struct auth_caller caller;
    struct auth_proof proof;
    bool proven;
};

struct identity *identity_new(struct api *api, const struct link *link)
{
    struct identity *identity = calloc(1, sizeof *identity);
    ASSERT(identity != NULL);
    identity->api = api;
    identity->references = 1;
    identity->caller = (struct auth_caller){
        .kind = auth_required(api_auth(api)) ? AUTH_ANONYMOUS : AUTH_UNCHECKED,
        .source_ip = arena_copy(&identity->arena, access_address(link_peer(link))),
        .secure = link_secure(link)};
    return identity;
}

struct identity *identity_hold(struct identity *identity)
{
    identity->references++;
    return identity;
}

void identity_release(struct identity *identity)
{
    ASSERT(identity->references > 0);
    if (--identity->references > 0)
        return;
    arena_free(&identity->arena);
    free(identity);
}

bool identity_challenge(struct identity *identity, const Millrace__ClientHello *hello,
                        uint8_t nonce[PROOF_NONCE_BYTES], const char **time, const char **wrong)
{
    struct arena *arena = &identity->arena;
    struct proof_terms *terms = &identity->proof.terms;
    char now[MOMENT_LENGTH + 1];
    *wrong = NULL;
    if (hello->access_key_id[0] == '\0' || identity->caller.kind == AUTH_UNCHECKED)
        return false;
    moment_format(clock_now_ms() / MS_PER_S, now);
    terms->access_key_id = arena_copy(arena, slice_of(hello->access_key_id));
    terms->region = arena_copy(arena, slice_of(hello->region));
    terms->time = slice_of(arena_text(arena, slice_of(now)));
    clock_random(terms->broker_nonce, PROOF_NONCE_BYTES);
    if (!proof_terms_valid(terms))
        *wrong = "the region must be 1 to 32 of a-z, 0-9 and '-'";
    else if (hello->nonce.len != PROOF_NONCE_BYTES)
        *wrong = "a greeting with an access key needs a nonce of 32 bytes";
    else
        memcpy(terms->client_nonce, hello->nonce.data, PROOF_NONCE_BYTES);
    memcpy(nonce, terms->broker_nonce, PROOF_NONCE_BYTES);
    *time = (const char *)terms->time.data;
    return true;
}

bool identity_prove(struct identity *identity, struct slice proof, struct auth_failure *failure)
{
    struct auth_caller caller;
    /* One of another length is wrong like any other. */
    memset(identity->proof.proof, 0, PROOF_BYTES);
    if (proof.length == PROOF_BYTES)
        memcpy(identity->proof.proof, proof.data, PROOF_BYTES);
    if (!auth_prove(api_auth(identity->api), &identity->proof, &identity->arena, &caller, failure))
        return false;
    caller.source_ip = identity->caller.source_ip;
    caller.secure = identity->caller.secure;
    identity->caller = caller;
    identity->proven = true;
    return true;
}

struct slice identity_region(const struct identity *identity)
{
    return identity->caller.region;
}

bool identity_caller(struct identity *identity, struct auth_caller *out,
                     struct auth_failure *failure)
{
    *out = identity->caller;
    out->now_s = clock_now_ms() / MS_PER_S;
    return !identity->proven ||
           auth_proof_holds(api_auth(identity->api), &identity->proof, failure);
}
