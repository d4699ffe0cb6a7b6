/* SPDX-License-Identifier: Apache-2.0 */
/* What a request claims about its signature.
 *
 *     Authorization: AWS4-HMAC-SHA256 Credential=ID/20260131/us-east-1/sqs/aws4_request,
 *                    SignedHeaders=host;x-amz-date, Signature=64 hex digits
 *     X-Amz-Date: 20260131T235959Z
 * or, presigned, the same as parameters of the query: X-Amz-Algorithm, X-Amz-Credential,
 * X-Amz-Date, X-Amz-Expires, X-Amz-SignedHeaders, X-Amz-Signature.
 *
 * Both are read into one struct; which parts there are is one table for each. The query is brought
 * into its canonical form here already, since the presigned claim is found in it: each name and
 * value is decoded as a form is ('+' is a space, as the API reads it) and encoded again, so that
 * two queries with one canonical form mean the same to whoever acts on them. */
#include "proto/sigv4/sigv4.h"

#include "proto/base/assert.h"
#include "proto/base/encode.h"

#include <stdlib.h>

#define SCOPE_PARTS 5

/* The parts of a claim as texts, before they are checked. */
struct parts {
    struct slice credential;
    struct slice signed_headers;
    struct slice signature;
    struct slice time;
    struct slice expires;
};

/* ---- small things ---- */

static struct slice trimmed(struct slice s)
{
    while (s.length > 0 && (s.data[0] == ' ' || s.data[0] == '\t'))
        s = slice_sub(s, 1);
    while (s.length > 0 && (s.data[s.length - 1] == ' ' || s.data[s.length - 1] == '\t'))
        s.length--;
    return s;
}

/* The part up to `separator`; `rest` becomes what is behind it, or absent. */
static struct slice cut(struct slice *rest, char separator)
{
    ptrdiff_t at = slice_find(*rest, separator);
    struct slice part = *rest;
    if (at < 0) {
        *rest = (struct slice){0};
        return part;
    }
    part.length = (size_t)at;
    *rest = slice_sub(*rest, (size_t)at + 1);
    return part;
}

static bool made_of(struct slice text, const char *more)
{
    for (size_t i = 0; i < text.length; i++) {
        uint8_t c = text.data[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!word && (c == '\0' || strchr(more, c) == NULL))
            return false;
    }
    return text.length > 0;
}

static bool is_signature(struct slice text)
{
    for (size_t i = 0; i < text.length; i++) {
        bool digit = text.data[i] >= '0' && text.data[i] <= '9';
        if (!digit && (text.data[i] < 'a' || text.data[i] > 'f'))
            return false;
    }
    return text.length == SIGV4_HEX_LENGTH;
}

static bool parse_expires(struct slice text, uint32_t *out)
{
    uint32_t number = 0;
    for (size_t i = 0; i < text.length && i < 7; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        number = number * 10 + (uint32_t)(text.data[i] - '0');
    }
    *out = number;
    return text.length > 0 && text.length < 7 && number >= 1 && number <= SIGV4_EXPIRES_S_MAX;
}

/* ---- the query ---- */

static int compare_slices(struct slice a, struct slice b)
{
    size_t shared = a.length < b.length ? a.length : b.length;
    int order = shared > 0 ? memcmp(a.data, b.data, shared) : 0;
    return order != 0 ? order : (a.length > b.length) - (a.length < b.length);
}

static int compare_parameters(const void *a, const void *b)
{
    const struct sigv4_parameter *left = a;
    const struct sigv4_parameter *right = b;
    int order = compare_slices(left->name, right->name);
    return order != 0 ? order : compare_slices(left->value, right->value);
}

static bool canonical_text(struct slice raw, struct buffer *scratch, struct arena *arena,
                           struct slice *out)
{
    struct buffer encoded = {0};
    buffer_clear(scratch);
    if (decode_percent(scratch, raw, true) != STATUS_OK)
        return false;
    encode_percent(&encoded, buffer_slice(scratch), false);
    *out = arena_copy(arena, buffer_slice(&encoded));
    buffer_free(&encoded);
    return true;
}

static size_t count_parameters(struct slice query)
{
    size_t count = 1;
    for (size_t i = 0; i < query.length; i++)
        count += query.data[i] == '&';
    return count;
}

/* False for a bad escape. Empty parts ("a&&b") say nothing. */
static bool parse_query(struct slice query, struct arena *arena, struct sigv4_parameter **out,
                        size_t *count)
{
    struct buffer scratch = {0};
    bool good = true;
    *count = 0;
    *out = arena_alloc(arena, count_parameters(query) * sizeof **out);
    while (good && query.length > 0) {
        struct slice value = cut(&query, '&');
        if (value.length == 0)
            continue;
        struct slice name = cut(&value, '=');
        struct sigv4_parameter *parameter = &(*out)[(*count)++];
        good = canonical_text(name, &scratch, arena, &parameter->name) &&
               canonical_text(value, &scratch, arena, &parameter->value);
    }
    buffer_free(&scratch);
    qsort(*out, *count, sizeof **out, compare_parameters);
    return good;
}

