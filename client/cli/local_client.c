/* SPDX-License-Identifier: Apache-2.0 */
/* The broker is a child of ours, so its certificate is known: who has its key is trusted, whatever
 * names it is for, and nobody else. */
#include "client/cli/local_client.h"

#include "proto/tls/tls.h"

int local_client_check(struct cli *cli)
{
    const struct cli_options *o = &cli->options;
    if ((o->tls_cert == NULL) != (o->tls_key == NULL))
        return cli_misuse(cli, "--tls-cert and --tls-key belong together: give both or none");
    if (o->tls_client_ca != NULL && (o->tls_cert == NULL || o->tls_dir == NULL))
        return cli_misuse(cli, "--tls-client-ca needs --tls-cert, and --tls-dir with a certificate "
                               "of that authority to look at the broker with");
    if ((o->tls_dir == NULL) != (o->worker_tls_dir == NULL))
        return cli_misuse(cli, "--tls-dir is the broker's and --worker-tls-dir the worker's: give "
                               "both or none");
    if ((o->root_access_key_id == NULL) != (o->root_secret_access_key == NULL))
        return cli_misuse(cli, "a root key needs both its id and its secret");
    return 0;
}

static enum status trust_child(struct cli *cli)
{
    const char *dir = cli->options.tls_dir;
    if (cli->options.tls_cert == NULL)
        return STATUS_OK;
    bool shows = cli->options.tls_client_ca != NULL;
    return mr_client_pin(cli->client, cli->options.tls_cert,
                         shows ? arena_printf(&cli->arena, "%s/" TLS_DIR_CERTIFICATE, dir) : NULL,
                         shows ? arena_printf(&cli->arena, "%s/" TLS_DIR_KEY, dir) : NULL);
}

int local_client_open(struct cli *cli, const char *endpoint)
{
    const struct cli_options *o = &cli->options;
    bool root = o->root_access_key_id != NULL;
    const char *id = root ? o->root_access_key_id : o->access_key_id;
    const char *secret = root ? o->root_secret_access_key : o->secret_access_key;
    enum status status = mr_client_new(&cli->client, endpoint);
    if (status == STATUS_OK)
        status = trust_child(cli);
    if (status == STATUS_OK && id != NULL && secret != NULL)
        status = mr_client_set_key(cli->client, id, secret, o->region);
    if (status != STATUS_OK)
        return cli_error(cli, "%s", status_text(status));
    return cli_take_token(cli);
}
