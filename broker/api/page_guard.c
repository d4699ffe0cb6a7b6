/* SPDX-License-Identifier: Apache-2.0 */
/* The token is kept as its hash, so that comparing takes the same time whatever was shown, and its
 * length. A file is looked at by its mark at each request that asks: a stat() for a scrape. */
#include "broker/api/page_guard.h"

#include "broker/api/access.h"
#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCHEME  "Bearer "
#define SERVICE "millrace"

struct page_guard {
    char *file; /* NULL: no token */
    struct stat seen;
    uint8_t token_sha256[SHA256_BYTES];
};

/* ---- the token ---- */

static bool is_token(struct slice text)
{
    for (size_t i = 0; i < text.length; i++) {
        uint8_t c = text.data[i];
        if (!isalnum(c) && (c == '\0' || strchr("-._~+/=", c) == NULL))
            return false;
    }
    return text.length >= PAGE_TOKEN_BYTES_MIN && text.length <= PAGE_TOKEN_BYTES_MAX;
}

static struct slice without_blanks(struct slice text)
{
    while (text.length > 0 && isspace(text.data[text.length - 1]))
        text.length--;
    return text;
}

static enum status token_load(struct page_guard *guard, const char **why)
{
    uint8_t bytes[PAGE_TOKEN_BYTES_MAX + 64];
    int fd = open(guard->file, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd >= 0 ? read(fd, bytes, sizeof bytes) : -1;
    enum status status = length < 0 ? status_from_errno(errno) : STATUS_OK;
    if (fd >= 0)
        close(fd);
    *why = "it cannot be read";
    if (status != STATUS_OK)
        return status;
    struct slice token = without_blanks(slice_make(bytes, (size_t)length));
    *why = "it must have one token of 16 to 1024 letters, digits and -._~+/=";
    if (!is_token(token))
        status = STATUS_INVALID;
    else
        hash_sha256(token, guard->token_sha256);
    hash_wipe(bytes, sizeof bytes);
    return status;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static void token_follow(struct page_guard *guard)
{
    struct stat now;
    const char *why;
    if (stat(guard->file, &now) != 0 || same_file(&now, &guard->seen))
        return;
    guard->seen = now;
    if (token_load(guard, &why) == STATUS_OK)
        trace_info("api", "metrics_token_reloaded", "file=\"%s\"", guard->file);
    else
        trace_warn("api", "metrics_token_not_reloaded",
                   "file=\"%s\" why=\"%s\" note=\"the token before stays in use\"", guard->file,
                   why);
}

static bool token_shown(struct page_guard *guard, struct slice authorization)
{
    uint8_t sha256[SHA256_BYTES];
    token_follow(guard);
    hash_sha256(without_blanks(slice_sub(authorization, strlen(SCHEME))), sha256);
    return hash_equal(sha256, guard->token_sha256, SHA256_BYTES);
}

enum status page_guard_open(struct page_guard **out, const char *token_file, const char **why)
{
    struct page_guard *guard = calloc(1, sizeof *guard);
    enum status status = STATUS_OK;
    ASSERT(guard != NULL);
    if (token_file != NULL) {
        guard->file = strdup(token_file);
        ASSERT(guard->file != NULL);
        if (stat(token_file, &guard->seen) != 0)
            guard->seen = (struct stat){0}; /* loading says what is wrong */
        status = token_load(guard, why);
    }
    if (status != STATUS_OK) {
        page_guard_free(guard);
        return status;
    }
    *out = guard;
    return STATUS_OK;
}

void page_guard_free(struct page_guard *guard)
{
    if (guard == NULL)
        return;
    free(guard->file);
    free(guard);
}

/* ---- requests ---- */

static bool is_bearer(struct slice authorization)
{
    return authorization.length > strlen(SCHEME) &&
           slice_is_nocase(slice_make(authorization.data, strlen(SCHEME)), SCHEME);
}

static bool fail(struct auth_failure *failure, enum auth_failure_code code, const char *message)
{
    *failure = (struct auth_failure){code, message};
    return false;
}

bool page_guard_lets(struct page_guard *guard, struct api *api, const struct http_request *request,
                     const char *action, struct arena *arena, struct auth_failure *failure)
{
    struct auth_caller caller;
    struct slice authorization = http_header(request, "Authorization");
    if (is_bearer(authorization) && guard->file != NULL)
        return token_shown(guard, authorization) ||
               fail(failure, AUTH_UNKNOWN_KEY, "This is not the token of --metrics-token-file.");
    if (is_bearer(authorization) || !auth_required(api_auth(api)))
        return fail(failure, AUTH_MISSING_TOKEN,
                    guard->file != NULL ? "This page is for who shows the token of "
                                          "--metrics-token-file: Authorization: Bearer TOKEN."
                                        : "This broker has no --metrics-token-file: sign the "
                                          "request.");
    struct auth_question question = {.action = action,
                                     .resource =
                                         slice_of(arena_printf(arena, "arn:aws:iam::%s:cluster/*",
                                                               api_config(api)->account_id))};
    return access_authenticate(api, request, SERVICE, NULL, arena, &caller, failure) &&
           auth_authorize(api_auth(api), &caller, &question, arena, failure);
}
