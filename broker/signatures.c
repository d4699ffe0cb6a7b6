/* SPDX-License-Identifier: Apache-2.0 */
/* --auth auto: a broker that only its own machine can reach takes any signature, as long as nobody
 * says otherwise, because that is how one tries it; one that others can reach checks them. */
#include "broker/signatures.h"

#include "proto/base/trace.h"

const char *signatures_check(const struct node_options *options)
{
    const char *id = options->root_access_key_id;
    const char *secret = options->root_secret_access_key;
    if (strcmp(options->auth, "required") != 0 && strcmp(options->auth, "off") != 0 &&
        strcmp(options->auth, "auto") != 0)
        return "--auth must be required, off or auto";
    if ((id == NULL) != (secret == NULL))
        return "a root key needs both MILLRACE_ROOT_ACCESS_KEY_ID and "
               "MILLRACE_ROOT_SECRET_ACCESS_KEY";
    if (id != NULL && !key_id_valid(slice_of(id)))
        return "--root-access-key-id must be 4 to 128 of A-Z, a-z, 0-9, '-', '_' and '.'";
    if (secret != NULL && !key_secret_valid(slice_of(secret)))
        return "--root-secret-access-key must be 8 to 256 printable characters without blanks";
    return NULL;
}

void signatures_explain_no_key(void)
{
    trace_error("node", "no_access_key",
                "why=\"signatures are required, but there is no access key, so nobody could get "
                "in: set MILLRACE_ROOT_ACCESS_KEY_ID and MILLRACE_ROOT_SECRET_ACCESS_KEY for this "
                "start (on every node of a new cluster), or run with --auth off\"");
}

struct auth *signatures_open(const struct node_options *options, bool loopback, uv_loop_t *loop,
                             struct shard *shard, void (*no_key)(void *data), void *data)
{
    bool off =
        strcmp(options->auth, "off") == 0 || (strcmp(options->auth, "auto") == 0 && loopback);
    struct auth_options auth = {.loop = loop,
                                .mode = off ? AUTH_OFF : AUTH_REQUIRED,
                                .shard = shard,
                                .account_id = options->account_id,
                                .root_id = options->root_access_key_id,
                                .root_secret = options->root_secret_access_key,
                                .no_key = no_key,
                                .data = data};
    if (off)
        trace_warn("node", "auth_off",
                   "http=%s why=\"SIGNATURES AND POLICIES ARE NOT CHECKED: whoever reaches this "
                   "address may do everything; --auth required changes that\"",
                   options->http);
    return auth_open(&auth);
}
