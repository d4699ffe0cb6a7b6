/* SPDX-License-Identifier: Apache-2.0 */
/* From a request to a caller. Checked in this order, as AWS does, so that each mistake gets its own
 * error: the form of the claim, the key, the scope, the time, the signature.
 *
 * The signature is compared in constant time. That a key id exists, and is not disabled, can be
 * found out by anyone; it is no secret, and the answers are AWS's. A signature can be replayed
 * until its time is over: SigV4 has nothing against that but the time (and TLS). */
#include "broker/auth/internal.h"

#include "proto/base/assert.h"

#include <stdio.h>

#define SESSION_TOKEN                                                                              \
    "Session tokens are not supported: this endpoint knows access keys only. Sign without "        \
    "AWS_SESSION_TOKEN."

static bool fail(struct auth_failure *failure, enum auth_failure_code code, const char *message)
{
    *failure = (struct auth_failure){code, message};
    return false;
}

static const struct {
    const char *exception;
    int status;
    const char *text;
} failures[AUTH_FAILURE_COUNT] = {
#define AUTH_FAILURE(name, query_code, exception, status, text)                                    \
    [AUTH_##name] = {exception, status, text},
#include "broker/auth/failures.def"
#undef AUTH_FAILURE
};

const char *auth_failure_exception(enum auth_failure_code code)
{
    ASSERT(code > AUTH_OK && code < AUTH_FAILURE_COUNT);
    return failures[code].exception;
}

int auth_failure_status(enum auth_failure_code code)
{
    ASSERT(code > AUTH_OK && code < AUTH_FAILURE_COUNT);
    return failures[code].status;
}

bool auth_fail(struct auth_failure *failure, enum auth_failure_code code)
{
    return fail(failure, code, failures[code].text);
}

/* ---- time ---- */

static const char *skew_message(const struct sigv4_claim *claim, uint64_t now_s,
                                struct arena *arena)
{
    char now[MOMENT_LENGTH + 1];
    char limit[MOMENT_LENGTH + 1];
    bool late = claim->time_s < now_s;
    moment_format(now_s, now);
    moment_format(late ? now_s - AUTH_SKEW_S : now_s + AUTH_SKEW_S, limit);
    return arena_printf(arena,
                        late ? "Signature expired: %.*s is now earlier than %s (%s - 15 min.)"
                             : "Signature not yet current: %.*s is still later than %s (%s + 15 "
                               "min.)",
                        SLICE_ARGS(claim->time), limit, now);
}

static bool time_good(const struct sigv4_claim *claim, uint64_t now_s, struct arena *arena,
                      struct auth_failure *failure)
{
    if (claim->time_s > now_s + AUTH_SKEW_S ||
        (!claim->presigned && claim->time_s + AUTH_SKEW_S < now_s))
        return fail(failure, AUTH_BAD_SIGNATURE, skew_message(claim, now_s, arena));
    if (claim->presigned && claim->time_s + claim->expires_s < now_s)
        return auth_fail(failure, AUTH_EXPIRED);
    return true;
}

/* ---- body ---- */

/* What stands for the body in the canonical request: its hash, unless the request may say that it
 * is not signed. */
static bool payload_of(const struct auth_input *input, const struct sigv4_claim *claim,
                       char hash[2 * SHA256_BYTES], struct slice *out, struct auth_failure *failure)
{
    struct slice said = claim->content_sha256;
    bool is_unsigned = slice_is(said, SIGV4_UNSIGNED_PAYLOAD);
    if (is_unsigned && input->unsigned_payload && input->secure) {
        *out = said;
        return true;
    }
    if (is_unsigned)
        return fail(failure, AUTH_BAD_SIGNATURE,
                    "UNSIGNED-PAYLOAD is for the Lambda API over TLS only: sign the body's hash.");
    if (slice_starts_with(said, "STREAMING-"))
        return fail(failure, AUTH_BAD_SIGNATURE,
                    "Signatures in chunks are not supported: sign the body's hash.");
    if (input->body_sha256 != NULL)
        memcpy(hash, input->body_sha256, 2 * SHA256_BYTES);
    else
        hash_sha256_hex(input->body, hash);
    *out = slice_make(hash, 2 * SHA256_BYTES);
    if (said.data != NULL && !slice_equal(said, *out))
        return fail(failure, AUTH_BAD_SIGNATURE,
                    "The value of X-Amz-Content-Sha256 does not match the body.");
    return true;
}

/* ---- signature ---- */

static bool signature_good(struct auth *auth, struct key *key, const struct auth_input *input,
                           const struct sigv4_claim *claim, struct auth_failure *failure)
{
    char hash[2 * SHA256_BYTES];
    char signature[SIGV4_HEX_LENGTH];
    struct slice payload;
    struct sigv4_key scratch;
    if (!payload_of(input, claim, hash, &payload, failure))
        return false;
    buffer_clear(&auth->scratch);
    const char *why = sigv4_canonical(&auth->scratch, &input->request, claim, payload);
    if (why != NULL)
        return fail(failure, AUTH_BAD_SIGNATURE, why);
    const struct sigv4_key *signing = keys_signing(key, claim, &scratch);
    sigv4_signature(signing, claim, buffer_slice(&auth->scratch), signature);
    ASSERT(claim->signature.length == SIGV4_HEX_LENGTH);
    if (!hash_equal(signature, claim->signature.data, SIGV4_HEX_LENGTH))
        return auth_fail(failure, AUTH_BAD_SIGNATURE);
    return true;
}

static bool claim_good(struct auth *auth, struct key *key, const struct auth_input *input,
                       const struct sigv4_claim *claim, struct arena *arena,
                       struct auth_failure *failure)
{
    if (!slice_is(claim->service, input->service))
        return fail(failure, AUTH_BAD_SIGNATURE,
                    arena_printf(arena, "Credential should be scoped to correct service: '%s'.",
                                 input->service));
    return time_good(claim, input->now_s, arena, failure) &&
           signature_good(auth, key, input, claim, failure);
}

void auth_describe(const struct key *key, struct arena *arena, struct auth_caller *out)
{
    const struct key_record *record = &key->record;
    out->kind = AUTH_KEY;
    out->key_id = arena_copy(arena, record->id);
    out->account = arena_copy(arena, record->account);
    out->name = arena_copy(arena, record->name);
    out->arn = arena_copy(arena, slice_of(key->arn));
    out->root = record->root;
}

bool auth_authenticate(struct auth *auth, const struct auth_input *input, struct arena *arena,
                       struct auth_caller *out, struct auth_failure *failure)
{
    struct sigv4_claim claim;
    const char *why;
    *out = (struct auth_caller){.kind = AUTH_UNCHECKED,
                                .source_ip = arena_copy(arena, input->source_ip),
                                .user_agent = arena_copy(arena, input->user_agent),
                                .secure = input->secure,
                                .now_s = input->now_s};
    if (!auth_required(auth))
        return true;
    enum sigv4_reading reading = sigv4_read(&input->request, arena, &claim, &why);
    if (reading == SIGV4_INCOMPLETE)
        return fail(failure, AUTH_INCOMPLETE, why);
    out->kind = AUTH_ANONYMOUS;
    if (reading == SIGV4_UNSIGNED)
        return true;
    if (claim.session_token.data != NULL)
        return fail(failure, AUTH_UNKNOWN_KEY, SESSION_TOKEN);
    struct key *key = keys_find(auth, claim.access_key_id);
    if (key == NULL || key->record.disabled)
        return auth_fail(failure, AUTH_UNKNOWN_KEY);
    if (!claim_good(auth, key, input, &claim, arena, failure))
        return false;
    auth_describe(key, arena, out);
    out->region = arena_copy(arena, claim.region);
    return true;
}

struct slice auth_presign(struct auth *auth, const struct auth_caller *caller, struct slice path,
                          struct slice host, const char *service, uint32_t expires_s,
                          struct arena *arena)
{
    const struct key *key = caller->kind == AUTH_KEY ? keys_find(auth, caller->key_id) : NULL;
    if (key == NULL)
        return (struct slice){0};
    const struct sigv4_header headers[] = {{SLICE_LITERAL("Host"), host}};
    struct sigv4_request request = {SLICE_LITERAL("GET"), path, {0}, headers, 1};
    struct sigv4_signer signer = {caller->key_id, key->record.secret, caller->region,
                                  slice_of(service), caller->now_s};
    return slice_of(sigv4_presign(&request, &signer, expires_s, arena));
}
