/* SPDX-License-Identifier: Apache-2.0 */
/* Any request's claim of a signature: method, path, query and headers, one line each.
 *   - a canonical request has exactly the lines that it should have: nothing in it can add one;
 *   - signing it and reading what was signed gives the same canonical request and signature. */
#include "proto/base/assert.h"
#include "proto/sigv4/sigv4.h"

#define HEADERS_MAX     24
#define INPUT_BYTES_MAX 1024 /* long inputs find nothing that short ones do not */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice line(struct slice *rest)
{
    ptrdiff_t end = slice_find(*rest, '\n');
    struct slice taken = slice_make(rest->data, end < 0 ? rest->length : (size_t)end);
    *rest = slice_sub(*rest, end < 0 ? rest->length : (size_t)end + 1);
    return taken;
}

static size_t count_bytes(struct slice text, char byte)
{
    size_t count = 0;
    for (size_t i = 0; i < text.length; i++)
        count += text.data[i] == (uint8_t)byte;
    return count;
}

static struct slice value_of(const char *authorization)
{
    const char *at = strstr(authorization, "Signature=");
    ASSERT(at != NULL);
    return slice_of(at + 10);
}

/* The same request, signed by us: every header but the old claim. */
static void sign_again(const struct sigv4_request *request, const struct sigv4_claim *claim,
                       struct slice secret, struct arena *arena)
{
    struct sigv4_header headers[HEADERS_MAX + 1];
    struct sigv4_request copy = *request;
    struct buffer first = {0};
    char signature[SIGV4_HEX_LENGTH];
    struct sigv4_key key;
    struct sigv4_claim again;
    const char *why;
    copy.headers = headers;
    copy.header_count = 0;
    for (size_t i = 0; i < request->header_count; i++) {
        if (!slice_is_nocase(request->headers[i].name, "authorization"))
            headers[copy.header_count++] = request->headers[i];
    }
    struct sigv4_signer signer = {claim->access_key_id, secret, claim->region, claim->service,
                                  claim->time_s};
    struct slice names = claim->signed_headers;
    if (count_bytes(names, ';') + 1 != copy.header_count)
        return; /* only a request with every header signed, each once */
    const char *value = sigv4_sign(&copy, &signer, SLICE_LITERAL("body"), arena);
    headers[copy.header_count++] =
        (struct sigv4_header){SLICE_LITERAL("Authorization"), slice_of(value)};
    ASSERT(sigv4_read(&copy, arena, &again, &why) == SIGV4_SIGNED);
    ASSERT(slice_equal(again.signed_headers, names));
    char payload[2 * SHA256_BYTES];
    hash_sha256_hex(SLICE_LITERAL("body"), payload);
    ASSERT(sigv4_canonical(&first, &copy, &again, slice_make(payload, sizeof payload)) == NULL);
    sigv4_key_init(&key, secret, again.date, again.region, again.service);
    sigv4_signature(&key, &again, buffer_slice(&first), signature);
    ASSERT(slice_equal(value_of(value), slice_make(signature, sizeof signature)));
    buffer_free(&first);
}

static void check(const struct sigv4_request *request, struct arena *arena)
{
    struct sigv4_claim claim;
    struct buffer text = {0};
    const char *why = NULL;
    enum sigv4_reading reading = sigv4_read(request, arena, &claim, &why);
    if (reading == SIGV4_INCOMPLETE)
        ASSERT(why != NULL);
    if (reading != SIGV4_SIGNED)
        return;
    ASSERT(claim.signature.length == SIGV4_HEX_LENGTH);
    if (sigv4_canonical(&text, request, &claim, SLICE_LITERAL("hash")) == NULL) {
        size_t names = count_bytes(claim.signed_headers, ';') + 1;
        ASSERT(count_bytes(buffer_slice(&text), '\n') == names + 5);
        if (!claim.presigned)
            sign_again(request, &claim, SLICE_LITERAL("secret"), arena);
    }
    buffer_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = slice_make(data, size < INPUT_BYTES_MAX ? size : INPUT_BYTES_MAX);
    struct sigv4_header headers[HEADERS_MAX];
    struct arena arena = {0};
    struct sigv4_request request = {.headers = headers};
    request.method = line(&rest);
    request.path = line(&rest);
    request.query = line(&rest);
    while (rest.length > 0 && request.header_count < HEADERS_MAX) {
        struct slice value = line(&rest);
        ptrdiff_t colon = slice_find(value, ':');
        if (colon <= 0)
            continue;
        headers[request.header_count++] = (struct sigv4_header){
            slice_make(value.data, (size_t)colon), slice_sub(value, (size_t)colon + 1)};
    }
    check(&request, &arena);
    arena_free(&arena);
    return 0;
}
