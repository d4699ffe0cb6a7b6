/* SPDX-License-Identifier: Apache-2.0 */
/* Who may read /metrics and /status, where not everybody may: who shows the token of a file, as
 * Prometheus does (`authorization: credentials_file`), or signs the request with a key that is
 * allowed millrace:GetMetrics or millrace:GetStatus on arn:aws:iam::ACCOUNT:cluster/X. /health is
 * everybody's. thread: loop. */
#ifndef BROKER_API_PAGE_GUARD_H
#define BROKER_API_PAGE_GUARD_H

#include "broker/api/api.h"
#include "broker/auth/auth.h"

#define PAGE_TOKEN_BYTES_MIN 16
#define PAGE_TOKEN_BYTES_MAX 1024

/* page_guard_open: `token_file` has the token, in the characters of RFC 6750 (letters, digits,
 * -._~+/=), and blanks behind it. It is read again when it has changed; one that is of no use then
 * is traced, and the token before stays good. NULL: there is no token.
 *   errors: INVALID and of reading, with a sentence in `why` (static) */
MUST_CHECK enum status page_guard_open(struct page_guard **out, const char *token_file,
                                       const char **why);
void page_guard_free(struct page_guard *guard); /* may be NULL */

/* page_guard_lets: may this request read a page? `action`: "millrace:GetMetrics". False, and why
 * not; messages are in the arena. */
bool page_guard_lets(struct page_guard *guard, struct api *api, const struct http_request *request,
                     const char *action, struct arena *arena, struct auth_failure *failure);

#endif
