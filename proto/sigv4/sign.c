/* SPDX-License-Identifier: Apache-2.0 */
/* Keys, the string to sign, signatures; and signing as a client does it.
 *
 * A signing key is a chain of four HMACs that depends on the secret, the day, the region and the
 * service, so a broker derives it once a day for each. Signing builds the same claim that a broker
 * would read, and the same canonical request from it. */
#include "proto/sigv4/sigv4.h"

#include "proto/base/assert.h"
#include "proto/base/encode.h"

#include <stdlib.h>

static void chain(uint8_t key[SHA256_BYTES], struct slice text)
{
    struct hash_key prepared;
    hash_key_init(&prepared, slice_make(key, SHA256_BYTES));
    hash_hmac(&prepared, text, key);
    hash_wipe(&prepared, sizeof prepared);
}

void sigv4_key_init(struct sigv4_key *key, struct slice secret, struct slice date,
                    struct slice region, struct slice service)
{
    struct buffer first = {0};
    uint8_t bytes[SHA256_BYTES];
    buffer_reserve(&first, secret.length + 4); /* once: a grown buffer leaves a copy behind */
    buffer_add_text(&first, "AWS4");
    buffer_add_slice(&first, secret);
    hash_key_init(&key->key, buffer_slice(&first));
    hash_hmac(&key->key, date, bytes);
    chain(bytes, region);
    chain(bytes, service);
    chain(bytes, SLICE_LITERAL("aws4_request"));
    hash_key_init(&key->key, slice_make(bytes, sizeof bytes));
    hash_wipe(bytes, sizeof bytes);
    hash_wipe(first.data, first.length);
    buffer_free(&first);
}

/* AWS4-HMAC-SHA256 \n time \n date/region/service/aws4_request \n hash of the canonical request */
void sigv4_signature(const struct sigv4_key *key, const struct sigv4_claim *claim,
                     struct slice canonical, char out[SIGV4_HEX_LENGTH])
{
    struct hash hash = key->key.inner;
    char digest[2 * SHA256_BYTES];
    uint8_t signature[SHA256_BYTES];
    hash_sha256_hex(canonical, digest);
    const struct slice parts[] = {
        SLICE_LITERAL(SIGV4_ALGORITHM "\n"),
        claim->time,
        SLICE_LITERAL("\n"),
        claim->date,
        SLICE_LITERAL("/"),
        claim->region,
        SLICE_LITERAL("/"),
        claim->service,
        SLICE_LITERAL("/aws4_request\n"),
        slice_make(digest, sizeof digest),
    };
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++)
        hash_add(&hash, parts[i]);
    hash_end(&hash, signature);
    hash = key->key.outer;
    hash_add(&hash, slice_make(signature, sizeof signature));
    hash_end(&hash, signature);
    hash_hex(signature, out);
}

/* ---- signing ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* "host;x-amz-date": the names of all headers. */
static struct slice names_of(const struct sigv4_request *request, struct arena *arena)
{
    const char **names = arena_alloc(arena, (request->header_count + 1) * sizeof *names);
    struct buffer text = {0};
    for (size_t i = 0; i < request->header_count; i++) {
        struct slice name = arena_copy(arena, request->headers[i].name);
        for (size_t k = 0; k < name.length; k++) {
            uint8_t *at = (uint8_t *)(uintptr_t)&name.data[k];
            *at = *at >= 'A' && *at <= 'Z' ? (uint8_t)(*at | 0x20) : *at;
        }
        names[i] = (const char *)name.data;
    }
    qsort(names, request->header_count, sizeof *names, compare_names);
    for (size_t i = 0; i < request->header_count; i++) {
        if (i > 0 && strcmp(names[i], names[i - 1]) == 0)
            continue;
        if (i > 0)
            buffer_add_byte(&text, ';');
        buffer_add_text(&text, names[i]);
    }
    struct slice joined = arena_copy(arena, buffer_slice(&text));
    buffer_free(&text);
    return joined;
}

/* The claim that this request will make; the query must be as it will be sent. */
static struct sigv4_claim claim_of(const struct sigv4_request *request,
                                   const struct sigv4_signer *signer, struct slice signed_headers,
                                   struct arena *arena)
{
    struct sigv4_claim claim;
    const char *why;
    char *time = arena_alloc(arena, MOMENT_LENGTH + 1);
    enum sigv4_reading reading = sigv4_read(request, arena, &claim, &why);
    ASSERT(reading != SIGV4_SIGNED);
    moment_format(signer->now_s, time);
    claim.time = slice_make(time, MOMENT_LENGTH);
    claim.date = slice_make(time, MOMENT_DATE_LENGTH);
    claim.region = signer->region;
    claim.service = signer->service;
    claim.signed_headers = signed_headers;
    return claim;
}

static const char *signature_of(const struct sigv4_request *request,
                                const struct sigv4_signer *signer, const struct sigv4_claim *claim,
                                struct slice body, struct arena *arena)
{
    struct buffer canonical = {0};
    struct sigv4_key key;
    char payload[2 * SHA256_BYTES];
    char *signature = arena_alloc(arena, SIGV4_HEX_LENGTH + 1);
    hash_sha256_hex(body, payload);
    const char *why =
        sigv4_canonical(&canonical, request, claim, slice_make(payload, sizeof payload));
    ASSERT(why == NULL);
    sigv4_key_init(&key, signer->secret, claim->date, claim->region, claim->service);
    sigv4_signature(&key, claim, buffer_slice(&canonical), signature);
    hash_wipe(&key, sizeof key);
    buffer_free(&canonical);
    return signature;
}

const char *sigv4_sign(const struct sigv4_request *request, const struct sigv4_signer *signer,
                       struct slice body, struct arena *arena)
{
    struct slice names = names_of(request, arena);
    struct sigv4_claim claim = claim_of(request, signer, names, arena);
    return arena_printf(arena,
                        SIGV4_ALGORITHM " Credential=%.*s/%.*s/%.*s/%.*s/aws4_request, "
                                        "SignedHeaders=%.*s, Signature=%s",
                        SLICE_ARGS(signer->access_key_id), SLICE_ARGS(claim.date),
                        SLICE_ARGS(claim.region), SLICE_ARGS(claim.service), SLICE_ARGS(names),
                        signature_of(request, signer, &claim, body, arena));
}

const char *sigv4_presign(const struct sigv4_request *request, const struct sigv4_signer *signer,
                          uint32_t expires_s, struct arena *arena)
{
    struct buffer scope = {0};
    char time[MOMENT_LENGTH + 1];
    moment_format(signer->now_s, time);
    encode_percent(&scope, signer->access_key_id, false);
    const char *query = arena_printf(
        arena,
        "%.*s%sX-Amz-Algorithm=" SIGV4_ALGORITHM "&X-Amz-Credential=%.*s%%2F%.8s%%2F%.*s%%2F%.*s"
        "%%2Faws4_request&X-Amz-Date=%s&X-Amz-Expires=%u&X-Amz-SignedHeaders=host",
        SLICE_ARGS(request->query), request->query.length > 0 ? "&" : "",
        SLICE_ARGS(buffer_slice(&scope)), time, SLICE_ARGS(signer->region),
        SLICE_ARGS(signer->service), time, expires_s);
    buffer_free(&scope);
    struct sigv4_request full = *request;
    full.query = slice_of(query);
    struct sigv4_claim claim = claim_of(&full, signer, SLICE_LITERAL("host"), arena);
    return arena_printf(arena, "%s&X-Amz-Signature=%s", query,
                        signature_of(&full, signer, &claim, (struct slice){0}, arena));
}
