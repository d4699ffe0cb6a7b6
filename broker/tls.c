/* SPDX-License-Identifier: Apache-2.0 */
/* From options to contexts. The port for workers and the one for brokers show the same certificate
 * but want different roles of the other end: a worker's certificate opens no connection between
 * brokers. Native clients come to the workers' port; what a client's certificate is good for there
 * is seen when it greets (broker/dispatch/sessions.c). */
#include "broker/tls.h"

#include "proto/base/trace.h"

#include <sysexits.h>

const char *node_tls_check(const struct node_options *options)
{
    if ((options->tls_cert == NULL) != (options->tls_key == NULL))
        return "--tls-cert and --tls-key belong together: give both or none";
    if (options->tls_client_ca != NULL && options->tls_cert == NULL)
        return "--tls-client-ca needs --tls-cert and --tls-key";
    return NULL;
}

static int open_one(struct tls_context **out, uv_loop_t *loop, const struct tls_settings *settings)
{
    struct tls_error error;
    if (tls_context_open(out, loop, settings, &error) == STATUS_OK)
        return EX_OK;
    *out = NULL;
    trace_error("tls", "cannot_load", "why=\"%s\"", error.text);
    return EX_CONFIG;
}

static int open_mutual(struct tls_context **out, uv_loop_t *loop, const char *dir,
                       const char *peer_role, const char *peer_role_too, struct arena *arena)
{
    struct tls_settings settings = {.use = TLS_MUTUAL,
                                    .certificate_file =
                                        arena_printf(arena, "%s/" TLS_DIR_CERTIFICATE, dir),
                                    .key_file = arena_printf(arena, "%s/" TLS_DIR_KEY, dir),
                                    .ca_file = arena_printf(arena, "%s/" TLS_DIR_CA, dir),
                                    .peer_role = peer_role,
                                    .peer_role_too = peer_role_too,
                                    .poll_ms = TLS_POLL_MS};
    return open_one(out, loop, &settings);
}

int node_tls_open(struct node_tls *tls, uv_loop_t *loop, const struct node_options *options,
                  struct arena *arena)
{
    int code = EX_OK;
    *tls = (struct node_tls){0};
    if (options->tls_cert != NULL) {
        struct tls_settings settings = {.use = TLS_HTTP,
                                        .certificate_file = options->tls_cert,
                                        .key_file = options->tls_key,
                                        .ca_file = options->tls_client_ca,
                                        .poll_ms = TLS_POLL_MS};
        code = open_one(&tls->http, loop, &settings);
    }
    if (code == EX_OK && options->tls_dir != NULL)
        code =
            open_mutual(&tls->rpc, loop, options->tls_dir, TLS_ROLE_WORKER, TLS_ROLE_CLIENT, arena);
    if (code == EX_OK && options->tls_dir != NULL)
        code = open_mutual(&tls->peer, loop, options->tls_dir, TLS_ROLE_BROKER, NULL, arena);
    return code;
}

static void close_one(struct tls_context *context)
{
    if (context != NULL)
        tls_context_close(context, NULL, NULL);
}

void node_tls_close(struct node_tls *tls)
{
    close_one(tls->http);
    close_one(tls->rpc);
    close_one(tls->peer);
}
