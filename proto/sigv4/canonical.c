/* SPDX-License-Identifier: Apache-2.0 */
/* The canonical request: what is signed.
 *
 *     METHOD \n
 *     path as sent, with '%' and all but unreserved bytes and '/' encoded once more \n
 *     sorted parameters, name=value joined by '&' \n
 *     for each signed header: name in lower case ':' values, trimmed and joined by ',' \n
 *     \n
 *     names of the signed headers, sorted, joined by ';' \n
 *     SHA-256 of the body in hex
 *
 * Every byte of it comes from the request, so the lines are built such that none can hold a line
 * break: a header's value cannot have one (the HTTP server sees to it, and it is refused here once
 * more), all else is encoded. */
#include "proto/sigv4/sigv4.h"

#include "proto/base/assert.h"
#include "proto/base/encode.h"

static bool is_amz(struct slice name)
{
    return name.length >= 6 && slice_is_nocase(slice_make(name.data, 6), "x-amz-");
}

static bool name_valid(struct slice name)
{
    for (size_t i = 0; i < name.length; i++) {
        uint8_t c = name.data[i];
        bool good =
            (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
        if (!good)
            return false;
    }
    return name.length > 0;
}

static bool comes_before(struct slice a, struct slice b)
{
    size_t shared = a.length < b.length ? a.length : b.length;
    int order = shared > 0 ? memcmp(a.data, b.data, shared) : 0;
    return order != 0 ? order < 0 : a.length < b.length;
}

static bool same_name(struct slice a, struct slice lower)
{
    return a.length == lower.length &&
           strncasecmp((const char *)a.data, (const char *)lower.data, a.length) == 0;
}

/* Without blanks around it, and each run of blanks as one. False: a byte that ends a line. */
static bool add_value(struct buffer *out, struct slice value)
{
    uint8_t *start = buffer_reserve(out, value.length);
    uint8_t *at = start;
    bool blank = false;
    for (size_t i = 0; i < value.length; i++) {
        uint8_t c = value.data[i];
        if (c == '\n' || c == '\r' || c == '\0')
            return false;
        if (c == ' ' || c == '\t') {
            blank = at > start;
            continue;
        }
        if (blank)
            *at++ = ' ';
        *at++ = c;
        blank = false;
    }
    buffer_added(out, (size_t)(at - start));
    return true;
}

/* One line; how many headers it took, 0 for a name that is missing or a bad value. */
static size_t add_header(struct buffer *out, const struct sigv4_request *request, struct slice name)
{
    size_t found = 0;
    buffer_add_slice(out, name);
    for (size_t i = 0; i < request->header_count; i++) {
        if (!same_name(request->headers[i].name, name))
            continue;
        buffer_add_byte(out, found == 0 ? ':' : ',');
        if (!add_value(out, request->headers[i].value))
            return 0;
        found++;
    }
    buffer_add_byte(out, '\n');
    return found;
}

static size_t count_amz(const struct sigv4_request *request)
{
    size_t count = 0;
    for (size_t i = 0; i < request->header_count; i++)
        count += is_amz(request->headers[i].name);
    return count;
}

static const char *add_headers(struct buffer *out, const struct sigv4_request *request,
                               struct slice names)
{
    struct slice previous = {0};
    bool host = false;
    size_t amz = 0;
    while (names.length > 0) {
        ptrdiff_t end = slice_find(names, ';');
        struct slice name = slice_make(names.data, end < 0 ? names.length : (size_t)end);
        names = slice_sub(names, end < 0 ? names.length : (size_t)end + 1);
        if (!name_valid(name) || (previous.data != NULL && !comes_before(previous, name)))
            return "The signed headers must be sorted names in lower case, each once.";
        size_t found = add_header(out, request, name);
        if (found == 0)
            return "A signed header is missing from the request, or has no valid value.";
        host = host || slice_is(name, "host");
        amz += is_amz(name) ? found : 0;
        previous = name;
    }
    if (!host)
        return "The header 'host' must be signed.";
    if (amz != count_amz(request))
        return "There were headers present in the request which were not signed: each header that "
               "begins with 'x-amz-' must be.";
    return NULL;
}

static void add_parameters(struct buffer *out, const struct sigv4_claim *claim)
{
    for (size_t i = 0; i < claim->parameter_count; i++) {
        if (i > 0)
            buffer_add_byte(out, '&');
        buffer_add_slice(out, claim->parameters[i].name);
        buffer_add_byte(out, '=');
        buffer_add_slice(out, claim->parameters[i].value);
    }
}

const char *sigv4_canonical(struct buffer *out, const struct sigv4_request *request,
                            const struct sigv4_claim *claim, struct slice payload_hash)
{
    size_t before = out->length;
    buffer_add_slice(out, request->method);
    buffer_add_byte(out, '\n');
    if (request->path.length == 0)
        buffer_add_byte(out, '/');
    encode_percent(out, request->path, true);
    buffer_add_byte(out, '\n');
    add_parameters(out, claim);
    buffer_add_byte(out, '\n');
    const char *why = add_headers(out, request, claim->signed_headers);
    if (why != NULL) {
        out->length = before;
        return why;
    }
    buffer_add_byte(out, '\n');
    buffer_add_slice(out, claim->signed_headers);
    buffer_add_byte(out, '\n');
    buffer_add_slice(out, payload_hash);
    return NULL;
}