/* The value of a parameter that may stand there once. False: it stands there twice. */
static bool take_parameter(const struct sigv4_parameter *all, size_t count, const char *name,
                           struct arena *arena, struct slice *out)
{
    *out = (struct slice){0};
    for (size_t i = 0; i < count; i++) {
        if (!slice_is(all[i].name, name))
            continue;
        if (out->data != NULL)
            return false;
        struct buffer text = {0};
        enum status status = decode_percent(&text, all[i].value, false);
        ASSERT(status == STATUS_OK); /* it was encoded here */
        *out = arena_copy(arena, buffer_slice(&text));
        buffer_free(&text);
    }
    return true;
}

static bool has_parameter(const struct sigv4_claim *claim, const char *name)
{
    for (size_t i = 0; i < claim->parameter_count; i++) {
        if (slice_is(claim->parameters[i].name, name))
            return true;
    }
    return false;
}

/* The signature cannot be part of what it signs. */
static void drop_signature(struct sigv4_parameter *all, size_t *count)
{
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++) {
        if (!slice_is(all[i].name, "X-Amz-Signature"))
            all[kept++] = all[i];
    }
    *count = kept;
}

/* ---- headers ---- */

/* As take_parameter. */
static bool take_header(const struct sigv4_request *request, const char *name, struct slice *out)
{
    *out = (struct slice){0};
    for (size_t i = 0; i < request->header_count; i++) {
        if (!slice_is_nocase(request->headers[i].name, name))
            continue;
        if (out->data != NULL)
            return false;
        *out = trimmed(request->headers[i].value);
        if (out->data == NULL)
            *out = SLICE_LITERAL("");
    }
    return true;
}

/* "Name=value, Name=value": each once, and no others. */
static const char *parse_authorization(struct slice text, struct parts *parts)
{
    while (text.length > 0) {
        struct slice value = trimmed(cut(&text, ','));
        struct slice name = cut(&value, '=');
        struct slice *target = slice_is(name, "Credential")      ? &parts->credential
                               : slice_is(name, "SignedHeaders") ? &parts->signed_headers
                               : slice_is(name, "Signature")     ? &parts->signature
                                                                 : NULL;
        if (target == NULL || target->data != NULL || value.data == NULL)
            return "Authorization header must have the parameters Credential, SignedHeaders and "
                   "Signature, separated by commas, and no others.";
        *target = value;
    }
    if (parts->credential.data == NULL)
        return "Authorization header requires 'Credential' parameter.";
    if (parts->signature.data == NULL)
        return "Authorization header requires 'Signature' parameter.";
    if (parts->signed_headers.data == NULL)
        return "Authorization header requires 'SignedHeaders' parameter.";
    return NULL;
}

static const char *read_header(const struct sigv4_request *request, struct slice authorization,
                               struct parts *parts)
{
    struct slice text = authorization;
    struct slice scheme = cut(&text, ' ');
    if (!slice_is(scheme, SIGV4_ALGORITHM))
        return "Authorization header must begin with AWS4-HMAC-SHA256: no other algorithm is "
               "supported.";
    const char *why = parse_authorization(text, parts);
    if (why != NULL)
        return why;
    if (!take_header(request, "X-Amz-Date", &parts->time))
        return "X-Amz-Date must not be given twice.";
    if (parts->time.data == NULL)
        return "Authorization header requires existence of a 'X-Amz-Date' header.";
    return NULL;
}

static const char *read_query(struct sigv4_claim *claim, struct arena *arena, struct parts *parts)
{
    struct slice algorithm;
    const struct {
        const char *name;
        struct slice *out;
    } wanted[] = {
        {"X-Amz-Algorithm", &algorithm},
        {"X-Amz-Credential", &parts->credential},
        {"X-Amz-Date", &parts->time},
        {"X-Amz-Expires", &parts->expires},
        {"X-Amz-SignedHeaders", &parts->signed_headers},
        {"X-Amz-Signature", &parts->signature},
        {"X-Amz-Security-Token", &claim->session_token},
    };
    for (size_t i = 0; i < ARRAY_COUNT(wanted); i++) {
        if (!take_parameter(claim->parameters, claim->parameter_count, wanted[i].name, arena,
                            wanted[i].out))
            return "A parameter of the signature must not be given twice.";
        if (wanted[i].out->data == NULL && wanted[i].out != &claim->session_token)
            return "AWS query-string parameters must include 'X-Amz-Algorithm', "
                   "'X-Amz-Credential', 'X-Amz-Date', 'X-Amz-Expires', 'X-Amz-SignedHeaders' and "
                   "'X-Amz-Signature'.";
    }
    if (!slice_is(algorithm, SIGV4_ALGORITHM))
        return "X-Amz-Algorithm must be AWS4-HMAC-SHA256: no other algorithm is supported.";
    if (!parse_expires(parts->expires, &claim->expires_s))
        return "X-Amz-Expires must be between 1 and 604800 seconds.";
    return NULL;
}

