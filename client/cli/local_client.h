/* SPDX-License-Identifier: Apache-2.0 */
/* How `millrace local` looks at the broker that it has started. */
#ifndef CLIENT_CLI_LOCAL_CLIENT_H
#define CLIENT_CLI_LOCAL_CLIENT_H

#include "client/cli/cli.h"

/* local_client_check: what options do not go together; an exit status. */
int local_client_check(struct cli *cli);

/* local_client_open: cli->client becomes one of `endpoint`, with what the options say about TLS,
 * keys and tokens; an exit status. */
int local_client_open(struct cli *cli, const char *endpoint);

#endif
