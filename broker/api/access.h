/* SPDX-License-Identifier: Apache-2.0 */
/* From an HTTP request to a caller: what broker/auth needs to know of it. thread: loop. */
#ifndef BROKER_API_ACCESS_H
#define BROKER_API_ACCESS_H

#include "broker/api/api.h"
#include "broker/auth/auth.h"

/* access_authenticate: who makes this request? As auth_authenticate; `service` is what the
 * signature must be scoped to, `body_sha256` 64 hex digits if the body was hashed already, else
 * NULL. Memory is in `arena`. Where signatures are not required the caller is AUTH_UNCHECKED, and
 * nothing more is found out. */
bool access_authenticate(struct api *api, const struct http_request *request, const char *service,
                         const char *body_sha256, struct arena *arena, struct auth_caller *out,
                         struct auth_failure *failure);

/* access_address: the address in "address:port"; absent if there is none. */
struct slice access_address(const char *peer);

/* access_hash_wanted: will a body hash be compared? Then a large body may be hashed elsewhere
 * first. */
bool access_hash_wanted(struct api *api, const struct http_request *request);

#endif