/* ---- the claim ---- */

static const char *read_scope(struct slice credential, struct sigv4_claim *claim)
{
    struct slice part[SCOPE_PARTS];
    for (size_t i = 0; i < SCOPE_PARTS; i++)
        part[i] = cut(&credential, '/');
    if (part[4].data == NULL || credential.data != NULL)
        return "Credential must have exactly 5 slash-delimited elements: "
               "keyid/date/region/service/aws4_request.";
    if (!slice_is(part[4], "aws4_request"))
        return "Credential should be scoped with a valid terminator: 'aws4_request'.";
    if (!made_of(part[0], "-_.") || part[0].length > SIGV4_KEY_ID_LENGTH_MAX)
        return "Credential must begin with an access key id.";
    if (part[1].length != MOMENT_DATE_LENGTH || !made_of(part[1], ""))
        return "Date in Credential scope must be YYYYMMDD.";
    if (!made_of(part[2], "-") || !made_of(part[3], "-"))
        return "Credential must be scoped to a region and a service.";
    claim->access_key_id = part[0];
    claim->date = part[1];
    claim->region = part[2];
    claim->service = part[3];
    return NULL;
}

static const char *read_parts(const struct parts *parts, struct sigv4_claim *claim)
{
    const char *why = read_scope(parts->credential, claim);
    if (why != NULL)
        return why;
    if (!moment_parse(parts->time, &claim->time_s))
        return "The date of the signature must be in ISO-8601 'basic format': YYYYMMDDTHHMMSSZ.";
    if (!slice_equal(slice_make(parts->time.data, MOMENT_DATE_LENGTH), claim->date))
        return "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date "
               "from HTTP.";
    if (!is_signature(parts->signature))
        return "The signature must be 64 lower-case hexadecimal digits.";
    claim->time = parts->time;
    claim->signature = parts->signature;
    claim->signed_headers = parts->signed_headers;
    return NULL;
}

static bool claims_presigned(const struct sigv4_claim *claim)
{
    return has_parameter(claim, "X-Amz-Algorithm") || has_parameter(claim, "X-Amz-Signature") ||
           has_parameter(claim, "X-Amz-Credential");
}

enum sigv4_reading sigv4_read(const struct sigv4_request *request, struct arena *arena,
                              struct sigv4_claim *claim, const char **why)
{
    struct parts parts = {0};
    struct sigv4_parameter *parameters = NULL;
    struct slice authorization;
    *claim = (struct sigv4_claim){0};
    *why = "Authorization must not be given twice.";
    if (!take_header(request, "Authorization", &authorization))
        return SIGV4_INCOMPLETE;
    *why = "The query has too many parameters.";
    if (count_parameters(request->query) > SIGV4_QUERY_PARAMETERS_MAX)
        return SIGV4_INCOMPLETE;
    *why = "The query has a malformed percent escape.";
    if (request->query.length > 0 &&
        !parse_query(request->query, arena, &parameters, &claim->parameter_count))
        return SIGV4_INCOMPLETE;
    claim->parameters = parameters;
    claim->presigned = claims_presigned(claim);
    if (authorization.data == NULL && !claim->presigned)
        return SIGV4_UNSIGNED;
    *why = "A request is signed in the Authorization header or in the query, not in both.";
    if (authorization.data != NULL && claim->presigned)
        return SIGV4_INCOMPLETE;
    *why = claim->presigned ? read_query(claim, arena, &parts)
                            : read_header(request, authorization, &parts);
    if (*why == NULL && claim->session_token.data == NULL &&
        !take_header(request, "X-Amz-Security-Token", &claim->session_token))
        *why = "X-Amz-Security-Token must not be given twice.";
    if (*why == NULL && !take_header(request, "X-Amz-Content-Sha256", &claim->content_sha256))
        *why = "X-Amz-Content-Sha256 must not be given twice.";
    if (*why == NULL)
        *why = read_parts(&parts, claim);
    if (*why != NULL)
        return SIGV4_INCOMPLETE;
    drop_signature(parameters, &claim->parameter_count);
    return SIGV4_SIGNED;
}
