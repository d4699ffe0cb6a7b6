/* SPDX-License-Identifier: Apache-2.0 */
/* The request's head as proto/sigv4 wants it. Only pointers are copied. */
#include "broker/api/access.h"

#include "broker/api/internal.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"

/* "192.0.2.7:1234" and "[2001:db8::1]:1234" to the address. Of a proxy in front it is the proxy's:
 * a header that says otherwise could be anybody's. */
struct slice access_address(const char *peer)
{
    const char *colon = strrchr(peer, ':');
    if (colon == NULL)
        return (struct slice){0};
    struct slice address = slice_make(peer, (size_t)(colon - peer));
    if (address.length > 2 && address.data[0] == '[')
        address = slice_make(address.data + 1, address.length - 2);
    return address;
}

bool access_hash_wanted(struct api *api, const struct http_request *request)
{
    return auth_required(api_auth(api)) &&
           (http_header(request, "Authorization").data != NULL || request->query.length > 0);
}

bool access_authenticate(struct api *api, const struct http_request *request, const char *service,
                         const char *body_sha256, struct arena *arena, struct auth_caller *out,
                         struct auth_failure *failure)
{
    struct sigv4_header headers[HTTP_HEADERS_MAX];
    if (!auth_required(api_auth(api))) { /* where all are allowed nobody asks more */
        *out = (struct auth_caller){.kind = AUTH_UNCHECKED, .secure = api_tls(api)->http != NULL};
        return true;
    }
    for (unsigned i = 0; i < request->header_count; i++)
        headers[i] = (struct sigv4_header){request->headers[i].name, request->headers[i].value};
    struct auth_input input = {
        .request = {request->method, request->path, request->query, headers, request->header_count},
        .service = service,
        .body = request->body,
        .body_sha256 = body_sha256,
        .source_ip = access_address(request->peer),
        .user_agent = http_header(request, "User-Agent"),
        .secure = api_tls(api)->http != NULL,
        .unsigned_payload = strcmp(service, "lambda") == 0,
        .now_s = clock_now_ms() / 1000,
    };
    return auth_authenticate(api_auth(api), &input, arena, out, failure);
}
